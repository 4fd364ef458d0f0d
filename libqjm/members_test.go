package libqjm_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
)

func (b *bed) inCatalog(name string) libqjm.CatalogJournal {
	b.Helper()
	v, err := b.cl.Catalog(b.ctx, libqjm.Linearizable)
	require.NoError(b, err)
	for _, j := range v.Journals {
		if j.Name == name {
			return j
		}
	}
	require.Fail(b, "no such journal in the catalog", name)
	return libqjm.CatalogJournal{}
}

func (b *bed) membersOf(name string) (ids []string) {
	for _, m := range b.inCatalog(name).Config.Members() {
		ids = append(ids, string(m.ID))
	}
	return ids
}

// load appends until the returned function is called, which returns how many there were. No append may fail.
func (b *bed) load(w *libqjm.Writer, callers int) (stop func() int) {
	ctx, cancel := context.WithCancel(b.ctx)
	var work sync.WaitGroup
	counts := make([]int, callers)
	for i := range callers {
		work.Go(func() {
			for ctx.Err() == nil {
				_, err := w.Append(b.ctx, []byte("x"))
				if err != nil {
					b.Errorf("an append failed: %v", err)
					return
				}
				counts[i]++
				pass(time.Millisecond)
			}
		})
	}
	return func() (n int) {
		cancel()
		work.Wait()
		for _, c := range counts {
			n += c
		}
		return n
	}
}

// isolate cuts a node off from all others and from the clients.
func (b *bed) isolate(node string) {
	for i := range b.Nodes {
		b.Net.Partition(node, b.ID(i))
	}
	b.Net.Partition(node, "client")
}

// count reads a journal whose txns are all alike.
func (b *bed) count(name string) (n int) {
	r, err := b.cl.OpenReader(b.ctx, name, libqjm.ReaderOptions{Linearizable: true})
	require.NoError(b, err)
	defer func() { require.NoError(b, r.Close()) }()
	for _, err := range r.All(b.ctx) {
		require.NoError(b, err)
		n++
	}
	return n
}

// M3, M4: all members of a journal are replaced under load, through the catalog: no append fails, the epoch
// stays, nothing is lost.
func TestM3_AllMembersAreReplacedUnderLoad(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		old, err := b.cl.CreateJournalWith(b.ctx, "m", libqjm.CreateOptions{Replicas: 2})
		require.NoError(b, err)
		var to []string
		for i := range 5 {
			if id := b.ID(i); id != old[0] && id != old[1] {
				to = append(to, id)
			}
		}
		w, err := b.cl.OpenWriter(b.ctx, "m", libqjm.WriterOptions{})
		require.NoError(b, err)
		epoch := w.Epoch()
		stop := b.load(w, 3)
		for _, next := range [][]string{to, old, to} {
			_, err = b.cl.ChangeMembers(b.ctx, "m", next, libqjm.ChangeOptions{})
			require.NoError(b, err)
			require.NoError(b, b.cl.WaitForChange(b.ctx, "m", nil))
			require.Equal(b, next, b.membersOf("m"))
		}
		n := stop()
		require.Equal(b, epoch, w.Epoch())
		require.NoError(b, w.Close(b.ctx))
		require.Equal(b, n, b.count("m"))
	})
}

// M9, M6: the catalog's leader is killed again and again; the change goes on, each time on another node.
func TestM9_LeadersAreKilledDuringAChange(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		old, err := b.cl.CreateJournalWith(b.ctx, "m", libqjm.CreateOptions{Replicas: 3})
		require.NoError(b, err)
		w, err := b.cl.OpenWriter(b.ctx, "m", libqjm.WriterOptions{})
		require.NoError(b, err)
		stop := b.load(w, 2)
		to := []string{old[0]}
		for i := range 5 {
			if id := b.ID(i); id != old[0] && id != old[1] && id != old[2] {
				to = append(to, id)
			}
		}
		_, err = b.cl.ChangeMembers(b.ctx, "m", to, libqjm.ChangeOptions{})
		require.NoError(b, err)
		stages := map[string]bool{}
		require.NoError(b, b.cl.WaitForChange(b.ctx, "m", func(ch libqjm.MembershipChange) {
			if stages[ch.Stage] {
				return
			}
			stages[ch.Stage] = true
			v, err := b.cl.Catalog(b.ctx, libqjm.LeaseRead)
			require.NoError(b, err)
			for i := range 5 {
				if b.ID(i) == string(v.Leader) {
					b.KillNode(i)
					b.StartNode(i)
				}
			}
		}))
		n := stop()
		require.Equal(b, quorum.NewConfig(0, b.inCatalog("m").Config.Members()...).Sets, b.inCatalog("m").Config.Sets)
		require.ElementsMatch(b, to, b.membersOf("m"))
		require.NoError(b, w.Close(b.ctx))
		require.Equal(b, n, b.count("m"))
		require.NotEmpty(b, stages)
	})
}

