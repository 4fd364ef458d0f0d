package systems

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"

	"github.com/quorumjournal/qjm/bench/load"
)

var floorGRPCSpec = load.Spec{
	Name: "floor-grpc", Mode: load.Raw, Start: startFloorGRPC,
	Setup: "no disk: one message on each of three gRPC streams for all callers together, done when two of three answered",
}

const (
	floorMethod = "/floor/Stream"
	floorWindow = 16 << 20 // of streams and connections: flow control is not what is measured
)

var floorDesc = grpc.StreamDesc{StreamName: "Stream", ServerStreams: true, ClientStreams: true}

// bytesCodec hands messages over as they are.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "bytes" }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("systems: cannot send a %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	into, ok := v.(*mem.BufferSlice)
	if !ok {
		return fmt.Errorf("systems: cannot receive a %T", v)
	}
	data.Ref()
	*into = data
	return nil
}

// answer is what one stream's server has counted.
type answer struct {
	stream int
	count  uint64
	err    error
}

type floorGRPC struct {
	servers []*floorServer
	conns   []*grpc.ClientConn
	streams []grpc.ClientStream
	answers chan answer
	work    sync.WaitGroup
	cancel  context.CancelFunc

	mu    sync.Mutex // Append is one at a time
	sent  uint64
	heard [nodes]uint64
}

func startFloorGRPC(_ context.Context, _ load.Env) (load.System, error) {
	ctx, cancel := context.WithCancel(context.Background())
	g := &floorGRPC{cancel: cancel, answers: make(chan answer, floorLag)}
	for i := range nodes {
		if err := g.connect(ctx, i); err != nil {
			return nil, errors.Join(err, g.Close())
		}
	}
	return g, nil
}

func (g *floorGRPC) connect(ctx context.Context, i int) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &floorServer{}
	s.grpc = grpc.NewServer(grpc.ForceServerCodecV2(bytesCodec{}), grpc.UnknownServiceHandler(s.stream),
		grpc.InitialWindowSize(floorWindow), grpc.InitialConnWindowSize(floorWindow), grpc.MaxRecvMsgSize(load.RawBytesMax*16))
	g.servers = append(g.servers, s)
	go func() { _ = s.grpc.Serve(l) }() // ends with Stop; an earlier end shows as a stream's error
	conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(floorWindow), grpc.WithInitialConnWindowSize(floorWindow))
	if err != nil {
		return err
	}
	g.conns = append(g.conns, conn)
	stream, err := conn.NewStream(ctx, &floorDesc, floorMethod, grpc.ForceCodecV2(bytesCodec{}))
	if err != nil {
		return err
	}
	g.streams = append(g.streams, stream)
	g.work.Go(func() { g.receive(ctx, i, stream) })
	return nil
}

func (g *floorGRPC) receive(ctx context.Context, i int, stream grpc.ClientStream) {
	for {
		var m mem.BufferSlice
		a := answer{stream: i}
		if a.err = stream.RecvMsg(&m); a.err == nil {
			a.count = binary.BigEndian.Uint64(m.Materialize())
			m.Free()
		}
		select {
		case g.answers <- a:
		case <-ctx.Done():
			return
		}
		if a.err != nil {
			return
		}
	}
}

func (g *floorGRPC) Append(ctx context.Context, txn []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sent++
	for _, s := range g.streams {
		if err := s.SendMsg(txn); err != nil {
			return err
		}
	}
	for g.behind() > nodes-majority {
		select {
		case a := <-g.answers:
			if a.err != nil {
				return a.err
			}
			g.heard[a.stream] = a.count
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// behind counts the streams that have not answered the last message.
func (g *floorGRPC) behind() (n int) {
	for _, count := range g.heard {
		if count < g.sent {
			n++
		}
	}
	return n
}

func (g *floorGRPC) Contents(context.Context) ([][]byte, error) {
	var held [][][]byte
	for _, s := range g.servers {
		s.mu.Lock()
		held = append(held, append([][]byte(nil), s.kept...))
		s.mu.Unlock()
	}
	return onMajority(held), nil
}

func (g *floorGRPC) Close() error {
	g.cancel()
	g.work.Wait()
	var errs []error
	for _, c := range g.conns {
		errs = append(errs, c.Close())
	}
	for _, s := range g.servers {
		s.grpc.Stop()
	}
	return errors.Join(errs...)
}

// floorServer counts messages and answers each with the count.
type floorServer struct {
	grpc *grpc.Server
	mu   sync.Mutex
	kept [][]byte // the first ones, for Contents
}

func (s *floorServer) stream(_ any, stream grpc.ServerStream) error {
	for count := uint64(1); ; count++ {
		var m mem.BufferSlice
		if err := stream.RecvMsg(&m); err != nil {
			return err
		}
		if count <= floorKept {
			s.mu.Lock()
			s.kept = append(s.kept, m.Materialize())
			s.mu.Unlock()
		}
		m.Free()
		if err := stream.SendMsg(binary.BigEndian.AppendUint64(nil, count)); err != nil {
			return err
		}
	}
}
