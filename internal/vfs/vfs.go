package vfs

import (
	"io"
	"io/fs"
)

// FS is a tree of directories and files. Names are slash-separated paths as the implementation's
// root understands them; they are never cleaned or escaped here.
//
// All methods may be called concurrently. Errors satisfy errors.Is for fs.ErrNotExist, fs.ErrExist
// and, where the implementation can tell, ErrNoSpace and ErrLocked.
type FS interface {
	// Create makes a new file for reading and writing. It fails with fs.ErrExist when the name is
	// taken: nothing in this project overwrites a file in place by creating it again. The new
	// directory entry is durable only after SyncDir of its directory.
	Create(name string) (File, error)

	// Open opens a file for reading. Writes through the returned File fail.
	Open(name string) (File, error)

	// OpenWrite opens an existing file for reading and writing, its content untouched.
	OpenWrite(name string) (File, error)

	// Rename moves a file, replacing what stood at newName. It is durable after SyncDir of the new
	// name's directory (and of the old one's, where they differ).
	Rename(oldName, newName string) error

	// Remove deletes a file or an empty directory.
	Remove(name string) error

	// MkdirAll makes a directory and the parents it lacks, and is a no-op where it exists. Each new
	// entry is durable only after SyncDir of the directory that holds it.
	MkdirAll(name string) error

	// List returns the names (not paths) in a directory, sorted.
	List(dir string) ([]string, error)

	// Stat tells size and kind of what stands at name.
	Stat(name string) (fs.FileInfo, error)

	// SyncDir makes the directory's entries (creations, renames, removals) durable.
	SyncDir(dir string) error

	// Lock takes the exclusive lock of a file, making the file if need be; another holder, in this
	// process or any other, gets ErrLocked. Closing the result releases it.
	Lock(name string) (io.Closer, error)

	// Free tells how many bytes can still be written below name.
	Free(name string) (int64, error)
}

// File is an open file. ReadAt may be called concurrently with anything; the rest needs one caller
// at a time.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer

	// Truncate sets the size. Growing yields zeros.
	Truncate(size int64) error

	// WriteVAt writes the pieces one behind the other from off on, with as few writes as the system
	// allows and without joining them in memory. It returns how many bytes were written. The pieces are
	// only read, and not kept.
	WriteVAt(pieces [][]byte, off int64) (int, error)

	// Preallocate reserves [off, off+n), which must lie at or beyond the end of the file: the file is
	// that long then, reads as zeros there, and a write there does not run out of room. It is durable,
	// like all data, only after Sync. The first write to a reserved block still changes metadata, which
	// the next Sync pays for; writing zeros there first moves that ahead.
	Preallocate(off, n int64) error

	// DropCache says that [off, off+n), all of it synced, will not be read soon, so that the system need not keep
	// it in memory. It is advice: what is read there later is the same, and nothing is reported.
	DropCache(off, n int64)

	// Sync makes all data written before the call durable (fdatasync: size changes included). After
	// an error the state of the file on disk is unknown: the caller must not use it any more, and
	// must not call Sync again.
	Sync() error

	// Size returns the current size.
	Size() (int64, error)
}
