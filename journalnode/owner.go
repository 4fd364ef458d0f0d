package journalnode

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/semaphore"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/journal"
)

// owner runs one journal: whoever has its turn is the only one to call the journal's owner methods. That is the
// owner's own goroutine, which takes whatever has come together and lets the journal handle it with one sync; or,
// while nothing waits, the goroutine that received a message of a write stream: handed over, it would be handled
// no sooner, and each hand-over costs a wake-up.
type owner struct {
	j    *journal.Journal
	opts Options
	log  *slog.Logger

	opening rpc.Holding // fresh for each owner; see holding

	turn    chan struct{} // one place: full while somebody has the turn
	closed  bool          // the journal is; guarded by turn
	floorAt time.Time     // when the floor was written last; guarded by turn
	alone   [1]journal.Item

	tasks chan task
	bytes *semaphore.Weighted // frames that wait, up to QueueBytes (W7)

	stop    chan struct{}
	stopped chan struct{}
	once    sync.Once

	busySince  atomic.Int64 // unix nanoseconds when the work at hand began; 0: idle
	lastTook   atomic.Int64 // nanoseconds the last group commit took
	lastAt     atomic.Int64 // unix nanoseconds when it ended
	learnUntil atomic.Int64 // unix nanoseconds until which a node that is no member copies what is finalized (M6)
	writerAt   atomic.Int64 // unix nanoseconds when a writer was last heard; 0: nobody, or it has left
	kept       keptBy       // what the applied catalog says of its log and snapshots
	metrics    *metrics
}

// task is a message of a write stream, or anything else to do with the journal.
type task struct {
	item  journal.Item
	bytes int
	left  *atomic.Int64 // how many messages of the stream wait here; nil: nobody wants to know
	do    func(*journal.Journal)
}

// tasksMax bounds how many tasks are done as one group, and queuedMax how many wait; frames are bounded in bytes besides.
// The queue's room is there for every journal, also for those that nobody uses: 128 places are 21 KiB.
const (
	tasksMax  = 1024
	queuedMax = 128
)

