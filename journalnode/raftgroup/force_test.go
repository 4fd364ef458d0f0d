package raftgroup

import (
	"os"
	"path/filepath"
	"testing"

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
