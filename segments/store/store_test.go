package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/segments"
)

// started returns a world with segment 1 open and the given groups committed.
func started(t testingT, opts Options, groups ...[]int) *world {
	w := newWorld(t, opts)
	require.NoError(t, w.create(header(1, segments.End{})))
	for _, sizes := range groups {
		require.NoError(t, w.append(sizes...))
		require.NoError(t, w.commit())
	}
	return w
}

func TestCreateIsOneSyncedStep(t *testing.T) {
	w := newWorld(t, Options{})
	w.fs.ResetLog()
	require.NoError(t, w.create(header(1, segments.End{})))
	const temp = "j/segments/incoming-00000000000000000001-create.tmp"
	require.Equal(t, []string{
		"create " + temp, "write " + temp + " 0+4096", "preallocate " + temp + " 4096+258048", "sync " + temp,
		"rename " + temp + " j/segments/00000000000000000001.inprogress", "syncdir j/segments",
	}, w.fs.Log())
}

// A group commit is one write and one sync, the mark included (N2a: no extra sync, same write).
func TestN2a_MarkRidesWithTheGroup(t *testing.T) {
	w := started(t, Options{}, []int{100, 200})
	first := w.w.Synced()
	at, _ := w.w.c.synced()
	w.fs.ResetLog()
	require.NoError(t, w.append(300, 400, 500))
	require.NoError(t, w.commit())
	end, _ := w.w.c.synced()
	const name = "j/segments/00000000000000000001.inprogress"
	require.Equal(t, []string{fmt.Sprintf("write %s %d+%d", name, at, end-at), "sync " + name}, w.fs.Log())

	b, err := w.disk.ReadAll(name)
	require.NoError(t, err)
	m, err := segments.ParseMark(b[at:], w.w.Header(), at)
	require.NoError(t, err)
	require.Equal(t, first, m.Synced)

	w.fs.ResetLog()
	require.NoError(t, w.w.MarkIdle())
	require.Equal(t, []string{fmt.Sprintf("write %s %d+64", name, end), "sync " + name}, w.fs.Log())
	require.NoError(t, w.w.MarkIdle())
	require.Len(t, w.fs.Log(), 2, "nothing is above the mark")
	require.NoError(t, w.append(1))
	require.NoError(t, w.w.MarkIdle())
	require.Len(t, w.fs.Log(), 2, "never ahead of a waiting append")
	require.NoError(t, w.commit())
	w.fs.ResetLog()
	require.NoError(t, w.close())
	require.Len(t, w.fs.Log(), 2, "at a clean stop")
	require.Contains(t, w.fs.Log()[0], "+64")
	report, err := w.openTail(1)
	require.NoError(t, err)
	require.Equal(t, report.Last, report.MarkedUp)
}

// D2: nothing of a group is seen before its sync.
func TestD2_OnlySyncedIsServed(t *testing.T) {
	w := started(t, smallOptions, []int{100})
	r, err := w.d.Reader(1, 1)
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	f, err := r.Next()
	require.NoError(t, err)
	require.Equal(t, w.w.Synced(), f.Position())
	require.NoError(t, w.append(3000, 4000)) // written ahead of Commit: beyond the buffer
	_, err = r.Next()
	require.Equal(t, io.EOF, err)
	_, ok, err := w.d.DigestAt(1, w.w.Last().TxID)
	require.NoError(t, err)
	require.False(t, ok)
	require.NotEqual(t, w.w.Last(), w.w.Synced())
	require.NoError(t, w.commit())
	for range 2 {
		_, err = r.Next()
		require.NoError(t, err)
	}
	require.NoError(t, w.finalize())
	_, err = r.Next()
	require.Equal(t, io.EOF, err)
}

// Before OpenTail nothing of a segment in progress is served (W2a).
func TestW2a_NothingIsServedBeforeOpenTail(t *testing.T) {
	w := started(t, Options{}, []int{100})
	w.boot(w.disk.ProcessCrashClone())
	require.NoError(t, w.open())
	_, err := w.d.Reader(1, 1)
	require.ErrorIs(t, err, ErrNotOpen)
	_, _, err = w.d.DigestAt(1, 1)
	require.ErrorIs(t, err, ErrNotOpen)
	i, err := w.d.Info(1)
	require.NoError(t, err)
	require.Equal(t, StateInProgress, i.State)
	require.False(t, i.Loaded)
	require.EqualValues(t, 1, i.Epoch)
}

