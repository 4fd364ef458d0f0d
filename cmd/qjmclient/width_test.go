package main

import (
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/internal/inspect"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// laidOut checks that no line is wider than a terminal. A single word may be: a name or a path that is
// longer alone is not broken, so that it can be copied.
func laidOut(t *testing.T, text string) {
	t.Helper()
	for line := range strings.SplitSeq(text, "\n") {
		if len(strings.Fields(line)) > 1 {
			require.LessOrEqual(t, utf8.RuneCountInString(line), cli.LineMax, line)
		}
	}
}

// TestWidth_Help: the help of every command, and what it says to an unknown flag.
func TestWidth_Help(t *testing.T) {
	c := client{t: t}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		path := strings.Fields(cmd.CommandPath())[1:]
		laidOut(t, c.ok(append(path, "--help")...))
		r := c.do(nil, append(path, "--"+strings.Repeat("long", 60))...)
		require.Equal(t, 2, r.code)
		laidOut(t, r.err)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk((&app{}).root())
}

// TestWidth_LongJournalName: what every command says of a journal with the longest name there is.
func TestWidth_LongJournalName(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{})
	c := clientOf(t, cluster)
	name := strings.Repeat("n", rpc.JournalNameMax)
	step := func(code int, args string) {
		t.Helper()
		r := c.do(strings.NewReader("x\n"), strings.Fields(args)...)
		require.Equal(t, code, r.code, "%s: %s", args, r.err)
		laidOut(t, r.out)
		laidOut(t, r.err)
	}
	for _, cmd := range []string{"journal tail", "journal append", "journal status", "journal delete --yes", "writer fence"} {
		step(4, cmd+" "+name)
	}
	for _, cmd := range []string{"journal create --dry-run", "journal create", "journal append", "journal segments", "writer fence --dry-run",
		"writer fence", "journal recover --dry-run", "journal recover", "journal delete --dry-run", "bench --duration 50ms"} {
		step(0, cmd+" "+name)
	}
	step(0, "journal list")
	step(4, "journal create "+name)
	step(4, "journal tail --from 18446744073709551615 "+name)
	cluster.StopNode(1)
	cluster.StopNode(2)
	for _, cmd := range []string{"journal status", "journal append --timeout 300ms", "journal delete --yes", "writer fence --timeout 300ms"} {
		step(5, cmd+" "+name)
	}
	cluster.StopNode(0)
	far := strings.Repeat("far.example.", 20) + ":7400"
	step(3, "journal status --timeout 300ms "+name)
	step(2, "journal status --endpoints "+far+"0 "+name)
}

// longNodes are seven nodes with the longest ids there are.
func longNodes(st *libqjm.JournalStatus) {
	for i := range 7 {
		st.Nodes = append(st.Nodes, libqjm.NodeStatus{
			Node: strings.Repeat("i", quorum.MaxIDBytes-1) + string(rune('1'+i)), State: "in-sync", Incarnation: strings.Repeat("a", 32),
			Promised: 1 << 63, Last: 1 << 63, SyncMillis: 12345.6,
		})
	}
	st.Nodes[6].Err = libqjm.ErrUnavailable
	st.Nodes[5].Problems = []string{strings.Repeat("problem ", 40)}
}

// TestWidth_Tables: long ids of nodes, and large numbers.
func TestWidth_Tables(t *testing.T) {
	st := libqjm.JournalStatus{Name: strings.Repeat("n", rpc.JournalNameMax), Writer: strings.Repeat("b", 32), Epoch: 1 << 63, Committed: 1 << 63, Segment: 1 << 62}
	longNodes(&st)
	var infos []libqjm.SegmentInfo
	var members []string
	for _, n := range st.Nodes[:6] {
		infos = append(infos, libqjm.SegmentInfo{Node: n.Node, First: 1, Last: 1 << 63, State: "finalized", Epoch: 1 << 63, Digest: n.Node[63:] + strings.Repeat("a", 31)})
		members = append(members, n.Node)
	}
	var out, errs buffer
	a := &app{format: cli.Table}
	cmd := &cobra.Command{}
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	require.Error(t, a.printStatus(cmd, st))
	require.ErrorIs(t, a.printSegments(cmd, matrix(st, infos)), cli.ErrFound)
	require.NoError(t, a.printList(cmd, "c", []libqjm.JournalInfo{{Name: st.Name, ID: strings.Repeat("c", 32), Members: members, Version: 1}}))
	require.NoError(t, a.printRecovery(cmd, st.Name, libqjm.Recovery{Epoch: 1 << 63, LastTx: 1 << 63, Digest: strings.Repeat("d", 32), Sources: members, Missing: members}))
	require.NoError(t, a.printResult(cmd, resultJSON{"", st.Name, "created", members}, members, "they get the journal"))
	require.ErrorIs(t, a.printReport(cmd, []string{"d"}, &inspect.Report{Findings: []inspect.Finding{{
		Kind: inspect.Corrupt, Node: members[0], Journal: st.Name, File: strings.Repeat("/dir", 50), Offset: 1 << 62, TxID: 1 << 63, What: strings.Repeat("what ", 60),
	}}}), cli.ErrFound)
	b := &bench{}
	for range 10 {
		b.hist.add(123456 * time.Millisecond)
	}
	require.NoError(t, b.result("b", 1<<63, time.Hour).table(&out, b))
	laidOut(t, out.String())
	laidOut(t, errs.String())
	require.NotRegexp(t, `(?m)^ *$\n^ *$`, out.String())
	require.Contains(t, out.String(), "LAST TXID    9223372036854775808\n", "a row that is too wide is a block")
}

// TestWidth_Tail: payloads are printed as they are.
func TestWidth_Tail(t *testing.T) {
	c := clientOf(t, testcluster.Start(t, testcluster.Options{Nodes: 1}))
	c.ok("journal", "create", "a")
	long := strings.Repeat("long words ", 50)
	var in io.Reader = strings.NewReader(long)
	require.Equal(t, 0, c.do(in, "journal", "append", "a").code)
	require.Equal(t, long+"\n", c.ok("journal", "tail", "a"))
}
