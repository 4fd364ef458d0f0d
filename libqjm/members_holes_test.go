package libqjm_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
)

// others returns the nodes that are not among the given ones.
func (b *bed) others(ids []string) (out []string) {
	for i := range b.Nodes {
		if !slices.Contains(ids, b.ID(i)) {
			out = append(out, b.ID(i))
		}
	}
	return out
}

func (b *bed) index(id string) int {
	for i := range b.Nodes {
		if b.ID(i) == id {
			return i
		}
	}
	require.Fail(b, "no such node", id)
	return -1
}

// holdsOf returns how many segments a node holds of a journal.
func (b *bed) holdsOf(name, node string) (n int) {
	segs, err := b.cl.Segments(b.ctx, name)
	require.NoError(b, err)
	for _, s := range segs {
		if s.Node == node {
			n++
		}
	}
	return n
}

// filled makes journal "m" on three nodes, with two finalized segments.
func (b *bed) filled() (old []string) {
	old, err := b.cl.CreateJournalWith(b.ctx, "m", libqjm.CreateOptions{Replicas: 3})
	require.NoError(b, err)
	w, err := b.cl.OpenWriter(b.ctx, "m", libqjm.WriterOptions{})
	require.NoError(b, err)
	for range 2 {
		_, err = w.Append(b.ctx, []byte("x"))
		require.NoError(b, err)
		require.NoError(b, w.Roll(b.ctx))
	}
	require.NoError(b, w.Close(b.ctx))
	return old
}

// M8: a node that learned in a change that was given up before it was joint is cleaned up like any that left;
// so is one whose journal was deleted while it learned.
func TestM8_LearnersOfAChangeThatWasGivenUp(t *testing.T) {
	for _, deleted := range []bool{false, true} {
		run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
			old := b.filled()
			rest := b.others(old)
			b.Net.Fault(func(c memnet.Call) memnet.Verdict { // the second learner copies nothing
				if c.To == rest[1] && c.From != "client" && c.Method == "InstallConfig" || c.From == rest[1] && c.Method == "ReadSegment" {
					return memnet.Drop
				}
				return memnet.Deliver
			})
			_, err := b.cl.ChangeMembers(b.ctx, "m", []string{old[0], rest[0], rest[1]}, libqjm.ChangeOptions{})
			require.NoError(b, err)
			disk := b.Disks[b.index(rest[0])]
			dir := b.Dir(b.index(rest[0])) + "/journals/" + b.inCatalog("m").ID.String()
			size := func() (n int) {
				names, err := disk.List(dir + "/segments")
				if err != nil {
					return 0
				}
				return len(names)
			}
			b.Until(time.Minute, "the first learner copies", func() bool { return size() >= 2 })
			require.Equal(b, "learning", b.inCatalog("m").Change.Stage)
			if deleted {
				b.Net.Fault(nil)
				require.NoError(b, b.cl.DeleteJournal(b.ctx, "m"))
			} else {
				require.NoError(b, b.cl.AbortChange(b.ctx, "m", 0))
				b.Net.Fault(nil)
			}
			b.Until(3*time.Minute, "the learner keeps no data", func() bool { return size() == 0 })
		})
	}
}

