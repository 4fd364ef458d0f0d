package rpc

import (
	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
)

// A delete is a decision by ballot, like the end of a segment: the ballot is the claim of the delete, the
// only value is "deleted". A node that takes it promises the claim first (F3), and from then on promises
// nothing but a later delete. So:
//
//   - InForce: a majority has the tombstone of one claim. No writer gets a quorum past it, ever again.
//   - Void: a majority has promised somebody else, at this epoch or a higher one, and has no tombstone. It
//     refuses that delete from then on, so the delete can never be in force, and a tombstone of it may be
//     lifted.
//
// Tombstones of different claims must not be added up: with A's of epoch 1 void since B and C promised 2, a
// delete of epoch 3 that reaches B only would look like a majority until A is lifted.
//
// Never more than one of the two holds: were both true for claims d and d' >= d, take the lifting of a
// member of d's majority that came first. Its evidence has a member of that majority, without a tombstone
// and promised above d. If it had promised before it was asked for d, it refused d (F3). If after, it was
// lifted before the first one was.

// TombstoneInForce reports whether the delete of a journal is in force by what its nodes say. One that has
// the empty config knew it, whichever claim it was. Where nobody tells the config before it, a majority of
// the cluster's nodes is asked for.
func TombstoneInForce(cfg quorum.Config, nodes int, said map[quorum.NodeID]JournalSummary) bool {
	claims := map[fencing.Claim]bool{{}: true} // the zero claim: only nodes with the empty config count
	for _, s := range said {
		claims[s.Deleting] = true
	}
	for claim := range claims {
		has := func(id quorum.NodeID) bool {
			s, ok := said[id]
			return ok && (s.Deleted || !claim.IsZero() && s.Deleting == claim)
		}
		n := 0
		for id := range said {
			if has(id) {
				n++
			}
		}
		if cfg.Majority(func(m quorum.Member) bool { return has(m.ID) }) || len(cfg.Sets) == 0 && n > nodes/2 {
			return true
		}
	}
	return false
}

// TombstoneVoid reports whether the delete of that claim can never be in force. Answers count from
// members with their own storage and the same config only (N1, M0).
func TombstoneVoid(cfg quorum.Config, claim fencing.Claim, said map[quorum.NodeID]JournalState) bool {
	return cfg.Majority(func(m quorum.Member) bool {
		s, ok := said[m.ID]
		if !ok || s.Incarnation != m.Incarnation || !s.Member || s.Summary.Config.Version != cfg.Version {
			return false
		}
		if s.Summary.Deleted || !s.Summary.Deleting.IsZero() {
			return false
		}
		return s.Promised.Epoch > claim.Epoch || s.Promised.Epoch == claim.Epoch && s.Promised.Writer != claim.Writer
	})
}
