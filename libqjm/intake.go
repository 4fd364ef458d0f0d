package libqjm

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/quorumjournal/qjm/segments"
)

// intake is where callers leave transactions: batches that are not frames yet. It has a lock of its own,
// held for as long as it takes to copy a transaction, so that callers never wait while a frame is encoded,
// a reply is counted or thousands of them are woken. Where both are held, Writer.mu is taken first.
type intake struct {
	opts *WriterOptions

	mu       sync.Mutex
	epoch    Epoch         // of the frames to be built
	next     TxID          // the txid the next transaction gets
	batches  []*batch      // the last one is being filled
	queued   int           // bytes of their transactions
	appended int64         // bytes of transactions since the writer was opened
	hint     int           // how large frames were lately: the next will be about that
	refusal  error         // why nothing is taken any more; nil: it is
	quota    error         // why nothing is taken for now; nil: it is
	room     chan struct{} // closed when room was made; nil while nobody waits
}

// Sizes of the buffers that frames are built in.
const (
	frameHintMin = 512
	frameHintPad = 8 // a buffer is larger than the last frame by one part in so many, and shrinks as slowly
)

// add takes transactions, all or none, once there is room for them. Each has the head in front of it.
func (in *intake) add(ctx context.Context, size int, p *seat, head []byte, txns [][]byte) (f Future, err error) {
	for {
		in.mu.Lock()
		if err := in.refuses(); err != nil {
			in.mu.Unlock()
			return f, err
		}
		if in.queued == 0 || in.queued+size <= in.opts.QueueBytes {
			break // mu stays held
		}
		if in.room == nil {
			in.room = make(chan struct{})
		}
		room := in.room
		in.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return f, fmt.Errorf("%w (%d bytes wait, at most %d may): %w", ErrQueueFull, in.opts.QueueBytes, in.opts.QueueBytes, context.Cause(ctx))
		}
	}
	f.first = in.next
	for _, txn := range txns {
		f.b = in.fill(head, txn)
		if f.head == nil {
			f.head = f.b
		}
	}
	f.last, f.full = in.next-1, in.full()
	if p != nil {
		*p = f.b.crowd.join(ctx.Done())
	}
	in.appended += int64(size)
	in.mu.Unlock()
	return f, nil
}

func (in *intake) refuses() error {
	if in.refusal != nil {
		return in.refusal
	}
	return in.quota
}

// fill adds one transaction to the last batch, or to a new one. The caller holds mu.
func (in *intake) fill(head, txn []byte) *batch {
	size := len(head) + len(txn)
	var b *batch
	if n := len(in.batches); n > 0 {
		b = in.batches[n-1]
	}
	if b == nil || b.b.Size()+size > in.opts.FrameBytes && b.count > 0 || b.count >= segments.MaxFrameTxns {
		b = &batch{first: in.next, done: make(chan struct{})}
		b.b.Reuse(make([]byte, 0, max(frameHintMin, in.hint)))
		b.b.Reset(in.next, in.epoch)
		in.batches = append(in.batches, b)
	}
	if err := b.b.Add(head, txn); err != nil {
		// check has bounded it: the builder's own limits are far above. A batch that cannot take it
		// fails as a whole rather than losing one silently.
		b.err = err
	}
	b.count++
	b.bytes += size
	in.queued += size
	in.next++
	return b
}

// full reports whether the oldest batch takes no more. The caller holds mu.
func (in *intake) full() bool {
	return len(in.batches) > 1 || len(in.batches) == 1 && in.batches[0].b.Size() >= in.opts.FrameBytes
}

// take returns the oldest batch, which nobody adds to any more, or nil: there is none, or none that is full.
func (in *intake) take(onlyFull bool) *batch {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.batches) == 0 || onlyFull && !in.full() {
		return nil
	}
	b := in.batches[0]
	in.batches = slices.Delete(in.batches, 0, 1)
	if in.opts.sink == nil {
		in.queued -= b.bytes
	}
	in.hint = min(max(b.b.Size()+b.b.Size()/frameHintPad, in.hint-in.hint/frameHintPad), in.opts.FrameBytes)
	in.makeRoom()
	return b
}

// applied makes the room of a batch that a replica has applied: until then it counts as waiting, so that a slow state
// machine holds its proposers back.
func (in *intake) applied(b *batch) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.refusal == nil {
		in.queued -= b.bytes
	}
	in.makeRoom()
}

// takeAll returns all batches, and refuses what comes from now on.
func (in *intake) takeAll(refusal error) []*batch {
	in.mu.Lock()
	defer in.mu.Unlock()
	all := in.batches
	in.batches, in.queued, in.refusal = nil, 0, refusal
	in.makeRoom()
	return all
}

func (in *intake) makeRoom() {
	if in.room != nil {
		close(in.room)
		in.room = nil
	}
}

// has reports whether take would return a batch.
func (in *intake) has(onlyFull bool) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.full() || !onlyFull && len(in.batches) > 0
}

func (in *intake) empty() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.batches) == 0
}

// refuse ends the intake; what was taken stays.
func (in *intake) refuse(err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.refusal == nil {
		in.refusal = err
	}
}

// setQuota refuses for now, or takes again where err is nil.
func (in *intake) setQuota(err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.quota = err
}

// bytes returns how many bytes of transactions were taken since the writer was opened.
func (in *intake) bytes() int64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.appended
}

// assigned returns the last txid given out.
func (in *intake) assigned() TxID {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.next - 1
}
