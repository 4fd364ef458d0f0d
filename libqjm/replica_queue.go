package libqjm

import (
	"errors"
	"sync"
)

// proposal is what a caller of Propose waits for, besides its batch: what its transaction came to.
type proposal struct{ out outcome }

// applyQueue is what is committed and not applied yet, in order. The writer puts batches into it, the replica takes
// them, and only then are their callers woken.
type applyQueue struct {
	news chan struct{} // one place: there may be batches

	mu      sync.Mutex
	batches []*batch
	closed  error // why nobody takes any more
}

func newApplyQueue() *applyQueue { return &applyQueue{news: make(chan struct{}, 1)} }

// ErrNotApplied: the proposal is committed, but this replica has failed, and does not apply it; others do.
var ErrNotApplied = errors.New("libqjm: the proposal is committed, and not applied by this replica")

// put adds batches that are committed; it does not keep the slice. It is called with Writer.mu held.
func (q *applyQueue) put(done []*batch) {
	q.mu.Lock()
	closed := q.closed
	if closed == nil {
		q.batches = append(q.batches, done...)
	}
	q.mu.Unlock()
	if closed != nil {
		refuse(done, closed)
		return
	}
	q.wake()
}

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
