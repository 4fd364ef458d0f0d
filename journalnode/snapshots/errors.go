package snapshots

import (
	"errors"
	"fmt"

	"github.com/quorumjournal/qjm/internal/snapshot"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/segments"
)

var (
	// ErrInvalid: a value that no snapshot, policy or input can have.
	ErrInvalid = snapshot.ErrInvalid
	// ErrUnsupported: whole, and of a later version.
	ErrUnsupported = snapshot.ErrUnsupported
	// ErrCorrupt: bytes that were whole once are not what they were (N2).
	ErrCorrupt = errors.New("snapshots: corrupt")
	// ErrDivergence: two histories where there can be one only.
	ErrDivergence = errors.New("snapshots: divergence")
	// ErrHolderMissing: the segment that holds the snapshot's transaction is needed first.
	ErrHolderMissing = errors.New("snapshots: the segment that holds the snapshot is not here")
	// ErrNotFound: no such snapshot here.
	ErrNotFound = errors.New("snapshots: not found")
	// ErrExists: another content is here under that txid.
	ErrExists = errors.New("snapshots: another snapshot of that txid exists")
	// ErrBusy: somebody else is at it; try again later.
	ErrBusy = errors.New("snapshots: busy")
	// ErrTooMany: as many uploads as there may be are under way.
	ErrTooMany = errors.New("snapshots: too many uploads")
	// ErrQuota: the bytes would be more than allowed.
	ErrQuota = errors.New("snapshots: quota exceeded")
	// ErrOffset: a chunk that does not continue the content.
	ErrOffset = errors.New("snapshots: chunk leaves a gap")
	// ErrDiffers: a chunk whose bytes are not those received before for the same place.
	ErrDiffers = errors.New("snapshots: chunk differs from what was received")
	// ErrSize: the content is longer or shorter than said.
	ErrSize = errors.New("snapshots: wrong size")
	// ErrChecksum: the content is not what was sent.
	ErrChecksum = errors.New("snapshots: wrong checksum")
	// ErrClosed: the upload or reader was closed.
	ErrClosed = errors.New("snapshots: closed")
	// ErrPoisoned: a write or sync failed before, so what is on the disk is unknown (P5).
	ErrPoisoned = errors.New("snapshots: poisoned by a failed write or sync")
)

// MismatchError is two numbers or names that should agree. It is of one class.
type MismatchError struct {
	Class     error
	What      string
	Got, Want any
}

// Error returns the class with both values.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("%v: %s (got %v, want %v)", e.Class, e.What, e.Got, e.Want)
}

// Is reports whether target is the error's class.
func (e *MismatchError) Is(target error) bool { return target == e.Class }

func mismatch(class error, what string, got, want any) error {
	return &MismatchError{Class: class, What: what, Got: got, Want: want}
}

// CorruptError is damage in a snapshot file: the snapshot is unknown from there on, not absent and not
// shorter (N2).
type CorruptError struct {
	File   string
	Offset int64 // in the file
	Err    error // what was found, or a read error
}

// Error returns the text with file and offset.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("snapshots: %s is damaged at offset %d: %v", e.File, e.Offset, e.Err)
}

// Unwrap gives ErrCorrupt and the cause.
func (e *CorruptError) Unwrap() []error { return []error{ErrCorrupt, e.Err} }

// DivergenceError is a segment here that does not belong to the history that a snapshot is of.
type DivergenceError struct {
	Segment  segments.TxID     // first txid of the segment
	Own      segments.Position // what the segment says, as far as it is known
	Snapshot ID
}

// Error returns the text with both positions.
func (e *DivergenceError) Error() string {
	return fmt.Sprintf("%v: segment %d (got %v, want %v of snapshot %d)", ErrDivergence, e.Segment, e.Own, e.Snapshot.At, e.Snapshot.TxID)
}

// Is reports whether target is ErrDivergence.
func (e *DivergenceError) Is(target error) bool { return target == ErrDivergence }

// ExistsError names the snapshot that stands in the way. Only who knows the catalog can say which of the
// two counts: the one that is not listed can be set aside.
type ExistsError struct {
	Have, Got Snapshot
}

// Error returns the text with both checksums.
func (e *ExistsError) Error() string {
	return fmt.Sprintf("%v: %d (got epoch %d, %d bytes, sha256 %v; have epoch %d, %d bytes, sha256 %v)", ErrExists,
		e.Got.TxID, e.Got.Epoch, e.Got.Size, e.Got.Checksum, e.Have.Epoch, e.Have.Size, e.Have.Checksum)
}

// Is reports whether target is ErrExists.
func (e *ExistsError) Is(target error) bool { return target == ErrExists }

// PoisonedError is the failure after which nothing more is done. It is ErrPoisoned and the cause, except
// that it is never vfs.ErrNoSpace: that one means "nothing happened, try again later".
type PoisonedError struct {
	Op  string
	Err error
}

// Error returns the text with operation and cause.
func (e *PoisonedError) Error() string { return fmt.Sprintf("%v: %s: %v", ErrPoisoned, e.Op, e.Err) }

// Is reports whether target is ErrPoisoned.
func (e *PoisonedError) Is(target error) bool { return target == ErrPoisoned }

// Unwrap returns the cause.
func (e *PoisonedError) Unwrap() error {
	if errors.Is(e.Err, vfs.ErrNoSpace) {
		return nil
	}
	return e.Err
}
