package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/snapshot"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

func TestEveryFieldOfUnaryCallsArrives(t *testing.T) {
	state := rpc.JournalState{
		Node: "n1", Incarnation: quorum.Incarnation{9}, Summary: summary, Promised: header.Claim,
		DataKnown: true, Member: true, Answer: answer, Written: 77,
		Damaged:  []rpc.Damage{{Segment: 3, Text: "bad"}, {Segment: 4}},
		LastSync: 3 * time.Millisecond, SinceSync: time.Hour, Poisoned: "write failed",
	}
	for _, s := range []*fakeService{
		{
			info: rpc.NodeInfo{Full: true,
				ID: "n1", Incarnation: quorum.Incarnation{9}, Cluster: rpc.ClusterID{8}, Phase: rpc.Founding,
				Founders: members, Version: "v0.1",
			},
			journals: []rpc.JournalSummary{summary, {ID: segments.JournalID{5}, Config: quorum.Config{Version: 9}}},
			state:    state,
			promise:  rpc.PromiseReply{DataKnown: true, Newest: 11, Purged: at},
			answer:   answer,
			segments: rpc.SegmentsPage{Segments: []rpc.SegmentInfo{{
				First: 11, State: recovery.Unknown, Last: at, Epoch: 5, Prev: prevEnd, Bytes: 1 << 40, Problem: "rotten",
			}, {First: 1, State: recovery.Finalized}, {First: 2, State: recovery.Purged}}, More: true, Purged: at},
		},
		{ // as little as there can be
			info:   rpc.NodeInfo{ID: "n2"},
			state:  rpc.JournalState{Node: "n2", Summary: rpc.JournalSummary{ID: segments.JournalID{1}}},
			answer: recovery.Answer{Node: quorum.Key{ID: "n2"}, Copy: recovery.Copy{CutAt: &segments.Position{}}},
		},
	} {
		n, ctx := connect(t, s), within(t)

		info, err := n.Info(ctx)
		require.NoError(t, err)
		requireSame(t, s.info, info)

		js, err := n.Journals(ctx)
		require.NoError(t, err)
		requireSame(t, s.journals, js)

		require.NoError(t, n.InstallConfig(ctx, summary))
		requireSame(t, call{"InstallConfig", []any{summary}}, s.lastCall())

		require.NoError(t, n.LeaveJournal(ctx, summary))
		requireSame(t, call{"LeaveJournal", []any{summary}}, s.lastCall())

		for _, s.writer = range []rpc.WriterAnswer{{}, {Writer: header.Claim, Reached: *reached}} {
			q := rpc.AskWriterRequest{Journal: header.Journal, Reach: *reach}
			answer, err := n.AskWriter(ctx, q)
			require.NoError(t, err)
			requireSame(t, s.writer, answer)
			requireSame(t, call{"AskWriter", []any{q}}, s.lastCall())
		}

		st, err := n.State(ctx, header.Journal)
		require.NoError(t, err)
		requireSame(t, s.state, st)
		requireSame(t, call{"State", []any{header.Journal}}, s.lastCall())

		p, err := n.NewEpoch(ctx, header)
		require.NoError(t, err)
		requireSame(t, s.promise, p)
		requireSame(t, call{"NewEpoch", []any{header}}, s.lastCall())

		a, err := n.Prepare(ctx, header, 11, []segments.TxID{13, 1<<64 - 1})
		require.NoError(t, err)
		requireSame(t, s.answer, a)
		requireSame(t, call{"Prepare", []any{header, segments.TxID(11), []segments.TxID{13, 1<<64 - 1}}}, s.lastCall())

		require.NoError(t, n.Finalize(ctx, header, end))
		requireSame(t, call{"Finalize", []any{header, end}}, s.lastCall())

		page, err := n.Segments(ctx, rpc.SegmentsRequest{Journal: header.Journal, After: 1<<64 - 1, Limit: 17})
		require.NoError(t, err)
		requireSame(t, s.segments, page)
		requireSame(t, call{"Segments", []any{rpc.SegmentsRequest{Journal: header.Journal, After: 1<<64 - 1, Limit: 17}}}, s.lastCall())
	}
}

