package rpc_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
)

// tombWorld is the part of nodes that deletes are about: a promise and a tombstone each. Requests reach
// nodes in any order, answers are gathered at any time, and evidence for a lift may be as old as can be.
type tombWorld struct {
	rng      *rand.Rand
	cfg      quorum.Config
	nodes    []*tombNode
	claims   []fencing.Claim                          // of deletes and of writers
	acks     map[fencing.Claim]map[quorum.NodeID]bool // tombstones that a client was told of
	promises map[fencing.Claim]map[quorum.NodeID]bool // and promises
	heard    []map[quorum.NodeID]rpc.JournalState     // per node, of the others, each at some time
	chosen   map[fencing.Claim]bool
	trace    []string
}

type tombNode struct {
	fence    fencing.State
	deleting fencing.Claim
}

func newTombWorld(seed uint64, n int) *tombWorld {
	w := &tombWorld{
		rng: rand.New(rand.NewPCG(seed, 0)), acks: map[fencing.Claim]map[quorum.NodeID]bool{},
		promises: map[fencing.Claim]map[quorum.NodeID]bool{}, chosen: map[fencing.Claim]bool{},
	}
	var ms []quorum.Member
	for i := range n {
		ms = append(ms, quorum.Member{ID: nodeName(i), Incarnation: quorum.Incarnation{byte(i + 1)}})
		w.nodes = append(w.nodes, &tombNode{})
		w.heard = append(w.heard, map[quorum.NodeID]rpc.JournalState{})
	}
	w.cfg = quorum.NewConfig(1, ms...)
	for e := range 4 {
		for id := range 2 {
			c := fencing.Claim{Epoch: fencing.Epoch(e + 1), Writer: fencing.WriterID{byte(id + 1)}}
			w.claims, w.acks[c], w.promises[c] = append(w.claims, c), map[quorum.NodeID]bool{}, map[quorum.NodeID]bool{}
		}
	}
	return w
}

func nodeName(i int) quorum.NodeID { return quorum.NodeID(fmt.Sprintf("n%d", i+1)) }

func (w *tombWorld) state(i int) rpc.JournalState {
	n, m := w.nodes[i], w.cfg.Sets[0][i]
	return rpc.JournalState{
		Node: m.ID, Incarnation: m.Incarnation, Member: true, Promised: n.fence.Promised,
		Summary: rpc.JournalSummary{Config: w.cfg, Deleting: n.deleting},
	}
}

func (w *tombWorld) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

func (w *tombWorld) step(void func(quorum.Config, fencing.Claim, map[quorum.NodeID]rpc.JournalState) bool) {
	i := w.rng.IntN(len(w.nodes))
	n, id := w.nodes[i], nodeName(i)
	c := w.claims[w.rng.IntN(len(w.claims))]
	isDelete := c.Writer == fencing.WriterID{1}
	switch w.rng.IntN(3) {
	case 0: // a request arrives
		next, err := n.fence.Admit(c)
		switch {
		case err != nil:
		case isDelete:
			n.fence, n.deleting = next, c
			w.acks[c][id] = true
			w.note("%s takes the tombstone of %d", id, c.Epoch)
		case n.deleting.IsZero():
			n.fence = next
			w.promises[c][id] = true
			w.note("%s promises %d", id, c.Epoch)
		}
	case 1: // an answer is gathered
		k := w.rng.IntN(len(w.nodes))
		if k != i {
			w.heard[i][nodeName(k)] = w.state(k)
		}
	case 2: // repair
		if !n.deleting.IsZero() && void(w.cfg, n.deleting, w.heard[i]) {
			w.note("%s lifts the tombstone of %d", id, n.deleting.Epoch)
			n.deleting = fencing.Claim{}
		}
	}
}

// check: once a majority has told the client of a tombstone, all of these keep one for good, so nobody
// gets a majority past it.
func (w *tombWorld) check() error {
	for c, by := range w.acks {
		if !w.cfg.Majority(func(m quorum.Member) bool { return by[m.ID] }) {
			continue
		}
		w.chosen[c] = true
		for i, n := range w.nodes {
			if by[nodeName(i)] && n.deleting.IsZero() {
				return fmt.Errorf("the delete of %d is in force, and %s has no tombstone: %v", c.Epoch, nodeName(i), w.trace)
			}
		}
	}
	for c, by := range w.promises {
		for d := range w.chosen {
			if c.Epoch > d.Epoch && w.cfg.Majority(func(m quorum.Member) bool { return by[m.ID] }) {
				return fmt.Errorf("the delete of %d is in force, and a majority promised %d: %v", d.Epoch, c.Epoch, w.trace)
			}
		}
	}
	return nil
}

