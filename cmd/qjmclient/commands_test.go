package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// TestCommands walks through the life of a journal and pins what each command prints as JSON. The text
// is part of the contract with scripts: fields are added, never renamed or removed.
func TestCommands(t *testing.T) {
	c := clientOf(t, testcluster.Start(t, testcluster.Options{}))
	for _, step := range []struct {
		stdin, args string
		code        int
		want        string
	}{
		{"", "journal list -o json", 0, `{"schema":"qjm.v1/journal-list","cluster":"HEX","journals":[]}`},
		{"", "journal create a --dry-run -o json", 0, `{"schema":"qjm.v1/plan","action":"create","journal":"a","plan":"create journal \"a\" on n1, n2, n3","dry_run":true}`},
		{"", "journal create a -o json", 0, `{"schema":"qjm.v1/journal-create","journal":"a","result":"created"}`},
		{"", "journal create a", 4, ""},
		{"", "journal list -o json", 0, `{"schema":"qjm.v1/journal-list","cluster":"HEX","journals":[{"name":"a","id":"HEX","members":["n1","n2","n3"],"config_version":"1","deleted":false}]}`},
		{"", "journal list -o jsonl", 0, `{"schema":"qjm.v1/journal","name":"a","id":"HEX","members":["n1","n2","n3"],"config_version":"1","deleted":false}`},
		{"1\n2\n3\n", "journal append a -o json", 0, `{"schema":"qjm.v1/journal-append","journal":"a","first":"1","last":"3","epoch":"1","count":"3","in_doubt":"0","finalized":true}`},
		{"", "journal tail a --from 2 -o jsonl", 0, `{"schema":"qjm.v1/txn","txid":"2","epoch":"1","data":"Mg=="}
{"schema":"qjm.v1/txn","txid":"3","epoch":"1","data":"Mw=="}`},
		{"", "journal tail a --from 2 --to 2", 0, "2"},
		{"", "journal tail a --from 5", 4, ""},
		{"", "journal recover a --dry-run -o json", 0, `{"schema":"qjm.v1/plan","action":"recover","journal":"a","plan":"take an epoch above 1 in journal \"a\": its writer, if there is one, can commit nothing more; then finalize its newest segment, which starts at txid 1; txids up to 3 are known to be committed","dry_run":true}`},
		{"", "writer fence a --dry-run -o json", 0, `{"schema":"qjm.v1/plan","action":"fence","journal":"a","plan":"take an epoch above 1 in journal \"a\": its writer, if there is one, can commit nothing more","dry_run":true}`},
		{"", "writer fence a -o json", 0, `{"schema":"qjm.v1/writer-fence","journal":"a","epoch":"2"}`},
		{"4", "journal append a", 0, "appended 1 transaction, txid 4, epoch 3"},
		{"", "journal append a -o json", 2, `{"schema":"qjm.v1/journal-append","journal":"a","first":"0","last":"0","epoch":"0","count":"0","in_doubt":"0","finalized":false,"error":"there is no transaction in the input"}`},
		{"", "journal delete a --dry-run -o json", 0, `{"schema":"qjm.v1/plan","action":"delete","journal":"a","plan":"delete journal \"a\" with txids up to 4 on n1, n2, n3","dry_run":true}`},
		{"", "journal delete a -o json", 2, ""},
		{"", "journal delete a --yes -o json", 0, `{"schema":"qjm.v1/journal-delete","journal":"a","result":"deleted"}`},
		{"", "journal status a", 4, ""},
		{"", "journal create a --replicas 4", 4, ""},
		{"", "journal create a --replicas 1 --quota 7 -o json", 0, `{"schema":"qjm.v1/journal-create","journal":"a","result":"created"}`},
		{"", "journal policy a --snapshot-txns 5 --dry-run -o json", 0, `{"schema":"qjm.v1/plan","action":"policy","journal":"a","plan":"set the policy of journal \"a\": snapshots due after 5 txns; kept what the nodes are set to; auto-readmit false","dry_run":true}`},
		{"", "journal policy a --snapshot-txns 5", 0, `journal "a" policy set`},
		{"", "journal policy a --snapshot-interval 1h --snapshot-growth 50 --retain-txns 9 --retain-bytes 7 --dry-run", 0, `plan (nothing was changed): set the policy of journal "a": snapshots due after 5 txns, after 1h0m0s,
  at 50% of the last one; kept 9 txns, 7 bytes before the newest; auto-readmit false`},
		{"", "journal create b --replicas 0", 2, ""},
		{"", "journal quota a", 2, ""},
		{"", "journal quota a --bytes 9 -o json", 0, `{"schema":"qjm.v1/journal-quota","journal":"a","result":"quota set"}`},
		{"", "journal describe a -o json", 0, `{"schema":"qjm.v1/journal-describe","journal":"a","id":"HEX","consistency":"linearizable","config_version":"1","config_in_force":"1","member_sets":[["n1"]],"deleted":false,"quota_bytes":"9","policy":{"snapshot_bytes":"0","snapshot_txns":"5","snapshot_interval_millis":"0","snapshot_growth_percent":0,"retain_txns":"0","retain_bytes":"0","replicas":0,"auto_readmit":false}}`},
		{"", "journal describe nope", 4, ""},
		{"", "member remove n1 --yes", 4, ""},
		{"", "member remove n9 --yes", 4, ""},
		{"", "member remove n3 --dry-run -o json", 0, `{"schema":"qjm.v1/plan","action":"member-remove","journal":"","plan":"take node n3 out of the cluster; no journal needs it","dry_run":true}`},
		{"", "member transfer-leader --dry-run", 0, "plan (nothing was changed): hand the leadership of the catalog over to any other voter"},
		{"", "journal tail nope", 4, ""},
	} {
		r := c.do(strings.NewReader(step.stdin), strings.Fields(step.args)...)
		require.Equal(t, step.code, r.code, "%s: %s", step.args, r.err)
		require.Equal(t, step.want, strings.TrimSuffix(normal(r.out), "\n"), step.args)
		if step.code != 0 {
			require.True(t, strings.HasPrefix(r.err, "qjmclient: "), r.err)
			require.LessOrEqual(t, strings.Count(r.err, "\n"), 3, r.err)
		}
	}
}

