package libqjm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
)

// ErrUndecided: the journal's end is in doubt and no writer lives to settle it. Recover does.
var ErrUndecided = errors.New("libqjm: the end of the journal is in doubt, and no writer settles it")

// linearizableEnd returns a txid that everything acknowledged before the call lies at or below, once it
// is committed (rule D4). The target is the end that a recovery would choose now, among a majority's
// answers: not the longest copy (it may be a stale leftover), not the largest committed floor (it lags
// the last acknowledgements). Then it waits until that much is committed; if nothing moves for Patience,
// nobody is writing, and it is ErrUndecided.
func (c *Client) linearizableEnd(ctx context.Context, name string) (TxID, error) {
	ref, got, err := c.statesUntil(ctx, name, func(cfg quorum.Config, got []reply[rpc.JournalState]) bool {
		return cfg.Majority(countIn(cfg, dataAnswers(cfg, got))) // whichever majority it is (D4)
	})
	if err != nil {
		return 0, err
	}
	target, err := chosenEnd(ref.cfg, got)
	if err != nil {
		return 0, err
	}
	deadline := time.Now().Add(c.opts.Patience)
	for seen := TxID(0); ; {
		committed := TxID(0)
		for _, r := range got {
			if r.err == nil {
				committed = max(committed, committedBy(r.val))
			}
		}
		switch {
		case committed >= target:
			return target, nil
		case committed > seen:
			seen, deadline = committed, time.Now().Add(c.opts.Patience)
		case time.Now().After(deadline):
			return 0, fmt.Errorf("%w (committed %d, in doubt up to %d)", ErrUndecided, committed, target)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return 0, fmt.Errorf("libqjm: %w", context.Cause(ctx))
		}
		if _, got, err = c.statesOf(ctx, ref, false); err != nil {
			return 0, err
		}
	}
}

// dataAnswers returns those that count, of nodes whose data is known.
func dataAnswers(cfg quorum.Config, got []reply[rpc.JournalState]) []reply[rpc.JournalState] {
	return slices.DeleteFunc(slices.Clone(got), func(r reply[rpc.JournalState]) bool {
		return !counts(cfg, r) || !r.val.DataKnown
	})
}

// chosenEnd is R2's order over status answers: newest segment, any > none, finalized > in progress,
// higher ballot, longer. The choice is only waited for, never imposed, so digests need not be compared:
// what is committed then is committed by its own right. A node whose data is unknown is no data answer,
// here as in recovery (N2), and an answer that does not count (D6) moves no target, up or down: without a
// majority of data answers it is a *recovery.NoQuorumError.
func chosenEnd(cfg quorum.Config, got []reply[rpc.JournalState]) (TxID, error) {
	got = dataAnswers(cfg, got)
	if !cfg.Majority(countIn(cfg, got)) {
		return 0, &recovery.NoQuorumError{Step: "data answers"}
	}
	newest, prev := TxID(0), TxID(0)
	for _, r := range got {
		newest = max(newest, r.val.Answer.Newest)
	}
	if newest > 0 {
		prev = newest - 1
	}
	var copies []recovery.Copy
	for _, r := range got {
		if r.val.Answer.Newest == newest && r.val.Answer.Copy.HasTxns() {
			copies = append(copies, r.val.Answer.Copy)
		}
	}
	purged := TxID(0) // committed, whoever holds nothing behind it (C5)
	for _, r := range got {
		purged = max(purged, r.val.Answer.Purged.TxID)
	}
	if len(copies) == 0 {
		return max(prev, purged), nil
	}
	best := slices.MaxFunc(copies, func(a, b recovery.Copy) int {
		return cmp.Or(cmp.Compare(a.State, b.State), cmp.Compare(a.Ballot(), b.Ballot()), cmp.Compare(a.Last.TxID, b.Last.TxID))
	})
	return max(best.Last.TxID, purged), nil
}
