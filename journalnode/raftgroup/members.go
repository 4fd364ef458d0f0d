package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Members returns the committed members; while none are known, the latest of the log, with index 0.
func (g *Group) Members() Membership {
	if _, _, _, m := g.machine.counters(); m.Index > 0 {
		return m
	}
	f := g.raft.GetConfiguration()
	if f.Error() != nil {
		return Membership{}
	}
	return membershipOf(0, f.Configuration())
}

// AddNonvoter adds a server that copies and does not vote. With a prevIndex other than 0 the change is
// refused unless that is the index of the current members.
func (g *Group) AddNonvoter(ctx context.Context, id ServerID, prevIndex uint64) error {
	return g.change(ctx, "add non-voter", id, prevIndex, func(m Membership) error {
		if _, there := m.find(id); there {
			return fmt.Errorf("%w: %s", ErrMemberExists, id)
		}
		return nil
	}, func() raft.IndexFuture {
		return g.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(id), prevIndex, g.o.EnqueueTimeout)
	})
}

// AddVoter gives a server a vote. It should be a non-voter that has caught up (CatchUp).
func (g *Group) AddVoter(ctx context.Context, id ServerID, prevIndex uint64) error {
	return g.change(ctx, "add voter", id, prevIndex, func(m Membership) error {
		if x, there := m.find(id); there && x.Voter {
			return fmt.Errorf("%w: %s", ErrMemberExists, id)
		}
		return nil
	}, func() raft.IndexFuture {
		return g.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(id), prevIndex, g.o.EnqueueTimeout)
	})
}

// Remove takes a server out of the group. A leader that removes itself steps down when that is committed.
func (g *Group) Remove(ctx context.Context, id ServerID, prevIndex uint64) error {
	return g.change(ctx, "remove", id, prevIndex, func(m Membership) error {
		x, there := m.find(id)
		switch {
		case !there:
			return fmt.Errorf("%w: %s", ErrNoMember, id)
		case x.Voter && m.voters() == 1:
			return fmt.Errorf("%w: %s", ErrLastVoter, id)
		}
		return nil
	}, func() raft.IndexFuture {
		return g.raft.RemoveServer(raft.ServerID(id), prevIndex, g.o.EnqueueTimeout)
	})
}

// change checks first what can be known: upstream's refusals have no type, and would have to count as
// "may have happened".
func (g *Group) change(ctx context.Context, op string, id ServerID, prev uint64, check func(Membership) error, call func() raft.IndexFuture) error {
	if err := id.Validate(); err != nil {
		return err
	}
	if err := g.ready(); err != nil {
		return err
	}
	m := g.Members()
	if prev != 0 && m.Index != 0 && prev != m.Index {
		return &MembershipChangedError{Got: prev, Want: m.Index}
	}
	if err := check(m); err != nil {
		return err
	}
	_, err := g.await(ctx, op, nil, func() (any, error) { return nil, call().Error() })
	return err
}

// CatchUp returns when a follower has applied all but Options.CatchUpMargin of the committed entries, as
// far as its replies in this term tell. It says why it did not: *NotLeaderError, ErrNoMember, or ctx.
func (g *Group) CatchUp(ctx context.Context, id ServerID) error {
	tick := time.NewTicker(g.o.Heartbeat) // without leadership, no reply comes any more
	defer tick.Stop()
	for {
		if err := g.ready(); err != nil {
			return err
		}
		if _, there := g.Members().find(id); !there {
			return fmt.Errorf("%w: %s", ErrNoMember, id)
		}
		peer, changed := g.progress.get(id)
		commit := g.raft.CommitIndex()
		if peer.Term == g.raft.CurrentTerm() && peer.Applied+g.o.CatchUpMargin >= commit {
			return nil
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-g.closing:
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("raftgroup: %s has not caught up (got %d, want %d, errors in a row %d): %w", id, peer.Applied, commit, peer.Errors, ctx.Err())
		}
	}
}

// TransferLeadership hands leadership to a voter. Afterwards the other one leads, or at least this one
// does not; on ErrTransferFailed this one goes on, and does not try that peer again in this term (G7).
func (g *Group) TransferLeadership(ctx context.Context, to ServerID) error {
	if err := g.ready(); err != nil {
		return err
	}
	x, there := g.Members().find(to)
	if !there || !x.Voter || to == g.o.Self {
		return fmt.Errorf("%w, or not another voter: %s", ErrNoMember, to)
	}
	select {
	case g.transfer <- struct{}{}:
	default:
		return ErrTransferring
	}
	_, term := g.Leader()
	if g.failed.has(term, to) {
		<-g.transfer
		return fmt.Errorf("%w: %s failed to take over before in term %d", ErrTransferFailed, to, term)
	}
	// Marked before it is tried: if we do not live to hear of its end, it has not succeeded.
	g.failed.add(term, to)
	ctx, cancel := context.WithTimeout(ctx, g.o.TransferTimeout)
	defer cancel()
	_, err := g.await(ctx, "transfer", g.transfer, func() (any, error) {
		return nil, g.raft.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(to)).Error()
	})
	if _, now := g.Leader(); now != term {
		g.failed.add(now, to) // this server may have led anew when it was tried (G11)
	}
	if errors.Is(err, ErrMayHaveHappened) {
		return fmt.Errorf("%w: %s: %w", ErrTransferFailed, to, err)
	}
	return err
}
