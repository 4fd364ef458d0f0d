package libqjm_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// A client that is closed in the middle of an opening ends it with ErrClosed, and at once: nothing is started
// behind Close's back.
func TestClientClose_EndsAnOpening(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		cl := b.Client()
		reached := make(chan struct{})
		var once sync.Once
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			if c.Method == "NewEpoch" {
				once.Do(func() { close(reached) })
				return memnet.Hang
			}
			return memnet.Deliver
		})
		defer b.Net.Fault(nil)
		begin := time.Now()
		opened := make(chan error, 1)
		go func() {
			_, err := cl.OpenWriter(b.ctx, "j", libqjm.WriterOptions{})
			opened <- err
		}()
		<-reached
		require.NoError(b, cl.Close())
		require.ErrorIs(b, <-opened, libqjm.ErrClosed)
		_, err := cl.OpenWriter(b.ctx, "j", libqjm.WriterOptions{})
		require.ErrorIs(b, err, libqjm.ErrClosed)
		require.Less(b, time.Since(begin), time.Minute, "it did not wait for its context")
	})
}

// Close races with openings at every step of theirs; the race detector is the judge.
func TestClientClose_WhileOpening(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		for i := range 60 {
			cl := b.Client()
			ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
			var n atomic.Int64
			over := make(chan struct{})
			b.Net.Fault(func(memnet.Call) memnet.Verdict {
				if n.Add(1) == int64(i) {
					close(over)
				}
				return memnet.Deliver
			})
			opened := make(chan error, 1)
			go func() {
				w, err := cl.OpenWriter(ctx, "j", libqjm.WriterOptions{})
				if err == nil {
					err = w.Close(ctx)
				}
				opened <- err
			}()
			if i > 0 {
				select {
				case <-over:
				case err := <-opened:
					opened <- err
				}
			}
			require.NoError(b, cl.Close())
			err := <-opened
			require.False(b, errors.Is(err, context.DeadlineExceeded), "it hung: %v", err)
			cancel()
			b.Net.Fault(nil)
		}
	})
}

// W7: a batch that is larger than the queue is refused, definitely, whatever waits; it would have been taken
// whole where nothing did.
func TestW7_BatchLargerThanTheQueue(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writerWith(libqjm.WriterOptions{QueueBytes: 8 << 10, FrameBytes: 4 << 10, MaxTxnBytes: 4 << 10})
		batch := make([][]byte, 9)
		for i := range batch {
			batch[i] = make([]byte, 1<<10)
		}
		_, _, err := w.AppendBatch(b.ctx, batch)
		require.ErrorIs(b, err, libqjm.ErrTooLarge)
		require.False(b, libqjm.MayHaveCommitted(err))
		first, last, err := w.AppendBatch(b.ctx, batch[:8])
		require.NoError(b, err)
		require.EqualValues(b, 1, first, "no txid was used up")
		require.EqualValues(b, 8, last)
	})
}
