package memfs

import (
	"fmt"
	"io/fs"
	"slices"
)

// ReadAll returns the written content of a file, without opening it.
func (f *FS) ReadAll(name string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.findFile("read", name)
	if err != nil {
		return nil, err
	}
	return slices.Clone(n.data), nil
}

// Overwrite puts other bytes on the disk behind everybody's back, as rot and misdirected writes do:
// in the written content and, as far as it reaches, in the synced one. The file does not grow.
func (f *FS) Overwrite(name string, off int64, data []byte) error {
	return f.rot(name, off, int64(len(data)), func(stored []byte) {
		copy(stored, data)
	})
}

// FlipBit flips one bit (0 to 7) of the byte at off.
func (f *FS) FlipBit(name string, off int64, bit int) error {
	if bit < 0 || bit > 7 {
		return &fs.PathError{Op: "flip", Path: name, Err: fmt.Errorf("%w: bit (got %d, want 0 to 7)", fs.ErrInvalid, bit)}
	}
	return f.rot(name, off, 1, func(stored []byte) {
		stored[0] ^= 1 << bit
	})
}

// rot calls damage for the stored bytes [off, off+n), written and synced, cut at the end of each.
func (f *FS) rot(name string, off, n int64, damage func(stored []byte)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := f.findFile("rot", name)
	if err != nil {
		return err
	}
	if off < 0 || off+n > int64(len(file.data)) {
		return &fs.PathError{Op: "rot", Path: name, Err: fmt.Errorf("%w: range (got offset %d, length %d, size %d)",
			fs.ErrInvalid, off, n, len(file.data))}
	}
	for _, stored := range [][]byte{file.data, file.synced} {
		if hi := min(off+n, int64(len(stored))); off < hi {
			damage(stored[off:hi])
		}
	}
	return nil
}
