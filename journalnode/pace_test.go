package journalnode_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
)

// slowSource is a node that takes a time for each segment that is read from it, and notes when.
type slowSource struct {
	rpc.Service
	takes time.Duration
	mu    *sync.Mutex
	began *[]time.Time
}

// ReadSegment implements rpc.Service.
func (s slowSource) ReadSegment(ctx context.Context, req rpc.ReadRequest, send func(rpc.Chunk) error) error {
	s.mu.Lock()
	*s.began = append(*s.began, time.Now())
	s.mu.Unlock()
	pass(s.takes)
	return s.Service.ReadSegment(ctx, req, send)
}

// A1: a node that catches up takes half of the time at most while a writer is alive, here or at the node that it reads
// from; with none it takes all. Its stop ends the wait.
func TestA1_PullsYieldToWriters(t *testing.T) {
	const count, takes = 10, 400 * time.Millisecond
	behind := func(t *testing.T, f func(b *bed, w *libqjm.Writer, pulls func() []time.Duration)) {
		tune := func(_ int, o *journalnode.Options) { o.ReserveBytes = smallReserve }
		run(t, testcluster.Options{Tune: tune}, func(b *bed) {
			b.journal("j")
			b.StopNode(2)
			w, err := b.Client().OpenWriter(b.ctx, "j", writerOptions)
			require.NoError(b, err)
			for range count {
				_, err := w.Append(b.ctx, []byte("x"))
				require.NoError(b, err)
				require.NoError(b, w.Roll(b.ctx))
			}
			var mu sync.Mutex
			var began []time.Time
			for i := range 2 {
				b.Net.Serve(b.ID(i), slowSource{b.Nodes[i], takes, &mu, &began})
			}
			f(b, w, func() []time.Duration {
				mu.Lock()
				defer mu.Unlock()
				var gaps []time.Duration
				for i := 1; i < len(began); i++ {
					gaps = append(gaps, began[i].Sub(began[i-1]).Round(takes/4))
				}
				return gaps
			})
		})
	}
	all := func(b *bed, pulls func() []time.Duration) []time.Duration {
		b.Helper()
		b.Until(time.Minute, "all are pulled", func() bool { return len(pulls()) == count-1 })
		return pulls()
	}
	fast, slow := slices.Repeat([]time.Duration{takes}, count-1), slices.Repeat([]time.Duration{2 * takes}, count-1)

	t.Run("no writer", func(t *testing.T) {
		behind(t, func(b *bed, w *libqjm.Writer, pulls func() []time.Duration) {
			require.NoError(b, w.Close(b.ctx))
			pass(10 * time.Second) // its last word was lost: the streams broke before
			b.StartNode(2)
			require.Equal(b, fast, all(b, pulls))
		})
	})
	t.Run("one that this node hears", func(t *testing.T) {
		behind(t, func(b *bed, w *libqjm.Writer, pulls func() []time.Duration) {
			b.Net.Fault(func(c memnet.Call) memnet.Verdict {
				if c.From == b.ID(2) && c.Method == "State" {
					return memnet.Drop
				}
				return memnet.Deliver
			})
			b.StartNode(2)
			require.Equal(b, slow, all(b, pulls))
			require.NoError(b, w.Close(b.ctx))
		})
	})
	t.Run("one that the source hears", func(t *testing.T) {
		behind(t, func(b *bed, w *libqjm.Writer, pulls func() []time.Duration) {
			b.Net.Cut("client", b.ID(2))
			b.StartNode(2)
			require.Equal(b, slow, all(b, pulls))
			require.NoError(b, w.Close(b.ctx))
		})
	})
	t.Run("one that leaves", func(t *testing.T) {
		behind(t, func(b *bed, w *libqjm.Writer, pulls func() []time.Duration) {
			b.StartNode(2)
			b.Until(time.Minute, "it pulls", func() bool { return len(pulls()) == 2 })
			require.NoError(b, w.Close(b.ctx))
			gaps := all(b, pulls)
			require.Equal(b, 2*takes, gaps[0])
			require.Equal(b, takes, gaps[count-2])
		})
	})
	t.Run("the node stops", func(t *testing.T) {
		behind(t, func(b *bed, w *libqjm.Writer, pulls func() []time.Duration) {
			b.StartNode(2)
			b.Until(time.Minute, "it pulls", func() bool { return len(pulls()) == 1 })
			pass(takes + takes/8) // it waits now
			began := time.Now()
			b.StopNode(2)
			require.Less(b, time.Since(began), takes/2)
			require.NoError(b, w.Close(b.ctx))
		})
	})
}
