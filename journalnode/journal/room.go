package journal

import (
	"errors"
	"fmt"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/segments"
)

// mayGrow refuses what a full disk can do without: new frames, new segments, copies from peers. Promises,
// records, footers and recovery go on.
func (j *Journal) mayGrow() error {
	if j.room.Low() {
		return fmt.Errorf("journal: the disk has no more than its reserve: %w", vfs.ErrNoSpace)
	}
	return nil
}

// withRoom runs what must go on when the disk is full: where it lacks room, once more with the reserve
// given up. f leaves everything as it was where it returns vfs.ErrNoSpace.
func (j *Journal) withRoom(f func() error) error {
	err := f()
	if errors.Is(err, vfs.ErrNoSpace) && j.room.GiveUp() {
		return f()
	}
	return err
}

// save runs a write of a small file. A full disk, without a reserve, is refused and may be tried again;
// anything else poisons.
func (j *Journal) save(f func() error) error {
	switch err := j.withRoom(f); {
	case err == nil:
		return nil
	case errors.Is(err, vfs.ErrNoSpace):
		return fmt.Errorf("journal: %w", err)
	default:
		return j.poison(err)
	}
}

// openTail opens a segment in progress. Where it cannot be opened, it is unknown (N2).
func (j *Journal) openTail(s segments.TxID) {
	err := j.withRoom(func() error {
		w, report, err := j.store.OpenTail(s)
		if err == nil {
			j.tails[s] = &tail{w: w, cutAt: report.CutAt}
			j.copies++
		}
		return err
	})
	if err != nil {
		j.broken[s] = err
		return
	}
	delete(j.broken, s)
}

// LacksRoom reports whether a segment is unknown only because the disk was too full to put its torn tail
// aside. Anyone.
func (j *Journal) LacksRoom() bool {
	j.viewMu.Lock()
	defer j.viewMu.Unlock()
	return j.lacksRoom
}

// RetryTails opens the segments for which there was no room. Owner only.
func (j *Journal) RetryTails() error {
	if j.poisoned != nil || j.unknown != nil || j.Deleted() {
		return nil
	}
	var last error
	for _, s := range sortedKeys(j.broken) {
		if !errors.Is(j.broken[s], vfs.ErrNoSpace) {
			continue
		}
		if j.openTail(s); j.broken[s] != nil {
			last = j.broken[s]
			continue
		}
		if a, ok := j.accepted[s]; ok {
			if err := j.rollForward(s, a); err != nil {
				j.broken[s] = err
				last = err
			}
		}
	}
	j.structureChanged()
	return last
}
