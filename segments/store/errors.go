package store

import (
	"errors"
	"fmt"

	"github.com/quorumjournal/qjm/internal/vfs"
)

var (
	// ErrPoisoned: a write or sync failed before, so what is on the disk is unknown. Nothing is
	// written to this directory any more until it is opened anew, by another process (W2a).
	ErrPoisoned = errors.New("store: poisoned by a failed write or sync")
	// ErrExists: the segment is here already.
	ErrExists = errors.New("store: segment exists")
	// ErrBusy: the segment has an open writer; close it first.
	ErrBusy = errors.New("store: segment has an open writer")
	// ErrNotOpen: nothing is read from an in-progress segment before OpenTail made it durable (W2a, D2).
	ErrNotOpen = errors.New("store: segment in progress is not open")
	// ErrClosed: the writer, reader or incoming copy was closed.
	ErrClosed = errors.New("store: closed")
	// ErrWrongEnd: an end was asked for that the content does not have.
	ErrWrongEnd = errors.New("store: content does not end there")
	// ErrFinalized: a finalized segment is never changed (R5).
	ErrFinalized = errors.New("store: segment is finalized")
	// ErrForeign: a header of another journal.
	ErrForeign = errors.New("store: header of another journal")
)

// PoisonedError is the failure that poisoned a directory. It is ErrPoisoned and the cause, except
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
