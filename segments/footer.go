package segments

import (
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/quorumjournal/qjm/fencing"
)

const (
	// FooterHeadSize is the fixed part of a footer, in front of the index.
	FooterHeadSize = 128
	// TrailerSize is the fixed-size end of a finalized segment's file.
	TrailerSize = 32
	// IndexEntrySize is the size of an encoded index entry.
	IndexEntrySize = 32
	// MaxFooterSize bounds a footer: head, index and trailer.
	MaxFooterSize = FooterHeadSize + MaxIndexEntries*IndexEntrySize + TrailerSize
)

const (
	footerMagic   = "QJMI"
	footerVersion = 1

	footerOffVersion  = 4
	footerOffOffset   = 8
	footerOffFirst    = 16
	footerOffLast     = 24
	footerOffDigest   = 32
	footerOffEpoch    = 48
	footerOffFrames   = 56
	footerOffPrev     = 64
	footerOffJournal  = 96
	footerOffEntries  = 112
	footerOffZero     = 116
	footerOffIndexCRC = 120
	footerOffCRC      = 124

	trailerMagic      = "QJME"
	trailerOffVersion = 4
	trailerOffLen     = 8
	trailerOffOffset  = 16
	trailerOffZero    = 24
	trailerOffCRC     = 28
)

// Footer closes a finalized segment. It repeats what the file's header says, so that one read at the
// end of the file tells all about the segment.
type Footer struct {
	Header Header
	End    End    // the decision: first, last, digest
	Frames uint64 // frames in the segment
	Offset int64  // where the footer starts: the end of frames and marks
	Index  []IndexEntry
}

// EncodedSize returns the size of the footer with index and trailer, in bytes.
func (f Footer) EncodedSize() int {
	return FooterHeadSize + len(f.Index)*IndexEntrySize + TrailerSize
}

// Validate checks what must hold for every footer; the error is of class ErrCorrupt.
func (f Footer) Validate() error {
	if err := f.validateHead(); err != nil {
		return err
	}
	if len(f.Index) == 0 || len(f.Index) > MaxIndexEntries {
		return mismatch(ErrCorrupt, "footer index entries", len(f.Index), MaxIndexEntries)
	}
	if f.Index[0].TxID != f.End.First {
		return mismatch(ErrCorrupt, "first txid in the index", f.Index[0].TxID, f.End.First)
	}
	lastID, lastOff := TxID(0), int64(HeaderSize-1)
	for _, e := range f.Index {
		if e.TxID <= lastID || e.TxID > f.End.Last || e.Offset <= lastOff || e.Offset > f.Offset-FrameHeaderSize {
			return mismatch(ErrCorrupt, "index entry", e, "one that lies behind the entry before, in the segment")
		}
		lastID, lastOff = e.TxID, e.Offset
	}
	return nil
}

func (f Footer) validateHead() error {
	switch err := f.Header.Validate(); {
	case err != nil:
		return err
	case f.End.First != f.Header.First:
		return mismatch(ErrCorrupt, "footer first txid", f.End.First, f.Header.First)
	case f.End.Last < f.End.First || f.End.Last+1 == 0:
		return mismatch(ErrCorrupt, "footer last txid", f.End.Last, f.End.First)
	case f.Frames == 0 || f.Frames-1 > uint64(f.End.Last-f.End.First):
		return mismatch(ErrCorrupt, "footer frame count", f.Frames, uint64(f.End.Last-f.End.First)+1)
	case f.Offset < HeaderSize+FrameHeaderSize || f.Offset > 1<<62:
		return mismatch(ErrCorrupt, "footer offset", f.Offset, HeaderSize+FrameHeaderSize)
	}
	return nil
}

