// Package scan reads the metadata of a directory tree on disk.
package scan

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"github.com/quorumjournal/qjm/examples/namespace/tree"
)

// Walk returns every entry below root, parents before children, with paths as the tree names them. It
// reads every file in full, for its hash. The first error ends it.
func Walk(root string) iter.Seq2[tree.Op, error] {
	return func(yield func(tree.Op, error) bool) {
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil || p == root {
				return err
			}
			op, err := read(root, p, d)
			if err != nil {
				return err
			}
			if !yield(op, nil) {
				return filepath.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(tree.Op{}, err)
		}
	}
}

// Meta is what the demo keeps of an entry: Op.Meta is this as JSON.
type Meta struct {
	Mode  fs.FileMode
	Size  int64  // 0 of a directory
	MTime int64  // nanoseconds since 1970
	Hash  string // SHA-256 of the content, or of a link's target
}

// read returns the operation that makes the entry.
func read(root, p string, d fs.DirEntry) (tree.Op, error) {
	rel, err := filepath.Rel(root, p)
	if err != nil {
		return tree.Op{}, err
	}
	info, err := d.Info()
	if err != nil {
		return tree.Op{}, err
	}
	op := tree.Op{Kind: "create", Path: "/" + filepath.ToSlash(rel)}
	m := Meta{Mode: info.Mode(), Size: info.Size(), MTime: info.ModTime().UnixNano()}
	switch info.Mode().Type() {
	case fs.ModeDir:
		op.Kind, m.Size = "mkdir", 0
	case fs.ModeSymlink:
		target, err := os.Readlink(p)
		if err != nil {
			return tree.Op{}, err
		}
		m.Hash = fmt.Sprintf("%x", sha256.Sum256([]byte(target)))
	case 0:
		if m.Hash, err = hash(p); err != nil {
			return tree.Op{}, err
		}
	default:
		return tree.Op{}, fmt.Errorf("scan: %s is neither file, directory nor link (%s)", p, info.Mode().Type())
	}
	meta, err := json.Marshal(m)
	op.Meta = string(meta)
	return op, err
}

func hash(p string) (string, error) {
	f, err := os.Open(p)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}
