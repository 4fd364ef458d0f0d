package raftgroup

import (
	"sync"
	"time"
)

// A leader that got a Barrier through may read its machine for a while without another one (G11). The Barrier
// is an entry that a majority has stored after the Barrier began. Who wins an election needs the vote of one of
// that majority, and so must hold the entry itself; whoever holds it heard the leader after the Barrier began,
// and stands for nothing before a heartbeat timeout has passed since, nor does it after a restart. Therefore
// no other server leads for a heartbeat timeout from when the Barrier began, by its clock.
//
// A transfer of leadership is an election that asks nobody for patience, and its request may arrive late: after
// the first attempt there is no lease until the next term. One of an earlier leader that is held up for longer
// than an election takes is not met here; upstream's request has no term.

// leaseDrift is the part of the lease, one in so many, that is given away to clocks which do not run alike.
const leaseDrift = 10

// readLease is the last Barrier that got through.
type readLease struct {
	mu    sync.Mutex // guards what follows
	term  uint64
	begun time.Time
}

func (l *readLease) confirm(term uint64, begun time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if term > l.term || term == l.term && begun.After(l.begun) {
		l.term, l.begun = term, begun
	}
}

func (l *readLease) holds(term uint64, now time.Time, span time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term == term && !l.begun.IsZero() && now.Sub(l.begun) < span
}

// Leased reports that no other server has led until now since this one's last Barrier (G11). What was read of
// the machine before the call holds everything that any server had answered for when it was read. It rests on
// the rates of the servers' clocks, which a Barrier does not.
func (g *Group) Leased() bool {
	_, term := g.Leader()
	if !g.IsLeader() || len(g.transfer) > 0 || g.failed.any(term) {
		return false
	}
	return g.lease.holds(term, time.Now(), g.o.LeaderLease-g.o.LeaderLease/leaseDrift)
}

// confirmed carries a Barrier out, and begins the lease anew where it got through in one term.
func (g *Group) confirmed(barrier func() error) error {
	begun := time.Now()
	_, term := g.Leader()
	if err := barrier(); err != nil {
		return err
	}
	if _, now := g.Leader(); now == term {
		g.lease.confirm(term, begun)
	}
	return nil
}
