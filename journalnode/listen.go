package journalnode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"

	"github.com/quorumjournal/qjm/internal/wire"
)

// listeners is what a node serves on.
type listeners struct {
	grpc     *grpc.Server
	grpcAddr string
	http     *http.Server
	httpAddr string
}

// listen opens both ports; a port that is taken is an error of the start.
func (n *Node) listen(ctx context.Context) error {
	var lc net.ListenConfig
	if n.opts.Listen != "" {
		l, err := lc.Listen(ctx, "tcp", n.opts.Listen)
		if err != nil {
			return fmt.Errorf("journalnode: listen: %w", err)
		}
		n.net.grpcAddr = l.Addr().String()
		n.net.grpc = grpc.NewServer(wire.ServerOptions(n.log)...)
		wire.Register(n.net.grpc, n)
		n.work.Go(func() {
			if err := n.net.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				n.log.Error("gRPC server ended", "err", err)
			}
		})
	}
	if n.opts.HTTPListen == "" {
		return nil
	}
	l, err := lc.Listen(ctx, "tcp", n.opts.HTTPListen)
	if err != nil {
		n.closeListeners(ctx)
		return fmt.Errorf("journalnode: listen for HTTP: %w", err)
	}
	n.net.httpAddr = l.Addr().String()
	n.net.http = &http.Server{Handler: n.Handler(), ReadHeaderTimeout: 10 * time.Second}
	n.work.Go(func() {
		if err := n.net.http.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			n.log.Error("HTTP server ended", "err", err)
		}
	})
	return nil
}

// closeListeners drains: streams end by themselves because the node is stopping; the context bounds how
// long others may take.
func (n *Node) closeListeners(ctx context.Context) {
	if n.net.http != nil {
		if err := n.net.http.Shutdown(ctx); err != nil {
			n.log.Warn("HTTP connections cut off", "err", err)
		}
	}
	if n.net.grpc == nil {
		return
	}
	done := make(chan struct{})
	go func() { n.net.grpc.GracefulStop(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		n.net.grpc.Stop()
		<-done
	}
}

// Addr returns the address that clients and peers reach the node at; empty without a listener.
func (n *Node) Addr() string { return n.net.grpcAddr }

// HTTPAddr returns the address of the HTTP port; empty without one.
func (n *Node) HTTPAddr() string { return n.net.httpAddr }

// Handler serves health, metrics and the state of the catalog's group; the HTTP port serves it, too. Health is "the process answers and no disk hangs"; readiness is
// "this node counts in its journals' quorums".
func (n *Node) Handler() http.Handler {
	mux := http.NewServeMux()
	answer := func(check func() error) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			if err := check(); err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = fmt.Fprintln(w, err)
				return
			}
			_, _ = fmt.Fprintln(w, "ok")
		}
	}
	mux.HandleFunc("GET /healthz", answer(n.healthy))
	mux.HandleFunc("GET /readyz", answer(n.Ready))
	mux.HandleFunc("GET /raft_stat", n.serveRaftStat)
	mux.HandleFunc("GET /raft_stat/{name}", n.serveGroupStat)
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.metrics.gatherer, promhttp.HandlerOpts{}))
	return mux
}

// healthy: no journal waits for a disk that hangs.
func (n *Node) healthy() error {
	for _, o := range n.allOwners() {
		if o.stalled() {
			return fmt.Errorf("journal %s: the disk has not answered for %s", o.j.Name(), n.opts.StallAfter)
		}
	}
	return nil
}
