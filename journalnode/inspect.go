package journalnode

import (
	"path"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/segments"
)

// Inspection is what a data directory says of itself.
type Inspection struct {
	ID          quorum.NodeID
	Incarnation quorum.Incarnation
	Phase       rpc.Phase
	Cluster     rpc.ClusterID
	// Listed are the journals of the manifest, Present the directories that are there, by name.
	Listed  []segments.JournalID
	Present []string
	// Raft tells that the manifest lists a raft store.
	Raft bool
	// Bad are files that are missing or cannot be read, by name; Extra are files that nothing reads.
	Bad   map[string]error
	Extra []string
}

// JournalDir returns where a data directory keeps a journal.
func JournalDir(dir, journal string) string { return path.Join(dir, journalsDir, journal) }

// IsDataDir reports whether dir looks like a node's data directory.
func IsDataDir(fsys vfs.FS, dir string) bool {
	for _, n := range []string{identityFile, manifestFile, journalsDir} {
		if _, err := fsys.Stat(path.Join(dir, n)); err == nil {
			return true
		}
	}
	return false
}

// Inspect reads a data directory without changing it, or locking it. It works while the node runs.
func Inspect(fsys vfs.FS, dir string) (Inspection, error) {
	in := Inspection{Bad: map[string]error{}}
	names, err := fsys.List(dir)
	if err != nil {
		return in, err
	}
	id, err := readIdentity(fsys, dir)
	if err != nil {
		in.Bad[identityFile] = err
	}
	in.ID, in.Incarnation, in.Phase, in.Cluster = id.ID, id.Incarnation, id.Phase, id.Cluster
	m, err := loadManifest(fsys, dir)
	if err != nil {
		in.Bad[manifestFile] = err
	}
	in.Listed, in.Raft = m.Journals, m.Raft
	if slices.Contains(names, journalsDir) {
		if in.Present, err = fsys.List(path.Join(dir, journalsDir)); err != nil {
			return in, err
		}
	}
	for _, n := range names {
		switch n {
		case identityFile, manifestFile, lockFile, reserveFile, journalsDir, raftDir, recoveryFile, addressesFile, peersFile:
		default:
			in.Extra = append(in.Extra, n)
		}
	}
	return in, nil
}
