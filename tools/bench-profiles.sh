#!/usr/bin/env bash
# Runs qjm once for each load with profiles on, and keeps the first lines of each as text.
# Use: tools/bench-profiles.sh DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:?where the texts go}")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$out"
cd bench
go build -ldflags "-X main.revision=$(git describe --always --dirty)" -o out/bench .

top() { # profile, what of it, title, file
  {
    printf '%s\n\n' "$3"
    go tool pprof -top -nodecount=35 -sample_index="$2" out/bench "$1" 2>/dev/null |
      grep -v -E '^(File|Build ID|Time):' | sed -E 's/[[:space:]]+$//' | cut -c1-160
  } > "$4"
}

run() { # system, callers, flags: what was measured meanwhile
  out/bench -systems "$1" -callers "$2" -size 256 -rounds 1 -duration 5s "${@:3}" 2>&1 | grep -E '^round' | tee /dev/stderr
}

profile() { # system, callers, name. The other profiles cost time of their own, so the CPU's is made without them.
  local line
  line=$(run "$1" "$2" -cpuprofile "$dir/cpu")
  top "$dir/cpu" cpu "CPU. $line" "$out/cpu-$3.txt"
  line=$(run "$1" "$2" -memprofile "$dir/mem" -blockprofile "$dir/block")
  top "$dir/mem" alloc_space "Memory asked for, since the start. $line, with these profiles on" "$out/alloc-$3.txt"
  top "$dir/block" delay "Time that goroutines waited for each other. $line, with these profiles on" "$out/block-$3.txt"
}

for callers in 1 16 256 2048; do profile qjm "$callers" "$callers"; done
profile qjm-async 1 async
