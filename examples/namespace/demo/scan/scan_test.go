package scan

import (
	"crypto/sha256"
	"os"
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
	tr := tree.New()
	for op, err := range Walk(root) {
		require.NoError(t, err)
		require.NoError(t, tr.Apply(op), "parents come first")
		got = append(got, op)
	}
	require.Len(t, got, 4)
	require.Equal(t, tree.Symlink, got[0].Entry.Kind)
	require.Equal(t, sha256.Sum256([]byte("b/f")), got[0].Entry.Hash)
	ns := at.UnixNano()
	require.Equal(t, []tree.Op{
		{Kind: tree.Mkdir, Path: "/b", Entry: tree.Entry{Kind: tree.Dir, Mode: 0o750, MTime: ns}},
		{Kind: tree.Mkdir, Path: "/b/c", Entry: tree.Entry{Kind: tree.Dir, Mode: 0o750, MTime: ns}},
		{Kind: tree.Create, Path: "/b/f", Entry: tree.Entry{Kind: tree.File, Mode: 0o640, Size: 5, MTime: ns, Hash: sha256.Sum256([]byte("hello"))}},
	}, got[1:])

	for _, err := range Walk(filepath.Join(root, "nothing")) {
		require.ErrorIs(t, err, os.ErrNotExist)
	}
}
