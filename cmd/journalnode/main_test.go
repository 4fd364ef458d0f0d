package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
)

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func do(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs buffer
	code = run(t.Context(), args, nil, &out, &errs)
	return code, out.String(), errs.String()
}

// TestProblems: everything that is wrong is listed at once.
func TestProblems(t *testing.T) {
	code, _, errs := do(t)
	require.Equal(t, 2, code)
	for _, want := range []string{"--id is missing", "--data-dir is missing", "--listen is missing", "--initial-cluster is missing", "journalnode --help"} {
		require.Contains(t, errs, want)
	}
	code, _, errs = do(t, "--id", "n1", "--data-dir", "d", "--listen", "x", "--http-listen", "y", "--log-level", "loud",
		"--initial-cluster", "n2=a:1,n3,n4=a:1,n2=b:1")
	require.Equal(t, 2, code)
	for _, want := range []string{`--listen "x"`, `--http-listen "y"`, `"n3" is not id=host:port`, "n2 and n4 the same address a:1", "names n2 twice", `--log-level "loud"`} {
		require.Contains(t, errs, want)
	}
	code, _, errs = do(t, "--id", "n1", "--data-dir", "d", "--listen", "a:1", "--initial-cluster", "n2=a:1")
	require.Equal(t, 2, code)
	require.Contains(t, errs, `does not name this node, "n1"`)
	code, _, errs = do(t, "--id", "n4", "--data-dir", "d", "--listen", ":7400", "--initial-cluster", "n4=a:1", "--join", "x")
	require.Equal(t, 2, code)
	for _, want := range []string{"both given", `--join "x"`, "--advertise is missing"} {
		require.Contains(t, errs, want)
	}
	for _, args := range [][]string{{"foo"}, {"dev", "foo"}, {"--nope"}, {"dev", "--nodes", "0"}, {"dev", "--base-port", "70000"}, {"dev", "--log-format", "xml"}} {
		code, _, errs = do(t, args...)
		require.Equal(t, 2, code, errs)
	}
	code, out, _ := do(t, "--version")
	require.Equal(t, 0, code)
	require.Contains(t, out, "journalnode version")
	code, out, _ = do(t, "--help")
	require.Equal(t, 0, code)
	require.Contains(t, out, "--initial-cluster")
}

// TestAddresses: an address that cannot be is a mistake on the command line, not a failure to listen.
func TestAddresses(t *testing.T) {
	for _, tc := range []struct{ listen, http, cluster, want string }{
		{"a:99999", "", "n1=a:99999", `--listen "a:99999": the port is not a number from 1 to 65535`},
		{"a:x", "", "n1=a:1", `--listen "a:x": the port is not a number`},
		{"a:0", "", "n1=a:1", `--listen "a:0": the port is not a number`},
		{"a:1", "a", "n1=a:1", `--http-listen "a" is not host:port`},
		{"a:1", "", "n1=:1", `--initial-cluster: address of n1: ":1" is not host:port`},
		{"a:1", "", "n1=a:70000", `--initial-cluster: address of n1: "a:70000": the port is not`},
		{"a:1", "", "n1=http://a:1", `--initial-cluster: "n1=http://a:1" is not id=host:port`},
		{"a:1", "", "n1=a:1,", `--initial-cluster: "" is not id=host:port`},
		{"a:1", "", "n1=a:1,n/2=a:2", `--initial-cluster: node id "n/2" holds '/' (want letters, digits, '-', '_' or '.')`},
	} {
		code, _, errs := do(t, "--id", "n1", "--data-dir", "d", "--listen", tc.listen, "--http-listen", tc.http, "--initial-cluster", tc.cluster)
		require.Equal(t, 2, code, errs)
		require.Contains(t, strings.ReplaceAll(errs, "\n  ", " "), tc.want)
		laidOut(t, errs)
	}
}

// laidOut checks that no line is wider than a terminal; a single word may be.
func laidOut(t *testing.T, text string) {
	t.Helper()
	for line := range strings.SplitSeq(text, "\n") {
		if len(strings.Fields(line)) > 1 {
			require.LessOrEqual(t, utf8.RuneCountInString(line), cli.LineMax, line)
		}
	}
}

