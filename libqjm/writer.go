package libqjm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/replication"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// Defaults and bounds of WriterOptions.
const (
	DefaultMaxTxnBytes    = segments.DefaultMaxTxnBytes
	DefaultFrameBytes     = 1 << 20
	DefaultQueueBytes     = 64 << 20
	DefaultFramesInFlight = 2
	DefaultSegmentBytes   = 64 << 20
	DefaultSegmentAge     = 2 * time.Minute
	DefaultReopenAfter    = 2 * time.Second
	DefaultCloseTimeout   = 10 * time.Second // what a program that ends gives Close
)

// closeLinger is how long Close waits at most for nodes that it does not need.
const closeLinger = time.Second

// WriterOptions of one writer. Zero values are the defaults.
type WriterOptions struct {
	// MaxTxnBytes bounds one transaction.
	MaxTxnBytes int
	// FrameBytes is how large a batch of gathered transactions may grow. A single transaction that is
	// larger is a frame of its own.
	FrameBytes int
	// QueueBytes bounds the transactions that wait to be sent; beyond it, appends wait (W7).
	QueueBytes int
	// FramesInFlight is how many full frames (FrameBytes) may be under way at once. A frame that is not full
	// leaves when none is: many callers gather behind the one under way, and go with one sync; a single caller never waits.
	FramesInFlight int
	// RingBytes of frames are kept for nodes that fall behind (W5).
	RingBytes int
	// SegmentBytes and SegmentAge are when a segment is rolled. Age counts from its first transaction.
	SegmentBytes int64
	SegmentAge   time.Duration
	// ReopenAfter is how long the writer may be without a quorum, while a node would complete one that
	// has promised the writer's own epoch to another writer (a lost race, F5), before it opens anew: in a
	// higher epoch, after recovery, with what was under way sent again under its txids.
	ReopenAfter time.Duration
	// ReopenWhenFenced does the same where the node has promised a higher epoch (F6). It is for journals
	// whose only writer this is meant to be: a challenger that fenced and died is outlived. Leave it off
	// where anything else decides who writes.
	ReopenWhenFenced bool
	sink             *applyQueue    // takes what is committed, in order; nil: callers are told at once
	lastPolicy       SnapshotPolicy // where neither SnapshotPolicy nor the journal has one

	// Compress makes frames smaller with zstd where that helps.
	Compress bool
	// OnSnapshotDue is called when SnapshotPolicy says that a snapshot is due, or, where that is zero, the
	// journal's own policy in the catalog (SetPolicy); from a goroutine of its own, one call at a time. It is a
	// hint: the program decides, and calls SaveSnapshot when its state is at rest.
	SnapshotPolicy SnapshotPolicy
	OnSnapshotDue  func(SnapshotReason)
}

func (o WriterOptions) withDefaults() WriterOptions {
	o.MaxTxnBytes = cmp.Or(o.MaxTxnBytes, DefaultMaxTxnBytes)
	o.FrameBytes = cmp.Or(o.FrameBytes, DefaultFrameBytes)
	o.QueueBytes = cmp.Or(o.QueueBytes, DefaultQueueBytes)
	o.FramesInFlight = cmp.Or(o.FramesInFlight, DefaultFramesInFlight)
	o.SegmentBytes = cmp.Or(o.SegmentBytes, DefaultSegmentBytes)
	o.SegmentAge = cmp.Or(o.SegmentAge, DefaultSegmentAge)
	o.ReopenAfter = cmp.Or(o.ReopenAfter, DefaultReopenAfter)
	return o
}

