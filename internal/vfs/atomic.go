package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
)

// tempSuffix names the temporary of WriteFileAtomic. There is one temporary per name, so a name has
// one writer at a time, and what a crash leaves behind is found and removed by the next write.
const tempSuffix = ".tmp"

// WriteFileAtomic makes data the whole content of name: after a crash at any point name holds what
// it held before, or data, and once WriteFileAtomic has returned nil it holds data. After an error
// either may be there, and which of them a crash would leave is open.
//
// An error of class ErrNoSpace means that name was left untouched, and that it may be tried again.
//
// The steps are temporary, sync, rename, sync of the directory. name+".tmp" is overwritten and may
// be left behind by a failure. Callers serialise their writes to one name.
func WriteFileAtomic(fsys FS, name string, data []byte) error {
	if err := writeFileAtomic(fsys, name, data); err != nil {
		return fmt.Errorf("vfs: write %s atomically: %w", name, err)
	}
	return nil
}

func writeFileAtomic(fsys FS, name string, data []byte) error {
	temp := name + tempSuffix
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := writeTemp(fsys, temp, data); err != nil {
		return err
	}
	if err := fsys.Rename(temp, name); err != nil {
		return err
	}
	return Unsettled(fsys.SyncDir(path.Dir(name)))
}

// writeTemp leaves a complete, synced file at temp. The sync stands before the rename, because a
// disk may make the rename durable and the content not: name would then be an empty file.
func writeTemp(fsys FS, temp string, data []byte) error {
	f, err := fsys.Create(temp)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

// ReadFile returns the whole content of name. A file of more than sizeMax bytes is ErrTooLarge, told
// from its size alone, so that a damaged or foreign file cannot take the memory of the process.
func ReadFile(fsys FS, name string, sizeMax int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, fmt.Errorf("vfs: read %s: %w", name, err)
	}
	data, err := readAll(f, sizeMax)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("vfs: read %s: %w", name, err)
	}
	return data, nil
}

func readAll(f File, sizeMax int64) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > sizeMax {
		return nil, fmt.Errorf("%w (got %d bytes, at most %d)", ErrTooLarge, size, sizeMax)
	}
	data := make([]byte, size)
	// A file that shrinks meanwhile is an error (io.ErrUnexpectedEOF), never a short result.
	n, err := f.ReadAt(data, 0)
	if int64(n) == size {
		return data, nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return nil, fmt.Errorf("got %d bytes of %d: %w", n, size, err)
}
