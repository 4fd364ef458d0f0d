package raftgroup

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrMayHaveHappened is the class of errors after which a command may be applied, or may be later.
	// After every other error of Apply, Barrier and the changes of members, nothing happened.
	ErrMayHaveHappened = errors.New("raftgroup: it may have happened")
	// ErrNotLeader is the class of NotLeaderError.
	ErrNotLeader = errors.New("raftgroup: not the leader")
	// ErrClosed is returned after Shutdown began.
	ErrClosed = errors.New("raftgroup: shut down")
	// ErrBusy means that the group took no further request within EnqueueTimeout.
	ErrBusy = errors.New("raftgroup: too many requests under way")
	// ErrTransferring means that leadership is being handed over.
	ErrTransferring = errors.New("raftgroup: leadership is being transferred")
	// ErrTransferFailed means that the target did not take over, or that it failed to before in this term (G7).
	ErrTransferFailed = errors.New("raftgroup: leadership was not transferred")
	// ErrStalled is the class of StalledError.
	ErrStalled = errors.New("raftgroup: the log store hangs")
	// ErrExists is returned by Bootstrap and Create where there is a store.
	ErrExists = errors.New("raftgroup: there is a store already")
	// ErrNoStore is returned by Start where there is none (G9).
	ErrNoStore = errors.New("raftgroup: there is no store")
	// ErrDamaged means that the store is there and cannot be used.
	ErrDamaged = errors.New("raftgroup: the store is damaged")
	// ErrHello is the class of HelloError.
	ErrHello = errors.New("raftgroup: not a stream of this group")
	// ErrTooLarge is the class of TooLargeError.
	ErrTooLarge = errors.New("raftgroup: too large")
	// ErrMembershipChanged is the class of MembershipChangedError.
	ErrMembershipChanged = errors.New("raftgroup: the members have changed")
	// ErrMemberExists is returned where a server is added that is a member already, as what is asked or more.
	ErrMemberExists = errors.New("raftgroup: a member already")
	// ErrNoMember is returned where a server is named that is not a member.
	ErrNoMember = errors.New("raftgroup: not a member")
	// ErrLastVoter is returned where the last voter would be removed.
	ErrLastVoter = errors.New("raftgroup: the last voter cannot be removed")
	// ErrInvalid is returned for options and ids that make no sense.
	ErrInvalid = errors.New("raftgroup: invalid")
)

// NotLeaderError says who leads, as far as this node knows.
type NotLeaderError struct {
	Leader ServerID // empty: unknown
}

func (e *NotLeaderError) Error() string {
	if e.Leader == "" {
		return "raftgroup: not the leader (leader unknown)"
	}
	return fmt.Sprintf("raftgroup: not the leader (leader %s)", e.Leader)
}

func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }

// UnknownOutcomeError wraps what made the outcome unknown (G10).
type UnknownOutcomeError struct {
	Op  string
	Err error
}

func (e *UnknownOutcomeError) Error() string {
	return fmt.Sprintf("raftgroup: %s may have happened: %v", e.Op, e.Err)
}

func (e *UnknownOutcomeError) Is(target error) bool { return target == ErrMayHaveHappened }

func (e *UnknownOutcomeError) Unwrap() error { return e.Err }

// StalledError says for how long a store call hangs (G5).
type StalledError struct {
	For, Max time.Duration
}

func (e *StalledError) Error() string {
	return fmt.Sprintf("raftgroup: the log store hangs (for %s, bound %s)", e.For, e.Max)
}

func (e *StalledError) Is(target error) bool { return target == ErrStalled }

// HelloError says which part of a hello does not match (G4).
type HelloError struct {
	Field     string
	Got, Want string
}

func (e *HelloError) Error() string {
	return fmt.Sprintf("raftgroup: hello: %s (got %s, want %s)", e.Field, e.Got, e.Want)
}

func (e *HelloError) Is(target error) bool { return target == ErrHello }

// TooLargeError names the limit that was passed.
type TooLargeError struct {
	What     string
	Got, Max int64
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("raftgroup: %s is too large (got %d bytes, want at most %d)", e.What, e.Got, e.Max)
}

func (e *TooLargeError) Is(target error) bool { return target == ErrTooLarge }

// MembershipChangedError is returned where a change names an index that is not the current one.
type MembershipChangedError struct {
	Got, Want uint64
}

func (e *MembershipChangedError) Error() string {
	return fmt.Sprintf("raftgroup: the members have changed (got index %d, want %d)", e.Got, e.Want)
}

func (e *MembershipChangedError) Is(target error) bool { return target == ErrMembershipChanged }
