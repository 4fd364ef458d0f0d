package replication

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// Defaults of Options.
const (
	DefaultRingBytes    = 64 << 20
	DefaultWindowBytes  = 16 << 20
	DefaultMessageBytes = 4 << 20
)

// Options bound a Core's memory. Zero values are the defaults.
type Options struct {
	// RingBytes of frames are kept for nodes that fell behind. Frames that are not committed stay
	// beyond it (W7); Full tells the shell to stop adding.
	RingBytes int
	// WindowBytes may be under way to one node.
	WindowBytes int
	// MessageBytes of frames go into one message at most, unless one frame is larger.
	MessageBytes int
}

func (o Options) withDefaults() Options {
	if o.RingBytes == 0 {
		o.RingBytes = DefaultRingBytes
	}
	if o.WindowBytes == 0 {
		o.WindowBytes = DefaultWindowBytes
	}
	if o.MessageBytes == 0 {
		o.MessageBytes = DefaultMessageBytes
	}
	return o
}

// phase of the open segment.
type phase uint8

const (
	writing   phase = iota // frames are added
	draining               // no more frames; waiting until all are committed (W8)
	finishing              // Finalize is under way
	finished               // finalized on a majority; the next segment may start
)

// Core is one epoch of one writer. It is not safe for concurrent use.
type Core struct {
	opts  Options
	cfg   quorum.Config // the newest that the writer has adopted: what its requests carry
	began quorum.Config // the one that the open segment was started in: it belongs to that (M3)
	both  quorum.Config // the member sets that both have: what the open segment counts by
	claim fencing.Claim

	prev  segments.End // the segment before the open one
	first segments.TxID
	phase phase
	ring  ring

	committed segments.Position
	floor     recovery.Floor
	nodes     []*node // in the order of cfg.Members()
	sealed    bool    // a majority of every set of cfg has started the open segment under cfg (M4)
	over      error   // why the writer ended
}

// node is what the writer knows of one member.
type node struct {
	member quorum.Member
	linked bool // a stream is up
	seq    uint64

	startSent, started bool
	sent               segments.TxID     // cursor: the last txid handed to the stream
	acked              segments.Position // durable there under this epoch and segment (W3)
	fill               *segments.Position
	damaged            bool // its copy of this segment is, and is to be rebuilt before anything else (W0)
	noFill             bool // no peer could serve the last fill: the writer relays
	finalizeSent       bool
	closeFirst         bool // Finalize goes out before Start: it may be finalized there
	finalized          bool
	floorSent          segments.TxID
	sealSent           rpc.Seal
	overQuota          bool // it takes no new frames, by what it said last

	refused error // why it does not count any more in this epoch
	lastErr error // what ended its last stream
}

// New returns a core for the epoch that recovery won. The first segment starts behind prev.
func New(cfg quorum.Config, claim fencing.Claim, prev segments.End, opts Options) *Core {
	c := &Core{opts: opts.withDefaults(), cfg: cfg, claim: claim}
	for _, m := range cfg.Members() {
		c.nodes = append(c.nodes, &node{member: m})
	}
	c.open(prev)
	return c
}

// Config returns the newest config that the core has adopted.
func (c *Core) Config() quorum.Config { return c.cfg }

// counts reports whether what the node does in the open segment counts: it is in one of the sets that the
// segment's config and the newest one share. Others are not bothered with it; they get it finalized.
func (c *Core) counts(n *node) bool {
	_, ok := c.both.Find(n.member.Key())
	return ok
}

// open starts the segment behind prev; W8 holds when it is called.
func (c *Core) open(prev segments.End) {
	c.began, c.both, c.sealed = c.cfg, c.cfg, false
	c.prev, c.first, c.phase = prev, prev.Next(), writing
	c.committed = prev.Position()
	c.ring.reset(prev.Position())
	for _, n := range c.nodes {
		n.startSent, n.started, n.finalizeSent, n.finalized = false, false, false, false
		n.sent, n.acked, n.fill, n.noFill = prev.Last, segments.Position{}, nil, false
		n.closeFirst, n.damaged = false, false
		if errors.Is(n.refused, recovery.ErrBreach) {
			n.refused = nil // what did not fit the last segment may fit this one
		}
	}
	c.judge()
}

// Claim returns the epoch and writer id.
func (c *Core) Claim() fencing.Claim { return c.claim }