// M8, M2: a member that was down when its journal was made, and comes back when it is a member no more, holds
// nothing up: the change ends, the others are cleaned up, the journal can be deleted.
func TestM8_AFormerMemberThatNeverHadTheJournal(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		b.KillNode(4)
		old, err := b.cl.CreateJournalWith(b.ctx, "m", libqjm.CreateOptions{Replicas: 5})
		require.NoError(b, err)
		require.Len(b, old, 5)
		_, err = b.cl.ChangeMembers(b.ctx, "m", []string{"n1", "n2", "n3"}, libqjm.ChangeOptions{})
		require.NoError(b, err)
		require.NoError(b, b.cl.WaitForChange(b.ctx, "m", nil))
		w, err := b.cl.OpenWriter(b.ctx, "m", libqjm.WriterOptions{})
		require.NoError(b, err)
		_, err = w.Append(b.ctx, []byte("x"))
		require.NoError(b, err)
		b.StartNode(4)
		b.Until(time.Minute, "it is back", func() bool { return b.Nodes[4].Ready() == nil })
		pass(2 * time.Minute) // the leader looks at all journals
		start := b.Net.Count("n1", "n5", "InstallConfig") + b.Net.Count("n2", "n5", "InstallConfig") + b.Net.Count("n3", "n5", "InstallConfig") + b.Net.Count("n4", "n5", "InstallConfig")
		pass(time.Minute)
		n := b.Net.Count("n1", "n5", "InstallConfig") + b.Net.Count("n2", "n5", "InstallConfig") + b.Net.Count("n3", "n5", "InstallConfig") + b.Net.Count("n4", "n5", "InstallConfig")
		require.LessOrEqual(b, n-start, 2, "it is asked again and again")
		require.NoError(b, w.Close(b.ctx))
		_, err = b.cl.ChangeMembers(b.ctx, "m", []string{"n1", "n2", "n4"}, libqjm.ChangeOptions{})
		require.NoError(b, err)
		require.NoError(b, b.cl.WaitForChange(b.ctx, "m", nil))
		require.NoError(b, b.cl.DeleteJournal(b.ctx, "m"))
	})
}

// A delete whose answer was lost is asked for again; a journal that somebody else has made under the name
// meanwhile is another one.
func TestM8_DeleteThatIsAskedTwiceSparesTheNextJournal(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		other := b.Client()
		var lost atomic.Int32
		var made error
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			if c.From == "client" && c.Method == "DropJournal" && lost.Add(1) == 1 {
				return memnet.LoseReply
			}
			return memnet.Deliver
		})
		done := make(chan error, 1)
		go func() { done <- b.cl.DeleteJournal(b.ctx, "j") }()
		b.Until(time.Minute, "made anew", func() bool {
			made = other.CreateJournal(b.ctx, "j")
			return made == nil || lost.Load() > 1
		})
		require.NoError(b, <-done)
		if made == nil {
			_, err := other.OpenWriter(b.ctx, "j", libqjm.WriterOptions{})
			require.NoError(b, err)
		}
	})
}

// A replacement that an operator gives up is given up: it does not begin the same change again.
func TestReplaceMember_GivenUp(t *testing.T) {
	run(t, testcluster.Options{Nodes: 4}, func(b *bed) {
		old := b.filled()
		fresh := b.others(old)[0]
		b.Net.Fault(func(c memnet.Call) memnet.Verdict { // it copies nothing
			if c.From == fresh && c.Method == "ReadSegment" {
				return memnet.Drop
			}
			return memnet.Deliver
		})
		done := make(chan error, 1)
		ctx, cancel := context.WithTimeout(b.ctx, 2*time.Minute)
		defer cancel()
		require.NoError(b, b.cl.DeleteJournal(b.ctx, "j"))
		go func() {
			_, err := b.cl.ReplaceMember(ctx, old[0], fresh, libqjm.ReplaceOptions{})
			done <- err
		}()
		b.Until(time.Minute, "it has begun", func() bool { return b.inCatalog("m").Change != nil })
		pass(3 * time.Second)
		require.NoError(b, b.cl.AbortChange(b.ctx, "m", 0))
		require.ErrorIs(b, <-done, libqjm.ErrChangeAborted)
		require.Nil(b, b.inCatalog("m").Change)
	})
}

// What a change that is waited for came to is told of that change, not of the next one; and a journal that was
// deleted meanwhile has not been changed.
func TestWaitForChange_TellsOfThatChange(t *testing.T) {
	for _, deleted := range []bool{false, true} {
		run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
			old := b.filled()
			rest := b.others(old)
			b.Net.Fault(func(c memnet.Call) memnet.Verdict { // the delete does not get through, nor what is copied
				if c.From == rest[1] && c.Method == "ReadSegment" || deleted && c.Method == "InstallConfig" && slices.Contains(old, c.To) {
					return memnet.Drop
				}
				return memnet.Deliver
			})
			change := func(to ...string) {
				_, err := b.cl.ChangeMembers(b.ctx, "m", to, libqjm.ChangeOptions{})
				require.NoError(b, err)
			}
			change(old[0], old[1], rest[0])
			err := b.cl.WaitForChange(b.ctx, "m", func(ch libqjm.MembershipChange) {
				if ch.Stage != "final" && !deleted {
					return
				}
				if deleted {
					_ = b.cl.AbortChange(b.ctx, "m", 0)
					_ = b.cl.DeleteJournal(b.within(3*time.Second), "m")
					return
				}
				b.Until(time.Minute, "over", func() bool { return b.inCatalog("m").Change == nil })
				change(old[0], old[1], rest[1])
				require.NoError(b, b.cl.AbortChange(b.ctx, "m", 0))
			})
			if deleted {
				require.Error(b, err)
				return
			}
			require.NoError(b, err, "the second one was given up, not this one")
		})
	}
}

