package libqjm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
)

// Ways to read from a replica. The program reads its own state; before it, it calls one of these, which return when the
// state is fresh enough, and how far it was applied then.

// ErrNotConfirmed: no majority of the journal's nodes confirmed that this replica is the active: another one may be.
var ErrNotConfirmed = errors.New("libqjm: no majority confirms that this replica is active")

// AwaitLinearizable waits until the state has everything that anybody was told of before the call: every proposal that
// was acknowledged, and everything that was read. On the active a majority of nodes confirms its epoch (D6); on a standby
// a majority tells how far the log goes (D4), and the standby waits for that. It needs no clock. Errors:
// ErrNotConfirmed, ErrNoQuorum, ErrUndecided; those of a stopped replica.
func (r *Replica) AwaitLinearizable(ctx context.Context) (TxID, error) {
	began := time.Now()
	if _, err := r.leading(ctx); err != nil {
		return 0, err
	}
	target, err := r.rounds.do(ctx, r.readTarget)
	if err != nil {
		return 0, err
	}
	applied, err := r.WaitApplied(ctx, target)
	if err == nil {
		r.mu.Lock()
		if r.fresh.Before(began) {
			r.fresh = began
		}
		r.mu.Unlock()
	}
	return applied, err
}

// readTarget asks a majority how far a linearizable read has to see: by this replica's role at the moment, which may have
// changed since the first one asked. One that was deposed and has not noticed is told so by the majority, and asks as
// a standby does.
func (r *Replica) readTarget() (TxID, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.c.opts.RequestTimeout+r.c.opts.Patience)
	defer cancel()
	lead, err := r.leading(ctx)
	if err != nil {
		return 0, err
	}
	var deposed error
	if lead != nil && lead.Err() == nil {
		target, err := r.confirm(ctx, lead)
		if !errors.Is(err, ErrNotConfirmed) {
			return target, err
		}
		deposed = err
	}
	target, err := r.c.linearizableEnd(ctx, r.name)
	if err != nil && deposed != nil {
		err = fmt.Errorf("%w (%w)", deposed, err)
	}
	return target, err
}

// leading returns the leadership of an active, nil elsewhere, and the error of one that has stopped.
func (r *Replica) leading(ctx context.Context) (*Leadership, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch r.role {
	case RoleStopped:
		return nil, r.notActiveLocked()
	case RoleActive, RoleDraining:
		return r.lead, ctx.Err()
	}
	return nil, ctx.Err()
}

// confirm asks a majority whether they have promised anything to another writer (D6), and returns how far this one
// has committed. Who was told of anything was told before the round began, and by this writer, or by one before it: if
// another had committed something by then, a majority would have promised it a higher epoch.
func (r *Replica) confirm(ctx context.Context, lead *Leadership) (TxID, error) {
	w := lead.w
	claim := w.claim()
	agree := func(cfg quorum.Config, got []reply[rpc.JournalState]) []reply[rpc.JournalState] {
		return slices.DeleteFunc(slices.Clone(got), func(g reply[rpc.JournalState]) bool {
			return !counts(cfg, g) || g.val.Promised != claim
		})
	}
	ref, got, err := r.c.statesUntil(ctx, r.name, func(cfg quorum.Config, got []reply[rpc.JournalState]) bool {
		return cfg.Majority(countIn(cfg, agree(cfg, got)))
	})
	if err != nil {
		return 0, err
	}
	if yes := agree(ref.cfg, got); !ref.cfg.Majority(countIn(ref.cfg, yes)) || w.Err() != nil {
		return 0, fmt.Errorf("%w: %d of %d nodes have promised nothing beyond epoch %d", ErrNotConfirmed, len(yes), len(ref.cfg.Members()), claim.Epoch)
	}
	return w.Committed(), nil
}

// AwaitLease is AwaitLinearizable without asking anybody, on the active only: while its lease is valid nobody else has
// become active, if clocks run at the same rate, within what the lease allows for, and if nobody takes an epoch without
// the lease: no qjmclient fence, no OpenWithoutCatalog (L3). After it had to get the lease anew, the first call asks a
// majority: another may have had it meanwhile, and may have become active under it. Errors: ErrNotActive; ErrLeaseLost where the lease
// is not valid at the moment.
func (r *Replica) AwaitLease(ctx context.Context) (TxID, error) {
	lead, err := r.leading(ctx)
	if err != nil {
		return 0, err
	}
	if lead == nil {
		return 0, r.notActive()
	}
	lease := lead.Lease()
	if lease != nil && !lead.covers(lease) {
		if _, err := r.confirm(ctx, lead); err != nil {
			return 0, fmt.Errorf("%w: it was got anew, and who had it in between is not known: %w", ErrLeaseLost, err)
		}
		lead.cover(lease)
	}
	target := lead.w.Committed()
	if lease == nil || !lease.Valid() || lead.Err() != nil {
		return 0, fmt.Errorf("%w: no lease read is possible", ErrLeaseLost)
	}
	return r.WaitApplied(ctx, target)
}

// AwaitFresh waits until the state has everything that was acknowledged longer than the bound ago, by this process's
// clock alone. Often it returns at once: each linearizable read makes the state fresh for all.
func (r *Replica) AwaitFresh(ctx context.Context, bound time.Duration) (TxID, error) {
	r.mu.Lock()
	applied, ok := r.applied, !r.fresh.IsZero() && time.Since(r.fresh) <= bound && r.role != RoleStopped
	r.mu.Unlock()
	if ok {
		return applied, nil
	}
	return r.AwaitLinearizable(ctx)
}

// WaitApplied waits until a transaction is applied here: who was told of it by the active reads what it wrote. It
// returns how far the state is.
func (r *Replica) WaitApplied(ctx context.Context, txid TxID) (applied TxID, err error) {
	err = r.await(ctx, func() (bool, error) {
		applied = r.applied
		return applied >= txid, nil
	})
	return applied, err
}

// Applied returns how far the state is: a stale read's strength.
func (r *Replica) Applied() TxID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.applied
}

// confirmRounds lets those who ask while a round is under way share the next one: what they need is a round that began
// after they asked.
type confirmRounds struct {
	mu      sync.Mutex
	running bool
	next    *confirmRound // for those who wait; nil: nobody
}

type confirmRound struct {
	done   chan struct{}
	target TxID
	err    error
}

// do returns the outcome of a call that began after do was called.
func (c *confirmRounds) do(ctx context.Context, call func() (TxID, error)) (TxID, error) {
	c.mu.Lock()
	if c.next == nil {
		c.next = &confirmRound{done: make(chan struct{})}
	}
	mine := c.next
	if !c.running {
		c.running = true
		go c.run(call)
	}
	c.mu.Unlock()
	select {
	case <-mine.done:
		return mine.target, mine.err
	case <-ctx.Done():
		return 0, fmt.Errorf("libqjm: %w", context.Cause(ctx))
	}
}

// run makes rounds as long as somebody waits.
func (c *confirmRounds) run(call func() (TxID, error)) {
	for {
		c.mu.Lock()
		round := c.next
		c.next = nil
		if round == nil {
			c.running = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		round.target, round.err = call()
		close(round.done)
	}
}
