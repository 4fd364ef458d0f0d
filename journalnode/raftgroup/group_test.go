package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func onDisk(t *testing.T) func(*Options) {
	return func(o *Options) { o.Stores, o.Dir = nil, t.TempDir() }
}

func TestAppliesEverywhereAlike(t *testing.T) {
	c := found(t, 3)
	for i := range 20 {
		res, err := c.leader().group.Apply(ctx(t), []byte(fmt.Sprint("c", i)))
		require.NoError(t, err)
		require.Equal(t, i+1, res)
	}
	c.alike()
	require.Len(t, c.s[0].machine.all(), 20)
}

func TestRestartFromDisk(t *testing.T) {
	c := found(t, 3, onDisk(t))
	c.apply("one")
	require.NoError(t, c.leader().group.SnapshotNow(ctx(t)))
	c.apply("two")
	c.stop()
	for _, s := range c.s {
		s.start()
	}
	c.apply("three")
	c.alike()
	require.Equal(t, []string{"one", "two", "three"}, c.leader().machine.all())
}

// TestLaggingFollowerRestoresASnapshot: what it lacks is no longer in the leader's log.
func TestLaggingFollowerRestoresASnapshot(t *testing.T) {
	c := found(t, 3, onDisk(t), func(o *Options) { o.TrailingLogs = 1 })
	f := c.follower()
	f.stop()
	for i := range 10 {
		c.apply(fmt.Sprint("c", i))
	}
	require.NoError(t, c.leader().group.SnapshotNow(ctx(t)))
	c.apply("last")
	f.start()
	c.alike()
	require.Equal(t, 1, f.machine.restores)
	require.Equal(t, c.leader().group.Members(), f.group.Members(), "a raft snapshot carries the members")
	st := c.leader().group.Stats()
	require.Positive(t, st.SnapshotIndex)
	require.Zero(t, st.InstallAlarms)
	require.Empty(t, st.SnapshotError)
}

// TestMembers: a server joins as a non-voter, catches up, votes; the first leader leaves.
func TestMembers(t *testing.T) {
	c := found(t, 3, func(o *Options) { o.CatchUpMargin = 1 })
	for i := range 10 {
		c.apply(fmt.Sprint("c", i))
	}
	l := c.leader()
	s := c.net.server(t, "host4", "n4/a")
	require.NoError(t, Create(s.opts))
	c.s = append(c.s, s.start())

	before := l.group.Members()
	require.Len(t, before.Members, 3)
	require.ErrorIs(t, l.group.CatchUp(ctx(t), "n4/a"), ErrNoMember)
	require.NoError(t, l.group.AddNonvoter(ctx(t), "n4/a", before.Index))
	require.NoError(t, l.group.CatchUp(ctx(t), "n4/a"))
	joined := l.group.Members()
	m, _ := joined.find("n4/a")
	require.False(t, m.Voter)
	st := l.group.Stats()
	require.Equal(t, joined.Index, st.ConfIndex)
	require.False(t, st.Changing)

	require.ErrorIs(t, l.group.AddVoter(ctx(t), "n4/a", before.Index), ErrMembershipChanged)
	require.ErrorIs(t, l.group.AddNonvoter(ctx(t), "n4/a", 0), ErrMemberExists)
	require.ErrorIs(t, l.group.Remove(ctx(t), "n9/a", 0), ErrNoMember)
	require.ErrorIs(t, l.group.AddVoter(ctx(t), "n5", 0), ErrInvalid)
	require.NoError(t, l.group.AddVoter(ctx(t), "n4/a", joined.Index))
	require.Equal(t, 4, l.group.Members().voters())

	require.NoError(t, l.group.Remove(ctx(t), l.opts.Self, 0))
	c.until("the removed leader follows", func() bool { return !l.group.IsLeader() })
	l.stop()
	c.apply("without it")
	c.alike()
	require.Equal(t, 3, c.leader().group.Members().voters())
}

func TestLastVoterStays(t *testing.T) {
	c := found(t, 1)
	require.ErrorIs(t, c.s[0].group.Remove(ctx(t), "n1/a", 0), ErrLastVoter)
}

