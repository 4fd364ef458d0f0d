package journalnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/quorumjournal/qjm/internal/durable"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/segments"
)

// Files of a data directory.
const (
	identityFile = "identity"
	manifestFile = "manifest"
	lockFile     = "lock"
	journalsDir  = "journals"
	raftDir      = "raft"

	formatVersion = 1
)

var (
	identityMagic = [8]byte{'Q', 'J', 'M', 'I', 'D', 'E', 'N', 'T'}
	manifestMagic = [8]byte{'Q', 'J', 'M', 'M', 'A', 'N', 'I', 'F'}
)

// ErrOtherNode: the data directory belongs to a node with another id.
var ErrOtherNode = errors.New("journalnode: data directory belongs to another node")

// identity is who this storage is (N1) and which cluster it was founded into (N4).
type identity struct {
	ID          quorum.NodeID
	Incarnation quorum.Incarnation
	Phase       rpc.Phase
	Cluster     rpc.ClusterID
	Founders    []quorum.Member // of the genesis record; none while blank
}

func (id identity) appendBinary(b []byte) []byte {
	b = append(b, byte(len(id.ID)))
	b = append(b, id.ID...)
	b = append(b, id.Incarnation[:]...)
	b = append(b, byte(id.Phase))
	b = append(b, id.Cluster[:]...)
	if len(id.Founders) > 0 {
		b, _ = quorum.NewConfig(1, id.Founders...).AppendBinary(b)
	}
	return b
}

func parseIdentity(b []byte) (identity, error) {
	var id identity
	short := fmt.Errorf("journalnode: identity is cut short (got %d bytes)", len(b))
	if len(b) < 1 || len(b) < 1+int(b[0])+16+1+16 {
		return id, short
	}
	n := int(b[0])
	id.ID = quorum.NodeID(b[1 : 1+n])
	b = b[1+n:]
	copy(id.Incarnation[:], b)
	id.Phase = rpc.Phase(b[16])
	copy(id.Cluster[:], b[17:])
	b = b[33:]
	if err := id.ID.Validate(); err != nil {
		return id, err
	}
	if id.Phase > rpc.Founded || id.Incarnation.IsZero() {
		return id, fmt.Errorf("journalnode: identity is malformed (phase %d, incarnation %s)", id.Phase, id.Incarnation)
	}
	if id.Phase == rpc.Blank {
		return id, nil
	}
	c, err := quorum.ParseConfig(b)
	if err != nil {
		return id, err
	}
	id.Founders = c.Members()
	return id, nil
}

// loadIdentity reads the identity, or makes a blank one with the given incarnation, durable before it
// returns (N1: before the node listens).
func loadIdentity(fsys vfs.FS, dir string, id quorum.NodeID, fresh quorum.Incarnation) (identity, error) {
	got, err := readIdentity(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := mustBeBlank(fsys, dir); err != nil {
			return identity{}, err
		}
		blank := identity{ID: id, Incarnation: fresh}
		return blank, errors.Join(saveIdentity(fsys, dir, blank), manifest{}.save(fsys, dir))
	}
	if err != nil {
		return identity{}, err
	}
	if got.ID != id {
		return identity{}, fmt.Errorf("%w (got %s, want %s)", ErrOtherNode, got.ID, id)
	}
	return got, nil
}

// readIdentity reads the identity of a directory that has one.
func readIdentity(fsys vfs.FS, dir string) (identity, error) {
	b, _, err := durable.Load(fsys, path.Join(dir, identityFile), identityMagic, formatVersion)
	if err != nil {
		return identity{}, fmt.Errorf("journalnode: identity: %w", err)
	}
	return parseIdentity(b)
}

// mustBeBlank: a directory that lost its identity but not its data is damaged, not new.
func mustBeBlank(fsys vfs.FS, dir string) error {
	names, err := fsys.List(dir)
	if err != nil {
		return fmt.Errorf("journalnode: %w", err)
	}
	for _, n := range names {
		if n == manifestFile || n == journalsDir {
			return fmt.Errorf("journalnode: %s holds %s but no identity: it is damaged, or no data directory", dir, n)
		}
	}
	return nil
}

func saveIdentity(fsys vfs.FS, dir string, id identity) error {
	err := durable.Save(fsys, path.Join(dir, identityFile), identityMagic, formatVersion, id.appendBinary(nil))
	if err != nil {
		return fmt.Errorf("journalnode: %w", err)
	}
	return nil
}

// manifest lists the journals, and the raft store, that this directory holds (N5). What is listed and
// missing is damaged; what is there and not listed is unfinished. It is made with the identity, so a
// directory that has outgrown blankness and has no manifest lost it: that is damage, not "no journals" (N2).
type manifest struct {
	Raft     bool
	Journals []segments.JournalID
}

// Version 1 of the manifest is the number of journals (4 bytes) and their ids. Version 2 has a byte before
// that: 1 where there is a raft store.
const (
	manifestVersion     = 2
	manifestVersionRaft = 2 // the first one that knows of a raft store
)

func loadManifest(fsys vfs.FS, dir string) (manifest, error) {
	var m manifest
	b, version, err := durable.Load(fsys, path.Join(dir, manifestFile), manifestMagic, manifestVersion)
	if err != nil {
		return m, fmt.Errorf("journalnode: manifest: %w", err)
	}
	whole := b
	if version >= manifestVersionRaft {
		if len(b) < 1 || b[0] > 1 {
			return m, fmt.Errorf("journalnode: manifest is malformed (got %d bytes)", len(whole))
		}
		m.Raft, b = b[0] == 1, b[1:]
	}
	if len(b) < 4 || len(b) != 4+16*int(binary.LittleEndian.Uint32(b)) {
		return m, fmt.Errorf("journalnode: manifest has a wrong length (got %d bytes)", len(whole))
	}
	for b = b[4:]; len(b) > 0; b = b[16:] {
		m.Journals = append(m.Journals, segments.JournalID(b[:16]))
	}
	return m, nil
}

func (m manifest) save(fsys vfs.FS, dir string) error {
	b := []byte{0}
	if m.Raft {
		b[0] = 1
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.Journals)))
	for _, id := range m.Journals {
		b = append(b, id[:]...)
	}
	if err := durable.Save(fsys, path.Join(dir, manifestFile), manifestMagic, manifestVersion, b); err != nil {
		return fmt.Errorf("journalnode: %w", err)
	}
	return nil
}

func (m manifest) has(id segments.JournalID) bool { return slices.Contains(m.Journals, id) }

func (m manifest) clone() manifest {
	m.Journals = slices.Clone(m.Journals)
	return m
}
