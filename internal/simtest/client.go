package simtest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/replication"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// client is a process that wants to write: it fences, recovers, appends, rolls, dies, and comes back as
// somebody else.
type client struct {
	w    *world
	at   int
	last bool // the one that finds everything healed
	life int

	co     *recovery.Coordinator
	core   *replication.Core
	links  []*link
	left   int // frames still to append
	closed bool

	cfg    quorum.Config // the newest that it has heard of
	least  fencing.Epoch // the lowest epoch that it may take
	moving bool          // it asks for the newer config that it heard of
	moves  *driver       // whose mover it is
	over   bool          // it was a mover, and is not needed any more

	writer fencing.WriterID
	prev   segments.End        // of the segment before the open one
	frames []segments.Frame    // of the open segment
	kept   []recovery.Event    // RuleM7Counts: what was gathered under the config before
	heard  []recovery.Answer   // of this attempt, as they were given
	chose  bool                // this attempt has made its choice
	reuse  fencing.Claim       // RuleR2a: the claim of the attempt before
	sealed []segments.Position // RuleW3
}

// link is the writer's end of one stream.
type link struct {
	c      *client
	life   int // of the client: what was linked in another one is not heard any more
	n      *simNode
	member quorum.Member
	stream *journal.Stream
	gen    int
	up     bool
	over   bool  // another config's
	toNode int64 // when the last message to the node arrives: a stream keeps its order
	toHere int64
}

// die forgets everything. What is under way stays under way.
func (c *client) die() {
	if c.life == 0 && c.co == nil {
		return
	}
	c.w.note("writer %d dies", c.at)
	c.life++
	c.co, c.core, c.links = nil, nil, nil
	c.reuse = fencing.Claim{}
	if c.moves != nil {
		c.moves = nil
		c.over = true
	} else if !c.w.calm {
		c.w.after(c.pause(), c.begin)
	}
}

// pause is how long it stays away. Where members change, a writer is to live to see it now and then.
func (c *client) pause() int64 {
	if c.w.cfg.Changes && !c.w.calm && c.moves == nil {
		return 20 + c.w.rng.Int64N(1000)
	}
	return 20 + c.w.rng.Int64N(400)
}

// begin starts an attempt at becoming the writer.
func (c *client) begin() {
	if c.w.calm && !c.last && c.moves == nil || c.over {
		return
	}
	c.life++
	c.core, c.links = nil, nil
	c.heard, c.kept, c.chose, c.moving = nil, nil, false, false
	if c.reuse.Epoch == 0 {
		c.writer = c.w.writerID()
	}
	opts := recovery.Options{HearAll: c.w.rng.IntN(4) == 0 || c.last, MinEpoch: c.least}
	c.cfg = c.w.learn(c)
	c.co = recovery.NewCoordinator(c.cfg, c.writer, opts)
	c.step(recovery.Begin{})
}

// guard makes a callback that does nothing in another life.
func guard[T any](c *client, f func(T, error)) func(T, error) {
	life := c.life
	return func(v T, err error) {
		if c.life == life {
			f(v, err)
		}
	}
}

func (c *client) step(ev recovery.Event) {
	for _, e := range c.co.Step(ev) {
		if c.co == nil {
			return
		}
		c.do(e)
	}
}

func (c *client) header(to quorum.Key, claim fencing.Claim) rpc.Header {
	return rpc.Header{Journal: c.w.journal, ConfigVersion: c.cfg.Version, Incarnation: to.Incarnation, Claim: claim}
}

// settle turns an answer into an event.
func settle[T any](c *client, id quorum.Key, s recovery.Step, ok func(T) recovery.Event) func(T, error) {
	return guard(c, func(v T, err error) {
		if c.co == nil {
			return
		}
		if isNewer(err, c.cfg.Version) {
			c.outdated(c.w.node(id.ID))
			return
		}
		if err != nil {
			c.step(recovery.Failed{Node: id, Step: s, Err: err})
			return
		}
		c.step(ok(v))
	})
}

