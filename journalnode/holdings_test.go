package journalnode

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/segments"
)

// A1: a comparison is left out only where everybody who answers tells what was told before the last one, which was in
// order.
func TestA1_WhatIsNews(t *testing.T) {
	id, other := segments.JournalID{1}, segments.JournalID{2}
	own, b1, b2, c1 := rpc.Holding{9}, rpc.Holding{1}, rpc.Holding{2}, rpc.Holding{3}
	var silent rpc.Holding
	type told map[quorum.NodeID]*rpc.Holding // nil: it did not answer
	listen := func(id segments.JournalID, said told) *holdings {
		h := &holdings{}
		for p, x := range said {
			switch x {
			case nil:
				h.note(p, false, nil)
			default:
				h.note(p, true, []rpc.JournalSummary{{ID: id, Holding: *x}})
			}
		}
		return h
	}
	settled := listen(id, told{"b": &b1, "c": &c1}).of("a", id, threeMembers, own)
	v2 := threeMembers
	v2.Version = 2
	for name, tc := range map[string]struct {
		h     *holdings
		last  matched
		cfg   quorum.Config
		own   rpc.Holding
		ask   []quorum.NodeID
		quiet bool
	}{
		"nothing was compared yet": {h: listen(id, told{"b": &b1, "c": &c1}), cfg: threeMembers, own: own, ask: []quorum.NodeID{"b", "c"}},
		"all the same":             {h: listen(id, told{"b": &b1, "c": &c1}), last: settled, cfg: threeMembers, own: own, ask: []quorum.NodeID{"b", "c"}, quiet: true},
		"a peer's changed":         {h: listen(id, told{"b": &b2, "c": &c1}), last: settled, cfg: threeMembers, own: own, ask: []quorum.NodeID{"b", "c"}},
		"this node's changed":      {h: listen(id, told{"b": &b1, "c": &c1}), last: settled, cfg: threeMembers, own: rpc.Holding{8}, ask: []quorum.NodeID{"b", "c"}},
		"the config changed":       {h: listen(id, told{"b": &b1, "c": &c1}), last: settled, cfg: v2, own: own, ask: []quorum.NodeID{"b", "c"}},
		"a peer does not tell":     {h: listen(id, told{"b": &silent, "c": &c1}), last: settled, cfg: threeMembers, own: own, ask: []quorum.NodeID{"b", "c"}},
		"a peer was not asked":     {h: listen(id, told{"b": &b1}), last: settled, cfg: threeMembers, own: own, ask: []quorum.NodeID{"b", "c"}},
		"a peer is away":           {h: listen(id, told{"b": &b1, "c": nil}), last: settled, cfg: threeMembers, own: own, ask: []quorum.NodeID{"b"}, quiet: true},
		"all are away":             {h: listen(id, told{"b": nil, "c": nil}), cfg: threeMembers, own: own, quiet: true},
		"they do not have it":      {h: listen(other, told{"b": &b1, "c": &c1}), cfg: threeMembers, own: own, quiet: true},
		"a peer was away when it was settled": {
			h: listen(id, told{"b": &b1, "c": &c1}), last: listen(id, told{"b": &b1, "c": nil}).of("a", id, threeMembers, own),
			cfg: threeMembers, own: own, ask: []quorum.NodeID{"b", "c"},
		},
		"a peer did not tell when it was settled": {
			h: listen(id, told{"b": &silent, "c": &c1}), last: listen(id, told{"b": &silent, "c": &c1}).of("a", id, threeMembers, own),
			cfg: threeMembers, own: own, ask: []quorum.NodeID{"b", "c"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := tc.h.of("a", id, tc.cfg, tc.own)
			require.Equal(t, !tc.quiet, m.news(tc.last))
			var ask []quorum.NodeID
			for _, p := range []quorum.NodeID{"a", "b", "c"} {
				if _, in := m.peers[p]; in {
					ask = append(ask, p)
				}
			}
			require.Equal(t, tc.ask, ask)
		})
	}
}

// What is counted begins anew with each opening: the same count in another run names another state.
func TestA1_HoldingsOfTwoRunsDiffer(t *testing.T) {
	_, o, disk := ownerBed(t)
	again, err := journal.Open(disk, "j", o.j.Self(), o.j.ID(), journal.Options{})
	require.NoError(t, err)
	other := newOwner(again, o.opts, o.log, o.metrics)
	t.Cleanup(other.close)
	require.Equal(t, o.j.Changes(), again.Changes())
	require.NotEqual(t, o.holding(), other.holding())
	require.Equal(t, o.holding(), o.holding())
	require.False(t, o.holding().IsZero())
}
