package raftgroup

import (
	"fmt"
	"testing"

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
