package store

import "github.com/quorumjournal/qjm/internal/vfs"

// recent keeps only the newest of what was appended in the page cache. Standbys follow closely, so nobody reads the
// rest before a restart or a repair does; left there, it pushes out what others on the machine need, and each
// append has the kernel find fresh pages, which costs several times the copy where memory is the host's to give.
// Dropped behind the writer, the same few pages go round. It is for the journal's owner.
type recent struct {
	spans []span // oldest first, without overlap
	bytes int64
}

// span is a part of a segment's file.
type span struct {
	seg      *segment
	from, to int64
}

// dropStep is how much is dropped at a time. The kernel drops whole folios only, which are aligned to their size: each
// step begins at a multiple of dropAlign, and so takes along what the one before it left.
// spansMax bounds how many parts are known.
const (
	spansMax  = 64
	dropStep  = 1 << 20
	dropAlign = 8 << 20
)

// add notes that a segment's file was synced up to an offset.
func (r *recent) add(seg *segment, from, to int64) {
	r.bytes += to - from
	if n := len(r.spans); n > 0 && r.spans[n-1].seg == seg && r.spans[n-1].to == from {
		r.spans[n-1].to = to
		return
	}
	if len(r.spans) == spansMax {
		r.bytes -= r.spans[0].to - r.spans[0].from // of segments this small the kernel may keep what it likes
		r.spans = r.spans[1:]
	}
	r.spans = append(r.spans, span{seg, from, to})
}

// excess takes the oldest span, or a part of it, if there is more than keep.
func (r *recent) excess(keep int64) (span, bool) {
	if r.bytes < keep+dropStep {
		return span{}, false
	}
	s := r.spans[0]
	s.to = min(s.to, s.from+max(dropStep, r.bytes-keep))
	r.bytes -= s.to - s.from
	if s.to == r.spans[0].to {
		r.spans = r.spans[1:]
	} else {
		r.spans[0].from = s.to
	}
	return s, true
}

// dropOld drops from the page cache what is not recent any more. live is the file of an open segment.
func (d *Dir) dropOld(seg *segment, live vfs.File) {
	for {
		s, more := d.recent.excess(d.opts.CachedBytes)
		if !more {
			return
		}
		from := s.from / dropAlign * dropAlign
		if s.seg == seg {
			live.DropCache(from, s.to-from)
			continue
		}
		o, err := d.open(s.seg.name.First)
		if err != nil {
			continue // purged, or set aside
		}
		if o.seg == s.seg {
			o.f.DropCache(from, s.to-from)
		}
		_ = o.f.Close() // it was only read
	}
}
