package wire

import (
	"context"
	"math"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/snapshot"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
	"github.com/quorumjournal/qjm/segments"
)

func snapshotIDToProto(id snapshot.ID) *qjmv1.SnapshotId {
	return &qjmv1.SnapshotId{Txid: uint64(id.TxID), At: positionToProto(id.At), Epoch: uint64(id.Epoch)}
}

func (d *decoder) snapshotID(p *qjmv1.SnapshotId) snapshot.ID {
	id := snapshot.ID{TxID: segments.TxID(p.GetTxid()), At: d.position(p.GetAt()), Epoch: fencing.Epoch(p.GetEpoch())}
	d.check("snapshot", id.Validate())
	return id
}

func snapshotToProto(s snapshot.Snapshot) *qjmv1.Snapshot {
	return &qjmv1.Snapshot{Id: snapshotIDToProto(s.ID()), Size: uint64(max(s.Size, 0)), Checksum: s.Checksum[:]}
}

func (d *decoder) snapshot(p *qjmv1.Snapshot) snapshot.Snapshot {
	s := d.namedSnapshot(p)
	d.check("snapshot", s.Validate())
	return s
}

// namedSnapshot reads one that may be damaged, so that only its txid is known.
func (d *decoder) namedSnapshot(p *qjmv1.Snapshot) snapshot.Snapshot {
	id := p.GetId()
	s := snapshot.Snapshot{
		TxID: segments.TxID(id.GetTxid()), At: d.position(id.GetAt()), Epoch: fencing.Epoch(id.GetEpoch()),
		Size: d.int64("size of a snapshot", p.GetSize()),
	}
	if len(p.GetChecksum()) != len(s.Checksum) {
		d.fail("checksum has a wrong length (got %d, want %d)", len(p.GetChecksum()), len(s.Checksum))
		return s
	}
	s.Checksum = snapshot.Checksum(p.GetChecksum())
	return s
}

func beginSnapshotToProto(r rpc.SnapshotUpload) *qjmv1.BeginSnapshotRequest {
	return &qjmv1.BeginSnapshotRequest{Header: headerToProto(r.Header), Id: snapshotIDToProto(r.ID), Size: uint64(max(r.Size, 0))}
}

func beginSnapshotFromProto(p *qjmv1.BeginSnapshotRequest) (rpc.SnapshotUpload, error) {
	var d decoder
	return rpc.SnapshotUpload{Header: d.header(p.Header), ID: d.snapshotID(p.Id), Size: d.int64("size of a snapshot", p.Size)}, d.done()
}

func putSnapshotToProto(r rpc.SnapshotPiece) *qjmv1.PutSnapshotRequest {
	return &qjmv1.PutSnapshotRequest{
		JournalId: r.Journal[:], Id: snapshotIDToProto(r.ID), Offset: uint64(max(r.Offset, 0)), Chunk: r.Bytes, Crc: r.CRC,
	}
}

func putSnapshotFromProto(p *qjmv1.PutSnapshotRequest) (rpc.SnapshotPiece, error) {
	var d decoder
	d.count("bytes in a piece", len(p.Chunk), rpc.SnapshotChunkMax)
	return rpc.SnapshotPiece{
		Journal: d.id("journal id", p.JournalId), ID: d.snapshotID(p.Id), Offset: d.int64("offset", p.Offset), Bytes: p.Chunk, CRC: p.Crc,
	}, d.done()
}

func finishSnapshotToProto(r rpc.SnapshotEnd) *qjmv1.FinishSnapshotRequest {
	return &qjmv1.FinishSnapshotRequest{Header: headerToProto(r.Header), Snapshot: snapshotToProto(r.Snapshot), HeldOnly: r.HeldOnly}
}

func finishSnapshotFromProto(p *qjmv1.FinishSnapshotRequest) (rpc.SnapshotEnd, error) {
	var d decoder
	return rpc.SnapshotEnd{Header: d.header(p.Header), Snapshot: d.snapshot(p.Snapshot), HeldOnly: p.HeldOnly}, d.done()
}

func snapshotPolicyToProto(p snapshot.Policy) *qjmv1.SnapshotPolicy {
	if p == (snapshot.Policy{}) {
		return nil
	}
	return &qjmv1.SnapshotPolicy{
		Bytes: uint64(max(p.Bytes, 0)), Txns: uint64(max(p.Txns, 0)), IntervalMillis: uint64(max(p.IntervalMillis, 0)),
		GrowthPercent: uint32(min(max(p.Growth, 0), math.MaxInt32)),
	}
}

func (d *decoder) snapshotPolicy(p *qjmv1.SnapshotPolicy) snapshot.Policy {
	return snapshot.Policy{
		Bytes: d.int64("bytes of a policy", p.GetBytes()), Txns: d.int64("transactions of a policy", p.GetTxns()),
		IntervalMillis: d.int64("interval of a policy", p.GetIntervalMillis()), Growth: int(min(p.GetGrowthPercent(), math.MaxInt32)),
	}
}

func snapshotsToProto(l rpc.SnapshotList) *qjmv1.ListSnapshotsResponse {
	p := &qjmv1.ListSnapshotsResponse{Purged: positionToProto(l.Purged), Policy: snapshotPolicyToProto(l.Policy), Fresh: l.Fresh}
	for _, s := range l.Listed {
		p.Listed = append(p.Listed, snapshotToProto(s))
	}
	for _, h := range l.Held {
		p.Held = append(p.Held, &qjmv1.HeldSnapshot{
			Snapshot: snapshotToProto(h.Snapshot), Bytes: uint64(max(h.Bytes, 0)), Verified: h.Verified, Problem: problem(h.Problem),
		})
	}
	return p
}

