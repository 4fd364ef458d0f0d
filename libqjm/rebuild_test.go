package libqjm_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// rot flips a bit of a payload in the open segment of node i, which is down or will soon look.
func (b *bed) rot(i int, payload string) {
	b.Helper()
	dir := b.JournalDir(i) + "/segments"
	names, err := b.Disks[i].List(dir)
	require.NoError(b, err)
	for _, n := range names {
		if !strings.HasSuffix(n, ".inprogress") {
			continue
		}
		content, err := b.Disks[i].ReadAll(dir + "/" + n)
		require.NoError(b, err)
		at := bytes.Index(content, []byte(payload))
		require.Positive(b, at)
		require.NoError(b, b.Disks[i].FlipBit(dir+"/"+n, int64(at), 3))
		return
	}
	require.Fail(b, "no open segment")
}

// W0, W5: the copy of the segment that is being written rots on one node. The writer has it rebuilt inside
// the same segment and epoch; then the node counts again: with another one gone, appends go on.
func TestW5_RottenCopyOfTheOpenSegmentIsRebuilt(t *testing.T) {
	for _, ring := range []int{0, 1} { // with frames to resend from the ring, and without
		run(t, testcluster.Options{}, func(b *bed) {
			w := b.writerWith(libqjm.WriterOptions{RingBytes: ring})
			b.write(w, 1, 50)
			for i := libqjm.TxID(51); i <= 60; i++ {
				b.write(w, i, i)
			}
			pass(2 * time.Second) // quiet: the mark stands behind everything (N2a)
			b.StopNode(2)
			b.rot(2, "txn 7")
			b.write(w, 61, 70)
			b.StartNode(2)
			b.Until(time.Minute, "n3 is in step", func() bool {
				st := w.Status()
				return st.Channels[2].Acked == 70 && st.Segment == 1
			})
			b.StopNode(0)
			b.write(w, 71, 80)
			require.NoError(b, w.Close(b.ctx))
			require.Equal(b, upTo(1, 80), b.read(libqjm.ReaderOptions{}))
			b.finalized(1, 80)
		})
	}
}

// A node that notices damage in its copy while it is being written leaves the stream, and comes back the
// same way.
func TestW5_DamageMetWhileWriting(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 20)
		b.Until(time.Minute, "n3 has it all", func() bool { return w.Status().Channels[2].Acked == 20 })
		b.rot(2, "txn 7")
		b.write(w, 21, 21)
		pass(2 * time.Second) // n3 hears what is committed
		b.StopNode(0)
		b.StopNode(1)
		r, err := b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{})
		require.NoError(b, err)
		_, err = r.Next(b.within(10 * time.Second)) // n3 is all there is, and meets the damage
		require.Error(b, err)
		require.NoError(b, r.Close())
		b.StartNode(0)
		b.StartNode(1)
		b.write(w, 22, 30)
		b.Until(time.Minute, "n3 is in step", func() bool { return w.Status().Channels[2].Acked == 30 })
		b.StopNode(0)
		b.write(w, 31, 40)
		require.Equal(b, libqjm.TxID(1), w.Status().Segment)
		require.NoError(b, w.Close(b.ctx))
		require.Equal(b, upTo(1, 40), b.read(libqjm.ReaderOptions{}))
	})
}
