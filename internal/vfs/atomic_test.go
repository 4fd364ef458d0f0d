package vfs_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
)

const (
	name       = "d/fence"
	oldContent = "old content"
)

// newContent spans sectors, so that a half-written temporary is possible.
var newContent = func() string {
	data := make([]byte, 2000)
	for i := range data {
		data[i] = byte('a' + i%26)
	}
	return string(data)
}()

// diskWith returns a disk with a durable directory and, unless content is "", a durable file.
func diskWith(t *testing.T, content string) *memfs.FS {
	t.Helper()
	disk := memfs.New()
	require.NoError(t, disk.MkdirAll("d"))
	require.NoError(t, disk.SyncDir(""))
	if content != "" {
		require.NoError(t, vfs.WriteFileAtomic(disk, name, []byte(content)))
	}
	return disk
}

// read returns the content of name, or "" when there is none.
func read(t *testing.T, fsys vfs.FS) string {
	t.Helper()
	data, err := vfs.ReadFile(fsys, name, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	require.NoError(t, err)
	return string(data)
}

// TestWriteFileAtomicOrder pins the discipline.
func TestWriteFileAtomicOrder(t *testing.T) {
	fsys := faultfs.New(diskWith(t, oldContent))
	require.NoError(t, vfs.WriteFileAtomic(fsys, name, []byte("12345")))
	require.Equal(t, []string{
		"remove d/fence.tmp",
		"create d/fence.tmp",
		"write d/fence.tmp 0+5",
		"sync d/fence.tmp",
		"rename d/fence.tmp d/fence",
		"syncdir d",
	}, fsys.Log())
}

// TestWriteFileAtomicCrash crashes at, and after, every operation, with and without an old file and
// with what is unsynced lost, half lost, kept. The content afterwards is old or new; new where the
// call had returned nil.
func TestWriteFileAtomicCrash(t *testing.T) {
	for _, old := range []string{"", oldContent} {
		for _, arm := range []func(*faultfs.FS, int64){(*faultfs.FS).CrashAt, (*faultfs.FS).CrashAfter} {
			finished := false
			for k := int64(1); !finished; k++ {
				disk := diskWith(t, old)
				fsys := faultfs.New(disk)
				arm(fsys, k)
				err := vfs.WriteFileAtomic(fsys, name, []byte(newContent))
				finished = !fsys.Crashed()
				if !finished {
					require.ErrorIs(t, err, faultfs.ErrCrashed)
				} else {
					require.NoError(t, err)
					require.Greater(t, k, int64(6), "it has six steps to crash at")
				}
				checkCrashClones(t, disk, old, err == nil)
			}
		}
	}
}

// TestWriteFileAtomicFailure fails every operation once. The content is old or new, also after a
// crash, and the next write is not in the way of what the failed one left.
func TestWriteFileAtomicFailure(t *testing.T) {
	for _, old := range []string{"", oldContent} {
		failed := true
		for k := int64(1); failed; k++ {
			disk := diskWith(t, old)
			fsys := faultfs.New(disk)
			fsys.Inject(faultfs.Rule{Op: faultfs.OpMutating, Nth: k, DropUnsynced: true})
			err := vfs.WriteFileAtomic(fsys, name, []byte(newContent))
			failed = err != nil
			if failed {
				require.ErrorIs(t, err, faultfs.ErrInjected)
				require.Contains(t, []string{old, newContent}, read(t, fsys))
			} else {
				require.Equal(t, int64(7), k, "each of the six steps must be able to fail it")
			}
			checkCrashClones(t, disk, old, !failed)
			fsys.ClearRules()
			require.NoError(t, vfs.WriteFileAtomic(fsys, name, []byte("again")))
			require.Equal(t, "again", read(t, disk.CrashClone(memfs.CrashOptions{})))
		}
	}
}

func checkCrashClones(t *testing.T, disk *memfs.FS, old string, durable bool) {
	t.Helper()
	options := []memfs.CrashOptions{{UnsyncedPercent: 0}, {UnsyncedPercent: 100}}
	for seed := range uint64(20) {
		options = append(options, memfs.CrashOptions{UnsyncedPercent: 50, Rand: rand.New(rand.NewPCG(seed, 1))})
	}
	for _, opts := range options {
		after := disk.CrashClone(opts)
		got := read(t, after)
		if durable {
			require.Equal(t, newContent, got)
			continue
		}
		require.Contains(t, []string{old, newContent}, got)
		// The leftover temporary, whatever is in it, does not stop the next write.
		require.NoError(t, vfs.WriteFileAtomic(after, name, []byte("again")))
		require.Equal(t, "again", read(t, after))
	}
	require.Contains(t, []string{old, newContent}, read(t, disk.ProcessCrashClone()))
}

// TestReadFileLimit: too large is told from the size alone.
func TestReadFileLimit(t *testing.T) {
	disk := memfs.New()
	require.NoError(t, vfs.WriteFileAtomic(disk, "a", []byte("12345")))
	data, err := vfs.ReadFile(disk, "a", 5)
	require.NoError(t, err)
	require.Equal(t, "12345", string(data))

	fsys := faultfs.New(disk)
	fsys.Inject(faultfs.Rule{Op: faultfs.OpRead}) // a read would show as ErrInjected
	_, err = vfs.ReadFile(fsys, "a", 4)
	require.ErrorIs(t, err, vfs.ErrTooLarge)
	require.ErrorContains(t, err, "a")

	_, err = vfs.ReadFile(fsys, "a", 5)
	require.ErrorIs(t, err, faultfs.ErrInjected)
	_, err = vfs.ReadFile(disk, "none", 5)
	require.ErrorIs(t, err, fs.ErrNotExist)

	require.NoError(t, vfs.WriteFileAtomic(disk, "empty", nil))
	data, err = vfs.ReadFile(disk, "empty", 0)
	require.NoError(t, err)
	require.Empty(t, data)
}

// TestReadFileShrinks: a file cut between Size and ReadAt is an error, no short result.
func TestReadFileShrinks(t *testing.T) {
	disk := memfs.New()
	require.NoError(t, vfs.WriteFileAtomic(disk, "a", []byte("12345")))
	_, err := vfs.ReadFile(lyingFS{disk}, "a", 100)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.ErrorContains(t, err, fmt.Sprintf("got %d bytes of %d", 5, 6))
}

// lyingFS opens files that claim one byte more than they have.
type lyingFS struct{ vfs.FS }

func (l lyingFS) Open(name string) (vfs.File, error) {
	f, err := l.FS.Open(name)
	return lyingFile{f}, err
}

type lyingFile struct{ vfs.File }

func (l lyingFile) Size() (int64, error) {
	size, err := l.File.Size()
	return size + 1, err
}
