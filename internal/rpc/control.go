package rpc

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/snapshot"
	"github.com/quorumjournal/qjm/segments"
)

// ReadStrength says what a read of the catalog rests on.
type ReadStrength uint8

// The strengths.
const (
	Linearizable ReadStrength = iota // an entry of the group's log: all that was answered before it is seen
	LeaseRead                        // what the leader has, while nobody else can lead if clocks run alike
	Stale                            // what the asked node has
)

// String returns the word used in flags and JSON.
func (r ReadStrength) String() string {
	switch r {
	case Linearizable:
		return "linearizable"
	case LeaseRead:
		return "lease"
	case Stale:
		return "stale"
	}
	return "unknown"
}

// CommandResult is what a command of the catalog came to.
type CommandResult struct {
	Index    uint64
	Again    bool
	Version  uint64
	Change   uint64
	Revision uint64
	Kept     []error // one per lease of a keep-alive; nil: it was kept
}

// CatalogNode is a node as the catalog knows it.
type CatalogNode struct {
	ID             quorum.NodeID
	Incarnation    quorum.Incarnation
	Addr, HTTPAddr string
	Labels         map[string]string
	Version        string
	Level          uint16
	Voter, Leaving bool
}

// JournalPolicy says when snapshots are due and what is kept. Zero switches a line off.
type JournalPolicy struct {
	SnapshotBytes          uint64
	SnapshotTxns           uint64
	SnapshotIntervalMillis uint64
	SnapshotGrowthPercent  uint32
	RetainTxns             uint64 // where neither this nor RetainBytes is set, the nodes' own margin holds
	RetainBytes            uint64
	Replicas               uint8
	AutoReadmit            bool
}

// CatalogJournal is a journal as the catalog knows it.
type CatalogJournal struct {
	ID      segments.JournalID
	Name    string
	Config  quorum.Config
	InForce uint64
	Stage   string // of the change under way; empty: none
	Policy  JournalPolicy
	Quota   uint64
	Deleted bool
	Change  *MembershipChange // nil: none under way
	History []MembershipEvent // the last changes, oldest first
}

// MembershipChange is a membership change under way.
type MembershipChange struct {
	ID       uint64 // the index of the catalog's log that began it
	Stage    string // learning, joint, sealed or final
	Old, New []quorum.Member
	Note     string // why it waits
}

// MembershipEvent is one of a journal's past changes.
type MembershipEvent struct {
	Index   uint64
	Kind    string // created, changed, aborted, adopted, forced or deleted
	Version uint64 // of the config that it led to
	Note    string
}

// ChangeRequest begins a membership change. The same again, while it is under way, is answered again.
type ChangeRequest struct {
	Name   string
	To     []quorum.Key // a zero Incarnation is the node's storage that is not leaving
	Expect uint64       // the config version that the sender has seen; 0: whichever there is
	DryRun bool
}

// ChangeReply says what was begun.
type ChangeReply struct {
	Journal segments.JournalID
	Change  MembershipChange
	Version uint64 // of the config that it starts from
	Again   bool   // it was under way before
}

// AbortRequest gives a change up. Change 0 is the one under way.
type AbortRequest struct {
	Name   string
	Change uint64
}

// ReadmitRequest is about a node whose disk was wiped or replaced (N1).
type ReadmitRequest struct {
	Node   quorum.NodeID
	DryRun bool
}

// ReadmitReply names the storage that is leaving, and the one in its place.
type ReadmitReply struct{ Old, New quorum.Member }

// CatalogView is the catalog as of one index.
type CatalogView struct {
	Strength   ReadStrength
	Index      uint64
	Cluster    ClusterID     // zero: the catalog was not founded yet
	Leader     quorum.NodeID // as far as the answering node knows
	AnsweredBy quorum.NodeID
	Nodes      []CatalogNode
	Journals   []CatalogJournal
}

// Generation is another number whenever the nodes are others: their ids, their storage, and who of them is
// leaving. It counts nothing, and says nothing of who votes or leads.
func (v CatalogView) Generation() uint64 {
	var lines []string
	for _, x := range v.Nodes {
		lines = append(lines, fmt.Sprintf("%s/%s/%t\n", x.ID, x.Incarnation, x.Leaving))
	}
	slices.Sort(lines)
	h := fnv.New32a()
	_, _ = io.WriteString(h, strings.Join(lines, "")) // a hash takes everything
	return max(uint64(h.Sum32()), 1)
}

// PlaceRequest creates a journal under an id that was made anew for it: the same again is answered again.
type PlaceRequest struct {
	ID       segments.JournalID
	Name     string
	Replicas int    // 0: every node, up to DefaultReplicasMax
	Spread   string // a label over whose values the members are spread
	Policy   JournalPolicy
	Quota    uint64
	DryRun   bool
}

// DropRequest deletes a journal. ID is the one that is meant: another one that has the name by now is left alone.
// Zero: whichever has the name.
type DropRequest struct {
	Name string
	ID   segments.JournalID
}

