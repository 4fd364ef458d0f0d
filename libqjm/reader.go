package libqjm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/segments"
)

// followPatience is how long a reader listens to a silent node before it asks whether others know more.
const followPatience = 2 * time.Second

// ReaderOptions say what to read. The zero value reads all that is committed, from the first txid.
type ReaderOptions struct {
	// From is the first txid to return; 0 is 1.
	From TxID
	// To is the last one; 0: as far as there is.
	To TxID
	// Follow waits for more instead of ending.
	Follow bool
	// FinalizedOnly leaves out the segment that is being written.
	FinalizedOnly bool
	// Linearizable makes a reader that does not follow see everything that was acknowledged before it
	// was opened (D4). It costs a round to a majority, and OpenReader waits until the end is committed;
	// ErrUndecided where nobody is there to commit it. Without it the reader sees what nodes know to be
	// committed, which may lag the last acknowledgements by a moment.
	Linearizable bool
}

// Txn is one transaction. Opaque ones stand for the txids from ID to Last; all others have Last = ID.
type Txn struct {
	ID     TxID
	Last   TxID
	Epoch  Epoch // the writer that wrote it
	Opaque bool
	Data   []byte // the reader's own copy is not kept: it is the caller's
}

// Reader returns a journal's transactions in order, without gap and without repetition. It reads from
// one node at a time, verifies every frame against the one before, and goes on with another node where
// one fails. It is for one goroutine.
type Reader struct {
	c    *Client
	ref  journalRef
	opts ReaderOptions

	next   TxID               // the txid to return next
	pos    *segments.Position // end of the last frame verified; before the first: nil, or what the node at hand says
	sure   bool               // pos is verified
	target TxID               // where a reader that does not follow ends
	nodes  []quorum.NodeID    // in the order they are tried
	at     int
	failed int          // nodes in a row that did not help
	purged *PurgedError // what one of them said, see gone

	stream  rpc.ChunkStream
	cancel  context.CancelFunc
	frames  []segments.Frame
	txns    []Txn
	lastErr error
	closed  bool
}

// OpenReader opens a reader. Without Follow it reads what is committed when it is opened, as far as a
// majority knows. Errors: ErrNoJournal, ErrJournalDeleted; ErrPastEnd for a From beyond the end, unless
// it follows; *PurgedError for a From that was purged, which names the snapshot to start from; ErrNoQuorum where no node can tell how far to read.
func (c *Client) OpenReader(ctx context.Context, name string, opts ReaderOptions) (*Reader, error) {
	opts.From = cmp.Or(opts.From, 1)
	if opts.To != 0 && opts.To < opts.From {
		return nil, fmt.Errorf("%w: a range from %d to %d", ErrBadRequest, opts.From, opts.To)
	}
	ref, got, err := c.states(ctx, name, false)
	if err != nil && (!errors.Is(err, ErrNoQuorum) || ref.cfg.IsZero()) {
		return nil, err
	}
	r := &Reader{c: c, ref: ref, opts: opts, next: opts.From}
	r.adopt(ref.cfg)
	var end TxID
	best := -1
	for _, g := range got {
		if g.err != nil {
			continue
		}
		if t := readable(g.val, opts.FinalizedOnly); best < 0 || t > end {
			end, best = t, slices.Index(r.nodes, g.node)
		}
	}
	r.at = max(best, 0)
	if opts.Linearizable && !opts.FinalizedOnly && !opts.Follow {
		if end, err = c.linearizableEnd(ctx, name); err != nil {
			return nil, err
		}
	}
	if opts.Follow {
		end = ^TxID(0)
	} else if opts.From > end+1 {
		return nil, fmt.Errorf("%w: txid %d was asked for, the last one is %d", ErrPastEnd, opts.From, end)
	}
	if err := r.belowPurged(ctx, got); err != nil {
		return nil, err
	}
	r.target = end
	if opts.To != 0 {
		r.target = min(end, opts.To)
	}
	return r, nil
}

// adopt goes over to the members of a config.
func (r *Reader) adopt(cfg quorum.Config) {
	r.ref.cfg, r.nodes, r.at, r.failed = cfg, nil, 0, 0
	for _, m := range cfg.Members() {
		r.nodes = append(r.nodes, m.ID)
	}
}