// Segment returns the first txid of the open segment.
func (c *Core) Segment() segments.TxID { return c.first }

// Last returns the position of the last frame added.
func (c *Core) Last() segments.Position { return c.ring.last() }

// Committed returns the last committed position.
func (c *Core) Committed() segments.Position { return c.committed }

// Err returns why the writer ended: *fencing.FencedError or *fencing.LostRaceError. Nil while it can go
// on.
func (c *Core) Err() error { return c.over }

// Writing reports whether frames may be added.
func (c *Core) Writing() bool { return c.phase == writing && c.over == nil }

// Full reports whether the ring holds as much as it may in frames that are not committed: the shell
// makes its callers wait (W7).
func (c *Core) Full() bool { return c.ring.bytesAfter(c.committed.TxID) >= c.opts.RingBytes }

// SegmentBytes returns how many bytes of frames the open segment holds.
func (c *Core) SegmentBytes() int64 { return c.ring.total }

// Add takes the next frame. From here on its txids are bound to these bytes (W6). The frame must
// continue Last and carry the core's epoch; the bytes must not change any more.
func (c *Core) Add(f segments.Frame) error {
	switch {
	case c.over != nil:
		return c.over
	case c.phase != writing:
		return errors.New("replication: segment is being finalized")
	case f.First() != c.Last().TxID+1:
		return fmt.Errorf("replication: frame does not continue the segment (got %d, want %d)", f.First(), c.Last().TxID+1)
	case f.Epoch() != c.claim.Epoch:
		return fmt.Errorf("replication: frame of another epoch (got %d, want %d)", f.Epoch(), c.claim.Epoch)
	}
	c.ring.push(f)
	return nil
}

// Roll asks for the open segment to be finalized and the next one started. It reports whether there is
// anything to do: an empty segment is not finalized.
func (c *Core) Roll() bool {
	if c.phase != writing || c.over != nil || c.Last().TxID < c.first {
		return false
	}
	c.phase = draining
	c.progress()
	return true
}

// Finished reports whether Roll is through: the segment is finalized on a majority. OpenNext then starts
// the next one.
func (c *Core) Finished() (segments.End, bool) { return c.end(), c.phase == finished }

// Settled reports whether no node that follows still has to finalize the segment that a majority has
// finalized.
func (c *Core) Settled() bool {
	return c.phase != finished || !slices.ContainsFunc(c.nodes, func(n *node) bool {
		return c.counts(n) && n.linked && n.started && n.refused == nil && !n.finalized
	})
}

// OpenNext starts the next segment (W8: after a majority finalized the last).
func (c *Core) OpenNext() {
	if c.phase == finished {
		c.open(c.end())
	}
}

func (c *Core) end() segments.End {
	last := c.Last()
	return segments.End{First: c.first, Last: last.TxID, Digest: last.Digest}
}

// Ready reports whether a majority has started the open segment.
func (c *Core) Ready() bool {
	return c.both.Majority(func(m quorum.Member) bool { return c.node(m.Key()).started })
}

func (c *Core) node(id quorum.Key) *node {
	for _, n := range c.nodes {
		if n.member.Key() == id {
			return n
		}
	}
	return nil
}

// Linked says that a fresh stream to the node is up: nothing is known of what reached it.
func (c *Core) Linked(id quorum.Key) {
	if n := c.node(id); n != nil && n.refused == nil {
		n.linked, n.seq = true, 0
		n.startSent, n.started, n.finalizeSent, n.fill, n.noFill = false, false, false, nil, false
		n.floorSent, n.sealSent = 0, rpc.Seal{}
		// The answer to a Finalize may be what was lost, and where the segment is finalized a Start of it
		// is a breach (W0). A node that has anything else says so, and is started on its next stream.
		n.closeFirst = c.phase == finishing && !errors.Is(n.lastErr, recovery.ErrMismatch) && !errors.Is(n.lastErr, recovery.ErrUnknownData)
	}
}

