package journal

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

func floorAt(txid segments.TxID) recovery.Floor {
	return recovery.Floor{Segment: 1, Epoch: 3, At: segments.Position{TxID: txid, Digest: segments.Digest{byte(txid)}}}
}

// W3: a floor that was noted outlives the process; a power cut may take it, and then the saved one is there.
func TestW3_NotedFloor(t *testing.T) {
	c := newCluster(t)
	m := c.nodes[nodeA]
	m.floor = floorAt(4)
	require.NoError(t, m.SaveFloor())
	m.fs.ResetLog()
	for _, at := range []segments.TxID{5, 6} {
		m.floor = floorAt(at)
		require.NoError(t, m.NoteFloor())
	}
	for _, l := range m.fs.Log() {
		require.NotContains(t, l, "sync", "appends wait")
	}
	saved := c.nodes[nodeA].disk
	require.Equal(t, floorAt(6), c.kill(nodeA).floor)
	c.nodes[nodeA].disk = saved
	require.Equal(t, floorAt(4), c.restart(nodeA, 0).floor)

	// Torn, it is absent; what is saved later is what counts.
	c.nodes[nodeA].disk = saved
	require.NoError(t, saved.FlipBit(dir+"/"+recentFile, 40, 3))
	m = c.kill(nodeA)
	require.Equal(t, floorAt(4), m.floor)
	require.NoError(t, m.Usable())
	m.floor = floorAt(7)
	require.NoError(t, m.Quiet())
	require.Equal(t, floorAt(7), c.restart(nodeA, 0).floor)
}

// W3: what was noted is saved when the journal is quiet, also after a restart.
func TestW3_NotedFloorIsSavedWhenQuiet(t *testing.T) {
	c := newCluster(t)
	m := c.nodes[nodeA]
	m.floor = floorAt(5)
	require.NoError(t, m.NoteFloor())
	m = c.kill(nodeA)
	require.NoError(t, m.Quiet())
	require.Equal(t, floorAt(5), c.restart(nodeA, 0).floor)
}

func TestW3_NoteFloorFails(t *testing.T) {
	c := newCluster(t)
	m := c.nodes[nodeA]
	m.floor = floorAt(5)
	m.fs.Inject(faultfs.Rule{Op: faultfs.OpWrite, PathContains: recentFile})
	require.Error(t, m.NoteFloor())
	require.Error(t, m.Usable(), "a failed write poisons, whatever was written")
}
