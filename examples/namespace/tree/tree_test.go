package tree

import (
	"bytes"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quorumjournal/qjm/libqjm"
)

func op(kind, p, to string) Op { return Op{Kind: kind, Path: p, To: to} }

// apply applies one operation as the next transaction, and returns the refusal.
func apply(t require.TestingT, tr *Tree, o Op) string {
	data, err := o.Encode()
	require.NoError(t, err)
	results, err := tr.Apply([]libqjm.Entry{{TxID: libqjm.TxID(tr.Applied.Load() + 1), Data: data}})
	require.NoError(t, err)
	require.Len(t, results, 1)
	return string(results[0])
}

func save(t require.TestingT, tr *Tree) func() string {
	write, err := tr.SaveSnapshot()
	require.NoError(t, err)
	return func() string {
		var b bytes.Buffer
		require.NoError(t, write(&b))
		return b.String()
	}
}

func TestApply(t *testing.T) {
	for _, c := range []struct {
		name string
		op   Op
		want string
	}{
		{"mkdir", op("mkdir", "/a/d2", ""), ""},
		{"create", op("create", "/a/f2", ""), ""},
		{"delete a file", op("delete", "/a/f", ""), ""},
		{"delete an empty directory", op("delete", "/a/d", ""), ""},
		{"rename a directory", op("rename", "/a", "/b"), ""},
		{"rename a file into a directory", op("rename", "/f", "/a/d/f"), ""},
		{"mkdir what exists", op("mkdir", "/a", ""), "exists"},
		{"create what exists", op("create", "/a/f", ""), "exists"},
		{"no parent", op("create", "/x/y", ""), "not found"},
		{"parent is a file", op("create", "/f/y", ""), "not a directory"},
		{"delete what is not there", op("delete", "/x", ""), "not found"},
		{"delete below a file", op("delete", "/f/x", ""), "not found"},
		{"delete a full directory", op("delete", "/a", ""), "not empty"},
		{"rename what is not there", op("rename", "/x", "/y"), "not found"},
		{"rename onto something", op("rename", "/a", "/f"), "exists"},
		{"rename below itself", op("rename", "/a", "/a/d/a"), "not found"},
		{"rename to nowhere", op("rename", "/a", "/x/a"), "not found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := New()
			for _, o := range []Op{op("mkdir", "/a", ""), op("mkdir", "/a/d", ""), op("create", "/a/f", ""), op("create", "/f", "")} {
				require.Empty(t, apply(t, tr, o))
			}
			before := save(t, tr)
			was := before()
			require.Equal(t, c.want, apply(t, tr, c.op))
			require.Equal(t, c.want == "", was != save(t, tr)(), "a refused operation changes nothing, another one something")
			require.Equal(t, was, before(), "a snapshot stays what it was")
		})
	}
}

// What no replica could apply is not proposed; what is in the log all the same is refused, or stops the replica.
func TestBadOperations(t *testing.T) {
	for _, o := range []Op{
		op("delete", "/", ""), op("mkdir", "a", ""), op("mkdir", "", ""), op("mkdir", "/a/../b", ""), op("mkdir", "/a/", ""),
		op("mkdir", "/"+strings.Repeat("a", pathBytesMax), ""), op("create", "/\xff", ""), op("mkdir", "/a", "/b"), op("rename", "/a", ""),
		{Kind: "create", Path: "/a", Meta: "\xff"}, op("link", "/a", ""),
	} {
		_, err := o.Encode()
		require.Error(t, err, "%+v", o)
	}
	tr := New()
	results, err := tr.Apply([]libqjm.Entry{{TxID: 1, Data: []byte(`{"op":"delete","path":"/"}`)}, {TxID: 2, Data: []byte(`{"op":"mkdir","path":"/a"}`)}})
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("invalid"), []byte("")}, results)
	for _, later := range []string{`{"op":"link","path":"/b"}`, `{"op":"mkdir","path":"/b","owner":"me"}`, `x`, ``} {
		_, err := tr.Apply([]libqjm.Entry{{TxID: 3, Data: []byte(later)}})
		require.ErrorContains(t, err, "newer release")
	}
	require.Error(t, tr.LoadSnapshot(strings.NewReader(`{"dir":true,"owner":"me"}`)))
	require.NotNil(t, tr.Find("/a"), "what failed has changed nothing")
}

