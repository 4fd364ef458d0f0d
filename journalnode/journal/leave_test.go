package journal

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments/store"
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

// M8, C5: leaving, cut off at each operation: while the purge point stands all that it speaks of is there, so
// that a node that comes back never says that something is covered here which is not. The same call removes the
// rest; and the snapshots of a later time can be kept.
func TestM8_LeaveCutOffAtEveryOperation(t *testing.T) {
	for k := int64(1); ; k++ {
		c := newCluster(t)
		w := c.mustRecover()
		ends := finalSegments(c, w, 4)
		m := c.nodes[nodeC]
		snap := m.give(t, ends[2])
		_, err := m.Purge(everything)
		require.NoError(t, err)
		rest := slices.DeleteFunc(c.cfg.Members(), func(x quorum.Member) bool { return x.ID == nodeC })
		without := quorum.NewConfig(2, rest...)
		require.NoError(t, m.InstallConfig(without))
		m.fs.CrashAt(m.fs.Mutations() + k)
		err = m.Leave()
		done := !m.fs.Crashed()
		for _, percent := range []int{0, 40, 100} {
			old := m.disk
			m = c.restart(nodeC, percent)
			if m.Purged().TxID != 0 {
				m.again(t, snap)
				m.whole(t, snap, "the purge point stands")
			}
			require.Equal(t, without.Digest(), m.Config().Digest())
			if done {
				require.NoError(t, err)
				require.Zero(t, m.Purged())
				require.Empty(t, m.Segments())
			}
			require.NoError(t, m.Leave())
			require.Zero(t, m.Purged())
			held, herr := m.HeldSnapshots()
			require.NoError(t, herr)
			require.Empty(t, held)
			m.give(t, ends[2])
			m.disk = old
		}
		if done {
			require.Greater(t, k, int64(5))
			return
		}
	}
}

// M0, M6: a config that makes the node a member again, cut off at each operation: the old config or the new one,
// whole; under the new one nothing is left that is not finalized, since nobody vouched for it meanwhile.
func TestM0_MemberAgainCutOffAtEveryOperation(t *testing.T) {
	for k := int64(1); ; k++ {
		c := newCluster(t)
		w := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
		one := w.write("one", nodeA, nodeB, nodeC)
		m := c.nodes[nodeC]
		claim := fencing.Claim{Epoch: 5, Writer: fencing.WriterID{5}}
		require.NoError(t, c.accept(nodeC, recovery.AcceptRequest{Claim: claim, Epoch: w.claim.Epoch, End: w.end(), Sources: []quorum.NodeID{nodeA}}))
		rest := slices.DeleteFunc(c.cfg.Members(), func(x quorum.Member) bool { return x.ID == nodeC })
		without, again := quorum.NewConfig(2, rest...), quorum.NewConfig(3, c.cfg.Members()...)
		require.NoError(t, m.InstallConfig(without))
		require.Equal(t, one, m.copyOf(1).Last)
		require.NotZero(t, m.copyOf(1).Accepted)
		m.fs.CrashAt(m.fs.Mutations() + k)
		err := m.InstallConfig(again)
		done := !m.fs.Crashed()
		for _, percent := range []int{0, 40, 100} {
			old := m.disk
			m = c.restart(nodeC, percent)
			st := m.State()
			require.Empty(t, st.Damaged)
			require.Equal(t, claim, st.Promised)
			switch st.Summary.Config.Digest() {
			case again.Digest():
				require.Equal(t, recovery.Absent, m.copyOf(1).State)
				require.Zero(t, m.copyOf(1).Accepted)
			case without.Digest():
				require.False(t, done)
				require.False(t, st.Member)
			default:
				require.Fail(t, "a mixture", "%v", st.Summary.Config)
			}
			require.NoError(t, m.InstallConfig(again))
			require.True(t, m.State().Member)
			require.Equal(t, recovery.Absent, m.copyOf(1).State)
			m.disk = old
		}
		if done {
			require.NoError(t, err)
			require.Greater(t, k, int64(5))
			return
		}
	}
}

// M8: a segment that is being pulled when the node leaves is nobody's business any more: it is refused, and the
// journal can be copied again when the node comes back.
func TestM8_PullUnderWayWhenLeaving(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover()
	finalSegments(c, w, 1)
	m := c.nodes[nodeC]
	info, err := c.nodes[nodeA].store.Info(1)
	require.NoError(t, err)
	pulled := func() *store.Incoming {
		inc, err := m.NewIncoming(info.Prev, info.Epoch)
		require.NoError(t, err)
		require.NoError(t, c.nodes[nodeA].store.CopyPrefix(1, info.Last, inc))
		return inc
	}
	before, thrown := pulled(), pulled()
	rest := slices.DeleteFunc(c.cfg.Members(), func(x quorum.Member) bool { return x.ID == nodeC })
	require.NoError(t, m.InstallConfig(quorum.NewConfig(2, rest...)))
	require.NoError(t, m.Leave())
	require.ErrorIs(t, m.InstallFinalized(before, info.End()), store.ErrClosed)
	require.NoError(t, thrown.Abort())
	require.Empty(t, m.State().Poisoned)
	require.NoError(t, m.InstallConfig(quorum.NewConfig(3, c.cfg.Members()...)))
	require.NoError(t, m.InstallFinalized(pulled(), info.End()))
	require.Len(t, m.Segments(), 1)
}
