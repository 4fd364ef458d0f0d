package segments

import (
	"encoding/binary"
	"hash/crc32"
	"sync"

	"github.com/zeebo/xxh3"

	"github.com/quorumjournal/qjm/fencing"
)

// Limits of one frame. They bound what a reader takes memory for before it has verified anything.
const (
	// FrameHeaderSize is the size of a frame's header in bytes.
	FrameHeaderSize = 56
	// MaxFramePayload bounds the payload of a frame in bytes, as stored and before compression.
	MaxFramePayload = 16 << 20
	// MaxFrameSize bounds a whole frame.
	MaxFrameSize = FrameHeaderSize + MaxFramePayload
	// MaxFrameTxns bounds the txids that one frame stands for.
	MaxFrameTxns = 1 << 20
	// DefaultMaxTxnBytes is libqjm's default bound for one transaction. The format allows more: what
	// fits into a frame.
	DefaultMaxTxnBytes = 4 << 20
)

// FrameFlags say how the payload is stored.
type FrameFlags uint8

const (
	// FlagOpaque: the payload is one blob that stands for the whole txid range.
	FlagOpaque FrameFlags = 1 << 0
	// FlagZstd: the payload is compressed with zstd.
	FlagZstd FrameFlags = 1 << 1

	knownFlags = FlagOpaque | FlagZstd
)

