package wire

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// classNames lists every exported error class of the packages whose errors travel.
var classNames = map[string]error{
	"fencing.ErrFenced": fencing.ErrFenced, "fencing.ErrLostRace": fencing.ErrLostRace,
	"fencing.ErrNotPromised": fencing.ErrNotPromised, "fencing.ErrZeroEpoch": fencing.ErrZeroEpoch,
	"fencing.ErrEpochTooFar": fencing.ErrEpochTooFar,

	"recovery.ErrDivergence": recovery.ErrDivergence, "recovery.ErrBelowFloor": recovery.ErrBelowFloor,
	"recovery.ErrBreach": recovery.ErrBreach, "recovery.ErrMismatch": recovery.ErrMismatch,
	"recovery.ErrNoQuorum": recovery.ErrNoQuorum, "recovery.ErrSuperseded": recovery.ErrSuperseded,
	"recovery.ErrNotComparable": recovery.ErrNotComparable, "recovery.ErrUnknownData": recovery.ErrUnknownData,

	"segments.ErrTorn": segments.ErrTorn, "segments.ErrCorrupt": segments.ErrCorrupt,
	"segments.ErrZeroed": segments.ErrZeroed, "segments.ErrGap": segments.ErrGap,
	"segments.ErrUnsupported": segments.ErrUnsupported, "segments.ErrTooLarge": segments.ErrTooLarge,
	"segments.ErrNotFound": segments.ErrNotFound,

	"rpc.ErrNoJournal": rpc.ErrNoJournal, "rpc.ErrJournalExists": rpc.ErrJournalExists,
	"rpc.ErrJournalDeleted": rpc.ErrJournalDeleted, "rpc.ErrJournalDeleting": rpc.ErrJournalDeleting, "rpc.ErrBadRequest": rpc.ErrBadRequest,
	"rpc.ErrWrongNode": rpc.ErrWrongNode, "rpc.ErrConfig": rpc.ErrConfig, "rpc.ErrConfigDiverges": rpc.ErrConfigDiverges, "rpc.ErrUnknownNode": rpc.ErrUnknownNode, "rpc.ErrRemoved": rpc.ErrRemoved, "rpc.ErrRefused": rpc.ErrRefused,
	"rpc.ErrNotInCatalog": rpc.ErrNotInCatalog,
	"rpc.ErrNotFounded":   rpc.ErrNotFounded, "rpc.ErrPoisoned": rpc.ErrPoisoned, "rpc.ErrPlan": rpc.ErrPlan, "rpc.ErrStalled": rpc.ErrStalled,
	"rpc.ErrNoSource": rpc.ErrNoSource, "rpc.ErrOutOfSync": rpc.ErrOutOfSync, "rpc.ErrNotFound": rpc.ErrNotFound,
	"rpc.ErrPastEnd": rpc.ErrPastEnd, "rpc.ErrClosed": rpc.ErrClosed, "rpc.ErrTooLarge": rpc.ErrTooLarge,
	"rpc.ErrPurged": rpc.ErrPurged, "rpc.ErrNoSnapshot": rpc.ErrNoSnapshot, "rpc.ErrSnapshotExists": rpc.ErrSnapshotExists,
	"rpc.ErrSnapshotNotHeld": rpc.ErrSnapshotNotHeld, "rpc.ErrSnapshotDiverges": rpc.ErrSnapshotDiverges,
	"rpc.ErrSnapshotChunk": rpc.ErrSnapshotChunk, "rpc.ErrSnapshotChecksum": rpc.ErrSnapshotChecksum,
	"rpc.ErrSnapshotBusy": rpc.ErrSnapshotBusy, "rpc.ErrSnapshotQuota": rpc.ErrSnapshotQuota,
	"rpc.ErrSnapshotDamaged": rpc.ErrSnapshotDamaged,
	"rpc.ErrQuota":           rpc.ErrQuota,
	"rpc.ErrUnavailable":     rpc.ErrUnavailable, "rpc.ErrNoLeader": rpc.ErrNoLeader, "rpc.ErrCatalogDown": rpc.ErrCatalogDown,
	"rpc.ErrTooManyWatches": rpc.ErrTooManyWatches,

	"catalog.ErrNotFounded": catalog.ErrNotFounded, "catalog.ErrCluster": catalog.ErrCluster, "catalog.ErrIndex": catalog.ErrIndex,
	"catalog.ErrLevel": catalog.ErrLevel, "catalog.ErrInvalid": catalog.ErrInvalid, "catalog.ErrLimit": catalog.ErrLimit,
	"catalog.ErrConflict": catalog.ErrConflict, "catalog.ErrNoNode": catalog.ErrNoNode, "catalog.ErrIncarnation": catalog.ErrIncarnation,
	"catalog.ErrReplaceUnderWay": catalog.ErrReplaceUnderWay, "catalog.ErrLeaving": catalog.ErrLeaving, "catalog.ErrVoter": catalog.ErrVoter,
	"catalog.ErrInUse": catalog.ErrInUse, "catalog.ErrTooFewNodes": catalog.ErrTooFewNodes, "catalog.ErrNoJournal": catalog.ErrNoJournal,
	"catalog.ErrJournalExists": catalog.ErrJournalExists, "catalog.ErrNameTaken": catalog.ErrNameTaken, "catalog.ErrDeleted": catalog.ErrDeleted,
	"catalog.ErrNotDeleted": catalog.ErrNotDeleted, "catalog.ErrChangeUnderWay": catalog.ErrChangeUnderWay, "catalog.ErrNoChange": catalog.ErrNoChange,
	"catalog.ErrStage": catalog.ErrStage, "catalog.ErrSeal": catalog.ErrSeal, "catalog.ErrNotInForce": catalog.ErrNotInForce,
	"catalog.ErrSameMembers": catalog.ErrSameMembers, "catalog.ErrDivergence": catalog.ErrDivergence, "catalog.ErrNoMajority": catalog.ErrNoMajority,
	"catalog.ErrOldSnapshot": catalog.ErrOldSnapshot, "catalog.ErrHeld": catalog.ErrHeld, "catalog.ErrStale": catalog.ErrStale,
	"catalog.ErrBadCommand": catalog.ErrBadCommand, "catalog.ErrUnsupported": catalog.ErrUnsupported, "catalog.ErrCorrupt": catalog.ErrCorrupt,
}

