package libqjm_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// TestOverGRPC is a short life of a journal over real connections; nothing is left running after it.
func TestOverGRPC(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := testcluster.Start(t, testcluster.Options{})
	cl := c.Client()
	require.NoError(t, cl.CreateJournal(ctx, "j"))
	w, err := cl.OpenWriter(ctx, "j", libqjm.WriterOptions{Compress: true, RingBytes: 4 << 10})
	require.NoError(t, err)
	r, err := cl.OpenReader(ctx, "j", libqjm.ReaderOptions{Follow: true})
	require.NoError(t, err)
	next := libqjm.TxID(1)
	for round := range 3 {
		c.StopNode(round)
		for range 50 {
			_, err := w.Append(ctx, append(text(next), make([]byte, 500)...))
			require.NoError(t, err)
			txn, err := r.Next(ctx)
			require.NoError(t, err)
			require.Equal(t, next, txn.ID)
			next++
		}
		c.StartNode(round)
		c.Until(30*time.Second, "it comes back inside the segment", func() bool {
			ch := w.Status().Channels[round]
			return ch.InSync && ch.Acked == next-1
		})
	}
	require.EqualValues(t, 1, w.Status().Segment)
	// A rival over another client: the first one is fenced, and told so though it only listens.
	second := c.Client()
	rival, err := second.OpenWriter(ctx, "j", libqjm.WriterOptions{})
	require.NoError(t, err)
	c.Until(30*time.Second, "fenced", func() bool { return w.Err() != nil })
	require.ErrorIs(t, w.Close(ctx), libqjm.ErrFenced)
	require.Equal(t, next, rival.FirstTxID())
	require.NoError(t, rival.Close(ctx))
	require.NoError(t, r.Close())
	for i := range c.Nodes {
		c.StopNode(i)
	}
	require.NoError(t, second.Close())
	require.NoError(t, cl.Close())
}