// TestWidth: help, mistakes, and what dev prints, with long names.
func TestWidth(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"dev", "--help"}, {"completion", "--help"}} {
		code, out, _ := do(t, args...)
		require.Equal(t, 0, code)
		laidOut(t, out)
	}
	long := strings.Repeat("long-", 40)
	code, _, errs := do(t, "--id", long, "--data-dir", "/"+long, "--listen", long, "--http-listen", long+":0", "--log-level", long, "--log-format", long,
		"--initial-cluster", long+"=a:1,"+long+"=a:1,"+long+","+long+"=b")
	require.Equal(t, 2, code)
	laidOut(t, errs)
	code, _, errs = do(t, "--id", "n1", "--data-dir", "/dev/null/"+long, "--listen", "127.0.0.1:1", "--initial-cluster", "n1=127.0.0.1:1")
	require.Equal(t, 1, code)
	laidOut(t, errs)
	var addrs, https []string
	for i := range quorum.MaxMembers {
		addrs, https = append(addrs, fmt.Sprintf("127.0.0.1:%d", 60000+i)), append(https, fmt.Sprintf("127.0.0.1:%d", 61000+i))
	}
	var out buffer
	require.NoError(t, banner(&out, addrs, https, "/"+long, true))
	laidOut(t, out.String())
	require.Regexp(t, `(?m)^  export QJM_ENDPOINTS=127.0.0.1:60000,127.0.0.1:60001,127.0.0.1:60002,127.0.0.1:60003$`, out.String())
}

// TestWarnOfPort: a node that listens elsewhere than the others look for it is told so.
func TestWarnOfPort(t *testing.T) {
	for listen, want := range map[string]bool{"0.0.0.0:7400": false, ":7400": false, "127.0.0.1:7401": true} {
		var out buffer
		warnOfPort(journalnode.Options{
			ID: "n1", Listen: listen, Logger: slog.New(slog.NewTextHandler(&out, nil)),
			InitialCluster: []journalnode.Peer{{ID: "n1", Addr: "10.0.0.1:7400"}, {ID: "n2", Addr: "10.0.0.2:7401"}},
		})
		require.Equal(t, want, strings.Contains(out.String(), "another port than --listen"), listen)
	}
}

// started is a program under way.
type started struct {
	cancel context.CancelCauseFunc
	done   chan int
	out    *bufio.Reader
	errs   *buffer
}

func start(t *testing.T, args ...string) *started {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	pr, pw := io.Pipe()
	s := &started{cancel: cancel, done: make(chan int, 1), out: bufio.NewReader(pr), errs: &buffer{}}
	go func() {
		s.done <- run(ctx, args, nil, pw, s.errs)
		_ = pw.Close()
	}()
	t.Cleanup(func() { cancel(cli.ErrInterrupted) })
	return s
}

func (s *started) stop() int {
	s.cancel(cli.ErrInterrupted)
	return <-s.done
}

