package memfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/internal/vfs"
)

const (
	// unlimited is the capacity of a new FS.
	unlimited = -1
	// freeUnlimited is what Free says then: a number that one can still add to.
	freeUnlimited = int64(1) << 50
)

var (
	errIsDir    = errors.New("is a directory")
	errNotDir   = errors.New("not a directory")
	errNotEmpty = errors.New("directory not empty")
	errReadOnly = errors.New("file is open for reading only")
)

// FS is a tree in memory. Names are split at slashes; empty parts and "." count for nothing, so
// "/a//b" and "a/./b" are the same file, and ".." is refused. Methods may be called concurrently.
type FS struct {
	mu       sync.Mutex // guards all below and every node
	root     *node
	pending  []*change // entry changes since they were synced, oldest first
	capacity int64     // bytes of content, or unlimited
	used     int64     // bytes of content of linked files
	ops      int64
}

var _ vfs.FS = (*FS)(nil)

// New returns an empty tree of unlimited capacity.
func New() *FS { return &FS{root: newDir(), capacity: unlimited} }

// SetCapacity bounds the bytes that all files together hold; a write that would exceed it fails
// with vfs.ErrNoSpace and writes nothing. A bound below what is used stops growth only. A negative
// number lifts the bound.
func (f *FS) SetCapacity(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.capacity = bytes
}

// Ops counts the mutating operations (those of faultfs.OpMutating) that succeeded since New or since
// the clone.
func (f *FS) Ops() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Create makes a new file.
func (f *FS) Create(name string) (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.create("create", name)
	if err != nil {
		return nil, err
	}
	f.ops++
	return &file{fs: f, node: n, name: name, writable: true}, nil
}

func (f *FS) create(op, name string) (*node, error) {
	at, err := f.findSlot(op, name)
	if err != nil {
		return nil, err
	}
	if at.dir.entries[at.name] != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrExist}
	}
	n := newFile()
	f.change(newChange(n, slot{}, at))
	return n, nil
}

// change applies an entry change to the written tree and notes it as pending.
func (f *FS) change(c *change) {
	c.apply(written)
	f.pending = append(f.pending, c)
}

// Open opens a file for reading.
func (f *FS) Open(name string) (vfs.File, error) { return f.open(name, false) }

// OpenWrite opens an existing file for reading and writing.
func (f *FS) OpenWrite(name string) (vfs.File, error) { return f.open(name, true) }

func (f *FS) open(name string, writable bool) (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.findFile("open", name)
	if err != nil {
		return nil, err
	}
	return &file{fs: f, node: n, name: name, writable: writable}, nil
}

// Rename moves a file, replacing what stood at newName. A directory moves within its parent only.
func (f *FS) Rename(oldName, newName string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	from, err := f.findSlot("rename", oldName)
	if err != nil {
		return err
	}
	to, err := f.findSlot("rename", newName)
	if err != nil {
		return err
	}
	moved, replaced := from.dir.entries[from.name], to.dir.entries[to.name]
	if err := checkRename(from, to, moved, replaced); err != nil {
		return &fs.PathError{Op: "rename", Path: oldName + " " + newName, Err: err}
	}
	f.ops++
	if from == to {
		return nil
	}
	if replaced != nil {
		f.unlink(replaced)
	}
	f.change(newChange(moved, from, to))
	return nil
}

func checkRename(from, to slot, moved, replaced *node) error {
	switch {
	case moved == nil:
		return fs.ErrNotExist
	case moved.isDir && from.dir != to.dir:
		// Halves of such moves could survive a crash as a loop cut off from the root. Nothing here
		// needs them.
		return fmt.Errorf("%w: directory to another parent", fs.ErrInvalid)
	case replaced == nil || replaced == moved:
		return nil
	case moved.isDir && !replaced.isDir:
		return errNotDir
	case !moved.isDir && replaced.isDir:
		return errIsDir
	case len(replaced.entries) > 0:
		return errNotEmpty
	default:
		return nil
	}
}

func (f *FS) unlink(n *node) {
	n.linked = false
	f.used -= int64(len(n.data))
}