// W2a: a group that was written and not synced is in the page cache after the process died. Once
// OpenTail has reported it, a power loss keeps it, even where a failed sync had marked its pages
// clean, so that a later sync alone would not write them.
func TestW2a_ReportedTailSurvivesPowerLoss(t *testing.T) {
	for _, failedSync := range []bool{false, true} {
		w := started(t, smallOptions, []int{100}, []int{200, 300})
		require.NoError(t, w.append(400, 2500, 500))
		w.fs.Inject(faultfs.Rule{Op: faultfs.OpSync, DropUnsynced: failedSync})
		require.ErrorIs(t, w.commit(), ErrPoisoned)

		w.boot(w.disk.ProcessCrashClone())
		require.NoError(t, w.open())
		report, err := w.openTail(1)
		require.NoError(t, err)
		require.Nil(t, report.CutAt)
		require.Equal(t, 6, w.one(1).min, "all is in the page cache")

		w.reopen(w.disk.CrashClone(memfs.CrashOptions{}))
		require.Equal(t, 6, w.one(1).min)
	}
}

// W2a: the rewrite covers what is above the mark, and no more.
func TestW2a_RewritesFromTheMarkOn(t *testing.T) {
	w := started(t, Options{}, []int{100}, []int{200})
	at, _ := w.w.c.synced()
	require.NoError(t, w.append(300))
	require.NoError(t, w.commit())
	end, _ := w.w.c.synced()
	w.boot(w.disk.ProcessCrashClone())
	require.NoError(t, w.open())
	w.fs.ResetLog()
	_, err := w.openTail(1)
	require.NoError(t, err)
	const name = "j/segments/00000000000000000001.inprogress"
	require.Equal(t, []string{fmt.Sprintf("write %s %d+%d", name, at, end-at), "sync " + name, "syncdir j/segments"}, w.fs.Log())
}

// torn returns a world whose last group was torn by a power loss: its first sector is lost.
func torn(t *testing.T) (*world, segments.Position) {
	w := started(t, Options{}, []int{100}, []int{200, 300})
	synced := w.w.Synced()
	at, _ := w.w.c.synced()
	require.NoError(t, w.append(600, 700, 800))
	w.fs.Inject(faultfs.Rule{Op: faultfs.OpSync})
	require.Error(t, w.commit())
	disk := w.disk.CrashClone(memfs.CrashOptions{UnsyncedPercent: 100})
	const name = "j/segments/00000000000000000001.inprogress"
	require.NoError(t, disk.Overwrite(name, (at+segments.MarkSize)/512*512, make([]byte, 512)))
	v := w.one(1)
	v.min = 1 // what the zeroed sector hits of the group before is another test's business
	w.boot(disk)
	require.NoError(t, w.open())
	return w, synced
}

// N2a: a torn tail is cut, a copy is kept, and cut_at stands until the segment is filled beyond it,
// over restarts, too.
func TestN2a_CutIsReportedUntilFilled(t *testing.T) {
	w, _ := torn(t)
	wr, report, err := w.d.OpenTail(1)
	require.NoError(t, err)
	require.ErrorIs(t, report.Cut, segments.ErrTorn)
	require.NotNil(t, report.CutAt)
	require.Equal(t, report.Last, *report.CutAt)
	require.Equal(t, "00000000000000000001.inprogress.torn-1", report.Aside)
	kept, err := w.disk.ReadAll(testDir + "/" + report.Aside)
	require.NoError(t, err)
	require.Contains(t, string(kept), string(bytes.Repeat([]byte{byte(800 & 0xff)}, 800)))
	cut := *report.CutAt
	require.NoError(t, wr.Close())

	for range 2 { // restarts, with and without the page cache
		w.boot(w.disk.CrashClone(memfs.CrashOptions{}))
		require.NoError(t, w.open())
		wr, report, err = w.d.OpenTail(1)
		require.NoError(t, err)
		require.NoError(t, report.Cut, "nothing is torn any more")
		require.Equal(t, &cut, report.CutAt)
		require.NoError(t, wr.Close())
	}
	wr, _, err = w.d.OpenTail(1)
	require.NoError(t, err)
	require.NoError(t, wr.Append(makeFrames(t, wr.Last(), 1, 5)...))
	require.NoError(t, wr.Commit())
	require.NoError(t, wr.Close())
	_, report, err = w.d.OpenTail(1)
	require.NoError(t, err)
	require.Nil(t, report.CutAt)
}

