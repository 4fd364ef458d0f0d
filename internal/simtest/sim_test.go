package simtest

import (
	"flag"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	seeds = flag.Int("seeds", 200, "how many seeds to run")
	seed  = flag.Uint64("seed", 1, "the first one")
)

// TestSimulation runs seeds; a failure prints the one that failed, and the end of its trace.
func TestSimulation(t *testing.T) {
	next, mu := *seed, sync.Mutex{}
	var recoveries, crashes, probes, acked int
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				mu.Lock()
				s := next
				next++
				mu.Unlock()
				if s >= *seed+uint64(*seeds) || t.Failed() {
					return
				}
				cfg := Config{Seed: s}
				if s%10 == 0 {
					cfg.Nodes = 5
				}
				r := Run(cfg)
				if r.Err != nil {
					cfg.Trace = true
					tail := Run(cfg).Trace
					tail = tail[max(0, len(tail)-60):]
					t.Errorf("%v\nreplay: make sim SEEDS=1 SEED=%d\n%s", r.Err, s, strings.Join(tail, "\n"))
				}
				mu.Lock()
				recoveries, crashes, probes, acked = recoveries+r.Recoveries, crashes+r.Crashes, probes+r.Probes, acked+int(r.Acked)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d seeds: %d txids acknowledged, %d recoveries, %d crashes, %d probes", *seeds, acked, recoveries, crashes, probes)
	require.Positive(t, recoveries)
	require.Positive(t, crashes)
}

// TestSameSeedSameRun: the run depends on nothing but the seed.
func TestSameSeedSameRun(t *testing.T) {
	for s := uint64(1000); s < 1005; s++ {
		a, b := Run(Config{Seed: s}), Run(Config{Seed: s})
		require.NoError(t, a.Err)
		require.Equal(t, a.Digest, b.Digest)
		require.NotEqual(t, a.Digest, Run(Config{Seed: s + 100}).Digest)
	}
}

// TestLostSyncsAreCaught: with disks that lie about syncs, the oracle finds it (W2).
func TestLostSyncsAreCaught(t *testing.T) {
	for s := uint64(1); s <= 5; s++ {
		require.Error(t, Run(Config{Seed: s, LoseSyncs: true}).Err)
	}
}