// travelsAs: what the nodes have a class for, too, arrives as theirs.
var travelsAs = map[error]error{
	catalog.ErrNoJournal: rpc.ErrNoJournal, catalog.ErrJournalExists: rpc.ErrJournalExists,
	catalog.ErrDeleted: rpc.ErrJournalDeleted, catalog.ErrNotFounded: rpc.ErrNotFounded,
}

// structs holds a filled value of every exported error type of those packages.
var structs = map[string]error{
	"fencing.FencedError":      &fencing.FencedError{Promised: header.Claim, Got: fencing.Claim{Epoch: 2, Writer: fencing.WriterID{2}}},
	"fencing.LostRaceError":    &fencing.LostRaceError{Holder: header.Claim, Got: fencing.Claim{Epoch: header.Claim.Epoch, Writer: fencing.WriterID{2}}},
	"fencing.NotPromisedError": &fencing.NotPromisedError{Promised: fencing.Claim{}, Got: header.Claim},
	"recovery.DivergenceError": &recovery.DivergenceError{
		Segment: 11, What: "two finalized", Nodes: []quorum.NodeID{"n1", "n2"}, Ends: []segments.Position{at, end.Position()},
	},
	"recovery.FloorError":    &recovery.FloorError{Node: "n1", Floor: floor, Choice: end},
	"recovery.BreachError":   &recovery.BreachError{Rule: "W4", Segment: 11, Text: "another digest"},
	"recovery.MismatchError": &recovery.MismatchError{State: recovery.Finalized, Got: at, Want: end},
	"recovery.NoQuorumError": &recovery.NoQuorumError{Step: "promise", Causes: []recovery.NodeCause{
		{Node: "n1", Err: &fencing.FencedError{Promised: header.Claim, Got: header.Claim}},
		{Node: "n2", Err: context.DeadlineExceeded},
	}},
	"recovery.SupersededError": &recovery.SupersededError{Epoch: 5, Promised: 9, Causes: []recovery.NodeCause{
		{Node: "n3", Err: rpc.ErrStalled},
	}},
	"segments.MismatchError": &segments.MismatchError{What: "frame magic", Got: "abc", Want: "QJMF", Class: segments.ErrZeroed},
	"segments.GapError":      &segments.GapError{Got: 5, Want: 7},
	"segments.CorruptionError": &segments.CorruptionError{
		Segment: 11, Offset: 1 << 40, TxID: 15, Err: &segments.GapError{Got: 5, Want: 7},
	},
	"segments.TornError": &segments.TornError{
		Segment: 11, Offset: 4096, After: at,
		Cause: &segments.MismatchError{What: "crc", Got: "1", Want: "2", Class: segments.ErrCorrupt},
	},
	"rpc.PurgedError": &rpc.PurgedError{PurgedTo: at, Snapshot: snap}, "rpc.SnapshotExistsError": &rpc.SnapshotExistsError{Have: snap},
	"rpc.QuotaError":     &rpc.QuotaError{Used: 1<<64 - 1, Quota: 7},
	"rpc.WrongNodeError": &rpc.WrongNodeError{Node: "n1", Got: quorum.Incarnation{1}, Want: quorum.Incarnation{2}},
	"rpc.ConfigError":    &rpc.ConfigError{Journal: header.Journal, Got: 3, Want: 1<<64 - 1},

	"catalog.Refusal":       &catalog.Refusal{Class: catalog.ErrLevel, What: "node n1", Got: "1", Want: "2", Cause: &segments.GapError{Got: 5, Want: 7}},
	"catalog.ConflictError": &catalog.ConflictError{Journal: header.Journal, Of: "change", Got: 3, Want: 1<<64 - 1},
	"catalog.InUseError":    &catalog.InUseError{Node: members[0], Journals: []string{"a", "b"}, More: 3},
	"catalog.HeldError":     &catalog.HeldError{Journal: header.Journal, Holder: "h", Addr: "a:1", Reserved: true, Revision: 1<<64 - 1},
	"catalog.ChangeUnderWayError": &catalog.ChangeUnderWayError{
		Journal: header.Journal, Name: "a", Stage: catalog.StageSealed, Change: 1<<64 - 1, To: members,
	},
}

