package libqjm

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

// batch is what is gathered into one frame. All callers of one batch wait on one channel.
type batch struct {
	b     segments.Builder
	first TxID
	count int
	bytes int // of its transactions
	done  chan struct{}
	err   error // set before done is closed
	flown bool  // handed to the core: bound to its txids (W6); guarded by Writer.mu
	frame segments.Frame

	outs []outcome // of a replica: what its transactions came to, in order; nil: nothing to tell; set before done is closed

	crowd crowd
}

// finish tells everybody who waits that the outcome is known.
func (b *batch) finish() {
	close(b.done)
	if b.crowd.any != nil { // nobody joins any more: no batch is finished that still takes transactions
		b.crowd.once.Do(func() { close(b.crowd.any) })
	}
}

// Future is an append under way. The zero Future is of no use.
type Future struct {
	w     *Writer
	head  *batch // what its first transaction is in
	b     *batch // what its last one is in
	first TxID
	last  TxID
	full  bool // a full batch was there behind it
}

// Done is closed when the outcome is known.
func (f Future) Done() <-chan struct{} { return f.b.done }

// Wait waits for the outcome. It returns the last txid of what was appended, or an *AppendError. Where
// the context ends first the append goes on, and the error says that it may have committed.
func (f Future) Wait(ctx context.Context) (TxID, error) {
	select {
	case <-f.b.done:
	default:
		select {
		case <-f.b.done:
		case <-ctx.Done():
			return 0, &AppendError{Handed: true, First: f.first, Last: f.last, Err: f.w.waitsFor(context.Cause(ctx))}
		}
	}
	if f.b.err != nil {
		if !f.head.flown { // nothing of it was handed over: frames leave in order
			return 0, &AppendError{Err: f.b.err}
		}
		return 0, &AppendError{Handed: true, First: f.first, Last: f.last, Err: f.b.err}
	}
	return f.last, nil
}

// Append appends one transaction and returns its txid when it is committed: synced on a majority. The
// bytes are copied before it returns. See MayHaveCommitted for what an error means.
func (w *Writer) Append(ctx context.Context, txn []byte) (TxID, error) {
	var p seat
	f, err := w.add(ctx, &p, nil, txn)
	if err != nil {
		return 0, err
	}
	w.in.awaitWith(ctx, f.b, p)
	return f.Wait(ctx)
}

// AppendBatch appends several transactions, in order, with nothing of other callers between them, and
// returns the first and last txid when all are committed. Together they are at most WriterOptions.QueueBytes
// long, else it fails with ErrTooLarge. They may be spread over several frames: after
// a crash of the writer, a part of them from the front may be there without the rest.
func (w *Writer) AppendBatch(ctx context.Context, txns [][]byte) (first, last TxID, err error) {
	f, err := w.AppendBatchAsync(ctx, txns)
	if err != nil {
		return 0, 0, err
	}
	if last, err = f.Wait(ctx); err != nil {
		return 0, 0, err
	}
	return f.first, last, nil
}

// AppendAsync hands one transaction over and returns at once, unless the queue is full: then it waits
// for room until the context ends. The bytes are copied before it returns. Transactions get txids in
// the order of the calls.
func (w *Writer) AppendAsync(ctx context.Context, txn []byte) (Future, error) {
	return w.add(ctx, nil, nil, txn)
}

// AppendBatchAsync is AppendBatch without the wait for the outcome. The future is done when the last of
// the transactions is; all before it are committed then, too.
func (w *Writer) AppendBatchAsync(ctx context.Context, txns [][]byte) (Future, error) {
	return w.add(ctx, nil, nil, txns...)
}

// add puts transactions into the batch being filled. Nothing has been handed to a node when it returns
// an error, so each error is a definite refusal, and uses up no txid (W6). p, where not nil, becomes the caller's seat among those
// who wait; head is intake.add's.
func (w *Writer) add(ctx context.Context, p *seat, head []byte, txns ...[]byte) (Future, error) {
	size, err := w.check(len(head), txns)
	if err != nil {
		return Future{}, &AppendError{Err: err}
	}
	f, err := w.in.add(ctx, size, p, head, txns)
	if err != nil {
		return Future{}, &AppendError{Err: err}
	}
	f.w = w
	if h := w.hungry.Load(); h == forAny || h == forFull && f.full {
		if w.hungry.CompareAndSwap(h, sated) {
			w.feed()
		}
	}
	return f, nil
}

