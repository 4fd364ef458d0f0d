package libqjm_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

func TestReader_Ranges(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.writeFinal(w, 1, 10)
		b.writeFinal(w, 11, 20)
		b.write(w, 21, 25)
		b.knows(25)
		for _, tt := range []struct {
			opts     libqjm.ReaderOptions
			from, to libqjm.TxID
		}{
			{libqjm.ReaderOptions{}, 1, 25},
			{libqjm.ReaderOptions{From: 4, To: 7}, 4, 7},
			{libqjm.ReaderOptions{From: 4, To: 4}, 4, 4},
			{libqjm.ReaderOptions{From: 10, To: 11}, 10, 11},
			{libqjm.ReaderOptions{From: 11}, 11, 25},
			{libqjm.ReaderOptions{From: 22, To: 23}, 22, 23},
			{libqjm.ReaderOptions{To: 100}, 1, 25},
			{libqjm.ReaderOptions{FinalizedOnly: true}, 1, 20},
			{libqjm.ReaderOptions{FinalizedOnly: true, From: 15, To: 23}, 15, 20},
			{libqjm.ReaderOptions{Follow: true, From: 3, To: 22}, 3, 22},
			{libqjm.ReaderOptions{From: 26}, 26, 25}, // right behind the end: nothing, and no error
		} {
			require.Equal(b, upTo(tt.from, tt.to), b.read(tt.opts), "%+v", tt.opts)
		}
		_, err := b.tryRead(libqjm.ReaderOptions{From: 27})
		require.ErrorIs(b, err, libqjm.ErrPastEnd)
		_, err = b.tryRead(libqjm.ReaderOptions{From: 22, FinalizedOnly: true})
		require.ErrorIs(b, err, libqjm.ErrPastEnd)
		_, err = b.tryRead(libqjm.ReaderOptions{From: 5, To: 4})
		require.ErrorIs(b, err, libqjm.ErrBadRequest)
	})
}

func TestReader_FollowsAcrossSegmentsAndWriters(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		r, err := b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{Follow: true, To: 60})
		require.NoError(b, err)
		got := make(chan libqjm.TxID, 100)
		failed := make(chan error, 1)
		go func() {
			defer close(got)
			for txn, err := range r.All(b.ctx) {
				if err != nil {
					failed <- err
					return
				}
				got <- txn.ID
			}
		}()
		next := libqjm.TxID(1)
		for i := range 6 {
			w := b.writer()
			b.write(w, next, next+4)
			synctest.Wait()
			b.Until(time.Second, "pushed at once", func() bool { return len(got) >= int(next)+4 })
			b.writeFinal(w, next+5, next+9)
			next += 10
			if i%2 == 0 {
				require.NoError(b, w.Close(b.ctx))
			} else {
				b.abandon(w)
			}
		}
		var ids []libqjm.TxID
		for id := range got {
			ids = append(ids, id)
		}
		require.Equal(b, upTo(1, 60), ids)
		require.Empty(b, failed)
	})
}

func TestReader_FollowFinalizedOnly(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		r, err := b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{Follow: true, FinalizedOnly: true})
		require.NoError(b, err)
		b.write(w, 1, 3)
		b.knows(3)
		_, err = r.Next(b.within(time.Minute))
		require.ErrorIs(b, err, context.DeadlineExceeded)
		require.NoError(b, w.Roll(b.ctx))
		for id := libqjm.TxID(1); id <= 3; id++ {
			txn, err := r.Next(b.within(time.Minute))
			require.NoError(b, err, "the same reader is used again")
			require.Equal(b, id, txn.ID)
		}
	})
}

func TestReader_ContextEndsAndItIsUsedAgain(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 5) // one frame
		b.knows(5)
		r, err := b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{Follow: true})
		require.NoError(b, err)
		next := libqjm.TxID(1)
		for next <= 30 {
			txn, err := r.Next(b.within(time.Second))
			if next > w.Committed() {
				require.ErrorIs(b, err, context.DeadlineExceeded)
				b.write(w, next, next+4)
				continue
			}
			require.NoError(b, err)
			require.Equal(b, next, txn.ID)
			next++
		}
		require.NoError(b, r.Close())
		_, err = r.Next(b.ctx)
		require.ErrorIs(b, err, libqjm.ErrClosed)
	})
}

