package wire

import (
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
)

func reachToProto(r rpc.Reach) *qjmv1.Reach {
	return &qjmv1.Reach{Id: r.ID, Nodes: membersToProto(r.Nodes)}
}

func (d *decoder) reach(p *qjmv1.Reach) rpc.Reach {
	return rpc.Reach{ID: p.GetId(), Nodes: d.members("nodes to reach", p.GetNodes(), quorum.MaxMembers)}
}

func reachedToProto(r rpc.Reached) *qjmv1.Reached {
	p := &qjmv1.Reached{Id: r.ID, Nodes: make([]*qjmv1.ReachedNode, len(r.Nodes))}
	for i, n := range r.Nodes {
		p.Nodes[i] = &qjmv1.ReachedNode{NodeId: text(string(n.Node.ID)), Incarnation: n.Node.Incarnation[:], Err: problem(n.Err)}
	}
	return p
}

func (d *decoder) reached(p *qjmv1.Reached) rpc.Reached {
	r := rpc.Reached{ID: p.GetId()}
	if !d.count("nodes that were to be reached", len(p.GetNodes()), quorum.MaxMembers) {
		return r
	}
	for _, n := range p.GetNodes() {
		r.Nodes = append(r.Nodes, rpc.ReachedNode{
			Node: quorum.Key{ID: d.nodeID(n.GetNodeId()), Incarnation: d.id("incarnation", n.GetIncarnation())}, Err: problem(n.GetErr()),
		})
	}
	return r
}

func askWriterToProto(r rpc.AskWriterRequest) *qjmv1.AskWriterRequest {
	return &qjmv1.AskWriterRequest{JournalId: r.Journal[:], Reach: reachToProto(r.Reach)}
}

func askWriterFromProto(p *qjmv1.AskWriterRequest) (rpc.AskWriterRequest, error) {
	var d decoder
	return rpc.AskWriterRequest{Journal: d.id("journal id", p.JournalId), Reach: d.reach(p.Reach)}, d.done()
}

func writerAnswerToProto(a rpc.WriterAnswer) *qjmv1.AskWriterResponse {
	p := &qjmv1.AskWriterResponse{Writer: claimToProto(a.Writer)}
	if a.Reached.ID != 0 {
		p.Reached = reachedToProto(a.Reached)
	}
	return p
}

func writerAnswerFromProto(p *qjmv1.AskWriterResponse) (rpc.WriterAnswer, error) {
	var d decoder
	return rpc.WriterAnswer{Writer: d.claim(p.Writer), Reached: d.reached(p.Reached)}, d.done()
}