// do carries out one effect.
func (c *client) do(e recovery.Effect) {
	w := c.w
	switch e := e.(type) {
	case recovery.AskState:
		ask(c, e.Node, "state", func(j *journal.Journal, reply func(rpc.JournalState, error)) { reply(stateFor(j, e.Node, c.cfg)) },
			settle(c, e.Node, recovery.StepState, func(s rpc.JournalState) recovery.Event {
				return recovery.Stated{Node: e.Node, Promised: s.Promised.Epoch}
			}))
	case recovery.AskPromise:
		h := c.header(e.Node, c.as(e.Claim))
		ask(c, e.Node, "promise", func(j *journal.Journal, reply func(rpc.PromiseReply, error)) { reply(j.NewEpoch(h)) },
			settle(c, e.Node, recovery.StepPromise, func(r rpc.PromiseReply) recovery.Event {
				r = w.distortPromise(r)
				return c.keep(recovery.Promised{Node: e.Node, DataKnown: r.DataKnown, Newest: r.Newest, Purged: r.Purged})
			}))
	case recovery.AskPrepare:
		h := c.header(e.Node, c.as(e.Claim))
		ask(c, e.Node, "prepare", func(j *journal.Journal, reply func(recovery.Answer, error)) {
			reply(j.Prepare(h, e.Segment, e.Digests))
		}, settle(c, e.Node, recovery.StepPrepare, func(a recovery.Answer) recovery.Event {
			c.heard = append(c.heard, a)
			return c.keep(recovery.Prepared{Answer: w.distort(a)})
		}))
	case recovery.AskAccept:
		n := w.node(e.Node.ID)
		e.Accept.Claim = c.as(e.Accept.Claim)
		if !c.chose {
			c.chose = true
			w.oracle.chosen(c, e.Accept.End)
			w.overtake(c, e.Accept.Sources)
		}
		h := c.header(e.Node, e.Accept.Claim)
		ask(c, e.Node, "accept", func(j *journal.Journal, reply func(struct{}, error)) { n.accept(j, h, e.Accept, reply) },
			settle(c, e.Node, recovery.StepAccept, func(struct{}) recovery.Event { return recovery.AcceptedBy{Node: e.Node} }))
		if w.cfg.Broken == RuleR2a && w.chance(20) {
			c.failed(rpc.ErrUnavailable) // a timeout; it is made again in its own epoch
		}
	case recovery.AskFinalize:
		w.oracle.decide(e.End) // a majority has accepted it
		h := c.header(e.Node, c.as(e.Claim))
		ask(c, e.Node, "finalize", func(j *journal.Journal, reply func(struct{}, error)) { reply(struct{}{}, j.Finalize(h, e.End)) },
			settle(c, e.Node, recovery.StepFinalize, func(struct{}) recovery.Event { return recovery.FinalizedBy{Node: e.Node} }))
	case recovery.SetPatience:
		done := guard(c, func(struct{}, error) {
			if c.co != nil {
				c.step(recovery.PatienceOver{Step: e.Step})
			}
		})
		w.after(2*timeout, func() { done(struct{}{}, nil) })
	case recovery.Fail:
		c.failed(e.Err)
	case recovery.Done:
		c.won(e.Result)
	}
}

func (c *client) failed(err error) {
	w := c.w
	w.note("writer %d: attempt failed: %v", c.at, err)
	if w.cfg.Broken == RuleR2a && c.chose {
		c.reuse = c.as(c.co.Claim())
	} else {
		c.reuse = fencing.Claim{}
	}
	if errors.Is(err, recovery.ErrDivergence) {
		w.fail(err)
		return
	}
	c.co = nil
	c.life++
	if c.moves != nil {
		c.die() // its driver asks the nodes again
		return
	}
	if w.cfg.Changes {
		w.after(20+w.rng.Int64N(600), c.begin)
		return
	}
	w.after(20+w.rng.Int64N(200), c.begin)
}

