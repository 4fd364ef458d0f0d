package faultfs

import (
	"errors"
	"io"
	"strconv"

	"github.com/quorumjournal/qjm/internal/vfs"
)

// file is an open file. It goes by the name it was opened with, also after a rename.
type file struct {
	fs    *FS
	inner vfs.File
	name  string
}

var _ vfs.File = (*file)(nil)

func (h *file) call(op OpKind, verb string, details func() string) call {
	return call{op: op, verb: verb, paths: []string{h.name}, details: details}
}

func (h *file) ReadAt(p []byte, off int64) (n int, err error) {
	err = h.fs.run(h.call(OpRead, "", nil), func() (err error) {
		n, err = h.inner.ReadAt(p, off)
		return err
	})
	return n, err
}

func (h *file) WriteAt(p []byte, off int64) (n int, err error) {
	err = h.fs.run(h.call(OpWrite, "write", byteRange(off, int64(len(p)))), func() (err error) {
		n, err = h.inner.WriteAt(p, off)
		return err
	})
	if errors.Is(err, ErrCrashed) { // X2: done or not, the caller does not learn it
		return 0, err
	}
	return n, err
}

func (h *file) WriteVAt(pieces [][]byte, off int64) (n int, err error) {
	total := int64(0)
	for _, p := range pieces {
		total += int64(len(p))
	}
	err = h.fs.run(h.call(OpWrite, "write", byteRange(off, total)), func() (err error) {
		n, err = h.inner.WriteVAt(pieces, off)
		return err
	})
	if errors.Is(err, ErrCrashed) { // X2: done or not, the caller does not learn it
		return 0, err
	}
	return n, err
}

func (h *file) Truncate(size int64) error {
	return h.fs.run(h.call(OpTruncate, "truncate", func() string { return strconv.FormatInt(size, 10) }),
		func() error { return h.inner.Truncate(size) })
}

func (h *file) Preallocate(off, n int64) error {
	return h.fs.run(h.call(OpPreallocate, "preallocate", byteRange(off, n)),
		func() error { return h.inner.Preallocate(off, n) })
}

func (h *file) DropCache(off, n int64) { h.inner.DropCache(off, n) }

func (h *file) Sync() error {
	c := h.call(OpSync, "sync", nil)
	if inner, can := h.inner.(interface{ DropUnsynced() }); can {
		c.dropped = inner.DropUnsynced
	}
	return h.fs.run(c, h.inner.Sync)
}

func (h *file) Size() (size int64, err error) {
	err = h.fs.run(h.call(OpStat, "", nil), func() (err error) {
		size, err = h.inner.Size()
		return err
	})
	return size, err
}

func (h *file) Close() error { return h.fs.close(h.inner) }

// lock is a held lock.
type lock struct {
	fs    *FS
	inner io.Closer
}

func (l *lock) Close() error { return l.fs.close(l.inner) }

func (f *FS) close(inner io.Closer) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := inner.Close()
	if f.crashed {
		return ErrCrashed
	}
	return err
}
