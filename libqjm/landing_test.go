package libqjm

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/replication"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// bench is a writer on nodes that are played by the test: streams that keep what they are sent.
type bench struct {
	*Writer
	t       testing.TB
	streams []*keptStream
}

// keptStream hands what it is sent to the test.
type keptStream struct {
	rpc.WriteStream
	send func(rpc.WriteRequest) error

	mu  sync.Mutex
	got []rpc.WriteRequest
}

func (s *keptStream) Ready() bool { return true }

func (s *keptStream) Send(m rpc.WriteRequest) error {
	if s.send != nil {
		return s.send(m)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, m)
	return nil
}

// newBench returns a writer whose segment is started on all of n nodes.
func newBench(t testing.TB, n int, opts WriterOptions) *bench {
	t.Helper()
	w := &Writer{opts: opts.withDefaults()}
	var members []quorum.Member
	for i := range n {
		members = append(members, quorum.Member{ID: quorum.NodeID('a' + rune(i)), Incarnation: quorum.Incarnation{byte(i + 1)}})
	}
	w.ref.cfg = quorum.NewConfig(1, members...)
	w.recovered.Claim = fencing.Claim{Epoch: 1, Writer: fencing.WriterID{1}}
	w.core = replication.New(w.ref.cfg, w.recovered.Claim, segments.End{}, replication.Options{})
	w.in.opts, w.in.next, w.in.epoch = &w.opts, 1, 1
	w.era = &era{cfg: w.ref.cfg}
	b := &bench{Writer: w, t: t}
	for _, m := range members {
		s := new(keptStream)
		ch := &channel{w: w, era: w.era, member: m, kick: make(chan struct{}, 1), sending: make(turn, 1)}
		w.era.chs, b.streams = append(w.era.chs, ch), append(b.streams, s)
		ch.use(s)
	}
	w.mu.Lock()
	w.step()
	d := w.direct()
	w.mu.Unlock()
	d.send()
	for i := range members {
		b.answer(i, rpc.Started, segments.Position{})
	}
	return b
}

func (b *bench) reply(i int, kind rpc.ReplyKind, at segments.Position) rpc.WriteReply {
	return rpc.WriteReply{Kind: kind, Segment: 1, Epoch: 1, ConfigVersion: 1, Incarnation: b.era.chs[i].member.Incarnation, At: at}
}

func (b *bench) answer(i int, kind rpc.ReplyKind, at segments.Position) {
	b.t.Helper()
	if err := b.era.chs[i].handle(b.reply(i, kind, at)); err != nil {
		b.t.Errorf("answer of %d: %v", i, err)
	}
}

// W6: a batch that was spread over frames, of which the first was handed over, may be there in part: its error is no
// definite refusal though its last transaction was given to nobody.
func TestW6_BatchSpreadOverFramesIsNoDefiniteRefusal(t *testing.T) {
	b := newBench(t, 3, WriterOptions{FrameBytes: 1000, FramesInFlight: 1})
	spread, err := b.AppendBatchAsync(t.Context(), [][]byte{make([]byte, 900), make([]byte, 900)})
	require.NoError(t, err)
	behind, err := b.AppendAsync(t.Context(), make([]byte, 900))
	require.NoError(t, err)
	require.Len(t, b.flying, 1)
	b.mu.Lock()
	b.end(errors.New("over"))
	b.mu.Unlock()
	_, err = spread.Wait(t.Context())
	require.True(t, MayHaveCommitted(err), "%v", err)
	_, err = behind.Wait(t.Context())
	require.Error(t, err)
	require.False(t, MayHaveCommitted(err), "%v", err)
}

// F5: what recovery kept is committed; what it did not keep, and what was in no frame yet, goes again under its txids
// in the new epoch, is not bound to anything until then, and counts for the queue's bound.
func TestF5_WhatIsUnderWayWhenAWriterOpensAnew(t *testing.T) {
	b := newBench(t, 3, WriterOptions{FrameBytes: 1000, FramesInFlight: 2})
	var fs []Future
	for i := range 3 {
		f, err := b.AppendAsync(t.Context(), append(make([]byte, 999), byte(i)))
		require.NoError(t, err)
		fs = append(fs, f)
	}
	require.Len(t, b.flying, 2)
	kept := b.flying[0].frame.Position()
	res := recovery.Result{
		Claim: fencing.Claim{Epoch: 2, Writer: fencing.WriterID{2}},
		Prev:  segments.End{First: 1, Last: kept.TxID, Digest: kept.Digest},
	}
	b.mu.Lock()
	require.NoError(t, b.adopt(res))
	b.mu.Unlock()
	select {
	case <-fs[0].Done():
	default:
		t.Fatal("it is committed")
	}
	id, err := fs[0].Wait(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, id)
	require.Empty(t, b.flying)
	require.Equal(t, 2000, b.in.queued)
	for i, f := range fs[1:] {
		select {
		case <-f.Done():
			t.Fatal("it is not committed")
		default:
		}
		require.False(t, f.b.flown)
		got := b.in.take(false)
		require.Same(t, f.b, got)
		b.mu.Lock()
		b.seal(got)
		b.mu.Unlock()
		require.NoError(t, b.Err())
		require.EqualValues(t, i+2, got.frame.First())
		require.EqualValues(t, 2, got.frame.Epoch())
		require.NoError(t, got.frame.EachTxn(func(_ TxID, txn []byte) error {
			require.Equal(t, byte(i+1), txn[999])
			return nil
		}))
	}
	require.Zero(t, b.in.queued)
}

