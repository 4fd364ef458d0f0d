package segments

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/quorumjournal/qjm/fencing"
)

// MarkSize is the size of a synced mark in bytes.
const MarkSize = 64

const (
	markMagic   = "QJMM"
	markVersion = 1

	markOffVersion = 4
	markOffOffset  = 8
	markOffSegment = 16
	markOffEpoch   = 24
	markOffTxID    = 32
	markOffDigest  = 40
	markOffZero    = 56
	markOffCRC     = 60
)

// Mark is the node's own synced mark (rule N2a): all up to Synced was synced in this file before the
// mark was written. It stands between frames, in front of those it is written with; it is local to
// the node, outside the digest chain, and never sent.
//
// It carries its own place in the file, and its checksum covers the journal's id: a mark that was
// copied elsewhere, into somebody's payload say, is no mark.
type Mark struct {
	Offset  int64
	Segment TxID
	Epoch   fencing.Epoch
	Synced  Position
}

// AppendMark appends the encoded mark, MarkSize bytes.
func AppendMark(dst []byte, journal JournalID, m Mark) []byte {
	n := len(dst)
	dst = append(dst, make([]byte, MarkSize)...)
	b := dst[n:]
	copy(b, markMagic)
	binary.LittleEndian.PutUint32(b[markOffVersion:], markVersion)
	binary.LittleEndian.PutUint64(b[markOffOffset:], uint64(m.Offset))
	binary.LittleEndian.PutUint64(b[markOffSegment:], uint64(m.Segment))
	binary.LittleEndian.PutUint64(b[markOffEpoch:], uint64(m.Epoch))
	binary.LittleEndian.PutUint64(b[markOffTxID:], uint64(m.Synced.TxID))
	copy(b[markOffDigest:markOffZero], m.Synced.Digest[:])
	binary.LittleEndian.PutUint32(b[markOffCRC:], markChecksum(journal, b))
	return dst
}

// ParseMark decodes the mark at the start of b and verifies it: it must have been made for this
// journal, segment, epoch and offset. Errors are of class ErrTorn (b is too short), ErrUnsupported
// or ErrCorrupt.
func ParseMark(b []byte, h Header, offset int64) (Mark, error) {
	var m Mark
	if len(b) < MarkSize {
		return m, mismatch(ErrTorn, "mark length", len(b), MarkSize)
	}
	b = b[:MarkSize]
	if string(b[:4]) != markMagic {
		return m, mismatch(ErrCorrupt, "mark magic", string(b[:4]), markMagic)
	}
	if got, want := markChecksum(h.Journal, b), binary.LittleEndian.Uint32(b[markOffCRC:]); got != want {
		return m, mismatch(ErrCorrupt, "mark checksum", got, want)
	}
	if v := binary.LittleEndian.Uint32(b[markOffVersion:]); v != markVersion {
		return m, mismatch(ErrUnsupported, "mark version", v, markVersion)
	}
	m = Mark{
		Offset:  int64(binary.LittleEndian.Uint64(b[markOffOffset:])),
		Segment: TxID(binary.LittleEndian.Uint64(b[markOffSegment:])),
		Epoch:   fencing.Epoch(binary.LittleEndian.Uint64(b[markOffEpoch:])),
		Synced:  Position{TxID: TxID(binary.LittleEndian.Uint64(b[markOffTxID:]))},
	}
	copy(m.Synced.Digest[:], b[markOffDigest:])
	return m, m.check(b, h, offset)
}

// check compares the mark with the place it was found at.
func (m Mark) check(b []byte, h Header, offset int64) error {
	switch {
	case m.Offset != offset:
		return mismatch(ErrCorrupt, "mark's own offset", m.Offset, offset)
	case m.Segment != h.First:
		return mismatch(ErrCorrupt, "mark's segment", m.Segment, h.First)
	case m.Epoch != h.Epoch:
		return mismatch(ErrCorrupt, "mark's epoch", m.Epoch, h.Epoch)
	case m.Synced.TxID < h.First-1:
		return mismatch(ErrCorrupt, "mark's txid", m.Synced.TxID, h.First-1)
	case !allZero(b[markOffZero:markOffCRC]):
		return mismatch(ErrCorrupt, "mark's reserved bytes", "other", "zeros")
	}
	return nil
}

func markChecksum(journal JournalID, b []byte) uint32 {
	// crc32.Update would make the id escape to the heap, for every group commit.
	crc := ^uint32(0)
	for _, c := range journal {
		crc = castagnoli[byte(crc)^c] ^ crc>>8
	}
	return crc32.Update(^crc, castagnoli, b[:markOffCRC])
}
