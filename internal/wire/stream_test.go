package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

func TestChunksArrive(t *testing.T) {
	chunks := []rpc.Chunk{
		{Segment: 11, Prev: at, Frames: frame(t, 11, 10).Bytes(), Committed: 9},
		{Segment: 11, Committed: 1 << 63}, // nothing but news of what is committed
	}
	s := &fakeService{chunks: func(_ context.Context, send func(rpc.Chunk) error) error {
		for _, c := range chunks {
			if err := send(c); err != nil {
				return err
			}
		}
		return nil
	}}
	n, ctx := connect(t, s), within(t)
	read := rpc.ReadRequest{Journal: header.Journal, Segment: 11, From: 12, Durable: true, Epoch: 5, UpTo: 1 << 63}
	r, err := n.ReadSegment(ctx, read)
	require.NoError(t, err)
	requireChunks(t, chunks, r)
	requireSame(t, call{"ReadSegment", []any{read}}, s.lastCall())

	tail := rpc.TailRequest{Journal: header.Journal, From: 12, FinalizedOnly: true, Follow: true}
	r, err = n.Tail(ctx, tail)
	require.NoError(t, err)
	requireChunks(t, chunks, r)
	requireSame(t, call{"Tail", []any{tail}}, s.lastCall())
}

func requireChunks(t *testing.T, want []rpc.Chunk, s rpc.ChunkStream) {
	t.Helper()
	defer s.Close()
	for _, w := range want {
		c, err := s.Recv()
		require.NoError(t, err)
		requireSame(t, w, c)
	}
	for range 2 {
		_, err := s.Recv()
		require.Equal(t, io.EOF, err)
	}
}

func TestChunkStreamEndsTyped(t *testing.T) {
	want := &segments.CorruptionError{Segment: 1, Offset: 4096, TxID: 2, Err: segments.ErrCorrupt}
	s := &fakeService{chunks: func(_ context.Context, send func(rpc.Chunk) error) error {
		if err := send(rpc.Chunk{Segment: 1}); err != nil {
			return err
		}
		return want
	}}
	n := connect(t, s)
	r, err := n.Tail(within(t), rpc.TailRequest{Journal: header.Journal, Follow: true})
	require.NoError(t, err)
	_, err = r.Recv()
	require.NoError(t, err)
	_, err = r.Recv()
	require.Equal(t, want, err)
}

func TestReaderThatStopsReading(t *testing.T) {
	ended := make(chan error, 1)
	chunk := rpc.Chunk{Segment: 1, Frames: frame(t, 1, rpc.ChunkBytes).Bytes()}
	s := &fakeService{chunks: func(_ context.Context, send func(rpc.Chunk) error) error {
		for {
			if err := send(chunk); err != nil {
				ended <- err
				return err
			}
		}
	}}
	n := connect(t, s)
	r, err := n.Tail(within(t), rpc.TailRequest{Journal: header.Journal, Follow: true})
	require.NoError(t, err)
	_, err = r.Recv()
	require.NoError(t, err)
	_, err = n.Info(within(t))
	require.ErrorIs(t, err, ErrMalformedReply, "others on the connection are served (the fake's info is blank)")
	r.Close()
	require.ErrorIs(t, <-ended, rpc.ErrUnavailable, "then it is let go")
	_, err = r.Recv()
	for err == nil {
		_, err = r.Recv()
	}
	require.ErrorIs(t, err, context.Canceled)
}

// echo answers each message with its number, and keeps the messages.
func echo(got *[]rpc.WriteRequest) func(rpc.Header, rpc.ServerStream) error {
	return func(_ rpc.Header, s rpc.ServerStream) error {
		for {
			r, err := s.Recv()
			if err != nil {
				return err
			}
			r.Free = nil // kept, so not given back
			*got = append(*got, r)
			if err := s.Send(rpc.WriteReply{Kind: rpc.Synced, At: segments.Position{TxID: segments.TxID(r.Seq)}}); err != nil {
				return err
			}
		}
	}
}

