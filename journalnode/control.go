package journalnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"sync"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/raftgroup"
)

// control is the node's part in the catalog. Nothing in the data plane waits for it.
type control struct {
	machine  *machine
	watchers watchers
	leases   *leases

	mu      sync.Mutex
	group   *raftgroup.Group            // nil before it is started; guarded by mu
	down    error                       // why it takes no part; guarded by mu
	stopped bool                        // guarded by mu
	removed map[raftgroup.ServerID]bool // servers that this leader takes out, and must not add again; guarded by mu
}

func newControl(log *slog.Logger) *control {
	c := &control{removed: map[raftgroup.ServerID]bool{}, leases: newLeases()}
	c.machine = newMachine(log, c.watchers.changed, c.leases.renewed)
	return c
}

// member returns the group, or why there is none.
func (c *control) member() (*raftgroup.Group, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.down != nil:
		return nil, fmt.Errorf("%w: %w", rpc.ErrCatalogDown, c.down)
	case c.stopped:
		return nil, rpc.ErrClosed
	case c.group == nil:
		return nil, rpc.ErrNotFounded
	}
	return c.group, nil
}

func (c *control) stop(ctx context.Context) error {
	c.mu.Lock()
	g := c.group
	c.stopped = true
	c.mu.Unlock()
	if g == nil {
		return nil
	}
	if err := g.Shutdown(ctx); err != nil && !errors.Is(err, ctx.Err()) {
		return fmt.Errorf("journalnode: the catalog's group: %w", err)
	}
	return nil
}

// serverID is the node as a server of the group (N1).
func serverID(id quorum.NodeID, inc quorum.Incarnation) raftgroup.ServerID {
	return raftgroup.ServerID(string(id) + "/" + inc.String())
}

// memberOf is the opposite of serverID.
func memberOf(s raftgroup.ServerID) (quorum.Member, error) {
	id, text, _ := strings.Cut(string(s), "/")
	inc, err := quorum.ParseIncarnation(text)
	return quorum.Member{ID: quorum.NodeID(id), Incarnation: inc}, err
}

func (id identity) serverID() raftgroup.ServerID { return serverID(id.ID, id.Incarnation) }

// runControl starts the group as soon as this storage is admitted, and not before (N4), and leads while it
// leads.
func (n *Node) runControl() {
	select {
	case <-n.admission:
	case <-n.stopping:
		return
	}
	if n.recovery().Out != "" {
		return // it has been said
	}
	err := n.resumeForce()
	var g *raftgroup.Group
	if err == nil {
		g, err = n.startGroup()
	}
	if err != nil {
		n.controlDown(err)
		return
	}
	n.work.Go(func() {
		select {
		case err := <-n.control.machine.stuck:
			n.controlDown(err)
			ctx, cancel := n.context(n.opts.PeerTimeout)
			defer cancel()
			n.control.mu.Lock()
			g := n.control.group // it may have been started again
			n.control.mu.Unlock()
			if g != nil {
				_ = g.Shutdown(ctx) // what it has to say is said
			}
		case <-n.stopping:
		}
	})
	n.work.Go(n.keepLoop)
	n.onCatalog(n.takeAddresses)
	n.onCatalog(n.announce)
	n.onCatalog(n.installOwn)
	n.onCatalog(n.followCatalog)
	n.lead(g)
}

// controlDown says, loudly, that this node takes no part in the catalog. Its journals go on.
func (n *Node) controlDown(err error) {
	select {
	case <-n.stopping:
		return
	default:
	}
	n.control.mu.Lock()
	n.control.down = err
	n.control.mu.Unlock()
	n.log.Error("this node takes no part in the catalog from now on; its journals go on", "err", err)
}

// startGroup makes the raft store, once in the life of the directory, and starts the group (N5).
func (n *Node) startGroup() (*raftgroup.Group, error) {
	id := n.identity()
	opts := n.groupOptions(id)
	n.mu.Lock()
	listed := n.manifest.Raft
	n.mu.Unlock()
	if !listed {
		if err := n.makeStore(id, opts); err != nil {
			return nil, err
		}
	}
	n.control.mu.Lock()
	defer n.control.mu.Unlock()
	if n.control.stopped {
		return nil, rpc.ErrClosed
	}
	g, err := raftgroup.Start(opts)
	if err != nil {
		return nil, fmt.Errorf("journalnode: the raft store that the manifest lists: %w", err)
	}
	n.control.group = g
	n.log.Info("catalog started", "server", string(opts.Self))
	return g, nil
}

func (n *Node) groupOptions(id identity) raftgroup.Options {
	opts := n.opts.Raft
	opts.Dir = filepath.Join(n.opts.DataDir, raftDir)
	opts.Self, opts.Cluster = id.serverID(), [16]byte(id.Cluster)
	opts.Machine, opts.Dial, opts.Logger = n.control.machine, n.dialRaft, n.log
	return opts
}