// TestRecoverJSON: who is a source depends on who answers first.
func TestRecoverJSON(t *testing.T) {
	c := clientOf(t, testcluster.Start(t, testcluster.Options{}))
	c.ok("journal", "create", "a")
	c.do(strings.NewReader("x\n"), "journal", "append", "a")
	out := c.ok("journal", "recover", "a", "-o", "json")
	require.Regexp(t, `^\{"schema":"qjm.v1/journal-recover","journal":"a","epoch":"2","segment":"1","last_txid":"1","digest":"[0-9a-f]{32}","source":"n\d","sources":\["n\d".*\],"missing":\[\],"empty":false\}\n$`, out)
	require.Regexp(t, `^journal "a" recovered in epoch 3: the last txid is 1, digest [0-9a-f]{8}, taken from n`, c.ok("journal", "recover", "a"))
}

// TestStatusAndSegments pins the objects and the tables, and the codes 6, 5 and 3.
func TestStatusAndSegments(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a")
	require.Equal(t, 0, c.do(strings.NewReader("x\ny\n"), "journal", "append", "a").code)
	node := func(n string) string {
		return `{"node":"` + n + `","state":"in-sync","incarnation":"HEX","promised_epoch":"1","newest_segment":"1","segment_state":"finalized","segment_epoch":"1","last_txid":"2","lag_txns":"0","digest":"HEX","committed_txid":"C","sync_ms":N,"problems":[],"error":""}`
	}
	want := `{"schema":"qjm.v1/journal-status","journal":"a","id":"HEX","config_version":"1","epoch":"1","writer":"HEX","committed_txid":"2","open_segment":"0","newest_segment":"1","quorum":true,"degraded":false,"nodes":[` +
		node("n1") + "," + node("n2") + "," + node("n3") + "]}\n"
	var out string
	for end := time.After(10 * time.Second); out != want; { // the slowest node may be behind for a moment
		select {
		case <-end:
			require.Equal(t, want, out)
		case <-time.After(10 * time.Millisecond):
		}
		out = normal(c.do(nil, "journal", "status", "a", "-o", "json").out)
		out = regexp.MustCompile(`("node":"n\d","state":"in-sync",.*?"committed_txid":)"\d"`).ReplaceAllString(out, `$1"C"`)
		// A node that was founded a moment later than the others took the journal over from a peer.
		out = strings.ReplaceAll(out, `"promised_epoch":"0"`, `"promised_epoch":"1"`)
	}
	table := c.ok("journal", "status", "a")
	require.Regexp(t, `(?m)^JOURNAL a   EPOCH 1   WRITER [0-9a-f]{8}   COMMITTED TXID 2   OPEN SEGMENT -   QUORUM yes$`, table)
	require.Regexp(t, `(?m)^NODE +STATE +INCARNATION +PROMISED +LAST TXID +LAG TXNS +SYNC +LAST ERROR$`, table)
	fits(t, table)

	var m segmentsJSON
	require.NoError(t, json.Unmarshal([]byte(c.ok("journal", "segments", "a", "-o", "json")), &m))
	require.Equal(t, []string{"n1", "n2", "n3"}, m.Nodes)
	require.Len(t, m.Segments, 1)
	require.Equal(t, "2", m.Segments[0].Last)
	require.Equal(t, "finalized", m.Segments[0].Copies[2].State)
	require.Regexp(t, `^FIRST +EPOCH +n1 +n2 +n3\n1 +1 +final 2/[0-9a-f]{8} +final 2/`, c.ok("journal", "segments", "a"))

	cluster.StopNode(2)
	r := c.do(nil, "journal", "status", "a")
	require.Equal(t, 6, r.code, r.err)
	require.Equal(t, "qjmclient: degraded: n3 is unreachable\n", r.err)
	require.Contains(t, r.out, "connection refused")
	r = c.do(nil, "journal", "segments", "a")
	require.Equal(t, 6, r.code, r.err)
	require.Equal(t, "qjmclient: n3 did not answer: connection refused\n", r.err)
	require.Contains(t, r.out, "?")
	r = c.do(nil, "journal", "create", "part")
	require.Equal(t, 0, r.code, r.err)
	require.Equal(t, "journal \"part\" created on n1, n2\n", r.out)
	require.Equal(t, "qjmclient: n3 did not answer; it gets the journal when it is back\n", r.err)
	r = c.do(nil, "journal", "delete", "part", "--yes")
	require.Equal(t, result{0, "journal \"part\" deleted on n1, n2\n", "qjmclient: n3 did not answer; the journal is deleted there when it is back\n"}, r)
	require.Contains(t, c.ok("journal", "create", "part2", "-o", "json"), `"result":"created","missing":["n3"]}`)

	cluster.StopNode(1)
	r = c.do(nil, "journal", "status", "a")
	require.Equal(t, 5, r.code, r.err)
	require.Contains(t, r.out, "QUORUM NO")
	require.Contains(t, r.err, "n2 connection refused, n3 connection refused")
	for _, args := range []string{"journal recover a", "writer fence a", "journal create b", "journal delete a --yes", "journal create b --dry-run", "journal append a"} {
		r = c.do(strings.NewReader("z\n"), append(strings.Fields(args), "--timeout", "500ms")...)
		require.Equal(t, 5, r.code, "%s: %s", args, r.err)
		fits(t, r.err)
		require.NotContains(t, r.err, "it may be there on some nodes", "nothing was created")
		require.NotContains(t, r.err, "deleted on some nodes", "nothing was deleted yet")
	}
	cluster.StopNode(0)
	r = c.do(nil, "journal", "status", "a", "--timeout", "300ms")
	require.Equal(t, 3, r.code, r.err)
	require.Contains(t, r.err, "cannot connect: none of 127.")
}

