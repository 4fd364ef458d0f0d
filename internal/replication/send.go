package replication

import (
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/segments"
)

// Next returns what to send to the node now; false: nothing. The message counts as sent, so a shell
// that cannot deliver it must report Unlinked. The order within a stream is what W8 rests on: Start,
// the node's answer, frames, Finalize.
func (c *Core) Next(id quorum.Key) (rpc.WriteRequest, bool) {
	n := c.node(id)
	if n == nil || !n.linked || n.refused != nil || c.over != nil || !c.counts(n) {
		return rpc.WriteRequest{}, false
	}
	switch {
	case n.closeFirst && n.finalizeSent:
		return rpc.WriteRequest{}, false // its answer says where it stands
	case n.closeFirst:
		n.finalizeSent = true
		end := c.end()
		return c.message(n, rpc.WriteRequest{Finalize: &end}), true
	case !n.startSent:
		if c.phase == finished {
			return rpc.WriteRequest{}, false // the next segment's start is about to come
		}
		n.startSent = true
		if n.damaged {
			return c.askRebuild(n), true
		}
		prev := c.prev
		return c.message(n, rpc.WriteRequest{Start: &prev}), true
	case !n.started || n.fill != nil:
		return rpc.WriteRequest{}, false // its answer says where to go on
	case n.sent < c.ring.start().TxID:
		return c.askFill(n), true
	}
	if frames := c.ring.after(n.sent, c.room(n), c.opts.MessageBytes); len(frames) > 0 {
		n.sent = frames[len(frames)-1].Last()
		return c.message(n, rpc.WriteRequest{Frames: frames}), true
	}
	if (c.phase == finishing || c.phase == finished) && n.sent == c.Last().TxID && !n.finalizeSent {
		n.finalizeSent = true
		end := c.end()
		return c.message(n, rpc.WriteRequest{Finalize: &end}), true
	}
	return rpc.WriteRequest{}, false
}

// AtRest reports whether there is nothing to send to the node for now: all frames went out, and none of its answers
// is awaited by what comes next. False: ask Next, or Relay.
func (c *Core) AtRest(id quorum.Key) bool {
	n := c.node(id)
	return n == nil || !n.linked || n.refused != nil || c.over != nil ||
		n.started && n.fill == nil && n.sent == c.Last().TxID && c.phase == writing
}

// UnderWay returns how many bytes of frames went out to the node that it has not acknowledged.
func (c *Core) UnderWay(id quorum.Key) int {
	n := c.node(id)
	if n == nil {
		return 0
	}
	return c.ring.bytesBetween(n.acked.TxID, n.sent)
}

// Idle reports whether a heartbeat would tell the node of a higher floor, or a seal, than it has heard of. The
// shell sends one when nothing else goes out for a while.
func (c *Core) Idle(id quorum.Key) bool { return c.Untold(id, c.floor.At.TxID) }

// Untold is Idle for a floor of a moment ago: what became committed since may still have a frame to ride on.
func (c *Core) Untold(id quorum.Key, floor segments.TxID) bool {
	n := c.node(id)
	return n != nil && n.linked && n.started && c.over == nil && (n.floorSent < min(floor, c.floor.At.TxID) || n.sealSent != c.seal())
}

// Heartbeat returns a message that carries the floor, and the seal.
func (c *Core) Heartbeat(id quorum.Key) (rpc.WriteRequest, bool) {
	n := c.node(id)
	if n == nil || !n.linked || !n.started || c.over != nil {
		return rpc.WriteRequest{}, false
	}
	return c.message(n, rpc.WriteRequest{}), true
}

// Relay returns what a node could not get from any peer: the gap that the shell reads elsewhere and
// hands to Relayed. False: nothing to relay.
func (c *Core) Relay(id quorum.Key) (from segments.TxID, to segments.Position, sources []quorum.NodeID, ok bool) {
	n := c.node(id)
	if n == nil || n.fill == nil || !n.noFill {
		return 0, segments.Position{}, nil, false
	}
	return n.sent + 1, *n.fill, c.sources(*n.fill, id), true
}

// Relayed returns the message that carries frames read from another node. They lie below the ring, so
// they are committed; the receiver checks that they chain (W1).
func (c *Core) Relayed(id quorum.Key, frames []segments.Frame) (rpc.WriteRequest, bool) {
	n := c.node(id)
	if n == nil || n.fill == nil || len(frames) == 0 || frames[0].First() != n.sent+1 {
		return rpc.WriteRequest{}, false
	}
	n.sent = frames[len(frames)-1].Last()
	return c.message(n, rpc.WriteRequest{Frames: frames}), true
}

func (c *Core) askFill(n *node) rpc.WriteRequest {
	target := c.ring.start()
	n.fill, n.noFill = &target, false
	return c.message(n, rpc.WriteRequest{Fill: &rpc.Fill{
		Segment: c.first, Target: target, Sources: c.sources(target, n.member.Key()),
	}})
}

// askRebuild has a damaged copy of this segment built anew. The target is what is committed now: the node's
// acks from before count for nothing, so whatever commits from here on commits without it, and a copy up
// to the target holds all that it ever helped to commit (W0). It answers as if to a Start.
func (c *Core) askRebuild(n *node) rpc.WriteRequest {
	prev := c.prev
	return c.message(n, rpc.WriteRequest{Fill: &rpc.Fill{
		Segment: c.first, Target: c.committed, Sources: c.sources(c.committed, n.member.Key()), Rebuild: &prev,
	}})
}

// room is how many bytes may still go out to the node before it acknowledges some.
func (c *Core) room(n *node) int {
	return c.opts.WindowBytes - c.ring.bytesBetween(n.acked.TxID, n.sent)
}

func (c *Core) message(n *node, m rpc.WriteRequest) rpc.WriteRequest {
	n.seq++
	m.Seq, m.Floor = n.seq, c.floor
	n.floorSent = c.floor.At.TxID
	if n.sealSent != c.seal() {
		n.sealSent = c.seal()
		m.Sealed = n.sealSent
	}
	return m
}

func (c *Core) seal() rpc.Seal {
	if !c.sealed {
		return rpc.Seal{}
	}
	return rpc.Seal{Version: c.cfg.Version, Epoch: c.claim.Epoch, Segment: c.first}
}
