package journalnode

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
)

func TestReachable(t *testing.T) {
	for _, tt := range []struct {
		listen, addr string
		want         bool
	}{
		{"10.0.0.1:7400", "10.0.0.1:7400", true},
		{"10.0.0.1:7400", "10.0.0.2:7400", false},
		{"10.0.0.1:7400", "10.0.0.1:7401", false},
		{"0.0.0.0:7400", "10.0.0.1:7400", true},
		{"[::]:7400", "10.0.0.1:7400", true},
		{":7400", "n1.example:7400", true},
		{":7400", "n1.example:7401", false},
		{"[::ffff:10.0.0.1]:7400", "10.0.0.1:7400", true},
		{"[::1]:7400", "[0:0:0:0:0:0:0:1]:7400", true},
		{"127.0.0.1:7400", "localhost:7400", true}, // a name may be any address
		{"127.0.0.1:7400", "10.0.0.1:7400", false},
		{"127.0.0.1:0", "127.0.0.1:7400", true}, // any port
		{"n1", "n1", true},
	} {
		require.Equal(t, tt.want, reachable(tt.listen, tt.addr), "%s %s", tt.listen, tt.addr)
	}
}

// N4: founders that wait for one another say for whom, and why.
func TestN4_WaitsFor(t *testing.T) {
	peers := []Peer{{"a", "a:1"}, {"b", "b:1"}, {"c", "c:1"}}
	info := func(phase rpc.Phase, ids ...quorum.NodeID) rpc.NodeInfo {
		i := rpc.NodeInfo{Phase: phase}
		for _, id := range ids {
			i.Founders = append(i.Founders, quorum.Member{ID: id})
		}
		return i
	}
	type heard = map[quorum.NodeID]rpc.NodeInfo
	require.EqualError(t, waitsFor("a", peers, nil), "journalnode: founding nodes not heard yet: b at b:1, c at c:1")
	require.EqualError(t, waitsFor("a", peers, heard{"b": info(rpc.Blank)}), "journalnode: founding nodes not heard yet: c at c:1")
	require.NoError(t, waitsFor("a", peers, heard{"b": info(rpc.Blank), "c": info(rpc.Founding, "c", "a", "b")}))
	require.NoError(t, waitsFor("a", peers, heard{"b": info(rpc.Founded, "b", "x"), "c": info(rpc.Blank)}))
	err := waitsFor("a", peers, heard{"b": info(rpc.Founding, "b", "a")})
	require.ErrorIs(t, err, ErrFoundersDiffer)
	require.EqualError(t, err, "journalnode: this node and b disagree on the initial cluster (ours [a b c], theirs [a b])")
}
