package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
)

// TestAppendTailEqual: what tail prints is what was appended, byte for byte.
func TestAppendTailEqual(t *testing.T) {
	c := clientOf(t, testcluster.Start(t, testcluster.Options{}))
	rnd := rand.New(rand.NewPCG(1, 2))
	random := func(n int, no byte) []byte {
		b := make([]byte, n)
		for i := range b {
			for b[i] = byte(rnd.Uint32()); b[i] == no; b[i] = byte(rnd.Uint32()) {
			}
		}
		return b
	}
	var lines, records bytes.Buffer
	for i := range 3000 {
		n := 1 + rnd.IntN(300)
		switch i {
		case 1000:
			n = 3 << 20
		case 2000:
			n = 4 << 20 // the limit
		}
		lines.Write(random(n, '\n'))
		lines.WriteByte('\n')
		records.Write(binary.BigEndian.AppendUint32(nil, uint32(n)))
		records.Write(random(n, 0)) // newlines too
	}
	c.ok("journal", "create", "lines")
	r := c.do(iotest.HalfReader(bytes.NewReader(lines.Bytes())), "journal", "append", "lines", "-o", "json")
	require.Equal(t, 0, r.code, r.err)
	require.Contains(t, r.out, `"first":"1","last":"3000"`)
	require.True(t, lines.String() == c.ok("journal", "tail", "lines"), "tail differs")

	c.ok("journal", "create", "records")
	r = c.do(bytes.NewReader(records.Bytes()), "journal", "append", "records", "--length-prefixed", "--compress")
	require.Equal(t, 0, r.code, r.err)
	require.True(t, records.String() == c.ok("journal", "tail", "records", "--length-prefixed"), "tail differs")

	c.ok("journal", "create", "last")
	require.Equal(t, 0, c.do(strings.NewReader("a\r\nb"), "journal", "append", "last").code)
	require.Equal(t, "a\r\nb\n", c.ok("journal", "tail", "last"), "the last line counts without its end")
}

// TestAppendMany: a hundred thousand lines are a matter of a second or two.
func TestAppendMany(t *testing.T) {
	c := clientOf(t, testcluster.Start(t, testcluster.Options{}))
	c.ok("journal", "create", "a")
	pr, pw := io.Pipe()
	go func() {
		for i := range 100_000 {
			_, _ = fmt.Fprintln(pw, i)
		}
		_ = pw.Close()
	}()
	begin := time.Now()
	r := c.do(pr, "journal", "append", "a")
	require.Equal(t, 0, r.code, r.err)
	require.Equal(t, "appended 100,000 transactions, txids 1 to 100000, epoch 1\n", r.out)
	require.Less(t, time.Since(begin), 30*time.Second)
}

// TestAppendRefusals: an input that makes no sense names its line, and what is committed of it.
func TestAppendRefusals(t *testing.T) {
	c := clientOf(t, testcluster.Start(t, testcluster.Options{Nodes: 1}))
	c.ok("journal", "create", "a")
	long := strings.Repeat("x", 4<<20+1)
	for _, tc := range []struct {
		in   string
		args []string
		want string
		n    string
	}{
		{"a\nb\n\nc\n", nil, "line 3 is empty", "2"},
		{"\n", nil, "line 1 is empty", "0"},
		{"a\n" + long + "\n", nil, "line 2 is longer than the limit of 4194304 bytes", "1"},
		{long, nil, "line 1 is longer than the limit", "0"},
		{"\x00\x00\x00\x01a\x00\x00\x00\x00", []string{"--length-prefixed"}, "record 2 is empty", "1"},
		{"\x00\x00\x00\x01a\x00\x00\x00\x05ab", []string{"--length-prefixed"}, "record 2 is cut short (got 2 bytes of 5)", "1"},
		{"\x00\x00", []string{"--length-prefixed"}, "record 1 is cut short in its length", "0"},
		{"hello world\n", []string{"--length-prefixed"}, "is the input length-prefixed?", "0"},
	} {
		args := append([]string{"journal", "append", "a", "-o", "json"}, tc.args...)
		r := c.do(strings.NewReader(tc.in), args...)
		require.Equal(t, 2, r.code, r.err)
		require.Contains(t, r.err, tc.want)
		if tc.n == "0" {
			require.Contains(t, r.err, "\n  nothing was appended\n")
		} else {
			require.Contains(t, r.err, "nothing else can be in the journal")
		}
		var out appendJSON
		require.NoError(t, json.Unmarshal([]byte(r.out), &out))
		require.Equal(t, tc.n, out.Count)
		require.Equal(t, "0", out.InDoubt)
	}
	before := c.ok("journal", "tail", "a")
	file := filepath.Join(t.TempDir(), "in")
	require.NoError(t, os.WriteFile(file, []byte("good\n\nbad\n"), 0o600))
	r := c.do(nil, "journal", "append", "a", "--file", file)
	require.Equal(t, 2, r.code)
	require.Contains(t, r.err, "line 2 is empty")
	require.Contains(t, strings.ReplaceAll(r.err, "\n  ", " "), "nothing was appended")
	epoch := c.ok("journal", "status", "a")
	r = c.do(nil, "journal", "append", "a", "--file", filepath.Dir(file))
	require.Equal(t, 2, r.code)
	require.Contains(t, strings.ReplaceAll(r.err, "\n  ", " "), "is a directory; nothing was appended")
	require.Equal(t, strings.Split(epoch, "\n")[0], strings.Split(c.ok("journal", "status", "a"), "\n")[0], "nobody was fenced")
	require.Equal(t, before, c.ok("journal", "tail", "a"), "a file is checked before anything is appended")
	require.Equal(t, 0, c.do(nil, "journal", "append", "a", "--file", file, "--skip-empty").code)
	require.Equal(t, before+"good\nbad\n", c.ok("journal", "tail", "a"))

	r = c.do(iotest.ErrReader(errors.New("pipe burst")), "journal", "append", "a")
	require.Equal(t, 1, r.code)
	require.Contains(t, r.err, "pipe burst")
}

