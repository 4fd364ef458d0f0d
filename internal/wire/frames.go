package wire

import (
	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
	"github.com/quorumjournal/qjm/segments"
)

// frames parses a batch. Only headers are looked at: checksum, chain and payload are the journal's job,
// when it writes them (W1). The frames share the message's bytes.
func (d *decoder) frames(raw [][]byte) []segments.Frame {
	if len(raw) == 0 {
		d.fail("batch holds no frame")
		return nil
	}
	frames := make([]segments.Frame, len(raw))
	for i, b := range raw {
		f, err := segments.ParseFrame(b)
		d.check("frame of a batch", err)
		if err == nil && f.Size() != len(b) {
			d.fail("frame of a batch has a wrong length (got %d, want %d)", len(b), f.Size())
		}
		if d.err != nil {
			return nil
		}
		frames[i] = f
	}
	return frames
}

// chunk checks that the frames are whole, by their headers.
func (d *decoder) chunk(p *qjmv1.Chunk) rpc.Chunk {
	if p == nil {
		d.fail("chunk is missing")
		return rpc.Chunk{}
	}
	for rest := p.Frames; len(rest) > 0; {
		f, err := segments.ParseFrame(rest)
		if err != nil {
			d.check("frame of a chunk", err)
			return rpc.Chunk{}
		}
		rest = rest[f.Size():]
	}
	return rpc.Chunk{
		Segment:   segments.TxID(p.Segment),
		Prev:      d.position(p.Prev),
		Frames:    p.Frames,
		Committed: segments.TxID(p.CommittedTxid),
	}
}

func chunkToProto(c rpc.Chunk) *qjmv1.Chunk {
	return &qjmv1.Chunk{
		Segment:       uint64(c.Segment),
		Prev:          positionToProto(c.Prev),
		Frames:        c.Frames,
		CommittedTxid: uint64(c.Committed),
	}
}

func batchToProto(frames []segments.Frame) *qjmv1.Batch {
	b := &qjmv1.Batch{Frames: make([][]byte, len(frames))}
	for i, f := range frames {
		b.Frames[i] = f.Bytes()
	}
	return b
}