// Unlinked says that the stream ended, with err. A refusal because of a higher epoch, or of another
// writer in this one, leaves the node out for good; the writer ends when no majority is left without
// such nodes (F6).
func (c *Core) Unlinked(id quorum.Key, err error) {
	n := c.node(id)
	if n == nil {
		return
	}
	n.linked, n.started, n.startSent, n.fill = false, false, false, nil
	n.lastErr = err
	n.overQuota = n.overQuota || errors.Is(err, rpc.ErrQuota)
	if errors.Is(err, recovery.ErrUnknownData) {
		// What it acknowledged of this segment may be what it cannot read any more: none of it counts
		// (W0). What was committed with it stays committed; the rebuilt copy holds all of that.
		n.acked, n.damaged = segments.Position{}, true
	}
	if errors.Is(err, fencing.ErrFenced) || errors.Is(err, fencing.ErrLostRace) ||
		errors.Is(err, recovery.ErrBreach) || errors.Is(err, rpc.ErrJournalDeleted) {
		c.refuse(n, err)
	}
}

// Wants reports whether a stream to the node makes sense.
func (c *Core) Wants(id quorum.Key) bool {
	n := c.node(id)
	return n != nil && n.refused == nil && c.over == nil
}

// refuse leaves a node out: until the next segment after a breach, else for good. The writer is over when
// those that are left cannot make a majority: then this segment never ends, and the next never comes.
func (c *Core) refuse(n *node, err error) {
	n.refused, n.linked = err, false
	c.judge()
}

// judge ends the writer where those that have not refused cannot make a majority. It is asked when a node
// refuses, and when the sets change that the open segment counts by.
func (c *Core) judge() {
	gone := func(m quorum.Member) bool { return c.node(m.Key()).refused != nil } // both is a part of cfg
	if c.over != nil || c.both.MajorityPossible(gone) {
		return
	}
	for _, class := range []error{rpc.ErrJournalDeleted, fencing.ErrFenced, fencing.ErrLostRace, recovery.ErrBreach} { // what says most first
		for _, x := range c.nodes {
			if errors.Is(x.refused, class) && (c.over == nil || errors.Is(c.over, class)) {
				c.over = x.refused
			}
		}
	}
}

// Blocked returns the refusal that keeps the writer from a quorum, while it has none: a node that
// promised this epoch to another writer, or a higher one, or that is left out of this segment because it
// does not fit. The writer can open anew then (F5, F6). Nil
// where nodes are merely out of reach, or a majority is there.
func (c *Core) Blocked() error {
	if c.over != nil {
		return c.over
	}
	if c.both.Majority(func(m quorum.Member) bool { n := c.node(m.Key()); return n.linked && n.startSent }) {
		return nil
	}
	var why error
	for _, n := range c.nodes {
		if errors.Is(n.refused, fencing.ErrFenced) || why == nil && n.refused != nil {
			why = n.refused
		}
	}
	return why
}

// OverQuota names the nodes that take no new frames because the journal has its quota there, if no majority is
// left without them: what is added now would only wait. They say themselves when that is over.
func (c *Core) OverQuota() []quorum.NodeID {
	over := func(m quorum.Member) bool { return c.node(m.Key()).overQuota }
	if c.both.MajorityPossible(over) {
		return nil
	}
	var ids []quorum.NodeID
	for _, n := range c.nodes {
		if n.overQuota {
			ids = append(ids, n.member.ID)
		}
	}
	return ids
}

// progress moves the segment's end along: drained, then finalized by a majority.
func (c *Core) progress() {
	if c.phase == draining && c.committed == c.Last() {
		c.phase = finishing
	}
	if c.phase == finishing && c.both.Majority(func(m quorum.Member) bool { return c.node(m.Key()).finalized }) {
		c.phase = finished
	}
}

// NodeStatus tells how one member stands.
type NodeStatus struct {
	Member  quorum.Member
	Linked  bool
	Started bool
	Filling bool
	Acked   segments.TxID
	Refused error
	LastErr error
}

// Status returns all members, in the config's order.
func (c *Core) Status() []NodeStatus {
	out := make([]NodeStatus, 0, len(c.nodes))
	for _, n := range c.nodes {
		out = append(out, NodeStatus{n.member, n.linked, n.started, n.fill != nil, n.acked.TxID, n.refused, n.lastErr})
	}
	return out
}

// sources returns the nodes that hold the open segment up to p, sorted by id.
func (c *Core) sources(p segments.Position, not quorum.Key) []quorum.NodeID {
	var ids []quorum.NodeID
	for _, n := range c.nodes {
		if n.member.Key() != not && n.linked && n.started && n.acked.TxID >= p.TxID && n.refused == nil {
			ids = append(ids, n.member.ID)
		}
	}
	slices.Sort(ids)
	return ids
}
