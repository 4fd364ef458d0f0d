package libqjm_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// cutOff deletes the journal, and lets what goes to all but the first n nodes be lost.
func (b *bed) cutOff(n int) error {
	reached := map[string]bool{}
	for i := range n {
		reached[b.ID(i)] = true
	}
	b.Net.Fault(func(c memnet.Call) memnet.Verdict {
		if c.Method == "DeleteJournal" && !reached[c.To] {
			return memnet.Drop
		}
		return memnet.Deliver
	})
	defer b.Net.Fault(nil)
	return b.cl.DeleteJournal(b.ctx, "j")
}

func (b *bed) data(i int) []string {
	names, err := b.Disks[i].List(b.JournalDir(i) + "/segments")
	require.NoError(b, err)
	return names
}

// M8: a delete that reached one node only takes nothing along. It is shown; a writer that is opened
// undoes it, and that node comes back by itself, with its data.
func TestM8_CutOffDelete_WriterGoesOn(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.writeFinal(w, 1, 3)
		b.holds(w, "n1", 3)
		require.NoError(b, w.Close(b.ctx))
		require.ErrorIs(b, b.cutOff(1), libqjm.ErrNoQuorum)
		require.NotEmpty(b, b.data(0))
		require.Equal(b, "deleting", b.stateOf(0, "j"))
		js, err := b.cl.Journals(b.ctx)
		require.NoError(b, err)
		require.True(b, js[0].Deleting)
		require.False(b, js[0].Deleted)
		require.Equal(b, upTo(1, 3), b.read(libqjm.ReaderOptions{}), "readers go on")

		w = b.writer()
		b.writeFinal(w, 4, 6)
		b.Until(time.Minute, "n1 is back", func() bool { return b.stateOf(0, "j") != "deleting" })
		require.NoError(b, w.Close(b.ctx))
		b.StopNode(2)
		w = b.writer()
		b.writeFinal(w, 7, 9) // n1 counts again
		require.Equal(b, upTo(1, 9), b.read(libqjm.ReaderOptions{}))
		js, err = b.cl.Journals(b.ctx)
		require.NoError(b, err)
		require.False(b, js[0].Deleting || js[0].Deleted)
	})
}

// M8: deleted again, it is finished; the writer that there was is fenced.
func TestM8_CutOffDelete_FinishedByAnother(t *testing.T) {
	run(t, testcluster.Options{Tune: noRepair}, func(b *bed) {
		w := b.writer()
		b.writeFinal(w, 1, 3)
		require.ErrorIs(b, b.cutOff(1), libqjm.ErrNoQuorum)
		b.StopNode(2) // what is left is no quorum without the tombstone
		_, err := b.cl.OpenWriter(b.within(10*time.Second), "j", libqjm.WriterOptions{})
		require.Error(b, err)
		require.NoError(b, b.cl.DeleteJournal(b.ctx, "j"))
		require.Empty(b, b.data(0))
		require.Empty(b, b.data(1))
		require.ErrorIs(b, b.cl.DeleteJournal(b.ctx, "j"), libqjm.ErrJournalDeleted)
		_, err = w.Append(b.within(time.Minute), text(4))
		require.ErrorIs(b, err, libqjm.ErrJournalDeleted)
	})
}

// M8: the client dies when a majority has the tombstone, and nobody was told: the delete is in force. Nobody
// can write, and the nodes find out by themselves.
func TestM8_InForceAndNobodyWasTold(t *testing.T) {
	for name, opts := range map[string]testcluster.Options{"by peers": {}, "by a second delete": {Tune: noRepair}} {
		t.Run(name, func(t *testing.T) {
			run(t, opts, func(b *bed) {
				w := b.writer()
				b.writeFinal(w, 1, 3)
				b.holds(w, "n1", 3)
				b.holds(w, "n2", 3)
				var mu sync.Mutex
				asked := map[string]bool{}
				b.Net.Fault(func(c memnet.Call) memnet.Verdict {
					mu.Lock()
					defer mu.Unlock()
					again := asked[c.To]
					asked[c.To] = again || c.Method == "DeleteJournal"
					if c.Method == "DeleteJournal" && (again || c.To == "n3") {
						return memnet.Drop
					}
					return memnet.Deliver
				})
				require.NoError(b, b.cl.DeleteJournal(b.ctx, "j"), "a majority has the tombstone")
				b.Net.Fault(nil)
				require.NotEmpty(b, b.data(0))
				_, err := b.cl.OpenWriter(b.ctx, "j", libqjm.WriterOptions{})
				require.ErrorIs(b, err, libqjm.ErrJournalDeleted)
				if name == "by a second delete" {
					require.NoError(b, b.cl.DeleteJournal(b.ctx, "j"))
				}
				b.Until(time.Minute, "the data is gone", func() bool {
					return len(b.data(0))+len(b.data(1)) == 0 && (name != "by peers" || len(b.data(2)) == 0)
				})
				require.ErrorIs(b, b.cl.DeleteJournal(b.ctx, "j"), libqjm.ErrJournalDeleted)
			})
		})
	}
}
