package raftgroup

import (
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/raft"
)

// Stats is what there is to know of the group at this server.
type Stats struct {
	Self   ServerID
	State  string // Leader, Follower, Candidate or Shutdown
	Leader ServerID
	Term   uint64
	// LastContact is the time since a leader was heard; 0 on the leader, negative if there never was one.
	LastContact time.Duration

	LastLog, LastLogTerm uint64
	Commit, Applied      uint64 // Applied: handed to the machine
	MachineApplied       uint64 // the last command that the machine has carried out in this life
	MachinePending       uint64 // batches that wait for it

	ConfIndex uint64 // 0: nothing committed is known yet
	Members   []Member
	// Changing tells that the newest members of the log differ from the committed ones.
	Changing bool

	SnapshotIndex, SnapshotTerm uint64
	SnapshotRunning             bool
	SnapshotError               string // of the last try; empty: it succeeded
	SnapshotBytes               int64  // size of the newest image in this life
	BytesSinceSnapshot          int64  // of commands

	StoreOldest time.Duration // how long the oldest call to the log store has been under way
	Stalled     bool          // that is too long (G5)
	InFlight    int           // requests under way
	Peers       []Peer        // what this server learned as a leader or candidate
	// InstallAlarms is the sum over all peers (G8).
	InstallAlarms uint64
}

// Stats never waits for the store or for the main loop.
func (g *Group) Stats() Stats {
	up := g.raft.Stats()
	num := func(key string) uint64 {
		n, _ := strconv.ParseUint(up[key], 10, 64) // a field that is not there is 0
		return n
	}
	machineApplied, bytes, size, m := g.machine.counters()
	s := Stats{
		Self: g.o.Self, State: g.raft.State().String(), Term: num("term"),
		LastLog: num("last_log_index"), LastLogTerm: num("last_log_term"),
		Commit: num("commit_index"), Applied: num("applied_index"), MachineApplied: machineApplied, MachinePending: num("fsm_pending"),
		ConfIndex: m.Index, Members: g.Members().Members,
		SnapshotIndex: num("last_snapshot_index"), SnapshotTerm: num("last_snapshot_term"),
		SnapshotRunning: g.snaps.running.Load(), SnapshotBytes: size, BytesSinceSnapshot: bytes,
		StoreOldest: g.watch.oldest(), Stalled: g.watch.check() != nil, InFlight: len(g.slots), Peers: g.progress.all(),
	}
	s.Leader, _ = g.Leader()
	if f := g.raft.GetConfiguration(); m.Index > 0 && f.Error() == nil {
		s.Changing = !slices.Equal(membershipOf(0, f.Configuration()).Members, m.Members)
	}
	switch last := g.raft.LastContact(); {
	case g.raft.State() == raft.Leader:
	case last.IsZero():
		s.LastContact = -1
	default:
		s.LastContact = time.Since(last)
	}
	g.snaps.mu.Lock()
	if g.snaps.err != nil {
		s.SnapshotError = g.snaps.err.Error()
	}
	g.snaps.mu.Unlock()
	for _, p := range s.Peers {
		s.InstallAlarms += p.InstallAlarms
	}
	return s
}
