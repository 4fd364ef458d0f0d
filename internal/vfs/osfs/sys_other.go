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
