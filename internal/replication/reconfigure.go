package replication

import (
	"fmt"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/segments"
)

// DroppedError says that the journal went over to members of which the open segment knows none: what is
// in it can never be committed by this writer (M3). It is fenced.
type DroppedError struct {
	Segment    segments.TxID
	Began, Now uint64 // config versions
}

func (e *DroppedError) Error() string {
	return fmt.Sprintf("replication: segment %d was started under config %d, which has no member set in common with config %d",
		e.Segment, e.Began, e.Now)
}

// Is makes errors.Is(err, fencing.ErrFenced) true.
func (e *DroppedError) Is(target error) bool { return target == fencing.ErrFenced }

// Reconfigure adopts a newer config, and keeps the epoch (M3). Every ack of something that is not committed
// is taken anew under the new version, from every node: the shell closes all streams before it calls this,
// and opens new ones to the members of the new config, whose first message carries it. The open segment is
// finalized, counted by the member sets that both configs have, and the next one belongs to the new config.
// No append fails meanwhile.
//
// Interleaving without "anew": 1. C acks txn 7 under v, then promises epoch 6 to another writer; 2. the
// other one recovers through A and B, without 7; 3. this writer hears of v+1, D acks 7 under it: {C, D} is
// a majority of the new set, and 7 would be acknowledged, and lost.
//
// A config that is not newer changes nothing. Errors: rpc.ErrConfigDiverges; *DroppedError, or the refusal
// that keeps the writer from a majority of the new members (F6), after which the core is over.
func (c *Core) Reconfigure(next quorum.Config) error {
	switch {
	case next.Version == c.cfg.Version && next.Digest() != c.cfg.Digest():
		return fmt.Errorf("%w: version %d", rpc.ErrConfigDiverges, next.Version)
	case next.Version <= c.cfg.Version || c.over != nil:
		return c.over
	}
	c.cfg, c.sealed = next, false
	c.renew()
	if c.Last().TxID < c.first {
		c.open(c.prev) // nothing was ever sent of it: it is started again, under the new config
		return c.over
	}
	c.both = c.began.CommonSets(next)
	if len(c.both.Sets) == 0 && c.phase != finished {
		c.over = &DroppedError{Segment: c.first, Began: c.began.Version, Now: next.Version}
		return c.over
	}
	c.Roll()
	return nil
}

// renew makes the list of nodes anew: of those that stay, what they hold is asked again, and only what
// they have said of their promise is remembered.
func (c *Core) renew() {
	old := c.nodes
	c.nodes = nil
	for _, m := range c.cfg.Members() {
		n := &node{member: m, sent: c.prev.Last}
		for _, o := range old {
			if o.member.Key() == m.Key() {
				n.refused, n.lastErr, n.damaged = o.refused, o.lastErr, o.damaged
			}
		}
		c.nodes = append(c.nodes, n)
	}
}

// Sealed returns the open segment once a majority of every set of the newest config has started it under
// that config: the seal that a membership change rests on (M4).
func (c *Core) Sealed() (s segments.TxID, version uint64, ok bool) {
	return c.first, c.cfg.Version, c.sealed
}