func (o WriterOptions) validate() error {
	switch {
	case o.MaxTxnBytes < 1 || o.MaxTxnBytes > segments.MaxFramePayload-16:
		return fmt.Errorf("%w: MaxTxnBytes (got %d, want 1 to %d)", ErrBadRequest, o.MaxTxnBytes, segments.MaxFramePayload-16)
	case o.FrameBytes < 1 || o.FrameBytes > segments.MaxFramePayload/2:
		return fmt.Errorf("%w: FrameBytes (got %d, want 1 to %d)", ErrBadRequest, o.FrameBytes, segments.MaxFramePayload/2)
	case o.QueueBytes < o.FrameBytes || o.FramesInFlight < 1 || o.SegmentBytes < 1 || o.SegmentAge < 0:
		return fmt.Errorf("%w: a bound of the writer is too small", ErrBadRequest)
	}
	if err := o.SnapshotPolicy.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	return nil
}

// Writer is the one writer of a journal. It is safe for concurrent use.
type Writer struct {
	c    *Client
	ref  journalRef // its config changes, guarded by mu
	opts WriterOptions

	firstTxID TxID

	ctx    context.Context // ends with the writer
	cancel context.CancelFunc
	clocks sync.WaitGroup

	outdated chan struct{}  // one place: a node has a newer config
	question chan rpc.Reach // one place: the newest that nodes asked (M6)
	turn     sync.Mutex     // held while the writer opens anew or moves; taken before mu

	in     intake       // transactions that are not in a frame yet
	hungry atomic.Int32 // what the write path waits for; whoever adds that and sets this to sated calls feed
	crowd  atomic.Int64 // transactions in the frame that was committed last: about as many callers come again

	mu        sync.Mutex
	core      *replication.Core // guarded by mu, like all below
	flying    []*batch          // frames handed to the core, oldest first
	refusing  bool              // the intake was told that the journal has its quota
	moved     chan struct{}     // closed when committed, a roll or the end moved; nil while nobody waits
	opened    time.Time         // when the open segment got its first transaction; zero: empty
	rolls     uint64            // segments finished
	rolling   bool
	closing   bool
	reopening bool
	leaving   bool          // nodes are told that nobody has to wait for this writer
	err       error         // why nothing more can be appended
	ended     chan struct{} // closed when err is set; nil while nobody asked
	era       *era          // the channels
	reached   rpc.Reached   // the answer to the last question

	floorDue   *time.Timer   // tells nodes what is committed; nil until it is used for the first time
	floorSet   bool          // floorDue is under way
	floorWas   segments.TxID // what was committed when it was set
	floorAlone bool          // the last floor had no frame to ride on
	floorAt    time.Time     // when it was told

	since progress // what a snapshot is due by

	// recovered is the epoch and what it was built on. It changes only when the writer opens anew (F5).
	recovered recovery.Result
}

// OpenWriter makes the caller the journal's writer: it fences whoever wrote before, recovers what they
// left, starts a segment on a majority, and is then ready. It waits for a quorum until the context
// ends. Errors: ErrNoJournal, ErrJournalDeleted, ErrNoQuorum, ErrDivergence, *recovery.FloorError,
// *recovery.SupersededError where other writers kept winning.
func (c *Client) OpenWriter(ctx context.Context, name string, opts WriterOptions) (*Writer, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	ref, err := c.waitForJournal(ctx, name)
	if err != nil {
		return nil, err
	}
	res, err := c.win(ctx, &ref, recovery.Options{})
	if err != nil {
		return nil, err
	}
	w := &Writer{
		c: c, ref: ref, opts: opts, firstTxID: res.Prev.Next(), recovered: res, outdated: make(chan struct{}, 1),
		question: make(chan rpc.Reach, 1),
		core:     replication.New(ref.cfg, res.Claim, res.Prev, replication.Options{RingBytes: opts.RingBytes}),
	}
	w.in.opts, w.in.next, w.in.epoch = &w.opts, res.Prev.Next(), res.Claim.Epoch
	w.ctx, w.cancel = context.WithCancel(c.ctx)
	w.endWithClient()
	w.start()
	if err := w.waitReady(ctx); err != nil {
		w.abandon(err)
		return nil, err
	}
	c.log.Info("writer open", "journal", name, "epoch", res.Claim.Epoch, "last", res.Prev.Last)
	return w, nil
}

