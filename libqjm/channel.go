package libqjm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/segments"
)

// Timing of a channel.
const (
	reconnectMin   = 20 * time.Millisecond
	reconnectMax   = time.Second
	floorDelay     = time.Millisecond // the committed floor waits this long for a frame to ride on
	heartbeatEvery = time.Second
)

// channel is the writer's line to one node: a goroutine that connects, sends what the core says is
// next, and another one that takes replies.
type channel struct {
	w      *Writer
	member quorum.Member
	kick   chan struct{} // one place: the core may have something to send
}

// start runs a channel to each member, and the clock that rolls segments by age.
func (w *Writer) start() {
	var channels []*channel
	for _, m := range w.ref.cfg.Members() {
		ch := &channel{w: w, member: m, kick: make(chan struct{}, 1)}
		channels, w.kicks = append(channels, ch), append(w.kicks, ch.kick)
	}
	for _, ch := range channels { // each may kick the others at once
		w.channels.Go(ch.run)
	}
	if w.opts.SegmentAge > 0 {
		w.channels.Go(w.rollByAge)
	}
}

// kick wakes all channels.
func (w *Writer) kick() {
	for _, k := range w.kicks {
		select {
		case k <- struct{}{}:
		default:
		}
	}
}

func (w *Writer) rollByAge() {
	tick := time.NewTicker(max(w.opts.SegmentAge/8, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			return
		}
		w.mu.Lock()
		old := !w.opened.IsZero() && time.Since(w.opened) >= w.opts.SegmentAge
		if old && !w.rolling && w.err == nil {
			w.rolling = w.core.Roll()
			w.advance()
		}
		w.mu.Unlock()
	}
}

// run keeps a stream to the node up until the writer ends or the node is left out.
func (ch *channel) run() {
	w, id := ch.w, ch.member.ID
	for wait := reconnectMin; ; wait = min(2*wait, reconnectMax) {
		began := time.Now()
		err := ch.session()
		w.mu.Lock()
		w.core.Unlinked(id, err)
		w.advance()
		over := w.err != nil
		w.mu.Unlock()
		if over || w.ctx.Err() != nil {
			return
		}
		w.c.log.Debug("channel down", "journal", w.ref.name, "to", id, "err", err)
		if time.Since(began) > 2*reconnectMax {
			wait = reconnectMin
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-w.ctx.Done():
			return
		}
		if !ch.wanted() {
			return
		}
	}
}

// wanted waits while the node is left out of this segment, and reports false when it is for good.
func (ch *channel) wanted() bool {
	w := ch.w
	for {
		w.mu.Lock()
		wants, over := w.core.Wants(ch.member.ID), w.err != nil
		w.mu.Unlock()
		if over {
			return false
		}
		if wants {
			return true
		}
		select {
		case <-time.After(reconnectMax):
		case <-w.ctx.Done():
			return false
		}
	}
}

// session is one stream from its start to its end.
func (ch *channel) session() error {
	w := ch.w
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	stream, err := ch.open(ctx)
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.core.Linked(ch.member.ID)
	w.mu.Unlock()
	ended := make(chan struct{})
	var said error // what the node said; set before ended is closed
	go func() {
		defer close(ended)
		said = ch.receive(stream)
	}()
	err = ch.send(ctx, stream, ended)
	select {
	case <-ended:
		return said // rather than what sending ran into
	default:
	}
	stream.Close()
	<-ended
	if errors.Is(err, errStreamEnded) || errors.Is(said, fencing.ErrFenced) || errors.Is(said, fencing.ErrLostRace) {
		return said
	}
	return err
}

var errStreamEnded = errors.New("libqjm: stream ended")

// open connects; a member that never had the journal is given it first.
func (ch *channel) open(ctx context.Context) (rpc.WriteStream, error) {
	w := ch.w
	n, err := w.c.node(ch.member)
	if err != nil {
		return nil, err
	}
	h := rpc.Header{
		Journal: w.ref.id, ConfigVersion: w.ref.cfg.Version, Incarnation: ch.member.Incarnation,
		Claim: w.recovered.Claim,
	}
	stream, err := n.Write(ctx, h)
	if !errors.Is(err, rpc.ErrNoJournal) {
		return stream, err
	}
	return nil, errors.Join(err, ch.createJournal(ctx, n))
}