func TestReader_BreakOutOfAll(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 10)
		b.knows(10)
		r, err := b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{})
		require.NoError(b, err)
		for txn, err := range r.All(b.ctx) {
			require.NoError(b, err)
			if txn.ID == 4 {
				break
			}
		}
		txn, err := r.Next(b.ctx)
		require.NoError(b, err)
		require.EqualValues(b, 5, txn.ID, "it goes on where the loop was left")
		rest := 0
		for _, err := range r.All(b.ctx) {
			require.NoError(b, err)
			rest++
		}
		require.Equal(b, 5, rest)
		_, err = r.Next(b.ctx)
		require.ErrorIs(b, err, io.EOF)
		require.NoError(b, r.Close())
	})
}

func TestReader_FailsOverInTheMiddle(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		for i := libqjm.TxID(1); i <= 50; i++ {
			b.write(w, i, i)
		}
		b.knows(50)
		r, err := b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{Follow: true})
		require.NoError(b, err)
		next := libqjm.TxID(1)
		take := func(to libqjm.TxID) {
			for ; next <= to; next++ {
				txn, err := r.Next(b.within(time.Minute))
				require.NoError(b, err)
				require.Equal(b, next, txn.ID)
				require.Equal(b, string(text(next)), string(txn.Data))
			}
		}
		take(20)
		for i := range 3 { // one node after the other goes while it is being read, whichever that is
			b.crash(i)
			b.write(w, 51+libqjm.TxID(i), 51+libqjm.TxID(i))
			take(51 + libqjm.TxID(i))
			b.StartNode(i)
			b.inSync(w, b.ID(i))
		}
	})
}

// liar is a node that serves bad chunks while it lies.
type liar struct {
	rpc.Service
	lies   *atomic.Bool
	bend   func(*rpc.Chunk)
	served *atomic.Int64
	// Where set, only the first node that is asked lies: the others find who is first taken.
	me    int64
	first *atomic.Int64
}

func (l *liar) Tail(ctx context.Context, req rpc.TailRequest, send func(rpc.Chunk) error) error {
	if l.first != nil && l.lies.Load() && !l.first.CompareAndSwap(0, l.me) && l.first.Load() != l.me {
		return l.Service.Tail(ctx, req, send)
	}
	return l.Service.Tail(ctx, req, func(c rpc.Chunk) error {
		if l.lies.Load() {
			l.served.Add(1)
			c.Frames = append([]byte(nil), c.Frames...)
			l.bend(&c)
		}
		return send(c)
	})
}

// TestReader_LeavesANodeThatServesBadFrames is D3.
func TestReader_LeavesANodeThatServesBadFrames(t *testing.T) {
	for name, bend := range map[string]func(*rpc.Chunk){
		"payload":       func(c *rpc.Chunk) { c.Frames[len(c.Frames)-1] ^= 1 },
		"frame header":  func(c *rpc.Chunk) { c.Frames[0] ^= 1 },
		"cut short":     func(c *rpc.Chunk) { c.Frames = c.Frames[:len(c.Frames)-1] },
		"gap":           func(c *rpc.Chunk) { c.Prev.TxID++ },
		"other history": func(c *rpc.Chunk) { c.Prev.Digest[0] ^= 1 },
		"nothing":       func(c *rpc.Chunk) { c.Frames = nil },
	} {
		t.Run(name, func(t *testing.T) {
			var lies atomic.Bool
			var served, first atomic.Int64
			opts := testcluster.Options{Wrap: func(i int, s rpc.Service) rpc.Service {
				return &liar{s, &lies, bend, &served, int64(i + 1), &first}
			}}
			run(t, opts, func(b *bed) {
				w := b.writer()
				b.write(w, 1, 3)
				b.write(w, 4, 6)
				b.holds(w, "n2", 6)
				b.knows(6)
				b.StopNode(2) // so that both others are heard, and n1 is read first
				lies.Store(true)
				ctx := b.within(time.Minute)
				r, err := b.cl.OpenReader(ctx, "j", libqjm.ReaderOptions{})
				require.NoError(b, err)
				for id := libqjm.TxID(1); id <= 6; id++ {
					txn, err := r.Next(ctx)
					require.NoError(b, err)
					require.Equal(b, id, txn.ID)
					require.Equal(b, string(text(id)), string(txn.Data))
				}
				_, err = r.Next(ctx)
				require.ErrorIs(b, err, io.EOF)
				require.Positive(b, served.Load(), "the first one lied")
			})
		})
	}
}

// All nodes serve the same bad frame: the reader ends with its context, and says why.
func TestReader_AllNodesBad(t *testing.T) {
	var lies atomic.Bool
	var served atomic.Int64
	opts := testcluster.Options{Wrap: func(_ int, s rpc.Service) rpc.Service {
		return &liar{Service: s, lies: &lies, bend: func(c *rpc.Chunk) { c.Frames[len(c.Frames)-1] ^= 1 }, served: &served}
	}}
	run(t, opts, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 3)
		b.knows(3)
		lies.Store(true)
		r, err := b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{})
		require.NoError(b, err)
		_, err = r.Next(b.within(time.Minute))
		require.ErrorIs(b, err, context.DeadlineExceeded)
		require.ErrorIs(b, err, libqjm.ErrCorrupt)
		require.Less(b, served.Load(), int64(500), "it does not spin")
		lies.Store(false)
		txn, err := r.Next(b.within(time.Minute))
		require.NoError(b, err)
		require.EqualValues(b, 1, txn.ID)
	})
}