// An unfinished finalize is no cut, and leaves nothing behind in the way of what is appended next.
func TestN2a_OldFooterIsNoCut(t *testing.T) {
	w := started(t, smallOptions, []int{100, 200}, []int{300})
	w.fs.Inject(faultfs.Rule{Op: faultfs.OpRename})
	require.ErrorIs(t, w.finalize(), ErrPoisoned)
	w.boot(w.disk.CrashClone(memfs.CrashOptions{}))
	require.NoError(t, w.open())
	for range 3 {
		report, err := w.openTail(1)
		require.NoError(t, err)
		require.Nil(t, report.CutAt)
		require.NoError(t, report.Cut)
		require.NoError(t, w.append(1))
		require.NoError(t, w.commit())
		w.boot(w.disk.CrashClone(memfs.CrashOptions{}))
		require.NoError(t, w.open())
	}
	require.NotContains(t, names(t, w.disk), "torn")
}

// Whoever finds damage elsewhere says so here.
func TestMarkDamaged(t *testing.T) {
	w := started(t, smallOptions, []int{100})
	boom := &segments.CorruptionError{Segment: 1, Err: errors.New("boom")}
	w.d.MarkDamaged(1, boom)
	w.d.MarkDamaged(7, boom)
	_, err := w.d.Reader(1, 1)
	require.ErrorIs(t, err, segments.ErrCorrupt)
	_, err = w.w.Finalize(w.one(1).end())
	require.ErrorIs(t, err, segments.ErrCorrupt)
	i, err := w.d.Info(1)
	require.NoError(t, err)
	require.Equal(t, StateDamaged, i.State)
	require.Equal(t, error(boom), i.Err)
	require.NoError(t, w.w.Close())
	require.NoError(t, w.d.SetAside(1, segments.ReasonDamaged))
	_, err = w.d.Info(1)
	require.ErrorIs(t, err, segments.ErrNotFound)
}

// T3, N2, N2a: every flipped byte of what is at or below the last mark is found when the segment is
// opened; the segment is Damaged then, and its file is as it was. It is never a shorter segment.
func TestN2a_EveryFlipBelowTheMarkIsDamage(t *testing.T) {
	w := started(t, smallOptions, []int{100, 30}, []int{60})
	require.NoError(t, w.w.MarkIdle())
	end, last := w.w.c.synced()
	const name = "j/segments/00000000000000000001.inprogress"
	for off := int64(0); off < end-segments.MarkSize; off++ {
		disk := w.disk.CrashClone(memfs.CrashOptions{})
		require.NoError(t, disk.FlipBit(name, off, int(off%8)))
		before, err := disk.ReadAll(name)
		require.NoError(t, err)
		d, err := Open(disk, testDir, testJournal, smallOptions)
		require.NoError(t, err)
		_, _, err = d.OpenTail(1)
		require.ErrorIs(t, err, segments.ErrCorrupt, "offset %d", off)
		i, err := d.Info(1)
		require.NoError(t, err)
		require.Equal(t, StateDamaged, i.State)
		if off >= segments.HeaderSize {
			require.EqualValues(t, 1, i.Epoch, "W0 asks for the epoch of a damaged copy")
		}
		after, err := disk.ReadAll(name)
		require.NoError(t, err)
		require.True(t, bytes.Equal(before, after))
		_, _, err = d.OpenTail(1)
		require.ErrorIs(t, err, segments.ErrCorrupt, "again")
	}
	// In the last mark itself: nothing is lost by that.
	for off := end - segments.MarkSize; off < end; off++ {
		disk := w.disk.CrashClone(memfs.CrashOptions{})
		require.NoError(t, disk.FlipBit(name, off, 3))
		d, err := Open(disk, testDir, testJournal, smallOptions)
		require.NoError(t, err)
		_, report, err := d.OpenTail(1)
		require.NoError(t, err)
		require.Equal(t, last, report.Last)
	}
}

// Damage in a finalized segment is found by Verify, and by a reader that comes across it; the others
// go on.
func TestFinalizedDamage(t *testing.T) {
	w := started(t, smallOptions, []int{100, 200}, []int{300})
	require.NoError(t, w.finalize())
	name := testDir + "/" + w.baseOf(1)
	st, err := w.disk.Stat(name)
	require.NoError(t, err)
	for off := int64(0); off < st.Size(); off++ {
		disk := w.disk.CrashClone(memfs.CrashOptions{})
		require.NoError(t, disk.FlipBit(name, off, int(off%8)))
		d, err := Open(disk, testDir, testJournal, smallOptions)
		require.NoError(t, err)
		err = d.Verify(1, nil)
		require.ErrorIs(t, err, segments.ErrCorrupt, "offset %d", off)
		require.Equal(t, StateDamaged, d.Infos()[0].State)
		_, err = d.Reader(1, 1)
		require.ErrorIs(t, err, segments.ErrCorrupt)
	}
	disk := w.disk.CrashClone(memfs.CrashOptions{})
	require.NoError(t, disk.FlipBit(name, segments.HeaderSize+70, 1))
	d, err := Open(disk, testDir, testJournal, smallOptions)
	require.NoError(t, err)
	r, err := d.Reader(1, 1)
	require.NoError(t, err)
	_, err = r.Next()
	require.ErrorIs(t, err, segments.ErrCorrupt)
	_, err = r.Next()
	require.ErrorIs(t, err, segments.ErrCorrupt)
	i, err := d.Info(1)
	require.NoError(t, err)
	require.Equal(t, StateDamaged, i.State)

	// A2: a good copy takes the place of the damaged one, which is kept.
	w.boot(disk)
	w.d = d
	v := *w.one(1)
	w.segs[1].versions = []version{v}
	require.NoError(t, w.install(v.h, v.frames, true, segments.ReasonDamaged))
	w.reopen(w.disk.CrashClone(memfs.CrashOptions{}))
	require.Contains(t, names(t, w.disk), "seg.damaged-1")
}

