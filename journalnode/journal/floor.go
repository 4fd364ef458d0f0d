package journal

import (
	"fmt"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
)

// LowerFloor makes the committed floor absent, where it is the one that is given: an operator was told that
// nobody is left who holds what it names, and goes on without (R3). Nothing else ever lowers a floor. It needs
// the config that was forced for it, so that nobody who counts under an older one acts on what is lost. Owner
// only.
func (j *Journal) LowerFloor(version uint64, from recovery.Floor) error {
	switch {
	case j.poisoned != nil:
		return fmt.Errorf("%w: %w", rpc.ErrPoisoned, j.poisoned)
	case j.unknown != nil:
		return fmt.Errorf("%w: %w", rpc.ErrUnknownNode, j.unknown)
	case j.config.Version < version:
		return &rpc.ConfigError{Journal: j.id, Got: version, Want: j.config.Version}
	case j.floor.At.TxID < from.At.TxID:
		return nil // done before
	case j.floor != from:
		return fmt.Errorf("%w: the floor is another one by now (got %s, have %s)", rpc.ErrPlan, from, j.floor)
	}
	if err := j.save(j.files.dropFloor); err != nil {
		return err
	}
	j.floor, j.floorSaved, j.floorNoted = recovery.Floor{}, recovery.Floor{}, recovery.Floor{}
	j.publish()
	return nil
}
