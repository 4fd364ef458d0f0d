package journalnode_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/segments"
)

func (b *bed) grant(i int, id segments.JournalID, holder string, ttl time.Duration) rpc.LeaseRef {
	b.Helper()
	g, err := b.node(i).AcquireLease(b.ctx, rpc.LeaseRequest{Journal: id, Holder: holder, TTL: ttl, Nonce: uuid.New()})
	require.NoError(b, err)
	require.False(b, g.Again)
	return rpc.LeaseRef{Journal: id, Revision: g.Revision}
}

func (b *bed) keep(i int, refs ...rpc.LeaseRef) []error {
	b.Helper()
	kept, err := b.node(i).KeepLeases(b.ctx, rpc.LeaseRenewal{Leases: refs})
	require.NoError(b, err)
	return kept
}

func (b *bed) lease(i int, id segments.JournalID) rpc.Lease {
	b.Helper()
	l, err := b.node(i).Lease(b.ctx, id)
	require.NoError(b, err)
	return l
}

// alive are the nodes that run.
func (b *bed) alive() (out []int) {
	for i, n := range b.Nodes {
		if n != nil {
			out = append(out, i)
		}
	}
	return out
}

// L2: a lease is granted, read, renewed and ended through any node, by its revision.
func TestLease_ThroughAnyNode(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		b.led()
		id := b.place(0, "a")
		before := rpc.LeaseRef{Journal: id, Revision: 1}
		for i := range b.Nodes {
			ref := b.grant(i, id, "w", 10*time.Second)
			for j := range b.Nodes {
				l := b.lease(j, id)
				require.Equal(b, rpc.Lease{Journal: id, Index: l.Index, Revision: ref.Revision, Holder: "w", TTL: 10 * time.Second}, l)
				kept := b.keep(j, ref, before)
				require.NoError(b, kept[0])
				require.ErrorIs(b, kept[1], catalog.ErrStale)
				_, err := b.node(j).AcquireLease(b.ctx, rpc.LeaseRequest{Journal: id, Holder: "v", TTL: time.Second, Nonce: uuid.New()})
				held, ok := errors.AsType[*catalog.HeldError](err)
				require.True(b, ok, "%v", err)
				require.Equal(b, "w", held.Holder)
				require.ErrorIs(b, b.node(j).ResignLease(b.ctx, before), catalog.ErrStale)
			}
			revision, err := b.node(i).TransferLease(b.ctx, rpc.LeaseTransfer{LeaseRef: ref, To: "x"})
			require.NoError(b, err)
			require.Equal(b, "x", b.lease(i, id).ReservedFor)
			require.NoError(b, b.node(i).ResignLease(b.ctx, rpc.LeaseRef{Journal: id, Revision: revision}))
			require.Zero(b, b.lease(i, id).Revision)
			before = ref
		}
		_, err := b.node(0).AcquireLease(b.ctx, rpc.LeaseRequest{Journal: id, Holder: "w", TTL: 299 * time.Millisecond, Nonce: uuid.New()})
		require.ErrorIs(b, err, rpc.ErrBadRequest)
		_, err = b.node(0).Lease(b.ctx, segments.JournalID{9})
		require.ErrorIs(b, err, rpc.ErrNoJournal)
	})
}

// L2: a lease that is not renewed is over after its time to live, by an entry of the leader; so is a
// reservation that nobody takes.
func TestL2_LeaseExpires(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		leader := b.led()
		id := b.place(0, "a")
		for _, ttl := range []time.Duration{300 * time.Millisecond, time.Minute} {
			ref := b.grant(leader, id, "w", ttl)
			pass(ttl)
			require.Equal(b, ref.Revision, b.lease(leader, id).Revision)
			pass(ttl/10 + 50*time.Millisecond)
			require.Zero(b, b.lease(leader, id).Revision)

			ref = b.grant(leader, id, "w", ttl)
			pass(ttl / 2)
			_, err := b.node(leader).TransferLease(b.ctx, rpc.LeaseTransfer{LeaseRef: ref, To: "x"})
			require.NoError(b, err)
			pass(ttl)
			require.Equal(b, "x", b.lease(leader, id).ReservedFor)
			pass(ttl/10 + 50*time.Millisecond)
			require.Zero(b, b.lease(leader, id).Revision)
		}
	})
}

