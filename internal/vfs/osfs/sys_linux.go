package osfs

import (
	"io"

	"golang.org/x/sys/unix"
)

func fdatasync(fd int) error { return unix.Fdatasync(fd) }

// reserve also sets the size. The blocks are marked as never written, so they read as zeros whatever was
// there, after a crash, too.
func reserve(fd int, off, n int64) error { return unix.Fallocate(fd, 0, off, n) }

func dropCache(fd int, off, n int64) error { return unix.Fadvise(fd, off, n, unix.FADV_DONTNEED) }

// piecesMax is how many pieces one call takes (IOV_MAX of Linux).
const piecesMax = 1024

func (f *file) writev(pieces [][]byte, off int64) (written int, err error) {
	err = control(f.os, "write", func(fd int) error {
		for pieces = behind(pieces, 0); len(pieces) > 0; {
			n, err := unix.Pwritev(fd, pieces[:min(len(pieces), piecesMax)], off)
			if err != nil {
				return err
			}
			if n == 0 {
				return io.ErrShortWrite
			}
			written, off, pieces = written+n, off+int64(n), behind(pieces, n)
		}
		return nil
	})
	return written, err
}

// behind returns what is left of the pieces after n bytes of them, and of pieces that hold nothing.
func behind(pieces [][]byte, n int) [][]byte {
	for len(pieces) > 0 && n >= len(pieces[0]) {
		n, pieces = n-len(pieces[0]), pieces[1:]
	}
	if n == 0 {
		return pieces
	}
	rest := append([][]byte{pieces[0][n:]}, pieces[1:]...) // the caller's slice is only read
	return rest
}
