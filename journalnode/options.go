package journalnode

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/osfs"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/journalnode/raftgroup"
	"github.com/quorumjournal/qjm/journalnode/snapshots"
)

// NodeID names a node: up to 64 letters, digits, dots, dashes and underscores.
type NodeID = quorum.NodeID

// ErrLocked: another process, or a node in this one, has the data directory (N3).
var ErrLocked = vfs.ErrLocked

// Peer is one founding node and where it listens.
type Peer struct {
	ID   quorum.NodeID
	Addr string
}

// Defaults of Options.
const (
	DefaultQueueBytes     = 64 << 20
	DefaultGroupBytes     = 8 << 20
	DefaultQuietAfter     = time.Second
	DefaultRepairEvery    = time.Second
	DefaultCompareEvery   = 10 * time.Second
	DefaultScrubEvery     = 24 * time.Hour
	DefaultScrubRate      = 16 << 20
	DefaultPeerTimeout    = 10 * time.Second
	DefaultSnapshotEvery  = 10 * time.Second
	DefaultUploadIdle     = 30 * time.Second
	DefaultUploadKeep     = 24 * time.Hour
	DefaultPinBytesMax    = 4 << 30
	DefaultRetainTxns     = 100_000
	DefaultRetainBytes    = 64 << 20
	DefaultStallWarnAfter = time.Second
	DefaultStallAfter     = 5 * time.Second
	DefaultReserveBytes   = 64 << 20
	DefaultLeaderWait     = 10 * time.Second

	DefaultWriterGoneAfter = 5 * time.Second
	DefaultChangePatience  = 10 * time.Minute
	DefaultMoveTimeout     = 2 * time.Minute
)

// Options of a node. ID, DataDir and InitialCluster or Join are needed; zero values of the rest are the
// defaults.
type Options struct {
	// ID names the node; it is one of InitialCluster.
	ID quorum.NodeID
	// DataDir belongs to this node alone (N3). It is made if it is not there. Its identity is in it: it is not to be
	// copied, nor restored from a backup.
	DataDir string
	// Listen is the address for clients and peers, host:port. Empty: none; that is for tests, which carry requests to the
	// node by other ways.
	Listen string
	// HTTPListen serves /healthz, /readyz and /metrics; empty: none.
	HTTPListen string
	// InitialCluster lists the founding nodes, this one included. Once the cluster is founded it only
	// tells addresses.
	InitialCluster []Peer
	// Join lists nodes of a cluster, host:port, that a node which comes later asks to be let in; instead of
	// InitialCluster. Once the node is in it is not used.
	Join []string
	// Version is what the node says it runs.
	Version string
	// Advertise is where others reach the node; empty: its entry in InitialCluster, else what it listens on.
	Advertise string
	// Labels tell nodes apart for the placing of journals, by rack for example; nil: as the catalog has them.
	Labels map[string]string

	// Raft configures the catalog's group; the node fills in who it is and where its store lies: below DataDir.
	// On another FS than the operating system's that cannot be, and without Stores the store lasts as long as
	// the node: after a restart the node takes no part in the catalog.
	Raft raftgroup.Options
	// LeaderWait is how long a request that needs the catalog's leader waits until there is one.
	LeaderWait time.Duration

	// QueueBytes bounds the frames that wait for one journal's owner; beyond it, flow control holds the
	// writer back.
	QueueBytes int64
	// GroupBytes bounds the frames of one group commit.
	GroupBytes int
	// QuietAfter without work, the synced mark and the committed floor are written (N2a, W3).
	QuietAfter time.Duration
	// RepairEvery is how often holes are looked for, CompareEvery how often peers are asked what they
	// have (A1).
	RepairEvery, CompareEvery time.Duration
	// ScrubEvery is how often each finalized segment is read in full, ScrubRate how many bytes a second
	// that may take (A2).
	ScrubEvery time.Duration
	ScrubRate  int64
	// ReserveBytes is the size of a file that keeps room for promises, accepted records and configs: while
	// the disk has less to give, new transactions are refused. Below zero: none.
	ReserveBytes int64
	// SnapshotEvery is how often listed snapshots are looked after, and what they cover is purged.
	SnapshotEvery time.Duration
	// UploadIdle is how long an upload is held open for its next piece, UploadKeep how long what is there of
	// it is kept to be resumed.
	UploadIdle, UploadKeep time.Duration
	// Retain is what stays of the log that snapshots cover, for readers that are behind. The zero value is
	// the default; a negative number is none.
	Retain snapshots.Margin
	// PinBytesMax bounds what a learner under way can hold back from being purged (C2).
	PinBytesMax int64
	// PeerTimeout bounds a silence of a peer that is being read from.
	PeerTimeout time.Duration
	// LearnerMarginTxns is how far behind the finalized end a new member may be when it becomes one (M6).
	LearnerMarginTxns uint64
	// WriterGoneAfter without a heartbeat on a majority, a writer is taken for gone: a membership change then
	// fences it. ChangePatience is how long a change may stand still before it gives itself up (M6).
	// MoveTimeout bounds the leader's own opening of a journal that has no writer.
	WriterGoneAfter, ChangePatience, MoveTimeout time.Duration
	// StallAfter is how long a disk operation may take before the journal answers ErrStalled at once
	// instead of making callers wait; StallWarnAfter only logs.
	StallWarnAfter, StallAfter time.Duration

	// Logger; nil discards. Registerer and Gatherer for metrics; nil: a registry of the node's own.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Gatherer   prometheus.Gatherer

	// FS is where DataDir lives; nil: the operating system's. Dialer reaches peers; nil: gRPC. Both are for this
	// module's own tests, and package libqjm/qjmtest.
	FS     vfs.FS
	Dialer rpc.Dialer
	// Journal is passed on to each journal.
	Journal journal.Options
}

