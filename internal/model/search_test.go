package model

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// searchStatesMax is far above any configuration here: no search may end by running into it.
const searchStatesMax = 5_000_000

func mustSearch(t *testing.T, cfg Config) Result {
	t.Helper()
	res, err := Search(cfg, searchStatesMax)
	require.NoError(t, err)
	return res
}

// TestStrongRulesHold searches whole systems under the strong rules. The counts pin the model: a
// change of any transition shows here, and must be meant.
func TestStrongRulesHold(t *testing.T) {
	tests := []struct {
		name                       string
		cfg                        Config
		states, transitions, depth int
	}{
		{"writers=1,txids=2", Config{Writers: 1, TxIDs: 2}, 7615, 54147, 28},
		{"writers=1,txids=3", Config{Writers: 1, TxIDs: 3}, 52564, 397591, 32},
		{"writers=2,txids=1", Config{Writers: 2, TxIDs: 1}, 13297, 62204, 28},
		{"writers=3,txids=1", Config{Writers: 3, TxIDs: 1}, 765097, 3616519, 39},
		{"writers=2,txids=2", Config{Writers: 2, TxIDs: 2}, 1596085, 11253392, 42},
		{"writers=1,txids=2,all disk faults", Config{Writers: 1, TxIDs: 2, Faults: Faults{Wipe: true, Rot: true, Unknown: true}},
			218269, 1976451, 31},
		{"writers=2,txids=1,all disk faults", Config{Writers: 2, TxIDs: 1, Faults: Faults{Wipe: true, Rot: true, Unknown: true}},
			324614, 2013828, 30},
		{"writers=3,txids=1,D4 reader", Config{Writers: 3, TxIDs: 1, Reader: ReaderBallot}, 765097, 3616519, 39},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Rules = Strong()
			got := mustSearch(t, tt.cfg)
			require.Nil(t, got.Violation)
			require.Equal(t, Result{States: tt.states, Transitions: tt.transitions, Depth: tt.depth, Complete: true}, got)
		})
	}
}

func TestSearchStopsAtItsLimit(t *testing.T) {
	got, err := Search(Config{Writers: 2, TxIDs: 2, Rules: Strong()}, 1000)
	require.NoError(t, err)
	require.Nil(t, got.Violation)
	require.False(t, got.Complete)
	require.Greater(t, got.States, 1000)
	require.Less(t, got.States, 1100)
}

func TestBadConfigIsRefused(t *testing.T) {
	for _, cfg := range []Config{{}, {Writers: 4, TxIDs: 1}, {Writers: 1, TxIDs: 4}, {Writers: 1, TxIDs: 1, Reader: 9}} {
		_, err := Search(cfg, 1)
		require.Error(t, err)
		_, err = Walk(cfg, WalkOptions{Runs: 1, Steps: 1})
		require.Error(t, err)
		_, err = Replay(cfg, nil)
		require.Error(t, err)
	}
	var r Rules
	require.ErrorContains(t, r.Drop("W9"), `unknown rule "W9" (have N1Incarnation,`)
	var f Faults
	require.ErrorContains(t, f.Add("Flood"), `unknown fault "Flood" (have Wipe,`)
	var c Checks
	require.ErrorContains(t, c.Skip("All"), `unknown check "All" (have D1, Probe)`)
	_, err := ParseReader("majority")
	require.Error(t, err)
}

// TestWalk: a walk finds a shallow hole, finds none where there is none, and repeats by its seed.
func TestWalk(t *testing.T) {
	weak := Config{Writers: 2, TxIDs: 1, Rules: Strong()}
	weak.Rules.W0Idempotent = false
	opts := WalkOptions{Runs: 300, Steps: 60, Seed: 1}
	first, err := Walk(weak, opts)
	require.NoError(t, err)
	require.NotNil(t, first.Violation)
	again, err := Walk(weak, opts)
	require.NoError(t, err)
	require.Equal(t, first, again)

	got, err := Walk(Config{Writers: 3, TxIDs: 3, Rules: Strong()}, opts)
	require.NoError(t, err)
	require.Nil(t, got.Violation)
	require.Equal(t, opts.Runs, got.States)
}

// TestPackKeepsEverything walks through the fullest configuration and takes each state through its
// packed form: a field that was forgotten there would silently merge states.
func TestPackKeepsEverything(t *testing.T) {
	cfg := Config{Writers: 3, TxIDs: 3, Reader: ReaderCount, Faults: Faults{Wipe: true, Rot: true, Unknown: true, Reuse: true, InPlace: true}}
	rng := splitMix(7)
	for range 60 {
		var s state
		for range 60 {
			steps, v := successors(&cfg, &s)
			if v != nil || len(steps) == 0 {
				break
			}
			for k := range steps {
				var back state
				require.Empty(t, back.readFrom(steps[k].next.appendTo(nil, cfg.Writers), cfg.Writers))
				require.Equal(t, steps[k].next, back)
			}
			s = steps[rng.intn(len(steps))].next
		}
	}
}

// TestKeyForgetsNodeNames renames nodes in reachable states: the key stays. Two different states on
// the way have different keys.
func TestKeyForgetsNodeNames(t *testing.T) {
	cfg := Config{Writers: 2, TxIDs: 2, Rules: Strong()}
	rng := splitMix(3)
	keys := map[uint64]state{}
	for range 40 {
		var s state
		for range 40 {
			steps, v := successors(&cfg, &s)
			require.Nil(t, v)
			if len(steps) == 0 {
				break
			}
			s = steps[rng.intn(len(steps))].next
			k := s.key(cfg.Writers)
			for _, p := range [][nodeCount]int{{0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
				r := renamed(&s, p)
				require.Equal(t, k, r.key(cfg.Writers))
			}
			if other, ok := keys[k]; ok {
				require.True(t, sameUpToNames(&s, &other))
			}
			keys[k] = s
		}
	}
}

func renamed(s *state, p [nodeCount]int) state {
	out := *s
	for i, from := range p {
		out.node[i] = s.node[from]
		for k := range out.writer {
			w, old := &out.writer[k], &s.writer[k]
			w.answers[i], w.acked[i] = old.answers[from], old.acked[from]
		}
	}
	for k := range out.writer {
		w := &out.writer[k]
		for _, set := range []*nodeSet{&w.accepted, &w.recovered, &w.ended[0], &w.ended[1]} {
			var n nodeSet
			for i, from := range p {
				if set.has(from) {
					n = n.with(i)
				}
			}
			*set = n
		}
	}
	return out
}

func sameUpToNames(a, b *state) bool {
	for _, p := range [][nodeCount]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		if renamed(a, p) == *b {
			return true
		}
	}
	return false
}
