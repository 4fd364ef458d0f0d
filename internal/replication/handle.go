package replication

import (
	"errors"
	"fmt"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// ErrForeignReply is the class of replies that cannot come from a node that follows the protocol under
// this epoch, config and incarnation. The shell closes the stream; nothing was counted.
var ErrForeignReply = errors.New("replication: reply does not belong to this stream")

// Handle takes a reply. It reports whether anything that callers wait for moved: the committed position
// or the end of a roll.
func (c *Core) Handle(id quorum.Key, r rpc.WriteReply) (bool, error) {
	n := c.node(id)
	if n == nil || n.refused != nil {
		return false, nil
	}
	if err := c.checkReply(n, r); err != nil {
		return false, err
	}
	if r.Kind == rpc.Alive || r.Kind == rpc.Started || r.Kind == rpc.Synced {
		n.overQuota = r.OverQuota
	}
	if r.Segment != c.first {
		return false, nil // an answer about the segment before: late, and no longer of interest
	}
	before, phase := c.committed, c.phase
	var err error
	switch r.Kind {
	case rpc.Started:
		err = c.onStarted(n, r.At)
		c.sealed = c.sealed || c.began.Version == c.cfg.Version && c.Ready()
	case rpc.Synced:
		err = c.onSynced(n, r.At)
	case rpc.Finalized:
		if r.At != c.Last() || c.phase == writing {
			err = c.diverges(n, r.At, c.Last())
			break
		}
		n.finalized = true
	case rpc.FillFailed:
		n.noFill = n.fill != nil
		n.lastErr = errors.New(r.Err)
	}
	if err != nil {
		c.refuse(n, err)
		return false, err
	}
	c.progress()
	return c.committed != before || c.phase != phase, nil
}

// checkReply is W3's condition on who may be counted: the epoch, config version and incarnation that
// this stream was opened with. The node's promise and segment epoch equal the epoch, or it would not
// have answered (W2).
func (c *Core) checkReply(n *node, r rpc.WriteReply) error {
	if r.Kind == rpc.Alive {
		return nil
	}
	if r.Epoch != c.claim.Epoch || r.ConfigVersion != c.cfg.Version || r.Incarnation != n.member.Incarnation {
		return fmt.Errorf("%w: epoch %d config %d incarnation %s (want %d, %d, %s)", ErrForeignReply,
			r.Epoch, r.ConfigVersion, r.Incarnation, c.claim.Epoch, c.cfg.Version, n.member.Incarnation)
	}
	return nil
}

// onStarted: the node has the segment, and says how far. A position counts as an ack only where its
// digest is known to be the writer's own (W3).
func (c *Core) onStarted(n *node, at segments.Position) error {
	switch {
	case !n.startSent:
		return nil
	case at.TxID+1 < c.first || at.TxID > c.Last().TxID:
		return c.diverges(n, at, c.Last())
	}
	// Whatever it acknowledged before: it holds this much now. Below the ring it counts for nothing yet;
	// what is there is proved by the chain when the gap is filled.
	n.started, n.sent, n.acked, n.damaged = true, at.TxID, segments.Position{}, false
	if at.TxID < c.ring.start().TxID {
		return nil
	}
	return c.acked(n, at)
}

func (c *Core) onSynced(n *node, at segments.Position) error {
	if n.fill != nil && at.TxID >= n.fill.TxID {
		if at.TxID == n.fill.TxID && at != *n.fill {
			return c.diverges(n, at, *n.fill)
		}
		// Only the target is proved by the chain. What the node says of frames that this stream never
		// carried does not count: it may stand on an earlier one, which nobody vouches for (S8). They are
		// sent again, and acknowledged again (W4).
		at = *n.fill
		n.sent = max(n.sent, at.TxID)
		n.fill, n.noFill = nil, false
	}
	if at.TxID > n.sent && n.fill == nil {
		return c.diverges(n, at, c.Last())
	}
	if at.TxID < c.ring.start().TxID {
		return nil // committed long ago
	}
	return c.acked(n, at)
}

// acked counts a position whose digest must be the writer's own.
func (c *Core) acked(n *node, at segments.Position) error {
	own, ok := c.ring.at(at.TxID)
	if !ok || own != at {
		return c.diverges(n, at, own)
	}
	if at.TxID <= n.acked.TxID {
		return nil
	}
	n.acked = at
	t := segments.TxID(c.both.Common(func(m quorum.Member) uint64 { return uint64(c.node(m.Key()).acked.TxID) }))
	if t <= c.committed.TxID {
		return nil
	}
	c.committed, _ = c.ring.at(t)
	c.floor = recovery.Floor{Segment: c.first, Epoch: c.claim.Epoch, At: c.committed}
	c.ring.trim(c.committed.TxID, c.opts.RingBytes)
	return nil
}

func (c *Core) diverges(n *node, got, want segments.Position) error {
	return &recovery.BreachError{Rule: "W3", Segment: c.first, Text: fmt.Sprintf(
		"node %s stands at a position that this writer did not write (got %s, want %s)", n.member.ID, got, want)}
}