func fits(t *testing.T, text string) {
	t.Helper()
	for _, line := range strings.Split(text, "\n") {
		require.LessOrEqual(t, len(line), 100, line)
	}
}

// TestStatusFits: long errors go below the table, and what was not measured is a dash.
func TestStatusFits(t *testing.T) {
	long := errors.New(strings.Repeat("word ", 15))
	st := libqjm.JournalStatus{Name: "a", Nodes: []libqjm.NodeStatus{
		{Node: "n1", State: "in-sync", Incarnation: strings.Repeat("a", 32), Last: 12345678, Problems: []string{strings.Repeat("long ", 30)}},
		{Node: "n2", State: "unreachable", Err: long},
	}}
	var out buffer
	require.NoError(t, statusTable(&out, st, statusOf(st)))
	fits(t, out.String())
	require.Contains(t, out.String(), "see below")
	require.Contains(t, out.String(), "  n2: word word")
	require.NotContains(t, out.String(), " ms")
}

// TestSegmentsDiverge: what differs is marked, and the exit code is 7.
func TestSegmentsDiverge(t *testing.T) {
	st := libqjm.JournalStatus{Name: "a", Nodes: []libqjm.NodeStatus{{Node: "n1"}, {Node: "n2"}, {Node: "n3", Err: libqjm.ErrUnavailable}}}
	copies := func(change func(*libqjm.SegmentInfo)) []libqjm.SegmentInfo {
		one := libqjm.SegmentInfo{Node: "n1", First: 1, Last: 9, State: "finalized", Epoch: 3, Digest: strings.Repeat("a", 32)}
		two := one
		two.Node = "n2"
		change(&two)
		return []libqjm.SegmentInfo{one, two}
	}
	for _, tc := range []struct {
		name   string
		change func(*libqjm.SegmentInfo)
		cell   string
		note   string
	}{
		{"digest", func(s *libqjm.SegmentInfo) { s.Digest = strings.Repeat("b", 32) }, "! 1", "DIVERGES"},
		{"end", func(s *libqjm.SegmentInfo) { s.Last = 8 }, "! 1", "DIVERGES"},
		{"damage", func(s *libqjm.SegmentInfo) { s.State, s.Problem = "unknown", "bad checksum" }, "DAMAGED", "segment 1 on n2 is damaged: bad checksum"},
	} {
		m := matrix(st, copies(tc.change))
		var out, errs buffer
		a := &app{format: "table"}
		cmd := a.segmentsCmd()
		cmd.SetOut(&out)
		cmd.SetErr(&errs)
		require.Error(t, a.printSegments(cmd, m), tc.name)
		require.Contains(t, out.String(), tc.cell)
		require.Contains(t, out.String(), "?")
		require.Contains(t, errs.String(), tc.note)
	}
	require.False(t, matrix(st, copies(func(*libqjm.SegmentInfo) {})).Diverges)
	require.False(t, matrix(st, copies(func(s *libqjm.SegmentInfo) { s.State, s.Last = "in-progress", 5 })).Diverges)
}

