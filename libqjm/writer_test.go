package libqjm_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

func TestAppend_AllWaysInOneOrder(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		id, err := w.Append(b.ctx, text(1))
		require.NoError(b, err)
		require.EqualValues(b, 1, id)
		f1, err := w.AppendAsync(b.ctx, text(2))
		require.NoError(b, err)
		f2, err := w.AppendBatchAsync(b.ctx, texts(3, 5))
		require.NoError(b, err)
		first, last, err := w.AppendBatch(b.ctx, texts(6, 7))
		require.NoError(b, err)
		require.Equal(b, [2]libqjm.TxID{6, 7}, [2]libqjm.TxID{first, last})
		for _, f := range []libqjm.Future{f1, f2} {
			select {
			case <-f.Done():
			default:
				require.FailNow(b, "what comes later is committed, and this is not")
			}
		}
		id, err = f2.Wait(b.ctx)
		require.NoError(b, err)
		require.EqualValues(b, 5, id)
		id, err = f1.Wait(b.ctx)
		require.NoError(b, err)
		require.EqualValues(b, 2, id)
		b.knows(7)
		require.Equal(b, upTo(1, 7), b.read(libqjm.ReaderOptions{}))
	})
}

func TestAppend_BytesAreCopied(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		buf := text(1)
		f, err := w.AppendAsync(b.ctx, buf)
		require.NoError(b, err)
		for i := range buf {
			buf[i] = 'x'
		}
		_, err = f.Wait(b.ctx)
		require.NoError(b, err)
		b.knows(1)
		require.Equal(b, upTo(1, 1), b.read(libqjm.ReaderOptions{})) // compares the content, too
	})
}

func TestAppend_ManyCallers(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writerWith(libqjm.WriterOptions{SegmentBytes: 8 << 10, QueueBytes: 4 << 10, FrameBytes: 1 << 10})
		const callers, each = 20, 25
		var mu sync.Mutex
		seen := map[libqjm.TxID]string{}
		var wg sync.WaitGroup
		errs := make(chan error, callers*each)
		for c := range callers {
			wg.Go(func() {
				last := libqjm.TxID(0)
				for i := range each {
					txn := bytes.Repeat([]byte{byte('a' + c)}, 50+i)
					id, err := w.Append(b.ctx, txn)
					if err != nil {
						errs <- err
						return
					}
					if id <= last {
						errs <- errors.New("txids do not rise for one caller")
					}
					mu.Lock()
					seen[id], last = string(txn), id
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			require.NoError(b, err)
		}
		require.NoError(b, w.Close(b.ctx))
		r, err := b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{})
		require.NoError(b, err)
		n := 0
		for txn, err := range r.All(b.ctx) {
			require.NoError(b, err)
			require.Equal(b, seen[txn.ID], string(txn.Data))
			n++
		}
		require.Equal(b, callers*each, n)
		segs, err := b.cl.Segments(b.ctx, "j")
		require.NoError(b, err)
		require.Greater(b, len(segs), 6, "it rolled by size")
	})
}

