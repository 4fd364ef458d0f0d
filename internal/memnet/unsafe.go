package memnet

import (
	"context"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
)

func (c *conn) SurveyGroup(ctx context.Context) (rpc.GroupState, error) {
	return unary(ctx, c, "SurveyGroup", func(ctx context.Context, s rpc.Service) (rpc.GroupState, error) { return s.SurveyGroup(ctx) })
}

func (c *conn) InspectCopy(ctx context.Context, req rpc.InspectRequest) (recovery.Answer, error) {
	return unary(ctx, c, "InspectCopy", func(ctx context.Context, s rpc.Service) (recovery.Answer, error) { return s.InspectCopy(ctx, req) })
}

func (c *conn) CarryOut(ctx context.Context, req rpc.CarryOutRequest) (string, error) {
	return unary(ctx, c, "CarryOut", func(ctx context.Context, s rpc.Service) (string, error) { return s.CarryOut(ctx, req) })
}

func (c *conn) LearnAddresses(ctx context.Context, req rpc.AddressesRequest) error {
	_, err := unary(ctx, c, "LearnAddresses", func(ctx context.Context, s rpc.Service) (none, error) { return none{}, s.LearnAddresses(ctx, req) })
	return err
}
