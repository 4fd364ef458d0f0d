package segments

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"

	"github.com/quorumjournal/qjm/fencing"
)

// JournalID names a journal for good: a UUID made when the journal is. Names of journals may be
// given again, ids are not.
type JournalID [16]byte

// IsZero reports whether the id is unset.
func (j JournalID) IsZero() bool { return j == JournalID{} }

// String returns the id in hexadecimal.
func (j JournalID) String() string { return hex.EncodeToString(j[:]) }

// ParseJournalID reads what String wrote.
func ParseJournalID(s string) (JournalID, error) {
	var j JournalID
	if len(s) != 2*len(j) {
		return j, fmt.Errorf("segments: journal id %q is no 32 hexadecimal digits", s)
	}
	if _, err := hex.Decode(j[:], []byte(s)); err != nil {
		return JournalID{}, fmt.Errorf("segments: journal id %q: %w", s, err)
	}
	return j, nil
}

// HeaderSize is the size of a segment file's header: one page, so that no append ever touches the
// sector that names the segment.
const HeaderSize = 4096

const (
	headerMagic   = "QJMSEG\x00\x00"
	headerVersion = 1

	headerOffVersion = 8
	headerOffCRC     = 12
	headerOffJournal = 16
	headerOffFirst   = 32
	headerOffEpoch   = 40
	headerOffPrev    = 48
	headerUsed       = headerOffPrev + endSize
	endSize          = 32
)

// Header is what a segment file says about itself before its first frame (rules F4, W0, R9).
type Header struct {
	Journal JournalID
	First   TxID          // first txid of the segment; Prev.Next()
	Epoch   fencing.Epoch // writer epoch of the segment; every frame in it has the same
	Prev    End           // the end of the segment before; zero for a journal's first
}

// Start returns the position before the first frame: the first frame's digest chains from it (W1).
func (h Header) Start() Position { return Position{h.First - 1, h.Prev.Digest} }

// Validate checks what must hold for every header; the error is of class ErrCorrupt.
func (h Header) Validate() error {
	switch {
	case h.First == 0 || h.First+1 == 0:
		return mismatch(ErrCorrupt, "segment first txid", h.First, "1..2^64-2")
	case h.Epoch == 0:
		return mismatch(ErrCorrupt, "segment writer epoch", h.Epoch, "at least 1")
	case h.Prev.First > h.Prev.Last || !h.Prev.IsZero() && h.Prev.First == 0:
		return mismatch(ErrCorrupt, "previous segment", h.Prev, "first <= last")
	case h.First != h.Prev.Next():
		return mismatch(ErrCorrupt, "segment first txid", h.First, h.Prev.Next())
	}
	return nil
}

// AppendHeader appends the encoded header, HeaderSize bytes. h must be valid.
func AppendHeader(dst []byte, h Header) []byte {
	n := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	b := dst[n:]
	copy(b, headerMagic)
	binary.LittleEndian.PutUint32(b[headerOffVersion:], headerVersion)
	copy(b[headerOffJournal:], h.Journal[:])
	binary.LittleEndian.PutUint64(b[headerOffFirst:], uint64(h.First))
	binary.LittleEndian.PutUint64(b[headerOffEpoch:], uint64(h.Epoch))
	putEnd(b[headerOffPrev:], h.Prev)
	binary.LittleEndian.PutUint32(b[headerOffCRC:], checksumExcept(b, headerOffCRC))
	return dst
}

// ParseHeader decodes and verifies a segment file's header, the first HeaderSize bytes of b. A later
// version is ErrUnsupported if its checksum is right. Other errors are of class ErrTorn (b is too
// short), ErrZeroed or ErrCorrupt.
func ParseHeader(b []byte) (Header, error) {
	var h Header
	if len(b) < HeaderSize {
		return h, mismatch(ErrTorn, "segment header length", len(b), HeaderSize)
	}
	b = b[:HeaderSize]
	if string(b[:len(headerMagic)]) != headerMagic {
		if allZero(b) {
			return h, mismatch(ErrZeroed, "segment magic", "zeros", headerMagic)
		}
		return h, mismatch(ErrCorrupt, "segment magic", string(b[:len(headerMagic)]), headerMagic)
	}
	if got, want := checksumExcept(b, headerOffCRC), binary.LittleEndian.Uint32(b[headerOffCRC:]); got != want {
		return h, mismatch(ErrCorrupt, "segment header checksum", got, want)
	}
	if v := binary.LittleEndian.Uint32(b[headerOffVersion:]); v != headerVersion {
		return h, mismatch(ErrUnsupported, "segment version", v, headerVersion)
	}
	copy(h.Journal[:], b[headerOffJournal:])
	h.First = TxID(binary.LittleEndian.Uint64(b[headerOffFirst:]))
	h.Epoch = fencing.Epoch(binary.LittleEndian.Uint64(b[headerOffEpoch:]))
	h.Prev = getEnd(b[headerOffPrev:])
	if !allZero(b[headerUsed:]) {
		return Header{}, mismatch(ErrCorrupt, "segment header padding", "other", "zeros")
	}
	if err := h.Validate(); err != nil {
		return Header{}, err
	}
	return h, nil
}

func putEnd(b []byte, e End) {
	binary.LittleEndian.PutUint64(b, uint64(e.First))
	binary.LittleEndian.PutUint64(b[8:], uint64(e.Last))
	copy(b[16:endSize], e.Digest[:])
}

func getEnd(b []byte) End {
	e := End{First: TxID(binary.LittleEndian.Uint64(b)), Last: TxID(binary.LittleEndian.Uint64(b[8:]))}
	copy(e.Digest[:], b[16:endSize])
	return e
}

// checksumExcept is the crc32c of b without the four bytes at off.
func checksumExcept(b []byte, off int) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, b[:off]), castagnoli, b[off+4:])
}
