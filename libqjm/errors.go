package libqjm

import (
	"errors"
	"fmt"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// TxID numbers transactions, from 1. Epoch numbers writers' reigns.
type (
	TxID  = segments.TxID
	Epoch = fencing.Epoch
)

// The classes of errors, for errors.Is.
var (
	// ErrFenced: another writer, or an operator, took a higher epoch. The facts are in
	// *fencing.FencedError.
	ErrFenced = fencing.ErrFenced
	// ErrLostRace: another writer holds this epoch on so many nodes that this one cannot go on.
	ErrLostRace = fencing.ErrLostRace
	// ErrNoQuorum: fewer than a majority of the journal's nodes answered. *recovery.NoQuorumError says
	// why, node by node.
	ErrNoQuorum = recovery.ErrNoQuorum
	// ErrDivergence: nodes hold contents that cannot both be right; *recovery.DivergenceError names them.
	ErrDivergence = recovery.ErrDivergence
	// ErrJournalDeleting: the name belongs to a journal whose delete is decided and not in force yet.
	ErrJournalDeleting = rpc.ErrJournalDeleting
	// ErrNoJournal, ErrJournalExists, ErrJournalDeleted: what the names say.
	ErrNoJournal      = rpc.ErrNoJournal
	ErrJournalExists  = rpc.ErrJournalExists
	ErrJournalDeleted = rpc.ErrJournalDeleted
	// ErrBadRequest: a name or value that no node would take.
	ErrBadRequest = rpc.ErrBadRequest
	// ErrRefused: the request makes sense, but not as things stand: the node is another one, or has it already.
	ErrRefused = rpc.ErrRefused
	// ErrUnavailable: no endpoint answered.
	ErrUnavailable = rpc.ErrUnavailable
	// ErrNoLeader: the catalog has no leader. Writers and readers do not need one.
	ErrNoLeader = rpc.ErrNoLeader
	// ErrTooFewNodes: there are not as many nodes as replicas. ErrNoNode: there is no such node. ErrNodeInUse:
	// a journal needs the node, or it is the last one that votes in the catalog's group.
	ErrTooFewNodes = catalog.ErrTooFewNodes
	ErrNoNode      = catalog.ErrNoNode
	ErrNodeInUse   = catalog.ErrInUse
	// ErrChangeUnderWay: another change of the journal's members has to end first; *catalog.ChangeUnderWayError
	// names it. ErrNoChange: there is none. ErrSameMembers: the members are those already. ErrWrongStage: a
	// change that is final cannot be given up. ErrConflict: the config is of another version than was expected.
	ErrChangeUnderWay = catalog.ErrChangeUnderWay
	ErrNoChange       = catalog.ErrNoChange
	ErrSameMembers    = catalog.ErrSameMembers
	ErrWrongStage     = catalog.ErrStage
	ErrConflict       = catalog.ErrConflict
	// ErrLeaseHeld: somebody else has the lease, or it is reserved for somebody else; *LeaseHeldError says who.
	ErrLeaseHeld = catalog.ErrHeld
	// ErrLeaseLost: the lease is over: it expired, was resigned or transferred.
	ErrLeaseLost = catalog.ErrStale
	// ErrPastEnd: a reader asked for a txid beyond what is committed.
	ErrPastEnd = rpc.ErrPastEnd
	// ErrTooLarge: a transaction over the limit, which the text names.
	ErrTooLarge = rpc.ErrTooLarge
	// ErrOtherCluster: endpoints answer as different clusters.
	ErrOtherCluster = errors.New("libqjm: endpoints belong to different clusters")
	// ErrEmpty: an append of nothing.
	ErrEmpty = errors.New("libqjm: empty transaction")
	// ErrClosed: the writer, reader or client was closed.
	ErrClosed = errors.New("libqjm: closed")
	// ErrQueueFull: as many bytes wait as may; the context ended before there was room.
	ErrQueueFull = errors.New("libqjm: write queue is full")
	// ErrQuota: the journal's log has its quota on so many nodes that nothing more is committed, until it is purged
	// there, or the quota is raised.
	ErrQuota = rpc.ErrQuota
	// ErrCorrupt: frames that cannot be read, on every node that was tried.
	ErrCorrupt = segments.ErrCorrupt
)

// LeaseHeldError says who has a lease.
type LeaseHeldError = catalog.HeldError

// AppendError is why an append did not return a txid.
type AppendError struct {
	// Handed is true where the transaction was, or will be, handed to a node: it may be in the journal.
	Handed bool
	First  TxID // the txids it stands under if it is; 0 where it is not
	Last   TxID
	Err    error
}

func (e *AppendError) Error() string {
	switch {
	case errors.Is(e.Err, ErrNotApplied):
		return fmt.Sprintf("libqjm: txids %d to %d: %v", e.First, e.Last, e.Err)
	case e.Handed:
		return fmt.Sprintf("libqjm: append of txids %d to %d may have committed: %v", e.First, e.Last, e.Err)
	}
	return fmt.Sprintf("libqjm: append refused: %v", e.Err)
}

// Unwrap returns the cause.
func (e *AppendError) Unwrap() error { return e.Err }

// MayHaveCommitted reports whether the transaction that err is about may be in the journal. It is false
// for nil (then it is there for certain), and for definite refusals: those used up no txid (W6).
func MayHaveCommitted(err error) bool {
	a, ok := errors.AsType[*AppendError](err)
	return ok && a.Handed
}
