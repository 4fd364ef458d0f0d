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
	nodes  []*journalnode.Node
	client *libqjm.Client
	writer *libqjm.Writer
}

// startQJM starts three nodes as `journalnode serve` would, on the real disk and with the real gRPC, and a
// writer: every option is the default.
func startQJM(ctx context.Context, env load.Env) (sys load.System, err error) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	q := &qjm{}
	defer func() {
		if err != nil {
			err = errors.Join(err, q.Close())
		}
	}()
	addrs, err := freeAddrs(nodes)
	if err != nil {
		return nil, err
	}
	var peers []journalnode.Peer
	for i, addr := range addrs {
		peers = append(peers, journalnode.Peer{ID: quorum.NodeID(fmt.Sprintf("n%d", i+1)), Addr: addr})
	}
	for _, p := range peers {
		n, err := journalnode.Start(ctx, journalnode.Options{
			ID: p.ID, DataDir: filepath.Join(env.Dir, string(p.ID)), Listen: p.Addr, InitialCluster: peers,
		})
		if err != nil {
			return nil, err
		}
		q.nodes = append(q.nodes, n)
	}
	if q.client, err = libqjm.Dial(ctx, libqjm.Options{Endpoints: addrs}); err != nil {
		return nil, err
	}
	err = until(ctx, "the journal to be created", func() (bool, error) {
		err := q.client.CreateJournal(ctx, journalName)
		return err == nil || errors.Is(err, libqjm.ErrJournalExists), nil
	})
	if err != nil {
		return nil, err
	}
	q.writer, err = q.client.OpenWriter(ctx, journalName, libqjm.WriterOptions{})
	return q, err
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

func (q *qjm) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	var errs []error
	if q.writer != nil {
		errs = append(errs, q.writer.Close(ctx))
	}
	if q.client != nil {
		errs = append(errs, q.client.Close())
	}
	for _, n := range q.nodes {
		errs = append(errs, n.Stop(ctx))
	}
	return errors.Join(errs...)
}
