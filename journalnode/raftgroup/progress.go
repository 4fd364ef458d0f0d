package raftgroup

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// installsMax is how often one raft snapshot may be installed on one peer before that is an alarm (G8):
// once because it is needed, and once more because a reply was lost.
const installsMax = 2

// Peer is what a leader knows of another server, from the replies to its own requests.
type Peer struct {
	ID ServerID
	// Term in which Match and Applied were learned; of another term they say nothing.
	Term uint64
	// Match is the last entry known to be equal on the peer. Applied is the highest index that the peer
	// was told is committed and that it holds; LastLog is the last entry that it said it has.
	Match, Applied, LastLog uint64
	// Heartbeats, Appends and Installs count replies; InstallsBegun counts raft snapshots sent.
	Heartbeats, Appends, Installs, InstallsBegun uint64
	// Votes and PreVotes count answered requests for votes.
	Votes, PreVotes uint64
	// Errors is how many requests in a row got no answer.
	Errors uint64
	// Installing tells that a raft snapshot is on its way; the index is that of the newest sent.
	Installing    bool
	SnapshotIndex uint64
	// SameInstalls is how often that one was installed; InstallAlarms counts the times beyond two (G8).
	SameInstalls, InstallAlarms uint64
	LastContact                 time.Time
}

// progress keeps what the replies say.
type progress struct {
	mu      sync.Mutex // guards what follows
	peers   map[ServerID]*Peer
	snaps   map[ServerID][2]uint64 // index and term of the newest raft snapshot sent
	changed chan struct{}          // closed with the next change
}

func newProgress() *progress {
	return &progress{peers: map[ServerID]*Peer{}, snaps: map[ServerID][2]uint64{}, changed: make(chan struct{})}
}

// note changes what is known of a peer and wakes who waits.
func (p *progress) note(id ServerID, change func(*Peer)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	peer := p.peers[id]
	if peer == nil {
		peer = &Peer{ID: id}
		p.peers[id] = peer
	}
	change(peer)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (peer *Peer) answered(err error) bool {
	if err != nil {
		peer.Errors++
		return false
	}
	peer.Errors, peer.LastContact = 0, time.Now()
	return true
}

func (p *progress) appended(id ServerID, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse, err error) {
	p.note(id, func(peer *Peer) {
		if !peer.answered(err) {
			return
		}
		if isHeartbeat(req) {
			peer.Heartbeats++
			return
		}
		peer.Appends++
		peer.LastLog = resp.LastLog
		if !resp.Success || resp.Term != req.Term {
			return
		}
		match := req.PrevLogEntry
		if n := len(req.Entries); n > 0 {
			match = req.Entries[n-1].Index
		}
		peer.reached(req.Term, match, min(match, req.LeaderCommitIndex))
	})
}

func (peer *Peer) reached(term, match, applied uint64) {
	if term != peer.Term { // a suffix that an older leader saw may be gone
		peer.Term, peer.Match, peer.Applied = term, 0, 0
	}
	peer.Match, peer.Applied = max(peer.Match, match), max(peer.Applied, applied)
}

// isHeartbeat is the form by which upstream's transport knows one.
func isHeartbeat(req *raft.AppendEntriesRequest) bool {
	return req.PrevLogEntry == 0 && req.PrevLogTerm == 0 && len(req.Entries) == 0 && req.LeaderCommitIndex == 0
}

func (p *progress) installing(id ServerID, req *raft.InstallSnapshotRequest) {
	p.note(id, func(peer *Peer) {
		snap := [2]uint64{req.LastLogIndex, req.LastLogTerm}
		if p.snaps[id] != snap {
			p.snaps[id], peer.SameInstalls = snap, 0
		}
		peer.Installing, peer.SnapshotIndex = true, req.LastLogIndex
		peer.InstallsBegun++
	})
}

// installed reports whether this was once too often.
func (p *progress) installed(id ServerID, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, err error) (alarm bool) {
	p.note(id, func(peer *Peer) {
		peer.Installing = false
		if !peer.answered(err) || !resp.Success {
			return
		}
		peer.Installs++
		peer.SameInstalls++
		if alarm = peer.SameInstalls > installsMax; alarm {
			peer.InstallAlarms++
		}
		peer.reached(req.Term, req.LastLogIndex, req.LastLogIndex)
	})
	return alarm
}

// keep forgets who is no member any more, and so bounds the map.
func (p *progress) keep(members []Member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	gone := func(id ServerID) bool {
		return !slices.ContainsFunc(members, func(m Member) bool { return m.ID == id })
	}
	maps.DeleteFunc(p.peers, func(id ServerID, _ *Peer) bool { return gone(id) })
	maps.DeleteFunc(p.snaps, func(id ServerID, _ [2]uint64) bool { return gone(id) })
}

// get returns what is known of a peer, and a channel that is closed when something is learned.
func (p *progress) get(id ServerID) (Peer, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if peer := p.peers[id]; peer != nil {
		return *peer, p.changed
	}
	return Peer{ID: id}, p.changed
}

func (p *progress) all() []Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ps []Peer
	for _, id := range slices.Sorted(maps.Keys(p.peers)) {
		ps = append(ps, *p.peers[id])
	}
	return ps
}
