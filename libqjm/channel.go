package libqjm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
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

// era is the set of channels of one epoch and config.
type era struct {
	cfg      quorum.Config
	ctx      context.Context
	cancel   context.CancelFunc
	channels sync.WaitGroup
	chs      []*channel
}

// newEra runs a channel to each of the members. The caller does not hold mu.
func (w *Writer) newEra(cfg quorum.Config, members []quorum.Member) *era {
	e := &era{cfg: cfg}
	e.ctx, e.cancel = context.WithCancel(w.ctx)
	for _, m := range members {
		e.chs = append(e.chs, &channel{w: w, era: e, member: m, kick: make(chan struct{}, 1), sending: make(turn, 1)})
	}
	w.mu.Lock()
	w.era = e
	w.mu.Unlock()
	for _, ch := range e.chs {
		e.channels.Go(ch.run)
	}
	return e
}

// end ends the channels and waits for them.
func (e *era) end() {
	e.cancel()
	e.channels.Wait()
}

// channel is the writer's line to one node: a goroutine that connects, sends what the core says is
// next, and another one that takes replies.
type channel struct {
	w      *Writer
	era    *era
	member quorum.Member
	kick   chan struct{} // one place: the core may have something to send
	floor  atomic.Bool   // the node is to be told what is committed, now

	// sending is held from asking the core what is next until it was sent: a message has its place in the stream by
	// the core's word. It may be taken before Writer.mu; whoever has that tries only.
	sending turn
	stream  rpc.WriteStream // nil: none is up; changed with sending and Writer.mu held, so either is enough to read it
	failed  error           // guarded by sending: why a message did not go out
	beats   beats           // of the stream that is up; guarded by Writer.mu
	said    uint64          // the question that was answered on this stream last; guarded by Writer.mu
}

// turn is a lock that is full while somebody has it. Unlike with a mutex, who waits for it while another waits for the
// network is seen to wait by a test whose clock stands still meanwhile.
type turn chan struct{}

func (t turn) take() { t <- struct{}{} }
func (t turn) give() { <-t }

func (t turn) try() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

func (ch *channel) wake() {
	select {
	case ch.kick <- struct{}{}:
	default:
	}
}

// beats counts the heartbeats of a stream, each of which is answered, in order.
type beats struct {
	sent, answered int
	bye            int // which of them said that the writer leaves; 0: none
}

// beat counts a message that is about to be sent, if it is a heartbeat. The caller holds mu.
func (ch *channel) beat(m rpc.WriteRequest, sent bool) {
	if sent && m.Start == nil && len(m.Frames) == 0 && m.Finalize == nil && m.Fill == nil {
		ch.beats.sent++
	}
}

// start runs the channels, and the clocks: segments that are old enough are rolled, and a writer that
// lost a race on a node it cannot do without opens anew.
func (w *Writer) start() {
	w.newEra(w.ref.cfg, w.ref.cfg.Members())
	w.clocks.Go(w.moveWithConfig)
	if w.opts.SegmentAge > 0 {
		w.clocks.Go(w.rollByAge)
	}
	w.clocks.Go(w.reopenWhenBlocked)
	w.clocks.Go(w.answerQuestions)
	if w.opts.OnSnapshotDue != nil {
		w.clocks.Go(w.askForSnapshots)
	}
}