func newOwner(j *journal.Journal, opts Options, log *slog.Logger, m *metrics) *owner {
	o := &owner{
		j: j, opts: opts, log: log, metrics: m, opening: rpc.Holding(uuid.New()),
		turn: make(chan struct{}, 1), floorAt: time.Now(),
		tasks: make(chan task, queuedMax), bytes: semaphore.NewWeighted(opts.QueueBytes),
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	o.kept.p.Store(&keeping{margin: opts.Retain}) // until the catalog says otherwise
	go o.run()
	return o
}

func (o *owner) run() {
	defer close(o.stopped)
	quiet := time.NewTimer(o.opts.QuietAfter)
	defer quiet.Stop()
	var group []task
	for {
		select {
		case t := <-o.tasks:
			o.begin()
			group = o.gather(t, group[:0])
			o.keepFloor()
			o.end()
			clear(group) // the frames may go
			quiet.Reset(o.opts.QuietAfter)
		case <-quiet.C:
			if since := time.Since(time.Unix(0, o.lastAt.Load())); since < o.opts.QuietAfter {
				quiet.Reset(o.opts.QuietAfter - since) // messages were handled elsewhere
				continue
			}
			o.begin()
			if err := o.j.Quiet(); err != nil {
				o.log.Error("journal poisoned", "err", err)
			}
			o.end()
		case <-o.stop:
			o.begin()
			o.drain()
			o.end()
			return
		}
	}
}

// begin waits for the turn, and end gives it back.
func (o *owner) begin() {
	o.turn <- struct{}{}
	o.busySince.Store(time.Now().UnixNano())
}

func (o *owner) end() {
	o.busySince.Store(0)
	<-o.turn
}

// handleNow handles a message in the caller's goroutine, if nothing else is under way or waits. Whoever it returns
// false to queues the message instead. No other message of the stream may wait: the caller's order is the stream's.
func (o *owner) handleNow(it journal.Item) bool {
	select {
	case o.turn <- struct{}{}:
	default:
		return false
	}
	if o.closed || len(o.tasks) > 0 {
		<-o.turn
		return false
	}
	o.busySince.Store(time.Now().UnixNano())
	defer o.end()
	o.alone[0] = it
	o.process(o.alone[:], framesBytes(it))
	o.alone[0] = journal.Item{}
	if time.Since(o.floorAt) >= o.opts.QuietAfter {
		select { // the ack has not left yet: the owner's goroutine writes the floor behind it
		case o.tasks <- task{do: func(*journal.Journal) {}}:
		default:
		}
	}
	return true
}

func framesBytes(it journal.Item) int {
	bytes := 0
	for _, f := range it.Request.Frames {
		bytes += f.Size()
	}
	return bytes
}

// keepFloor writes the floor now and then.
func (o *owner) keepFloor() {
	if time.Since(o.floorAt) >= o.opts.QuietAfter {
		o.floorAt = time.Now()
		o.writeFloor()
	}
}

// writeFloor writes the committed floor (W3). No sync of it goes ahead of a waiting append; but under load
// that never breaks off something always waits, so there it is written without one.
func (o *owner) writeFloor() {
	save := o.j.SaveFloor
	if len(o.tasks) > 0 {
		save = o.j.NoteFloor
	}
	if err := save(); err != nil {
		o.log.Error("journal poisoned", "err", err)
	}
}

// gather handles t and what waits behind it, in order: messages of write streams as one group.
func (o *owner) gather(t task, group []task) []task {
	bytes := 0
	for {
		if t.do != nil {
			group, bytes = o.processAll(group, bytes), 0
			t.do(o.j)
		} else {
			group, bytes = append(group, t), bytes+t.bytes
		}
		if bytes >= o.opts.GroupBytes || len(group) >= tasksMax {
			return o.processAll(group, bytes)
		}
		select {
		case t = <-o.tasks:
		default:
			return o.processAll(group, bytes)
		}
	}
}

// processAll handles messages that waited.
func (o *owner) processAll(group []task, bytes int) []task {
	if len(group) == 0 {
		return group
	}
	items := make([]journal.Item, len(group))
	for i, t := range group {
		items[i] = t.item
	}
	o.process(items, bytes)
	for _, t := range group {
		if t.left != nil {
			t.left.Add(-1)
		}
	}
	if bytes > 0 {
		o.bytes.Release(int64(bytes))
	}
	return group[:0]
}

// process lets the journal handle messages as one group. Their frames are given back after it: they are on the
// disk, or refused.
func (o *owner) process(items []journal.Item, bytes int) {
	begin := time.Now()
	o.j.Process(items)
	now := time.Now()
	took := now.Sub(begin)
	o.lastTook.Store(int64(took))
	o.lastAt.Store(now.UnixNano())
	o.noteWriter(items)
	o.metrics.commit(took, len(items), bytes)
	if took > o.opts.StallWarnAfter {
		o.log.Warn("slow disk: a group commit took long", "took", took)
	}
	for _, it := range items {
		if it.Request.Free != nil {
			it.Request.Free()
		}
	}
}

// noteWriter notes that a writer was heard; or that it has said that it is about to be gone: then nobody has to
// wait for it, however lately it was heard. The leader's own opening of an idle journal is such a one.
func (o *owner) noteWriter(group []journal.Item) {
	if o.j.WriterLeft() {
		o.writerAt.Store(0)
		return
	}
	if slices.ContainsFunc(group, func(it journal.Item) bool { return !it.Request.Leaving }) {
		o.writerAt.Store(o.lastAt.Load())
	}
}

// drain ends what waits with ErrClosed and closes the journal.
func (o *owner) drain() {
	for {
		select {
		case t := <-o.tasks:
			if t.do == nil {
				t.item.Stream.Fail(rpc.ErrClosed)
				o.bytes.Release(int64(t.bytes))
			} else {
				t.do(nil)
			}
		default:
			o.closed = true
			if err := o.j.Close(); err != nil {
				o.log.Error("journal closed badly", "err", err)
			}
			return
		}
	}
}

// close stops the owner after the work at hand.
func (o *owner) close() {
	o.once.Do(func() { close(o.stop) })
	<-o.stopped
}

// stalled: the work at hand has been under way for too long. Callers get an answer at once instead of
// waiting behind a disk that hangs.
func (o *owner) stalled() bool {
	since := o.busySince.Load()
	return since != 0 && time.Since(time.Unix(0, since)) > o.opts.StallAfter
}

// ask runs f in the owner and returns what it returns. Where the context ends first, f may still run,
// and its result is lost.
func ask[T any](ctx context.Context, o *owner, f func(*journal.Journal) (T, error)) (T, error) {
	type result struct {
		val T
		err error
	}
	var none T
	if o.stalled() {
		return none, rpc.ErrStalled
	}
	done := make(chan result, 1)
	t := task{do: func(j *journal.Journal) {
		if j == nil {
			done <- result{err: rpc.ErrClosed}
			return
		}
		if ctx.Err() != nil { // nobody waits for it any more
			done <- result{err: fmt.Errorf("journalnode: %w", context.Cause(ctx))}
			return
		}
		val, err := f(j)
		done <- result{val, err}
	}}
	select {
	case o.tasks <- t:
	case <-o.stop:
		return none, rpc.ErrClosed
	case <-ctx.Done():
		return none, fmt.Errorf("journalnode: %w", context.Cause(ctx))
	}
	select {
	case r := <-done:
		return r.val, r.err
	case <-o.stopped: // it may have been drained just before
		select {
		case r := <-done:
			return r.val, r.err
		default:
			return none, rpc.ErrClosed
		}
	case <-ctx.Done():
		return none, fmt.Errorf("journalnode: %w", context.Cause(ctx))
	}
}

// do is ask for what has no result.
func (o *owner) do(ctx context.Context, f func(*journal.Journal) error) error {
	_, err := ask(ctx, o, func(j *journal.Journal) (struct{}, error) { return struct{}{}, f(j) })
	return err
}

// submit queues a message of a write stream, waiting while too many bytes wait. left counts it as long as it
// does; nil: nobody wants to know.
func (o *owner) submit(ctx context.Context, it journal.Item, left *atomic.Int64) error {
	if o.stalled() {
		return rpc.ErrStalled
	}
	bytes := int(min(int64(framesBytes(it)), o.opts.QueueBytes))
	if err := o.bytes.Acquire(ctx, int64(bytes)); err != nil {
		return fmt.Errorf("journalnode: %w", err)
	}
	if left != nil {
		left.Add(1)
	}
	select {
	case o.tasks <- task{item: it, bytes: bytes, left: left}:
		return nil
	case <-o.stop:
		o.bytes.Release(int64(bytes))
		return rpc.ErrClosed
	case <-ctx.Done():
		o.bytes.Release(int64(bytes))
		return fmt.Errorf("journalnode: %w", context.Cause(ctx))
	}
}
