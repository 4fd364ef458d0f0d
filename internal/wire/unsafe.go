package wire

import (
	"context"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// The client's side.

func (n *node) SurveyGroup(ctx context.Context) (rpc.GroupState, error) {
	p, err := n.cc.SurveyGroup(ctx, &qjmv1.SurveyGroupRequest{})
	return reply(n, p, err, groupStateFromProto)
}

func (n *node) InspectCopy(ctx context.Context, req rpc.InspectRequest) (recovery.Answer, error) {
	p, err := n.cc.InspectCopy(ctx, inspectToProto(req))
	return reply(n, p, err, func(p *qjmv1.InspectCopyResponse) (recovery.Answer, error) {
		var d decoder
		return d.answer(p.Answer), d.done()
	})
}

func (n *node) CarryOut(ctx context.Context, req rpc.CarryOutRequest) (string, error) {
	p, err := n.cc.CarryOut(ctx, carryOutToProto(req))
	return p.GetNote(), n.fail(err)
}

func (n *node) LearnAddresses(ctx context.Context, req rpc.AddressesRequest) error {
	_, err := n.cc.LearnAddresses(ctx, addressesToProto(req))
	return n.fail(err)
}

// The server's side.

func (s *controlServer) SurveyGroup(ctx context.Context, _ *qjmv1.SurveyGroupRequest) (*qjmv1.SurveyGroupResponse, error) {
	g, err := s.svc.SurveyGroup(ctx)
	return groupStateToProto(g), toStatus(err)
}

func (s *controlServer) InspectCopy(ctx context.Context, p *qjmv1.InspectCopyRequest) (*qjmv1.InspectCopyResponse, error) {
	return serve(ctx, p, inspectFromProto, s.svc.InspectCopy, func(a recovery.Answer) *qjmv1.InspectCopyResponse {
		return &qjmv1.InspectCopyResponse{Answer: answerToProto(a)}
	})
}

func (s *controlServer) CarryOut(ctx context.Context, p *qjmv1.CarryOutRequest) (*qjmv1.CarryOutResponse, error) {
	return serve(ctx, p, carryOutFromProto, s.svc.CarryOut, func(note string) *qjmv1.CarryOutResponse {
		return &qjmv1.CarryOutResponse{Note: text(note)}
	})
}

func (s *controlServer) LearnAddresses(ctx context.Context, p *qjmv1.LearnAddressesRequest) (*qjmv1.LearnAddressesResponse, error) {
	r, err := addressesFromProto(p)
	if err == nil {
		err = s.svc.LearnAddresses(ctx, r)
	}
	return &qjmv1.LearnAddressesResponse{}, toStatus(err)
}

// The values.

func groupStateToProto(g rpc.GroupState) *qjmv1.SurveyGroupResponse {
	p := &qjmv1.SurveyGroupResponse{
		ClusterId: idOrNone(g.Cluster), NodeId: text(string(g.Node.ID)), Incarnation: g.Node.Incarnation[:], Down: text(g.Down),
		LastIndex: g.LastIndex, LastTerm: g.LastTerm, CommitIndex: g.CommitIndex, Leader: text(string(g.Leader)),
		Generation: g.Record.Generation, PlanDigest: text(g.Record.Digest), Plan: g.Record.Plan, Progress: text(string(g.Record.Progress)),
	}
	for _, s := range g.Servers {
		p.Servers = append(p.Servers, &qjmv1.GroupServer{NodeId: text(string(s.Key.ID)), Incarnation: s.Key.Incarnation[:], Voter: s.Voter})
	}
	for _, m := range g.Record.GivenUp {
		p.GivenUp = append(p.GivenUp, memberToProto(m))
	}
	return p
}

func groupStateFromProto(p *qjmv1.SurveyGroupResponse) (rpc.GroupState, error) {
	var d decoder
	g := rpc.GroupState{
		Cluster: d.idOrNone("cluster id", p.ClusterId), Node: quorum.Key{ID: d.nodeID(p.NodeId), Incarnation: d.id("incarnation", p.Incarnation)},
		Down: p.Down, LastIndex: p.LastIndex, LastTerm: p.LastTerm, CommitIndex: p.CommitIndex, Leader: d.nodeIDOrNone(p.Leader),
		Record: rpc.RecoveryRecord{
			Generation: p.Generation, Digest: d.planDigest(p.PlanDigest), Plan: d.plan(p.Plan),
			Progress: rpc.RecoveryProgress(p.Progress), GivenUp: d.members("given up", p.GivenUp, rpc.GivenUpMax),
		},
	}
	switch g.Record.Progress {
	case "", rpc.RecoveryRecorded, rpc.RecoveryForcing, rpc.RecoveryForced, rpc.RecoveryDone:
	default:
		d.fail("unknown progress %.64q of a recovery", p.Progress)
	}
	if d.count("servers", len(p.Servers), rpc.CatalogNodesMax) {
		for _, s := range p.Servers {
			g.Servers = append(g.Servers, rpc.GroupServer{
				Key: quorum.Key{ID: d.nodeID(s.GetNodeId()), Incarnation: d.id("incarnation", s.GetIncarnation())}, Voter: s.GetVoter(),
			})
		}
	}
	return g, d.done()
}

func (d *decoder) plan(b []byte) []byte {
	d.count("bytes in a plan", len(b), rpc.PlanBytesMax)
	return b
}

func (d *decoder) planDigest(s string) string {
	if len(s) != 0 && len(s) != rpc.PlanDigestSize {
		d.fail("digest of a plan (got %d characters, want %d)", len(s), rpc.PlanDigestSize)
	}
	return s
}

func inspectToProto(r rpc.InspectRequest) *qjmv1.InspectCopyRequest {
	p := &qjmv1.InspectCopyRequest{JournalId: r.Journal[:], Segment: uint64(r.Segment)}
	for _, t := range r.Digests {
		p.Digests = append(p.Digests, uint64(t))
	}
	return p
}

func inspectFromProto(p *qjmv1.InspectCopyRequest) (rpc.InspectRequest, error) {
	var d decoder
	r := rpc.InspectRequest{Journal: d.id("journal id", p.JournalId), Segment: segments.TxID(p.Segment)}
	if d.count("digest questions", len(p.Digests), rpc.DigestsMax) {
		for _, t := range p.Digests {
			r.Digests = append(r.Digests, segments.TxID(t))
		}
	}
	return r, d.done()
}

func carryOutToProto(r rpc.CarryOutRequest) *qjmv1.CarryOutRequest {
	return &qjmv1.CarryOutRequest{Digest: r.Digest, Step: qjmv1.CarryOutStep(r.Step), Plan: r.Plan, JournalId: idOrNone(r.Journal)}
}

func carryOutFromProto(p *qjmv1.CarryOutRequest) (rpc.CarryOutRequest, error) {
	var d decoder
	r := rpc.CarryOutRequest{Digest: d.planDigest(p.Digest), Plan: d.plan(p.Plan), Journal: d.idOrNone("journal id", p.JournalId)}
	if p.Step <= qjmv1.CarryOutStep_CARRY_OUT_STEP_UNSPECIFIED || p.Step > qjmv1.CarryOutStep_CARRY_OUT_STEP_DONE {
		d.fail("unknown step %d of a recovery", p.Step)
	}
	r.Step = rpc.CarryOutStep(p.Step)
	return r, d.done()
}

func addressesToProto(r rpc.AddressesRequest) *qjmv1.LearnAddressesRequest {
	p := &qjmv1.LearnAddressesRequest{ClusterId: r.Cluster[:]}
	for _, m := range r.Nodes {
		p.Nodes = append(p.Nodes, memberToProto(m))
	}
	return p
}

func addressesFromProto(p *qjmv1.LearnAddressesRequest) (rpc.AddressesRequest, error) {
	var d decoder
	r := rpc.AddressesRequest{Cluster: d.id("cluster id", p.ClusterId), Nodes: d.members("nodes", p.Nodes, rpc.CatalogNodesMax)}
	return r, d.done()
}
