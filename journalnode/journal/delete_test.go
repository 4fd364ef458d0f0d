package journal

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/recovery"
)

func deleter(e fencing.Epoch) fencing.Claim {
	return fencing.Claim{Epoch: e, Writer: fencing.WriterID{0xde, byte(e)}}
}

// states is what the nodes say, the one given left out.
func (c *cluster) states(but quorum.NodeID) map[quorum.NodeID]rpc.JournalState {
	out := map[quorum.NodeID]rpc.JournalState{}
	for id, m := range c.nodes {
		if id != but {
			out[id] = m.State()
		}
	}
	return out
}

func (c *cluster) inForce() bool {
	said := map[quorum.NodeID]rpc.JournalSummary{}
	for id, m := range c.nodes {
		said[id] = m.Summary()
	}
	return rpc.TombstoneInForce(c.cfg, len(c.nodes), said)
}

// repairTombstone is what the repair loop does on a node.
func (c *cluster) repairTombstone(id quorum.NodeID) {
	m := c.nodes[id]
	switch claim := m.Summary().Deleting; {
	case c.inForce():
		require.NoError(c, m.Bury(quorum.Config{Version: m.Summary().Config.Version + 1}))
	case !claim.IsZero() && rpc.TombstoneVoid(c.cfg, claim, c.states(id)):
		require.NoError(c, m.Lift(claim))
	}
}

// F3, N1, M1: a delete passes the gate of any request.
func TestF3_DeletePassesTheGate(t *testing.T) {
	for name, request := range map[string]func(*machine, rpc.Header) error{
		"tombstone": func(m *machine, h rpc.Header) error { return m.Delete(h) },
		"reclaim":   func(m *machine, h rpc.Header) error { return m.Reclaim(h) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			w := c.mustRecover().mustStart(c.ids()...)
			w.write("kept", c.ids()...)
			m, good := c.nodes[nodeA], c.header(nodeA, deleter(9))
			wrongNode, older := good, good
			wrongNode.Incarnation = incarnation(nodeB)
			older.ConfigVersion = 7
			require.ErrorIs(t, request(m, wrongNode), rpc.ErrWrongNode)
			require.ErrorIs(t, request(m, older), rpc.ErrConfig)
			require.ErrorIs(t, request(m, c.header(nodeA, fencing.Claim{})), fencing.ErrZeroEpoch)
			_, err := m.NewEpoch(c.header(nodeA, fencing.Claim{Epoch: 9, Writer: fencing.WriterID{1}}))
			require.NoError(t, err)
			require.ErrorIs(t, request(m, c.header(nodeA, deleter(8))), fencing.ErrFenced)
			require.ErrorIs(t, request(m, good), fencing.ErrLostRace)
			require.Zero(t, m.Summary().Deleting)
			require.False(t, m.Deleted())
			require.NotEmpty(t, m.Segments())
		})
	}
}

// M8: the first step promises, keeps the data, and refuses writers; it outlives a power cut.
func TestM8_TombstoneKeepsTheDataAndPromisesNothing(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(c.ids()...)
	w.write("kept", c.ids()...)
	h := c.header(nodeA, deleter(5))
	require.NoError(t, c.nodes[nodeA].Delete(h))
	for _, m := range []*machine{c.nodes[nodeA], c.restart(nodeA, 0)} {
		require.NoError(t, m.Delete(h), "the same again")
		require.Equal(t, deleter(5), m.Summary().Deleting)
		require.False(t, m.Summary().Deleted)
		require.Equal(t, deleter(5), m.State().Promised)
		require.NotEmpty(t, m.Segments())
		_, err := w.put(nodeA, w.frame("refused"))
		require.ErrorIs(t, err, fencing.ErrFenced)
		_, err = m.NewEpoch(c.header(nodeA, fencing.Claim{Epoch: 6, Writer: fencing.WriterID{6}}))
		require.ErrorIs(t, err, rpc.ErrJournalDeleting)
		require.Equal(t, deleter(5), m.State().Promised, "nothing was promised")
	}
	require.NoError(t, c.nodes[nodeA].Delete(c.header(nodeA, deleter(7))), "a later delete takes over")
	require.Equal(t, deleter(7), c.restart(nodeA, 0).Summary().Deleting)
	require.NoError(t, c.nodes[nodeA].Reclaim(c.header(nodeA, deleter(7))))
	for _, m := range []*machine{c.nodes[nodeA], c.restart(nodeA, 0)} {
		require.True(t, m.Summary().Deleted)
		require.Zero(t, m.Summary().Deleting)
		names, err := m.disk.List(dir + "/segments")
		require.NoError(t, err)
		require.Empty(t, names)
		require.ErrorIs(t, m.Delete(h), rpc.ErrJournalDeleted)
	}
}

// M8: a delete is cut off at one node, then a writer gets the others. The journal lives; the node keeps
// out while the delete may still come, comes back once it cannot, and is refused by nobody's late message.
func TestM8_CutOffDeleteThenAWriter(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(c.ids()...)
	w.write("one", c.ids()...)
	require.NoError(t, c.nodes[nodeA].Delete(c.header(nodeA, deleter(2))))
	c.repairTombstone(nodeA)
	require.NotZero(t, c.nodes[nodeA].Summary().Deleting, "the others may be asked yet")
	w = c.mustRecover(nodeB, nodeC).mustStart(nodeB, nodeC)
	at := w.write("two", nodeB, nodeC)
	require.Equal(t, fencing.Epoch(2), w.claim.Epoch)
	late := c.nodes[nodeB].Delete(c.header(nodeB, deleter(2)))
	require.ErrorIs(t, late, fencing.ErrLostRace)
	c.repairTombstone(nodeA)
	require.Zero(t, c.nodes[nodeA].Summary().Deleting, "it can never be in force")
	require.Zero(t, c.restart(nodeA, 0).Summary().Deleting, "durably")
	r, err := c.recover(nodeA, nodeB)
	require.NoError(t, err)
	require.Equal(t, at.TxID, r.Prev.Last)
}