// TestMayHaveCommitted is W6's table: what is refused before it was handed to anybody is definitely not
// in the journal, and uses up no txid.
func TestMayHaveCommitted(t *testing.T) {
	requireRefused := func(b *bed, err error, is error) {
		b.Helper()
		require.ErrorIs(b, err, is)
		require.False(b, libqjm.MayHaveCommitted(err))
		var a *libqjm.AppendError
		require.ErrorAs(b, err, &a)
		require.Zero(b, a.First)
		require.Zero(b, a.Last)
	}
	t.Run("nil", func(t *testing.T) {
		require.False(t, libqjm.MayHaveCommitted(nil))
		require.False(t, libqjm.MayHaveCommitted(errors.New("something else")))
	})
	t.Run("too large and empty", func(t *testing.T) {
		run(t, testcluster.Options{}, func(b *bed) {
			w := b.writerWith(libqjm.WriterOptions{MaxTxnBytes: 10})
			_, err := w.Append(b.ctx, make([]byte, 11))
			requireRefused(b, err, libqjm.ErrTooLarge)
			_, _, err = w.AppendBatch(b.ctx, [][]byte{[]byte("ok"), make([]byte, 11)})
			requireRefused(b, err, libqjm.ErrTooLarge)
			_, err = w.Append(b.ctx, nil)
			requireRefused(b, err, libqjm.ErrEmpty)
			_, _, err = w.AppendBatch(b.ctx, nil)
			requireRefused(b, err, libqjm.ErrEmpty)
			_, _, err = w.AppendBatch(b.ctx, [][]byte{[]byte("ok"), {}})
			requireRefused(b, err, libqjm.ErrEmpty)
			id, err := w.Append(b.ctx, make([]byte, 10))
			require.NoError(b, err)
			require.EqualValues(b, 1, id)
		})
	})
	t.Run("closed", func(t *testing.T) {
		run(t, testcluster.Options{}, func(b *bed) {
			w := b.writer()
			require.NoError(b, w.Close(b.ctx))
			_, err := w.Append(b.ctx, text(1))
			requireRefused(b, err, libqjm.ErrClosed)
		})
	})
	t.Run("fenced before", func(t *testing.T) {
		run(t, testcluster.Options{}, func(b *bed) {
			w := b.writer()
			_, err := b.cl.Fence(b.ctx, "j")
			require.NoError(b, err)
			b.Until(time.Minute, "the writer notices by itself", func() bool { return w.Err() != nil })
			_, err = w.Append(b.ctx, text(1))
			requireRefused(b, err, libqjm.ErrFenced)
		})
	})
	t.Run("context over before", func(t *testing.T) {
		run(t, testcluster.Options{}, func(b *bed) {
			w := b.writerWith(libqjm.WriterOptions{QueueBytes: 4 << 10, FrameBytes: 4 << 10, FramesInFlight: 1})
			b.lose(map[string][]string{"n1": {"Write"}, "n2": {"Write"}, "n3": {"Write"}})
			for range 2 { // one under way, one that fills the queue
				_, err := w.AppendAsync(b.ctx, make([]byte, 4<<10))
				require.NoError(b, err)
			}
			_, err := w.Append(b.within(time.Second), text(1))
			requireRefused(b, err, libqjm.ErrQueueFull)
			require.ErrorIs(b, err, context.DeadlineExceeded)
			// One that waits for room when the writer ends was never handed over, either.
			waiting := make(chan error, 1)
			go func() { _, err := w.Append(b.ctx, text(1)); waiting <- err }()
			synctest.Wait()
			b.abandon(w)
			err = <-waiting
			require.False(b, libqjm.MayHaveCommitted(err), "%v", err)
		})
	})
	t.Run("context ends in flight", func(t *testing.T) {
		run(t, testcluster.Options{}, func(b *bed) {
			w := b.writer()
			b.lose(map[string][]string{"n1": {"Write"}, "n2": {"Write"}, "n3": {"Write"}})
			_, err := w.Append(b.within(time.Second), text(1))
			require.ErrorIs(b, err, context.DeadlineExceeded)
			require.True(b, libqjm.MayHaveCommitted(err))
			var a *libqjm.AppendError
			require.ErrorAs(b, err, &a)
			require.EqualValues(b, 1, a.First)
			require.EqualValues(b, 1, a.Last)
			b.Net.Fault(nil)
			b.Until(time.Minute, "it does commit", func() bool { return w.Committed() == 1 })
		})
	})
	t.Run("fenced in flight", func(t *testing.T) {
		run(t, testcluster.Options{}, func(b *bed) {
			w := b.writer()
			b.lose(map[string][]string{"n1": {"Write"}, "n2": {"Write"}, "n3": {"Write"}})
			f, err := w.AppendAsync(b.ctx, text(1))
			require.NoError(b, err)
			_, err = b.cl.Fence(b.ctx, "j")
			require.NoError(b, err)
			b.Net.Fault(nil)
			_, err = f.Wait(b.ctx)
			require.ErrorIs(b, err, libqjm.ErrFenced)
			require.True(b, libqjm.MayHaveCommitted(err))
		})
	})
}