// R5: a finalized segment is never changed.
func TestR5_FinalizedIsNeverReplaced(t *testing.T) {
	w := started(t, smallOptions, []int{100, 200})
	require.NoError(t, w.finalize())
	v := *w.one(1)
	for _, final := range []bool{false, true} {
		in, err := w.d.NewIncoming(v.h, "x")
		require.NoError(t, err)
		for _, f := range v.frames {
			require.NoError(t, in.Append(f))
		}
		if final {
			_, err = in.InstallFinalized(v.end(), segments.ReasonReplaced)
		} else {
			err = in.InstallInProgress(segments.ReasonReplaced)
		}
		require.ErrorIs(t, err, ErrFinalized)
		require.NoError(t, in.Abort())
	}
	_, err := w.d.Create(v.h)
	require.ErrorIs(t, err, ErrExists)
	_, _, err = w.d.OpenTail(1)
	require.ErrorIs(t, err, ErrFinalized)
	w.check()
}

// W1: gaps and other epochs are refused, and nothing of the call is taken.
func TestW1_AppendRefuses(t *testing.T) {
	w := started(t, smallOptions, []int{100})
	good := makeFrames(t, w.w.Last(), 1, 10, 20)
	require.ErrorIs(t, w.w.Append(good[1]), segments.ErrGap)
	require.ErrorIs(t, w.w.Append(good[0], good[0]), segments.ErrGap)
	require.ErrorIs(t, w.w.Append(good[0], makeFrames(t, good[0].Position(), 2, 10)[0]), segments.ErrGap)
	require.Equal(t, w.w.Synced(), w.w.Last())
	require.Zero(t, w.w.Pending())
	require.NoError(t, w.w.Append(good...))

	in, err := w.d.NewIncoming(header(1, segments.End{}), "x")
	require.NoError(t, err)
	frames := makeFrames(t, in.Position(), 1, 10, 20)
	bad := frames[0].Clone()
	bad.Bytes()[60] ^= 1
	require.ErrorIs(t, in.Append(bad), segments.ErrCorrupt)
	require.ErrorIs(t, in.Append(frames[1]), segments.ErrGap)
	require.ErrorIs(t, in.Append(makeFrames(t, in.Position(), 2, 10)[0]), segments.ErrGap)
	require.ErrorIs(t, in.Append(makeFrames(t, segments.Position{Digest: segments.Digest{1}}, 1, 10)[0]), segments.ErrGap)
	require.NoError(t, in.Append(frames[0]))
	require.NoError(t, in.Abort())
	require.NotContains(t, names(t, w.disk), ".tmp")
}

func TestW8_FinalizeRefuses(t *testing.T) {
	w := started(t, smallOptions)
	_, err := w.w.Finalize(segments.End{First: 1})
	require.ErrorIs(t, err, ErrWrongEnd, "empty (R6)")
	require.NoError(t, w.append(10))
	end := segments.End{First: 1, Last: w.w.Last().TxID, Digest: w.w.Last().Digest}
	_, err = w.w.Finalize(end)
	require.ErrorIs(t, err, ErrWrongEnd, "not committed")
	require.NoError(t, w.commit())
	for _, e := range []segments.End{{First: 1, Last: end.Last + 1, Digest: end.Digest}, {First: 2, Last: end.Last, Digest: end.Digest}, {First: 1, Last: end.Last}} {
		_, err = w.w.Finalize(e)
		require.ErrorIs(t, err, ErrWrongEnd)
	}
	info, err := w.w.Finalize(end)
	require.NoError(t, err)
	require.Equal(t, end, info.End())
	require.Equal(t, StateFinalized, info.State)
	require.ErrorIs(t, w.w.Append(), ErrClosed)
	st, err := w.disk.Stat(testDir + "/" + segments.Name{Kind: segments.NameFinalized, First: 1, Last: end.Last}.String())
	require.NoError(t, err)
	require.Equal(t, st.Size(), info.Bytes)
}

