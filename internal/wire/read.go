package wire

import (
	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
	"github.com/quorumjournal/qjm/segments"
)

func readToProto(r rpc.ReadRequest) *qjmv1.ReadSegmentRequest {
	return &qjmv1.ReadSegmentRequest{
		JournalId: r.Journal[:],
		Segment:   uint64(r.Segment),
		FromTxid:  uint64(r.From),
		Durable:   r.Durable,
		Epoch:     uint64(r.Epoch),
		UpToTxid:  uint64(r.UpTo),
	}
}

func readFromProto(p *qjmv1.ReadSegmentRequest) (rpc.ReadRequest, error) {
	var d decoder
	return rpc.ReadRequest{
		Journal: d.id("journal id", p.JournalId),
		Segment: segments.TxID(p.Segment),
		From:    segments.TxID(p.FromTxid),
		Durable: p.Durable,
		Epoch:   fencing.Epoch(p.Epoch),
		UpTo:    segments.TxID(p.UpToTxid),
	}, d.done()
}

func tailToProto(r rpc.TailRequest) *qjmv1.TailRequest {
	return &qjmv1.TailRequest{
		JournalId:     r.Journal[:],
		FromTxid:      uint64(r.From),
		FinalizedOnly: r.FinalizedOnly,
		Follow:        r.Follow,
	}
}

func tailFromProto(p *qjmv1.TailRequest) (rpc.TailRequest, error) {
	var d decoder
	return rpc.TailRequest{
		Journal:       d.id("journal id", p.JournalId),
		From:          segments.TxID(p.FromTxid),
		FinalizedOnly: p.FinalizedOnly,
		Follow:        p.Follow,
	}, d.done()
}

func chunkFromProto(p *qjmv1.Chunk) (rpc.Chunk, error) {
	var d decoder
	return d.chunk(p), d.done()
}
