package journalnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/segments"
)

// What a client asks about the members of a journal. It is checked, and entered in the catalog; the leader's
// driver carries it on from there, whoever leads, and whether the client is still there or not.

// ChangeMembers implements rpc.Service.
func (n *Node) ChangeMembers(ctx context.Context, req rpc.ChangeRequest) (rpc.ChangeReply, error) {
	if err := n.linearizable(ctx); err != nil {
		return rpc.ChangeReply{}, err
	}
	j, ok := n.journalNamed(req.Name)
	switch {
	case !ok:
		return rpc.ChangeReply{}, fmt.Errorf("%w: %s", rpc.ErrNoJournal, req.Name)
	case j.Deleted:
		return rpc.ChangeReply{}, fmt.Errorf("%w: %s", rpc.ErrJournalDeleted, req.Name)
	}
	to, err := n.resolve(req.To, j)
	if err != nil {
		return rpc.ChangeReply{}, err
	}
	if ch := j.Change; ch != nil && sameMembers(ch.New, to) {
		return rpc.ChangeReply{Journal: j.ID, Change: viewChange(ch), Version: j.Config.Version, Again: true}, nil
	}
	if err := n.validate(ctx, j, to, req.Expect); err != nil || req.DryRun {
		return rpc.ChangeReply{Journal: j.ID, Change: rpc.MembershipChange{Old: j.Config.Members(), New: to}, Version: j.Config.Version}, err
	}
	_, err = n.propose(ctx, &catalog.BeginChange{Target: catalog.Target{Journal: j.ID, ExpectVersion: j.Config.Version}, To: to})
	if err != nil {
		return rpc.ChangeReply{}, err
	}
	if j, ok = n.journalOf(j.ID); !ok || j.Change == nil || !sameMembers(j.Change.New, to) {
		return rpc.ChangeReply{}, fmt.Errorf("%w: the change of %q is over already", rpc.ErrUnavailable, req.Name)
	}
	n.log.Info("membership change begins", "journal", req.Name, "change", j.Change.StartedIndex, "to", names(to))
	return rpc.ChangeReply{Journal: j.ID, Change: viewChange(j.Change), Version: j.Config.Version}, nil
}

func (n *Node) journalOf(id segments.JournalID) (j catalog.Journal, ok bool) {
	n.readCatalog(func(c *catalog.Catalog) { j, ok = c.Journal(id) })
	return j, ok
}

// resolve finds the storages that are meant. A node without one is the storage that is not leaving.
func (n *Node) resolve(keys []quorum.Key, j catalog.Journal) ([]quorum.Member, error) {
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: no new members are given", rpc.ErrBadRequest)
	}
	var to []quorum.Member
	var missing error
	n.readCatalog(func(c *catalog.Catalog) {
		for _, k := range keys {
			x, ok := c.Node(k.ID)
			if !k.Incarnation.IsZero() {
				x, ok = c.Incarnation(k.ID, k.Incarnation)
			}
			if !ok && missing == nil {
				missing = &catalog.Refusal{Class: catalog.ErrNoNode, What: string(k.ID)}
			}
			if slices.ContainsFunc(to, func(m quorum.Member) bool { return m.ID == x.ID }) && missing == nil {
				missing = fmt.Errorf("%w: node %s is given twice", rpc.ErrBadRequest, k.ID)
			}
			to = append(to, x.Member())
		}
	})
	slices.SortFunc(to, func(a, b quorum.Member) int { return a.Key().Compare(b.Key()) })
	return to, missing
}

