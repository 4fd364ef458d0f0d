package raftgroup

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// gate is a log store whose writes can be held.
type gate struct {
	raft.LogStore
	mu   sync.Mutex
	held chan struct{} // nil: open
}

func (g *gate) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held != nil {
		close(g.held)
		g.held = nil
	}
}

func (g *gate) StoreLogs(l []*raft.Log) error {
	g.mu.Lock()
	held := g.held
	g.mu.Unlock()
	if held != nil {
		<-held
	}
	return g.LogStore.StoreLogs(l)
}

func (g *gate) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

// gated gives every server a gate, by its id.
func gated(gates map[ServerID]*gate) func(*Options) {
	return func(o *Options) {
		g := &gate{}
		gates[o.Self] = g
		o.wrapLogs = func(in raft.LogStore) raft.LogStore {
			g.LogStore = in
			return g
		}
	}
}

func usual(o *Options) {
	o.Heartbeat, o.Election, o.LeaderLease, o.Commit, o.RPC = 0, 0, 0, 0, 0
}

// TestG1_HeartbeatsWaitForTheStore: a follower whose main loop is inside its store answers no heartbeat.
func TestG1_HeartbeatsWaitForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gates := map[ServerID]*gate{}
		n := newNetwork()
		s := n.server(t, "host2", "n2/a", gated(gates), func(o *Options) { o.Heartbeat, o.Election, o.RPC = time.Hour, time.Hour, time.Hour })
		require.NoError(t, Bootstrap(s.opts, []ServerID{"n1/a", "n2/a"}))
		s.start()
		defer s.stop()
		o := s.opts.withDefaults()
		o.Self, o.Dial = "n1/a", n.dialFrom("host1")
		lead := newTransport(o, newStreams(o), newWatchdog(time.Hour), newProgress())
		defer lead.Close()

		head := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n1/a"), Addr: []byte("n1/a")}
		send := func(req raft.AppendEntriesRequest) chan error {
			done := make(chan error, 1)
			go func() {
				var resp raft.AppendEntriesResponse
				err := lead.AppendEntries("n2/a", "n2/a", &req, &resp)
				if err == nil && !resp.Success {
					err = errors.New("refused")
				}
				done <- err
			}()
			return done
		}
		heartbeat := raft.AppendEntriesRequest{RPCHeader: head, Term: 5}
		require.NoError(t, <-send(heartbeat))

		gates["n2/a"].hold()
		entry := send(raft.AppendEntriesRequest{RPCHeader: head, Term: 5, PrevLogEntry: 1, PrevLogTerm: 1, Entries: []*raft.Log{{Index: 2, Term: 5, Type: raft.LogNoop}}})
		synctest.Wait()
		beat := send(heartbeat)
		synctest.Wait()
		require.Empty(t, beat, "a heartbeat was answered beside the main loop")
		gates["n2/a"].open()
		require.NoError(t, <-entry)
		require.NoError(t, <-beat)
	})
}

// TestG2_PreVote: the leader was elected after a round of pre-votes.
func TestG2_PreVote(t *testing.T) {
	c := found(t, 3)
	asked := uint64(0)
	for _, p := range c.leader().group.Stats().Peers {
		asked += p.PreVotes
	}
	require.Positive(t, asked)
}

// TestG5_HangingStore: the leader's store hangs; another one leads within a bound, the hung one says so at
// once and answers nobody, and is a follower like the others when its disk goes on.
func TestG5_HangingStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gates := map[ServerID]*gate{}
		c := found(t, 3, usual, gated(gates))
		c.apply("before")
		old := c.leader()
		gates[old.opts.Self].hold()
		since := time.Now()
		inTime, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := old.group.Apply(inTime, []byte("hung"))
		require.ErrorIs(t, err, ErrMayHaveHappened)

		var now *server
		c.until("another leader", func() bool {
			for _, s := range c.s {
				if s != old && s.group.IsLeader() {
					now = s
				}
			}
			return now != nil
		})
		// 5 s until the store counts as hung, then heartbeat and election timeouts, both random up to twice.
		require.Less(t, time.Since(since), 25*time.Second)
		require.True(t, old.group.Stats().Stalled)
		require.False(t, old.group.IsLeader())
		_, err = old.group.Apply(ctx(t), []byte("refused"))
		require.ErrorIs(t, err, ErrStalled)
		require.ErrorIs(t, old.group.Barrier(ctx(t)), ErrStalled)
		_, err = now.group.Apply(ctx(t), []byte("after"))
		require.NoError(t, err)
		c.until("no answer from the hung one", func() bool {
			p, _ := now.group.progress.get(old.opts.Self)
			return p.Errors > 0 && p.Match == 0
		})

		gates[old.opts.Self].open()
		c.until("a follower again", func() bool {
			st := old.group.Stats()
			return st.State == "Follower" && !st.Stalled && st.Leader == now.opts.Self
		})
		c.alike()
		require.Equal(t, []string{"before", "after"}, old.machine.all())
	})
}

