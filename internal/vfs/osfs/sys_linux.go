package osfs

import "golang.org/x/sys/unix"

func fdatasync(fd int) error { return unix.Fdatasync(fd) }

// reserve keeps the size as it is: the zeros that follow raise it, so a file never shows a range
// that was reserved and not written.
func reserve(fd int, off, n int64) error {
	return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, off, n)
}
