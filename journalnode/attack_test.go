package journalnode_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/wire"
	"github.com/quorumjournal/qjm/segments"
)

// The tests in attack_test.go files show holes: each fails until its hole is mended.

type rig struct {
	t     *testing.T
	nodes []rpc.Node
	heads []rpc.Header
}

func newRig(t *testing.T) *rig {
	c := testcluster.Start(t, testcluster.Options{})
	cl := c.Client()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, cl.CreateJournal(ctx, "a"))
	r := &rig{t: t}
	for _, addr := range c.Endpoints() {
		n, err := (&wire.Dialer{}).Dial(addr)
		require.NoError(t, err)
		t.Cleanup(func() { _ = n.Close() })
		info, err := n.Info(ctx)
		require.NoError(t, err)
		r.nodes = append(r.nodes, n)
		r.heads = append(r.heads, rpc.Header{
			Journal: rpc.JournalIDOf(info.Cluster, "a"), ConfigVersion: 1, Incarnation: info.Incarnation,
			Claim: fencing.Claim{Epoch: 5, Writer: fencing.WriterID{1}},
		})
	}
	return r
}

func (r *rig) stream(i int) rpc.WriteStream {
	s, err := r.nodes[i].Write(r.t.Context(), r.heads[i])
	require.NoError(r.t, err)
	r.t.Cleanup(s.Close)
	return s
}

type said struct {
	r   rpc.WriteReply
	err error
}

func replies(s rpc.WriteStream) <-chan said {
	ch := make(chan said, 64)
	go func() {
		for {
			r, err := s.Recv()
			ch <- said{r, err}
			if err != nil {
				return
			}
		}
	}()
	return ch
}

func next(t *testing.T, ch <-chan said, what string) said {
	t.Helper()
	select {
	case s := <-ch:
		return s
	case <-time.After(3 * time.Second):
		t.Fatalf("%s: nothing comes back", what)
		return said{}
	}
}

func chain(t *testing.T, epoch fencing.Epoch, n int) (frames []segments.Frame) {
	var prev segments.Position
	for range n {
		var b segments.Builder
		b.Reset(prev.TxID+1, epoch)
		require.NoError(t, b.Add([]byte("txn")))
		f, err := b.Seal(prev.Digest, segments.SealOptions{})
		require.NoError(t, err)
		prev = f.Position()
		frames = append(frames, f)
	}
	return frames
}

// A message that the node refuses ends the stream, but Write waits for its receiving goroutine, which
// waits for the next message; the status goes out when Write returns. A writer whose Start was refused
// sends no heartbeat (it is not started), so neither side ever learns: deadlock.
func TestAttackRefusalIsNotDeliveredUntilTheWriterSendsMore(t *testing.T) {
	r := newRig(t)
	s := r.stream(0)
	ch := replies(s)
	prev := segments.End{First: 7, Last: 3} // Start of segment 4 after something absurd
	require.NoError(t, s.Send(rpc.WriteRequest{Seq: 1, Start: &prev}))
	got := next(t, ch, "refused Start")
	if got.err == nil {
		// some prevs are taken; a second Start of the same segment with another prev is a breach
		other := segments.End{First: 1, Last: 3, Digest: segments.Digest{9}}
		require.NoError(t, s.Send(rpc.WriteRequest{Seq: 2, Start: &other}))
		got = next(t, ch, "refused Start")
	}
	require.Error(t, got.err)
}

// W5: a Fill whose target the node has reached already (frames of an older stream of the same writer
// came in between) is answered by nothing. The writer waits for an answer before it sends more.
func TestAttackFillThatIsDoneIsNotAnswered(t *testing.T) {
	r := newRig(t)
	s := r.stream(0)
	ch := replies(s)
	require.NoError(t, s.Send(rpc.WriteRequest{Seq: 1, Start: &segments.End{}}))
	require.NoError(t, next(t, ch, "Start").err)
	fs := chain(t, 5, 3)
	require.NoError(t, s.Send(rpc.WriteRequest{Seq: 2, Frames: fs}))
	require.Equal(t, fs[2].Position(), next(t, ch, "frames").r.At)
	require.NoError(t, s.Send(rpc.WriteRequest{Seq: 3, Fill: &rpc.Fill{Segment: 1, Target: fs[1].Position(), Sources: []quorum.NodeID{"n2"}}}))
	got := next(t, ch, "Fill up to a position that is held")
	require.NoError(t, got.err)
}

// W5: a source that ends before the target (it was restarted, and cut its tail; its old ack is still in
// the writer's table) looks like a fill that went well: no FillFailed, no further frames, for ever.
func TestAttackFillFromAShortSourceIsNotReported(t *testing.T) {
	r := newRig(t)
	fs := chain(t, 5, 3)
	s2 := r.stream(1)
	ch2 := replies(s2)
	require.NoError(t, s2.Send(rpc.WriteRequest{Seq: 1, Start: &segments.End{}}))
	require.NoError(t, next(t, ch2, "Start").err)
	require.NoError(t, s2.Send(rpc.WriteRequest{Seq: 2, Frames: fs[:2]}))
	require.Equal(t, fs[1].Position(), next(t, ch2, "frames").r.At)

	s := r.stream(0)
	ch := replies(s)
	require.NoError(t, s.Send(rpc.WriteRequest{Seq: 1, Start: &segments.End{}}))
	require.NoError(t, next(t, ch, "Start").err)
	require.NoError(t, s.Send(rpc.WriteRequest{Seq: 2, Fill: &rpc.Fill{Segment: 1, Target: fs[2].Position(), Sources: []quorum.NodeID{"n2"}}}))
	require.Equal(t, fs[1].Position(), next(t, ch, "fill").r.At)
	got := next(t, ch, "Fill that cannot reach its target")
	require.Equal(t, rpc.FillFailed, got.r.Kind)
}
