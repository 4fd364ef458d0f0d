package osfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/quorumjournal/qjm/internal/vfs"
)

// The group may read, nobody else: a journal holds other people's data. The umask narrows further.
const (
	fileMode = 0o640
	dirMode  = 0o750
)

// FS is a vfs.FS over the operating system's files. Its methods may be called concurrently.
type FS struct {
	root string
}

var _ vfs.FS = (*FS)(nil)

// New returns the tree below root, which need not exist yet; with root "" names are plain paths. The
// root is a convenience, no jail: a name with ".." leaves it.
func New(root string) *FS { return &FS{root: root} }

func (f *FS) path(name string) string {
	switch {
	case f.root == "":
		return name
	case name == "":
		return f.root
	default:
		return f.root + "/" + name
	}
}

// Create makes a new file (O_EXCL).
func (f *FS) Create(name string) (vfs.File, error) {
	return f.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// Open opens a file for reading.
func (f *FS) Open(name string) (vfs.File, error) { return f.open(name, os.O_RDONLY) }

// OpenWrite opens an existing file for reading and writing.
func (f *FS) OpenWrite(name string) (vfs.File, error) { return f.open(name, os.O_RDWR) }

func (f *FS) open(name string, flag int) (vfs.File, error) {
	osFile, err := os.OpenFile(f.path(name), flag, fileMode)
	if err != nil {
		return nil, wrap(err)
	}
	info, err := osFile.Stat()
	if err == nil && info.IsDir() {
		// The operating system opens directories for reading; here that can only be a mistake, and
		// it had better show now than at the first read.
		err = &fs.PathError{Op: "open", Path: osFile.Name(), Err: syscall.EISDIR}
	}
	if err != nil {
		return nil, wrap(errors.Join(err, osFile.Close()))
	}
	return &file{os: osFile}, nil
}

// Rename moves a file, replacing what stood at newName.
func (f *FS) Rename(oldName, newName string) error {
	return wrap(os.Rename(f.path(oldName), f.path(newName)))
}

// Remove deletes a file or an empty directory.
func (f *FS) Remove(name string) error { return wrap(os.Remove(f.path(name))) }

// MkdirAll makes a directory and the parents it lacks.
func (f *FS) MkdirAll(name string) error { return wrap(os.MkdirAll(f.path(name), dirMode)) }

// List returns the names in a directory, sorted.
func (f *FS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(f.path(dir))
	if err != nil {
		return nil, wrap(err)
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names, nil
}

// Stat tells size and kind of what stands at name.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	info, err := os.Stat(f.path(name))
	return info, wrap(err)
}

// SyncDir makes the directory's entries durable (fsync).
func (f *FS) SyncDir(dir string) error {
	d, err := os.Open(f.path(dir))
	if err != nil {
		return wrap(err)
	}
	err = control(d, "fsync", unix.Fsync)
	return wrap(errors.Join(err, d.Close()))
}

// Lock takes the exclusive flock of a file, making the file if need be. The kernel drops it when the
// process dies, however it dies.
func (f *FS) Lock(name string) (io.Closer, error) {
	osFile, err := os.OpenFile(f.path(name), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, wrap(err)
	}
	// flock and not fcntl: an fcntl lock belongs to the process, so a second holder in the same
	// process would get it too, and closing any other descriptor of the file would drop it.
	err = control(osFile, "flock", func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%w: %s", vfs.ErrLocked, osFile.Name())
	}
	if err != nil {
		return nil, wrap(errors.Join(err, osFile.Close()))
	}
	return osFile, nil
}

// Free tells how many bytes an unprivileged process can still write below name.
func (f *FS) Free(name string) (int64, error) {
	var stat unix.Statfs_t
	err := retryEINTR(func() error { return unix.Statfs(f.path(name), &stat) })
	if err != nil {
		return 0, wrap(&fs.PathError{Op: "statfs", Path: f.path(name), Err: err})
	}
	return int64(stat.Bavail) * int64(stat.Bsize), nil
}

// wrap gives every error of this package its prefix and a full disk its class.
func wrap(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("osfs: %w: %w", vfs.ErrNoSpace, err)
	default:
		return fmt.Errorf("osfs: %w", err)
	}
}

// control runs a system call on the descriptor of f. Unlike f.Fd it keeps the descriptor from being
// closed, and so from being reused for another file, while the call runs.
func control(f *os.File, op string, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	err = raw.Control(func(fd uintptr) {
		callErr = retryEINTR(func() error { return call(int(fd)) })
	})
	if err != nil {
		// The one reason is a closed file, for which this path has an error of its own, unexported.
		return &fs.PathError{Op: op, Path: f.Name(), Err: fmt.Errorf("%w: %w", fs.ErrClosed, err)}
	}
	if callErr != nil {
		return &fs.PathError{Op: op, Path: f.Name(), Err: callErr}
	}
	return nil
}

func retryEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
