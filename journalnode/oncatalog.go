package journalnode

import (
	"sync"

	"github.com/quorumjournal/qjm/journalnode/catalog"
)

// What hangs on the catalog (installing configs, drivers of membership changes, purging, leases) hooks in
// here:
//
//	n.onCatalog(func() {
//		n.readCatalog(func(c *catalog.Catalog) { ... }) // take copies, quickly
//		...                                              // then do what takes time
//	})
//
// The function is called once soon after it was hooked in, and after every apply. It has a goroutine of
// its own: calls that would come while it is busy become one, and no apply ever waits for it. It ends
// with the node, so what takes time must look at n.stopping.

// watchers tells those who hooked in.
type watchers struct {
	mu  sync.Mutex
	all map[chan struct{}]struct{} // of one token each; guarded by mu
}

// changed never waits.
func (w *watchers) changed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.all {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// add returns where the news come in, the first at once, and how to leave.
func (w *watchers) add() (news <-chan struct{}, leave func()) {
	c := make(chan struct{}, 1)
	c <- struct{}{}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[chan struct{}]struct{}{}
	}
	w.all[c] = struct{}{}
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.all, c)
	}
}

// onCatalog hooks f in, until the node stops.
func (n *Node) onCatalog(f func()) {
	news, leave := n.control.watchers.add()
	n.work.Go(func() {
		defer leave()
		for {
			select {
			case <-news:
				f()
			case <-n.stopping:
				return
			}
		}
	})
}

// readCatalog shows this node's copy of the catalog to f, which must be quick and keep nothing.
func (n *Node) readCatalog(f func(*catalog.Catalog)) { n.control.machine.read(f) }
