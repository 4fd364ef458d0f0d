package libqjm

import (
	"cmp"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// applyQueue is what is committed and not applied yet, in order. The writer puts batches into it; they are applied, and
// only then are their callers woken.
//
// Who applies: while that is quick, whoever heard of the commit, at once (applyHere), for another goroutine would have to be
// woken for each frame, which costs more than most state machines do. Else the replica's own goroutine: the channel
// of a node must not wait for long, and the next frame goes out meanwhile.
type applyQueue struct {
	news  chan struct{} // one place: there is something to do for the replica's goroutine
	quick atomic.Bool   // applying was quick the last time

	turn   turn                 // whoever holds it may touch the state machine; taken before Writer.mu, never under it
	apply  func(b *batch) error // nil: the replica does not serve, or has failed
	in     *intake              // which has room again for what is applied
	here   bool                 // others than the replica's goroutine may apply
	failed error                // what apply returned

	mu      sync.Mutex
	batches []*batch
	closed  error // why nobody takes any more
}

// quickMax is how long applying what is committed may take on a node's channel: a few times as long as a frame is under way.
const quickMax = time.Millisecond

func newApplyQueue() *applyQueue {
	return &applyQueue{news: make(chan struct{}, 1), turn: make(turn, 1)}
}

// ErrNotApplied: the proposal is committed, but this replica has failed, and does not apply it; others do.
var ErrNotApplied = errors.New("libqjm: the proposal is committed, and not applied by this replica")

// put adds batches that are committed; it does not keep the slice. It is called with Writer.mu held; applyHere or wake has
// to follow.
func (q *applyQueue) put(done []*batch) {
	q.mu.Lock()
	closed := q.closed
	if closed == nil {
		q.batches = append(q.batches, done...)
	}
	q.mu.Unlock()
	if closed != nil {
		refuse(done, closed)
	}
}

// serve has batches applied, until leave. here: by any goroutine.
func (q *applyQueue) serve(in *intake, apply func(*batch) error, here bool) {
	q.turn.take()
	defer q.turn.give()
	q.in, q.apply, q.here = in, apply, here
}

// inTurn calls with turn held.
func (q *applyQueue) inTurn(do func() error) error {
	q.turn.take()
	defer q.turn.give()
	return do()
}

// leave returns when the state machine is the replica's goroutine's alone, and tells what it failed with.
func (q *applyQueue) leave() error {
	q.turn.take()
	defer q.turn.give()
	q.apply = nil
	return q.failed
}

// applyHere applies what waits, if that is quick, and nobody else is at it. It reports false where the replica's goroutine has to
// be woken: whoever is at it may have looked before the last put.
func (q *applyQueue) applyHere() bool {
	if !q.quick.Load() || !q.turn.try() {
		return false
	}
	defer q.turn.give()
	return q.drain() == nil
}

// drain applies what waits. The caller holds turn. It fails with what stopped the state machine, now or before.
func (q *applyQueue) drain() error {
	if q.apply == nil {
		return cmp.Or(q.failed, errNotServing)
	}
	all := q.take()
	if len(all) == 0 {
		return nil
	}
	took := time.Duration(0)
	for i, b := range all {
		began := time.Now()
		if err := q.apply(b); err != nil {
			q.apply, q.failed = nil, err
			q.mu.Lock()
			q.batches = append(all[i:], q.batches...) // close answers them, once the replica has said why it fails
			q.mu.Unlock()
			return err
		}
		took += time.Since(began)
		b.finish()
		q.in.applied(b)
	}
	q.quick.Store(q.here && took <= quickMax)
	return nil
}

// errNotServing: nothing is applied from the queue yet, or any more.
var errNotServing = errors.New("libqjm: the replica does not serve")

// wake has the replica look: at batches, or at the writer's epoch.
func (q *applyQueue) wake() {
	select {
	case q.news <- struct{}{}:
	default:
	}
}

func (q *applyQueue) take() []*batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.batches
	q.batches = nil
	return all
}

// close answers what waits, and all that comes.
func (q *applyQueue) close(why error) {
	q.mu.Lock()
	q.closed = why
	q.mu.Unlock()
	refuse(q.take(), why)
}

func refuse(all []*batch, why error) {
	for _, b := range all {
		b.err = why
		b.finish()
	}
}
