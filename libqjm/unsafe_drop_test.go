package libqjm_test

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorumloss"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// onOne makes a journal of one member, with something in it, and returns that member.
func (b *bed) onOne(name string) int {
	b.Helper()
	_, err := b.cl.CreateJournalWith(b.ctx, name, libqjm.CreateOptions{Replicas: 1})
	require.NoError(b, err)
	w, err := b.cl.OpenWriter(b.ctx, name, libqjm.WriterOptions{})
	require.NoError(b, err)
	_, _, err = w.AppendBatch(b.ctx, texts(1, 5))
	require.NoError(b, err)
	require.NoError(b, w.Close(b.ctx))
	return b.index(b.membersOf(name)[0])
}

func (b *bed) planDropping(names ...string) (*libqjm.RecoveryPlan, error) {
	b.Helper()
	s, err := b.cl.Survey(b.ctx)
	require.NoError(b, err)
	return libqjm.PlanRecovery(s, libqjm.RecoverOptions{Drop: names})
}

// Q8: a journal of which nothing is left is told as that, leaves the catalog where the operator names it, and its
// name can be used again. Its member comes back all the same: it serves nothing of it, and keeps what it holds.
func TestRecoverQuorum_LostWhole(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		i := b.onOne("one")
		id := b.inCatalog("one").ID
		_, err := b.planDropping("one")
		require.ErrorIs(b, err, libqjm.ErrNoPlan, "it is whole")
		b.StopNode(i)
		b.cl = b.Client()
		b.Until(time.Minute, "there is a leader", func() bool {
			_, err := b.cl.Catalog(b.within(time.Second), libqjm.Linearizable)
			return err == nil
		})
		p := b.planned()
		require.True(b, p.Empty())
		require.Equal(b, "one", p.LostWhole()[0].Name)
		p, err = b.planDropping("one")
		require.NoError(b, err)
		o := libqjm.RecoverOptions{Drop: []string{"one"}}
		_, _, err = b.cl.RecoverQuorum(b.ctx, p.Digest, libqjm.RecoverOptions{})
		require.ErrorIs(b, err, libqjm.ErrPlan, "it is asked for each time")
		_, notes, err := b.cl.RecoverQuorum(b.ctx, p.Digest, o)
		require.NoError(b, err)
		require.Empty(b, notes)
		_, _, err = b.cl.RecoverQuorum(b.ctx, p.Digest, o)
		require.NoError(b, err, "again")
		b.Until(time.Minute, "every copy of the catalog has it", func() bool {
			_, err = b.planDropping("one")
			return errors.Is(err, libqjm.ErrNoJournal)
		})

		_, err = b.cl.CreateJournalWith(b.ctx, "one", libqjm.CreateOptions{Replicas: 3})
		require.NoError(b, err)
		require.NotEqual(b, id, b.inCatalog("one").ID)
		w, err := b.cl.OpenWriter(b.ctx, "one", libqjm.WriterOptions{})
		require.NoError(b, err)
		_, _, err = w.AppendBatch(b.ctx, texts(1, 3))
		require.NoError(b, err)
		require.NoError(b, w.Close(b.ctx))

		b.StartNode(i)
		dir := filepath.Join(b.Dir(i), "journals", id.String())
		b.Until(time.Minute, "it is told", func() bool {
			_, err := b.Disks[i].Stat(filepath.Join(dir, "kept"))
			js, err2 := b.Nodes[i].Journals(b.ctx)
			return err == nil && err2 == nil && slices.ContainsFunc(js, func(j rpc.JournalSummary) bool { return j.ID == id && j.Deleted })
		})
		pass(time.Minute)
		b.StopNode(i)
		b.StartNode(i)
		names, err := b.Disks[i].List(filepath.Join(dir, "segments"))
		require.NoError(b, err)
		require.NotEmpty(b, names, "what it holds is kept")
		require.Equal(b, 3, b.count("one"))
	})
}

// Q8: a plan that was begun drops nothing that has come back since.
func TestRecoverQuorum_LostWholeComesBack(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		i := b.onOne("one")
		b.StopNode(i)
		b.cl = b.Client()
		p, err := b.planDropping("one")
		require.NoError(b, err)
		left := len(p.Survivors) // the plan is in writing, and no more
		cl := b.ClientWith(libqjm.Options{Dialer: cutOff{b.Net.Dialer("client"), &left, false}})
		_, _, err = cl.RecoverQuorum(b.ctx, p.Digest, libqjm.RecoverOptions{Drop: []string{"one"}})
		require.ErrorIs(b, err, errCutOff)
		b.StartNode(i)
		b.Until(time.Minute, "it is up", func() bool { return b.Nodes[i].Ready() == nil })
		_, _, err = b.cl.RecoverQuorum(b.ctx, p.Digest, libqjm.RecoverOptions{Drop: []string{"one"}})
		require.ErrorIs(b, err, libqjm.ErrPlan)
		require.Equal(b, 5, b.count("one"))
	})
}