func TestEveryFieldOfSnapshotCallsArrives(t *testing.T) {
	s := &fakeService{offset: 1 << 40, chunk: rpc.SnapshotChunk{Bytes: []byte("piece"), CRC: 1<<32 - 1}, list: rpc.SnapshotList{Fresh: true,
		Listed: []snapshot.Snapshot{snap}, Purged: at,
		Policy: snapshot.Policy{Bytes: 1 << 40, Txns: 1<<63 - 1, IntervalMillis: 3, Growth: 4},
		Held:   []rpc.HeldSnapshot{{Snapshot: snap, Bytes: 1 << 41, Verified: true}, {Snapshot: snapshot.Snapshot{TxID: 9}, Problem: "rotten"}},
	}}
	n, ctx := connect(t, s), within(t)

	begin := rpc.SnapshotUpload{Header: header, ID: snap.ID(), Size: 1 << 39}
	offset, err := n.BeginSnapshot(ctx, begin)
	require.NoError(t, err)
	require.Equal(t, s.offset, offset)
	requireSame(t, call{"BeginSnapshot", []any{begin}}, s.lastCall())

	piece := rpc.SnapshotPiece{Journal: header.Journal, ID: snap.ID(), Offset: 1 << 38, Bytes: []byte("abc"), CRC: 1<<32 - 2}
	offset, err = n.PutSnapshot(ctx, piece)
	require.NoError(t, err)
	require.Equal(t, s.offset, offset)
	requireSame(t, call{"PutSnapshot", []any{piece}}, s.lastCall())

	for _, held := range []bool{false, true} {
		end := rpc.SnapshotEnd{Header: header, Snapshot: snap, HeldOnly: held}
		require.NoError(t, n.FinishSnapshot(ctx, end))
		requireSame(t, call{"FinishSnapshot", []any{end}}, s.lastCall())
	}

	list, err := n.Snapshots(ctx, header.Journal)
	require.NoError(t, err)
	requireSame(t, s.list, list)
	requireSame(t, call{"Snapshots", []any{header.Journal}}, s.lastCall())

	read := rpc.SnapshotRead{Journal: header.Journal, Snapshot: snap, Offset: 1 << 37, Length: 1000}
	chunk, err := n.ReadSnapshot(ctx, read)
	require.NoError(t, err)
	requireSame(t, s.chunk, chunk)
	requireSame(t, call{"ReadSnapshot", []any{read}}, s.lastCall())

	none := snap
	none.At.Digest = segments.Digest{}
	for name, err := range map[string]error{
		"no digest":   n.FinishSnapshot(ctx, rpc.SnapshotEnd{Header: header, Snapshot: none}),
		"no header":   second(n.c.BeginSnapshot(ctx, &qjmv1.BeginSnapshotRequest{Id: snapshotIDToProto(snap.ID())})),
		"no snapshot": second(n.c.FinishSnapshot(ctx, &qjmv1.FinishSnapshotRequest{Header: headerToProto(header)})),
		"long piece": second(n.c.PutSnapshot(ctx, &qjmv1.PutSnapshotRequest{
			JournalId: header.Journal[:], Id: snapshotIDToProto(snap.ID()), Chunk: make([]byte, rpc.SnapshotChunkMax+1),
		})),
		"long read": second(n.ReadSnapshot(ctx, rpc.SnapshotRead{Journal: header.Journal, Snapshot: snap, Length: rpc.SnapshotChunkMax + 1})),
	} {
		if s, ok := status.FromError(err); ok {
			require.Equal(t, codes.InvalidArgument, s.Code(), name)
			continue
		}
		require.ErrorIs(t, err, rpc.ErrBadRequest, name)
	}
	requireSame(t, call{"ReadSnapshot", []any{read}}, s.lastCall())
}

