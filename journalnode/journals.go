package journalnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// journalNamed reads this node's copy of the catalog.
func (n *Node) journalNamed(name string) (j catalog.Journal, ok bool) {
	n.readCatalog(func(c *catalog.Catalog) { j, ok = c.JournalByName(name) })
	return j, ok
}

// PlaceJournal implements rpc.Service: placed, entered in the catalog, then installed on the members. An
// attempt that was cut off is finished by the same id again, or by the members themselves (installOwn).
func (n *Node) PlaceJournal(ctx context.Context, req rpc.PlaceRequest) (quorum.Config, error) {
	if err := n.linearizable(ctx); err != nil {
		return quorum.Config{}, err
	}
	j, taken := n.journalNamed(req.Name)
	switch {
	case taken && j.Deleted:
		return quorum.Config{}, fmt.Errorf("%w: %s", rpc.ErrJournalDeleting, req.Name)
	case taken && j.ID != req.ID:
		return quorum.Config{}, fmt.Errorf("%w: %s", rpc.ErrJournalExists, req.Name)
	case !taken:
		cmd, err := n.placed(ctx, req)
		if err != nil || req.DryRun {
			return quorum.NewConfig(1, cmd.Members...), err
		}
		if _, err := n.propose(ctx, cmd); errors.Is(err, catalog.ErrNameTaken) {
			return quorum.Config{}, fmt.Errorf("%w: %w", rpc.ErrJournalExists, err)
		} else if err != nil {
			return quorum.Config{}, err
		}
		n.readCatalog(func(c *catalog.Catalog) { j, taken = c.Journal(req.ID) })
		if !taken || j.Deleted {
			return quorum.Config{}, fmt.Errorf("%w: %s", rpc.ErrJournalDeleted, req.Name) // by somebody else, already
		}
	}
	has, causes := n.install(ctx, j.Config.Members(), summaryOf(j))
	if !j.Config.Majority(func(m quorum.Member) bool { return slices.ContainsFunc(has, m.Same) }) {
		return j.Config, &recovery.NoQuorumError{Step: "installing the journal on its members", Causes: causes}
	}
	return j.Config, nil
}

// placed decides who the members are.
func (n *Node) placed(ctx context.Context, req rpc.PlaceRequest) (*catalog.CreateJournal, error) {
	cmd := &catalog.CreateJournal{ID: req.ID, Name: req.Name, Policy: catalog.Policy(req.Policy), Quota: req.Quota}
	var nodes []catalog.Node
	var journals []catalog.Journal
	n.readCatalog(func(c *catalog.Catalog) { nodes, journals = c.Nodes(), c.Journals() })
	replicas := req.Replicas
	if replicas == 0 {
		replicas = min(staying(nodes), rpc.DefaultReplicasMax)
	}
	silent := map[quorum.Key]bool{}
	if staying(nodes) > replicas { // else it is all of them, whoever answers
		silent = n.silentAmong(ctx, nodes)
	}
	var err error
	cmd.Members, err = catalog.Place(nodes, journals, replicas, req.Spread, func(x catalog.Node) bool { return !silent[x.Member().Key()] })
	for _, m := range cmd.Members {
		if silent[m.Key()] {
			n.log.Warn("a journal is placed on a node that does not answer, for want of others", "journal", req.Name, "node", m.ID)
		}
	}
	return cmd, err
}

// placeTimeout bounds how long a node may take to answer that is to get a journal.
const placeTimeout = time.Second

