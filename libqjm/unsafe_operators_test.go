package libqjm_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorumloss"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// carryOutSteps is more than a plan of these tests has.
const carryOutSteps = 14

// lostThree is a journal of five of which three are lost, with 10 transactions that are on all of them.
func (b *bed) lostThree() {
	b.Helper()
	_, err := b.cl.CreateJournalWith(b.ctx, "k", libqjm.CreateOptions{Replicas: 5})
	require.NoError(b, err)
	w := b.writer()
	b.writeFinal(w, 1, 10)
	require.NoError(b, w.Close(b.ctx))
	b.settled(1, 10)
	b.loseForGood(2, 3, 4)
}

// cutAt applies a plan up to so many steps; true: it came to its end before.
func (b *bed) cutAt(digest string, steps int, o libqjm.RecoverOptions) bool {
	b.Helper()
	left := steps
	cl := b.ClientWith(libqjm.Options{Dialer: cutOff{b.Net.Dialer("client"), &left, true}})
	_, _, err := cl.RecoverQuorum(b.ctx, digest, o)
	if err != nil {
		require.ErrorIs(b, err, errCutOff)
	}
	return err == nil
}

func (b *bed) wholeAgain(members ...string) {
	b.Helper()
	require.Equal(b, members, b.membersOf("j"))
	require.Equal(b, upTo(1, 10), b.read(libqjm.ReaderOptions{Linearizable: true}))
	w := b.writer()
	b.write(w, 11, 12)
	require.NoError(b, w.Close(b.ctx))
}

// Another operator comes with another plan while the first one's is half carried out: it is made anew, outranks the
// first, and from then on nothing more is done of that.
func TestRecoverQuorum_AnotherOperator(t *testing.T) {
	for steps := 1; steps < carryOutSteps; steps += stride() {
		run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
			b.lostThree()
			first := b.planned()
			s, err := b.cl.Survey(b.ctx)
			require.NoError(b, err)
			skip := libqjm.RecoverOptions{Skip: []string{"k"}}
			second, err := libqjm.PlanRecovery(s, skip)
			require.NoError(b, err)
			require.Equal(b, first.Generation, second.Generation)
			if b.cutAt(first.Digest, steps, libqjm.RecoverOptions{}) {
				b.wholeAgain("n1", "n2")
				return
			}
			_, _, err = b.cl.RecoverQuorum(b.ctx, second.Digest, skip)
			require.ErrorIs(b, err, libqjm.ErrPlan, "%d steps of the first are done", steps)
			third := b.planned()
			if third.Empty() {
				_, _, err = b.cl.RecoverQuorum(b.ctx, first.Digest, libqjm.RecoverOptions{})
				require.NoError(b, err)
				b.wholeAgain("n1", "n2")
				return
			}
			require.Greater(b, third.Generation, first.Generation)
			_, _, err = b.cl.RecoverQuorum(b.ctx, third.Digest, libqjm.RecoverOptions{})
			require.NoError(b, err)
			_, _, err = b.cl.RecoverQuorum(b.ctx, first.Digest, libqjm.RecoverOptions{})
			require.ErrorIs(b, err, libqjm.ErrPlan, "%d steps of the first were done", steps)
			b.wholeAgain("n1", "n2")
		})
	}
}

// Two apply two plans at the same time: at most one goes through, and nobody is left where no plan can be made.
func TestRecoverQuorum_TwoAtOnce(t *testing.T) {
	for range 3 {
		run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
			b.lostThree()
			first := b.planned()
			s, err := b.cl.Survey(b.ctx)
			require.NoError(b, err)
			skip := libqjm.RecoverOptions{Skip: []string{"k"}}
			second, err := libqjm.PlanRecovery(s, skip)
			require.NoError(b, err)
			var errs [2]error
			var wg sync.WaitGroup
			wg.Go(func() { _, _, errs[0] = b.cl.RecoverQuorum(b.ctx, first.Digest, libqjm.RecoverOptions{}) })
			wg.Go(func() { _, _, errs[1] = b.cl.RecoverQuorum(b.ctx, second.Digest, skip) })
			wg.Wait()
			require.False(b, errs[0] == nil && errs[1] == nil)
			for _, err := range errs {
				if err != nil && !errors.Is(err, libqjm.ErrNoPlan) { // the other one's has a group down at that moment
					require.ErrorIs(b, err, libqjm.ErrPlan)
				}
			}
			_, _, err = b.cl.RecoverQuorum(b.ctx, b.planned().Digest, libqjm.RecoverOptions{})
			require.NoError(b, err)
			b.wholeAgain("n1", "n2")
		})
	}
}