func TestTransferLeadership(t *testing.T) {
	c := found(t, 3)
	l, f := c.leader(), c.follower()
	require.ErrorIs(t, l.group.TransferLeadership(ctx(t), l.opts.Self), ErrNoMember)
	require.ErrorIs(t, f.group.TransferLeadership(ctx(t), l.opts.Self), ErrNotLeader)
	c.apply("x")
	require.NoError(t, l.group.TransferLeadership(ctx(t), f.opts.Self))
	c.until("the other one leads", func() bool { return f.group.IsLeader() })
}

// TestLeadershipIsNotLost: who reads late reads what holds.
func TestLeadershipIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := found(t, 3, usual)
		l, f := c.leader(), c.follower()
		require.NoError(t, l.group.TransferLeadership(ctx(t), f.opts.Self))
		c.until("the other one leads", func() bool { return f.group.IsLeader() })
		synctest.Wait()
		require.False(t, <-l.group.Leadership())
		require.True(t, <-f.group.Leadership())
		require.Empty(t, l.group.Leadership())
	})
}

// TestLeaderKilledRepeatedly: applies go on beside it. What was answered for is there, once and in order;
// what said that it did not happen is not there.
func TestLeaderKilledRepeatedly(t *testing.T) {
	c := found(t, 3, onDisk(t), func(o *Options) { o.Snapshots, o.TrailingLogs = SnapshotPolicy{Entries: 50}, 5 })
	var acked, never []string
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			s := c.anyLeader()
			if s == nil {
				runtime.Gosched()
				continue
			}
			command := fmt.Sprint("c", i)
			short, cancel := context.WithTimeout(context.Background(), time.Second)
			_, err := s.Apply(short, []byte(command))
			cancel()
			switch {
			case err == nil:
				acked = append(acked, command)
			case !errors.Is(err, ErrMayHaveHappened):
				never = append(never, command)
			}
		}
	}()
	for range 5 {
		l := c.leader()
		seen := l.group.Stats().Commit
		c.until("some applies", func() bool { return l.group.Stats().Commit > seen+20 || !l.group.IsLeader() })
		l.stop()
		c.leader()
		l.start()
	}
	close(stop)
	<-done
	c.apply("end")
	c.alike()
	all := c.leader().machine.all()
	at := map[string]int{}
	for i, command := range all {
		require.NotContains(t, at, command, "doubled")
		at[command] = i
	}
	last := -1
	for _, command := range acked {
		require.Contains(t, at, command, "lost")
		require.Greater(t, at[command], last, "out of order")
		last = at[command]
	}
	for _, command := range never {
		require.NotContains(t, at, command, "it was said not to have happened")
	}
	require.Greater(t, len(acked), 50)
}

// TestG10_ErrorsSayWhetherItMayHaveHappened.
func TestG10_ErrorsSayWhetherItMayHaveHappened(t *testing.T) {
	c := found(t, 3)
	l, f := c.leader(), c.follower()
	c.until("the follower knows its leader", func() bool { id, _ := f.group.Leader(); return id == l.opts.Self })
	var not *NotLeaderError
	_, err := f.group.Apply(ctx(t), []byte("x"))
	require.ErrorAs(t, err, &not)
	require.Equal(t, l.opts.Self, not.Leader)
	require.ErrorIs(t, f.group.Barrier(ctx(t)), ErrNotLeader)
	var large *TooLargeError
	_, err = l.group.Apply(ctx(t), make([]byte, 1<<20))
	require.ErrorAs(t, err, &large)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = l.group.Apply(ended, []byte("x"))
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, ErrMayHaveHappened)

	c.net.isolate(l.address, true)
	_, err = l.group.Apply(ctx(t), []byte("alone"))
	require.ErrorIs(t, err, ErrMayHaveHappened)
	c.net.isolate(l.address, false)
	l.stop()
	_, err = c.leader().group.Apply(ctx(t), []byte("x"))
	require.NoError(t, err)
}

