package journalnode

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
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

// M8: a node's data goes only where its copy of the catalog says that it left, that nothing under way needs it, and
// that the config without it is in force.
func TestM8_HasLeft(t *testing.T) {
	n1, n2, n3 := quorum.Member{ID: "n1"}, quorum.Member{ID: "n2"}, quorum.Member{ID: "n3"}
	journal := func(change func(*catalog.Journal)) catalog.Journal {
		j := catalog.Journal{Config: quorum.NewConfig(3, n1, n2), InForce: 3, Former: []catalog.Former{{Member: n3, Version: 3}}}
		change(&j)
		return j
	}
	require.True(t, hasLeft(journal(func(*catalog.Journal) {}), n3))
	for name, change := range map[string]func(*catalog.Journal){
		"it never was a member":      func(j *catalog.Journal) { j.Former = nil },
		"it is one":                  func(j *catalog.Journal) { j.Config = quorum.NewConfig(3, n1, n3) },
		"the config is not in force": func(j *catalog.Journal) { j.InForce = 2 },
		"it is about to become one": func(j *catalog.Journal) {
			j.Change = &catalog.Change{Old: []quorum.Member{n1, n2}, New: []quorum.Member{n1, n3}}
		},
		"its change is not over": func(j *catalog.Journal) {
			j.Change = &catalog.Change{Old: []quorum.Member{n1, n3}, New: []quorum.Member{n1, n2}}
		},
		"the journal is deleted":       func(j *catalog.Journal) { j.Deleted = true },
		"it was forced out":            func(j *catalog.Journal) { j.History = []catalog.HistoryEntry{{Kind: catalog.Forced, Version: 3}} },
		"others were reset without it": func(j *catalog.Journal) { j.History = []catalog.HistoryEntry{{Kind: catalog.Adopted, Version: 3}} },
	} {
		require.False(t, hasLeft(journal(change), n3), name)
	}
}
