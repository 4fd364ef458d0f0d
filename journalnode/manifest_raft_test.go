package journalnode

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/durable"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/segments"
)

// TestN5_ManifestVersions: a manifest of version 1 is read, and lists no raft store; what is written is read
// again; anything else is damage.
func TestN5_ManifestVersions(t *testing.T) {
	fsys := memfs.New()
	require.NoError(t, fsys.MkdirAll("d"))
	id := segments.JournalID{7}
	old := append(binary.LittleEndian.AppendUint32(nil, 1), id[:]...)
	require.NoError(t, durable.Save(fsys, "d/manifest", manifestMagic, 1, old))
	m, err := loadManifest(fsys, "d")
	require.NoError(t, err)
	require.Equal(t, manifest{Journals: []segments.JournalID{id}}, m)
	for _, raft := range []bool{true, false} {
		m.Raft = raft
		require.NoError(t, m.save(fsys, "d"))
		got, err := loadManifest(fsys, "d")
		require.NoError(t, err)
		require.Equal(t, m, got)
	}
	for _, bad := range [][]byte{{}, {2, 0, 0, 0, 0}, {1, 1, 0, 0, 0}} {
		require.NoError(t, durable.Save(fsys, "d/manifest", manifestMagic, manifestVersion, bad))
		_, err = loadManifest(fsys, "d")
		require.Error(t, err)
	}
}