// waitForJournal finds the journal's config, waiting for a quorum to tell it.
func (c *Client) waitForJournal(ctx context.Context, name string) (journalRef, error) {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		ref, _, err := c.states(ctx, name, false)
		if err == nil || !errors.Is(err, ErrNoQuorum) {
			return ref, err
		}
		select {
		case <-time.After(wait):
		case <-c.ctx.Done():
			return ref, ErrClosed
		case <-ctx.Done():
			return ref, fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}
}

// waitReady waits until a majority has started the segment.
func (w *Writer) waitReady(ctx context.Context) error {
	return w.await(ctx, func() (bool, error) { return w.core.Ready(), w.err })
}

// await waits until done, which is called with mu held, says so or fails.
func (w *Writer) await(ctx context.Context, done func() (bool, error)) error {
	for {
		w.mu.Lock()
		ok, err := done()
		if ok || err != nil {
			w.mu.Unlock()
			return err
		}
		if w.moved == nil {
			w.moved = make(chan struct{})
		}
		moved := w.moved
		w.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("libqjm: %w", context.Cause(ctx))
		}
	}
}

// Epoch returns the writer's epoch. It rises where the writer had to open anew, see
// WriterOptions.ReopenAfter.
func (w *Writer) Epoch() Epoch {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.recovered.Claim.Epoch
}

// claim is what nodes have promised while nobody else writes.
func (w *Writer) claim() Claim {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.recovered.Claim
}

// FirstTxID returns the txid that the writer's first transaction gets, or got: everything below was
// recovered when it was opened.
func (w *Writer) FirstTxID() TxID { return w.firstTxID }

// Missing names nodes that cut a torn tail made worth hearing in recovery, and that did not answer
// (N2a).
func (w *Writer) Missing() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, n := range w.recovered.Missing {
		out = append(out, string(n))
	}
	return out
}

// Committed returns the last committed txid.
func (w *Writer) Committed() TxID {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.core.Committed().TxID
}

// Err returns why the writer ended, or nil while it can go on.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Done returns a channel that is closed when the writer has ended: Err says why.
func (w *Writer) Done() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended == nil {
		w.ended = make(chan struct{})
		if w.err != nil {
			close(w.ended)
		}
	}
	return w.ended
}

// ChannelStatus is how the writer stands with one node.
type ChannelStatus struct {
	Node    string
	InSync  bool // connected, in the open segment, nothing missing
	Acked   TxID
	LastErr error
}

// WriterStatus is how a writer stands.
type WriterStatus struct {
	Epoch     Epoch
	Segment   TxID
	Assigned  TxID // last txid given out
	Committed TxID
	Channels  []ChannelStatus
}

// Status returns how the writer stands.
func (w *Writer) Status() WriterStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	st := WriterStatus{Epoch: w.recovered.Claim.Epoch, Segment: w.core.Segment(), Assigned: w.in.assigned(), Committed: w.core.Committed().TxID}
	for _, n := range w.core.Status() {
		st.Channels = append(st.Channels, ChannelStatus{
			Node: string(n.Member.ID), InSync: n.Linked && n.Started && !n.Filling, Acked: n.Acked,
			LastErr: cmp.Or(n.Refused, n.LastErr),
		})
	}
	return st
}

// Roll finalizes the open segment and starts the next one. It returns when a majority has finalized it;
// appends made meanwhile wait and go into the next one. An empty segment is left as it is.
func (w *Writer) Roll(ctx context.Context) error {
	w.mu.Lock()
	if err := w.usable(); err != nil {
		w.mu.Unlock()
		return err
	}
	target := w.rolls + 1
	if w.rolling {
		target++ // the one under way began before this call
	} else if !w.core.Roll() {
		if w.in.empty() {
			w.mu.Unlock()
			return nil
		}
	} else {
		w.rolling = true
	}
	w.advance()
	w.mu.Unlock()
	return w.await(ctx, func() (bool, error) {
		if w.err == nil && w.rolls < target && !w.rolling {
			if w.rolling = w.core.Roll(); !w.rolling && w.in.empty() {
				return true, nil // the roll that was under way finalized all there was
			}
			w.advance()
		}
		return w.rolls >= target, w.err
	})
}

