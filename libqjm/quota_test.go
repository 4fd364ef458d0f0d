package libqjm_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

const testQuota = 64 << 10

// fill appends one transaction of 1 KiB after the other until one is refused, in segments of ten, and returns
// the last that is in. The rolls are followed by a pause: nodes say that they are over their quota with the answer
// to the start of a segment, too.
func (c *catalog) fill(w *libqjm.Writer) (last libqjm.TxID, refused error) {
	c.Helper()
	for range 1000 {
		id, err := w.Append(c.within(5*time.Second), bytes.Repeat([]byte("x"), 1<<10))
		if err != nil {
			return last, err
		}
		if last = id; last%10 == 0 {
			require.NoError(c, w.Roll(c.ctx))
			pass(time.Second)
		}
	}
	require.Fail(c, "the quota holds nothing up")
	return 0, nil
}

// logOn is the log on a node as the quota counts it, but for the room that is made ahead in the open segment.
func (c *catalog) logOn(i int) (closed int64) {
	c.Helper()
	l, err := rpc.AllSegments(c.ctx, c.id, c.Nodes[i].Segments)
	require.NoError(c, err)
	for _, s := range l {
		if s.State.String() == "finalized" {
			closed += s.Bytes
		}
	}
	return closed
}

// untilRefused waits until appends are refused at once.
func (c *catalog) untilRefused(w *libqjm.Writer) {
	c.Helper()
	c.Until(time.Minute, "the quota is known", func() bool {
		_, err := w.Append(c.within(3*time.Second), []byte("x"))
		return errors.Is(err, libqjm.ErrQuota) && !libqjm.MayHaveCommitted(err)
	})
}

func (c *catalog) setQuota(quota uint64) {
	c.Helper()
	require.NoError(c, c.cl.SetQuota(c.ctx, "j", quota))
	pass(5 * time.Second) // each node by its own copy of the catalog
}

// A journal at its quota takes no new transactions; the refusals are definite. It is read, snapshots are saved,
// and when its log was purged, or the quota was raised, writing goes on by itself.
func TestQuota_RefusedAndResumed(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		c.setQuota(testQuota)
		w := c.writer()
		last, err := c.fill(w)
		require.ErrorIs(c, err, libqjm.ErrQuota)
		require.False(c, libqjm.MayHaveCommitted(err), "%v", err)
		require.Equal(c, last, w.Status().Assigned, "a refusal uses up no txid")
		require.EqualValues(c, last, w.Committed())
		for i := range 3 {
			require.LessOrEqual(c, c.logOn(i), int64(testQuota+4<<10), "one frame over it, and no more")
		}
		pass(30 * time.Second)
		_, err = w.Append(c.ctx, []byte("x"))
		require.ErrorIs(c, err, libqjm.ErrQuota)

		r, err := c.cl.OpenReader(c.ctx, "j", libqjm.ReaderOptions{})
		require.NoError(c, err)
		for id := libqjm.TxID(1); id <= last; id++ {
			txn, err := r.Next(c.ctx)
			require.NoError(c, err)
			require.Equal(c, id, txn.ID)
		}
		require.NoError(c, r.Close())

		// A new writer recovers, and is told before it uses a txid.
		w = c.writer()
		require.EqualValues(c, last+1, w.FirstTxID())
		_, err = w.Append(c.ctx, []byte("x"))
		require.ErrorIs(c, err, libqjm.ErrQuota)
		require.False(c, libqjm.MayHaveCommitted(err))
		require.Equal(c, last, w.Status().Assigned)

		_, err = w.SaveSnapshot(c.ctx, last, bytes.NewReader(state(1<<20))) // it is larger than the quota, and does not count
		require.NoError(c, err)
		c.Until(time.Minute, "writing goes on", func() bool {
			_, err := w.Append(c.ctx, []byte("x"))
			return err == nil
		})

		last, err = c.fill(w)
		require.ErrorIs(c, err, libqjm.ErrQuota)
		c.setQuota(2 * testQuota)
		c.Until(time.Minute, "writing goes on", func() bool {
			_, err := w.Append(c.ctx, []byte("x"))
			return err == nil
		})
		c.setQuota(1)
		c.untilRefused(w)
		c.setQuota(0)
		c.Until(time.Minute, "none at all", func() bool { _, err := w.Append(c.ctx, []byte("x")); return err == nil })
		require.Greater(c, w.Committed(), last)
	})
}

// What is under way when the quota is reached is in doubt, says why, and commits under its txids when there is
// room.
func TestQuota_UnderWayIsInDoubt(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		w := c.writer()
		c.write(w, 1, 10)
		admin := c.ClientWith(libqjm.Options{Dialer: c.Net.Dialer("admin")})
		for i := range 3 {
			c.Net.Partition("client", c.ID(i))
		}
		var futures []libqjm.Future
		for range 20 {
			f, err := w.AppendAsync(c.ctx, []byte("x"))
			require.NoError(c, err)
			futures = append(futures, f)
		}
		require.NoError(c, admin.SetQuota(c.ctx, "j", 1))
		pass(5 * time.Second)
		c.Net.HealAll()
		pass(5 * time.Second)
		_, err := futures[19].Wait(c.within(3 * time.Second))
		require.True(c, libqjm.MayHaveCommitted(err))
		require.ErrorIs(c, err, libqjm.ErrQuota)
		require.ErrorIs(c, err, context.DeadlineExceeded)
		_, err = w.Append(c.ctx, []byte("x"))
		require.ErrorIs(c, err, libqjm.ErrQuota)
		require.False(c, libqjm.MayHaveCommitted(err))
		c.setQuota(0)
		for i, f := range futures {
			id, err := f.Wait(c.ctx)
			require.NoError(c, err)
			require.EqualValues(c, 11+i, id)
		}
		require.EqualValues(c, 30, w.Committed())
	})
}

// One node over its quota is none to wait for, and catches up when it is not any more.
func TestQuota_OfOneNode(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		w := c.writer()
		c.segmentsTo(w, 20)
		c.everywhere(20)
		c.Net.Partition(c.ID(2), c.ID(0)) // it hears nothing of the catalog
		c.Net.Partition(c.ID(2), c.ID(1))
		c.setQuota(1)
		c.untilRefused(w)
		c.setQuota(0)
		c.Until(time.Minute, "two are enough", func() bool { _, err := w.Append(c.ctx, []byte("x")); return err == nil })
		c.Net.HealAll()
		last := w.Committed()
		c.Until(time.Minute, "all three follow", func() bool {
			for _, ch := range w.Status().Channels {
				if !ch.InSync || ch.Acked < last {
					return false
				}
			}
			return true
		})
		require.NoError(c, w.Close(c.ctx))
	})
}

// Repair and recovery go on over the quota: a node that was away gets what the others have.
func TestQuota_RepairGoesOn(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		w := c.writer()
		c.StopNode(2)
		c.segmentsTo(w, 40)
		c.write(w, 41, 45) // and in progress
		c.setQuota(1)
		c.untilRefused(w)
		c.abandon(w)
		c.start(2)
		c.StopNode(0)
		again := c.writer()
		require.GreaterOrEqual(c, again.FirstTxID(), libqjm.TxID(46))
		c.StartNode(0)
		c.everywhere(40)
		ids := c.read(libqjm.ReaderOptions{To: 45})
		require.Equal(c, upTo(1, 45), ids)
		c.untilRefused(again)
		_, err := c.cl.SaveSnapshot(c.ctx, "j", 45, strings.NewReader("state"))
		require.NoError(c, err)
		c.abandon(again)
	})
}
