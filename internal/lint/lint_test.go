package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/quorumjournal/qjm/"

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Dir        string
	GoFiles    []string
	Standard   bool

	TestImports, XTestImports []string
}

// packages lists the module's packages as the go command sees them.
func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps,Dir,GoFiles,TestImports,XTestImports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	require.NoError(t, err)
	var ps []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return ps
		} else if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
}

// layers: a package may import packages of its own line's list, and no others of this module. What is
// not listed here (cmd, examples, tests) may import anything but cmd, examples and tests.
var layers = map[string][]string{
	"fencing":                {},
	"internal/quorum":        {},
	"internal/vfs":           {},
	"internal/vfs/osfs":      {"internal/vfs"},
	"internal/vfs/memfs":     {"internal/vfs"},
	"internal/vfs/faultfs":   {"internal/vfs"},
	"internal/vfs/vfstest":   {"internal/vfs"},
	"internal/durable":       {"internal/vfs"},
	"segments":               {"fencing"},
	"segments/store":         {"fencing", "segments", "internal/vfs", "internal/durable"},
	"recovery":               {"fencing", "segments", "internal/quorum"},
	"internal/snapshot":      {"fencing", "segments"},
	"internal/session":       {},
	"internal/rpc":           {"fencing", "segments", "recovery", "internal/quorum", "internal/snapshot"},
	"internal/quorumloss":    {"fencing", "segments", "recovery", "internal/quorum", "internal/rpc"},
	"internal/replication":   {"fencing", "segments", "recovery", "internal/quorum", "internal/rpc"},
	"proto/qjm/v1":           {},
	"internal/wire":          {"fencing", "segments", "recovery", "internal/quorum", "internal/rpc", "internal/snapshot", "internal/vfs", "journalnode/catalog", "proto/qjm/v1"},
	"journalnode/journal":    {"fencing", "segments", "segments/store", "recovery", "internal/quorum", "internal/rpc", "internal/vfs", "internal/durable", "journalnode/snapshots"},
	"journalnode/catalog":    {"fencing", "segments", "internal/quorum"},
	"journalnode/membership": {"fencing", "segments", "recovery", "internal/quorum", "internal/rpc", "internal/snapshot", "journalnode/catalog"},
	"journalnode/leaseclock": {"segments", "journalnode/catalog"},
	"journalnode/snapshots":  {"fencing", "segments", "internal/snapshot", "internal/vfs", "internal/durable"},
	"journalnode":            {"fencing", "segments", "segments/store", "recovery", "internal/quorum", "internal/rpc", "internal/snapshot", "internal/vfs", "internal/vfs/osfs", "internal/durable", "internal/wire", "internal/opening", "internal/quorumloss", "internal/replication", "journalnode/journal", "journalnode/raftgroup", "journalnode/catalog", "journalnode/leaseclock", "journalnode/membership", "journalnode/snapshots"},
	"journalnode/local":      {"internal/quorum", "journalnode", "journalnode/raftgroup"},
	"libqjm":                 {"fencing", "segments", "recovery", "internal/quorum", "internal/rpc", "internal/replication", "internal/wire", "internal/opening", "internal/quorumloss", "internal/session", "internal/snapshot", "internal/vfs", "internal/vfs/osfs", "journalnode/catalog"},
	"internal/model":         {},
	// The catalog is above it; the group itself knows bytes only.
	"journalnode/raftgroup": {},
}

func TestImportsRunDownwards(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		allowed, listed := layers[name]
		for _, imp := range p.Imports {
			in, own := strings.CutPrefix(imp, module)
			if !own {
				continue
			}
			switch {
			case listed:
				require.Contains(t, allowed, in, "%s must not import %s: imports run downwards only (ARCHITECTURE.md)", name, in)
			default:
				for _, top := range []string{"cmd/", "tests/"} {
					require.False(t, strings.HasPrefix(in, top), "%s must not import %s", name, in)
				}
			}
		}
	}
}

// TestExamplesCanBeCopied: they use what everybody can import, so that they work outside of this module.
func TestExamplesCanBeCopied(t *testing.T) {
	for _, p := range packages(t) {
		if !strings.HasPrefix(p.ImportPath, module+"examples/") {
			continue
		}
		for _, imp := range p.Imports {
			require.False(t, strings.HasPrefix(imp, module+"internal/"), "%s must not import %s: users cannot", p.ImportPath, imp)
		}
	}
}

