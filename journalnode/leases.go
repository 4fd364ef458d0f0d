package journalnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/leaseclock"
	"github.com/quorumjournal/qjm/journalnode/raftgroup"
	"github.com/quorumjournal/qjm/segments"
)

const (
	// leaseRetry is how soon the leader tries again to begin its count, or to end a lease that is over.
	leaseRetry = 100 * time.Millisecond
	// expireAtOnce bounds the leases that are being ended at the same time.
	expireAtOnce = 64
)

// AcquireLease implements rpc.Service. It does not wait for this node's own copy: the time of the lease is
// running already.
func (n *Node) AcquireLease(ctx context.Context, req rpc.LeaseRequest) (rpc.LeaseGrant, error) {
	if req.TTL < rpc.LeaseTTLMin || req.TTL > rpc.LeaseTTLMax {
		return rpc.LeaseGrant{}, fmt.Errorf("%w: time to live (got %s, want %s to %s)", rpc.ErrBadRequest, req.TTL, rpc.LeaseTTLMin, rpc.LeaseTTLMax)
	}
	res, err := n.decide(ctx, &catalog.Grant{
		Journal: req.Journal, Holder: req.Holder, Addr: req.Addr, TTLMillis: uint32(req.TTL / time.Millisecond), Nonce: req.Nonce,
	})
	if err == nil && !res.Again {
		n.log.Info("lease granted", "journal", req.Journal, "holder", req.Holder, "revision", res.Revision, "ttl", req.TTL)
	}
	return rpc.LeaseGrant{Revision: res.Revision, Again: res.Again}, err
}

// KeepLeases implements rpc.Service.
func (n *Node) KeepLeases(ctx context.Context, req rpc.LeaseRenewal) ([]error, error) {
	refs := make([]catalog.LeaseRef, len(req.Leases))
	for i, r := range req.Leases {
		refs[i] = catalog.LeaseRef(r)
	}
	if req.Forwarded {
		g, _, err := n.leader()
		if err == nil && g == nil {
			err = errForwardedHere
		}
		if err != nil {
			return nil, err
		}
		return n.keep(ctx, refs)
	}
	again := func(err error) bool { return errors.Is(err, rpc.ErrNoLeader) || errors.Is(err, rpc.ErrUnavailable) } // twice is no harm
	return onLeader(ctx, n, again, func(*raftgroup.Group) ([]error, error) {
		return n.keep(ctx, refs)
	}, func(peer rpc.Node) ([]error, error) {
		return peer.KeepLeases(ctx, rpc.LeaseRenewal{Leases: req.Leases, Forwarded: true})
	})
}

// ResignLease implements rpc.Service.
func (n *Node) ResignLease(ctx context.Context, ref rpc.LeaseRef) error {
	_, err := n.decide(ctx, &catalog.Resign{LeaseRef: catalog.LeaseRef(ref)})
	if err == nil {
		n.log.Info("lease resigned", "journal", ref.Journal, "revision", ref.Revision)
	}
	return err
}

// TransferLease implements rpc.Service.
func (n *Node) TransferLease(ctx context.Context, req rpc.LeaseTransfer) (uint64, error) {
	res, err := n.decide(ctx, &catalog.Transfer{LeaseRef: catalog.LeaseRef(req.LeaseRef), To: req.To})
	if err == nil {
		n.log.Info("lease transferred", "journal", req.Journal, "revision", req.Revision, "to", req.To)
	}
	return res.Revision, err
}

// Lease implements rpc.Service.
func (n *Node) Lease(ctx context.Context, id segments.JournalID) (rpc.Lease, error) {
	if err := n.linearizable(ctx); err != nil {
		return rpc.Lease{}, err
	}
	return n.leaseHere(id)
}

// leaseHere reads this node's copy of the catalog.
func (n *Node) leaseHere(id segments.JournalID) (out rpc.Lease, err error) {
	var l *catalog.Lease
	n.readCatalog(func(c *catalog.Catalog) {
		out = rpc.Lease{Journal: id, Index: c.Index()}
		l, err = c.Lease(id)
	})
	if err != nil || l == nil {
		return out, alsoRPC(err)
	}
	out.Revision, out.Holder, out.Addr, out.ReservedFor = l.Revision, l.Holder, l.Addr, l.ReservedFor
	out.TTL = time.Duration(l.TTLMillis) * time.Millisecond
	return out, nil
}

