package journal

import (
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
)

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
