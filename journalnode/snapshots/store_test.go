package snapshots

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/internal/vfs/osfs"
	"github.com/quorumjournal/qjm/segments"
)

const testDir = "j/snapshots"

var (
	testJournal  = segments.JournalID{1, 2, 3}
	smallOptions = Options{BlockBytes: 512, SyncBytes: 1200, UploadsMax: 2}
)

func newDisk(t testing.TB) *memfs.FS {
	t.Helper()
	disk := memfs.New()
	require.NoError(t, disk.MkdirAll("j"))
	require.NoError(t, disk.SyncDir("."))
	return disk
}

func openStore(t testing.TB, fsys vfs.FS) *Store {
	t.Helper()
	s, err := Open(fsys, testDir, testJournal, smallOptions, Cleanup{})
	require.NoError(t, err)
	return s
}

func content(n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func sum(b []byte) Checksum { return sha256.Sum256(b) }

func snapOf(txid segments.TxID, b []byte) Snapshot {
	return Snapshot{TxID: txid, At: at(txid), Size: int64(len(b)), Checksum: sum(b), Epoch: 3}
}

// upload sends content from where the upload stands, in chunks, and finishes it.
func upload(s *Store, txid segments.TxID, b []byte, chunk int) error {
	u, err := s.Begin(snapOf(txid, b).ID(), SizeUnknown)
	if err != nil {
		return err
	}
	if err := send(u, b, chunk); err != nil {
		return errors.Join(err, u.Close())
	}
	if _, err = u.Finish(int64(len(b)), sum(b)); err != nil {
		return errors.Join(err, u.Close())
	}
	return u.Close()
}

func send(u *Upload, b []byte, chunk int) error {
	for off := u.Offset(); off < int64(len(b)); off = u.Offset() {
		if err := u.Write(off, b[off:min(int(off)+chunk, len(b))]); err != nil {
			return err
		}
	}
	return nil
}

// requireWhole checks that a snapshot is listed, reads as b, and verifies.
func requireWhole(t testing.TB, s *Store, txid segments.TxID, b []byte) {
	t.Helper()
	r, err := s.OpenReader(txid)
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	require.Equal(t, snapOf(txid, b), r.Snapshot())
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(b, got))
	require.NoError(t, s.Verify(txid, nil))
	for _, i := range s.List() {
		if i.Snapshot.TxID == txid {
			require.Equal(t, snapOf(txid, b), i.Snapshot)
			require.True(t, i.Verified)
			require.NoError(t, i.Err)
			return
		}
	}
	require.Fail(t, "not listed")
}

func names(t testing.TB, fsys vfs.FS) []string {
	t.Helper()
	list, err := fsys.List(testDir)
	require.NoError(t, err)
	return list
}

func TestUploadAndRead(t *testing.T) {
	for _, size := range []int{0, 1, 511, 512, 513, 1024, 5000} {
		for _, chunk := range []int{1, 100, 512, 10000} {
			disk := newDisk(t)
			s := openStore(t, disk)
			b := content(size)
			require.NoError(t, upload(s, 300, b, chunk))
			requireWhole(t, s, 300, b)
			require.Equal(t, []string{finalName(300)}, names(t, disk))
			s = openStore(t, disk.CrashClone(memfs.CrashOptions{}))
			require.False(t, s.List()[0].Verified, "nobody has read it yet")
			requireWhole(t, s, 300, b)
			r, err := s.OpenReader(300)
			require.NoError(t, err)
			require.NoError(t, iotest.TestReader(r, b))
			require.Equal(t, 1, s.List()[0].Readers)
			require.NoError(t, r.Close())
			require.Zero(t, s.List()[0].Readers)
			_, err = r.ReadAt(make([]byte, 1), 0)
			require.ErrorIs(t, err, ErrClosed)
		}
	}
	s := openStore(t, newDisk(t))
	_, err := s.OpenReader(5)
	require.ErrorIs(t, err, ErrNotFound)
	require.ErrorIs(t, s.Verify(5, nil), ErrNotFound)
	require.ErrorIs(t, s.Remove(5), ErrNotFound)
	require.ErrorIs(t, s.SetAside(5, segments.ReasonDamaged), ErrNotFound)
}