// TestAppendNothing: an input without a transaction is refused, and the writer that is there goes on.
func TestAppendNothing(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a")
	s := startSlow(t, c, cluster, 3)
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for _, tc := range []struct {
		in   string
		args []string
	}{
		{"", nil},
		{"", []string{"--length-prefixed"}},
		{"\n\n", []string{"--skip-empty"}},
		{"\n", nil},
		{"x", []string{"--length-prefixed"}},
		{"", []string{"--file", empty}},
	} {
		r := c.do(strings.NewReader(tc.in), append([]string{"journal", "append", "a"}, tc.args...)...)
		require.Equal(t, 2, r.code, r.err)
		require.Contains(t, strings.ReplaceAll(r.err, "\n  ", " "), "nothing was appended")
		require.Empty(t, r.out)
		fits(t, r.err)
	}
	r := c.start(t.Context(), blocked{t.Context()}, "journal", "append", "nope")
	require.Equal(t, 4, r.wait().code, "that there is no journal is told before input comes")
	s.feed(t, 1)
	require.NoError(t, s.in.Close())
	require.Equal(t, result{0, "appended 4 transactions, txids 1 to 4, epoch 1\n", ""}, s.wait(), "nobody fenced it")
}

// TestAppendInterruptedBeforeInput: who waits for the first line has fenced nobody.
func TestAppendInterruptedBeforeInput(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a")
	read := make(chan struct{})
	r := c.start(t.Context(), told{read, blocked{t.Context()}}, "journal", "append", "a")
	<-read
	r.interrupt()
	require.Equal(t, result{130, "", "qjmclient: interrupted\n  nothing was appended\n"}, r.wait())
	require.Contains(t, c.ok("journal", "status", "a"), "EPOCH 0 ")
}

// blocked is an input from which nothing comes.
type blocked struct{ ctx context.Context }

