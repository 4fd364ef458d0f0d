package tree

import (
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var (
	dirEntry  = Entry{Kind: Dir, Mode: 0o755, MTime: 1}
	fileEntry = Entry{Kind: File, Mode: 0o644, Size: 3, MTime: 2, Hash: [32]byte{1}}
)

func mkdir(p string) Op      { return Op{Kind: Mkdir, Path: p, Entry: dirEntry} }
func create(p string) Op     { return Op{Kind: Create, Path: p, Entry: fileEntry} }
func remove(p string) Op     { return Op{Kind: Delete, Path: p} }
func rename(p, to string) Op { return Op{Kind: Rename, Path: p, To: to} }

func TestApply(t *testing.T) {
	for _, c := range []struct {
		name string
		op   Op
		want error
	}{
		{"mkdir", mkdir("/a/d2"), nil},
		{"create", create("/a/f2"), nil},
		{"delete a file", remove("/a/f"), nil},
		{"delete an empty directory", remove("/a/d"), nil},
		{"rename a directory", rename("/a", "/b"), nil},
		{"rename a file into a directory", rename("/f", "/a/d/f"), nil},
		{"mkdir what exists", mkdir("/a"), fs.ErrExist},
		{"create what exists", create("/a/f"), fs.ErrExist},
		{"no parent", create("/x/y"), fs.ErrNotExist},
		{"parent is a file", create("/f/y"), ErrNotDir},
		{"parent's parent is a file", create("/f/y/z"), ErrNotDir},
		{"delete what is not there", remove("/x"), fs.ErrNotExist},
		{"delete a full directory", remove("/a"), ErrNotEmpty},
		{"rename what is not there", rename("/x", "/y"), fs.ErrNotExist},
		{"rename onto something", rename("/a", "/f"), fs.ErrExist},
		{"rename onto itself", rename("/a", "/a"), fs.ErrExist},
		{"rename below itself", rename("/a", "/a/d/a"), fs.ErrInvalid},
		{"rename to nowhere", rename("/a", "/x/a"), fs.ErrNotExist},
		{"the root", remove("/"), fs.ErrInvalid},
		{"a relative path", mkdir("a"), fs.ErrInvalid},
		{"a path that is not clean", mkdir("/a/../b"), fs.ErrInvalid},
		{"a path that is too long", mkdir("/" + strings.Repeat("a", PathBytesMax)), fs.ErrInvalid},
		{"a directory with content", Op{Kind: Mkdir, Path: "/b", Entry: fileEntry}, fs.ErrInvalid},
		{"no such operation", Op{Kind: 99, Path: "/b"}, fs.ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := New()
			for _, op := range []Op{mkdir("/a"), mkdir("/a/d"), create("/a/f"), create("/f")} {
				require.NoError(t, tr.Apply(op))
			}
			before := tr.Digest()
			err := tr.Apply(c.op)
			if c.want == nil {
				require.NoError(t, err)
				require.NotEqual(t, before, tr.Digest())
				return
			}
			require.ErrorIs(t, err, c.want)
			require.Equal(t, before, tr.Digest(), "a refused operation must change nothing")
		})
	}
}

// TestModel compares the tree with a naive one: a map from path to entry.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr, model := New(), map[string]Entry{}
		name := rapid.SampledFrom([]string{"a", "b", "c"})
		genPath := rapid.Custom(func(t *rapid.T) string {
			return "/" + strings.Join(rapid.SliceOfN(name, 1, 3).Draw(t, "parts"), "/")
		})
		for range rapid.IntRange(1, 40).Draw(t, "ops") {
			p, to := genPath.Draw(t, "path"), genPath.Draw(t, "to")
			op := rapid.SampledFrom([]Op{mkdir(p), create(p), remove(p), rename(p, to)}).Draw(t, "op")
			require.Equal(t, applyNaively(model, op), tr.Apply(op) == nil, "%+v", op)
			require.Equal(t, model, maps.Collect(tr.All()))
			require.Equal(t, len(model), tr.Len())
			e, err := tr.Stat(p)
			want, ok := model[p]
			require.Equal(t, ok, err == nil)
			require.Equal(t, want, e)
		}
		clone := tr.Clone()
		require.Equal(t, tr.Digest(), clone.Digest())
		// Another way to the same tree: the same digest.
		again := New()
		for _, p := range slices.Sorted(maps.Keys(model)) {
			kind := Create
			if model[p].Kind == Dir {
				kind = Mkdir
			}
			require.NoError(t, again.Apply(Op{Kind: kind, Path: p, Entry: model[p]}))
		}
		require.Equal(t, tr.Digest(), again.Digest())
		require.NoError(t, clone.Apply(mkdir("/only-here")))
		require.NotEqual(t, tr.Digest(), clone.Digest())
		require.Equal(t, len(model), tr.Len())
	})
}

func applyNaively(m map[string]Entry, op Op) bool {
	isDir := func(p string) bool { return p == "/" || m[p].Kind == Dir }
	below := func(p string) (all []string) {
		for q := range m {
			if strings.HasPrefix(q, p+"/") {
				all = append(all, q)
			}
		}
		return all
	}
	_, there := m[op.Path]
	switch op.Kind {
	case Mkdir, Create:
		if there || !isDir(path.Dir(op.Path)) {
			return false
		}
		m[op.Path] = op.Entry
	case Delete:
		if !there || len(below(op.Path)) > 0 {
			return false
		}
		delete(m, op.Path)
	case Rename:
		_, taken := m[op.To]
		if !there || taken || !isDir(path.Dir(op.To)) || strings.HasPrefix(op.To, op.Path+"/") {
			return false
		}
		for _, q := range append(below(op.Path), op.Path) {
			m[op.To+strings.TrimPrefix(q, op.Path)] = m[q]
			delete(m, q)
		}
	}
	return true
}
