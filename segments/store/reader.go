package store

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/segments"
)

// content is what may be read of a copy: all of a finalized one, the synced part of one in progress
// (D2). The writer publishes here after each sync; readers keep it for as long as they like.
type content struct {
	header segments.Header

	mu     sync.Mutex // guards what follows; held for moments only
	index  segments.Index
	end    int64 // the end of the synced records
	last   segments.Position
	frames uint64
}

// synced returns how far the content may be read.
func (c *content) synced() (end int64, last segments.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end, c.last
}

// find returns where to start reading so as to meet the frame with txid.
func (c *content) find(txid segments.TxID) segments.Cursor {
	c.mu.Lock()
	defer c.mu.Unlock()
	if txid == c.last.TxID+1 { // the end: for those who follow
		return segments.Cursor{Offset: c.end, Before: c.last}
	}
	if e, ok := c.index.Find(txid); ok {
		return e.Cursor()
	}
	return c.header.StartCursor()
}

// view is a copy opened for reading.
type view struct {
	f   vfs.File
	seg *segment
	c   *content
}

// view opens a segment for reading. It reads the footer of a finalized segment, unless that is in
// memory. Damage makes the segment Damaged.
func (d *Dir) view(first segments.TxID) (view, error) {
	o, err := d.open(first)
	if err != nil {
		return view{}, err
	}
	v := view{f: o.f, seg: o.seg, c: o.live}
	switch {
	case o.err != nil:
		err = o.err
	case o.live == nil && o.name.Kind != segments.NameFinalized:
		err = fmt.Errorf("%w: %d", ErrNotOpen, first)
	case o.live == nil:
		v.c, err = d.finalizedContent(o)
	}
	if err != nil {
		return view{}, errors.Join(err, o.f.Close())
	}
	return v, nil
}

// finalizedContent returns the content of a finalized copy, by its footer.
func (d *Dir) finalizedContent(o opened) (*content, error) {
	if c := d.lookup(o.name); c != nil {
		return c, nil
	}
	foot, err := d.readFooter(o)
	if err != nil {
		return nil, err
	}
	c := newContent(foot)
	d.remember(o.seg, c)
	return c, nil
}

func newContent(foot segments.Footer) *content {
	c := &content{header: foot.Header, end: foot.Offset, last: foot.End.Position(), frames: foot.Frames}
	for _, e := range foot.Index {
		c.index.Add(e)
	}
	return c
}

// lookup returns the cached content of a finalized copy, or nil.
func (d *Dir) lookup(n segments.Name) *content {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, e := range d.cached {
		if e.name == n {
			copy(d.cached[i:], d.cached[i+1:])
			d.cached[len(d.cached)-1] = e
			return e.c
		}
	}
	return nil
}

// remember caches the content of a finalized copy and what Info wants of it.
func (d *Dir) remember(s *segment, c *content) {
	_, last := c.synced()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.segs[s.name.First] != s {
		return
	}
	s.learnFooter(c.header, segments.End{First: s.name.First, Last: last.TxID, Digest: last.Digest})
	if d.uncache(s.name); len(d.cached) >= d.opts.FootersCached {
		d.cached = d.cached[1:]
	}
	d.cached = append(d.cached, &cachedContent{s.name, c})
}

// Reader streams the frames of one segment in order, verbatim. It is for one goroutine.
type Reader struct {
	d      *Dir
	v      view
	from   segments.TxID
	s      *segments.Scanner
	before segments.Position // of the frame that Next returned last
	end    int64             // what the scanner was given
	err    error
}

// Reader returns a reader of segment first that begins with the frame that holds from. Of a segment
// in progress it shows what was synced when Next is called (D2), so after io.EOF there may be more
// later; from may lie ahead. It goes on reading its copy when that is finalized, or set aside.
//
// The errors are ErrNotFound, ErrNotOpen, or the segment's damage.
func (d *Dir) Reader(first, from segments.TxID) (*Reader, error) {
	v, err := d.view(first)
	if err != nil {
		return nil, err
	}
	r := &Reader{d: d, v: v, from: from}
	at := v.c.find(from)
	// Taken after find, so that it is not behind the cursor.
	r.end, _ = v.c.synced()
	r.s = segments.NewScanner(v.f, r.end, v.c.header, at)
	return r, nil
}