func TestBench(t *testing.T) {
	c := clientOf(t, testcluster.Start(t, testcluster.Options{}))
	c.ok("journal", "create", "b")
	out := c.ok("bench", "b", "--size", "100", "--concurrency", "4", "--duration", "200ms", "-o", "json")
	require.Regexp(t, `^\{"schema":"qjm.v1/bench","journal":"b","epoch":"1","size":"100","concurrency":"4","duration_s":N,"ops":"[1-9]\d*","ops_per_sec":N,"mb_per_sec":N,"latency_us":\{"mean":N,"p50":N,"p90":N,"p99":N,"p999":N,"max":N\},"errors":"0"\}\n$`, normal(out))
	table := c.ok("bench", "b", "--duration", "100ms")
	require.Contains(t, table, "appends/s")
	fits(t, table)
}

func TestHistogram(t *testing.T) {
	var h histogram
	for i := range 10000 {
		h.add(time.Duration(i+1) * time.Microsecond)
	}
	require.InEpsilon(t, 5000, h.quantile(0.5), 0.05)
	require.InEpsilon(t, 9900, h.quantile(0.99), 0.05)
	require.InEpsilon(t, 5000, h.mean(), 0.01)
	require.EqualValues(t, 10000, h.count())
	require.Equal(t, 10000.0, h.quantile(1))
	for _, ns := range []uint64{0, 1, 31, 32, 33, 1000, 1 << 40} {
		require.GreaterOrEqual(t, upper(bucketOf(ns)), ns)
		if ns > 0 {
			require.Less(t, upper(bucketOf(ns)-1), ns)
		}
	}
}