// kick wakes all channels. The caller holds mu.
func (w *Writer) kick() {
	if w.era == nil {
		return // the client was closed before the writer had channels
	}
	for _, ch := range w.era.chs {
		ch.wake()
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
	w, id := ch.w, ch.member.Key()
	for wait := reconnectMin; ; wait = min(2*wait, reconnectMax) {
		began := time.Now()
		err := ch.session()
		w.mu.Lock()
		w.core.Unlinked(id, err)
		w.changed()
		w.advance()
		over := w.err != nil
		w.mu.Unlock()
		if over || ch.era.ctx.Err() != nil {
			return
		}
		if ch.heard(err) {
			wait = reconnectMin / 2
			continue
		}
		w.c.log.Debug("channel down", "journal", w.ref.name, "to", id.ID, "err", err)
		if time.Since(began) > 2*reconnectMax {
			wait = reconnectMin
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ch.era.ctx.Done():
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
		wants, over := w.core.Wants(ch.member.Key()), w.err != nil
		w.mu.Unlock()
		if over {
			return false
		}
		if wants {
			return true
		}
		select {
		case <-time.After(reconnectMax):
		case <-ch.era.ctx.Done():
			return false
		}
	}
}

// session is one stream from its start to its end.
func (ch *channel) session() error {
	ctx, cancel := context.WithCancel(ch.era.ctx)
	defer cancel()
	stream, err := ch.open(ctx)
	if err != nil {
		return err
	}
	ch.use(stream)
	defer ch.use(nil)
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

// use says which stream messages go to from now on.
func (ch *channel) use(s rpc.WriteStream) {
	ch.sending.take()
	defer ch.sending.give()
	ch.w.mu.Lock()
	defer ch.w.mu.Unlock()
	ch.stream, ch.failed, ch.beats, ch.said = s, nil, beats{}, 0
	if s != nil {
		ch.w.core.Linked(ch.member.Key())
	}
}

var errStreamEnded = errors.New("libqjm: stream ended")

// open connects.
func (ch *channel) open(ctx context.Context) (rpc.WriteStream, error) {
	w := ch.w
	n, err := w.c.node(ch.member)
	if err != nil {
		return nil, err
	}
	return n.Write(ctx, rpc.Header{
		Journal: w.ref.id, ConfigVersion: ch.era.cfg.Version, Incarnation: ch.member.Incarnation,
		Claim: w.recovered.Claim,
	})
}

// receive hands replies to the core until the stream ends.
func (ch *channel) receive(stream rpc.WriteStream) error {
	w := ch.w
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := ch.handle(r); err != nil {
			w.c.log.Error("node answers what it must not", "journal", w.ref.name, "node", ch.member.ID, "err", err)
			return err
		}
	}
}

// handle counts a reply and moves the write path along.
func (ch *channel) handle(r rpc.WriteReply) error {
	w := ch.w
	w.mu.Lock()
	if r.Reach != nil {
		w.asked(*r.Reach)
	} else if r.Kind == rpc.Alive {
		if ch.beats.answered++; ch.beats.answered == ch.beats.bye {
			w.changed()
		}
	}
	moved, err := w.core.Handle(ch.member.Key(), r)
	if moved || r.Kind == rpc.Started || r.Kind == rpc.Finalized || err != nil {
		w.changed()
	}
	if moved {
		w.land()
	}
	w.step()
	if moved || w.core.Idle(ch.member.Key()) {
		w.tellFloor()
	}
	out := w.direct()
	w.mu.Unlock()
	out.send()
	return err
}

// send sends what is next, and heartbeats when there is nothing for a while.
func (ch *channel) send(ctx context.Context, stream rpc.WriteStream, ended <-chan struct{}) error {
	idle := time.NewTimer(heartbeatEvery)
	defer idle.Stop()
	for {
		more, err := ch.sendNext(stream)
		if err != nil {
			return err
		}
		ch.w.mu.Lock()
		_, _, _, relay := ch.w.core.Relay(ch.member.Key())
		ch.w.mu.Unlock()
		switch {
		case relay:
			if err := ch.relay(ctx, stream); err != nil {
				return err
			}
			continue
		case more:
			continue
		}
		idle.Reset(heartbeatEvery)
		select {
		case <-ch.kick:
			if !ch.floor.Swap(false) {
				continue
			}
		case <-idle.C:
		case <-ended:
			return errStreamEnded
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := ch.heartbeat(stream); err != nil {
			return err
		}
	}
}

// sendNext sends one message, if there is one.
func (ch *channel) sendNext(stream rpc.WriteStream) (sent bool, err error) {
	w := ch.w
	ch.sending.take()
	defer ch.sending.give()
	if ch.failed != nil {
		return false, ch.failed
	}
	w.mu.Lock()
	m, ok := ch.next()
	over := w.err
	w.mu.Unlock()
	if over != nil || !ok {
		return false, over
	}
	return true, stream.Send(m)
}

// next is what the core wants sent, or else what the writer has to say for itself. The caller holds mu.
func (ch *channel) next() (rpc.WriteRequest, bool) {
	w, id := ch.w, ch.member.Key()
	m, ok := w.core.Next(id)
	_, _, _, relay := w.core.Relay(id)
	if r := w.reached; r.ID != ch.said && !relay {
		if !ok {
			m, ok = w.core.Heartbeat(id)
		}
		if ok {
			m.Reached, ch.said = &r, r.ID
		}
	}
	if w.leaving && ch.beats.bye == 0 && !ok && !relay {
		if m, ok = w.core.Heartbeat(id); ok {
			m.Leaving, ch.beats.bye = true, ch.beats.sent+1
		}
	}
	ch.beat(m, ok)
	return m, ok
}

func (ch *channel) heartbeat(stream rpc.WriteStream) error {
	ch.sending.take()
	defer ch.sending.give()
	ch.w.mu.Lock()
	m, ok := ch.w.core.Heartbeat(ch.member.Key())
	ch.beat(m, ok)
	ch.w.mu.Unlock()
	if !ok {
		return nil
	}
	return stream.Send(m)
}

// relay reads a gap from another node and sends it on, because the node could reach no peer itself
// (W5). Everything in the gap is committed.
func (ch *channel) relay(ctx context.Context, stream rpc.WriteStream) error {
	w, id := ch.w, ch.member.Key()
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
	m, _ := ch.era.cfg.Member(src)
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
		if more, err := ch.sendRelayed(out, frames); err != nil || !more {
			return err
		}
	}
}

// sendRelayed reports false where the gap has closed or moved meanwhile.
func (ch *channel) sendRelayed(out rpc.WriteStream, frames []segments.Frame) (bool, error) {
	ch.sending.take()
	defer ch.sending.give()
	ch.w.mu.Lock()
	m, ok := ch.w.core.Relayed(ch.member.Key(), frames)
	ch.w.mu.Unlock()
	if !ok {
		return false, nil
	}
	return true, out.Send(m)
}
