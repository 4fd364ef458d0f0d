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

// A reader may begin anywhere: at the first frame, at one in the middle, inside one, at the last.
func TestReaderFromAnywhere(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{})
	cl := c.Client()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, cl.CreateJournal(ctx, "a"))
	w, err := cl.OpenWriter(ctx, "a", libqjm.WriterOptions{})
	require.NoError(t, err)
	const frames = 10 // of three transactions each
	for i := range frames {
		var batch [][]byte
		for k := range 3 {
			batch = append(batch, fmt.Appendf(nil, "txn %d", 3*i+k+1))
		}
		_, _, err := w.AppendBatch(ctx, batch)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close(ctx))
	for from := libqjm.TxID(1); from <= 3*frames; from++ {
		r, err := cl.OpenReader(ctx, "a", libqjm.ReaderOptions{From: from})
		require.NoError(t, err)
		next := from
		for txn, err := range r.All(ctx) {
			require.NoError(t, err, "from %d", from)
			require.Equal(t, next, txn.ID)
			require.Equal(t, fmt.Sprintf("txn %d", next), string(txn.Data))
			next++
		}
		require.EqualValues(t, 3*frames+1, next)
		require.NoError(t, r.Close())
	}
}
