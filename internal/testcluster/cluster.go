// Package testcluster runs a whole cluster inside a test: real nodes, real library, over gRPC on
// loopback or over a memory network, on the operating system's files or on memory ones.
package testcluster

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/journalnode/raftgroup"
	"github.com/quorumjournal/qjm/libqjm"
)

// TB is what a cluster needs of a test.
type TB interface {
	require.TestingT
	Helper()
	Cleanup(f func())
	Context() context.Context
	TempDir() string
}

// Cluster is a set of nodes that can be stopped and started.
type Cluster struct {
	t     TB
	opts  Options
	peers []journalnode.Peer
	Nodes []*journalnode.Node // nil while stopped

	// Net and Disks are those of a cluster in memory. A disk is replaced when its node crashes.
	Net   *memnet.Network
	Disks []*memfs.FS
	// Raft are the raft stores of a cluster in memory: what is in them counts as synced.
	Raft []*raftgroup.MemStores
}

// Options of a cluster. Zero values are the defaults.
type Options struct {
	Nodes int // default 3
	Dir   string
	// Tune changes a node's options before it starts.
	Tune func(i int, o *journalnode.Options)
	Log  bool

	// Mem runs the cluster on a memory network and memory disks, so that it works in a testing/synctest
	// bubble. Addresses are the node ids then.
	Mem bool
	// Idle leaves the nodes to StartNode.
	Idle bool
	// FS, if set, is put between a node and its memory disk.
	FS func(i int, disk *memfs.FS) vfs.FS
	// Wrap, if set, is put between a node and the memory network.
	Wrap func(i int, s rpc.Service) rpc.Service
}

// Start runs a cluster on loopback; it is stopped when the test ends.
func Start(t TB, opts Options) *Cluster {
	t.Helper()
	if opts.Nodes == 0 {
		opts.Nodes = 3
	}
	if opts.Dir == "" && !opts.Mem {
		opts.Dir = t.TempDir()
	}
	c := &Cluster{t: t, opts: opts, Nodes: make([]*journalnode.Node, opts.Nodes)}
	if opts.Mem {
		c.Net = memnet.New()
	}
	for i := range opts.Nodes {
		p := journalnode.Peer{ID: quorum.NodeID(fmt.Sprintf("n%d", i+1))}
		if opts.Mem {
			p.Addr = string(p.ID)
			c.Disks = append(c.Disks, memfs.New())
			c.Raft = append(c.Raft, raftgroup.NewMemStores())
		} else {
			p.Addr = FreeAddr(t)
		}
		c.peers = append(c.peers, p)
	}
	for i := range c.Nodes {
		if !opts.Idle {
			c.StartNode(i)
		}
	}
	t.Cleanup(func() {
		for i := range c.Nodes {
			c.StopNode(i)
		}
	})
	return c
}

// FreeAddr returns a loopback address that nobody listens on. Test programs run side by side, and one's
// stopped node must not find another's cluster at its old port: each process has a loopback address of its
// own, where the system has more than one, and gives no port twice.
func FreeAddr(t TB) string {
	t.Helper()
	for {
		addr := freeAddr(t)
		if _, given := givenAddrs.LoadOrStore(addr, true); !given {
			return addr
		}
	}
}

var givenAddrs sync.Map

func freeAddr(t TB) string {
	t.Helper()
	pid := os.Getpid()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+pid/62500%250, 1+pid/250%250, 1+pid%250))
	if err != nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	return l.Addr().String()
}

// Dir returns a node's data directory.
func (c *Cluster) Dir(i int) string { return filepath.Join(c.opts.Dir, string(c.peers[i].ID)) }

// JournalDir returns the one directory below journals of a node that holds a single journal.
func (c *Cluster) JournalDir(i int) string {
	c.t.Helper()
	dir := filepath.Join(c.Dir(i), "journals")
	names, err := c.Disks[i].List(dir)
	require.NoError(c.t, err)
	require.Len(c.t, names, 1)
	return filepath.Join(dir, names[0])
}

// StartNode starts a node that is stopped.
func (c *Cluster) StartNode(i int) {
	c.t.Helper()
	require.NoError(c.t, c.TryStartNode(i))
}