// A full page with the longest texts is far from what one message may hold, and no more is ever sent.
func TestFullPageOfSegmentsFits(t *testing.T) {
	one := rpc.SegmentInfo{First: 1 << 63, Last: at, Epoch: 1 << 63, Prev: prevEnd, Bytes: 1 << 60, Problem: strings.Repeat("ä", 1<<19)}
	s := &fakeService{}
	for range rpc.SegmentsPageMax {
		s.segments.Segments = append(s.segments.Segments, one)
	}
	n, ctx := connect(t, s), within(t)
	page, err := n.Segments(ctx, rpc.SegmentsRequest{Journal: header.Journal, Limit: 1 << 30})
	require.NoError(t, err)
	require.Len(t, page.Segments, rpc.SegmentsPageMax)
	require.Equal(t, strings.Repeat("ä", rpc.ProblemBytesMax/2), page.Segments[0].Problem)
	requireSame(t, call{"Segments", []any{rpc.SegmentsRequest{Journal: header.Journal, Limit: rpc.SegmentsPageMax}}}, s.lastCall())
	s.segments.Segments = append(s.segments.Segments, one)
	_, err = n.Segments(ctx, rpc.SegmentsRequest{Journal: header.Journal})
	require.ErrorIs(t, err, ErrMalformedReply)
}

func TestZeroValuesStayZero(t *testing.T) {
	s := &fakeService{err: fencing.ErrZeroEpoch}
	n, ctx := connect(t, s), within(t)
	_, err := n.NewEpoch(ctx, rpc.Header{})
	require.Equal(t, fencing.ErrZeroEpoch, err, "the wire leaves meaning to the service")
	requireSame(t, call{"NewEpoch", []any{rpc.Header{}}}, s.lastCall())
	require.ErrorIs(t, n.Finalize(ctx, header, segments.End{}), fencing.ErrZeroEpoch)
	requireSame(t, call{"Finalize", []any{header, segments.End{}}}, s.lastCall())
}

func TestErrorsOfEveryCallAreTyped(t *testing.T) {
	want := &fencing.FencedError{Promised: header.Claim, Got: fencing.Claim{Epoch: 1, Writer: fencing.WriterID{1}}}
	n, ctx := connect(t, &fakeService{err: want}), within(t)
	for name, err := range errorsOfAllCalls(ctx, n) {
		got, ok := errors.AsType[*fencing.FencedError](err)
		require.True(t, ok, "%s: %v", name, err)
		requireSame(t, want, got)
		require.EqualError(t, err, want.Error(), name)
	}
}

// errorsOfAllCalls makes every call once.
func errorsOfAllCalls(ctx context.Context, n rpc.Node) map[string]error {
	errs := map[string]error{
		"InstallConfig": n.InstallConfig(ctx, summary),
		"LeaveJournal":  n.LeaveJournal(ctx, summary),
		"Finalize":      n.Finalize(ctx, header, end),
		"Accept":        n.Accept(ctx, header, recovery.AcceptRequest{Claim: header.Claim}, nil),
	}
	_, errs["Info"] = n.Info(ctx)
	_, errs["Journals"] = n.Journals(ctx)
	_, errs["AskWriter"] = n.AskWriter(ctx, rpc.AskWriterRequest{Journal: header.Journal, Reach: *reach})
	_, errs["State"] = n.State(ctx, header.Journal)
	_, errs["NewEpoch"] = n.NewEpoch(ctx, header)
	_, errs["Prepare"] = n.Prepare(ctx, header, 1, nil)
	_, errs["Segments"] = n.Segments(ctx, rpc.SegmentsRequest{Journal: header.Journal})
	_, errs["BeginSnapshot"] = n.BeginSnapshot(ctx, rpc.SnapshotUpload{Header: header, ID: snap.ID()})
	_, errs["PutSnapshot"] = n.PutSnapshot(ctx, rpc.SnapshotPiece{ID: snap.ID()})
	errs["FinishSnapshot"] = n.FinishSnapshot(ctx, rpc.SnapshotEnd{Header: header, Snapshot: snap})
	_, errs["Snapshots"] = n.Snapshots(ctx, header.Journal)
	_, errs["ReadSnapshot"] = n.ReadSnapshot(ctx, rpc.SnapshotRead{Snapshot: snap})
	for name, open := range map[string]func() (rpc.ChunkStream, error){
		"ReadSegment": func() (rpc.ChunkStream, error) { return n.ReadSegment(ctx, rpc.ReadRequest{}) },
		"Tail":        func() (rpc.ChunkStream, error) { return n.Tail(ctx, rpc.TailRequest{}) },
	} {
		s, err := open()
		if err == nil {
			_, err = s.Recv()
			s.Close()
		}
		errs[name] = err
	}
	w, err := n.Write(ctx, header)
	if err == nil {
		_, err = w.Recv()
		w.Close()
	}
	errs["Write"] = err
	return errs
}

