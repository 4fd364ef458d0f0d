package libqjm

import (
	"context"

	"github.com/quorumjournal/qjm/internal/rpc"
)

// listerFunc is a catalog for tests.
type listerFunc func(ctx context.Context, req rpc.ListRequest) error

func (f listerFunc) listSnapshot(ctx context.Context, req rpc.ListRequest) error { return f(ctx, req) }

// SetLister has f list snapshots; nil: the cluster does again.
func (c *Client) SetLister(f func(ctx context.Context, req rpc.ListRequest) error) {
	c.lister = listerFunc(f)
	if f == nil {
		c.lister = catalogLister{c}
	}
}