// TestReader_WithoutAnyNode waits, and goes on when they are back.
func TestReader_WithoutAnyNode(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.writeFinal(w, 1, 3)
		b.Until(time.Minute, "all have it", func() bool { return b.copies(1, 3) == 3 })
		r, err := b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{})
		require.NoError(b, err)
		for i := range b.Nodes {
			b.StopNode(i)
		}
		_, err = r.Next(b.within(time.Minute))
		require.ErrorIs(b, err, context.DeadlineExceeded)
		require.ErrorIs(b, err, libqjm.ErrUnavailable)
		b.StartNode(1) // two: one of them at least has the segment finalized
		b.StartNode(2)
		txn, err := r.Next(b.within(time.Minute))
		require.NoError(b, err)
		require.EqualValues(b, 1, txn.ID)
	})
}

// A node behind a partition shows no more than it knows to be committed, and the reader gets the rest
// from another one.
func TestReader_NodeThatLagsBehind(t *testing.T) {
	run(t, testcluster.Options{Tune: noRepair}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 3)
		b.knows(3)
		b.lose(map[string][]string{"n1": {"Write"}})
		r, err := b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{})
		require.NoError(b, err)
		b.write(w, 4, 6)
		b.Until(time.Minute, "a majority knows", func() bool {
			st, err := b.cl.Status(b.ctx, "j")
			return err == nil && st.Nodes[1].Committed == 6 && st.Nodes[2].Committed == 6
		})
		require.Equal(b, upTo(1, 6), b.read(libqjm.ReaderOptions{}))
		n := 0
		for _, err := range r.All(b.ctx) {
			require.NoError(b, err)
			n++
		}
		require.Equal(b, 3, n, "the end was fixed when it was opened")
	})
}

func TestReader_LostRepliesAndRequests(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		for i := libqjm.TxID(1); i <= 30; i++ {
			b.write(w, i, i)
		}
		b.knows(30)
		d := newDice(7)
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			if c.Method == "Tail" && d.roll(50) {
				return memnet.Drop
			}
			return memnet.Deliver
		})
		for range 20 {
			require.Equal(b, upTo(1, 30), b.read(libqjm.ReaderOptions{}))
		}
	})
}

// TestReader_FollowLeavesASilentNode: a follower listens to a node that the writer no longer reaches. It
// must not wait there for ever.
func TestReader_FollowLeavesASilentNode(t *testing.T) {
	run(t, testcluster.Options{Tune: noRepair}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 3)
		b.knows(3)
		r, err := b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{Follow: true})
		require.NoError(b, err)
		for range 3 {
			_, err := r.Next(b.within(time.Minute))
			require.NoError(b, err)
		}
		for _, n := range []string{"n1", "n2", "n3"} { // whichever it listens to: the writer loses it
			b.lose(map[string][]string{n: {"Write"}})
			st := w.Status()
			b.write(w, st.Assigned+1, st.Assigned+1)
			txn, err := r.Next(b.within(time.Minute))
			require.NoError(b, err)
			require.Equal(b, st.Assigned+1, txn.ID)
		}
	})
}

// D1: a node shows nothing above what is committed, to nobody; not even what it holds itself.
func TestReader_FollowShowsNothingUncommitted(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 5)
		b.knows(5)
		b.lose(map[string][]string{"n1": {"Write", "Tail"}, "n2": {"Write", "Tail"}}) // n3 alone is written and read
		_, err := w.AppendAsync(b.ctx, text(6))
		require.NoError(b, err)
		b.holds(w, "n3", 6)
		r, err := b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{Follow: true})
		require.NoError(b, err)
		for id := libqjm.TxID(1); id <= 5; id++ {
			txn, err := r.Next(b.within(time.Minute))
			require.NoError(b, err)
			require.Equal(b, id, txn.ID)
		}
		_, err = r.Next(b.within(time.Minute))
		require.ErrorIs(b, err, context.DeadlineExceeded)
		b.Net.Fault(nil)
		txn, err := r.Next(b.within(time.Minute))
		require.NoError(b, err)
		require.EqualValues(b, 6, txn.ID)
		require.NoError(b, r.Close())
	})
}
