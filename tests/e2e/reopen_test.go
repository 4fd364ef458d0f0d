package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/wire"
	"github.com/quorumjournal/qjm/libqjm"
)

// promiseTo makes one node promise an epoch to a stranger, as a challenger would that lost its race or
// died right after.
func promiseTo(t *testing.T, c *testcluster.Cluster, node int, journal string, claim fencing.Claim) {
	t.Helper()
	n, err := (&wire.Dialer{}).Dial(c.Endpoints()[node])
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	info, err := n.Info(t.Context())
	require.NoError(t, err)
	found, err := n.FindJournal(t.Context(), journal)
	require.NoError(t, err)
	h := rpc.Header{Journal: found.ID, ConfigVersion: 1, Incarnation: info.Incarnation, Claim: claim}
	require.Eventually(t, func() bool { _, err = n.NewEpoch(t.Context(), h); return err == nil }, 10*time.Second, 20*time.Millisecond)
}

// reopens: the writer holds n1 and n2; n3 refuses its epoch; n1 goes. Only by opening anew can it go on.
func reopens(t *testing.T, claim func(libqjm.Epoch) fencing.Claim, opts libqjm.WriterOptions) (*libqjm.Writer, error) {
	c := testcluster.Start(t, testcluster.Options{})
	cl := c.Client()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, cl.CreateJournal(ctx, "a"))
	promiseTo(t, c, 2, "a", claim(1))
	c.StopNode(2)
	opts.ReopenAfter = 200 * time.Millisecond
	w, err := cl.OpenWriter(ctx, "a", opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.Close(ctx) }) // some of these writers are fenced by then
	_, err = w.Append(ctx, []byte("1"))
	require.NoError(t, err)
	epoch := w.Epoch()
	require.EqualValues(t, 1, epoch)
	c.StartNode(2)
	c.StopNode(0)
	for i := 2; i <= 50; i++ {
		id, err := w.Append(ctx, fmt.Appendf(nil, "%d", i))
		if err != nil {
			return w, err
		}
		require.EqualValues(t, i, id)
	}
	require.Greater(t, w.Epoch(), epoch)
	r, err := cl.OpenReader(ctx, "a", libqjm.ReaderOptions{Linearizable: true})
	require.NoError(t, err)
	n := 0
	for txn, err := range r.All(ctx) {
		require.NoError(t, err)
		n++
		require.Equal(t, fmt.Sprint(n), string(txn.Data))
	}
	require.Equal(t, 50, n)
	return w, nil
}

func TestF5_LostRaceOnANeededNodeIsNotTheEnd(t *testing.T) {
	_, err := reopens(t, func(e libqjm.Epoch) fencing.Claim { return fencing.Claim{Epoch: e, Writer: fencing.WriterID{9}} }, libqjm.WriterOptions{})
	require.NoError(t, err)
}

func TestF6_OutlivesADeadChallengerIfToldTo(t *testing.T) {
	_, err := reopens(t, func(e libqjm.Epoch) fencing.Claim { return fencing.Claim{Epoch: e + 5, Writer: fencing.WriterID{9}} },
		libqjm.WriterOptions{ReopenWhenFenced: true})
	require.NoError(t, err)
}

// TestF6_StaleLostRaceFencesNobody: n3 refused the epoch because of a racer, and has promised a higher one to
// somebody else since. The writer, blocked without n1, must not open anew over that one's head.
func TestF6_StaleLostRaceFencesNobody(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{})
	cl := c.Client()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, cl.CreateJournal(ctx, "a"))
	promiseTo(t, c, 2, "a", fencing.Claim{Epoch: 1, Writer: fencing.WriterID{9}})
	c.StopNode(2)
	w, err := cl.OpenWriter(ctx, "a", libqjm.WriterOptions{ReopenAfter: 100 * time.Millisecond})
	require.NoError(t, err)
	defer func() { done, stop := context.WithCancel(ctx); stop(); _ = w.Close(done) }() // it has no quorum
	c.StartNode(2)
	require.Eventually(t, func() bool { // the refusal is in
		return slices.ContainsFunc(w.Status().Channels, func(s libqjm.ChannelStatus) bool {
			return s.Node == "n3" && errors.Is(s.LastErr, libqjm.ErrLostRace)
		})
	}, 20*time.Second, 10*time.Millisecond)
	promiseTo(t, c, 2, "a", fencing.Claim{Epoch: 6, Writer: fencing.WriterID{8}})
	c.StopNode(0)
	short, stop := context.WithTimeout(ctx, 2*time.Second) // twenty times ReopenAfter
	defer stop()
	_, err = w.Append(short, []byte("no quorum"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.EqualValues(t, 1, w.Epoch())
	st, err := cl.Status(ctx, "a")
	require.NoError(t, err)
	require.EqualValues(t, 6, st.Epoch, "the one who took epoch 6 is not fenced")
}