// ConfigureRequest sets what is not nil.
type ConfigureRequest struct {
	Name   string
	Policy *JournalPolicy
	Quota  *uint64
}

// ListRequest asks for a snapshot to be listed that a majority of every member set of a config holds (C1).
type ListRequest struct {
	Journal       segments.JournalID
	ConfigVersion uint64
	Claim         fencing.Claim // of the writer that saved it; zero: saved without one
	Snapshot      snapshot.Snapshot
}

// JoinRequest is a blank node's wish to be part of the cluster.
type JoinRequest struct {
	Node   CatalogNode
	DryRun bool
}

// JoinReply is what the node needs to write down.
type JoinReply struct {
	Cluster  ClusterID
	Founders []quorum.Member
	Nodes    []CatalogNode
}

// RemoveRequest takes a node out of the cluster. A zero Incarnation is the one that is not leaving.
type RemoveRequest struct {
	Node        quorum.NodeID
	Incarnation quorum.Incarnation
	DryRun      bool
	Forwarded   bool // by a node: only the leader may answer
}

// TransferRequest hands the leadership of the catalog's group over, to any other voter where To is empty.
type TransferRequest struct {
	To        quorum.NodeID
	Forwarded bool // by a node: only the leader may answer
}

// RaftConn is one end of a stream of bytes. It is a net.Conn less the addresses, which mean nothing here,
// and whose package the cores must not depend on.
type RaftConn interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// Control is what a node answers for the catalog, as seen by a client or a peer.
type Control interface {
	// RaftStream opens a stream for the catalog's group. ctx bounds the opening only. The first bytes of the
	// dialling side name cluster, sender and receiver (N4).
	RaftStream(ctx context.Context) (RaftConn, error)
	ControlCalls
}

// ControlService is what a node serves of the catalog.
type ControlService interface {
	// RaftStream takes the other end. On an error the stream is closed; else it belongs to the service, and
	// lasts until one side closes it.
	RaftStream(conn RaftConn) error
	ControlCalls
}

// ControlCalls are the calls with one answer. What only the leader can do is passed on to it.
type ControlCalls interface {
	// ForwardCommand applies a command on the leader, which the node must be: else ErrNoLeader.
	ForwardCommand(ctx context.Context, command []byte) (CommandResult, error)
	// ReadIndex is how far a linearizable read must go; the node must be the leader.
	ReadIndex(ctx context.Context) (uint64, error)
	Catalog(ctx context.Context, strength ReadStrength) (CatalogView, error)
	// FindJournal resolves a name by what the node has: its journals, else its copy of the catalog.
	FindJournal(ctx context.Context, name string) (JournalSummary, error)
	// PlaceJournal returns when a majority of the members has the journal.
	PlaceJournal(ctx context.Context, req PlaceRequest) (quorum.Config, error)
	// DropJournal returns when a majority of the members has the tombstone and the name is free (M2, M8).
	// ErrNoJournal where the one that is meant is not there.
	DropJournal(ctx context.Context, req DropRequest) (segments.JournalID, error)
	ConfigureJournal(ctx context.Context, req ConfigureRequest) error
	// ListSnapshot lists a snapshot, after it has asked the holders itself: nobody's word is evidence (C1).
	// *ConfigError where the config is not the current one any more. The same again changes nothing.
	ListSnapshot(ctx context.Context, req ListRequest) error
	// ChangeMembers begins a change, which the leader then carries on (M6).
	ChangeMembers(ctx context.Context, req ChangeRequest) (ChangeReply, error)
	// AbortChange returns the config version that is current then. A final change cannot be given up.
	AbortChange(ctx context.Context, req AbortRequest) (uint64, error)
	// Readmit registers the storage that a node has now in the place of the one that the catalog knows (N1).
	Readmit(ctx context.Context, req ReadmitRequest) (ReadmitReply, error)
	Join(ctx context.Context, req JoinRequest) (JoinReply, error)
	RemoveNode(ctx context.Context, req RemoveRequest) error
	// TransferLeader returns who leads next.
	TransferLeader(ctx context.Context, req TransferRequest) (quorum.NodeID, error)
	// RaftSnapshot makes this very node take a raft snapshot, and returns the index that it reaches.
	RaftSnapshot(ctx context.Context) (uint64, error)
	LeaseCalls
	UnsafeCalls
}

// Bounds of the control plane.
const (
	RaftMessageBytes   = 64 << 10  // one piece of a raft stream
	CommandBytesMax    = 512 << 10 // one command of the catalog
	CatalogNodesMax    = 512       // nodes in one answer; an id may have two incarnations
	CatalogJournalsMax = 20_000    // journals in one answer
	LabelsMax          = 16
	DefaultReplicasMax = 5 // members of a journal that was created without saying how many
	KeptMax            = 1024
	VotersMax          = 7  // nodes that vote in the catalog's group; the others copy it
	HistoryMax         = 64 // past changes of one journal in one answer
)
