package journalnode_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/journalnode"
)

const testReserve = 64 << 10

func reserveSize(d *memfs.FS, dir string) int64 {
	st, err := d.Stat(dir + "/reserve")
	if err != nil {
		return 0
	}
	return st.Size()
}

// free leaves so many bytes free on a disk.
func free(t require.TestingT, d *memfs.FS, n int64) {
	d.SetCapacity(1 << 40)
	left, err := d.Free(".")
	require.NoError(t, err)
	d.SetCapacity(1<<40 - left + n)
}

// The reserve is made, given up for a promise on a full disk, and made again by itself when there is room:
// refused meanwhile is what is new, and only that.
func TestReserve_GivenUpAndMadeAgain(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		id := b.journal("j")
		disk, dir := b.Disks[0], b.Dir(0)
		b.Until(time.Minute, "the reserve is made", func() bool { return reserveSize(disk, dir) == testReserve })
		free(b, disk, 0)
		n := b.node(0)
		_, err := n.NewEpoch(b.ctx, b.header(0, id, 5, writerID()))
		require.NoError(b, err, "a promise has the reserve")
		require.Zero(b, reserveSize(disk, dir))
		_, err = n.State(b.ctx, id)
		require.NoError(b, err, "reads go on")
		free(b, disk, testReserve) // less than half as much more
		b.wait(time.Minute)
		require.Zero(b, reserveSize(disk, dir), "it would be given up at once again")
		disk.SetCapacity(-1)
		b.Until(time.Minute, "the reserve is made again", func() bool { return reserveSize(disk, dir) == testReserve })
	})
}

// A restart finds the reserve again; one that is half made, or of another size, is made anew.
func TestReserve_Restart(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		disk, dir := b.Disks[0], b.Dir(0)
		b.Until(time.Minute, "the reserve is made", func() bool { return reserveSize(disk, dir) == testReserve })
		b.StopNode(0)
		require.NoError(b, disk.Remove(dir+"/reserve"))
		require.NoError(b, vfs.WriteFileAtomic(disk, dir+"/reserve", make([]byte, 100)))
		b.StartNode(0)
		b.Until(time.Minute, "it is whole", func() bool { return reserveSize(disk, dir) == testReserve })
	})
	run(t, testcluster.Options{Tune: func(_ int, o *journalnode.Options) { o.ReserveBytes = -1 }}, func(b *bed) {
		b.wait(time.Minute)
		require.Zero(b, reserveSize(b.Disks[0], b.Dir(0)), "none was asked for")
	})
}