// won: the writer writes.
func (c *client) won(r recovery.Result) {
	w := c.w
	r.Claim = c.as(r.Claim)
	c.reuse = fencing.Claim{}
	if r.Recovered.Empty {
		w.oracle.chosen(c, r.Prev)
	}
	if w.over() {
		return
	}
	w.result.Recoveries++
	w.note("writer %d has epoch %d behind %s", c.at, r.Claim.Epoch, r.Prev)
	w.oracle.recovered(r)
	c.co = nil
	c.core = replication.New(c.cfg, r.Claim, r.Prev, replication.Options{
		RingBytes: 200 + w.rng.IntN(2000), WindowBytes: 4000, MessageBytes: 500,
	})
	c.sealed, c.frames, c.prev = []segments.Position{r.Prev.Position()}, nil, r.Prev
	c.left = 10 + w.rng.IntN(40)
	if w.cfg.Changes && w.rng.IntN(2) == 0 {
		c.left *= 10 // so that it lives to see the members change
		if w.cfg.Slow {
			c.left /= 2
		}
	}
	c.closed = false
	if c.moves != nil {
		c.left = 0 // it starts the segment, and writes nothing
	}
	c.link()
	w.strand(c)
	c.append(c.life)
}

// link opens a stream to each member.
func (c *client) link() {
	for _, m := range c.cfg.Members() {
		c.links = append(c.links, &link{c: c, life: c.life, n: c.w.node(m.ID), member: m})
	}
	for _, l := range c.links {
		l.connect()
	}
}

// append adds a frame now and then, rolls now and then, and closes at the end.
func (c *client) append(life int) {
	if c.life != life || c.core == nil {
		return
	}
	w := c.w
	switch {
	case c.core.Err() != nil:
		w.note("writer %d: %v", c.at, c.core.Err())
		c.core, c.links = nil, nil
		c.life++
		w.after(c.pause(), c.begin)
		return
	case c.moves != nil:
		if s, v, ok := c.core.Sealed(); ok {
			c.moves.sealed(rpc.Seal{Version: v, Epoch: c.core.Claim().Epoch, Segment: s})
			c.die()
			return
		}
	case c.left == 0:
		if end, done := c.core.Finished(); done || c.core.Last().TxID < c.core.Segment() {
			w.note("writer %d closed at %s", c.at, end)
			if c.closed = true; !c.last {
				c.die()
			}
			return
		}
		c.core.Roll()
	case c.core.Writing() && !c.core.Full():
		c.left--
		f := c.seal()
		w.oracle.assign(c.core, f)
		c.sealed, c.frames = append(c.sealed, f.Position()), append(c.frames, f)
		if w.rng.IntN(12) == 0 {
			c.core.Roll()
		}
	default:
		if end, done := c.core.Finished(); done {
			c.core.OpenNext()
			c.frames, c.prev = nil, end
			w.strand(c)
		}
	}
	c.pump()
	gap := int64(15)
	if w.cfg.Slow {
		gap = 60
	}
	w.after(1+w.rng.Int64N(gap), func() { c.append(life) })
}

func (c *client) seal() segments.Frame {
	var b segments.Builder
	b.Reset(c.core.Last().TxID+1, c.core.Claim().Epoch)
	pad := ""
	if c.w.rng.IntN(6) == 0 { // over several sectors, so that it can be torn
		pad = strings.Repeat("x", 4*c.w.rng.IntN(1000))
	}
	for i := range 1 + c.w.rng.IntN(4) {
		if err := b.Add(fmt.Appendf(nil, "%d.%d.%d%s", c.core.Claim().Epoch, c.core.Last().TxID, i, pad)); err != nil {
			c.w.fail(err)
		}
	}
	f, err := b.Seal(c.core.Last().Digest, segments.SealOptions{})
	if err != nil {
		c.w.fail(err)
	}
	return f
}

