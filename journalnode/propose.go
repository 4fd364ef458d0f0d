package journalnode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/raftgroup"
)

// leaderPoll is how often a request looks whether there is a leader by now.
const leaderPoll = 20 * time.Millisecond

// propose applies a command to the catalog, on the leader, wherever that is, and returns when this node's
// copy has it, too. It waits for a leader for Options.LeaderWait.
//
// Errors: the catalog's typed refusals, which changed nothing; those that mean the same as one of package
// rpc are both. rpc.ErrNoLeader and rpc.ErrCatalogDown: nothing happened. rpc.ErrUnavailable: it may have,
// or may yet.
func (n *Node) propose(ctx context.Context, cmd catalog.Command) (catalog.Result, error) {
	res, err := n.decide(ctx, cmd)
	if err != nil {
		return catalog.Result{}, err
	}
	return res, n.awaitApplied(ctx, res.Index)
}

// decide is propose for those who need not see it in this node's copy.
func (n *Node) decide(ctx context.Context, cmd catalog.Command) (catalog.Result, error) {
	b, err := catalog.EncodeCommand(cmd)
	if err != nil {
		return catalog.Result{}, alsoRPC(err)
	}
	res, err := onLeader(ctx, n, func(err error) bool { return errors.Is(err, rpc.ErrNoLeader) }, func(g *raftgroup.Group) (catalog.Result, error) {
		return applyHere(ctx, g, b)
	}, func(peer rpc.Node) (catalog.Result, error) {
		r, err := peer.ForwardCommand(ctx, b)
		return forwarded(cmd, r), err
	})
	if err != nil {
		return catalog.Result{}, alsoRPC(err)
	}
	return res, nil
}

// onLeader does something here, if this node leads, or has the leader do it. What again says yes to is
// tried again as long as LeaderWait lasts.
func onLeader[T any](ctx context.Context, n *Node, again func(error) bool, here func(*raftgroup.Group) (T, error), there func(rpc.Node) (T, error)) (T, error) {
	over := time.NewTimer(n.patience(ctx))
	defer over.Stop()
	for {
		var res T
		g, peer, err := n.leader()
		switch {
		case err != nil:
		case g != nil:
			res, err = here(g)
		default:
			res, err = there(peer)
		}
		if err == nil || !again(err) {
			return res, err
		}
		var none T
		select {
		case <-time.After(leaderPoll):
		case <-over.C:
			return none, err
		case <-ctx.Done():
			return none, err
		case <-n.stopping:
			return none, rpc.ErrClosed
		}
	}
}

// patience is LeaderWait, or less where the caller would not be there any more to hear why nothing was done.
func (n *Node) patience(ctx context.Context) time.Duration {
	d := n.opts.LeaderWait
	if end, ok := ctx.Deadline(); ok {
		d = min(d, time.Until(end)*4/5)
	}
	return d
}

// leader returns the group, if this node leads it, or else the node that does.
func (n *Node) leader() (*raftgroup.Group, rpc.Node, error) {
	if err := n.isRemoved(); err != nil {
		return nil, nil, err
	}
	g, err := n.control.member()
	switch {
	case errors.Is(err, rpc.ErrNotFounded):
		if err := n.admitted(); err != nil {
			return nil, nil, err
		}
		return nil, nil, fmt.Errorf("%w: it is being started", rpc.ErrNoLeader)
	case err != nil:
		return nil, nil, err
	case g.IsLeader():
		return g, nil, nil
	}
	leader, _ := g.Leader()
	if leader == "" || leader == n.identity().serverID() {
		return nil, nil, rpc.ErrNoLeader
	}
	m, err := memberOf(leader)
	if err != nil {
		return nil, nil, err
	}
	peer, err := n.peers.node(m.ID)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", rpc.ErrNoLeader, err) // it was not even asked
	}
	return nil, peer, nil
}

// applyHere applies a command on this node, if it leads.
func applyHere(ctx context.Context, g *raftgroup.Group, command []byte) (catalog.Result, error) {
	res, err := g.Apply(ctx, command)
	if err != nil {
		return catalog.Result{}, fromGroup(err)
	}
	out, ok := res.(*outcome)
	if !ok {
		return catalog.Result{}, fmt.Errorf("journalnode: the group returned %T", res)
	}
	return out.res, out.err
}

