package journalnode

import (
	"context"

	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/snapshots"
	"github.com/quorumjournal/qjm/segments"
)

// Decider is what a test has to play for a driver.
type Decider = decider

// Driver returns a function that does one round of a membership change, as the leader would.
func (n *Node) Driver(ctl Decider, id segments.JournalID) func(context.Context) (bool, error) {
	return n.newDriver(ctl, id).round
}

// SetForcedIndex says how long the log was when the group was given new members.
func (n *Node) SetForcedIndex(index uint64) error {
	n.unsafe.turn.Lock()
	defer n.unsafe.turn.Unlock()
	next := n.recovery()
	next.ForcedIndex = index
	return n.keepRecovery(next)
}

// SetCatalog says what the node's copy of the catalog knows of journals that its own group does not have.
func (n *Node) SetCatalog(f func(segments.JournalID) (catalog.Journal, bool)) { n.inCatalog = f }

// SetListedSnapshots says that a catalog lists snapshots that the nodes' own group does not have.
func (n *Node) SetListedSnapshots(id segments.JournalID, listed []snapshots.Snapshot) error {
	o, err := n.owner(id)
	if err != nil {
		return err
	}
	o.j.SetListed(listed)
	n.wakeSnapshots(id)
	return nil
}
