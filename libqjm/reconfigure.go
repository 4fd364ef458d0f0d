package libqjm

import (
	"context"

	"github.com/quorumjournal/qjm/internal/opening"
	"github.com/quorumjournal/qjm/internal/rpc"
)

// refresh asks all nodes for a newer config, and reports whether there is one. Any answer will do: what a node
// says is installed there, durably (M0), and whoever goes on with it still needs majorities of it (M7). Nobody is
// waited for behind the first such answer: a live writer's streams are down meanwhile, and beside one node that
// hangs it would pass for gone (M6).
func (c *Client) refresh(ctx context.Context, ref *journalRef) bool {
	before := ref.cfg.Version
	ask(ctx, c, c.nodeIDs(), func(ctx context.Context, n rpc.Node) (rpc.JournalState, error) {
		return n.State(ctx, ref.id)
	}, func(r reply[rpc.JournalState]) (enough bool) {
		if cfg := r.val.Summary.Config; r.err == nil && !cfg.IsEmpty() && cfg.Version > ref.cfg.Version {
			ref.cfg = cfg
			c.adoptAddrs(cfg)
		}
		return ref.cfg.Version > before
	})
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
	select {  // what its other channels heard: to look again for that would wait for all nodes, in vain
	case <-w.outdated:
	default:
	}
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
