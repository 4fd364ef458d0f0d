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
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
)

// Cluster is a set of nodes that can be stopped and started.
type Cluster struct {
	t     testing.TB
	opts  Options
	peers []journalnode.Peer
	Nodes []*journalnode.Node // nil while stopped
}

// Options of a cluster. Zero values are the defaults.
type Options struct {
	Nodes int // default 3
	Dir   string
	// Tune changes a node's options before it starts.
	Tune func(i int, o *journalnode.Options)
	Log  bool
}

// Start runs a cluster on loopback; it is stopped when the test ends.
func Start(t testing.TB, opts Options) *Cluster {
	t.Helper()
	if opts.Nodes == 0 {
		opts.Nodes = 3
	}
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	c := &Cluster{t: t, opts: opts, Nodes: make([]*journalnode.Node, opts.Nodes)}
	for i := range opts.Nodes {
		c.peers = append(c.peers, journalnode.Peer{ID: quorum.NodeID(fmt.Sprintf("n%d", i+1)), Addr: FreeAddr(t)})
	}
	for i := range c.Nodes {
		c.StartNode(i)
	}
	t.Cleanup(func() {
		for i := range c.Nodes {
			c.StopNode(i)
		}
	})
	return c
}

// FreeAddr returns a loopback address that nobody listens on.
func FreeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	return l.Addr().String()
}

// Dir returns a node's data directory.
func (c *Cluster) Dir(i int) string { return filepath.Join(c.opts.Dir, string(c.peers[i].ID)) }

// StartNode starts a node that is stopped.
func (c *Cluster) StartNode(i int) {
	c.t.Helper()
	o := journalnode.Options{
		ID: c.peers[i].ID, DataDir: c.Dir(i), Listen: c.peers[i].Addr, InitialCluster: c.peers,
		RepairEvery: 50 * time.Millisecond, CompareEvery: 500 * time.Millisecond,
	}
	if c.opts.Log {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if c.opts.Tune != nil {
		c.opts.Tune(i, &o)
	}
	n, err := journalnode.Start(c.t.Context(), o)
	require.NoError(c.t, err)
	c.Nodes[i] = n
}

// StopNode stops a node, if it runs.
func (c *Cluster) StopNode(i int) {
	if c.Nodes[i] == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	require.NoError(c.t, c.Nodes[i].Stop(ctx))
	c.Nodes[i] = nil
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
	o := libqjm.Options{Endpoints: c.Endpoints()}
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
