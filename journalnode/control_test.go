package journalnode_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/segments"
)

// catalog reads one node's catalog.
func (b *bed) catalog(i int, s rpc.ReadStrength) (rpc.CatalogView, error) {
	b.Helper()
	return b.node(i).Catalog(b.ctx, s)
}

// led waits until the catalog is founded and has a leader, and returns its number.
func (b *bed) led() int {
	b.Helper()
	b.founded()
	leader := -1
	b.Until(time.Minute, "a catalog with a leader", func() bool {
		for i, n := range b.Nodes {
			if n == nil {
				continue
			}
			v, err := b.catalog(i, rpc.Stale)
			if err == nil && !v.Cluster.IsZero() && v.Leader == quorum.NodeID(b.ID(i)) {
				leader = i
			}
		}
		return leader >= 0
	})
	return leader
}

func (b *bed) place(i int, name string) segments.JournalID {
	b.Helper()
	id := segments.JournalID(uuid.New())
	_, err := b.node(i).PlaceJournal(b.ctx, rpc.PlaceRequest{ID: id, Name: name})
	require.NoError(b, err)
	return id
}

// N4, N5: the group starts with the cluster, its first leader founds the catalog, and every strength of read
// says what it is, on every node.
func TestCatalog_FoundedWithTheCluster(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		leader := b.led()
		for i := range b.Nodes {
			for _, s := range []rpc.ReadStrength{rpc.Linearizable, rpc.LeaseRead, rpc.Stale} {
				v, err := b.catalog(i, s)
				require.NoError(b, err)
				require.Equal(b, s, v.Strength)
				require.Equal(b, b.info(0).Cluster, v.Cluster)
				require.Len(b, v.Nodes, 3)
				require.Equal(b, b.ID(leader), string(v.Leader))
				for _, x := range v.Nodes {
					require.True(b, x.Voter)
					require.Equal(b, string(x.ID), x.Addr)
				}
			}
		}
	})
}

// A journal is placed, found and dropped by any node; its name is free then, and the next one of that name is
// another journal.
func TestCatalog_JournalLife(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		b.led()
		for round := range 3 {
			id := b.place(round, "a")
			_, err := b.node(round).PlaceJournal(b.ctx, rpc.PlaceRequest{ID: id, Name: "a"})
			require.NoError(b, err, "the same again is answered again")
			_, err = b.node(0).PlaceJournal(b.ctx, rpc.PlaceRequest{ID: segments.JournalID(uuid.New()), Name: "a"})
			require.ErrorIs(b, err, rpc.ErrJournalExists)
			for i := range b.Nodes {
				got, err := b.node(i).FindJournal(b.ctx, "a")
				require.NoError(b, err)
				require.Equal(b, id, got.ID)
				require.Len(b, got.Config.Members(), 3)
				st, err := b.node(i).State(b.ctx, id)
				require.NoError(b, err)
				require.True(b, st.Member)
			}
			got, err := b.node(2).DropJournal(b.ctx, rpc.DropRequest{Name: "a"})
			require.NoError(b, err)
			require.Equal(b, id, got)
			for i := range b.Nodes {
				_, err := b.node(i).FindJournal(b.ctx, "a")
				require.Error(b, err)
				st, err := b.node(i).State(b.ctx, id)
				require.NoError(b, err)
				require.True(b, st.Summary.Deleted)
			}
			_, err = b.node(1).DropJournal(b.ctx, rpc.DropRequest{Name: "a"})
			require.ErrorIs(b, err, rpc.ErrNoJournal)
		}
	})
}