func TestUnreachableNodeIsUnavailable(t *testing.T) {
	d, srv := listen(t, &fakeService{}, nil)
	srv.Stop()
	n, err := d.Dial("n1:7070")
	require.NoError(t, err)
	defer n.Close()
	for name, err := range errorsOfAllCalls(within(t), n) {
		require.ErrorIs(t, err, rpc.ErrUnavailable, name)
		require.ErrorContains(t, err, "n1:7070", name)
	}
}

func TestContextErrorsAreUnavailable(t *testing.T) {
	s := &fakeService{accept: func(ctx context.Context, _ rpc.ChunkStream) error { <-ctx.Done(); return ctx.Err() }}
	n := connect(t, s)
	accept := func(ctx context.Context) error {
		return n.Accept(ctx, header, recovery.AcceptRequest{Claim: header.Claim}, nil)
	}
	ctx, cancel := context.WithTimeout(within(t), 20*time.Millisecond)
	defer cancel()
	err := accept(ctx)
	require.ErrorIs(t, err, rpc.ErrUnavailable)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	ctx, cancel = context.WithCancel(within(t))
	time.AfterFunc(20*time.Millisecond, cancel)
	err = accept(ctx)
	require.ErrorIs(t, err, rpc.ErrUnavailable)
	require.ErrorIs(t, err, context.Canceled)
}

func TestDialRefusesWhatIsNoAddress(t *testing.T) {
	for _, addr := range []string{"", "n1", "n1:1:2"} {
		_, err := Dialer{}.Dial(addr)
		require.ErrorIs(t, err, rpc.ErrBadRequest, addr)
	}
}

func TestMalformedRequestsNeverReachTheService(t *testing.T) {
	s := &fakeService{}
	n, ctx := connect(t, s), within(t)
	short := header
	for name, err := range map[string]error{
		"no name":      n.InstallConfig(ctx, rpc.JournalSummary{ID: summary.ID, Config: summary.Config}),
		"bad name":     n.InstallConfig(ctx, rpc.JournalSummary{ID: summary.ID, Name: "a/b", Config: summary.Config}),
		"no utf-8":     n.InstallConfig(ctx, rpc.JournalSummary{ID: summary.ID, Name: "a\xff", Config: summary.Config}),
		"bad config":   n.InstallConfig(ctx, rpc.JournalSummary{Name: "a", Config: quorum.Config{Version: 1, Sets: [][]quorum.Member{{}}}}),
		"other claims": n.Accept(ctx, header, recovery.AcceptRequest{}, nil),
		"bad source":   n.Accept(ctx, header, recovery.AcceptRequest{Claim: header.Claim, Sources: []quorum.NodeID{"a b"}}, nil),
		"questions": func() error {
			_, err := n.Prepare(ctx, short, 1, make([]segments.TxID, rpc.DigestsMax+1))
			return err
		}(),
		"short id":  second(n.c.GetState(ctx, &qjmv1.GetStateRequest{JournalId: []byte{1}})),
		"no header": second(n.c.NewEpoch(ctx, &qjmv1.NewEpochRequest{})),
		"no begin": func() error {
			a, err := n.c.Accept(ctx)
			if err == nil {
				_, err = a.CloseAndRecv()
			}
			return err
		}(),
	} {
		require.ErrorIs(t, fromStatus("", keep(err)), rpc.ErrBadRequest, name)
	}
	require.Empty(t, s.calls)
}