func (b blocked) Read([]byte) (int, error) {
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

// told says when an input is read first. It is read by one goroutine.
type told struct {
	read chan struct{}
	io.Reader
}

func (r told) Read(p []byte) (int, error) {
	select {
	case <-r.read:
	default:
		close(r.read)
	}
	return r.Reader.Read(p)
}

// slow is an append whose input the test feeds bit by bit.
type slow struct {
	*running
	in *io.PipeWriter
}

// startSlow starts an append, feeds it n lines and waits until they are committed.
func startSlow(t *testing.T, c client, cluster *testcluster.Cluster, n int, args ...string) slow {
	t.Helper()
	pr, pw := io.Pipe()
	s := slow{c.start(t.Context(), pr, append([]string{"journal", "append", "a"}, args...)...), pw}
	t.Cleanup(func() { _ = pw.Close() })
	s.feed(t, n)
	cl := cluster.Client()
	require.Eventually(t, func() bool {
		st, err := cl.Status(t.Context(), "a")
		return err == nil && int(st.Committed) >= n
	}, time.Minute, 10*time.Millisecond)
	return s
}

func (s slow) feed(t *testing.T, n int) {
	t.Helper()
	_, err := s.in.Write([]byte(strings.Repeat("line\n", n)))
	require.NoError(t, err)
}

// TestAppendFenced: exit code 8, also while no input comes, and stdout says what is there.
func TestAppendFenced(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a")
	s := startSlow(t, c, cluster, 10, "-o", "json")
	c.ok("writer", "fence", "a")
	r := s.wait()
	require.Equal(t, 8, r.code, r.err)
	require.Contains(t, r.err, "fenced: epoch 2 was taken by another writer or an operator; this writer had epoch 1")
	require.Contains(t, r.err, "10 transactions committed, txids 1 to 10; nothing else can be in the journal")
	require.Contains(t, r.out, `"first":"1","last":"10","epoch":"1","count":"10","in_doubt":"0","finalized":false`)
}

// TestAppendAmbiguous: what was sent and not answered for is in doubt: exit code 10.
func TestAppendAmbiguous(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a")
	s := startSlow(t, c, cluster, 10, "-o", "json", "--timeout", "1s")
	cluster.StopNode(1)
	cluster.StopNode(2)
	s.feed(t, 7)
	r := s.wait()
	require.Equal(t, 10, r.code, r.err)
	require.Contains(t, r.err, "no quorum for appending")
	require.Contains(t, r.err, "10 transactions committed, txids 1 to 10; up to 7 more, txids 11 to 17, may be in the journal")
	require.Contains(t, r.out, `"first":"1","last":"10","epoch":"1","count":"10","in_doubt":"7"`)
}

// TestAppendNoQuorum: without anything in doubt it is exit code 5.
func TestAppendNoQuorum(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a")
	s := startSlow(t, c, cluster, 10, "--timeout", "1s")
	cluster.StopNode(1)
	cluster.StopNode(2)
	r := s.wait()
	require.Equal(t, 5, r.code, r.err)
	require.Contains(t, r.err, "10 transactions committed, txids 1 to 10; nothing else can be in the journal")
	require.Empty(t, r.out)
}

// TestAppendWaits: while there is no quorum it says so and waits, and goes on when there is one again.
func TestAppendWaits(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a")
	s := startSlow(t, c, cluster, 10)
	cluster.StopNode(1)
	cluster.StopNode(2)
	s.feed(t, 7)
	require.Eventually(t, func() bool { return strings.Contains(s.err.String(), "no quorum, waiting for nodes: n2 ") }, time.Minute, 10*time.Millisecond)
	cluster.StartNode(1)
	require.NoError(t, s.in.Close())
	r := s.wait()
	require.Equal(t, 0, r.code, r.err)
	require.Equal(t, "appended 17 transactions, txids 1 to 17, epoch 1\n", r.out)
}

// TestAppendWaitsToOpen: also before it is the writer, and before anybody answers.
func TestAppendWaitsToOpen(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a")
	for i := range 3 {
		cluster.StopNode(i)
	}
	r := c.start(t.Context(), strings.NewReader("x\n"), "journal", "append", "a")
	require.Eventually(t, func() bool { return strings.Contains(r.err.String(), "answers yet") }, time.Minute, 10*time.Millisecond)
	cluster.StartNode(0)
	require.Eventually(t, func() bool { return strings.Contains(r.err.String(), "waiting for a quorum of") }, time.Minute, 10*time.Millisecond)
	cluster.StartNode(1)
	require.Equal(t, 0, r.wait().code)
}

// TestAppendInterrupted: exit code 130 after what was taken is committed.
func TestAppendInterrupted(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a")
	s := startSlow(t, c, cluster, 10)
	s.interrupt()
	r := s.wait()
	require.Equal(t, 130, r.code, r.err)
	require.Contains(t, r.err, "10 transactions committed, txids 1 to 10; nothing else can be in the journal")
	require.Equal(t, 0, c.do(strings.NewReader("x\n"), "journal", "append", "a").code)
}

// TestAppendNotOpened: also an append that never became the writer says what is committed.
func TestAppendNotOpened(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "gone")
	c.ok("journal", "delete", "gone", "--yes")
	c.ok("journal", "create", "a")
	const nothing = `"first":"0","last":"0","epoch":"0","count":"0","in_doubt":"0","finalized":false,"error":"`
	fails := func(code int, name string, args ...string) {
		t.Helper()
		args = append([]string{"journal", "append", name}, args...)
		r := c.do(strings.NewReader("x\n"), args...)
		require.Equal(t, code, r.code, r.err)
		require.Empty(t, r.out)
		require.True(t, strings.HasSuffix(r.err, "\n  nothing was appended\n"), r.err)
		r = c.do(strings.NewReader("x\n"), append(args, "-o", "json")...)
		require.Equal(t, code, r.code, r.err)
		require.Contains(t, r.out, nothing)
	}
	fails(4, "nope")
	fails(4, "gone")
	cluster.StopNode(1)
	cluster.StopNode(2)
	fails(5, "a", "--timeout", "300ms")
	r := c.start(t.Context(), strings.NewReader("x\n"), "journal", "append", "a", "-o", "json")
	require.Eventually(t, func() bool { return strings.Contains(r.err.String(), "waiting for a quorum of") }, time.Minute, 10*time.Millisecond)
	r.interrupt()
	res := r.wait()
	require.Equal(t, 130, res.code, res.err)
	require.Contains(t, res.out, nothing+"interrupted")
	cluster.StopNode(0)
	fails(3, "a", "--timeout", "300ms")
}
