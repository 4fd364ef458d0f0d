package journalnode

import (
	"golang.org/x/sync/errgroup"

	"github.com/quorumjournal/qjm/segments"
)

// openersMax journals are opened at the same time behind the first uses: each reads, rewrites and syncs the
// tail of its open segment (W2a), and the disk has other work.
const openersMax = 4

// unopened is a journal that is listed and was not used since the node started.
type unopened struct {
	taken bool          // somebody is opening it; guarded by Node.mu
	done  chan struct{} // closed when it is open, or known to be damaged
}

// firstUse opens a journal that was not used yet; who comes meanwhile waits. One that cannot be opened is
// damaged, and counts for nothing here; the others go on (N2).
func (n *Node) firstUse(id segments.JournalID) {
	n.mu.Lock()
	u := n.unopened[id]
	mine := u != nil && !u.taken
	if mine {
		u.taken = true
	}
	n.mu.Unlock()
	switch {
	case mine:
		n.openFirst(id, u)
	case u != nil:
		select {
		case <-u.done:
		case <-n.stopping:
		}
	}
}

func (n *Node) openFirst(id segments.JournalID, u *unopened) {
	defer close(u.done)
	select {
	case <-n.stopping:
		return
	default:
	}
	err := n.openJournal(id)
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.unopened, id)
	if err != nil {
		n.log.Error("journal is damaged and counts for nothing here", "journal", id, "err", err)
		n.failed[id] = err
	}
}

// openRest opens what nobody has used yet, a few at a time: repair and scrub look after those, too.
func (n *Node) openRest() { n.openAll() }

// openAll returns when no journal is left unopened.
func (n *Node) openAll() {
	n.mu.Lock()
	ids := make([]segments.JournalID, 0, len(n.unopened))
	for id := range n.unopened {
		ids = append(ids, id)
	}
	n.mu.Unlock()
	var g errgroup.Group
	g.SetLimit(openersMax)
	for _, id := range ids {
		g.Go(func() error { n.firstUse(id); return nil })
	}
	_ = g.Wait() // none of them fails: what cannot be opened is noted
}