// Close waits until everything appended is committed, finalizes the segment on a majority and ends the
// writer; later calls return ErrClosed. Nodes beyond the majority get a moment to finish, too. Where the
// context ends first, the writer is ended all the same and the error says what is left in doubt: the
// next writer, or Recover, decides it.
func (w *Writer) Close(ctx context.Context) error {
	defer w.stop()
	return w.finish(ctx)
}

// finish is Close, but for the wait for the writer's goroutines: one of them may be in a state machine's code (applyHere).
func (w *Writer) finish(ctx context.Context) error {
	w.mu.Lock()
	w.closing = true
	w.in.refuse(ErrClosed)
	w.advance()
	w.mu.Unlock()
	err := w.await(ctx, func() (bool, error) {
		if w.err != nil {
			return false, w.err
		}
		idle := w.in.empty() && len(w.flying) == 0 && !w.rolling
		if ctx.Err() != nil && !(idle && w.core.Last().TxID < w.core.Segment()) {
			return false, fmt.Errorf("libqjm: %w", context.Cause(ctx)) // nothing is begun that nobody waits for
		}
		if w.in.empty() && !w.rolling && w.core.Roll() {
			w.rolling = true
			w.advance()
		}
		return w.in.empty() && len(w.flying) == 0 && !w.rolling, w.err
	})
	why := ErrClosed
	switch {
	case err == nil:
		w.linger(ctx)
	case errors.Is(err, ErrClosed): // by another call
		err = nil
	default:
		why = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	w.mu.Lock()
	w.end(why)
	w.mu.Unlock()
	w.cancel()
	return err
}

// linger gives nodes that follow the moment that they need to finalize, too. Cut off before, a healthy
// node would stay behind until it next compares itself with its peers. Then they are told that this writer is gone:
// a change of members, or the next writer by lease, would wait for it otherwise.
func (w *Writer) linger(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, closeLinger)
	defer cancel()
	if w.await(ctx, func() (bool, error) { return w.core.Settled(), w.err }) != nil {
		return
	}
	w.mu.Lock()
	w.leaving = true
	w.kick()
	w.mu.Unlock()
	_ = w.await(ctx, func() (bool, error) { return w.heardOut(), w.err })
}

// heardOut reports whether all nodes that follow have heard that this writer leaves. The caller holds mu.
func (w *Writer) heardOut() bool {
	follows := map[quorum.Key]bool{}
	for _, n := range w.core.Status() {
		follows[n.Member.Key()] = n.Linked && n.Refused == nil // its segment may have just been begun
	}
	return w.era == nil || !slices.ContainsFunc(w.era.chs, func(ch *channel) bool {
		return follows[ch.member.Key()] && (ch.beats.bye == 0 || ch.beats.answered < ch.beats.bye)
	})
}

// abandon ends the writer at once.
func (w *Writer) abandon(err error) {
	w.mu.Lock()
	w.end(err)
	w.mu.Unlock()
	w.stop()
}

// endWithClient answers what waits when the client is closed before the writer.
func (w *Writer) endWithClient() {
	context.AfterFunc(w.ctx, func() {
		w.mu.Lock()
		w.end(ErrClosed)
		w.mu.Unlock()
	})
}

// stop ends all goroutines and waits for them.
func (w *Writer) stop() {
	w.cancel()
	w.clocks.Wait() // first: a clock may be about to start an era
	w.mu.Lock()
	e := w.era
	w.mu.Unlock()
	e.end()
}

// usable is why nothing can be appended, or nil. The caller holds mu.
func (w *Writer) usable() error {
	if w.err == nil && w.closing {
		return ErrClosed
	}
	return w.err
}
