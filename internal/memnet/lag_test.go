package memnet_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/segments"
)

func TestCut_Everyone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		net, n := setup(t, f)
		call := func() error { _, err := n.Info(t.Context()); return err }
		net.Cut("", "a")
		require.ErrorIs(t, call(), rpc.ErrUnavailable)
		require.Zero(t, f.infos.Load())
		net.Heal("", "a")
		require.NoError(t, call())
		net.Cut("a", "")
		require.ErrorIs(t, call(), rpc.ErrUnavailable)
		require.EqualValues(t, 2, f.infos.Load(), "the reply is lost")
		net.Heal("a", "c")
		require.Error(t, call(), "a fault of its own")
		net.HealAll()
		require.NoError(t, call())
	})
}

// Y1: a cut loses the replies to calls that were under way, and the end of a stream, too.
func TestCut_WhileUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := memnet.New()
		hold, bad := make(chan struct{}), errors.New("bad")
		net.Serve("a", &fake{
			info:  func(context.Context) error { <-hold; return nil },
			write: func(rpc.ServerStream) error { <-hold; return bad },
		})
		n, err := net.Dialer("c").Dial("a")
		require.NoError(t, err)
		s, err := n.Write(t.Context(), rpc.Header{})
		require.NoError(t, err)
		failed := make(chan error, 2)
		go func() { _, err := n.Info(t.Context()); failed <- err }()
		go func() { _, err := s.Recv(); failed <- err }()
		synctest.Wait()
		net.Cut("a", "c")
		close(hold)
		for range 2 {
			err := <-failed
			require.ErrorIs(t, err, rpc.ErrUnavailable)
			require.NotErrorIs(t, err, bad)
		}
	})
}

// Y5
func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []uint64
		net, n := setup(t, &fake{write: echo(&got), chunks: 10})
		took := func(f func()) time.Duration { began := time.Now(); f(); return time.Since(began) }
		info := func() { _, err := n.Info(t.Context()); require.NoError(t, err) }
		net.Delay("c", "a", time.Second)
		require.Equal(t, time.Second, took(info))
		net.Delay("a", "", time.Minute)
		require.Equal(t, time.Minute+time.Second, took(info))
		net.Delay("", "a", time.Hour)
		require.Equal(t, time.Hour+time.Minute+time.Second, took(info), "they add up")
		net.Delay("", "a", 0)

		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		require.Equal(t, time.Millisecond, took(func() {
			_, err := n.Info(ctx)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}), "whoever waits may give up")

		s, err := n.Write(t.Context(), rpc.Header{})
		require.NoError(t, err)
		require.Equal(t, time.Minute+time.Second, took(func() {
			for i := range 10 {
				require.NoError(t, s.Send(rpc.WriteRequest{Seq: uint64(i)}))
			}
			for i := range 10 {
				r, err := s.Recv()
				require.NoError(t, err)
				require.EqualValues(t, i, r.Segment)
			}
		}), "messages do not wait for one another")
		s.Close()
		chunks, err := n.Tail(t.Context(), rpc.TailRequest{})
		require.NoError(t, err)
		require.Equal(t, time.Minute, took(func() {
			for range 10 {
				_, err := chunks.Recv()
				require.NoError(t, err)
			}
		}))
		chunks.Close()
		net.Delay("c", "a", 0)
		net.Delay("a", "", 0)
		require.Zero(t, took(info))
	})
}

// Y5
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []uint64
		f := &fake{write: echo(&got)}
		net, n := setup(t, f)
		s, err := n.Write(t.Context(), rpc.Header{})
		require.NoError(t, err)
		require.NoError(t, s.Send(rpc.WriteRequest{Seq: 1}))
		_, err = s.Recv()
		require.NoError(t, err)

		net.Stall("", "a")
		require.NoError(t, s.Send(rpc.WriteRequest{Seq: 2}))
		infos := make(chan error, 1)
		go func() { _, err := n.Info(t.Context()); infos <- err }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = n.Info(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		<-time.After(time.Hour)
		require.Equal(t, []uint64{1}, got)
		require.Zero(t, f.infos.Load())
		require.Empty(t, infos)

		net.Stall("a", "c")
		net.Resume("", "a")
		synctest.Wait()
		require.Equal(t, []uint64{1, 2}, got, "nothing was lost")
		require.EqualValues(t, 1, f.infos.Load())
		require.Empty(t, infos, "the replies are held back now")
		net.Resume("a", "c")
		require.NoError(t, <-infos)
		r, err := s.Recv()
		require.NoError(t, err)
		require.Equal(t, segments.TxID(2), r.Segment)
	})
}

// The end of a stream is held back, too: a writer that is stalled does not hear that it was fenced.
func TestStall_EndOfStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad, end := errors.New("bad"), make(chan struct{})
		net, n := setup(t, &fake{write: func(s rpc.ServerStream) error {
			<-end
			_ = s.Send(rpc.WriteReply{Segment: 7})
			return bad
		}})
		s, err := n.Write(t.Context(), rpc.Header{})
		require.NoError(t, err)
		net.Stall("a", "c")
		close(end)
		heard := make(chan error, 2)
		go func() {
			_, err := s.Recv()
			heard <- err
			_, err = s.Recv()
			heard <- err
		}()
		<-time.After(time.Hour)
		require.Empty(t, heard)
		net.Resume("a", "c")
		require.NoError(t, <-heard)
		require.ErrorIs(t, <-heard, bad)
	})
}

// Whoever closes, or goes down, does not wait for what is stalled.
func TestStall_Ends(t *testing.T) {
	for name, end := range map[string]func(*memnet.Network, rpc.WriteStream, rpc.Node){
		"close":       func(_ *memnet.Network, s rpc.WriteStream, n rpc.Node) { s.Close(); _ = n.Close() },
		"conn closed": func(_ *memnet.Network, _ rpc.WriteStream, n rpc.Node) { _ = n.Close() },
		"node down":   func(net *memnet.Network, _ rpc.WriteStream, n rpc.Node) { net.Down("a"); _ = n.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []uint64
				net, n := setup(t, &fake{write: echo(&got)})
				s, err := n.Write(t.Context(), rpc.Header{})
				require.NoError(t, err)
				require.NoError(t, s.Send(rpc.WriteRequest{Seq: 1}))
				synctest.Wait()
				net.Stall("a", "c")
				net.Stall("c", "a")
				failed := make(chan error, 2)
				go func() { _, err := s.Recv(); failed <- err }()
				go func() { _, err := n.Info(t.Context()); failed <- err }()
				synctest.Wait()
				end(net, s, n)
				require.Error(t, <-failed)
				require.Error(t, <-failed)
			}) // the bubble ends only if all did
		})
	}
}
