package store

import (
	"errors"
	"fmt"
	"io"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/segments"
)

// blockSize is what sizes of files are rounded to.
const blockSize = 4096

// Writer appends to a segment in progress. It is for the journal's owner: one caller at a time.
//
// Append collects, Commit writes what was collected and syncs it: one group. Nothing of a group is
// visible to readers, in Synced, or in DigestAt before Commit returned nil.
//
// A failed write or sync poisons the writer and its directory: every later call returns that first
// failure, and no sync is ever tried again, because after a failed one the kernel may call lost
// pages clean. A full disk is no such failure if it was found while making room, before anything
// was written: then the error is vfs.ErrNoSpace, the uncommitted group is dropped, and the writer is
// good for another try.
type Writer struct {
	d   *Dir
	seg *segment
	f   vfs.File
	c   *content

	last    segments.Position     // collected frames included
	marked  segments.Position     // what the last mark on disk says
	pending []segments.IndexEntry // the group's frames
	out     gathered              // the group's bytes that are not written yet; they go to written
	written int64                 // c.end, or more where the group was too large to be kept back
	alloc   int64                 // size of the file
	step    int64                 // the next preallocation
	zeroed  int64                 // up to here zeros, or more, were written, or there was no room for them
	usual   int64                 // bytes of a group, averaged over some
	closed  bool
}

// Header returns the segment's header.
func (w *Writer) Header() segments.Header { return w.c.header }

// Epoch returns the segment's writer epoch.
func (w *Writer) Epoch() fencing.Epoch { return w.c.header.Epoch }

// Synced returns how far the content is durable.
func (w *Writer) Synced() segments.Position {
	_, last := w.c.synced()
	return last
}

// Last returns how far the content goes, collected frames included.
func (w *Writer) Last() segments.Position { return w.last }

// Damaged returns what was found wrong with the segment since it was opened, or nil.
func (w *Writer) Damaged() error { return w.d.damageOf(w.seg) }

// Bytes returns how long the segment is: what was written and collected, without the room made ahead.
func (w *Writer) Bytes() int64 { return w.written + w.out.n }

// Pending returns how many frames Commit would make durable.
func (w *Writer) Pending() int { return len(w.pending) }

// ready returns why nothing can be written, or nil.
func (w *Writer) ready() error {
	if err := w.d.Poisoned(); err != nil {
		return err
	}
	if w.closed {
		return ErrClosed
	}
	return nil
}

// Append adds frames to the group. Their bytes must be left alone until Commit. All or none are taken: a frame that does not start right behind the last (*segments.GapError) or has another
// epoch (of class segments.ErrGap) is refused. Checksum and chain are the caller's to check (W1).
//
// vfs.ErrNoSpace means that there is no room and that the whole group was dropped: Last is Synced.
func (w *Writer) Append(frames ...segments.Frame) error {
	if err := w.ready(); err != nil {
		return err
	}
	total, next := int64(segments.MarkSize), w.last.TxID+1
	for _, f := range frames {
		if f.First() != next {
			return &segments.GapError{Got: f.First(), Want: next}
		}
		if f.Epoch() != w.c.header.Epoch {
			return &segments.MismatchError{What: "frame epoch", Got: f.Epoch(), Want: w.c.header.Epoch, Class: segments.ErrGap}
		}
		next, total = f.Last()+1, total+int64(f.Size())
	}
	w.d.dropOld(w.seg, w.f) // now, not right after the sync: an ack leaves then
	if err := w.reserve(total); err != nil {
		return err
	}
	if err := w.zeroAhead(total); err != nil {
		return err
	}
	for _, f := range frames {
		if err := w.collect(f); err != nil {
			return err
		}
	}
	return nil
}

