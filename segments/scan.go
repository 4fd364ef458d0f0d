package segments

import (
	"bytes"
	"errors"
	"io"
)

// RecordKind tells the records of a segment file apart.
type RecordKind uint8

// The kinds of records between a segment's header and its end.
const (
	RecordFrame RecordKind = iota + 1
	RecordMark
)

// Record is one record of a segment file.
type Record struct {
	Kind   RecordKind
	Offset int64
	Frame  Frame // RecordFrame; valid until the scanner's next Next
	Mark   Mark  // RecordMark
}

// Size returns the record's length in the file.
func (r Record) Size() int64 {
	if r.Kind == RecordMark {
		return MarkSize
	}
	return int64(r.Frame.Size())
}

// Stop says why a scan went no further.
type Stop uint8

const (
	// StopNone: it has not stopped.
	StopNone Stop = iota
	// StopEnd: the file ends where a record ends.
	StopEnd
	// StopPadding: nothing but zeros to the end of the file, the rest of a preallocation.
	StopPadding
	// StopTorn: an unreadable record, above the highest synced mark.
	StopTorn
	// StopCorrupt: an unreadable record at or below the highest synced mark, a mark that contradicts
	// the frames before it, an unreadable header, or a read error.
	StopCorrupt
	// StopGap: a whole frame that does not continue what is before it. No crash leaves that behind,
	// so it is damage wherever it is.
	StopGap
	// StopUnsupported: a whole record of a later version.
	StopUnsupported
	// StopFooter: the footer of a finalized segment, or of a finalization that was cut off.
	StopFooter
)

var stopNames = [...]string{"none", "end", "padding", "torn", "corrupt", "gap", "unsupported", "footer"}

// String returns the reason in one word.
func (s Stop) String() string {
	if int(s) < len(stopNames) {
		return stopNames[s]
	}
	return "invalid"
}

// Cursor is a place in a segment file where a record starts, and the position before it.
type Cursor struct {
	Offset int64
	Before Position
}

// StartCursor returns the place of a segment's first record.
func (h Header) StartCursor() Cursor { return Cursor{Offset: HeaderSize, Before: h.Start()} }

// Cursor returns the place of the frame that the entry names.
func (e IndexEntry) Cursor() Cursor {
	return Cursor{Offset: e.Offset, Before: Position{e.TxID - 1, e.Prev}}
}

// scanWindow is how much a scanner reads at a time; a longer frame gets a buffer of its own length,
// at most MaxFrameSize.
const scanWindow = 128 << 10

// Scanner yields the records of a segment file in order and verifies each: checksum, epoch, txids
// without gap, chain digest; marks against the frames before them.
type Scanner struct {
	r    io.ReaderAt
	size int64
	h    Header

	off int64    // where the next record starts
	pos Position // the end of the last frame
	rec Record

	buf    []byte // file content from bufOff
	bufOff int64

	stop  Stop
	cause error
}

// NewScanner returns a scanner of the first size bytes of a file with header h, from at on.
func NewScanner(r io.ReaderAt, size int64, h Header, at Cursor) *Scanner {
	return &Scanner{r: r, size: size, h: h, off: at.Offset, pos: at.Before}
}

// Next goes on to the next record. It returns false where there is none; Stopped says why.
func (s *Scanner) Next() bool {
	if s.stop != StopNone {
		return false
	}
	if s.off >= s.size {
		s.stop = StopEnd
		return false
	}
	head, err := s.peek(FrameHeaderSize)
	if err != nil {
		return s.stopAt(StopCorrupt, err)
	}
	switch {
	case bytes.HasPrefix(head, []byte(frameMagic)):
		return s.nextFrame()
	case bytes.HasPrefix(head, []byte(markMagic)):
		return s.nextMark()
	case bytes.HasPrefix(head, []byte(footerMagic)):
		return s.atFooter()
	}
	return s.atNothing(head)
}

// Record returns the record that Next went to.
func (s *Scanner) Record() Record { return s.rec }

// Offset returns where the record after the last one starts.
func (s *Scanner) Offset() int64 { return s.off }

// Position returns the end of the last frame.
func (s *Scanner) Position() Position { return s.pos }

// Stopped says why Next returned false, and what was found there; the error is nil for StopEnd,
// StopPadding and StopFooter. A scanner sees no further than the unreadable record, so it says
// StopTorn; only Scan, which looks for marks behind it, can tell that from StopCorrupt.
func (s *Scanner) Stopped() (Stop, error) { return s.stop, s.cause }

// Extend lets a scanner that stopped at the end go on in a file that has grown.
func (s *Scanner) Extend(size int64) {
	if s.stop == StopEnd && size > s.size {
		s.size, s.stop = size, StopNone
	}
}

func (s *Scanner) stopAt(why Stop, cause error) bool {
	s.stop, s.cause = why, cause
	return false
}

// unreadable stops at a record that is not whole, or of a later version.
func (s *Scanner) unreadable(err error) bool {
	if isUnsupported(err) {
		return s.stopAt(StopUnsupported, err)
	}
	return s.stopAt(StopTorn, err)
}

