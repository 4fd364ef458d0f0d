package wire

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
)

// Dialer connects to nodes over gRPC. The zero value connects without encryption.
type Dialer struct {
	// TransportCredentials secure the connection; nil = none.
	TransportCredentials credentials.TransportCredentials
	// ConnectTimeout bounds one attempt to connect; 0 = 5 s.
	ConnectTimeout time.Duration
	// BackoffMin and BackoffMax bound the pause between attempts; 0 = 100 ms and 1 s. It is short on
	// purpose: a node that is back should be in the quorum again, and there are few nodes to dial.
	BackoffMin, BackoffMax time.Duration
	// DialContext makes the connection; nil = TCP.
	DialContext func(ctx context.Context, addr string) (net.Conn, error)
}

var _ rpc.Dialer = Dialer{}

// Dial returns the node at addr, host:port. It does not connect; the first call does, waiting as long as
// an attempt is under way and failing at once while the last one failed. Nothing is ever retried here.
func (d Dialer) Dial(addr string) (rpc.Node, error) {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, fmt.Errorf("%w: address %q: %w", rpc.ErrBadRequest, addr, err)
	}
	// passthrough hands addr to the connection's dialer as it is, which looks the name up at each
	// attempt: a node may come back at another address.
	conn, err := grpc.NewClient("passthrough:///"+addr, d.options()...)
	if err != nil {
		return nil, fmt.Errorf("wire: dial %s: %w", addr, err)
	}
	return &node{addr: addr, conn: conn, c: qjmv1.NewDataPlaneClient(conn), cc: qjmv1.NewControlPlaneClient(conn)}, nil
}

func (d Dialer) options() []grpc.DialOption {
	creds := d.TransportCredentials
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay:  orElse(d.BackoffMin, 100*time.Millisecond),
				Multiplier: 1.6,
				Jitter:     0.2,
				MaxDelay:   orElse(d.BackoffMax, time.Second),
			},
			MinConnectTimeout: orElse(d.ConnectTimeout, 5*time.Second),
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingTimeout, PermitWithoutStream: true}),
		grpc.WithInitialWindowSize(streamWindowBytes),
		grpc.WithInitialConnWindowSize(connWindowBytes),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(rpc.MessageBytesMax), grpc.MaxCallSendMsgSize(rpc.MessageBytesMax)),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(), // HTTPS_PROXY is not meant for storage
	}
	if d.DialContext != nil {
		opts = append(opts, grpc.WithContextDialer(d.DialContext))
	}
	return opts
}

func orElse(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return d
}
