package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/snapshot"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// fuzzDecoder feeds a decoder whatever unmarshals. It must not panic, must fail with rpc.ErrBadRequest
// only, and what it takes must come out of the encoder and the decoder the same.
func fuzzDecoder[M any, P interface {
	*M
	proto.Message
}, T any](f *testing.F, decode func(P) (T, error), encode func(T) P, seeds ...T) {
	for _, s := range seeds {
		b, err := proto.Marshal(encode(s))
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p := P(new(M))
		if len(b) > textBytesMax || proto.Unmarshal(b, p) != nil {
			return // longer texts are cut on their way out
		}
		v, err := decode(p)
		if err != nil {
			require.ErrorIs(t, err, rpc.ErrBadRequest)
			return
		}
		b, err = proto.Marshal(encode(v))
		require.NoError(t, err)
		again := P(new(M))
		require.NoError(t, proto.Unmarshal(b, again))
		w, err := decode(again)
		require.NoError(t, err)
		requireSame(t, v, w)
	})
}

func FuzzNewEpochFromProto(f *testing.F) {
	fuzzDecoder(f, newEpochFromProto, func(h rpc.Header) *qjmv1.NewEpochRequest {
		return &qjmv1.NewEpochRequest{Header: headerToProto(h)}
	}, header, rpc.Header{})
}

func FuzzPrepareFromProto(f *testing.F) {
	fuzzDecoder(f, prepareFromProto, prepareToProto, prepareRequest{header, 11, []segments.TxID{1, 2}})
}

func FuzzAcceptFromProto(f *testing.F) {
	fuzzDecoder(f, acceptFromProto, func(r acceptRequest) *qjmv1.AcceptRequest {
		return &qjmv1.AcceptRequest{Body: &qjmv1.AcceptRequest_Begin{Begin: acceptToProto(r)}}
	}, acceptRequest{header, recovery.AcceptRequest{
		Claim: header.Claim, End: end, Prev: prevEnd, Epoch: 5, Sources: []quorum.NodeID{"n1"},
	}, true})
}

func FuzzRelayFromProto(f *testing.F) {
	fuzzDecoder(f, relayFromProto, func(c rpc.Chunk) *qjmv1.AcceptRequest {
		return &qjmv1.AcceptRequest{Body: &qjmv1.AcceptRequest_Relay{Relay: chunkToProto(c)}}
	}, rpc.Chunk{Segment: 11, Prev: at, Frames: append(frame(f, 11, 3).Bytes(), frame(f, 12, 4).Bytes()...), Committed: 9})
}

func FuzzChunkFromProto(f *testing.F) {
	fuzzDecoder(f, chunkFromProto, chunkToProto,
		rpc.Chunk{Segment: 11, Prev: at, Frames: frame(f, 11, 3).Bytes(), Committed: 9}, rpc.Chunk{})
}

func FuzzFinalizeFromProto(f *testing.F) {
	fuzzDecoder(f, finalizeFromProto, finalizeToProto, finalizeRequest{header, end}, finalizeRequest{Header: header})
}

func FuzzReadSegmentFromProto(f *testing.F) {
	fuzzDecoder(f, readFromProto, readToProto, rpc.ReadRequest{Journal: header.Journal, Segment: 1, From: 2, Durable: true, Epoch: 3, UpTo: 4})
}

func FuzzTailFromProto(f *testing.F) {
	fuzzDecoder(f, tailFromProto, tailToProto, rpc.TailRequest{Journal: header.Journal, From: 2, Follow: true, FinalizedOnly: true})
}

func FuzzHelloFromProto(f *testing.F) { fuzzDecoder(f, helloFromProto, helloToProto, header) }

func FuzzWriteFromProto(f *testing.F) {
	fuzzDecoder(f, writeFromProto, func(r rpc.WriteRequest) *qjmv1.WriteRequest {
		p, err := writeToProto(r)
		if err != nil {
			panic(err) // what was decoded can be encoded
		}
		return p
	},
		rpc.WriteRequest{Seq: 1, Floor: floor, Start: &prevEnd},
		rpc.WriteRequest{Start: &segments.End{}},
		rpc.WriteRequest{Seq: 2, Frames: []segments.Frame{frame(f, 11, 0), frame(f, 12, 30)}},
		rpc.WriteRequest{Finalize: &end},
		rpc.WriteRequest{Fill: &rpc.Fill{Segment: 11, Target: at, Sources: []quorum.NodeID{"n1"}}},
		rpc.WriteRequest{Sealed: rpc.Seal{Version: 2, Epoch: 3, Segment: 4}, Reached: reached, Leaving: true},
		rpc.WriteRequest{})
}

