package rpc

import (
	"context"
	"time"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// Header is what every request carries that changes a journal or counts towards a quorum (rule F3). On
// a write stream it is stated once, in the first message, and binds all that follows.
type Header struct {
	Journal       segments.JournalID
	ConfigVersion uint64
	Incarnation   quorum.Incarnation // the storage the request is meant for (N1)
	Claim         fencing.Claim
}

// ClusterID names a founded cluster; it is made at genesis (N4).
type ClusterID [16]byte

// IsZero reports whether the cluster is not founded yet.
func (c ClusterID) IsZero() bool { return c == ClusterID{} }

// Phase is where a node stands on its way into a cluster (N4).
type Phase uint8

const (
	// Blank: the directory belongs to no cluster yet.
	Blank Phase = iota
	// Founding: the genesis record is written, and not known to be written by all.
	Founding
	// Founded: the node belongs to its cluster.
	Founded
)

// String returns the word used in logs and JSON.
func (p Phase) String() string {
	switch p {
	case Blank:
		return "blank"
	case Founding:
		return "founding"
	case Founded:
		return "founded"
	}
	return "unknown"
}

// NodeInfo says who a node is. Founders is its genesis record, empty while Blank.
type NodeInfo struct {
	ID          quorum.NodeID
	Incarnation quorum.Incarnation
	Cluster     ClusterID
	Phase       Phase
	Founders    []quorum.Member
	Version     string
	Full        bool // the disk is full: the node lives on its reserve
}

// JournalSummary is one line of a node's list of journals.
type JournalSummary struct {
	ID      segments.JournalID
	Name    string
	Config  quorum.Config
	Deleted bool
	// Learner, in InstallConfig: the node is no member yet, and is to copy what is finalized (M6), for
	// LearnFor from now on.
	Learner bool
	// Holding, in Journals: what the node holds finalized, by name.
	Holding Holding
}

// Holding names a state of what one node holds finalized of one journal. While the node tells the same one, no segment
// was finalized, came, went, or was found damaged there: a list of segments that was asked for after a Holding was
// told stays as good as a new one for as long as it is told again (A1). The Holdings of two nodes have nothing to do
// with each other, and those of two runs of a node are never the same. Zero: the node does not tell.
type Holding [16]byte

// IsZero reports whether the node did not tell.
func (h Holding) IsZero() bool { return h == Holding{} }

// JournalState is what a node says of a journal without promising anything. Counts towards a quorum
// where it is used for reading (D4, D6) or before a claim (F2).
type JournalState struct {
	Node        quorum.NodeID
	Incarnation quorum.Incarnation
	Summary     JournalSummary
	Promised    fencing.Claim
	// DataKnown is false where some of the newest data cannot be read (N2); Newest then means nothing.
	DataKnown bool
	// Member is false where the node's (id, incarnation) is not in its installed config (N1).
	Member  bool
	Answer  recovery.Answer // of the newest segment, as Prepare would answer it
	Written segments.TxID   // highest txid handed to the disk
	Damaged []Damage        // segments that cannot be read
	// LastSync is how long the last sync took, SinceSync how long ago it ended; zero: none yet.
	LastSync  time.Duration
	SinceSync time.Duration
	Poisoned  string // why this journal takes no writes here until a restart; empty: it does
	// SinceWriter is how long ago a message of a writer's stream was handled here; zero: not since the node
	// started, or that writer has said that it leaves.
	SinceWriter time.Duration
	// Up is how long the node has been up: one that is not up for long cannot say that there is no writer.
	Up   time.Duration
	Seal Seal // what that writer told of the open segment (M4)
}

// Damage names one segment that a node cannot read in full.
type Damage struct {
	Segment segments.TxID
	Text    string
}

// PromiseReply answers NewEpoch: the promise is made. Promises and data answers are counted apart (F2).
type PromiseReply struct {
	DataKnown bool
	Newest    segments.TxID     // first txid of the newest segment; 0 = none
	Purged    segments.Position // the purge point (C5); zero: nothing was purged
}

// SegmentInfo is one line of a node's list of segments.
type SegmentInfo struct {
	First   segments.TxID
	State   recovery.CopyState
	Last    segments.Position
	Epoch   fencing.Epoch
	Prev    segments.End
	Bytes   int64
	Problem string // of an Unknown one
}

// SegmentsRequest asks for one page of a node's list of segments: at most Limit of those whose first
// txid is above After. Limit 0, or one above SegmentsPageMax, is SegmentsPageMax.
type SegmentsRequest struct {
	Journal segments.JournalID
	After   segments.TxID
	Limit   int
}

// SegmentsPage is one page, by first txid. More: there are segments behind it. Pages asked for one
// after the other are no snapshot: segments may come, end or go in between.
type SegmentsPage struct {
	Segments []SegmentInfo
	More     bool
	Purged   segments.Position // the purge point (C5); zero: nothing was purged
}

// ReadRequest asks for verbatim frames of one segment, from the frame that holds From. Purpose says
// how far: up to what is committed for readers, up to what is durable for recovery and catch-up.
type ReadRequest struct {
	Journal segments.JournalID
	Segment segments.TxID
	From    segments.TxID
	// Durable asks for all synced frames of a copy, committed or not: recovery sources (R4) and
	// catch-up within one epoch (W5). Epoch must then be the copy's own.
	Durable bool
	Epoch   fencing.Epoch
	UpTo    segments.TxID // 0 = as far as there is
}

// TailRequest asks for committed frames from the one that holds From, across segments.
type TailRequest struct {
	Journal segments.JournalID
	From    segments.TxID
	// FinalizedOnly leaves the segment in progress out.
	FinalizedOnly bool
	// Follow keeps the stream open and pushes what is committed later.
	Follow bool
}

// Chunk is a run of verbatim frames of one segment. Frames is a concatenation of whole frames, owned
// by the receiver. Prev is the position before the first of them.
type Chunk struct {
	Segment segments.TxID
	Prev    segments.Position
	Frames  []byte
	// Committed is the highest txid the node knows to be committed.
	Committed segments.TxID
}

// WriteRequest is one message of the write stream, handled in order. At most one of Start, Frames,
// Finalize and Fill is set; none makes it a heartbeat. Floor rides on any.
type WriteRequest struct {
	Seq      uint64 // orders one stream; no safety rests on it (F3)
	Floor    recovery.Floor
	Start    *segments.End // StartSegment(Prev.Next()): the previous segment
	Frames   []segments.Frame
	Finalize *segments.End
	Fill     *Fill
	// Sealed rides on any: the open segment was started under this config version on a majority of each of
	// its member sets (M4). Zero: nothing is said.
	Sealed Seal
	// Reached rides on any: the answer to a Reach (M6). Nil: nothing is said.
	Reached *Reached
	// Leaving rides on any: the writer is about to be gone, and nobody has to wait for it.
	Leaving bool
	// Free, where not nil, gives the frames' bytes back: whoever received the message calls it once, when
	// it looks at them no more. Without that they are garbage, and no harm is done.
	Free func()
}

// Seal is what a membership change rests on (M4): one epoch has started Segment under config Version on a
// majority of all of its member sets, or recovered and finalized everything before it there.
type Seal struct {
	Version uint64
	Epoch   fencing.Epoch
	Segment segments.TxID
}

// IsZero reports whether nothing is sealed.
func (s Seal) IsZero() bool { return s == Seal{} }

// Fill asks a node that missed frames of the open segment to copy them from a peer (W5), up to the
// writer's own position Target.
type Fill struct {
	Segment segments.TxID
	Target  segments.Position
	Sources []quorum.NodeID
	// Rebuild, where not nil, is the previous segment: the copy here is damaged, and a new one is built
	// aside, from the segment's start. It is put in place when it has reached Target (W0), and answered
	// with Started.
	Rebuild *segments.End
}

// ReplyKind says what a WriteReply is about.
type ReplyKind uint8

// Replies of the write stream.
const (
	Alive      ReplyKind = iota // answers a heartbeat
	Started                     // At is the last durable position of the segment
	Synced                      // everything up to At is durable (cumulative)
	Finalized                   // Segment is finalized at At
	FillFailed                  // no source could serve; Err says why
)

// WriteReply is one message back. The stream's end carries the error that ended it.
type WriteReply struct {
	Kind          ReplyKind
	Segment       segments.TxID
	Epoch         fencing.Epoch // the segment's writer epoch, equal to the promise (W2, W3)
	ConfigVersion uint64
	Incarnation   quorum.Incarnation
	At            segments.Position
	Err           string
	OverQuota     bool // of Started, Synced and Alive: new frames are refused (*QuotaError)
	// Reach, of Alive, is a question to the writer (M6). Nil: none. It rides on a kind that says nothing else, so
	// that a writer which does not know the question goes on.
	Reach *Reach
}

// SendAheadBytes may be unanswered on a write stream without Send having to wait. gRPC's Send waits while 64 KiB of
// earlier messages have not left yet (its write quota of a stream); half of that leaves room for what goes around them.
const SendAheadBytes = 32 << 10

// WriteStream is the writer's end. Send and Recv may be called by one goroutine each.
type WriteStream interface {
	// Send hands a message over, waiting while flow control says so. The frames' bytes are shared, and may
	// leave after it has returned: they must not change any more.
	Send(WriteRequest) error
	// Ready reports whether Send would take a message at once, as far as the transport can tell by itself, if no
	// more than SendAheadBytes of earlier messages are unanswered.
	Ready() bool
	// Recv returns the next reply, or the typed error that ended the stream.
	Recv() (WriteReply, error)
	// Close ends the stream at once; both calls return after it.
	Close()
}

// ServerStream is the node's end.
type ServerStream interface {
	Context() context.Context
	// Recv returns the next message; its frames are owned by the caller, until it calls Free. io.EOF: the
	// writer is done.
	Recv() (WriteRequest, error)
	Send(WriteReply) error
}

// ChunkStream is a stream of frames being read. Close releases it; Recv returns io.EOF at its end.
type ChunkStream interface {
	Recv() (Chunk, error)
	Close()
}

// Node is a JournalNode seen by a client or a peer. All methods may be called concurrently. Errors are
// the typed ones of fencing, recovery, segments and this package; anything else means that the outcome
// is unknown.
type Node interface {
	Info(ctx context.Context) (NodeInfo, error)
	Journals(ctx context.Context) ([]JournalSummary, error)
	// InstallConfig passes a config on (M0): one from the catalog, or unchanged from a node that has it
	// installed. A node that never had the journal makes it with this config. The same again changes
	// nothing; an older one is a *ConfigError, another one of the same version ErrConfigDiverges.
	InstallConfig(ctx context.Context, j JournalSummary) error
	// LeaveJournal drops the data of a journal whose config names the node no more (M8); config and promise
	// stay. ErrNotInCatalog where the node's own copy of the catalog does not say so.
	LeaveJournal(ctx context.Context, j JournalSummary) error
	// AskWriter has the journal's writer asked on its stream to the node, and returns at once what is known (M6).
	// The same question is put to a stream once.
	AskWriter(ctx context.Context, req AskWriterRequest) (WriterAnswer, error)
	State(ctx context.Context, id segments.JournalID) (JournalState, error)
	NewEpoch(ctx context.Context, h Header) (PromiseReply, error)
	Prepare(ctx context.Context, h Header, s segments.TxID, digests []segments.TxID) (recovery.Answer, error)
	// Accept makes the node's copy equal to what the request says. relay, where not nil, supplies the
	// frames of the whole segment because the node could reach no source (R4).
	Accept(ctx context.Context, h Header, req recovery.AcceptRequest, relay ChunkStream) error
	Finalize(ctx context.Context, h Header, end segments.End) error
	Segments(ctx context.Context, req SegmentsRequest) (SegmentsPage, error)
	ReadSegment(ctx context.Context, req ReadRequest) (ChunkStream, error)
	Tail(ctx context.Context, req TailRequest) (ChunkStream, error)
	Write(ctx context.Context, h Header) (WriteStream, error)
	Control
	Snapshots
	Close() error
}

// Service is what a JournalNode serves. Streams are pushed through send.
type Service interface {
	Info(ctx context.Context) (NodeInfo, error)
	Journals(ctx context.Context) ([]JournalSummary, error)
	InstallConfig(ctx context.Context, j JournalSummary) error
	LeaveJournal(ctx context.Context, j JournalSummary) error
	AskWriter(ctx context.Context, req AskWriterRequest) (WriterAnswer, error)
	State(ctx context.Context, id segments.JournalID) (JournalState, error)
	NewEpoch(ctx context.Context, h Header) (PromiseReply, error)
	Prepare(ctx context.Context, h Header, s segments.TxID, digests []segments.TxID) (recovery.Answer, error)
	Accept(ctx context.Context, h Header, req recovery.AcceptRequest, relay ChunkStream) error
	Finalize(ctx context.Context, h Header, end segments.End) error
	Segments(ctx context.Context, req SegmentsRequest) (SegmentsPage, error)
	ReadSegment(ctx context.Context, req ReadRequest, send func(Chunk) error) error
	Tail(ctx context.Context, req TailRequest, send func(Chunk) error) error
	Write(h Header, stream ServerStream) error
	ControlService
	Snapshots
}

// Dialer connects to nodes. Dial does not wait for the connection: the first call does.
type Dialer interface {
	Dial(addr string) (Node, error)
}

// LearnFor is how long a node copies a journal that it is no member of, from the last InstallConfig that asked
// for it: a change that nobody drives any more must not keep it busy for ever.
const LearnFor = 5 * time.Minute

// Bounds of what goes over a connection in one piece; what is larger is refused before memory is taken.
const (
	MessageBytesMax = 20 << 20 // one message: a frame of the largest size and its surroundings
	ChunkBytes      = 1 << 20  // frames are gathered into chunks of about this size
	DigestsMax      = 1024     // questions in one Prepare
	JournalNameMax  = 128
	SegmentsPageMax = 4096    // segments in one page of the list
	ProblemBytesMax = 1 << 10 // text about one segment in it; a full page is far below MessageBytesMax
	SegmentsMax     = 1 << 20 // segments of one journal that are listed at all
)
