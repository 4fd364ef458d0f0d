package rpc

import (
	"context"
	"errors"
	"fmt"

	"github.com/quorumjournal/qjm/internal/snapshot"
	"github.com/quorumjournal/qjm/segments"
)

// Bounds of what is sent of snapshots.
const (
	SnapshotChunkMax = 1 << 20 // bytes of content in one message
	SnapshotsMax     = 1024    // snapshots of one journal that are listed, or held on one node
)

var (
	// ErrPurged is the class of *PurgedError.
	ErrPurged = errors.New("qjm: purged")
	// ErrNoSnapshot: there is no such snapshot here, or no upload of it was begun.
	ErrNoSnapshot = errors.New("qjm: no such snapshot")
	// ErrSnapshotExists is the class of *SnapshotExistsError.
	ErrSnapshotExists = errors.New("qjm: another snapshot of that txid exists")
	// ErrSnapshotNotHeld: this node cannot vouch for the snapshot, as it does not hold the frame that it is
	// of, or not as committed. It does not count, and nothing is wrong (C1).
	ErrSnapshotNotHeld = errors.New("qjm: the frame that the snapshot is of is not held as committed")
	// ErrSnapshotDiverges: the snapshot is of another history than this node's log (C1).
	ErrSnapshotDiverges = errors.New("qjm: snapshot is of another history")
	// ErrSnapshotChunk: a piece that does not continue the content, differs from what came before, or was
	// changed on its way. What was taken before it stays.
	ErrSnapshotChunk = errors.New("qjm: bad piece of a snapshot")
	// ErrSnapshotChecksum: the content is not what was sent; it must be sent anew.
	ErrSnapshotChecksum = errors.New("qjm: wrong checksum of a snapshot")
	// ErrSnapshotBusy: somebody else is at it, or too many are; try again later.
	ErrSnapshotBusy = errors.New("qjm: snapshot is busy")
	// ErrSnapshotQuota: the bytes would be more than allowed.
	ErrSnapshotQuota = errors.New("qjm: quota of snapshots exceeded")
	// ErrSnapshotDamaged: the snapshot cannot be read here (N2).
	ErrSnapshotDamaged = errors.New("qjm: snapshot is damaged")
	// ErrQuota is the class of *QuotaError.
	ErrQuota = errors.New("qjm: the journal has used up its quota")
)

// QuotaError says that a journal's log has its quota on a node, so that it takes no new transactions there.
// What ends that: a snapshot that allows the log to be purged, or a larger quota.
type QuotaError struct {
	Used  uint64 // bytes of log on the node
	Quota uint64
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("%v (got %d bytes of log, want less than %d)", ErrQuota, e.Used, e.Quota)
}

// Is makes errors.Is(err, ErrQuota) true.
func (e *QuotaError) Is(target error) bool { return target == ErrQuota }

// PurgedError tells a reader that the log it asks for is gone, and where to start instead (D5): from the
// state after Snapshot.TxID.
type PurgedError struct {
	PurgedTo segments.Position // all up to here may be gone
	Snapshot snapshot.Snapshot // the newest listed one; zero where the node does not know yet
}

func (e *PurgedError) Error() string {
	if e.Snapshot.TxID == 0 {
		return fmt.Sprintf("%v: everything up to txid %d", ErrPurged, e.PurgedTo.TxID)
	}
	return fmt.Sprintf("%v: everything up to txid %d; start from the snapshot of txid %d", ErrPurged, e.PurgedTo.TxID, e.Snapshot.TxID)
}

// Is makes errors.Is(err, ErrPurged) true.
func (e *PurgedError) Is(target error) bool { return target == ErrPurged }

// SnapshotExistsError names the snapshot that is there under the txid. It may be the very one that is sent:
// then there is nothing left to send.
type SnapshotExistsError struct{ Have snapshot.Snapshot }

func (e *SnapshotExistsError) Error() string {
	return fmt.Sprintf("%v (have txid %d, %d bytes, sha256 %s, epoch %d)", ErrSnapshotExists, e.Have.TxID, e.Have.Size, e.Have.Checksum, e.Have.Epoch)
}

// Is makes errors.Is(err, ErrSnapshotExists) true.
func (e *SnapshotExistsError) Is(target error) bool { return target == ErrSnapshotExists }

// SnapshotUpload starts or resumes an upload. The header's claim is the writer's that saves it (C4), or zero:
// then it is checked against the log only.
type SnapshotUpload struct {
	Header Header
	ID     snapshot.ID
	Size   int64
}

// SnapshotPiece is a piece of the content. CRC is CRC-32C of Bytes.
type SnapshotPiece struct {
	Journal segments.JournalID
	ID      snapshot.ID
	Offset  int64
	Bytes   []byte
	CRC     uint32
}

// SnapshotEnd ends an upload.
type SnapshotEnd struct {
	Header   Header
	Snapshot snapshot.Snapshot
	// HeldOnly asks whether the node holds it and vouches for it, and ends no upload: ErrNoSnapshot where one
	// would have to be ended.
	HeldOnly bool
}

// SnapshotList is what a node knows of a journal's snapshots.
type SnapshotList struct {
	Listed []snapshot.Snapshot // as in the catalog that the node has applied (C2)
	Held   []HeldSnapshot
	Purged segments.Position
	Policy snapshot.Policy // when a writer is to be asked for one, as in that catalog
	// Fresh: that copy of the catalog is whole, as far as the node can tell. One that has just been started has
	// not applied its log yet, and lists nothing, or too little.
	Fresh bool
}

// HeldSnapshot is a snapshot on a node.
type HeldSnapshot struct {
	Snapshot snapshot.Snapshot // of a damaged one the txid only
	Bytes    int64             // of the file
	Verified bool              // by this node, since it started
	Problem  string            // why it cannot be read; empty: it can
}

// SnapshotRead asks for a piece of a snapshot's content.
type SnapshotRead struct {
	Journal  segments.JournalID
	Snapshot snapshot.Snapshot // another content under its txid is not served
	Offset   int64
	Length   int
}

// SnapshotChunk is that piece: shorter than asked for only at the end.
type SnapshotChunk struct {
	Bytes []byte
	CRC   uint32
}

// Snapshots is the part of Node and Service that is about users' snapshots.
type Snapshots interface {
	// BeginSnapshot starts or resumes an upload, and says from where to go on.
	BeginSnapshot(ctx context.Context, req SnapshotUpload) (offset int64, err error)
	// PutSnapshot sends a piece, and says where to go on; after an error, BeginSnapshot does. One at a time.
	PutSnapshot(ctx context.Context, p SnapshotPiece) (offset int64, err error)
	// FinishSnapshot makes it durable and visible, if the node can vouch for it (C1). Errors:
	// ErrSnapshotNotHeld, which leaves the upload to be finished later; ErrSnapshotDiverges,
	// ErrSnapshotChecksum. The same again changes nothing.
	FinishSnapshot(ctx context.Context, req SnapshotEnd) error
	// Snapshots lists them.
	Snapshots(ctx context.Context, id segments.JournalID) (SnapshotList, error)
	// ReadSnapshot reads a piece, which the node has verified.
	ReadSnapshot(ctx context.Context, req SnapshotRead) (SnapshotChunk, error)
}
