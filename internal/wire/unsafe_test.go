package wire

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

func (c *control) SurveyGroup(context.Context) (rpc.GroupState, error) { return c.group, c.failure }

func (c *control) InspectCopy(_ context.Context, r rpc.InspectRequest) (recovery.Answer, error) {
	c.said("InspectCopy", r)
	return c.inspected, c.failure
}

func (c *control) CarryOut(_ context.Context, r rpc.CarryOutRequest) (string, error) {
	c.said("CarryOut", r)
	return "note", c.failure
}

func (c *control) LearnAddresses(_ context.Context, r rpc.AddressesRequest) error {
	c.said("LearnAddresses", r)
	return c.failure
}

func TestEveryFieldOfUnsafeCallsArrives(t *testing.T) {
	digest := strings.Repeat("d", rpc.PlanDigestSize)
	s := &fakeService{control: control{
		group: rpc.GroupState{
			Cluster: rpc.ClusterID{8}, Node: members[0].Key(), Down: "why",
			Servers:   []rpc.GroupServer{{Key: members[0].Key(), Voter: true}, {Key: members[1].Key()}},
			LastIndex: 1 << 63, LastTerm: 3, CommitIndex: 4, Leader: "n2",
			Record: rpc.RecoveryRecord{Generation: 1 << 62, Digest: digest, Plan: []byte("plan"), Progress: rpc.RecoveryForced, GivenUp: members},
		},
		inspected: recovery.Answer{
			Node: quorum.Key{ID: "n1"}, Copy: recovery.Copy{Segment: 5, State: recovery.InProgress, Epoch: 6, Last: segments.Position{TxID: 9}},
			Newest: 5, Digests: []recovery.DigestReply{{At: segments.Position{TxID: 7}, Found: true}},
		},
	}}
	n, ctx := connect(t, s), within(t)
	g, err := n.SurveyGroup(ctx)
	require.NoError(t, err)
	require.Equal(t, s.group, g)

	in := rpc.InspectRequest{Journal: segments.JournalID{3}, Segment: 5, Digests: []segments.TxID{7, 8}}
	a, err := n.InspectCopy(ctx, in)
	require.NoError(t, err)
	require.Equal(t, s.inspected, a)
	requireSame(t, call{"InspectCopy", []any{in}}, s.last)

	do := rpc.CarryOutRequest{Digest: digest, Step: rpc.StepDone, Plan: []byte("plan"), Journal: segments.JournalID{3}}
	note, err := n.CarryOut(ctx, do)
	require.NoError(t, err)
	require.Equal(t, "note", note)
	requireSame(t, call{"CarryOut", []any{do}}, s.last)

	tell := rpc.AddressesRequest{Cluster: rpc.ClusterID{8}, Nodes: members}
	require.NoError(t, n.LearnAddresses(ctx, tell))
	requireSame(t, call{"LearnAddresses", []any{tell}}, s.last)

	for _, bad := range []rpc.CarryOutRequest{{Digest: "short", Step: rpc.StepDone}, {Digest: digest}, {Digest: digest, Step: rpc.StepDone + 1}} {
		_, err := n.CarryOut(ctx, bad)
		require.ErrorIs(t, err, rpc.ErrBadRequest)
	}
	s.failure = fmt.Errorf("%w: why", rpc.ErrPlan)
	_, err = n.CarryOut(ctx, do)
	require.ErrorIs(t, err, rpc.ErrPlan)
}
