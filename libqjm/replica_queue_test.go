package libqjm

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/rpc"
)

// queued puts n batches into the queue, as the writer does.
func queued(q *applyQueue, n int) (all []*batch) {
	for range n {
		all = append(all, &batch{done: make(chan struct{}), count: 1, flown: true})
	}
	q.put(all)
	return all
}

// Whoever hears of a commit applies it where that was quick the last time, and nobody else is at it. A node's channel never
// waits for a slow state machine twice in a row, nor for its turn.
func TestApplyQueue_WhoApplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, took, order := newApplyQueue(), time.Duration(0), []*batch(nil)
		require.False(t, q.applyHere(), "the replica does not serve yet")
		apply := func(b *batch) error {
			time.Sleep(took)
			order = append(order, b)
			return nil
		}
		owner := func() { require.NoError(t, q.inTurn(q.drain)) }

		q.serve(&intake{}, apply, true)
		var want []*batch
		put := func(n int) { want = append(want, queued(q, n)...) }
		put(1)
		require.False(t, q.applyHere(), "nobody knows how long it takes")
		owner()
		put(2)
		require.True(t, q.applyHere())
		took = 2 * quickMax
		put(1)
		require.True(t, q.applyHere(), "it was quick until then")
		put(1)
		require.False(t, q.applyHere())
		took = 0
		owner()
		put(1)
		require.True(t, q.applyHere(), "it is quick again")
		put(1)
		require.NoError(t, q.inTurn(func() error {
			require.False(t, q.applyHere(), "somebody else is at it")
			return q.drain()
		}))
		require.Equal(t, want, order)
		for _, b := range want {
			<-b.done
			require.NoError(t, b.err)
		}

		q.leave()
		queued(q, 1)
		require.False(t, q.applyHere(), "the state machine is the replica's")
		q.serve(&intake{}, apply, false)
		owner()
		queued(q, 1)
		require.False(t, q.applyHere(), "digests are told by the owner")
	})
}

// What stopped the state machine on a node's channel stops the replica, and whoever waits hears that it is committed.
func TestApplyQueue_AFailureIsKept(t *testing.T) {
	q, fail := newApplyQueue(), error(nil)
	q.serve(&intake{}, func(*batch) error { return fail }, true)
	queued(q, 1)
	require.NoError(t, q.inTurn(q.drain))
	fail = errors.New("broken")
	all := queued(q, 2)
	require.False(t, q.applyHere(), "the replica has to be woken")
	fail = nil
	all = append(all, queued(q, 1)...)
	require.False(t, q.applyHere())
	require.ErrorContains(t, q.inTurn(q.drain), "broken")
	for _, b := range all {
		select {
		case <-b.done:
			t.Fatal("nobody is answered before the replica says why it fails")
		default:
		}
	}
	q.close(notApplied(q.leave()))
	for _, b := range all {
		<-b.done
		require.ErrorIs(t, b.err, ErrNotApplied)
		require.ErrorContains(t, b.err, "broken")
	}
}

// What is found to be committed when a writer goes on after it was moved (M3) is for the replica's goroutine: it is woken.
func TestApplyQueue_CommittedWhileTheWriterMoves(t *testing.T) {
	q := newApplyQueue()
	b := newBench(t, 3, WriterOptions{sink: q})
	f, err := b.AppendAsync(t.Context(), []byte("x"))
	require.NoError(t, err)
	at := b.flying[0].frame.Position()
	b.reopening = true
	b.answer(0, rpc.Synced, at)
	b.answer(1, rpc.Synced, at)
	require.Empty(t, q.news)
	b.mu.Lock()
	b.reopening = false
	b.advance()
	b.mu.Unlock()
	require.Len(t, q.news, 1)
	require.Equal(t, []*batch{f.b}, q.take())
}

// Nobody waits for ever for what comes when the queue is closed, or was there before.
func TestApplyQueue_Closed(t *testing.T) {
	q, why := newApplyQueue(), notApplied(errors.New("over"))
	all := queued(q, 2)
	q.close(why)
	all = append(all, queued(q, 2)...)
	for _, b := range all {
		<-b.done
		require.ErrorIs(t, b.err, ErrNotApplied)
	}
	require.Empty(t, q.take())
}
