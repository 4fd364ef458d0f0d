package wire

import (
	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

func newEpochFromProto(p *qjmv1.NewEpochRequest) (rpc.Header, error) {
	var d decoder
	return d.header(p.Header), d.done()
}

func promiseToProto(r rpc.PromiseReply) *qjmv1.NewEpochResponse {
	return &qjmv1.NewEpochResponse{DataKnown: r.DataKnown, Newest: uint64(r.Newest), Purged: positionToProto(r.Purged)}
}

func promiseFromProto(p *qjmv1.NewEpochResponse) (rpc.PromiseReply, error) {
	var d decoder
	return rpc.PromiseReply{DataKnown: p.DataKnown, Newest: segments.TxID(p.Newest), Purged: d.position(p.Purged)}, d.done()
}

// prepareRequest is what Prepare takes besides its context.
type prepareRequest struct {
	Header  rpc.Header
	Segment segments.TxID
	Digests []segments.TxID
}

func prepareToProto(r prepareRequest) *qjmv1.PrepareRequest {
	p := &qjmv1.PrepareRequest{Header: headerToProto(r.Header), Segment: uint64(r.Segment)}
	for _, t := range r.Digests {
		p.DigestTxids = append(p.DigestTxids, uint64(t))
	}
	return p
}

func prepareFromProto(p *qjmv1.PrepareRequest) (prepareRequest, error) {
	var d decoder
	r := prepareRequest{Header: d.header(p.Header), Segment: segments.TxID(p.Segment)}
	if d.count("digest questions", len(p.DigestTxids), rpc.DigestsMax) {
		for _, t := range p.DigestTxids {
			r.Digests = append(r.Digests, segments.TxID(t))
		}
	}
	return r, d.done()
}

func answerToProto(a recovery.Answer) *qjmv1.Answer {
	c := &qjmv1.Copy{
		Segment:  uint64(a.Copy.Segment),
		State:    copyStateToProto(a.Copy.State),
		Epoch:    uint64(a.Copy.Epoch),
		Prev:     endToProto(a.Copy.Prev),
		Last:     positionToProto(a.Copy.Last),
		Accepted: acceptedToProto(a.Copy.Accepted),
	}
	if a.Copy.CutAt != nil {
		c.CutAt = &qjmv1.CutAt{At: positionToProto(*a.Copy.CutAt)}
	}
	p := &qjmv1.Answer{NodeId: text(string(a.Node.ID)), Copy: c, Floor: floorToProto(a.Floor), Newest: uint64(a.Newest), Purged: positionToProto(a.Purged)}
	for _, r := range a.Digests {
		p.Digests = append(p.Digests, &qjmv1.DigestAnswer{At: positionToProto(r.At), Found: r.Found})
	}
	return p
}

func acceptedToProto(a recovery.Accepted) *qjmv1.Accepted {
	if a.IsZero() {
		return nil
	}
	return &qjmv1.Accepted{Epoch: uint64(a.Epoch), End: endToProto(a.End)}
}

func answerFromProto(p *qjmv1.PrepareResponse) (recovery.Answer, error) {
	var d decoder
	return d.answer(p.Answer), d.done()
}

// answer reads an answer that says whose it is.
func (d *decoder) answer(p *qjmv1.Answer) recovery.Answer {
	a := d.answerOf(p)
	a.Node.ID = d.nodeID(p.GetNodeId())
	return a
}

// answerOf reads the rest of an answer.
func (d *decoder) answerOf(p *qjmv1.Answer) recovery.Answer {
	if p == nil {
		d.fail("answer is missing")
		return recovery.Answer{}
	}
	a := recovery.Answer{Copy: d.copyOf(p.Copy), Floor: d.floor(p.Floor), Newest: segments.TxID(p.Newest), Purged: d.position(p.Purged)}
	if d.count("digest answers", len(p.Digests), rpc.DigestsMax) {
		for _, r := range p.Digests {
			a.Digests = append(a.Digests, recovery.DigestReply{At: d.position(r.GetAt()), Found: r.GetFound()})
		}
	}
	return a
}

func (d *decoder) copyOf(p *qjmv1.Copy) recovery.Copy {
	if p == nil {
		d.fail("copy is missing")
		return recovery.Copy{}
	}
	c := recovery.Copy{
		Segment: segments.TxID(p.Segment),
		State:   d.copyState(p.State),
		Epoch:   fencing.Epoch(p.Epoch),
		Prev:    d.end(p.Prev),
		Last:    d.position(p.Last),
		Accepted: recovery.Accepted{
			Epoch: fencing.Epoch(p.GetAccepted().GetEpoch()),
			End:   d.end(p.GetAccepted().GetEnd()),
		},
	}
	if p.CutAt != nil {
		at := d.position(p.CutAt.At)
		c.CutAt = &at
	}
	return c
}

// acceptRequest is what Accept takes besides its context and the relayed frames.
type acceptRequest struct {
	Header  rpc.Header
	Accept  recovery.AcceptRequest
	Relayed bool
}

// acceptToProto leaves out the request's own claim: it is the header's, or node.Accept refuses it.
func acceptToProto(r acceptRequest) *qjmv1.AcceptBegin {
	return &qjmv1.AcceptBegin{
		Header:  headerToProto(r.Header),
		End:     endToProto(r.Accept.End),
		Prev:    endToProto(r.Accept.Prev),
		Epoch:   uint64(r.Accept.Epoch),
		Sources: nodeIDsToProto(r.Accept.Sources),
		Relayed: r.Relayed,
	}
}

func acceptFromProto(p *qjmv1.AcceptRequest) (acceptRequest, error) {
	var d decoder
	b := p.GetBegin()
	if b == nil {
		d.fail("accept does not start with its request")
		return acceptRequest{}, d.done()
	}
	h := d.header(b.Header)
	return acceptRequest{
		Header: h,
		Accept: recovery.AcceptRequest{
			Claim:   h.Claim,
			End:     d.end(b.End),
			Prev:    d.end(b.Prev),
			Epoch:   fencing.Epoch(b.Epoch),
			Sources: d.nodeIDs("sources", b.Sources, sourcesMax),
		},
		Relayed: b.Relayed,
	}, d.done()
}

// relayFromProto reads the messages behind the first.
func relayFromProto(p *qjmv1.AcceptRequest) (rpc.Chunk, error) {
	var d decoder
	return d.chunk(p.GetRelay()), d.done()
}

// finalizeRequest is what Finalize takes besides its context.
type finalizeRequest struct {
	Header rpc.Header
	End    segments.End
}

func finalizeToProto(r finalizeRequest) *qjmv1.FinalizeRequest {
	return &qjmv1.FinalizeRequest{Header: headerToProto(r.Header), End: endToProto(r.End)}
}

func finalizeFromProto(p *qjmv1.FinalizeRequest) (finalizeRequest, error) {
	var d decoder
	return finalizeRequest{Header: d.header(p.Header), End: d.end(p.End)}, d.done()
}