// A full disk: the group is dropped, the writer is good, and goes on when there is room.
func TestNoSpaceDropsTheGroupOnly(t *testing.T) {
	w := started(t, smallOptions, []int{100}, []int{200})
	w.disk.SetCapacity(0)
	require.NoError(t, w.append(3000)) // within the preallocation; written ahead of Commit
	w.fs.ResetLog()
	err := w.append(30_000)
	log := w.fs.Log()
	require.Contains(t, log[len(log)-2], "write ", "what was written is zeroed")
	require.Contains(t, log[len(log)-1], "sync ", "and does not come back")
	require.ErrorIs(t, err, vfs.ErrNoSpace)
	require.NotErrorIs(t, err, ErrPoisoned)
	require.NoError(t, w.d.Poisoned())
	require.Equal(t, w.w.Synced(), w.w.Last())
	require.NoError(t, w.commit(), "nothing")

	_, err = w.d.Create(header(5, segments.End{First: 1, Last: 4}))
	require.ErrorIs(t, err, vfs.ErrNoSpace)
	_, err = w.d.NewIncoming(header(5, segments.End{First: 1, Last: 4}), "x")
	require.ErrorIs(t, err, vfs.ErrNoSpace)
	require.NotContains(t, names(t, w.disk), ".tmp")

	require.NoError(t, w.append(300))
	require.NoError(t, w.commit(), "what fits is still taken")
	for _, disk := range crashes(w.disk, 5) {
		twin := w.fork()
		twin.reopen(disk)
	}
	w.disk.SetCapacity(-1)
	require.NoError(t, w.append(30_000))
	require.NoError(t, w.commit())
	require.NoError(t, w.finalize())
	w.check()
}

// Where the step does not fit but the frame does, the frame is taken.
func TestNoSpaceTakesASmallerStep(t *testing.T) {
	opts := smallOptions
	opts.PreallocateBytesMax = 1 << 20
	opts.PreallocateBytes = 1 << 20
	w := started(t, opts)
	w.disk.SetCapacity(1<<20 + 64<<10)
	require.NoError(t, w.append(1<<20))
	require.NoError(t, w.commit())
	require.ErrorIs(t, w.append(1<<20), vfs.ErrNoSpace)
	w.check2()
}

// check2 is check for a world with an open writer.
func (w *world) check2() {
	require.NoError(w.t, w.close())
	w.check()
}

// T6: after a failed sync there is no second one.
func TestNoSyncAfterAFailedOne(t *testing.T) {
	w := started(t, smallOptions, []int{100})
	w.fs.Inject(faultfs.Rule{Op: faultfs.OpSync, Nth: 1})
	require.NoError(t, w.append(50))
	w.fs.ResetLog()
	first := w.commit()
	require.ErrorIs(t, first, ErrPoisoned)
	require.ErrorIs(t, first, faultfs.ErrInjected)
	require.Equal(t, w.one(1).position(1), w.w.Synced())
	require.Len(t, w.framesOf(1), 1)
	require.Equal(t, first, w.w.Append())
	require.Equal(t, first, w.commit())
	require.Equal(t, first, w.w.MarkIdle())
	require.NoError(t, w.w.Close())
	require.Len(t, w.fs.Log(), 2)
	p := &PoisonedError{Err: vfs.ErrNoSpace}
	require.NotErrorIs(t, p, vfs.ErrNoSpace, "that one means: nothing happened")
}

func TestDigestAt(t *testing.T) {
	w := newWorld(t, Options{})
	require.NoError(t, w.create(header(1, segments.End{})))
	want := map[segments.TxID]segments.Digest{0: {}}
	for i := range 60 {
		require.NoError(t, w.append(9000+i, 12, 15))
		require.NoError(t, w.commit())
	}
	v := w.one(1)
	for _, f := range v.frames {
		want[f.Last()] = f.Digest()
	}
	check := func() {
		t.Helper()
		for id := segments.TxID(0); id <= v.position(v.min).TxID+3; id++ {
			got, ok, err := w.d.DigestAt(1, id)
			require.NoError(t, err)
			digest, isEnd := want[id]
			require.Equal(t, isEnd, ok, id)
			require.Equal(t, digest, got)
		}
	}
	check()
	require.Greater(t, len(w.w.c.index.Entries()), 5)
	last := w.w.Last().TxID
	for from := segments.TxID(0); from <= last+2; from += 7 { // readers begin anywhere
		r, err := w.d.Reader(1, from)
		require.NoError(t, err)
		f, err := r.Next()
		if from > last {
			require.Equal(t, io.EOF, err)
		} else {
			require.NoError(t, err)
			require.True(t, f.Range().Contains(max(from, 1)))
			require.Equal(t, f.First()-1, r.Before().TxID)
			require.NoError(t, f.Verify(r.Before().Digest))
		}
		require.NoError(t, r.Close())
	}
	require.NoError(t, w.finalize())
	check()
	w.reopen(w.disk.CrashClone(memfs.CrashOptions{}))
	v = w.one(1)
	check()
	_, _, err := w.d.DigestAt(2, 2)
	require.ErrorIs(t, err, segments.ErrNotFound)
}

