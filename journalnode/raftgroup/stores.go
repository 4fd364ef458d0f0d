package raftgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	boltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// Stores keep a group's log, its term and vote, and its raft snapshots. Those of a directory are the
// default; tests pass MemStores, which survive a restart of the group.
type Stores interface {
	// create makes a store, runs fill on it, and has it complete and synced, or not at all, when it returns.
	create(fill func(stores) error) error
	open() (stores, error)
	// look opens it for reading only.
	look() (stores, error)
}

type stores struct {
	logs      raft.LogStore
	stable    raft.StableStore
	snapshots raft.SnapshotStore
	// settle has a raft snapshot on disk with all its names; nil: there is no disk.
	settle func(id string) error
	close  func() error
}

const (
	logName     = "raft.db"
	logNameTemp = "raft.db.new"
	// lockTimeout bounds the wait for bbolt's file lock; the node holds the lock of the directory.
	lockTimeout = time.Second
)

// fileStores are raft-boltdb and upstream's file snapshot store below a directory.
type fileStores struct {
	dir    string
	retain int
}

// create builds the log under a temporary name, so that a crash leaves a store that is whole or one that
// is not there (N5).
func (f fileStores) create(fill func(stores) error) error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return fmt.Errorf("raftgroup: create: %w", err)
	}
	name, temp := filepath.Join(f.dir, logName), filepath.Join(f.dir, logNameTemp)
	if _, err := os.Lstat(name); err == nil {
		return ErrExists
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("raftgroup: create: %w", err)
	}
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("raftgroup: create: %w", err)
	}
	s, err := f.openAs(temp, false)
	if err != nil {
		return err
	}
	if err := errors.Join(fill(s), s.close()); err != nil {
		return err
	}
	if err := syncPath(temp); err != nil { // each commit was synced; the growth of the file may not be
		return err
	}
	if err := os.Rename(temp, name); err != nil {
		return fmt.Errorf("raftgroup: create: %w", err)
	}
	return errors.Join(syncPath(f.dir), syncPath(filepath.Dir(f.dir)))
}

func syncPath(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("raftgroup: sync: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("raftgroup: sync: %w", err)
	}
	return nil
}

// open never creates a log: a blank one would vote (G9).
func (f fileStores) open() (stores, error) { return f.openOld(false) }

func (f fileStores) look() (stores, error) { return f.openOld(true) }

func (f fileStores) openOld(readOnly bool) (stores, error) {
	name := filepath.Join(f.dir, logName)
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return stores{}, ErrNoStore
	} else if err != nil {
		return stores{}, fmt.Errorf("raftgroup: open: %w", err)
	}
	return f.openAs(name, readOnly)
}

