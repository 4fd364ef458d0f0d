package raftgroup

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
)

// bytesConn is a stream of which only the incoming bytes are known.
type bytesConn struct {
	net.Conn
	r      io.Reader
	w      bytes.Buffer
	closed bool
}

func (c *bytesConn) Read(b []byte) (int, error)       { return c.r.Read(b) }
func (c *bytesConn) Write(b []byte) (int, error)      { return c.w.Write(b) }
func (c *bytesConn) Close() error                     { c.closed = true; return nil }
func (c *bytesConn) SetReadDeadline(time.Time) error  { return nil }
func (c *bytesConn) SetWriteDeadline(time.Time) error { return nil }

func helloBytes(t testing.TB, from, to ServerID) []byte {
	var c bytesConn
	require.NoError(t, WriteHello(&c, testCluster, from, to))
	return c.w.Bytes()
}

func TestG4_Hello(t *testing.T) {
	good := helloBytes(t, "n1/a", "n2/a")
	read := func(b []byte, self ServerID) (ServerID, error, bool) {
		c := &bytesConn{r: bytes.NewReader(b)}
		from, err := ReadHello(c, testCluster, self)
		return from, err, c.closed
	}
	from, err, closed := read(append(bytes.Clone(good), "rest"...), "n2/a")
	require.NoError(t, err)
	require.Equal(t, ServerID("n1/a"), from)
	require.False(t, closed)

	change := func(i int) []byte {
		b := bytes.Clone(good)
		b[i] ^= 0xff
		return b
	}
	for _, c := range []struct {
		field string
		bytes []byte
		self  ServerID
	}{
		{"magic", change(0), "n2/a"},
		{"version", change(4), "n2/a"},
		{"cluster", change(5), "n2/a"},
		{"to", good, "n2/b"},
		{"from", helloBytes(t, "n2/a", "n2/a"), "n2/a"},
		{"server id", append(bytes.Clone(good[:helloFixed]), 2, 'n', '1'), "n2/a"},
	} {
		_, err, closed := read(c.bytes, c.self)
		var hello *HelloError
		require.ErrorAs(t, err, &hello, c.field)
		require.Equal(t, c.field, hello.Field)
		require.ErrorIs(t, err, ErrHello)
		require.True(t, closed)
	}
	for n := range good {
		_, err, closed := read(good[:n], "n2/a")
		require.Error(t, err)
		require.True(t, closed)
	}
	require.ErrorIs(t, WriteHello(&bytesConn{}, testCluster, "n1", "n2/a"), ErrInvalid)
	require.ErrorIs(t, WriteHello(&bytesConn{}, testCluster, "n1/a", ServerID("n2/"+strings.Repeat("a", 255))), ErrInvalid)
}

func FuzzReadHello(f *testing.F) {
	f.Add(helloBytes(f, "n1/a", "n2/a"))
	f.Add([]byte(HelloMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &bytesConn{r: bytes.NewReader(b)}
		from, err := ReadHello(c, testCluster, "n2/a")
		if err != nil {
			require.True(t, c.closed)
			return
		}
		require.True(t, bytes.HasPrefix(b, helloBytes(t, from, "n2/a")))
	})
}

func TestDue(t *testing.T) {
	p := SnapshotPolicy{Interval: time.Hour, Entries: 100, Bytes: 10_000, Growth: 200, GrowthFloor: 1000}
	for _, c := range []struct {
		name string
		p    SnapshotPolicy
		s    since
		want string
	}{
		{"nothing new", p, since{Elapsed: 2 * time.Hour, Bytes: 20_000}, ""},
		{"little of all", p, since{Elapsed: time.Minute, Entries: 99, Bytes: 9_999, LastSize: 9_000}, ""},
		{"entries", p, since{Entries: 100}, "entries"},
		{"bytes", p, since{Entries: 1, Bytes: 10_000}, "bytes"},
		{"growth", p, since{Entries: 1, Bytes: 2_000, LastSize: 1_000}, "growth"},
		{"growth not reached", p, since{Entries: 1, Bytes: 1_999, LastSize: 1_000}, ""},
		{"growth below the floor", p, since{Entries: 1, Bytes: 999, LastSize: 10}, ""},
		{"growth of nothing", p, since{Entries: 1, Bytes: 5_000}, ""},
		{"interval", p, since{Entries: 1, Elapsed: time.Hour}, "interval"},
		{"off", SnapshotPolicy{Off: true, Entries: 1}, since{Entries: 100, Bytes: 1 << 40, Elapsed: time.Hour}, ""},
		{"defaults", SnapshotPolicy{}.withDefaults(), since{Entries: 8192}, "entries"},
	} {
		require.Equal(t, c.want, c.p.due(c.s), c.name)
	}
}

