package segments

import (
	"errors"
	"fmt"
)

// The classes of what can be wrong with bytes. Use errors.Is. ErrCorrupt decides: whatever is
// ErrCorrupt is damage, whichever other class it has besides; a torn tail and a later version are
// never ErrCorrupt.
var (
	// ErrTorn: a record ends before its length says so.
	ErrTorn = errors.New("segments: torn")
	// ErrCorrupt: bytes that were whole once are not what they were (rule N2: damage is never absence).
	ErrCorrupt = errors.New("segments: corrupt")
	// ErrZeroed: zeros where a record should be.
	ErrZeroed = errors.New("segments: zeroed")
	// ErrGap: a whole and readable frame that does not continue the one before it.
	ErrGap = errors.New("segments: gap")
	// ErrUnsupported: written by a later version, or with a flag this version does not know.
	ErrUnsupported = errors.New("segments: unsupported version")
	// ErrTooLarge: an input is beyond a named limit.
	ErrTooLarge = errors.New("segments: too large")
	// ErrNotFound: no such segment or txid here.
	ErrNotFound = errors.New("segments: not found")
)

// MismatchError says which field of a record is wrong. It is of one class.
type MismatchError struct {
	What      string
	Got, Want any
	Class     error
}

// Error returns "segments: what (got X, want Y)".
func (e *MismatchError) Error() string {
	return fmt.Sprintf("segments: %s (got %v, want %v)", e.What, e.Got, e.Want)
}

// Is reports whether target is the error's class.
func (e *MismatchError) Is(target error) bool { return target == e.Class }

func mismatch(class error, what string, got, want any) error {
	return &MismatchError{What: what, Got: got, Want: want, Class: class}
}

// GapError is a frame that starts elsewhere than where the content before it ends.
type GapError struct {
	Got, Want TxID
}

// Error returns the text with both txids.
func (e *GapError) Error() string {
	return fmt.Sprintf("segments: first txid of frame (got %d, want %d)", e.Got, e.Want)
}

// Is reports whether target is ErrGap.
func (e *GapError) Is(target error) bool { return target == ErrGap }

// CorruptionError is damage in a segment file: nothing from there on may be read as "absent".
type CorruptionError struct {
	Segment TxID  // first txid of the segment; 0 when the header could not be read
	Offset  int64 // where in the file
	TxID    TxID  // the first txid that is affected; 0 when unknown
	Err     error // what was found: of class ErrZeroed, ErrGap, ErrTorn or ErrCorrupt, or a read error
}

// Error returns the text with segment, offset and txid.
func (e *CorruptionError) Error() string {
	return fmt.Sprintf("segments: segment %d is damaged at offset %d, txid %d: %v", e.Segment, e.Offset, e.TxID, e.Err)
}

// Unwrap gives ErrCorrupt and the cause.
func (e *CorruptionError) Unwrap() []error { return []error{ErrCorrupt, e.Err} }

// TornError is a tail that was being written when the machine stopped (rule N2a): all of it lies
// above the last synced mark. It is ErrTorn and, whatever the bytes look like, never ErrCorrupt.
type TornError struct {
	Segment TxID
	Offset  int64
	After   Position // the last readable position before it
	Cause   error    // what the bytes look like; not unwrapped on purpose
}

// Error returns the text with segment, offset and position.
func (e *TornError) Error() string {
	return fmt.Sprintf("segments: segment %d has a torn tail at offset %d, after %v: %v", e.Segment, e.Offset, e.After, e.Cause)
}

// Is reports whether target is ErrTorn.
func (e *TornError) Is(target error) bool { return target == ErrTorn }
