package memnet_test

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/segments"
)

// fake is a service of which only what a test needs does anything.
type fake struct {
	rpc.Service
	infos  atomic.Int64
	info   func(context.Context) error
	write  func(rpc.ServerStream) error
	chunks int
}

func (f *fake) Info(ctx context.Context) (rpc.NodeInfo, error) {
	f.infos.Add(1)
	if f.info != nil {
		return rpc.NodeInfo{}, f.info(ctx)
	}
	return rpc.NodeInfo{ID: "a"}, nil
}

func (f *fake) Write(_ rpc.Header, s rpc.ServerStream) error { return f.write(s) }

func (f *fake) Tail(_ context.Context, _ rpc.TailRequest, send func(rpc.Chunk) error) error {
	for i := range f.chunks {
		if err := send(rpc.Chunk{Segment: segments.TxID(i)}); err != nil {
			return err
		}
	}
	return nil
}

// echo answers each message with its Seq, and tells which it got.
func echo(got *[]uint64) func(rpc.ServerStream) error {
	return func(s rpc.ServerStream) error {
		for {
			m, err := s.Recv()
			if err != nil {
				return err
			}
			*got = append(*got, m.Seq)
			if err := s.Send(rpc.WriteReply{Segment: segments.TxID(m.Seq)}); err != nil {
				return err
			}
		}
	}
}

func setup(t *testing.T, f *fake) (*memnet.Network, rpc.Node) {
	t.Helper()
	net := memnet.New()
	net.Serve("a", f)
	n, err := net.Dialer("c").Dial("a")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return net, n
}

func verdict(v memnet.Verdict) func(memnet.Call) memnet.Verdict {
	return func(memnet.Call) memnet.Verdict { return v }
}

// Y1, and the ways in which a call can find nobody.
func TestUnary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		net, n := setup(t, f)
		call := func() error { _, err := n.Info(t.Context()); return err }
		require.NoError(t, call())
		require.EqualValues(t, 1, f.infos.Load())
		net.Fault(verdict(memnet.Drop))
		require.ErrorIs(t, call(), rpc.ErrUnavailable)
		require.EqualValues(t, 1, f.infos.Load())
		net.Fault(verdict(memnet.LoseReply))
		require.ErrorIs(t, call(), rpc.ErrUnavailable)
		require.EqualValues(t, 2, f.infos.Load())
		net.Fault(nil)
		net.Cut("c", "a")
		require.ErrorIs(t, call(), rpc.ErrUnavailable)
		require.EqualValues(t, 2, f.infos.Load())
		net.HealAll()
		net.Cut("a", "c")
		require.ErrorIs(t, call(), rpc.ErrUnavailable)
		require.EqualValues(t, 3, f.infos.Load(), "one way only")
		net.Heal("a", "c")
		require.NoError(t, call())
		require.Equal(t, 6, net.Calls("c", "a"))
		require.Equal(t, 6, net.Count("c", "a", "Info"))
		net.Down("a")
		require.ErrorIs(t, call(), rpc.ErrUnavailable)
		net.Serve("a", f)
		require.NoError(t, call())
		nobody, err := net.Dialer("c").Dial("b")
		require.NoError(t, err)
		_, err = nobody.Info(t.Context())
		require.ErrorIs(t, err, rpc.ErrUnavailable)
		net.Down("c")
		require.ErrorIs(t, call(), rpc.ErrUnavailable, "a dead endpoint calls nobody")
	})
}

func TestUnary_ContextAndDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{info: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		net, n := setup(t, f)
		for _, v := range []memnet.Verdict{memnet.Deliver, memnet.Hang} {
			net.Fault(verdict(v))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			began := time.Now()
			_, err := n.Info(ctx)
			cancel()
			require.ErrorIs(t, err, rpc.ErrUnavailable)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, time.Minute, time.Since(began))
		}
		net.Fault(nil)
		go func() { <-time.After(time.Second); net.Down("a") }()
		_, err := n.Info(t.Context())
		require.ErrorIs(t, err, rpc.ErrUnavailable)
	})
}

func TestFault_SeesEveryCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []uint64
		f := &fake{write: echo(&got)}
		net, n := setup(t, f)
		var calls []memnet.Call
		net.Fault(func(c memnet.Call) memnet.Verdict { calls = append(calls, c); return memnet.Deliver })
		s, err := n.Write(t.Context(), rpc.Header{})
		require.NoError(t, err)
		for _, m := range []rpc.WriteRequest{{Start: &segments.End{}}, {Frames: make([]segments.Frame, 1)}, {Finalize: &segments.End{}}, {Fill: &rpc.Fill{}}, {}} {
			require.NoError(t, s.Send(m))
		}
		s.Close()
		var names []string
		for i, c := range calls {
			require.Equal(t, i+1, c.N)
			require.Equal(t, "c", c.From)
			require.Equal(t, "a", c.To)
			names = append(names, c.Method)
		}
		require.Equal(t, []string{"Write", "Write.Start", "Write.Frames", "Write.Finalize", "Write.Fill", "Write.Heartbeat"}, names)
	})
}