// What the write path waits for.
const (
	sated   int32 = iota // nothing: frames are under way, and it looks when they are committed
	forAny               // a transaction
	forFull              // a full frame
)

// feed has the write path take what callers left. Whoever set hungry to sated calls it. Where several appended lately,
// they were all woken by one commit and are about to come again: one more turn of the scheduler, and they go into
// one frame. A single caller has nobody to wait for.
func (w *Writer) feed() {
	if w.crowd.Load() > 1 {
		w.makeWay()
	}
	w.mu.Lock()
	w.step()
	out := w.direct()
	w.mu.Unlock()
	out.send()
}

// noteQuota tells the intake to refuse what would only wait: no majority takes new frames. Nodes say with each
// answer whether the journal has its quota there, so most of the time it is known before a txid is used; what was
// under way when it was reached waits, like on a full disk. The caller holds mu.
func (w *Writer) noteQuota() {
	if err := w.overQuota(); err != nil || w.refusing {
		w.refusing = err != nil
		w.in.setQuota(err)
	}
}

// overQuota is why new transactions are refused for now, or nil. The caller holds mu.
func (w *Writer) overQuota() error {
	nodes := w.core.OverQuota()
	if len(nodes) == 0 {
		return nil
	}
	return fmt.Errorf("%w on %s: purge its log (save a snapshot), or raise the quota", ErrQuota, joinIDs(nodes))
}

// waitsFor adds to the end of a context what the append was waiting for, where that is known.
func (w *Writer) waitsFor(cause error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.overQuota(); err != nil {
		return fmt.Errorf("%w (%w)", err, cause)
	}
	return cause
}

func joinIDs(ids []quorum.NodeID) string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = string(id)
	}
	return strings.Join(out, ", ")
}

func (w *Writer) check(head int, txns [][]byte) (size int, err error) {
	if len(txns) == 0 {
		return 0, ErrEmpty
	}
	for _, t := range txns {
		if head+len(t) == 0 {
			return 0, ErrEmpty
		}
		if head+len(t) > w.opts.MaxTxnBytes {
			return 0, fmt.Errorf("%w: transaction of %d bytes, the limit is %d", ErrTooLarge, head+len(t), w.opts.MaxTxnBytes)
		}
		size += head + len(t)
	}
	// The queue takes one transaction of the largest size when it is empty, and no batch beyond it: there
	// would never be room, and taken whole it would make the bound none (W7).
	if limit := max(w.opts.QueueBytes, w.opts.MaxTxnBytes); size > limit {
		return 0, fmt.Errorf("%w: batch of %d bytes, the queue takes %d", ErrTooLarge, size, limit)
	}
	return size, nil
}

// advance moves the write path along after anything changed, and wakes the channels. The caller holds mu.
func (w *Writer) advance() {
	w.step()
	w.kick()
}

// step completes committed batches, rolls, and makes frames of what callers left, while frames may go out. The
// caller holds mu, and has what is next sent.
func (w *Writer) step() {
	if w.over() || w.reopening {
		return
	}
	w.complete()
	w.rollOn()
	if w.over() { // the next segment may need nodes that the last one did not
		return
	}
	w.noteQuota()
	for w.mayFly() {
		onlyFull, hungry := len(w.flying) > 0, forAny
		if onlyFull {
			hungry = forFull
		}
		if b := w.in.take(onlyFull); b != nil {
			w.seal(b)
			continue
		}
		if !w.goHungry(hungry) {
			return // the next one to add comes by itself
		}
	}
	w.hungry.Store(sated)
}

// goHungry says what the write path waits for, after it found none of it, and reports whether there is some now after
// all: who added between the two saw it sated, and left its transactions to us. The order is add's reversed: there
// the transaction is left first, and hungry looked at then.
func (w *Writer) goHungry(hungry int32) (again bool) {
	w.hungry.Store(hungry)
	return w.in.has(hungry == forFull) && w.hungry.CompareAndSwap(hungry, sated)
}

// over ends the writer with its core, and reports whether it has ended. The caller holds mu.
func (w *Writer) over() bool {
	if err := w.core.Err(); w.err == nil && err != nil && !w.mayReopen(err) {
		w.end(err)
	}
	return w.err != nil
}

// mayFly: a batch may become a frame, if it is full or none is under way. So a single caller never waits, and many
// gather behind the frame under way: one sync for all of them, where two frames would take two.
func (w *Writer) mayFly() bool {
	return w.err == nil && len(w.flying) < w.opts.FramesInFlight && w.core.Writing() && !w.core.Full()
}