// silentAmong asks the nodes who they are, and returns those that do not say that they are the storage which
// the catalog knows, or have no room.
func (n *Node) silentAmong(ctx context.Context, nodes []catalog.Node) map[quorum.Key]bool {
	ctx, cancel := context.WithTimeout(ctx, placeTimeout)
	defer cancel()
	silent := map[quorum.Key]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, x := range nodes {
		if x.Leaving {
			continue
		}
		wg.Go(func() {
			if err := n.present(ctx, x.Member()); err != nil {
				mu.Lock()
				silent[x.Member().Key()] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return silent
}

func staying(nodes []catalog.Node) int {
	return len(slices.DeleteFunc(slices.Clone(nodes), func(x catalog.Node) bool { return x.Leaving }))
}

// install passes a config of the applied catalog on to nodes, all at once, and returns who has it and why
// the others have not.
func (n *Node) install(ctx context.Context, on []quorum.Member, s rpc.JournalSummary) (has []quorum.Member, causes []recovery.NodeCause) {
	ctx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	errs := make([]error, len(on))
	var wg sync.WaitGroup
	for i, m := range on {
		wg.Go(func() { errs[i] = n.installOn(ctx, m, s) })
	}
	wg.Wait()
	for i, m := range on {
		if errs[i] == nil {
			has = append(has, m)
		} else {
			causes = append(causes, recovery.NodeCause{Node: m.ID, Err: errs[i]})
		}
	}
	return has, causes
}

// DropJournal implements rpc.Service: a change to the empty config, which is in force before the name is
// free (M8). Once it is in the catalog it is decided: what is cut off is finished by the leader's loop.
func (n *Node) DropJournal(ctx context.Context, req rpc.DropRequest) (segments.JournalID, error) {
	id := req.ID
	for attempt := 0; ; attempt++ {
		if err := n.linearizable(ctx); err != nil {
			return id, err
		}
		j, ok := n.dropped(req.Name, id)
		switch {
		case !ok && attempt > 0:
			return id, nil // deleted at an attempt whose answer was lost; the name may be another's by now
		case !ok:
			return id, fmt.Errorf("%w: %s", rpc.ErrNoJournal, req.Name)
		case j.Deleted:
			return j.ID, n.finishDrop(ctx, j.ID)
		}
		id = j.ID
		_, err := n.propose(ctx, &catalog.DeleteJournal{Target: catalog.Target{Journal: id, ExpectVersion: j.Config.Version}})
		again := errors.Is(err, catalog.ErrConflict) || errors.Is(err, rpc.ErrUnavailable)
		if err != nil && (!again || attempt == dropAttempts || ctx.Err() != nil) {
			return id, err
		}
	}
}

// dropped finds the journal that is to be deleted: the one of the id, once there is one.
func (n *Node) dropped(name string, id segments.JournalID) (catalog.Journal, bool) {
	if id.IsZero() {
		return n.journalNamed(name)
	}
	j, ok := n.journalOf(id)
	return j, ok && j.Name == name
}

// finishDrop pushes the empty config; when a majority of the members has it, the name is free.
func (n *Node) finishDrop(ctx context.Context, id segments.JournalID) error {
	var j catalog.Journal
	n.readCatalog(func(c *catalog.Catalog) { j, _ = c.Journal(id) })
	if !j.Deleted || j.Reclaimed {
		return nil
	}
	has, causes := n.install(ctx, deletedMembers(j), summaryOf(j))
	if !deleteInForce(j, has) {
		return &recovery.NoQuorumError{Step: "deleting the journal (it is decided, and will be finished)", Causes: causes}
	}
	_, err := n.propose(ctx, &catalog.Reclaim{ID: id, Version: j.Config.Version})
	if errors.Is(err, rpc.ErrNoJournal) {
		return nil // somebody else was faster, and nobody has to remember it any more
	}
	return err
}

// ConfigureJournal implements rpc.Service.
func (n *Node) ConfigureJournal(ctx context.Context, req rpc.ConfigureRequest) error {
	if err := n.linearizable(ctx); err != nil {
		return err
	}
	j, ok := n.journalNamed(req.Name)
	if !ok {
		return fmt.Errorf("%w: %s", rpc.ErrNoJournal, req.Name)
	}
	target := catalog.Target{Journal: j.ID, ExpectVersion: j.Config.Version}
	if req.Policy != nil {
		if _, err := n.propose(ctx, &catalog.SetPolicy{Target: target, Policy: catalog.Policy(*req.Policy)}); err != nil {
			return err
		}
	}
	if req.Quota != nil {
		if _, err := n.propose(ctx, &catalog.SetQuota{Target: target, Quota: *req.Quota}); err != nil {
			return err
		}
	}
	return nil
}

// FindJournal implements rpc.Service: by what is installed here, else by this node's copy of the catalog.
// Both may be behind; the journal's own nodes then say that it is deleted, or under which config it goes on.
func (n *Node) FindJournal(_ context.Context, name string) (rpc.JournalSummary, error) {
	if err := n.admitted(); err != nil {
		return rpc.JournalSummary{}, err
	}
	listed, ok := n.journalNamed(name)
	if ok && (listed.Deleted || n.buried(listed.ID)) {
		ok = false
	}
	for _, o := range n.allOwners() {
		s := o.j.Summary()
		if s.Name != name || s.Deleted || n.deletedInCatalog(s.ID) {
			continue
		}
		if !ok || s.ID == listed.ID {
			return s, nil
		}
	}
	if !ok {
		return rpc.JournalSummary{}, fmt.Errorf("%w: %s", rpc.ErrNoJournal, name)
	}
	return summaryOf(listed), nil
}

// buried: this node has the tombstone, whatever its copy of the catalog says.
func (n *Node) buried(id segments.JournalID) bool {
	o, err := n.owner(id)
	return err == nil && o.j.Summary().Deleted
}

// deletedInCatalog: this node's copy of the catalog says so, whatever the node has installed.
func (n *Node) deletedInCatalog(id segments.JournalID) (deleted bool) {
	n.readCatalog(func(c *catalog.Catalog) {
		j, ok := c.Journal(id)
		deleted = ok && j.Deleted
	})
	return deleted
}

// installOwn makes this node's journals as its own copy of the catalog has them (M0): it may have been away
// when one was created, changed or deleted. Where it has a newer config than the catalog it keeps that. Of a journal
// that goes on without it, it takes the config, too: nobody else may come to tell it for a while, and with the old
// one it would count as a member (M1).
func (n *Node) installOwn() {
	if !n.awaitCopy() {
		return
	}
	id := n.identity()
	self := quorum.Member{ID: id.ID, Incarnation: id.Incarnation}
	var due []rpc.JournalSummary
	var index uint64
	n.readCatalog(func(c *catalog.Catalog) {
		index = c.Index()
		for _, j := range c.Changed(n.installed) {
			former := slices.ContainsFunc(j.Former, func(f catalog.Former) bool { return f.Member.Same(self) })
			if j.Config.Has(self.ID, self.Incarnation) || former {
				due = append(due, summaryOf(j))
			}
		}
	})
	for _, s := range due {
		o, err := n.owner(s.ID)
		missing := errors.Is(err, rpc.ErrNoJournal)
		left := !s.Config.IsEmpty() && !s.Config.Has(self.ID, self.Incarnation)
		if err == nil && o.j.Summary().Config.Version >= s.Config.Version || err != nil && !missing || missing && left {
			continue
		}
		ctx, cancel := n.context(n.opts.PeerTimeout)
		err = n.InstallConfig(ctx, s)
		cancel()
		if left && errors.Is(err, rpc.ErrUnknownNode) {
			continue // it counts nowhere as it is (N2), and nothing will change that
		}
		if err != nil {
			n.log.Warn("cannot install a config of the catalog; tried again soon", "journal", s.Name, "version", s.Config.Version, "err", err)
			n.after(n.opts.RepairEvery, n.control.watchers.changed)
			index = n.installed // all of it once more
		}
	}
	n.installed = index
}