func TestEveryFieldOfWriteArrives(t *testing.T) {
	msgs := []rpc.WriteRequest{
		{Seq: 1, Floor: floor, Start: &prevEnd},
		{Seq: 2, Start: &segments.End{}},
		{Seq: 3, Frames: []segments.Frame{frame(t, 11, 0), frame(t, 12, 1<<20)}},
		{Seq: 1 << 63, Floor: floor},
		{},
		{Seq: 5, Sealed: rpc.Seal{Version: 2, Epoch: 3, Segment: 4}, Reached: reached, Leaving: true},
		{Seq: 6, Finalize: &end, Reached: &rpc.Reached{ID: 8}},
		{Seq: 7, Fill: &rpc.Fill{Segment: 11, Target: at, Sources: []quorum.NodeID{"n1", "n2"}}},
	}
	var got []rpc.WriteRequest
	s := &fakeService{write: echo(&got)}
	n := connect(t, s)
	w, err := n.Write(within(t), header)
	require.NoError(t, err)
	for _, m := range msgs {
		require.NoError(t, w.Send(m))
		r, err := w.Recv()
		require.NoError(t, err)
		require.EqualValues(t, m.Seq, r.At.TxID)
	}
	w.Close()
	requireSame(t, msgs, got)
	requireSame(t, call{"Write", []any{header}}, s.lastCall())
}

func TestEveryFieldOfReplyArrives(t *testing.T) {
	replies := []rpc.WriteReply{
		{Kind: rpc.Alive, Reach: reach}, {Kind: rpc.Started}, {Kind: rpc.Finalized}, {Kind: rpc.FillFailed, Err: "no source\xff"},
		{Kind: rpc.Synced, Segment: 11, Epoch: 5, ConfigVersion: 7, Incarnation: quorum.Incarnation{3}, At: at, Err: "-", OverQuota: true},
	}
	s := &fakeService{write: func(_ rpc.Header, s rpc.ServerStream) error {
		for _, r := range replies {
			if err := s.Send(r); err != nil {
				return err
			}
		}
		return nil
	}}
	w, err := connect(t, s).Write(within(t), header)
	require.NoError(t, err)
	defer w.Close()
	for _, want := range replies {
		got, err := w.Recv()
		require.NoError(t, err)
		want.Err = text(want.Err)
		requireSame(t, want, got)
	}
	for range 2 {
		_, err = w.Recv()
		require.Equal(t, io.EOF, err)
	}
}

func TestWriteKeepsOrderUnderLoad(t *testing.T) {
	const n = 2000
	var got []rpc.WriteRequest
	w, err := connect(t, &fakeService{write: echo(&got)}).Write(within(t), header)
	require.NoError(t, err)
	f := frame(t, 1, 4<<10)
	var sender sync.WaitGroup
	sender.Go(func() {
		for i := range n {
			if err := w.Send(rpc.WriteRequest{Seq: uint64(i), Frames: []segments.Frame{f}}); err != nil {
				t.Errorf("send %d: %v", i, err)
			}
		}
	})
	for i := range n {
		r, err := w.Recv()
		require.NoError(t, err)
		require.EqualValues(t, i, r.At.TxID)
	}
	sender.Wait()
	w.Close()
}

func TestSendOnABrokenStreamSaysWhy(t *testing.T) {
	want := &fencing.FencedError{Promised: fencing.Claim{Epoch: 9, Writer: fencing.WriterID{1}}, Got: header.Claim}
	s := &fakeService{write: func(_ rpc.Header, s rpc.ServerStream) error {
		if _, err := s.Recv(); err != nil {
			return err
		}
		for i := range 3 { // these must not get lost while Send looks for the end
			if err := s.Send(rpc.WriteReply{Kind: rpc.Synced, At: segments.Position{TxID: segments.TxID(i + 1)}}); err != nil {
				return err
			}
		}
		return want
	}}
	w, err := connect(t, s).Write(within(t), header)
	require.NoError(t, err)
	defer w.Close()
	for err == nil {
		err = w.Send(rpc.WriteRequest{})
	}
	require.Equal(t, want, err)
	for i := range 3 {
		r, err := w.Recv()
		require.NoError(t, err)
		require.EqualValues(t, i+1, r.At.TxID)
	}
	_, err = w.Recv()
	require.Equal(t, want, err)
	require.Equal(t, want, w.Send(rpc.WriteRequest{}))
}

