package osfs

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/quorumjournal/qjm/internal/vfs"
)

// TestFullDisk is O2 on a device that really says ENOSPC.
func TestFullDisk(t *testing.T) {
	f, err := New("").OpenWrite("/dev/full")
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	_, err = f.WriteAt([]byte("x"), 0)
	require.ErrorIs(t, err, vfs.ErrNoSpace)
	require.ErrorIs(t, err, syscall.ENOSPC)
}

func TestNoSpaceErrors(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		err := wrap(&os.PathError{Op: "write", Path: "a", Err: errno})
		require.ErrorIs(t, err, vfs.ErrNoSpace)
		require.ErrorIs(t, err, errno)
	}
	require.NotErrorIs(t, wrap(syscall.EIO), vfs.ErrNoSpace)
	require.NoError(t, wrap(nil))
}

// TestPreallocateTakesBlocks: a sparse file would keep the size and none of the purpose.
func TestPreallocateTakesBlocks(t *testing.T) {
	const size = 3<<20 + 5
	name := filepath.Join(t.TempDir(), "a")
	f, err := New("").Create(name)
	require.NoError(t, err)
	require.NoError(t, f.Preallocate(0, size))
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(name, &stat))
	require.EqualValues(t, size, stat.Size)
	require.GreaterOrEqual(t, stat.Blocks*512, int64(size))
}

// TestPreallocateFailureLeavesSize: the reservation fails before anything is written.
func TestPreallocateFailureLeavesSize(t *testing.T) {
	fsys := New(t.TempDir())
	f, err := fsys.Create("a")
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("head"), 0)
	require.NoError(t, err)
	// More than any file system holds. The reservation by itself must fail, and is asked first:
	// without it Preallocate would write zeros until the disk of this machine is full.
	const tooMuch = 1 << 62
	require.Error(t, control(f.(*file).os, "fallocate", func(fd int) error { return reserve(fd, 4, tooMuch) }))
	require.Error(t, f.Preallocate(4, tooMuch))
	size, err := f.Size()
	require.NoError(t, err)
	require.Equal(t, int64(4), size)
	require.NoError(t, f.Close())
}

// TestOnlyEINTRIsRetried is O1.
func TestOnlyEINTRIsRetried(t *testing.T) {
	calls := 0
	err := retryEINTR(func() error {
		calls++
		if calls < 3 {
			return unix.EINTR
		}
		return unix.EIO
	})
	require.ErrorIs(t, err, unix.EIO)
	require.Equal(t, 3, calls)

	f, err := os.Create(filepath.Join(t.TempDir(), "a"))
	require.NoError(t, err)
	calls = 0
	err = control(f, "fdatasync", func(int) error { calls++; return unix.EIO })
	var pathError *os.PathError
	require.True(t, errors.As(err, &pathError))
	require.Equal(t, "fdatasync", pathError.Op)
	require.ErrorIs(t, err, unix.EIO)
	require.Equal(t, 1, calls)
	require.NoError(t, f.Close())
}
