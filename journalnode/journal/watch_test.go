package journal

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWatchFinalizeUnshown: a segment that is finalized before the floor showed any of it wakes those who
// follow. Guards View.Structure: without it nothing in the view changed, and they waited for ever.
func TestWatchFinalizeUnshown(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB)
	w.write("one", nodeA, nodeB)
	m := c.nodes[nodeA]
	view, changed := m.Watch()
	require.Zero(t, view.InProgress, "no floor was told, nothing is shown")
	require.NoError(t, w.finalize(nodeA))
	select {
	case <-changed:
	default:
		t.Fatal("the watcher was not woken")
	}
	shown, err := c.shown(nodeA)
	require.NoError(t, err)
	require.Equal(t, []string{"one"}, shown)
}
