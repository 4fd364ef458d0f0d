package scan

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/examples/namespace/tree"
)

func TestWalk(t *testing.T) {
	root := t.TempDir()
	at := time.Unix(1700000000, 123456789)
	require.NoError(t, os.MkdirAll(filepath.Join(root, "b", "c"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(root, "b", "f"), []byte("hello"), 0o640))
	require.NoError(t, os.Symlink("b/f", filepath.Join(root, "a")))
	for _, p := range []string{"b/f", "b/c", "b"} {
		require.NoError(t, os.Chtimes(filepath.Join(root, p), at, at))
	}
	var got []tree.Op
	seen := map[string]bool{"/": true}
	for op, err := range Walk(root) {
		require.NoError(t, err)
		require.True(t, seen[path.Dir(op.Path)], "parents come first")
		seen[op.Path] = true
		got = append(got, op)
	}
	require.Len(t, got, 4)
	require.Contains(t, got[0].Meta, fmt.Sprintf("%x", sha256.Sum256([]byte("b/f"))))
	ns := at.UnixNano()
	dir := fmt.Sprintf(`{"Mode":%d,"Size":0,"MTime":%d,"Hash":""}`, fs.ModeDir|0o750, ns)
	require.Equal(t, []tree.Op{
		{Kind: "mkdir", Path: "/b", Meta: dir},
		{Kind: "mkdir", Path: "/b/c", Meta: dir},
		{Kind: "create", Path: "/b/f", Meta: fmt.Sprintf(`{"Mode":%d,"Size":5,"MTime":%d,"Hash":"%x"}`, 0o640, ns, sha256.Sum256([]byte("hello")))},
	}, got[1:])

	for _, err := range Walk(filepath.Join(root, "nothing")) {
		require.ErrorIs(t, err, os.ErrNotExist)
	}
}
