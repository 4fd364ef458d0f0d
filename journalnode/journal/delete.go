package journal

import (
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
)

// Delete is the first step of a delete (M8): the claim is promised, and written down as a tombstone. From
// then on nothing is promised to a writer; the data stays, because this node cannot know whether a majority
// was asked. The same again, or a later delete, is answered again. Owner only.
func (j *Journal) Delete(h rpc.Header) error {
	if err := j.check(h); err != nil {
		return err
	}
	next, err := j.fence.Admit(h.Claim)
	if err != nil {
		return err
	}
	if err := j.promise(next); err != nil {
		return err
	}
	if j.deleting == h.Claim {
		return nil
	}
	if err := j.save(func() error { return j.files.saveTombstone(h.Claim) }); err != nil {
		return err
	}
	j.deleting = h.Claim
	j.publish()
	return nil
}

// Reclaim is the second step: whoever asks has heard that a majority of the members has the tombstone of
// this claim. A node that was not reached by the first step takes it the same way, unless it has promised
// somebody above: then it is left to what peers say (F3). Owner only.
func (j *Journal) Reclaim(h rpc.Header) error {
	if err := j.check(h); err != nil {
		return err
	}
	if _, err := j.fence.Admit(h.Claim); err != nil {
		return err
	}
	return j.Bury(quorum.Config{Version: j.config.Version + 1})
}

// Bury installs the empty config and removes the data: the caller knows that the delete is decided. Again,
// it removes what is left. Owner only.
func (j *Journal) Bury(empty quorum.Config) error {
	switch {
	case j.unknown != nil:
		return fmt.Errorf("%w: %w", rpc.ErrUnknownNode, j.unknown)
	case j.poisoned != nil:
		return fmt.Errorf("%w: %w", rpc.ErrPoisoned, j.poisoned)
	}
	if !j.config.IsEmpty() {
		if empty.Version <= j.config.Version {
			return &rpc.ConfigError{Journal: j.id, Got: empty.Version, Want: j.config.Version}
		}
		if err := j.save(func() error { return j.files.saveConfig(empty) }); err != nil {
			return err
		}
		j.config = empty
	}
	err := j.reclaim()
	j.structureChanged()
	return err
}

// Lift takes the tombstone of that claim away: the caller knows that the delete can never be in force
// (rpc.TombstoneVoid). One of another claim stays. The promise to the delete stays, too: what it refuses,
// it goes on refusing. Owner only.
func (j *Journal) Lift(claim fencing.Claim) error {
	switch {
	case j.poisoned != nil:
		return fmt.Errorf("%w: %w", rpc.ErrPoisoned, j.poisoned)
	case j.unknown != nil || j.Deleted() || j.deleting.IsZero() || j.deleting != claim:
		return nil
	}
	if err := j.save(j.files.removeTombstone); err != nil {
		return err
	}
	j.deleting = fencing.Claim{}
	j.publish()
	return nil
}

// reclaim removes the data of a journal that this node is no member of, and the mark of a delete after that. The
// purge point goes first: of a node that comes back as a member it would say that all below is covered by a
// snapshot here, and nothing of that would be brought to it.
func (j *Journal) reclaim() error {
	if err := j.dropPurged(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	for _, s := range sortedKeys(j.tails) {
		_ = j.tails[s].w.Close() // its file is removed next
		delete(j.tails, s)
	}
	if err := j.store.Clear(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	for _, s := range slices.Concat(sortedKeys(j.accepted), sortedKeys(j.badAccepted)) {
		if err := j.files.removeAccepted(s); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	if err := j.dropSnapshots(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	clear(j.accepted)
	clear(j.badAccepted)
	clear(j.broken)
	if err := j.files.removeTombstone(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.deleting = fencing.Claim{}
	return nil
}

func (j *Journal) summarize() rpc.JournalSummary {
	s := rpc.JournalSummary{ID: j.id, Name: j.name, Config: j.config, Deleted: j.Deleted()}
	if !s.Deleted {
		s.Deleting = j.deleting
	}
	return s
}
