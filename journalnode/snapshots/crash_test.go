package snapshots

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/segments"
)

// crashes yields what the disk may hold after a power loss now, and after a kill.
func crashes(disk *memfs.FS, seed uint64) []*memfs.FS {
	return []*memfs.FS{
		disk.CrashClone(memfs.CrashOptions{}),
		disk.CrashClone(memfs.CrashOptions{UnsyncedPercent: 100}),
		disk.CrashClone(memfs.CrashOptions{UnsyncedPercent: 50, Rand: rand.New(rand.NewPCG(seed, 1))}),
		disk.CrashClone(memfs.CrashOptions{UnsyncedPercent: 80, Rand: rand.New(rand.NewPCG(seed, 2))}),
		disk.ProcessCrashClone(),
	}
}

// work is a run through all that writes, and what is known for sure after each step.
type work struct {
	t    testing.TB
	fs   *faultfs.FS
	s    *Store
	must []segments.TxID // there and whole, whatever happens
	may  []segments.TxID // there and whole, or not visible
}

func workContent(txid segments.TxID) []byte { return content(2000 + int(txid)) }

func (w *work) open() (err error) {
	w.s, err = Open(w.fs, testDir, testJournal, smallOptions, Cleanup{})
	return err
}

func (w *work) upload(txid segments.TxID) error {
	w.may = append(w.may, txid)
	if err := upload(w.s, txid, workContent(txid), 700); err != nil {
		return err
	}
	w.settle(txid, true)
	return nil
}

func (w *work) settle(txid segments.TxID, there bool) {
	is := func(other segments.TxID) bool { return other == txid }
	w.may = slices.DeleteFunc(w.may, is)
	w.must = slices.DeleteFunc(w.must, is)
	if there {
		w.must = append(w.must, txid)
	}
}

func (w *work) gone(txid segments.TxID, f func() error) error {
	w.settle(txid, false)
	w.may = append(w.may, txid)
	if err := f(); err != nil {
		return err
	}
	w.settle(txid, false)
	return nil
}

// half leaves an upload unfinished.
func (w *work) half(txid segments.TxID) error {
	b := workContent(txid)
	u, err := w.s.Begin(snapOf(txid, b).ID(), SizeUnknown)
	if err != nil {
		return err
	}
	return errors.Join(u.Write(u.Offset(), b[u.Offset():1900]), u.Close())
}