// On a real disk, too.
func TestUploadOnOSFS(t *testing.T) {
	fsys := osfs.New(t.TempDir())
	require.NoError(t, fsys.MkdirAll("j"))
	s := openStore(t, fsys)
	b := content(5000)
	u, err := s.Begin(snapOf(7, b).ID(), 5000)
	require.NoError(t, err)
	require.NoError(t, u.Write(0, b[:2000]))
	require.NoError(t, u.Close())
	s = openStore(t, fsys)
	u, err = s.Begin(snapOf(7, b).ID(), 5000)
	require.NoError(t, err)
	require.EqualValues(t, 1536, u.Offset())
	require.NoError(t, send(u, b, 700))
	_, err = u.Finish(5000, sum(b))
	require.NoError(t, err)
	requireWhole(t, openStore(t, fsys), 7, b) // verified by reading
	old, err := Open(fsys, testDir, testJournal, smallOptions, Cleanup{WrittenBefore: time.Now().Add(time.Hour).UnixMilli()})
	require.NoError(t, err)
	require.Len(t, old.List(), 1, "only uploads are cleaned up")
}

// C4: half an upload is invisible; it goes on where it was, or is cleaned up.
func TestC4_HalfUploadIsInvisible(t *testing.T) {
	disk := newDisk(t)
	s := openStore(t, disk)
	b := content(3000)
	id := snapOf(300, b).ID()
	u, err := s.Begin(id, SizeUnknown)
	require.NoError(t, err)
	require.NoError(t, u.Write(0, b[:2000]))
	invisible := func(s *Store) {
		t.Helper()
		require.Empty(t, s.List())
		_, err := s.OpenReader(300)
		require.ErrorIs(t, err, ErrNotFound)
	}
	invisible(s)
	_, err = s.Begin(id, SizeUnknown)
	require.ErrorIs(t, err, ErrBusy)
	require.NoError(t, s.Cleanup(Cleanup{Below: 1000}))
	require.Len(t, names(t, disk), 1, "somebody is at it")

	// The connection is cut; the upload goes on from the last full block.
	require.NoError(t, u.Close())
	require.ErrorIs(t, u.Write(2000, b[2000:]), ErrClosed)
	invisible(s)
	u, err = s.Begin(id, SizeUnknown)
	require.NoError(t, err)
	require.EqualValues(t, 1536, u.Offset())
	require.NoError(t, u.Close())

	for name, test := range map[string]struct {
		c    Cleanup
		gone bool
	}{
		"nothing asked":      {Cleanup{}, false},
		"a newer one listed": {Cleanup{Below: 301}, true},
		"this one listed":    {Cleanup{Below: 300}, false},
		"old":                {Cleanup{WrittenBefore: 1}, true}, // memfs says: year 1
	} {
		twin := disk.ProcessCrashClone()
		s, err := Open(twin, testDir, testJournal, smallOptions, test.c)
		require.NoError(t, err)
		invisible(s)
		require.Equal(t, test.gone, len(names(t, twin)) == 0, name)
		require.NoError(t, upload(s, 300, b, 100), name)
		requireWhole(t, s, 300, b)
	}
	u, err = s.Begin(id, SizeUnknown)
	require.NoError(t, err)
	require.NoError(t, u.Abort())
	require.NoError(t, u.Abort())
	require.Empty(t, names(t, disk))
}

// M8, C4: a node has left a journal and come back: an upload of before must not give a name to what is being
// uploaded now, of which it has seen nothing.
func TestC4_UploadOfARetiredStore(t *testing.T) {
	disk := newDisk(t)
	b := content(3000)
	open := func() *Store { return openStore(t, disk) }
	old := open()
	before, err := old.Begin(snapOf(300, b).ID(), int64(len(b)))
	require.NoError(t, err)
	require.NoError(t, send(before, b, 500))
	old.Retire()
	for _, n := range names(t, disk) {
		require.NoError(t, disk.Remove(testDir+"/"+n))
	}
	s := open()
	now, err := s.Begin(snapOf(300, b).ID(), int64(len(b)))
	require.NoError(t, err)
	require.NoError(t, now.Write(0, b[:700]))

	_, err = before.Finish(int64(len(b)), sum(b))
	require.ErrorIs(t, err, ErrClosed)
	require.NoError(t, before.Close())
	for _, begin := range []func() error{
		func() error { _, err := old.Begin(snapOf(400, b).ID(), SizeUnknown); return err },
		func() error { _, err := old.OpenReader(300); return err },
		func() error { return old.Remove(300) },
	} {
		require.ErrorIs(t, begin(), ErrClosed)
	}
	require.Empty(t, open().List())
	require.NoError(t, send(now, b, 500))
	_, err = now.Finish(int64(len(b)), sum(b))
	require.NoError(t, err)
	requireWhole(t, open(), 300, b)
}