// fromGroup says in rpc's words whether it may have happened (G10). Not led here means: ask again.
func fromGroup(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raftgroup.ErrMayHaveHappened):
		return fmt.Errorf("%w: %w", rpc.ErrUnavailable, err)
	case errors.Is(err, raftgroup.ErrNotLeader), errors.Is(err, raftgroup.ErrTransferring), errors.Is(err, raftgroup.ErrStalled),
		errors.Is(err, raftgroup.ErrBusy), errors.Is(err, raftgroup.ErrClosed):
		return fmt.Errorf("%w: %w", rpc.ErrNoLeader, err)
	case errors.Is(err, raftgroup.ErrTooLarge):
		return fmt.Errorf("%w: %w", rpc.ErrTooLarge, err)
	case errors.Is(err, raftgroup.ErrInvalid), errors.Is(err, raftgroup.ErrNoMember), errors.Is(err, raftgroup.ErrLastVoter):
		return fmt.Errorf("%w: %w", rpc.ErrBadRequest, err)
	}
	return err
}

// alsoRPC gives a refusal of the catalog the class that the nodes have for it, besides its own: over the
// wire only that one is left.
func alsoRPC(err error) error {
	for from, to := range map[error]error{
		catalog.ErrNoJournal: rpc.ErrNoJournal, catalog.ErrJournalExists: rpc.ErrJournalExists,
		catalog.ErrDeleted: rpc.ErrJournalDeleted, catalog.ErrNotFounded: rpc.ErrNotFounded,
	} {
		if errors.Is(err, from) && !errors.Is(err, to) {
			return fmt.Errorf("%w: %w", to, err)
		}
	}
	return err
}

// forwarded is what the leader's answer means for the command.
func forwarded(cmd catalog.Command, r rpc.CommandResult) catalog.Result {
	res := catalog.Result{Index: r.Index, Again: r.Again, Version: r.Version, Change: r.Change, Revision: r.Revision}
	if k, ok := cmd.(*catalog.KeepAlive); ok {
		for i, err := range r.Kept[:min(len(r.Kept), len(k.Leases))] {
			res.Kept = append(res.Kept, catalog.Kept{LeaseRef: k.Leases[i], Err: err})
		}
	}
	return res
}

// ForwardCommand implements rpc.Service.
func (n *Node) ForwardCommand(ctx context.Context, command []byte) (rpc.CommandResult, error) {
	g, err := n.control.member()
	if err != nil {
		return rpc.CommandResult{}, err
	}
	res, err := applyHere(ctx, g, command)
	if err != nil {
		return rpc.CommandResult{}, err
	}
	out := rpc.CommandResult{Index: res.Index, Again: res.Again, Version: res.Version, Change: res.Change, Revision: res.Revision}
	for _, k := range res.Kept {
		out.Kept = append(out.Kept, k.Err)
	}
	return out, nil
}

// ReadIndex implements rpc.Service. It rests on a Barrier, an entry of the log: a deposed leader that does
// not know it yet cannot get one committed (G3).
func (n *Node) ReadIndex(ctx context.Context) (uint64, error) {
	g, err := n.control.member()
	if err != nil {
		return 0, err
	}
	index, err := n.barrier(ctx, g)
	if err == nil && index == 0 { // it is about to propose the first command
		err = rpc.ErrNoLeader
	}
	return index, err
}

func (n *Node) barrier(ctx context.Context, g *raftgroup.Group) (uint64, error) {
	if err := g.Barrier(ctx); err != nil {
		if errors.Is(err, raftgroup.ErrMayHaveHappened) { // a read has no outcome to be in doubt
			return 0, fmt.Errorf("%w: %w", rpc.ErrNoLeader, err)
		}
		return 0, fromGroup(err)
	}
	index, _ := n.control.machine.applied()
	return index, nil
}

// linearizable returns when this node's copy of the catalog has all that was answered before the call.
func (n *Node) linearizable(ctx context.Context) error {
	again := func(err error) bool { return errors.Is(err, rpc.ErrNoLeader) || errors.Is(err, rpc.ErrUnavailable) }
	index, err := onLeader(ctx, n, again, func(g *raftgroup.Group) (uint64, error) {
		index, err := n.barrier(ctx, g)
		if err == nil && index == 0 { // it is about to propose the first command
			err = rpc.ErrNoLeader
		}
		return index, err
	}, func(peer rpc.Node) (uint64, error) { return peer.ReadIndex(ctx) })
	if err != nil {
		return err
	}
	return n.awaitApplied(ctx, index)
}

// awaitApplied waits until this node's copy has an index.
func (n *Node) awaitApplied(ctx context.Context, index uint64) error {
	over := time.NewTimer(n.patience(ctx))
	defer over.Stop()
	return n.awaitIndex(ctx, index, over.C)
}

