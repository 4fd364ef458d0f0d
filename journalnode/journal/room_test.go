package journal

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/segments"
)

// fakeRoom is a reserve of so many bytes on a memory disk.
type fakeRoom struct {
	disk  *memfs.FS
	bytes int64
	low   bool
	full  int64 // the capacity without the reserve
}

func (r *fakeRoom) Low() bool { return r.low }

func (r *fakeRoom) GiveUp() bool {
	if r.low {
		return false
	}
	r.low = true
	r.disk.SetCapacity(r.full + r.bytes)
	return true
}

// fill leaves so many bytes free on a node's disk, and the reserve besides.
func (c *cluster) fill(m *machine, free, reserve int64) *fakeRoom {
	m.disk.SetCapacity(1 << 40)
	left, err := m.disk.Free(".")
	require.NoError(c, err)
	r := &fakeRoom{disk: m.disk, bytes: reserve, full: 1<<40 - left + free}
	m.disk.SetCapacity(r.full)
	m.room = r
	return r
}

// A full disk: frames are refused, with a typed error, and the reserve stays; a promise, a recovery and a
// footer get it. Then nothing new is taken though there is room, until the reserve is there again.
func TestDiskFull_ReserveIsForPromisesAndRecovery(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(c.ids()...)
	at := w.write("one", c.ids()...)
	m := c.nodes[nodeA]
	room := c.fill(m, 0, 64<<10)
	big := string(make([]byte, 32<<10)) // more than what is preallocated
	_, err := w.put(nodeA, w.frame(big))
	require.ErrorIs(t, err, vfs.ErrNoSpace)
	require.NotErrorIs(t, err, rpc.ErrPoisoned)
	require.False(t, room.low, "not for frames")
	require.Equal(t, at, c.copyAt(nodeA, 1).Last)

	r, err := c.recover(nodeA, nodeB) // fence, accepted record, footer
	require.NoError(t, err)
	require.True(t, room.low)
	require.Equal(t, at.TxID, r.Prev.Last)
	w = c.writes(r)
	_, err = w.start(nodeA)
	require.ErrorIs(t, err, vfs.ErrNoSpace, "a new segment must not take the room that is left")
	_, err = m.NewIncoming(segments.End{}, 1)
	require.ErrorIs(t, err, vfs.ErrNoSpace)
	_, err = m.NewEpoch(c.header(nodeA, fencing.Claim{Epoch: 99, Writer: fencing.WriterID{99}}))
	require.NoError(t, err, "promises go on")

	room.low = false
	m.disk.SetCapacity(-1)
	c.mustRecover().mustStart(c.ids()...).write(big, c.ids()...)
}

// A frame that is held already is acknowledged on a full disk, too.
func TestDiskFull_ResentFramesAreAcknowledged(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA)
	f := w.frame("one")
	_, err := w.put(nodeA, f)
	require.NoError(t, err)
	c.fill(c.nodes[nodeA], 0, 0).low = true
	at, err := w.put(nodeA, f)
	require.NoError(t, err)
	require.Equal(t, f.Position(), at)
	_, err = w.start(nodeA)
	require.NoError(t, err, "the segment is open: the node tells where it stands")
	_, err = w.put(nodeA, w.frame("two"))
	require.ErrorIs(t, err, vfs.ErrNoSpace)
}

// A torn tail that cannot be put aside for lack of room is unknown, and opened when there is room, without
// a restart.
func TestDiskFull_TornTailIsRetried(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(c.ids()...)
	at := w.write("one", c.ids()...)
	w.write("two", nodeA)
	m := c.nodes[nodeA]
	require.NoError(t, m.disk.FlipBit(dir+"/segments/"+segments.Name{Kind: segments.NameInProgress, First: 1}.String(), tailOffset(t, m)-1, 0))
	m.disk = m.disk.ProcessCrashClone()
	m.fs = faultfs.New(m.disk)
	m.fs.Inject(faultfs.Rule{Op: faultfs.OpCreate | faultfs.OpWrite, PathContains: "segments", Err: vfs.ErrNoSpace})
	j, err := Open(m.fs, dir, Self{nodeA, incarnation(nodeA)}, journalID, small)
	require.NoError(t, err)
	m.Journal = j
	require.False(t, m.State().DataKnown)
	require.True(t, m.LacksRoom())
	require.ErrorIs(t, m.RetryTails(), vfs.ErrNoSpace)
	require.True(t, m.LacksRoom())
	m.fs.ClearRules()
	require.NoError(t, m.RetryTails())
	require.False(t, m.LacksRoom())
	require.True(t, m.State().DataKnown)
	require.Equal(t, at, m.copyOf(1).Last)
	require.NotNil(t, m.copyOf(1).CutAt)
}

// tailOffset is where the last frame of segment 1 ends.
func tailOffset(t *testing.T, m *machine) int64 {
	t.Helper()
	name := dir + "/segments/" + segments.Name{Kind: segments.NameInProgress, First: 1}.String()
	f, err := m.disk.Open(name)
	require.NoError(t, err)
	size, err := f.Size()
	require.NoError(t, err)
	res := segments.Scan(f, size, segments.ScanOptions{})
	require.NoError(t, res.Err)
	return res.EndOffset
}