func TestQuorumLoss_AppendWaitsAndGoesOn(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 3)
		b.StopNode(0)
		b.write(w, 4, 4)
		b.StopNode(1)
		f, err := w.AppendAsync(b.ctx, text(5))
		require.NoError(b, err)
		_, err = f.Wait(b.within(time.Minute))
		require.ErrorIs(b, err, context.DeadlineExceeded)
		require.NoError(b, w.Err(), "it is not dead")
		require.EqualValues(b, 4, w.Committed())
		b.StartNode(0)
		id, err := f.Wait(b.ctx)
		require.NoError(b, err)
		require.EqualValues(b, 5, id)
		b.write(w, 6, 6)
		require.EqualValues(b, 1, w.Status().Segment)
	})
}

func TestFenced_SaysSoForGood(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		old := b.writer()
		b.write(old, 1, 3)
		w := b.writer()
		require.EqualValues(b, 4, w.FirstTxID())
		_, err := old.Append(b.ctx, text(4))
		var fenced *fencing.FencedError
		require.ErrorAs(b, err, &fenced)
		require.Equal(b, old.Epoch(), fenced.Got.Epoch)
		require.Equal(b, w.Epoch(), fenced.Promised.Epoch)
		same := old.Err()
		require.ErrorIs(b, same, libqjm.ErrFenced)
		for range 3 {
			_, err = old.Append(b.ctx, text(4))
			require.ErrorIs(b, err, same)
			require.False(b, libqjm.MayHaveCommitted(err), "it is known to be fenced by now")
			_, err := old.AppendAsync(b.ctx, text(4))
			require.ErrorIs(b, err, same)
			require.ErrorIs(b, old.Roll(b.ctx), same)
			require.ErrorIs(b, old.Close(b.ctx), same)
		}
		b.write(w, 4, 6)
		require.NoError(b, w.Err())
	})
}

// One node that was fenced by somebody who got no further does not end a writer (F6).
func TestFenced_OnOneNodeOnly(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 3)
		b.lose(map[string][]string{"n2": {"NewEpoch"}, "n3": {"NewEpoch"}})
		_, err := b.cl.Fence(b.within(200*time.Millisecond), "j")
		require.Error(b, err)
		b.Net.Fault(nil)
		b.write(w, 4, 4)
		b.Until(time.Minute, "n1 refuses", func() bool { return errors.Is(w.Status().Channels[0].LastErr, libqjm.ErrFenced) })
		b.writeFinal(w, 5, 6)
		b.write(w, 7, 7)
		require.NoError(b, w.Close(b.ctx))
	})
}

func TestRoll_EmptySegmentIsLeft(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		require.NoError(b, w.Roll(b.ctx))
		require.EqualValues(b, 1, w.Status().Segment)
		b.writeFinal(w, 1, 1)
		require.NoError(b, w.Roll(b.ctx))
		require.EqualValues(b, 2, w.Status().Segment)
	})
}

// Two calls at once: the second began while the first was under way, and there is nothing for it to
// finalize then.
func TestRoll_TwoAtOnce(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 3)
		var wg sync.WaitGroup
		errs := make(chan error, 4)
		for range cap(errs) {
			wg.Go(func() { errs <- w.Roll(b.within(time.Minute)) })
		}
		wg.Wait()
		for range cap(errs) {
			require.NoError(b, <-errs)
		}
		b.finalized(1, 3)
	})
}

func TestRoll_UnderLoad(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		stop := make(chan struct{})
		var wg sync.WaitGroup
		errs := make(chan error, 8)
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := w.Append(b.ctx, []byte("load")); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		for range 20 {
			before := w.Committed()
			require.NoError(b, w.Roll(b.ctx))
			require.Greater(b, w.Status().Segment, before, "what was committed before lies in a segment that is closed")
		}
		close(stop)
		wg.Wait()
		close(errs)
		for err := range errs {
			require.NoError(b, err)
		}
		require.NoError(b, w.Close(b.ctx))
		st, err := b.cl.Status(b.ctx, "j")
		require.NoError(b, err)
		n := 0
		r, err := b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{})
		require.NoError(b, err)
		for _, err := range r.All(b.ctx) {
			require.NoError(b, err)
			n++
		}
		require.EqualValues(b, st.Committed, n)
	})
}

