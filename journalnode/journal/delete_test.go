package journal

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
)

// A delete that a crash or a full disk cuts short at any operation leaves the journal whole, or deleted, never
// without its data and alive.
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
					err := m.Bury(quorum.Config{Version: m.Config().Version + 1})
					if done = err == nil; done {
						require.Greater(t, k, int64(5), "it got through")
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

// Q8: a journal that is entombed keeps its data, wherever that is cut off, and serves nothing of it; a delete
// that comes again removes nothing either.
func TestQ8_EntombedKeepsItsData(t *testing.T) {
	for k, done := int64(0), false; !done; k++ {
		for _, percent := range []int{0, 100} {
			c := newCluster(t)
			at := c.mustRecover().mustStart(c.ids()...).write("one", c.ids()...)
			m := c.nodes[nodeA]
			empty := quorum.Config{Version: m.Config().Version + 1000}
			m.fs.CrashAt(m.fs.Mutations() + k + 1)
			err := m.Entomb(empty)
			if done = err == nil; done {
				require.Greater(t, k, int64(4), "it got through")
			}
			after := c.restart(nodeA, percent)
			names, err := after.disk.List(dir + "/segments")
			require.NoError(t, err)
			require.NotEmpty(t, names, "the data is there (%d)", k)
			if !after.Summary().Deleted {
				require.Equal(t, at, c.copyAt(nodeA, 1).Last)
				require.NoError(t, after.Entomb(empty))
			}
			require.True(t, after.Deleted())
			require.NoError(t, after.Bury(empty))
			after = c.restart(nodeA, percent)
			require.True(t, after.Deleted())
			again, err := after.disk.List(dir + "/segments")
			require.NoError(t, err)
			require.Equal(t, names, again)
		}
	}
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
