package fencing

import (
	"errors"
	"fmt"
)

var (
	// ErrFenced is the class of *FencedError: the request's epoch is over.
	ErrFenced = errors.New("fencing: fenced")
	// ErrLostRace is the class of *LostRaceError: another writer holds the same epoch here.
	ErrLostRace = errors.New("fencing: lost the race for an epoch")
	// ErrNotPromised is the class of *NotPromisedError.
	ErrNotPromised = errors.New("fencing: epoch not promised")
	// ErrEpochTooFar refuses a claim more than MaxEpochStep above the promise.
	ErrEpochTooFar = errors.New("fencing: epoch is too far above the promise")
	// ErrZeroEpoch refuses a claim without an epoch or without a writer id.
	ErrZeroEpoch = errors.New("fencing: a claim needs an epoch above zero and a writer id")
)

// FencedError says that a node has promised a higher epoch. The request had no effect.
type FencedError struct {
	Promised Claim // what the node has promised
	Got      Claim // what the request claimed
}

func (e *FencedError) Error() string {
	return fmt.Sprintf("fencing: fenced by a higher epoch (got %d, promised %d to writer %s)",
		e.Got.Epoch, e.Promised.Epoch, e.Promised.Writer)
}

// Is makes errors.Is(err, ErrFenced) true.
func (e *FencedError) Is(target error) bool { return target == ErrFenced }

// LostRaceError says that a node has promised this very epoch to another writer. It is not fencing
// (rule F5): whoever holds the majority goes on. The request had no effect.
type LostRaceError struct {
	Holder Claim
	Got    Claim
}

func (e *LostRaceError) Error() string {
	return fmt.Sprintf("fencing: epoch %d is promised to another writer (got %s, want %s)",
		e.Got.Epoch, e.Got.Writer, e.Holder.Writer)
}

// Is makes errors.Is(err, ErrLostRace) true.
func (e *LostRaceError) Is(target error) bool { return target == ErrLostRace }

// NotPromisedError says that a frame claims an epoch that this node has not promised yet.
type NotPromisedError struct {
	Promised Claim
	Got      Claim
}

func (e *NotPromisedError) Error() string {
	return fmt.Sprintf("fencing: epoch not promised (got %d, promised %d)", e.Got.Epoch, e.Promised.Epoch)
}

// Is makes errors.Is(err, ErrNotPromised) true.
func (e *NotPromisedError) Is(target error) bool { return target == ErrNotPromised }
