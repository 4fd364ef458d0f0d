package memfs_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
)

const sector = 512

var (
	loseAll = memfs.CrashOptions{UnsyncedPercent: 0}
	keepAll = memfs.CrashOptions{UnsyncedPercent: 100}
)

// half throws fair dice.
func half(seed uint64) memfs.CrashOptions {
	return memfs.CrashOptions{UnsyncedPercent: 50, Rand: rand.New(rand.NewPCG(seed, 0))}
}

// outcomes crashes disk in many ways and returns the set of what look saw.
func outcomes(disk *memfs.FS, look func(after *memfs.FS) string) []string {
	seen := map[string]bool{look(disk.CrashClone(loseAll)): true, look(disk.CrashClone(keepAll)): true}
	for seed := range uint64(200) {
		seen[look(disk.CrashClone(half(seed)))] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// lookAt shows names with the first byte of their files, as "a=A b".
func lookAt(names ...string) func(*memfs.FS) string {
	return func(after *memfs.FS) string {
		var found []byte
		for _, name := range names {
			data, err := after.ReadAll(name)
			if err != nil {
				continue
			}
			found = fmt.Appendf(found, "%s=%s ", name, data[:min(1, len(data))])
		}
		return string(bytes.TrimSpace(found))
	}
}

func create(t *testing.T, fsys vfs.FS, name, content string) vfs.File {
	t.Helper()
	f, err := fsys.Create(name)
	require.NoError(t, err)
	write(t, f, 0, content)
	return f
}

// createSynced makes a file that survives everything.
func createSynced(t *testing.T, fsys vfs.FS, name, content string) vfs.File {
	t.Helper()
	f := create(t, fsys, name, content)
	require.NoError(t, f.Sync())
	require.NoError(t, fsys.SyncDir(dirOf(name)))
	return f
}

func dirOf(name string) string {
	if i := bytes.LastIndexByte([]byte(name), '/'); i >= 0 {
		return name[:i]
	}
	return ""
}

func write(t *testing.T, f vfs.File, off int64, content string) {
	t.Helper()
	_, err := f.WriteAt([]byte(content), off)
	require.NoError(t, err)
}

func requireContent(t *testing.T, fsys *memfs.FS, name, want string) {
	t.Helper()
	got, err := fsys.ReadAll(name)
	require.NoError(t, err)
	require.Equal(t, want, string(got))
}

func requireMissing(t *testing.T, fsys *memfs.FS, name string) {
	t.Helper()
	_, err := fsys.Stat(name)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// TestSyncedFileVanishesWithoutDirectorySync is the classical one: fsync of a file says nothing
// about its name.
func TestSyncedFileVanishesWithoutDirectorySync(t *testing.T) {
	disk := memfs.New()
	f := create(t, disk, "a", "A")
	require.NoError(t, f.Sync())
	requireMissing(t, disk.CrashClone(loseAll), "a")
	requireContent(t, disk.CrashClone(keepAll), "a", "A")

	require.NoError(t, disk.SyncDir(""))
	require.Equal(t, []string{"a=A"}, outcomes(disk, lookAt("a")))
}

// TestDirectorySyncIsNoDataSync: the name survives, the content need not.
func TestDirectorySyncIsNoDataSync(t *testing.T) {
	disk := memfs.New()
	create(t, disk, "a", "A")
	require.NoError(t, disk.SyncDir(""))
	requireContent(t, disk.CrashClone(loseAll), "a", "")
	requireContent(t, disk.CrashClone(keepAll), "a", "A")
}

// TestEveryDirectoryOnThePathCounts is M1 for directories.
func TestEveryDirectoryOnThePathCounts(t *testing.T) {
	disk := memfs.New()
	require.NoError(t, disk.MkdirAll("d/e"))
	createSynced(t, disk, "d/e/a", "A")
	requireMissing(t, disk.CrashClone(loseAll), "d")
	require.NoError(t, disk.SyncDir("d"))
	requireMissing(t, disk.CrashClone(loseAll), "d")
	require.NoError(t, disk.SyncDir(""))
	requireContent(t, disk.CrashClone(loseAll), "d/e/a", "A")
}

// TestRenameWithoutDirectorySync: old name or new name, never both, never neither (M4).
func TestRenameWithoutDirectorySync(t *testing.T) {
	disk := memfs.New()
	createSynced(t, disk, "a", "A")
	require.NoError(t, disk.Rename("a", "b"))
	require.Equal(t, []string{"a=A", "b=A"}, outcomes(disk, lookAt("a", "b")))
	require.NoError(t, disk.SyncDir(""))
	require.Equal(t, []string{"b=A"}, outcomes(disk, lookAt("a", "b")))
}

// TestReplacingRename: what was replaced is back, or it is gone, together with the move.
func TestReplacingRename(t *testing.T) {
	disk := memfs.New()
	createSynced(t, disk, "new", "N")
	createSynced(t, disk, "old", "O")
	require.NoError(t, disk.Rename("new", "old"))
	require.Equal(t, []string{"new=N old=O", "old=N"}, outcomes(disk, lookAt("new", "old")))
}

// TestRenameOfUnsyncedData is why WriteFileAtomic syncs before it renames: the new name can have the
// old content of the new file, which is none.
func TestRenameOfUnsyncedData(t *testing.T) {
	disk := memfs.New()
	createSynced(t, disk, "a", "old")
	create(t, disk, "a.tmp", "new")
	require.NoError(t, disk.Rename("a.tmp", "a"))
	require.NoError(t, disk.SyncDir(""))
	requireContent(t, disk.CrashClone(loseAll), "a", "")
}

// TestRenameBetweenDirectories is M5.
func TestRenameBetweenDirectories(t *testing.T) {
	for _, order := range [][]string{{"d", "e"}, {"e", "d"}} {
		disk := memfs.New()
		require.NoError(t, disk.MkdirAll("d"))
		require.NoError(t, disk.MkdirAll("e"))
		require.NoError(t, disk.SyncDir(""))
		createSynced(t, disk, "d/a", "A")
		require.NoError(t, disk.Rename("d/a", "e/a"))
		require.Equal(t, []string{"d/a=A", "e/a=A"}, outcomes(disk, lookAt("d/a", "e/a")))
		require.NoError(t, disk.SyncDir(order[0]))
		require.Equal(t, []string{"d/a=A", "e/a=A"}, outcomes(disk, lookAt("d/a", "e/a")))
		require.NoError(t, disk.SyncDir(order[1]))
		require.Equal(t, []string{"e/a=A"}, outcomes(disk, lookAt("d/a", "e/a")))
	}
}

// TestNameTakenAgainAfterMove: the second use of a name is synced while the move away from it is
// half synced. The file that moved away must not be lost for that.
func TestNameTakenAgainAfterMove(t *testing.T) {
	disk := memfs.New()
	require.NoError(t, disk.MkdirAll("d"))
	require.NoError(t, disk.MkdirAll("e"))
	require.NoError(t, disk.SyncDir(""))
	createSynced(t, disk, "d/a", "A")
	require.NoError(t, disk.Rename("d/a", "e/a"))
	createSynced(t, disk, "d/a", "B") // syncs d, not e
	require.Equal(t, []string{"d/a=B e/a=A"}, outcomes(disk, lookAt("d/a", "e/a")))
}

// TestChangesSurviveOutOfOrder: each is kept or lost by itself, unless it needs an earlier one.
func TestChangesSurviveOutOfOrder(t *testing.T) {
	disk := memfs.New()
	createSynced(t, disk, "a", "A")
	require.NoError(t, disk.Rename("a", "b"))
	require.NoError(t, create(t, disk, "c", "C").Sync())
	require.Equal(t, []string{"a=A", "a=A c=C", "b=A", "b=A c=C"}, outcomes(disk, lookAt("a", "b", "c")))
}

// TestTakingANameNeedsTheMoveAway: B at "a" without A at "b" would lose A (M4).
func TestTakingANameNeedsTheMoveAway(t *testing.T) {
	disk := memfs.New()
	createSynced(t, disk, "a", "A")
	require.NoError(t, disk.Rename("a", "b"))
	require.NoError(t, create(t, disk, "a", "B").Sync())
	require.Equal(t, []string{"a=A", "a=B b=A", "b=A"}, outcomes(disk, lookAt("a", "b")))
}

func TestRemovalMayComeBack(t *testing.T) {
	disk := memfs.New()
	createSynced(t, disk, "a", "A")
	require.NoError(t, disk.Remove("a"))
	require.Equal(t, []string{"", "a=A"}, outcomes(disk, lookAt("a")))
	require.NoError(t, disk.SyncDir(""))
	require.Equal(t, []string{""}, outcomes(disk, lookAt("a")))
}

func TestUnsyncedSectors(t *testing.T) {
	disk := memfs.New()
	old := string(bytes.Repeat([]byte("o"), 3*sector))
	f := createSynced(t, disk, "a", old)
	write(t, f, sector-1, "nn") // the last byte of sector 0, the first of sector 1
	both := old[:sector-1] + "nn" + old[sector+1:]
	first := old[:sector-1] + "n" + old[sector:]
	second := old[:sector] + "n" + old[sector+1:]
	content := func(after *memfs.FS) string {
		data, err := after.ReadAll("a")
		require.NoError(t, err)
		return string(data)
	}
	require.Equal(t, []string{both, first, second, old}, outcomes(disk, content))
	require.NoError(t, f.Sync())
	require.Equal(t, []string{both}, outcomes(disk, content))
}

// TestUnsyncedGrowth is M3: an append of two sectors may survive not at all, as its first sector, as
// a hole and its second one, or whole.
func TestUnsyncedGrowth(t *testing.T) {
	disk := memfs.New()
	f := createSynced(t, disk, "a", "")
	data := string(bytes.Repeat([]byte("x"), sector)) + "yy"
	write(t, f, 0, data)
	content := func(after *memfs.FS) string {
		data, err := after.ReadAll("a")
		require.NoError(t, err)
		return string(data)
	}
	hole := string(make([]byte, sector)) + "yy"
	require.Equal(t, []string{"", hole, data[:sector], data}, outcomes(disk, content))
}

// TestPreallocationSurvivesOnlySynced: the zeros are data like any other.
func TestPreallocationSurvivesOnlySynced(t *testing.T) {
	disk := memfs.New()
	f := createSynced(t, disk, "a", "head")
	require.NoError(t, f.Preallocate(4, 10*sector))
	requireContent(t, disk.CrashClone(loseAll), "a", "head")
	require.NoError(t, f.Sync())
	zeros := string(make([]byte, 10*sector))
	requireContent(t, disk.CrashClone(loseAll), "a", "head"+zeros)
	write(t, f, 4, "body") // within the size: losing it leaves the zeros
	requireContent(t, disk.CrashClone(loseAll), "a", "head"+zeros)
	requireContent(t, disk.CrashClone(keepAll), "a", "headbody"+zeros[4:])
}

func TestUnsyncedCut(t *testing.T) {
	disk := memfs.New()
	old := string(bytes.Repeat([]byte("o"), 2*sector))
	f := createSynced(t, disk, "a", old)
	require.NoError(t, f.Truncate(10))
	content := func(after *memfs.FS) string {
		data, err := after.ReadAll("a")
		require.NoError(t, err)
		return string(data)
	}
	require.Equal(t, []string{old[:10], old}, outcomes(disk, content))

	// Regrown: what was cut off must not come back once the cut is synced.
	require.NoError(t, f.Truncate(2*sector))
	require.NoError(t, f.Sync())
	require.Equal(t, []string{old[:10] + string(make([]byte, 2*sector-10))}, outcomes(disk, content))
}

// TestFailedFsync: the pages of a failed fsync read back, count as clean, and are lost; a later
// Sync that returns nil changes nothing about it. Only writing them again does.
func TestFailedFsync(t *testing.T) {
	disk := memfs.New()
	f := createSynced(t, disk, "a", "old")
	write(t, f, 0, "NEW")
	write(t, f, sector, "more")
	f.(interface{ DropUnsynced() }).DropUnsynced()
	require.NoError(t, f.Sync())
	written := "NEW" + string(make([]byte, sector-3)) + "more"
	requireContent(t, disk, "a", written)
	requireContent(t, disk.CrashClone(keepAll), "a", "old")

	// The next process sees the same pages, and they are as clean to it.
	next := disk.ProcessCrashClone()
	requireContent(t, next, "a", written)
	g, err := next.OpenWrite("a")
	require.NoError(t, err)
	require.NoError(t, g.Sync())
	requireContent(t, next.CrashClone(keepAll), "a", "old")
	write(t, g, 0, written) // the identical bytes
	require.NoError(t, g.Sync())
	requireContent(t, next.CrashClone(loseAll), "a", written)
}

// TestWritesAroundDroppedSectors: syncing the neighbours leaves the lost sector between them lost.
func TestWritesAroundDroppedSectors(t *testing.T) {
	disk := memfs.New()
	f := createSynced(t, disk, "a", string(bytes.Repeat([]byte("o"), 3*sector)))
	write(t, f, sector, "lost")
	f.(interface{ DropUnsynced() }).DropUnsynced()
	write(t, f, 0, "1")
	write(t, f, 2*sector, "3")
	require.NoError(t, f.Sync())
	want := bytes.Repeat([]byte("o"), 3*sector)
	want[0], want[2*sector] = '1', '3'
	requireContent(t, disk.CrashClone(loseAll), "a", string(want))
}

func TestProcessCrash(t *testing.T) {
	disk := memfs.New()
	_, err := disk.Lock("lock")
	require.NoError(t, err)
	createSynced(t, disk, "a", "A")
	f := create(t, disk, "b", "B")
	require.NoError(t, disk.Rename("a", "c"))

	next := disk.ProcessCrashClone()
	requireContent(t, next, "b", "B")
	requireContent(t, next, "c", "A")
	requireMissing(t, next, "a")
	_, err = next.Lock("lock")
	require.NoError(t, err)
	_, err = disk.Lock("lock")
	require.ErrorIs(t, err, vfs.ErrLocked)

	// What was unsynced still is: a power loss after the restart takes it.
	require.Equal(t, outcomes(disk, lookAt("a", "b", "c")), outcomes(next, lookAt("a", "b", "c")))
	require.Contains(t, outcomes(next, lookAt("a", "b", "c")), "a=A")
	require.NoError(t, next.SyncDir(""))
	require.Equal(t, []string{"b= c=A", "b=B c=A"}, outcomes(next, lookAt("a", "b", "c")))

	write(t, f, 0, "X") // the two share nothing
	requireContent(t, next, "b", "B")
}

func TestPowerLossReleasesLocks(t *testing.T) {
	disk := memfs.New()
	_, err := disk.Lock("lock")
	require.NoError(t, err)
	require.NoError(t, disk.SyncDir(""))
	_, err = disk.CrashClone(loseAll).Lock("lock")
	require.NoError(t, err)
}

func TestClonesAreIndependent(t *testing.T) {
	disk := memfs.New()
	f := createSynced(t, disk, "a", "A")
	after := disk.CrashClone(loseAll)
	write(t, f, 0, "B")
	require.NoError(t, f.Sync())
	requireContent(t, after, "a", "A")
	require.NoError(t, after.FlipBit("a", 0, 1))
	requireContent(t, disk, "a", "B")
	require.NoError(t, after.Remove("a"))
	requireContent(t, after.CrashClone(loseAll), "a", "C")
	requireMissing(t, after.CrashClone(keepAll), "a")
}

func TestDiceNeedRand(t *testing.T) {
	require.Panics(t, func() { memfs.New().CrashClone(memfs.CrashOptions{UnsyncedPercent: 50}) })
}

func TestCapacity(t *testing.T) {
	disk := memfs.New()
	disk.SetCapacity(100)
	f := create(t, disk, "a", "0123456789")
	requireFree(t, disk, 90)

	n, err := f.WriteAt(make([]byte, 91), 10)
	require.ErrorIs(t, err, vfs.ErrNoSpace)
	require.Zero(t, n)
	require.ErrorIs(t, f.Preallocate(10, 91), vfs.ErrNoSpace)
	require.ErrorIs(t, f.Truncate(101), vfs.ErrNoSpace)
	requireContent(t, disk, "a", "0123456789")

	require.NoError(t, f.Preallocate(10, 90))
	requireFree(t, disk, 0)
	write(t, f, 50, "in place")
	requireFree(t, disk.ProcessCrashClone(), 0)
	requireFree(t, disk.CrashClone(keepAll), 0)
	requireFree(t, disk.CrashClone(loseAll), 100)

	require.NoError(t, f.Truncate(60))
	requireFree(t, disk, 40)
	create(t, disk, "b", "bb")
	require.NoError(t, disk.Rename("b", "a"))
	requireFree(t, disk, 98)
	require.NoError(t, disk.Remove("a"))
	requireFree(t, disk, 100)
	disk.SetCapacity(-1)
	create(t, disk, "c", string(make([]byte, 1000)))
}

func requireFree(t *testing.T, disk *memfs.FS, want int64) {
	t.Helper()
	free, err := disk.Free("")
	require.NoError(t, err)
	require.Equal(t, want, free)
}

func TestRot(t *testing.T) {
	disk := memfs.New()
	f := createSynced(t, disk, "a", "abcd")
	require.NoError(t, disk.FlipBit("a", 1, 0))
	requireContent(t, disk, "a", "accd")
	require.NoError(t, disk.Overwrite("a", 2, []byte("XY")))
	requireContent(t, disk.CrashClone(loseAll), "a", "acXY")

	write(t, f, 4, "ef") // not synced: rot beyond the synced size is in the written content alone
	require.NoError(t, disk.Overwrite("a", 3, []byte("123")))
	requireContent(t, disk, "a", "acX123")
	requireContent(t, disk.CrashClone(loseAll), "a", "acX1")

	require.ErrorIs(t, disk.Overwrite("a", 5, []byte("12")), fs.ErrInvalid)
	require.ErrorIs(t, disk.Overwrite("a", -1, nil), fs.ErrInvalid)
	require.ErrorIs(t, disk.FlipBit("a", 6, 0), fs.ErrInvalid)
	require.ErrorIs(t, disk.FlipBit("a", 0, 8), fs.ErrInvalid)
	require.ErrorIs(t, disk.FlipBit("none", 0, 0), fs.ErrNotExist)
	_, err := disk.ReadAll("none")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestNames(t *testing.T) {
	disk := memfs.New()
	require.NoError(t, disk.MkdirAll("/d/./e/"))
	create(t, disk, "d//e/a", "A")
	requireContent(t, disk, "/d/e/a", "A")
	_, err := disk.Open("d/../d/e/a")
	require.ErrorIs(t, err, fs.ErrInvalid)
	_, err = disk.Create("/")
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.ErrorIs(t, disk.Rename("d/e", "e"), fs.ErrInvalid)
}

func TestOps(t *testing.T) {
	disk := memfs.New()
	f := createSynced(t, disk, "a", "A") // create, write, sync, syncdir
	require.Equal(t, int64(4), disk.Ops())
	_, err := disk.Create("a")
	require.Error(t, err)
	_, err = disk.List("")
	require.NoError(t, err)
	_, err = disk.Lock("lock")
	require.NoError(t, err)
	require.Equal(t, int64(4), disk.Ops())
	require.NoError(t, f.Preallocate(1, 1))
	require.NoError(t, f.Truncate(1))
	require.NoError(t, disk.MkdirAll("d/e"))
	require.NoError(t, disk.Rename("a", "b"))
	require.NoError(t, disk.Remove("b"))
	require.Equal(t, int64(9), disk.Ops())
}
