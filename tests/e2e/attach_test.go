package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// A writer that comes back with the claim it had can write nothing, ever, and is told why.
func TestAttachWriter(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{})
	cl := c.Client()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, cl.CreateJournal(ctx, "a"))
	w, err := cl.OpenWriter(ctx, "a", libqjm.WriterOptions{})
	require.NoError(t, err)
	_, err = w.Append(ctx, []byte("one"))
	require.NoError(t, err)

	// While the claim is in force, a second process must not write under it (F4).
	_, err = cl.AttachWriter(ctx, "a", w.Claim())
	require.ErrorIs(t, err, libqjm.ErrClaimInForce)
	_, err = cl.AttachWriter(ctx, "a", libqjm.Claim{})
	require.ErrorIs(t, err, libqjm.ErrBadRequest)
	_, err = cl.AttachWriter(ctx, "b", w.Claim())
	require.ErrorIs(t, err, libqjm.ErrNoJournal)
	_, err = w.Append(ctx, []byte("two"))
	require.NoError(t, err)

	next, err := cl.OpenWriter(ctx, "a", libqjm.WriterOptions{})
	require.NoError(t, err)
	old, err := cl.AttachWriter(ctx, "a", w.Claim())
	require.NoError(t, err)
	for range 3 {
		_, err = old.Append(ctx, []byte("too late"))
		require.ErrorIs(t, err, libqjm.ErrFenced)
		require.False(t, libqjm.MayHaveCommitted(err))
		fenced, ok := errors.AsType[*fencing.FencedError](err)
		require.True(t, ok)
		require.Equal(t, w.Claim(), fenced.Got)
		require.Equal(t, next.Claim(), fenced.Promised)
	}
	require.ErrorIs(t, old.Close(ctx), libqjm.ErrFenced)

	id, err := next.Append(ctx, []byte("three"))
	require.NoError(t, err)
	require.EqualValues(t, 3, id)
	require.NoError(t, next.Close(ctx))
	require.ErrorIs(t, w.Close(ctx), libqjm.ErrFenced)
}
