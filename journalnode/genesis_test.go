package journalnode_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

func (b *bed) phase(i int) rpc.Phase { return b.info(i).Phase }

func (b *bed) wait(d time.Duration) { pass(d) }

func TestN4_BlankFoundsNothingAlone(t *testing.T) {
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

func TestN4_PowerCutsDuringFounding(t *testing.T) {
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
func TestN4_WipedDuringFounding(t *testing.T) {
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
func TestN4_WipedAfterwardsStaysOut(t *testing.T) {
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
		require.ErrorIs(b, n.InstallConfig(b.ctx, rpc.JournalSummary{ID: id, Name: "j", Config: b.founders()}), rpc.ErrUnknownNode)
		_, err = n.Segments(b.ctx, rpc.SegmentsRequest{Journal: id})
		require.ErrorIs(b, err, rpc.ErrUnknownNode)
		for i := range 2 {
			require.NoError(b, b.Nodes[i].Ready())
		}
	})
}

// Requests name the storage they are meant for (N1).
func TestN1_RequestForAnotherIncarnation(t *testing.T) {
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
func TestN4_RestartIsNoFounding(t *testing.T) {
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

// TestN4_FoundingServesNothing: n1 has written the record, and does not know whether the others have: no
// journal, no promise, no data answer, through whatever door. It says who it is, and no more.
func TestN4_FoundingServesNothing(t *testing.T) {
	run(t, testcluster.Options{Idle: true}, func(b *bed) {
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			if c.From != "client" && c.To == "n1" {
				return memnet.Drop
			}
			return memnet.Deliver
		})
		for i := range b.Nodes {
			b.StartNode(i)
		}
		b.wait(10 * time.Second) // n1 hears n2 and n3, which do not hear it, and stay blank
		require.Equal(b, []rpc.Phase{rpc.Founding, rpc.Blank, rpc.Blank}, []rpc.Phase{b.phase(0), b.phase(1), b.phase(2)})
		id := rpc.JournalIDOf(b.info(0).Cluster, "j")
		for i := range b.Nodes {
			n, h := b.node(i), b.header(i, id, 1, writerID())
			for name, ask := range b.everyRequest(n, h) {
				require.ErrorIs(b, ask(), rpc.ErrNotFounded, "%s of n%d", name, i+1)
			}
			require.ErrorIs(b, b.Nodes[i].Ready(), rpc.ErrNotFounded)
			names, err := b.Disks[i].List(b.Dir(i) + "/journals")
			require.NoError(b, err)
			require.Empty(b, names)
		}
		b.Net.Fault(nil)
		b.founded()
	})
}

// everyRequest lists what a node is asked about a journal, Info aside.
func (b *bed) everyRequest(n rpc.Node, h rpc.Header) map[string]func() error {
	end := segments.End{First: 1, Last: 1, Digest: segments.Digest{1}}
	chunks := func(c rpc.ChunkStream, err error) error {
		if err == nil {
			_, err = c.Recv()
		}
		return err
	}
	return map[string]func() error{
		"Journals": func() error { _, err := n.Journals(b.ctx); return err },
		"State":    func() error { _, err := n.State(b.ctx, h.Journal); return err },
		"NewEpoch": func() error { _, err := n.NewEpoch(b.ctx, h); return err },
		"Prepare":  func() error { _, err := n.Prepare(b.ctx, h, 1, nil); return err },
		"Accept": func() error {
			return n.Accept(b.ctx, h, recovery.AcceptRequest{Claim: h.Claim, End: end, Epoch: 1}, nil)
		},
		"Finalize":    func() error { return n.Finalize(b.ctx, h, end) },
		"Segments":    func() error { _, err := n.Segments(b.ctx, rpc.SegmentsRequest{Journal: h.Journal}); return err },
		"ReadSegment": func() error { return chunks(n.ReadSegment(b.ctx, rpc.ReadRequest{Journal: h.Journal, Segment: 1})) },
		"Tail":        func() error { return chunks(n.Tail(b.ctx, rpc.TailRequest{Journal: h.Journal, From: 1})) },
		"Write": func() error {
			w, err := n.Write(b.ctx, h)
			if err != nil {
				return err
			}
			defer w.Close()
			_, err = w.Recv()
			return err
		},
	}
}

// TestN4_BlankNodeThatIsNamedGoesOn: n3 lost the power before it wrote the record, or wrote it and did not
// hear the end; the others are founded. It writes the record, and asks nobody else.
func TestN4_BlankNodeThatIsNamedGoesOn(t *testing.T) {
	run(t, testcluster.Options{Idle: true}, func(b *bed) {
		b.StartNode(2)
		blank := b.Disks[2].CrashClone(memfs.CrashOptions{})
		b.StartNode(0)
		b.StartNode(1)
		cluster := b.founded()
		b.StopNode(2)
		b.StopNode(1)
		b.Disks[2] = blank
		b.StartNode(2)
		b.Until(time.Minute, "n3 goes on", func() bool { return b.phase(2) == rpc.Founded })
		require.Equal(b, cluster, b.info(2).Cluster)
		b.CrashNode(2, memfs.CrashOptions{})
		b.StartNode(2)
		require.Equal(b, rpc.Founded, b.phase(2), "it wrote the record")
		require.NoError(b, b.Nodes[2].Ready())
	})
}

// TestN4_TwoClustersAreNoticed: n3 is wiped, and asks n1 of its old cluster and, at n2's address, a node of
// another one. It joins neither, is not ready, and says why.
func TestN4_TwoClustersAreNoticed(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		b.founded()
		foreign := b.info(1)
		foreign.Cluster = rpc.ClusterID{9}
		foreign.Founders = nil
		b.WipeNode(2)
		b.StopNode(1)
		b.Net.Serve("n2", stranger{info: foreign})
		b.StartNode(2)
		b.Until(time.Minute, "n3 notices", func() bool { return errors.Is(b.Nodes[2].Ready(), journalnode.ErrTwoClusters) })
		b.wait(time.Minute)
		require.Equal(b, rpc.Blank, b.phase(2))
		_, err := b.node(2).Journals(b.ctx)
		require.ErrorIs(b, err, rpc.ErrUnknownNode)
	})
}

// stranger only says who it is.
type stranger struct {
	rpc.Service
	info rpc.NodeInfo
}

func (stranger) RaftStream(rpc.RaftConn) error { return rpc.ErrNotFounded }

func (s stranger) Info(context.Context) (rpc.NodeInfo, error) { return s.info, nil }
func (s stranger) Journals(context.Context) ([]rpc.JournalSummary, error) {
	return nil, rpc.ErrUnknownNode
}

func (stranger) SurveyGroup(context.Context) (rpc.GroupState, error) {
	return rpc.GroupState{}, rpc.ErrUnavailable
}

func (stranger) Catalog(context.Context, rpc.ReadStrength) (rpc.CatalogView, error) {
	return rpc.CatalogView{}, rpc.ErrNotFounded
}