func FuzzWriteReplyFromProto(f *testing.F) {
	fuzzDecoder(f, writeReplyFromProto, writeReplyToProto, rpc.WriteReply{}, rpc.WriteReply{Reach: reach},
		rpc.WriteReply{Kind: rpc.FillFailed, Segment: 1, Epoch: 2, ConfigVersion: 3, Incarnation: header.Incarnation, At: at, Err: "x", OverQuota: true})
}

func FuzzInfoFromProto(f *testing.F) {
	fuzzDecoder(f, infoFromProto, infoToProto, rpc.NodeInfo{
		ID: "n1", Incarnation: header.Incarnation, Cluster: rpc.ClusterID{1}, Phase: rpc.Founded, Founders: members, Version: "v1",
	})
}

func FuzzJournalsFromProto(f *testing.F) {
	fuzzDecoder(f, journalsFromProto, journalsToProto, []rpc.JournalSummary{summary, {}})
}

func FuzzStateFromProto(f *testing.F) {
	fuzzDecoder(f, stateFromProto, stateToProto, rpc.JournalState{
		Node: "n1", Incarnation: header.Incarnation, Summary: summary, Promised: header.Claim, DataKnown: true, Member: true,
		Answer: answer, Written: 5, Damaged: []rpc.Damage{{Segment: 1, Text: "x"}}, LastSync: 1, SinceSync: 2, Poisoned: "y",
	}, rpc.JournalState{Node: "n1"})
}

func FuzzPromiseFromProto(f *testing.F) {
	fuzzDecoder(f, promiseFromProto, promiseToProto, rpc.PromiseReply{DataKnown: true, Newest: 5})
}

func FuzzAnswerFromProto(f *testing.F) {
	fuzzDecoder(f, answerFromProto, func(a recovery.Answer) *qjmv1.PrepareResponse {
		return &qjmv1.PrepareResponse{Answer: answerToProto(a)}
	}, answer)
}

func FuzzSegmentsFromProto(f *testing.F) {
	fuzzDecoder(f, segmentsFromProto, segmentsToProto, rpc.SegmentsPage{Segments: []rpc.SegmentInfo{
		{First: 11, State: recovery.InProgress, Last: at, Epoch: 5, Prev: prevEnd, Bytes: 4096, Problem: "p"},
	}, More: true})
}

func FuzzSegmentsRequestFromProto(f *testing.F) {
	fuzzDecoder(f, segmentsRequestFromProto, segmentsRequestToProto,
		rpc.SegmentsRequest{Journal: header.Journal, After: 9, Limit: rpc.SegmentsPageMax}, rpc.SegmentsRequest{})
}

func FuzzBeginSnapshotFromProto(f *testing.F) {
	fuzzDecoder(f, beginSnapshotFromProto, beginSnapshotToProto, rpc.SnapshotUpload{Header: header, ID: snap.ID(), Size: 1 << 40})
}

func FuzzPutSnapshotFromProto(f *testing.F) {
	fuzzDecoder(f, putSnapshotFromProto, putSnapshotToProto, rpc.SnapshotPiece{Journal: header.Journal, ID: snap.ID(), Offset: 5, Bytes: []byte("x"), CRC: 3})
}

func FuzzFinishSnapshotFromProto(f *testing.F) {
	fuzzDecoder(f, finishSnapshotFromProto, finishSnapshotToProto, rpc.SnapshotEnd{Header: header, Snapshot: snap})
}

func FuzzReadSnapshotFromProto(f *testing.F) {
	fuzzDecoder(f, readSnapshotFromProto, readSnapshotToProto, rpc.SnapshotRead{Journal: header.Journal, Snapshot: snap, Offset: 5, Length: 7})
}

func FuzzSnapshotsFromProto(f *testing.F) {
	fuzzDecoder(f, snapshotsFromProto, snapshotsToProto, rpc.SnapshotList{
		Listed: []snapshot.Snapshot{snap}, Held: []rpc.HeldSnapshot{{Snapshot: snap, Bytes: 7, Verified: true, Problem: "p"}}, Purged: at,
	})
}

func FuzzAcquireLeaseFromProto(f *testing.F) {
	fuzzDecoder(f, acquireFromProto, acquireToProto, leaseRequest)
}

func FuzzKeepLeasesFromProto(f *testing.F) {
	fuzzDecoder(f, renewalFromProto, renewalToProto, rpc.LeaseRenewal{Leases: []rpc.LeaseRef{leaseRef, {}}, Forwarded: true})
}

func FuzzWatchLeaseFromProto(f *testing.F) {
	fuzzDecoder(f, watchFromProto, watchToProto, rpc.LeaseWatch{Journal: header.Journal, Index: 5, Revision: 4, Wait: rpc.LeaseWaitMax})
}

func FuzzLeaseFromProto(f *testing.F) {
	fuzzDecoder(f, leaseFromProto, leaseToProto, lease, rpc.Lease{})
}