// exported lists what the packages declare: variables named Err*, and types with an Error method.
func exported(t *testing.T) (vars, types []string) {
	t.Helper()
	for pkg, dir := range map[string]string{
		"fencing": "../../fencing", "recovery": "../../recovery", "segments": "../../segments", "rpc": "../rpc",
		"catalog": "../../journalnode/catalog",
	} {
		files, err := filepath.Glob(dir + "/*.go")
		require.NoError(t, err)
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			require.NoError(t, err)
			v, ty := exportedIn(file)
			for _, n := range v {
				vars = append(vars, pkg+"."+n)
			}
			for _, n := range ty {
				types = append(types, pkg+"."+n)
			}
		}
	}
	return vars, types
}

func exportedIn(file *ast.File) (vars, types []string) {
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.GenDecl:
			for _, s := range d.Specs {
				if v, ok := s.(*ast.ValueSpec); ok && d.Tok == token.VAR {
					for _, n := range v.Names {
						if strings.HasPrefix(n.Name, "Err") {
							vars = append(vars, n.Name)
						}
					}
				}
			}
		case *ast.FuncDecl:
			if d.Recv == nil || d.Name.Name != "Error" {
				continue
			}
			recv := d.Recv.List[0].Type
			if star, ok := recv.(*ast.StarExpr); ok {
				recv = star.X
			}
			if id, ok := recv.(*ast.Ident); ok && id.IsExported() {
				types = append(types, id.Name)
			}
		}
	}
	return vars, types
}

func TestEveryExportedErrorTravels(t *testing.T) {
	vars, types := exported(t)
	require.GreaterOrEqual(t, len(vars), 36)
	require.GreaterOrEqual(t, len(types), 15)
	for _, name := range vars {
		class := classNames[name]
		require.NotNil(t, class, "%s: give it a row in the error table, and name it here", name)
		require.True(t, slices.ContainsFunc(table, func(r row) bool { return r.class == class }), "%s has no row", name)
	}
	for _, name := range types {
		require.NotNil(t, structs[name], "%s: give it a shape in the error table, and a value here", name)
	}
	require.True(t, slices.ContainsFunc(table, func(r row) bool { return r.class == vfs.ErrNoSpace }))
}