func runTombstones(seeds, steps int, void func(quorum.Config, fencing.Claim, map[quorum.NodeID]rpc.JournalState) bool) (chosen, lifted int, err error) {
	for seed := range seeds {
		w := newTombWorld(uint64(seed), 3+2*(seed%2))
		for range steps {
			w.step(void)
			if err := w.check(); err != nil {
				return chosen, lifted, fmt.Errorf("seed %d: %w", seed, err)
			}
		}
		chosen += len(w.chosen)
		for _, l := range w.trace {
			if len(l) > 8 && l[3:8] == "lifts" {
				lifted++
			}
		}
	}
	return chosen, lifted, nil
}

func TestM8_TombstoneInForceIsNeverLifted(t *testing.T) {
	chosen, lifted, err := runTombstones(20000, 60, rpc.TombstoneVoid)
	require.NoError(t, err)
	require.Greater(t, chosen, 1000, "the walk gets there")
	require.Greater(t, lifted, 1000, "and there")
}

// The walk would find a weaker rule.
func TestM8_TheWalkFindsWeakerRules(t *testing.T) {
	promised := func(strict bool) func(quorum.Config, fencing.Claim, map[quorum.NodeID]rpc.JournalState) bool {
		return func(cfg quorum.Config, claim fencing.Claim, said map[quorum.NodeID]rpc.JournalState) bool {
			return cfg.Majority(func(m quorum.Member) bool {
				s, ok := said[m.ID]
				return ok && (!strict || s.Promised.Epoch > claim.Epoch) && (strict || s.Summary.Deleting.IsZero())
			})
		}
	}
	_, _, err := runTombstones(20000, 60, promised(false))
	require.ErrorContains(t, err, "in force", "peers without a tombstone may get it yet")
	_, _, err = runTombstones(20000, 60, promised(true))
	require.ErrorContains(t, err, "in force", "peers that promised more may have a later tombstone")
}

func TestM8_InForceCountsOneClaim(t *testing.T) {
	w := newTombWorld(1, 3)
	d1, d2 := fencing.Claim{Epoch: 1, Writer: fencing.WriterID{1}}, fencing.Claim{Epoch: 2, Writer: fencing.WriterID{1}}
	mark := func(c fencing.Claim) rpc.JournalSummary { return rpc.JournalSummary{Config: w.cfg, Deleting: c} }
	gone := rpc.JournalSummary{Config: quorum.Config{Version: 2}, Deleted: true}
	for name, c := range map[string]struct {
		said map[quorum.NodeID]rpc.JournalSummary
		want bool
	}{
		"nobody":        {nil, false},
		"one":           {map[quorum.NodeID]rpc.JournalSummary{"n1": mark(d1), "n2": mark(fencing.Claim{})}, false},
		"two of one":    {map[quorum.NodeID]rpc.JournalSummary{"n1": mark(d1), "n2": mark(d1)}, true},
		"two of two":    {map[quorum.NodeID]rpc.JournalSummary{"n1": mark(d1), "n2": mark(d2)}, false},
		"one, and gone": {map[quorum.NodeID]rpc.JournalSummary{"n1": gone, "n2": mark(d2)}, true},
		"gone":          {map[quorum.NodeID]rpc.JournalSummary{"n1": gone, "n2": gone}, true},
		"gone on one":   {map[quorum.NodeID]rpc.JournalSummary{"n1": gone, "n2": mark(fencing.Claim{})}, false},
		"not a member":  {map[quorum.NodeID]rpc.JournalSummary{"n1": mark(d1), "x": mark(d1)}, false},
		"no tombstone":  {map[quorum.NodeID]rpc.JournalSummary{"n1": mark(fencing.Claim{}), "n2": mark(fencing.Claim{})}, false},
	} {
		require.Equal(t, c.want, rpc.TombstoneInForce(w.cfg, 3, c.said), name)
	}
	require.True(t, rpc.TombstoneInForce(quorum.Config{}, 3, map[quorum.NodeID]rpc.JournalSummary{"n1": gone, "n2": gone}))
	require.False(t, rpc.TombstoneInForce(quorum.Config{}, 3, map[quorum.NodeID]rpc.JournalSummary{"n1": gone}))
}
