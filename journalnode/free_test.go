package journalnode

import (
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/segments"
)

// W2: a message's buffer is given back once, and not before its frames are on the disk, or refused: the next message
// is joined in it at once. Small frames, which are copied, and large ones, which are not; handled where they came,
// and queued.
func TestW2_BuffersAreGivenBackBehindTheSync(t *testing.T) {
	synctest.Test(t, buffersAreGivenBack)
}

func buffersAreGivenBack(t *testing.T) {
	disk, id, self := memfs.New(), segments.JournalID{1}, journal.Self{ID: "a", Incarnation: quorum.Incarnation{1}}
	cfg := quorum.NewConfig(1, quorum.Member{ID: "a", Incarnation: self.Incarnation})
	require.NoError(t, journal.Create(disk, "j", id, "j", cfg))
	j, err := journal.Open(disk, "j", self, id, journal.Options{})
	require.NoError(t, err)
	opts := Options{}.withDefaults()
	o := newOwner(j, opts, slog.New(slog.DiscardHandler), newMetrics(&Node{opts: opts}), newSpare(opts.QuietAfter))
	defer o.close()
	h := rpc.Header{Journal: id, ConfigVersion: 1, Incarnation: self.Incarnation, Claim: fencing.Claim{Epoch: 1, Writer: fencing.WriterID{1}}}
	require.NoError(t, o.do(t.Context(), func(j *journal.Journal) error { return j.Hello(h) }))
	synctest.Wait() // do returns before the owner has given the turn back, and whoever has none is queued
	acks := make(chan rpc.WriteReply, 1)
	st := &journal.Stream{Header: h, Reply: func(r rpc.WriteReply) { acks <- r }, Fail: func(err error) {
		t.Error(err)
		acks <- rpc.WriteReply{}
	}}
	require.True(t, o.handleNow(journal.Item{Stream: st, Request: rpc.WriteRequest{Start: &segments.End{}}}))
	<-acks

	var last segments.Position
	for i, size := range []int{10, 100_000, 10, 100_000} {
		var b segments.Builder
		b.Reset(last.TxID+1, 1)
		require.NoError(t, b.Add(make([]byte, size)))
		f, err := b.Seal(last.Digest, segments.SealOptions{})
		require.NoError(t, err)
		want, freed := f.Position(), make(chan struct{}, 2)
		it := journal.Item{Stream: st, Request: rpc.WriteRequest{Frames: []segments.Frame{f}, Free: func() {
			clear(f.Bytes()) // what another message does with it
			freed <- struct{}{}
		}}}
		if i < 2 {
			require.True(t, o.handleNow(it))
		} else {
			require.NoError(t, o.submit(t.Context(), it, nil))
		}
		require.Equal(t, want, (<-acks).At)
		<-freed
		last = want
	}
	require.NoError(t, o.do(t.Context(), func(j *journal.Journal) error {
		a, err := j.Answer(1, []segments.TxID{last.TxID})
		require.Equal(t, last, a.Copy.Last)
		return err
	}))
	c, err := journal.Open(disk.ProcessCrashClone(), "j", self, id, journal.Options{})
	require.NoError(t, err)
	a, err := c.Answer(1, nil)
	require.NoError(t, err)
	require.Equal(t, last, a.Copy.Last, "what is on the disk are the frames that were acknowledged")
}

// A message is handled where it came only while nothing waits for the journal, and the journal is open.
func TestHandleNow_NotAheadOfOthersNorBehindTheEnd(t *testing.T) {
	o := &owner{turn: make(chan struct{}, 1), tasks: make(chan task, 1)}
	o.tasks <- task{}
	require.False(t, o.handleNow(journal.Item{}), "something waits")
	<-o.tasks
	o.closed = true
	require.False(t, o.handleNow(journal.Item{}), "closed")
	o.closed = false
	o.begin()
	require.False(t, o.handleNow(journal.Item{}), "somebody has the turn")
	o.end()
	require.Empty(t, o.turn, "the turn was given back")
}

// What came while replies were held back leaves though the holder sends nothing; and nothing leaves behind the end.
func TestOutbox_HeldRepliesAreNotForgotten(t *testing.T) {
	box := newOutbox()
	box.hold()
	box.reply(rpc.WriteReply{})
	require.Empty(t, box.wake)
	box.release(false)
	require.NotEmpty(t, box.wake)
	box.close()
	require.ErrorIs(t, box.flush(nil), rpc.ErrClosed)
}
