// Package snapshots keeps the user's snapshots of one journal on one node, and decides what they allow to
// be purged. It is not about raft's own snapshots.
//
// Two parts. Decisions take values and return values: PurgeDecision (what may go), InstallDecision (what stays
// when a snapshot is installed), Disposable (which snapshots may go). The Store keeps the files:
//
//	dir/00000000000000000400.snap                       whole, synced, verified when it came
//	    00000000000000000400.snap.damaged-1             put aside
//	    upload-00000000000000000800-00000000000000000007-<digest>.tmp   half an upload: invisible (C4)
//
//	s, err := snapshots.Open(fsys, dir, journal, snapshots.Options{}, snapshots.Cleanup{})
//	u, err := s.Begin(snapshots.ID{TxID: 800, At: at, Epoch: 7}, snapshots.SizeUnknown)
//	err = u.Write(u.Offset(), chunk)
//	snap, err := u.Finish(size, checksum)               // durable, and visible, from here on
//	r, err := s.OpenReader(800)
//
// The file format is in docs/format.md. Memory is one block for each upload, and one for each reader.
//
// Invariants, cited by tests:
//
//	P1 A snapshot that Finish returned nil for is there and whole after every crash (C1).
//	P2 What is not finished is never listed and never read (C4).
//	P3 Every block is verified as it is read. Damage is an error that names file and offset; it is never
//	   a shorter content, nor an absent snapshot (N2).
//	P4 Damaged files are renamed aside, never deleted.
//	P5 After a failed write or sync nothing more is done with that upload. A full disk found before
//	   anything was promised is no such failure.
//	P6 What a crash left of an upload is verified and written again with its own bytes before a sync may
//	   answer for it (W2a).
//	P7 No decision takes a purge point of a peer, or a clock.
package snapshots

import "github.com/quorumjournal/qjm/internal/snapshot"

// What everybody who speaks of snapshots names them by; the words are at home in internal/snapshot.
type (
	ID       = snapshot.ID
	Snapshot = snapshot.Snapshot
	Checksum = snapshot.Checksum
)

// SizeMax bounds the content of a snapshot.
const SizeMax = snapshot.SizeMax