// WatchLease implements rpc.Service: this node's copy, as soon as it is as new as the caller's, and has
// another lease. Renewals are no news.
func (n *Node) WatchLease(ctx context.Context, req rpc.LeaseWatch) (rpc.Lease, error) {
	if _, err := n.control.member(); err != nil {
		return rpc.Lease{}, err
	}
	if err := n.isRemoved(); err != nil {
		return rpc.Lease{}, err
	}
	if !n.control.leases.beginWatch() {
		return rpc.Lease{}, fmt.Errorf("%w (got %d)", rpc.ErrTooManyWatches, rpc.LeaseWatchMax)
	}
	defer n.control.leases.endWatch()
	news, leave := n.control.watchers.add()
	defer leave()
	over := time.NewTimer(min(req.Wait, rpc.LeaseWaitMax))
	defer over.Stop()
	if err := n.awaitIndex(ctx, req.Index, over.C); err != nil {
		return rpc.Lease{}, err
	}
	for {
		l, err := n.leaseHere(req.Journal)
		if err != nil || l.Revision != req.Revision {
			return l, err
		}
		select {
		case <-news:
		case <-over.C:
			return l, nil
		case <-ctx.Done():
			return rpc.Lease{}, fmt.Errorf("%w: %w", rpc.ErrUnavailable, context.Cause(ctx))
		case <-n.stopping:
			return rpc.Lease{}, rpc.ErrClosed
		}
	}
}

func (l *leases) beginWatch() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watches >= rpc.LeaseWatchMax {
		return false
	}
	l.watches++
	return true
}

func (l *leases) endWatch() {
	l.mu.Lock()
	l.watches--
	l.mu.Unlock()
}

// leaseLoop counts the time of leases as long as this node leads, from a Barrier of its own: whatever was
// granted or renewed before stands in the log before it, so a new leader cuts no lease short (L2).
func (n *Node) leaseLoop(ctx context.Context, g *raftgroup.Group) {
	news, leave := n.control.watchers.add()
	defer leave()
	for {
		if _, err := n.barrier(ctx, g); err == nil {
			break
		}
		if !sleep(ctx, leaseRetry) {
			return
		}
	}
	n.control.leases.lead(true)
	defer n.control.leases.lead(false)
	spread := make(chan struct{}, 1)
	var work sync.WaitGroup
	work.Go(func() { n.spreadNews(ctx, g, spread) })
	defer work.Wait()
	for look := true; ctx.Err() == nil; {
		if look && n.seeLeases() {
			select {
			case spread <- struct{}{}:
			default:
			}
		}
		due, wait := n.control.leases.due(time.Now())
		look = len(due) > 0 // some may not have been ended: because they were renewed, say
		if look {
			n.expire(ctx, g, due)
			wait = leaseRetry
		}
		timer := time.NewTimer(wait)
		select {
		case <-news:
			look = true
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// sleep reports false when the context ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *leases) lead(leads bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock = nil
	if leads {
		l.clock = leaseclock.New()
	}
}

// spreadNews has the followers apply what was just committed. They hear of it with the next entry, or when an idle leader
// next tells its commit index, 50 to 100 ms later; whoever watches a lease at one of them should not wait for that.
func (n *Node) spreadNews(ctx context.Context, g *raftgroup.Group, spread <-chan struct{}) {
	for {
		select {
		case <-spread:
			_, _ = n.barrier(ctx, g) // an entry that means nothing
		case <-ctx.Done():
			return
		}
	}
}

// seeLeases reports whether one has come or gone.
func (n *Node) seeLeases() bool {
	var all []catalog.JournalLease
	n.readCatalog(func(c *catalog.Catalog) { all = c.Leases() })
	l := n.control.leases
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock.See(time.Now(), all)
}

// renewed is called as entries with renewals are applied, before anybody is told.
func (l *leases) renewed(index uint64, kept []catalog.Kept) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.clock != nil {
		l.clock.Renew(time.Now(), index, kept)
	}
}

// due returns what is over, and how long until something is.
func (l *leases) due(now time.Time) ([]catalog.Expire, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := l.clock.Due(now)
	at, any := l.clock.Next()
	if !any {
		return due, leaderRound
	}
	return due, max(at.Sub(now), 0)
}

// expire has leases ended. One that is renewed, resigned or transferred in the log before is not (L2).
func (n *Node) expire(ctx context.Context, g *raftgroup.Group, due []catalog.Expire) {
	for chunk := range slices.Chunk(due, expireAtOnce) {
		var wg sync.WaitGroup
		for _, e := range chunk {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, dutyTimeout)
				defer cancel()
				if err := n.applyAsLeader(ctx, g, &e); err == nil {
					n.log.Info("lease expired", "journal", e.Journal, "revision", e.Revision)
				}
			})
		}
		wg.Wait()
	}
}
