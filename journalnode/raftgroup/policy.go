package raftgroup

import "time"

// SnapshotPolicy says when a raft snapshot is due: as soon as one of its lines is passed, and there is
// anything new. The zero value of a line is its default.
type SnapshotPolicy struct {
	Off      bool          // only SnapshotNow takes one
	Interval time.Duration // since the last one of this life, or since the start; 1 h
	Entries  uint64        // applied since the last one; 8192
	Bytes    int64         // of commands since the last one; 64 MiB
	// Growth: bytes of commands since the last one, in percent of its size; 400. It counts from
	// GrowthFloor on, or a small state would be written all the time; 1 MiB.
	Growth      int
	GrowthFloor int64
}

const (
	// snapshotCheck is how often the policy is asked.
	snapshotCheck = time.Second
	// snapshotRetry is how long the policy's loop waits after a raft snapshot that failed.
	snapshotRetry = 30 * time.Second
)

func (p SnapshotPolicy) withDefaults() SnapshotPolicy {
	if p.Interval == 0 {
		p.Interval = time.Hour
	}
	if p.Entries == 0 {
		p.Entries = 8192
	}
	if p.Bytes == 0 {
		p.Bytes = 64 << 20
	}
	if p.Growth == 0 {
		p.Growth = 400
	}
	if p.GrowthFloor == 0 {
		p.GrowthFloor = 1 << 20
	}
	return p
}

// since is what happened since the last raft snapshot.
type since struct {
	Elapsed  time.Duration
	Entries  uint64
	Bytes    int64
	LastSize int64 // of the last one; 0: none
}

// due names the line that was passed, or "".
func (p SnapshotPolicy) due(s since) string {
	switch {
	case p.Off || s.Entries == 0:
		return ""
	case s.Entries >= p.Entries:
		return "entries"
	case s.Bytes >= p.Bytes:
		return "bytes"
	case s.LastSize > 0 && s.Bytes >= p.GrowthFloor && s.Bytes/int64(p.Growth) >= s.LastSize/100:
		return "growth"
	case s.Elapsed >= p.Interval:
		return "interval"
	}
	return ""
}
