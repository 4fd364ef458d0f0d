package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/durable"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/segments"
)

// Create starts segment h.First (W0): a file with the header, preallocated, under its name, and
// durable with its directory entry before Create returns. The segment must not be here (ErrExists;
// SetAside comes first). vfs.ErrNoSpace leaves nothing behind.
//
// The file is made under a temporary name: one that goes by a segment's name always has a header.
func (d *Dir) Create(h segments.Header) (*Writer, error) {
	if err := d.Poisoned(); err != nil {
		return nil, err
	}
	if h.Journal != d.journal {
		return nil, fmt.Errorf("%w (got %v, want %v)", ErrForeign, h.Journal, d.journal)
	}
	if err := h.Validate(); err != nil {
		return nil, err
	}
	if _, err := d.peek(h.First); err == nil {
		return nil, fmt.Errorf("%w: %d", ErrExists, h.First)
	}
	temp := segments.Name{Kind: segments.NameTemporary, First: h.First, Tag: "create"}
	f, err := d.createTemp(temp, h, d.opts.PreallocateBytes)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return nil, d.poison("sync new segment", err)
	}
	seg := &segment{name: segments.Name{Kind: segments.NameInProgress, First: h.First}, bytes: -1}
	if err := d.moveIn(temp, seg.name); err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.segs[h.First] = seg
	d.changes.Add(1)
	d.mu.Unlock()
	// Opened anew by its own name, which is what errors about it should say.
	if f, err = d.fs.OpenWrite(d.path(seg.name)); err != nil {
		return nil, fmt.Errorf("store: open segment %d: %w", h.First, err)
	}
	c := &content{header: h, end: segments.HeaderSize, last: h.Start()}
	return d.newWriter(seg, f, c, h.Start(), d.opts.PreallocateBytes), nil
}

// createTemp makes a temporary with a header, size bytes long. It is not synced.
func (d *Dir) createTemp(temp segments.Name, h segments.Header, size int64) (vfs.File, error) {
	name := d.path(temp)
	f, err := d.create(temp)
	if err != nil {
		return nil, fmt.Errorf("store: create segment %d: %w", h.First, err)
	}
	_, err = f.WriteAt(segments.AppendHeader(nil, h), 0)
	if err == nil && size > segments.HeaderSize {
		err = f.Preallocate(segments.HeaderSize, size-segments.HeaderSize)
	}
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, vfs.ErrNoSpace) {
		return nil, errors.Join(d.poison("write new segment", err), f.Close())
	}
	err = errors.Join(err, f.Close())
	if rerr := d.fs.Remove(name); rerr != nil {
		return nil, d.poison("remove temporary", rerr)
	}
	return nil, fmt.Errorf("store: create segment %d: %w", h.First, err)
}

// create makes a temporary, in place of one that an earlier attempt left.
func (d *Dir) create(temp segments.Name) (vfs.File, error) {
	f, err := d.fs.Create(d.path(temp))
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	if err := d.fs.Remove(d.path(temp)); err != nil {
		return nil, err
	}
	return d.fs.Create(d.path(temp))
}

// moveIn gives a synced temporary its name, which nothing has, durably.
func (d *Dir) moveIn(temp, name segments.Name) error {
	if err := d.fs.Rename(d.path(temp), d.path(name)); err != nil {
		return d.poison("rename segment", err)
	}
	if err := d.fs.SyncDir(d.dir); err != nil {
		return d.poison("sync directory", err)
	}
	return nil
}

// newWriter opens a segment for readers, and returns its writer.
func (d *Dir) newWriter(seg *segment, f vfs.File, c *content, marked segments.Position, size int64) *Writer {
	d.mu.Lock()
	seg.live = c
	seg.learnHeader(c.header)
	d.mu.Unlock()
	end, last := c.synced()
	w := &Writer{d: d, seg: seg, f: f, c: c, last: last, marked: marked, written: end, alloc: size}
	w.step = min(max(d.opts.PreallocateBytes, size), d.opts.PreallocateBytesMax)
	return w
}

// TailReport says what OpenTail found.
type TailReport struct {
	Last     segments.Position // the end of what is there now, all of it durable
	MarkedUp segments.Position // the highest synced mark; Header.Start() where there is none

	// CutAt is where a torn tail was cut off, now or at an earlier opening of this copy, and the copy
	// has not grown since (N2a: cut_at stands until the segment is filled beyond it). It is nil where
	// nothing was cut.
	CutAt *segments.Position
	// Cut is why it was torn, if it was cut now: a *segments.TornError.
	Cut error
	// Aside is the name of the file that keeps what was cut off now.
	Aside string
}

