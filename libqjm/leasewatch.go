package libqjm

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/segments"
)

const (
	// watchWait is how long one node is asked to wait for news; then the next one is asked: one that is cut off
	// from the others has none.
	watchWait = 2 * time.Second
	// watchGrace is how long its answer may take on top.
	watchGrace = time.Second
	// watchPause is how long a watch waits when no node could answer.
	watchPause = 100 * time.Millisecond
)

// LeaseInfo is a journal's lease as of one index of the catalog. Revision 0: there is none. With ReservedFor
// nobody holds it, and only that holder may take it.
// Its fields: Journal; Index, the catalog's; Revision, which names this lease and no other ever; Holder and Addr; TTL;
// ReservedFor.
type LeaseInfo = rpc.Lease

// Lease reads a journal's lease, linearizably: it needs the catalog's leader. Errors: ErrNoJournal,
// ErrNoLeader.
func (c *Client) Lease(ctx context.Context, journal string) (LeaseInfo, error) {
	return onJournal(ctx, c, journal, func(id segments.JournalID) (LeaseInfo, error) {
		return anyNode(ctx, c, func(ctx context.Context, n rpc.Node) (LeaseInfo, error) { return n.Lease(ctx, id) })
	})
}

// WatchLease yields a journal's lease, and then each other one, until the context ends; renewals are no news.
// It is the state that is watched: of leases that follow quickly on one another some may be left out, and two
// that look alike differ in their revision. It begins with a linearizable read, needs no leader after that,
// and never goes back. The last thing that it yields is an error: ErrNoJournal, ErrJournalDeleted, ErrClosed,
// or the context's.
func (c *Client) WatchLease(ctx context.Context, journal string) iter.Seq2[LeaseInfo, error] {
	return func(yield func(LeaseInfo, error) bool) {
		l, err := c.Lease(ctx, journal)
		for at := 0; err == nil; {
			if !yield(l, nil) {
				return
			}
			l, err = c.nextLease(ctx, l, &at)
		}
		yield(LeaseInfo{}, fmt.Errorf("libqjm: watch the lease of %s: %w", journal, err))
	}
}

// nextLease asks nodes in turn until one has another lease.
func (c *Client) nextLease(ctx context.Context, l LeaseInfo, at *int) (LeaseInfo, error) {
	for failed := 0; ; {
		ids := c.nodeIDs()
		*at++
		next, err := c.watchAt(ctx, quorum.Member{ID: ids[*at%len(ids)]}, l)
		switch {
		case ctx.Err() != nil:
			return l, context.Cause(ctx)
		case c.ctx.Err() != nil:
			return l, ErrClosed
		case errors.Is(err, ErrNoJournal) || errors.Is(err, ErrJournalDeleted):
			return l, err
		case err == nil && next.Index < l.Index:
			// It cannot be; an answer that is older is none.
		case err == nil && next.Revision != l.Revision:
			return next, nil
		case err == nil:
			l.Index, failed = next.Index, 0
			continue
		}
		if failed++; failed%len(ids) == 0 && !sleep(ctx, watchPause) {
			return l, context.Cause(ctx)
		}
	}
}

func (c *Client) watchAt(ctx context.Context, m quorum.Member, l LeaseInfo) (LeaseInfo, error) {
	n, err := c.node(m)
	if err != nil {
		return LeaseInfo{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, watchWait+watchGrace)
	defer cancel()
	return n.WatchLease(ctx, rpc.LeaseWatch{Journal: l.Journal, Index: l.Index, Revision: l.Revision, Wait: watchWait})
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

// awaitFree waits until the holder may ask for the lease.
func (c *Client) awaitFree(ctx context.Context, journal, holder string) error {
	for l, err := range c.WatchLease(ctx, journal) {
		if err != nil {
			return err
		}
		if l.Revision == 0 || l.ReservedFor == holder {
			return nil
		}
	}
	return context.Cause(ctx)
}
