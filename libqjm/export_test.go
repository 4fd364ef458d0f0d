package libqjm

import (
	"context"

	"github.com/quorumjournal/qjm/segments"
)

// listerFunc is a catalog for tests.
type listerFunc func(ctx context.Context, id segments.JournalID, configVersion uint64, snap Snapshot) error

func (f listerFunc) listSnapshot(ctx context.Context, id segments.JournalID, configVersion uint64, snap Snapshot) error {
	return f(ctx, id, configVersion, snap)
}

// SetLister has f list snapshots.
func (c *Client) SetLister(f func(ctx context.Context, id segments.JournalID, configVersion uint64, snap Snapshot) error) {
	c.lister = listerFunc(f)
}
