package cli

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quorumjournal/qjm/internal/durable"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// Exit codes. They are part of the contract with scripts and are never given another meaning.
const (
	ExitOK          = 0
	ExitOther       = 1
	ExitUsage       = 2
	ExitUnreachable = 3 // cannot connect, or deadline
	ExitRefused     = 4 // precondition
	ExitNoQuorum    = 5
	ExitDegraded    = 6
	ExitCorrupt     = 7 // corruption or divergence
	ExitFenced      = 8
	ExitAuth        = 9
	ExitAmbiguous   = 10
	ExitInterrupted = 130
)

// ErrInterrupted is the cause of a context that a signal ended.
var ErrInterrupted = errors.New("interrupted")

// ErrDegraded and ErrFound have been told already when they are returned: they only carry their code.
var (
	ErrDegraded = errors.New("degraded")
	ErrFound    = errors.New("corruption or divergence found")
)

// UsageError is a mistake on the command line.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the mistake.
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef makes a UsageError.
func Usagef(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// RefusedError is a precondition that the program itself finds unmet.
type RefusedError struct{ Text, Hint string }

func (e *RefusedError) Error() string { return e.Text }

// Silent wraps an error whose text has been printed already.
type Silent struct{ Err error }

func (e *Silent) Error() string { return e.Err.Error() }

// Unwrap returns the error.
func (e *Silent) Unwrap() error { return e.Err }

// exitRow maps a class of errors to an exit code.
type exitRow struct {
	class string
	match func(error) bool
	code  int
}

// exitTable says which exit code an error has: the first row that matches. Errors that can hold others
// come first.
var exitTable = []exitRow{
	{"usage", isA[*UsageError], ExitUsage},
	{"interrupted", is(ErrInterrupted), ExitInterrupted},
	{"degraded", is(ErrDegraded), ExitDegraded},
	{"found", is(ErrFound), ExitCorrupt},
	{"auth", isAuth, ExitAuth},
	// An append that failed: fenced tells more than that its outcome is open.
	{"append fenced", func(err error) bool { return isA[*libqjm.AppendError](err) && isFenced(err) }, ExitFenced},
	{"append ambiguous", libqjm.MayHaveCommitted, ExitAmbiguous},
	// Holds the errors of single nodes, which say nothing of the whole.
	{"no quorum", is(libqjm.ErrNoQuorum), ExitNoQuorum},
	{"superseded", is(recovery.ErrSuperseded), ExitFenced},
	{"fenced", isFenced, ExitFenced},
	{"divergence", is(libqjm.ErrDivergence, recovery.ErrBelowFloor, recovery.ErrBreach), ExitCorrupt},
	{"corruption", is(libqjm.ErrCorrupt, durable.ErrDamaged, recovery.ErrUnknownData), ExitCorrupt},
	{"refused by a rule", isA[*RefusedError], ExitRefused},
	{"no journal", is(libqjm.ErrNoJournal), ExitRefused},
	{"journal exists", is(libqjm.ErrJournalExists), ExitRefused},
	{"journal deleting", is(libqjm.ErrJournalDeleting), ExitRefused},
	{"plan", is(libqjm.ErrPlan, libqjm.ErrNoPlan, libqjm.ErrHasMajority), ExitRefused},
	{"node in use", is(libqjm.ErrNodeInUse), ExitRefused},
	{"catalog", is(libqjm.ErrTooFewNodes, libqjm.ErrNoNode, catalog.ErrIncarnation, catalog.ErrVoter, catalog.ErrLimit, catalog.ErrConflict, catalog.ErrChangeUnderWay, catalog.ErrStage, catalog.ErrNoChange, libqjm.ErrChangeAborted), ExitRefused},
	{"snapshot", is(libqjm.ErrNoSnapshot, libqjm.ErrSnapshotExists, libqjm.ErrSnapshotOld, libqjm.ErrNotCommitted, libqjm.ErrPurged), ExitRefused},
	{"snapshot corruption", is(libqjm.ErrSnapshotDiverges, libqjm.ErrSnapshotDamaged), ExitCorrupt},
	{"quota", is(libqjm.ErrQuota), ExitRefused},
	{"lease held", is(libqjm.ErrLeaseHeld), ExitRefused},
	{"lease lost", is(libqjm.ErrLeaseLost), ExitRefused},
	{"no leader", is(libqjm.ErrNoLeader, rpc.ErrCatalogDown), ExitNoQuorum},
	{"journal deleted", is(libqjm.ErrJournalDeleted), ExitRefused},
	{"snapshot not listed", is(libqjm.ErrNotListed), ExitAmbiguous},
	{"past the end", is(libqjm.ErrPastEnd), ExitRefused},
	{"too large", is(libqjm.ErrTooLarge, libqjm.ErrEmpty), ExitRefused},
	{"other cluster", is(libqjm.ErrOtherCluster), ExitRefused},
	{"other node or config", is(rpc.ErrWrongNode, rpc.ErrConfig, rpc.ErrUnknownNode), ExitRefused},
	{"later version", is(durable.ErrUnsupported, segments.ErrUnsupported), ExitRefused},
	{"data directory of another node", is(journalnode.ErrOtherNode), ExitRefused},
	{"data directory in use", is(vfs.ErrLocked), ExitRefused},
	{"no such data directory", is(journalnode.ErrOffline), ExitRefused},
	{"not as things stand", is(libqjm.ErrRefused), ExitRefused},
	{"bad request", is(libqjm.ErrBadRequest), ExitUsage},
	{"unreachable", is(libqjm.ErrUnavailable, rpc.ErrClosed, rpc.ErrStalled, rpc.ErrNotFounded), ExitUnreachable},
	{"deadline", is(context.DeadlineExceeded), ExitUnreachable},
	{"canceled", is(context.Canceled), ExitInterrupted},
}

// ExitCode returns the exit code of an error; nil is ExitOK.
func ExitCode(err error) int {
	code, _ := classOf(err)
	return code
}

func classOf(err error) (code int, class string) {
	if err == nil {
		return ExitOK, "ok"
	}
	for _, row := range exitTable {
		if row.match(err) {
			return row.code, row.class
		}
	}
	return ExitOther, "other"
}

func is(classes ...error) func(error) bool {
	return func(err error) bool {
		for _, c := range classes {
			if errors.Is(err, c) {
				return true
			}
		}
		return false
	}
}

func isA[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

func isFenced(err error) bool {
	return errors.Is(err, libqjm.ErrFenced) || errors.Is(err, libqjm.ErrLostRace)
}

func isAuth(err error) bool {
	var st interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &st) {
		return false
	}
	c := st.GRPCStatus().Code()
	return c == codes.Unauthenticated || c == codes.PermissionDenied
}
