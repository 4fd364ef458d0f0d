package wire

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/quorumjournal/qjm/internal/rpc"
)

// What both sides of a connection agree on.
const (
	streamWindowBytes = 8 << 20  // what one stream may have under way: half a frame of the largest size
	connWindowBytes   = 16 << 20 // and all streams of a connection
	pingEvery         = 10 * time.Second
	pingTimeout       = 5 * time.Second
	pingFloor         = 5 * time.Second // the least time between pings that a server puts up with
	headerBytesMax    = 64 << 10        // what a request says of itself besides its message
)

// ServerOptions returns what a gRPC server needs to serve Register's service: message and window sizes,
// keepalive, and interceptors that turn a panic into codes.Internal. A nil log discards. Options of the
// caller (credentials, more interceptors) go with them.
func ServerOptions(log *slog.Logger) []grpc.ServerOption {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(messages),
		grpc.MaxRecvMsgSize(rpc.MessageBytesMax),
		grpc.MaxSendMsgSize(rpc.MessageBytesMax),
		grpc.MaxHeaderListSize(headerBytesMax),
		grpc.InitialWindowSize(streamWindowBytes),
		grpc.InitialConnWindowSize(connWindowBytes),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingEvery, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingFloor, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(recoverUnary(log)),
		grpc.ChainStreamInterceptor(recoverStream(log)),
	}
}

func recoverUnary(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
		defer recovered(ctx, log, info.FullMethod, &err)
		return next(ctx, req)
	}
}

func recoverStream(log *slog.Logger) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
		defer recovered(stream.Context(), log, info.FullMethod, &err)
		return next(srv, stream)
	}
}

// recovered keeps one bad request from ending the process. The caller is told nothing of the cause but
// that there was one: without a reason of ours, the outcome is unknown.
func recovered(ctx context.Context, log *slog.Logger, method string, err *error) {
	if p := recover(); p != nil {
		log.ErrorContext(ctx, "request panicked", "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = status.Error(codes.Internal, "qjm: internal error, see the node's log")
	}
}