// L2: whatever time goes by without a leader, the next one counts from its own Barrier: nobody's lease is cut
// short, however often leaders die.
func TestL2_NewLeaderCountsFromItsBarrier(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		b.led()
		id := b.place(0, "a")
		ref := b.grant(0, id, "w", 300*time.Millisecond)
		for range 6 {
			old := b.led()
			require.NoError(b, b.keep(old, ref)[0])
			b.KillNode(old)
			pass(2 * time.Second) // many times its time to live; nobody leads yet
			require.NoError(b, b.keep(b.alive()[0], ref)[0], "the holder is the first to be heard by the new leader")
			require.Equal(b, ref.Revision, b.lease(b.alive()[0], id).Revision)
			b.StartNode(old)
		}
		last := b.led()
		b.KillNode(last)
		ok := func() bool {
			l, err := b.node(b.alive()[0]).Lease(b.ctx, id)
			return err == nil && l.Revision == 0
		}
		b.Until(time.Minute, "the new leader's end of the lease", ok)
	})
}

// L2: a leader that was cut off ends no lease that is renewed by the others, not when it comes back either.
func TestL2_LeaderCutOffEndsNothing(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		old := b.led()
		id := b.place(old, "a")
		ref := b.grant(old, id, "w", time.Second)
		other := (old + 1) % 3
		n := b.node(other)
		ctx, stop := context.WithCancel(b.ctx)
		var wg sync.WaitGroup
		wg.Go(func() {
			for ctx.Err() == nil {
				kept, err := n.KeepLeases(b.ctx, rpc.LeaseRenewal{Leases: []rpc.LeaseRef{ref}})
				if err != nil || kept[0] != nil {
					b.Errorf("%v %v", kept, err)
					return
				}
				pass(300 * time.Millisecond)
			}
		})
		for range 3 {
			for i := range b.Nodes {
				if i != old {
					b.Net.Partition(b.ID(old), b.ID(i))
				}
			}
			pass(12 * time.Second)
			require.Equal(b, ref.Revision, b.lease(other, id).Revision)
			b.Net.HealAll()
			pass(12 * time.Second)
			for i := range b.Nodes {
				require.Equal(b, ref.Revision, b.lease(i, id).Revision)
			}
		}
		stop()
		wg.Wait()
	})
}

// Renewals gather at the leader: a thousand leases that are kept alive make some entries a second.
func TestL2_RenewalsAreBatched(t *testing.T) {
	const ttl, rounds = 6 * time.Second, 10
	count := 1000
	if testing.Short() {
		count = 200
	}
	idle := func(_ int, o *journalnode.Options) { o.RepairEvery = time.Hour }
	run(t, testcluster.Options{Tune: idle}, func(b *bed) {
		leader := b.led()
		refs := make([]rpc.LeaseRef, count)
		for i := range refs {
			id := segments.JournalID(uuid.New())
			_, err := b.node(leader).PlaceJournal(b.ctx, rpc.PlaceRequest{ID: id, Name: fmt.Sprintf("j%d", i), Replicas: 1})
			require.NoError(b, err)
			refs[i] = b.grant(leader, id, "w", ttl)
		}
		b.Net.ResetCalls()
		kept := b.keep(leader, refs...)
		for _, err := range kept {
			require.NoError(b, err)
		}
		index := func() uint64 { return b.lease(leader, refs[0].Journal).Index }
		before := index()
		begin := time.Now()
		var wg sync.WaitGroup
		for i, ref := range refs {
			n := b.node(i % 3)
			wg.Go(func() {
				pass(ttl / 3 * time.Duration(i) / time.Duration(count))
				for range rounds {
					k, err := n.KeepLeases(b.ctx, rpc.LeaseRenewal{Leases: []rpc.LeaseRef{ref}})
					if err != nil || k[0] != nil {
						b.Errorf("lease %d: %v %v", i, k, err)
						return
					}
					pass(ttl / 3)
				}
			})
		}
		wg.Wait()
		took := time.Since(begin)
		entries := index() - before
		require.LessOrEqual(b, entries, uint64(took/(200*time.Millisecond)), "%d renewals in %s", count*rounds, took)
		for _, ref := range refs {
			require.Equal(b, ref.Revision, b.lease(leader, ref.Journal).Revision)
		}
	})
}

// C1: renewals change nothing that a node takes over from the catalog, and so none of them makes it doubt what it knows.
func TestC1_RenewalsLeaveTheCatalogFresh(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		leader := b.led()
		id := b.place(leader, "a")
		ref := b.grant(leader, id, "w", time.Minute)
		fresh := func() bool {
			for i := range b.Nodes {
				l, err := b.node(i).Snapshots(b.ctx, id)
				require.NoError(b, err)
				if !l.Fresh {
					return false
				}
			}
			return true
		}
		b.Until(time.Minute, "nodes that know the catalog", fresh)
		for range 3 {
			require.NoError(b, b.keep(leader, ref)[0])
			b.Until(time.Minute, "nodes that know the catalog after a renewal", fresh)
		}
	})
}

