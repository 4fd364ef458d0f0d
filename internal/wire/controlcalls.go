package wire

import (
	"context"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
	"github.com/quorumjournal/qjm/segments"
)

// The client's side.

func (n *node) ForwardCommand(ctx context.Context, command []byte) (rpc.CommandResult, error) {
	p, err := n.cc.ForwardCommand(ctx, &qjmv1.ForwardCommandRequest{Command: command})
	return reply(n, p, err, resultFromProto)
}

func (n *node) ReadIndex(ctx context.Context) (uint64, error) {
	p, err := n.cc.GetReadIndex(ctx, &qjmv1.GetReadIndexRequest{})
	return p.GetIndex(), n.fail(err)
}

func (n *node) Catalog(ctx context.Context, strength rpc.ReadStrength) (rpc.CatalogView, error) {
	p, err := n.cc.GetCatalog(ctx, &qjmv1.GetCatalogRequest{Strength: strengthToProto(strength)})
	return reply(n, p, err, viewFromProto)
}

func (n *node) FindJournal(ctx context.Context, name string) (rpc.JournalSummary, error) {
	p, err := n.cc.FindJournal(ctx, &qjmv1.FindJournalRequest{Name: name})
	return reply(n, p, err, func(p *qjmv1.FindJournalResponse) (rpc.JournalSummary, error) {
		var d decoder
		return rpc.JournalSummary{ID: d.id("journal id", p.JournalId), Name: name, Config: d.config(p.Config)}, d.done()
	})
}

func (n *node) PlaceJournal(ctx context.Context, req rpc.PlaceRequest) (quorum.Config, error) {
	p, err := n.cc.PlaceJournal(ctx, placeToProto(req))
	return reply(n, p, err, func(p *qjmv1.PlaceJournalResponse) (quorum.Config, error) {
		var d decoder
		return d.config(p.Config), d.done()
	})
}

func (n *node) DropJournal(ctx context.Context, req rpc.DropRequest) (segments.JournalID, error) {
	p, err := n.cc.DropJournal(ctx, &qjmv1.DropJournalRequest{Name: req.Name, JournalId: idOrNone(req.ID)})
	return reply(n, p, err, func(p *qjmv1.DropJournalResponse) (segments.JournalID, error) { return journalIDFromProto(p.JournalId) })
}

func (n *node) ConfigureJournal(ctx context.Context, req rpc.ConfigureRequest) error {
	_, err := n.cc.ConfigureJournal(ctx, configureToProto(req))
	return n.fail(err)
}

func (n *node) ListSnapshot(ctx context.Context, req rpc.ListRequest) error {
	_, err := n.cc.ListSnapshot(ctx, listToProto(req))
	return n.fail(err)
}

func (n *node) ChangeMembers(ctx context.Context, req rpc.ChangeRequest) (rpc.ChangeReply, error) {
	p, err := n.cc.ChangeMembers(ctx, changeToProto(req))
	return reply(n, p, err, changeReplyFromProto)
}

func (n *node) AbortChange(ctx context.Context, req rpc.AbortRequest) (uint64, error) {
	p, err := n.cc.AbortChange(ctx, &qjmv1.AbortChangeRequest{Name: req.Name, Change: req.Change})
	return p.GetVersion(), n.fail(err)
}

func (n *node) Readmit(ctx context.Context, req rpc.ReadmitRequest) (rpc.ReadmitReply, error) {
	p, err := n.cc.ReadmitNode(ctx, &qjmv1.ReadmitNodeRequest{NodeId: string(req.Node), DryRun: req.DryRun})
	return reply(n, p, err, func(p *qjmv1.ReadmitNodeResponse) (rpc.ReadmitReply, error) {
		var d decoder
		return rpc.ReadmitReply{Old: d.member(p.Old), New: d.member(p.New)}, d.done()
	})
}

func (n *node) Join(ctx context.Context, req rpc.JoinRequest) (rpc.JoinReply, error) {
	p, err := n.cc.JoinCluster(ctx, &qjmv1.JoinClusterRequest{Node: catalogNodeToProto(req.Node), DryRun: req.DryRun})
	return reply(n, p, err, joinReplyFromProto)
}