func (w *work) run() error {
	steps := []func() error{
		w.open,
		func() error { return w.upload(100) },
		func() error { return w.half(200) },
		w.open, // a restart
		func() error { return w.half(200) },
		func() error { return w.upload(200) },
		func() error { return w.upload(300) },
		func() error { return w.gone(100, func() error { return w.s.Remove(100) }) },
		func() error { return w.gone(200, func() error { return w.s.SetAside(200, segments.ReasonReplaced) }) },
		func() error { return w.upload(200) },
		func() error { return w.half(400) },
		func() error { return w.s.Cleanup(Cleanup{Below: 500}) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// check opens what a crash left: finished snapshots are whole, all others are not visible (C1, C4), and
// can be uploaded.
func (w *work) check(disk *memfs.FS) {
	w.t.Helper()
	s := openStore(w.t, disk)
	told := s.List()
	// What was told rests on no page cache (W2a).
	require.Len(w.t, openStore(w.t, disk.CrashClone(memfs.CrashOptions{})).List(), len(told))
	there := map[segments.TxID]bool{}
	for _, i := range told {
		txid := i.Snapshot.TxID
		require.NoError(w.t, i.Err)
		require.True(w.t, slices.Contains(w.must, txid) || slices.Contains(w.may, txid), "snapshot %d was never finished", txid)
		requireWhole(w.t, s, txid, workContent(txid))
		there[txid] = true
	}
	for _, txid := range w.must {
		require.True(w.t, there[txid], "snapshot %d is lost", txid)
	}
	for _, txid := range []segments.TxID{100, 200, 300, 400} {
		if there[txid] {
			continue
		}
		require.NoError(w.t, upload(s, txid, workContent(txid), 333))
		requireWhole(w.t, openStore(w.t, disk.CrashClone(memfs.CrashOptions{})), txid, workContent(txid))
	}
}

// P1, P2, C4: a power loss, or a dead process, at every mutation, before and after it.
func TestC4_CrashAtEveryOperation(t *testing.T) {
	for _, after := range []bool{false, true} {
		for k := int64(1); ; k++ {
			disk := newDisk(t)
			w := &work{t: t, fs: faultfs.New(disk)}
			if after {
				w.fs.CrashAfter(k)
			} else {
				w.fs.CrashAt(k)
			}
			err := w.run()
			for _, left := range crashes(disk, uint64(k)) {
				w.check(left)
			}
			if err == nil {
				require.Greater(t, k, int64(60))
				break
			}
			require.ErrorIs(t, err, faultfs.ErrCrashed)
		}
	}
}

// P5, P6: every single failing operation, with what it should have synced lost for good. Nothing is sure
// to be there that is not, now or after a crash; in the same process or in the next one.
func TestEveryOperationFails(t *testing.T) {
	for k := int64(1); ; k++ {
		disk := newDisk(t)
		w := &work{t: t, fs: faultfs.New(disk)}
		w.fs.Inject(faultfs.Rule{Op: faultfs.OpMutating, Nth: k, DropUnsynced: true})
		err := w.run()
		if err == nil {
			require.Greater(t, k, int64(60))
			return
		}
		require.ErrorIs(t, err, faultfs.ErrInjected)
		w.fs.ClearRules()
		if w.s != nil {
			w.goOn()
		}
		for _, left := range crashes(disk, uint64(k)) {
			w.check(left)
		}
	}
}

// goOn tries everything again in the process that met the failure: what it says is there must survive.
func (w *work) goOn() {
	for _, txid := range []segments.TxID{100, 200, 300, 400} {
		err := w.upload(txid)
		switch {
		case err == nil, errors.Is(err, ErrPoisoned):
		case errors.Is(err, ErrExists):
			if !slices.Contains(w.must, txid) {
				w.settle(txid, true)
			}
		default:
			require.NoError(w.t, err)
		}
	}
	for _, i := range w.s.List() {
		if i.Err == nil {
			require.Contains(w.t, w.must, i.Snapshot.TxID)
		}
	}
}

// W2a, P6: a process whose sync failed dies; the next one sees the blocks in the page cache, where they
// count as clean. A sync alone would answer for bytes that no disk has.
func TestP6_ResumedBlocksAreWrittenAgain(t *testing.T) {
	disk := newDisk(t)
	fsys := faultfs.New(disk)
	s := openStore(t, fsys)
	b := content(3000)
	u, err := s.Begin(snapOf(300, b).ID(), SizeUnknown)
	require.NoError(t, err)
	fsys.Inject(faultfs.Rule{Op: faultfs.OpSync, Nth: 1, DropUnsynced: true})
	err = send(u, b, 512)
	require.ErrorIs(t, err, ErrPoisoned)
	require.ErrorIs(t, err, faultfs.ErrInjected)
	before := fsys.Mutations()
	require.Equal(t, err, u.Write(u.Offset(), b[u.Offset():]))
	_, ferr := u.Finish(u.Offset(), sum(b[:u.Offset()]))
	require.Equal(t, err, ferr)
	require.Equal(t, before, fsys.Mutations(), "nothing more is done with it")
	require.NoError(t, u.Close())
	_, err = s.Begin(snapOf(300, b).ID(), SizeUnknown)
	require.ErrorIs(t, err, ErrPoisoned)

	disk = disk.ProcessCrashClone()
	s, err = Open(disk, testDir, testJournal, Options{BlockBytes: 512}, Cleanup{}) // syncs seldom
	require.NoError(t, err)
	u, err = s.Begin(snapOf(300, b).ID(), SizeUnknown)
	require.NoError(t, err)
	require.NotZero(t, u.Offset(), "the page cache has them")
	again, err := openStore(t, disk.CrashClone(memfs.CrashOptions{})).Begin(snapOf(300, b).ID(), SizeUnknown)
	require.NoError(t, err)
	require.Equal(t, u.Offset(), again.Offset(), "what Begin told is on the disk")
	require.NoError(t, send(u, b, 512))
	_, err = u.Finish(3000, sum(b))
	require.NoError(t, err)
	requireWhole(t, openStore(t, disk.CrashClone(memfs.CrashOptions{})), 300, b)
}

// The same for the header.
func TestP6_ResumedHeaderIsWrittenAgain(t *testing.T) {
	disk := newDisk(t)
	fsys := faultfs.New(disk)
	s := openStore(t, fsys)
	b := content(3000)
	fsys.Inject(faultfs.Rule{Op: faultfs.OpSync, Nth: 1, DropUnsynced: true})
	_, err := s.Begin(snapOf(300, b).ID(), SizeUnknown)
	require.ErrorIs(t, err, ErrPoisoned)
	disk = disk.ProcessCrashClone()
	s = openStore(t, disk)
	require.NoError(t, upload(s, 300, b, 1000))
	requireWhole(t, openStore(t, disk.CrashClone(memfs.CrashOptions{})), 300, b)
}

// halfFS writes half of what there is no room for, as a real disk may.
type halfFS struct {
	vfs.FS
	full bool
}

type halfFile struct {
	vfs.File
	fs *halfFS
}

func (f *halfFS) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	return &halfFile{file, f}, err
}

func (f *halfFile) WriteAt(b []byte, off int64) (int, error) {
	if !f.fs.full {
		return f.File.WriteAt(b, off)
	}
	n, err := f.File.WriteAt(b[:len(b)/2], off)
	return n, errors.Join(err, vfs.ErrNoSpace)
}

// A write that was cut short by a full disk gives its room back.
func TestNoSpaceGivesRoomBack(t *testing.T) {
	disk := newDisk(t)
	fsys := &halfFS{FS: disk}
	s := openStore(t, fsys)
	b := content(2000)
	u, err := s.Begin(snapOf(300, b).ID(), SizeUnknown)
	require.NoError(t, err)
	require.NoError(t, u.Write(0, b[:1000]))
	name := testDir + "/" + uploadName(snapOf(300, b).ID())
	before, err := disk.Stat(name)
	require.NoError(t, err)
	fsys.full = true
	require.ErrorIs(t, send(u, b, 1000), vfs.ErrNoSpace)
	after, err := disk.Stat(name)
	require.NoError(t, err)
	require.Equal(t, before.Size(), after.Size())
	fsys.full = false
	require.NoError(t, send(u, b, 1000))
	fsys.full = true
	for range 2 { // the last block, then the trailer
		_, err = u.Finish(2000, sum(b))
		require.ErrorIs(t, err, vfs.ErrNoSpace)
	}
	require.Empty(t, s.List())
	fsys.full = false
	_, err = u.Finish(2000, sum(b))
	require.NoError(t, err)
	requireWhole(t, s, 300, b)
}

// A torn block is cut, and its content sent again.
func TestResumeCutsATornBlock(t *testing.T) {
	disk := newDisk(t)
	s := openStore(t, disk)
	b := content(3000)
	u, err := s.Begin(snapOf(300, b).ID(), SizeUnknown)
	require.NoError(t, err)
	require.NoError(t, u.Write(0, b))
	require.NoError(t, u.Close())
	name := testDir + "/" + uploadName(snapOf(300, b).ID())
	require.NoError(t, disk.FlipBit(name, headerSize+2*(512+blockHeadSize)+100, 3))
	u, err = s.Begin(snapOf(300, b).ID(), SizeUnknown)
	require.NoError(t, err)
	require.EqualValues(t, 1024, u.Offset())
	require.NoError(t, u.Close())
	require.NoError(t, disk.FlipBit(name, 40, 3)) // the header: it starts over
	require.NoError(t, upload(s, 300, b, 100))
	requireWhole(t, s, 300, b)
}

// The disk is full at every byte: nothing becomes visible, and the same upload goes on when there is room.
func TestC4_NoSpaceAtEveryByte(t *testing.T) {
	b := content(1500)
	full := newDisk(t)
	require.NoError(t, upload(openStore(t, full), 300, b, 400))
	st, err := full.Stat(testDir + "/" + finalName(300))
	require.NoError(t, err)
	for room := range st.Size() {
		disk := newDisk(t)
		s := openStore(t, disk)
		disk.SetCapacity(room)
		u, err := s.Begin(snapOf(300, b).ID(), SizeUnknown)
		if err != nil {
			require.ErrorIs(t, err, vfs.ErrNoSpace)
			require.Empty(t, names(t, disk))
			disk.SetCapacity(-1)
			require.NoError(t, upload(s, 300, b, 400))
			requireWhole(t, s, 300, b)
			continue
		}
		err = send(u, b, 400)
		if err == nil {
			_, err = u.Finish(1500, sum(b))
		}
		require.ErrorIs(t, err, vfs.ErrNoSpace, "room for %d", room)
		require.Empty(t, s.List())
		if room%2 == 0 { // or in another process
			require.NoError(t, u.Close())
			disk = disk.CrashClone(memfs.CrashOptions{UnsyncedPercent: 100})
			s = openStore(t, disk)
			u, err = s.Begin(snapOf(300, b).ID(), SizeUnknown)
			require.NoError(t, err, "what is there can be resumed on a full disk")
		}
		disk.SetCapacity(-1)
		require.NoError(t, send(u, b, 400))
		_, err = u.Finish(1500, sum(b))
		require.NoError(t, err)
		requireWhole(t, s, 300, b)
		requireWhole(t, openStore(t, disk.CrashClone(memfs.CrashOptions{})), 300, b)
	}
}

// A full disk that is noticed only by a sync is no refusal: what is on the disk is unknown.
func TestNoSpaceFromASyncPoisons(t *testing.T) {
	for _, op := range []faultfs.OpKind{faultfs.OpSync, faultfs.OpSyncDir, faultfs.OpRename} {
		disk := newDisk(t)
		fsys := faultfs.New(disk)
		s := openStore(t, fsys)
		b := content(700)
		u, err := s.Begin(snapOf(300, b).ID(), SizeUnknown)
		require.NoError(t, err)
		require.NoError(t, send(u, b, 1000))
		fsys.Inject(faultfs.Rule{Op: op, Err: vfs.ErrNoSpace})
		_, err = u.Finish(700, sum(b))
		require.ErrorIs(t, err, ErrPoisoned)
		require.NotErrorIs(t, err, vfs.ErrNoSpace)
		fsys.ClearRules()
		require.NoError(t, u.Close())
		for _, i := range s.List() { // after a rename it has its name, but is unknown
			require.ErrorIs(t, i.Err, ErrPoisoned)
			require.ErrorIs(t, s.Verify(300, nil), ErrPoisoned)
		}
		require.ErrorIs(t, upload(s, 300, b, 1000), ErrPoisoned)
	}
}

// The order of syncs, pinned.
func TestFinishOrder(t *testing.T) {
	fsys := faultfs.New(newDisk(t))
	s := openStore(t, fsys)
	b := content(700)
	fsys.ResetLog()
	require.NoError(t, upload(s, 300, b, 1000))
	tmp, final := testDir+"/"+uploadName(snapOf(300, b).ID()), testDir+"/"+finalName(300)
	require.Equal(t, []string{
		"create " + tmp, "write " + tmp + " 0+128", "sync " + tmp, "syncdir " + testDir,
		"write " + tmp + " 128+528", "write " + tmp + " 656+204", "write " + tmp + " 860+64",
		"sync " + tmp, "rename " + tmp + " " + final, "syncdir " + testDir,
	}, fsys.Log())
}