// A survivor of the plan is lost, too, while it is carried out: the next plan does without it.
func TestRecoverQuorum_ASurvivorIsLostMeanwhile(t *testing.T) {
	for steps := 1; steps < carryOutSteps; steps += stride() {
		run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
			b.lostThree()
			first := b.planned()
			ended := b.cutAt(first.Digest, steps, libqjm.RecoverOptions{})
			b.StopNode(1)
			b.cl = b.Client()
			b.noLeader()
			if !ended {
				_, notes, err := b.cl.RecoverQuorum(b.ctx, first.Digest, libqjm.RecoverOptions{})
				over := slices.Contains(notes, "it was carried out before") // but for the last survivor's note of it
				require.True(b, over || err != nil, "it needs all its survivors")
			}
			b.recovered(b.planned())
			b.wholeAgain("n1")
			b.StartNode(1)
			b.Until(time.Minute, "it is told", func() bool { return b.Nodes[1].Ready() != nil })
			require.Equal(b, []string{"n1"}, b.membersOf("j"))
		})
	}
}

// M1, M3: a writer that knows only the old members, and reaches only the lost ones, which are a majority of these,
// is acknowledged nothing any more once they were told. The catalog has its majority throughout.
func TestRecoverQuorum_OldWriterMeetsTheLostOnes(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		_, err := b.cl.CreateJournalWith(b.ctx, "three", libqjm.CreateOptions{Replicas: 3})
		require.NoError(b, err)
		members := b.membersOf("three")
		writer := b.process("writer")
		w, err := writer.OpenWriter(b.ctx, "three", libqjm.WriterOptions{})
		require.NoError(b, err)
		_, _, err = w.AppendBatch(b.ctx, texts(1, 5))
		require.NoError(b, err)
		b.Until(time.Minute, "all have it", func() bool {
			st, err := b.cl.Status(b.ctx, "three")
			return err == nil && !slices.ContainsFunc(st.Nodes, func(n libqjm.NodeStatus) bool { return slices.Contains(members, n.Node) && n.Last != 5 })
		})
		lost := members[1:]
		for i := range b.Nodes {
			if !slices.Contains(lost, b.ID(i)) {
				b.Net.Partition(b.ID(i), "writer")
			}
		}
		for _, id := range lost {
			b.StopNode(b.index(id))
		}
		b.cl = b.Client()
		b.Until(time.Minute, "there is a leader", func() bool {
			_, err := b.cl.Catalog(b.within(time.Second), libqjm.Linearizable)
			return err == nil
		})
		p := b.planned()
		require.Nil(b, p.Group)
		require.Len(b, p.Forced(), 1)
		b.recovered(p)
		version := b.inCatalog("three").Config.Version
		require.Equal(b, members[:1], b.membersOf("three"))
		require.Equal(b, 5, b.count("three"))
		for _, id := range lost {
			b.StartNode(b.index(id))
		}
		b.Until(10*time.Second, "they find out", func() bool {
			for _, id := range lost {
				st, err := b.Nodes[b.index(id)].State(b.ctx, b.inCatalog("three").ID)
				if err != nil || st.Summary.Config.Version != version {
					return false
				}
			}
			return true
		})
		_, _, err = w.AppendBatch(b.within(time.Minute), texts(6, 7))
		require.Error(b, err)
		require.False(b, errors.Is(err, libqjm.ErrClosed))
		pass(2 * time.Minute) // the leader looks after everything meanwhile
		for _, id := range lost {
			page, err := b.Nodes[b.index(id)].Segments(b.ctx, rpc.SegmentsRequest{Journal: b.inCatalog("three").ID})
			require.NoError(b, err)
			require.NotEmpty(b, page.Segments, "what they hold is not removed")
		}
		again, err := b.cl.OpenWriter(b.ctx, "three", libqjm.WriterOptions{})
		require.NoError(b, err)
		_, _, err = again.AppendBatch(b.ctx, texts(6, 6))
		require.NoError(b, err)
		require.NoError(b, again.Close(b.ctx))
		require.Equal(b, 6, b.count("three"))
		require.Greater(b, uint64(again.Epoch()), uint64(quorumloss.Jump))
		_ = w.Close(b.within(time.Second)) // it is fenced, or finds nobody
	})
}

// L2: a node whose group was begun anew by a recovery renews leases as before.
func TestRecoverQuorum_LeasesAreRenewed(t *testing.T) {
	run(t, testcluster.Options{Nodes: 3}, func(b *bed) {
		b.loseForGood(1, 2)
		b.recovered(b.planned())
		l, err := b.cl.AcquireLease(b.ctx, "j", libqjm.LeaseOptions{Holder: "a", TTL: time.Second})
		require.NoError(b, err)
		pass(20 * time.Second)
		require.NoError(b, l.Err())
		require.True(b, l.Valid())
		require.NoError(b, l.Resign(b.ctx))
	})
}

// stride is how far apart the steps are that the tests cut a plan off at: each with all tests, some with the short ones.
func stride() int {
	if testing.Short() {
		return 3
	}
	return 1
}
