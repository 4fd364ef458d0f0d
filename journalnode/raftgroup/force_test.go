package raftgroup

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// Two survivors of five go on, on files, and twice: the second time does nothing.
func TestForce(t *testing.T) {
	c := found(t, 5, onDisk(t))
	for _, cmd := range []string{"a", "b", "c"} {
		c.apply(cmd)
	}
	c.alike()
	for _, s := range c.s {
		s.stop()
	}
	voters := []ServerID{"n1/a", "n2/a"}
	for _, s := range c.s[:2] {
		for range 2 {
			opts := s.opts
			opts.Machine = &journalMachine{}
			require.NoError(t, Force(opts, voters))
		}
		s.start()
	}
	c.apply("d")
	c.alike()
	require.Equal(t, []string{"a", "b", "c", "d"}, c.s[0].machine.all())
	members, index, _ := c.leader().group.Standing()
	require.Equal(t, []Member{{"n1/a", true}, {"n2/a", true}}, members)
	require.NotZero(t, index)
	// After a restart, too.
	for _, s := range c.s[:2] {
		s.stop()
		s.start()
	}
	c.apply("e")
	c.alike()
	require.Len(t, c.s[1].machine.all(), 5)
}

// A crash between the raft snapshot with the new members and the removal of the log that has the old ones: the
// snapshot counts.
func TestForce_CutOff(t *testing.T) {
	c := found(t, 3, onDisk(t))
	c.apply("a")
	c.alike()
	for _, s := range c.s {
		s.stop()
	}
	s := c.s[0]
	log := filepath.Join(s.opts.Dir, logName)
	before, err := os.ReadFile(log)
	require.NoError(t, err)
	opts := s.opts
	opts.Machine = &journalMachine{}
	require.NoError(t, Force(opts, []ServerID{"n1/a"}))
	require.NoError(t, os.WriteFile(log, before, 0o600))
	s.start()
	c.apply("b")
	require.Equal(t, []string{"a", "b"}, s.machine.all())
	members, _, _ := s.group.Standing()
	require.Equal(t, []Member{{"n1/a", true}}, members)
}

// One survivor was behind; it is brought to what the other one has.
func TestForce_OneIsBehind(t *testing.T) {
	c := found(t, 3)
	c.apply("a")
	c.alike()
	f := c.follower()
	f.stop()
	c.apply("b")
	c.apply("c")
	ahead := c.leader()
	for _, s := range c.s {
		s.stop()
	}
	voters := []ServerID{ahead.opts.Self, f.opts.Self}
	for _, s := range []*server{f, ahead} {
		opts := s.opts
		opts.Machine = &journalMachine{}
		require.NoError(t, Force(opts, voters))
		s.start()
	}
	c.apply("d")
	c.alike()
	require.Equal(t, []string{"a", "b", "c", "d"}, f.machine.all())
}

// brokenLog removes nothing.
type brokenLog struct{ raft.LogStore }

func (brokenLog) DeleteRange(uint64, uint64) error { return errBrokenLog }

var errBrokenLog = errors.New("no")

// Cut off after the raft snapshot, and before the log is emptied: the group has its new members, as Look says,
// and the same again finishes it. Look changes nothing.
func TestForce_LogIsNotEmptied(t *testing.T) {
	c := found(t, 3, onDisk(t))
	c.apply("a")
	c.alike()
	members, index, term := c.s[0].group.Standing()
	for _, s := range c.s {
		s.stop()
	}
	s := c.s[0]
	file := filepath.Join(s.opts.Dir, logName)
	before, err := os.ReadFile(file)
	require.NoError(t, err)
	rest, err := Look(s.opts)
	require.NoError(t, err)
	require.Equal(t, members, rest.Members)
	require.GreaterOrEqual(t, rest.Index, index, "the others may have been heard of once more before it stopped")
	require.GreaterOrEqual(t, rest.Term, term)
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, before, after)

	force := func(wrap func(raft.LogStore) raft.LogStore) error {
		opts := s.opts
		opts.Machine, opts.wrapLogs = &journalMachine{}, wrap
		return Force(opts, []ServerID{"n1/a"})
	}
	want := Rest{[]Member{{"n1/a", true}}, rest.Index, rest.Term}
	require.ErrorIs(t, force(func(l raft.LogStore) raft.LogStore { return brokenLog{l} }), errBrokenLog)
	rest, err = Look(s.opts)
	require.NoError(t, err)
	require.Equal(t, want, rest)
	require.NoError(t, force(nil))
	rest, err = Look(s.opts)
	require.NoError(t, err)
	require.Equal(t, want, rest)
	s.start()
	c.apply("b")
	require.Equal(t, []string{"a", "b"}, s.machine.all())
}

// The log stays while the raft snapshot that replaces it has other members: the clock was set back.
func TestForce_LogOutlivesADoubt(t *testing.T) {
	conf := raft.Configuration{Servers: []raft.Server{{ID: "n1/a", Address: "n1/a"}}}
	logs := raft.NewInmemStore()
	require.NoError(t, logs.StoreLog(&raft.Log{Index: 1, Term: 1}))
	snaps := &memSnapshots{}
	s := stores{logs: logs, snapshots: snaps}
	require.ErrorIs(t, (&logsBehind{LogStore: logs, settled: func() error { return settled(s, conf) }}).DeleteRange(1, 1), ErrDamaged)
	last, err := logs.LastIndex()
	require.NoError(t, err)
	require.EqualValues(t, 1, last)
}

func TestLook_Damaged(t *testing.T) {
	logs := raft.NewInmemStore()
	require.NoError(t, logs.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: []byte{0xff, 1}}))
	_, err := look(stores{logs: logs, snapshots: &memSnapshots{}})
	require.ErrorIs(t, err, ErrDamaged)
	_, err = Look(Options{Self: "n1/a", Cluster: [16]byte{1}, Dir: t.TempDir()})
	require.ErrorIs(t, err, ErrNoStore)
}

func TestForceRefuses(t *testing.T) {
	c := found(t, 1)
	s := c.s[0]
	s.stop()
	opts := s.opts
	require.ErrorIs(t, Force(opts, []ServerID{"n1/a"}), ErrInvalid, "no machine")
	opts.Machine = &journalMachine{}
	require.ErrorIs(t, Force(opts, nil), ErrInvalid)
	require.ErrorIs(t, Force(opts, []ServerID{"n1"}), ErrInvalid)
	opts.Stores = NewMemStores()
	require.ErrorIs(t, Force(opts, []ServerID{"n1/a"}), ErrNoStore)
}
