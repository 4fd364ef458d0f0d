package libqjm

import (
	"cmp"
	"time"
)

// Profile is a set of defaults for a replica: it fills in what ReplicaOptions leave unset, and nothing else. None of them
// makes an acknowledgement mean less: each is a transaction synced on a majority, applied here.
type Profile uint8

// Profiles, and their reasons.
const (
	// ProfileProduction, the default, is for most services. LeaseTTL 3 s: longer than what a garbage collection, a
	// full disk queue or a virtual machine that is moved usually take, so that only a process that is really gone is
	// replaced. A snapshot after 256 MiB of log, or an hour: a restart replays seconds, and not a day. Where the state
	// itself is larger than a GiB, set ReplicaOptions.Snapshots to Growth 100 instead: then all snapshots together cost
	// about what the log does.
	ProfileProduction Profile = iota
	// ProfileThroughput is for imports, queues and pipelines: many proposals under way, and nobody who waits for a single
	// one. Four full frames under way instead of two, 256 MiB of proposals that are not applied yet (memory that the
	// process has to have, and that a failover may leave in doubt), segments of 256 MiB, a snapshot after 1 GiB of log.
	// LeaseTTL 10 s: a process that is busy is not replaced.
	ProfileThroughput
	// ProfileAvailability is for services whose users wait. LeaseTTL 500 ms: a failover takes about that, and a
	// pause of that length costs one, too. OpenWithoutCatalog: with the catalog down, too, a writer that a majority has
	// not heard is replaced, at the price that is told there. A snapshot after 64 MiB of log or ten minutes: whoever starts is
	// warm soon. 16 MiB of proposals that are not applied yet: what a failover leaves in doubt is little.
	ProfileAvailability
)

// String returns its name.
func (p Profile) String() string {
	switch p {
	case ProfileProduction:
		return "production"
	case ProfileThroughput:
		return "throughput"
	case ProfileAvailability:
		return "availability"
	}
	return "unknown"
}

// defaults of a profile.
func (p Profile) defaults() ReplicaOptions {
	switch p {
	case ProfileThroughput:
		return ReplicaOptions{
			LeaseTTL:  10 * time.Second,
			Writer:    WriterOptions{FramesInFlight: 4, QueueBytes: 256 << 20, SegmentBytes: 256 << 20},
			Snapshots: SnapshotPolicy{Bytes: 1 << 30},
		}
	case ProfileAvailability:
		return ReplicaOptions{
			LeaseTTL: 500 * time.Millisecond, OpenWithoutCatalog: true,
			Writer:    WriterOptions{QueueBytes: 16 << 20},
			Snapshots: SnapshotPolicy{Bytes: 64 << 20, IntervalMillis: (10 * time.Minute).Milliseconds()},
		}
	}
	return ReplicaOptions{
		LeaseTTL:  3 * time.Second,
		Snapshots: SnapshotPolicy{Bytes: 256 << 20, IntervalMillis: time.Hour.Milliseconds()},
	}
}

// withDefaults fills in what is unset. The policy for snapshots is one only where neither the options nor the journal
// have any.
func (o ReplicaOptions) withDefaults() ReplicaOptions {
	d := o.Profile.defaults()
	o.LeaseTTL = cmp.Or(o.LeaseTTL, d.LeaseTTL)
	o.OpenWithoutCatalog = o.OpenWithoutCatalog || d.OpenWithoutCatalog
	o.Writer.FramesInFlight = cmp.Or(o.Writer.FramesInFlight, d.Writer.FramesInFlight)
	o.Writer.QueueBytes = cmp.Or(o.Writer.QueueBytes, d.Writer.QueueBytes)
	o.Writer.SegmentBytes = cmp.Or(o.Writer.SegmentBytes, d.Writer.SegmentBytes)
	o.Writer.lastPolicy = d.Snapshots
	return o
}