// Y2: what was sent before the loss arrives, nothing after it, and both ends notice.
func TestWrite_LostMessageBreaksTheStreamThere(t *testing.T) {
	for v, want := range map[memnet.Verdict][]uint64{memnet.Drop: {1, 2}, memnet.LoseReply: {1, 2, 3}} {
		synctest.Test(t, func(t *testing.T) {
			var got []uint64
			ended := errors.New("not yet")
			run := echo(&got)
			f := &fake{write: func(s rpc.ServerStream) error { ended = run(s); return ended }}
			net, n := setup(t, f)
			s, err := n.Write(t.Context(), rpc.Header{})
			require.NoError(t, err)
			require.NoError(t, s.Send(rpc.WriteRequest{Seq: 1}))
			require.NoError(t, s.Send(rpc.WriteRequest{Seq: 2}))
			net.Fault(verdict(v))
			require.ErrorIs(t, s.Send(rpc.WriteRequest{Seq: 3}), rpc.ErrUnavailable)
			net.Fault(nil)
			require.ErrorIs(t, s.Send(rpc.WriteRequest{Seq: 4}), rpc.ErrUnavailable)
			_, err = s.Recv()
			require.ErrorIs(t, err, rpc.ErrUnavailable)
			s.Close() // what was sent arrives all the same
			synctest.Wait()
			require.Equal(t, want, got)
			require.ErrorIs(t, ended, rpc.ErrUnavailable)
		})
	}
}

// Y3: the node's last replies and its error arrive in this order; the handler's Recv ends with the
// handler, not before.
func TestWrite_HandlerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := errors.New("bad")
		released := make(chan struct{})
		f := &fake{write: func(s rpc.ServerStream) error {
			go func() { _, _ = s.Recv(); close(released) }()
			_ = s.Send(rpc.WriteReply{Segment: 1})
			_ = s.Send(rpc.WriteReply{Segment: 2})
			select {
			case <-released:
			case <-time.After(time.Minute):
			}
			return bad
		}}
		_, n := setup(t, f)
		s, err := n.Write(t.Context(), rpc.Header{})
		require.NoError(t, err)
		began := time.Now()
		for i := range 2 {
			r, err := s.Recv()
			require.NoError(t, err)
			require.EqualValues(t, i+1, r.Segment)
		}
		_, err = s.Recv()
		require.ErrorIs(t, err, bad)
		require.Equal(t, time.Minute, time.Since(began))
		require.ErrorIs(t, s.Send(rpc.WriteRequest{}), bad)
		<-released
	})
}

func TestWrite_DownAndClose(t *testing.T) {
	for name, end := range map[string]func(*memnet.Network, rpc.WriteStream, rpc.Node){
		"node down":   func(n *memnet.Network, _ rpc.WriteStream, _ rpc.Node) { n.Down("a") },
		"caller down": func(n *memnet.Network, _ rpc.WriteStream, _ rpc.Node) { n.Down("c") },
		"close":       func(_ *memnet.Network, s rpc.WriteStream, _ rpc.Node) { s.Close() },
		"conn closed": func(_ *memnet.Network, _ rpc.WriteStream, c rpc.Node) { _ = c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []uint64
				net, n := setup(t, &fake{write: echo(&got)})
				net.Serve("c", &fake{}) // the caller is an endpoint, too
				s, err := n.Write(t.Context(), rpc.Header{})
				require.NoError(t, err)
				failed := make(chan error, 1)
				go func() { _, err := s.Recv(); failed <- err }()
				synctest.Wait()
				end(net, s, n)
				require.Error(t, <-failed)
				require.Error(t, s.Send(rpc.WriteRequest{}))
			}) // the bubble ends only if the handler did
		})
	}
}

// A side that does not read holds the other one back.
func TestWrite_FlowControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, n := setup(t, &fake{write: func(s rpc.ServerStream) error { <-s.Context().Done(); return nil }})
		s, err := n.Write(t.Context(), rpc.Header{})
		require.NoError(t, err)
		sent := make(chan int, 1000)
		go func() {
			for i := 0; s.Send(rpc.WriteRequest{}) == nil; i++ {
				sent <- i
			}
		}()
		synctest.Wait()
		require.Len(t, sent, 16)
		s.Close()
	})
}

func TestTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, n := setup(t, &fake{chunks: 100})
		s, err := n.Tail(t.Context(), rpc.TailRequest{})
		require.NoError(t, err)
		for i := range 100 {
			c, err := s.Recv()
			require.NoError(t, err)
			require.EqualValues(t, i, c.Segment)
		}
		_, err = s.Recv()
		require.ErrorIs(t, err, io.EOF)
		s, err = n.Tail(t.Context(), rpc.TailRequest{})
		require.NoError(t, err)
		_, err = s.Recv()
		require.NoError(t, err)
		net.Cut("a", "c")
		_, err = s.Recv()
		require.ErrorIs(t, err, rpc.ErrUnavailable)
		net.HealAll()
		_, err = s.Recv()
		require.ErrorIs(t, err, rpc.ErrUnavailable, "broken is broken")
		s, err = n.Tail(t.Context(), rpc.TailRequest{})
		require.NoError(t, err)
		s.Close()
		_, err = s.Recv()
		require.ErrorIs(t, err, rpc.ErrUnavailable)
	})
}
