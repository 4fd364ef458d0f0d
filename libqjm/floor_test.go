package libqjm_test

import (
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// W3: while a caller appends one transaction after the other, what is committed rides on frames, whatever a group
// commit takes and the caller then thinks; behind the last one each node is told once, and soon.
func TestW3_FloorRidesOnFrames(t *testing.T) {
	for name, tc := range map[string]struct{ sync, think time.Duration }{
		"a disk slower than the floor's delay": {330 * time.Microsecond, 50 * time.Microsecond},
		"a faster one":                         {70 * time.Microsecond, 20 * time.Microsecond},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, testcluster.Options{}, func(b *bed) {
				for i, n := range b.Nodes {
					b.Net.Serve(b.ID(i), slowNode{n, tc.sync})
				}
				w := b.writer()
				b.write(w, 1, 1)
				b.inSync(w, "n1", "n2", "n3")
				pass(10 * time.Millisecond)
				b.write(w, 2, 2) // as if it were the only one for long
				pass(tc.think)
				b.write(w, 3, 3)
				b.Net.ResetCalls()
				for i := libqjm.TxID(4); i <= 200; i++ {
					b.write(w, i, i)
					pass(tc.think)
				}
				require.Zero(b, b.alone(), "messages without a frame")
				pass(time.Millisecond)
				require.Equal(b, len(b.Nodes), b.alone(), "once each")
				require.Equal(b, upTo(1, 200), b.read(libqjm.ReaderOptions{}), "they know of all")
			})
		})
	}
}

// alone counts the messages of writers without a frame.
func (b *bed) alone() (n int) {
	for i := range b.Nodes {
		n += b.Net.Count("client", b.ID(i), "Write.Heartbeat")
	}
	return n
}

// W3: a writer that appends now and then tells the floor at once, once to each node: readers that follow wait for it.
func TestW3_FloorOfAnIdleWriterIsToldAtOnce(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.inSync(w, "n1", "n2", "n3")
		b.write(w, 1, 1)
		pass(10 * time.Millisecond)
		r, err := b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{Follow: true})
		require.NoError(b, err)
		defer func() { require.NoError(b, r.Close()) }()
		next, stop := iter.Pull2(r.All(b.ctx))
		defer stop()
		_, err, _ = next()
		require.NoError(b, err)
		for i := libqjm.TxID(2); i <= 20; i++ {
			b.Net.ResetCalls()
			b.write(w, i, i)
			began := time.Now()
			txn, err, _ := next()
			require.NoError(b, err)
			require.Equal(b, i, txn.ID)
			require.Zero(b, time.Since(began), "fake: nothing was waited for")
			pass(10 * time.Millisecond)
			require.Equal(b, len(b.Nodes), b.alone())
		}
	})
}

// slowNode takes some time for each message of a writer that has frames.
type slowNode struct {
	rpc.Service
	sync time.Duration
}

// Write implements rpc.Service.
func (n slowNode) Write(h rpc.Header, s rpc.ServerStream) error {
	return n.Service.Write(h, slowStream{s, n.sync})
}

type slowStream struct {
	rpc.ServerStream
	sync time.Duration
}

func (s slowStream) Recv() (rpc.WriteRequest, error) {
	m, err := s.ServerStream.Recv()
	if len(m.Frames) > 0 {
		pass(s.sync)
	}
	return m, err
}