func (f fileStores) openAs(name string, readOnly bool) (stores, error) {
	db, err := boltdb.New(boltdb.Options{Path: name, BoltOptions: &bbolt.Options{Timeout: lockTimeout, ReadOnly: readOnly}})
	for _, damage := range []error{bbolt.ErrInvalid, bbolt.ErrVersionMismatch, bbolt.ErrChecksum} {
		if errors.Is(err, damage) {
			return stores{}, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	if err != nil {
		return stores{}, fmt.Errorf("raftgroup: open: %w", err)
	}
	snaps, err := raft.NewFileSnapshotStoreWithLogger(f.dir, f.retain, newLogger(nil))
	if err != nil {
		return stores{}, fmt.Errorf("raftgroup: open: %w", errors.Join(err, db.Close()))
	}
	return stores{logs: db, stable: db, snapshots: snaps, settle: f.settle, close: db.Close}, nil
}

// snapshotsName is upstream's directory of raft snapshots.
const snapshotsName = "snapshots"

// settle: upstream syncs a raft snapshot's content and its place among the others, not the names inside it.
func (f fileStores) settle(id string) error {
	dir := filepath.Join(f.dir, snapshotsName)
	entries, err := os.ReadDir(filepath.Join(dir, id))
	if err != nil {
		return fmt.Errorf("raftgroup: settle: %w", err)
	}
	for _, e := range entries {
		if err := syncPath(filepath.Join(dir, id, e.Name())); err != nil {
			return err
		}
	}
	return errors.Join(syncPath(filepath.Join(dir, id)), syncPath(dir), syncPath(f.dir))
}

// MemStores keep everything in memory, for tests. One value is the disk of one server: it can be used by
// one group after another.
type MemStores struct {
	mu      sync.Mutex // guards what follows
	created bool
	s       stores
}

// NewMemStores returns a blank disk.
func NewMemStores() *MemStores {
	mem := raft.NewInmemStore()
	return &MemStores{s: stores{logs: mem, stable: mem, snapshots: &memSnapshots{}, close: func() error { return nil }}}
}

// memSnapshots shows a raft snapshot when it is complete; upstream's own one shows it from its first byte,
// and a follower could be sent half of it.
type memSnapshots struct {
	mu     sync.Mutex // guards what follows
	n      int
	newest *memSnapshot
}

type memSnapshot struct {
	store *memSnapshots
	meta  raft.SnapshotMeta
	bytes.Buffer
}

func (m *memSnapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, at uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n++
	meta := raft.SnapshotMeta{Version: v, ID: fmt.Sprintf("%d-%d-%d", term, index, m.n), Index: index, Term: term, Configuration: c.Clone(), ConfigurationIndex: at}
	return &memSnapshot{store: m, meta: meta}, nil
}

func (m *memSnapshots) List() ([]*raft.SnapshotMeta, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.newest == nil {
		return nil, nil
	}
	meta := m.newest.meta
	return []*raft.SnapshotMeta{&meta}, nil
}

func (m *memSnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.newest == nil || m.newest.meta.ID != id {
		return nil, nil, fmt.Errorf("raftgroup: no raft snapshot %s: %w", id, fs.ErrNotExist)
	}
	meta := m.newest.meta
	return &meta, io.NopCloser(bytes.NewReader(m.newest.Bytes())), nil
}

func (s *memSnapshot) ID() string    { return s.meta.ID }
func (s *memSnapshot) Cancel() error { return nil }

// Close implements raft.SnapshotSink; upstream may call it twice.
func (s *memSnapshot) Close() error {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.meta.Size = int64(s.Len())
	s.store.newest = s
	return nil
}

func (m *MemStores) create(fill func(stores) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.created {
		return ErrExists
	}
	if err := fill(m.s); err != nil {
		return err
	}
	m.created = true
	return nil
}

func (m *MemStores) open() (stores, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.created {
		return stores{}, ErrNoStore
	}
	return m.s, nil
}

func (m *MemStores) look() (stores, error) { return m.open() }

// Bootstrap founds a group: it makes the store of one founding voter. Every founder is given the same
// voters. The store is complete and synced before Bootstrap returns; ErrExists where there is one.
func Bootstrap(opts Options, voters []ServerID) error {
	o := opts.withDefaults()
	if err := o.validate(); err != nil {
		return err
	}
	var conf raft.Configuration
	self := false
	for _, v := range voters {
		if err := v.Validate(); err != nil {
			return err
		}
		self = self || v == o.Self
		conf.Servers = append(conf.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(v), Address: raft.ServerAddress(v)})
	}
	if !self {
		return fmt.Errorf("%w: %s is not among the founding voters", ErrInvalid, o.Self)
	}
	return o.Stores.create(func(s stores) error {
		// The transport is for the wire versions below 3 only.
		err := raft.BootstrapCluster(o.config(), s.logs, s.stable, s.snapshots, nil, conf)
		if errors.Is(err, raft.ErrCantBootstrap) {
			return ErrExists
		}
		return err
	})
}

// Create makes the blank store of a server that joins a group: it has no members until the leader sends
// them, so it stands for no election. It would vote for whoever asks: only start it when it is admitted (G4).
func Create(opts Options) error {
	o := opts.withDefaults()
	if err := o.validate(); err != nil {
		return err
	}
	return o.Stores.create(func(stores) error { return nil })
}