func TestCopyPrefix(t *testing.T) {
	w := started(t, smallOptions, []int{100, 201, 300}, []int{400})
	v := *w.one(1)
	for n := range len(v.frames) + 1 {
		h := v.h
		in, err := w.d.NewIncoming(h, "prefix")
		require.NoError(t, err)
		pos := v.position(n)
		require.NoError(t, w.d.CopyPrefix(1, pos.TxID, in))
		require.Equal(t, pos, in.Position())
		require.NoError(t, w.d.CopyPrefix(1, pos.TxID, in), "again: nothing to do")
		require.NoError(t, in.Abort())
	}
	in, err := w.d.NewIncoming(v.h, "prefix")
	require.NoError(t, err)
	require.ErrorIs(t, w.d.CopyPrefix(1, v.frames[1].First(), in), ErrWrongEnd, "inside a frame")
	require.ErrorIs(t, w.d.CopyPrefix(1, v.position(v.min).TxID+1, in), ErrWrongEnd, "beyond")
	require.NoError(t, in.Abort())
	require.NoError(t, in.Abort())
	require.ErrorIs(t, in.Append(v.frames[0]), ErrClosed)
}

func TestOpenTidiesUp(t *testing.T) {
	w := started(t, smallOptions, []int{100, 200})
	require.NoError(t, w.finalize())
	for _, name := range []string{
		"incoming-00000000000000000009-x.tmp", "README", "00000000000000000001.inprogress",
	} {
		f, err := w.disk.Create(testDir + "/" + name)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	require.NoError(t, w.open())
	require.Len(t, w.d.Infos(), 1)
	list := names(t, w.disk)
	require.NotContains(t, list, ".tmp")
	require.Contains(t, list, "README")
	require.Contains(t, list, "00000000000000000001.inprogress.leftover-1")
	require.NoError(t, w.d.Verify(1, nil))

	// Two finalized copies: nobody here may choose.
	f, err := w.disk.Create(testDir + "/00000000000000000001-00000000000000000099.seg")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, w.open())
	require.Equal(t, StateDamaged, w.d.Infos()[0].State)
	_, err = w.d.Reader(1, 1)
	require.ErrorIs(t, err, segments.ErrCorrupt)
}

func TestForeignFiles(t *testing.T) {
	w := started(t, smallOptions, []int{100})
	require.NoError(t, w.finalize())
	d, err := Open(w.disk, testDir, segments.JournalID{9}, smallOptions)
	require.NoError(t, err)
	_, err = d.Reader(1, 1)
	require.ErrorIs(t, err, segments.ErrCorrupt)
	require.ErrorIs(t, err, ErrForeign)
	_, err = d.Create(header(100, segments.End{First: 1, Last: 99}))
	require.ErrorIs(t, err, ErrForeign)
	_, err = d.NewIncoming(header(100, segments.End{First: 1, Last: 99}), "x")
	require.ErrorIs(t, err, ErrForeign)
}

func TestOpenWriterIsBusy(t *testing.T) {
	w := started(t, smallOptions, []int{100})
	require.ErrorIs(t, w.d.SetAside(1, segments.ReasonStale), ErrBusy)
	_, _, err := w.d.OpenTail(1)
	require.ErrorIs(t, err, ErrBusy)
	in, err := w.d.NewIncoming(header(1, segments.End{}), "x")
	require.NoError(t, err)
	require.ErrorIs(t, in.InstallInProgress(segments.ReasonReplaced), ErrBusy)
	require.NoError(t, in.Abort())
	_, err = w.d.NewIncoming(header(1, segments.End{}), "../x")
	require.Error(t, err)
}