// N2: reading that was broken off, since its node stops, says nothing about what is in the file. Marked as damaged
// it would be set aside, and on all nodes of a cluster that is shut down, too.
func TestN2_BrokenOffIsNoDamage(t *testing.T) {
	s := openStore(t, newDisk(t))
	b := content(3000)
	require.NoError(t, upload(s, 300, b, 500))
	for after := range 6 {
		reads := 0
		err := s.Verify(300, func(r io.ReaderAt) io.ReaderAt {
			return readerAt(func(p []byte, off int64) (int, error) {
				if reads++; reads > after {
					return 0, ErrClosed
				}
				return r.ReadAt(p, off)
			})
		})
		require.ErrorIs(t, err, ErrClosed)
		require.NotErrorIs(t, err, ErrCorrupt)
		requireWhole(t, s, 300, b)
	}
}

type readerAt func([]byte, int64) (int, error)

func (f readerAt) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

func TestC4_CleanupKeepsRecentUploads(t *testing.T) {
	disk := newDisk(t)
	fsys := &datedFS{FS: disk, modified: time.UnixMilli(5000)}
	s := openStore(t, fsys)
	u, err := s.Begin(snap(300).ID(), SizeUnknown)
	require.NoError(t, err)
	require.NoError(t, u.Close())
	require.NoError(t, s.Cleanup(Cleanup{WrittenBefore: 5000}))
	require.Len(t, names(t, disk), 1)
	require.NoError(t, s.Cleanup(Cleanup{WrittenBefore: 5001}))
	require.Empty(t, names(t, disk))
}

// datedFS gives all files a time of modification.
type datedFS struct {
	vfs.FS
	modified time.Time
}

type datedInfo struct {
	fs.FileInfo
	modified time.Time
}

func (i datedInfo) ModTime() time.Time { return i.modified }

func (f *datedFS) Stat(name string) (fs.FileInfo, error) {
	i, err := f.FS.Stat(name)
	return datedInfo{i, f.modified}, err
}

func TestWriteRefusesGapsAndDifferences(t *testing.T) {
	s := openStore(t, newDisk(t))
	b := content(3000)
	u, err := s.Begin(snapOf(300, b).ID(), 3000)
	require.NoError(t, err)
	require.NoError(t, u.Write(0, b[:2000]))
	var m *MismatchError
	err = u.Write(2001, b[2001:])
	require.ErrorIs(t, err, ErrOffset)
	require.ErrorAs(t, err, &m)
	require.EqualValues(t, 2001, m.Got)
	require.EqualValues(t, 2000, m.Want)
	require.ErrorIs(t, u.Write(-1, b), ErrOffset)
	require.NoError(t, u.Write(2000, nil))
	for _, from := range []int64{0, 1, 511, 512, 1535, 1536, 1999} {
		require.NoError(t, u.Write(from, b[from:2000]), "a repeat")
		for _, flip := range []int64{from, (from + 2000) / 2, 1999} {
			other := bytes.Clone(b)
			other[flip] ^= 1
			require.ErrorIs(t, u.Write(from, other[from:2500]), ErrDiffers)
		}
	}
	require.EqualValues(t, 2000, u.Offset())
	require.NoError(t, u.Write(100, b[100:2500]), "a repeat and more")
	require.EqualValues(t, 2500, u.Offset())
	require.ErrorIs(t, u.Write(2500, make([]byte, 501)), ErrSize)
	_, err = u.Finish(2500, sum(b[:2500]))
	require.ErrorIs(t, err, ErrSize, "declared otherwise")
	_, err = u.Finish(3000, sum(b))
	require.ErrorIs(t, err, ErrSize)
	require.NoError(t, u.Write(2500, b[2500:]))
	_, err = u.Finish(3000, sum(b))
	require.NoError(t, err)
	requireWhole(t, s, 300, b)
	_, err = u.Finish(3000, sum(b))
	require.ErrorIs(t, err, ErrClosed)
}

// C1: what is not what was sent is never there.
func TestC1_WrongChecksum(t *testing.T) {
	disk := newDisk(t)
	s := openStore(t, disk)
	b := content(3000)
	u, err := s.Begin(snapOf(300, b).ID(), SizeUnknown)
	require.NoError(t, err)
	require.NoError(t, send(u, b, 1000))
	_, err = u.Finish(3000, sum(b[1:]))
	require.ErrorIs(t, err, ErrChecksum)
	require.Empty(t, s.List())
	require.Empty(t, names(t, disk), "it can never become right")
	require.NoError(t, upload(s, 300, b, 1000))
	requireWhole(t, s, 300, b)
}

