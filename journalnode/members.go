package journalnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/raftgroup"
)

// errForwardedHere: a node took this one for the leader. Nothing is passed on twice, so that two nodes which
// take each other for the leader do not send a request to and fro.
var errForwardedHere = fmt.Errorf("%w: another node leads, and the request was passed on once", rpc.ErrNoLeader)

// Join implements rpc.Service, for a node that was started with --join: it is checked, entered in the
// catalog, and told what to write down. The leader's loop then brings it into the group. The same node again
// is answered again; the same id with other storage is not (N1).
func (n *Node) Join(ctx context.Context, req rpc.JoinRequest) (rpc.JoinReply, error) {
	x := catalog.Node{
		ID: req.Node.ID, Incarnation: req.Node.Incarnation, Addr: req.Node.Addr, HTTPAddr: req.Node.HTTPAddr,
		Labels: req.Node.Labels, Version: req.Node.Version, Level: req.Node.Level,
	}
	if err := n.linearizable(ctx); err != nil {
		return rpc.JoinReply{}, err
	}
	replaces, err := n.mayJoin(ctx, x)
	if err != nil {
		return rpc.JoinReply{}, err
	}
	if !req.DryRun {
		if _, err := n.propose(ctx, &catalog.PutNode{Node: x, Replaces: replaces}); err != nil {
			return rpc.JoinReply{}, err
		}
		n.log.Info("a node joins the cluster", "id", x.ID, "incarnation", x.Incarnation, "addr", x.Addr)
	}
	id := n.identity()
	return rpc.JoinReply{Cluster: id.Cluster, Founders: n.withAddrs(id.Founders), Nodes: n.view(rpc.Linearizable).Nodes}, nil
}

// mayJoin says why a node may not join, or which storage it takes the place of, if any.
func (n *Node) mayJoin(ctx context.Context, x catalog.Node) (replaces quorum.Incarnation, err error) {
	var there []catalog.Node
	var cur catalog.Node
	var known bool
	n.readCatalog(func(c *catalog.Catalog) { there = c.Nodes(); cur, known = c.Node(x.ID) })
	for _, old := range there {
		switch {
		case old.ID == x.ID && old.Incarnation == x.Incarnation && old.Leaving:
			return replaces, &catalog.Refusal{Class: catalog.ErrLeaving, What: string(x.ID)}
		case old.ID != x.ID && old.Addr == x.Addr:
			return replaces, fmt.Errorf("%w: address %s belongs to node %s", rpc.ErrBadRequest, x.Addr, old.ID)
		}
	}
	if known && cur.Incarnation != x.Incarnation {
		if !n.readmitsItself(ctx, cur) {
			return replaces, &catalog.Refusal{
				Class: catalog.ErrIncarnation, What: "node " + string(x.ID) + " that joins",
				Got: x.Incarnation.String(), Want: cur.Incarnation.String(),
			}
		}
		replaces = cur.Incarnation
	}
	return replaces, n.reachBack(ctx, x)
}

// readmitsItself: every journal that has the node's lost storage among its members has the policy that a wiped
// member is replaced without being asked for. A storage that still answers is not lost: somebody started a
// second node under the id.
func (n *Node) readmitsItself(ctx context.Context, lost catalog.Node) bool {
	var journals []catalog.Journal
	n.readCatalog(func(c *catalog.Catalog) { journals = c.Journals() })
	named := slices.DeleteFunc(journals, func(j catalog.Journal) bool { return !j.Config.Has(lost.ID, lost.Incarnation) })
	if len(named) == 0 || slices.ContainsFunc(named, func(j catalog.Journal) bool { return !j.Policy.AutoReadmit }) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	peer, err := n.peers.at(lost.Addr)
	if err != nil {
		return true
	}
	info, err := peer.Info(ctx)
	return err != nil || info.Incarnation != lost.Incarnation
}

// reachBack: a node that nobody reaches is no use, and whoever listens there may be of another cluster.
func (n *Node) reachBack(ctx context.Context, x catalog.Node) error {
	ctx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	peer, err := n.peers.at(x.Addr)
	if err != nil {
		return fmt.Errorf("%w: address of node %s: %w", rpc.ErrBadRequest, x.ID, err)
	}
	info, err := peer.Info(ctx)
	own := n.identity()
	switch {
	case err != nil:
		return fmt.Errorf("%w: node %s cannot be reached at %s: %w", rpc.ErrBadRequest, x.ID, x.Addr, err)
	case info.ID != x.ID:
		return fmt.Errorf("%w: another node answers at %s (got %s, want %s)", rpc.ErrBadRequest, x.Addr, info.ID, x.ID)
	case info.Incarnation != x.Incarnation:
		return &rpc.WrongNodeError{Node: x.ID, Got: x.Incarnation, Want: info.Incarnation}
	case info.Phase != rpc.Blank && info.Cluster != own.Cluster:
		return fmt.Errorf("%w: node %s belongs to another cluster (got %x, want %x)", rpc.ErrBadRequest, x.ID, info.Cluster, own.Cluster)
	}
	return nil
}