// NodeOptions are what a node is started with.
func (c *Cluster) NodeOptions(i int) journalnode.Options {
	o := journalnode.Options{
		ID: c.peers[i].ID, DataDir: c.Dir(i), Listen: c.peers[i].Addr, InitialCluster: c.peers,
		RepairEvery: 50 * time.Millisecond, CompareEvery: 500 * time.Millisecond,
		ReserveBytes: 64 << 10, SnapshotEvery: 200 * time.Millisecond,
		Raft: raftgroup.Options{
			Heartbeat: 200 * time.Millisecond, Election: 200 * time.Millisecond, LeaderLease: 200 * time.Millisecond,
			Commit: 10 * time.Millisecond, EnqueueTimeout: 200 * time.Millisecond,
		},
	}
	if c.opts.Log {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if c.opts.Mem {
		o.Listen, o.Dialer, o.FS = "", c.Net.Dialer(string(o.ID)), c.Disks[i]
		// Fake time costs nothing to wait for; each heartbeat does, and some tests let days pass.
		o.Raft = raftgroup.Options{Commit: time.Second}
		if c.Raft[i] != nil {
			o.Raft.Stores = c.Raft[i]
		}
		if c.opts.FS != nil {
			o.FS = c.opts.FS(i, c.Disks[i])
		}
	}
	if c.opts.Tune != nil {
		c.opts.Tune(i, &o)
	}
	return o
}

// TryStartNode is StartNode for a node that may refuse.
func (c *Cluster) TryStartNode(i int) error {
	n, err := journalnode.Start(c.t.Context(), c.NodeOptions(i))
	if err != nil {
		return err
	}
	c.Nodes[i] = n
	if c.opts.Mem {
		var s rpc.Service = n
		if c.opts.Wrap != nil {
			s = c.opts.Wrap(i, n)
		}
		c.Net.Serve(string(c.peers[i].ID), s)
	}
	return nil
}

// StopNode stops a node, if it runs.
func (c *Cluster) StopNode(i int) {
	if c.Nodes[i] == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	require.NoError(c.t, c.Nodes[i].Stop(ctx))
	if c.opts.Mem {
		c.Net.Down(string(c.peers[i].ID))
	}
	c.Nodes[i] = nil
}

// CrashNode takes the power from a node in memory: nothing leaves it any more, and what was not synced
// survives as opts say. StartNode runs it on what is left.
func (c *Cluster) CrashNode(i int, opts memfs.CrashOptions) {
	c.Net.Down(string(c.peers[i].ID))
	disk := c.Disks[i].CrashClone(opts)
	c.StopNode(i) // on the disk that nobody looks at any more
	c.Disks[i] = disk
}

// WipeNode stops a node in memory and gives it an empty disk.
func (c *Cluster) WipeNode(i int) {
	c.StopNode(i)
	c.Disks[i], c.Raft[i] = memfs.New(), raftgroup.NewMemStores()
}

// KillNode ends a node in memory as kill -9 does: what was written is there, synced or not.
func (c *Cluster) KillNode(i int) {
	c.Net.Down(string(c.peers[i].ID))
	disk := c.Disks[i].ProcessCrashClone()
	c.StopNode(i)
	c.Disks[i] = disk
}

// Endpoints lists all nodes' addresses.
func (c *Cluster) Endpoints() []string {
	var out []string
	for _, p := range c.peers {
		out = append(out, p.Addr)
	}
	return out
}

// Client dials the cluster; it is closed when the test ends.
func (c *Cluster) Client() *libqjm.Client {
	c.t.Helper()
	return c.ClientWith(libqjm.Options{})
}

// ClientWith is Client with options. On the memory network it is the endpoint "client".
func (c *Cluster) ClientWith(o libqjm.Options) *libqjm.Client {
	c.t.Helper()
	if o.Endpoints == nil {
		o.Endpoints = c.Endpoints()
	}
	if c.opts.Mem && o.Dialer == nil {
		o.Dialer = c.Net.Dialer("client")
	}
	if c.opts.Log {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	cl, err := libqjm.Dial(ctx, o)
	require.NoError(c.t, err)
	c.t.Cleanup(func() { require.NoError(c.t, cl.Close()) })
	return cl
}

// ID returns a node's id.
func (c *Cluster) ID(i int) string { return string(c.peers[i].ID) }

// Until waits until cond holds, looking again every few milliseconds, at most for the given time. In a
// bubble that is fake time: it costs nothing and does not depend on the machine.
func (c *Cluster) Until(within time.Duration, what string, cond func() bool) {
	c.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	over := time.NewTimer(within)
	defer over.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-over.C:
			require.FailNow(c.t, "in vain waited for: "+what, "for %s", within)
		}
	}
}