func TestTableIsUnambiguous(t *testing.T) {
	reasons, classes := map[string]bool{}, map[error]bool{}
	for _, r := range table {
		require.Equal(t, travelsAs[r.class] != nil, reasons[r.reason], r.reason)
		require.False(t, classes[r.class], r.reason)
		require.NotEqual(t, codes.OK, r.code)
		require.Regexp(t, `^[A-Z][A-Z0-9_]{0,62}$`, r.reason)
		reasons[r.reason], classes[r.class] = true, true
	}
}

// travel sends an error through a status as the bytes that go over a connection.
func travel(t testing.TB, err error) error {
	t.Helper()
	st := status.Convert(toStatus(err))
	b, merr := proto.Marshal(st.Proto())
	require.NoError(t, merr)
	p := st.Proto()
	proto.Reset(p)
	require.NoError(t, proto.Unmarshal(b, p))
	return fromStatus("n1:7070", status.ErrorProto(p))
}

// requireSameClasses checks that both errors are of the same classes, all of them.
func requireSameClasses(t *testing.T, want, got error) {
	t.Helper()
	for _, r := range table {
		if isContextError(r.class) || r.class == rpc.ErrUnavailable {
			continue // see TestContextErrorsAreUnavailable
		}
		require.Equal(t, errors.Is(want, r.class), errors.Is(got, r.class), "%s of %v", r.reason, want)
	}
}

func TestEveryRowRoundTrips(t *testing.T) {
	for _, r := range table {
		t.Run(r.reason, func(t *testing.T) {
			if as := travelsAs[r.class]; as != nil {
				got := travel(t, fmt.Errorf("wrapped: %w", r.class))
				require.ErrorIs(t, got, as)
				require.ErrorContains(t, got, "wrapped: "+r.class.Error())
				return
			}
			got := travel(t, r.class)
			require.ErrorIs(t, got, r.class)
			if !isContextError(r.class) {
				require.Equal(t, r.class, got, "an error that says no more stays the very same value")
			}
			wrapped := fmt.Errorf("journal x: %w (got %d)", r.class, 5)
			got = travel(t, wrapped)
			require.ErrorIs(t, got, r.class)
			require.ErrorContains(t, got, wrapped.Error())
			requireSameClasses(t, wrapped, got)
			require.Equal(t, r.code, status.Code(toStatus(wrapped)))
		})
	}
}

func TestEveryStructRoundTrips(t *testing.T) {
	for name, want := range structs {
		t.Run(name, func(t *testing.T) {
			got := travel(t, want)
			require.Equal(t, want, got)
			require.EqualError(t, got, want.Error())
			requireSameClasses(t, want, got)

			wrapped := fmt.Errorf("deep: %w", fmt.Errorf("deeper: %w", want))
			got = travel(t, wrapped)
			require.EqualError(t, got, wrapped.Error())
			requireSameClasses(t, wrapped, got)
			require.True(t, holds(got, want), "%v", got)
			require.True(t, holds(travel(t, got), want), "passed on by a node that is not its origin")
		})
	}
}

// holds reports whether want is in the tree of err, by value.
func holds(err, want error) bool {
	if fmt.Sprintf("%#v", err) == fmt.Sprintf("%#v", want) || err.Error() == want.Error() && fmt.Sprintf("%T", err) == fmt.Sprintf("%T", want) {
		return true
	}
	if u, ok := err.(interface{ Unwrap() []error }); ok {
		return slices.ContainsFunc(u.Unwrap(), func(e error) bool { return holds(e, want) })
	}
	return false
}

func TestMismatchOfEveryClass(t *testing.T) {
	for _, r := range table {
		if !slices.ContainsFunc(r.shapes, func(s shape) bool { return s.name == fieldShape.name }) {
			continue
		}
		want := &segments.MismatchError{What: "length", Got: 5, Want: uint64(7), Class: r.class}
		got, ok := errors.AsType[*segments.MismatchError](travel(t, want))
		require.True(t, ok, r.reason)
		require.EqualError(t, got, want.Error())
		require.ErrorIs(t, got, r.class)
		require.Equal(t, "5", got.Got, "values arrive as they print")
	}
}

