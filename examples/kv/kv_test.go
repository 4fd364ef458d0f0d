package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/journalnode/local"
	"github.com/quorumjournal/qjm/libqjm"
)

// TestMain is the program itself where a test started it.
func TestMain(m *testing.M) {
	if os.Getenv("KV_PROGRAM") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

const patient = 30 * time.Second

// within gives something that stops its time.
func within(stop func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	return stop(ctx)
}

// nodes starts a cluster.
func nodes(t *testing.T) (*local.Cluster, *libqjm.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	c, err := local.Start(ctx, local.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, within(c.Stop)) })
	client, err := libqjm.Dial(ctx, libqjm.Options{Endpoints: c.Endpoints()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return c, client
}

// buffer is what a process said so far.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
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

// process is a kv that runs.
type process struct {
	t          *testing.T
	cmd        *exec.Cmd
	errs       buffer
	name, addr string
	done       chan error
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0], append([]string{"--listen", "127.0.0.1:0"}, args...)...), done: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), "KV_PROGRAM=1")
	p.cmd.Stderr = &p.errs
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() { _ = p.end(syscall.SIGKILL) })
	require.NoError(t, err)
	_, err = fmt.Sscanf(line, "kv %s at %s\n", &p.name, &p.addr)
	require.NoError(t, err, line)
	require.True(t, strings.HasPrefix(p.addr, "http://127.0.0.1:"), line)
	return p
}

// end sends a signal, and waits for the end.
func (p *process) end(s os.Signal) error {
	_ = p.cmd.Process.Signal(s)
	return p.ended()
}

func (p *process) ended() error {
	err := <-p.done
	p.done <- err
	return err
}

// reply is what came back.
type reply struct {
	code int
	body string
	http.Header
}

// do sends a request, with headers as name and value, and follows no redirect.
func (p *process) do(method, path, body string, headers ...string) reply {
	p.t.Helper()
	a, err := p.try(method, path, body, headers...)
	require.NoError(p.t, err)
	return a
}

func (p *process) try(method, path, body string, headers ...string) (reply, error) {
	r, err := http.NewRequest(method, p.addr+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	direct := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := direct.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, string(b), resp.Header}, err
}

// becomes waits for a role.
func (p *process) becomes(role string) *process {
	p.t.Helper()
	p.until(func() bool {
		var st map[string]any
		require.NoError(p.t, json.Unmarshal([]byte(p.do("GET", "/status", "").body), &st))
		require.Equal(p.t, p.name, st["name"])
		return st["role"] == role
	})
	return p
}

func (p *process) until(cond func() bool) {
	p.t.Helper()
	require.Eventually(p.t, cond, patient, 10*time.Millisecond, "%s", &p.errs)
}