// AppendFooter appends head, index and trailer. f must be valid.
func AppendFooter(dst []byte, f Footer) []byte {
	n := len(dst)
	dst = append(dst, make([]byte, f.EncodedSize())...)
	b := dst[n:]
	index := b[FooterHeadSize : len(b)-TrailerSize]
	for i, e := range f.Index {
		p := index[i*IndexEntrySize:]
		binary.LittleEndian.PutUint64(p, uint64(e.TxID))
		binary.LittleEndian.PutUint64(p[8:], uint64(e.Offset))
		copy(p[16:IndexEntrySize], e.Prev[:])
	}
	copy(b, footerMagic)
	binary.LittleEndian.PutUint32(b[footerOffVersion:], footerVersion)
	binary.LittleEndian.PutUint64(b[footerOffOffset:], uint64(f.Offset))
	binary.LittleEndian.PutUint64(b[footerOffFirst:], uint64(f.End.First))
	binary.LittleEndian.PutUint64(b[footerOffLast:], uint64(f.End.Last))
	copy(b[footerOffDigest:], f.End.Digest[:])
	binary.LittleEndian.PutUint64(b[footerOffEpoch:], uint64(f.Header.Epoch))
	binary.LittleEndian.PutUint64(b[footerOffFrames:], f.Frames)
	putEnd(b[footerOffPrev:], f.Header.Prev)
	copy(b[footerOffJournal:], f.Header.Journal[:])
	binary.LittleEndian.PutUint32(b[footerOffEntries:], uint32(len(f.Index)))
	binary.LittleEndian.PutUint32(b[footerOffIndexCRC:], crc32.Checksum(index, castagnoli))
	binary.LittleEndian.PutUint32(b[footerOffCRC:], crc32.Checksum(b[:footerOffCRC], castagnoli))

	t := b[len(b)-TrailerSize:]
	copy(t, trailerMagic)
	binary.LittleEndian.PutUint32(t[trailerOffVersion:], footerVersion)
	binary.LittleEndian.PutUint64(t[trailerOffLen:], uint64(len(b)))
	binary.LittleEndian.PutUint64(t[trailerOffOffset:], uint64(f.Offset))
	binary.LittleEndian.PutUint32(t[trailerOffCRC:], crc32.Checksum(t[:trailerOffCRC], castagnoli))
	return dst
}

// parseFooterHead decodes and verifies the head of a footer, without its index. entries is how many
// the index has.
func parseFooterHead(b []byte, offset int64) (f Footer, entries int, err error) {
	if len(b) < FooterHeadSize {
		return f, 0, mismatch(ErrTorn, "footer length", len(b), FooterHeadSize)
	}
	b = b[:FooterHeadSize]
	if string(b[:4]) != footerMagic {
		class := ErrCorrupt
		if allZero(b) {
			class = ErrZeroed
		}
		return f, 0, mismatch(class, "footer magic", string(b[:4]), footerMagic)
	}
	if got, want := crc32.Checksum(b[:footerOffCRC], castagnoli), binary.LittleEndian.Uint32(b[footerOffCRC:]); got != want {
		return f, 0, mismatch(ErrCorrupt, "footer checksum", got, want)
	}
	if v := binary.LittleEndian.Uint32(b[footerOffVersion:]); v != footerVersion {
		return f, 0, mismatch(ErrUnsupported, "footer version", v, footerVersion)
	}
	f.Header.First = TxID(binary.LittleEndian.Uint64(b[footerOffFirst:]))
	f.Header.Epoch = fencing.Epoch(binary.LittleEndian.Uint64(b[footerOffEpoch:]))
	f.Header.Prev = getEnd(b[footerOffPrev:])
	copy(f.Header.Journal[:], b[footerOffJournal:])
	f.End = End{First: f.Header.First, Last: TxID(binary.LittleEndian.Uint64(b[footerOffLast:]))}
	copy(f.End.Digest[:], b[footerOffDigest:])
	f.Frames = binary.LittleEndian.Uint64(b[footerOffFrames:])
	f.Offset = int64(binary.LittleEndian.Uint64(b[footerOffOffset:]))
	n := binary.LittleEndian.Uint32(b[footerOffEntries:])
	switch {
	case f.Offset != offset:
		err = mismatch(ErrCorrupt, "footer's own offset", f.Offset, offset)
	case n == 0 || n > MaxIndexEntries:
		err = mismatch(ErrCorrupt, "footer index entries", n, MaxIndexEntries)
	case binary.LittleEndian.Uint32(b[footerOffZero:]) != 0:
		err = mismatch(ErrCorrupt, "footer reserved bytes", "other", "zeros")
	default:
		err = f.validateHead()
	}
	return f, int(n), err
}

// ParseFooter decodes and verifies the footer that b is, from its head to its trailer, as it stands
// at offset in the file. Errors are of class ErrTorn, ErrZeroed, ErrUnsupported or ErrCorrupt.
func ParseFooter(b []byte, offset int64) (Footer, error) {
	f, n, err := parseFooterHead(b, offset)
	if err != nil {
		return Footer{}, err
	}
	f.Index = nil
	if want := FooterHeadSize + n*IndexEntrySize + TrailerSize; len(b) != want {
		class := ErrCorrupt
		if len(b) < want {
			class = ErrTorn
		}
		return Footer{}, mismatch(class, "footer length", len(b), want)
	}
	length, off, err := parseTrailer(b[len(b)-TrailerSize:])
	if err != nil {
		return Footer{}, err
	}
	if length != int64(len(b)) || off != offset {
		return Footer{}, mismatch(ErrCorrupt, "trailer's footer length", length, len(b))
	}
	index := b[FooterHeadSize : len(b)-TrailerSize]
	if got, want := crc32.Checksum(index, castagnoli), binary.LittleEndian.Uint32(b[footerOffIndexCRC:]); got != want {
		return Footer{}, mismatch(ErrCorrupt, "footer index checksum", got, want)
	}
	f.Index = make([]IndexEntry, n)
	for i := range f.Index {
		p := index[i*IndexEntrySize:]
		e := &f.Index[i]
		e.TxID = TxID(binary.LittleEndian.Uint64(p))
		e.Offset = int64(binary.LittleEndian.Uint64(p[8:]))
		copy(e.Prev[:], p[16:IndexEntrySize])
	}
	if err := f.Validate(); err != nil {
		return Footer{}, err
	}
	return f, nil
}