func TestShutdownRefusesAndEndsNews(t *testing.T) {
	c := found(t, 1)
	g := c.s[0].group
	require.True(t, <-g.Leadership())
	c.s[0].stop()
	_, err := g.Apply(ctx(t), []byte("x"))
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrMayHaveHappened)
	require.ErrorIs(t, g.SnapshotNow(ctx(t)), ErrClosed)
	for leads := range g.Leadership() {
		require.False(t, leads)
	}
	require.NoError(t, g.Shutdown(ctx(t)), "twice is as good as once")
}

// TestG9_StoresAreMadeOnce.
func TestG9_StoresAreMadeOnce(t *testing.T) {
	n := newNetwork()
	s := n.server(t, "host1", "n1/a", onDisk(t))
	s.opts.Machine = &journalMachine{}
	_, err := Start(s.opts)
	require.ErrorIs(t, err, ErrNoStore)
	// A crash in the middle of Bootstrap left this.
	require.NoError(t, os.WriteFile(filepath.Join(s.opts.Dir, logNameTemp), []byte("half"), 0o600))
	_, err = Start(s.opts)
	require.ErrorIs(t, err, ErrNoStore)
	require.ErrorIs(t, Bootstrap(s.opts, []ServerID{"n2/a"}), ErrInvalid)
	require.NoError(t, Bootstrap(s.opts, []ServerID{"n1/a"}))
	require.ErrorIs(t, Bootstrap(s.opts, []ServerID{"n1/a"}), ErrExists)
	require.ErrorIs(t, Create(s.opts), ErrExists)
	require.NoFileExists(t, filepath.Join(s.opts.Dir, logNameTemp))
}

func TestDamagedLogIsRefused(t *testing.T) {
	n := newNetwork()
	s := n.server(t, "host1", "n1/a", onDisk(t))
	s.opts.Machine = &journalMachine{}
	require.NoError(t, Bootstrap(s.opts, []ServerID{"n1/a"}))
	name := filepath.Join(s.opts.Dir, logName)
	whole, err := os.ReadFile(name)
	require.NoError(t, err)
	clear(whole[:2*os.Getpagesize()]) // both meta pages
	require.NoError(t, os.WriteFile(name, whole, 0o600))
	_, err = Start(s.opts)
	require.ErrorIs(t, err, ErrDamaged)
}

// TestDamagedSnapshotIsRefused: upstream would take an older one, with a hole behind it.
func TestDamagedSnapshotIsRefused(t *testing.T) {
	c := found(t, 1, onDisk(t))
	s := c.s[0]
	for _, command := range []string{"one", "two"} {
		c.apply(command)
		require.NoError(t, s.group.SnapshotNow(ctx(t)))
	}
	s.stop()
	states, err := filepath.Glob(filepath.Join(s.opts.Dir, "snapshots", "*", "state.bin"))
	require.NoError(t, err)
	require.Len(t, states, 2)
	newest := states[0]
	for _, name := range states {
		a, err := os.Stat(name)
		require.NoError(t, err)
		b, err := os.Stat(newest)
		require.NoError(t, err)
		if a.Size() > b.Size() {
			newest = name
		}
	}
	require.NoError(t, os.WriteFile(newest, []byte("\x03bad\x03bad"), 0o600))
	opts := s.opts
	opts.Machine = &journalMachine{}
	_, err = Start(opts)
	require.ErrorIs(t, err, ErrDamaged)
}

// TestPolicyTakesSnapshots: the loop does what due says.
func TestPolicyTakesSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := found(t, 1, usual, func(o *Options) { o.Snapshots = SnapshotPolicy{Bytes: 100} })
		g := c.s[0].group
		c.apply(string(make([]byte, 60)))
		time.Sleep(time.Minute)
		require.Zero(t, g.Stats().SnapshotIndex)
		c.apply(string(make([]byte, 60)))
		c.until("a raft snapshot", func() bool { return g.Stats().SnapshotIndex > 0 })
		require.Zero(t, g.Stats().BytesSinceSnapshot)
	})
}
