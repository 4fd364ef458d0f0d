package systems

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/bench/load"
)

const (
	nodes    = 3
	majority = 2
	// startPatience bounds the start of a system, elections included.
	startPatience = 60 * time.Second
	// stopPatience bounds the end of one.
	stopPatience = 20 * time.Second
)

// own are the systems of this project; rivals.go adds the others, unless it is left out of the build.
var own = []load.Spec{qjmSpec, qjmAsyncSpec}

var others []load.Spec

// order is that of every table.
var order = []string{"qjm", "qjm-async", "hraft-boltdb", "hraft-wal", "etcd", "nats", "floor-disk", "floor-grpc"}

// All lists the systems that were built in.
func All() []load.Spec {
	all := slices.Concat(own, others, floors)
	slices.SortStableFunc(all, func(a, b load.Spec) int {
		return cmp.Compare(slices.Index(order, a.Name), slices.Index(order, b.Name))
	})
	return all
}

// Find looks a system up by its name.
func Find(name string) (load.Spec, bool) {
	for _, s := range All() {
		if s.Name == name {
			return s, true
		}
	}
	return load.Spec{}, false
}

// Rival reports whether a name is of a system that qjm is compared with, and not a floor.
func Rival(name string) bool {
	return slices.Contains([]string{"hraft-boltdb", "hraft-wal", "etcd", "nats"}, name)
}

// freeAddr returns a loopback address that nobody listens on. Each process has a loopback address of its own
// where the system has more than one, and gives no port twice.
func freeAddr() (string, error) {
	pid := os.Getpid()
	host := fmt.Sprintf("127.%d.%d.%d", 1+pid/62500%250, 1+pid/250%250, 1+pid%250)
	for {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			if host == "127.0.0.1" {
				return "", fmt.Errorf("systems: no free address: %w", err)
			}
			host = "127.0.0.1"
			continue
		}
		addr := l.Addr().String()
		if err := l.Close(); err != nil {
			return "", fmt.Errorf("systems: %w", err)
		}
		if _, given := givenAddrs.LoadOrStore(addr, true); !given {
			return addr, nil
		}
	}
}

var givenAddrs sync.Map

func freeAddrs(n int) ([]string, error) {
	addrs := make([]string, n)
	for i := range addrs {
		var err error
		if addrs[i], err = freeAddr(); err != nil {
			return nil, err
		}
	}
	return addrs, nil
}

// until looks again every few milliseconds until cond holds.
func until(ctx context.Context, what string, cond func() (bool, error)) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := cond()
		if ok && err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("systems: in vain waited for %s: %w", what, context.Cause(ctx)), err)
		}
	}
}

// onMajority returns what at least two of three nodes hold.
func onMajority(held [][][]byte) [][]byte {
	count := map[string]int{}
	var out [][]byte
	for _, node := range held {
		for _, txn := range node {
			count[string(txn)]++
			if count[string(txn)] == majority {
				out = append(out, txn)
			}
		}
	}
	return out
}
