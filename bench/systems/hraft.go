//go:build !qjmonly

package systems

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"
	"go.etcd.io/bbolt"

	"github.com/quorumjournal/qjm/bench/load"
)

var hraftBoltSpec = load.Spec{
	Name: "hraft-boltdb", Mode: load.Callers,
	Setup: "hashicorp/raft over TCP, raft-boltdb/v2 (synced, no freelist sync), BatchApplyCh, log cache, state machine that does nothing; callers at the leader, in process",
	Start: func(ctx context.Context, env load.Env) (load.System, error) { return startHraft(ctx, env, openBolt) },
}

var hraftWALSpec = load.Spec{
	Name: "hraft-wal", Mode: load.Callers,
	Setup: "as hraft-boltdb, with raft-wal for the log and the stable store",
	Start: func(ctx context.Context, env load.Env) (load.System, error) { return startHraft(ctx, env, openWAL) },
}

const (
	// hraftCache is the size of the cache of recent entries that Consul puts before either store.
	hraftCache = 512
	// hraftBatchMin and Max bound MaxAppendEntries, which with BatchApplyCh is also the group that the leader syncs
	// at once: 64 is the default, 1024 the most that the library allows. With thousands of callers the most serves
	// small entries better; of large ones a group is hraftBatchBytes.
	hraftBatchMin   = 64
	hraftBatchMax   = 1024
	hraftBatchBytes = 1 << 20
	hraftTimeout    = 10 * time.Second
)

// hraftStore is what both stores are.
type hraftStore interface {
	raft.LogStore
	raft.StableStore
	io.Closer
}

// openBolt: syncing is its default. Not writing the list of free pages with every commit, and keeping it in a
// map, is what the products built on it do; bbolt rebuilds the list when it opens, so durability is the same.
func openBolt(dir string) (hraftStore, error) {
	return raftboltdb.New(raftboltdb.Options{
		Path:                    filepath.Join(dir, "raft.db"),
		BoltOptions:             &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, Timeout: hraftTimeout},
		MsgpackUseNewTimeFormat: true,
	})
}

// openWAL: every StoreLogs is synced; there is no option about it. Segments of 64 MiB are the default.
func openWAL(dir string) (hraftStore, error) {
	return wal.Open(dir, wal.WithLogger(hclog.NewNullLogger()))
}

type hraft struct {
	rafts      []*raft.Raft
	stores     []hraftStore
	transports []*raft.NetworkTransport
	leader     *raft.Raft
}

func startHraft(ctx context.Context, env load.Env, open func(dir string) (hraftStore, error)) (sys load.System, err error) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	h := &hraft{}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	var servers []raft.Server
	for i := range nodes {
		t, err := raft.NewTCPTransport("127.0.0.1:0", nil, nodes, hraftTimeout, io.Discard)
		if err != nil {
			return nil, err
		}
		h.transports = append(h.transports, t)
		servers = append(servers, raft.Server{ID: raft.ServerID(fmt.Sprintf("n%d", i+1)), Address: t.LocalAddr()})
	}
	for i := range nodes {
		if err := h.startNode(filepath.Join(env.Dir, string(servers[i].ID)), env.Size, servers, i, open); err != nil {
			return nil, err
		}
	}
	return h, until(ctx, "a raft leader", func() (bool, error) {
		for _, r := range h.rafts {
			if r.State() == raft.Leader && r.Barrier(hraftTimeout).Error() == nil {
				h.leader = r
				return true, nil
			}
		}
		return false, nil
	})
}

func (h *hraft) startNode(dir string, size int, servers []raft.Server, i int, open func(string) (hraftStore, error)) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	store, err := open(dir)
	if err != nil {
		return err
	}
	h.stores = append(h.stores, store)
	cache, err := raft.NewLogCache(hraftCache, store)
	if err != nil {
		return err
	}
	c := raft.DefaultConfig()
	c.LocalID = servers[i].ID
	c.Logger = hclog.NewNullLogger()
	c.NoLegacyTelemetry = true
	// Lets the leader take what waits as one group, at the price of a less exact time-out of Apply, which
	// nothing here rests on.
	c.BatchApplyCh = true
	c.MaxAppendEntries = min(max(hraftBatchBytes/size, hraftBatchMin), hraftBatchMax)
	snaps := raft.NewDiscardSnapshotStore()
	if err := raft.BootstrapCluster(c, cache, store, snaps, h.transports[i], raft.Configuration{Servers: servers}); err != nil {
		return err
	}
	r, err := raft.NewRaft(c, idle{}, cache, store, snaps, h.transports[i])
	if err != nil {
		return err
	}
	h.rafts = append(h.rafts, r)
	return nil
}

// idle is a state machine that keeps nothing, and takes commands in batches.
type idle struct{}

func (idle) Apply(*raft.Log) any                  { return nil }
func (idle) ApplyBatch(logs []*raft.Log) []any    { return make([]any, len(logs)) }
func (idle) Snapshot() (raft.FSMSnapshot, error)  { return idle{}, nil }
func (idle) Restore(r io.ReadCloser) error        { return r.Close() }
func (idle) Persist(sink raft.SnapshotSink) error { return sink.Close() }
func (idle) Release()                             {}

func (h *hraft) Append(_ context.Context, txn []byte) error {
	return h.leader.Apply(txn, hraftTimeout).Error()
}

// Contents is what the logs of two nodes hold.
func (h *hraft) Contents(context.Context) ([][]byte, error) {
	var held [][][]byte
	for _, s := range h.stores {
		txns, err := commands(s)
		if err != nil {
			return nil, err
		}
		held = append(held, txns)
	}
	return onMajority(held), nil
}

func commands(s raft.LogStore) (out [][]byte, err error) {
	first, err := s.FirstIndex()
	if err != nil {
		return nil, err
	}
	last, err := s.LastIndex()
	if err != nil {
		return nil, err
	}
	for i := max(first, 1); i <= last; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil {
			return nil, err
		}
		if l.Type == raft.LogCommand {
			out = append(out, l.Data)
		}
	}
	return out, nil
}

func (h *hraft) Close() error {
	var errs []error
	for _, r := range h.rafts {
		errs = append(errs, r.Shutdown().Error())
	}
	for _, t := range h.transports {
		errs = append(errs, t.Close())
	}
	for _, s := range h.stores {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