func (s *Scanner) nextFrame() bool {
	head, err := s.peek(FrameHeaderSize)
	if err != nil {
		return s.stopAt(StopCorrupt, err)
	}
	h, err := ParseFrameHeader(head)
	later := err != nil && isUnsupported(err)
	if err != nil && !later {
		return s.unreadable(err)
	}
	if h.PayloadLen > MaxFramePayload {
		return s.unreadable(mismatch(ErrCorrupt, "frame payload length", h.PayloadLen, MaxFramePayload))
	}
	raw, rerr := s.peek(h.Size())
	switch {
	case rerr != nil:
		return s.stopAt(StopCorrupt, rerr)
	case len(raw) < h.Size():
		return s.unreadable(mismatch(ErrTorn, "frame length", len(raw), h.Size()))
	}
	f := Frame{raw: raw[:h.Size():h.Size()], h: h}
	if cerr := f.VerifyChecksum(); cerr != nil { // also of a later version: see frameOffVersion
		return s.unreadable(cerr)
	}
	if later {
		return s.unreadable(err)
	}
	if err := CheckNext(f, s.h, s.pos); err != nil {
		return s.stopAt(StopGap, err)
	}
	s.rec = Record{Kind: RecordFrame, Offset: s.off, Frame: f}
	s.off += int64(f.Size())
	s.pos = f.Position()
	return true
}

// CheckNext checks that f is the frame that follows pos in the segment with header h (rule W1: the
// segment's epoch, no gap, the chain goes on). The checksum is not looked at. The error is of class
// ErrGap.
func CheckNext(f Frame, h Header, pos Position) error {
	if f.First() != pos.TxID+1 {
		return &GapError{Got: f.First(), Want: pos.TxID + 1}
	}
	if f.Epoch() != h.Epoch {
		return mismatch(ErrGap, "frame epoch", f.Epoch(), h.Epoch)
	}
	return f.VerifyChain(pos.Digest)
}

func (s *Scanner) nextMark() bool {
	b, err := s.peek(MarkSize)
	if err != nil {
		return s.stopAt(StopCorrupt, err)
	}
	m, err := ParseMark(b, s.h, s.off)
	if err != nil {
		return s.unreadable(err)
	}
	if m.Synced != s.pos {
		// What a mark names was synced right before it. Another position means that frames are
		// missing or were exchanged.
		return s.stopAt(StopCorrupt, mismatch(ErrCorrupt, "synced mark", m.Synced, s.pos))
	}
	s.rec = Record{Kind: RecordMark, Offset: s.off, Mark: m}
	s.off += MarkSize
	return true
}

// atFooter stops at a footer. Its head alone is enough to know it by: the rest may be torn when the
// machine stopped while finalizing, and frames never follow a footer.
func (s *Scanner) atFooter() bool {
	b, err := s.peek(FooterHeadSize)
	if err != nil {
		return s.stopAt(StopCorrupt, err)
	}
	f, _, err := parseFooterHead(b, s.off)
	if err != nil {
		return s.unreadable(err)
	}
	if f.Header != s.h || f.End.Position() != s.pos {
		return s.stopAt(StopCorrupt, mismatch(ErrCorrupt, "end in the footer", f.End, s.pos))
	}
	return s.stopAt(StopFooter, nil)
}

// atNothing stops where no record starts.
func (s *Scanner) atNothing(head []byte) bool {
	if !allZero(head) {
		return s.unreadable(mismatch(ErrCorrupt, "record magic", head[:min(4, len(head))], "a record"))
	}
	zeros, err := zerosUpTo(s.r, s.off, s.size)
	switch {
	case err != nil:
		return s.stopAt(StopCorrupt, err)
	case zeros < s.size:
		return s.unreadable(mismatch(ErrZeroed, "end of zeros", zeros, s.size))
	}
	return s.stopAt(StopPadding, nil)
}

// peek returns n bytes from the current offset, fewer only at the end of the file.
func (s *Scanner) peek(n int) ([]byte, error) {
	n = int(min(int64(n), s.size-s.off))
	if s.off >= s.bufOff && s.off+int64(n) <= s.bufOff+int64(len(s.buf)) {
		return s.buf[s.off-s.bufOff:][:n], nil
	}
	want := int(min(int64(max(n, scanWindow)), s.size-s.off))
	if cap(s.buf) < want {
		s.buf = make([]byte, want)
	}
	s.buf, s.bufOff = s.buf[:want], s.off
	if err := readFull(s.r, s.buf, s.off); err != nil {
		s.buf = s.buf[:0]
		return nil, err
	}
	return s.buf[:n], nil
}

// ScanOptions are the choices of a scan.
type ScanOptions struct {
	// Each, if not nil, is called for each valid record in order; its first error ends the scan with
	// StopCorrupt and that error as Result.Err.
	Each func(Record) error
}