func (n *node) RemoveNode(ctx context.Context, req rpc.RemoveRequest) error {
	_, err := n.cc.RemoveNode(ctx, &qjmv1.RemoveNodeRequest{NodeId: string(req.Node), Incarnation: idOrNone(req.Incarnation), DryRun: req.DryRun, Forwarded: req.Forwarded})
	return n.fail(err)
}

func (n *node) TransferLeader(ctx context.Context, req rpc.TransferRequest) (quorum.NodeID, error) {
	p, err := n.cc.TransferLeader(ctx, &qjmv1.TransferLeaderRequest{NodeId: string(req.To), Forwarded: req.Forwarded})
	return reply(n, p, err, func(p *qjmv1.TransferLeaderResponse) (quorum.NodeID, error) {
		var d decoder
		return d.nodeIDOrNone(p.NodeId), d.done()
	})
}

func (n *node) RaftSnapshot(ctx context.Context) (uint64, error) {
	p, err := n.cc.TakeRaftSnapshot(ctx, &qjmv1.TakeRaftSnapshotRequest{})
	return p.GetIndex(), n.fail(err)
}

// controlServer decodes, calls, encodes.
type controlServer struct {
	qjmv1.UnsafeControlPlaneServer
	svc rpc.ControlService
}

func (s *controlServer) ForwardCommand(ctx context.Context, p *qjmv1.ForwardCommandRequest) (*qjmv1.ForwardCommandResponse, error) {
	return serve(ctx, p.Command, func(b []byte) ([]byte, error) {
		var d decoder
		d.count("bytes in a command", len(b), rpc.CommandBytesMax)
		return b, d.done()
	}, s.svc.ForwardCommand, resultToProto)
}

func (s *controlServer) GetReadIndex(ctx context.Context, _ *qjmv1.GetReadIndexRequest) (*qjmv1.GetReadIndexResponse, error) {
	i, err := s.svc.ReadIndex(ctx)
	return &qjmv1.GetReadIndexResponse{Index: i}, toStatus(err)
}

func (s *controlServer) GetCatalog(ctx context.Context, p *qjmv1.GetCatalogRequest) (*qjmv1.GetCatalogResponse, error) {
	return serve(ctx, p.Strength, func(st qjmv1.ReadStrength) (rpc.ReadStrength, error) {
		var d decoder
		return d.strength(st), d.done()
	}, s.svc.Catalog, viewToProto)
}

func (s *controlServer) FindJournal(ctx context.Context, p *qjmv1.FindJournalRequest) (*qjmv1.FindJournalResponse, error) {
	return serve(ctx, p.Name, nameFromProto, s.svc.FindJournal, foundToProto)
}

func nameFromProto(name string) (string, error) { return name, rpc.CheckJournalName(name) }

func (s *controlServer) PlaceJournal(ctx context.Context, p *qjmv1.PlaceJournalRequest) (*qjmv1.PlaceJournalResponse, error) {
	return serve(ctx, p, placeFromProto, s.svc.PlaceJournal, func(c quorum.Config) *qjmv1.PlaceJournalResponse {
		return &qjmv1.PlaceJournalResponse{Config: configToProto(c)}
	})
}

func (s *controlServer) DropJournal(ctx context.Context, p *qjmv1.DropJournalRequest) (*qjmv1.DropJournalResponse, error) {
	return serve(ctx, p, dropFromProto, s.svc.DropJournal, func(id segments.JournalID) *qjmv1.DropJournalResponse {
		return &qjmv1.DropJournalResponse{JournalId: id[:]}
	})
}

func (s *controlServer) ConfigureJournal(ctx context.Context, p *qjmv1.ConfigureJournalRequest) (*qjmv1.ConfigureJournalResponse, error) {
	r, err := configureFromProto(p)
	if err == nil {
		err = s.svc.ConfigureJournal(ctx, r)
	}
	return &qjmv1.ConfigureJournalResponse{}, toStatus(err)
}

