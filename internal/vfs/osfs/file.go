package osfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/quorumjournal/qjm/internal/vfs"
)

// zeroChunkBytes bounds one write of Preallocate.
const zeroChunkBytes = 1 << 20

// zeros is shared by all files and only ever read.
var zeros [zeroChunkBytes]byte

type file struct {
	os *os.File
}

var _ vfs.File = (*file)(nil)

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.os.ReadAt(p, off)
	if err == io.EOF { // bare, as io.ReaderAt promises
		return n, io.EOF
	}
	return n, wrap(err)
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.os.WriteAt(p, off)
	return n, wrap(err)
}

// WriteVAt goes on behind what a short write took, as WriteAt does.
func (f *file) WriteVAt(pieces [][]byte, off int64) (int, error) {
	n, err := f.writev(pieces, off)
	return n, wrap(err)
}

func (f *file) Close() error { return wrap(f.os.Close()) }

func (f *file) Truncate(size int64) error { return wrap(f.os.Truncate(size)) }

func (f *file) Sync() error { return wrap(control(f.os, "fdatasync", fdatasync)) }

func (f *file) Size() (int64, error) {
	info, err := f.os.Stat()
	if err != nil {
		return 0, wrap(err)
	}
	return info.Size(), nil
}

// Preallocate reserves the blocks, so that a full disk shows before anything is written there. Where the
// file system cannot, it writes zeros.
func (f *file) Preallocate(off, n int64) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	if n < 0 || off < size {
		return fmt.Errorf("osfs: preallocate %s: %w: range must lie at or beyond the end (got offset %d, length %d, size %d)",
			f.os.Name(), os.ErrInvalid, off, n, size)
	}
	if n == 0 {
		return nil
	}
	if err := f.preallocate(off, n); err != nil {
		// Give back what was taken, as the disk may be full now. The first error is the one that
		// counts, and after it the file is unusable anyway.
		_ = f.os.Truncate(size)
		return wrap(err)
	}
	return nil
}

// DropCache is advice: a failure means that the pages stay.
func (f *file) DropCache(off, n int64) {
	_ = control(f.os, "fadvise", func(fd int) error { return dropCache(fd, off, n) })
}

func (f *file) preallocate(off, n int64) error {
	err := control(f.os, "fallocate", func(fd int) error { return reserve(fd, off, n) })
	if err == nil || !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EOPNOTSUPP) {
		return err
	}
	for n > 0 {
		chunk := min(n, zeroChunkBytes)
		if _, err := f.os.WriteAt(zeros[:chunk], off); err != nil {
			return err
		}
		off, n = off+chunk, n-chunk
	}
	return nil
}
