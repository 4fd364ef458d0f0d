package libqjm

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/replication"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// mayReopen reports whether the writer outlives a refusal by opening anew: always after a lost race,
// which is not fencing (F5), and where nodes do not fit the segment; after fencing only where the embedder said so (F6).
func (w *Writer) mayReopen(why error) bool {
	if errors.Is(why, ErrFenced) {
		return w.opts.ReopenWhenFenced
	}
	return errors.Is(why, ErrLostRace) || errors.Is(why, recovery.ErrBreach)
}

// reopenWhenBlocked watches for a writer that cannot get a quorum without a node that refused its epoch.
func (w *Writer) reopenWhenBlocked() {
	tick := time.NewTicker(w.opts.ReopenAfter / 4)
	defer tick.Stop()
	var since time.Time
	for {
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			return
		}
		w.mu.Lock()
		why, over := w.core.Blocked(), w.err != nil
		w.mu.Unlock()
		switch {
		case over:
			return
		case why == nil || !w.mayReopen(why):
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= w.opts.ReopenAfter:
			since = time.Time{}
			w.reopen(why)
		}
	}
}

// reopen takes a higher epoch, recovers, and goes on with what was under way: what recovery kept is
// committed; the rest is certain not to be in the journal, and is sent again, under the same txids, in
// frames of the new epoch.
func (w *Writer) reopen(why error) {
	if w.succeeded() && !w.opts.ReopenWhenFenced {
		return
	}
	w.c.log.Info("writer opens anew", "journal", w.ref.name, "because", why)
	w.turn.Lock()
	defer w.turn.Unlock()
	w.mu.Lock()
	w.reopening = true
	ref := w.ref
	old, epoch := w.era, w.recovered.Claim.Epoch
	w.mu.Unlock()
	old.end()
	res, err := w.c.win(w.ctx, &ref, recovery.Options{MinEpoch: epoch + 1})
	w.mu.Lock()
	w.reopening = false
	w.ref.cfg = ref.cfg
	if err == nil && w.err == nil {
		err = w.adopt(res)
	}
	if err != nil {
		w.end(err)
	}
	over := w.err != nil
	w.mu.Unlock()
	if over {
		return
	}
	w.newEra(ref.cfg, ref.cfg.Members())
	w.mu.Lock()
	w.advance()
	w.mu.Unlock()
}

// succeeded asks whether somebody has taken a higher epoch since. A refusal is remembered as it was given:
// 1. C refuses epoch 5, which it promised to a racer; 2. another writer takes epoch 6 on A and C, where A is
// out of this one's reach; 3. this writer holds B alone and is blocked by C's refusal of old. Opening anew
// would fence the writer of epoch 6, which only ReopenWhenFenced allows (F6).
func (w *Writer) succeeded() bool {
	epoch := w.Epoch()
	_, got, _ := w.c.statesOf(w.ctx, w.ref, true) // whoever answers: one node above is enough
	return slices.ContainsFunc(got, func(r reply[rpc.JournalState]) bool {
		return r.err == nil && r.val.Promised.Epoch > epoch
	})
}

// adopt makes a new epoch the writer's own. The caller holds mu.
func (w *Writer) adopt(res recovery.Result) error {
	if err := w.checkOwn(res); err != nil {
		return err
	}
	in := &w.in
	in.mu.Lock()
	defer in.mu.Unlock()
	waiting := slices.Concat(w.flying, in.batches)
	w.flying, in.batches = nil, nil
	for i, b := range waiting {
		if b.flown && b.last() <= res.Prev.Last {
			w.committed([]*batch{b})
			continue
		}
		if !b.flown || w.opts.sink != nil { // what flies still counts where it does until it is applied
			in.queued -= b.bytes
		}
		again, err := b.under(res.Claim.Epoch)
		if err != nil {
			in.batches = append(in.batches, waiting[i:]...) // they fail with the writer
			return err
		}
		in.batches = append(in.batches, again)
		in.queued += again.bytes
	}
	in.epoch = res.Claim.Epoch
	w.recovered = res
	w.core = replication.New(w.ref.cfg, res.Claim, res.Prev, replication.Options{RingBytes: w.opts.RingBytes})
	if w.rolling {
		w.rolling = false
		w.rolls++ // recovery finalized the segment
	}
	w.opened = time.Time{}
	w.changed()
	if w.opts.sink != nil {
		w.opts.sink.wake()
	}
	return nil
}

// checkOwn: what was recovered must be this writer's own journal up to a frame of its own. It is
// otherwise only if somebody else wrote in between, and that is fencing, whatever the refusal said.
func (w *Writer) checkOwn(res recovery.Result) error {
	prev := res.Prev
	if prev.Position() == w.core.Committed() {
		return nil
	}
	for _, b := range w.flying {
		if b.frame.Position() == prev.Position() {
			return nil
		}
	}
	other := fencing.Claim{Epoch: max(res.Recovered.Epoch, w.recovered.Claim.Epoch+1)}
	return fmt.Errorf("libqjm: the journal went on to %s without this writer: %w", prev.Position(),
		&fencing.FencedError{Promised: other, Got: w.recovered.Claim})
}

// under returns the batch for another epoch: the same transactions and txids. Its callers wait on the
// same channel.
func (b *batch) under(e Epoch) (*batch, error) {
	f := b.frame
	if !b.flown {
		var err error
		if f, err = b.b.Seal(segments.Digest{}, segments.SealOptions{}); err != nil {
			return nil, err
		}
	}
	b.b.Reset(b.first, e)
	err := f.EachTxn(func(_ TxID, txn []byte) error { return b.b.Add(txn) })
	b.flown, b.frame = false, segments.Frame{}
	return b, err
}
