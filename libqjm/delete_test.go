package libqjm_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// M2, M8: a delete that is in the catalog is decided. Until a majority of the members has the tombstone the
// name is taken; who is cut off on the way finds it finished, by the leader or by another delete.
func TestM8_CutOffDelete(t *testing.T) {
	for name, again := range map[string]bool{"finished by the leader": false, "by a second delete": true} {
		t.Run(name, func(t *testing.T) {
			run(t, testcluster.Options{}, func(b *bed) {
				w := b.writer()
				b.writeFinal(w, 1, 3)
				for i := range b.Nodes {
					b.holds(w, b.ID(i), 3)
				}
				b.Net.Fault(func(c memnet.Call) memnet.Verdict {
					if c.Method == "InstallConfig" { // between nodes; each tells itself
						return memnet.Drop
					}
					return memnet.Deliver
				})
				if err := b.cl.DeleteJournal(b.within(4*time.Second), "j"); err != nil {
					require.ErrorIs(b, b.cl.CreateJournal(b.within(4*time.Second), "j"), libqjm.ErrJournalDeleting)
				}
				b.Net.Fault(nil)
				if again {
					if err := b.cl.DeleteJournal(b.ctx, "j"); err != nil {
						require.ErrorIs(b, err, libqjm.ErrNoJournal)
					}
				}
				b.Until(time.Minute, "the name is free", func() bool {
					return b.cl.CreateJournal(b.ctx, "j") == nil
				})
				_, err := w.Append(b.within(time.Minute), text(4))
				require.ErrorIs(b, err, libqjm.ErrJournalDeleted)
			})
		})
	}
}

// The data plane needs no leader: journals are found, written, recovered and read with no majority for the
// catalog; only what changes it waits.
func TestCatalog_DataPlaneWithoutALeader(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		_, err := b.cl.CreateJournalWith(b.ctx, "three", libqjm.CreateOptions{Replicas: 3})
		require.NoError(b, err)
		st, err := b.cl.Status(b.ctx, "three")
		require.NoError(b, err)
		members := map[string]bool{}
		cat, err := b.cl.Catalog(b.ctx, libqjm.Linearizable)
		require.NoError(b, err)
		for _, j := range cat.Journals {
			for _, m := range j.Config.Members() {
				if j.Name == "three" {
					members[string(m.ID)] = true
				}
			}
		}
		require.Len(b, members, 3)
		require.True(b, st.Quorum)
		// Two members and nobody else: a majority of the journal, and none of the catalog.
		left := 2
		for i := range b.Nodes {
			if members[b.ID(i)] && left > 0 {
				left--
			} else {
				b.StopNode(i)
			}
		}
		cl := b.ClientWith(libqjm.Options{})
		for range 3 {
			w, err := cl.OpenWriter(b.ctx, "three", libqjm.WriterOptions{})
			require.NoError(b, err)
			_, err = w.Append(b.ctx, []byte("x"))
			require.NoError(b, err)
			require.NoError(b, w.Close(b.ctx))
		}
		err = cl.CreateJournal(b.within(30*time.Second), "other")
		require.ErrorIs(b, err, libqjm.ErrNoLeader)
		v, err := cl.Catalog(b.ctx, libqjm.Stale)
		require.NoError(b, err)
		require.Equal(b, libqjm.Stale, v.Strength)
		_, err = cl.Catalog(b.within(30*time.Second), libqjm.Linearizable)
		require.ErrorIs(b, err, libqjm.ErrNoLeader)
	})
}

// Appends go on while the catalog's leader is killed again and again.
func TestCatalog_LeaderKilledUnderLoad(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		next := libqjm.TxID(1)
		for range 6 {
			var leader int
			b.Until(time.Minute, "a leader", func() bool {
				for i := range b.Nodes {
					v, err := b.cl.Catalog(b.ctx, libqjm.LeaseRead)
					if err == nil && string(v.Leader) == b.ID(i) {
						leader = i
						return true
					}
				}
				return false
			})
			b.write(w, next, next+4)
			b.KillNode(leader)
			b.write(w, next+5, next+9)
			next += 10
			b.StartNode(leader)
			b.inSync(w, b.ID(leader))
		}
		require.NoError(b, w.Close(b.ctx))
		require.Equal(b, upTo(1, next-1), b.read(libqjm.ReaderOptions{}))
	})
}

// M8: the journal is deleted that had the name when the delete was asked for, not one that somebody has made under
// it before the request came.
func TestM8_DeleteIsOfTheJournalThatWasMeant(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		other := b.ClientWith(libqjm.Options{Dialer: b.Net.Dialer("other")})
		var asked atomic.Int32
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			if c.From == "client" && c.Method == "DropJournal" && asked.Add(1) == 1 {
				require.NoError(b, other.DeleteJournal(b.ctx, "j"))
				b.Until(time.Minute, "made anew", func() bool { return other.CreateJournal(b.ctx, "j") == nil })
				return memnet.LoseReply
			}
			return memnet.Deliver
		})
		require.NoError(b, b.cl.DeleteJournal(b.ctx, "j"))
		w, err := other.OpenWriter(b.within(time.Minute), "j", libqjm.WriterOptions{})
		require.NoError(b, err)
		require.NoError(b, w.Close(b.ctx))
	})
}

// A journal is not placed on a node that does not answer, while there are enough others.
func TestPlace_WhereNodesAnswer(t *testing.T) {
	run(t, testcluster.Options{Nodes: 4}, func(b *bed) {
		b.KillNode(0) // no journal but "j" is there: it would be among the first
		for _, name := range []string{"a", "b", "c"} {
			members, err := b.cl.CreateJournalWith(b.ctx, name, libqjm.CreateOptions{Replicas: 3})
			require.NoError(b, err)
			require.Equal(b, []string{"n2", "n3", "n4"}, members)
		}
		members, err := b.cl.CreateJournalWith(b.ctx, "d", libqjm.CreateOptions{Replicas: 4})
		require.NoError(b, err)
		require.Len(b, members, 4, "for want of others")
	})
}
