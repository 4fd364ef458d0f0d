package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/durable"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// samples has errors of every class of the exit table.
var samples = map[string][]error{
	"usage":       {Usagef("unknown flag")},
	"interrupted": {ErrInterrupted, &Silent{ErrInterrupted}},
	"degraded":    {ErrDegraded},
	"found":       {ErrFound},
	"auth":        {status.Error(codes.Unauthenticated, "x"), status.Error(codes.PermissionDenied, "x")},
	"append fenced": {
		&libqjm.AppendError{Handed: true, Err: &fencing.FencedError{}},
		&libqjm.AppendError{Err: &fencing.LostRaceError{}},
	},
	"append ambiguous": {
		&libqjm.AppendError{Handed: true, Err: context.DeadlineExceeded},
		&libqjm.AppendError{Handed: true, Err: &recovery.NoQuorumError{}},
		&Silent{&libqjm.AppendError{Handed: true, Err: libqjm.ErrClosed}},
	},
	"no quorum": {
		&recovery.NoQuorumError{},
		fmt.Errorf("%w (%w)", &recovery.NoQuorumError{}, context.DeadlineExceeded),
		&recovery.NoQuorumError{Causes: []recovery.NodeCause{{Node: "n1", Err: libqjm.ErrFenced}, {Node: "n2", Err: libqjm.ErrCorrupt}}},
		&libqjm.AppendError{Err: &recovery.NoQuorumError{}},
	},
	"superseded":                     {&recovery.SupersededError{}},
	"fenced":                         {&fencing.FencedError{}, &fencing.LostRaceError{}},
	"divergence":                     {&recovery.DivergenceError{}, &recovery.FloorError{}, &recovery.BreachError{}},
	"corruption":                     {&segments.CorruptionError{Err: segments.ErrGap}, durable.ErrTorn, recovery.ErrUnknownData},
	"refused by a rule":              {&RefusedError{Text: "no"}},
	"no journal":                     {fmt.Errorf("%w: a", libqjm.ErrNoJournal)},
	"journal exists":                 {libqjm.ErrJournalExists},
	"journal deleted":                {libqjm.ErrJournalDeleted},
	"journal deleting":               {libqjm.ErrJournalDeleting},
	"plan":                           {libqjm.ErrPlan, libqjm.ErrNoPlan},
	"catalog":                        {libqjm.ErrTooFewNodes, libqjm.ErrNoNode, catalog.ErrIncarnation},
	"node in use":                    {&catalog.InUseError{Node: quorum.Member{ID: "n1"}, Journals: []string{"a"}}},
	"lease held":                     {&libqjm.LeaseHeldError{Holder: "w"}},
	"lease lost":                     {libqjm.ErrLeaseLost},
	"no leader":                      {libqjm.ErrNoLeader, rpc.ErrCatalogDown},
	"snapshot":                       {libqjm.ErrNoSnapshot, &rpc.SnapshotExistsError{}, libqjm.ErrSnapshotOld, libqjm.ErrNotCommitted, &rpc.PurgedError{}},
	"snapshot corruption":            {libqjm.ErrSnapshotDiverges, libqjm.ErrSnapshotDamaged},
	"snapshot not listed":            {fmt.Errorf("%w: %w", libqjm.ErrNotListed, libqjm.ErrUnavailable)},
	"quota":                          {libqjm.ErrQuota, &libqjm.AppendError{Err: libqjm.ErrQuota}},
	"past the end":                   {libqjm.ErrPastEnd},
	"too large":                      {libqjm.ErrTooLarge, libqjm.ErrEmpty},
	"other cluster":                  {libqjm.ErrOtherCluster},
	"other node or config":           {&rpc.WrongNodeError{}, &rpc.ConfigError{}, rpc.ErrUnknownNode},
	"later version":                  {durable.ErrUnsupported, segments.ErrUnsupported},
	"data directory of another node": {journalnode.ErrOtherNode},
	"data directory in use":          {vfs.ErrLocked},
	"no such data directory":         {journalnode.ErrOffline},
	"not as things stand":            {libqjm.ErrRefused},
	"bad request":                    {libqjm.ErrBadRequest},
	"unreachable":                    {libqjm.ErrUnavailable, rpc.ErrClosed, rpc.ErrStalled, rpc.ErrNotFounded},
	"deadline":                       {context.DeadlineExceeded},
	"canceled":                       {context.Canceled},
}

// TestExitTable is X2: every class has samples, and each sample gets its row's code.
func TestExitTable(t *testing.T) {
	for _, row := range exitTable {
		require.NotEmpty(t, samples[row.class], "class %q has no sample", row.class)
		for _, err := range samples[row.class] {
			code, class := classOf(fmt.Errorf("wrapped: %w", err))
			require.Equal(t, row.class, class, "%v", err)
			require.Equal(t, row.code, code, "%v", err)
		}
	}
	require.Len(t, samples, len(exitTable), "a sample without a row")
	require.Equal(t, ExitOK, ExitCode(nil))
	require.Equal(t, ExitOther, ExitCode(errors.New("anything")))
}

// TestExitCodes pins the numbers: scripts rely on them.
func TestExitCodes(t *testing.T) {
	require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 130}, []int{
		ExitOK, ExitOther, ExitUsage, ExitUnreachable, ExitRefused, ExitNoQuorum, ExitDegraded, ExitCorrupt, ExitFenced, ExitAuth, ExitAmbiguous, ExitInterrupted,
	})
}