// TestG3_BarriersAreShared: those who come while one is under way share the next one, and do not join the
// one under way.
func TestG3_BarriersAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b barriers
		runs, goOn := 0, make(chan error)
		run := func() error {
			runs++
			return <-goOn
		}
		first, later := make(chan error, 1), make(chan error, 10)
		go func() { first <- b.wait(context.Background(), run) }()
		synctest.Wait()
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		require.ErrorIs(t, b.wait(ended, run), context.Canceled)
		for range 10 {
			go func() { later <- b.wait(context.Background(), run) }()
		}
		synctest.Wait()
		goOn <- nil
		synctest.Wait()
		require.NoError(t, <-first)
		require.Empty(t, later, "one joined a barrier that had begun before it came")
		deposed := errors.New("deposed")
		goOn <- deposed
		for range 10 {
			require.ErrorIs(t, <-later, deposed)
		}
		require.Equal(t, 2, runs)
	})
}

func TestUpstreamLogsAreBounded(t *testing.T) {
	var out bytes.Buffer
	l := newLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})))
	l.Info("chatter")
	require.Empty(t, out.String())
	for range 100 {
		l.With("peer", "n1").Error("failed to heartbeat to", "err", hclog.Fmt("%s", strings.Repeat("x", 10_000)))
	}
	require.Equal(t, logLines, strings.Count(out.String(), "failed to heartbeat"))
	require.Less(t, out.Len(), logLines*(logValueBytes+200))

	limit := logLimit{texts: map[string]logCount{}}
	now := time.Unix(0, 0)
	for range logLines + 7 {
		limit.pass("a", now)
	}
	pass, dropped := limit.pass("a", now.Add(logWindow))
	require.True(t, pass)
	require.Equal(t, 7, dropped)
}

func TestOptionsAreChecked(t *testing.T) {
	for _, change := range []func(*Options){
		func(o *Options) { o.Self = "n1" },
		func(o *Options) { o.Self = "n1/a/b" },
		func(o *Options) { o.Cluster = [16]byte{} },
		func(o *Options) { o.Stores = nil },
		func(o *Options) { o.LeaderLease = time.Hour },
		func(o *Options) { o.InFlight = -1 },
	} {
		o := Options{Self: "n1/a", Cluster: testCluster, Stores: NewMemStores()}
		change(&o)
		require.ErrorIs(t, Bootstrap(o, []ServerID{o.Self}), ErrInvalid)
	}
}

// TestStreamsAreBounded: a peer's oldest stream goes for a newer one, and all go with the layer.
func TestStreamsAreBounded(t *testing.T) {
	s := newStreams(Options{Self: "n1/a", Cluster: testCluster})
	conns := make([]*bytesConn, connsPerPeer+2)
	for i := range conns {
		conns[i] = &bytesConn{}
		s.add(conns[i], "n2/a")
	}
	for i, c := range conns {
		require.Equal(t, i < 2, c.closed, i)
	}
	for range acceptQueue {
		s.add(&bytesConn{}, "n3/a")
	}
	late := &bytesConn{}
	s.add(late, "n4/a")
	require.True(t, late.closed, "the queue is full")
	require.NotContains(t, s.in, ServerID("n4/a"))
	require.NoError(t, s.Close())
	require.True(t, conns[len(conns)-1].closed)
	require.Empty(t, s.in)
	after := &bytesConn{}
	s.add(after, "n2/a")
	require.True(t, after.closed)
}

// What is no news is no warning: the election of the first leader, and what a server that was taken out tells itself.
func TestLogger_Ordinary(t *testing.T) {
	var out bytes.Buffer
	l := newLogger(slog.New(slog.NewTextHandler(&out, nil)))
	l.Warn("heartbeat timeout reached, starting election", "last-leader-addr", "", "last-leader-id", "")
	l.Warn("not part of stable configuration, aborting election")
	l.Warn("heartbeat timeout reached, not part of a stable configuration or a non-voter, not triggering a leader election")
	require.Empty(t, out.String())
	l.Warn("heartbeat timeout reached, starting election", "last-leader-addr", "a", "last-leader-id", "n1/x")
	require.Contains(t, out.String(), "level=WARN", "a leader was lost")
}