// belowPurged is D5 where every node that answers has purged what the reader is to begin with.
func (r *Reader) belowPurged(ctx context.Context, got []reply[rpc.JournalState]) error {
	least := segments.Position{}
	for _, g := range got {
		if p := g.val.Answer.Purged; g.err == nil && p.TxID < r.next {
			return nil
		} else if g.err == nil && (least.TxID == 0 || p.TxID < least.TxID) {
			least = p
		}
	}
	if least.TxID == 0 {
		return nil
	}
	r.purged = &PurgedError{PurgedTo: least}
	return r.gone(ctx)
}

// readable is how far a node's answer proves that the journal is committed.
func readable(s rpc.JournalState, finalizedOnly bool) TxID {
	if !finalizedOnly {
		return committedBy(s)
	}
	s.Answer.Floor.At.TxID = 0
	return committedBy(s)
}

// Next returns the next transaction. io.EOF: there is no more, for a reader that does not follow. The
// context bounds this call; a reader can be used again after it ended one.
func (r *Reader) Next(ctx context.Context) (Txn, error) {
	for {
		switch {
		case r.closed:
			return Txn{}, ErrClosed
		case len(r.txns) > 0:
			t := r.txns[0]
			r.txns = r.txns[1:]
			r.next = t.Last + 1
			return t, nil
		case r.next > r.target:
			return Txn{}, io.EOF
		}
		if err := r.more(ctx); err != nil {
			return Txn{}, err
		}
	}
}

// All returns the transactions as a sequence, which ends at io.EOF or with the first error.
func (r *Reader) All(ctx context.Context) iter.Seq2[Txn, error] {
	return func(yield func(Txn, error) bool) {
		for {
			t, err := r.Next(ctx)
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(t, err) || err != nil {
				return
			}
		}
	}
}

// Close ends the reader.
func (r *Reader) Close() error {
	r.closed = true
	r.drop()
	return nil
}

func (r *Reader) drop() {
	if r.stream != nil {
		r.stream.Close()
		r.cancel()
		r.stream = nil
	}
	r.frames = nil
}

// more gets the next frame's transactions, changing nodes as needed.
func (r *Reader) more(ctx context.Context) error {
	if len(r.frames) == 0 {
		if err := r.receive(ctx); err != nil || len(r.frames) == 0 {
			return err
		}
	}
	f := r.frames[0]
	r.frames = r.frames[1:]
	if err := r.take(f); err != nil {
		r.c.log.Error("a node served a bad frame", "journal", r.ref.name, "node", r.nodes[r.at], "frame", f.Range(), "err", err)
		if !r.sure {
			r.pos = nil // it was this node's word
		}
		return r.rotate(ctx, err)
	}
	return nil
}

// receive gets the next chunk from the node at hand.
func (r *Reader) receive(ctx context.Context) error {
	if r.stream == nil {
		if err := r.connect(ctx); err != nil {
			return r.rotate(ctx, err)
		}
	}
	stop := context.AfterFunc(ctx, r.cancel) // this call's context ends the wait, and with it the stream
	patience := r.c.opts.RequestTimeout
	if r.opts.Follow {
		patience = followPatience
	}
	silence := time.AfterFunc(patience, r.cancel)
	chunk, err := r.stream.Recv()
	if !silence.Stop() && err != nil && ctx.Err() == nil {
		stop()
		if r.opts.Follow {
			return r.afterSilence(ctx)
		}
		return r.rotate(ctx, fmt.Errorf("%w: silent for %s", ErrUnavailable, patience))
	}
	if !stop() && ctx.Err() != nil {
		r.drop()
		return fmt.Errorf("libqjm: reader at txid %d: %w", r.next, errors.Join(context.Cause(ctx), r.lastErr))
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: node %s has txids below %d only, %d is committed", rpc.ErrNotFound, r.nodes[r.at], r.next, r.target)
		}
		return r.rotate(ctx, err)
	}
	frames, err := segments.ParseFrames(chunk.Frames)
	if err != nil {
		return r.rotate(ctx, err)
	}
	for len(frames) > 0 && frames[0].Last() < r.next {
		frames = frames[1:]
	}
	if len(frames) > 0 && r.pos == nil && frames[0].First() > r.next {
		return r.rotate(ctx, &segments.GapError{Got: frames[0].First(), Want: r.next})
	}
	if len(frames) > 0 && r.pos == nil {
		// Nothing was verified yet: the chain starts with what this node says. Checksums hold anyhow.
		r.pos = &chunk.Prev
	}
	r.frames = frames
	return nil
}

