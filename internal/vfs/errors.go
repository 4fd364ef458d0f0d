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