// joinCluster asks, again and again, to be let in, until this node is in, or it is known that it must not be.
func (n *Node) joinCluster() {
	said := time.Now()
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		if n.identity().Phase == rpc.Founded {
			close(n.admission)
			return
		}
		err := n.joinOnce(n.opts.Join)
		if err == nil {
			continue
		}
		n.idMu.Lock()
		refused := n.out == nil && errors.Is(err, ErrNotAdmitted)
		n.out, n.waiting = nil, err
		if errors.Is(err, ErrNotAdmitted) {
			n.out = err
		}
		n.idMu.Unlock()
		if refused || time.Since(said) >= waitingLogEvery {
			n.log.Error("this node is not part of the cluster that it was told to join", "err", err)
			said = time.Now()
		}
		select {
		case <-time.After(wait):
		case <-n.stopping:
			return
		}
	}
}

// joinOnce asks one after the other.
func (n *Node) joinOnce(through []string) error {
	x := viewNode(n.asNode(nil))
	var errs []error
	for _, addr := range through {
		reply, err := n.askToJoin(addr, rpc.JoinRequest{Node: x})
		if err == nil {
			return n.admit(reply)
		}
		err = fmt.Errorf("%s: %w", addr, err)
		if errors.Is(err, catalog.ErrIncarnation) || errors.Is(err, catalog.ErrLeaving) {
			// The catalog's word: this id's storage is another one (N1).
			return fmt.Errorf("%w: %w", ErrNotAdmitted, err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (n *Node) askToJoin(addr string, req rpc.JoinRequest) (rpc.JoinReply, error) {
	peer, err := n.peers.at(addr)
	if err != nil {
		return rpc.JoinReply{}, err
	}
	ctx, cancel := n.context(n.opts.LeaderWait + installTimeout)
	defer cancel()
	return peer.Join(ctx, req)
}

// readmission: a founder whose disk was wiped asks the others to let it in again, which they do when its new
// storage has been registered in the place of the old one (N1). It does nothing but ask until then.
func (n *Node) readmission() {
	var through []string
	for _, p := range n.opts.InitialCluster {
		if p.ID != n.opts.ID {
			through = append(through, p.Addr)
		}
	}
	if err := n.joinOnce(through); err != nil {
		n.log.Debug("not admitted again yet", "err", err)
	}
}

// admit writes the cluster down, before the first vote (N4). It is not among the founders: its raft store
// will be a blank one.
func (n *Node) admit(r rpc.JoinReply) error {
	next := n.identity()
	next.Cluster, next.Founders, next.Phase = r.Cluster, r.Founders, rpc.Founded
	if r.Cluster.IsZero() || len(r.Founders) == 0 {
		return fmt.Errorf("%w: the cluster that was joined has no record", rpc.ErrBadRequest)
	}
	if err := saveIdentity(n.fs, n.opts.DataDir, next); err != nil {
		return err
	}
	addrs := map[quorum.NodeID]string{}
	for _, x := range r.Nodes {
		if _, ok := addrs[x.ID]; !ok || !x.Leaving {
			addrs[x.ID] = x.Addr
		}
	}
	n.peers.tell(addrs)
	n.peers.learn(r.Founders)
	n.remember(addrs)
	n.idMu.Lock()
	n.id, n.out, n.waiting = next, nil, nil
	n.idMu.Unlock()
	n.log.Info("joined", "cluster", fmt.Sprintf("%x", next.Cluster))
	return nil
}

// RemoveNode implements rpc.Service. The order: no journal may need the node; its tombstones are forgotten;
// it leaves the group; the catalog is told. Cut off anywhere, the same again goes on.
func (n *Node) RemoveNode(ctx context.Context, req rpc.RemoveRequest) error {
	_, err := onLeader(ctx, n, func(err error) bool { return errors.Is(err, rpc.ErrNoLeader) && !req.Forwarded }, func(g *raftgroup.Group) (struct{}, error) {
		return struct{}{}, n.removeHere(ctx, g, req)
	}, func(peer rpc.Node) (struct{}, error) {
		if req.Forwarded {
			return struct{}{}, errForwardedHere
		}
		next := req
		next.Forwarded = true
		return struct{}{}, peer.RemoveNode(ctx, next)
	})
	return alsoRPC(err)
}

// removeHere does it as the leader. A leader that is to go hands over first, so that whoever takes it out
// is there to tell the catalog.
func (n *Node) removeHere(ctx context.Context, g *raftgroup.Group, req rpc.RemoveRequest) error {
	if _, err := n.barrier(ctx, g); err != nil {
		return err
	}
	x, err := n.removable(req)
	if err != nil || req.DryRun {
		return err
	}
	id := serverID(x.ID, x.Incarnation)
	if id == n.identity().serverID() {
		if _, err := n.transferHere(ctx, g, ""); err != nil {
			return err
		}
		return fmt.Errorf("%w: the leader was to be removed, and has handed over", rpc.ErrNoLeader)
	}
	n.setRemoving(id, true)
	defer n.setRemoving(id, false)
	if err := n.applyAsLeader(ctx, g, &catalog.Forget{ID: x.ID, Incarnation: x.Incarnation}); err != nil {
		return err
	}
	if err := g.Remove(ctx, id, 0); err != nil && !errors.Is(err, raftgroup.ErrNoMember) {
		return fromGroup(err)
	}
	if err := n.applyAsLeader(ctx, g, &catalog.SetVoter{ID: x.ID, Incarnation: x.Incarnation}); err != nil {
		return err
	}
	n.log.Info("a node was removed from the cluster", "id", x.ID, "incarnation", x.Incarnation)
	return n.applyAsLeader(ctx, g, &catalog.RemoveNode{ID: x.ID, Incarnation: x.Incarnation})
}

func (n *Node) setRemoving(id raftgroup.ServerID, on bool) {
	n.control.mu.Lock()
	defer n.control.mu.Unlock()
	if on {
		n.control.removed[id] = true
	} else {
		delete(n.control.removed, id)
	}
}

// removable finds the node, and says why it cannot go.
func (n *Node) removable(req rpc.RemoveRequest) (catalog.Node, error) {
	var x catalog.Node
	var ok bool
	var journals []catalog.Journal
	voters := 0
	n.readCatalog(func(c *catalog.Catalog) {
		if x, ok = c.Node(req.Node); !req.Incarnation.IsZero() {
			x, ok = c.Incarnation(req.Node, req.Incarnation)
		}
		journals = c.Journals()
		for _, o := range c.Nodes() {
			if o.Voter {
				voters++
			}
		}
	})
	if !ok {
		return x, &catalog.Refusal{Class: catalog.ErrNoNode, What: string(req.Node)}
	}
	if x.Voter && voters == 1 {
		return x, &catalog.Refusal{Class: catalog.ErrVoter, What: string(x.ID) + " is the last one"}
	}
	return x, neededBy(x.Member(), journals)
}

// neededBy returns a *catalog.InUseError if a config or a change names the member, or if the delete of one
// of its journals is not in force yet. Tombstones alone do not hold a node that leaves for good.
func neededBy(m quorum.Member, journals []catalog.Journal) error {
	e := &catalog.InUseError{Node: m}
	for _, j := range journals {
		needs := j.Config.Has(m.ID, m.Incarnation) || j.Deleted && !j.Reclaimed && slices.ContainsFunc(deletedMembers(j), m.Same)
		if ch := j.Change; ch != nil {
			needs = needs || slices.ContainsFunc(ch.Old, m.Same) || slices.ContainsFunc(ch.New, m.Same)
		}
		switch {
		case !needs:
		case len(e.Journals) < catalog.MaxNamedInUse:
			e.Journals = append(e.Journals, j.Name)
		default:
			e.More++
		}
	}
	if len(e.Journals) == 0 {
		return nil
	}
	return e
}

// TransferLeader implements rpc.Service.
func (n *Node) TransferLeader(ctx context.Context, req rpc.TransferRequest) (quorum.NodeID, error) {
	return onLeader(ctx, n, func(err error) bool { return errors.Is(err, rpc.ErrNoLeader) && !req.Forwarded }, func(g *raftgroup.Group) (quorum.NodeID, error) {
		if req.To == n.opts.ID {
			return req.To, nil // it leads already
		}
		return n.transferHere(ctx, g, req.To)
	}, func(peer rpc.Node) (quorum.NodeID, error) {
		if req.Forwarded {
			return "", errForwardedHere
		}
		return peer.TransferLeader(ctx, rpc.TransferRequest{To: req.To, Forwarded: true})
	})
}

// transferHere hands over to a node, or to whichever voter takes it.
func (n *Node) transferHere(ctx context.Context, g *raftgroup.Group, to quorum.NodeID) (quorum.NodeID, error) {
	errs := []error{n.noVoter(to)}
	for _, s := range g.Members().Members {
		m, err := memberOf(s.ID)
		if err != nil || !s.Voter || s.ID == n.identity().serverID() || to != "" && m.ID != to {
			continue
		}
		err = g.TransferLeadership(ctx, s.ID)
		if err == nil {
			n.log.Info("leadership of the catalog's group handed over", "to", string(s.ID))
			return m.ID, nil
		}
		errs = append(errs, fromGroup(err))
	}
	return "", errors.Join(errs...)
}

// noVoter says why the leadership cannot go there.
func (n *Node) noVoter(to quorum.NodeID) error {
	known := false
	n.readCatalog(func(c *catalog.Catalog) { _, known = c.Node(to) })
	switch {
	case to == "":
		return fmt.Errorf("%w: there is no other voter", rpc.ErrRefused)
	case !known:
		return &catalog.Refusal{Class: catalog.ErrNoNode, What: string(to)}
	}
	return fmt.Errorf("%w: node %s has no vote, or does not take the leadership", rpc.ErrRefused, to)
}

// RaftSnapshot implements rpc.Service.
func (n *Node) RaftSnapshot(ctx context.Context) (uint64, error) {
	g, err := n.control.member()
	if err != nil {
		return 0, err
	}
	if err := g.SnapshotNow(ctx); err != nil {
		return 0, fmt.Errorf("journalnode: raft snapshot: %w", err)
	}
	return g.Stats().SnapshotIndex, nil
}