// Ten thousand segments: listing them opens no file.
func TestInfosReadsNoFile(t *testing.T) {
	disk := memfs.New()
	require.NoError(t, disk.MkdirAll(testDir))
	const n = 10_000
	for i := range n {
		name := segments.Name{Kind: segments.NameFinalized, First: segments.TxID(i*10 + 1), Last: segments.TxID(i*10 + 10)}
		f, err := disk.Create(testDir + "/" + name.String())
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	ffs := faultfs.New(disk)
	ffs.Inject(faultfs.Rule{Op: faultfs.OpOpen | faultfs.OpRead})
	d, err := Open(ffs, testDir, testJournal, Options{})
	require.NoError(t, err)
	infos := d.Infos()
	require.Len(t, infos, n)
	for i, info := range infos {
		require.EqualValues(t, i*10+1, info.First)
		require.EqualValues(t, i*10+10, info.Last)
		require.Equal(t, StateFinalized, info.State)
	}
}

// Readers, infos and digests go on beside the writer, over finalizations and replacements.
func TestConcurrentReaders(t *testing.T) {
	w := newWorld(t, smallOptions)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	read := func() error {
		for _, i := range w.d.Infos() {
			r, err := w.d.Reader(i.First, i.First)
			if errors.Is(err, segments.ErrNotFound) || errors.Is(err, ErrNotOpen) {
				continue
			}
			if err != nil {
				return err
			}
			for {
				f, err := r.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					return err
				}
				if err := f.CheckPayload(); err != nil {
					return err
				}
			}
			if _, _, err := w.d.DigestAt(i.First, i.Last); err != nil && !errors.Is(err, segments.ErrNotFound) && !errors.Is(err, ErrNotOpen) {
				return err
			}
			if _, err := w.d.Info(i.First); err != nil && !errors.Is(err, segments.ErrNotFound) {
				return err
			}
			if err := r.Close(); err != nil {
				return err
			}
		}
		return nil
	}
	errs := make(chan error, 3)
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := read(); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	prev := segments.End{}
	for i := range 25 {
		require.NoError(t, w.create(header(1, prev)))
		for j := range 5 {
			require.NoError(t, w.append(100+i*j, 2000))
			require.NoError(t, w.commit())
		}
		v := *w.one(prev.Next())
		switch i % 3 {
		case 0:
			require.NoError(t, w.finalize())
		case 1:
			require.NoError(t, w.close())
			require.NoError(t, w.install(v.h, v.frames, true, segments.ReasonReplaced))
		case 2:
			require.NoError(t, w.close())
			h := v.h
			h.Epoch++
			require.NoError(t, w.install(h, makeFrames(t, h.Start(), h.Epoch, 7, 8), false, segments.ReasonReplaced))
			_, err := w.openTail(h.First)
			require.NoError(t, err)
			require.NoError(t, w.finalize())
			v = *w.one(h.First)
		}
		prev = v.end()
	}
	close(stop)
	wg.Wait()
	select {
	case err := <-errs:
		require.NoError(t, err)
	default:
	}
	w.check()
}

func TestOptions(t *testing.T) {
	_, err := Open(memfs.New(), testDir, testJournal, Options{PreallocateBytes: 1, BufferBytes: 1, FootersCached: -1})
	require.ErrorContains(t, err, "PreallocateBytes")
	require.ErrorContains(t, err, "BufferBytes")
	require.ErrorContains(t, err, "FootersCached")
}

// Zeros ahead of the groups are there to be faster, and the blocks were reserved: a file system that writes
// elsewhere (copy-on-write) and has no room for them refuses nothing that anybody asked for. They are left out until
// the file grows; the groups themselves go on.
func TestZeroAhead_WithoutRoom(t *testing.T) {
	opts := Options{PreallocateBytes: 16 << 10, PreallocateBytesMax: 16 << 10}
	const name = "j/segments/00000000000000000001.inprogress"
	w := newWorld(t, opts)
	require.NoError(t, w.create(header(1, segments.End{})))
	w.fs.Inject(faultfs.Rule{Op: faultfs.OpWrite, PathContains: name, Nth: 1, Err: vfs.ErrNoSpace})
	w.fs.ResetLog()
	require.NoError(t, w.append(10), "the zeros are refused, the group is not")
	require.NoError(t, w.commit())
	require.Contains(t, w.fs.Log()[0], "(fault)")

	w.fs.ResetLog()
	for range 5 {
		require.NoError(t, w.append(10))
		require.NoError(t, w.commit())
	}
	require.Len(t, w.fs.Log(), 10, "a write and a sync each: zeros are not tried again with each append")

	w.fs.ResetLog()
	for w.w.Bytes() < opts.PreallocateBytes {
		require.NoError(t, w.append(100))
		require.NoError(t, w.commit())
	}
	preallocated := slices.IndexFunc(w.fs.Log(), func(l string) bool { return strings.HasPrefix(l, "preallocate ") })
	require.GreaterOrEqual(t, preallocated, 0)
	require.Contains(t, w.fs.Log()[preallocated+1:], "write "+name+" 20480+12288", "the file grew: zeros again")

	require.NoError(t, w.finalize())
	require.NoError(t, w.open())
}

