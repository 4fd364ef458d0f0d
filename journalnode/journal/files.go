package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/durable"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// Names of the small files, and the magic and version each starts with.
const (
	versionFile    = "VERSION"
	fenceFile      = "fence"
	configFile     = "config"
	committedFile  = "committed"
	recentFile     = "committed-recent"
	acceptedPrefix = "accepted-"
	segmentsDir    = "segments"
	purgedFile     = "purged" // its form is journalnode/snapshots' affair
	snapshotsDir   = "snapshots"
	keptFile       = "kept"

	formatVersion = 1
)

var (
	versionMagic   = [8]byte{'Q', 'J', 'M', 'J', 'R', 'N', 'L', 0}
	fenceMagic     = [8]byte{'Q', 'J', 'M', 'F', 'E', 'N', 'C', 'E'}
	configMagic    = [8]byte{'Q', 'J', 'M', 'C', 'O', 'N', 'F', 0}
	committedMagic = [8]byte{'Q', 'J', 'M', 'F', 'L', 'O', 'O', 'R'}
	acceptedMagic  = [8]byte{'Q', 'J', 'M', 'A', 'C', 'C', 'P', 'T'}
	keptMagic      = [8]byte{'Q', 'J', 'M', 'K', 'E', 'P', 'T', 0}
)

// files reads and writes the small durable files of one journal.
type files struct {
	fs  vfs.FS
	dir string
}

func (f files) path(name string) string { return path.Join(f.dir, name) }

func (f files) save(name string, magic [8]byte, payload []byte) error {
	return durable.Save(f.fs, f.path(name), magic, formatVersion, payload)
}

func (f files) load(name string, magic [8]byte) ([]byte, error) {
	b, _, err := durable.Load(f.fs, f.path(name), magic, formatVersion)
	return b, err
}

// keepData marks the directory as one whose data stays though the journal is deleted.
func (f files) keepData() error { return f.save(keptFile, keptMagic, nil) }

// dataKept: a mark that cannot be read counts as one.
func (f files) dataKept() (bool, error) {
	_, err := f.fs.Stat(f.path(keptFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (f files) saveFence(s fencing.State) error {
	b, _ := s.AppendBinary(nil)
	return f.save(fenceFile, fenceMagic, b)
}

func (f files) loadFence() (fencing.State, error) {
	b, err := f.load(fenceFile, fenceMagic)
	if err != nil {
		return fencing.State{}, err
	}
	return fencing.ParseState(b)
}

func (f files) saveConfig(c quorum.Config) error {
	b, _ := c.AppendBinary(nil)
	return f.save(configFile, configMagic, b)
}

func (f files) loadConfig() (quorum.Config, error) {
	b, err := f.load(configFile, configMagic)
	if err != nil {
		return quorum.Config{}, err
	}
	return quorum.ParseConfig(b)
}

func (f files) saveVersion(id segments.JournalID, name string) error {
	return f.save(versionFile, versionMagic, append(id[:], name...))
}

func (f files) loadVersion() (id segments.JournalID, name string, err error) {
	b, err := f.load(versionFile, versionMagic)
	if err != nil {
		return id, "", err
	}
	if len(b) < len(id) {
		return id, "", fmt.Errorf("journal: VERSION is cut short (got %d bytes)", len(b))
	}
	copy(id[:], b)
	name = string(b[len(id):])
	return id, name, rpc.CheckJournalName(name)
}

func appendEnd(b []byte, e segments.End) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(e.First))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Last))
	return append(b, e.Digest[:]...)
}

func parseEnd(b []byte) segments.End {
	e := segments.End{First: segments.TxID(binary.LittleEndian.Uint64(b)), Last: segments.TxID(binary.LittleEndian.Uint64(b[8:]))}
	copy(e.Digest[:], b[16:])
	return e
}

const recordSize = 8 + 32

func (f files) saveAccepted(a recovery.Accepted) error {
	b := binary.LittleEndian.AppendUint64(nil, uint64(a.Epoch))
	return f.save(acceptedName(a.End.First), acceptedMagic, appendEnd(b, a.End))
}

func acceptedName(s segments.TxID) string { return fmt.Sprintf("%s%020d", acceptedPrefix, s) }

// loadAccepted returns every accepted record; one that cannot be read is in bad (it counts as present,
// N2).
func (f files) loadAccepted() (good map[segments.TxID]recovery.Accepted, bad map[segments.TxID]error, err error) {
	good, bad = map[segments.TxID]recovery.Accepted{}, map[segments.TxID]error{}
	names, err := f.fs.List(f.dir)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		digits, ok := strings.CutPrefix(name, acceptedPrefix)
		if !ok || strings.HasSuffix(name, ".tmp") {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 64)
		if err != nil {
			continue
		}
		s := segments.TxID(n)
		b, err := f.load(name, acceptedMagic)
		if err == nil && len(b) != recordSize {
			err = fmt.Errorf("journal: %s has a wrong length (got %d, want %d)", name, len(b), recordSize)
		}
		if err != nil {
			bad[s] = err
			continue
		}
		a := recovery.Accepted{Epoch: fencing.Epoch(binary.LittleEndian.Uint64(b)), End: parseEnd(b[8:])}
		if a.End.First != s {
			bad[s] = fmt.Errorf("journal: %s is about segment %d", name, a.End.First)
			continue
		}
		good[s] = a
	}
	return good, bad, nil
}

func (f files) removeAccepted(s segments.TxID) error {
	err := f.fs.Remove(f.path(acceptedName(s)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return vfs.Unsettled(f.fs.SyncDir(f.dir))
}

func (f files) removePurged() error {
	err := f.fs.Remove(f.path(purgedFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return vfs.Unsettled(f.fs.SyncDir(f.dir))
}

func sealedFloor(fl recovery.Floor) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(fl.Epoch))
	return appendEnd(b, segments.End{First: fl.Segment, Last: fl.At.TxID, Digest: fl.At.Digest})
}

func (f files) saveFloor(fl recovery.Floor) error {
	return f.save(committedFile, committedMagic, sealedFloor(fl))
}

// noteFloor writes the floor in place into a file of its own, and syncs nothing: a power cut may tear it, and
// then it is absent, while the saved one is as it was.
func (f files) noteFloor(fl recovery.Floor) error {
	h, err := f.fs.OpenWrite(f.path(recentFile))
	if errors.Is(err, fs.ErrNotExist) {
		h, err = f.fs.Create(f.path(recentFile))
	}
	if err != nil {
		return err
	}
	_, err = h.WriteAt(durable.Seal(committedMagic, formatVersion, sealedFloor(fl)), 0)
	return errors.Join(err, h.Close())
}

// dropFloor makes the floor absent. The one that was only noted goes first: it counts where it is further.
func (f files) dropFloor() error {
	if err := f.fs.Remove(f.path(recentFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f.saveFloor(recovery.Floor{}) // which syncs the directory, too
}

// loadFloor returns the saved floor, and the one to go on with: the noted one, where it is further. One that
// cannot be read is absent; it is best effort.
func (f files) loadFloor() (saved, floor recovery.Floor) {
	saved = f.readFloor(committedFile)
	if noted := f.readFloor(recentFile); noted.At.TxID > saved.At.TxID {
		return saved, noted
	}
	return saved, saved
}

func (f files) readFloor(name string) recovery.Floor {
	b, err := f.load(name, committedMagic)
	if err != nil || len(b) != recordSize {
		return recovery.Floor{}
	}
	e := parseEnd(b[8:])
	return recovery.Floor{Segment: e.First, Epoch: fencing.Epoch(binary.LittleEndian.Uint64(b)), At: e.Position()}
}
