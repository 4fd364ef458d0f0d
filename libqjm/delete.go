package libqjm

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
)

// deleteAttempts bounds how often a delete goes on with a higher epoch because a writer has taken its own.
const deleteAttempts = 5

// DeleteJournal removes a journal's data and leaves its tombstone, which keeps the name. Whoever writes is
// fenced. It returns when a majority has the tombstone: the delete is in force then. The data goes where
// nodes can be told so, and on the others once they hear it from their peers.
//
// Errors: ErrNoJournal, ErrJournalDeleted, ErrNoQuorum, and ErrFenced or ErrLostRace where writers were
// faster again and again. After one of the last three some nodes may have a tombstone: they keep their data,
// but count in no quorum. Delete again to finish; if a writer is opened instead, they come back by
// themselves (M8).
func (c *Client) DeleteJournal(ctx context.Context, name string) error {
	for attempt := 1; ; attempt++ {
		ref, got, err := c.states(ctx, name, true)
		switch {
		case errors.Is(err, ErrJournalDeleted):
			if c.finishDelete(ctx, ref, got) {
				return nil
			}
			return err
		case errors.Is(err, ErrNoQuorum) && !ref.cfg.IsZero():
			// Perhaps because of tombstones of a delete that was cut off: they are counted below.
		case err != nil:
			return err
		}
		err = c.deleteOnce(ctx, ref, got)
		lost := errors.Is(err, ErrFenced) || errors.Is(err, ErrLostRace)
		if !lost || attempt == deleteAttempts {
			return err
		}
	}
}

// deleteOnce is one attempt: the tombstone to everybody under a claim of its own, and once a majority has
// it, word of that.
func (c *Client) deleteOnce(ctx context.Context, ref journalRef, got []reply[rpc.JournalState]) error {
	claim := fencing.Claim{Epoch: 1, Writer: fencing.WriterID(uuid.New())}
	for _, r := range got {
		if r.err == nil {
			claim.Epoch = max(claim.Epoch, r.val.Promised.Epoch+1)
		}
	}
	has := map[quorum.NodeID]bool{}
	nq := &recovery.NoQuorumError{Step: "deleting the journal"}
	var lost error
	c.sendDelete(ctx, ref, claim, false, func(id quorum.NodeID, err error) {
		switch {
		case err == nil || errors.Is(err, ErrJournalDeleted):
			has[id] = true
			return
		case errors.Is(err, ErrFenced) || errors.Is(err, ErrLostRace):
			lost = err
		}
		nq.Causes = append(nq.Causes, recovery.NodeCause{Node: id, Err: err})
	})
	if !ref.cfg.Majority(func(m quorum.Member) bool { return has[m.ID] }) {
		if lost != nil {
			return fmt.Errorf("libqjm: delete %s: %w", ref.name, lost)
		}
		return nq
	}
	c.bury(ctx, ref, claim)
	return nil
}

// finishDelete tells the nodes of a delete in force whose client did not. It reports whether any was left.
func (c *Client) finishDelete(ctx context.Context, ref journalRef, got []reply[rpc.JournalState]) (left bool) {
	told := map[fencing.Claim]bool{{}: true}
	for _, r := range got {
		if claim := r.val.Summary.Deleting; r.err == nil && !told[claim] {
			told[claim], left = true, true
			c.bury(ctx, ref, claim)
		}
	}
	return left
}

// bury tells the nodes that the delete is in force. Who does not hear it learns it from a peer.
func (c *Client) bury(ctx context.Context, ref journalRef, claim fencing.Claim) {
	c.sendDelete(ctx, ref, claim, true, func(id quorum.NodeID, err error) {
		if err != nil && !errors.Is(err, ErrJournalDeleted) {
			c.log.Warn("a node keeps the data of a deleted journal until a peer tells it", "journal", ref.name, "node", id, "err", err)
		}
	})
}

func (c *Client) sendDelete(ctx context.Context, ref journalRef, claim fencing.Claim, inForce bool, take func(quorum.NodeID, error)) {
	askMembers(ctx, c, ref.cfg.Members(), func(ctx context.Context, n rpc.Node, m quorum.Member) (struct{}, error) {
		h := rpc.Header{Journal: ref.id, ConfigVersion: ref.cfg.Version, Incarnation: m.Incarnation, Claim: claim}
		return struct{}{}, n.DeleteJournal(ctx, h, inForce)
	}, func(r reply[struct{}]) bool {
		take(r.node, r.err)
		return false
	})
}
