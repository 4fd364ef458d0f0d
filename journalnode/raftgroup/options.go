package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// ServerID is "id/incarnation": a node with another disk is another server (N1).
type ServerID string

// ServerIDBytesMax bounds a ServerID.
const ServerIDBytesMax = 255

// Validate checks the form id/incarnation.
func (s ServerID) Validate() error {
	id, incarnation, ok := strings.Cut(string(s), "/")
	if !ok || id == "" || incarnation == "" || strings.Contains(incarnation, "/") || len(s) > ServerIDBytesMax {
		return fmt.Errorf("%w server id (got %.64q, want id/incarnation of at most %d bytes)", ErrInvalid, string(s), ServerIDBytesMax)
	}
	return nil
}

// Machine is the state machine. All calls come from one goroutine, except that what Snapshot returned is
// written while Apply goes on: the machine must not change those bytes.
type Machine interface {
	// Apply is deterministic and is called in the order of the log. It may keep command, and does not change
	// it: the log may hold the same bytes. What it returns goes to the caller of Group.Apply on the node
	// that proposed the command, and nowhere else. After a restart it is called again for what is behind the
	// newest raft snapshot.
	Apply(index uint64, command []byte) any
	// Snapshot returns the state as bytes, at once.
	Snapshot() ([]byte, error)
	// Restore replaces the whole state, or returns an error and leaves it as it was.
	Restore([]byte) error
}

// Options configure a group. The zero value of a duration or size is its default.
type Options struct {
	Dir     string // of the stores; unused with Stores
	Self    ServerID
	Cluster [16]byte
	Machine Machine
	// Dial connects to a server. The node resolves ids; no address ever comes from the log (G4).
	Dial   func(ctx context.Context, to ServerID) (net.Conn, error)
	Stores Stores // nil: files below Dir

	// Timeouts are in seconds because heartbeats wait behind the disk (G1).
	Heartbeat   time.Duration // a follower without contact for so long asks for votes; 2 s
	Election    time.Duration // a candidate without success tries again; 3 s
	LeaderLease time.Duration // a leader without a majority for so long steps down; 2 s
	Commit      time.Duration // an idle leader tells its commit index so often; 50 ms
	RPC         time.Duration // bound of one request on the wire; a raft snapshot has more, by size; 10 s

	StoreStallAfter time.Duration // G5; 5 s
	EnqueueTimeout  time.Duration // how long a request waits for its turn; 3 s
	TransferTimeout time.Duration // G7; twice Election

	TrailingLogs    uint64 // entries kept behind a raft snapshot, for followers a little behind; 10240
	Snapshots       SnapshotPolicy
	SnapshotBytes   int64  // largest raft snapshot; 256 MiB
	CommandBytes    int    // largest command; 512 KiB
	InFlight        int    // requests under way; 1024
	CatchUpMargin   uint64 // entries that a follower may be behind and count as caught up; 64
	SnapshotsRetain int    // raft snapshots kept on disk; 2

	Logger *slog.Logger

	wrapLogs func(raft.LogStore) raft.LogStore // test hook, below the watchdog
}

func orDuration(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

func (o Options) withDefaults() Options {
	o.Heartbeat = orDuration(o.Heartbeat, 2*time.Second)
	o.Election = orDuration(o.Election, max(3*time.Second, o.Heartbeat))
	o.LeaderLease = orDuration(o.LeaderLease, min(2*time.Second, o.Heartbeat))
	o.Commit = orDuration(o.Commit, 50*time.Millisecond)
	o.RPC = orDuration(o.RPC, 10*time.Second)
	o.StoreStallAfter = orDuration(o.StoreStallAfter, 5*time.Second)
	o.EnqueueTimeout = orDuration(o.EnqueueTimeout, 3*time.Second)
	o.TransferTimeout = orDuration(o.TransferTimeout, 2*o.Election)
	if o.TrailingLogs == 0 {
		o.TrailingLogs = 10240
	}
	if o.SnapshotBytes == 0 {
		o.SnapshotBytes = 256 << 20
	}
	if o.CommandBytes == 0 {
		o.CommandBytes = raft.SuggestedMaxDataSize
	}
	if o.InFlight == 0 {
		o.InFlight = 1024
	}
	if o.CatchUpMargin == 0 {
		o.CatchUpMargin = 64
	}
	if o.SnapshotsRetain == 0 {
		o.SnapshotsRetain = 2
	}
	o.Snapshots = o.Snapshots.withDefaults()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Stores == nil {
		o.Stores = fileStores{dir: o.Dir, retain: o.SnapshotsRetain}
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	bad := func(cond bool, format string, args ...any) {
		if cond {
			errs = append(errs, fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...)))
		}
	}
	errs = append(errs, o.Self.Validate())
	if files, ok := o.Stores.(fileStores); ok {
		bad(files.dir == "", "no directory")
	}
	bad(o.Cluster == [16]byte{}, "no cluster id")
	bad(o.LeaderLease > o.Heartbeat, "leader lease %s above heartbeat %s", o.LeaderLease, o.Heartbeat)
	bad(o.Heartbeat > o.Election, "heartbeat %s above election %s", o.Heartbeat, o.Election)
	bad(o.InFlight < 0 || o.CommandBytes < 0 || o.SnapshotBytes < 0 || o.SnapshotsRetain < 0, "a negative limit")
	return errors.Join(errs...)
}

// config is what upstream is told.
func (o Options) config() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(o.Self)
	c.Logger = newLogger(o.Logger)
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = o.Heartbeat, o.Election, o.LeaderLease
	c.CommitTimeout = o.Commit
	c.TrailingLogs = o.TrailingLogs
	// Our own loop says when to snapshot; upstream knows interval and entries only.
	c.SnapshotInterval, c.SnapshotThreshold = snapshotNever, ^uint64(0)
	// A group ends by Shutdown only: the node decides, not the entry that removes it.
	c.ShutdownOnRemove = false
	c.NoLegacyTelemetry = true
	return c
}

// snapshotNever is upstream's own interval; it doubles it, so it must not overflow.
const snapshotNever = 365 * 24 * time.Hour