func snapshotsFromProto(p *qjmv1.ListSnapshotsResponse) (rpc.SnapshotList, error) {
	var d decoder
	l := rpc.SnapshotList{Purged: d.position(p.Purged), Policy: d.snapshotPolicy(p.Policy), Fresh: p.Fresh}
	if !d.count("listed snapshots", len(p.Listed), rpc.SnapshotsMax) || !d.count("held snapshots", len(p.Held), rpc.SnapshotsMax) {
		return l, d.done()
	}
	for _, s := range p.Listed {
		l.Listed = append(l.Listed, d.snapshot(s))
	}
	for _, h := range p.Held {
		l.Held = append(l.Held, rpc.HeldSnapshot{
			Snapshot: d.namedSnapshot(h.GetSnapshot()), Bytes: d.int64("size of a file", h.GetBytes()),
			Verified: h.GetVerified(), Problem: problem(h.GetProblem()),
		})
	}
	return l, d.done()
}

func readSnapshotToProto(r rpc.SnapshotRead) *qjmv1.ReadSnapshotRequest {
	return &qjmv1.ReadSnapshotRequest{
		JournalId: r.Journal[:], Snapshot: snapshotToProto(r.Snapshot), Offset: uint64(max(r.Offset, 0)), Length: uint32(max(r.Length, 0)),
	}
}

func readSnapshotFromProto(p *qjmv1.ReadSnapshotRequest) (rpc.SnapshotRead, error) {
	var d decoder
	d.count("bytes in a piece", int(p.Length), rpc.SnapshotChunkMax)
	return rpc.SnapshotRead{
		Journal: d.id("journal id", p.JournalId), Snapshot: d.snapshot(p.Snapshot),
		Offset: d.int64("offset", p.Offset), Length: int(p.Length),
	}, d.done()
}

func snapshotChunkFromProto(p *qjmv1.ReadSnapshotResponse) (rpc.SnapshotChunk, error) {
	var d decoder
	d.count("bytes in a piece", len(p.Chunk), rpc.SnapshotChunkMax)
	return rpc.SnapshotChunk{Bytes: p.Chunk, CRC: p.Crc}, d.done()
}

func offsetOf(p interface{ GetOffset() uint64 }) (int64, error) {
	var d decoder
	return d.int64("offset", p.GetOffset()), d.done()
}

// The client's side.

func (n *node) BeginSnapshot(ctx context.Context, r rpc.SnapshotUpload) (int64, error) {
	p, err := n.c.BeginSnapshot(ctx, beginSnapshotToProto(r))
	return reply(n, p, err, func(p *qjmv1.BeginSnapshotResponse) (int64, error) { return offsetOf(p) })
}

func (n *node) PutSnapshot(ctx context.Context, r rpc.SnapshotPiece) (int64, error) {
	p, err := n.c.PutSnapshot(ctx, putSnapshotToProto(r))
	return reply(n, p, err, func(p *qjmv1.PutSnapshotResponse) (int64, error) { return offsetOf(p) })
}

func (n *node) FinishSnapshot(ctx context.Context, r rpc.SnapshotEnd) error {
	_, err := n.c.FinishSnapshot(ctx, finishSnapshotToProto(r))
	return n.fail(err)
}

func (n *node) Snapshots(ctx context.Context, id segments.JournalID) (rpc.SnapshotList, error) {
	p, err := n.c.ListSnapshots(ctx, &qjmv1.ListSnapshotsRequest{JournalId: id[:]})
	return reply(n, p, err, snapshotsFromProto)
}

func (n *node) ReadSnapshot(ctx context.Context, r rpc.SnapshotRead) (rpc.SnapshotChunk, error) {
	p, err := n.c.ReadSnapshot(ctx, readSnapshotToProto(r))
	return reply(n, p, err, snapshotChunkFromProto)
}

// The node's side.

func (s *server) BeginSnapshot(ctx context.Context, p *qjmv1.BeginSnapshotRequest) (*qjmv1.BeginSnapshotResponse, error) {
	return serve(ctx, p, beginSnapshotFromProto, s.svc.BeginSnapshot, func(offset int64) *qjmv1.BeginSnapshotResponse {
		return &qjmv1.BeginSnapshotResponse{Offset: uint64(max(offset, 0))}
	})
}

func (s *server) PutSnapshot(ctx context.Context, p *qjmv1.PutSnapshotRequest) (*qjmv1.PutSnapshotResponse, error) {
	return serve(ctx, p, putSnapshotFromProto, s.svc.PutSnapshot, func(offset int64) *qjmv1.PutSnapshotResponse {
		return &qjmv1.PutSnapshotResponse{Offset: uint64(max(offset, 0))}
	})
}

func (s *server) FinishSnapshot(ctx context.Context, p *qjmv1.FinishSnapshotRequest) (*qjmv1.FinishSnapshotResponse, error) {
	r, err := finishSnapshotFromProto(p)
	if err == nil {
		err = s.svc.FinishSnapshot(ctx, r)
	}
	return &qjmv1.FinishSnapshotResponse{}, toStatus(err)
}

func (s *server) ListSnapshots(ctx context.Context, p *qjmv1.ListSnapshotsRequest) (*qjmv1.ListSnapshotsResponse, error) {
	return serve(ctx, p.JournalId, journalIDFromProto, s.svc.Snapshots, snapshotsToProto)
}

func (s *server) ReadSnapshot(ctx context.Context, p *qjmv1.ReadSnapshotRequest) (*qjmv1.ReadSnapshotResponse, error) {
	return serve(ctx, p, readSnapshotFromProto, s.svc.ReadSnapshot, func(c rpc.SnapshotChunk) *qjmv1.ReadSnapshotResponse {
		return &qjmv1.ReadSnapshotResponse{Chunk: c.Bytes, Crc: c.CRC}
	})
}