// pure packages decide; they do not do.
var pure = []string{"fencing", "internal/quorum", "internal/quorumloss", "internal/session", "internal/snapshot", "segments", "recovery", "internal/replication", "journalnode/journal", "journalnode/catalog", "journalnode/membership", "segments/store", "internal/durable", "journalnode/snapshots"}

func TestCoresHaveNoNetworkFilesOrLogs(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		for _, core := range pure {
			if name != core {
				continue
			}
			for _, imp := range p.Imports {
				for _, bad := range []string{"os", "log", "log/slog", "net", "time", "math/rand", "math/rand/v2"} {
					require.NotEqual(t, bad, imp, "%s is a core: pass values in and return values (got an import of %s)", name, bad)
				}
			}
			for _, dep := range p.Deps {
				require.False(t, strings.HasPrefix(dep, "google.golang.org/"), "%s is a core and must not depend on %s: see internal/wire", name, dep)
				require.NotEqual(t, "net", dep, "%s is a core and must not depend on net", name)
			}
		}
	}
}

// TestOnlyOSFSTouchesTheDisk. The one exception below journalnode is journalnode/raftgroup: bbolt maps its
// file into memory, and upstream's snapshot store writes files of its own.
func TestOnlyOSFSTouchesTheDisk(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if name != "libqjm" && name != "journalnode" && !strings.HasPrefix(name, "internal/vfs/memfs") {
			continue
		}
		require.NotContains(t, p.Imports, "os", "%s must go through internal/vfs", name)
	}
}

// TestOnlyRaftgroupImportsRaft: the faults of hashicorp/raft are designed around in one place.
func TestOnlyRaftgroupImportsRaft(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if name == "journalnode/raftgroup" {
			continue
		}
		for _, imp := range append(p.Imports, append(p.TestImports, p.XTestImports...)...) {
			for _, bad := range []string{"github.com/hashicorp/", "github.com/boltdb/", "go.etcd.io/bbolt"} {
				require.False(t, strings.HasPrefix(imp, bad), "%s must not import %s: use journalnode/raftgroup", name, imp)
			}
		}
	}
}

// TestEveryPackageHasOneDoc: a newcomer reads doc.go.
func TestEveryPackageHasOneDoc(t *testing.T) {
	for _, p := range packages(t) {
		docs := 0
		for _, f := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.PackageClauseOnly|parser.ParseComments)
			require.NoError(t, err)
			if file.Doc != nil {
				docs++
			}
		}
		if len(p.GoFiles) > 0 {
			require.Equal(t, 1, docs, "%s needs exactly one package comment", p.ImportPath)
		}
	}
}

// TestHouseRules looks at every file's syntax.
func TestHouseRules(t *testing.T) {
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "bin") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, ".pb.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		test := strings.HasSuffix(path, "_test.go")
		fake := test && usesFakeTime(filepath.Dir(path))
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			switch callee(call) {
			case "time.Sleep":
				if fake {
					return true // in a bubble it moves the clock, and waits for nothing real
				}
				t.Errorf("%s: time.Sleep: wait on a channel, a timer in a select, or synctest", path)
			case "t.Skip", "t.Skipf", "t.SkipNow":
				t.Errorf("%s: a skipped test checks nothing", path)
			case "panic":
				if !test && !strings.Contains(path, "internal/vfs") && !strings.Contains(path, "internal/simtest") {
					t.Errorf("%s: panic: return a typed error", path)
				}
			}
			return true
		})
		return nil
	})
	require.NoError(t, err)
}

// usesFakeTime reports whether a directory's tests run in synctest bubbles.
func usesFakeTime(dir string) bool {
	pkgs, err := parser.ParseDir(token.NewFileSet(), dir, nil, parser.ImportsOnly) //nolint:staticcheck // imports are all it needs
	if err != nil {
		return false
	}
	for _, p := range pkgs {
		for _, f := range p.Files {
			for _, i := range f.Imports {
				if i.Path.Value == `"testing/synctest"` {
					return true
				}
			}
		}
	}
	return false
}

func callee(c *ast.CallExpr) string {
	switch f := c.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok {
			return x.Name + "." + f.Sel.Name
		}
	}
	return ""
}