// N1: a node that is wiped again after it was readmitted, before its journals have moved, can be replaced all
// the same.
func TestN1_WipedTwice(t *testing.T) {
	for _, cutOff := range []bool{false, true} {
		run(t, testcluster.Options{}, func(b *bed) { wipedTwice(b, cutOff) })
	}
}

func wipedTwice(b *bed, cutOff bool) {
	w := b.writer()
	b.writeFinal(w, 1, 5)
	b.WipeNode(2)
	b.StartNode(2)
	b.Net.Fault(func(c memnet.Call) memnet.Verdict { // it comes into the group, and copies nothing
		if c.From == "n3" && c.Method == "ReadSegment" {
			return memnet.Drop
		}
		return memnet.Deliver
	})
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	_, err := b.cl.ReplaceMember(ctx, "n3", "n3", libqjm.ReplaceOptions{})
	require.Error(b, err)
	require.NotNil(b, b.inCatalog("j").Change)
	b.WipeNode(2)
	b.StartNode(2)
	b.Net.Fault(nil)
	pass(10 * time.Second)
	if cutOff { // what the replacement does first
		require.NoError(b, b.cl.AbortChange(b.ctx, "j", 0))
		require.NoError(b, b.cl.RemoveNode(b.within(time.Minute), "n3", false))
	}
	_, err = b.cl.ReplaceMember(b.within(5*time.Minute), "n3", "n3", libqjm.ReplaceOptions{})
	require.NoError(b, err)
	b.write(w, 6, 8)
	b.StopNode(0)
	b.write(w, 9, 9)
	require.NoError(b, w.Close(b.ctx))
	require.Equal(b, upTo(1, 9), b.read(libqjm.ReaderOptions{}))
}

// M8: a journal on a few nodes of many is deleted for those who knew it, once its members have the tombstone:
// the nodes that never had it do not count. Its name is looked up again, and it is listed no more.
func TestM8_DeletedOnFewOfManyNodes(t *testing.T) {
	for _, replicas := range []int{1, 3} {
		run(t, testcluster.Options{Nodes: 6}, func(b *bed) {
			_, err := b.cl.CreateJournalWith(b.ctx, "m", libqjm.CreateOptions{Replicas: replicas})
			require.NoError(b, err)
			w, err := b.cl.OpenWriter(b.ctx, "m", libqjm.WriterOptions{})
			require.NoError(b, err)
			other := b.Client()
			require.NoError(b, other.DeleteJournal(b.ctx, "m"))
			_, err = w.Append(b.within(time.Minute), []byte("x"))
			require.ErrorIs(b, err, libqjm.ErrJournalDeleted)
			b.Until(time.Minute, "it is not listed", func() bool {
				js, err := b.cl.Journals(b.ctx)
				require.NoError(b, err)
				return !slices.ContainsFunc(js, func(j libqjm.JournalInfo) bool { return j.Name == "m" })
			})
			_, err = b.cl.OpenWriter(b.within(time.Minute), "m", libqjm.WriterOptions{})
			require.True(b, errors.Is(err, libqjm.ErrNoJournal) || errors.Is(err, libqjm.ErrJournalDeleted), "%v", err)
			_, err = other.CreateJournalWith(b.ctx, "m", libqjm.CreateOptions{Replicas: replicas})
			require.NoError(b, err)
			again, err := b.cl.OpenWriter(b.within(time.Minute), "m", libqjm.WriterOptions{})
			require.NoError(b, err)
			require.NoError(b, again.Close(b.ctx))
		})
	}
}

