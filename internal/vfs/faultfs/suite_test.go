package faultfs_test

import (
	"testing"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/internal/vfs/osfs"
	"github.com/quorumjournal/qjm/internal/vfs/vfstest"
)

func TestSuiteOverMemfs(t *testing.T) {
	vfstest.Run(t, func(*testing.T) (vfs.FS, string) { return faultfs.New(memfs.New()), "" })
}

func TestSuiteOverOsfs(t *testing.T) {
	vfstest.Run(t, func(t *testing.T) (vfs.FS, string) { return faultfs.New(osfs.New("")), t.TempDir() })
}