// pump sends each node what is next for it.
func (c *client) pump() {
	for _, l := range c.links {
		l.pump()
	}
}

// connect opens a stream; it is up when the node has let it in (Hello).
func (l *link) connect() {
	c := l.c
	if c.life != l.life || c.core == nil || c.core.Err() != nil || l.over {
		return
	}
	if !c.core.Wants(l.member.Key()) {
		c.w.after(timeout, l.connect)
		return
	}
	l.gen++
	gen := l.gen
	h := c.header(l.member.Key(), c.core.Claim())
	type hello struct {
		st   *journal.Stream
		life int
	}
	ask(c, l.member.Key(), "hello", func(j *journal.Journal, reply func(hello, error)) {
		nodeLife := l.n.life
		st := &journal.Stream{Header: h,
			Reply: func(r rpc.WriteReply) { l.toWriter(gen, nodeLife, func() { l.reply(r) }) },
			Fail:  func(err error) { l.toWriter(gen, nodeLife, func() { l.down(err) }) },
		}
		err := j.Hello(h)
		if err == nil {
			j.Attach(st)
		}
		reply(hello{st, nodeLife}, err)
	}, guard(c, func(open hello, err error) {
		if l.gen != gen || l.up || c.core == nil {
			return
		}
		if err != nil {
			l.down(err)
			return
		}
		l.up = true
		l.stream = open.st
		l.watch(gen, open.life)
		c.core.Linked(l.member.Key())
		l.pump()
	}))
}

// watch notices, after a while, that the node of this stream is gone.
func (l *link) watch(gen, nodeLife int) {
	l.c.w.after(timeout, func() {
		if l.gen != gen || !l.up || l.c.life != l.life {
			return
		}
		if l.n.j == nil || l.n.life != nodeLife {
			l.down(rpc.ErrUnavailable)
			return
		}
		if m, ok := l.c.core.Heartbeat(l.member.Key()); ok {
			l.toNodeSend(m)
		}
		l.watch(gen, nodeLife)
	})
}

func (l *link) down(err error) {
	c := l.c
	l.up = false
	l.gen++
	c.w.note("writer %d: stream to n%d ended: %v", c.at, l.n.at+1, err)
	if c.core == nil {
		return
	}
	c.core.Unlinked(l.member.Key(), err)
	if isNewer(err, c.cfg.Version) {
		c.move(l.n)
	}
	c.w.after(c.w.delay(), l.connect)
}

// toWriter carries a reply: in order, or not at all, and then the stream is over.
func (l *link) toWriter(gen, nodeLife int, f func()) {
	w := l.c.w
	if l.n.fault.Crashed() || l.n.life != nodeLife || l.c.life != l.life {
		return
	}
	w.carry(l.n.at, l.c.at, &l.toHere, func(ok bool) {
		if l.gen != gen || l.c.life != l.life || l.c.core == nil {
			return
		}
		if !ok {
			l.down(rpc.ErrUnavailable)
			return
		}
		f()
	})
}

// carry is the stream's transport: ordered; a message that is lost ends the stream, which the other end
// learns a while later.
func (w *world) carry(from, to int, last *int64, f func(ok bool)) {
	ok := !w.isCut(from, to) && !w.chance(breaking)
	at := w.now + w.delay()
	if !ok {
		at += timeout
	}
	*last = max(*last, at)
	w.after(*last-w.now, func() { f(ok) })
}

func (l *link) reply(r rpc.WriteReply) {
	c := l.c
	moved, err := c.core.Handle(l.member.Key(), c.distortReply(r))
	if err != nil {
		if errors.Is(err, recovery.ErrBreach) {
			c.w.fail(fmt.Errorf("writer %d: %w", c.at, err))
		}
		l.down(err)
		return
	}
	if moved {
		c.w.oracle.ack(c.core)
		if c.w.leases != nil {
			c.w.leases.acked(c)
		}
	}
	c.pump()
}