// collect adds a frame to the group. There is room for it in the file.
func (w *Writer) collect(f segments.Frame) error {
	if len(w.pending) == 0 && w.marked != w.last {
		w.addMark()
	}
	if w.out.n > 0 && w.out.n+int64(f.Size()) > int64(w.d.opts.BufferBytes) {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.pending = append(w.pending, segments.IndexEntry{
		TxID: f.First(), Offset: w.written + w.out.n, Prev: w.last.Digest,
	})
	w.last = f.Position()
	w.out.add(f.Bytes())
	return nil
}

// addMark puts a mark in front of the group (N2a): what is before it was synced here.
func (w *Writer) addMark() {
	w.out.put(func(b []byte) []byte {
		return segments.AppendMark(b, w.c.header.Journal, segments.Mark{
			Offset: w.written + w.out.n, Segment: w.c.header.First, Epoch: w.c.header.Epoch, Synced: w.last,
		})
	})
}

// flush writes what was collected.
func (w *Writer) flush() error {
	if w.out.n == 0 {
		return nil
	}
	n, err := w.f.WriteVAt(w.out.pieces, w.written)
	if err == nil && int64(n) != w.out.n {
		err = io.ErrShortWrite
	}
	if err != nil {
		return w.d.poison("write segment", err)
	}
	w.written += w.out.n
	w.out.reset()
	return nil
}

// Commit makes the group durable: one write of mark and frames (more only beyond BufferBytes), one
// sync. Without a group it does nothing.
func (w *Writer) Commit() error {
	if err := w.ready(); err != nil {
		return err
	}
	if len(w.pending) == 0 {
		return nil
	}
	synced := w.Synced() // what the group's mark says
	w.usual += (w.out.n - w.usual) / usualOver
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.f.Sync(); err != nil {
		return w.d.poison("sync segment", err)
	}
	w.marked = synced
	w.publish()
	return nil
}

// publish shows what was synced to readers.
func (w *Writer) publish() {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	for _, e := range w.pending {
		w.c.index.Add(e)
	}
	w.c.frames += uint64(len(w.pending))
	w.d.recent.add(w.seg, w.c.end, w.written)
	w.c.end, w.c.last = w.written, w.last
	w.pending = w.pending[:0]
}

// MarkIdle writes a mark alone, and syncs it, if there is anything above the last one (N2a: when the
// journal was quiet for a while, and at a clean stop). It never goes ahead of a group: where there
// is one it does nothing.
func (w *Writer) MarkIdle() error {
	if err := w.ready(); err != nil {
		return err
	}
	if len(w.pending) > 0 || w.marked == w.last {
		return nil
	}
	if err := w.reserve(segments.MarkSize); err != nil {
		return err
	}
	w.addMark()
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.f.Sync(); err != nil {
		return w.d.poison("sync segment", err)
	}
	w.marked = w.last
	w.publish()
	return nil
}

// reserve makes sure that n bytes more than the group's fit into the file. Where they do not, and
// the disk is full, the group is dropped.
func (w *Writer) reserve(n int64) error {
	need := w.written + w.out.n + n - w.alloc
	if need <= 0 {
		return nil
	}
	need = (need + blockSize - 1) / blockSize * blockSize
	err := w.extend(max(need, w.step))
	if errors.Is(err, vfs.ErrNoSpace) && !errors.Is(err, ErrPoisoned) && need < w.step {
		err = w.extend(need) // what is left may do
	}
	if err == nil {
		w.step = min(2*w.step, w.d.opts.PreallocateBytesMax)
		return nil
	}
	if errors.Is(err, ErrPoisoned) {
		return err
	}
	if derr := w.drop(); derr != nil {
		return derr
	}
	return err
}

// zeroAhead writes zeros where the next groups will go, unless groups are large. The first write to a
// reserved block changes metadata, and the sync after it has a journal of the file system to write, too.
// Zeros pay for that once for many small groups; for large ones they would only be so many more bytes.
func (w *Writer) zeroAhead(n int64) error {
	end := w.written + w.out.n + n // what the group itself writes needs no zeros
	if end <= w.zeroed || w.usual > zeroUpTo {
		return nil
	}
	from := max(w.zeroed, (end+blockSize-1)/blockSize*blockSize)
	to := min(from+zeroWindow, w.alloc)
	switch err := zero(w.f, from, to); {
	case errors.Is(err, vfs.ErrNoSpace):
		// The blocks are reserved, but a file system that writes elsewhere (copy-on-write) needs more. Nothing rests on
		// the zeros, and what was written of them lies beyond the end: none are wanted until the file grows.
		to = w.alloc
	case err != nil:
		return w.d.poison("zero segment", err)
	}
	w.zeroed = max(w.zeroed, to)
	return nil
}

// zeroWindow is how much zeroAhead writes at a time: little, as the next sync waits for it. Groups above zeroUpTo get no zeros.
// usualOver is over how many
// groups their size is averaged.
const (
	zeroWindow = 512 << 10
	zeroUpTo   = 160 << 10
	usualOver  = 8
)

// extend preallocates n bytes. A full disk leaves the file as it was.
func (w *Writer) extend(n int64) error {
	err := w.f.Preallocate(w.alloc, n)
	if err == nil {
		w.alloc += n
		return nil
	}
	if !errors.Is(err, vfs.ErrNoSpace) {
		return w.d.poison("preallocate segment", err)
	}
	size, serr := w.f.Size()
	if serr == nil && size != w.alloc {
		serr = w.f.Truncate(w.alloc)
	}
	if serr != nil {
		return w.d.poison("undo preallocation", serr)
	}
	return fmt.Errorf("store: grow segment %d: %w", w.c.header.First, err)
}

// drop forgets the group. What was written of it already is zeroed, and synced: it must not come
// back after a crash as something that was once said not to be there.
func (w *Writer) drop() error {
	end, last := w.c.synced()
	w.last, w.pending = last, w.pending[:0]
	w.out.reset()
	if w.written == end {
		return nil
	}
	written := w.written
	w.written = end
	if err := zero(w.f, end, written); err != nil {
		return w.d.poison("undo write", err)
	}
	if err := w.f.Sync(); err != nil {
		return w.d.poison("sync segment", err)
	}
	return nil
}

// zeroChunk is how much is zeroed at a time.
const zeroChunk = 256 << 10

// zeros is shared, and only ever read.
var zeros [zeroChunk]byte

// zero overwrites [from, to) with zeros.
func zero(f vfs.File, from, to int64) error {
	for from < to {
		n, err := f.WriteAt(zeros[:min(int64(len(zeros)), to-from)], from)
		if err != nil {
			return err
		}
		from += int64(n)
	}
	return nil
}

// DigestAt is Dir.DigestAt for this segment.
func (w *Writer) DigestAt(txid segments.TxID) (segments.Digest, bool, error) {
	if w.closed {
		return segments.Digest{}, false, ErrClosed
	}
	digest, ok, err := w.c.digestAt(w.f, txid)
	w.d.noteDamage(w.seg, err)
	return digest, ok, err
}

// Finalize closes the segment at end, which must be what it holds, all committed (W8): footer,
// cut to size, sync, rename, sync of the directory. The writer is closed then. A crash anywhere
// leaves the segment in progress with the same content, or finalized.
//
// ErrWrongEnd, vfs.ErrNoSpace and the segment's damage leave all as it was.
func (w *Writer) Finalize(end segments.End) (Info, error) {
	if err := w.ready(); err != nil {
		return Info{}, err
	}
	h := w.c.header
	have := segments.End{First: h.First, Last: w.last.TxID, Digest: w.last.Digest}
	switch {
	case w.d.damageOf(w.seg) != nil:
		return Info{}, w.d.damageOf(w.seg)
	case len(w.pending) > 0:
		return Info{}, fmt.Errorf("%w: %d frames are not committed", ErrWrongEnd, len(w.pending))
	case have != end || end.Last < end.First:
		return Info{}, fmt.Errorf("%w (got %v, want %v)", ErrWrongEnd, end, have)
	}
	foot := segments.Footer{Header: h, End: end, Frames: w.c.frames, Index: w.c.index.Entries()}
	if err := w.reserve(int64(segments.MarkSize + foot.EncodedSize())); err != nil {
		return Info{}, err
	}
	if w.marked != w.last {
		w.addMark() // so that an unfinished finalize knows all of it as synced
	}
	foot.Offset = w.written + w.out.n
	w.out.put(func(b []byte) []byte { return segments.AppendFooter(b, foot) })
	if err := w.seal(); err != nil {
		return Info{}, err
	}
	info, err := w.rename(end, foot.Offset)
	if err != nil {
		return Info{}, err
	}
	w.closed = true
	_ = w.f.Close() // content and name are durable: an error here says nothing about the segment
	return info, nil
}

// seal writes the footer and makes it durable.
func (w *Writer) seal() error {
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.f.Truncate(w.written); err != nil {
		return w.d.poison("cut segment", err)
	}
	if err := w.f.Sync(); err != nil {
		return w.d.poison("sync segment", err)
	}
	return nil
}

// rename gives the file its final name, durably. The content ends at offset contentEnd.
func (w *Writer) rename(end segments.End, contentEnd int64) (Info, error) {
	w.d.moving.Lock()
	defer w.d.moving.Unlock()
	name := segments.Name{Kind: segments.NameFinalized, First: end.First, Last: end.Last}
	if err := w.d.fs.Rename(w.d.path(w.seg.name), w.d.path(name)); err != nil {
		return Info{}, w.d.poison("rename segment", err)
	}
	if err := w.d.fs.SyncDir(w.d.dir); err != nil {
		return Info{}, w.d.poison("sync directory", err)
	}
	w.c.mu.Lock()
	w.c.end = contentEnd
	w.c.mu.Unlock()
	return w.d.finalized(w.seg, end, w.c, w.written), nil
}

// finalized enters that a segment is finalized.
func (d *Dir) finalized(s *segment, end segments.End, c *content, bytes int64) Info {
	d.mu.Lock()
	s.name = segments.Name{Kind: segments.NameFinalized, First: end.First, Last: end.Last}
	s.bytes, s.live = bytes, nil
	d.changes.Add(1)
	d.mu.Unlock()
	d.remember(s, c)
	d.mu.Lock()
	defer d.mu.Unlock()
	return s.info()
}

func (d *Dir) damageOf(s *segment) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return s.err
}

// Close marks what is synced (MarkIdle), drops an uncommitted group and closes the file. The segment
// stays in progress; OpenTail opens it again. A full disk is no error here.
func (w *Writer) Close() error {
	if w.closed {
		return nil
	}
	var err error
	if w.d.Poisoned() == nil {
		if err = w.drop(); err == nil {
			err = w.MarkIdle()
		}
		if errors.Is(err, vfs.ErrNoSpace) {
			err = nil
		}
	}
	w.closed = true
	w.d.mu.Lock()
	w.seg.live = nil
	w.d.mu.Unlock()
	return errors.Join(err, w.f.Close())
}
