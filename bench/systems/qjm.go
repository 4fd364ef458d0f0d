package systems

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/quorumjournal/qjm/bench/load"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
)

var qjmSpec = load.Spec{
	Name: "qjm", Mode: load.Callers, Start: startQJM,
	Setup: "three journalnodes and libqjm, all defaults; each caller in Writer.Append",
}

var qjmAsyncSpec = load.Spec{
	Name: "qjm-async", Mode: load.Window, Start: startQJM,
	Setup: fmt.Sprintf("as qjm; one writer in Writer.AppendBatchAsync, %d at a time, %d MiB under way", load.WindowBatch, load.WindowBytes>>20),
}

const journalName = "bench"

type qjm struct {
	opts   []journalnode.Options
	nodes  []*journalnode.Node // nil: it does not run
	client *libqjm.Client
	writer *libqjm.Writer
}

// startQJM starts three nodes as `journalnode serve` would, and a writer: every option is the default.
func startQJM(ctx context.Context, env load.Env) (load.System, error) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	q, err := startCluster(ctx, env.Dir, nodes, nil)
	if err != nil {
		return nil, err
	}
	if err := q.create(ctx, journalName); err != nil {
		return nil, errors.Join(err, q.Close())
	}
	if q.writer, err = q.client.OpenWriter(ctx, journalName, libqjm.WriterOptions{}); err != nil {
		return nil, errors.Join(err, q.Close())
	}
	return q, nil
}

// startCluster starts nodes below dir, on the real disk and with the real gRPC, and a client. Every option is the
// default, unless change, where not nil, sets another one for the i-th node.
func startCluster(ctx context.Context, dir string, count int, change func(i int, o *journalnode.Options)) (q *qjm, err error) {
	q = &qjm{nodes: make([]*journalnode.Node, count)}
	defer func() {
		if err != nil {
			err = errors.Join(err, q.Close())
		}
	}()
	addrs, err := freeAddrs(count)
	if err != nil {
		return nil, err
	}
	var peers []journalnode.Peer
	for i, addr := range addrs {
		peers = append(peers, journalnode.Peer{ID: quorum.NodeID(fmt.Sprintf("n%d", i+1)), Addr: addr})
	}
	for i, p := range peers {
		o := journalnode.Options{ID: p.ID, DataDir: filepath.Join(dir, string(p.ID)), Listen: p.Addr, InitialCluster: peers}
		if change != nil {
			change(i, &o)
		}
		q.opts = append(q.opts, o)
	}
	for i := range q.opts {
		if err := q.startNode(ctx, i); err != nil {
			return nil, err
		}
	}
	q.client, err = libqjm.Dial(ctx, libqjm.Options{Endpoints: addrs})
	return q, err
}

func (q *qjm) startNode(ctx context.Context, i int) (err error) {
	q.nodes[i], err = journalnode.Start(ctx, q.opts[i])
	return err
}

func (q *qjm) stopNode(ctx context.Context, i int) error {
	n := q.nodes[i]
	q.nodes[i] = nil
	if n == nil {
		return nil
	}
	return n.Stop(ctx)
}

// create makes a journal, as soon as the cluster can.
func (q *qjm) create(ctx context.Context, name string) error {
	return until(ctx, "the journal to be created", func() (bool, error) {
		err := q.client.CreateJournal(ctx, name)
		return err == nil || errors.Is(err, libqjm.ErrJournalExists), nil
	})
}

func (q *qjm) Append(ctx context.Context, txn []byte) error {
	_, err := q.writer.Append(ctx, txn)
	return err
}

func (q *qjm) Submit(ctx context.Context, txns [][]byte) (load.Pending, error) {
	f, err := q.writer.AppendBatchAsync(ctx, txns)
	return qjmPending{f}, err
}

type qjmPending struct{ f libqjm.Future }

func (p qjmPending) Wait(ctx context.Context) error {
	_, err := p.f.Wait(ctx)
	return err
}

func (q *qjm) Contents(ctx context.Context) (out [][]byte, err error) {
	r, err := q.client.OpenReader(ctx, journalName, libqjm.ReaderOptions{Linearizable: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for txn, err := range r.All(ctx) {
		if err != nil {
			return nil, err
		}
		out = append(out, append([]byte(nil), txn.Data...))
	}
	return out, nil
}

// Close can be called again.
func (q *qjm) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	var errs []error
	if q.writer != nil {
		errs = append(errs, q.writer.Close(ctx))
		q.writer = nil
	}
	if q.client != nil {
		errs = append(errs, q.client.Close())
		q.client = nil
	}
	for i := range q.nodes {
		errs = append(errs, q.stopNode(ctx, i))
	}
	return errors.Join(errs...)
}
