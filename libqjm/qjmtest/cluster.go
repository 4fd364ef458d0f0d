package qjmtest

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"testing/synctest"
	"time"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
)

const (
	// Patience is how long this package waits for what should come by itself, before it fails the test.
	Patience = time.Minute

	// admin is the process that the cluster's own client is.
	admin = "qjmtest"
	// raftTimeout is the catalog's pace outside of a bubble, where tests wait for it.
	raftTimeout = 200 * time.Millisecond
	raftCommit  = 10 * time.Millisecond
	// drain is fake time, in which what is under way when a bubble ends comes to its end.
	drain = time.Minute
)

// Options of a cluster. The zero value is good: three nodes in memory that log nothing.
type Options struct {
	// Nodes is how many there are. Default 3.
	Nodes int
	// Journals are made before Start returns.
	Journals []string
	// Loopback runs the nodes over TCP on 127.x.y.z, with their data in TempDir, so that processes which the test
	// starts can reach them at Cluster.Endpoints. It works outside of bubbles only, and without the faults that are
	// said to need a cluster in memory.
	Loopback bool
	// Tune, where set, changes the options that a node starts with, each time it starts.
	Tune func(i int, o *journalnode.Options)
	// Logger is given to nodes and clients. nil: nothing is logged.
	Logger *slog.Logger
	// Log has them log to the test's log, where Logger is nil: much, and with the time of the bubble.
	Log bool
}

// Cluster is a cluster inside a test. All methods may be called concurrently; those that start or end nodes and
// processes wait for one another. What cannot be done fails the test, and like testing.T.FailNow ends the goroutine
// that asked for it. Nodes are counted from 0; one that does not exist fails the test, too.
type Cluster struct {
	tb     TB
	opts   Options
	bubble bool
	nodes  *testcluster.Cluster
	faults faults
	own    *libqjm.Client

	// turn is had by whoever uses what follows, or nodes. A channel, not a mutex: who waits for a mutex holds up
	// the time of a bubble.
	turn      chan struct{}
	processes map[string][]*libqjm.Client
}

// Start runs a cluster until the test ends, and returns when it is ready (see AwaitReady). In a testing/synctest
// bubble it has to be called inside of it.
func Start(t TB, o Options) *Cluster {
	t.Helper()
	c := &Cluster{tb: t, opts: o, bubble: inBubble(), turn: make(chan struct{}, 1), processes: map[string][]*libqjm.Client{}}
	if c.opts.Logger == nil && o.Log {
		c.opts.Logger = testLogger(t)
	}
	switch {
	case o.Nodes < 0:
		t.Fatalf("qjmtest: number of nodes (got %d, want 1 or more, or 0 for 3)", o.Nodes)
	case o.Loopback && c.bubble:
		t.Fatalf("qjmtest: a cluster on loopback cannot run in a bubble: who waits for a socket holds up its time")
	case c.bubble:
		t.Cleanup(func() { <-time.After(drain) })
	}
	c.nodes = testcluster.Start(&strict{TB: t}, testcluster.Options{Nodes: o.Nodes, Mem: !o.Loopback, Tune: c.tune})
	c.faults = faults{net: c.nodes.Net, open: map[*fault]bool{}}
	c.own = c.dial(admin, libqjm.Options{})
	c.AwaitReady()
	for _, name := range o.Journals {
		c.CreateJournal(name)
	}
	return c
}

// inBubble reports whether the caller is in a testing/synctest bubble. Nothing tells, but that Wait panics outside.
func inBubble() (in bool) {
	defer func() { _ = recover() }()
	synctest.Wait()
	return true
}

func (c *Cluster) tune(i int, o *journalnode.Options) {
	if !c.bubble { // fake time costs nothing, and fast heartbeats would
		o.Raft.Heartbeat, o.Raft.Election, o.Raft.LeaderLease = raftTimeout, raftTimeout, raftTimeout
		o.Raft.Commit = raftCommit
	}
	o.Logger = c.opts.Logger
	if c.opts.Tune != nil {
		c.opts.Tune(i, o)
	}
}

// lock takes the turn; what it returns gives it back.
func (c *Cluster) lock() (unlock func()) {
	c.turn <- struct{}{}
	return func() { <-c.turn }
}

// Client returns a new client of a process, which has an end of the network of its own: its name is what Cut and
// the others call it. Clients of the same name are in the same process, and no name is that of a node. It is closed
// when the test ends.
func (c *Cluster) Client(process string) *libqjm.Client {
	c.tb.Helper()
	return c.ClientWith(process, libqjm.Options{})
}

// ClientWith is Client with options. Endpoints and Logger, where unset, are the cluster's.
func (c *Cluster) ClientWith(process string, o libqjm.Options) *libqjm.Client {
	c.tb.Helper()
	if process == "" || process == admin || slices.Contains(c.names(), process) {
		c.tb.Fatalf("qjmtest: a process cannot be called %q", process)
	}
	return c.dial(process, o)
}

func (c *Cluster) dial(process string, o libqjm.Options) *libqjm.Client {
	c.tb.Helper()
	defer c.lock()()
	if !c.opts.Loopback {
		if len(c.processes[process]) == 0 {
			c.nodes.Net.Serve(process, nil) // up, and up again after KillProcess
		}
		o.Dialer = c.nodes.Net.Dialer(process)
	}
	o.Logger = cmp.Or(o.Logger, c.opts.Logger)
	cl := c.nodes.ClientWith(o)
	c.processes[process] = append(c.processes[process], cl)
	return cl
}

// CreateJournal makes a journal. It fails the test where it cannot, or the journal exists.
func (c *Cluster) CreateJournal(name string) {
	c.tb.Helper()
	ctx, cancel := context.WithTimeout(c.tb.Context(), Patience)
	defer cancel()
	if err := c.own.CreateJournal(ctx, name); err != nil {
		c.tb.Fatalf("qjmtest: create journal %s: %v", name, err)
	}
}

// Endpoints returns the nodes' addresses. Those of a cluster in memory lead nowhere but through Client.
func (c *Cluster) Endpoints() []string { return c.nodes.Endpoints() }

// AwaitReady waits until all nodes that run are ready, and the catalog has a leader: journals can be made, and leases
// be had. A cluster of which no majority runs is never ready, nor is a node that was wiped and not replaced.
func (c *Cluster) AwaitReady() {
	c.tb.Helper()
	var err error
	until := time.Now().Add(Patience)
	Until(c.tb, Patience, "all nodes that run are ready", func() bool { return c.ready() == nil })
	for time.Until(until) > 0 {
		ctx, cancel := context.WithDeadline(c.tb.Context(), until)
		_, err = c.own.Catalog(ctx, libqjm.Linearizable)
		cancel()
		if err == nil {
			return
		}
		pause()
	}
	c.tb.Fatalf("qjmtest: in vain waited for a catalog that answers, for %s: %v", Patience, err)
}

func (c *Cluster) ready() error {
	defer c.lock()()
	for _, n := range c.nodes.Nodes {
		if n == nil {
			continue
		}
		if err := n.Ready(); err != nil {
			return err
		}
	}
	return nil
}
