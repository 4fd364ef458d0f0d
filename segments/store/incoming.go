package store

import (
	"errors"
	"fmt"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/segments"
)

// Incoming is a copy of a segment that is built in a temporary (R4, A1): from a peer, from the
// writer, from a prefix of the node's own copy. Nobody sees it before one of the Install methods puts
// it in place; a crash before that leaves nothing. It is for the journal's owner.
type Incoming struct {
	d      *Dir
	temp   segments.Name
	f      vfs.File
	c      content // never shared: its lock is not used
	buf    []byte  // what goes to offset c.end
	synced segments.Position
	clears uint64 // Dir.clears when it was begun
	err    error  // why nothing more can be done with it
}

// NewIncoming starts a copy with header h. The tag ([a-z0-9]+, at most segments.MaxTagLen) makes the
// temporary's name; one left by an Incoming with the same tag is replaced. vfs.ErrNoSpace leaves
// nothing behind.
func (d *Dir) NewIncoming(h segments.Header, tag string) (*Incoming, error) {
	if err := d.Poisoned(); err != nil {
		return nil, err
	}
	if h.Journal != d.journal {
		return nil, fmt.Errorf("%w (got %v, want %v)", ErrForeign, h.Journal, d.journal)
	}
	if err := h.Validate(); err != nil {
		return nil, err
	}
	temp := segments.Name{Kind: segments.NameTemporary, First: h.First, Tag: tag}
	if _, ok := segments.ParseName(temp.String()); !ok || tag == "create" || tag == "torn" {
		return nil, fmt.Errorf("store: tag of an incoming segment (got %q, want [a-z0-9]+ of at most %d)", tag, segments.MaxTagLen)
	}
	f, err := d.createTemp(temp, h, segments.HeaderSize)
	if err != nil {
		return nil, err
	}
	in := &Incoming{d: d, temp: temp, f: f, synced: h.Start(), clears: d.clears.Load()}
	in.c.header, in.c.end, in.c.last = h, segments.HeaderSize, h.Start()
	return in, nil
}

// Header returns the copy's header.
func (in *Incoming) Header() segments.Header { return in.c.header }

// Position returns how far the copy goes.
func (in *Incoming) Position() segments.Position { return in.c.last }

func (in *Incoming) ready() error {
	switch {
	case in.err != nil:
		return in.err
	case in.removed():
		return errors.Join(ErrClosed, in.Abort())
	}
	return in.d.Poisoned()
}

// removed: Clear took its file away.
func (in *Incoming) removed() bool { return in.clears != in.d.clears.Load() }

// Append adds a frame after checking it: checksum, epoch, continuity, chain (W1). A frame that fails
// is refused, and the copy is as it was. vfs.ErrNoSpace ends the copy: Abort it.
func (in *Incoming) Append(f segments.Frame) error {
	if err := in.ready(); err != nil {
		return err
	}
	if err := f.VerifyChecksum(); err != nil {
		return err
	}
	if err := segments.CheckNext(f, in.c.header, in.c.last); err != nil {
		return err
	}
	if len(in.buf) > 0 && len(in.buf)+f.Size() > in.d.opts.BufferBytes {
		if err := in.flush(); err != nil {
			return err
		}
	}
	in.c.index.Add(segments.IndexEntry{TxID: f.First(), Offset: in.c.end + int64(len(in.buf)), Prev: in.c.last.Digest})
	in.buf = append(in.buf, f.Bytes()...)
	in.c.frames++
	in.c.last = f.Position()
	return nil
}

// flush writes the buffer. A full disk ends the copy; any other failure poisons the directory.
func (in *Incoming) flush() error {
	if len(in.buf) == 0 {
		return nil
	}
	if _, err := in.f.WriteAt(in.buf, in.c.end); err != nil {
		if errors.Is(err, vfs.ErrNoSpace) {
			in.err = fmt.Errorf("store: write incoming segment %d: %w", in.c.header.First, err)
			return in.err
		}
		return in.d.poison("write incoming segment", err)
	}
	in.c.end += int64(len(in.buf))
	in.buf = in.buf[:0]
	return nil
}

// Sync makes the copy durable as far as it goes, as a temporary.
func (in *Incoming) Sync() error {
	if err := in.ready(); err != nil {
		return err
	}
	if err := in.flush(); err != nil {
		return err
	}
	if err := in.f.Sync(); err != nil {
		return in.d.poison("sync incoming segment", err)
	}
	in.synced = in.c.last
	return nil
}

// mark puts a mark for everything behind the last frame: all of the copy was synced, so nothing in
// it may ever be taken for a torn tail.
func (in *Incoming) mark() {
	if in.c.frames == 0 {
		return
	}
	h := in.c.header
	in.buf = segments.AppendMark(in.buf, h.Journal, segments.Mark{
		Offset: in.c.end + int64(len(in.buf)), Segment: h.First, Epoch: h.Epoch, Synced: in.c.last,
	})
}