func (n *Node) awaitIndex(ctx context.Context, index uint64, over <-chan time.Time) error {
	for {
		stands := n.copyStands()
		at, advance := n.control.machine.applied()
		var again <-chan time.Time
		switch {
		case at >= index && stands:
			return nil
		case !stands: // what ends that may be no command
			again = time.After(leaderPoll)
		}
		select {
		case <-advance:
		case <-again:
		case <-over:
			return fmt.Errorf("%w: this node's copy of the catalog is behind (got %d, want %d)", rpc.ErrUnavailable, at, index)
		case <-ctx.Done():
			return fmt.Errorf("%w: this node's copy of the catalog is behind (got %d, want %d): %w", rpc.ErrUnavailable, at, index, context.Cause(ctx))
		case <-n.stopping:
			return rpc.ErrClosed
		}
	}
}

// Catalog implements rpc.Service. The view says what it rests on.
func (n *Node) Catalog(ctx context.Context, strength rpc.ReadStrength) (rpc.CatalogView, error) {
	if err := n.isRemoved(); err != nil {
		return rpc.CatalogView{}, err
	}
	switch strength {
	case rpc.Linearizable:
		if err := n.linearizable(ctx); err != nil {
			return rpc.CatalogView{}, err
		}
	case rpc.LeaseRead:
		return n.leaseView(ctx)
	}
	return n.view(strength), nil
}

// leaseView is the leader's copy, as long as nobody else can lead: after a Barrier within its lease (G11), or
// behind a new one.
func (n *Node) leaseView(ctx context.Context) (rpc.CatalogView, error) {
	again := func(err error) bool { return errors.Is(err, rpc.ErrNoLeader) }
	return onLeader(ctx, n, again, func(g *raftgroup.Group) (rpc.CatalogView, error) {
		if v := n.view(rpc.LeaseRead); v.Index > 0 && g.Leased() { // asked after it was copied
			return v, nil
		}
		index, err := n.barrier(ctx, g)
		if err == nil && index == 0 { // it is about to propose the first command
			err = rpc.ErrNoLeader
		}
		if err != nil {
			return rpc.CatalogView{}, err
		}
		return n.view(rpc.LeaseRead), nil
	}, func(peer rpc.Node) (rpc.CatalogView, error) { return leaseViewOf(ctx, peer) })
}

// leaseViewOf has the leader answer. Two nodes that take each other for the leader must not send the request to
// and fro, so the other one is asked first whether it leads.
func leaseViewOf(ctx context.Context, peer rpc.Node) (rpc.CatalogView, error) {
	g, err := peer.SurveyGroup(ctx)
	switch {
	case err != nil:
		return rpc.CatalogView{}, fmt.Errorf("%w: %w", rpc.ErrNoLeader, err) // it is a read: nothing has happened
	case g.Leader != g.Node.ID:
		return rpc.CatalogView{}, fmt.Errorf("%w: node %s does not lead any more", rpc.ErrNoLeader, g.Node.ID)
	}
	return peer.Catalog(ctx, rpc.LeaseRead)
}

// view copies this node's copy of the catalog.
func (n *Node) view(strength rpc.ReadStrength) rpc.CatalogView {
	v := rpc.CatalogView{Strength: strength, AnsweredBy: n.opts.ID}
	if g, err := n.control.member(); err == nil {
		leader, _ := g.Leader()
		if m, err := memberOf(leader); err == nil {
			v.Leader = m.ID
		}
	}
	n.readCatalog(func(c *catalog.Catalog) {
		v.Index, v.Cluster = c.Index(), rpc.ClusterID(c.Cluster())
		for _, x := range c.Nodes() {
			v.Nodes = append(v.Nodes, viewNode(x))
		}
		for _, j := range c.Journals() {
			if !j.Reclaimed {
				v.Journals = append(v.Journals, viewJournal(j))
			}
		}
	})
	slices.SortFunc(v.Journals, func(a, b rpc.CatalogJournal) int { return cmp.Compare(a.Name, b.Name) })
	return v
}

func viewNode(x catalog.Node) rpc.CatalogNode {
	return rpc.CatalogNode{
		ID: x.ID, Incarnation: x.Incarnation, Addr: x.Addr, HTTPAddr: x.HTTPAddr, Labels: x.Labels, Version: x.Version,
		Level: x.Level, Voter: x.Voter, Leaving: x.Leaving,
	}
}

func viewJournal(j catalog.Journal) rpc.CatalogJournal {
	out := rpc.CatalogJournal{
		ID: j.ID, Name: j.Name, Config: j.Config, InForce: j.InForce, Policy: rpc.JournalPolicy(j.Policy), Quota: j.Quota, Deleted: j.Deleted,
	}
	if j.Change != nil {
		out.Stage = j.Change.Stage.String()
		ch := viewChange(j.Change)
		out.Change = &ch
	}
	for _, e := range j.History {
		out.History = append(out.History, rpc.MembershipEvent{Index: e.Index, Kind: e.Kind.String(), Version: e.Version, Note: e.Note})
	}
	return out
}
