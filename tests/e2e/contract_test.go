package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
)

// programs are built once.
var programs string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "qjm-e2e")
	if err == nil {
		programs = dir
		cmd := exec.Command("go", "build", "-o", dir+"/", "../../cmd/journalnode", "../../cmd/qjmclient")
		cmd.Stderr = os.Stderr
		err = cmd.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// processes is a cluster of journalnode processes.
type processes struct {
	t       *testing.T
	dir     string
	addrs   []string
	https   []string
	running []*exec.Cmd
}

func startProcesses(t *testing.T) *processes {
	t.Helper()
	p := &processes{t: t, dir: t.TempDir(), running: make([]*exec.Cmd, 3)}
	for range p.running {
		p.addrs = append(p.addrs, testcluster.FreeAddr(t))
		p.https = append(p.https, testcluster.FreeAddr(t))
	}
	for i := range p.running {
		p.start(i)
	}
	t.Cleanup(func() {
		for i := range p.running {
			p.kill(i)
		}
	})
	return p
}

func (p *processes) start(i int) {
	p.t.Helper()
	var cluster []string
	for k, a := range p.addrs {
		cluster = append(cluster, fmt.Sprintf("n%d=%s", k+1, a))
	}
	log, err := os.OpenFile(filepath.Join(p.dir, fmt.Sprintf("n%d.log", i+1)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(p.t, err)
	defer func() { require.NoError(p.t, log.Close()) }()
	cmd := exec.Command(filepath.Join(programs, "journalnode"), "--id", fmt.Sprintf("n%d", i+1),
		"--data-dir", p.data(i), "--listen", p.addrs[i], "--http-listen", p.https[i],
		"--initial-cluster", strings.Join(cluster, ","))
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(p.t, cmd.Start())
	p.running[i] = cmd
}

func (p *processes) data(i int) string { return filepath.Join(p.dir, fmt.Sprintf("d%d", i+1)) }

// kill ends a process with SIGKILL and waits until it is gone.
func (p *processes) kill(i int) {
	if p.running[i] == nil {
		return
	}
	require.NoError(p.t, p.running[i].Process.Kill())
	_, err := p.running[i].Process.Wait()
	require.NoError(p.t, err)
	p.running[i] = nil
}

// client runs qjmclient and returns what it wrote, and its exit code.
func (p *processes) client(in io.Reader, args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	cmd := p.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &errs
	err := cmd.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited { //nolint:errorlint // what Run returns
		require.NoError(p.t, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (p *processes) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Minute)
	p.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, filepath.Join(programs, "qjmclient"), args...)
	cmd.Env = append(os.Environ(), "QJM_ENDPOINTS="+strings.Join(p.addrs, ","))
	return cmd
}

func (p *processes) must(args ...string) string {
	p.t.Helper()
	out, errs, code := p.client(nil, args...)
	require.Zero(p.t, code, "%v: %s", args, errs)
	return out
}

func lines(n int) []byte {
	var b bytes.Buffer
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, "%d: %x\n", i, i*2654435761)
	}
	return b.Bytes()
}

// appendSlowly starts an append of input through a pipe, and calls at(k) when about k tenths of it were
// taken: the pipe holds less than a tenth, so the append is in the middle of it.
func (p *processes) appendSlowly(name string, input []byte, at map[int]func()) string {
	p.t.Helper()
	cmd := p.command("journal", "append", name, "-o", "json")
	stdin, err := cmd.StdinPipe()
	require.NoError(p.t, err)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(p.t, cmd.Start())
	for k := range 10 {
		if f := at[k]; f != nil {
			f()
		}
		_, err := stdin.Write(input[len(input)*k/10 : len(input)*(k+1)/10])
		require.NoError(p.t, err)
	}
	require.NoError(p.t, stdin.Close())
	require.NoError(p.t, cmd.Wait(), "%s", errs.String())
	return out.String()
}

// TestAppendSurvivesTheDeathOfAnyNode: 100,000 lines while each node in turn is killed and comes back.
func TestAppendSurvivesTheDeathOfAnyNode(t *testing.T) {
	p := startProcesses(t)
	p.must("journal", "create", "a")
	input := lines(100_000)
	out := p.appendSlowly("a", input, map[int]func(){
		1: func() { p.kill(0) }, 3: func() { p.start(0); p.caughtUp("a", 0); p.kill(1) },
		5: func() { p.start(1); p.caughtUp("a", 1); p.kill(2) }, 7: func() { p.start(2) },
	})
	var res struct{ First, Last, Epoch string }
	require.NoError(t, json.Unmarshal([]byte(out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:]), &res))
	require.Equal(t, "1", res.First)
	require.Equal(t, "100000", res.Last)
	require.Equal(t, "1", res.Epoch, "one writer, one epoch: nothing stopped it")
	require.Equal(t, string(input), p.must("journal", "tail", "a"))
}

