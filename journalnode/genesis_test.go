package journalnode_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
)

func (b *bed) phase(i int) rpc.Phase { return b.info(i).Phase }

func (b *bed) wait(d time.Duration) { pass(d) }

func TestGenesis_AnyOrderOneLate(t *testing.T) {
	for _, order := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			run(t, testcluster.Options{Idle: true}, func(b *bed) {
				b.StartNode(order[0])
				b.wait(time.Minute)
				require.Equal(b, rpc.Blank, b.phase(order[0]), "a blank directory founds nothing alone")
				require.ErrorIs(b, b.Nodes[order[0]].Ready(), rpc.ErrNotFounded)
				b.StartNode(order[1])
				b.wait(time.Minute)
				require.Equal(b, rpc.Blank, b.phase(order[1]))
				_, err := b.node(order[1]).Journals(b.ctx)
				require.ErrorIs(b, err, rpc.ErrNotFounded)
				b.StartNode(order[2])
				cluster := b.founded()
				for i := range b.Nodes {
					require.Equal(b, cluster, b.info(i).Cluster)
					require.Len(b, b.info(i).Founders, 3)
				}
			})
		})
	}
}

func TestGenesis_PowerCutsDuringFounding(t *testing.T) {
	for seed := range 30 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			run(t, testcluster.Options{}, func(b *bed) {
				for k := range 3 { // each node loses its power once, at some moment
					b.wait(time.Duration((seed*7+k*13)%45) * time.Millisecond)
					i := (seed + k) % 3
					b.CrashNode(i, memfs.CrashOptions{UnsyncedPercent: (seed % 2) * 100})
					b.StartNode(i)
				}
				cluster := b.founded()
				for i := range b.Nodes {
					require.Equal(b, cluster, b.info(i).Cluster)
					require.NoError(b, b.Nodes[i].Ready())
				}
			})
		})
	}
}

// While every node is blank or founding the record may be made anew: a disk that is replaced during
// founding does no harm.
func TestGenesis_WipedDuringFounding(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		b.Net.Cut("n1", "n3") // n1 can never hear that all wrote it, n2 and n3 neither
		b.Net.Cut("n2", "n3")
		b.Net.Cut("n3", "n1")
		b.wait(time.Second)
		for i := range b.Nodes {
			require.NotEqual(b, rpc.Founded, b.phase(i))
		}
		b.WipeNode(2)
		b.StartNode(2)
		b.Net.HealAll()
		cluster := b.founded()
		for i := range b.Nodes {
			require.Equal(b, cluster, b.info(i).Cluster)
			require.NoError(b, b.Nodes[i].Ready())
		}
	})
}

// A disk wiped after founding is another storage: it stays out, and counts nowhere (N1, N4).
func TestGenesis_WipedAfterwardsStaysOut(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		id := b.journal("j")
		old := b.info(2).Incarnation
		b.WipeNode(2)
		b.StartNode(2)
		b.Until(time.Minute, "it knows that it is out", func() bool { return b.Nodes[2].Ready() != nil && b.phase(2) == rpc.Blank })
		b.wait(time.Minute)
		require.Equal(b, rpc.Blank, b.phase(2))
		require.NotEqual(b, old, b.info(2).Incarnation)
		n := b.node(2)
		_, err := n.State(b.ctx, id)
		require.ErrorIs(b, err, rpc.ErrUnknownNode)
		_, err = n.NewEpoch(b.ctx, b.header(2, id, 1, writerID()))
		require.ErrorIs(b, err, rpc.ErrUnknownNode)
		require.ErrorIs(b, n.CreateJournal(b.ctx, rpc.JournalSummary{ID: id, Name: "j"}), rpc.ErrUnknownNode)
		_, err = n.Segments(b.ctx, rpc.SegmentsRequest{Journal: id})
		require.ErrorIs(b, err, rpc.ErrUnknownNode)
		for i := range 2 {
			require.NoError(b, b.Nodes[i].Ready())
		}
	})
}

// Requests name the storage they are meant for (N1).
func TestRequestForAnotherIncarnation(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		id := b.journal("j")
		h := b.header(0, id, 1, writerID())
		h.Incarnation = b.info(1).Incarnation
		_, err := b.node(0).NewEpoch(b.ctx, h)
		var wrong *rpc.WrongNodeError
		require.ErrorAs(b, err, &wrong)
		require.Equal(b, b.info(0).Incarnation, wrong.Want)
		h = b.header(0, id, 1, writerID())
		h.ConfigVersion = 2
		_, err = b.node(0).NewEpoch(b.ctx, h)
		require.ErrorIs(b, err, rpc.ErrConfig)
		st, err := b.node(0).State(b.ctx, id)
		require.NoError(b, err)
		require.True(b, st.Promised.IsZero(), "none of it had an effect")
	})
}

// Two of three nodes restart and the third comes later: what is founded stays founded.
func TestGenesis_RestartIsNoFounding(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		cluster := b.founded()
		for i := range b.Nodes {
			b.CrashNode(i, memfs.CrashOptions{})
		}
		b.StartNode(1)
		require.Equal(b, rpc.Founded, b.phase(1), "without hearing anybody")
		require.Equal(b, cluster, b.info(1).Cluster)
	})
}