func TestRoll_BySize(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writerWith(libqjm.WriterOptions{SegmentBytes: 4 << 10})
		for range 10 {
			_, err := w.Append(b.ctx, make([]byte, 2<<10))
			require.NoError(b, err)
		}
		require.NoError(b, w.Close(b.ctx))
		for first := libqjm.TxID(1); first < 10; first += 2 {
			b.finalized(first, first+1)
		}
	})
}

func TestRoll_ByAge(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writerWith(libqjm.WriterOptions{SegmentAge: time.Minute})
		idle := time.NewTimer(3 * time.Minute)
		<-idle.C
		require.EqualValues(b, 1, w.Status().Segment, "an empty segment has no age")
		b.write(w, 1, 3)
		began := time.Now()
		b.Until(2*time.Minute, "it rolls", func() bool { return w.Status().Segment == 4 })
		require.GreaterOrEqual(b, time.Since(began), 59*time.Second)
		b.finalized(1, 3)
		b.write(w, 4, 4)
	})
}

func TestClose_WaitsForWhatIsPending(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writerWith(libqjm.WriterOptions{FrameBytes: 64})
		f, err := w.AppendBatchAsync(b.ctx, texts(1, 100))
		require.NoError(b, err)
		require.NoError(b, w.Close(b.ctx))
		id, err := f.Wait(b.ctx)
		require.NoError(b, err)
		require.EqualValues(b, 100, id)
		b.finalized(1, 100)
		require.NoError(b, w.Close(b.ctx), "twice is once")
	})
}

func TestClose_WithoutQuorumEndsWithTheContext(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 3)
		b.StopNode(0)
		b.StopNode(1)
		f, err := w.AppendAsync(b.ctx, text(4))
		require.NoError(b, err)
		err = w.Close(b.within(time.Second))
		require.ErrorIs(b, err, context.DeadlineExceeded)
		_, err = f.Wait(b.ctx)
		require.ErrorIs(b, err, context.DeadlineExceeded)
		require.True(b, libqjm.MayHaveCommitted(err))
		_, err = w.Append(b.ctx, text(5))
		require.ErrorIs(b, err, libqjm.ErrClosed)
		require.NoError(b, w.Close(b.ctx), "twice is once")
		b.StartNode(0)
		b.StartNode(1)
		w = b.writer()
		require.Contains(b, upTo(4, 5), w.FirstTxID(), "in doubt: it depends on whether n3 is among those that are heard")
	})
}

// A second Close must not cut the first one off.
func TestClose_TwoAtOnce(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.Net.Fault(func(memnet.Call) memnet.Verdict {
			pass(10 * time.Millisecond) // fake: both closes are there before anything is through
			return memnet.Deliver
		})
		f, err := w.AppendBatchAsync(b.ctx, texts(1, 3))
		require.NoError(b, err)
		errs := make(chan error, 2)
		for range 2 {
			go func() { errs <- w.Close(b.within(time.Minute)) }()
		}
		require.NoError(b, <-errs)
		require.NoError(b, <-errs)
		_, err = f.Wait(b.ctx)
		require.NoError(b, err)
		b.finalized(1, 3)
	})
}

func TestOpenWriter_BadOptions(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		for _, o := range []libqjm.WriterOptions{
			{MaxTxnBytes: -1}, {MaxTxnBytes: 1 << 30}, {FrameBytes: -1}, {FrameBytes: 1 << 30}, {QueueBytes: 1}, {FramesInFlight: -1}, {SegmentBytes: -1}, {SegmentAge: -1},
		} {
			_, err := b.cl.OpenWriter(b.ctx, "j", o)
			require.ErrorIs(b, err, libqjm.ErrBadRequest, "%+v", o)
		}
	})
}

func TestOpenWriter_ContextEnds(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			if c.From == "client" && c.Method == "Write" {
				return memnet.Hang // fenced and recovered, and no segment can be started
			}
			return memnet.Deliver
		})
		_, err := b.cl.OpenWriter(b.within(3*time.Second), "j", libqjm.WriterOptions{})
		require.ErrorIs(b, err, context.DeadlineExceeded)
	})
}