// N1: the old storage of a node that was replaced comes back: it counts nowhere, disturbs nobody, and the new one
// goes on when it is back.
func TestN1_OldStorageComesBack(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.writeFinal(w, 1, 5)
		b.StopNode(2)
		disk, stores := b.Disks[2], b.Raft[2]
		b.WipeNode(2)
		b.StartNode(2)
		_, err := b.cl.ReplaceMember(b.ctx, "n3", "n3", libqjm.ReplaceOptions{})
		require.NoError(b, err)
		b.write(w, 6, 8)
		b.StopNode(2)
		fresh, freshStores := b.Disks[2], b.Raft[2]
		b.Disks[2], b.Raft[2] = disk, stores
		b.StartNode(2)
		pass(time.Minute)
		b.StopNode(1) // the old storage makes no majority with n1
		ctx := b.within(20 * time.Second)
		_, err = w.Append(ctx, text(9))
		require.Error(b, err)
		_, err = b.cl.Catalog(ctx, libqjm.Linearizable)
		require.Error(b, err)
		b.StopNode(2)
		b.Disks[2], b.Raft[2] = fresh, freshStores
		b.StartNode(2)
		pass(30 * time.Second)
		b.StartNode(1)
		b.abandon(w)
		again := b.writer()
		require.GreaterOrEqual(b, again.FirstTxID(), libqjm.TxID(9))
		require.NoError(b, again.Close(b.ctx))
		require.Equal(b, upTo(1, 8), b.read(libqjm.ReaderOptions{})[:8])
		require.NoError(b, b.cl.CreateJournal(b.ctx, "later"))
	})
}

// M6: giving a change up is asked for again when the answer was lost; a change that somebody else has begun
// meanwhile goes on.
func TestM6_AbortThatIsAskedTwiceSparesTheNextChange(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		old := b.filled()
		rest := b.others(old)
		var asked atomic.Int32
		var begun atomic.Bool
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			switch {
			case c.Method == "AbortChange" && c.From == "client" && asked.Add(1) == 1:
				return memnet.LoseReply
			case c.Method == "AbortChange" && c.From == "client" && !begun.Load():
				return memnet.Drop
			case slices.Contains(rest, c.From) && c.Method == "ReadSegment":
				return memnet.Drop
			}
			return memnet.Deliver
		})
		change := func(to ...string) error {
			_, err := b.cl.ChangeMembers(b.ctx, "m", to, libqjm.ChangeOptions{})
			return err
		}
		require.NoError(b, change(old[0], old[1], rest[0]))
		done := make(chan error, 1)
		go func() { done <- b.cl.AbortChange(b.ctx, "m", 0) }()
		b.Until(time.Minute, "another one begins", func() bool { return change(old[0], old[1], rest[1]) == nil })
		begun.Store(true)
		require.NoError(b, <-done)
		require.NotNil(b, b.inCatalog("m").Change)
	})
}

// M3, M6: a node that hangs, a member or not, does not keep a live writer from going over to the next config: it is
// not taken for gone, and keeps its epoch.
func TestM3_WriterMovesThoughANodeHangs(t *testing.T) {
	gone := func(_ int, o *journalnode.Options) { o.WriterGoneAfter = 3 * time.Second }
	run(t, testcluster.Options{Nodes: 5, Tune: gone}, func(b *bed) {
		old := b.filled()
		rest := b.others(old)
		w, err := b.cl.OpenWriter(b.ctx, "m", libqjm.WriterOptions{})
		require.NoError(b, err)
		epoch := w.Epoch()
		stop := b.load(w, 1)
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			if c.From == "client" && c.To == rest[1] {
				return memnet.Hang
			}
			return memnet.Deliver
		})
		_, err = b.cl.ChangeMembers(b.ctx, "m", []string{old[0], old[1], rest[0]}, libqjm.ChangeOptions{})
		require.NoError(b, err)
		require.NoError(b, b.cl.WaitForChange(b.ctx, "m", nil))
		_, err = w.Append(b.ctx, []byte("x"))
		require.NoError(b, err)
		stop()
		require.Equal(b, epoch, w.Epoch())
		require.NoError(b, w.Close(b.ctx))
	})
}
