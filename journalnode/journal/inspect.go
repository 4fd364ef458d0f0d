package journal

import (
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/journalnode/snapshots"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// Inspection is what a journal's directory holds besides its segments, as far as it can be read.
type Inspection struct {
	ID       segments.JournalID
	Name     string
	Fence    fencing.State
	Config   quorum.Config
	Accepted []recovery.Accepted
	Floor    recovery.Floor
	Purged   segments.Position // the purge point (C5)
	Segments string            // the directory with the segments
	// Snapshots are the users' snapshots here, by file name; what is not finished is not among them.
	Snapshots []string
	// Bad are files that are missing or cannot be read, by name; Extra are files that nothing reads.
	Bad   map[string]error
	Extra []string
}

// Inspect reads a journal's directory and changes nothing, not even what a crash left behind. It works
// while the node runs.
func Inspect(fsys vfs.FS, dir string) (Inspection, error) {
	f := files{fsys, dir}
	in := Inspection{Segments: f.path(segmentsDir), Bad: map[string]error{}}
	names, err := fsys.List(dir)
	if err != nil {
		return in, err
	}
	note := func(name string, err error) {
		if err != nil {
			in.Bad[name] = err
		}
	}
	in.ID, in.Name, err = f.loadVersion()
	note(versionFile, err)
	in.Fence, err = f.loadFence()
	note(fenceFile, err)
	in.Config, err = f.loadConfig()
	note(configFile, err)
	in.Purged, err = snapshots.LoadPurged(fsys, f.path(purgedFile))
	note(purgedFile, err)
	if slices.Contains(names, snapshotsDir) {
		if in.Snapshots, err = snapshots.Files(fsys, f.path(snapshotsDir)); err != nil {
			note(snapshotsDir, err)
		}
	}
	_, in.Floor = f.loadFloor()
	if b, err := f.load(committedFile, committedMagic); err == nil && len(b) == recordSize {
		// it is in in.Floor
	} else if !errors.Is(err, fs.ErrNotExist) {
		note(committedFile, err)
	}
	good, bad, err := f.loadAccepted()
	if err != nil {
		return in, err
	}
	for s, err := range bad {
		if !errors.Is(err, fs.ErrNotExist) { // removed while we looked
			note(acceptedName(s), err)
		}
	}
	for _, s := range slices.Sorted(maps.Keys(good)) {
		in.Accepted = append(in.Accepted, good[s])
	}
	for _, n := range names {
		switch n {
		case versionFile, fenceFile, configFile, committedFile, recentFile, segmentsDir, purgedFile, snapshotsDir, keptFile:
		default:
			if !strings.HasPrefix(n, acceptedPrefix) || strings.HasSuffix(n, ".tmp") {
				in.Extra = append(in.Extra, n)
			}
		}
	}
	return in, nil
}

// IsDir reports whether dir looks like a journal's directory.
func IsDir(fsys vfs.FS, dir string) bool {
	for _, n := range []string{versionFile, fenceFile, configFile} {
		if _, err := fsys.Stat(path.Join(dir, n)); err == nil {
			return true
		}
	}
	return false
}