func TestAPI(t *testing.T) {
	c, _ := nodes(t)
	flags := []string{"--endpoints", strings.Join(c.Endpoints(), ",")}
	p := start(t, append(flags, "--name", "p")...).becomes("active")
	q := start(t, append(flags, "--name", "q")...).becomes("standby")

	// A change, and conditions.
	a := p.do("GET", "/kv/a", "")
	require.Equal(t, 404, a.code)
	require.NotEmpty(t, a.Get("Qjm-Applied"))
	a = p.do("PUT", "/kv/a", "one", "If-None-Match", "*")
	require.Equal(t, 200, a.code)
	first := a.Get("ETag")
	require.Regexp(t, `^"[1-9][0-9]*"$`, first)
	a = p.do("PUT", "/kv/a", "two", "If-None-Match", "*")
	require.Equal(t, 412, a.code)
	require.Equal(t, first, a.Get("ETag"))
	a = p.do("PUT", "/kv/a", "two", "If-Match", first)
	require.Equal(t, 200, a.code)
	second := a.Get("ETag")
	require.NotEqual(t, first, second)
	for _, method := range []string{"PUT", "DELETE"} {
		a = p.do(method, "/kv/a", "three", "If-Match", first)
		require.Equal(t, 412, a.code)
		require.Equal(t, second, a.Get("ETag"))
	}
	a = p.do("PUT", "/kv/b", "x", "If-Match", first)
	require.Equal(t, 412, a.code)
	require.Empty(t, a.Get("ETag"), "it is not there")

	// Reads.
	for _, from := range []*process{p, q} {
		for _, read := range []string{"", "?read=linearizable", "?read=fresh&within=1h", "?read=fresh&within=0s", "?read=stale&after=" + strings.Trim(second, `"`)} {
			a = from.do("GET", "/kv/a"+read, "")
			require.Equal(t, 200, a.code, "%s %s", read, a.body)
			require.Equal(t, "two", a.body, read)
			require.Equal(t, second, a.Get("ETag"))
			require.NotEmpty(t, a.Get("Qjm-Applied"))
		}
	}
	require.Equal(t, "two", p.do("GET", "/kv/a?read=lease", "").body)
	require.Equal(t, 503, q.do("GET", "/kv/a?read=stale&after=1000000", "", "Qjm-Timeout", "10ms").code)

	// A standby redirects.
	for _, x := range [][2]string{{"PUT", "/kv/a%20b"}, {"DELETE", "/kv/a"}, {"POST", "/session"}, {"GET", "/kv/a?read=lease"}} {
		a = q.do(x[0], x[1], "v")
		require.Equal(t, 307, a.code, x)
		require.Equal(t, p.addr+x[1], a.Get("Location"))
	}

	// Keys and values as they come.
	big := strings.Repeat("x", valueMax)
	for _, k := range []string{"a%2Fb%3F", "%E2%82%AC", strings.Repeat("k", keyMax)} {
		require.Equal(t, 200, p.do("PUT", "/kv/"+k, big).code)
		require.Equal(t, big, q.do("GET", "/kv/"+k, "").body)
	}
	require.Equal(t, 200, p.do("PUT", "/kv/empty", "").code)
	require.Equal(t, 200, q.do("GET", "/kv/empty", "").code)

	// An ETag that nothing has.
	for _, tag := range []string{`"0"`, `1`, `"1`, strings.Trim(second, `"`), "W/" + second} {
		require.Equal(t, 412, p.do("PUT", "/kv/a", "x", "If-Match", tag).code, tag)
	}
	require.Equal(t, 412, p.do("DELETE", "/kv/none", "", "If-Match", second).code)
	require.Equal(t, 412, p.do("PUT", "/kv/none", "", "If-Match", second, "If-None-Match", "*").code)
	require.Equal(t, 412, p.do("DELETE", "/kv/a", "", "If-None-Match", "*").code)

	// Deleted.
	a = p.do("DELETE", "/kv/a", "", "If-Match", second)
	require.Equal(t, 204, a.code)
	require.NotEmpty(t, a.Get("ETag"))
	require.Equal(t, 404, p.do("DELETE", "/kv/a", "").code)
	require.Equal(t, 404, q.do("GET", "/kv/a", "").code)
	require.Equal(t, 405, p.do("POST", "/kv/a", "").code)

	// What makes no sense.
	for _, x := range [][]string{
		{"GET", "/kv/a?read=eventual"}, {"GET", "/kv/a?within=soon"}, {"GET", "/kv/a?after=-1"}, {"GET", "/kv/%FF"},
		{"GET", "/kv/" + strings.Repeat("k", keyMax+1)}, {"GET", "/kv/a", "Qjm-Timeout", "later"},
		{"GET", "/kv/a?within=-1s"}, {"GET", "/kv/a", "Qjm-Timeout", "31s"}, {"GET", "/kv/a", "Qjm-Timeout", "-1s"},
		{"PUT", "/kv/a", "If-None-Match", `"1"`}, {"DELETE", "/kv/a", "If-None-Match", `"1"`},
		{"PUT", "/kv/a", "Qjm-Session", strings.Repeat("x", 32), "Qjm-Seq", "1", "Qjm-Awaited", "1"},
		{"PUT", "/kv/a", "Qjm-Session", strings.Repeat("0", 32), "Qjm-Seq", "1", "Qjm-Awaited", "x"},
		{"PUT", "/kv/" + strings.Repeat("k", keyMax+1)}, {"DELETE", "/kv/" + strings.Repeat("k", keyMax+1)},
		{"PUT", "/kv/a", "Qjm-Session", "0123"}, {"PUT", "/kv/a", "Qjm-Session", strings.Repeat("0", 32), "Qjm-Seq", "1"},
		{"PUT", "/kv/a", "Qjm-Session", strings.Repeat("0", 32), "Qjm-Seq", "1", "Qjm-Awaited", "2"},
	} {
		require.Equal(t, 400, p.do(x[0], x[1], "", x[2:]...).code, x)
	}
	require.Equal(t, 400, p.do("PUT", "/kv/big", big+"x").code)

	// Told to stop, each hands over and ends well.
	require.NoError(t, p.end(syscall.SIGTERM), &p.errs)
	require.Equal(t, 200, q.becomes("active").do("PUT", "/kv/a", "four").code)
	require.NoError(t, q.end(syscall.SIGTERM), &q.errs)
}

