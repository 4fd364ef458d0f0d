package faultfs_test

import (
	"errors"
	"io/fs"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
)

// setup returns a disk with a file "a" that holds "content", and an open handle through faultfs.
func setup(t *testing.T) (*memfs.FS, *faultfs.FS, vfs.File) {
	t.Helper()
	disk := memfs.New()
	require.NoError(t, vfs.WriteFileAtomic(disk, "a", []byte("content")))
	require.NoError(t, disk.MkdirAll("d"))
	require.NoError(t, disk.SyncDir(""))
	fsys := faultfs.New(disk)
	f, err := fsys.OpenWrite("a")
	require.NoError(t, err)
	return disk, fsys, f
}

// operations is every operation there is; the mutating ones have their line in the log.
var operations = []struct {
	kind faultfs.OpKind
	log  string
	do   func(fsys *faultfs.FS, a vfs.File) error
}{
	{faultfs.OpCreate, "create b", func(fsys *faultfs.FS, _ vfs.File) error { _, err := fsys.Create("b"); return err }},
	{faultfs.OpOpen, "", func(fsys *faultfs.FS, _ vfs.File) error { _, err := fsys.Open("a"); return err }},
	{faultfs.OpOpen, "", func(fsys *faultfs.FS, _ vfs.File) error { _, err := fsys.OpenWrite("a"); return err }},
	{faultfs.OpMkdir, "mkdir e", func(fsys *faultfs.FS, _ vfs.File) error { return fsys.MkdirAll("e") }},
	{faultfs.OpList, "", func(fsys *faultfs.FS, _ vfs.File) error { _, err := fsys.List("d"); return err }},
	{faultfs.OpStat, "", func(fsys *faultfs.FS, _ vfs.File) error { _, err := fsys.Stat("a"); return err }},
	{faultfs.OpStat, "", func(fsys *faultfs.FS, _ vfs.File) error { _, err := fsys.Free("a"); return err }},
	{faultfs.OpStat, "", func(_ *faultfs.FS, a vfs.File) error { _, err := a.Size(); return err }},
	{faultfs.OpSyncDir, "syncdir d", func(fsys *faultfs.FS, _ vfs.File) error { return fsys.SyncDir("d") }},
	{faultfs.OpRead, "", func(_ *faultfs.FS, a vfs.File) error { _, err := a.ReadAt(make([]byte, 1), 0); return err }},
	{faultfs.OpWrite, "write a 3+2", func(_ *faultfs.FS, a vfs.File) error { _, err := a.WriteAt([]byte("xy"), 3); return err }},
	{faultfs.OpPreallocate, "preallocate a 7+9", func(_ *faultfs.FS, a vfs.File) error { return a.Preallocate(7, 9) }},
	{faultfs.OpTruncate, "truncate a 4", func(_ *faultfs.FS, a vfs.File) error { return a.Truncate(4) }},
	{faultfs.OpSync, "sync a", func(_ *faultfs.FS, a vfs.File) error { return a.Sync() }},
	{faultfs.OpLock, "", func(fsys *faultfs.FS, _ vfs.File) error { _, err := fsys.Lock("lock"); return err }},
	{faultfs.OpRename, "rename a c", func(fsys *faultfs.FS, _ vfs.File) error { return fsys.Rename("a", "c") }},
	{faultfs.OpRemove, "remove d", func(fsys *faultfs.FS, _ vfs.File) error { return fsys.Remove("d") }},
}

func TestPassesOnAndLogs(t *testing.T) {
	_, fsys, f := setup(t)
	var log []string
	for _, op := range operations {
		require.NoError(t, op.do(fsys, f))
		if op.log != "" {
			log = append(log, op.log)
		}
		require.Equal(t, op.log != "", op.kind&faultfs.OpMutating != 0)
	}
	require.Equal(t, log, fsys.Log())
	require.Equal(t, int64(len(log)), fsys.Mutations())
	fsys.ResetLog()
	require.Empty(t, fsys.Log())
	require.Equal(t, int64(len(log)), fsys.Mutations())
}