// OpenTail opens a segment in progress to append to it (rules N2a, W2a). Before it returns:
//
//  1. the file is scanned and verified in full; damage at or below the highest synced mark, a gap or
//     a later version is returned and makes the segment Damaged: nothing is changed then;
//  2. a torn tail is copied aside, durably, and zeroed;
//  3. the frames above the highest mark are written again with their own bytes. They may have come
//     from the page cache only, where a failed sync may have called them clean: a sync alone would
//     not write them. An identical overwrite cannot tear;
//  4. file and directory are synced.
//
// A crash in between is harmless: the next OpenTail does it again.
func (d *Dir) OpenTail(first segments.TxID) (*Writer, TailReport, error) {
	var report TailReport
	seg, err := d.idle(first)
	if err != nil {
		return nil, report, err
	}
	if err := d.damageOf(seg); err != nil {
		return nil, report, err
	}
	if seg.finalized() {
		return nil, report, fmt.Errorf("%w: %d", ErrFinalized, first)
	}
	f, err := d.fs.OpenWrite(d.path(seg.name))
	if err != nil {
		return nil, report, fmt.Errorf("store: open segment %d: %w", first, err)
	}
	size, err := f.Size()
	if err != nil {
		return nil, report, errors.Join(err, f.Close())
	}
	res := segments.Scan(f, size, segments.ScanOptions{})
	if err := d.damageIn(res, seg.name); err != nil {
		d.noteDamage(seg, err)
		return nil, report, errors.Join(err, f.Close())
	}
	if report, err = d.makeDurable(f, size, seg.name, res); err != nil {
		return nil, report, errors.Join(err, f.Close())
	}
	c := &content{header: res.Header, index: res.Index, end: res.EndOffset, last: res.Last, frames: res.Frames}
	return d.newWriter(seg, f, c, res.Marked, size), report, nil
}

// damageIn returns what forbids to open a segment.
func (d *Dir) damageIn(res segments.Result, n segments.Name) error {
	if res.Err != nil && res.Stop != segments.StopTorn {
		return res.Err
	}
	return d.checkHeader(res.Header, n)
}

// makeDurable does steps 2 to 4 of OpenTail.
func (d *Dir) makeDurable(f vfs.File, size int64, n segments.Name, res segments.Result) (TailReport, error) {
	report := TailReport{Last: res.Last, MarkedUp: res.Marked}
	if res.Stop == segments.StopTorn {
		report.Cut = res.Err
		aside, err := d.keepTorn(f, size, n, res)
		if err != nil {
			return report, err
		}
		report.Aside = aside
	}
	cut, err := d.cutAt(n, res)
	if err != nil {
		return report, err
	}
	report.CutAt = cut
	// Where a cut stands the zeros may be an earlier opening's, and in the page cache only.
	if cut != nil || res.Stop == segments.StopTorn || res.Stop == segments.StopFooter {
		if err := zero(f, res.EndOffset, size); err != nil {
			return report, d.poison("zero the tail", err)
		}
	}
	if err := rewrite(f, res); err != nil {
		return report, d.poison("write the tail again", err)
	}
	if err := f.Sync(); err != nil {
		return report, d.poison("sync segment", err)
	}
	if err := d.fs.SyncDir(d.dir); err != nil {
		return report, d.poison("sync directory", err)
	}
	return report, nil
}

// rewriteChunk is how much is collected before it is written.
const rewriteChunk = 1 << 20