// TestOutcomes: without a majority nothing is said to be made, nor to be not made.
func TestOutcomes(t *testing.T) {
	c, _ := nodes(t)
	p := start(t, "--endpoints", strings.Join(c.Endpoints(), ",")).becomes("active")
	require.Equal(t, 200, p.do("PUT", "/kv/a", "one").code)
	require.NoError(t, within(c.Stop))
	a := p.do("PUT", "/kv/a", "two", "Qjm-Timeout", "300ms")
	require.Equal(t, 504, a.code)
	require.Equal(t, "unknown", a.Get("Qjm-Outcome"))
	a = p.do("GET", "/kv/a", "", "Qjm-Timeout", "300ms")
	require.Equal(t, 503, a.code)
	a = p.do("GET", "/kv/a?read=stale", "")
	require.Equal(t, 200, a.code)
	require.Equal(t, "one", a.body)
	require.Equal(t, 503, p.do("GET", "/kv/a?read=fresh&within=0s", "", "Qjm-Timeout", "300ms").code)
}

// TestFail: what callers are told.
func TestFail(t *testing.T) {
	unknown := &libqjm.AppendError{Handed: true, Err: context.DeadlineExceeded}
	elsewhere := &libqjm.NotActiveError{Active: "q", Addr: "http://q"}
	for _, x := range []struct {
		method            string
		err               error
		code              int
		outcome, location string
	}{
		{"PUT", &libqjm.NotActiveError{}, 503, "not-done", ""},
		{"PUT", elsewhere, 307, "not-done", "http://q/kv/a%2Fb?read=x"},
		{"GET", elsewhere, 307, "not-done", "http://q/kv/a%2Fb?read=x"},
		{"GET", libqjm.ErrNotConfirmed, 503, "not-done", ""},
		{"DELETE", unknown, 504, "unknown", ""},
		{"PUT", fmt.Errorf("late: %w", libqjm.ErrSession), 504, "unknown", ""},
		{"PUT", libqjm.ErrSessionForgotten, 504, "unknown", ""},
		{"POST", libqjm.ErrTooManySessions, 503, "not-done", ""},
		{"PUT", &libqjm.AppendError{Err: libqjm.ErrFenced}, 503, "not-done", ""},
		{"PUT", fmt.Errorf("%w: what", libqjm.ErrBadRequest), 400, "not-done", ""},
	} {
		w := httptest.NewRecorder()
		fail(w, httptest.NewRequest(x.method, "/kv/a%2Fb?read=x", nil), x.err)
		require.Equal(t, x.code, w.Code, "%s %v", x.method, x.err)
		require.Equal(t, x.outcome, w.Header().Get("Qjm-Outcome"), x.err)
		require.Equal(t, x.location, w.Header().Get("Location"))
		require.Equal(t, x.code == 503, w.Header().Get("Retry-After") == "1")
	}
}

