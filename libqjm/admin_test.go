package libqjm_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

func (b *bed) stateOf(node int, journal string) string {
	b.Helper()
	st, err := b.cl.Status(b.ctx, journal)
	require.NoError(b, err)
	return st.Nodes[node].State
}

func TestCreate_NodeThatWasDownGetsTheJournalLater(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		b.StopNode(2)
		require.NoError(b, b.cl.CreateJournal(b.ctx, "k"))
		b.StartNode(2)
		b.Until(time.Minute, "n3 has it, without any writer", func() bool { return b.stateOf(2, "k") == "in-sync" })
	})
}

func TestCreate_NodeThatWasDownGetsTheJournalFromTheWriter(t *testing.T) {
	run(t, testcluster.Options{Tune: noRepair}, func(b *bed) {
		b.StopNode(2)
		require.NoError(b, b.cl.CreateJournal(b.ctx, "k"))
		w, err := b.cl.OpenWriter(b.ctx, "k", libqjm.WriterOptions{})
		require.NoError(b, err)
		_, err = w.Append(b.ctx, text(1))
		require.NoError(b, err)
		b.StartNode(2)
		b.inSync(w, "n3")
		b.holds(w, "n3", 1)
	})
}

func TestDelete_NodeThatWasDownLearnsTheTombstone(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.writeFinal(w, 1, 3)
		require.NoError(b, w.Close(b.ctx))
		b.StopNode(2)
		require.NoError(b, b.cl.DeleteJournal(b.ctx, "j"))
		b.StopNode(0)
		b.StopNode(1)
		b.StartNode(2) // it knows nothing of the deletion yet
		n3, err := b.Net.Dialer("client").Dial("n3")
		require.NoError(b, err)
		js, err := n3.Journals(b.ctx)
		require.NoError(b, err)
		require.Len(b, js, 1)
		require.False(b, js[0].Deleted)
		b.StartNode(0)
		b.StartNode(1) // a majority has it: only then is it in force (M2)
		b.Until(time.Minute, "n3 has the tombstone", func() bool {
			js, err := n3.Journals(b.ctx)
			return err == nil && len(js) == 1 && js[0].Deleted
		})
		names, err := b.Disks[2].List(b.JournalDir(2) + "/segments")
		require.NoError(b, err)
		require.Empty(b, names, "the data is gone")
	})
}

func TestDelete_NodeThatNeverHadItLearnsTheTombstone(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		b.StopNode(2)
		require.NoError(b, b.cl.CreateJournal(b.ctx, "k"))
		require.NoError(b, b.cl.DeleteJournal(b.ctx, "k"))
		b.StartNode(2)
		n3, err := b.Net.Dialer("client").Dial("n3")
		require.NoError(b, err)
		b.Until(time.Minute, "n3 keeps the name, too", func() bool {
			js, err := n3.Journals(b.ctx)
			return err == nil && len(js) == 2 && js[1].Deleted
		})
	})
}

// M8: when the empty config is in force the name is free, and the next journal of that name is another one:
// nobody who held the old one gets into it.
func TestM8_TheNameIsFree(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 3)
		b.knows(3)
		follow, err := b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{Follow: true, From: 4})
		require.NoError(b, err)
		other := b.ClientWith(libqjm.Options{}) // it knows the name, and is not told
		_, err = other.Status(b.ctx, "j")
		require.NoError(b, err)
		require.NoError(b, b.cl.DeleteJournal(b.ctx, "j"))
		_, err = b.cl.OpenWriter(b.ctx, "j", libqjm.WriterOptions{})
		require.ErrorIs(b, err, libqjm.ErrNoJournal)
		_, err = b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{})
		require.ErrorIs(b, err, libqjm.ErrNoJournal)
		require.ErrorIs(b, b.cl.DeleteJournal(b.ctx, "j"), libqjm.ErrNoJournal)
		js, err := b.cl.Journals(b.ctx)
		require.NoError(b, err)
		require.Empty(b, js)

		require.NoError(b, b.cl.CreateJournal(b.ctx, "j"))
		next := b.writer()
		b.writeFinal(next, 1, 2)
		_, err = follow.Next(b.within(time.Minute))
		require.ErrorIs(b, err, libqjm.ErrJournalDeleted, "a reader that follows is told")
		_, err = w.Append(b.within(time.Minute), text(4))
		require.ErrorIs(b, err, libqjm.ErrJournalDeleted)
		st, err := other.Status(b.ctx, "j")
		require.NoError(b, err)
		require.True(b, st.Quorum)
		require.Equal(b, upTo(1, 2), b.read(libqjm.ReaderOptions{}))
		// So it is after a restart of all nodes.
		require.NoError(b, next.Close(b.ctx))
		for i := range b.Nodes {
			b.KillNode(i)
		}
		for i := range b.Nodes {
			b.StartNode(i)
		}
		require.ErrorIs(b, b.cl.CreateJournal(b.ctx, "j"), libqjm.ErrJournalExists)
		require.Equal(b, upTo(1, 2), b.read(libqjm.ReaderOptions{}))
	})
}