func TestBeginRefuses(t *testing.T) {
	disk := newDisk(t)
	s := openStore(t, disk)
	b, other := content(1000), content(1001)
	for _, id := range []ID{{}, {TxID: 5, At: at(4), Epoch: 1}, {TxID: 5, At: at(5)}} {
		_, err := s.Begin(id, SizeUnknown)
		require.ErrorIs(t, err, ErrInvalid)
	}
	_, err := s.Begin(snap(1).ID(), -2)
	require.ErrorIs(t, err, ErrInvalid)
	_, err = s.Begin(snap(1).ID(), SizeMax)
	require.ErrorIs(t, err, ErrInvalid, "more blocks than there can be")

	// Two writers' uploads of one txid; the first one to finish is there.
	later := snapOf(300, other).ID()
	later.Epoch++
	u, err := s.Begin(later, SizeUnknown)
	require.NoError(t, err)
	require.NoError(t, send(u, other, 100))
	require.NoError(t, upload(s, 300, b, 100))
	var e *ExistsError
	_, err = u.Finish(1001, sum(other))
	require.ErrorIs(t, err, ErrExists)
	require.ErrorAs(t, err, &e)
	require.Equal(t, snapOf(300, b), e.Have)
	_, err = s.Begin(later, SizeUnknown)
	require.ErrorIs(t, err, ErrExists)
	requireWhole(t, s, 300, b)
	// Only the catalog knows which one counts.
	require.NoError(t, s.SetAside(300, segments.ReasonReplaced))
	u, err = s.Begin(later, SizeUnknown)
	require.NoError(t, err)
	require.EqualValues(t, 512, u.Offset())
	require.NoError(t, send(u, other, 100))
	_, err = u.Finish(1001, sum(other))
	require.NoError(t, err)
	require.Equal(t, []string{finalName(300), finalName(300) + ".replaced-1"}, names(t, disk))

	// Another size is another content: it starts over.
	u, err = s.Begin(snap(400).ID(), 2000)
	require.NoError(t, err)
	require.NoError(t, u.Write(0, content(1500)))
	require.NoError(t, u.Close())
	u, err = s.Begin(snap(400).ID(), 2001)
	require.NoError(t, err)
	require.Zero(t, u.Offset())
}

func TestUploadsAreBounded(t *testing.T) {
	disk := newDisk(t)
	s := openStore(t, disk)
	one, err := s.Begin(snap(100).ID(), SizeUnknown)
	require.NoError(t, err)
	_, err = s.Begin(snap(200).ID(), SizeUnknown)
	require.NoError(t, err)
	_, err = s.Begin(snap(300).ID(), SizeUnknown)
	require.ErrorIs(t, err, ErrTooMany)
	require.NoError(t, one.Close())
	_, err = s.Begin(snap(300).ID(), SizeUnknown)
	require.NoError(t, err, "one that nobody is at makes room")
	require.Equal(t, []string{uploadName(snap(200).ID()), uploadName(snap(300).ID())}, names(t, disk))
}

func TestQuota(t *testing.T) {
	disk := newDisk(t)
	opts := smallOptions
	opts.QuotaBytes = 8000
	s, err := Open(disk, testDir, testJournal, opts, Cleanup{})
	require.NoError(t, err)
	b := content(3000)
	require.NoError(t, upload(s, 100, b, 1000))
	_, err = s.Begin(snap(200).ID(), 5000)
	require.ErrorIs(t, err, ErrQuota)
	require.Equal(t, []string{finalName(100)}, names(t, disk))
	u, err := s.Begin(snap(200).ID(), SizeUnknown)
	require.NoError(t, err)
	require.ErrorIs(t, send(u, content(5000), 600), ErrQuota)
	require.NotZero(t, u.Offset())
	require.NoError(t, s.Remove(100))
	require.NoError(t, send(u, content(5000), 600), "it goes on")
	_, err = u.Finish(5000, sum(content(5000)))
	require.NoError(t, err)

	opts = smallOptions
	opts.UploadBytesMax = 2000
	s, err = Open(newDisk(t), testDir, testJournal, opts, Cleanup{})
	require.NoError(t, err)
	require.ErrorIs(t, upload(s, 100, b, 1000), ErrQuota)
	require.NoError(t, s.Cleanup(Cleanup{Below: 200}), "what can be resumed takes room")
	require.NoError(t, upload(s, 200, b[:1000], 1000))
}

