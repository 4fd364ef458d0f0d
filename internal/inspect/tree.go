package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/segments"
)

// ErrForeign: the path holds nothing of a journal.
var ErrForeign = errors.New("holds no journal: want a segment file, a segments directory, a journal's directory or a node's data directory")

// Tree is what a path holds.
type Tree struct {
	fs       vfs.FS
	Path     string
	Node     *journalnode.Inspection // nil: not a data directory
	Journals []*Journal
}

// Label names the tree in findings: the node's id where it is known.
func (t *Tree) Label() string {
	if t.Node != nil && t.Node.ID != "" {
		return string(t.Node.ID)
	}
	return t.Path
}

// Journal is one journal of a tree.
type Journal struct {
	Dir    string              // "" for a single file
	Meta   *journal.Inspection // nil: only segments are there
	SegDir string
	Files  []File   // segments, by first txid
	Others []string // leftovers and asides: names that are ours, and not in force
	Alien  []string // names that are not ours
}

// Name names the journal as well as is known; it may be empty.
func (j *Journal) Name() string {
	switch {
	case j.Meta != nil && j.Meta.Name != "":
		return j.Meta.Name
	case j.Dir != "":
		return path.Base(j.Dir)
	}
	return ""
}

// File is one segment file.
type File struct {
	Path string
	Name segments.Name // zero for a file with a name that is not ours
}

// Open looks at what a path holds. It reads no segment.
func Open(fsys vfs.FS, p string) (*Tree, error) {
	p = path.Clean(p)
	info, err := fsys.Stat(p)
	if err != nil {
		return nil, err
	}
	t := &Tree{fs: fsys, Path: p}
	if !info.IsDir() {
		name, _ := segments.ParseName(path.Base(p))
		t.Journals = []*Journal{{SegDir: path.Dir(p), Files: []File{{Path: p, Name: name}}}}
		return t, nil
	}
	switch {
	case journal.IsDir(fsys, p):
		return t, t.addJournal(p)
	case journalnode.IsDataDir(fsys, p):
		return t, t.openNode()
	}
	j := &Journal{SegDir: p}
	if err := j.list(fsys); err != nil {
		return nil, err
	}
	if len(j.Files) == 0 && len(j.Others) == 0 && path.Base(p) != "segments" {
		return nil, fmt.Errorf("%s %w", p, ErrForeign)
	}
	t.Journals = []*Journal{j}
	return t, nil
}

func (t *Tree) openNode() error {
	in, err := journalnode.Inspect(t.fs, t.Path)
	if err != nil {
		return err
	}
	t.Node = &in
	for _, name := range in.Present {
		if err := t.addJournal(journalnode.JournalDir(t.Path, name)); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tree) addJournal(dir string) error {
	in, err := journal.Inspect(t.fs, dir)
	if err != nil {
		return err
	}
	j := &Journal{Dir: dir, Meta: &in, SegDir: in.Segments}
	if err := j.list(t.fs); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	t.Journals = append(t.Journals, j)
	return nil
}

func (j *Journal) list(fsys vfs.FS) error {
	names, err := fsys.List(j.SegDir)
	if err != nil {
		return err
	}
	for _, s := range names {
		n, ok := segments.ParseName(s)
		switch {
		case !ok:
			j.Alien = append(j.Alien, s)
		case n.Kind == segments.NameFinalized || n.Kind == segments.NameInProgress:
			j.Files = append(j.Files, File{Path: path.Join(j.SegDir, s), Name: n})
		default:
			j.Others = append(j.Others, s)
		}
	}
	slices.SortStableFunc(j.Files, func(a, b File) int {
		switch {
		case a.Name.First < b.Name.First:
			return -1
		case a.Name.First > b.Name.First:
			return 1
		}
		return 0
	})
	return nil
}

// opened is a segment file open for reading.
type opened struct {
	vfs.File
	path string
	name segments.Name
	size int64
}

// open opens a segment's file. A running node may have renamed it meanwhile, when it finalized it: then
// the file that it became is opened.
func (t *Tree) open(f File) (*opened, error) {
	for try := 0; ; try++ {
		file, err := t.fs.Open(f.Path)
		if errors.Is(err, fs.ErrNotExist) && try < 3 {
			if again, ok := t.becameOf(f); ok {
				f = again
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		size, err := file.Size()
		if err != nil {
			return nil, errors.Join(err, file.Close())
		}
		return &opened{File: file, path: f.Path, name: f.Name, size: size}, nil
	}
}

func (t *Tree) becameOf(f File) (File, bool) {
	j := &Journal{SegDir: path.Dir(f.Path)}
	if f.Name.First == 0 || j.list(t.fs) != nil {
		return File{}, false
	}
	i := slices.IndexFunc(j.Files, func(g File) bool { return g.Name.First == f.Name.First })
	if i < 0 {
		return File{}, false
	}
	return j.Files[i], true
}
