package journalnode_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/wire"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// The tests in the files holes_test.go show holes that a hostile review found; each failed before its hole was mended.

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
		var id segments.JournalID
		require.Eventually(t, func() bool { // a node that was founded last takes it over from a peer
			found, err := n.FindJournal(ctx, "a")
			if err == nil {
				id = found.ID
				_, err = n.State(ctx, id)
			}
			return err == nil
		}, 20*time.Second, 10*time.Millisecond)
		r.nodes = append(r.nodes, n)
		r.heads = append(r.heads, rpc.Header{
			Journal: id, ConfigVersion: 1, Incarnation: info.Incarnation,
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
func TestHole_RefusalIsNotDeliveredUntilTheWriterSendsMore(t *testing.T) {
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
func TestHole_FillThatIsDoneIsNotAnswered(t *testing.T) {
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
func TestHole_FillFromAShortSourceIsNotReported(t *testing.T) {
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

// S8, W2, W3, F3: a Fill is handled beside the owner's gate: neither promise, nor accepted record, nor
// poison is looked at. Where it answers with a position (main, since 067afdf) that is an ack without W2's
// conditions, and an acknowledged transaction is lost:
//  1. w1 (epoch 5): n1 holds 1,2; n3 holds 1; n2 has started and holds nothing, a Fill up to 1 is on its way.
//  2. w2 (epoch 6) on {n2,n3} chooses 1..1; the accept reaches n3 only. w2 dies.
//  3. w3 (epoch 7) on {n1,n2} chooses 1..2; the accept reaches n2 only. w3 dies.
//  4. The Fill arrives at n2: "from > target", Synced(2)@5. w1 counts n1+n2: txn 2 is acknowledged.
//  5. Recovery on {n1,n3}: n3's accepted epoch 6 beats n1's writer epoch 5: the segment ends at 1. LOST.
func TestHole_S8FillAcksForADeposedWriter(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	fs := chain(t, 5, 2)
	var streams []rpc.WriteStream
	var chs []<-chan said
	for i, frames := range [][]segments.Frame{fs, nil, fs[:1]} {
		s := r.stream(i)
		ch := replies(s)
		streams, chs = append(streams, s), append(chs, ch)
		require.NoError(t, s.Send(rpc.WriteRequest{Seq: 1, Start: &segments.End{}}))
		require.NoError(t, next(t, ch, "Start").err)
		if len(frames) > 0 {
			require.NoError(t, s.Send(rpc.WriteRequest{Seq: 2, Frames: frames}))
			require.Equal(t, frames[len(frames)-1].Position(), next(t, ch, "frames").r.At)
		}
	}
	claim := func(i int, e fencing.Epoch) rpc.Header {
		h := r.heads[i]
		h.Claim = fencing.Claim{Epoch: e, Writer: fencing.WriterID{byte(e)}}
		return h
	}
	promise := func(e fencing.Epoch, at ...int) {
		for _, i := range at {
			_, err := r.nodes[i].NewEpoch(ctx, claim(i, e))
			require.NoError(t, err)
		}
	}
	accept := func(i int, e fencing.Epoch, last segments.Frame, src quorum.NodeID) {
		end := segments.End{First: 1, Last: last.Last(), Digest: last.Digest()}
		h := claim(i, e)
		require.NoError(t, r.nodes[i].Accept(ctx, h, recovery.AcceptRequest{
			Claim: h.Claim, End: end, Epoch: 5, Sources: []quorum.NodeID{src},
		}, nil))
	}
	promise(6, 1, 2)
	accept(2, 6, fs[0], "n3")
	promise(7, 0, 1)
	accept(1, 7, fs[1], "n1")

	require.NoError(t, streams[1].Send(rpc.WriteRequest{Seq: 2, Fill: &rpc.Fill{Segment: 1, Target: fs[0].Position(), Sources: []quorum.NodeID{"n1"}}}))
	select {
	case got := <-chs[1]:
		if got.err != nil || got.r.Kind != rpc.Synced {
			return // refused: well
		}
		promise(8, 0, 2)
		var answers []recovery.Answer
		for _, i := range []int{0, 2} {
			a, err := r.nodes[i].Prepare(ctx, claim(i, 8), 1, []segments.TxID{1, 2})
			require.NoError(t, err)
			a.Node = quorum.Key{ID: []quorum.NodeID{"n1", "n2", "n3"}[i], Incarnation: r.heads[i].Incarnation}
			answers = append(answers, a)
		}
		st, err := r.nodes[0].State(ctx, r.heads[0].Journal)
		require.NoError(t, err)
		ch, _, err := recovery.Choose(st.Summary.Config, 1, answers)
		require.NoError(t, err)
		t.Fatalf("n2, which promised epoch 7, told the writer of epoch %d Synced(%s): with n1 that is a majority, txn 2 is acknowledged; recovery on {n1,n3} ends the segment at %s", got.r.Epoch, got.r.At, ch.End)
	case <-time.After(2 * time.Second):
	}
}

// TestN5_LostManifestIsDamage: a founded node whose manifest is gone lost it. Starting as a node without
// journals would let each of them begin anew at epoch 0 under the old incarnation (S13).
func TestN5_LostManifestIsDamage(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Nodes: 1})
	cl := c.Client()
	require.NoError(t, cl.CreateJournal(t.Context(), "a"))
	c.StopNode(0)
	require.NoError(t, os.Remove(filepath.Join(c.Dir(0), "manifest")))
	err := c.TryStartNode(0)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "manifest")
}
