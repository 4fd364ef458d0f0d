package journalnode

import (
	"fmt"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
)

// TestN4_Found is one step of genesis, as a table. Node "a" decides; "b" and "c" are heard.
func TestN4_Found(t *testing.T) {
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
func TestN4_ClusterOfOne(t *testing.T) {
	id := identity{ID: "a", Incarnation: quorum.Incarnation{1}}
	peers := []Peer{{"a", "a:1"}}
	for _, want := range []rpc.Phase{rpc.Founding, rpc.Founded, rpc.Founded} {
		next, err := found(id, peers, nil)
		require.NoError(t, err)
		require.Equal(t, want, next.Phase)
		id = next
	}
}

// TestN4_TwoClustersAmongThePeers: a peer of another cluster answers at an address of this one. Whoever is
// asked first, that is noticed: nothing is joined, though one of the two names this storage.
func TestN4_TwoClustersAmongThePeers(t *testing.T) {
	ids := []quorum.NodeID{"a", "b", "c"}
	record := func(incs ...byte) (ms []quorum.Member) {
		for i, id := range ids {
			ms = append(ms, quorum.Member{ID: id, Incarnation: quorum.Incarnation{incs[i]}})
		}
		return ms
	}
	peers := []Peer{{"a", "a:1"}, {"b", "b:1"}, {"c", "c:1"}}
	own, other := record(1, 2, 3), record(9, 8, 7)
	founded := func(id quorum.NodeID, inc byte, fs []quorum.Member) rpc.NodeInfo {
		return rpc.NodeInfo{ID: id, Incarnation: quorum.Incarnation{inc}, Phase: rpc.Founded, Founders: fs, Cluster: clusterID(fs)}
	}
	for name, heard := range map[string][2]rpc.NodeInfo{
		"the one that names it first": {founded("b", 2, own), founded("c", 7, other)},
		"the other one first":         {founded("b", 8, other), founded("c", 3, own)},
		"neither names it":            {founded("b", 8, other), founded("c", 6, record(9, 9, 6))},
	} {
		for _, phase := range []rpc.Phase{rpc.Blank, rpc.Founding} {
			t.Run(fmt.Sprintf("%s, %s", name, phase), func(t *testing.T) {
				self := identity{ID: "a", Incarnation: quorum.Incarnation{1}, Phase: phase}
				if phase == rpc.Founding {
					self.Founders, self.Cluster = own, clusterID(own)
				}
				got, err := found(self, peers, map[quorum.NodeID]rpc.NodeInfo{"b": heard[0], "c": heard[1]})
				require.ErrorIs(t, err, ErrTwoClusters)
				require.ErrorIs(t, err, ErrNotAdmitted)
				for _, text := range []string{"b", "c", fmt.Sprintf("%x", heard[0].Cluster), fmt.Sprintf("%x", heard[1].Cluster)} {
					require.ErrorContains(t, err, text)
				}
				require.Equal(t, self, got)
			})
		}
	}
}

// TestN4_RecordIsComputedAlike: all founders come to the same record, whoever computes it; any other id or
// incarnation makes another cluster, another address does not.
func TestN4_RecordIsComputedAlike(t *testing.T) {
	infos := map[quorum.NodeID]rpc.NodeInfo{}
	for i, id := range []quorum.NodeID{"a", "b", "c"} {
		infos[id] = rpc.NodeInfo{ID: id, Incarnation: quorum.Incarnation{byte(i + 1)}}
	}
	peers := func(addr string) []Peer { return []Peer{{"a", addr + "a"}, {"b", addr + "b"}, {"c", addr + "c"}} }
	by := func(id quorum.NodeID, ps []Peer, infos map[quorum.NodeID]rpc.NodeInfo) rpc.ClusterID {
		heard := maps.Clone(infos)
		delete(heard, id)
		next, err := found(identity{ID: id, Incarnation: infos[id].Incarnation}, ps, heard)
		require.NoError(t, err)
		require.Equal(t, rpc.Founding, next.Phase)
		require.Equal(t, clusterID(next.Founders), next.Cluster)
		return next.Cluster
	}
	want := by("a", peers("h"), infos)
	require.Equal(t, want, by("b", peers("h"), infos))
	require.Equal(t, want, by("c", peers("other"), infos))
	reborn := maps.Clone(infos)
	reborn["b"] = rpc.NodeInfo{ID: "b", Incarnation: quorum.Incarnation{9}}
	require.NotEqual(t, want, by("a", peers("h"), reborn))
	swapped := maps.Clone(infos)
	swapped["a"], swapped["b"] = rpc.NodeInfo{ID: "a", Incarnation: infos["b"].Incarnation}, rpc.NodeInfo{ID: "b", Incarnation: infos["a"].Incarnation}
	require.NotEqual(t, want, by("a", peers("h"), swapped), "the pairs count, not the two lists")
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