// TestG5_HangingFollower: a follower whose store hangs disturbs nobody.
func TestG5_HangingFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gates := map[ServerID]*gate{}
		c := found(t, 3, usual, gated(gates))
		l, f := c.leader(), c.follower()
		_, term := l.group.Leader()
		gates[f.opts.Self].hold()
		for range 10 {
			c.apply("x")
			time.Sleep(3 * time.Second)
		}
		require.True(t, f.group.Stats().Stalled)
		gates[f.opts.Self].open()
		c.alike()
		_, after := l.group.Leader()
		require.Equal(t, term, after)
	})
}

// TestG4_BlankNodeIsNotReached: n2 comes back without its disk. A candidate that means the old n2 does not
// get the vote of the new one, and so is no leader with it.
func TestG4_BlankNodeIsNotReached(t *testing.T) {
	c := found(t, 3)
	c.apply("kept by n2 and one more")
	n1, n2, n3 := c.s[0], c.s[1], c.s[2]
	n3.stop()
	c.leader()
	n2.stop()
	blank := c.net.server(t, "host2", "n2/b")
	require.NoError(t, Create(blank.opts))
	blank.start()
	defer blank.stop()
	c.until("candidates at the wrong door", func() bool {
		blank.mu.Lock()
		defer blank.mu.Unlock()
		return len(blank.refused) >= 3 && n1.group.Stats().State == "Candidate"
	})
	blank.mu.Lock()
	refused := blank.refused[0]
	blank.mu.Unlock()
	var hello *HelloError
	require.ErrorAs(t, refused, &hello)
	require.Equal(t, "to", hello.Field)
	require.Zero(t, blank.group.Stats().Term, "somebody's request reached a node that it was not meant for")
	n3.start()
	c.leader()
}

// TestG4_AllAddressesChanged: nothing of the stores names an address.
func TestG4_AllAddressesChanged(t *testing.T) {
	c := found(t, 3, onDisk(t))
	c.apply("one")
	c.stop()
	moved := newNetwork()
	for i, s := range c.s {
		s.net, s.address = moved, []string{"elsewhere1", "elsewhere2", "elsewhere3"}[i]
		s.opts.Dial = moved.dialFrom(s.address)
		moved.names[s.opts.Self], moved.at[s.address] = s.address, s
	}
	c.net = moved
	for _, s := range c.s {
		s.start()
	}
	c.apply("two")
	c.alike()
}

// TestG7_FailedTransferIsNotRepeated: the leader goes on after a transfer that failed, and does not try the
// same peer again in this term; to another one it does.
func TestG7_FailedTransferIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := found(t, 3, usual)
		l, f := c.leader(), c.follower()
		var other *server
		for _, s := range c.s {
			if s != l && s != f {
				other = s
			}
		}
		c.net.isolate(f.address, true)
		c.apply("behind")
		require.ErrorIs(t, l.group.TransferLeadership(ctx(t), f.opts.Self), ErrTransferFailed)
		c.apply("goes on")
		c.net.isolate(f.address, false)
		c.alike()
		err := l.group.TransferLeadership(ctx(t), f.opts.Self)
		require.ErrorIs(t, err, ErrTransferFailed)
		require.NotErrorIs(t, err, ErrMayHaveHappened, "it was tried again")
		require.NoError(t, l.group.TransferLeadership(ctx(t), other.opts.Self))
		c.until("the other one leads", func() bool { return other.group.IsLeader() })
		require.Equal(t, other, c.leader())
	})
}

// TestG8_SnapshotInstalledAgainAndAgain is upstream #697: a follower whose own entry at the index of the
// raft snapshot is of another term installs it, and still refuses what follows. There is an alarm, and a
// newer raft snapshot beyond its last entry heals it.
func TestG8_SnapshotInstalledAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := found(t, 3, usual, func(o *Options) { o.TrailingLogs = 1 })
		f := c.follower()
		f.stop()
		for range 4 {
			c.apply("x")
		}
		l := c.leader()
		require.NoError(t, l.group.SnapshotNow(ctx(t)))
		stale := l.group.Stats()
		logs := f.opts.Stores.(*MemStores).s.logs
		first, err := logs.LastIndex()
		require.NoError(t, err)
		for i := first + 1; i <= stale.SnapshotIndex+1; i++ { // what a deposed leader left there, never committed
			require.NoError(t, logs.StoreLog(&raft.Log{Index: i, Term: 1, Type: raft.LogNoop}))
		}
		f.start()
		c.until("an alarm", func() bool { return l.group.Stats().InstallAlarms > 0 })
		p, _ := l.group.progress.get(f.opts.Self)
		require.Greater(t, p.SameInstalls, uint64(installsMax))

		for range 4 {
			c.apply("y")
		}
		require.NoError(t, l.group.SnapshotNow(ctx(t)))
		c.alike()
	})
}
