package journalnode

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/leaseclock"
)

// Renewals gather at the leader, so that many leases make few entries of the log.
const (
	// gatherPart of its time to live, one in so many, a lease may wait for others, gatherMax at most, and
	// gatherMin where the lease is not known here yet.
	gatherPart = 16
	gatherMax  = 250 * time.Millisecond
	gatherMin  = 5 * time.Millisecond
	// gatheredMax bounds the leases that wait for their entry.
	gatheredMax = 64 * catalog.MaxKeepAlive
	// keepTimeout bounds one entry with renewals.
	keepTimeout = 2 * time.Second
)

// renewal is a request that waits for its entry.
type renewal struct {
	refs []catalog.LeaseRef
	by   time.Time // when the entry has to be proposed
	done chan struct{}
	kept []error // set before done is closed, like err
	err  error
}

func (r *renewal) answer(kept []error, err error) {
	r.kept, r.err = kept, err
	close(r.done)
}

// leases is what a node has to do with leases besides the catalog.
type leases struct {
	wake chan struct{} // one place: renewals wait

	mu      sync.Mutex
	clock   *leaseclock.Clock // nil while this node does not lead; guarded by mu
	waiting []*renewal        // guarded by mu
	refs    int               // in waiting; guarded by mu
	watches int               // guarded by mu
}

func newLeases() *leases { return &leases{wake: make(chan struct{}, 1)} }

// add queues a renewal.
func (l *leases) add(r *renewal) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refs+len(r.refs) > gatheredMax {
		return fmt.Errorf("%w: too many leases wait for their renewal (got %d, want at most %d)", rpc.ErrNoLeader, l.refs, gatheredMax)
	}
	l.waiting, l.refs = append(l.waiting, r), l.refs+len(r.refs)
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return nil
}

// wait is how long the next entry may be waited for; false where none is needed.
func (l *leases) wait(now time.Time) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return 0, false
	}
	if l.refs >= catalog.MaxKeepAlive {
		return 0, true
	}
	first := l.waiting[0].by
	for _, r := range l.waiting {
		if r.by.Before(first) {
			first = r.by
		}
	}
	return max(first.Sub(now), 0), true
}

// take returns what goes into one entry, oldest first.
func (l *leases) take() []*renewal {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, refs := 0, 0
	for n < len(l.waiting) && refs+len(l.waiting[n].refs) <= catalog.MaxKeepAlive {
		refs += len(l.waiting[n].refs)
		n++
	}
	out := l.waiting[:n:n]
	l.waiting, l.refs = append([]*renewal(nil), l.waiting[n:]...), l.refs-refs
	return out
}

// keep renews leases on this node, which leads. It returns when their entry was applied here.
func (n *Node) keep(ctx context.Context, refs []catalog.LeaseRef) ([]error, error) {
	r := &renewal{refs: refs, by: time.Now().Add(n.mayGather(refs)), done: make(chan struct{})}
	if err := n.control.leases.add(r); err != nil {
		return nil, err
	}
	select {
	case <-r.done:
		return r.kept, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: the renewal of leases is under way: %w", rpc.ErrUnavailable, context.Cause(ctx))
	case <-n.stopping:
		return nil, rpc.ErrClosed
	}
}

func (n *Node) mayGather(refs []catalog.LeaseRef) time.Duration {
	wait := gatherMax
	n.readCatalog(func(c *catalog.Catalog) {
		for _, r := range refs {
			l, err := c.Lease(r.Journal)
			if err != nil || l == nil {
				wait = gatherMin
				return
			}
			wait = min(wait, time.Duration(l.TTLMillis)*time.Millisecond/gatherPart)
		}
	})
	return wait
}

// keepLoop proposes one entry after the other, as long as the node runs: to the group that there is, which a
// recovery may have begun anew.
func (n *Node) keepLoop() {
	for {
		wait, any := n.control.leases.wait(time.Now())
		var timer <-chan time.Time
		if any {
			timer = time.After(wait)
		}
		select {
		case <-n.control.leases.wake:
			continue // another one may be more urgent
		case <-timer:
			n.renew(n.control.leases.take())
		case <-n.stopping:
			return
		}
	}
}

func (n *Node) renew(batch []*renewal) {
	ctx, cancel := n.context(keepTimeout)
	defer cancel()
	cmd := &catalog.KeepAlive{}
	for _, r := range batch {
		cmd.Leases = append(cmd.Leases, r.refs...)
	}
	g, err := n.control.member()
	var b []byte
	if err == nil {
		b, err = catalog.EncodeCommand(cmd)
	}
	var res catalog.Result
	if err == nil {
		res, err = applyHere(ctx, g, b)
	}
	if err == nil && len(res.Kept) != len(cmd.Leases) {
		err = fmt.Errorf("journalnode: a renewal of %d leases was answered for %d", len(cmd.Leases), len(res.Kept))
	}
	at := 0
	for _, r := range batch {
		if err != nil {
			r.answer(nil, alsoRPC(err))
			continue
		}
		kept := make([]error, len(r.refs))
		for i := range kept {
			if err := res.Kept[at+i].Err; err != nil {
				kept[i] = alsoRPC(err)
			}
		}
		at += len(r.refs)
		r.answer(kept, nil)
	}
}