// Header returns the header of the segment that is read.
func (r *Reader) Header() segments.Header { return r.v.c.header }

// Next returns the next frame, verified: checksum, epoch, continuity and chain. The frame is valid
// until the next call. io.EOF means that there is no more now. A *CorruptionError is final, and the
// segment is Damaged from then on (D3).
func (r *Reader) Next() (segments.Frame, error) {
	for r.err == nil {
		before := r.s.Position()
		if r.s.Next() {
			if rec := r.s.Record(); rec.Kind == segments.RecordFrame && rec.Frame.Last() >= r.from {
				r.before = before
				return rec.Frame, nil
			}
			continue
		}
		if !r.more() {
			return segments.Frame{}, io.EOF
		}
	}
	return segments.Frame{}, r.err
}

// more looks at why the scanner stopped, and reports whether to go on.
func (r *Reader) more() bool {
	want := r.s.Position()
	if why, _ := r.s.Stopped(); why == segments.StopEnd {
		end, last := r.v.c.synced()
		if end > r.end {
			r.end = end
			r.s.Extend(end)
			return true
		}
		want = last
	}
	if r.err = r.s.WholeTo(want); r.err == nil {
		return false
	}
	r.d.noteDamage(r.v.seg, r.err)
	return true
}

// Before returns the position before the frame that Next returned last. Where Next will go on cannot be
// told before it is called: it may have frames to skip, up to the one that holds from.
func (r *Reader) Before() segments.Position { return r.before }

// Close releases the file.
func (r *Reader) Close() error {
	if r.err == nil {
		r.err = ErrClosed
	}
	return r.v.f.Close()
}

// DigestAt returns the chain digest at txid, if a frame of the segment ends there, and whether one
// does. The txid before the segment's first counts as such an end. Of a segment in progress only
// synced content counts. It reads at most about one index spacing of the file.
func (d *Dir) DigestAt(first, txid segments.TxID) (segments.Digest, bool, error) {
	v, err := d.view(first)
	if err != nil {
		return segments.Digest{}, false, err
	}
	defer func() { _ = v.f.Close() }()
	digest, ok, err := v.c.digestAt(v.f, txid)
	d.noteDamage(v.seg, err)
	return digest, ok, err
}

func (c *content) digestAt(f io.ReaderAt, txid segments.TxID) (segments.Digest, bool, error) {
	end, last := c.synced()
	switch {
	case txid == c.header.First-1:
		return c.header.Prev.Digest, true, nil
	case txid < c.header.First || txid > last.TxID:
		return segments.Digest{}, false, nil
	case txid == last.TxID:
		return last.Digest, true, nil
	}
	s := segments.NewScanner(f, end, c.header, c.find(txid))
	for s.Next() {
		switch pos := s.Position(); {
		case pos.TxID == txid:
			return pos.Digest, true, nil
		case pos.TxID > txid: // inside a frame
			return segments.Digest{}, false, nil
		}
	}
	return segments.Digest{}, false, s.WholeTo(last)
}

// CopyPrefix appends the frames of segment first up to upTo, where a frame must end (ErrWrongEnd),
// to an incoming copy. What the copy holds already must be a prefix, and is not read again.
func (d *Dir) CopyPrefix(first, upTo segments.TxID, into *Incoming) error {
	have := into.Position()
	digest, ok, err := d.DigestAt(first, have.TxID)
	switch {
	case err != nil:
		return err
	case !ok || digest != have.Digest:
		return fmt.Errorf("%w: copy of segment %d at %v (got %v, want %v)", ErrWrongEnd, first, have.TxID, have.Digest, digest)
	}
	r, err := d.Reader(first, have.TxID+1)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	for into.Position().TxID < upTo {
		f, err := r.Next()
		if err == io.EOF { //nolint:errorlint // Next says io.EOF itself
			return fmt.Errorf("%w: segment %d (got %v, want %v)", ErrWrongEnd, first, into.Position().TxID, upTo)
		}
		if err != nil {
			return err
		}
		if f.Last() > upTo {
			return fmt.Errorf("%w: segment %d, no frame ends at %v (got %v)", ErrWrongEnd, first, upTo, f.Range())
		}
		if err := into.Append(f); err != nil {
			return err
		}
	}
	return nil
}