func TestSeveralClassesAtOnce(t *testing.T) {
	gap := &segments.GapError{Got: 5, Want: 7}
	want := fmt.Errorf("%w: %w: %w", rpc.ErrOutOfSync, gap, vfs.ErrNoSpace)
	got := travel(t, want)
	require.EqualError(t, got, want.Error())
	requireSameClasses(t, want, got)
	g, ok := errors.AsType[*segments.GapError](got)
	require.True(t, ok)
	require.Equal(t, gap, g)
	require.Equal(t, codes.Aborted, status.Code(toStatus(want)))
}

func TestErrorsWithinErrorsEnd(t *testing.T) {
	var err error = io.ErrUnexpectedEOF
	for range 20 {
		err = &segments.CorruptionError{Segment: 1, Err: err}
	}
	got := travel(t, err)
	require.EqualError(t, got, err.Error())
	require.ErrorIs(t, got, segments.ErrCorrupt)
}

func TestErrorsWithoutAReason(t *testing.T) {
	got := travel(t, errors.New("disk on fire\xff"))
	require.EqualError(t, got, "disk on fire\uFFFD")
	requireSameClasses(t, io.EOF, got)

	for _, code := range []codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.Canceled} {
		err := fromStatus("n1:7070", status.Error(code, "went away"))
		require.ErrorIs(t, err, rpc.ErrUnavailable)
		require.EqualError(t, err, "qjm: node unavailable: n1:7070: went away")
		require.Equal(t, code, status.Code(err), "the cause is in it")
	}
	require.ErrorIs(t, fromStatus("", context.DeadlineExceeded), rpc.ErrUnavailable)
	require.NoError(t, fromStatus("", nil))
	require.NoError(t, toStatus(nil))
}

func TestContextErrorsFromTheServiceAreUnavailable(t *testing.T) {
	for _, want := range []error{context.Canceled, context.DeadlineExceeded} {
		got := travel(t, fmt.Errorf("waiting for a sync: %w", want))
		require.ErrorIs(t, got, rpc.ErrUnavailable)
		require.ErrorIs(t, got, want)
		require.ErrorContains(t, got, "waiting for a sync")
	}
	got := travel(t, fmt.Errorf("%w: %w", rpc.ErrClosed, context.Canceled))
	require.ErrorIs(t, got, rpc.ErrClosed)
	require.NotErrorIs(t, got, rpc.ErrUnavailable, "the node did answer")
}

// withReason returns a status as some other version might send it.
func withReason(t *testing.T, domain, reason string, m map[string]string) error {
	t.Helper()
	st, err := status.New(codes.Aborted, "the text").WithDetails(&errdetails.ErrorInfo{Domain: domain, Reason: reason, Metadata: m})
	require.NoError(t, err)
	return st.Err()
}

func TestReasonsOfOtherVersions(t *testing.T) {
	err := fromStatus("", withReason(t, "qjm", "TOO_HOT", nil))
	require.EqualError(t, err, "the text")
	requireSameClasses(t, io.EOF, err)

	err = fromStatus("", withReason(t, "example.com", "FENCED", nil))
	require.NotErrorIs(t, err, fencing.ErrFenced, "not ours")

	for name, m := range map[string]map[string]string{
		"no facts":     nil,
		"unknown type": {"type": "fenced_twice"},
		"facts lack":   {"type": "fenced", "got_epoch": "5"},
		"bad number":   {"type": "fenced", "got_epoch": "x", "got_writer_id": "00", "promised_epoch": "1", "promised_writer_id": ""},
	} {
		err := fromStatus("", withReason(t, "qjm", "FENCED", m))
		require.ErrorIs(t, err, fencing.ErrFenced, "%s: the class is never lost", name)
		require.EqualError(t, err, "the text")
		_, ok := errors.AsType[*fencing.FencedError](err)
		require.False(t, ok, name)
	}
}

func FuzzErrorFromStatus(f *testing.F) {
	for _, err := range structs {
		b, merr := proto.Marshal(status.Convert(toStatus(err)).Proto())
		require.NoError(f, merr)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p := status.New(codes.OK, "").Proto()
		if proto.Unmarshal(b, p) != nil || p.Code == 0 {
			return
		}
		err := fromStatus("n1:7070", status.ErrorProto(p))
		require.Error(t, err)
		again := travel(t, err)
		for _, r := range table {
			if errors.Is(err, r.class) {
				require.ErrorIs(t, again, r.class)
			}
		}
	})
}