// TestFailover: clients that retry through a failover make each change once. Each change says what it
// follows on, so that one that is lost, or made twice, is seen.
func TestFailover(t *testing.T) {
	c, _ := nodes(t)
	flags := []string{"--endpoints", strings.Join(c.Endpoints(), ",")}
	p := start(t, flags...).becomes("active")
	q := start(t, flags...).becomes("standby")
	at := func(i int) *process { return []*process{p, q}[i%2] }
	const clients, changes = 4, 60
	half := make(chan struct{}, clients)
	var all sync.WaitGroup
	for n := range clients {
		key := fmt.Sprintf("/kv/%d", n)
		turn := n
		// until tries one and the other, with the same headers, until there is an answer.
		until := func(method, path, body string, headers ...string) reply {
			for deadline := time.After(patient); ; turn++ {
				a, err := at(turn).try(method, path, body, append(headers, "Qjm-Timeout", "500ms")...)
				if err == nil && a.code < 300 || a.code == 412 {
					return a
				}
				select {
				case <-deadline:
					t.Errorf("no answer: %v %v", a, err)
					return a
				case <-time.After(5 * time.Millisecond):
				}
			}
		}
		all.Go(func() {
			session := until("POST", "/session", "").Get("Qjm-Session")
			last := ""
			for i := range changes {
				if i == changes/2 {
					half <- struct{}{}
				}
				seq := fmt.Sprint(i + 1)
				headers := []string{"Qjm-Session", session, "Qjm-Seq", seq, "Qjm-Awaited", seq, "If-Match", last}
				if i == 0 {
					headers = append(headers[:6], "If-None-Match", "*")
				}
				a := until("PUT", key, seq, headers...)
				if a.code != 200 { // a retry that was applied again would find its own change
					t.Errorf("client %d, change %s: %v", n, seq, a)
					return
				}
				last = a.Get("ETag")
				if got := until("GET", key, ""); got.Get("ETag") != last || got.body != seq {
					t.Errorf("client %d read %v, want %s of %s", n, got, seq, last)
				}
			}
		})
	}
	for range clients {
		<-half
	}
	_ = p.end(syscall.SIGKILL)
	all.Wait()
	q.becomes("active")
	again := start(t, append(flags, "--name", "again")...).becomes("standby")
	for n := range clients {
		require.Equal(t, fmt.Sprint(changes), again.do("GET", fmt.Sprintf("/kv/%d", n), "").body)
	}
}

// TestSnapshot: what is in no log any more is in the snapshot, retries included.
func TestSnapshot(t *testing.T) {
	c, client := nodes(t)
	flags := []string{"--endpoints", strings.Join(c.Endpoints(), ","), "--snapshot-txns", "20", "--journal", "other"}
	p := start(t, flags...).becomes("active")
	session := p.do("POST", "/session", "").Get("Qjm-Session")
	once := []string{"Qjm-Session", session, "Qjm-Seq", "1", "Qjm-Awaited", "1", "If-None-Match", "*"}
	first := p.do("PUT", "/kv/once", "x", once...)
	require.Equal(t, 200, first.code)
	again := p.do("PUT", "/kv/once", "x", once...)
	require.Equal(t, 200, again.code, "not applied again: that would be 412")
	require.Equal(t, first.Get("ETag"), again.Get("ETag"))
	tags := map[string]string{}
	for i := range 40 {
		key := fmt.Sprintf("/kv/%d", i)
		tags[key] = p.do("PUT", key, key).Get("ETag")
	}
	p.until(func() bool {
		snap, err := client.LatestSnapshot(t.Context(), "other")
		return err == nil && snap.TxID > 40
	})
	tags["/kv/tail"] = p.do("PUT", "/kv/tail", "/kv/tail").Get("ETag")
	require.NoError(t, p.end(syscall.SIGTERM), &p.errs)

	q := start(t, flags...).becomes("active")
	for key, tag := range tags {
		a := q.do("GET", key, "")
		require.Equal(t, key, a.body)
		require.Equal(t, tag, a.Get("ETag"))
	}
	again = q.do("PUT", "/kv/once", "x", once...)
	require.Equal(t, 200, again.code)
	require.Equal(t, first.Get("ETag"), again.Get("ETag"))
	forgotten := q.do("PUT", "/kv/once", "y", "Qjm-Session", strings.Repeat("0", 32), "Qjm-Seq", "7", "Qjm-Awaited", "7")
	require.Equal(t, 504, forgotten.code, "an earlier try may have made it")
	require.Equal(t, "unknown", forgotten.Get("Qjm-Outcome"))
}

// TestAlone: without --endpoints all is in one process, and --data keeps it.
func TestAlone(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "--data", dir).becomes("active")
	require.Equal(t, 200, p.do("PUT", "/kv/a", "kept").code)
	require.NoError(t, p.end(os.Interrupt), &p.errs)
	require.Equal(t, "kept", start(t, "--data", dir).becomes("active").do("GET", "/kv/a", "").body)
}

// TestAdvertise: clients are sent where a replica says that it is, and none says that it is everywhere.
func TestAdvertise(t *testing.T) {
	c, client := nodes(t)
	endpoints := strings.Join(c.Endpoints(), ",")
	everywhere := exec.Command(os.Args[0], "--endpoints", endpoints, "--listen", "0.0.0.0:0")
	everywhere.Env = append(os.Environ(), "KV_PROGRAM=1")
	said, err := everywhere.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(said), "--advertise")

	start(t, "--endpoints", endpoints, "--advertise", "127.0.0.1:1")
	routes := client.Routes()
	defer routes.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	active, err := routes.Active(ctx, "kv")
	require.NoError(t, err)
	require.Equal(t, "http://127.0.0.1:1", active.Addr)
}