// N2: every single bit is covered; damage is an error with a place, never absence or a shorter content, and
// a damaged file is never deleted.
func TestN2_BitFlips(t *testing.T) {
	disk := newDisk(t)
	b := content(1200)
	require.NoError(t, upload(openStore(t, disk), 300, b, 1000))
	name := testDir + "/" + finalName(300)
	file, err := disk.ReadAll(name)
	require.NoError(t, err)
	for off := range file {
		require.NoError(t, disk.FlipBit(name, int64(off), off%8))
		s := openStore(t, disk)
		err := s.Verify(300, nil)
		var c *CorruptError
		require.ErrorAs(t, err, &c, "byte %d", off)
		require.ErrorIs(t, err, ErrCorrupt)
		require.Equal(t, name, c.File)
		require.LessOrEqual(t, c.Offset, int64(off))
		infos := s.List()
		require.Len(t, infos, 1)
		require.EqualValues(t, 300, infos[0].Snapshot.TxID)
		require.ErrorIs(t, infos[0].Err, ErrCorrupt)
		require.False(t, infos[0].Verified)
		_, err = s.OpenReader(300)
		require.ErrorIs(t, err, ErrCorrupt)
		require.ErrorIs(t, s.Remove(300), ErrCorrupt)
		require.NoError(t, disk.FlipBit(name, int64(off), off%8))
	}
	// Cut anywhere.
	for n := range file {
		twin := newDisk(t)
		require.NoError(t, twin.MkdirAll(testDir))
		put(t, twin, name, file[:n])
		s := openStore(t, twin)
		require.ErrorIs(t, s.List()[0].Err, ErrCorrupt)
		if n == 700 {
			require.NoError(t, upload(s, 300, b, 1000), "a good copy comes again")
			requireWhole(t, s, 300, b)
			require.Equal(t, []string{finalName(300), finalName(300) + ".damaged-1"}, names(t, twin))
			require.Equal(t, uint64(1), openStore(t, twin).asides[finalName(300)+".damaged"])
		}
	}
	// A read error is damage as well: unknown.
	fsys := faultfs.New(disk)
	s := openStore(t, fsys)
	fsys.Inject(faultfs.Rule{Op: faultfs.OpRead, PathContains: finalSuffix, Nth: 4})
	require.ErrorIs(t, s.Verify(300, nil), ErrCorrupt)
	require.ErrorIs(t, s.List()[0].Err, faultfs.ErrInjected)
}

func put(t testing.TB, fsys vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := fsys.Create(name)
	require.NoError(t, err)
	_, err = f.WriteAt(b, 0)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
}

func TestForeignFiles(t *testing.T) {
	disk := newDisk(t)
	b := content(100)
	require.NoError(t, upload(openStore(t, disk), 300, b, 1000))
	require.NoError(t, disk.Rename(testDir+"/"+finalName(300), testDir+"/"+finalName(400)))
	put(t, disk, testDir+"/notes.txt", b)
	put(t, disk, testDir+"/300.snap", b)
	s := openStore(t, disk)
	require.Len(t, s.List(), 1)
	require.ErrorIs(t, s.List()[0].Err, ErrCorrupt, "another txid's")
	require.Contains(t, names(t, disk), "notes.txt")
	require.NoError(t, disk.Rename(testDir+"/"+finalName(400), testDir+"/"+finalName(300)))
	s, err := Open(disk, testDir, segments.JournalID{9}, smallOptions, Cleanup{})
	require.NoError(t, err)
	require.ErrorIs(t, s.List()[0].Err, ErrCorrupt, "another journal's")
}

// Uploads, readers and lists do not get in each other's way.
func TestConcurrentUse(t *testing.T) {
	opts := smallOptions
	opts.UploadsMax = 8
	s, err := Open(newDisk(t), testDir, testJournal, opts, Cleanup{})
	require.NoError(t, err)
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for i := range 8 {
		txid := segments.TxID(100 + i)
		wg.Go(func() {
			b := content(3000 + i)
			err := upload(s, txid, b, 700)
			s.List()
			err = errors.Join(err, s.Verify(txid, nil), s.Cleanup(Cleanup{}))
			if i%2 == 0 {
				err = errors.Join(err, s.Remove(txid))
			}
			errs <- err
		})
	}
	wg.Wait()
	for range 8 {
		require.NoError(t, <-errs)
	}
	require.Len(t, s.List(), 4)
	// Of many that finish one txid, one is there, and the others are told.
	for i := range 8 {
		wg.Go(func() {
			b := content(500)
			id := snapOf(300, b).ID()
			id.Epoch = 3 + fencing.Epoch(i)
			u, err := s.Begin(id, SizeUnknown)
			if err == nil {
				if err = send(u, b, 100); err == nil {
					_, err = u.Finish(500, sum(b))
				}
			}
			errs <- err
		})
	}
	wg.Wait()
	won := 0
	for range 8 {
		err := <-errs
		if err == nil {
			won++
			continue
		}
		require.True(t, errors.Is(err, ErrExists) || errors.Is(err, ErrBusy), "%v", err)
	}
	require.Equal(t, 1, won)
}