// TestEveryKindCanFail: a rule hits its kind, no other, and the operation is not done (X2).
func TestEveryKindCanFail(t *testing.T) {
	for _, victim := range operations {
		disk, fsys, f := setup(t)
		fsys.Inject(faultfs.Rule{Op: victim.kind})
		before := disk.Ops()
		require.ErrorIs(t, victim.do(fsys, f), faultfs.ErrInjected)
		require.Equal(t, before, disk.Ops())
		if victim.log != "" {
			require.Equal(t, []string{victim.log + " (fault)"}, fsys.Log())
		}
		for _, other := range operations {
			if other.kind != victim.kind {
				require.NoError(t, other.do(fsys, f), "rule for %b, operation %b", victim.kind, other.kind)
			}
		}
		fsys.ClearRules()
		if victim.kind != faultfs.OpOpen { // "a" has moved on
			requireNotInjected(t, victim.do(fsys, f))
		}
	}
}

func requireNotInjected(t *testing.T, err error) {
	t.Helper()
	require.NotErrorIs(t, err, faultfs.ErrInjected)
}

// TestNthAndSticky counts from Inject.
func TestNthAndSticky(t *testing.T) {
	const tries = 4
	for _, test := range []struct {
		rule  faultfs.Rule
		fails []bool
	}{
		{faultfs.Rule{}, []bool{true, true, true, true}},
		{faultfs.Rule{Nth: 1}, []bool{true, false, false, false}},
		{faultfs.Rule{Nth: 3}, []bool{false, false, true, false}},
		{faultfs.Rule{Nth: 3, Sticky: true}, []bool{false, false, true, true}},
		{faultfs.Rule{Nth: 9}, []bool{false, false, false, false}},
	} {
		_, fsys, f := setup(t)
		require.NoError(t, f.Sync())
		test.rule.Op = faultfs.OpSync
		fsys.Inject(test.rule)
		var fails []bool
		for range tries {
			fails = append(fails, f.Sync() != nil)
			_, err := f.WriteAt([]byte("x"), 0) // no match, no count
			require.NoError(t, err)
		}
		require.Equal(t, test.fails, fails, "%+v", test.rule)
	}
}

func TestPathAndError(t *testing.T) {
	_, fsys, f := setup(t)
	require.NoError(t, fsys.MkdirAll("segments"))
	fsys.Inject(faultfs.Rule{PathContains: "segments/", Err: vfs.ErrNoSpace})
	fsys.Inject(faultfs.Rule{PathContains: "segments/1", Err: fs.ErrPermission})
	_, err := fsys.Create("segments/1")
	require.Equal(t, vfs.ErrNoSpace, err, "the first rule wins, its error as it is")
	require.NoError(t, f.Sync())
	require.Equal(t, vfs.ErrNoSpace, fsys.Rename("a", "segments/a"), "either path of a rename")
	require.Equal(t, vfs.ErrNoSpace, fsys.Rename("segments/a", "a"))
}

// TestCrash: at every mutation, with the operation done or not; what comes later fails and changes
// nothing.
func TestCrash(t *testing.T) {
	mutating := 0
	for i, op := range operations {
		if op.log == "" {
			continue
		}
		mutating++
		for _, done := range []bool{false, true} {
			disk, fsys, f := setup(t)
			suffix := " (crash)"
			if done {
				suffix = " (done, crash)"
				fsys.CrashAfter(int64(mutating))
			} else {
				fsys.CrashAt(int64(mutating))
			}
			for _, earlier := range operations[:i] {
				require.NoError(t, earlier.do(fsys, f))
			}
			require.False(t, fsys.Crashed())
			before := disk.Ops()
			require.Equal(t, faultfs.ErrCrashed, op.do(fsys, f))
			require.True(t, fsys.Crashed())
			require.Equal(t, done, disk.Ops() == before+1)
			require.Equal(t, op.log+suffix, fsys.Log()[mutating-1])

			after := disk.Ops()
			for _, later := range operations {
				require.Equal(t, faultfs.ErrCrashed, later.do(fsys, f))
			}
			require.Equal(t, after, disk.Ops())
			require.Equal(t, int64(mutating), fsys.Mutations())
			require.Len(t, fsys.Log(), mutating)
		}
	}
}