// caughtUp waits until node i is in step again, in the segment that is open.
func (p *processes) caughtUp(name string, i int) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		out, _, code := p.client(nil, "journal", "status", name, "-o", "json")
		return (code == 0 || code == 6) && strings.Contains(compact(out, fmt.Sprintf("n%d", i+1)), "in-sync")
	}, 30*time.Second, 50*time.Millisecond)
}

// compact returns the part of a JSON status that is about one node.
func compact(out, node string) string {
	var st struct{ Nodes []json.RawMessage }
	if json.Unmarshal([]byte(out), &st) != nil {
		return ""
	}
	for _, n := range st.Nodes {
		if strings.Contains(string(n), `"`+node+`"`) {
			return string(n)
		}
	}
	return ""
}

// TestAppendWaitsForAQuorum: with two of three down it waits, and goes on when one returns.
func TestAppendWaitsForAQuorum(t *testing.T) {
	p := startProcesses(t)
	p.must("journal", "create", "a")
	input := lines(20_000)
	p.appendSlowly("a", input, map[int]func(){
		3: func() { p.kill(0); p.kill(1) },
		4: func() { time.AfterFunc(500*time.Millisecond, func() { p.start(1) }) },
	})
	require.Equal(t, string(input), p.must("journal", "tail", "a"))
}

// TestContract walks through the commands that other tools are written against.
func TestContract(t *testing.T) {
	p := startProcesses(t)
	p.must("journal", "create", "a")
	require.Contains(t, p.must("journal", "list"), "a")
	_, errs, code := p.client(nil, "journal", "create", "a")
	require.Equal(t, 4, code, errs)
	_, errs, code = p.client(nil, "journal", "create", "a/b")
	require.Equal(t, 2, code, errs)
	_, _, code = p.client(nil, "journal", "tail", "nosuch")
	require.Equal(t, 4, code)

	_, errs, code = p.client(strings.NewReader("one\ntwo\nthree"), "journal", "append", "a")
	require.Zero(t, code, errs)
	require.Equal(t, "two\nthree\n", p.must("journal", "tail", "a", "--from", "2"))
	require.Equal(t, "two\n", p.must("journal", "tail", "a", "--from", "2", "--to", "2"))
	var row struct{ TxID, Epoch, Data string }
	require.NoError(t, json.Unmarshal([]byte(p.must("journal", "tail", "a", "--to", "1", "-o", "jsonl")), &row))
	require.Equal(t, "b25l", row.Data)
	require.Equal(t, "1", row.TxID)

	var fence struct{ Epoch string }
	require.NoError(t, json.Unmarshal([]byte(p.must("writer", "fence", "a", "-o", "json")), &fence))
	require.Equal(t, "2", fence.Epoch)
	var rec struct {
		Epoch, Digest, Source string
		Last                  string `json:"last_txid"`
	}
	require.NoError(t, json.Unmarshal([]byte(p.must("journal", "recover", "a", "-o", "json")), &rec))
	require.Equal(t, "3", rec.Epoch)
	require.Equal(t, "3", rec.Last)
	require.Len(t, rec.Digest, 32)

	for i := range p.https {
		for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
			resp, err := http.Get("http://" + p.https[i] + path)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, resp.StatusCode, path)
			require.NoError(t, resp.Body.Close())
		}
		_, errs, code := p.client(nil, "debug", "verify-dir", p.data(i))
		require.Zero(t, code, errs)
		require.Eventually(t, func() bool { // a node that was slow to join pulls the segment from a peer
			return strings.Contains(p.must("debug", "dump-log", p.data(i), "--after", "2"), `"3"`)
		}, time.Minute, 100*time.Millisecond)
	}
	p.must("journal", "delete", "a", "--yes")
	_, _, code = p.client(nil, "journal", "create", "a")
	require.Zero(t, code, "a deleted journal's name is free")

	for i := range p.running { // SIGTERM drains and exits 0
		require.NoError(t, p.running[i].Process.Signal(syscall.SIGTERM))
		require.NoError(t, p.running[i].Wait())
		p.running[i] = nil
	}
	_, _, code = p.client(nil, "journal", "list", "--timeout", "1s")
	require.Equal(t, 3, code)
}
