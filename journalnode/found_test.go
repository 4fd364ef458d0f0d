package journalnode

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
)

// TestFound is one step of genesis (N4), as a table. Node "a" decides; "b" and "c" are heard.
func TestFound(t *testing.T) {
	peers := []Peer{{"a", "a:1"}, {"b", "b:1"}, {"c", "c:1"}}
	inc := func(b byte) quorum.Incarnation { return quorum.Incarnation{b} }
	blank := func(id quorum.NodeID, i byte) rpc.NodeInfo { return rpc.NodeInfo{ID: id, Incarnation: inc(i)} }
	founders := func(a, b, c byte) []quorum.Member {
		return []quorum.Member{{ID: "a", Incarnation: inc(a), Addr: "a:1"}, {ID: "b", Incarnation: inc(b), Addr: "b:1"}, {ID: "c", Incarnation: inc(c), Addr: "c:1"}}
	}
	record := func(id quorum.NodeID, i byte, p rpc.Phase, fs []quorum.Member) rpc.NodeInfo {
		return rpc.NodeInfo{ID: id, Incarnation: inc(i), Phase: p, Founders: fs, Cluster: clusterID(fs)}
	}
	self := func(p rpc.Phase, fs []quorum.Member) identity {
		id := identity{ID: "a", Incarnation: inc(1), Phase: p, Founders: fs}
		if fs != nil {
			id.Cluster = clusterID(fs)
		}
		return id
	}
	heard := func(infos ...rpc.NodeInfo) map[quorum.NodeID]rpc.NodeInfo {
		m := map[quorum.NodeID]rpc.NodeInfo{}
		for _, i := range infos {
			m[i.ID] = i
		}
		return m
	}
	own, other := founders(1, 2, 3), founders(9, 2, 3)
	for name, tt := range map[string]struct {
		self  identity
		heard map[quorum.NodeID]rpc.NodeInfo
		want  identity
		out   bool
	}{
		"nobody heard":                   {self(rpc.Blank, nil), nil, self(rpc.Blank, nil), false},
		"one missing":                    {self(rpc.Blank, nil), heard(blank("b", 2)), self(rpc.Blank, nil), false},
		"all blank":                      {self(rpc.Blank, nil), heard(blank("b", 2), blank("c", 3)), self(rpc.Founding, own), false},
		"one is ahead":                   {self(rpc.Blank, nil), heard(record("b", 2, rpc.Founding, own), blank("c", 3)), self(rpc.Founding, own), false},
		"wrote, not all":                 {self(rpc.Founding, own), heard(record("b", 2, rpc.Founding, own), blank("c", 3)), self(rpc.Founding, own), false},
		"wrote, one not heard":           {self(rpc.Founding, own), heard(record("b", 2, rpc.Founding, own)), self(rpc.Founding, own), false},
		"all wrote":                      {self(rpc.Founding, own), heard(record("b", 2, rpc.Founding, own), record("c", 3, rpc.Founding, own)), self(rpc.Founded, own), false},
		"one has founded":                {self(rpc.Founding, own), heard(record("b", 2, rpc.Founded, own)), self(rpc.Founded, own), false},
		"blank, and named":               {self(rpc.Blank, nil), heard(record("b", 2, rpc.Founded, own)), self(rpc.Founded, own), false},
		"blank, and not named":           {self(rpc.Blank, nil), heard(record("b", 2, rpc.Founded, other)), self(rpc.Blank, nil), true},
		"founding, and not named":        {self(rpc.Founding, own), heard(record("b", 2, rpc.Founded, other), blank("c", 3)), self(rpc.Founding, own), true},
		"one wiped: made anew":           {self(rpc.Founding, own), heard(blank("b", 7), record("c", 3, rpc.Founding, own)), self(rpc.Founding, founders(1, 7, 3)), false},
		"records differ: made anew":      {self(rpc.Founding, other), heard(record("b", 2, rpc.Founding, own), record("c", 3, rpc.Founding, own)), self(rpc.Founding, own), false},
		"all wrote, but another than I":  {self(rpc.Founding, other), heard(record("b", 2, rpc.Founding, other), record("c", 3, rpc.Founding, other)), self(rpc.Founding, own), false},
		"founded stays, whatever others": {self(rpc.Founded, own), heard(record("b", 2, rpc.Founded, other)), self(rpc.Founded, own), false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := found(tt.self, peers, tt.heard)
			require.Equal(t, tt.want, got)
			if tt.out {
				require.ErrorIs(t, err, ErrNotAdmitted)
			} else {
				require.NoError(t, err)
			}
		})
	}
}

// A cluster of one founds itself: all founding nodes are heard.
func TestFound_ClusterOfOne(t *testing.T) {
	id := identity{ID: "a", Incarnation: quorum.Incarnation{1}}
	peers := []Peer{{"a", "a:1"}}
	for _, want := range []rpc.Phase{rpc.Founding, rpc.Founded, rpc.Founded} {
		next, err := found(id, peers, nil)
		require.NoError(t, err)
		require.Equal(t, want, next.Phase)
		id = next
	}
}

func TestIdentity_RoundTrip(t *testing.T) {
	for _, id := range []identity{
		{ID: "a", Incarnation: quorum.Incarnation{1}},
		{ID: "node-1", Incarnation: quorum.Incarnation{1, 2}, Phase: rpc.Founded, Cluster: rpc.ClusterID{3},
			Founders: []quorum.Member{{ID: "a", Incarnation: quorum.Incarnation{1}, Addr: "x:1"}, {ID: "b", Incarnation: quorum.Incarnation{2}, Addr: "y:2"}}},
	} {
		b := id.appendBinary(nil)
		got, err := parseIdentity(b)
		require.NoError(t, err)
		require.Equal(t, id, got)
		for n := range b {
			if _, err := parseIdentity(b[:n]); err == nil {
				require.Fail(t, "a cut identity was read", "%d of %d bytes", n, len(b))
			}
		}
	}
}
