package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

func TestSmoke(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Log: testing.Verbose()})
	cl := c.Client()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, cl.CreateJournal(ctx, "a"))
	require.ErrorIs(t, cl.CreateJournal(ctx, "a"), libqjm.ErrJournalExists)
	w, err := cl.OpenWriter(ctx, "a", libqjm.WriterOptions{})
	require.NoError(t, err)
	for i := 1; i <= 1000; i++ {
		id, err := w.Append(ctx, fmt.Appendf(nil, "txn %d", i))
		require.NoError(t, err)
		require.EqualValues(t, i, id)
		if i == 300 {
			require.NoError(t, w.Roll(ctx))
		}
		if i == 500 {
			c.StopNode(2)
		}
		if i == 700 {
			c.StartNode(2)
		}
	}
	require.NoError(t, w.Close(ctx))
	w2, err := cl.OpenWriter(ctx, "a", libqjm.WriterOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 1001, w2.FirstTxID())
	_, err = w2.Append(ctx, []byte("txn 1001"))
	require.NoError(t, err)

	w3, err := cl.OpenWriter(ctx, "a", libqjm.WriterOptions{})
	require.NoError(t, err)
	_, err = w2.Append(ctx, []byte("too late"))
	require.ErrorIs(t, err, libqjm.ErrFenced)
	require.EqualValues(t, 1002, w3.FirstTxID())
	require.NoError(t, w3.Close(ctx))

	r, err := cl.OpenReader(ctx, "a", libqjm.ReaderOptions{})
	require.NoError(t, err)
	n := 0
	for txn, err := range r.All(ctx) {
		require.NoError(t, err)
		n++
		require.EqualValues(t, n, txn.ID)
		require.Equal(t, fmt.Sprintf("txn %d", n), string(txn.Data))
	}
	require.Equal(t, 1001, n)
	st, err := cl.Status(ctx, "a")
	require.NoError(t, err)
	t.Logf("%+v", st)
}