const (
	frameMagic   = "QJMF"
	frameVersion = 1

	// Offsets in the frame header. The envelope (magic, version, payload length, checksum) keeps its
	// place and meaning in every version of the format, so that an old reader can tell "a later
	// version" (checksum right) from "a damaged version byte" (checksum wrong).
	frameOffVersion = 4
	frameOffFlags   = 5
	frameOffZero    = 6
	frameOffLen     = 8
	frameOffCRC     = 12
	frameOffFirst   = 16
	frameOffCount   = 24
	frameOffRaw     = 28
	frameOffEpoch   = 32
	frameOffDigest  = 40
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// FrameHeader is the decoded header of a frame. It is not verified: the checksum covers header and
// payload together, see Frame.Verify.
type FrameHeader struct {
	Flags      FrameFlags
	PayloadLen uint32 // bytes as stored
	RawLen     uint32 // bytes before compression; PayloadLen where there is none
	Checksum   uint32
	First      TxID
	Count      uint32 // txids the frame stands for, at least 1
	Epoch      fencing.Epoch
	Digest     Digest
}

// Size returns the length of the whole frame in bytes.
func (h FrameHeader) Size() int { return FrameHeaderSize + int(h.PayloadLen) }

// Last returns the last txid that the frame stands for.
func (h FrameHeader) Last() TxID { return h.First + TxID(h.Count) - 1 }

// Position returns the end of the frame.
func (h FrameHeader) Position() Position { return Position{h.Last(), h.Digest} }

// ParseFrameHeader decodes the header at the start of b, which may be longer or, the payload aside,
// no longer than FrameHeaderSize. It serves streaming reads: the length of the frame is known, and
// bounded, before memory is taken for it.
//
// Errors are of class ErrTorn (b is shorter than a header), ErrZeroed, ErrUnsupported or ErrCorrupt.
func ParseFrameHeader(b []byte) (FrameHeader, error) {
	var h FrameHeader
	if len(b) < FrameHeaderSize {
		return h, mismatch(ErrTorn, "frame header length", len(b), FrameHeaderSize)
	}
	b = b[:FrameHeaderSize]
	if string(b[:4]) != frameMagic {
		if allZero(b) {
			return h, mismatch(ErrZeroed, "frame magic", "zeros", frameMagic)
		}
		return h, mismatch(ErrCorrupt, "frame magic", string(b[:4]), frameMagic)
	}
	h = FrameHeader{
		Flags:      FrameFlags(b[frameOffFlags]),
		PayloadLen: binary.LittleEndian.Uint32(b[frameOffLen:]),
		RawLen:     binary.LittleEndian.Uint32(b[frameOffRaw:]),
		Checksum:   binary.LittleEndian.Uint32(b[frameOffCRC:]),
		First:      TxID(binary.LittleEndian.Uint64(b[frameOffFirst:])),
		Count:      binary.LittleEndian.Uint32(b[frameOffCount:]),
		Epoch:      fencing.Epoch(binary.LittleEndian.Uint64(b[frameOffEpoch:])),
	}
	copy(h.Digest[:], b[frameOffDigest:])
	return h, checkFrameHeader(&h, b)
}

// checkFrameHeader checks what can be checked without the payload.
func checkFrameHeader(h *FrameHeader, b []byte) error {
	switch version := b[frameOffVersion]; {
	case version == 0: // never written by anybody: half a header
		return mismatch(ErrCorrupt, "frame version", version, frameVersion)
	case version != frameVersion:
		return mismatch(ErrUnsupported, "frame version", version, frameVersion)
	case h.Flags&^knownFlags != 0:
		return mismatch(ErrUnsupported, "frame flags", h.Flags, knownFlags)
	case binary.LittleEndian.Uint16(b[frameOffZero:]) != 0:
		return mismatch(ErrCorrupt, "frame reserved bytes", binary.LittleEndian.Uint16(b[frameOffZero:]), 0)
	case h.PayloadLen > MaxFramePayload:
		return mismatch(ErrCorrupt, "frame payload length", h.PayloadLen, MaxFramePayload)
	case h.RawLen > MaxFramePayload:
		return mismatch(ErrCorrupt, "frame raw length", h.RawLen, MaxFramePayload)
	case h.Flags&FlagZstd == 0 && h.RawLen != h.PayloadLen:
		return mismatch(ErrCorrupt, "frame raw length", h.RawLen, h.PayloadLen)
	case h.Count == 0 || h.Count > MaxFrameTxns:
		return mismatch(ErrCorrupt, "frame txid count", h.Count, MaxFrameTxns)
	case h.Flags&FlagOpaque == 0 && h.RawLen < h.Count: // each txn has a length of at least one byte
		return mismatch(ErrCorrupt, "frame raw length", h.RawLen, h.Count)
	case h.First == 0 || h.Last() < h.First || h.Last()+1 == 0:
		return mismatch(ErrCorrupt, "frame first txid", h.First, "1..2^64-2")
	case h.Epoch == 0:
		return mismatch(ErrCorrupt, "frame epoch", h.Epoch, "at least 1")
	}
	return nil
}

// Frame is a view of an encoded frame. It does not copy: it is valid as long as the bytes it was
// parsed from are left alone, and it must not be changed. The zero Frame holds nothing.
type Frame struct {
	raw []byte
	h   FrameHeader
}

// ParseFrame parses the frame at the start of b; what follows it in b is ignored. It checks the
// header and that b holds the frame whole, not the checksum, the chain or the payload.
//
// Errors are those of ParseFrameHeader; ErrTorn also when b ends before the payload does.
func ParseFrame(b []byte) (Frame, error) {
	h, err := ParseFrameHeader(b)
	if err != nil {
		return Frame{}, err
	}
	if len(b) < h.Size() {
		return Frame{}, mismatch(ErrTorn, "frame length", len(b), h.Size())
	}
	return Frame{raw: b[:h.Size():h.Size()], h: h}, nil
}

// IsZero reports whether f holds no frame.
func (f Frame) IsZero() bool { return f.raw == nil }

// Bytes returns the encoded frame, header included. It is shared, not copied.
func (f Frame) Bytes() []byte { return f.raw }

// Header returns the decoded header.
func (f Frame) Header() FrameHeader { return f.h }

// First returns the first txid of the frame.
func (f Frame) First() TxID { return f.h.First }

// Last returns the last txid of the frame.
func (f Frame) Last() TxID { return f.h.Last() }

// Range returns the txids of the frame.
func (f Frame) Range() Range { return Range{f.h.First, f.h.Last()} }

// Count returns how many txids the frame stands for.
func (f Frame) Count() int { return int(f.h.Count) }

// Epoch returns the epoch of the writer that made the frame.
func (f Frame) Epoch() fencing.Epoch { return f.h.Epoch }

// Digest returns the chain digest at the end of the frame.
func (f Frame) Digest() Digest { return f.h.Digest }

// Position returns the end of the frame.
func (f Frame) Position() Position { return f.h.Position() }

// Opaque reports whether the payload is one blob for the whole range.
func (f Frame) Opaque() bool { return f.h.Flags&FlagOpaque != 0 }

// Compressed reports whether the payload is stored compressed.
func (f Frame) Compressed() bool { return f.h.Flags&FlagZstd != 0 }

// Size returns the length of the frame in bytes, header included.
func (f Frame) Size() int { return len(f.raw) }

// Clone returns a frame over its own copy of the bytes.
func (f Frame) Clone() Frame {
	f.raw = append([]byte(nil), f.raw...)
	return f
}

// VerifyChecksum checks the frame's bytes against its checksum; the error is of class ErrCorrupt.
func (f Frame) VerifyChecksum() error {
	if got := frameChecksum(f.raw); got != f.h.Checksum {
		return mismatch(ErrCorrupt, "frame checksum", got, f.h.Checksum)
	}
	return nil
}

// VerifyChain checks that the frame's digest continues prev; the error is of class ErrGap: the
// frame may be whole, but it does not belong here.
func (f Frame) VerifyChain(prev Digest) error {
	if got := chainDigest(prev, f.raw); got != f.h.Digest {
		return mismatch(ErrGap, "frame chain digest", f.h.Digest, got)
	}
	return nil
}

// Verify checks checksum and chain.
func (f Frame) Verify(prev Digest) error {
	if err := f.VerifyChecksum(); err != nil {
		return err
	}
	return f.VerifyChain(prev)
}

// frameChecksum covers the whole frame except the checksum itself.
func frameChecksum(raw []byte) uint32 {
	crc := crc32.Update(0, castagnoli, raw[:frameOffCRC])
	return crc32.Update(crc, castagnoli, raw[frameOffFirst:])
}

var hashers = sync.Pool{New: func() any { return xxh3.New128() }}

// chainDigest computes the digest of an encoded frame over (previous digest, header without
// checksum and digest, payload). The frame may be shared, so the pieces are streamed into a hasher;
// Seal, which owns its buffer, has a faster way.
func chainDigest(prev Digest, raw []byte) Digest {
	h := hashers.Get().(*xxh3.Hasher128)
	h.Reset()
	var head [chainHeadSize]byte
	putChainHead(head[:], prev, raw)
	_, _ = h.Write(head[:]) // a hasher's Write never fails
	_, _ = h.Write(raw[FrameHeaderSize:])
	d := Digest(h.Sum128().Bytes())
	hashers.Put(h)
	return d
}

// chainHeadSize is what goes into the chain digest before the payload.
const chainHeadSize = len(Digest{}) + frameOffCRC + (frameOffDigest - frameOffFirst)

// putChainHead fills dst with the previous digest and the header's digested bytes.
func putChainHead(dst []byte, prev Digest, raw []byte) {
	n := copy(dst, prev[:])
	n += copy(dst[n:], raw[:frameOffCRC])
	copy(dst[n:], raw[frameOffFirst:frameOffDigest])
}

func allZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
