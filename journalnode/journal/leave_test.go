package journal

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
)

// M8: a member keeps its data whoever asks it to leave; one that the config names no more drops it, and keeps
// config and promise, through a restart.
func TestM8_LeaveKeepsConfigAndPromise(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
	one := w.write("one", nodeA, nodeB, nodeC)
	m := c.nodes[nodeC]
	require.ErrorIs(t, m.Leave(), rpc.ErrBadRequest)
	require.Equal(t, one, c.copyAt(nodeC, 1).Last)

	var rest []quorum.Member
	for _, x := range c.cfg.Members() {
		if x.ID != nodeC {
			rest = append(rest, x)
		}
	}
	require.NoError(t, m.InstallConfig(quorum.NewConfig(2, rest...)))
	require.NoError(t, m.Leave())
	require.NoError(t, m.Leave(), "again")
	promised := m.State().Promised
	m = c.restart(nodeC, 0)
	require.Empty(t, m.Segments())
	require.EqualValues(t, 2, m.Summary().Config.Version)
	require.Equal(t, promised, m.State().Promised)
	require.Equal(t, w.claim, promised)
}

// M8: the empty config comes with a delete, which promises first. By way of InstallConfig, or of a request to
// leave, it would take the data of one node after the other with no claim at all.
func TestM8_EmptyConfigIsNotInstalled(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB)
	one := w.write("one", nodeA, nodeB)
	require.ErrorIs(t, c.nodes[nodeA].InstallConfig(quorum.Config{Version: 2}), rpc.ErrBadRequest)
	require.Equal(t, recovery.InProgress, c.copyAt(nodeA, 1).State)
	require.Equal(t, one, c.copyAt(nodeA, 1).Last)
	require.EqualValues(t, 1, c.nodes[nodeA].Config().Version)
}
