package journalnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/raftgroup"
)

const (
	// leaderRetry is how soon the leader tries again what it could not do.
	leaderRetry = time.Second
	// leaderSoon is how soon it looks again after it did something.
	leaderSoon = 50 * time.Millisecond
	// leaderRound is how often it looks although nothing was applied.
	leaderRound = time.Minute
	// dutyTimeout bounds one duty.
	dutyTimeout = 5 * time.Second
	// catchUpTimeout bounds how long one round waits for a newcomer; the next one goes on.
	catchUpTimeout = 2 * time.Second
	// installTimeout bounds how long the installing of a config waits for all that should have it.
	installTimeout = 3 * time.Second
	// dropAttempts bounds how often a delete is decided anew because the journal changed meanwhile.
	dropAttempts = 5
)

// leaderLoop is the shell around dutiesOf: it looks, does, and looks again, as long as this node leads.
func (n *Node) leaderLoop(ctx context.Context, g *raftgroup.Group) {
	news, leave := n.control.watchers.add()
	defer leave()
	drivers := n.newDrivers(ctx, g)
	defer drivers.work.Wait()
	var looked time.Time // at all journals
	for {
		wait, pause := leaderRound, leaderSoon // of many commands, one round; and no new one at once that fails
		did, err := n.leadOnce(ctx, g)
		if did > 0 {
			wait = leaderSoon // what is done may make room for the next thing
		}
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, rpc.ErrNoLeader) {
				n.log.Warn("the leader's work is not complete and will be tried again", "err", err)
			}
			wait, pause = leaderRetry, leaderRetry
		} else {
			drivers.start()
			if looked.IsZero() || time.Since(looked) >= leaderRound {
				looked = time.Now()
				drivers.lookAtAll()
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-news:
			timer.Reset(pause)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// leadOnce begins with a Barrier (M9): its copy of the catalog is the newest one then. It returns how many
// duties there were.
func (n *Node) leadOnce(ctx context.Context, g *raftgroup.Group) (int, error) {
	barrier, cancel := context.WithTimeout(ctx, dutyTimeout)
	defer cancel()
	if _, err := n.barrier(barrier, g); err != nil {
		return 0, err
	}
	k := known{servers: g.Members().Members}
	n.readCatalog(func(c *catalog.Catalog) {
		k.cluster, k.nodes, k.journals = rpc.ClusterID(c.Cluster()), c.Nodes(), c.Journals()
	})
	n.control.mu.Lock()
	k.removing = map[raftgroup.ServerID]bool{}
	for id := range n.control.removed {
		k.removing[id] = true
	}
	n.control.mu.Unlock()
	for _, id := range n.givenUpServers() {
		k.removing[id] = true
	}
	var errs []error
	duties := dutiesOf(k)
	for _, t := range duties {
		if ctx.Err() != nil {
			break
		}
		errs = append(errs, n.doDuty(ctx, g, t))
	}
	return len(duties), errors.Join(errs...)
}

func (n *Node) doDuty(ctx context.Context, g *raftgroup.Group, t duty) error {
	ctx, cancel := context.WithTimeout(ctx, dutyTimeout)
	defer cancel()
	id := serverID(t.node.ID, t.node.Incarnation)
	switch t.kind {
	case foundCatalog:
		return n.foundCatalog(ctx, g)
	case addServer:
		n.log.Info("a node comes into the catalog's group", "server", string(id))
		return fromGroup(g.AddNonvoter(ctx, id, 0))
	case promoteServer:
		return n.promote(ctx, g, id)
	case dropVote:
		n.log.Warn("a storage that was replaced votes no more in the catalog's group", "server", string(id))
		return fromGroup(g.Remove(ctx, id, 0))
	case recordVoter, recordNoVoter:
		return n.applyAsLeader(ctx, g, &catalog.SetVoter{ID: t.node.ID, Incarnation: t.node.Incarnation, Voter: t.kind == recordVoter})
	case finishDelete:
		return n.finishDrop(ctx, t.journal)
	case forgetFormer:
		return n.forgetFormer(ctx, g, t)
	case readmitMember:
		return n.readmitMember(ctx, g, t)
	case removeLost:
		return n.removeHere(ctx, g, rpc.RemoveRequest{Node: t.node.ID, Incarnation: t.node.Incarnation})
	}
	return nil
}

// applyAsLeader applies a command that this node decided on as the leader, and only as that: what it saw may
// be old for another one.
func (n *Node) applyAsLeader(ctx context.Context, g *raftgroup.Group, cmd catalog.Command) error {
	b, err := catalog.EncodeCommand(cmd)
	if err != nil {
		return err
	}
	_, err = applyHere(ctx, g, b)
	return err
}

// readmitMember begins the change of one journal. Another one that was begun meanwhile comes first.
func (n *Node) readmitMember(ctx context.Context, g *raftgroup.Group, t duty) error {
	j, ok := n.journalOf(t.journal)
	if !ok || j.Change != nil {
		return nil
	}
	n.log.Warn("a wiped member is replaced, as the journal's policy says", "journal", j.Name, "node", t.node.ID)
	return n.applyAsLeader(ctx, g, &catalog.BeginChange{Target: catalog.Target{Journal: j.ID, ExpectVersion: j.Config.Version}, To: t.to})
}

// foundCatalog proposes the first command. Another leader may have: then it is answered again.
func (n *Node) foundCatalog(ctx context.Context, g *raftgroup.Group) error {
	id := n.identity()
	init := &catalog.Init{Cluster: catalog.ClusterID(id.Cluster)}
	for _, m := range n.withAddrs(id.Founders) {
		init.Nodes = append(init.Nodes, catalog.Node{ID: m.ID, Incarnation: m.Incarnation, Addr: m.Addr, Level: catalog.LevelFirst})
	}
	return n.applyAsLeader(ctx, g, init)
}

// promote gives a server that has caught up its vote.
func (n *Node) promote(ctx context.Context, g *raftgroup.Group, id raftgroup.ServerID) error {
	wait, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	if err := g.CatchUp(wait, id); err != nil {
		return fmt.Errorf("journalnode: it has no vote yet: %w", err)
	}
	if err := g.AddVoter(ctx, id, 0); err != nil {
		return fromGroup(err)
	}
	n.log.Info("a node votes in the catalog's group", "server", string(id))
	return nil
}

// asNode is this node as it wants to be registered.
func (n *Node) asNode(labels map[string]string) catalog.Node {
	id := n.identity()
	if n.opts.Labels != nil {
		labels = n.opts.Labels
	}
	return catalog.Node{
		ID: id.ID, Incarnation: id.Incarnation, Addr: n.advertised(), HTTPAddr: n.HTTPAddr(), Labels: labels,
		Version: n.opts.Version, Level: catalog.LevelMax,
	}
}

// advertised is where others reach this node.
func (n *Node) advertised() string {
	if a, ok := n.toldOwn(); ok {
		return a
	}
	if a := n.flagged(n.opts.ID); a != "" {
		return a
	}
	return n.Addr()
}

// forgetFormer: a former member of a deleted journal that has its tombstone knows all it has to.
func (n *Node) forgetFormer(ctx context.Context, g *raftgroup.Group, t duty) error {
	var j catalog.Journal
	n.readCatalog(func(c *catalog.Catalog) { j, _ = c.Journal(t.journal) })
	if !j.Reclaimed {
		return nil
	}
	if err := n.installOn(ctx, t.node, summaryOf(j)); err != nil {
		return fmt.Errorf("journalnode: tombstone of %s on %s: %w", j.Name, t.node.ID, err)
	}
	for _, f := range j.Former {
		if f.Member.Same(t.node) {
			return n.applyAsLeader(ctx, g, &catalog.Forget{ID: t.node.ID, Incarnation: t.node.Incarnation, Journal: j.ID, Version: f.Version})
		}
	}
	return nil
}

// installOn passes a config of the applied catalog on to a node: to that very storage, which is asked first,
// because another one at the address would take it, too.
func (n *Node) installOn(ctx context.Context, m quorum.Member, s rpc.JournalSummary) error {
	id := n.identity()
	if m.ID == id.ID {
		if m.Incarnation != id.Incarnation {
			return &rpc.WrongNodeError{Node: m.ID, Got: m.Incarnation, Want: id.Incarnation}
		}
		return n.InstallConfig(ctx, s)
	}
	peer, err := n.peers.node(m.ID)
	if err != nil {
		return err
	}
	info, err := peer.Info(ctx)
	if err != nil {
		return err
	}
	if info.ID != m.ID || info.Incarnation != m.Incarnation {
		return &rpc.WrongNodeError{Node: info.ID, Got: m.Incarnation, Want: info.Incarnation}
	}
	return peer.InstallConfig(ctx, s)
}

// summaryOf is a journal of the catalog as InstallConfig wants it.
func summaryOf(j catalog.Journal) rpc.JournalSummary {
	return rpc.JournalSummary{ID: j.ID, Name: j.Name, Config: j.Config}
}
