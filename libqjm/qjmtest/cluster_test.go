package qjmtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/libqjm/qjmtest"
)

// lines is a place for a log.
type lines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.String()
}

// Outside of a bubble it is the same cluster, in real time.
func TestStart_WithoutABubble(t *testing.T) {
	var log lines
	started := make(chan int, 5)
	c := qjmtest.Start(t, qjmtest.Options{
		Nodes: 5, Journals: []string{"j", "k"}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Tune: func(i int, _ *journalnode.Options) { started <- i },
	})
	require.Equal(t, 5, c.Nodes())
	require.Len(t, c.Endpoints(), 5)
	require.Equal(t, "n5", c.NodeName(4))
	require.Len(t, started, 5)
	require.Contains(t, log.String(), "node started")
	b := bed{t, c}
	w := b.writer("app")
	c.CrashNode(3)
	c.CutBetween("app", "n5")
	require.NoError(t, b.try(w, time.Minute))
	require.NoError(t, w.Close(t.Context()))
}

// record is a test that remembers what it was told.
type record struct {
	qjmtest.TB
	log lines
}

func (r *record) Logf(format string, args ...any) {
	_, _ = fmt.Fprintf(&r.log, format+"\n", args...)
}

func TestStart_Log(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := record{TB: t}
		c := qjmtest.Start(&r, qjmtest.Options{Nodes: 1, Log: true})
		require.Contains(t, r.log.String(), "node started")
		c.StopNode(0)
	})
}

func TestStart_Loopback(t *testing.T) {
	c := qjmtest.Start(t, qjmtest.Options{Loopback: true, Journals: []string{"j"}})
	cl, err := libqjm.Dial(t.Context(), libqjm.Options{Endpoints: c.Endpoints()}) // as another process does
	require.NoError(t, err)
	_, err = cl.OpenReader(t.Context(), "j", libqjm.ReaderOptions{})
	require.NoError(t, err)
	require.NoError(t, cl.Close())
	b := bed{t, c}
	w := b.writer("app")
	c.StopNode(0)
	require.NoError(t, b.try(w, time.Minute))
	c.StartNode(0)
	c.AwaitReady()
	c.StopNode(1)
	require.NoError(t, b.try(w, time.Minute))
	c.WipeNode(1)
	c.StartNode(1)
	require.Error(t, c.Node(1).Ready())
	require.NoError(t, w.Close(t.Context()))
}

// What cannot be done fails the test, and says why.
func TestMisuse(t *testing.T) {
	for want, use := range map[string]func(qjmtest.TB, *qjmtest.Cluster){
		"nothing is called \"nobody\"":         func(_ qjmtest.TB, c *qjmtest.Cluster) { c.Cut("nobody") },
		"CutBetween: nothing is called":        func(_ qjmtest.TB, c *qjmtest.Cluster) { c.CutBetween("n1", "n4") },
		"CutOneWay: nothing is called":         func(_ qjmtest.TB, c *qjmtest.Cluster) { c.CutOneWay("", "n1") },
		"Delay: nothing is called":             func(_ qjmtest.TB, c *qjmtest.Cluster) { c.Delay("x", 1) },
		"DelayBetween: nothing is called":      func(_ qjmtest.TB, c *qjmtest.Cluster) { c.DelayBetween("n1", "x", 1) },
		"Stall: nothing is called":             func(_ qjmtest.TB, c *qjmtest.Cluster) { c.Stall("x") },
		"KillProcess: no process \"n1\" runs":  func(_ qjmtest.TB, c *qjmtest.Cluster) { c.KillProcess("n1") },
		"KillProcess: no process \"app\" runs": func(_ qjmtest.TB, c *qjmtest.Cluster) { c.Client("app"); c.KillProcess("app"); c.KillProcess("app") },
		"there is no node 3":                   func(_ qjmtest.TB, c *qjmtest.Cluster) { c.StopNode(3) },
		"there is no node -1":                  func(_ qjmtest.TB, c *qjmtest.Cluster) { c.FillDisk(-1) },
		"KillNode: node n2 is down":            func(_ qjmtest.TB, c *qjmtest.Cluster) { c.StopNode(1); c.KillNode(1) },
		"CrashNode: node n2 is down":           func(_ qjmtest.TB, c *qjmtest.Cluster) { c.CrashNode(1); c.CrashNode(1) },
		"cannot be called \"n1\"":              func(_ qjmtest.TB, c *qjmtest.Cluster) { c.Client("n1") },
		"cannot be called \"\"":                func(_ qjmtest.TB, c *qjmtest.Cluster) { c.Client("") },
		"create journal j":                     func(_ qjmtest.TB, c *qjmtest.Cluster) { c.CreateJournal("j"); c.CreateJournal("j") },
		"in vain waited for a catalog":         func(_ qjmtest.TB, c *qjmtest.Cluster) { c.StopNode(0); c.StopNode(1); c.AwaitReady() },
		"in vain waited for: all nodes": func(_ qjmtest.TB, c *qjmtest.Cluster) {
			c.WipeNode(0)
			c.StartNode(0)
			c.AwaitReady()
		},
		"number of nodes": func(t qjmtest.TB, _ *qjmtest.Cluster) { qjmtest.Start(t, qjmtest.Options{Nodes: -1}) },
		"on loopback cannot run in a bubble": func(t qjmtest.TB, _ *qjmtest.Cluster) {
			qjmtest.Start(t, qjmtest.Options{Loopback: true})
		},
	} {
		t.Run(want, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				require.ErrorContains(t, qjmtest.Run(func(t qjmtest.TB) { use(t, qjmtest.Start(t, qjmtest.Options{})) }), want)
			})
		})
	}
}

func TestMisuse_Loopback(t *testing.T) {
	uses := []func(*qjmtest.Cluster){
		func(c *qjmtest.Cluster) { c.KillNode(0) },
		func(c *qjmtest.Cluster) { c.FreeDisk(0) },
		func(c *qjmtest.Cluster) { c.Cut("n1") },
		func(c *qjmtest.Cluster) { c.HealAll() },
	}
	err := qjmtest.Run(func(t qjmtest.TB) {
		c := qjmtest.Start(t, qjmtest.Options{Nodes: 1, Loopback: true})
		for _, use := range uses {
			var done sync.WaitGroup
			done.Go(func() { use(c) }) // it ends the goroutine that asked for it
			done.Wait()
		}
	})
	require.Error(t, err)
	require.Equal(t, len(uses), strings.Count(err.Error(), "needs a cluster in memory"), err)
}

func TestRun(t *testing.T) {
	var said []string
	say := func(s string) { said = append(said, s) }
	var dir string
	var ctx context.Context
	err := qjmtest.Run(func(t qjmtest.TB) {
		dir, ctx = t.TempDir(), t.Context()
		t.Cleanup(func() { say("first") })
		t.Cleanup(func() { t.Fatalf("second"); say("not reached") })
		t.Cleanup(func() { say("third, " + ctx.Err().Error()) })
		t.Fatalf("failed: %w", os.ErrInvalid)
		say("not reached")
	})
	require.ErrorIs(t, err, os.ErrInvalid)
	require.ErrorContains(t, err, "second")
	require.Equal(t, []string{"third, context canceled", "first"}, said)
	_, err = os.Stat(dir)
	require.True(t, errors.Is(err, os.ErrNotExist))
	require.NoError(t, qjmtest.Run(func(qjmtest.TB) {}))
}
