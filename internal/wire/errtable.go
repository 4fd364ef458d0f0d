package wire

import (
	"context"

	"google.golang.org/grpc/codes"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// row maps one class of errors. Reasons are never reused for another meaning.
type row struct {
	reason string
	code   codes.Code // for tools and proxies that know nothing of reasons
	class  error
	shapes []shape // structs of this class that carry facts; none: the class is all there is
}

// table is set at init: the shapes of errors that hold errors lead back to it.
var table []row

func init() { table = rows() }

// rows is the one place that says how errors travel. The first row that matches gives the status its
// code and reason, so those that can contain others come first.
func rows() []row {
	return []row{
		// Gathered from several nodes.
		{"NO_QUORUM", codes.Unavailable, recovery.ErrNoQuorum, []shape{noQuorumShape}},
		{"SUPERSEDED", codes.Aborted, recovery.ErrSuperseded, []shape{supersededShape}},
		{"NOT_COMPARABLE", codes.Aborted, recovery.ErrNotComparable, nil},

		// Who may write.
		{"FENCED", codes.FailedPrecondition, fencing.ErrFenced, []shape{fencedShape}},
		{"LOST_RACE", codes.Aborted, fencing.ErrLostRace, []shape{lostRaceShape}},
		{"NOT_PROMISED", codes.FailedPrecondition, fencing.ErrNotPromised, []shape{notPromisedShape}},
		{"ZERO_EPOCH", codes.InvalidArgument, fencing.ErrZeroEpoch, nil},
		{"EPOCH_TOO_FAR", codes.InvalidArgument, fencing.ErrEpochTooFar, nil},

		// The node and the request.
		{"BAD_REQUEST", codes.InvalidArgument, rpc.ErrBadRequest, nil},
		{"REFUSED", codes.FailedPrecondition, rpc.ErrRefused, nil},
		{"NO_JOURNAL", codes.NotFound, rpc.ErrNoJournal, nil},
		{"JOURNAL_EXISTS", codes.AlreadyExists, rpc.ErrJournalExists, nil},
		{"JOURNAL_DELETED", codes.FailedPrecondition, rpc.ErrJournalDeleted, nil},
		{"JOURNAL_DELETING", codes.FailedPrecondition, rpc.ErrJournalDeleting, nil},
		{"WRONG_NODE", codes.FailedPrecondition, rpc.ErrWrongNode, []shape{wrongNodeShape}},
		{"CONFIG_VERSION", codes.Aborted, rpc.ErrConfig, []shape{configShape}},
		{"CONFIG_DIVERGES", codes.FailedPrecondition, rpc.ErrConfigDiverges, nil},
		{"REMOVED", codes.FailedPrecondition, rpc.ErrRemoved, nil},
		{"UNKNOWN_NODE", codes.FailedPrecondition, rpc.ErrUnknownNode, nil},
		{"NOT_IN_CATALOG", codes.FailedPrecondition, rpc.ErrNotInCatalog, nil},
		{"NOT_FOUNDED", codes.FailedPrecondition, rpc.ErrNotFounded, nil},
		{"PLAN", codes.FailedPrecondition, rpc.ErrPlan, nil},
		{"POISONED", codes.Internal, rpc.ErrPoisoned, nil},
		{"STALLED", codes.Unavailable, rpc.ErrStalled, nil},
		{"CLOSED", codes.Unavailable, rpc.ErrClosed, nil},
		{"NO_SOURCE", codes.Aborted, rpc.ErrNoSource, nil},
		{"OUT_OF_SYNC", codes.Aborted, rpc.ErrOutOfSync, nil},
		{"NOT_FOUND", codes.NotFound, rpc.ErrNotFound, nil},
		{"PAST_END", codes.OutOfRange, rpc.ErrPastEnd, nil},
		{"TOO_LARGE", codes.ResourceExhausted, rpc.ErrTooLarge, nil},

		// The catalog. What it refuses for a reason that the nodes have, too, travels as theirs.
		{"NO_LEADER", codes.Unavailable, rpc.ErrNoLeader, nil},
		{"CATALOG_DOWN", codes.FailedPrecondition, rpc.ErrCatalogDown, nil},
		{"NO_JOURNAL", codes.NotFound, catalog.ErrNoJournal, nil},
		{"JOURNAL_EXISTS", codes.AlreadyExists, catalog.ErrJournalExists, nil},
		{"JOURNAL_DELETED", codes.FailedPrecondition, catalog.ErrDeleted, nil},
		{"NOT_FOUNDED", codes.FailedPrecondition, catalog.ErrNotFounded, nil},
		{"CATALOG_CONFLICT", codes.Aborted, catalog.ErrConflict, []shape{conflictShape}},
		{"CHANGE_UNDER_WAY", codes.FailedPrecondition, catalog.ErrChangeUnderWay, []shape{underWayShape, refusalShape}},
		{"NODE_IN_USE", codes.FailedPrecondition, catalog.ErrInUse, []shape{inUseShape}},
		{"LEASE_HELD", codes.FailedPrecondition, catalog.ErrHeld, []shape{heldShape}},
		{"CATALOG_CLUSTER", codes.FailedPrecondition, catalog.ErrCluster, []shape{refusalShape}},
		{"CATALOG_INDEX", codes.Internal, catalog.ErrIndex, []shape{refusalShape}},
		{"CATALOG_LEVEL", codes.FailedPrecondition, catalog.ErrLevel, []shape{refusalShape}},
		{"CATALOG_INVALID", codes.InvalidArgument, catalog.ErrInvalid, []shape{refusalShape}},
		{"CATALOG_LIMIT", codes.ResourceExhausted, catalog.ErrLimit, []shape{refusalShape}},
		{"NO_NODE", codes.NotFound, catalog.ErrNoNode, []shape{refusalShape}},
		{"NODE_INCARNATION", codes.FailedPrecondition, catalog.ErrIncarnation, []shape{refusalShape}},
		{"REPLACE_UNDER_WAY", codes.FailedPrecondition, catalog.ErrReplaceUnderWay, []shape{refusalShape}},
		{"NODE_LEAVING", codes.FailedPrecondition, catalog.ErrLeaving, []shape{refusalShape}},
		{"NODE_VOTER", codes.FailedPrecondition, catalog.ErrVoter, []shape{refusalShape}},
		{"TOO_FEW_NODES", codes.FailedPrecondition, catalog.ErrTooFewNodes, []shape{refusalShape}},
		{"NAME_TAKEN", codes.AlreadyExists, catalog.ErrNameTaken, []shape{refusalShape}},
		{"NOT_DELETED", codes.FailedPrecondition, catalog.ErrNotDeleted, []shape{refusalShape}},
		{"NO_CHANGE", codes.FailedPrecondition, catalog.ErrNoChange, []shape{refusalShape}},
		{"CHANGE_STAGE", codes.Aborted, catalog.ErrStage, []shape{refusalShape}},
		{"CHANGE_SEAL", codes.Aborted, catalog.ErrSeal, []shape{refusalShape}},
		{"NOT_IN_FORCE", codes.FailedPrecondition, catalog.ErrNotInForce, []shape{refusalShape}},
		{"SAME_MEMBERS", codes.FailedPrecondition, catalog.ErrSameMembers, []shape{refusalShape}},
		{"CATALOG_DIVERGENCE", codes.DataLoss, catalog.ErrDivergence, []shape{refusalShape}},
		{"SNAPSHOT_NO_MAJORITY", codes.FailedPrecondition, catalog.ErrNoMajority, []shape{refusalShape}},
		{"SNAPSHOT_OLD", codes.FailedPrecondition, catalog.ErrOldSnapshot, []shape{refusalShape}},
		{"TOO_MANY_WATCHES", codes.ResourceExhausted, rpc.ErrTooManyWatches, nil},
		{"LEASE_STALE", codes.Aborted, catalog.ErrStale, []shape{refusalShape}},
		{"BAD_COMMAND", codes.InvalidArgument, catalog.ErrBadCommand, []shape{refusalShape}},
		{"CATALOG_UNSUPPORTED", codes.Unimplemented, catalog.ErrUnsupported, nil},
		{"CATALOG_CORRUPT", codes.DataLoss, catalog.ErrCorrupt, nil},

		// What recovery found.
		{"DIVERGENCE", codes.DataLoss, recovery.ErrDivergence, []shape{divergenceShape}},
		{"BELOW_FLOOR", codes.FailedPrecondition, recovery.ErrBelowFloor, []shape{floorShape}},
		{"BREACH", codes.FailedPrecondition, recovery.ErrBreach, []shape{breachShape}},
		{"MISMATCH", codes.FailedPrecondition, recovery.ErrMismatch, []shape{copyMismatchShape}},
		{"UNKNOWN_DATA", codes.DataLoss, recovery.ErrUnknownData, nil},

		// Users' snapshots.
		{"PURGED", codes.OutOfRange, rpc.ErrPurged, []shape{purgedShape}},
		{"NO_SNAPSHOT", codes.NotFound, rpc.ErrNoSnapshot, nil},
		{"SNAPSHOT_EXISTS", codes.AlreadyExists, rpc.ErrSnapshotExists, []shape{snapshotExistsShape}},
		{"SNAPSHOT_NOT_HELD", codes.FailedPrecondition, rpc.ErrSnapshotNotHeld, nil},
		{"SNAPSHOT_DIVERGES", codes.DataLoss, rpc.ErrSnapshotDiverges, nil},
		{"SNAPSHOT_CHUNK", codes.Aborted, rpc.ErrSnapshotChunk, nil},
		{"SNAPSHOT_CHECKSUM", codes.Aborted, rpc.ErrSnapshotChecksum, nil},
		{"SNAPSHOT_BUSY", codes.Unavailable, rpc.ErrSnapshotBusy, nil},
		{"SNAPSHOT_QUOTA", codes.ResourceExhausted, rpc.ErrSnapshotQuota, nil},
		{"SNAPSHOT_DAMAGED", codes.DataLoss, rpc.ErrSnapshotDamaged, nil},
		{"QUOTA", codes.ResourceExhausted, rpc.ErrQuota, []shape{quotaShape}},

		// What is on the disk.
		{"SEGMENT_CORRUPT", codes.DataLoss, segments.ErrCorrupt, []shape{corruptionShape, fieldShape}},
		{"SEGMENT_TORN", codes.DataLoss, segments.ErrTorn, []shape{tornShape, fieldShape}},
		{"SEGMENT_ZEROED", codes.DataLoss, segments.ErrZeroed, []shape{fieldShape}},
		{"SEGMENT_GAP", codes.Aborted, segments.ErrGap, []shape{gapShape, fieldShape}},
		{"SEGMENT_UNSUPPORTED", codes.Unimplemented, segments.ErrUnsupported, []shape{fieldShape}},
		{"SEGMENT_TOO_LARGE", codes.ResourceExhausted, segments.ErrTooLarge, []shape{fieldShape}},
		{"SEGMENT_NOT_FOUND", codes.NotFound, segments.ErrNotFound, []shape{fieldShape}},
		{"NO_SPACE", codes.ResourceExhausted, vfs.ErrNoSpace, nil},

		// The outcome is unknown. A node meets these when it asks a peer on somebody's behalf.
		{"UNAVAILABLE", codes.Unavailable, rpc.ErrUnavailable, nil},
		{"DEADLINE_EXCEEDED", codes.DeadlineExceeded, context.DeadlineExceeded, nil},
		{"CANCELED", codes.Canceled, context.Canceled, nil},
	}
}

func rowOf(reason string) (row, bool) {
	for _, r := range table {
		if r.reason == reason {
			return r, true
		}
	}
	return row{}, false
}
