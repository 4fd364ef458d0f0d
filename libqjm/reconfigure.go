package libqjm

import (
	"context"

	"github.com/quorumjournal/qjm/internal/opening"
)

// refresh asks all nodes for the newest config, and reports whether there is one. Any answer will do: what
// a node says is installed there, durably (M0). Whoever goes on with it still needs majorities of it (M7).
func (c *Client) refresh(ctx context.Context, ref *journalRef) bool {
	before := ref.cfg.Version
	newest, _, _ := c.statesOnce(ctx, journalRef{id: ref.id, name: ref.name}, true) // without a quorum, too
	if newest.cfg.Version > before {
		ref.cfg = newest.cfg
	}
	return ref.cfg.Version > before
}

// moveWithConfig follows the journal's config (M3): when a node refuses a stream because it has a newer one
// installed, the writer adopts that, and keeps its epoch.
func (w *Writer) moveWithConfig() {
	for {
		select {
		case <-w.outdated:
			w.move()
		case <-w.ctx.Done():
			return
		}
	}
}

func (w *Writer) move() {
	w.turn.Lock()
	defer w.turn.Unlock()
	w.mu.Lock()
	ref, over := w.ref, w.err != nil
	w.mu.Unlock()
	if over || !w.c.refresh(w.ctx, &ref) {
		return
	}
	w.c.log.Info("writer goes over to a newer config", "journal", ref.name, "version", ref.cfg.Version)
	w.mu.Lock()
	w.reopening = true // nothing is handed over, counted or rolled until the new streams are up
	old := w.era
	w.mu.Unlock()
	old.end() // acks of the old version end here (M3)
	w.mu.Lock()
	w.reopening = false
	w.ref.cfg = ref.cfg
	err := w.core.Reconfigure(ref.cfg)
	if err != nil && !w.mayReopen(err) {
		w.end(err)
	}
	if !w.core.Writing() && err == nil {
		w.rolling = true
	}
	over = w.err != nil
	w.mu.Unlock()
	if over {
		return
	}
	w.newEra(ref.cfg, ref.cfg.Members())
	w.mu.Lock()
	w.changed()
	w.advance()
	w.mu.Unlock()
}

// heard looks at why a stream ended: a newer config starts a move, an older one is mended at once. It
// reports whether to try again without a pause.
func (ch *channel) heard(err error) bool {
	w := ch.w
	if opening.IsNewerConfig(err, ch.era.cfg.Version) {
		select {
		case w.outdated <- struct{}{}:
		default:
		}
		return false
	}
	ctx, cancel := context.WithTimeout(ch.era.ctx, w.c.opts.RequestTimeout)
	defer cancel()
	n, nerr := w.c.node(ch.member)
	ref := journalRef{id: w.ref.id, name: w.ref.name, cfg: ch.era.cfg}
	return nerr == nil && opening.SendConfig(ctx, n, ref.summary(), err)
}
