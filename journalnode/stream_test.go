package journalnode_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// A writer that waits for the answer to its Start sends nothing meanwhile, no heartbeat either: the
// refusal must reach it all the same.
func TestWrite_RefusalReachesAWriterThatOnlyListens(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		id := b.journal("j")
		n := b.node(0)
		h := b.header(0, id, 1, writerID())
		ctx, cancel := context.WithCancel(b.ctx)
		defer cancel()
		s, err := n.Write(ctx, h)
		require.NoError(t, err)
		defer s.Close()
		require.NoError(t, s.Send(rpc.WriteRequest{Start: &segments.End{}}))
		_, err = s.Recv()
		require.NoError(t, err)
		wrong := segments.End{First: 1, Last: 7}
		require.NoError(t, s.Send(rpc.WriteRequest{Frames: frames(t, segments.Position{}, 1, "a")}))
		_, err = s.Recv()
		require.NoError(t, err)
		require.NoError(t, s.Send(rpc.WriteRequest{Finalize: &wrong}))
		_, err = soon(b, time.Minute, "the refusal of a wrong Finalize", s.Recv)
		require.ErrorIs(t, err, recovery.ErrMismatch)
	})
}

// The same for a writer that is fenced while it says nothing: it hears of it at its next message.
func TestWrite_FencedAtTheNextMessage(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		id := b.journal("j")
		n := b.node(0)
		s, err := n.Write(b.ctx, b.header(0, id, 1, writerID()))
		require.NoError(t, err)
		defer s.Close()
		require.NoError(t, s.Send(rpc.WriteRequest{Start: &segments.End{}}))
		_, err = s.Recv()
		require.NoError(t, err)
		_, err = n.NewEpoch(b.ctx, b.header(0, id, 5, writerID()))
		require.NoError(t, err)
		require.NoError(t, s.Send(rpc.WriteRequest{Frames: frames(t, segments.Position{}, 1, "late")}))
		_, err = soon(b, time.Minute, "fenced", s.Recv)
		var fenced *fencing.FencedError
		require.ErrorAs(t, err, &fenced)
		require.EqualValues(t, 5, fenced.Promised.Epoch)
		require.EqualValues(t, 1, fenced.Got.Epoch)
	})
}