func (ch *channel) createJournal(ctx context.Context, n rpc.Node) error {
	ctx, cancel := context.WithTimeout(ctx, ch.w.c.opts.RequestTimeout)
	defer cancel()
	return n.CreateJournal(ctx, rpc.JournalSummary{ID: ch.w.ref.id, Name: ch.w.ref.name})
}

// receive hands replies to the core until the stream ends.
func (ch *channel) receive(stream rpc.WriteStream) error {
	w := ch.w
	for {
		r, err := stream.Recv()
		if err != nil {
			if errors.Is(err, rpc.ErrNoJournal) {
				n, nerr := w.c.node(ch.member)
				if nerr == nil {
					nerr = ch.createJournal(w.ctx, n)
				}
				return errors.Join(err, nerr)
			}
			return err
		}
		w.mu.Lock()
		moved, err := w.core.Handle(ch.member.ID, r)
		if moved || r.Kind == rpc.Started || err != nil {
			w.changed()
		}
		w.advance()
		w.mu.Unlock()
		if err != nil {
			w.c.log.Error("node answers what it must not", "journal", w.ref.name, "node", ch.member.ID, "err", err)
			return err
		}
	}
}

// send sends what is next, and heartbeats when there is nothing for a while.
func (ch *channel) send(ctx context.Context, stream rpc.WriteStream, ended <-chan struct{}) error {
	w, id := ch.w, ch.member.ID
	idle := time.NewTimer(heartbeatEvery)
	defer idle.Stop()
	for {
		w.mu.Lock()
		m, ok := w.core.Next(id)
		floor := !ok && w.core.Idle(id)
		_, _, _, relay := w.core.Relay(id)
		over := w.err
		w.mu.Unlock()
		switch {
		case over != nil:
			return over
		case relay:
			if err := ch.relay(ctx, stream); err != nil {
				return err
			}
			continue
		case ok:
			if err := stream.Send(m); err != nil {
				return err
			}
			continue
		}
		wait := heartbeatEvery
		if floor {
			wait = floorDelay
		}
		idle.Reset(wait)
		select {
		case <-ch.kick:
			continue
		case <-idle.C:
		case <-ended:
			return errStreamEnded
		case <-ctx.Done():
			return ctx.Err()
		}
		w.mu.Lock()
		m, ok = w.core.Heartbeat(id)
		w.mu.Unlock()
		if ok {
			if err := stream.Send(m); err != nil {
				return err
			}
		}
	}
}

// relay reads a gap from another node and sends it on, because the node could reach no peer itself
// (W5). Everything in the gap is committed.
func (ch *channel) relay(ctx context.Context, stream rpc.WriteStream) error {
	w, id := ch.w, ch.member.ID
	w.mu.Lock()
	from, to, sources, ok := w.core.Relay(id)
	segment := w.core.Segment()
	w.mu.Unlock()
	if !ok {
		return nil
	}
	errs := []error{rpc.ErrNoSource}
	for _, src := range sources {
		err := ch.relayFrom(ctx, stream, src, rpc.ReadRequest{
			Journal: w.ref.id, Segment: segment, From: from, UpTo: to.TxID, Durable: true, Epoch: w.recovered.Claim.Epoch,
		})
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", src, err))
	}
	return errors.Join(errs...)
}

func (ch *channel) relayFrom(ctx context.Context, out rpc.WriteStream, src quorum.NodeID, req rpc.ReadRequest) error {
	w := ch.w
	m, _ := w.ref.cfg.Member(src)
	n, err := w.c.node(m)
	if err != nil {
		return err
	}
	in, err := n.ReadSegment(ctx, req)
	if err != nil {
		return err
	}
	defer in.Close()
	for {
		chunk, err := in.Recv()
		if err != nil {
			return endOfStream(err)
		}
		frames, err := segments.ParseFrames(chunk.Frames)
		if err != nil {
			return err
		}
		w.mu.Lock()
		msg, ok := w.core.Relayed(ch.member.ID, frames)
		w.mu.Unlock()
		if !ok {
			return nil // the gap has closed or moved meanwhile
		}
		if err := out.Send(msg); err != nil {
			return err
		}
	}
}