// While leases are renewed all the time a follower's log always has an entry that it does not know to be committed yet. It can
// tell what is listed all the same.
func TestHole_C1_RenewalsWithoutAPause(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		leader := b.led()
		id := b.place(leader, "a")
		ref := b.grant(leader, id, "w", time.Minute)
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					require.NoError(b, b.keep(leader, ref)[0])
				}
			}
		}()
		for range 3 {
			for i := range b.Nodes {
				fresh := false
				for range 6 {
					l, err := b.node(i).Snapshots(b.ctx, id)
					require.NoError(b, err)
					fresh = fresh || l.Fresh
					<-time.After(300 * time.Millisecond)
				}
				require.True(b, fresh, "node %d, leader %d", i, leader)
			}
			<-time.After(20 * time.Second)
		}
		close(stop)
		<-done
	})
}

// A watch is answered when the lease is another one, after its time otherwise, never with something older
// than the caller has seen, and renewals are no news.
func TestLease_Watch(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		leader := b.led()
		id := b.place(0, "a")
		begin := time.Now()
		watch := func(i int, index, revision uint64, wait time.Duration) (rpc.Lease, error) {
			return b.node(i).WatchLease(b.ctx, rpc.LeaseWatch{Journal: id, Index: index, Revision: revision, Wait: wait})
		}
		l, err := watch(0, 0, 0, 3*time.Second)
		require.NoError(b, err)
		require.Zero(b, l.Revision)
		require.Equal(b, 3*time.Second, time.Since(begin))

		var ref rpc.LeaseRef
		var wg sync.WaitGroup
		for i := range b.Nodes {
			wg.Go(func() {
				begin := time.Now()
				l, err := watch(i, l.Index, 0, rpc.LeaseWaitMax)
				require.NoError(b, err)
				require.Equal(b, "w", l.Holder)
				require.Less(b, time.Since(begin), 5*time.Second)
			})
		}
		pass(time.Second)
		ref = b.grant(leader, id, "w", time.Minute)
		wg.Wait()

		begin = time.Now()
		wg.Go(func() {
			l, err := watch(0, l.Index, ref.Revision, rpc.LeaseWaitMax)
			require.NoError(b, err)
			require.Equal(b, ref.Revision, l.Revision)
			require.Equal(b, rpc.LeaseWaitMax, time.Since(begin))
		})
		for range 5 {
			require.NoError(b, b.keep(leader, ref)[0])
			pass(time.Second)
		}
		wg.Wait()

		_, err = watch(0, 1<<40, 0, time.Second)
		require.ErrorIs(b, err, rpc.ErrUnavailable)
		_, err = b.node(leader).DropJournal(b.ctx, rpc.DropRequest{Name: "a"})
		require.NoError(b, err)
		_, err = watch(leader, 0, ref.Revision, rpc.LeaseWaitMax)
		require.Truef(b, errors.Is(err, rpc.ErrNoJournal) || errors.Is(err, rpc.ErrJournalDeleted), "%v", err)
	})
}

// Watches are bounded.
func TestLease_WatchesAreBounded(t *testing.T) {
	run(t, testcluster.Options{Nodes: 1}, func(b *bed) {
		b.led()
		id := b.place(0, "a")
		ctx, cancel := context.WithCancel(b.ctx)
		n := b.node(0)
		var wg sync.WaitGroup
		for range rpc.LeaseWatchMax {
			wg.Go(func() { _, _ = n.WatchLease(ctx, rpc.LeaseWatch{Journal: id, Wait: rpc.LeaseWaitMax}) })
		}
		pass(time.Second)
		_, err := n.WatchLease(b.ctx, rpc.LeaseWatch{Journal: id})
		require.ErrorIs(b, err, rpc.ErrTooManyWatches)
		cancel()
		wg.Wait()
		_, err = n.WatchLease(b.ctx, rpc.LeaseWatch{Journal: id})
		require.NoError(b, err)
	})
}

// A request that is passed on by a node is not passed on again.
func TestLease_ForwardedOnce(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		leader := b.led()
		ref := b.grant(leader, b.place(leader, "a"), "w", time.Minute)
		_, err := b.node((leader+1)%3).KeepLeases(b.ctx, rpc.LeaseRenewal{Leases: []rpc.LeaseRef{ref}, Forwarded: true})
		require.ErrorIs(b, err, rpc.ErrNoLeader)
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			if c.Method == "KeepLeases" && c.From != "client" {
				return memnet.Drop
			}
			return memnet.Deliver
		})
		_, err = b.node((leader+1)%3).KeepLeases(b.ctx, rpc.LeaseRenewal{Leases: []rpc.LeaseRef{ref}})
		require.ErrorIs(b, err, rpc.ErrUnavailable, "it may have happened, for all that this node knows")
	})
}