// M6: what cannot be is refused, and says why; a change that is under way is answered again, and another one
// waits; given up, the old members are the journal's again.
func TestM6_ChangesAreCheckedAndGivenUp(t *testing.T) {
	run(t, testcluster.Options{Nodes: 4}, func(b *bed) {
		old, err := b.cl.CreateJournalWith(b.ctx, "m", libqjm.CreateOptions{Replicas: 3})
		require.NoError(b, err)
		fourth, at := "", 0
		for i := range 4 {
			if id := b.ID(i); id != old[0] && id != old[1] && id != old[2] {
				fourth, at = id, i
			}
		}
		to := []string{old[0], old[1], fourth}
		change := func(to ...string) error {
			_, err := b.cl.ChangeMembers(b.ctx, "m", to, libqjm.ChangeOptions{})
			return err
		}
		require.ErrorIs(b, change("n9"), libqjm.ErrNoNode)
		require.ErrorIs(b, change(), libqjm.ErrBadRequest)
		require.ErrorIs(b, change("n1", "n1"), libqjm.ErrBadRequest)
		require.ErrorIs(b, change(old...), libqjm.ErrSameMembers)
		_, err = b.cl.ChangeMembers(b.ctx, "none", to, libqjm.ChangeOptions{})
		require.ErrorIs(b, err, libqjm.ErrNoJournal)
		_, err = b.cl.ChangeMembers(b.ctx, "m", to, libqjm.ChangeOptions{ExpectVersion: 9})
		require.ErrorIs(b, err, libqjm.ErrConflict)
		ch, err := b.cl.ChangeMembers(b.ctx, "m", to, libqjm.ChangeOptions{DryRun: true})
		require.NoError(b, err)
		require.Len(b, ch.New, 3)
		require.Nil(b, b.inCatalog("m").Change)
		require.ErrorIs(b, b.cl.AbortChange(b.ctx, "m", 0), libqjm.ErrNoChange)

		// The new member goes away after it was checked: the change waits, and says for whom.
		w, err := b.cl.OpenWriter(b.ctx, "m", libqjm.WriterOptions{})
		require.NoError(b, err)
		_, err = w.Append(b.ctx, []byte("x"))
		require.NoError(b, err)
		b.isolate(fourth)
		ctx, cancel := context.WithTimeout(b.ctx, 2*time.Second)
		defer cancel()
		_, err = b.cl.ChangeMembers(ctx, "m", to, libqjm.ChangeOptions{})
		require.Error(b, err)
		b.Net.HealAll()
		ch, err = b.cl.ChangeMembers(b.ctx, "m", to, libqjm.ChangeOptions{})
		require.NoError(b, err)
		b.KillNode(at)
		again, err := b.cl.ChangeMembers(b.ctx, "m", to, libqjm.ChangeOptions{})
		if err == nil && b.inCatalog("m").Change != nil {
			require.Equal(b, ch.ID, again.ID)
			require.ErrorIs(b, change(old[0], old[1]), libqjm.ErrChangeUnderWay)
			if err := b.cl.AbortChange(b.ctx, "m", ch.ID); err == nil {
				require.NoError(b, b.cl.WaitForChange(b.ctx, "m", nil))
				require.Equal(b, old, b.membersOf("m"))
			}
		}
		_, err = w.Append(b.ctx, []byte("x"))
		require.NoError(b, err)
		require.NoError(b, w.Close(b.ctx))
	})
}