func TestSenderAndReceiverHearTheSameEnd(t *testing.T) {
	want := &fencing.LostRaceError{Holder: header.Claim, Got: fencing.Claim{Epoch: header.Claim.Epoch, Writer: fencing.WriterID{1}}}
	for range 50 {
		s := &fakeService{write: func(_ rpc.Header, s rpc.ServerStream) error {
			for range 10 {
				if _, err := s.Recv(); err != nil {
					return err
				}
				if err := s.Send(rpc.WriteReply{}); err != nil {
					return err
				}
			}
			return want
		}}
		w, err := connect(t, s).Write(within(t), header)
		require.NoError(t, err)
		var sendErr error
		var sender sync.WaitGroup
		sender.Go(func() {
			for sendErr == nil {
				sendErr = w.Send(rpc.WriteRequest{})
			}
		})
		replies := 0
		for err == nil {
			if _, err = w.Recv(); err == nil {
				replies++
			}
		}
		sender.Wait()
		require.Equal(t, want, err)
		require.Equal(t, want, sendErr)
		require.Equal(t, 10, replies)
		w.Close()
	}
}

func TestCloseFreesBothSides(t *testing.T) {
	served := make(chan error, 1)
	s := &fakeService{write: func(_ rpc.Header, s rpc.ServerStream) error {
		if err := s.Send(rpc.WriteReply{}); err != nil {
			return err
		}
		<-s.Context().Done() // reads nothing: the sender fills the window
		_, err := s.Recv()
		for err == nil {
			_, err = s.Recv()
		}
		served <- err
		return err
	}}
	w, err := connect(t, s).Write(within(t), header)
	require.NoError(t, err)
	_, err = w.Recv() // it is being served
	require.NoError(t, err)
	f := frame(t, 1, 1<<20)
	ends := make(chan error, 2)
	go func() {
		var err error
		for err == nil {
			err = w.Send(rpc.WriteRequest{Frames: []segments.Frame{f}})
		}
		ends <- err
	}()
	go func() { _, err := w.Recv(); ends <- err }()
	w.Close()
	for range 2 {
		err := <-ends
		require.ErrorIs(t, err, rpc.ErrUnavailable)
		require.ErrorIs(t, err, context.Canceled)
	}
	require.ErrorIs(t, <-served, rpc.ErrUnavailable)
}

func TestWriterThatStopsReading(t *testing.T) {
	served := make(chan error, 1)
	big := rpc.WriteReply{Kind: rpc.FillFailed, Err: string(make([]byte, textBytesMax))}
	s := &fakeService{write: func(_ rpc.Header, s rpc.ServerStream) error {
		for {
			if err := s.Send(big); err != nil {
				served <- err
				return err
			}
		}
	}}
	n := connect(t, s)
	w, err := n.Write(within(t), header)
	require.NoError(t, err)
	_, err = w.Recv() // it is being served
	require.NoError(t, err)
	require.NoError(t, n.InstallConfig(within(t), summary), "others on the connection are served")
	w.Close()
	require.Error(t, <-served)
}

func TestMessagesThatCannotBeSentLeaveTheStreamAlone(t *testing.T) {
	var got []rpc.WriteRequest
	w, err := connect(t, &fakeService{write: echo(&got)}).Write(within(t), header)
	require.NoError(t, err)
	defer w.Close()
	large := frame(t, 1, 15<<20)
	require.ErrorIs(t, w.Send(rpc.WriteRequest{Frames: []segments.Frame{large, large}}), rpc.ErrTooLarge)
	require.ErrorIs(t, w.Send(rpc.WriteRequest{Start: &prevEnd, Finalize: &end}), rpc.ErrBadRequest)
	largest, err := segments.SealOpaque(segments.Digest{}, 5, 1, 1, make([]byte, segments.MaxFramePayload), segments.SealOptions{})
	require.NoError(t, err)
	require.NoError(t, w.Send(rpc.WriteRequest{Seq: 1, Frames: []segments.Frame{largest}}), "the largest frame fits")
	_, err = w.Recv()
	require.NoError(t, err)
	require.Len(t, got, 1)
}