func TestOpenWriter_ManyAtOnce(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		const rivals = 5
		writers := make([]*libqjm.Writer, rivals)
		errs := make([]error, rivals)
		var wg sync.WaitGroup
		for i := range rivals {
			wg.Go(func() { writers[i], errs[i] = b.cl.OpenWriter(b.ctx, "j", libqjm.WriterOptions{}) })
		}
		wg.Wait()
		epochs := map[libqjm.Epoch]bool{}
		var last *libqjm.Writer
		for i, w := range writers {
			if errs[i] != nil {
				require.True(b, errors.Is(errs[i], libqjm.ErrFenced) || errors.Is(errs[i], libqjm.ErrLostRace), "%v", errs[i])
				continue
			}
			require.False(b, epochs[w.Epoch()], "an epoch twice")
			epochs[w.Epoch()] = true
			if last == nil || w.Epoch() > last.Epoch() {
				last = w
			}
		}
		require.NotNil(b, last)
		b.write(last, 1, 3)
	})
}

// catchUp lets n3 miss 200 txids of an open segment and returns the writer when it has been let in again.
func (b *bed) catchUp(ring int) *libqjm.Writer {
	b.Helper()
	w := b.writerWith(libqjm.WriterOptions{RingBytes: ring})
	b.write(w, 1, 10)
	b.holds(w, "n3", 10)
	b.lose(map[string][]string{"n3": {"Write"}})
	for i := libqjm.TxID(11); i <= 200; i++ {
		b.write(w, i, i)
	}
	b.holds(w, "n1", 200)
	b.holds(w, "n2", 200)
	require.Less(b, b.acked(w, "n3"), libqjm.TxID(11))
	b.Net.ResetCalls()
	b.Net.Fault(nil)
	b.write(w, 201, 201)
	b.holds(w, "n3", 201)
	require.EqualValues(b, 1, w.Status().Segment, "inside the segment")
	require.NoError(b, w.Roll(b.ctx))
	b.Until(time.Minute, "n3 finalizes it, too", func() bool { return b.copies(1, 201) == 3 })
	return w
}

func (b *bed) reads(from, method string) int {
	n := 0
	for i := range b.Nodes {
		n += b.Net.Count(from, b.ID(i), method)
	}
	return n
}

func TestCatchUp_FromTheRing(t *testing.T) {
	run(t, testcluster.Options{Tune: noRepair}, func(b *bed) {
		b.catchUp(1 << 20)
		require.Zero(b, b.reads("client", "Write.Fill"))
		require.Zero(b, b.reads("n3", "ReadSegment"))
	})
}

func TestCatchUp_FromAPeer(t *testing.T) {
	run(t, testcluster.Options{Tune: noRepair}, func(b *bed) {
		b.catchUp(1 << 10)
		require.Positive(b, b.Net.Count("client", "n3", "Write.Fill"))
		require.Positive(b, b.reads("n3", "ReadSegment"))
		require.Zero(b, b.reads("client", "ReadSegment"))
	})
}

func TestCatchUp_ByRelay(t *testing.T) {
	run(t, testcluster.Options{Tune: noRepair}, func(b *bed) {
		b.Net.Cut("n3", "n1")
		b.Net.Cut("n3", "n2")
		b.catchUp(1 << 10)
		require.Positive(b, b.Net.Count("client", "n3", "Write.Fill"))
		require.Positive(b, b.reads("client", "ReadSegment"))
	})
}

// Two nodes of three fall behind one after the other: each comes back, and the journal goes on.
func TestCatchUp_AfterAPowerCut(t *testing.T) {
	run(t, testcluster.Options{Tune: noRepair}, func(b *bed) {
		w := b.writerWith(libqjm.WriterOptions{RingBytes: 1 << 10})
		next := libqjm.TxID(1)
		for round := range 6 {
			i := round % 3
			for range 20 {
				b.write(w, next, next)
				next++
			}
			b.crash(i)
			for range 20 {
				b.write(w, next, next)
				next++
			}
			b.StartNode(i)
			b.holds(w, b.ID(i), next-1)
		}
		require.EqualValues(b, 1, w.Status().Segment)
		require.NoError(b, w.Close(b.ctx))
		require.Equal(b, upTo(1, next-1), b.read(libqjm.ReaderOptions{}))
	})
}
