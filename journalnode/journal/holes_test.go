package journal_test

import (
	"context"
	"errors"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// The tests in the files holes_test.go show holes that a hostile review found; each failed before its hole was mended.

var (
	attackJournal = segments.JournalID{1}
	attackMembers = quorum.NewConfig(1,
		quorum.Member{ID: "n1", Incarnation: quorum.Incarnation{1}},
		quorum.Member{ID: "n2", Incarnation: quorum.Incarnation{2}},
		quorum.Member{ID: "n3", Incarnation: quorum.Incarnation{3}})
)

// box is one node's journal on a memory disk.
type box struct {
	t    *testing.T
	at   int
	disk *memfs.FS
	fs   *faultfs.FS
	j    *journal.Journal
}

func newBox(t *testing.T, at int) *box {
	b := &box{t: t, at: at, disk: memfs.New()}
	require.NoError(t, journal.Create(b.disk, "j", attackJournal, "a", attackMembers))
	b.open()
	return b
}

func (b *box) open() {
	b.fs = faultfs.New(b.disk)
	m := attackMembers.Members()[b.at]
	j, err := journal.Open(b.fs, "j", journal.Self{ID: m.ID, Incarnation: m.Incarnation}, attackJournal,
		journal.Options{Store: store.Options{PreallocateBytes: 8 << 10, PreallocateBytesMax: 8 << 10}})
	require.NoError(b.t, err)
	b.j = j
}

func (b *box) head(e fencing.Epoch) rpc.Header {
	return rpc.Header{
		Journal: attackJournal, ConfigVersion: 1, Incarnation: attackMembers.Members()[b.at].Incarnation,
		Claim: fencing.Claim{Epoch: e, Writer: fencing.WriterID{byte(e)}},
	}
}

type line struct {
	b       *box
	st      *journal.Stream
	replies []rpc.WriteReply
	err     error
}

func (b *box) line(e fencing.Epoch) *line {
	l := &line{b: b}
	l.st = &journal.Stream{
		Header: b.head(e),
		Reply:  func(r rpc.WriteReply) { l.replies = append(l.replies, r) },
		Fail:   func(err error) { l.err = err },
	}
	require.NoError(b.t, b.j.Hello(l.st.Header))
	return l
}

func (l *line) send(m rpc.WriteRequest) *line {
	l.b.j.Process([]journal.Item{{Stream: l.st, Request: m}})
	return l
}

func (l *line) last() rpc.WriteReply {
	require.NotEmpty(l.b.t, l.replies)
	return l.replies[len(l.replies)-1]
}

func chainOf(t *testing.T, prev segments.Position, e fencing.Epoch, txns ...string) (out []segments.Frame) {
	for _, txn := range txns {
		var b segments.Builder
		b.Reset(prev.TxID+1, e)
		require.NoError(t, b.Add([]byte(txn)))
		f, err := b.Seal(prev.Digest, segments.SealOptions{})
		require.NoError(t, err)
		prev = f.Position()
		out = append(out, f)
	}
	return out
}

func (b *box) prepare(e fencing.Epoch, s segments.TxID, digests ...segments.TxID) recovery.Answer {
	a, err := b.j.Prepare(b.head(e), s, digests)
	require.NoError(b.t, err)
	return a
}

func (b *box) accept(e fencing.Epoch, end segments.End, source *box) error {
	req := recovery.AcceptRequest{Claim: b.head(e).Claim, End: end, Epoch: 1}
	plan, err := b.j.BeginAccept(b.head(e), req)
	if err != nil || !plan.Fetch {
		return err
	}
	if source == nil {
		return errors.Join(rpc.ErrNoSource, plan.Incoming.Abort())
	}
	err = source.j.Read(context.Background(), rpc.ReadRequest{
		Journal: attackJournal, Segment: end.First, From: end.First, UpTo: end.Last, Durable: true, Epoch: 1,
	}, func(c rpc.Chunk) error {
		fs, err := segments.ParseFrames(c.Frames)
		for _, f := range fs {
			if err == nil {
				err = plan.Incoming.Append(f)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	return b.j.FinishAccept(b.head(e), req, plan.Incoming)
}

func endAt(f segments.Frame) segments.End {
	return segments.End{First: 1, Last: f.Last(), Digest: f.Digest()}
}

// W1, R4, R8. 1: n1 acks txn 1. 2: one message brings frame 2 (good) and frame 4 (a gap): refused, but
// frame 2 stays in the group. 3: epoch 2 prepares: "ends at 1"; the choice is 1..1 and n1 accepts it in
// place: the sync before the record writes frame 2 behind the accepted end. 4: the next recovery, with
// n3 that accepted 1..1 in epoch 2, sees equal ballots and takes the longer: a decided end changed.
func TestHole_RefusedFrameIsWrittenBehindAnAcceptedEnd(t *testing.T) {
	n1, n3 := newBox(t, 0), newBox(t, 2)
	fs := chainOf(t, segments.Position{}, 1, "one", "two", "three", "four")
	l := n1.line(1).send(rpc.WriteRequest{Start: &segments.End{}}).send(rpc.WriteRequest{Frames: fs[:1]})
	require.NoError(t, l.err)
	l.send(rpc.WriteRequest{Frames: []segments.Frame{fs[1], fs[3]}})
	require.Error(t, l.err)
	last := n1.prepare(2, 1).Copy.Last // 1, or 2 where the good frame is kept and synced
	end := endAt(fs[last.TxID-1])
	require.NoError(t, n1.accept(2, end, nil))
	require.NoError(t, n3.accept(2, end, n1))
	a1, a3 := n1.prepare(3, 1), n3.prepare(3, 1)
	ch, need, err := recovery.Choose(attackMembers, 1, []recovery.Answer{a1, a3})
	require.NoError(t, err)
	if len(need) > 0 {
		a1 = n1.prepare(3, 1, need[0].TxID)
		ch, _, err = recovery.Choose(attackMembers, 1, []recovery.Answer{a1, a3})
		require.NoError(t, err)
	}
	require.Equal(t, end, ch.End, "epoch 2 decided the first on a majority, epoch 3 decides the second")
}

// The same leftover, seen by the live writer: it reconnects, is told "1", sends frame 2 again, and is
// refused with a breach ("was written here with other content"): the node is lost to it.
func TestHole_RefusedFrameMakesAFalseBreach(t *testing.T) {
	n1 := newBox(t, 0)
	fs := chainOf(t, segments.Position{}, 1, "one", "two", "three", "four")
	n1.line(1).send(rpc.WriteRequest{Start: &segments.End{}}).send(rpc.WriteRequest{Frames: fs[:1]}).
		send(rpc.WriteRequest{Frames: []segments.Frame{fs[1], fs[3]}})
	l := n1.line(1).send(rpc.WriteRequest{Start: &segments.End{}})
	l.send(rpc.WriteRequest{Frames: fs[l.last().At.TxID:3]})
	require.NoError(t, l.err)
	require.Equal(t, fs[2].Position(), l.last().At)
}

// R4, N2. One read error (EIO, not even rot) when the kept content is looked at after the record was
// written: the content is deleted, the old copy stays in place, and Accept says that all is well. The node
// then answers with the new record's ballot and the old content.
func TestHole_ReadErrorDuringAcceptInstallsNothingAndSaysDone(t *testing.T) {
	n1, n2 := newBox(t, 0), newBox(t, 1)
	fs := chainOf(t, segments.Position{}, 1, "one", "two")
	n1.line(1).send(rpc.WriteRequest{Start: &segments.End{}}).send(rpc.WriteRequest{Frames: fs[:1]})
	n2.line(1).send(rpc.WriteRequest{Start: &segments.End{}}).send(rpc.WriteRequest{Frames: fs[:2]})
	n1.prepare(2, 1)
	n2.prepare(2, 1)
	n1.fs.Inject(faultfs.Rule{Op: faultfs.OpRead, PathContains: ".accepting", Nth: 1})
	err := n1.accept(2, endAt(fs[1]), n2)
	a := n1.prepare(2, 1)
	if err == nil {
		require.Equal(t, fs[1].Position(), a.Copy.Last, "accepted 1..2, holds 1..%d, state %s, ballot %d", a.Copy.Last.TxID, a.Copy.State, a.Copy.Ballot())
	}
}

func (b *box) flip(off int64) {
	names, err := b.disk.List("j/segments")
	require.NoError(b.t, err)
	for _, n := range names {
		if strings.Contains(n, "inprogress") {
			f, err := b.disk.OpenWrite(path.Join("j/segments", n))
			require.NoError(b.t, err)
			var c [1]byte
			_, err = f.ReadAt(c[:], off)
			require.NoError(b.t, err)
			c[0] ^= 1
			_, err = f.WriteAt(c[:], off)
			require.NoError(b.t, err)
			require.NoError(b.t, f.Close())
		}
	}
}

// damaged is a node that acked three frames, one of which rotted since, and a reader found out.
func damaged(t *testing.T) (*box, []segments.Frame) {
	n1 := newBox(t, 0)
	fs := chainOf(t, segments.Position{}, 1, "one", "two", "three", "four")
	l := n1.line(1).send(rpc.WriteRequest{Start: &segments.End{}}).send(rpc.WriteRequest{Frames: fs[:3]})
	l.send(rpc.WriteRequest{Floor: recovery.Floor{Segment: 1, Epoch: 1, At: fs[2].Position()}})
	require.NoError(t, l.err)
	n1.flip(segments.HeaderSize + int64(fs[0].Size()) + segments.FrameHeaderSize)
	err := n1.j.Read(context.Background(), rpc.ReadRequest{Journal: attackJournal, Segment: 1, From: 1},
		func(rpc.Chunk) error { return nil })
	require.ErrorIs(t, err, segments.ErrCorrupt)
	return n1, fs
}

// N2: what cannot be read in full is unknown. The open segment is known to be damaged (a reader met it,
// the store noted it, Segments and State name it), and still it is a data answer with its full length.
func TestHole_N2KnownDamageOfTheOpenSegmentIsADataAnswer(t *testing.T) {
	n1, _ := damaged(t)
	p, err := n1.j.NewEpoch(n1.head(2))
	require.NoError(t, err)
	require.False(t, p.DataKnown, "promise counts as a data answer")
	require.Equal(t, recovery.Unknown, n1.prepare(2, 1).Copy.State)
}

// N2, R4: and it is accepted "in place, verified since open": the accept counts, the content is not there.
func TestHole_R4KnownDamageIsAcceptedInPlace(t *testing.T) {
	n1, fs := damaged(t)
	n1.prepare(2, 1)
	if err := n1.accept(2, endAt(fs[2]), nil); err == nil {
		err = n1.j.Read(context.Background(), rpc.ReadRequest{Journal: attackJournal, Segment: 1, From: 1, Durable: true, Epoch: 1},
			func(rpc.Chunk) error { return nil })
		require.NoError(t, err, "the accept was acknowledged; its content cannot be read")
	}
}

// N2, W3: and it goes on acknowledging. An ack names the whole history by its digest; this node cannot
// give back txid 2, which the writer counts on it for.
func TestHole_N2KnownDamageIsStillAcked(t *testing.T) {
	n1, fs := damaged(t)
	l := n1.line(1).send(rpc.WriteRequest{Frames: fs[3:4]})
	if l.err == nil {
		require.NotEqual(t, fs[3].Position(), l.last().At, "acks txid 4 on top of a frame that it knows it cannot read")
	}
}

// N2a: cut_at stands until S is accepted *beyond* it. Accepted exactly at the cut (the cut node's own
// shorter copy was chosen), it is cleared in memory.
func TestHole_N2aCutAtAfterAcceptAtTheCut(t *testing.T) {
	n1 := newBox(t, 0)
	fs := chainOf(t, segments.Position{}, 1, "one", "two")
	n1.line(1).send(rpc.WriteRequest{Start: &segments.End{}}).send(rpc.WriteRequest{Frames: fs[:1]}).send(rpc.WriteRequest{Frames: fs[1:2]})
	n1.disk = n1.disk.ProcessCrashClone()
	n1.flip(segments.HeaderSize + int64(fs[0].Size()) + segments.MarkSize + segments.FrameHeaderSize)
	n1.open()
	a := n1.prepare(2, 1)
	require.Equal(t, fs[0].Position(), a.Copy.Last)
	require.NotNil(t, a.Copy.CutAt)
	require.NoError(t, n1.accept(2, endAt(fs[0]), nil))
	require.NotNil(t, n1.prepare(3, 1).Copy.CutAt, "in memory it is gone; after a restart it is back")
}
