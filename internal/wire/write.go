package wire

import (
	"fmt"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
	"github.com/quorumjournal/qjm/segments"
)

func helloToProto(h rpc.Header) *qjmv1.WriteRequest {
	return &qjmv1.WriteRequest{Body: &qjmv1.WriteRequest_Hello{Hello: headerToProto(h)}}
}

func helloFromProto(p *qjmv1.WriteRequest) (rpc.Header, error) {
	var d decoder
	if p.GetHello() == nil {
		d.fail("write stream does not start with hello")
		return rpc.Header{}, d.done()
	}
	return d.header(p.GetHello()), d.done()
}

// writeToProto encodes a message that shares the frames' bytes. Errors: rpc.ErrBadRequest for more than
// one body, rpc.ErrTooLarge for frames that fit into no message. Nothing was sent then.
func writeToProto(r rpc.WriteRequest) (*qjmv1.WriteRequest, error) {
	p := &qjmv1.WriteRequest{Seq: r.Seq, Floor: floorToProto(r.Floor), Sealed: sealToProto(r.Sealed), Leaving: r.Leaving}
	if r.Reached != nil {
		p.Reached = reachedToProto(*r.Reached)
	}
	bodies := 0
	if r.Start != nil {
		bodies++
		p.Body = &qjmv1.WriteRequest_Start{Start: &qjmv1.Start{Prev: endToProto(*r.Start)}}
	}
	if len(r.Frames) > 0 {
		bodies++
		p.Body = &qjmv1.WriteRequest_Batch{Batch: batchToProto(r.Frames)}
	}
	if r.Finalize != nil {
		bodies++
		p.Body = &qjmv1.WriteRequest_Finalize{Finalize: &qjmv1.Finish{End: endToProto(*r.Finalize)}}
	}
	if r.Fill != nil {
		bodies++
		p.Body = &qjmv1.WriteRequest_Fill{Fill: fillToProto(*r.Fill)}
	}
	if bodies > 1 {
		return nil, fmt.Errorf("%w: write message has too many bodies (got %d, want at most 1)", rpc.ErrBadRequest, bodies)
	}
	return p, framesFit(r.Frames)
}

func sealToProto(s rpc.Seal) *qjmv1.Seal {
	if s.IsZero() {
		return nil
	}
	return &qjmv1.Seal{ConfigVersion: s.Version, Epoch: uint64(s.Epoch), Segment: uint64(s.Segment)}
}

func sealFromProto(p *qjmv1.Seal) rpc.Seal {
	return rpc.Seal{Version: p.GetConfigVersion(), Epoch: fencing.Epoch(p.GetEpoch()), Segment: segments.TxID(p.GetSegment())}
}

func fillToProto(f rpc.Fill) *qjmv1.Fill {
	p := &qjmv1.Fill{
		Segment: uint64(f.Segment),
		Target:  positionToProto(f.Target),
		Sources: nodeIDsToProto(f.Sources),
	}
	if f.Rebuild != nil {
		p.Rebuild = &qjmv1.Rebuild{Prev: endToProto(*f.Rebuild)}
	}
	return p
}

func (d *decoder) fill(p *qjmv1.Fill) *rpc.Fill {
	f := &rpc.Fill{
		Segment: segments.TxID(p.GetSegment()),
		Target:  d.position(p.GetTarget()),
		Sources: d.nodeIDs("sources", p.GetSources(), sourcesMax),
	}
	if r := p.GetRebuild(); r != nil {
		prev := d.end(r.GetPrev())
		f.Rebuild = &prev
	}
	return f
}

// framesFit refuses what no message can carry, before the transport does: there the refusal would end
// the stream.
func framesFit(frames []segments.Frame) error {
	const around = 128 // the message's own fields
	n := around
	for _, f := range frames {
		n += f.Size() + 8 // tag and length
	}
	if n > rpc.MessageBytesMax {
		return fmt.Errorf("%w: frames of one message (got %d bytes, want at most %d)", rpc.ErrTooLarge, n, rpc.MessageBytesMax)
	}
	return nil
}

// writeFromProto reads the messages behind hello. The frames share the message's bytes.
func writeFromProto(p *qjmv1.WriteRequest) (rpc.WriteRequest, error) {
	var d decoder
	r := rpc.WriteRequest{Seq: p.Seq, Floor: d.floor(p.Floor), Sealed: sealFromProto(p.Sealed), Leaving: p.Leaving}
	if p.Reached != nil {
		reached := d.reached(p.Reached)
		r.Reached = &reached
	}
	switch b := p.Body.(type) {
	case nil: // a heartbeat
	case *qjmv1.WriteRequest_Start:
		prev := d.end(b.Start.GetPrev())
		r.Start = &prev
	case *qjmv1.WriteRequest_Batch:
		r.Frames = d.frames(b.Batch.GetFrames())
	case *qjmv1.WriteRequest_Finalize:
		end := d.end(b.Finalize.GetEnd())
		r.Finalize = &end
	case *qjmv1.WriteRequest_Fill:
		r.Fill = d.fill(b.Fill)
	default:
		d.fail("hello in the middle of a write stream")
	}
	return r, d.done()
}

func writeReplyToProto(r rpc.WriteReply) *qjmv1.WriteResponse {
	p := &qjmv1.WriteResponse{
		Kind:          qjmv1.ReplyKind(r.Kind) + qjmv1.ReplyKind_REPLY_KIND_ALIVE,
		Segment:       uint64(r.Segment),
		Epoch:         uint64(r.Epoch),
		ConfigVersion: r.ConfigVersion,
		Incarnation:   idOrNone(r.Incarnation),
		At:            positionToProto(r.At),
		Err:           text(r.Err),
		OverQuota:     r.OverQuota,
	}
	if r.Reach != nil {
		p.Reach = reachToProto(*r.Reach)
	}
	return p
}

func writeReplyFromProto(p *qjmv1.WriteResponse) (rpc.WriteReply, error) {
	var d decoder
	if p.Kind < qjmv1.ReplyKind_REPLY_KIND_ALIVE || p.Kind > qjmv1.ReplyKind_REPLY_KIND_FILL_FAILED {
		d.fail("unknown kind of reply %d", p.Kind)
	}
	r := rpc.WriteReply{
		Kind:          rpc.ReplyKind(p.Kind - qjmv1.ReplyKind_REPLY_KIND_ALIVE),
		Segment:       segments.TxID(p.Segment),
		Epoch:         fencing.Epoch(p.Epoch),
		ConfigVersion: p.ConfigVersion,
		Incarnation:   d.idOrNone("incarnation", p.Incarnation),
		At:            d.position(p.At),
		Err:           p.Err,
		OverQuota:     p.OverQuota,
	}
	if p.Reach != nil {
		reach := d.reach(p.Reach)
		r.Reach = &reach
	}
	return r, d.done()
}
