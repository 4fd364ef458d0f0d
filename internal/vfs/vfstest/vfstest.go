package vfstest

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/quorumjournal/qjm/internal/vfs"
)

// fixture is one FS with an empty directory.
type fixture struct {
	*testing.T
	fs   vfs.FS
	root string
}

// Run runs the suite. newFS returns an FS and the name of an existing, empty directory in it.
func Run(t *testing.T, newFS func(t *testing.T) (fsys vfs.FS, root string)) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(fixture)
	}{
		{"CreateIsExclusive", createIsExclusive},
		{"NotExist", notExist},
		{"DirectoryIsNoFile", directoryIsNoFile},
		{"OpenWriteKeepsContent", openWriteKeepsContent},
		{"OpenIsReadOnly", openIsReadOnly},
		{"ReadAt", readAt},
		{"WriteAtBeyondEnd", writeAtBeyondEnd},
		{"Truncate", truncate},
		{"Preallocate", preallocate},
		{"PreallocateLarge", preallocateLarge},
		{"PreallocateInsideFails", preallocateInsideFails},
		{"DropCache", dropCache},
		{"ClosedFile", closedFile},
		{"RenameReplaces", renameReplaces},
		{"RenameBetweenDirectories", renameBetweenDirectories},
		{"RenameOntoDirectoryFails", renameOntoDirectoryFails},
		{"RenameDirectory", renameDirectory},
		{"RemovedFileStaysReadable", removedFileStaysReadable},
		{"RemoveDirectory", removeDirectory},
		{"MkdirAll", mkdirAll},
		{"ListIsSorted", listIsSorted},
		{"Stat", stat},
		{"SyncAndSyncDir", syncAndSyncDir},
		{"Lock", lock},
		{"Free", free},
		{"Atomic", atomic},
		{"Concurrency", concurrency},
	} {
		t.Run(test.name, func(t *testing.T) {
			fsys, root := newFS(t)
			test.run(fixture{T: t, fs: fsys, root: root})
		})
	}
}

// path names something in the root.
func (f fixture) path(name string) string { return f.root + "/" + name }

// create makes a file with content and leaves it open.
func (f fixture) create(name, content string) vfs.File {
	f.Helper()
	file, err := f.fs.Create(f.path(name))
	require.NoError(f, err)
	f.Cleanup(func() { _ = file.Close() }) // the test may have closed it
	n, err := file.WriteAt([]byte(content), 0)
	require.NoError(f, err)
	require.Equal(f, len(content), n)
	return file
}

// requireContent reads a file by name.
func (f fixture) requireContent(name, want string) {
	f.Helper()
	got, err := vfs.ReadFile(f.fs, f.path(name), 1<<20)
	require.NoError(f, err)
	require.Equal(f, want, string(got))
}

func (f fixture) requireSize(file vfs.File, want int64) {
	f.Helper()
	size, err := file.Size()
	require.NoError(f, err)
	require.Equal(f, want, size)
}

func createIsExclusive(f fixture) {
	f.create("a", "first")
	_, err := f.fs.Create(f.path("a"))
	require.ErrorIs(f, err, fs.ErrExist)
	f.requireContent("a", "first")

	require.NoError(f, f.fs.MkdirAll(f.path("d")))
	_, err = f.fs.Create(f.path("d"))
	require.ErrorIs(f, err, fs.ErrExist)
}

func notExist(f fixture) {
	for _, name := range []string{"none", "none/none"} {
		_, err := f.fs.Open(f.path(name))
		require.ErrorIs(f, err, fs.ErrNotExist)
		_, err = f.fs.OpenWrite(f.path(name))
		require.ErrorIs(f, err, fs.ErrNotExist)
		_, err = f.fs.Stat(f.path(name))
		require.ErrorIs(f, err, fs.ErrNotExist)
		_, err = f.fs.List(f.path(name))
		require.ErrorIs(f, err, fs.ErrNotExist)
		_, err = f.fs.Free(f.path(name))
		require.ErrorIs(f, err, fs.ErrNotExist)
		require.ErrorIs(f, f.fs.Remove(f.path(name)), fs.ErrNotExist)
		require.ErrorIs(f, f.fs.Rename(f.path(name), f.path("other")), fs.ErrNotExist)
		require.ErrorIs(f, f.fs.SyncDir(f.path(name)), fs.ErrNotExist)
	}
	_, err := f.fs.Create(f.path("none/file"))
	require.ErrorIs(f, err, fs.ErrNotExist)
	_, err = f.fs.Lock(f.path("none/file"))
	require.ErrorIs(f, err, fs.ErrNotExist)
	f.create("a", "")
	require.ErrorIs(f, f.fs.Rename(f.path("a"), f.path("none/file")), fs.ErrNotExist)
	f.requireContent("a", "")
}