func TestDelete_ReaderInTheMiddle(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.writeFinal(w, 1, 3)
		b.writeFinal(w, 4, 6)
		r, err := b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{})
		require.NoError(b, err)
		require.NoError(b, b.cl.DeleteJournal(b.ctx, "j"))
		_, err = r.Next(b.within(time.Minute))
		require.ErrorIs(b, err, libqjm.ErrJournalDeleted)
	})
}

func TestAdmin_UnknownJournalAndBadNames(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		_, err := b.cl.OpenWriter(b.ctx, "nope", libqjm.WriterOptions{})
		require.ErrorIs(b, err, libqjm.ErrNoJournal)
		_, err = b.cl.OpenReader(b.ctx, "nope", libqjm.ReaderOptions{})
		require.ErrorIs(b, err, libqjm.ErrNoJournal)
		_, err = b.cl.Fence(b.ctx, "nope")
		require.ErrorIs(b, err, libqjm.ErrNoJournal)
		_, err = b.cl.Recover(b.ctx, "nope")
		require.ErrorIs(b, err, libqjm.ErrNoJournal)
		require.ErrorIs(b, b.cl.DeleteJournal(b.ctx, "nope"), libqjm.ErrNoJournal)
		_, err = b.cl.Segments(b.ctx, "nope")
		require.ErrorIs(b, err, libqjm.ErrNoJournal)
		require.ErrorIs(b, b.cl.CreateJournal(b.ctx, "a/b"), libqjm.ErrBadRequest)
		require.ErrorIs(b, b.cl.CreateJournal(b.ctx, ""), libqjm.ErrBadRequest)
	})
}

func TestFence_StopsTheWriterAndNobodyElse(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 3)
		e, err := b.cl.Fence(b.ctx, "j")
		require.NoError(b, err)
		require.Equal(b, w.Epoch()+1, e)
		_, err = w.Append(b.ctx, text(4))
		require.ErrorIs(b, err, libqjm.ErrFenced)
		require.True(b, libqjm.MayHaveCommitted(err), "a node that the fence has not reached yet may hold it")
		w = b.writer()
		require.Contains(b, upTo(4, 5), w.FirstTxID())
		require.Greater(b, w.Epoch(), e)
		b.write(w, w.FirstTxID(), w.FirstTxID())
	})
}

func TestRecover_IsIdempotentAndTellsWhatItFound(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		r, err := b.cl.Recover(b.ctx, "j")
		require.NoError(b, err)
		require.True(b, r.Empty)
		require.Zero(b, r.LastTx)
		w := b.writer()
		b.write(w, 1, 3)
		first, err := b.cl.Recover(b.ctx, "j")
		require.NoError(b, err)
		second, err := b.cl.Recover(b.ctx, "j")
		require.NoError(b, err)
		require.Equal(b, first.Digest, second.Digest)
		require.EqualValues(b, 3, second.LastTx)
		require.EqualValues(b, 1, second.Segment)
		require.Greater(b, second.Epoch, first.Epoch)
		require.NotEmpty(b, second.Sources)
	})
}

func TestStatus_TellsHowEachNodeStands(t *testing.T) {
	run(t, testcluster.Options{Tune: noRepair}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 3)
		b.knows(3)
		st, err := b.cl.Status(b.ctx, "j")
		require.NoError(b, err)
		require.True(b, st.Quorum)
		require.False(b, st.Degraded(), "%+v", st)
		require.Equal(b, w.Epoch(), st.Epoch)
		require.EqualValues(b, 3, st.Committed)
		require.EqualValues(b, 1, st.Segment)
		b.StopNode(2)
		b.writeFinal(w, 4, 6)
		st, err = b.cl.Status(b.ctx, "j")
		require.NoError(b, err)
		require.True(b, st.Quorum)
		require.True(b, st.Degraded())
		require.Equal(b, "unreachable", st.Nodes[2].State)
		require.NoError(b, w.Close(b.ctx))
		b.StartNode(2)
		require.Equal(b, "behind", b.stateOf(2, "j"))
	})
}

func TestJournals_ListsByName(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		require.NoError(b, b.cl.CreateJournal(b.ctx, "a"))
		require.NoError(b, b.cl.CreateJournal(b.ctx, "z"))
		b.StopNode(0)
		js, err := b.cl.Journals(b.ctx)
		require.NoError(b, err)
		require.Len(b, js, 3)
		require.Equal(b, []string{"a", "j", "z"}, []string{js[0].Name, js[1].Name, js[2].Name})
		require.Equal(b, []string{"n1", "n2", "n3"}, js[0].Members)
		b.StopNode(1)
		b.StopNode(2)
		_, err = b.cl.Journals(b.ctx)
		require.ErrorIs(b, err, libqjm.ErrNoQuorum)
	})
}

// TestDelete_EndsTheWriter: appends to a journal that was deleted under the writer fail, and say so.
func TestDelete_EndsTheWriter(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 3)
		require.NoError(b, b.cl.DeleteJournal(b.ctx, "j"))
		_, err := w.Append(b.within(time.Minute), text(4))
		require.ErrorIs(b, err, libqjm.ErrJournalDeleted)
		require.ErrorIs(b, w.Err(), libqjm.ErrJournalDeleted)
	})
}
