//go:build !qjmonly

package systems

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/quorumjournal/qjm/bench/load"
)

var natsSpec = load.Spec{
	Name: "nats", Mode: load.Callers, Start: startNATS,
	Setup: "three embedded servers, a JetStream file stream with three replicas, sync_interval always; callers publish and wait for the ack, at the stream's leader",
}

const (
	natsStream  = "bench"
	natsSubject = "bench.txn"
	// natsPendingMax is above any number of callers: the client is not to hold them back.
	natsPendingMax = 1 << 16
)

type nats struct {
	servers []*server.Server
	conn    *natsgo.Conn
	js      jetstream.JetStream
}

func startNATS(ctx context.Context, env load.Env) (sys load.System, err error) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	n := &nats{}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	addrs, err := freeAddrs(2 * nodes)
	if err != nil {
		return nil, err
	}
	for i := range nodes {
		opts, err := natsOptions(env.Dir, i, addrs)
		if err != nil {
			return nil, err
		}
		s, err := server.NewServer(opts)
		if err != nil {
			return nil, err
		}
		n.servers = append(n.servers, s)
		s.Start()
	}
	err = until(ctx, "JetStream's meta leader", func() (bool, error) {
		leader := false
		for _, s := range n.servers {
			if !s.JetStreamIsCurrent() {
				return false, nil
			}
			leader = leader || s.JetStreamIsLeader()
		}
		return leader, nil
	})
	if err != nil {
		return nil, err
	}
	if err := n.createStream(ctx); err != nil {
		return nil, err
	}
	return n, nil
}

// natsOptions: SyncAlways is what `sync_interval: always` in a file sets. Without it an ack would mean that
// the data is in three page caches.
func natsOptions(dir string, i int, addrs []string) (*server.Options, error) {
	o := &server.Options{
		ServerName: fmt.Sprintf("n%d", i+1), NoLog: true, NoSigs: true,
		JetStream: true, StoreDir: filepath.Join(dir, fmt.Sprintf("n%d", i+1)), SyncAlways: true,
		JetStreamMaxMemory: 1 << 30, JetStreamMaxStore: 16 << 30,
		Cluster: server.ClusterOpts{Name: "bench"},
	}
	var err error
	if o.Host, o.Port, err = hostPort(addrs[i]); err != nil {
		return nil, err
	}
	if o.Cluster.Host, o.Cluster.Port, err = hostPort(addrs[nodes+i]); err != nil {
		return nil, err
	}
	for _, addr := range addrs[nodes:] {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: addr})
	}
	return o, nil
}

func hostPort(addr string) (string, int, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	p, err := strconv.Atoi(port)
	return host, p, err
}

// createStream makes the stream, and moves the client to the server that leads it: an append from elsewhere
// would take one hop more.
func (n *nats) createStream(ctx context.Context) error {
	if err := n.dial(n.servers[0]); err != nil {
		return err
	}
	err := until(ctx, "the stream to be created", func() (bool, error) {
		_, err := n.js.CreateStream(ctx, jetstream.StreamConfig{
			Name: natsStream, Subjects: []string{natsSubject}, Storage: jetstream.FileStorage, Replicas: nodes,
		})
		return err == nil, err
	})
	if err != nil {
		return err
	}
	return until(ctx, "the stream's leader", func() (bool, error) {
		for _, s := range n.servers {
			if s.JetStreamIsStreamLeader("$G", natsStream) {
				n.conn.Close()
				return true, n.dial(s)
			}
		}
		return false, nil
	})
}

func (n *nats) dial(s *server.Server) (err error) {
	if n.conn, err = natsgo.Connect(s.ClientURL(), natsgo.NoReconnect()); err != nil {
		return err
	}
	n.js, err = jetstream.New(n.conn, jetstream.WithPublishAsyncMaxPending(natsPendingMax))
	return err
}

// Append uses the asynchronous publish and waits for its ack: the same message and the same ack as with
// Publish, for less of the client's time.
func (n *nats) Append(ctx context.Context, txn []byte) error {
	f, err := n.js.PublishAsync(natsSubject, txn)
	if err != nil {
		return err
	}
	select {
	case <-f.Ok():
		return nil
	case err := <-f.Err():
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Contents asks the stream's leader for each message.
func (n *nats) Contents(ctx context.Context) (out [][]byte, err error) {
	stream, err := n.js.Stream(ctx, natsStream)
	if err != nil {
		return nil, err
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return nil, err
	}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		m, err := stream.GetMsg(ctx, seq)
		if err != nil {
			return nil, err
		}
		out = append(out, m.Data)
	}
	return out, nil
}

func (n *nats) Close() error {
	if n.conn != nil {
		n.conn.Close()
	}
	for _, s := range n.servers {
		s.Shutdown()
	}
	for _, s := range n.servers {
		s.WaitForShutdown()
	}
	return nil
}