// Result is what a scan found.
type Result struct {
	Header Header

	Last      Position // the last valid position; Header.Start() where there is no frame
	EndOffset int64    // the end of the last valid record
	Frames    uint64
	Index     Index

	// Marked is the highest valid synced mark in the whole file, also behind StopOffset;
	// Header.Start() where there is none. MarkOffset is where the scan met it, and where the frames
	// above it start; it is the first record's offset where there is none.
	Marked     Position
	MarkOffset int64

	Stop   Stop
	Footer *Footer // StopFooter, if the footer is whole and ends the file

	// Err is nil for StopEnd, StopPadding and StopFooter, a *TornError for StopTorn, of class
	// ErrUnsupported for StopUnsupported, else a *CorruptionError.
	Err error
}

// Scan reads a segment file of the given size from its header on, verifies all of it, and says how
// far it is good and why it is not any further (rule N2a). It takes memory for one frame, and for
// the index. It never fails: what it could not read is in the result.
func Scan(r io.ReaderAt, size int64, opts ScanOptions) Result {
	var res Result
	h, err := ReadHeader(r, size)
	if err != nil {
		res.Stop, res.Err = StopCorrupt, err
		if !errors.Is(err, ErrCorrupt) {
			res.Stop = StopUnsupported
		}
		return res
	}
	res.Header, res.Marked, res.MarkOffset = h, h.Start(), HeaderSize
	s := NewScanner(r, size, h, h.StartCursor())
	for prev := h.Prev.Digest; s.Next(); prev = s.Position().Digest {
		rec := s.Record()
		if rec.Kind == RecordMark {
			res.Marked, res.MarkOffset = rec.Mark.Synced, rec.Offset
		} else {
			res.Frames++
			res.Index.Add(IndexEntry{TxID: rec.Frame.First(), Offset: rec.Offset, Prev: prev})
		}
		if opts.Each == nil {
			continue
		}
		if err := opts.Each(rec); err != nil {
			s.stopAt(StopCorrupt, err)
			break
		}
	}
	res.Last, res.EndOffset = s.Position(), s.Offset()
	res.finish(s)
	return res
}

// finish decides what the place where the scanner stopped means.
func (res *Result) finish(s *Scanner) {
	var cause error
	res.Stop, cause = s.Stopped()
	switch res.Stop {
	case StopEnd, StopPadding:
		return
	case StopFooter:
		if f, err := ReadFooter(s.r, s.size); err == nil && f.Offset == res.EndOffset {
			res.Footer = &f
		}
		return
	case StopUnsupported:
		res.Err = cause
		return
	case StopTorn:
		m, found, err := findMarks(s.r, res.EndOffset, s.size, s.h)
		switch {
		case err != nil:
			cause = err
		case found && (m.Synced.TxID > res.Last.TxID || m.Synced.TxID == res.Last.TxID && m.Synced != res.Last):
			res.Marked = m.Synced
		default:
			res.Err = &TornError{Segment: s.h.First, Offset: res.EndOffset, After: res.Last, Cause: cause}
			return
		}
		res.Stop = StopCorrupt
	}
	res.Err = &CorruptionError{Segment: s.h.First, Offset: res.EndOffset, TxID: res.Last.TxID + 1, Err: cause}
}

// ReadHeader reads and verifies the header of a segment file of the given size. The error is a
// *CorruptionError or of class ErrUnsupported.
func ReadHeader(r io.ReaderAt, size int64) (Header, error) {
	b := make([]byte, max(0, min(size, HeaderSize)))
	if err := readFull(r, b, 0); err != nil {
		return Header{}, damage(0, 0, 0, err)
	}
	h, err := ParseHeader(b)
	if err != nil {
		return Header{}, damage(0, 0, 0, err)
	}
	return h, nil
}

// searchChunk is how much is read at a time while searching a file.
const searchChunk = 256 << 10

// findMarks searches [from, size) for synced marks, at any offset, and returns the highest.
func findMarks(r io.ReaderAt, from, size int64, h Header) (highest Mark, found bool, err error) {
	if from >= size {
		return highest, false, nil
	}
	buf := make([]byte, min(searchChunk, size-from))
	for off := from; size-off >= MarkSize; {
		b := buf[:min(int64(len(buf)), size-off)]
		if err := readFull(r, b, off); err != nil {
			return highest, found, err
		}
		for i := 0; ; i++ {
			j := bytes.Index(b[i:], []byte(markMagic))
			if j < 0 {
				break
			}
			i += j
			if m, err := ParseMark(b[i:], h, off+int64(i)); err == nil && (!found || m.Synced.TxID > highest.Synced.TxID) {
				highest, found = m, true
			}
		}
		if int64(len(b)) == size-off {
			break
		}
		off += int64(len(b)) - (MarkSize - 1) // a mark may lie across two chunks
	}
	return highest, found, nil
}

// zerosUpTo returns where the zeros that start at off end, at most size.
func zerosUpTo(r io.ReaderAt, off, size int64) (int64, error) {
	buf := make([]byte, max(0, min(searchChunk, size-off)))
	for off < size {
		b := buf[:min(int64(len(buf)), size-off)]
		if err := readFull(r, b, off); err != nil {
			return off, err
		}
		if !allZero(b) {
			for b[0] == 0 {
				b, off = b[1:], off+1
			}
			return off, nil
		}
		off += int64(len(b))
	}
	return size, nil
}
