package libqjm

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// The tests in the files holes_test.go show holes that a hostile review found; each failed before its hole was mended.

// fakeNode answers State and Tail; all else panics.
type fakeNode struct {
	rpc.Node
	state rpc.JournalState
	err   error
	chunk rpc.Chunk
	tails int
}

func (f *fakeNode) State(context.Context, segments.JournalID) (rpc.JournalState, error) {
	return f.state, f.err
}

func (f *fakeNode) InstallConfig(context.Context, rpc.JournalSummary) error { return f.err }

func (f *fakeNode) Tail(context.Context, rpc.TailRequest) (rpc.ChunkStream, error) {
	f.tails++
	return &fakeChunks{chunks: []rpc.Chunk{f.chunk}}, f.err
}

func (f *fakeNode) Close() error { return nil }

type fakeChunks struct{ chunks []rpc.Chunk }

func (f *fakeChunks) Recv() (rpc.Chunk, error) {
	if len(f.chunks) == 0 {
		return rpc.Chunk{}, io.EOF
	}
	c := f.chunks[0]
	f.chunks = f.chunks[1:]
	return c, nil
}

func (f *fakeChunks) Close() {}

func fakeClient(nodes map[quorum.NodeID]*fakeNode) *Client {
	c := &Client{
		opts: Options{}.withDefaults(), log: slog.New(slog.DiscardHandler), cluster: rpc.ClusterID{1},
		addrs: map[quorum.NodeID]place{}, conns: map[string]rpc.Node{},
		names: names{ids: map[string]segments.JournalID{"a": {1}}, dead: map[segments.JournalID]bool{}},
	}
	c.opts.Patience = 300 * time.Millisecond
	c.ctx, c.cancel = context.WithCancel(context.Background())
	for id, n := range nodes {
		c.addrs[id], c.conns[string(id)] = place{addr: string(id)}, n
	}
	return c
}

var fakeConfig = quorum.NewConfig(1,
	quorum.Member{ID: "n1", Incarnation: quorum.Incarnation{1}},
	quorum.Member{ID: "n2", Incarnation: quorum.Incarnation{2}},
	quorum.Member{ID: "n3", Incarnation: quorum.Incarnation{3}})

func fakeState(inc byte) rpc.JournalState {
	return rpc.JournalState{
		Incarnation: quorum.Incarnation{inc}, Member: true, DataKnown: true,
		Summary: rpc.JournalSummary{Config: fakeConfig},
	}
}

// D4, N2, S6: n1 and n2 acked txn 1. n1's newest segment is damaged: it answers, its data is unknown. n2
// is slow or down. n3 never got anything. A linearizable read heard data from n3 alone, no majority, and
// must not say that the journal is empty.
func TestHole_D4LinearizableReadOverAMinorityOfDataAnswers(t *testing.T) {
	damaged := fakeState(1)
	damaged.DataKnown = false
	damaged.Answer = recovery.Answer{Newest: 1, Copy: recovery.Copy{Segment: 1, State: recovery.Unknown, Epoch: 1}}
	empty := fakeState(3)
	empty.Answer = recovery.Answer{Copy: recovery.Copy{Segment: 1, State: recovery.Absent}}
	c := fakeClient(map[quorum.NodeID]*fakeNode{
		"n1": {state: damaged}, "n2": {err: rpc.ErrUnavailable}, "n3": {state: empty},
	})
	end, err := c.linearizableEnd(t.Context(), "a")
	require.Error(t, err, "says that the journal ends at %d, though acknowledged txn 1 lies on n1 (damaged) and n2 (away)", end)
}

func framesFor(t *testing.T, txns ...string) (frames []segments.Frame, positions []segments.Position) {
	var prev segments.Position
	for _, txn := range txns {
		var b segments.Builder
		b.Reset(prev.TxID+1, 1)
		require.NoError(t, b.Add([]byte(txn)))
		f, err := b.Seal(prev.Digest, segments.SealOptions{})
		require.NoError(t, err)
		prev = f.Position()
		frames, positions = append(frames, f), append(positions, prev)
	}
	return frames, positions
}

func fakeReader(nodes map[quorum.NodeID]*fakeNode) *Reader {
	c := fakeClient(nodes)
	return &Reader{
		c: c, ref: journalRef{name: "a", cfg: fakeConfig}, next: 1, target: 2,
		nodes: []quorum.NodeID{"n1", "n2", "n3"},
	}
}

// D3: n1's first chunk is bad: one bit of Prev is flipped (it is covered by no checksum). The reader
// believes it before anything is verified, keeps it after it moved on, and refuses n2 and n3 for ever,
// in a loop without a pause.
func TestHole_D3OneBadChunkSpoilsTheReaderForAllNodes(t *testing.T) {
	fs, _ := framesFor(t, "one", "two")
	all := append(append([]byte(nil), fs[0].Bytes()...), fs[1].Bytes()...)
	good := rpc.Chunk{Segment: 1, Frames: all}
	bad := good
	bad.Prev.Digest[0] ^= 1
	nodes := map[quorum.NodeID]*fakeNode{"n1": {chunk: bad}, "n2": {chunk: good}, "n3": {chunk: good}}
	r := fakeReader(nodes)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	txn, err := r.Next(ctx)
	t.Logf("streams opened in 1 s: %d, %d, %d", nodes["n1"].tails, nodes["n2"].tails, nodes["n3"].tails)
	require.NoError(t, err)
	require.EqualValues(t, 1, txn.ID)
}

// "In order, without gap": a node that answers From=1 with the frame of txid 2 is believed: txid 1 is
// skipped without a word.
func TestHole_D3FirstChunkMaySkipTransactions(t *testing.T) {
	fs, ps := framesFor(t, "one", "two")
	all := append(append([]byte(nil), fs[0].Bytes()...), fs[1].Bytes()...)
	good := rpc.Chunk{Segment: 1, Frames: all}
	late := rpc.Chunk{Segment: 1, Prev: ps[0], Frames: fs[1].Bytes()}
	r := fakeReader(map[quorum.NodeID]*fakeNode{"n1": {chunk: late}, "n2": {chunk: good}, "n3": {chunk: good}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	txn, err := r.Next(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 1, txn.ID, "the reader was opened at 1 and showed %d first: a gap", txn.ID)
}

// The same with From in the middle of a journal, where the node's answer is damaged in the frame itself:
// Prev is right, the frame is bad; this must move on to n2.
func TestHole_D3BadFrameMovesOn(t *testing.T) {
	fs, _ := framesFor(t, "one", "two")
	broken := append([]byte(nil), fs[0].Bytes()...)
	broken[len(broken)-1] ^= 1
	good := rpc.Chunk{Segment: 1, Frames: fs[0].Bytes()}
	r := fakeReader(map[quorum.NodeID]*fakeNode{"n1": {chunk: rpc.Chunk{Segment: 1, Frames: broken}}, "n2": {chunk: good}, "n3": {chunk: good}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	txn, err := r.Next(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 1, txn.ID)
	if errors.Is(err, io.EOF) {
		t.Fatal("end")
	}
}
