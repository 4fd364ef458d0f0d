package wire

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
)

func (n *node) ReadSegment(ctx context.Context, req rpc.ReadRequest) (rpc.ChunkStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	s, err := n.c.ReadSegment(ctx, readToProto(req))
	return newChunkStream(n, cancel, s, err, (*qjmv1.ReadSegmentResponse).GetChunk)
}

func (n *node) Tail(ctx context.Context, req rpc.TailRequest) (rpc.ChunkStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	s, err := n.c.Tail(ctx, tailToProto(req))
	return newChunkStream(n, cancel, s, err, (*qjmv1.TailResponse).GetChunk)
}

// chunkStream reads the frames of ReadSegment and Tail.
type chunkStream[P any] struct {
	n      *node
	cancel context.CancelFunc
	s      grpc.ServerStreamingClient[P]
	chunk  func(*P) *qjmv1.Chunk
}

func newChunkStream[P any](
	n *node, cancel context.CancelFunc, s grpc.ServerStreamingClient[P], err error, chunk func(*P) *qjmv1.Chunk,
) (rpc.ChunkStream, error) {
	if err != nil {
		cancel()
		return nil, n.fail(err)
	}
	return &chunkStream[P]{n: n, cancel: cancel, s: s, chunk: chunk}, nil
}

// Recv returns the next chunk, io.EOF at the end, or the typed error that ended the stream.
func (s *chunkStream[P]) Recv() (rpc.Chunk, error) {
	p, err := s.s.Recv()
	if err == nil {
		c, err := chunkFromProto(s.chunk(p))
		if err != nil {
			s.cancel()
			return rpc.Chunk{}, s.n.malformed(err)
		}
		return c, nil
	}
	s.cancel()
	if errors.Is(err, io.EOF) {
		return rpc.Chunk{}, io.EOF
	}
	return rpc.Chunk{}, s.n.fail(err)
}

func (s *chunkStream[P]) Close() { s.cancel() }

// Write opens a stream and sends hello. The stream lives no longer than ctx.
func (n *node) Write(ctx context.Context, h rpc.Header) (rpc.WriteStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	s, err := n.c.Write(ctx, grpc.ForceCodecV2(messages))
	if err != nil {
		cancel()
		return nil, n.fail(err)
	}
	w := &writeStream{n: n, cancel: cancel, s: s}
	if err := w.send(helloToProto(h)); err != nil {
		cancel()
		return nil, err
	}
	return w, nil
}

// writeStream is the writer's end of a write stream.
type writeStream struct {
	n      *node
	cancel context.CancelFunc
	s      grpc.BidiStreamingClient[qjmv1.WriteRequest, qjmv1.WriteResponse]

	// receiving is held while a reply is awaited. Sender and receiver both take it, but the sender only
	// once the stream has ended, when waiting is short.
	receiving sync.Mutex
	ahead     []rpc.WriteReply // guarded by receiving: replies that Send met on its way to the end
	end       error            // guarded by receiving: what ended the stream
	answered  atomic.Bool      // a reply has come
}

// Send hands a message to the transport. Errors: rpc.ErrBadRequest and rpc.ErrTooLarge for a message
// that cannot be sent, which leave the stream as it was; else what ended the stream, as from Recv.
func (w *writeStream) Send(r rpc.WriteRequest) error {
	m, err := writeMessage(r)
	if err != nil {
		return err
	}
	return w.send(m)
}

// Ready implements rpc.WriteStream. Until the first reply, Send may wait for a new connection: gRPC sends all of a
// stream again on another one where the node has not begun to serve it. After that it waits for its quota only.
func (w *writeStream) Ready() bool { return w.answered.Load() }

// writeMessage makes what is handed to gRPC.
func writeMessage(r rpc.WriteRequest) (any, error) {
	p, err := writeToProto(r)
	if err != nil || len(r.Frames) == 0 {
		return p, err
	}
	p.Body = nil
	return encodeBatch(p, r.Frames)
}

func (w *writeStream) send(m any) error {
	err := w.s.SendMsg(m)
	if errors.Is(err, io.EOF) {
		return w.wait() // gRPC says only that it is over; why is where the replies come from
	}
	if err != nil {
		return w.n.fail(err)
	}
	return nil
}

// wait returns what ended the stream, which has ended. Replies before the end are kept for Recv.
func (w *writeStream) wait() error {
	w.receiving.Lock()
	defer w.receiving.Unlock()
	for w.end == nil {
		if r, err := w.next(); err == nil {
			w.ahead = append(w.ahead, r)
		}
	}
	return w.end
}

// Recv returns the next reply, or what ended the stream: a typed error, or io.EOF where the node had
// none. It returns the same from then on.
func (w *writeStream) Recv() (rpc.WriteReply, error) {
	w.receiving.Lock()
	defer w.receiving.Unlock()
	if len(w.ahead) > 0 {
		r := w.ahead[0]
		w.ahead = w.ahead[1:]
		return r, nil
	}
	if w.end != nil {
		return rpc.WriteReply{}, w.end
	}
	return w.next()
}

// next waits for a reply; its error is also w.end. receiving is held.
func (w *writeStream) next() (rpc.WriteReply, error) {
	p, err := w.s.Recv()
	switch {
	case errors.Is(err, io.EOF):
		w.end = io.EOF
	case err != nil:
		w.end = w.n.fail(err)
	default:
		w.answered.Store(true)
		r, err := writeReplyFromProto(p)
		if err == nil {
			return r, nil
		}
		w.end = w.n.malformed(err)
	}
	w.cancel()
	return rpc.WriteReply{}, w.end
}

// Close ends the stream at once.
func (w *writeStream) Close() { w.cancel() }
