package qjmtest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/libqjm/qjmtest"
)

// bed is a cluster in a bubble with a journal "j".
type bed struct {
	*testing.T
	*qjmtest.Cluster
}

func run(t *testing.T, f func(b bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f(bed{t, qjmtest.Start(t, qjmtest.Options{Journals: []string{"j"}})})
	})
}

func (b bed) writer(process string) *libqjm.Writer {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.T.Context(), time.Hour)
	defer cancel()
	w, err := b.Client(process).OpenWriter(ctx, "j", libqjm.WriterOptions{})
	require.NoError(b, err)
	return w
}

// try appends for so long.
func (b bed) try(w *libqjm.Writer, d time.Duration) error {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.T.Context(), d)
	defer cancel()
	_, err := w.Append(ctx, []byte("x"))
	return err
}

// txns returns how many transactions a linearizable reader finds.
func (b bed) txns(cl *libqjm.Client) int {
	b.Helper()
	r, err := cl.OpenReader(b.T.Context(), "j", libqjm.ReaderOptions{Linearizable: true})
	require.NoError(b, err)
	defer func() { require.NoError(b, r.Close()) }()
	n := 0
	for _, err := range r.All(b.T.Context()) {
		require.NoError(b, err)
		n++
	}
	return n
}

func took(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

func TestCut_AppendWaits(t *testing.T) {
	run(t, func(b bed) {
		w := b.writer("app")
		require.NoError(b, b.try(w, time.Second))
		heal := b.Cut("app")
		also := b.Cut("app")
		err := b.try(w, time.Minute)
		require.ErrorIs(b, err, context.DeadlineExceeded)
		require.True(b, libqjm.MayHaveCommitted(err))
		require.NoError(b, b.Client("other").CreateJournal(b.T.Context(), "k"), "others go on")
		heal()
		heal()
		require.Error(b, b.try(w, time.Minute), "it is cut off twice")
		done := make(chan error, 1)
		go func() { done <- b.try(w, time.Hour) }()
		synctest.Wait()
		require.Empty(b, done)
		also()
		require.NoError(b, <-done)
	})
}

func TestCut_Node(t *testing.T) {
	run(t, func(b bed) {
		w := b.writer("app")
		heal := b.Cut(b.NodeName(0))
		require.NoError(b, b.try(w, time.Minute))
		b.Cut(b.NodeName(1))
		require.Error(b, b.try(w, time.Minute), "no majority")
		heal()
		require.NoError(b, b.try(w, time.Minute))
		b.HealAll()
		heal()
		b.AwaitReady()
	})
}

func TestCutBetween(t *testing.T) {
	run(t, func(b bed) {
		w, other := b.writer("app"), b.Client("other")
		b.CutBetween("app", b.NodeName(0))
		require.NoError(b, b.try(w, time.Minute))
		b.CutBetween(b.NodeName(1), "app")
		require.Error(b, b.try(w, time.Minute))
		require.NoError(b, other.CreateJournal(b.T.Context(), "k"), "others reach all")
		b.HealAll()
		require.NoError(b, b.try(w, time.Minute))
	})
}

func TestCutOneWay(t *testing.T) {
	run(t, func(b bed) {
		w, cl := b.writer("app"), b.Client("app")
		for i := range b.Nodes() {
			b.CutOneWay(b.NodeName(i), "app")
		}
		require.Error(b, b.try(w, time.Minute), "it hears no answer")
		b.HealAll()
		require.Equal(b, libqjm.TxID(2), b.writer("other").FirstTxID(), "but all has arrived")
		for i := range b.Nodes() {
			b.CutOneWay("app", b.NodeName(i))
		}
		ctx, cancel := context.WithTimeout(b.T.Context(), time.Minute)
		defer cancel()
		require.Error(b, cl.CreateJournal(ctx, "k"))
		b.HealAll()
		b.CreateJournal("k") // it did not arrive: else the name would be taken
	})
}

func TestDelay(t *testing.T) {
	run(t, func(b bed) {
		w := b.writer("app")
		append1 := func() { require.NoError(b, b.try(w, time.Minute)) }
		append1()
		require.Zero(b, took(append1), "nothing takes time in a bubble")
		end := b.Delay("app", 10*time.Millisecond)
		require.Equal(b, 20*time.Millisecond, took(append1), "there and back")
		b.Delay("app", time.Millisecond)
		require.Equal(b, 22*time.Millisecond, took(append1))
		end()
		require.Equal(b, 2*time.Millisecond, took(append1))
		b.HealAll()
		b.DelayBetween("app", b.NodeName(0), time.Second)
		require.Zero(b, took(append1), "a majority does not wait for one")
		b.DelayBetween(b.NodeName(1), "app", time.Second)
		require.Equal(b, 2*time.Second, took(append1))
	})
}

func TestStall(t *testing.T) {
	run(t, func(b bed) {
		w := b.writer("app")
		require.NoError(b, b.try(w, time.Second))
		resume := b.Stall("app")
		done := make(chan error, 1)
		go func() { done <- b.try(w, time.Hour) }()
		<-time.After(time.Minute)
		require.Empty(b, done)
		require.NoError(b, b.Client("other").CreateJournal(b.T.Context(), "k"), "others go on")
		resume()
		require.NoError(b, <-done)
		b.Stall("app") // and the test can end
	})
}

// A process that hung is fenced meanwhile, and hears it when it goes on.
func TestStall_FencedMeanwhile(t *testing.T) {
	run(t, func(b bed) {
		w := b.writer("old")
		resume := b.Stall("old")
		next := b.writer("next")
		require.NoError(b, b.try(next, time.Second))
		require.NoError(b, w.Err())
		resume()
		require.ErrorIs(b, b.try(w, time.Minute), libqjm.ErrFenced)
	})
}

func TestKillProcess(t *testing.T) {
	run(t, func(b bed) {
		cl := b.Client("app")
		w, err := cl.OpenWriter(b.T.Context(), "j", libqjm.WriterOptions{})
		require.NoError(b, err)
		lease, err := cl.AcquireLease(b.T.Context(), "j", libqjm.LeaseOptions{Holder: "app"})
		require.NoError(b, err)
		b.KillProcess("app")
		require.Error(b, b.try(w, time.Minute))
		require.ErrorIs(b, cl.CreateJournal(b.T.Context(), "k"), libqjm.ErrClosed)
		require.False(b, lease.Valid())

		again := b.Client("app")
		require.NoError(b, again.CreateJournal(b.T.Context(), "k"))
		waited := took(func() {
			_, err = again.AcquireLease(b.T.Context(), "j", libqjm.LeaseOptions{Holder: "again"})
			require.NoError(b, err)
		})
		require.Greater(b, waited, libqjm.DefaultLeaseTTL/2, "it is not resigned")
		require.Less(b, waited, 2*libqjm.DefaultLeaseTTL, "and it expires")
		require.Error(b, b.try(w, time.Minute), "what was killed stays dead")
	})
}

func TestFaults_NothingAcknowledgedIsLost(t *testing.T) {
	run(t, func(b bed) {
		w := b.writer("app")
		for i := range 20 {
			require.NoError(b, b.try(w, time.Hour))
			b.CrashNode(i % 3)
			heal := b.Cut(b.NodeName((i + 1) % 3))
			b.StartNode(i % 3)
			heal()
		}
		require.Equal(b, 20, b.txns(b.Client("other")))
	})
}