func (l *link) pump() {
	for l.up && l.c.core != nil {
		m, ok := l.c.core.Next(l.member.Key())
		if !ok {
			break
		}
		l.toNodeSend(m)
	}
	if l.up && l.c.core != nil && l.c.core.Idle(l.member.Key()) && l.c.w.rng.IntN(4) == 0 {
		if m, ok := l.c.core.Heartbeat(l.member.Key()); ok {
			l.toNodeSend(m)
		}
	}
}

func (l *link) toNodeSend(m rpc.WriteRequest) {
	w, gen, st, nodeLife := l.c.w, l.gen, l.stream, l.n.life
	w.carry(l.c.at, l.n.at, &l.toNode, func(ok bool) {
		if !ok {
			if l.gen == gen && l.up && l.c.life == l.life {
				l.down(rpc.ErrUnavailable)
			}
			return
		}
		if l.n.life != nodeLife {
			return
		}
		if m.Fill != nil && m.Fill.Rebuild != nil {
			l.rebuild(*m.Fill, st, nodeLife)
			return
		}
		if m.Fill != nil {
			l.fill(*m.Fill, st, nodeLife)
			return
		}
		l.n.deliver(journal.Item{Stream: st, Request: m})
	})
}

// fill is the node's half of W5, as journalnode does it.
func (l *link) fill(f rpc.Fill, st *journal.Stream, nodeLife int) {
	n := l.n
	if n.j == nil {
		return
	}
	pos, err := n.j.FillPosition(st.Header, f.Segment)
	if err != nil {
		st.Fail(err)
		return
	}
	n.fetch(f.Sources, rpc.ReadRequest{
		Journal: st.Header.Journal, Segment: f.Segment, From: pos.TxID + 1, UpTo: f.Target.TxID, Durable: true, Epoch: st.Header.Claim.Epoch,
	}, func(frames []segments.Frame, err error) {
		if n.j == nil || n.life != nodeLife {
			return
		}
		if err != nil {
			st.Reply(rpc.WriteReply{Kind: rpc.FillFailed, Segment: f.Segment, Epoch: st.Header.Claim.Epoch,
				ConfigVersion: st.Header.ConfigVersion, Incarnation: st.Header.Incarnation, Err: err.Error()})
			st.Fail(rpc.ErrNoSource) // no relay here: the writer starts over with this node
			return
		}
		n.deliver(journal.Item{Stream: st, Request: rpc.WriteRequest{Frames: frames}})
	})
}

// rebuild is the node's half of W0 for a damaged copy of the open segment, as journalnode does it.
func (l *link) rebuild(f rpc.Fill, st *journal.Stream, nodeLife int) {
	n := l.n
	n.handle(func(j *journal.Journal) func() {
		inc, err := j.BeginRebuild(st, f)
		if err != nil {
			return func() { st.Fail(err) }
		}
		if inc == nil {
			return nil
		}
		if f.Target == f.Rebuild.Position() {
			return n.finishRebuild(j, f, st, inc, nil, nil)
		}
		n.fetch(f.Sources, rpc.ReadRequest{
			Journal: st.Header.Journal, Segment: f.Segment, From: f.Rebuild.Last + 1, UpTo: f.Target.TxID,
			Durable: true, Epoch: st.Header.Claim.Epoch,
		}, func(frames []segments.Frame, err error) {
			if n.life == nodeLife {
				n.handle(func(j *journal.Journal) func() { return n.finishRebuild(j, f, st, inc, frames, err) })
			}
		})
		return nil
	})
}

func (n *simNode) finishRebuild(j *journal.Journal, f rpc.Fill, st *journal.Stream, inc *store.Incoming, frames []segments.Frame, err error) func() {
	for _, frame := range frames {
		if err == nil {
			err = inc.Append(frame)
		}
	}
	if err != nil {
		_ = inc.Abort() // a temporary
	} else {
		err = j.FinishRebuild(st, f, inc)
	}
	if err != nil {
		return func() { st.Fail(err) }
	}
	return nil
}