// Remove deletes a file or an empty directory.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, err := f.findSlot("remove", name)
	if err != nil {
		return err
	}
	n := at.dir.entries[at.name]
	switch {
	case n == nil:
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	case len(n.entries) > 0:
		return &fs.PathError{Op: "remove", Path: name, Err: errNotEmpty}
	}
	f.unlink(n)
	f.change(newChange(n, at, slot{}))
	f.ops++
	return nil
}

// MkdirAll makes a directory and the parents it lacks, each as an entry change of its own.
func (f *FS) MkdirAll(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	parts, err := split("mkdir", name)
	if err != nil {
		return err
	}
	dir, made := f.root, false
	for _, part := range parts {
		child := dir.entries[part]
		if child == nil {
			child, made = newDir(), true
			f.change(newChange(child, slot{}, slot{dir: dir, name: part}))
		}
		if !child.isDir {
			return &fs.PathError{Op: "mkdir", Path: name, Err: errNotDir}
		}
		dir = child
	}
	if made {
		f.ops++
	}
	return nil
}

// List returns the names in a directory, sorted.
func (f *FS) List(dir string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.findDir("list", dir)
	if err != nil {
		return nil, err
	}
	return sortedNames(n.entries), nil
}

// Stat tells size and kind of what stands at name.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.find("stat", name)
	if err != nil {
		return nil, err
	}
	return info{name: path.Base(name), size: int64(len(n.data)), isDir: n.isDir}, nil
}

// SyncDir makes the directory's entries durable.
func (f *FS) SyncDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.findDir("syncdir", dir)
	if err != nil {
		return err
	}
	f.syncDir(n)
	f.ops++
	return nil
}

// Lock takes the exclusive lock of a file, making the file if need be.
func (f *FS) Lock(name string) (io.Closer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.findFile("lock", name)
	if errors.Is(err, fs.ErrNotExist) {
		n, err = f.create("lock", name)
	}
	if err != nil {
		return nil, err
	}
	if n.locked {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: vfs.ErrLocked}
	}
	n.locked = true
	return &lock{fs: f, node: n, name: name}, nil
}

// Free tells how many bytes can still be written.
func (f *FS) Free(name string) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.find("free", name); err != nil {
		return 0, err
	}
	if f.capacity < 0 {
		return freeUnlimited, nil
	}
	return max(0, f.capacity-f.used), nil
}

// split takes a name apart.
func split(op, name string) ([]string, error) {
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
		default:
			parts = append(parts, part)
		}
	}
	return parts, nil
}

// walk follows parts from the root.
func (f *FS) walk(op, name string, parts []string) (*node, error) {
	n := f.root
	for _, part := range parts {
		if !n.isDir {
			return nil, &fs.PathError{Op: op, Path: name, Err: errNotDir}
		}
		if n = n.entries[part]; n == nil {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
	}
	return n, nil
}

func (f *FS) find(op, name string) (*node, error) {
	parts, err := split(op, name)
	if err != nil {
		return nil, err
	}
	return f.walk(op, name, parts)
}

func (f *FS) findFile(op, name string) (*node, error) {
	n, err := f.find(op, name)
	if err == nil && n.isDir {
		return nil, &fs.PathError{Op: op, Path: name, Err: errIsDir}
	}
	return n, err
}

func (f *FS) findDir(op, name string) (*node, error) {
	n, err := f.find(op, name)
	if err == nil && !n.isDir {
		return nil, &fs.PathError{Op: op, Path: name, Err: errNotDir}
	}
	return n, err
}

// findSlot returns the place of name, whose directory must exist, taken or not.
func (f *FS) findSlot(op, name string) (slot, error) {
	parts, err := split(op, name)
	if err != nil {
		return slot{}, err
	}
	if len(parts) == 0 {
		return slot{}, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	last := len(parts) - 1
	dir, err := f.walk(op, name, parts[:last])
	if err != nil {
		return slot{}, err
	}
	if !dir.isDir {
		return slot{}, &fs.PathError{Op: op, Path: name, Err: errNotDir}
	}
	return slot{dir: dir, name: parts[last]}, nil
}

// info is what Stat returns.
type info struct {
	name  string
	size  int64
	isDir bool
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.isDir }
func (i info) Sys() any           { return nil }

func (i info) Mode() fs.FileMode {
	if i.isDir {
		return fs.ModeDir | 0o750
	}
	return 0o640
}
