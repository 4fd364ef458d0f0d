package journalnode

import (
	"context"

	"github.com/quorumjournal/qjm/segments"
)

// Decider is what a test has to play for a driver.
type Decider = decider

// Driver returns a function that does one round of a membership change, as the leader would.
func (n *Node) Driver(ctl Decider, id segments.JournalID) func(context.Context) (bool, error) {
	return n.newDriver(ctl, id).round
}