// A delete that waits for members that are lost is ended by the same word.
func TestRecoverQuorum_DeleteOfALostJournal(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		i := b.onOne("one")
		b.StopNode(i)
		b.cl = b.Client()
		require.Error(b, b.cl.DeleteJournal(b.within(20*time.Second), "one"))
		require.True(b, b.inCatalog("one").Deleted)
		p, err := b.planDropping("one")
		require.NoError(b, err)
		require.Equal(b, quorumloss.Drop, p.Dropped()[0].Action)
		_, _, err = b.cl.RecoverQuorum(b.ctx, p.Digest, libqjm.RecoverOptions{Drop: []string{"one"}})
		require.NoError(b, err)
		require.NoError(b, b.cl.CreateJournal(b.ctx, "one"))
	})
}

// The catalog's group has lost its majority, too: what is dropped holds no lost node back, and the cluster is
// without these afterwards.
func TestRecoverQuorum_LostWholeAndTheGroup(t *testing.T) {
	run(t, testcluster.Options{Nodes: 3}, func(b *bed) {
		w := b.writer()
		b.writeFinal(w, 1, 10)
		require.NoError(b, w.Close(b.ctx))
		b.settled(1, 10)
		i := b.onOne("one")
		pass(3 * time.Second) // a follower hears a little later that "one" is in the catalog; it may be the survivor
		b.loseForGood(i, (i+1)%3)
		p, err := b.planDropping("one")
		require.NoError(b, err)
		require.NotNil(b, p.Group)
		require.Len(b, p.Forced(), 1)
		require.Len(b, p.Dropped(), 1)
		steps := 0
		for !b.cutAt(p.Digest, steps, libqjm.RecoverOptions{Drop: []string{"one"}}) { // each time one step further
			steps++
		}
		require.GreaterOrEqual(b, steps, 6)
		v, err := b.cl.Catalog(b.ctx, libqjm.Linearizable)
		require.NoError(b, err)
		require.Len(b, v.Nodes, 1)
		require.Len(b, v.Journals, 1)
		require.Equal(b, upTo(1, 10), b.read(libqjm.ReaderOptions{Linearizable: true}))
	})
}

// M8, Q9: those that a reset left out keep what they hold when they come back: it may be all that is left of what
// was acknowledged.
func TestResetPeers_ThoseLeftOutKeepTheirData(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		_, err := b.cl.CreateJournalWith(b.ctx, "three", libqjm.CreateOptions{Replicas: 3})
		require.NoError(b, err)
		members := b.membersOf("three")
		alone, others := members[0], members[1:]
		id := b.inCatalog("three").ID
		b.StopNode(b.index(alone)) // it misses what is acknowledged next
		w, err := b.cl.OpenWriter(b.ctx, "three", libqjm.WriterOptions{})
		require.NoError(b, err)
		_, _, err = w.AppendBatch(b.ctx, texts(1, 5))
		require.NoError(b, err)
		require.NoError(b, w.Close(b.ctx))
		for _, m := range others {
			b.StopNode(b.index(m))
		}
		b.StartNode(b.index(alone))
		b.cl = b.Client()
		b.Until(time.Minute, "there is a leader", func() bool {
			_, err := b.cl.Catalog(b.within(time.Second), libqjm.Linearizable)
			return err == nil
		})
		s, err := b.cl.Survey(b.ctx)
		require.NoError(b, err)
		r := libqjm.PeersReset{Journal: "three", Node: alone, Peers: []string{alone}}
		p, err := libqjm.PlanReset(s, r)
		require.NoError(b, err)
		_, err = b.cl.ResetPeers(b.ctx, r, p.Digest, libqjm.RecoverOptions{})
		require.NoError(b, err)
		b.Until(5*time.Minute, "the catalog adopts what is installed (M9)", func() bool { return len(b.membersOf("three")) == 1 })

		for _, m := range others {
			b.StartNode(b.index(m))
			b.Until(time.Minute, "it takes the config", func() bool {
				st, err := b.Nodes[b.index(m)].State(b.ctx, id)
				return err == nil && len(st.Summary.Config.Members()) == 1
			})
		}
		pass(time.Minute)
		for _, m := range others {
			names, err := b.Disks[b.index(m)].List(filepath.Join(b.Dir(b.index(m)), "journals", id.String(), "segments"))
			require.NoError(b, err)
			require.NotEmpty(b, names, "what %s holds is kept", m)
		}
	})
}
