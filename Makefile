# qjm: see README.md. `make help` lists the targets.
SHELL   := bash
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/quorumjournal/qjm/internal/cli.Version=$(VERSION)
TOOL     = go tool -modfile=tools/go.mod
BASE    ?= main

# Packages whose tests run with the race detector in `make test`.
RACE = ./fencing/... ./segments/... ./recovery/... ./journalnode/... ./libqjm/... ./internal/quorum/... \
       ./internal/replication/... ./internal/wire/... ./internal/durable/... ./tests/...

.PHONY: help build test race fmt demo linear sim model model-large fuzz bench bench-full bench-compare bench-profiles bench-smoke \
        proto proto-lint proto-breaking clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

build: ## bin/journalnode and bin/qjmclient, static, version stamped
	@echo "building bin/journalnode and bin/qjmclient, $(VERSION)"
	@CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/journalnode ./cmd/qjmclient

test: ## everything that a change must pass
	go vet ./...
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo "gofmt would change these files: make fmt"; exit 1; }
	go test -timeout 9m ./...
	go test -timeout 9m -race -short $(RACE)

demo: build ## three nodes, two replicas of a service; kills some; nothing is lost
	@CGO_ENABLED=0 go build -trimpath -o bin/ ./examples/namespace ./examples/namespace/demo
	bin/demo

linear: ## the kv example under faults, checked: make linear DURATION=5m SEED=1
	@go build -o bin/linear ./tests/linear
	@bin/linear -duration $(or $(DURATION),1m) -seed $(or $(SEED),1) $(LINEARFLAGS)

race: ## all tests with the race detector
	go test -race -timeout 30m ./...

fmt: ## format the code
	gofmt -w $$(git ls-files '*.go')

model: ## the explicit-state model, larger: a few minutes, one core, up to 1.6 GB
	go build -o bin/qjmmodel ./internal/model/cmd/qjmmodel
	GOMAXPROCS=1 bin/qjmmodel -writers 2 -txids 2
	GOMAXPROCS=1 bin/qjmmodel -writers 3 -txids 1 -reader ballot
	GOMAXPROCS=1 bin/qjmmodel -writers 2 -txids 2 -fault Wipe
	GOMAXPROCS=1 bin/qjmmodel -writers 2 -txids 2 -fault Unknown
	GOMAXPROCS=1 bin/qjmmodel -writers 2 -txids 2 -fault Rot
	GOMAXPROCS=1 bin/qjmmodel -writers 3 -txids 3 -walk 300000 -seed 1

model-large: ## the model as far as it goes: about 15 minutes, up to 6.4 GB
	go build -o bin/qjmmodel ./internal/model/cmd/qjmmodel
	GOMAXPROCS=1 bin/qjmmodel -writers 3 -txids 2 -limit 30000000
	GOMAXPROCS=1 bin/qjmmodel -writers 2 -txids 3 -limit 120000000

clean: ## remove what was built
	rm -rf bin bench/out

sim: ## the simulation: make sim SEEDS=1000 SEED=1
	go test ./internal/simtest -run TestSimulation -count=1 -timeout 0 -v -args -seeds=$(or $(SEEDS),200) -seed=$(or $(SEED),1)

proto: ## generate proto/ (the first run compiles buf: minutes)
	$(TOOL) buf format -w
	$(TOOL) buf generate

proto-lint: ## lint proto/
	$(TOOL) buf lint
	$(TOOL) buf format -d --exit-code

proto-breaking: ## compare proto/ with the base branch
	proto/breaking.sh

fuzz: ## every fuzz target, FUZZTIME=10s each
	tools/fuzz.sh $(or $(FUZZTIME),10s)

# The harness is a module of its own. SYSTEMS=qjm,nats CALLERS=1,2048 DURATION=3s SIZE=256 ROUNDS=2 narrow it, and
# BENCHFLAGS passes anything else on; file names in it are seen from bench/.
bench: ## qjm beside rivals and floors: minutes; writes bench/out/latest.json
	@$(BENCH) -systems '$(or $(SYSTEMS),all)' -callers '$(or $(CALLERS),$(LEVELS))' -size '$(or $(SIZE),256)' \
	    -duration '$(or $(DURATION),3s)' -rounds '$(or $(ROUNDS),2)' $(BENCHFLAGS)

bench-full: ## the same, longer; writes the page and the plots in docs/benchmarks/ (35 minutes)
	@$(BENCH) -systems '$(or $(SYSTEMS),all)' -callers '$(or $(CALLERS),$(LEVELS_FULL))' -size '$(or $(SIZE),$(SIZES_FULL))' \
	    -duration '$(or $(DURATION),5s)' -rounds '$(or $(ROUNDS),3)' -docs ../docs/benchmarks $(BENCHFLAGS)

bench-compare: ## qjm at BASE=ref and in this tree, in turn: what changed, and whether it is noise
	@tools/bench-compare.sh '$(BASE)' '$(or $(ROUNDS),6)' -systems '$(or $(SYSTEMS),$(OURS))' -callers '$(or $(CALLERS),$(LEVELS))' \
	    -size '$(or $(SIZE),256)' -duration '$(or $(DURATION),2s)' $(BENCHFLAGS)

bench-profiles: ## profiles of qjm as text, in docs/benchmarks/profiles/ (a minute)
	@tools/bench-profiles.sh docs/benchmarks/profiles

bench-smoke: ## the harness itself: vet, tests, and 50 transactions through each system
	cd bench && go vet ./... && go test -count=1 ./...

BENCH       = cd bench && go build -ldflags '-X main.revision=$(VERSION)' -o out/bench . && out/bench
LEVELS      = 1,16,256,2048
LEVELS_FULL = 1,4,16,64,256,1024,2048
SIZES_FULL  = 256,65536
OURS        = qjm,qjm-async