// rewrite writes what is above the highest mark in its own place again. It is read and verified once
// more on the way: what is written must be what the scan vouched for.
func rewrite(f vfs.File, res segments.Result) error {
	s := segments.NewScanner(f, res.EndOffset, res.Header, segments.Cursor{Offset: res.MarkOffset, Before: res.Marked})
	at, buf := res.MarkOffset, []byte(nil)
	flush := func() error {
		_, err := f.WriteAt(buf, at)
		at, buf = at+int64(len(buf)), buf[:0]
		return err
	}
	for s.Next() {
		switch rec := s.Record(); rec.Kind {
		case segments.RecordFrame:
			buf = append(buf, rec.Frame.Bytes()...)
		case segments.RecordMark:
			buf = segments.AppendMark(buf, res.Header.Journal, rec.Mark)
		}
		if len(buf) >= rewriteChunk {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := s.WholeTo(res.Last); err != nil {
		return err
	}
	if len(buf) == 0 {
		return nil
	}
	return flush()
}

// A torn copy is a sealed head of fixed size (package durable) and, behind it, the bytes that stood
// in the segment's file from the cut on, without the zeros at their end.
var tornMagic = [8]byte{'Q', 'J', 'M', 'T', 'O', 'R', 'N', 0}

const (
	tornVersion = 1
	tornPayload = 48
	tornHead    = durable.Overhead + tornPayload
)

// tornCopy is the head of a torn copy.
type tornCopy struct {
	Segment segments.TxID
	Epoch   fencing.Epoch
	At      segments.Position
	Offset  int64
}

func (t tornCopy) encode() []byte {
	p := make([]byte, 0, tornPayload)
	p = binary.LittleEndian.AppendUint64(p, uint64(t.Segment))
	p = binary.LittleEndian.AppendUint64(p, uint64(t.Epoch))
	p = binary.LittleEndian.AppendUint64(p, uint64(t.At.TxID))
	p = append(p, t.At.Digest[:]...)
	p = binary.LittleEndian.AppendUint64(p, uint64(t.Offset))
	return durable.Seal(tornMagic, tornVersion, p)
}

func decodeTorn(b []byte) (tornCopy, error) {
	p, _, err := durable.Open(tornMagic, tornVersion, b)
	if err != nil {
		return tornCopy{}, err
	}
	if len(p) != tornPayload {
		return tornCopy{}, fmt.Errorf("%w: torn copy's head (got %d bytes, want %d)", durable.ErrDamaged, len(p), tornPayload)
	}
	t := tornCopy{
		Segment: segments.TxID(binary.LittleEndian.Uint64(p)),
		Epoch:   fencing.Epoch(binary.LittleEndian.Uint64(p[8:])),
		At:      segments.Position{TxID: segments.TxID(binary.LittleEndian.Uint64(p[16:]))},
		Offset:  int64(binary.LittleEndian.Uint64(p[40:])),
	}
	copy(t.At.Digest[:], p[24:40])
	return t, nil
}

// keepTorn copies a torn tail aside, durably, before it is zeroed. The copy also remembers where the
// cut was, for openings after this one.
func (d *Dir) keepTorn(f vfs.File, size int64, n segments.Name, res segments.Result) (string, error) {
	temp := segments.Name{Kind: segments.NameTemporary, First: n.First, Tag: "torn"}
	out, err := d.create(temp)
	if err != nil {
		return "", fmt.Errorf("store: keep torn tail: %w", err)
	}
	head := tornCopy{Segment: n.First, Epoch: res.Header.Epoch, At: res.Last, Offset: res.EndOffset}.encode()
	if err := copyTorn(out, f, head, res.EndOffset, size); err != nil {
		err = errors.Join(err, out.Close())
		if !errors.Is(err, vfs.ErrNoSpace) {
			return "", d.poison("keep torn tail", err)
		}
		if rerr := d.fs.Remove(d.path(temp)); rerr != nil {
			return "", d.poison("remove temporary", rerr)
		}
		return "", fmt.Errorf("store: keep torn tail: %w", err)
	}
	if err := errors.Join(out.Sync(), out.Close()); err != nil {
		return "", d.poison("sync torn tail", err)
	}
	aside := d.asideName(n, segments.ReasonTorn)
	if err := d.moveIn(temp, aside); err != nil {
		return "", err
	}
	return aside.String(), nil
}

// copyTorn writes head, then [from, size) of f without the zeros at its end.
func copyTorn(out, f vfs.File, head []byte, from, size int64) error {
	if _, err := out.WriteAt(head, 0); err != nil {
		return err
	}
	buf := make([]byte, min(zeroChunk, size-from))
	for off := from; off < size; {
		b := buf[:min(int64(len(buf)), size-off)]
		if n, err := f.ReadAt(b, off); n < len(b) {
			return fmt.Errorf("store: read torn tail: %w", errors.Join(err, io.ErrUnexpectedEOF))
		}
		at := int64(len(head)) + off - from
		off += int64(len(b))
		for len(b) > 0 && b[len(b)-1] == 0 {
			b = b[:len(b)-1]
		}
		if len(b) == 0 {
			continue
		}
		if _, err := out.WriteAt(b, at); err != nil {
			return err
		}
	}
	return nil
}

// cutAt returns where this copy of the segment was cut, if the cut still stands: the newest torn
// copy says so, and the content has not grown beyond it. A torn copy that cannot be read any more
// counts as no cut.
func (d *Dir) cutAt(n segments.Name, res segments.Result) (*segments.Position, error) {
	num := d.asides[asideKey(n, segments.ReasonTorn)]
	if num == 0 {
		return nil, nil
	}
	aside := segments.Name{Kind: segments.NameAside, First: n.First, Reason: segments.ReasonTorn, N: num}
	f, err := d.fs.Open(d.path(aside))
	if err != nil {
		return nil, nil //nolint:nilerr // an operator may have taken it away
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, tornHead)
	if n, _ := f.ReadAt(head, 0); n < len(head) {
		return nil, nil
	}
	t, err := decodeTorn(head)
	if err != nil || t.Segment != n.First || t.Epoch != res.Header.Epoch || t.At.TxID < res.Last.TxID {
		return nil, nil //nolint:nilerr // of another copy, or filled since
	}
	return &t.At, nil
}