// keep passes on errors that are decoded already.
func keep(err error) error {
	if errors.Is(err, rpc.ErrBadRequest) {
		return toStatus(err)
	}
	return err
}

func second[T any](_ T, err error) error { return err }

func TestMalformedReplyIsNoRefusal(t *testing.T) {
	s := &fakeService{answer: recovery.Answer{Node: quorum.Key{ID: "a b"}}, info: rpc.NodeInfo{ID: "n1", Phase: 77}}
	n, ctx := connect(t, s), within(t)
	_, err := n.Prepare(ctx, header, 1, nil)
	require.ErrorIs(t, err, ErrMalformedReply)
	require.NotErrorIs(t, err, rpc.ErrBadRequest, "the node did not refuse: the outcome is unknown")
	_, err = n.Info(ctx)
	require.ErrorIs(t, err, ErrMalformedReply)
}

func TestPanicEndsTheRequestOnly(t *testing.T) {
	var log bytes.Buffer
	boom := func(context.Context, rpc.ChunkStream) error { panic("boom") }
	d, _ := listen(t, panicky{&fakeService{accept: boom}}, slog.New(slog.NewTextHandler(&log, nil)))
	n, err := d.Dial("n1:7070")
	require.NoError(t, err)
	defer n.Close()
	ctx := within(t)
	err = n.Accept(ctx, header, recovery.AcceptRequest{Claim: header.Claim}, nil)
	require.ErrorContains(t, err, "internal error")
	_, err = n.Journals(ctx)
	require.ErrorContains(t, err, "internal error")
	require.NotContains(t, err.Error(), "boom")
	require.NoError(t, n.InstallConfig(ctx, summary), "the node goes on")
	require.Equal(t, 2, strings.Count(log.String(), "request panicked"))
	require.Contains(t, log.String(), "boom")
}

type panicky struct{ *fakeService }

func (panicky) Journals(context.Context) ([]rpc.JournalSummary, error) { panic("boom") }

func TestAcceptRelaysFrames(t *testing.T) {
	chunks := []rpc.Chunk{
		{Segment: 11, Prev: prevEnd.Position(), Frames: frame(t, 11, 100).Bytes(), Committed: 9},
		{Segment: 11, Prev: at, Frames: append(frame(t, 12, 1).Bytes(), frame(t, 13, 1).Bytes()...)},
	}
	var got []rpc.Chunk
	s := &fakeService{accept: func(_ context.Context, relay rpc.ChunkStream) error {
		defer relay.Close()
		for {
			c, err := relay.Recv()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			got = append(got, c)
		}
	}}
	n, ctx := connect(t, s), within(t)
	req := recovery.AcceptRequest{
		Claim: header.Claim, End: end, Prev: prevEnd, Epoch: 5, Sources: []quorum.NodeID{"n1", "n2"},
	}
	require.NoError(t, n.Accept(ctx, header, req, &sliceStream{chunks: chunks}))
	requireSame(t, chunks, got)
	requireSame(t, call{"Accept", []any{header, req, true}}, s.lastCall())

	s.accept = nil
	require.NoError(t, n.Accept(ctx, header, req, nil))
	requireSame(t, call{"Accept", []any{header, req, false}}, s.lastCall())
}