// TestFailsLoudly: a journal with something else in it.
func TestFailsLoudly(t *testing.T) {
	c, client := nodes(t)
	require.NoError(t, client.CreateJournal(t.Context(), "kv"))
	w, err := client.OpenWriter(t.Context(), "kv", libqjm.WriterOptions{})
	require.NoError(t, err)
	_, err = w.Append(t.Context(), []byte("something else"))
	require.NoError(t, err)
	require.NoError(t, w.Close(t.Context()))
	p := start(t, "--endpoints", strings.Join(c.Endpoints(), ","))
	exit, ok := p.ended().(*exec.ExitError) //nolint:errorlint // it is not wrapped
	require.True(t, ok)
	require.Equal(t, 1, exit.ExitCode())
	require.Contains(t, p.errs.String(), libqjm.ErrNotOurs.Error())
}

func entry(txid libqjm.TxID, c command) libqjm.Entry {
	b, _ := json.Marshal(c)
	return libqjm.Entry{TxID: txid, Data: b}
}

// TestStore: a snapshot is the state as it was, while more is applied; equal entries make equal states.
func TestStore(t *testing.T) {
	log := []libqjm.Entry{
		entry(1, command{Key: "a", Value: []byte("1")}),
		entry(2, command{Key: "b", Value: []byte{0xff}, IfAbsent: true}),
		entry(3, command{Key: "a", Delete: true, IfMatch: `"2"`}),
		entry(4, command{Key: "b", IfMatch: `"2"`}),
		entry(5, command{Key: "a", Delete: true}),
	}
	s := &store{Items: map[string]item{}}
	results, err := s.Apply(log[:3])
	require.NoError(t, err)
	for i, want := range []answer{{200, `"1"`, nil}, {200, `"2"`, nil}, {412, `"1"`, nil}} {
		var got answer
		require.NoError(t, json.Unmarshal(results[i], &got))
		require.Equal(t, want, got)
	}
	write, err := s.SaveSnapshot()
	require.NoError(t, err)
	_, err = s.Apply(log[3:])
	require.NoError(t, err)
	var b, again bytes.Buffer
	require.NoError(t, write(&b))
	require.NoError(t, write(&again))
	require.Equal(t, b.String(), again.String(), "no map order is in it")
	twin := &store{}
	require.NoError(t, twin.LoadSnapshot(bytes.NewReader(b.Bytes())))
	require.Equal(t, map[string]item{"a": {[]byte("1"), `"1"`}, "b": {[]byte{0xff}, `"2"`}}, twin.Items)
	for _, e := range log[3:] {
		_, err = twin.Apply([]libqjm.Entry{e})
		require.NoError(t, err)
	}
	require.Equal(t, s, twin)
	require.Error(t, twin.LoadSnapshot(bytes.NewReader(b.Bytes()[:b.Len()/2])))
	require.Equal(t, s, twin, "half a snapshot changes nothing")
	_, err = s.Apply([]libqjm.Entry{{TxID: 6, Data: []byte("?")}})
	require.Error(t, err)

	var empty bytes.Buffer
	write, err = (&store{Items: map[string]item{}}).SaveSnapshot()
	require.NoError(t, err)
	require.NoError(t, write(&empty))
	require.NoError(t, twin.LoadSnapshot(&empty))
	_, err = twin.Apply(log[:1])
	require.NoError(t, err)
}

// TestStore_SnapshotTellsHowFarItIs: a replica that loads one in mid-life answers no value that is newer than what it
// says is applied.
func TestStore_SnapshotTellsHowFarItIs(t *testing.T) {
	ahead, behind := &store{Items: map[string]item{}}, &store{Items: map[string]item{}}
	_, err := ahead.Apply([]libqjm.Entry{entry(7, command{Key: "a"}), entry(9, command{Key: "b"})})
	require.NoError(t, err)
	write, err := ahead.SaveSnapshot()
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, write(&b))
	_, err = behind.Apply([]libqjm.Entry{entry(7, command{Key: "a"})})
	require.NoError(t, err)
	require.NoError(t, behind.LoadSnapshot(&b))
	a, at := behind.get("b")
	require.Equal(t, `"9"`, a.ETag)
	require.Equal(t, libqjm.TxID(9), at)
}
