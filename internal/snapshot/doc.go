// Package snapshot names users' snapshots, for everybody who speaks of them: what one is of (ID), which content
// it has (Snapshot), and when one is wanted (Policy, Due). Values only. Where they are kept, and what they allow
// to be purged, is in journalnode/snapshots. It is not about raft's own snapshots.
package snapshot

import "errors"

var (
	// ErrInvalid: a value that no snapshot, policy or input can have.
	ErrInvalid = errors.New("snapshots: invalid")
	// ErrUnsupported: whole, and of a later version.
	ErrUnsupported = errors.New("snapshots: unsupported version")
)
