package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/journalnode/raftgroup"
)

// Limits and defaults of Options.
const (
	DefaultNodes = 3
	NodesMax     = quorum.MaxMembers
	// HTTPOffset is how far a node's HTTP port is above its port for clients, where BasePort is set.
	HTTPOffset = 100
)

const (
	host         = "127.0.0.1"
	portMax      = 1<<16 - 1
	reserveBytes = 1 << 20
	heartbeat    = 500 * time.Millisecond
	readyWithin  = 30 * time.Second
	readyPoll    = 20 * time.Millisecond
	undoWithin   = 10 * time.Second // stopping what had started, after a failure
)

// Options of a cluster. The zero value is three nodes on any free ports, with their data in a temporary directory.
type Options struct {
	// Nodes is how many: 1 to NodesMax. Default: DefaultNodes.
	Nodes int
	// Dir is where the data is kept, a directory for each node; a cluster that was started there before goes on. Empty:
	// a temporary directory, which Stop removes.
	Dir string
	// BasePort is the first node's port for clients; the next node has the next one, and HTTP is HTTPOffset above. 0:
	// any ports that are free.
	BasePort int
	// Logger of the nodes; nil discards.
	Logger *slog.Logger
	// Version is what the nodes say they run.
	Version string
}

// ErrBadOptions: options that no cluster can be started with.
var ErrBadOptions = errors.New("local: bad options")

// Validate says what is wrong, as ErrBadOptions.
func (o Options) Validate() error {
	nodes := cmp.Or(o.Nodes, DefaultNodes)
	if nodes < 1 || nodes > NodesMax {
		return fmt.Errorf("%w: nodes (got %d, want 1 to %d)", ErrBadOptions, nodes, NodesMax)
	}
	if most := portMax - HTTPOffset - nodes + 1; o.BasePort < 0 || o.BasePort > most {
		return fmt.Errorf("%w: base port (got %d, want 0 to %d)", ErrBadOptions, o.BasePort, most)
	}
	return nil
}

// Cluster is nodes that run in this process.
type Cluster struct {
	dir       string
	temporary bool
	addrs     []string
	https     []string

	stopping sync.Mutex
	nodes    []*journalnode.Node // guarded by stopping: nil once they have stopped
}

// Start founds a cluster, or goes on with the one in Options.Dir, and returns when every node serves. The context is that
// of the start only. Errors: ErrBadOptions; those of journalnode.Start; then nothing is left behind.
func Start(ctx context.Context, o Options) (_ *Cluster, err error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o.Nodes = cmp.Or(o.Nodes, DefaultNodes)
	c := &Cluster{dir: o.Dir, temporary: o.Dir == ""}
	if c.addrs, c.https, err = ports(o); err != nil {
		return nil, fmt.Errorf("local: %w", err)
	}
	if c.temporary {
		if c.dir, err = os.MkdirTemp("", "qjm-dev-"); err != nil {
			return nil, fmt.Errorf("local: %w", err)
		}
	}
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWithin)
			defer cancel()
			err = errors.Join(err, c.Stop(ctx))
		}
	}()
	for _, n := range c.nodeOptions(o) {
		node, err := journalnode.Start(ctx, n)
		if err != nil {
			return nil, err
		}
		c.nodes = append(c.nodes, node)
	}
	return c, c.awaitReady(ctx)
}

// Endpoints lists where clients find the nodes, for libqjm.Options.
func (c *Cluster) Endpoints() []string { return slices.Clone(c.addrs) }

// HTTPEndpoints lists where the nodes serve health and metrics.
func (c *Cluster) HTTPEndpoints() []string { return slices.Clone(c.https) }

// Dir is where the data lies.
func (c *Cluster) Dir() string { return c.dir }

// Stop drains all nodes at once, until the context ends, and removes a temporary directory. The second one does nothing.
func (c *Cluster) Stop(ctx context.Context) error {
	c.stopping.Lock()
	defer c.stopping.Unlock()
	errs := make([]error, len(c.nodes))
	var wg sync.WaitGroup
	for i, n := range c.nodes {
		wg.Go(func() { errs[i] = n.Stop(ctx) })
	}
	wg.Wait()
	c.nodes = nil
	if c.temporary {
		errs = append(errs, os.RemoveAll(c.dir))
	}
	return errors.Join(errs...)
}

func (c *Cluster) nodeOptions(o Options) (out []journalnode.Options) {
	var peers []journalnode.Peer
	for i, addr := range c.addrs {
		peers = append(peers, journalnode.Peer{ID: quorum.NodeID(fmt.Sprintf("n%d", i+1)), Addr: addr})
	}
	for i, p := range peers {
		out = append(out, journalnode.Options{
			ID: p.ID, DataDir: filepath.Join(c.dir, string(p.ID)), Listen: p.Addr, HTTPListen: c.https[i], InitialCluster: peers,
			ReserveBytes: reserveBytes, Logger: o.Logger, Version: o.Version,
			// All is in one process, and somebody waits for it.
			Raft: raftgroup.Options{Heartbeat: heartbeat, Election: heartbeat, LeaderLease: heartbeat},
		})
	}
	return out
}

func ports(o Options) (addrs, https []string, err error) {
	at := func(port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
	if o.BasePort > 0 {
		for i := range o.Nodes {
			addrs = append(addrs, at(o.BasePort+i))
			https = append(https, at(o.BasePort+HTTPOffset+i))
		}
		return addrs, https, nil
	}
	for range 2 * o.Nodes {
		l, err := net.Listen("tcp", at(0))
		if err != nil {
			return nil, nil, err
		}
		defer func() { _ = l.Close() }() // all are held until all are known, so they differ
		addrs = append(addrs, l.Addr().String())
	}
	return addrs[:o.Nodes], addrs[o.Nodes:], nil
}

func (c *Cluster) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		var errs []error
		for i, n := range c.nodes {
			if err := n.Ready(); err != nil {
				errs = append(errs, fmt.Errorf("n%d: %w", i+1, err))
			}
		}
		if len(errs) == 0 {
			return nil
		}
		select {
		case <-time.After(readyPoll):
		case <-ctx.Done():
			return fmt.Errorf("the cluster did not get ready: %w", errors.Join(append(errs, context.Cause(ctx))...))
		}
	}
}
