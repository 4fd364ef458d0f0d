package journal

import (
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// Attach makes a write stream known, so that a config that it is too old for ends it at once: a writer that
// has nothing to send would hear of it only with its next heartbeat. Of a damage that stands then the writer
// has heard, or will, before it counts anything here (BeginRebuild). Detach forgets it. Owner only.
func (j *Journal) Attach(st *Stream) {
	if !slices.Contains(j.streams, st) {
		j.streams = append(j.streams, st)
	}
	st.copies = j.copies
	if s := j.newest(); j.copyOf(s).State == recovery.Unknown {
		st.damaged = s
	}
}

// Detach forgets a stream that has ended. Owner only.
func (j *Journal) Detach(st *Stream) {
	j.streams = slices.DeleteFunc(j.streams, func(o *Stream) bool { return o == st })
}

// Config returns the installed config. Owner only.
func (j *Journal) Config() quorum.Config { return j.config }

// InstallConfig makes a newer config durable and then the one that counts here (M0): every request that
// carries another version is refused from then on (M1), write streams under an older one are ended. The
// same config again changes nothing. The caller vouches that it comes from the catalog or, unchanged, from
// a node that has it installed.
//
// Errors: *rpc.ConfigError where a newer one is installed, rpc.ErrConfigDiverges where another one of the
// same version is; rpc.ErrJournalDeleted, rpc.ErrUnknownNode, rpc.ErrPoisoned; a full disk. Owner only.
func (j *Journal) InstallConfig(next quorum.Config) error {
	switch {
	case j.poisoned != nil:
		return fmt.Errorf("%w: %w", rpc.ErrPoisoned, j.poisoned)
	case j.unknown != nil:
		return fmt.Errorf("%w: %w", rpc.ErrUnknownNode, j.unknown)
	case next.Version < j.config.Version:
		return &rpc.ConfigError{Journal: j.id, Got: next.Version, Want: j.config.Version}
	case next.Version == j.config.Version && next.Digest() != j.config.Digest():
		return fmt.Errorf("%w: journal %s, version %d", rpc.ErrConfigDiverges, j.id, next.Version)
	case next.Version == j.config.Version:
		return nil
	case next.IsEmpty():
		return fmt.Errorf("%w: the empty config comes with a delete (M8)", rpc.ErrBadRequest)
	case j.Deleted():
		return rpc.ErrJournalDeleted // a change that was under way does not bring it back (M8)
	}
	if err := next.Validate(); err != nil {
		return fmt.Errorf("%w: %w", rpc.ErrBadRequest, err)
	}
	if next.Has(j.self.ID, j.self.Incarnation) && !j.config.Has(j.self.ID, j.self.Incarnation) {
		if err := j.setOpenAside(); err != nil {
			return err
		}
	}
	if err := j.save(func() error { return j.files.saveConfig(next) }); err != nil {
		return err
	}
	j.config, j.seal = next, rpc.Seal{}
	var old []*Stream // in the order in which they came: a run of the simulation is to be the same each time
	j.streams = slices.DeleteFunc(j.streams, func(st *Stream) bool {
		if st.Header.ConfigVersion >= next.Version {
			return false
		}
		old = append(old, st)
		return true
	})
	for _, st := range old {
		end(st, &rpc.ConfigError{Journal: j.id, Got: st.Header.ConfigVersion, Want: next.Version})
	}
	j.publish()
	return nil
}

// setOpenAside is what a node does that becomes a member, again perhaps: what it holds of segments that are
// not finalized is from a time when it was none, or from a change that was aborted. Nothing that was
// committed rests on it, and nobody has vouched for it since: it must not come back as a data answer.
func (j *Journal) setOpenAside() error {
	for _, s := range sortedKeys(j.accepted) {
		if err := j.dropAccepted(s); err != nil {
			return err
		}
	}
	for _, s := range sortedKeys(j.badAccepted) {
		if err := j.dropAccepted(s); err != nil {
			return err
		}
	}
	for _, info := range j.store.InProgress() {
		if err := j.setAside(info.First, segments.ReasonLeftover); err != nil {
			return err
		}
	}
	j.structureChanged()
	return nil
}

// Leave drops the data of a journal that this node is no member of any more: segments, accepted records,
// asides. Config and promise stay as the tombstone: an old list of endpoints and two nodes that have
// forgotten must not make a majority of the config that dropped them (M8). A crash in between leaves some
// of it, which counts for nothing; the same call removes the rest. Owner only.
func (j *Journal) Leave() error {
	switch {
	case j.poisoned != nil:
		return fmt.Errorf("%w: %w", rpc.ErrPoisoned, j.poisoned)
	case j.unknown != nil:
		return fmt.Errorf("%w: %w", rpc.ErrUnknownNode, j.unknown)
	case j.config.Has(j.self.ID, j.self.Incarnation):
		return fmt.Errorf("%w: node %s is a member by config %d, and keeps its data", rpc.ErrBadRequest, j.self.ID, j.config.Version)
	}
	err := j.reclaim()
	if err == nil {
		j.mayHoldSnapshots()
	}
	j.structureChanged()
	return err
}
