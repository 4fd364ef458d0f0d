package journalnode

import (
	"fmt"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
)

// A storage that was taken out of the cluster while it runs hears nothing any more: the leader sends it no
// entries, so its own copy of the catalog has it for ever. What it notices is that it hears no leader. It asks
// the others then, and takes nothing but the catalog's own word: silence may be a partition.

// standingEvery is how soon a node that hears no leader asks whether it is still part of the cluster; one that
// was told that it is asks less and less often, down to once in Options.CompareEvery.
const standingEvery = time.Second

// standing judges by a read of the catalog whether a storage is part of the cluster: nil, or an
// rpc.ErrRemoved. heard is false where the read says nothing about that: it is another cluster's, not a
// linearizable one, or older than what this node has applied itself. A linearizable one has seen all that was
// answered before it began, so the entry by which this storage was let in, too.
func standing(self quorum.Member, cluster rpc.ClusterID, applied uint64, v rpc.CatalogView) (heard bool, out error) {
	if v.Strength != rpc.Linearizable || v.Cluster.IsZero() || v.Cluster != cluster || v.Index < applied {
		return false, nil
	}
	what := fmt.Sprintf("node %s was taken out", self.ID)
	for _, x := range v.Nodes {
		switch {
		case x.ID == self.ID && x.Incarnation == self.Incarnation:
			return true, nil
		case x.ID == self.ID:
			what = fmt.Sprintf("node %s is another storage now (here %s, there %s)", self.ID, self.Incarnation, x.Incarnation)
		}
	}
	return true, fmt.Errorf("%w: %s, as catalog index %d has it, told by %s; switch it off", rpc.ErrRemoved, what, v.Index, v.AnsweredBy)
}

// standingLoop asks, while this node hears no leader of the catalog's group, whether it is still part of it. One
// that was taken out may be let in again as it is: so it goes on asking.
func (n *Node) standingLoop() {
	for wait := standingEvery; ; {
		select {
		case <-time.After(wait):
		case <-n.stopping:
			return
		}
		if n.identity().Phase != rpc.Founded || n.recovery().Out != "" {
			continue
		}
		if g, err := n.control.member(); err == nil {
			if leader, _ := g.Leader(); leader != "" {
				n.setRemoved(nil)
				wait = standingEvery
				continue
			}
		}
		if n.askWhetherRemoved() {
			wait = max(standingEvery, min(2*wait, n.opts.CompareEvery))
		}
	}
}

// askWhetherRemoved asks one after the other, until one knows, and reports whether one did.
func (n *Node) askWhetherRemoved() bool {
	id := n.identity()
	self := quorum.Member{ID: id.ID, Incarnation: id.Incarnation}
	for _, p := range n.everybody() {
		peer, err := n.peers.node(p)
		if err != nil {
			continue
		}
		ctx, cancel := n.context(n.opts.PeerTimeout)
		v, err := peer.Catalog(ctx, rpc.Linearizable)
		cancel()
		if err != nil {
			continue
		}
		applied, _ := n.control.machine.applied()
		if heard, out := standing(self, id.Cluster, applied, v); heard {
			n.setRemoved(out)
			return true
		}
	}
	return false
}

// setRemoved says so once, in the log, and from then on in every answer.
func (n *Node) setRemoved(out error) {
	n.idMu.Lock()
	was := n.removed
	if was == nil || out == nil {
		n.removed = out
	}
	n.idMu.Unlock()
	switch {
	case was == nil && out != nil:
		n.log.Error("this node is no part of its cluster any more: it serves nothing from now on", "err", out)
	case was != nil && out == nil:
		n.log.Warn("this node is part of its cluster again")
	}
}

// isRemoved returns why this storage is no part of the cluster any more, or nil.
func (n *Node) isRemoved() error {
	n.idMu.Lock()
	defer n.idMu.Unlock()
	return n.removed
}