// N1, the exact case that loses data elsewhere: n3 missed the second writer's epoch, and n1, which promised
// it, comes back with an empty disk. The two together must neither serve the first writer nor recover
// without what n1 and n2 acknowledged. Then n1 is readmitted, and counts.
func TestN1_WipedNodeIsReplaced(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		first := b.writer()
		b.write(first, 1, 3)
		b.isolate("n3")
		second := b.writer()
		require.Greater(b, second.Epoch(), first.Epoch())
		b.write(second, 4, 9)
		b.WipeNode(0)
		b.StartNode(0)
		b.Net.HealAll()
		b.StopNode(1)
		b.Until(time.Minute, "n1 knows that it is nobody", func() bool { return b.Nodes[0].Ready() != nil })
		// {n1 wiped, n3} is no quorum, for the first writer or for anybody.
		ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
		defer cancel()
		_, err := first.Append(ctx, text(4))
		require.Error(b, err)
		_, err = b.cl.OpenWriter(ctx, "j", libqjm.WriterOptions{})
		require.ErrorIs(b, err, libqjm.ErrNoQuorum)

		b.StartNode(1)
		b.Until(time.Minute, "n2 is back", func() bool { return b.Nodes[1].Ready() == nil })
		err = b.cl.AddMember(b.ctx, "n1", "n1", false, nil)
		require.ErrorIs(b, err, libqjm.ErrRefused, "it is in the cluster, with another storage")
		require.ErrorContains(b, err, "member replace n1 n1")
		var seen []libqjm.ReplaceProgress
		changed, err := b.cl.ReplaceMember(b.ctx, "n1", "n1", libqjm.ReplaceOptions{Progress: func(p libqjm.ReplaceProgress) { seen = append(seen, p) }})
		require.NoError(b, err)
		require.Equal(b, []string{"j"}, changed)
		require.True(b, seen[len(seen)-1].Removed)
		require.NoError(b, b.Nodes[0].Ready())
		v, err := b.cl.Catalog(b.ctx, libqjm.Linearizable)
		require.NoError(b, err)
		require.Len(b, v.Nodes, 3, "the lost storage has left")

		b.StopNode(1) // what n1 and n2 alone had acknowledged is on n1 and n3 now
		w := b.writer()
		b.write(w, 10, 12)
		require.NoError(b, w.Close(b.ctx))
		require.Equal(b, upTo(1, 12), b.read(libqjm.ReaderOptions{}))
		_ = second.Close(b.ctx)
		_ = first.Close(b.ctx)
	})
}

// N1: the policy does the same without being asked; without it nothing happens.
func TestN1_AutoReadmit(t *testing.T) {
	for _, auto := range []bool{true, false} {
		run(t, testcluster.Options{}, func(b *bed) {
			require.NoError(b, b.cl.SetPolicy(b.ctx, "j", libqjm.Policy{AutoReadmit: auto}))
			w := b.writer()
			b.writeFinal(w, 1, 5)
			b.WipeNode(2)
			b.StartNode(2)
			if !auto {
				pass(time.Minute)
				require.ErrorIs(b, b.Nodes[2].Ready(), journalnode.ErrNotAdmitted)
				return
			}
			b.Until(3*time.Minute, "it is a member again", func() bool {
				j := b.inCatalog("j")
				info, err := b.Nodes[2].Info(b.ctx)
				require.NoError(b, err)
				return j.Change == nil && j.Config.Has("n3", info.Incarnation)
			})
			b.Until(time.Minute, "the lost storage has left", func() bool {
				v, err := b.cl.Catalog(b.ctx, libqjm.Linearizable)
				return err == nil && len(v.Nodes) == 3
			})
			b.write(w, 6, 8)
			require.NoError(b, w.Close(b.ctx))
			b.StopNode(0)
			require.Equal(b, upTo(1, 8), b.read(libqjm.ReaderOptions{}))
		})
	}
}

// A node is replaced by another one: all its journals move, then it leaves. Cut off, it is called again.
func TestReplaceMember(t *testing.T) {
	run(t, testcluster.Options{Nodes: 4}, func(b *bed) {
		for _, name := range []string{"a", "b", "c"} {
			_, err := b.cl.CreateJournalWith(b.ctx, name, libqjm.CreateOptions{Replicas: 2})
			require.NoError(b, err)
		}
		require.NoError(b, b.cl.DeleteJournal(b.ctx, "j"))
		old := b.membersOf("a")[0]
		fresh := ""
		for i := range 4 { // a node that has none of old's journals
			id, free := b.ID(i), true
			for _, name := range []string{"a", "b", "c"} {
				has := map[string]bool{}
				for _, m := range b.membersOf(name) {
					has[m] = true
				}
				free = free && !(has[old] && has[id])
			}
			if free && id != old {
				fresh = id
			}
		}
		require.NotEmpty(b, fresh)
		would, err := b.cl.ReplaceMember(b.ctx, old, fresh, libqjm.ReplaceOptions{DryRun: true})
		require.NoError(b, err)
		require.Contains(b, would, "a")
		ctx, cancel := context.WithCancel(b.ctx)
		_, err = b.cl.ReplaceMember(ctx, old, fresh, libqjm.ReplaceOptions{Progress: func(libqjm.ReplaceProgress) { cancel() }})
		require.ErrorIs(b, err, context.Canceled)
		_, err = b.cl.ReplaceMember(b.ctx, old, fresh, libqjm.ReplaceOptions{})
		require.NoError(b, err)
		for _, name := range would {
			require.NotContains(b, b.membersOf(name), old)
			require.Contains(b, b.membersOf(name), fresh)
		}
		v, err := b.cl.Catalog(b.ctx, libqjm.Linearizable)
		require.NoError(b, err)
		require.Len(b, v.Nodes, 3)
		_, err = b.cl.ReplaceMember(b.ctx, old, fresh, libqjm.ReplaceOptions{})
		require.ErrorIs(b, err, libqjm.ErrNoNode)
	})
}