// TestUsage: mistakes on the command line are exit code 2, one or two lines, with a hint.
func TestUsage(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"foo", `unknown command "foo", want one of: bench, cluster, debug, journal, lease, member, quorum, snapshot, unsafe, writer`},
		{"jornal", `unknown command "jornal", did you mean "journal"?`},
		{"journal", "which one? append, create,"},
		{"journal creat", `did you mean "create"?`},
		{"journal create", "NAME is missing"},
		{"journal create a b", `unexpected argument "b"`},
		{"journal list a", `unexpected argument "a"`},
		{"journal list", "no endpoints given: use --endpoints host:port,... or QJM_ENDPOINTS"},
		{"journal list --endpoints x", `endpoint "x" is not host:port`},
		{"journal list --endpoints :7400", `endpoint ":7400" is not host:port`},
		{"journal list --endpoints a:1,b:70000", `endpoint "b:70000": the port is not a number from 1 to 65535`},
		{"journal list --endpoints a:http", `endpoint "a:http": the port is not a number`},
		{"journal list --endpoints a:1 --timeout 0", "--timeout is 0s, want more than zero"},
		{"journal append x --endpoints a:1 --timeout -1s", "--timeout is -1s, want more than zero"},
		{"journal list --nope", "unknown flag: --nope"},
		{"journal list -o xml", "want table, json or jsonl"},
		{"journal list --timeout x", `invalid argument "x" for "--timeout" flag`},
		{"journal create a/b --endpoints a:1", `journal name "a/b": character '/' at 1 (want letters, digits, '-' and '_')`},
		{"journal append ../b --endpoints a:1", `journal name "../b": character '.' at 0`},
		{"journal tail a\x1b[2J --endpoints a:1", `journal name "a\x1b[2J": character '\x1b' at 1`},
		{"journal status ä --endpoints a:1", `character 'ä' at 0`},
		{"bench " + strings.Repeat("n", 129), "journal name has a wrong length (got 129, want 1 to 128)"},
		{"writer fence a.b", `character '.' at 1`},
		{"journal list --endpoints http://a:7400", `endpoint "http://a:7400" is not host:port`},
		{"journal list --endpoints a:1,,b:1", `endpoint "" is not host:port`},
		{"journal tail a --from 0", "txids start at 1"},
		{"journal tail a --from 9 --to 8", "--to 8 is less than --from 9"},
		{"journal tail a --from -1", "invalid syntax"},
		{"journal tail a --length-prefixed -o json", "exclude each other"},
		{"bench a --size 0", "--size from 1"},
		{"debug verify-dir", "DIR... is missing"},
		{"debug dump-log x --after 10 --before 5", "nothing is above --after 10 and below --before 5"},
		{"debug dump-log", "FILE|DIR is missing"},
	} {
		r := client{t: t}.do(strings.NewReader(""), strings.Fields(tc.args)...)
		require.Equal(t, 2, r.code, "%s: %s", tc.args, r.err)
		require.Contains(t, strings.ReplaceAll(r.err, "\n  ", " "), tc.want, tc.args)
		require.Contains(t, r.err, "--help", tc.args)
		require.Empty(t, r.out, tc.args)
		require.LessOrEqual(t, strings.Count(r.err, "\n"), 3, r.err)
		fits(t, r.err)
	}
	r := client{t: t}.do(nil, "journal", "append", "a", "--file", filepath.Join(t.TempDir(), "none"))
	require.Equal(t, 2, r.code)
	require.Contains(t, r.err, "no such file")
}

// TestWrongEndpoints: what listens there is something else, or of another cluster.
func TestWrongEndpoints(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	addr := strings.TrimPrefix(web.URL, "http://")
	// A machine that is slow may not get that far in one run.
	require.Eventually(t, func() bool {
		return client{t, addr}.do(nil, "journal", "list", "--timeout", "1s") == result{3, "",
			"qjmclient: cannot connect: none of " + addr + " answered (what listens there is no JournalNode)\n" +
				"  (an endpoint is what a node was given as --listen, not its HTTP address)\n"}
	}, 30*time.Second, time.Millisecond)

	one, two := testcluster.Start(t, testcluster.Options{Nodes: 1}), testcluster.Start(t, testcluster.Options{Nodes: 1})
	clientOf(t, one).ok("journal", "list") // both are founded
	clientOf(t, two).ok("journal", "list")
	var r result
	require.Eventually(t, func() bool {
		r = client{t, one.Endpoints()[0] + "," + two.Endpoints()[0]}.do(nil, "journal", "list")
		return r.code == 4
	}, 30*time.Second, time.Millisecond)
	require.Contains(t, r.err, "the endpoints belong to different clusters: ")
	require.Contains(t, r.err, "name nodes of one cluster only")
	fits(t, r.err)
}