func (o Options) withDefaults() Options {
	o.QueueBytes = cmp.Or(o.QueueBytes, DefaultQueueBytes)
	o.GroupBytes = cmp.Or(o.GroupBytes, DefaultGroupBytes)
	o.QuietAfter = cmp.Or(o.QuietAfter, DefaultQuietAfter)
	o.RepairEvery = cmp.Or(o.RepairEvery, DefaultRepairEvery)
	o.CompareEvery = cmp.Or(o.CompareEvery, DefaultCompareEvery)
	o.ScrubEvery = cmp.Or(o.ScrubEvery, DefaultScrubEvery)
	o.ScrubRate = cmp.Or(o.ScrubRate, DefaultScrubRate)
	o.SnapshotEvery = cmp.Or(o.SnapshotEvery, DefaultSnapshotEvery)
	o.UploadIdle = cmp.Or(o.UploadIdle, DefaultUploadIdle)
	o.UploadKeep = cmp.Or(o.UploadKeep, DefaultUploadKeep)
	o.PinBytesMax = cmp.Or(o.PinBytesMax, DefaultPinBytesMax)
	o.Retain.Txns = cmp.Or(o.Retain.Txns, DefaultRetainTxns)
	o.Retain.Bytes = cmp.Or(o.Retain.Bytes, DefaultRetainBytes)
	o.ReserveBytes = cmp.Or(o.ReserveBytes, DefaultReserveBytes)
	o.PeerTimeout = cmp.Or(o.PeerTimeout, DefaultPeerTimeout)
	o.WriterGoneAfter = cmp.Or(o.WriterGoneAfter, DefaultWriterGoneAfter)
	o.ChangePatience = cmp.Or(o.ChangePatience, DefaultChangePatience)
	o.MoveTimeout = cmp.Or(o.MoveTimeout, DefaultMoveTimeout)
	o.StallWarnAfter = cmp.Or(o.StallWarnAfter, DefaultStallWarnAfter)
	o.StallAfter = cmp.Or(o.StallAfter, DefaultStallAfter)
	o.LeaderWait = cmp.Or(o.LeaderWait, DefaultLeaderWait)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if _, real := o.FS.(*osfs.FS); o.FS != nil && !real && o.Raft.Stores == nil {
		o.Raft.Stores = raftgroup.NewMemStores()
	}
	o.InitialCluster = slices.SortedFunc(slices.Values(o.InitialCluster), func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
	return o
}

func (o Options) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("journalnode: "+format, args...)) }
	if err := o.ID.Validate(); err != nil {
		errs = append(errs, err)
	}
	if o.DataDir == "" {
		bad("no data directory given")
	}
	own := false
	for i, p := range o.InitialCluster {
		if err := p.ID.Validate(); err != nil {
			errs = append(errs, err)
		}
		if p.Addr == "" {
			bad("node %s of the initial cluster has no address", p.ID)
		}
		own = own || p.ID == o.ID
		if i > 0 && o.InitialCluster[i-1].ID == p.ID {
			bad("node %s stands twice in the initial cluster", p.ID)
		}
		for _, q := range o.InitialCluster[:i] {
			if q.Addr == p.Addr {
				bad("nodes %s and %s of the initial cluster have the same address %s", q.ID, p.ID, p.Addr)
			}
		}
	}
	switch {
	case len(o.Join) > 0 && len(o.InitialCluster) > 0:
		bad("a node founds a cluster or joins one: both InitialCluster and Join are given")
	case len(o.Join) > 0 && o.Advertise == "" && o.Listen == "":
		bad("a node that joins must say where it is reached (Options.Advertise)")
	case len(o.Join) == 0 && !own:
		bad("the initial cluster does not name this node (got %v, want one of them to be %q)", peerIDs(o.InitialCluster), o.ID)
	}
	if len(o.InitialCluster) > quorum.MaxMembers {
		bad("the initial cluster is too large (got %d, want at most %d)", len(o.InitialCluster), quorum.MaxMembers)
	}
	return errors.Join(errs...)
}

func peerIDs(ps []Peer) []string {
	ids := make([]string, len(ps))
	for i, p := range ps {
		ids[i] = string(p.ID)
	}
	return ids
}
