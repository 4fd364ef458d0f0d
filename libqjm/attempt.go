package libqjm

import (
	"context"
	"errors"

	"github.com/quorumjournal/qjm/internal/opening"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/recovery"
)

// win takes an epoch and recovers (F2, R2a). A newer config that is heard of meanwhile is taken into ref (M7).
func (c *Client) win(ctx context.Context, ref *journalRef, opts recovery.Options) (recovery.Result, error) {
	o := opening.Opening{
		Journal: ref.summary(), Nodes: c.node, Log: c.log, Life: c.ctx, Start: c.start,
		Bounds: opening.Bounds{Request: c.opts.RequestTimeout, Accept: c.opts.AcceptTimeout, Patience: c.opts.Patience},
		Refresh: func(ctx context.Context) quorum.Config {
			newer := *ref
			c.refresh(ctx, &newer)
			return newer.cfg
		},
	}
	res, err := o.Win(ctx, opts)
	ref.cfg = o.Journal.Config
	if errors.Is(err, opening.ErrClosed) {
		err = ErrClosed
	}
	return res, err
}
