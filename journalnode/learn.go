package journalnode

import (
	"context"
	"errors"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/segments"
)

// said is what the nodes, this one included, say of one journal.
type said map[quorum.NodeID]rpc.JournalSummary

// learnJournals asks the peers which journals there are: this node may have been away when one was created,
// and its copy of the catalog may stand still for want of a leader. A journal is taken over when it was missed
// in the last round, too: whoever creates one is about to install it everywhere. That one is deleted is the
// catalog's to say. What the peers say that they hold is for repair.
func (n *Node) learnJournals(before map[segments.JournalID]bool) (missed map[segments.JournalID]bool, told *holdings) {
	missed = map[segments.JournalID]bool{}
	told = &holdings{}
	heard := map[segments.JournalID]said{}
	for _, p := range n.others() {
		js, answered := n.journalsOf(p)
		told.note(p, answered, js)
		for _, s := range js {
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
	return missed, told
}

func (n *Node) learn(id segments.JournalID, by said, before, missed map[segments.JournalID]bool) error {
	if _, err := n.owner(id); !errors.Is(err, rpc.ErrNoJournal) {
		return nil // it is here, or damaged here, which is told elsewhere
	}
	newest := rpc.JournalSummary{}
	for _, s := range by {
		if s.Config.Version > newest.Config.Version {
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

func (n *Node) journalsOf(id quorum.NodeID) (js []rpc.JournalSummary, answered bool) {
	ctx, cancel := n.context(n.opts.PeerTimeout)
	defer cancel()
	js, err := n.journalsAt(ctx, id)
	if err != nil {
		return nil, false // it is asked again soon
	}
	return js, true
}

func (n *Node) journalsAt(ctx context.Context, id quorum.NodeID) ([]rpc.JournalSummary, error) {
	if id == n.opts.ID {
		return n.Journals(ctx)
	}
	peer, err := n.peers.node(id)
	if err != nil {
		return nil, err
	}
	return peer.Journals(ctx)
}
