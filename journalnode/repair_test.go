package journalnode

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

func fin(first, last segments.TxID, digest byte) rpc.SegmentInfo {
	return rpc.SegmentInfo{First: first, State: recovery.Finalized, Last: segments.Position{TxID: last, Digest: segments.Digest{digest}}}
}

// TestA1_CompareFinalized: compared by digest, not by presence; chosen only where nobody disagrees, or a
// majority says so (R2, A2, L8, L9).
func TestA1_CompareFinalized(t *testing.T) {
	damaged := rpc.SegmentInfo{First: 1, State: recovery.Unknown}
	open := rpc.SegmentInfo{First: 1, State: recovery.InProgress, Last: segments.Position{TxID: 9}}
	type list = []rpc.SegmentInfo
	for name, tc := range map[string]struct {
		a, b, c    list // a is this node
		pull       []segments.TxID
		sources    []quorum.NodeID
		quarantine []segments.TxID
		diverging  int
	}{
		"all the same":                         {a: list{fin(1, 3, 1)}, b: list{fin(1, 3, 1)}, c: list{fin(1, 3, 1)}},
		"missing here":                         {b: list{fin(1, 3, 1)}, c: list{fin(1, 3, 1)}, pull: []segments.TxID{1}, sources: []quorum.NodeID{"b", "c"}},
		"L8: damaged here, one good copy":      {a: list{damaged}, b: list{fin(1, 3, 1)}, c: list{open}, pull: []segments.TxID{1}, sources: []quorum.NodeID{"b"}},
		"in progress here":                     {a: list{open}, b: list{fin(1, 3, 1)}, pull: []segments.TxID{1}, sources: []quorum.NodeID{"b"}},
		"A0: what nobody else has stays":       {a: list{fin(1, 3, 1)}},
		"L9: a majority contradicts this copy": {a: list{fin(1, 4, 9)}, b: list{fin(1, 3, 1)}, c: list{fin(1, 3, 1)}, quarantine: []segments.TxID{1}},
		"L9: same length, other content":       {a: list{fin(1, 3, 9)}, b: list{fin(1, 3, 1)}, c: list{fin(1, 3, 1)}, quarantine: []segments.TxID{1}},
		"this copy is of the majority":         {a: list{fin(1, 3, 1)}, b: list{fin(1, 3, 1)}, c: list{fin(1, 4, 9)}},
		"two differ, no majority":              {a: list{fin(1, 3, 1)}, b: list{fin(1, 4, 9)}, diverging: 1},
		"two peers differ, nothing here":       {b: list{fin(1, 3, 1)}, c: list{fin(1, 4, 9)}, diverging: 1},
		"later segments are not held up":       {a: list{fin(1, 3, 1)}, b: list{fin(1, 4, 9), fin(5, 6, 2)}, pull: []segments.TxID{5}, sources: []quorum.NodeID{"b"}, diverging: 1},
	} {
		t.Run(name, func(t *testing.T) {
			got := compareFinalized("a", threeMembers, map[quorum.NodeID][]rpc.SegmentInfo{"a": tc.a, "b": tc.b, "c": tc.c})
			var pull []segments.TxID
			var sources []quorum.NodeID
			for _, p := range got.pull {
				pull, sources = append(pull, p.info.First), append(sources, p.sources...)
			}
			require.Equal(t, tc.pull, pull)
			require.Equal(t, tc.sources, sources)
			var quarantine []segments.TxID
			for _, q := range got.quarantine {
				quarantine = append(quarantine, q.Segment)
				require.Len(t, q.Nodes, 3, "all are named, with their ends")
				require.Len(t, q.Ends, 3)
			}
			require.Equal(t, tc.quarantine, quarantine)
			require.Len(t, got.diverging, tc.diverging)
		})
	}
}

var threeMembers = quorum.NewConfig(1,
	quorum.Member{ID: "a", Incarnation: quorum.Incarnation{1}},
	quorum.Member{ID: "b", Incarnation: quorum.Incarnation{2}},
	quorum.Member{ID: "c", Incarnation: quorum.Incarnation{3}})