// InstallInProgress puts the copy in place as the segment in progress, durably (R4). A copy that is
// here is renamed aside for the reason, and never deleted; it must have no open writer. ErrFinalized
// where the segment is finalized here (R5).
//
// The steps are: the temporary synced; renamed to its install name, durably: from here on Open
// finishes what a crash cuts short, before that the copy is gone and the old one untouched; the old
// copy aside, durably; the new one in place, durably. At no time is there no copy.
func (in *Incoming) InstallInProgress(reason segments.Reason) error {
	name := segments.Name{Kind: segments.NameInProgress, First: in.c.header.First}
	old, err := in.replaceable(name)
	if err != nil {
		return err
	}
	in.mark() // it may stand for what is synced with it: nobody sees either before that
	if err := in.Sync(); err != nil {
		return err
	}
	seg := &segment{name: name, bytes: in.c.end}
	return in.install(seg, old, reason)
}

// InstallFinalized puts the copy in place as a finalized segment that ends at end (ErrWrongEnd where
// it does not). A copy in progress is renamed aside for the reason, after the finalized one is in
// place: where a crash leaves both, Open keeps the finalized one. A damaged finalized copy with the
// same last txid is replaced as in InstallInProgress (A2). ErrFinalized where there is a good one.
func (in *Incoming) InstallFinalized(end segments.End, reason segments.Reason) (Info, error) {
	h := in.c.header
	have := segments.End{First: h.First, Last: in.c.last.TxID, Digest: in.c.last.Digest}
	if have != end || end.Last < end.First {
		return Info{}, fmt.Errorf("%w (got %v, want %v)", ErrWrongEnd, end, have)
	}
	name := segments.Name{Kind: segments.NameFinalized, First: end.First, Last: end.Last}
	old, err := in.replaceable(name)
	if err != nil {
		return Info{}, err
	}
	foot := segments.Footer{
		Header: h, End: end, Frames: in.c.frames,
		Offset: in.c.end + int64(len(in.buf)), Index: in.c.index.Entries(),
	}
	in.buf = segments.AppendFooter(in.buf, foot)
	if err := in.Sync(); err != nil {
		return Info{}, err
	}
	seg := &segment{name: name, bytes: in.c.end}
	if err := in.install(seg, old, reason); err != nil {
		return Info{}, err
	}
	return in.d.finalized(seg, end, newContent(foot), seg.bytes), nil
}

// replaceable returns the copy that stands where this one shall go, or nil.
func (in *Incoming) replaceable(name segments.Name) (*segment, error) {
	if err := in.ready(); err != nil {
		return nil, err
	}
	old, err := in.d.idle(name.First)
	switch {
	case errors.Is(err, segments.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case old.finalized() && (in.d.damageOf(old) == nil || old.name != name):
		return nil, fmt.Errorf("%w: %d", ErrFinalized, name.First)
	}
	return old, nil
}

// install gives the synced temporary its name and enters the segment.
func (in *Incoming) install(seg, old *segment, reason segments.Reason) error {
	if in.c.end > in.d.opts.CachedBytes {
		in.f.DropCache(0, in.c.end)
	}
	if err := in.f.Close(); err != nil {
		return in.d.poison("close incoming segment", err)
	}
	in.err = ErrClosed
	d := in.d
	d.moving.Lock()
	defer d.moving.Unlock()
	var err error
	switch {
	case old == nil:
		err = d.moveIn(in.temp, seg.name)
	case old.name != seg.name: // finalized over in progress: for a moment there are both
		if err = d.moveIn(in.temp, seg.name); err == nil {
			err = d.renameAside(old.name, reason)
		}
	default:
		n := seg.name
		n.Kind, n.Reason = segments.NameInstall, reason
		if err = d.moveIn(in.temp, n); err == nil {
			err = d.finishInstall(n)
		}
	}
	if err != nil {
		return d.poison("install segment", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.uncache(seg.name)
	d.segs[seg.name.First] = seg
	d.changes.Add(1)
	return nil
}

// finishInstall moves what is at an install name, durable already, into its place: what stands there
// goes aside first. Open calls it again after a crash, any number of times. The old copy in progress
// may be gone already, or a finalized copy of the segment may have come since, by another way: then
// there is nothing to replace, and this copy is put aside.
func (d *Dir) finishInstall(n segments.Name) error {
	base := n.Base()
	d.mu.Lock()
	seg := d.segs[n.First]
	d.mu.Unlock()
	switch {
	case seg != nil && seg.finalized() && seg.name != base:
		aside := d.asideName(base, n.Reason)
		return errors.Join(d.fs.Rename(d.path(n), d.path(aside)), d.fs.SyncDir(d.dir))
	case seg != nil:
		if err := d.renameAside(seg.name, n.Reason); err != nil {
			return err
		}
	}
	if err := d.fs.Rename(d.path(n), d.path(base)); err != nil {
		return err
	}
	d.mu.Lock()
	d.segs[n.First] = &segment{name: base, bytes: -1}
	d.changes.Add(1)
	d.mu.Unlock()
	return d.fs.SyncDir(d.dir)
}

// Abort throws the copy away. After an Install it does nothing.
func (in *Incoming) Abort() error {
	if errors.Is(in.err, ErrClosed) {
		return nil
	}
	in.err = ErrClosed
	err := in.f.Close()
	if in.d.Poisoned() != nil || in.removed() {
		return err
	}
	return errors.Join(err, in.d.fs.Remove(in.d.path(in.temp)))
}
