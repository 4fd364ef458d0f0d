package journal

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/rpc"
)

// A journal at its quota refuses new frames, says so with every answer, and counts what is in its log and no room
// made ahead. What is committed already is taken, and so are starts, footers and a recovery.
func TestQuota(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(c.ids()...)
	w.write("one", c.ids()...)
	m := c.nodes[nodeA]
	used := m.logBytes()
	require.Positive(t, used)
	require.Less(t, used, uint64(small.Store.PreallocateBytes), "the room made ahead does not count")

	m.SetQuota(used + 1)
	at := w.write("taken whole, though it goes beyond the quota", c.ids()...)
	refused := w.frame("refused")
	_, err := w.put(nodeA, refused)
	require.ErrorIs(t, err, rpc.ErrQuota)
	var facts *rpc.QuotaError
	require.ErrorAs(t, err, &facts)
	require.Equal(t, &rpc.QuotaError{Used: m.logBytes(), Quota: used + 1}, facts)
	require.Equal(t, at, m.copyOf(1).Last)
	for _, id := range []int{1, 2} {
		_, err := w.put(c.ids()[id], refused)
		require.NoError(t, err)
	}
	require.True(t, m.OverQuota())

	// The others have committed it.
	w.commit(refused.Position())
	_, err = w.start(nodeA)
	require.NoError(t, err)
	got, err := w.put(nodeA, refused)
	require.NoError(t, err)
	require.Equal(t, refused.Position(), got)

	for _, id := range c.ids() {
		require.NoError(t, w.finalize(id))
	}
	next := w.next().mustStart(c.ids()...)
	_, err = next.put(nodeA, next.frame("three"))
	require.ErrorIs(t, err, rpc.ErrQuota, "the finalized one counts")
	c.mustRecover().mustStart(c.ids()...)

	m.SetQuota(0)
	require.False(t, m.OverQuota())
	m = c.restart(nodeA, 100)
	require.Greater(t, m.logBytes(), used, "known again after a restart")
	require.Zero(t, m.quota.Load(), "what it may be, the catalog says")
}
