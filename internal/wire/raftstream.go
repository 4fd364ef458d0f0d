package wire

import (
	"context"
	"net"

	"google.golang.org/grpc"

	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
)

// A raft stream is a gRPC stream of bytes that looks like a net.Conn. Each end is one half of a net.Pipe,
// which knows deadlines; two pumps move the bytes between the other half and gRPC. A pump holds one piece
// at most, so that flow control reaches the writer, whose deadline then applies.

// pieces is gRPC's side: one piece at a time, either way.
type pieces struct {
	send func([]byte) error
	recv func() ([]byte, error)
}

// pump moves bytes until either side ends, and closes the pipe. ended is closed then. ctx is that of gRPC's
// stream: a pump that waits for somebody to read from the pipe would not notice its end.
func pump(ctx context.Context, far net.Conn, p pieces) (ended chan struct{}) {
	ended = make(chan struct{})
	context.AfterFunc(ctx, func() { _ = far.Close() })
	go func() {
		defer close(ended)
		defer func() { _ = far.Close() }()
		buf := make([]byte, rpc.RaftMessageBytes)
		for {
			n, err := far.Read(buf)
			if n > 0 && p.send(buf[:n]) != nil || err != nil {
				return
			}
		}
	}()
	go func() { // ends with gRPC's stream, which ends with the one above
		defer func() { _ = far.Close() }()
		for {
			b, err := p.recv()
			if err != nil || len(b) > rpc.RaftMessageBytes {
				return
			}
			if _, err := far.Write(b); err != nil {
				return
			}
		}
	}()
	return ended
}

// RaftStream opens a stream. It lives until one side closes it; ctx bounds the opening only.
func (n *node) RaftStream(ctx context.Context) (rpc.RaftConn, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	s, err := n.cc.RaftStream(life)
	if err != nil || !stop() {
		cancel()
		if err == nil {
			_, err = s.Recv() // says that it was cancelled
		}
		return nil, n.fail(err)
	}
	near, far := net.Pipe()
	ended := pump(life, far, pieces{
		send: func(b []byte) error { return s.Send(&qjmv1.RaftStreamRequest{Data: b}) },
		recv: func() ([]byte, error) {
			m, err := s.Recv()
			return m.GetData(), err
		},
	})
	go func() {
		<-ended
		cancel()
	}()
	return near, nil
}

// RaftStream serves one. gRPC ends the stream when this returns, so it waits.
func (s *controlServer) RaftStream(stream grpc.BidiStreamingServer[qjmv1.RaftStreamRequest, qjmv1.RaftStreamResponse]) error {
	near, far := net.Pipe()
	defer func() { _ = near.Close() }()
	ended := pump(stream.Context(), far, pieces{
		send: func(b []byte) error { return stream.Send(&qjmv1.RaftStreamResponse{Data: b}) },
		recv: func() ([]byte, error) {
			m, err := stream.Recv()
			return m.GetData(), err
		},
	})
	err := s.svc.RaftStream(near)
	if err != nil {
		_ = near.Close()
	}
	<-ended
	return toStatus(err)
}