// Any other failure of theirs is a failed write like all others: what is on the disk is not known any more.
func TestZeroAhead_FailedWritePoisons(t *testing.T) {
	w := newWorld(t, Options{PreallocateBytes: 16 << 10})
	require.NoError(t, w.create(header(1, segments.End{})))
	w.fs.Inject(faultfs.Rule{Op: faultfs.OpWrite, Nth: 1})
	require.ErrorIs(t, w.append(10), ErrPoisoned)
}

// A1: a list that was made is as good as a new one until Changes moves; so whatever turns out to be damaged moves it.
func TestChanges_DamageCounts(t *testing.T) {
	name1 := segments.Name{Kind: segments.NameFinalized, First: 1, Last: 1}.String()
	for name, find := range map[string]func(w *world) error{
		"scrub": func(w *world) error { return w.d.Verify(1, nil) },
		"reader": func(w *world) error {
			r, err := w.d.Reader(1, 1)
			if err != nil {
				return err
			}
			_, err = r.Next()
			return errors.Join(err, r.Close())
		},
		"told": func(w *world) error { w.d.MarkDamaged(1, segments.ErrCorrupt); return segments.ErrCorrupt },
	} {
		t.Run(name, func(t *testing.T) {
			w := started(t, Options{}, []int{100})
			require.NoError(t, w.finalize())
			before, held := w.d.Changes(), listed(t, w.d)
			require.NoError(t, w.d.Verify(1, nil))
			require.Equal(t, before, w.d.Changes(), "nothing was found")
			require.NoError(t, w.disk.FlipBit("j/segments/"+name1, segments.HeaderSize+70, 1))
			require.ErrorIs(t, find(w), segments.ErrCorrupt)
			require.NotEqual(t, held, listed(t, w.d))
			require.Greater(t, w.d.Changes(), before)
			after := w.d.Changes()
			require.Error(t, find(w))
			require.Equal(t, after, w.d.Changes(), "known already")
			require.NoError(t, w.d.SetAside(1, segments.ReasonDamaged))
			require.Greater(t, w.d.Changes(), after)
			after = w.d.Changes()
			require.NoError(t, w.d.Clear())
			require.Greater(t, w.d.Changes(), after)
		})
	}
}

// openCounter counts opened files.
type openCounter struct {
	vfs.FS
	opens int
}

func (c *openCounter) Open(name string) (vfs.File, error) {
	c.opens++
	return c.FS.Open(name)
}

// What Info tells of a finalized segment is read once, with one opening of its file, and nothing else of it is kept.
func TestInfo_OpensAFileOnce(t *testing.T) {
	w := started(t, Options{}, []int{100})
	require.NoError(t, w.finalize())
	c := &openCounter{FS: w.disk}
	d, err := Open(c, testDir, testJournal, Options{})
	require.NoError(t, err)
	d.Infos()
	require.Zero(t, c.opens, "it is told by the names")
	for range 3 {
		i, err := d.Info(1)
		require.NoError(t, err)
		require.Equal(t, w.one(1).end(), i.End())
		require.True(t, i.Loaded)
	}
	require.Equal(t, 1, c.opens)
	require.Empty(t, d.cached, "only those who read need the index")
}

func TestChanges_CopiesCount(t *testing.T) {
	w := newWorld(t, Options{})
	h := header(1, segments.End{})
	frames := makeFrames(t, h.Start(), h.Epoch, 10, 20)
	copied := func() *Incoming {
		in, err := w.d.NewIncoming(h, "x")
		require.NoError(t, err)
		for _, f := range frames {
			require.NoError(t, in.Append(f))
		}
		return in
	}
	before := w.d.Changes()
	require.NoError(t, copied().InstallInProgress(segments.ReasonReplaced))
	require.Greater(t, w.d.Changes(), before)
	before = w.d.Changes()
	end := segments.End{First: 1, Last: frames[1].Last(), Digest: frames[1].Digest()}
	require.NoError(t, copied().Keep())
	found, err := w.d.InstallKept(1, end, segments.ReasonReplaced)
	require.NoError(t, err)
	require.True(t, found)
	require.Greater(t, w.d.Changes(), before)
}
