package journal

import (
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
)

// Bury installs the empty config and removes the data: the caller knows that the delete is decided. Again,
// it removes what is left. Owner only.
func (j *Journal) Bury(empty quorum.Config) error { return j.bury(empty, false) }

// Entomb is Bury that removes nothing: the journal was dropped because all its members were taken for lost, and what
// is here is all that is left of it. It serves nothing any more; an operator may look at it. Owner only.
func (j *Journal) Entomb(empty quorum.Config) error { return j.bury(empty, true) }

func (j *Journal) bury(empty quorum.Config, keep bool) error {
	switch {
	case j.unknown != nil:
		return fmt.Errorf("%w: %w", rpc.ErrUnknownNode, j.unknown)
	case j.poisoned != nil:
		return fmt.Errorf("%w: %w", rpc.ErrPoisoned, j.poisoned)
	}
	if !j.config.IsEmpty() {
		if keep { // before the config: from that on it is a deleted journal, whose data goes at the next open
			if err := j.save(j.files.keepData); err != nil {
				return err
			}
		}
		if empty.Version <= j.config.Version {
			return &rpc.ConfigError{Journal: j.id, Got: empty.Version, Want: j.config.Version}
		}
		if err := j.save(func() error { return j.files.saveConfig(empty) }); err != nil {
			return err
		}
		j.config = empty
	}
	err := j.reclaimDeleted()
	j.structureChanged()
	return err
}

// reclaimDeleted removes the data of a deleted journal, but of one that was entombed.
func (j *Journal) reclaimDeleted() error {
	kept, err := j.files.dataKept()
	if kept || err != nil {
		return err
	}
	return j.reclaim()
}

// reclaim removes the data of a journal that this node is no member of. The purge point goes first: of a node that comes back as a member it would say that all below is covered by a
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
	return nil
}

func (j *Journal) summarize() rpc.JournalSummary {
	return rpc.JournalSummary{ID: j.id, Name: j.name, Config: j.config, Deleted: j.Deleted()}
}
