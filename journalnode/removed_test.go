package journalnode_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
)

// outsider waits until a node says that it was taken out, and checks that it answers nobody from what it knew.
func (b *bed) outsider(i int) {
	b.Helper()
	b.Until(time.Minute, "it says that it is out", func() bool { return b.Nodes[i].Ready() != nil })
	require.ErrorIs(b, b.Nodes[i].Ready(), rpc.ErrRemoved)
	n := b.node(i)
	_, find := n.FindJournal(b.ctx, "a")
	_, list := n.Journals(b.ctx)
	_, stale := n.Catalog(b.ctx, rpc.Stale)
	_, lease := n.Catalog(b.ctx, rpc.LeaseRead)
	_, place := n.PlaceJournal(b.ctx, rpc.PlaceRequest{Name: "b"})
	_, watch := n.WatchLease(b.ctx, rpc.LeaseWatch{})
	for _, err := range []error{find, list, stale, lease, place, watch} {
		require.ErrorIs(b, err, rpc.ErrRemoved)
		require.ErrorIs(b, err, rpc.ErrUnknownNode, "for those who only know that it does not count")
	}
}

// other is a node that neither leads nor is one of those.
func (b *bed) other(not ...int) int {
	leader := b.led()
	for i := range b.Nodes {
		if i != leader && !slices.Contains(not, i) {
			return i
		}
	}
	b.Fatal("no such node")
	return -1
}

// A node that was taken out while it runs finds it out from the others, and serves nothing any more, also after
// a restart. One that is let in again as it is serves again.
func TestRemoved_NodeFindsOut(t *testing.T) {
	run(t, testcluster.Options{Nodes: 4}, func(b *bed) {
		gone := b.other()
		require.NoError(b, b.node(gone).RemoveNode(b.ctx, rpc.RemoveRequest{Node: b.info(gone).ID}))
		b.outsider(gone)
		b.KillNode(gone)
		b.StartNode(gone)
		b.outsider(gone)
		for i := range b.Nodes {
			if i != gone {
				require.NoError(b, b.Nodes[i].Ready())
			}
		}
		x := rpc.CatalogNode{ID: b.info(gone).ID, Incarnation: b.info(gone).Incarnation, Addr: b.ID(gone), Level: 1}
		_, err := b.node((gone+1)%4).Join(b.ctx, rpc.JoinRequest{Node: x})
		require.NoError(b, err)
		b.Until(time.Minute, "it serves again", func() bool { return b.Nodes[gone].Ready() == nil })
		_, err = b.node(gone).Catalog(b.ctx, rpc.Linearizable)
		require.NoError(b, err)
	})
}

// A partition is no word of the catalog: a node that is cut off, alone or with another one that was taken out
// meanwhile, goes on for as long as that lasts, and so do all nodes while there is no leader.
func TestRemoved_SilenceIsNoWord(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		gone := b.other()
		alone := b.other(gone)
		for i := range b.Nodes {
			if i != alone && i != gone {
				b.Net.Partition(b.ID(alone), b.ID(i))
				b.Net.Partition(b.ID(gone), b.ID(i))
			}
		}
		asked := b.other(gone, alone)
		require.NoError(b, b.node(asked).RemoveNode(b.ctx, rpc.RemoveRequest{Node: b.info(gone).ID}))
		b.wait(2 * time.Minute)
		require.NoError(b, b.Nodes[alone].Ready())
		require.NoError(b, b.Nodes[gone].Ready(), "nobody has told it")
		b.Net.HealAll()
		b.outsider(gone)
		for i := range b.Nodes {
			for j := range i {
				b.Net.Partition(b.ID(i), b.ID(j))
			}
		}
		b.wait(2 * time.Minute)
		for i := range b.Nodes {
			if i != gone {
				require.NoError(b, b.Nodes[i].Ready())
			}
		}
		require.ErrorIs(b, b.Nodes[gone].Ready(), rpc.ErrRemoved)
	})
}
