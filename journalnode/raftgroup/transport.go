package raftgroup

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
)

// transport is upstream's network transport with the faults taken out. It embeds the concrete type:
// embedding raft.Transport would hide that it can pre-vote, and upstream would do without (G2).
type transport struct {
	*raft.NetworkTransport
	watch      *watchdog
	progress   *progress
	timeoutNow time.Duration
	log        *slog.Logger
}

var (
	_ raft.Transport   = (*transport)(nil)
	_ raft.WithPreVote = (*transport)(nil)
	_ raft.WithClose   = (*transport)(nil)
)

func newTransport(o Options, s *streams, w *watchdog, p *progress) *transport {
	return &transport{
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Logger: newLogger(o.Logger), Stream: s, MaxPool: poolConns, Timeout: o.RPC,
			MaxRPCsInFlight: 1, // G6
		}),
		watch: w, progress: p, timeoutNow: o.Election, log: o.Logger,
	}
}

// SetHeartbeatHandler does nothing, so that heartbeats wait their turn (G1). With the handler a follower
// whose main loop hangs in its store goes on saying yes to its leader, beside the loop that owns the term.
func (t *transport) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntries implements raft.Transport.
func (t *transport) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if err := t.watch.check(); err != nil {
		return err
	}
	err := t.NetworkTransport.AppendEntries(id, to, req, resp)
	t.progress.appended(ServerID(id), req, resp, err)
	return err
}

// RequestVote implements raft.Transport.
func (t *transport) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if err := t.watch.check(); err != nil {
		return err
	}
	err := t.NetworkTransport.RequestVote(id, to, req, resp)
	t.progress.note(ServerID(id), func(p *Peer) {
		if p.answered(err) {
			p.Votes++
		}
	})
	return err
}

// RequestPreVote implements raft.WithPreVote.
func (t *transport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := t.watch.check(); err != nil {
		return err
	}
	err := t.NetworkTransport.RequestPreVote(id, to, req, resp)
	t.progress.note(ServerID(id), func(p *Peer) {
		if p.answered(err) {
			p.PreVotes++
		}
	})
	return err
}

// InstallSnapshot implements raft.Transport. The watchdog is asked again for each piece that is sent.
func (t *transport) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if err := t.watch.check(); err != nil {
		return err
	}
	t.progress.installing(ServerID(id), req)
	err := t.NetworkTransport.InstallSnapshot(id, to, req, resp, watchedReader{data, t.watch})
	if t.progress.installed(ServerID(id), req, resp, err) {
		t.log.Error("one raft snapshot is installed again and again; take a new one", "peer", string(id), "index", req.LastLogIndex)
	}
	return err
}

type watchedReader struct {
	io.Reader
	w *watchdog
}

func (r watchedReader) Read(b []byte) (int, error) {
	if err := r.w.check(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}

// TimeoutNow implements raft.Transport. Upstream refuses all commands until it returns, so it returns
// within an election timeout (G7); the request itself may end later, at its own deadline.
func (t *transport) TimeoutNow(id raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	if err := t.watch.check(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		var own raft.TimeoutNowResponse // resp is the caller's, who may be gone
		done <- t.NetworkTransport.TimeoutNow(id, to, req, &own)
	}()
	timer := time.NewTimer(t.timeoutNow)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("raftgroup: %s did not answer within %s", id, t.timeoutNow)
	}
}