// M8: the same, and the delete is finished instead: by a second one, or, where it was in force already, by
// whoever hears so.
func TestM8_CutOffDeleteIsFinished(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(c.ids()...)
	w.write("one", c.ids()...)
	require.NoError(t, c.nodes[nodeA].Delete(c.header(nodeA, deleter(2))))
	require.NoError(t, c.nodes[nodeB].Delete(c.header(nodeB, deleter(3))))
	require.False(t, c.inForce(), "tombstones of two claims are not added up")
	_, err := c.recover()
	require.ErrorIs(t, err, recovery.ErrNoQuorum)
	for _, id := range []quorum.NodeID{nodeA, nodeB} {
		require.NoError(t, c.nodes[id].Delete(c.header(id, deleter(4))))
	}
	require.True(t, c.inForce())
	for _, id := range c.ids() {
		c.repairTombstone(id)
		require.True(t, c.nodes[id].Deleted(), id)
	}
	require.True(t, c.inForce(), "it stays so when the marks have given way to the empty config")
}

// M8: evidence against an older tombstone does not lift a newer one.
func TestM8_LiftIsOfOneClaim(t *testing.T) {
	c := newCluster(t)
	require.NoError(t, c.nodes[nodeA].Delete(c.header(nodeA, deleter(1))))
	c.mustRecover(nodeB, nodeC)
	require.True(t, rpc.TombstoneVoid(c.cfg, deleter(1), c.states(nodeA)))
	require.NoError(t, c.nodes[nodeA].Delete(c.header(nodeA, deleter(9))))
	require.NoError(t, c.nodes[nodeA].Lift(deleter(1)))
	require.Equal(t, deleter(9), c.nodes[nodeA].Summary().Deleting)
	require.False(t, rpc.TombstoneVoid(c.cfg, deleter(9), c.states(nodeA)))
}

// A delete that a crash or a full disk cuts short at any operation leaves the journal whole, marked or
// deleted, never without its data and alive.
func TestM8_DeleteCutOffAnywhere(t *testing.T) {
	for name, fault := range map[string]func(*faultfs.FS, int64){
		"crash": func(fs *faultfs.FS, k int64) { fs.CrashAt(fs.Mutations() + k + 1) },
		"no space": func(fs *faultfs.FS, k int64) {
			fs.Inject(faultfs.Rule{Op: faultfs.OpMutating, Nth: k + 1, Err: vfs.ErrNoSpace})
		},
	} {
		t.Run(name, func(t *testing.T) {
			for k, done := int64(0), false; !done; k++ {
				for _, percent := range []int{0, 100} {
					c := newCluster(t)
					at := c.mustRecover().mustStart(c.ids()...).write("one", c.ids()...)
					m := c.nodes[nodeA]
					fault(m.fs, k)
					err := m.Delete(c.header(nodeA, deleter(5)))
					if err == nil {
						err = m.Reclaim(c.header(nodeA, deleter(5)))
					}
					if done = err == nil; done {
						require.Greater(t, k, int64(10), "it got through")
					}
					after := c.restart(nodeA, percent)
					if !after.Summary().Deleted {
						require.False(t, done)
						require.Equal(t, at, c.copyAt(nodeA, 1).Last, "the data is there (%d)", k)
						continue
					}
					names, err := after.disk.List(dir + "/segments")
					require.NoError(t, err)
					require.Empty(t, names, "it goes on where it was (%d)", k)
					require.Empty(t, after.Segments())
				}
			}
		})
	}
}

// N2: a tombstone that cannot be read counts as one.
func TestN2_UnreadableTombstone(t *testing.T) {
	c := newCluster(t)
	require.NoError(t, c.nodes[nodeA].Delete(c.header(nodeA, deleter(5))))
	disk := c.nodes[nodeA].disk
	require.NoError(t, disk.FlipBit(dir+"/"+tombstoneFile, 30, 1))
	m := c.kill(nodeA)
	require.ErrorIs(t, m.Usable(), rpc.ErrUnknownNode)
	_, err := m.NewEpoch(c.header(nodeA, fencing.Claim{Epoch: 6, Writer: fencing.WriterID{6}}))
	require.ErrorIs(t, err, rpc.ErrUnknownNode)
}

// M8: a deleted journal is gone. Where a newer config came after it, from a change that was under way, it
// came back: with no data, and as a member whose "nothing here" counts.
func TestHole_M8ConfigBringsADeletedJournalBack(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(c.ids()...)
	w.write("gone", c.ids()...)
	m := c.nodes[nodeA]
	require.NoError(t, c.delete(m))
	empty, later := m.Config(), c.cfg
	later.Version = empty.Version + 1
	require.ErrorIs(t, m.InstallConfig(later), rpc.ErrJournalDeleted)
	require.NoError(t, m.InstallConfig(empty))
	require.True(t, m.Deleted())
	c.restart(nodeA, 0)
	require.True(t, c.nodes[nodeA].Deleted())
}