func TestOversizeMessageIsRefused(t *testing.T) {
	served := make(chan error, 1)
	n := connect(t, &fakeService{write: func(_ rpc.Header, s rpc.ServerStream) error {
		_, err := s.Recv()
		served <- err
		return err
	}})
	s, err := n.c.Write(within(t), grpc.MaxCallSendMsgSize(1<<30)) // a client that does not keep to the limit
	require.NoError(t, err)
	require.NoError(t, s.Send(helloToProto(header)))
	huge := &qjmv1.Batch{Frames: [][]byte{make([]byte, rpc.MessageBytesMax)}}
	err = s.Send(&qjmv1.WriteRequest{Body: &qjmv1.WriteRequest_Batch{Batch: huge}})
	if err == nil || errors.Is(err, io.EOF) {
		_, err = s.Recv()
	}
	require.ErrorIs(t, <-served, rpc.ErrTooLarge)
	// gRPC answers by itself, without a reason of ours. The same code comes from this side when a reply
	// is too large, and then the request has been served: so it is no rpc.ErrTooLarge here.
	require.ErrorContains(t, fromStatus("", err), "larger than max")
	require.NotErrorIs(t, fromStatus("", err), rpc.ErrTooLarge)
}

func TestMalformedWriteMessages(t *testing.T) {
	whole := frame(t, 1, 100).Bytes()
	for name, p := range map[string]*qjmv1.WriteRequest{
		"hello again": helloToProto(header),
		"no frame":    {Body: &qjmv1.WriteRequest_Batch{Batch: &qjmv1.Batch{}}},
		"empty frame": {Body: &qjmv1.WriteRequest_Batch{Batch: &qjmv1.Batch{Frames: [][]byte{{}}}}},
		"torn frame":  {Body: &qjmv1.WriteRequest_Batch{Batch: &qjmv1.Batch{Frames: [][]byte{whole[:99]}}}},
		"two in one": {Body: &qjmv1.WriteRequest_Batch{Batch: &qjmv1.Batch{
			Frames: [][]byte{append(append([]byte{}, whole...), whole...)},
		}}},
		"digest":  {Body: &qjmv1.WriteRequest_Finalize{Finalize: &qjmv1.Finish{End: &qjmv1.End{Digest: []byte{1}}}}},
		"sources": {Body: &qjmv1.WriteRequest_Fill{Fill: &qjmv1.Fill{Sources: make([]string, sourcesMax+1)}}},
		"source":  {Body: &qjmv1.WriteRequest_Fill{Fill: &qjmv1.Fill{Sources: []string{""}}}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []rpc.WriteRequest
			s, err := connect(t, &fakeService{write: echo(&got)}).c.Write(within(t))
			require.NoError(t, err)
			require.NoError(t, s.Send(helloToProto(header)))
			require.NoError(t, s.Send(p))
			_, err = s.Recv()
			require.ErrorIs(t, fromStatus("", err), rpc.ErrBadRequest)
			require.Empty(t, got)
		})
	}
	t.Run("no hello", func(t *testing.T) {
		f := &fakeService{}
		s, err := connect(t, f).c.Write(within(t))
		require.NoError(t, err)
		require.NoError(t, s.Send(&qjmv1.WriteRequest{}))
		_, err = s.Recv()
		require.ErrorIs(t, fromStatus("", err), rpc.ErrBadRequest)
		require.Empty(t, f.calls)
	})
}