// TestCrashInThePast: the next mutation is the one.
func TestCrashInThePast(t *testing.T) {
	_, fsys, f := setup(t)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Sync())
	fsys.CrashAt(1)
	_, err := fsys.List("")
	require.NoError(t, err)
	require.Equal(t, faultfs.ErrCrashed, f.Sync())
}

// TestFaultAtTheCrash: the rule gives the error, then the machine is dead.
func TestFaultAtTheCrash(t *testing.T) {
	_, fsys, f := setup(t)
	fsys.Inject(faultfs.Rule{Op: faultfs.OpSync})
	fsys.CrashAfter(1)
	require.Equal(t, faultfs.ErrInjected, f.Sync())
	require.True(t, fsys.Crashed())
}

// TestCloseAfterCrash is X3: handles and locks are let go of below, and the caller sees the crash.
func TestCloseAfterCrash(t *testing.T) {
	disk, fsys, f := setup(t)
	lock, err := fsys.Lock("lock")
	require.NoError(t, err)
	fsys.Crash()
	require.Equal(t, faultfs.ErrCrashed, f.Close())
	require.Equal(t, faultfs.ErrCrashed, lock.Close())
	lock, err = disk.Lock("lock")
	require.NoError(t, err)
	require.NoError(t, lock.Close())
}

// TestDropUnsynced: after the failed Sync a second one reports success for data that is lost.
func TestDropUnsynced(t *testing.T) {
	for _, drop := range []bool{false, true} {
		disk, fsys, f := setup(t)
		fsys.Inject(faultfs.Rule{Op: faultfs.OpSync, Nth: 1, DropUnsynced: drop})
		_, err := f.WriteAt([]byte("CONTENT"), 0)
		require.NoError(t, err)
		require.ErrorIs(t, f.Sync(), faultfs.ErrInjected)
		require.NoError(t, f.Sync())
		now, err := disk.ReadAll("a")
		require.NoError(t, err)
		require.Equal(t, "CONTENT", string(now))

		after, err := disk.CrashClone(memfs.CrashOptions{UnsyncedPercent: 100}).ReadAll("a")
		require.NoError(t, err)
		require.Equal(t, map[bool]string{false: "CONTENT", true: "content"}[drop], string(after))
	}
}

// TestNoSuccessAfterTheCrash is X1: writers race with the crash, and everything they were told is
// done is on the disk.
func TestNoSuccessAfterTheCrash(t *testing.T) {
	const writers = 4
	for crashAt := int64(3); crashAt < 60; crashAt += 7 {
		disk := memfs.New()
		fsys := faultfs.New(disk)
		fsys.CrashAt(crashAt)
		var durable [writers]string
		var group sync.WaitGroup
		for w := range writers {
			group.Go(func() { durable[w] = writeUntilCrash(fsys, string(rune('a'+w))) })
		}
		group.Wait()
		after := disk.CrashClone(memfs.CrashOptions{})
		for w, want := range durable {
			got, err := after.ReadAll(string(rune('a' + w)))
			if want == "" && errors.Is(err, fs.ErrNotExist) {
				continue
			}
			require.NoError(t, err)
			require.Contains(t, []string{want, want + "."}, string(got))
		}
	}
}

// writeUntilCrash makes a file longer and longer and returns the last content that was durable.
func writeUntilCrash(fsys vfs.FS, name string) string {
	durable := ""
	for {
		next := durable + "."
		if err := vfs.WriteFileAtomic(fsys, name, []byte(next)); err != nil {
			return durable
		}
		durable = next
	}
}