// TestModel compares the tree with a naive one, a map from path to "is a directory"; snapshots taken on the way stay as
// they were, and a tree that begins with one goes on as the first one did.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr, twin, model := New(), New(), map[string]bool{}
		name := rapid.SampledFrom([]string{"a", "b", "c"})
		genPath := rapid.Custom(func(t *rapid.T) string {
			return "/" + strings.Join(rapid.SliceOfN(name, 1, 3).Draw(t, "parts"), "/")
		})
		snap := save(t, tr)
		was := snap()
		for range rapid.IntRange(1, 40).Draw(t, "ops") {
			o := op(rapid.SampledFrom([]string{"mkdir", "create", "delete", "rename"}).Draw(t, "op"), genPath.Draw(t, "path"), "")
			if o.Kind == "rename" {
				o.To = genPath.Draw(t, "to")
			}
			refusal := apply(t, tr, o)
			require.Equal(t, applyNaively(model, o), refusal == "", "%+v: %s", o, refusal)
			require.Equal(t, refusal, apply(t, twin, o))
			require.Equal(t, model, flatten(tr))
			if rapid.Bool().Draw(t, "snapshot") {
				require.Equal(t, was, snap())
				snap = save(t, tr)
				was = snap()
				applied := twin.Applied.Load()
				twin = New()
				require.NoError(t, twin.LoadSnapshot(strings.NewReader(was)))
				twin.Applied.Store(applied)
			}
		}
		require.Equal(t, save(t, tr)(), save(t, twin)())
	})
}

func flatten(tr *Tree) map[string]bool {
	all := map[string]bool{}
	var walk func(string, *Node)
	walk = func(at string, n *Node) {
		for _, c := range n.Children {
			all[at+"/"+c.Name] = c.Dir
			walk(at+"/"+c.Name, c)
		}
	}
	walk("", tr.Find("/"))
	return all
}

func applyNaively(m map[string]bool, o Op) bool {
	below := func(p string) (all []string) {
		for q := range m {
			if strings.HasPrefix(q, p+"/") {
				all = append(all, q)
			}
		}
		return all
	}
	isDir := func(p string) bool { return p == "/" || m[p] }
	_, there := m[o.Path]
	switch o.Kind {
	case "mkdir", "create":
		if there || !isDir(path.Dir(o.Path)) {
			return false
		}
		m[o.Path] = o.Kind == "mkdir"
	case "delete":
		if !there || len(below(o.Path)) > 0 {
			return false
		}
		delete(m, o.Path)
	case "rename":
		_, taken := m[o.To]
		if !there || taken && o.To != o.Path || !isDir(path.Dir(o.To)) || strings.HasPrefix(o.To, o.Path+"/") {
			return false
		}
		moved := map[string]bool{}
		for _, q := range append(below(o.Path), o.Path) {
			moved[o.To+strings.TrimPrefix(q, o.Path)] = m[q]
			delete(m, q)
		}
		for q, dir := range moved {
			m[q] = dir
		}
	}
	return true
}

func FuzzApply(f *testing.F) {
	for _, s := range []string{`{"op":"mkdir","path":"/a"}`, `{"op":"rename","path":"/a","to":"/b"}`, `{"op":"delete","path":"/"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tr := New()
		require.Empty(t, apply(t, tr, op("mkdir", "/a", "")))
		_, _ = tr.Apply([]libqjm.Entry{{TxID: 2, Data: b}})
		_ = save(t, tr)()
	})
}
