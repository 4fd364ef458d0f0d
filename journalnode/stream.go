package journalnode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// repliesMax bounds the replies that wait for a writer which does not read them. Acks are cumulative
// and take one place, so a writer that follows the protocol never comes near.
const repliesMax = 1024

// outbox is where the owner leaves replies without ever waiting.
type outbox struct {
	mu      sync.Mutex
	replies []rpc.WriteReply
	err     error
	held    bool          // whoever handles a message will send what it leads to
	wake    chan struct{} // one place

	sending sync.Mutex // replies leave in their order
	over    bool       // guarded by sending: the stream is not to be used any more
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

func (o *outbox) reply(r rpc.WriteReply) {
	o.mu.Lock()
	if n := len(o.replies); n > 0 && r.Kind == rpc.Synced && o.replies[n-1].Kind == rpc.Synced {
		o.replies[n-1] = r
	} else if n < repliesMax {
		o.replies = append(o.replies, r)
	} else if o.err == nil {
		o.err = fmt.Errorf("%w: the writer does not read its replies (%d wait)", rpc.ErrTooLarge, n)
	}
	held := o.held && o.err == nil
	o.mu.Unlock()
	if !held {
		o.signal()
	}
}

// hold keeps replies from waking the sender: the caller flushes.
func (o *outbox) hold() {
	o.mu.Lock()
	o.held = true
	o.mu.Unlock()
}

// release ends hold. Where the caller does not flush, what came meanwhile wakes the sender now.
func (o *outbox) release(flushes bool) {
	o.mu.Lock()
	o.held = false
	left := len(o.replies) > 0
	o.mu.Unlock()
	if left && !flushes {
		o.signal()
	}
}

func (o *outbox) fail(err error) {
	o.mu.Lock()
	if o.err == nil {
		o.err = err
	}
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// flush sends what is there. It returns the error that ends the stream: one that was left here, or the stream's.
func (o *outbox) flush(stream rpc.ServerStream) error {
	o.sending.Lock()
	defer o.sending.Unlock()
	if o.over {
		return rpc.ErrClosed
	}
	o.mu.Lock()
	replies, err := o.replies, o.err
	o.replies = nil
	o.mu.Unlock()
	for _, r := range replies {
		if err := stream.Send(r); err != nil {
			return err
		}
	}
	return err
}

// close waits for a flush under way; none comes after it.
func (o *outbox) close() {
	o.sending.Lock()
	o.over = true
	o.sending.Unlock()
}

// Write serves one write stream: the caller's goroutine sends replies, another one receives messages
// and queues them for the owner, a third fills gaps. It does not wait for the receiver: that one may
// hang in Recv until the stream is over, which it is only when this returns. A writer that is refused
// while it only listens would never hear of it.
func (n *Node) Write(h rpc.Header, stream rpc.ServerStream) error {
	o, err := n.owner(h.Journal)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	if err := o.do(ctx, func(j *journal.Journal) error { return j.Hello(h) }); err != nil {
		return err
	}
	box := newOutbox()
	defer box.close()
	st := &journal.Stream{Header: h, Reply: box.reply, Fail: box.fail}
	// Left with the owner, also where its disk hangs, and before Attach, whose caller may be gone when it is
	// done: a stream that is not forgotten stays with the journal for good.
	defer n.later(o, func() error { o.j.Detach(st); return nil })
	if err := o.do(ctx, func(j *journal.Journal) error { j.Attach(st); return nil }); err != nil {
		return err
	}
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel(nil)
	fills := make(chan rpc.Fill) // one at a time; the next waits, and what is behind it
	go func() { box.fail(n.receive(ctx, o, st, box, stream, fills)) }()
	work.Go(func() {
		for {
			select {
			case f := <-fills:
				if f.Rebuild == nil {
					n.answerFill(ctx, o, st, f)
				} else if err := n.rebuild(ctx, o, st, f); err != nil {
					box.fail(err) // the writer asks again, on its next stream
				}
			case <-ctx.Done():
				return
			}
		}
	})
	for {
		select {
		case <-box.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-n.stopping:
			box.fail(rpc.ErrClosed)
		}
		if err := box.flush(stream); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// receive handles messages, or queues them while the owner is busy, until the stream ends.
func (n *Node) receive(ctx context.Context, o *owner, st *journal.Stream, box *outbox, stream rpc.ServerStream, fills chan<- rpc.Fill) error {
	var left atomic.Int64 // messages of this stream that wait
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if m.Fill == nil {
			it := journal.Item{Stream: st, Request: m}
			handled := false
			if left.Load() == 0 && ctx.Err() == nil {
				box.hold()
				handled = o.handleNow(it)
				box.release(handled)
			}
			if handled {
				err = box.flush(stream)
			} else {
				err = o.submit(ctx, it, &left)
			}
			if err != nil {
				return err
			}
			continue
		}
		select {
		case fills <- *m.Fill:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (n *Node) answerFill(ctx context.Context, o *owner, st *journal.Stream, f rpc.Fill) {
	if err := n.fill(ctx, o, st, f); err != nil && ctx.Err() == nil {
		st.Reply(rpc.WriteReply{Kind: rpc.FillFailed, Segment: f.Segment, Epoch: st.Header.Claim.Epoch,
			ConfigVersion: st.Header.ConfigVersion, Incarnation: n.id.Incarnation, Err: err.Error()})
	}
}

// fill copies missed frames of the open segment from a peer and queues them as if the writer had sent
// them: each is checked when it is written (W1), the promise again, too. The chain reaching the target
// proves that they are the writer's own (W5). A source may hold less than the writer thinks; the next one
// is asked then.
func (n *Node) fill(ctx context.Context, o *owner, st *journal.Stream, f rpc.Fill) error {
	errs := []error{rpc.ErrNoSource}
	for i := 0; ; i++ {
		from, err := n.fillFrom(ctx, o, st, f)
		if err != nil || from > f.Target.TxID {
			return err
		}
		if i == len(f.Sources) {
			return errors.Join(errs...)
		}
		err = n.readFrom(ctx, f.Sources[i], rpc.ReadRequest{
			Journal: st.Header.Journal, Segment: f.Segment, From: from, UpTo: f.Target.TxID,
			Durable: true, Epoch: st.Header.Claim.Epoch,
		}, func(frames []segments.Frame) error {
			return o.submit(ctx, journal.Item{Stream: st, Request: rpc.WriteRequest{Frames: frames}}, nil)
		})
		errs = append(errs, fmt.Errorf("%s: %w", f.Sources[i], cmp.Or(err, rpc.ErrNotFound)))
	}
}

// fillFrom returns the txid that a fill goes on at. Where nothing is missing any more it tells the
// writer: what came by another way was acknowledged there, and without an ack here it would wait for
// ever. The position is an ack like any other, so it passes the gate and leaves from the owner (W2, W3).
func (n *Node) fillFrom(ctx context.Context, o *owner, st *journal.Stream, f rpc.Fill) (segments.TxID, error) {
	return ask(ctx, o, func(j *journal.Journal) (segments.TxID, error) {
		at, err := j.FillPosition(st.Header, f.Segment)
		if err == nil && at.TxID >= f.Target.TxID {
			st.Reply(rpc.WriteReply{Kind: rpc.Synced, Segment: f.Segment, Epoch: st.Header.Claim.Epoch,
				ConfigVersion: st.Header.ConfigVersion, Incarnation: st.Header.Incarnation, At: at, OverQuota: j.OverQuota()})
		}
		return at.TxID + 1, err
	})
}

// rebuild makes a damaged copy of the open segment anew from peers, aside, and puts it in place when it
// holds what the writer says is committed (W0, W5).
func (n *Node) rebuild(ctx context.Context, o *owner, st *journal.Stream, f rpc.Fill) error {
	inc, err := n.begin(ctx, o, func(j *journal.Journal) (*store.Incoming, error) { return j.BeginRebuild(st, f) })
	if err != nil || inc == nil {
		return err
	}
	o.log.Warn("rebuilding a damaged copy", "segment", f.Segment, "to", f.Target, "sources", f.Sources)
	err = n.fetch(ctx, st.Header.Journal, recovery.AcceptRequest{
		Epoch: st.Header.Claim.Epoch, Sources: f.Sources,
		End: segments.End{First: f.Segment, Last: f.Target.TxID, Digest: f.Target.Digest},
	}, nil, inc)
	if err != nil {
		n.abort(o, inc)
		return err
	}
	if err := n.finish(ctx, o, inc, func(j *journal.Journal) error { return j.FinishRebuild(st, f, inc) }); err != nil {
		return err
	}
	o.log.Info("rebuilt a damaged copy", "segment", f.Segment, "to", f.Target)
	return nil
}