func (s *controlServer) ListSnapshot(ctx context.Context, p *qjmv1.ListSnapshotRequest) (*qjmv1.ListSnapshotResponse, error) {
	r, err := listFromProto(p)
	if err == nil {
		err = s.svc.ListSnapshot(ctx, r)
	}
	return &qjmv1.ListSnapshotResponse{}, toStatus(err)
}

func (s *controlServer) ChangeMembers(ctx context.Context, p *qjmv1.ChangeMembersRequest) (*qjmv1.ChangeMembersResponse, error) {
	return serve(ctx, p, changeFromProto, s.svc.ChangeMembers, changeReplyToProto)
}

func (s *controlServer) AbortChange(ctx context.Context, p *qjmv1.AbortChangeRequest) (*qjmv1.AbortChangeResponse, error) {
	return serve(ctx, p, func(p *qjmv1.AbortChangeRequest) (rpc.AbortRequest, error) {
		return rpc.AbortRequest{Name: p.Name, Change: p.Change}, rpc.CheckJournalName(p.Name)
	}, s.svc.AbortChange, func(v uint64) *qjmv1.AbortChangeResponse { return &qjmv1.AbortChangeResponse{Version: v} })
}

func (s *controlServer) ReadmitNode(ctx context.Context, p *qjmv1.ReadmitNodeRequest) (*qjmv1.ReadmitNodeResponse, error) {
	return serve(ctx, p, func(p *qjmv1.ReadmitNodeRequest) (rpc.ReadmitRequest, error) {
		var d decoder
		return rpc.ReadmitRequest{Node: d.nodeID(p.NodeId), DryRun: p.DryRun}, d.done()
	}, s.svc.Readmit, func(r rpc.ReadmitReply) *qjmv1.ReadmitNodeResponse {
		return &qjmv1.ReadmitNodeResponse{Old: memberToProto(r.Old), New: memberToProto(r.New)}
	})
}

func (s *controlServer) JoinCluster(ctx context.Context, p *qjmv1.JoinClusterRequest) (*qjmv1.JoinClusterResponse, error) {
	return serve(ctx, p, func(p *qjmv1.JoinClusterRequest) (rpc.JoinRequest, error) {
		var d decoder
		return rpc.JoinRequest{Node: d.catalogNode(p.Node), DryRun: p.DryRun}, d.done()
	}, s.svc.Join, joinReplyToProto)
}

func (s *controlServer) RemoveNode(ctx context.Context, p *qjmv1.RemoveNodeRequest) (*qjmv1.RemoveNodeResponse, error) {
	var d decoder
	r := rpc.RemoveRequest{Node: d.nodeID(p.NodeId), Incarnation: d.idOrNone("incarnation", p.Incarnation), DryRun: p.DryRun, Forwarded: p.Forwarded}
	err := d.done()
	if err == nil {
		err = s.svc.RemoveNode(ctx, r)
	}
	return &qjmv1.RemoveNodeResponse{}, toStatus(err)
}

func (s *controlServer) TransferLeader(ctx context.Context, p *qjmv1.TransferLeaderRequest) (*qjmv1.TransferLeaderResponse, error) {
	return serve(ctx, p, func(p *qjmv1.TransferLeaderRequest) (rpc.TransferRequest, error) {
		var d decoder
		return rpc.TransferRequest{To: d.nodeIDOrNone(p.NodeId), Forwarded: p.Forwarded}, d.done()
	}, s.svc.TransferLeader, func(id quorum.NodeID) *qjmv1.TransferLeaderResponse {
		return &qjmv1.TransferLeaderResponse{NodeId: string(id)}
	})
}

func (s *controlServer) TakeRaftSnapshot(ctx context.Context, _ *qjmv1.TakeRaftSnapshotRequest) (*qjmv1.TakeRaftSnapshotResponse, error) {
	i, err := s.svc.RaftSnapshot(ctx)
	return &qjmv1.TakeRaftSnapshotResponse{Index: i}, toStatus(err)
}