// seal encodes a batch, once, and hands it to the core.
func (w *Writer) seal(b *batch) {
	f, err := b.b.Seal(w.core.Last().Digest, segments.SealOptions{Compress: w.opts.Compress})
	if err == nil {
		err = b.err
	}
	if err == nil {
		err = w.core.Add(f)
	}
	if err != nil { // not reachable by input: every bound was checked when it was added
		b.err = err
		b.finish()
		w.end(fmt.Errorf("libqjm: sealing a frame: %w", err))
		return
	}
	b.flown, b.frame = true, f
	w.flying = append(w.flying, b)
	w.frameAfterFloor()
	if w.opened.IsZero() {
		w.opened = time.Now()
	}
	if w.core.SegmentBytes() >= w.opts.SegmentBytes && !w.rolling {
		w.rolling = w.core.Roll()
	}
}

// landed takes what is committed from the frames under way, and adds it to done. The caller holds mu.
func (w *Writer) landed(done []*batch) []*batch {
	committed := w.core.Committed().TxID
	n := 0
	for n < len(w.flying) && w.flying[n].last() <= committed {
		w.crowd.Store(int64(w.flying[n].count))
		n++
	}
	if n > 0 {
		done = append(done, w.flying[:n]...)
		w.flying = slices.Delete(w.flying, 0, n)
		w.changed()
	}
	return done
}

// complete wakes the callers of everything that is committed. The caller holds mu.
func (w *Writer) complete() {
	var some [landing]*batch
	w.committed(w.landed(some[:0]))
}

// landing is how many frames may be committed at once without memory being asked for.
const landing = 8

// committed tells the callers of batches that are; or leaves them to the replica, which applies them first. The caller
// holds mu.
func (w *Writer) committed(done []*batch) {
	if w.opts.sink == nil {
		finish(done)
	} else if len(done) > 0 {
		w.opts.sink.put(done)
		w.opts.sink.wake()
	}
}

func finish(done []*batch) {
	for _, b := range done {
		b.finish()
	}
}

// land wakes the callers of what is committed, and lets go of mu meanwhile. Who is woken is about to append again, and
// takes both the processor and the lock: where enough waits already, it leaves first, and nodes are busy while
// callers run; otherwise, callers go first, so that all they bring goes into one frame and is synced at
// once, see feed. The caller holds mu.
func (w *Writer) land() {
	if w.reopening || w.err != nil || len(w.flying) == 0 {
		return
	}
	var some [landing]*batch
	alone := w.flying[0].count == 1 && w.in.empty()
	done := w.landed(some[:0])
	sink := w.opts.sink
	switch {
	case len(done) == 0:
		return
	case sink != nil:
		sink.put(done)
	case alone:
		finish(done)
		return
	}
	w.mu.Unlock()
	defer w.mu.Lock()
	if sink == nil {
		finish(done)
	} else if !sink.applyHere() {
		sink.wake() // applying takes long: the next frame does not wait for it
		return
	}
	if !alone {
		w.makeWay()
	}
}

// makeWay lets other goroutines run: those who were just woken and will append again.
func (w *Writer) makeWay() {
	for n := min(w.crowd.Load(), wayMax); n > 0; n -= wayOf {
		runtime.Gosched()
	}
}

// wayOf is how many goroutines run before one that makes way has its turn again: so often the scheduler looks at those
// who wait for any processor. wayMax bounds for how many it is done.
const (
	wayOf  = 61
	wayMax = 4 * wayOf
)

// rollOn starts the next segment once the last is finalized on a majority (W8).
func (w *Writer) rollOn() {
	if !w.rolling {
		return
	}
	if _, done := w.core.Finished(); !done {
		return
	}
	w.rolling = false
	w.rolls++
	w.opened = time.Time{}
	if !w.closing || !w.in.empty() {
		w.core.OpenNext()
	}
	w.changed()
}

// changed wakes whoever awaits something.
func (w *Writer) changed() {
	if w.moved != nil {
		close(w.moved)
		w.moved = nil
	}
}

// end fails everything that waits. Batches that were handed to the core may have committed; the others
// have not. The caller holds mu.
func (w *Writer) end(err error) {
	if w.err != nil {
		return
	}
	w.err = err
	if w.ended != nil {
		close(w.ended)
	}
	for _, b := range slices.Concat(w.flying, w.in.takeAll(err)) {
		b.err = err
		b.finish()
	}
	w.flying = nil
	w.changed()
	w.kick()
}

func (b *batch) last() TxID { return b.first + TxID(b.count) - 1 }