// TestExplain: every class has a text without package names, and fits the terminal.
func TestExplain(t *testing.T) {
	s := Subject{Program: "qjmclient", Endpoints: []string{"127.0.0.1:7400"}, Journal: "a", Usage: "qjmclient x", HelpOf: "qjmclient x"}
	for class, errs := range samples {
		for _, err := range errs {
			what, _ := s.Explain(err)
			require.NotEmpty(t, what, class)
			require.NotRegexp(t, `(^|: )(libqjm|osfs|vfs|recovery): `, what, class)
		}
	}
	what, hint := s.Explain(&fencing.FencedError{Promised: fencing.Claim{Epoch: 5}, Got: fencing.Claim{Epoch: 4}})
	require.Equal(t, "fenced: epoch 5 was taken by another writer or an operator; this writer had epoch 4", what)
	require.Equal(t, "only one writer at a time; see: qjmclient journal status a", hint)
}

// TestHints: what to do about an error depends on what the command wants.
func TestHints(t *testing.T) {
	for _, tc := range []struct {
		does Intent
		err  error
		hint string
	}{
		{Looks, libqjm.ErrNoJournal, "see the names: qjmclient journal list"},
		{Deletes, libqjm.ErrNoJournal, "see the names: qjmclient journal list"},
		{Writes, libqjm.ErrNoJournal, "create it: qjmclient journal create a"},
		{Creates, libqjm.ErrJournalDeleted, "its name stays taken; choose another one"},
		{Looks, libqjm.ErrJournalDeleted, ""},
		{Creates, &recovery.NoQuorumError{Step: "creating the journal"}, "it may be there on some nodes; repeat when a majority runs"},
		{Deletes, &recovery.NoQuorumError{Step: "deleting the journal"}, "it may be deleted on some nodes: do not use it, repeat this when a majority runs"},
		{Deletes, &recovery.NoQuorumError{Step: "the journal's state"}, "wait until a majority of the nodes runs; see: qjmclient journal status a"},
	} {
		_, hint := Subject{Program: "qjmclient", Journal: "a", Does: tc.does}.Explain(tc.err)
		require.Equal(t, tc.hint, hint)
	}
}

func TestWrap(t *testing.T) {
	long := Wrap("qjmclient: "+string(make([]byte, 95))+" and more words", "  ")
	require.Contains(t, long, "\n  and more words")
	word := string(make([]byte, 300))
	require.Equal(t, word, Wrap(word, "  "), "a word is not broken")
	require.Equal(t, "open\n  "+word+"\n  is not there", Wrap("open "+word+" is not there", "  "), "what is behind it is")
	wide := strings.Repeat("ä", 50) + " " + strings.Repeat("ö", 49)
	require.Equal(t, wide, Wrap(wide, "  "), "columns count, not bytes")
	require.Equal(t, "  "+word+"\n  x", Wrap("  "+word+" x", "  "))
	require.Equal(t, "a: b (c)", Line("a", "b", "c"))
}

// TestPrintTable: columns where they fit, else a block for each row.
func TestPrintTable(t *testing.T) {
	var out strings.Builder
	rows := [][]string{{"NAME", "STATE"}, {"a", ""}, {strings.Repeat("b", 94), "live"}}
	require.NoError(t, PrintTable(&out, rows[:2]))
	require.NoError(t, PrintTable(&out, rows))
	long := strings.Repeat("b", 94)
	require.Equal(t, "NAME  STATE\na     -\nNAME   a\nSTATE  -\n\nNAME\n  "+long+"\nSTATE  live\n", out.String())
	require.Empty(t, rows[1][1], "the rows are the caller's")
}

// TestCheckAddress: what to connect to needs a host, what to listen on does not.
func TestCheckAddress(t *testing.T) {
	require.NoError(t, CheckAddress("[::1]:7400", false))
	require.NoError(t, CheckAddress(":7400", true))
	for _, addr := range []string{":7400", "a", "a:", "a:0", "a:65536", "a:http", "http://a:1"} {
		require.Error(t, CheckAddress(addr, false), addr)
	}
}

// TestForeignServer: a server that is no JournalNode is told from one that does not answer.
func TestForeignServer(t *testing.T) {
	s := Subject{Program: "qjmclient", Endpoints: []string{"127.0.0.1:7500"}}
	what, hint := s.Explain(fmt.Errorf("%w: error reading server preface: http2: frame too large", libqjm.ErrUnavailable))
	require.Equal(t, "cannot connect: none of 127.0.0.1:7500 answered (what listens there is no JournalNode)", what)
	require.Equal(t, "an endpoint is what a node was given as --listen, not its HTTP address", hint)
	_, hint = s.Explain(fmt.Errorf("listen: %w", syscall.EADDRNOTAVAIL))
	require.Equal(t, "this machine does not have that address", hint)
}

func TestNumbers(t *testing.T) {
	require.Equal(t, "1,234,567", Count(1234567))
	require.Equal(t, "999", Count(999))
	require.Equal(t, "1 node", Plural(1, "node"))
	require.Equal(t, "2 nodes", Plural(2, "node"))
	require.Equal(t, "1.5 KiB", Bytes(1536))
}

// A text that is too long ends between two words, unless one is as long as all, and in no half of a character.
func TestBrief(t *testing.T) {
	require.Equal(t, "waits for the new...", brief(errors.New("waits for the new member"), 20))
	require.Equal(t, "waits for", brief(errors.New("waits for"), 20))
	require.Equal(t, "a "+strings.Repeat("b", 18)+"...", brief(errors.New("a "+strings.Repeat("b", 30)), 20))
	require.Equal(t, strings.Repeat("é", 9)+"...", brief(errors.New(strings.Repeat("é", 30)), 19))
}