func directoryIsNoFile(f fixture) {
	require.NoError(f, f.fs.MkdirAll(f.path("d")))
	_, err := f.fs.Open(f.path("d"))
	require.Error(f, err)
	_, err = f.fs.OpenWrite(f.path("d"))
	require.Error(f, err)
	_, err = f.fs.Lock(f.path("d"))
	require.Error(f, err)

	f.create("a", "")
	_, err = f.fs.List(f.path("a"))
	require.Error(f, err)
	_, err = f.fs.Create(f.path("a/b"))
	require.Error(f, err)
}

func openWriteKeepsContent(f fixture) {
	require.NoError(f, f.create("a", "0123456789").Close())
	file, err := f.fs.OpenWrite(f.path("a"))
	require.NoError(f, err)
	f.requireSize(file, 10)
	_, err = file.WriteAt([]byte("xy"), 4)
	require.NoError(f, err)
	require.NoError(f, file.Close())
	f.requireContent("a", "0123xy6789")
}

func openIsReadOnly(f fixture) {
	require.NoError(f, f.create("a", "content").Close())
	file, err := f.fs.Open(f.path("a"))
	require.NoError(f, err)
	_, err = file.WriteAt([]byte("x"), 0)
	require.Error(f, err)
	require.Error(f, file.Truncate(0))
	require.Error(f, file.Preallocate(7, 10))
	require.NoError(f, file.Close())
	f.requireContent("a", "content")
}

func readAt(f fixture) {
	file := f.create("a", "0123456789")
	for _, test := range []struct {
		off  int64
		size int
		want string
		err  error
	}{
		{off: 0, size: 4, want: "0123"},
		{off: 6, size: 4, want: "6789"},
		{off: 6, size: 5, want: "6789", err: io.EOF},
		{off: 10, size: 1, err: io.EOF},
		{off: 4096, size: 1, err: io.EOF},
		{off: 3, size: 0},
	} {
		buf := make([]byte, test.size)
		n, err := file.ReadAt(buf, test.off)
		require.Equal(f, test.want, string(buf[:n]), "at %d", test.off)
		// Bare, as callers of io.ReaderAt compare it.
		require.Equal(f, test.err, err, "at %d", test.off)
	}
	_, err := file.ReadAt(make([]byte, 1), -1)
	require.Error(f, err)
	require.NotErrorIs(f, err, io.EOF)
}

func writeAtBeyondEnd(f fixture) {
	file := f.create("a", "ab")
	_, err := file.WriteAt([]byte("cd"), 5)
	require.NoError(f, err)
	f.requireContent("a", "ab\x00\x00\x00cd")
	_, err = file.WriteAt(nil, 100)
	require.NoError(f, err)
	f.requireSize(file, 7)
	_, err = file.WriteAt([]byte("x"), -1)
	require.Error(f, err)
	f.requireContent("a", "ab\x00\x00\x00cd")
}

func truncate(f fixture) {
	file := f.create("a", "0123456789")
	require.NoError(f, file.Truncate(4))
	f.requireContent("a", "0123")
	require.NoError(f, file.Truncate(8))
	f.requireContent("a", "0123\x00\x00\x00\x00") // not what stood there before
	require.Error(f, file.Truncate(-1))
	require.NoError(f, file.Truncate(0))
	f.requireContent("a", "")
}

func preallocate(f fixture) {
	file := f.create("a", "head")
	require.NoError(f, file.Preallocate(4, 6))
	f.requireContent("a", "head\x00\x00\x00\x00\x00\x00")
	require.NoError(f, file.Preallocate(12, 2)) // a gap reads as zeros, too
	f.requireContent("a", "head"+string(make([]byte, 10)))
	require.NoError(f, file.Preallocate(14, 0))
	f.requireSize(file, 14)
}

func dropCache(f fixture) {
	file := f.create("a", "0123456789")
	require.NoError(f, file.Sync())
	file.DropCache(0, 1<<20)
	f.requireContent("a", "0123456789")
	_, err := file.WriteAt([]byte("ab"), 2)
	require.NoError(f, err)
	file.DropCache(0, 10) // not synced: only advice
	f.requireContent("a", "01ab456789")
	require.NoError(f, file.Close())
	file.DropCache(0, 10)
}