// validate is what can be said before a change is begun (M6): the rest, and this again, is seen to by the
// leader while the new members learn, and any of it can be given up.
func (n *Node) validate(ctx context.Context, j catalog.Journal, to []quorum.Member, expect uint64) error {
	switch {
	case expect != 0 && expect != j.Config.Version:
		return &catalog.ConflictError{Journal: j.ID, Of: "config version", Got: expect, Want: j.Config.Version}
	case j.Change != nil:
		return &catalog.ChangeUnderWayError{Journal: j.ID, Name: j.Name, Stage: j.Change.Stage, Change: j.Change.StartedIndex, To: j.Change.New}
	case sameMembers(j.Config.Members(), to):
		return &catalog.Refusal{Class: catalog.ErrSameMembers, What: "journal " + j.Name}
	}
	fresh := slices.DeleteFunc(slices.Clone(to), func(m quorum.Member) bool { return j.Config.Has(m.ID, m.Incarnation) })
	ctx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	errs := make([]error, len(fresh))
	var wg sync.WaitGroup
	for i, m := range fresh {
		wg.Go(func() { errs[i] = n.present(ctx, m) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// present: the storage is there, and part of this cluster.
func (n *Node) present(ctx context.Context, m quorum.Member) error {
	info, err := n.infoOf(ctx, m.ID)
	switch {
	case err != nil:
		return fmt.Errorf("%w: new member %s: %w", rpc.ErrUnavailable, m.ID, err)
	case info.ID != m.ID || info.Incarnation != m.Incarnation:
		return &rpc.WrongNodeError{Node: m.ID, Got: m.Incarnation, Want: info.Incarnation}
	case info.Phase != rpc.Founded || info.Cluster != n.identity().Cluster:
		return fmt.Errorf("%w: new member %s is no part of this cluster yet", rpc.ErrUnavailable, m.ID)
	case info.Full:
		return fmt.Errorf("%w: new member %s has no room", vfs.ErrNoSpace, m.ID)
	}
	return nil
}

// infoOf asks a node who it is, this one included.
func (n *Node) infoOf(ctx context.Context, id quorum.NodeID) (rpc.NodeInfo, error) {
	if id == n.opts.ID {
		return n.Info(ctx)
	}
	peer, err := n.peers.node(id)
	if err != nil {
		return rpc.NodeInfo{}, err
	}
	return peer.Info(ctx)
}

func sameMembers(a, b []quorum.Member) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(m quorum.Member) bool { return !slices.ContainsFunc(b, m.Same) })
}

func names(ms []quorum.Member) (out []string) {
	for _, m := range ms {
		out = append(out, string(m.ID))
	}
	return out
}

func viewChange(ch *catalog.Change) rpc.MembershipChange {
	return rpc.MembershipChange{ID: ch.StartedIndex, Stage: ch.Stage.String(), Old: ch.Old, New: ch.New, Note: ch.Note}
}

// AbortChange implements rpc.Service. What was given up before is answered again.
func (n *Node) AbortChange(ctx context.Context, req rpc.AbortRequest) (uint64, error) {
	id := req.Change
	for attempt := 0; ; attempt++ {
		if err := n.linearizable(ctx); err != nil {
			return 0, err
		}
		j, ok := n.journalNamed(req.Name)
		switch {
		case !ok:
			return 0, fmt.Errorf("%w: %s", rpc.ErrNoJournal, req.Name)
		case j.Change == nil:
			return 0, &catalog.Refusal{Class: catalog.ErrNoChange, What: "journal " + req.Name}
		}
		if id == 0 { // and the same one at the next attempt, not one that somebody else began meanwhile
			id = j.Change.StartedIndex
		}
		res, err := n.propose(ctx, &catalog.Abort{
			Step:   catalog.Step{Target: catalog.Target{Journal: j.ID, ExpectVersion: j.Config.Version}, Change: id},
			Reason: "asked for",
		})
		// The change may have taken a step meanwhile, which is no reason to go on with it.
		if err == nil || !errors.Is(err, catalog.ErrConflict) || id != j.Change.StartedIndex || attempt == dropAttempts {
			return res.Version, err
		}
	}
}

// retire takes a storage out of the cluster that was to take the place of a lost one, and was lost in its turn:
// changes to it are given up. What has gone over to it already keeps it, and is named.
func (n *Node) retire(ctx context.Context, lost catalog.Node) error {
	var journals []catalog.Journal
	n.readCatalog(func(c *catalog.Catalog) { journals = c.Journals() })
	for _, j := range journals {
		if ch := j.Change; ch == nil || ch.Stage == catalog.StageFinal || !slices.ContainsFunc(ch.Learners(), lost.Member().Same) {
			continue
		}
		if _, err := n.AbortChange(ctx, rpc.AbortRequest{Name: j.Name, Change: j.Change.StartedIndex}); err != nil && !errors.Is(err, catalog.ErrNoChange) {
			return err
		}
	}
	err := n.RemoveNode(ctx, rpc.RemoveRequest{Node: lost.ID, Incarnation: lost.Incarnation})
	if errors.Is(err, catalog.ErrNoNode) {
		return nil // cut off behind it
	}
	return err
}

// Readmit implements rpc.Service. The storage that the node has now is asked who it is; that the old one is
// gone is what it says by being another one at the same address, or its own address's silence.
func (n *Node) Readmit(ctx context.Context, req rpc.ReadmitRequest) (rpc.ReadmitReply, error) {
	if err := n.linearizable(ctx); err != nil {
		return rpc.ReadmitReply{}, err
	}
	var cur catalog.Node
	var ok bool
	var nodes []catalog.Node
	n.readCatalog(func(c *catalog.Catalog) { cur, ok = c.Node(req.Node); nodes = c.Nodes() })
	for _, x := range nodes {
		if !ok && x.ID == req.Node { // the storage that had taken its place was lost, too, and is out already
			cur, ok = x, true
		}
	}
	if !ok {
		return rpc.ReadmitReply{}, &catalog.Refusal{Class: catalog.ErrNoNode, What: string(req.Node)}
	}
	askCtx, cancel := context.WithTimeout(ctx, installTimeout)
	defer cancel()
	info, err := n.infoOf(askCtx, req.Node)
	switch {
	case err != nil:
		return rpc.ReadmitReply{}, fmt.Errorf("%w: node %s must run with its new disk: %w", rpc.ErrUnavailable, req.Node, err)
	case info.ID != req.Node:
		return rpc.ReadmitReply{}, fmt.Errorf("%w: another node answers at %s (got %s, want %s)", rpc.ErrRefused, cur.Addr, info.ID, req.Node)
	case info.Incarnation == cur.Incarnation:
		for old, m := range replaced(nodes) { // it was readmitted already
			if m.ID == req.Node {
				return rpc.ReadmitReply{Old: quorum.Member{ID: old.ID, Incarnation: old.Incarnation, Addr: cur.Addr}, New: cur.Member()}, nil
			}
		}
		return rpc.ReadmitReply{}, fmt.Errorf("%w: node %s has the storage that the catalog knows (%s)", rpc.ErrRefused, req.Node, cur.Incarnation)
	case info.Phase == rpc.Founded:
		return rpc.ReadmitReply{}, fmt.Errorf("%w: the storage of node %s belongs to a cluster (%x)", rpc.ErrRefused, req.Node, info.Cluster)
	}
	fresh := cur
	fresh.Incarnation, fresh.Voter, fresh.Leaving = info.Incarnation, false, false
	reply := rpc.ReadmitReply{Old: cur.Member(), New: fresh.Member()}
	if req.DryRun {
		return reply, nil
	}
	for old, m := range replaced(nodes) {
		if m.ID != req.Node {
			continue
		}
		if err := n.retire(ctx, cur); err != nil {
			return rpc.ReadmitReply{}, err
		}
		reply.Old = quorum.Member{ID: old.ID, Incarnation: old.Incarnation, Addr: cur.Addr}
	}
	if _, err := n.propose(ctx, &catalog.PutNode{Node: fresh, Replaces: reply.Old.Incarnation}); err != nil {
		return rpc.ReadmitReply{}, err
	}
	n.log.Warn("a node's new storage takes the place of its old one", "id", req.Node, "old", cur.Incarnation, "new", info.Incarnation)
	return reply, nil
}
