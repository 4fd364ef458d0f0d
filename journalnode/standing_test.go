package journalnode

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
)

// Only a linearizable read of the cluster's own catalog, no older than what the node has applied, says anything.
func TestStanding(t *testing.T) {
	ours, theirs := rpc.ClusterID{1}, rpc.ClusterID{2}
	self := quorum.Member{ID: "n3", Incarnation: quorum.Incarnation{3}}
	in := rpc.CatalogNode{ID: "n3", Incarnation: quorum.Incarnation{3}}
	wiped := rpc.CatalogNode{ID: "n3", Incarnation: quorum.Incarnation{4}}
	other := rpc.CatalogNode{ID: "n1", Incarnation: quorum.Incarnation{1}}
	leaving := in
	leaving.Leaving = true
	for name, tc := range map[string]struct {
		view  rpc.CatalogView
		heard bool
		out   string
	}{
		"in":              {rpc.CatalogView{Cluster: ours, Index: 7, Nodes: []rpc.CatalogNode{other, in}}, true, ""},
		"leaving":         {rpc.CatalogView{Cluster: ours, Index: 9, Nodes: []rpc.CatalogNode{other, wiped, leaving}}, true, ""},
		"taken out":       {rpc.CatalogView{Cluster: ours, Index: 9, Nodes: []rpc.CatalogNode{other}}, true, "node n3 was taken out"},
		"another storage": {rpc.CatalogView{Cluster: ours, Index: 9, Nodes: []rpc.CatalogNode{other, wiped}}, true, "another storage"},
		"older":           {rpc.CatalogView{Cluster: ours, Index: 6, Nodes: []rpc.CatalogNode{other}}, false, ""},
		"stale":           {rpc.CatalogView{Strength: rpc.Stale, Cluster: ours, Index: 9, Nodes: []rpc.CatalogNode{other}}, false, ""},
		"lease":           {rpc.CatalogView{Strength: rpc.LeaseRead, Cluster: ours, Index: 9, Nodes: []rpc.CatalogNode{other}}, false, ""},
		"another cluster": {rpc.CatalogView{Cluster: theirs, Index: 9, Nodes: []rpc.CatalogNode{other}}, false, ""},
		"not founded":     {rpc.CatalogView{Index: 9}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			heard, out := standing(self, ours, 7, tc.view)
			require.Equal(t, tc.heard, heard)
			if tc.out == "" {
				require.NoError(t, out)
				return
			}
			require.ErrorIs(t, out, rpc.ErrRemoved)
			require.ErrorContains(t, out, tc.out)
		})
	}
}
