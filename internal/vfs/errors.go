package vfs

import "errors"

var (
	// ErrLocked is returned by Lock when somebody holds the lock.
	ErrLocked = errors.New("vfs: locked by another process")
	// ErrNoSpace is returned when the file system is full.
	ErrNoSpace = errors.New("vfs: no space left")
	// ErrTooLarge is returned by ReadFile for a file above the caller's limit.
	ErrTooLarge = errors.New("vfs: file is too large")
)

// Unsettled wraps the error of a step behind which there is no way back: what a crash would leave is
// open. It is never ErrNoSpace, which callers take for "nothing happened, try again later". Nil stays nil.
func Unsettled(err error) error {
	if err == nil {
		return nil
	}
	return &unsettledError{err}
}

type unsettledError struct{ err error }

func (e *unsettledError) Error() string { return e.err.Error() }

// Is is that of the cause, ErrNoSpace aside.
func (e *unsettledError) Is(target error) bool {
	return target != ErrNoSpace && errors.Is(e.err, target)
}
