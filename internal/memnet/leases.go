package memnet

import (
	"context"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/segments"
)

func (c *conn) AcquireLease(ctx context.Context, req rpc.LeaseRequest) (rpc.LeaseGrant, error) {
	return unary(ctx, c, "AcquireLease", func(ctx context.Context, s rpc.Service) (rpc.LeaseGrant, error) { return s.AcquireLease(ctx, req) })
}

func (c *conn) KeepLeases(ctx context.Context, req rpc.LeaseRenewal) ([]error, error) {
	return unary(ctx, c, "KeepLeases", func(ctx context.Context, s rpc.Service) ([]error, error) { return s.KeepLeases(ctx, req) })
}

func (c *conn) ResignLease(ctx context.Context, ref rpc.LeaseRef) error {
	_, err := unary(ctx, c, "ResignLease", func(ctx context.Context, s rpc.Service) (none, error) { return none{}, s.ResignLease(ctx, ref) })
	return err
}

func (c *conn) TransferLease(ctx context.Context, req rpc.LeaseTransfer) (uint64, error) {
	return unary(ctx, c, "TransferLease", func(ctx context.Context, s rpc.Service) (uint64, error) { return s.TransferLease(ctx, req) })
}

func (c *conn) Lease(ctx context.Context, id segments.JournalID) (rpc.Lease, error) {
	return unary(ctx, c, "Lease", func(ctx context.Context, s rpc.Service) (rpc.Lease, error) { return s.Lease(ctx, id) })
}

func (c *conn) WatchLease(ctx context.Context, req rpc.LeaseWatch) (rpc.Lease, error) {
	return unary(ctx, c, "WatchLease", func(ctx context.Context, s rpc.Service) (rpc.Lease, error) { return s.WatchLease(ctx, req) })
}
