package segments

import "io"

// Verify reads a finalized segment's file of the given size in full and checks it against its
// footer: header, every frame and mark, the chain, the count, the index. It takes memory for one
// frame, and for the index. Wrap r to limit its rate.
//
// A finalized segment has no torn tail: whatever is wrong is a *CorruptionError, with ErrZeroed,
// ErrGap or ErrTorn for its cause where it looks like that, or of class ErrUnsupported.
func Verify(r io.ReaderAt, size int64) (Footer, error) {
	f, err := ReadFooter(r, size)
	if err != nil {
		return Footer{}, err
	}
	h, err := ReadHeader(r, size)
	if err != nil {
		return Footer{}, err
	}
	if h != f.Header {
		return Footer{}, damage(f.End.First, f.Offset, 0, mismatch(ErrCorrupt, "header in the footer", f.Header, h))
	}
	s := NewScanner(r, f.Offset, h, h.StartCursor())
	index, frames := f.Index, uint64(0)
	for prev := h.Start().Digest; s.Next(); prev = s.Position().Digest {
		rec := s.Record()
		if rec.Kind != RecordFrame {
			continue
		}
		frames++
		if len(index) > 0 && index[0] == (IndexEntry{TxID: rec.Frame.First(), Offset: rec.Offset, Prev: prev}) {
			index = index[1:]
		}
	}
	if err := s.WholeTo(f.End.Position()); err != nil {
		return Footer{}, err
	}
	switch {
	case frames != f.Frames:
		err = mismatch(ErrCorrupt, "frames in the segment", frames, f.Frames)
	case len(index) > 0:
		err = mismatch(ErrCorrupt, "index entries without a frame", len(index), 0)
	default:
		return f, nil
	}
	return Footer{}, damage(f.End.First, f.Offset, 0, err)
}

// WholeTo returns nil if the scanner stopped at the end of what it was given and at position end.
// Anything else is damage there: for content that is known to be whole, a finalized segment or one
// up to its synced end, no other way to stop is lawful.
func (s *Scanner) WholeTo(end Position) error {
	cause := s.cause
	switch {
	case s.stop == StopEnd && s.pos == end:
		return nil
	case s.stop == StopEnd:
		cause = mismatch(ErrCorrupt, "end of the segment", s.pos, end)
	case s.stop == StopPadding:
		cause = mismatch(ErrZeroed, "record", "zeros", "a frame")
	case s.stop == StopFooter:
		cause = mismatch(ErrCorrupt, "record", "a footer", "a frame")
	}
	return damage(s.h.First, s.off, s.pos.TxID+1, cause)
}