// afterSilence: nothing came for a while. The journal may be idle; but this node may be one that the
// writer no longer reaches, which would keep the reader waiting for ever. It goes on with the node that
// knows most.
func (r *Reader) afterSilence(ctx context.Context) error {
	r.drop()
	ref, got, err := r.c.statesOf(ctx, r.ref, true)
	if errors.Is(err, ErrJournalDeleted) {
		return err
	}
	if ref.cfg.Version > r.ref.cfg.Version {
		r.adopt(ref.cfg)
	}
	end := r.next - 1
	for _, g := range got {
		if i := slices.Index(r.nodes, g.node); g.err == nil && i >= 0 && readable(g.val, r.opts.FinalizedOnly) > end {
			end, r.at = readable(g.val, r.opts.FinalizedOnly), i
		}
	}
	return nil
}

func (r *Reader) connect(ctx context.Context) error {
	m, _ := r.ref.cfg.Member(r.nodes[r.at])
	n, err := r.c.node(m)
	if err != nil {
		return err
	}
	from := r.next
	if r.pos != nil {
		from = r.pos.TxID + 1
	}
	sctx, cancel := context.WithCancel(r.c.ctx)
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	stream, err := n.Tail(sctx, rpc.TailRequest{
		Journal: r.ref.id, From: from, FinalizedOnly: r.opts.FinalizedOnly, Follow: r.opts.Follow,
	})
	if err != nil {
		cancel()
		return err
	}
	r.stream, r.cancel = stream, cancel
	return nil
}

// take verifies a frame and unpacks it (D3).
func (r *Reader) take(f segments.Frame) error {
	if f.First() != r.pos.TxID+1 {
		return &segments.GapError{Got: f.First(), Want: r.pos.TxID + 1}
	}
	if err := f.Verify(r.pos.Digest); err != nil {
		return err
	}
	pos := f.Position()
	txns, err := r.unpack(f)
	if err != nil {
		return err
	}
	r.pos, r.txns, r.sure = &pos, txns, true
	r.failed, r.purged = 0, nil // not before: a node whose frames are all bad has not helped
	return nil
}

func (r *Reader) unpack(f segments.Frame) ([]Txn, error) {
	if f.Opaque() {
		data, err := f.Payload()
		return []Txn{{ID: f.First(), Last: f.Last(), Epoch: f.Epoch(), Opaque: true, Data: data}}, err
	}
	txns := make([]Txn, 0, f.Count())
	err := f.EachTxn(func(id TxID, data []byte) error {
		if id >= r.next && id <= r.target {
			txns = append(txns, Txn{ID: id, Last: id, Epoch: f.Epoch(), Data: data})
		}
		return nil
	})
	return txns, err
}

// rotate goes on with another node, after a pause once all have failed.
func (r *Reader) rotate(ctx context.Context, err error) error {
	r.lastErr = fmt.Errorf("node %s: %w", r.nodes[r.at], err)
	r.drop()
	r.at = (r.at + 1) % len(r.nodes)
	if p, ok := errors.AsType[*PurgedError](err); ok && (r.purged == nil || p.PurgedTo.TxID > r.purged.PurgedTo.TxID) {
		r.purged = p
	}
	if r.failed++; r.failed%len(r.nodes) != 0 {
		return nil
	}
	if errors.Is(err, ErrJournalDeleted) {
		return err
	}
	if gone := r.gone(ctx); gone != nil {
		return gone
	}
	if r.moved(ctx) {
		return nil
	}
	rounds := r.failed / len(r.nodes)
	select {
	case <-time.After(min(50*time.Millisecond<<min(rounds, 5), time.Second)):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("libqjm: reader at txid %d: %w", r.next, errors.Join(context.Cause(ctx), r.lastErr))
	}
}

// moved asks whether the journal has other nodes by now, when none of those that the reader knows helps, and goes over to
// them.
func (r *Reader) moved(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, min(followPatience, r.c.opts.RequestTimeout))
	defer cancel()
	ref := r.ref
	if !r.c.refresh(ctx, &ref) {
		return false
	}
	r.adopt(ref.cfg)
	return true
}

// gone is D5: no node serves the log where the reader stands, and one has purged it. It names the snapshot to
// start from. A snapshot that the reader is behind already says nothing: then the nodes are about to get what
// comes after it.
func (r *Reader) gone(ctx context.Context) error {
	if r.purged == nil {
		return nil
	}
	p := *r.purged
	r.purged = nil
	if newest, err := r.c.newestListed(ctx, r.ref); err == nil && newest.TxID > p.Snapshot.TxID {
		p.Snapshot = newest
	}
	if p.Snapshot.TxID != 0 && p.Snapshot.TxID < r.next {
		return nil
	}
	return &p
}

// endOfStream turns the regular end of a stream into no error.
func endOfStream(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