func preallocateLarge(f fixture) {
	const size = 5<<20 + 17 // several chunks, the last one short
	file := f.create("a", "x")
	require.NoError(f, file.Preallocate(1, size-1))
	f.requireSize(file, size)
	data := make([]byte, size)
	n, err := file.ReadAt(data, 0)
	require.Equal(f, size, n)
	if err != nil {
		require.Equal(f, io.EOF, err)
	}
	require.Equal(f, byte('x'), data[0])
	require.True(f, bytes.Equal(make([]byte, size-1), data[1:]), "all zero")
}

func preallocateInsideFails(f fixture) {
	file := f.create("a", "content")
	require.Error(f, file.Preallocate(3, 10))
	require.Error(f, file.Preallocate(-1, 10))
	require.Error(f, file.Preallocate(7, -1))
	f.requireContent("a", "content")
}

func closedFile(f fixture) {
	file := f.create("a", "content")
	require.NoError(f, file.Close())
	_, err := file.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(f, err, fs.ErrClosed)
	_, err = file.WriteAt([]byte("x"), 0)
	require.ErrorIs(f, err, fs.ErrClosed)
	_, err = file.Size()
	require.ErrorIs(f, err, fs.ErrClosed)
	require.ErrorIs(f, file.Truncate(0), fs.ErrClosed)
	require.ErrorIs(f, file.Preallocate(7, 1), fs.ErrClosed)
	require.ErrorIs(f, file.Sync(), fs.ErrClosed)
	require.ErrorIs(f, file.Close(), fs.ErrClosed)
	f.requireContent("a", "content")
}

func renameReplaces(f fixture) {
	f.create("old", "old")
	f.create("new", "new")
	require.NoError(f, f.fs.Rename(f.path("new"), f.path("old")))
	f.requireContent("old", "new")
	_, err := f.fs.Stat(f.path("new"))
	require.ErrorIs(f, err, fs.ErrNotExist)
	require.NoError(f, f.fs.Rename(f.path("old"), f.path("old")))
	f.requireContent("old", "new")
}

func renameBetweenDirectories(f fixture) {
	require.NoError(f, f.fs.MkdirAll(f.path("d")))
	file := f.create("a", "1")
	require.NoError(f, f.fs.Rename(f.path("a"), f.path("d/b")))
	_, err := file.WriteAt([]byte("2"), 1) // the handle follows the file
	require.NoError(f, err)
	f.requireContent("d/b", "12")
	names, err := f.fs.List(f.root)
	require.NoError(f, err)
	require.Equal(f, []string{"d"}, names)
}

func renameOntoDirectoryFails(f fixture) {
	require.NoError(f, f.fs.MkdirAll(f.path("d")))
	f.create("a", "a")
	require.Error(f, f.fs.Rename(f.path("a"), f.path("d")))
	require.Error(f, f.fs.Rename(f.path("d"), f.path("a")))
	f.requireContent("a", "a")
	names, err := f.fs.List(f.path("d"))
	require.NoError(f, err)
	require.Empty(f, names)
}

func renameDirectory(f fixture) {
	require.NoError(f, f.fs.MkdirAll(f.path("d")))
	f.create("d/a", "a")
	require.NoError(f, f.fs.Rename(f.path("d"), f.path("e")))
	f.requireContent("e/a", "a")
	require.NoError(f, f.fs.MkdirAll(f.path("full")))
	f.create("full/b", "b")
	require.Error(f, f.fs.Rename(f.path("e"), f.path("full")))
	f.requireContent("full/b", "b")
}

func removedFileStaysReadable(f fixture) {
	file := f.create("a", "content")
	require.NoError(f, f.fs.Remove(f.path("a")))
	buf := make([]byte, 7)
	_, err := file.ReadAt(buf, 0)
	require.NoError(f, err)
	require.Equal(f, "content", string(buf))
	f.create("a", "another") // the name is free
	f.requireContent("a", "another")
}

func removeDirectory(f fixture) {
	require.NoError(f, f.fs.MkdirAll(f.path("d")))
	f.create("d/a", "a")
	require.Error(f, f.fs.Remove(f.path("d")))
	f.requireContent("d/a", "a")
	require.NoError(f, f.fs.Remove(f.path("d/a")))
	require.NoError(f, f.fs.Remove(f.path("d")))
	_, err := f.fs.Stat(f.path("d"))
	require.ErrorIs(f, err, fs.ErrNotExist)
}

