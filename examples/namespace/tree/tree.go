// Package tree is the state machine of the namespace example: directories, files and symbolic links
// with their metadata, in memory. It knows nothing of journals. Apply is deterministic, so replicas that
// apply the same operations in the same order hold the same tree, and Digest is how they compare.
package tree

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
)

// Why an operation is refused, besides fs.ErrExist, fs.ErrNotExist and fs.ErrInvalid. They come in an
// *fs.PathError.
var (
	ErrNotDir   = errors.New("not a directory")
	ErrNotEmpty = errors.New("directory not empty")
)

// Kind of an entry.
type Kind uint8

// The kinds.
const (
	Dir Kind = 1 + iota
	File
	Symlink
)

// Entry is the metadata of one path. Entries are compared with ==.
type Entry struct {
	Kind  Kind
	Mode  uint32   // permissions, as fs.FileMode.Perm
	Size  int64    // bytes; 0 for a directory
	MTime int64    // nanoseconds since 1970
	Hash  [32]byte // SHA-256 of the content, or of a link's target; zero for a directory
}

type node struct {
	entry    Entry
	children map[string]*node // nil unless a directory
}

func newNode(e Entry) *node {
	n := &node{entry: e}
	if e.Kind == Dir {
		n.children = map[string]*node{}
	}
	return n
}

// Tree holds everything below "/". It is not safe for concurrent use.
type Tree struct {
	root *node
	size int
}

// New returns an empty tree.
func New() *Tree { return &Tree{root: newNode(Entry{Kind: Dir})} }

// Len returns the number of entries; "/" itself does not count.
func (t *Tree) Len() int { return t.size }

// Apply carries out an operation, or refuses it and leaves the tree as it was.
func (t *Tree) Apply(op Op) error {
	if err := op.Validate(); err != nil {
		return err
	}
	refuse := func(p string, err error) error { return &fs.PathError{Op: op.Kind.String(), Path: p, Err: err} }
	dir, name, err := t.parent(op.Path)
	if err != nil {
		return refuse(op.Path, err)
	}
	old := dir.children[name]
	switch op.Kind {
	case Mkdir, Create:
		if old != nil {
			return refuse(op.Path, fs.ErrExist)
		}
		dir.children[name] = newNode(op.Entry)
		t.size++
	case Delete:
		switch {
		case old == nil:
			return refuse(op.Path, fs.ErrNotExist)
		case len(old.children) > 0:
			return refuse(op.Path, ErrNotEmpty)
		}
		delete(dir.children, name)
		t.size--
	case Rename:
		toDir, toName, err := t.parent(op.To)
		switch {
		case old == nil:
			return refuse(op.Path, fs.ErrNotExist)
		case err != nil:
			return refuse(op.To, err)
		case strings.HasPrefix(op.To, op.Path+"/"):
			return refuse(op.To, fs.ErrInvalid) // a directory cannot go below itself
		case toDir.children[toName] != nil:
			return refuse(op.To, fs.ErrExist)
		}
		delete(dir.children, name)
		toDir.children[toName] = old
	}
	return nil
}

// Stat returns the metadata of a path.
func (t *Tree) Stat(p string) (Entry, error) {
	if !validPath(p) {
		return Entry{}, &fs.PathError{Op: "stat", Path: p, Err: fs.ErrInvalid}
	}
	dir, name, err := t.parent(p)
	if err == nil && dir.children[name] == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Entry{}, &fs.PathError{Op: "stat", Path: p, Err: err}
	}
	return dir.children[name].entry, nil
}

// parent returns the directory that holds, or would hold, the path.
func (t *Tree) parent(p string) (dir *node, name string, err error) {
	parent, name := path.Split(p)
	dir = t.root
	for part := range strings.SplitSeq(strings.Trim(parent, "/"), "/") {
		if part == "" {
			break // the parent is "/"
		}
		if dir = dir.children[part]; dir == nil {
			return nil, "", fs.ErrNotExist
		}
		if dir.entry.Kind != Dir {
			return nil, "", ErrNotDir
		}
	}
	return dir, name, nil
}

// All returns every path with its metadata, parents before children, siblings by name.
func (t *Tree) All() iter.Seq2[string, Entry] {
	return func(yield func(string, Entry) bool) { t.root.walk("", yield) }
}

func (n *node) walk(at string, yield func(string, Entry) bool) bool {
	for _, name := range n.names() {
		c, p := n.children[name], at+"/"+name
		if !yield(p, c.entry) || !c.walk(p, yield) {
			return false
		}
	}
	return true
}

func (n *node) names() []string { return slices.Sorted(maps.Keys(n.children)) }

// Digest covers the whole tree: two trees have the same digest if, and only if, they are equal.
func (t *Tree) Digest() [32]byte { return t.root.digest() }

func (n *node) digest() [32]byte {
	b := appendEntry(nil, n.entry)
	for _, name := range n.names() {
		d := n.children[name].digest()
		b = binary.BigEndian.AppendUint16(b, uint16(len(name))) // validPath bounds it
		b = append(b, name...)
		b = append(b, d[:]...)
	}
	return sha256.Sum256(b)
}

// Clone returns an independent copy.
func (t *Tree) Clone() *Tree { return &Tree{root: t.root.clone(), size: t.size} }

func (n *node) clone() *node {
	c := newNode(n.entry)
	for name, child := range n.children {
		c.children[name] = child.clone()
	}
	return c
}