// makeStore: complete and synced, then its line in the manifest (N5). One that is there and not listed is
// complete, too, and was never started: the line was lost in a crash.
func (n *Node) makeStore(id identity, opts raftgroup.Options) error {
	var voters []raftgroup.ServerID
	founder := false
	for _, m := range id.Founders {
		voters = append(voters, serverID(m.ID, m.Incarnation))
		founder = founder || m.Same(quorum.Member{ID: id.ID, Incarnation: id.Incarnation})
	}
	var err error
	if founder {
		err = raftgroup.Bootstrap(opts, voters)
	} else {
		err = raftgroup.Create(opts)
	}
	if err != nil && !errors.Is(err, raftgroup.ErrExists) {
		return err
	}
	n.createMu.Lock()
	defer n.createMu.Unlock()
	return n.list(func(m *manifest) { m.Raft = true })
}

// dialRaft opens a stream to a server. Its address is looked up now: none ever comes from the log.
func (n *Node) dialRaft(ctx context.Context, to raftgroup.ServerID) (net.Conn, error) {
	m, err := memberOf(to)
	if err != nil {
		return nil, err
	}
	errs := []error{fmt.Errorf("%w: no address is known of node %s", rpc.ErrUnavailable, m.ID)}
	for i, addr := range n.peers.all(m.ID) {
		if i == 0 {
			errs = nil
		}
		peer, err := n.peers.at(addr)
		if err == nil {
			var conn rpc.RaftConn
			if conn, err = peer.RaftStream(ctx); err == nil {
				return raftConn{conn, to}, nil
			}
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// RaftStream implements rpc.Service. A node that takes no part answers nobody: a blank one would vote (N4).
func (n *Node) RaftStream(stream rpc.RaftConn) error {
	g, err := n.control.member()
	if err != nil {
		return err
	}
	id := n.identity()
	conn := raftConn{RaftConn: stream}
	from, err := raftgroup.ReadHello(conn, [16]byte(id.Cluster), id.serverID())
	if err != nil {
		n.log.Warn("a raft stream was refused", "err", err)
		return fmt.Errorf("%w: %w", rpc.ErrBadRequest, err)
	}
	if n.isGivenUp(from) {
		n.log.Warn("a raft stream was refused: the server was given up for lost", "from", string(from))
		return fmt.Errorf("%w: server %s was given up for lost", rpc.ErrUnknownNode, from)
	}
	g.Accept(conn, from)
	return nil
}

// raftConn is a stream as the group wants it. It has no address but the peer's id (G4).
type raftConn struct {
	rpc.RaftConn
	peer raftgroup.ServerID
}

// LocalAddr implements net.Conn.
func (raftConn) LocalAddr() net.Addr { return raftAddr("") }

// RemoteAddr implements net.Conn.
func (c raftConn) RemoteAddr() net.Addr { return raftAddr(c.peer) }

type raftAddr string

func (raftAddr) Network() string  { return "qjm" }
func (a raftAddr) String() string { return string(a) }

// takeAddresses: the catalog says where nodes are.
func (n *Node) takeAddresses() {
	addrs := map[quorum.NodeID]string{}
	n.readCatalog(func(c *catalog.Catalog) {
		for _, x := range c.Nodes() {
			if _, ok := addrs[x.ID]; !ok || !x.Leaving {
				addrs[x.ID] = x.Addr
			}
		}
	})
	n.peers.tell(addrs)
	n.remember(addrs)
}

// announce keeps the catalog's entry of this node true: address and software may have changed with a
// restart. It does nothing while the entry is not there.
func (n *Node) announce() {
	id := n.identity()
	var cur catalog.Node
	var there bool
	n.readCatalog(func(c *catalog.Catalog) { cur, there = c.Incarnation(id.ID, id.Incarnation) })
	want := n.asNode(cur.Labels)
	want.Voter, want.Leaving = cur.Voter, cur.Leaving
	if !there || reflect.DeepEqual(want, cur) {
		return
	}
	ctx, cancel := n.context(n.opts.LeaderWait)
	defer cancel()
	if _, err := n.propose(ctx, &catalog.PutNode{Node: want}); err != nil {
		n.log.Warn("cannot tell the catalog of this node's address and version; tried again soon", "err", err)
		n.after(n.opts.LeaderWait, n.control.watchers.changed)
	}
}

// lead does the leader's work whenever this node leads, until the group or the node ends.
func (n *Node) lead(g *raftgroup.Group) {
	stop := func() {}
	for {
		var leads, open bool
		select {
		case leads, open = <-g.Leadership():
		case <-n.stopping:
		}
		stop()
		if !open {
			return
		}
		stop = func() {}
		if leads {
			stop = n.beginLeading(g)
		}
	}
}

// beginLeading returns how to end it, and to wait for the end.
func (n *Node) beginLeading(g *raftgroup.Group) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { n.leaderLoop(ctx, g) })
	work.Go(func() { n.leaseLoop(ctx, g) })
	return func() {
		cancel()
		work.Wait()
	}
}
