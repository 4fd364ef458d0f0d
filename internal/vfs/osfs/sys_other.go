//go:build unix && !linux

package osfs

import (
	"errors"

	"golang.org/x/sys/unix"
)

// fdatasync is a plain fsync here: developers' machines, where durability through power loss (darwin
// would need F_FULLFSYNC) is not promised. Production is Linux.
func fdatasync(fd int) error { return unix.Fsync(fd) }

func reserve(int, int64, int64) error { return errors.ErrUnsupported }

func dropCache(int, int64, int64) error { return nil }

func (f *file) writev(pieces [][]byte, off int64) (written int, err error) {
	for _, p := range pieces {
		n, err := f.os.WriteAt(p, off)
		written, off = written+n, off+int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}