func TestAcceptTakesNoPartForTheWhole(t *testing.T) {
	begun, ends := make(chan struct{}), make(chan error, 1)
	s := &fakeService{accept: func(_ context.Context, relay rpc.ChunkStream) error {
		_, err := relay.Recv()
		close(begun)
		for err == nil {
			_, err = relay.Recv()
		}
		ends <- err
		return err
	}}
	n, ctx := connect(t, s), within(t)
	err := n.Accept(ctx, header, recovery.AcceptRequest{Claim: header.Claim}, &brokenStream{
		chunk: rpc.Chunk{Segment: 1, Frames: frame(t, 1, 1).Bytes()}, after: begun, err: rpc.ErrNoSource,
	})
	require.ErrorIs(t, err, rpc.ErrNoSource)
	require.NotErrorIs(t, <-ends, io.EOF, "a relay that broke must not look like one that ended")
}

// brokenStream gives one chunk, and fails once after is closed.
type brokenStream struct {
	chunk rpc.Chunk
	given bool
	after chan struct{}
	err   error
}

func (s *brokenStream) Recv() (rpc.Chunk, error) {
	if !s.given {
		s.given = true
		return s.chunk, nil
	}
	<-s.after
	return rpc.Chunk{}, s.err
}

func (*brokenStream) Close() {}

func TestAcceptRefusedInMidRelay(t *testing.T) {
	s := &fakeService{accept: func(context.Context, rpc.ChunkStream) error { return rpc.ErrPoisoned }}
	n, ctx := connect(t, s), within(t)
	chunk := rpc.Chunk{Segment: 1, Frames: frame(t, 1, 1<<20).Bytes()}
	endless := &sliceStream{chunks: slicesRepeat(chunk, 1000)}
	err := n.Accept(ctx, header, recovery.AcceptRequest{Claim: header.Claim}, endless)
	require.Equal(t, rpc.ErrPoisoned, err)
	require.NotEmpty(t, endless.chunks)
}

func slicesRepeat(c rpc.Chunk, n int) []rpc.Chunk {
	s := make([]rpc.Chunk, n)
	for i := range s {
		s[i] = c
	}
	return s
}

func TestAcceptRelayOfHalfAFrame(t *testing.T) {
	got := make(chan error, 1)
	s := &fakeService{accept: func(_ context.Context, relay rpc.ChunkStream) error {
		_, err := relay.Recv()
		got <- err
		return err
	}}
	n, ctx := connect(t, s), within(t)
	b := frame(t, 1, 100).Bytes()
	err := n.Accept(ctx, header, recovery.AcceptRequest{Claim: header.Claim},
		&sliceStream{chunks: []rpc.Chunk{{Frames: b[:len(b)-1]}}})
	require.ErrorIs(t, err, rpc.ErrBadRequest)
	require.ErrorIs(t, err, segments.ErrTorn, "what is wrong with it arrives too")
	require.ErrorIs(t, <-got, rpc.ErrBadRequest)
}

func TestMethodOfALaterVersion(t *testing.T) {
	err := fromStatus("n1:1", status.Error(codes.Unimplemented, "unknown method Foo"))
	require.EqualError(t, err, "unknown method Foo")
	require.NotErrorIs(t, err, rpc.ErrUnavailable)
}

func TestDialOverTCP(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := grpc.NewServer(ServerOptions(nil)...)
	Register(srv, &fakeService{info: rpc.NodeInfo{ID: "n1"}})
	var served sync.WaitGroup
	served.Go(func() { _ = srv.Serve(lis) })
	defer served.Wait()
	defer srv.Stop()
	_, port, err := net.SplitHostPort(lis.Addr().String())
	require.NoError(t, err)
	for _, addr := range []string{lis.Addr().String(), "localhost:" + port} {
		n, err := Dialer{}.Dial(addr)
		require.NoError(t, err)
		info, err := n.Info(within(t))
		require.NoError(t, err)
		require.EqualValues(t, "n1", info.ID)
		require.NoError(t, n.Close())
	}
}