// Memory is a block for an upload and a block for a reader, whatever the size.
func TestMemoryIsBounded(t *testing.T) {
	fsys := osfs.New(t.TempDir())
	require.NoError(t, fsys.MkdirAll("j"))
	s, err := Open(fsys, testDir, testJournal, Options{BlockBytes: 256 << 10}, Cleanup{})
	require.NoError(t, err)
	const size, chunk = 64 << 20, 64 << 10
	b := content(chunk)
	hash := sha256.New()
	got := allocated(func() {
		u, err := s.Begin(snap(300).ID(), SizeUnknown)
		require.NoError(t, err)
		for off := int64(0); off < size; off += chunk {
			if err := u.Write(off, b); err != nil {
				t.Fatal(err)
			}
			_, _ = hash.Write(b)
		}
		_, err = u.Finish(size, Checksum(hash.Sum(nil)))
		require.NoError(t, err)
	})
	require.Less(t, got, uint64(4<<20), "bytes allocated for the upload of 64 MiB")
	require.Less(t, allocated(func() { require.NoError(t, s.Verify(300, nil)) }), uint64(4<<20))
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

var updateGolden = flag.Bool("update-golden", false, "write testdata/v1 anew; a change there is a change of the format (docs/format.md)")

func TestGolden(t *testing.T) {
	disk := newDisk(t)
	b := bytes.Repeat([]byte("sixteen bytes!! "), 75) // three blocks
	require.NoError(t, upload(openStore(t, disk), 300, b, 1000))
	require.NoError(t, SavePurged(disk, testDir+"/purged", at(300)))
	record, err := snapOf(300, b).AppendBinary(nil)
	require.NoError(t, err)
	files := map[string][]byte{"record": record}
	for _, name := range []string{finalName(300), "purged"} {
		files[name], err = disk.ReadAll(testDir + "/" + name)
		require.NoError(t, err)
	}
	for name, want := range files {
		path := filepath.Join("testdata", "v1", name)
		if *updateGolden {
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, want, 0o644))
		}
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "%s: the format has changed", name)
	}
	fsys := osfs.New("testdata")
	s := &Store{fs: fsys, dir: "v1", journal: testJournal, held: map[segments.TxID]*held{}, temps: map[string]*temp{}, asides: map[string]uint64{}}
	require.NoError(t, s.load())
	requireWhole(t, s, 300, b)
}

func FuzzFile(f *testing.F) {
	disk := newDisk(f)
	require.NoError(f, upload(openStore(f, disk), 300, content(1200), 1000))
	file, err := disk.ReadAll(testDir + "/" + finalName(300))
	require.NoError(f, err)
	f.Add(file)
	f.Add(file[:headerSize+trailerSize])
	f.Fuzz(func(t *testing.T, file []byte) {
		disk := newDisk(t)
		require.NoError(t, disk.MkdirAll(testDir))
		put(t, disk, testDir+"/"+finalName(300), file)
		s := openStore(t, disk)
		if err := s.Verify(300, nil); err != nil {
			require.True(t, errors.Is(err, ErrCorrupt) || errors.Is(err, ErrUnsupported), "%v", err)
			return
		}
		// What is whole is what would have been written.
		r, err := s.OpenReader(300)
		require.NoError(t, err)
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		twin := newDisk(t)
		s, err = Open(twin, testDir, testJournal, Options{BlockBytes: r.ends.header.blockBytes}, Cleanup{})
		require.NoError(t, err)
		u, err := s.Begin(r.Snapshot().ID(), r.ends.header.size)
		require.NoError(t, err)
		require.NoError(t, u.Write(0, b))
		_, err = u.Finish(int64(len(b)), sum(b))
		require.NoError(t, err)
		again, err := twin.ReadAll(testDir + "/" + finalName(300))
		require.NoError(t, err)
		require.True(t, bytes.Equal(file, again))
	})
}
