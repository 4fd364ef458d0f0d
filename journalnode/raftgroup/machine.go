package raftgroup

import (
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// Member is a server of the group.
type Member struct {
	ID    ServerID
	Voter bool // otherwise it copies and does not vote
}

// Membership is the group's members. Index names it for a compare-and-set; it is 0 while nothing that
// is committed is known, as after a restart before there is a leader.
type Membership struct {
	Index   uint64
	Members []Member // by id
}

func (m Membership) find(id ServerID) (Member, bool) {
	for _, x := range m.Members {
		if x.ID == id {
			return x, true
		}
	}
	return Member{}, false
}

func (m Membership) voters() int {
	n := 0
	for _, x := range m.Members {
		if x.Voter {
			n++
		}
	}
	return n
}

func membershipOf(index uint64, c raft.Configuration) Membership {
	m := Membership{Index: index}
	for _, s := range c.Servers {
		m.Members = append(m.Members, Member{ID: ServerID(s.ID), Voter: s.Suffrage == raft.Voter})
	}
	slices.SortFunc(m.Members, func(a, b Member) int {
		switch {
		case a.ID < b.ID:
			return -1
		case a.ID > b.ID:
			return 1
		}
		return 0
	})
	return m
}

// machine is the upstream side of a Machine. It also learns the committed members: upstream's own getter
// gives the latest ones, committed or not, without their index.
type machine struct {
	m            Machine
	snapshotMax  int64
	onMembership func(Membership)

	mu         sync.Mutex // guards what follows
	applied    uint64     // the last command applied in this life
	bytes      int64      // of commands since the last raft snapshot
	captured   int64      // bytes when the newest image was taken
	imageSize  int64      // of the newest image
	membership Membership
}

var (
	_ raft.FSM                = (*machine)(nil)
	_ raft.ConfigurationStore = (*machine)(nil)
)

// Apply implements raft.FSM.
func (f *machine) Apply(l *raft.Log) any {
	size := int64(len(l.Data))
	res := f.m.Apply(l.Index, l.Data)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applied = l.Index
	f.bytes += size
	return res
}

// StoreConfiguration implements raft.ConfigurationStore: called in the order of the log, when committed.
func (f *machine) StoreConfiguration(index uint64, c raft.Configuration) {
	f.learn(membershipOf(index, c))
}

func (f *machine) learn(m Membership) {
	f.mu.Lock()
	newer := m.Index > f.membership.Index
	if newer {
		f.membership = m
	}
	f.mu.Unlock()
	if newer {
		f.onMembership(m)
	}
}

// Snapshot implements raft.FSM.
func (f *machine) Snapshot() (raft.FSMSnapshot, error) {
	b, err := f.m.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("raftgroup: snapshot: %w", err)
	}
	if n := int64(len(b)); n > f.snapshotMax {
		return nil, &TooLargeError{What: "raft snapshot", Got: n, Max: f.snapshotMax}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.captured, f.imageSize = f.bytes, int64(len(b))
	return image(b), nil
}

// snapshotDone is told that the newest image is durable.
func (f *machine) snapshotDone() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bytes -= f.captured
	f.captured = 0
}

type image []byte

func (i image) Persist(sink raft.SnapshotSink) error {
	_, err := sink.Write(i)
	return err // upstream closes or cancels the sink
}

func (i image) Release() {}

// Restore implements raft.FSM.
func (f *machine) Restore(r io.ReadCloser) error {
	b, err := io.ReadAll(io.LimitReader(r, f.snapshotMax+1))
	if err != nil {
		return fmt.Errorf("raftgroup: restore: %w", err)
	}
	if n := int64(len(b)); n > f.snapshotMax {
		return &TooLargeError{What: "raft snapshot", Got: n, Max: f.snapshotMax}
	}
	if err := f.m.Restore(b); err != nil {
		return fmt.Errorf("raftgroup: restore: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bytes, f.captured, f.imageSize = 0, 0, int64(len(b))
	return nil
}

func (f *machine) counters() (applied uint64, bytes, imageSize int64, m Membership) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.applied, f.bytes, f.imageSize, f.membership
}

// snapshots is the snapshot store, from which the members are learned that a raft snapshot carries.
type snapshots struct {
	raft.SnapshotStore
	m *machine
}

// Open implements raft.SnapshotStore.
func (s snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, r, err := s.SnapshotStore.Open(id)
	if err == nil {
		s.m.learn(membershipOf(meta.ConfigurationIndex, meta.Configuration))
	}
	return meta, r, err
}
