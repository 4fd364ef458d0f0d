package journal

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/rpc"
)

// R3: an operator lowers one floor, the one that he was told of, under the config that was forced for it; noted
// or saved, it does not come back.
func TestR3_LowerFloor(t *testing.T) {
	c := newCluster(t)
	m := c.nodes[nodeA]
	version := m.config.Version
	m.floor = floorAt(4)
	require.NoError(t, m.SaveFloor())
	m.floor = floorAt(6)
	require.NoError(t, m.NoteFloor())
	require.ErrorIs(t, m.LowerFloor(version+1, floorAt(6)), rpc.ErrConfig, "the forced config comes first")
	require.ErrorIs(t, m.LowerFloor(version, floorAt(5)), rpc.ErrPlan, "it has moved since")
	require.Equal(t, floorAt(6), m.floor)
	require.NoError(t, m.LowerFloor(version, floorAt(6)))
	require.True(t, m.floor.IsZero())
	require.True(t, c.kill(nodeA).floor.IsZero())
	require.True(t, c.restart(nodeA, 0).floor.IsZero())
	m = c.nodes[nodeA]
	require.NoError(t, m.LowerFloor(version, floorAt(6)), "again")
	m.floor = floorAt(2)
	require.NoError(t, m.LowerFloor(version, floorAt(6)), "it was lowered, and the journal has gone on")
	require.Equal(t, floorAt(2), m.floor)
}
