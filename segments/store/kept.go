package store

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/quorumjournal/qjm/segments"
)

// Keep makes the copy whole and durable under a name of its own, where neither Open nor anybody else
// touches it: the step before an accepted record is written that speaks of it (R4). InstallKept puts it
// in place after the record. It replaces a copy kept before. The Incoming is closed, whatever is
// returned.
func (in *Incoming) Keep() error {
	if err := in.Sync(); err != nil { // before the mark that claims it
		return errors.Join(err, in.Abort())
	}
	in.mark()
	if err := in.Sync(); err != nil {
		return errors.Join(err, in.Abort())
	}
	if err := in.f.Close(); err != nil {
		return in.d.poison("close incoming segment", err)
	}
	in.err = ErrClosed
	return in.d.moveIn(in.temp, keptName(in.c.header.First))
}

func keptName(first segments.TxID) segments.Name {
	return segments.Name{Kind: segments.NameKept, First: first}
}

// InstallKept puts the kept copy of segment first in place, durably, if there is one and it is whole
// and ends at end; a copy that stands there is renamed aside for the reason, and must have no open
// writer. It reports whether there was such a copy; one with another end is thrown away, one that cannot
// be read now stays where it is. A crash leaves the kept copy, or one that Open finishes installing.
func (d *Dir) InstallKept(first segments.TxID, end segments.End, reason segments.Reason) (bool, error) {
	if err := d.Poisoned(); err != nil {
		return false, err
	}
	switch kept, err := d.keptEnd(first); {
	case err != nil || kept.IsZero():
		return false, err
	case kept != end:
		return false, d.DropKept(first)
	}
	old, err := d.idle(first)
	switch {
	case err == nil && old.finalized():
		return false, errors.Join(fmt.Errorf("%w: %d", ErrFinalized, first), d.DropKept(first))
	case err != nil && !errors.Is(err, segments.ErrNotFound):
		return false, err
	}
	n := segments.Name{Kind: segments.NameInstall, First: first, Reason: reason}
	if err := d.moveIn(keptName(first), n); err != nil {
		return false, err
	}
	d.moving.Lock()
	defer d.moving.Unlock()
	if err := d.finishInstall(n); err != nil {
		return false, d.poison("install kept segment", err)
	}
	return true, nil
}

// keptEnd returns the end of the kept copy; zero where there is none, or none that can be read in full.
func (d *Dir) keptEnd(first segments.TxID) (segments.End, error) {
	f, err := d.fs.Open(d.path(keptName(first)))
	if errors.Is(err, fs.ErrNotExist) {
		return segments.End{}, nil
	}
	if err != nil {
		return segments.End{}, fmt.Errorf("store: kept segment %d: %w", first, err)
	}
	defer func() { _ = f.Close() }()
	size, err := f.Size()
	if err != nil {
		return segments.End{}, fmt.Errorf("store: kept segment %d: %w", first, err)
	}
	res := segments.Scan(f, size, segments.ScanOptions{})
	if res.Err != nil || res.Header.Journal != d.journal {
		return segments.End{}, nil
	}
	return segments.End{First: first, Last: res.Last.TxID, Digest: res.Last.Digest}, nil
}

// DropKept removes the kept copy of a segment, if there is one: the record that it was kept for is in
// force without it.
func (d *Dir) DropKept(first segments.TxID) error {
	err := d.fs.Remove(d.path(keptName(first)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("store: kept segment %d: %w", first, err)
	}
	return d.fs.SyncDir(d.dir)
}

// DigestAt returns the digest of the copy at txid, if one of its frames ends there. It makes the copy
// durable as far as it goes, to read it back.
func (in *Incoming) DigestAt(txid segments.TxID) (segments.Digest, bool, error) {
	if err := in.Sync(); err != nil {
		return segments.Digest{}, false, err
	}
	return in.c.digestAt(in.f, txid)
}