// TestDev runs the whole thing: it is ready when the banner is there, and leaves nothing behind.
func TestDev(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := start(t, "dev", "--base-port", "0")
	var text strings.Builder
	for !strings.Contains(text.String(), "journal tail demo") {
		line, err := s.out.ReadString('\n')
		require.NoError(t, err, s.errs.String())
		text.WriteString(line)
	}
	banner := text.String()
	require.Contains(t, banner, "removed at the end")
	endpoints := strings.Split(regexp.MustCompile(`export QJM_ENDPOINTS=(\S+)`).FindStringSubmatch(banner)[1], ",")
	require.Len(t, endpoints, 3)
	cl, err := libqjm.Dial(t.Context(), libqjm.Options{Endpoints: endpoints})
	require.NoError(t, err)
	require.NoError(t, cl.CreateJournal(t.Context(), "a"))
	w, err := cl.OpenWriter(t.Context(), "a", libqjm.WriterOptions{})
	require.NoError(t, err)
	_, err = w.Append(t.Context(), []byte("x"))
	require.NoError(t, err)
	require.NoError(t, w.Close(t.Context()))
	require.NoError(t, cl.Close())
	for _, addr := range strings.Fields(regexp.MustCompile(`(?m)^  http  (.*)  \(`).FindStringSubmatch(banner)[1]) {
		for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
			resp, err := http.Get("http://" + addr + path)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, resp.StatusCode, path)
			require.NoError(t, resp.Body.Close())
		}
	}
	go func() { _, _ = io.Copy(io.Discard, s.out) }()
	require.Equal(t, 0, s.stop(), s.errs.String())
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestJoin: one command makes a node part of a running cluster, over the one port.
func TestJoin(t *testing.T) {
	one, two := testcluster.FreeAddr(t), testcluster.FreeAddr(t)
	s := start(t, "--id", "n1", "--data-dir", filepath.Join(t.TempDir(), "n1"), "--listen", one, "--initial-cluster", "n1="+one)
	go func() { _, _ = io.Copy(io.Discard, s.out) }()
	j := start(t, "--id", "n2", "--data-dir", filepath.Join(t.TempDir(), "n2"), "--listen", two, "--join", one, "--label", "rack=r2")
	go func() { _, _ = io.Copy(io.Discard, j.out) }()
	cl, err := libqjm.Dial(t.Context(), libqjm.Options{Endpoints: []string{one}})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		v, err := cl.Catalog(t.Context(), libqjm.Linearizable)
		return err == nil && len(v.Nodes) == 2 && v.Nodes[1].Voter && v.Nodes[1].Labels["rack"] == "r2"
	}, 30*time.Second, 50*time.Millisecond)
	members, err := cl.CreateJournalWith(t.Context(), "a", libqjm.CreateOptions{Replicas: 2})
	require.NoError(t, err)
	require.Equal(t, []string{"n1", "n2"}, members)
	require.NoError(t, cl.Close())
	require.Equal(t, 0, j.stop(), j.errs.String())
	require.Equal(t, 0, s.stop(), s.errs.String())
}

// TestNode: one node, its logs, its refusals.
func TestNode(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "n1")
	addr, httpAddr := testcluster.FreeAddr(t), testcluster.FreeAddr(t)
	t.Setenv("QJM_LOG_FORMAT", "json")
	s := start(t, "--id", "n1", "--data-dir", dir, "--listen", addr, "--http-listen", httpAddr, "--initial-cluster", "n1="+addr)
	go func() { _, _ = io.Copy(io.Discard, s.out) }()
	require.Eventually(t, func() bool {
		resp, err := http.Get("http://" + httpAddr + "/readyz")
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	}, 10*time.Second, 10*time.Millisecond)

	code, _, errs := do(t, "--id", "n1", "--data-dir", dir, "--listen", testcluster.FreeAddr(t), "--initial-cluster", "n1="+addr)
	require.Equal(t, 4, code)
	require.Contains(t, errs, "another journalnode runs on it")
	code, _, errs = do(t, "--id", "n2", "--data-dir", dir+"2", "--listen", addr, "--initial-cluster", "n2="+addr)
	require.Equal(t, 1, code)
	require.Contains(t, strings.ReplaceAll(errs, "\n  ", " "), "another process listens there")
	require.Contains(t, errs, addr)

	require.Equal(t, 0, s.stop())
	for line := range strings.Lines(s.errs.String()) {
		var entry map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &entry), line)
		if inc, ok := entry["incarnation"]; ok {
			require.IsType(t, "", inc, "ids are readable in JSON as well")
		}
	}
	require.Contains(t, s.errs.String(), `"msg":"stopping"`)

	code, _, errs = do(t, "--id", "n9", "--data-dir", dir, "--listen", addr, "--initial-cluster", "n9="+addr)
	require.Equal(t, 4, code)
	require.Contains(t, errs, "got n1, want n9")
	b, err := os.ReadFile(filepath.Join(dir, "identity"))
	require.NoError(t, err)
	b[len(b)-1] ^= 1
	require.NoError(t, os.WriteFile(filepath.Join(dir, "identity"), b, 0o600))
	code, _, errs = do(t, "--id", "n1", "--data-dir", dir, "--listen", addr, "--initial-cluster", "n1="+addr)
	require.Equal(t, 7, code, errs)
	require.NoError(t, os.WriteFile(dir+"3", nil, 0o600))
	code, _, errs = do(t, "--id", "n1", "--data-dir", dir+"3", "--listen", addr, "--initial-cluster", "n1="+addr)
	require.Equal(t, 1, code, errs)
}