// parseTrailer decodes and verifies the last TrailerSize bytes of a finalized file.
func parseTrailer(t []byte) (length, offset int64, err error) {
	if string(t[:4]) != trailerMagic {
		if allZero(t) {
			return 0, 0, mismatch(ErrZeroed, "trailer magic", "zeros", trailerMagic)
		}
		return 0, 0, mismatch(ErrCorrupt, "trailer magic", string(t[:4]), trailerMagic)
	}
	if got, want := crc32.Checksum(t[:trailerOffCRC], castagnoli), binary.LittleEndian.Uint32(t[trailerOffCRC:]); got != want {
		return 0, 0, mismatch(ErrCorrupt, "trailer checksum", got, want)
	}
	if v := binary.LittleEndian.Uint32(t[trailerOffVersion:]); v != footerVersion {
		return 0, 0, mismatch(ErrUnsupported, "trailer version", v, footerVersion)
	}
	length = int64(binary.LittleEndian.Uint64(t[trailerOffLen:]))
	offset = int64(binary.LittleEndian.Uint64(t[trailerOffOffset:]))
	switch {
	case length < FooterHeadSize+IndexEntrySize+TrailerSize || length > MaxFooterSize:
		return 0, 0, mismatch(ErrCorrupt, "trailer's footer length", length, MaxFooterSize)
	case offset < HeaderSize+FrameHeaderSize || offset > 1<<62:
		return 0, 0, mismatch(ErrCorrupt, "trailer's footer offset", offset, HeaderSize+FrameHeaderSize)
	case binary.LittleEndian.Uint32(t[trailerOffZero:]) != 0:
		return 0, 0, mismatch(ErrCorrupt, "trailer's reserved bytes", "other", "zeros")
	}
	return length, offset, nil
}

// footerReadAhead is what ReadFooter reads at first: most footers are in it.
const footerReadAhead = 4096

// ReadFooter reads and verifies the footer of a finalized segment's file of the given size, without
// looking at its frames. It reads the end of the file once, twice where the index is long. Errors
// are a *CorruptionError or of class ErrUnsupported.
func ReadFooter(r io.ReaderAt, size int64) (Footer, error) {
	if size < HeaderSize+FrameHeaderSize+FooterHeadSize+TrailerSize {
		return Footer{}, damage(0, size, 0, mismatch(ErrTorn, "size of a finalized segment", size, "a footer at least"))
	}
	tail := make([]byte, min(size, footerReadAhead))
	if err := readFull(r, tail, size-int64(len(tail))); err != nil {
		return Footer{}, damage(0, size-int64(len(tail)), 0, err)
	}
	length, offset, err := parseTrailer(tail[len(tail)-TrailerSize:])
	if err != nil {
		return Footer{}, damage(0, size-TrailerSize, 0, err)
	}
	if offset != size-length {
		return Footer{}, damage(0, size-TrailerSize, 0, mismatch(ErrTorn, "size of a finalized segment", size, offset+length))
	}
	if length > int64(len(tail)) {
		tail = make([]byte, length)
		if err := readFull(r, tail, offset); err != nil {
			return Footer{}, damage(0, offset, 0, err)
		}
	}
	f, err := ParseFooter(tail[int64(len(tail))-length:], offset)
	if err != nil {
		return Footer{}, damage(0, offset, 0, err)
	}
	return f, nil
}

// damage wraps err as a *CorruptionError, unless it is of class ErrUnsupported: a later version is
// no damage.
func damage(segment TxID, offset int64, txid TxID, err error) error {
	if isUnsupported(err) {
		return err
	}
	return &CorruptionError{Segment: segment, Offset: offset, TxID: txid, Err: err}
}

func isUnsupported(err error) bool {
	m, ok := err.(*MismatchError) //nolint:errorlint // made right here, never wrapped
	return ok && m.Class == ErrUnsupported
}

// readFull fills b from off; the end of the file inside b is ErrTorn.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF { //nolint:errorlint // io.ReaderAt says io.EOF itself
		return mismatch(ErrTorn, "bytes read", n, len(b))
	}
	return err
}