// F5: a journal that went on to what this writer did not write is somebody else's now.
func TestF5_OpensAnewOnItsOwnJournalOnly(t *testing.T) {
	b := newBench(t, 3, WriterOptions{})
	f, err := b.AppendAsync(t.Context(), []byte("mine"))
	require.NoError(t, err)
	b.mu.Lock()
	defer b.mu.Unlock()
	err = b.adopt(recovery.Result{
		Claim: fencing.Claim{Epoch: 3, Writer: fencing.WriterID{2}},
		Prev:  segments.End{First: 1, Last: 1, Digest: segments.Digest{9}},
	})
	require.ErrorIs(t, err, ErrFenced)
	require.Len(t, b.flying, 1)
	require.True(t, f.head.flown, "it may be there")
}

// A node that answers nothing is sent to by its own channel: neither callers nor the replies of others wait for it.
func TestDirect_OnlyWhereNobodyWaits(t *testing.T) {
	heard := func(b *bench, i int) bool { // whether the next frame goes to the node directly
		select {
		case <-b.era.chs[i].kick:
		default:
		}
		before := len(b.streams[i].got)
		_, err := b.AppendAsync(t.Context(), make([]byte, rpc.SendAheadBytes/2+1))
		require.NoError(t, err)
		at := b.core.Last()
		b.answer(1, rpc.Synced, at)
		b.answer(2, rpc.Synced, at)
		if len(b.streams[i].got) > before {
			return true
		}
		require.NotEmpty(t, b.era.chs[i].kick, "its channel is woken instead")
		return false
	}
	b := newBench(t, 3, WriterOptions{})
	require.True(t, heard(b, 0))
	require.True(t, heard(b, 0))
	require.False(t, heard(b, 0), "bytes under way")
	b = newBench(t, 3, WriterOptions{})
	b.era.chs[0].beats.sent = rpc.BeatsAhead + 1
	require.False(t, heard(b, 0), "heartbeats under way")
	b.era.chs[0].beats.answered = 1
	require.True(t, heard(b, 0))
	b = newBench(t, 3, WriterOptions{})
	lost := errors.New("lost")
	b.streams[0].send = func(rpc.WriteRequest) error { return lost }
	require.False(t, heard(b, 0))
	_, err := b.era.chs[0].sendNext(b.streams[0])
	require.ErrorIs(t, err, lost, "the frame counts as sent: nothing may follow it on this stream")
}

// Callers who come while replies are counted and others are woken: each is served, in the order of txids, whoever had
// the lock when.
func TestLand_NobodyIsLeftBehind(t *testing.T) {
	const nodes, each = 3, 3000
	for name, callers := range map[string]int{"one caller": 1, "few": 3, "many": 60} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nodes, WriterOptions{FrameBytes: 300, QueueBytes: 2000})
			var all, serving, sending sync.WaitGroup
			work, stop := make([]chan segments.Position, nodes), make(chan struct{})
			for i := range nodes {
				work[i] = make(chan segments.Position, 4096)
				b.streams[i].send = func(m rpc.WriteRequest) error {
					if n := len(m.Frames); n > 0 {
						work[i] <- m.Frames[n-1].Position()
					}
					return nil
				}
				serving.Go(func() { // the replies
					for at := range work[i] {
						b.answer(i, rpc.Synced, at)
					}
				})
				sending.Go(func() { // the channel's own sender
					for {
						select {
						case <-b.era.chs[i].kick:
						case <-stop:
							return
						}
						for more := true; more; {
							more, _ = b.era.chs[i].sendNext(b.streams[i])
						}
					}
				})
			}
			var acked atomic.Int64
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			for range callers {
				all.Go(func() {
					var last TxID
					for range each / callers {
						id, err := b.Append(ctx, make([]byte, 40))
						if err != nil || id <= last || b.Committed() < id {
							t.Errorf("txid %d behind %d, committed %d: %v", id, last, b.Committed(), err)
							return
						}
						last = id
						acked.Add(1)
					}
				})
			}
			all.Wait()
			require.EqualValues(t, each/callers*callers, acked.Load())
			close(stop)
			b.mu.Lock()
			b.end(ErrClosed)
			b.mu.Unlock()
			sending.Wait()
			for i := range nodes {
				close(work[i])
			}
			serving.Wait()
		})
	}
}
