package osfs_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/osfs"
	"github.com/quorumjournal/qjm/internal/vfs/vfstest"
)

func TestSuitePlainPaths(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) (vfs.FS, string) { return osfs.New(""), t.TempDir() })
}

func TestSuiteBelowRoot(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) (vfs.FS, string) { return osfs.New(t.TempDir()), "" })
}

func TestRootNeedNotExist(t *testing.T) {
	root := filepath.Join(t.TempDir(), "not/yet")
	fsys := osfs.New(root)
	require.NoError(t, fsys.MkdirAll("d"))
	require.NoError(t, vfs.WriteFileAtomic(fsys, "d/a", []byte("x")))
	data, err := os.ReadFile(filepath.Join(root, "d/a"))
	require.NoError(t, err)
	require.Equal(t, "x", string(data))
	require.NoError(t, fsys.SyncDir(""))
	require.NoError(t, fsys.SyncDir("."))
}

// TestOthersCannotRead pins the modes: a journal holds other people's data.
func TestOthersCannotRead(t *testing.T) {
	root := t.TempDir()
	fsys := osfs.New(root)
	require.NoError(t, fsys.MkdirAll("d"))
	f, err := fsys.Create("d/a")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	for _, name := range []string{"d", "d/a"} {
		info, err := os.Stat(filepath.Join(root, name))
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o027, name)
	}
}
