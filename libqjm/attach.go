package libqjm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/replication"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// Claim is what a writer writes under: its epoch, and the writer id it drew when it was opened.
type Claim = fencing.Claim

// ErrClaimInForce: AttachWriter was given a claim that no majority has fenced. Under a claim in force
// only the writer that won it may write (F4).
var ErrClaimInForce = errors.New("libqjm: the claim is still in force")

// Claim returns what the writer writes under.
func (w *Writer) Claim() Claim {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.recovered.Claim
}

// AttachWriter is what a deposed writer looks like: a writer under the claim of an earlier one, without
// fencing and without recovery. It shows, in demos and tests, that a process that comes back with the
// epoch it had is refused by the nodes themselves; a service that wants to write calls OpenWriter.
//
// It knocks at the nodes with that claim and returns once so many have refused it that it can never
// write: every append then fails with ErrFenced, as a definite refusal, and the *fencing.FencedError in
// it names both epochs. Errors: ErrClaimInForce where no majority has promised a higher epoch;
// ErrNoJournal, ErrJournalDeleted, ErrNoQuorum; context errors.
//
// It cannot do harm: only nodes that said that they have promised a higher epoch are spoken to, a
// promise is durable and never goes down (F1), so none of them can take anything from this writer.
func (c *Client) AttachWriter(ctx context.Context, name string, claim Claim) (*Writer, error) {
	if claim.Epoch == 0 || claim.Writer.IsZero() {
		return nil, fmt.Errorf("%w: %w", ErrBadRequest, fencing.ErrZeroEpoch)
	}
	ref, got, err := c.states(ctx, name, true)
	if err != nil {
		return nil, err
	}
	deposed := func(m quorum.Member) bool { return hasPromisedAbove(got, m, claim.Epoch) }
	if !ref.cfg.Majority(deposed) {
		return nil, fmt.Errorf("%w: epoch %d of journal %s", ErrClaimInForce, claim.Epoch, name)
	}
	w := &Writer{
		c: c, ref: ref, opts: WriterOptions{}.withDefaults(), recovered: recovery.Result{Claim: claim},
		core: replication.New(ref.cfg, claim, segments.End{}, replication.Options{}),
	}
	w.in.opts, w.in.next, w.in.epoch = &w.opts, 1, claim.Epoch
	w.ctx, w.cancel = context.WithCancel(c.ctx)
	w.newEra(ref.cfg, slices.DeleteFunc(ref.cfg.Members(), func(m quorum.Member) bool { return !deposed(m) }))
	err = w.await(ctx, func() (bool, error) { return false, w.err })
	if errors.Is(err, ErrFenced) {
		return w, nil
	}
	w.abandon(err)
	return nil, err
}

func hasPromisedAbove(got []reply[rpc.JournalState], m quorum.Member, e Epoch) bool {
	for _, r := range got {
		if r.err == nil && r.node == m.ID && r.val.Incarnation == m.Incarnation && r.val.Promised.Epoch > e {
			return true
		}
	}
	return false
}
