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
	seeds = flag.Int("seeds", 120, "how many seeds to run")
	seed  = flag.Uint64("seed", 1, "the first one")
)

// TestSimulation runs seeds; a failure prints the one that failed, and the end of its trace.
func TestSimulation(t *testing.T) {
	next, mu := *seed, sync.Mutex{}
	var sum total
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
				cfg := configOf(s)
				r := Run(cfg)
				if r.Err != nil {
					cfg.Trace = true
					tail := Run(cfg).Trace
					tail = tail[max(0, len(tail)-60):]
					t.Errorf("%v\nreplay: make sim SEEDS=1 SEED=%d\n%s", r.Err, s, strings.Join(tail, "\n"))
				}
				mu.Lock()
				sum.add(r)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d seeds: %+v", *seeds, sum)
	require.Positive(t, sum.Recoveries)
	require.Positive(t, sum.Crashes)
	if *seeds >= 100 { // every fault must have struck
		for _, n := range []int{sum.Wipes, sum.Rots, sum.Fulls, sum.FailedSyncs, sum.TornTails, sum.LostRenames, sum.Finals, sum.Aborts, sum.Movers, sum.Moves, sum.Purges, sum.Installs, sum.PurgedFinals, sum.Learned, sum.Expired, sum.Unleased} {
			require.Positive(t, n)
		}
		require.Less(t, sum.Residues, *seeds/20, "runs that N2a's residue ends early")
	}
}

// configOf is what make sim runs with a seed.
func configOf(s uint64) Config {
	cfg := Config{Seed: s}
	if s%5 == 0 {
		cfg.Nodes = 5
	}
	if s%3 == 0 {
		cfg.Writers = 3
	}
	if s%4 == 1 {
		cfg.Nodes, cfg.Changes = 0, true
	}
	switch {
	case s%4 == 2:
		cfg.Snapshots, cfg.Leases = true, s%8 == 6
	case s%16 == 9:
		cfg.Snapshots = true
	case s%40 == 1:
		cfg.Members, cfg.Leases = 5, true
	case s%16 == 5:
		cfg.Harm = HarmNews
	case s%16 == 13:
		cfg.Harm, cfg.Slow, cfg.Writers = HarmStrand, true, 2
	}
	return cfg
}

// total adds runs up.
type total struct {
	Acked, Recoveries, Crashes, Probes, Wipes, Rots, Fulls, FailedSyncs, TornTails, LostRenames, Residues int
	Joints, Finals, Aborts, Movers, Moves, Listed, Purges, Installs, PurgedFinals, Learned                int
	Leases, Expired, Unleased                                                                             int
}

func (s *total) add(r Result) {
	s.Acked += int(r.Acked)
	s.Recoveries += r.Recoveries
	s.Crashes += r.Crashes
	s.Probes += r.Probes
	s.Wipes += r.Wipes
	s.Rots += r.Rots
	s.Fulls += r.Fulls
	s.FailedSyncs += r.FailedSyncs
	s.TornTails += r.TornTails
	s.LostRenames += r.LostRenames
	s.Joints += r.Joints
	s.Finals += r.Finals
	s.Aborts += r.Aborts
	s.Movers += r.Movers
	s.Moves += r.Moves
	s.Listed += r.Listed
	s.Purges += r.Purges
	s.Installs += r.Installs
	s.PurgedFinals += r.PurgedFinals
	s.Learned += r.Learned
	s.Leases += r.Leases
	s.Expired += r.Expired
	s.Unleased += r.Unleased
	if r.Residue {
		s.Residues++
	}
}

// TestSameSeedSameRun: the run depends on nothing but the seed.
func TestSameSeedSameRun(t *testing.T) {
	for s := uint64(1000); s < 1003; s++ {
		for _, cfg := range []Config{{}, {Nodes: 5, Writers: 3, Harm: HarmRot}, {Changes: true, Writers: 2, Slow: true, Harm: HarmStrand},
			{Changes: true, Snapshots: true, Leases: true, Writers: 3, Members: 5}} {
			other := cfg
			cfg.Seed, other.Seed = s, s+100
			a, b := Run(cfg), Run(cfg)
			require.NoError(t, a.Err)
			require.Equal(t, a.Digest, b.Digest)
			require.NotEqual(t, a.Digest, Run(other).Digest)
		}
	}
}

// TestLostSyncsAreCaught: with disks that lie about syncs, the oracle finds it (W2).
func TestLostSyncsAreCaught(t *testing.T) {
	for s := uint64(1); s <= 5; s++ {
		require.Error(t, Run(Config{Seed: s, Broken: RuleW2}).Err)
	}
}
