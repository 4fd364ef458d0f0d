package wire

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
)

// Register makes s serve svc. Every error of svc goes out through the error table.
func Register(s grpc.ServiceRegistrar, svc rpc.Service) {
	qjmv1.RegisterDataPlaneServer(s, &server{svc: svc})
	qjmv1.RegisterControlPlaneServer(s, &controlServer{svc: svc})
}

// server decodes, calls, encodes. The Unsafe embedding makes a method that is missing here a compile
// error.
type server struct {
	qjmv1.UnsafeDataPlaneServer
	svc rpc.Service
}

// serve is one unary call.
func serve[P, In, Out, Q any](
	ctx context.Context, p P, decode func(P) (In, error),
	call func(context.Context, In) (Out, error), encode func(Out) Q,
) (q Q, err error) {
	in, err := decode(p)
	if err != nil {
		return q, toStatus(err)
	}
	out, err := call(ctx, in)
	if err != nil {
		return q, toStatus(err)
	}
	return encode(out), nil
}

func (s *server) GetInfo(ctx context.Context, _ *qjmv1.GetInfoRequest) (*qjmv1.GetInfoResponse, error) {
	info, err := s.svc.Info(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	return infoToProto(info), nil
}

func (s *server) ListJournals(ctx context.Context, _ *qjmv1.ListJournalsRequest) (*qjmv1.ListJournalsResponse, error) {
	js, err := s.svc.Journals(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	return journalsToProto(js), nil
}

func (s *server) InstallConfig(ctx context.Context, p *qjmv1.InstallConfigRequest) (*qjmv1.InstallConfigResponse, error) {
	j, err := installFromProto(p)
	if err == nil {
		err = s.svc.InstallConfig(ctx, j)
	}
	return &qjmv1.InstallConfigResponse{}, toStatus(err)
}

func (s *server) LeaveJournal(ctx context.Context, p *qjmv1.LeaveJournalRequest) (*qjmv1.LeaveJournalResponse, error) {
	j, err := leaveFromProto(p)
	if err == nil {
		err = s.svc.LeaveJournal(ctx, j)
	}
	return &qjmv1.LeaveJournalResponse{}, toStatus(err)
}

func (s *server) AskWriter(ctx context.Context, p *qjmv1.AskWriterRequest) (*qjmv1.AskWriterResponse, error) {
	return serve(ctx, p, askWriterFromProto, s.svc.AskWriter, writerAnswerToProto)
}

func (s *server) GetState(ctx context.Context, p *qjmv1.GetStateRequest) (*qjmv1.GetStateResponse, error) {
	return serve(ctx, p.JournalId, journalIDFromProto, s.svc.State, stateToProto)
}

func (s *server) NewEpoch(ctx context.Context, p *qjmv1.NewEpochRequest) (*qjmv1.NewEpochResponse, error) {
	return serve(ctx, p, newEpochFromProto, s.svc.NewEpoch, promiseToProto)
}

func (s *server) Prepare(ctx context.Context, p *qjmv1.PrepareRequest) (*qjmv1.PrepareResponse, error) {
	r, err := prepareFromProto(p)
	if err != nil {
		return nil, toStatus(err)
	}
	a, err := s.svc.Prepare(ctx, r.Header, r.Segment, r.Digests)
	if err != nil {
		return nil, toStatus(err)
	}
	return &qjmv1.PrepareResponse{Answer: answerToProto(a)}, nil
}

func (s *server) Finalize(ctx context.Context, p *qjmv1.FinalizeRequest) (*qjmv1.FinalizeResponse, error) {
	r, err := finalizeFromProto(p)
	if err == nil {
		err = s.svc.Finalize(ctx, r.Header, r.End)
	}
	return &qjmv1.FinalizeResponse{}, toStatus(err)
}

func (s *server) ListSegments(ctx context.Context, p *qjmv1.ListSegmentsRequest) (*qjmv1.ListSegmentsResponse, error) {
	return serve(ctx, p, segmentsRequestFromProto, s.svc.Segments, segmentsToProto)
}

func (s *server) ReadSegment(p *qjmv1.ReadSegmentRequest, stream grpc.ServerStreamingServer[qjmv1.ReadSegmentResponse]) error {
	r, err := readFromProto(p)
	if err != nil {
		return toStatus(err)
	}
	return toStatus(s.svc.ReadSegment(stream.Context(), r, func(c rpc.Chunk) error {
		return sent(stream.Send(&qjmv1.ReadSegmentResponse{Chunk: chunkToProto(c)}))
	}))
}

func (s *server) Tail(p *qjmv1.TailRequest, stream grpc.ServerStreamingServer[qjmv1.TailResponse]) error {
	r, err := tailFromProto(p)
	if err != nil {
		return toStatus(err)
	}
	return toStatus(s.svc.Tail(stream.Context(), r, func(c rpc.Chunk) error {
		return sent(stream.Send(&qjmv1.TailResponse{Chunk: chunkToProto(c)}))
	}))
}

func (s *server) Accept(stream grpc.ClientStreamingServer[qjmv1.AcceptRequest, qjmv1.AcceptResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return toStatus(received(err, "accept"))
	}
	r, err := acceptFromProto(first)
	if err != nil {
		return toStatus(err)
	}
	var relay rpc.ChunkStream // a nil interface where nothing is relayed
	if r.Relayed {
		relay = relayStream{stream}
	}
	if err := s.svc.Accept(stream.Context(), r.Header, r.Accept, relay); err != nil {
		return toStatus(err)
	}
	return stream.SendAndClose(&qjmv1.AcceptResponse{})
}

func (s *server) Write(stream grpc.BidiStreamingServer[qjmv1.WriteRequest, qjmv1.WriteResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return toStatus(received(err, "write"))
	}
	h, err := helloFromProto(first)
	if err != nil {
		return toStatus(err)
	}
	return toStatus(s.svc.Write(h, writeServer{stream}))
}

// relayStream reads the chunks behind the first message of an accept.
type relayStream struct {
	s grpc.ClientStreamingServer[qjmv1.AcceptRequest, qjmv1.AcceptResponse]
}

func (r relayStream) Recv() (rpc.Chunk, error) {
	p, err := r.s.Recv()
	if err == io.EOF {
		return rpc.Chunk{}, io.EOF
	}
	if err != nil {
		return rpc.Chunk{}, fromCaller(err)
	}
	return relayFromProto(p)
}

// Close does nothing: the stream ends when the handler returns.
func (relayStream) Close() {}

// writeServer is the node's end of a write stream.
type writeServer struct {
	s grpc.BidiStreamingServer[qjmv1.WriteRequest, qjmv1.WriteResponse]
}

func (w writeServer) Context() context.Context { return w.s.Context() }

func (w writeServer) Recv() (rpc.WriteRequest, error) {
	var m incoming
	err := w.s.RecvMsg(&m)
	if err == io.EOF {
		return rpc.WriteRequest{}, io.EOF
	}
	if err != nil {
		return rpc.WriteRequest{}, fromCaller(err)
	}
	return m.request()
}

func (w writeServer) Send(r rpc.WriteReply) error { return sent(w.s.Send(writeReplyToProto(r))) }

// received names the error of a stream that ended before its first message.
func received(err error, what string) error {
	if errors.Is(err, io.EOF) {
		var d decoder
		d.fail("%s stream holds no message", what)
		return d.done()
	}
	return fromCaller(err)
}

func sent(err error) error {
	if err == nil {
		return nil
	}
	return fromCaller(err)
}
