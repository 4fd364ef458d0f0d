package journalnode_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/durable"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/journalnode"
)

// alone runs a founded cluster of one on a disk, until stop is called.
func alone(t *testing.T, fsys vfs.FS) (n *journalnode.Node, stop func()) {
	t.Helper()
	n, err := journalnode.Start(t.Context(), journalnode.Options{
		ID: "a", DataDir: "data", InitialCluster: []journalnode.Peer{{ID: "a", Addr: "a"}}, FS: fsys, ReserveBytes: smallReserve,
	})
	require.NoError(t, err)
	<-time.After(time.Second) // fake: it founds itself
	return n, func() { _ = n.Stop(t.Context()) }
}

func summary(t *testing.T, n *journalnode.Node, name string) rpc.JournalSummary {
	t.Helper()
	info, err := n.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, rpc.Founded, info.Phase)
	return rpc.JournalSummary{ID: rpc.JournalIDOf(info.Cluster, name), Name: name, Config: quorum.NewConfig(1, info.Founders...)}
}

// TestN5_CreatingCutOffAnywhere: the node dies at the k-th disk operation of creating its second journal,
// and what was not synced survives in part. Created and answered is there; not answered is there in full, or
// not at all and made again. Never is it damage, and never is the first journal touched, with its promise.
func TestN5_CreatingCutOffAnywhere(t *testing.T) {
	for _, spared := range []int{0, 50, 100} {
		for k := int64(1); ; k++ {
			answered := false
			synctest.Test(t, func(t *testing.T) {
				what := fmt.Sprintf("crash at operation %d, %d%% of the unsynced spared", k, spared)
				disk := memfs.New()
				faulty := faultfs.New(disk)
				n, stop := alone(t, faulty)
				one, two := summary(t, n, "one"), summary(t, n, "two")
				require.NoError(t, n.InstallConfig(t.Context(), one))
				info, err := n.Info(t.Context())
				require.NoError(t, err)
				head := rpc.Header{Journal: one.ID, ConfigVersion: 1, Incarnation: info.Incarnation}
				head.Claim.Epoch, head.Claim.Writer = 7, writerID()
				_, err = n.NewEpoch(t.Context(), head)
				require.NoError(t, err)
				faulty.CrashAfter(k)
				answered = n.InstallConfig(t.Context(), two) == nil
				after := disk.CrashClone(memfs.CrashOptions{UnsyncedPercent: spared, Rand: rand.New(rand.NewPCG(uint64(k), 5))})
				stop()

				n, stop = alone(t, after)
				defer stop()
				require.NoError(t, n.Ready(), what)
				st, err := n.State(t.Context(), one.ID)
				require.NoError(t, err, what)
				require.Equal(t, head.Claim, st.Promised, what)
				_, err = n.State(t.Context(), two.ID)
				if answered {
					require.NoError(t, err, what)
				}
				if err != nil {
					require.ErrorIs(t, err, rpc.ErrNoJournal, what)
					require.NoError(t, n.InstallConfig(t.Context(), two), what)
				}
				head.Journal = two.ID
				reply, err := n.NewEpoch(t.Context(), head)
				require.NoError(t, err, what)
				require.True(t, reply.DataKnown, what)
			})
			require.False(t, t.Failed())
			if answered {
				require.Greater(t, k, int64(10))
				break
			}
		}
	}
}

// TestN5_PresentAndNotListedIsBuiltAgain: whatever a creation that was cut off left in its directory, the
// next one makes a journal of it that promises and knows its data.
func TestN5_PresentAndNotListedIsBuiltAgain(t *testing.T) {
	for _, left := range [][]string{{}, {"fence"}, {"config"}, {"fence", "config"}, {"fence", "config", "VERSION"}} {
		t.Run(fmt.Sprint(left), func(t *testing.T) {
			run(t, testcluster.Options{Nodes: 1}, func(b *bed) {
				id := b.journal("j")
				dir := b.JournalDir(0)
				unlisted := b.Disks[0].CrashClone(memfs.CrashOptions{})
				b.StopNode(0)
				b.Disks[0] = unlisted
				for _, name := range []string{"fence", "config", "VERSION"} {
					if !slices.Contains(left, name) {
						require.NoError(b, unlisted.Remove(dir+"/"+name))
					}
				}
				require.NoError(b, durable.Save(unlisted, b.Dir(0)+"/manifest", [8]byte{'Q', 'J', 'M', 'M', 'A', 'N', 'I', 'F'}, 1, make([]byte, 4)))
				b.StartNode(0)
				require.NoError(b, b.Nodes[0].Ready(), "it is not damage")
				n := b.node(0)
				_, err := n.State(b.ctx, id)
				require.ErrorIs(b, err, rpc.ErrNoJournal, "nothing is answered from it")
				_, err = n.NewEpoch(b.ctx, b.header(0, id, 1, writerID()))
				require.ErrorIs(b, err, rpc.ErrNoJournal)
				require.NoError(b, n.InstallConfig(b.ctx, rpc.JournalSummary{ID: id, Name: "j", Config: b.founders()}))
				r, err := n.NewEpoch(b.ctx, b.header(0, id, 1, writerID()))
				require.NoError(b, err)
				require.True(b, r.DataKnown)
				b.CrashNode(0, memfs.CrashOptions{})
				b.StartNode(0)
				st, err := b.node(0).State(b.ctx, id)
				require.NoError(b, err)
				require.EqualValues(b, 1, st.Promised.Epoch)
			})
		})
	}
}
