package memfs

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"

	"github.com/quorumjournal/qjm/internal/vfs"
)

// file is one handle.
type file struct {
	fs       *FS
	node     *node
	name     string // as opened
	writable bool
	closed   bool // guarded by fs.mu
}

var _ vfs.File = (*file)(nil)

func (h *file) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: h.name, Err: err}
}

// mutate runs do with the lock held, if the handle may write and the file may have the size sizeOf
// returns. All checks come first: an operation that fails has changed nothing.
func (h *file) mutate(op string, sizeOf func(size int64) (int64, error), do func(c *content)) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return h.fail(op, fs.ErrClosed)
	}
	if !h.writable {
		return h.fail(op, errReadOnly)
	}
	old := int64(len(h.node.data))
	size, err := sizeOf(old)
	if err != nil {
		return h.fail(op, err)
	}
	if h.node.linked {
		if h.fs.capacity >= 0 && size > old && h.fs.used+size-old > h.fs.capacity {
			return h.fail(op, vfs.ErrNoSpace)
		}
		h.fs.used += size - old
	}
	do(&h.node.content)
	h.fs.ops++
	return nil
}

func (h *file) ReadAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	switch {
	case h.closed:
		return 0, h.fail("read", fs.ErrClosed)
	case off < 0:
		return 0, h.fail("read", fs.ErrInvalid)
	case len(p) == 0:
		return 0, nil
	case off >= int64(len(h.node.data)):
		return 0, io.EOF
	}
	n := copy(p, h.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *file) WriteAt(p []byte, off int64) (int, error) {
	err := h.mutate("write",
		func(size int64) (int64, error) {
			if off < 0 {
				return 0, fmt.Errorf("%w: offset (got %d)", fs.ErrInvalid, off)
			}
			if len(p) == 0 {
				return size, nil
			}
			return max(size, off+int64(len(p))), nil
		},
		func(c *content) { c.write(p, off) })
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (h *file) WriteVAt(pieces [][]byte, off int64) (int, error) {
	return h.WriteAt(bytes.Join(pieces, nil), off)
}

// DropCache has nothing to do: what is in memory is all there is.
func (h *file) DropCache(int64, int64) {}

func (h *file) Truncate(size int64) error {
	return h.mutate("truncate",
		func(int64) (int64, error) {
			if size < 0 {
				return 0, fmt.Errorf("%w: size (got %d)", fs.ErrInvalid, size)
			}
			return size, nil
		},
		func(c *content) { c.truncate(size) })
}

func (h *file) Preallocate(off, n int64) error {
	return h.mutate("preallocate",
		func(size int64) (int64, error) {
			if n < 0 || off < size {
				return 0, fmt.Errorf("%w: range must lie at or beyond the end (got offset %d, length %d, size %d)",
					fs.ErrInvalid, off, n, size)
			}
			if n == 0 {
				return size, nil
			}
			return off + n, nil
		},
		func(c *content) {
			if n > 0 {
				c.growTo(off + n)
			}
		})
}

func (h *file) Sync() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return h.fail("sync", fs.ErrClosed)
	}
	h.node.sync()
	h.fs.ops++
	return nil
}

// DropUnsynced is what a failed fsync does to a file on Linux: what was written since the last Sync
// reads back as written, no later Sync makes it durable, and the next power loss takes it. Only
// writing a sector again makes that sector durable at the next Sync. It is for faultfs.
func (h *file) DropUnsynced() {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	h.node.dropUnsynced()
}

func (h *file) Size() (int64, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return 0, h.fail("size", fs.ErrClosed)
	}
	return int64(len(h.node.data)), nil
}

func (h *file) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return h.fail("close", fs.ErrClosed)
	}
	h.closed = true
	return nil
}

// lock is a held lock.
type lock struct {
	fs   *FS
	node *node
	name string
	done bool // guarded by fs.mu
}

func (l *lock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	if l.done {
		return &fs.PathError{Op: "unlock", Path: l.name, Err: fs.ErrClosed}
	}
	l.done = true
	l.node.locked = false
	return nil
}