func TestConnectionLostInMidStream(t *testing.T) {
	d, srv := listen(t, &fakeService{write: echo(new([]rpc.WriteRequest))}, nil)
	n, err := d.Dial("n1:7070")
	require.NoError(t, err)
	defer n.Close()
	w, err := n.Write(within(t), header)
	require.NoError(t, err)
	defer w.Close()
	require.NoError(t, w.Send(rpc.WriteRequest{}))
	_, err = w.Recv()
	require.NoError(t, err)
	srv.Stop()
	_, err = w.Recv()
	require.ErrorIs(t, err, rpc.ErrUnavailable)
	require.ErrorIs(t, w.Send(rpc.WriteRequest{}), rpc.ErrUnavailable)
}

func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("frame=%d", size), func(b *testing.B) {
			s := &fakeService{write: func(_ rpc.Header, s rpc.ServerStream) error {
				for {
					if _, err := s.Recv(); err != nil {
						return err
					}
					if err := s.Send(rpc.WriteReply{Kind: rpc.Synced}); err != nil {
						return err
					}
				}
			}}
			w, err := connect(b, s).Write(context.Background(), header)
			require.NoError(b, err)
			defer w.Close()
			f := frame(b, 1, size)
			b.SetBytes(int64(f.Size()))
			b.ReportAllocs()
			var sender sync.WaitGroup
			sender.Go(func() {
				for range b.N {
					if err := w.Send(rpc.WriteRequest{Frames: []segments.Frame{f}}); err != nil {
						b.Error(err)
						return
					}
				}
			})
			for range b.N {
				if _, err := w.Recv(); err != nil {
					b.Fatal(err)
				}
			}
			sender.Wait()
		})
	}
}

// stuckConn is a connection that takes nothing while it is stuck, like one to a machine that is gone.
type stuckConn struct {
	net.Conn
	stuck *atomic.Bool
	ends  <-chan struct{}
}

func (c *stuckConn) Write(b []byte) (int, error) {
	if c.stuck.Load() {
		<-c.ends
		return 0, net.ErrClosed
	}
	return c.Conn.Write(b)
}

// What may go out ahead of the node's answers is taken at once, however small the frames and however large the
// numbers around them, and though another journal's frames have filled the connection, which takes nothing any
// more: whoever sends it must not wait for this node. Keepalive would end the connection, and fail the test, later.
func TestSend_AheadOfAnswersDoesNotWait(t *testing.T) {
	d, _ := listen(t, &fakeService{write: func(_ rpc.Header, s rpc.ServerStream) error {
		var got []rpc.WriteRequest
		return echo(&got)(rpc.Header{}, s)
	}}, nil)
	inner, stuck, ends := d.DialContext, new(atomic.Bool), make(chan struct{})
	d.DialContext = func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := inner(ctx, addr)
		return &stuckConn{Conn: c, stuck: stuck, ends: ends}, err
	}
	n, err := d.Dial("n1:7070")
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	defer close(ends)
	open := func() rpc.WriteStream {
		w, err := n.Write(within(t), header)
		require.NoError(t, err)
		t.Cleanup(w.Close)
		require.False(t, w.Ready(), "before its first answer gRPC may connect anew inside of Send")
		require.NoError(t, w.Send(rpc.WriteRequest{}))
		_, err = w.Recv()
		require.NoError(t, err)
		require.True(t, w.Ready())
		return w
	}
	w, other := open(), open()
	stuck.Store(true)
	require.NoError(t, other.Send(rpc.WriteRequest{Frames: []segments.Frame{frame(t, 1, 1<<20)}}))
	floor := recovery.Floor{Segment: 1<<64 - 2, Epoch: 1<<64 - 1, At: at}
	for range rpc.BeatsAhead + 1 {
		seal := rpc.Seal{Version: 1 << 63, Epoch: 1 << 63, Segment: 1 << 63}
		require.NoError(t, w.Send(rpc.WriteRequest{Seq: 1 << 63, Floor: floor, Sealed: seal}))
	}
	f := frame(t, 1<<62, 1)
	for under := 0; under <= rpc.SendAheadBytes; under += f.Size() {
		require.NoError(t, w.Send(rpc.WriteRequest{Seq: 1 << 63, Floor: floor, Frames: []segments.Frame{f}}), "with %d bytes under way", under)
	}
}
