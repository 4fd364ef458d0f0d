package journalnode

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/segments"
)

// said is what the nodes, this one included, say of one journal.
type said map[quorum.NodeID]rpc.JournalSummary

// learnJournals asks the peers which journals there are: this node may have been away when one was
// created or deleted. A journal is taken over when it was missed in the last round, too: a client that
// creates one asks every node itself, and is told that it exists already if another one was faster.
// Tombstones are judged by tombstones.
func (n *Node) learnJournals(before map[segments.JournalID]bool) (missed map[segments.JournalID]bool) {
	missed = map[segments.JournalID]bool{}
	heard := map[segments.JournalID]said{}
	for _, p := range n.others() {
		for _, s := range n.journalsOf(p) {
			if heard[s.ID] == nil {
				heard[s.ID] = said{}
			}
			heard[s.ID][p] = s
		}
	}
	for id, by := range heard {
		if err := n.learn(id, by, before, missed); err != nil {
			n.log.Warn("cannot take over what peers say of a journal", "journal", id, "err", err)
		}
	}
	return missed
}

func (n *Node) learn(id segments.JournalID, by said, before, missed map[segments.JournalID]bool) error {
	o, err := n.owner(id)
	if err == nil {
		return n.tombstones(o, by)
	}
	if !errors.Is(err, rpc.ErrNoJournal) {
		return nil // damaged here, which is told elsewhere
	}
	newest := rpc.JournalSummary{}
	for _, s := range by {
		if s.Deleting.IsZero() && s.Config.Version > newest.Config.Version {
			newest = s
		}
	}
	switch {
	case newest.Deleted, !newest.Config.Has(n.opts.ID, n.identity().Incarnation):
		return nil // it is none of this node's business, or the catalog will say so
	case !before[id]:
		missed[id] = true
		return nil
	}
	// Passed on unchanged by a node that has it installed (M0).
	ctx, cancel := n.context(n.opts.PeerTimeout)
	defer cancel()
	return n.InstallConfig(ctx, rpc.JournalSummary{ID: id, Name: newest.Name, Config: newest.Config})
}

// others are the other nodes of the cluster: those of the catalog, and the founders while this node's copy
// of it is blank.
func (n *Node) others() []quorum.NodeID {
	var out []quorum.NodeID
	n.readCatalog(func(c *catalog.Catalog) {
		for _, x := range c.Nodes() {
			out = append(out, x.ID)
		}
	})
	if len(out) == 0 {
		for _, p := range n.opts.InitialCluster {
			out = append(out, p.ID)
		}
	}
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(id quorum.NodeID) bool { return id == n.opts.ID })
}

// tombstones finishes a delete that is in force (M2, M8), whoever asked for it has told this node or not,
// and lifts the tombstone of one that can never be (rpc.TombstoneVoid): its client died, and a writer has
// the majority since. Anything else stays as it is: a tombstone that may yet be in force keeps this node
// out of every quorum, and its data.
func (n *Node) tombstones(o *owner, by said) error {
	own := o.j.Summary()
	if own.Deleted {
		return nil
	}
	by[n.opts.ID] = own
	if rpc.TombstoneInForce(own.Config, len(n.others())+1, by) {
		return n.bury(o)
	}
	if own.Deleting.IsZero() || !rpc.TombstoneVoid(own.Config, own.Deleting, n.statesOf(o.j.ID())) {
		return nil
	}
	return n.lift(o, own.Deleting)
}

func (n *Node) bury(o *owner) error {
	ctx, cancel := n.context(n.opts.PeerTimeout)
	defer cancel()
	err := o.do(ctx, func(j *journal.Journal) error {
		return j.Bury(quorum.Config{Version: j.Summary().Config.Version + 1})
	})
	if err == nil {
		o.log.Info("journal deleted, as a majority of its members has it")
	}
	return err
}

func (n *Node) lift(o *owner, claim fencing.Claim) error {
	ctx, cancel := n.context(n.opts.PeerTimeout)
	defer cancel()
	err := o.do(ctx, func(j *journal.Journal) error { return j.Lift(claim) })
	if err == nil {
		o.log.Warn("tombstone lifted: the delete was cut off, and a majority has promised another since", "claim", claim)
	}
	return err
}

// statesOf asks the peers how they stand in a journal.
func (n *Node) statesOf(id segments.JournalID) map[quorum.NodeID]rpc.JournalState {
	out := map[quorum.NodeID]rpc.JournalState{}
	for _, p := range n.others() {
		st, err := n.stateOf(p, id)
		if err != nil {
			continue // it is asked again soon
		}
		out[p] = st
	}
	return out
}

func (n *Node) stateOf(p quorum.NodeID, id segments.JournalID) (rpc.JournalState, error) {
	peer, err := n.peers.node(p)
	if err != nil {
		return rpc.JournalState{}, err
	}
	ctx, cancel := n.context(n.opts.PeerTimeout)
	defer cancel()
	st, err := peer.State(ctx, id)
	if err == nil && st.Node != p {
		err = fmt.Errorf("journalnode: another node answers (got %s, want %s)", st.Node, p)
	}
	return st, err
}

func (n *Node) journalsOf(id quorum.NodeID) []rpc.JournalSummary {
	peer, err := n.peers.node(id)
	if err != nil {
		return nil
	}
	ctx, cancel := n.context(n.opts.PeerTimeout)
	defer cancel()
	js, err := peer.Journals(ctx)
	if err != nil {
		return nil // it is asked again soon
	}
	return js
}