func mkdirAll(f fixture) {
	require.NoError(f, f.fs.MkdirAll(f.path("a/b/c")))
	f.create("a/b/c/file", "x")
	require.NoError(f, f.fs.MkdirAll(f.path("a/b/c")))
	f.requireContent("a/b/c/file", "x")
	require.Error(f, f.fs.MkdirAll(f.path("a/b/c/file")))
	require.Error(f, f.fs.MkdirAll(f.path("a/b/c/file/d")))
	require.NoError(f, f.fs.MkdirAll(f.root))
}

func listIsSorted(f fixture) {
	names, err := f.fs.List(f.root)
	require.NoError(f, err)
	require.Empty(f, names)
	for _, name := range []string{"c", "a", "B", "10", "9"} {
		f.create(name, "")
	}
	require.NoError(f, f.fs.MkdirAll(f.path("b/inner")))
	names, err = f.fs.List(f.root)
	require.NoError(f, err)
	require.Equal(f, []string{"10", "9", "B", "a", "b", "c"}, names)
}

func stat(f fixture) {
	f.create("a", "12345")
	info, err := f.fs.Stat(f.path("a"))
	require.NoError(f, err)
	require.Equal(f, "a", info.Name())
	require.Equal(f, int64(5), info.Size())
	require.False(f, info.IsDir())
	require.True(f, info.Mode().IsRegular())

	info, err = f.fs.Stat(f.root)
	require.NoError(f, err)
	require.True(f, info.IsDir())
	require.True(f, info.Mode().IsDir())
}

func syncAndSyncDir(f fixture) {
	file := f.create("a", "content")
	require.NoError(f, file.Sync())
	require.NoError(f, f.fs.SyncDir(f.root))
	_, err := file.WriteAt([]byte("C"), 0)
	require.NoError(f, err)
	require.NoError(f, file.Sync())
	f.requireContent("a", "Content")
}

func lock(f fixture) {
	held, err := f.fs.Lock(f.path("lock"))
	require.NoError(f, err)
	_, err = f.fs.Lock(f.path("lock"))
	require.ErrorIs(f, err, vfs.ErrLocked)
	other, err := f.fs.Lock(f.path("other"))
	require.NoError(f, err)

	require.NoError(f, held.Close())
	require.ErrorIs(f, held.Close(), fs.ErrClosed)
	held, err = f.fs.Lock(f.path("lock"))
	require.NoError(f, err)
	_, err = f.fs.Lock(f.path("lock"))
	require.ErrorIs(f, err, vfs.ErrLocked)
	require.NoError(f, held.Close())
	require.NoError(f, other.Close())

	// The lock is on any file, whose content stays.
	require.NoError(f, f.create("a", "content").Close())
	held, err = f.fs.Lock(f.path("a"))
	require.NoError(f, err)
	require.NoError(f, held.Close())
	f.requireContent("a", "content")
}

func free(f fixture) {
	bytes, err := f.fs.Free(f.root)
	require.NoError(f, err)
	require.Positive(f, bytes)
}

func atomic(f fixture) {
	for _, content := range []string{"one", "", "three"} {
		require.NoError(f, vfs.WriteFileAtomic(f.fs, f.path("a"), []byte(content)))
		f.requireContent("a", content)
	}
	names, err := f.fs.List(f.root)
	require.NoError(f, err)
	require.Equal(f, []string{"a"}, names, "no temporary left")
}

// concurrency has writers on files of their own, readers of a shared one and directory traffic at
// once; the race detector looks on.
func concurrency(f fixture) {
	const workers, rounds = 4, 20
	shared := f.create("shared", "shared")
	var group errgroup.Group
	for worker := range workers {
		group.Go(func() error {
			for round := range rounds {
				if err := oneRound(f, shared, fmt.Sprintf("%d-%d", worker, round)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(f, group.Wait())
	names, err := f.fs.List(f.root)
	require.NoError(f, err)
	require.Len(f, names, 1+workers*rounds)
	for worker := range workers {
		name := fmt.Sprintf("%d-%d", worker, rounds-1)
		f.requireContent(name, name)
	}
}

func oneRound(f fixture, shared vfs.File, name string) error {
	buf := make([]byte, len("shared"))
	if _, err := shared.ReadAt(buf, 0); err != nil || string(buf) != "shared" {
		return fmt.Errorf("shared file: %q, %w", buf, err)
	}
	if err := vfs.WriteFileAtomic(f.fs, f.path(name), []byte(name)); err != nil {
		return err
	}
	_, err := f.fs.List(f.root)
	return err
}
