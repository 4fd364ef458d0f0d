package memfs_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/internal/vfs/vfstest"
)

func TestSuite(t *testing.T) {
	vfstest.Run(t, func(*testing.T) (vfs.FS, string) { return memfs.New(), "" })
}

func TestSuiteInSubdirectory(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) (vfs.FS, string) {
		fsys := memfs.New()
		require.NoError(t, fsys.MkdirAll("/data/node1"))
		return fsys, "/data/node1"
	})
}

// TestSuiteOnClones: what a crash leaves is a file system like any other.
func TestSuiteOnClones(t *testing.T) {
	vfstest.Run(t, func(*testing.T) (vfs.FS, string) {
		return memfs.New().CrashClone(memfs.CrashOptions{}).ProcessCrashClone(), "."
	})
}