// TestEnvironment: every flag comes from QJM_<FLAG> as well; the command line wins.
func TestEnvironment(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{Nodes: 1})
	t.Setenv("QJM_ENDPOINTS", strings.Join(cluster.Endpoints(), ","))
	t.Setenv("QJM_OUTPUT", "json")
	c := client{t: t}
	require.Contains(t, c.ok("journal", "create", "a"), `"result":"created"`)
	t.Setenv("QJM_DRY_RUN", "true")
	require.Contains(t, c.ok("writer", "fence", "a", "-o", "table"), "plan (nothing was changed)")
	t.Setenv("QJM_TIMEOUT", "soon")
	r := c.do(nil, "journal", "list")
	require.Equal(t, 2, r.code)
	require.Contains(t, r.err, `environment variable QJM_TIMEOUT="soon"`)
}

func TestHelpAndVersion(t *testing.T) {
	c := client{t: t}
	require.Regexp(t, `^qjmclient version .* go1`, c.ok("--version"))
	for _, args := range []string{"", "--help", "journal --help", "journal append --help", "journal tail --help", "journal delete --help", "bench --help", "debug dump-log --help", "debug verify-dir --help"} {
		out := c.ok(strings.Fields(args)...)
		fits(t, out)
		require.NotEmpty(t, out)
	}
	require.Contains(t, c.ok("completion", "bash"), "qjmclient")
}

// failingWriter is a pipe whose reader has gone.
type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// TestTailOutputs: a closed pipe is a quiet end, a full disk is not.
func TestTailOutputs(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{Nodes: 1})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a")
	require.Equal(t, 0, c.do(strings.NewReader("x\ny\n"), "journal", "append", "a").code)
	for code, err := range map[int]error{0: &os.PathError{Op: "write", Path: "|1", Err: syscall.EPIPE}, 1: errors.New("no space")} {
		var stderr buffer
		args := []string{"journal", "tail", "a", "--endpoints", c.endpoints}
		require.Equal(t, code, run(t.Context(), args, nil, failingWriter{err}, &stderr))
		require.Equal(t, code == 0, stderr.String() == "")
	}
}

// TestTailFollow: what is appended later comes out, and an interruption ends it.
func TestTailFollow(t *testing.T) {
	c := clientOf(t, testcluster.Start(t, testcluster.Options{}))
	c.ok("journal", "create", "a")
	r := c.start(t.Context(), nil, "journal", "tail", "a", "--follow")
	want := ""
	for i := range 3 {
		line := fmt.Sprintf("line %d\n", i)
		want += line
		require.Equal(t, 0, c.do(strings.NewReader(line), "journal", "append", "a").code)
		require.Eventually(t, func() bool { return r.out.String() == want }, 10*time.Second, 5*time.Millisecond, "flushed when idle")
	}
	r.interrupt()
	require.Equal(t, 130, r.wait().code)

	r = c.start(t.Context(), nil, "journal", "tail", "a", "--follow", "--to", "2")
	require.Equal(t, result{0, "line 0\nline 1\n", ""}, r.wait())
}

// TestWaitsAreTold: a wait for nodes is not silent, neither at the start nor while following.
func TestWaitsAreTold(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{Nodes: 1})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a")
	follow := c.start(t.Context(), nil, "journal", "tail", "a", "--follow")
	require.Equal(t, 0, c.do(strings.NewReader("x\n"), "journal", "append", "a").code)
	require.Eventually(t, func() bool { return follow.out.String() == "x\n" }, 10*time.Second, 5*time.Millisecond)
	cluster.StopNode(0)
	list := c.start(t.Context(), nil, "journal", "list")
	told := func(r *running, want string) {
		t.Helper()
		r.says(t, want)
	}
	told(list, "waiting: none of 127.")
	told(follow, "waiting: no node answers: n1 ")
	cluster.StartNode(0)
	require.Equal(t, 0, list.wait().code)
	follow.interrupt()
	require.Equal(t, 130, follow.wait().code)
}
