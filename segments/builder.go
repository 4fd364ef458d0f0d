package segments

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"github.com/quorumjournal/qjm/fencing"
)

// Builder gathers transactions into a frame and encodes it once, in place: the payload is built
// behind room for the header, so that sealing copies nothing unless it compresses. The zero Builder
// is ready after Reset. A Builder is for one goroutine.
type Builder struct {
	buf   []byte // header room and payload; given away by Seal
	hint  int    // capacity for the next buffer
	first TxID
	epoch fencing.Epoch
	count uint32
}

// minBuilderCap is the capacity a new buffer starts with.
const minBuilderCap = 4 << 10

// Reset starts a frame. Transactions gathered and not sealed are dropped.
func (b *Builder) Reset(first TxID, epoch fencing.Epoch) {
	if b.buf == nil {
		b.buf = make([]byte, FrameHeaderSize, max(b.hint, minBuilderCap))
	}
	b.buf = b.buf[:FrameHeaderSize]
	b.first, b.epoch, b.count = first, epoch, 0
}

// Reuse gives the builder a buffer to build the next frame in, usually the bytes of a frame that
// nobody looks at any more. Call it before Reset.
func (b *Builder) Reuse(buf []byte) {
	if cap(buf) >= FrameHeaderSize {
		b.buf = buf[:FrameHeaderSize]
	}
}

// Add appends a copy of a transaction, which is given in one piece or in several. ErrTooLarge means that it does not fit into this frame, which
// is unchanged: seal it and try the next one; in an empty frame it means that it never fits.
func (b *Builder) Add(txn ...[]byte) error {
	size := 0
	for _, piece := range txn {
		size += len(piece)
	}
	need := uvarintLen(uint64(size)) + size
	if have := len(b.buf) - FrameHeaderSize; need > MaxFramePayload-have {
		return mismatch(ErrTooLarge, "frame payload", have+need, MaxFramePayload)
	}
	if b.count == MaxFrameTxns {
		return mismatch(ErrTooLarge, "txns in a frame", b.count+1, MaxFrameTxns)
	}
	b.buf = binary.AppendUvarint(b.buf, uint64(size))
	for _, piece := range txn {
		b.buf = append(b.buf, piece...)
	}
	b.count++
	return nil
}

// Count returns how many transactions were added.
func (b *Builder) Count() int { return int(b.count) }

// Size returns what the frame measures so far, header included, before compression.
func (b *Builder) Size() int { return max(len(b.buf), FrameHeaderSize) }

// First returns the txid of the first transaction.
func (b *Builder) First() TxID { return b.first }

// SealOptions say how a frame is stored.
type SealOptions struct {
	// Compress stores the payload with zstd where that makes it smaller.
	Compress bool
}

// Seal encodes the frame with the digest that continues prev. The frame owns the buffer from then
// on; the builder needs a Reset, and takes a new one. An empty builder is an error.
func (b *Builder) Seal(prev Digest, opts SealOptions) (Frame, error) {
	if b.count == 0 {
		return Frame{}, mismatch(ErrCorrupt, "txns in the frame to seal", 0, "at least 1")
	}
	h := FrameHeader{First: b.first, Count: b.count, Epoch: b.epoch}
	h.RawLen = uint32(len(b.buf) - FrameHeaderSize) // bounded by Add
	buf := b.buf
	if opts.Compress {
		enc, err := zstdEncoder()
		if err != nil {
			return Frame{}, err
		}
		out := make([]byte, FrameHeaderSize, len(buf))
		if out = enc.EncodeAll(buf[FrameHeaderSize:], out); len(out) < len(buf) {
			buf, h.Flags = out, FlagZstd
		}
	}
	f, err := sealFrame(buf, h, prev)
	if err != nil {
		return Frame{}, err
	}
	b.hint = min(max(b.hint/2, cap(f.raw), len(b.buf)), MaxFrameSize)
	if h.Flags&FlagZstd == 0 {
		b.buf = nil // it is the frame's now
	}
	b.count = 0
	return f, nil
}

// SealOpaque encodes a frame whose payload is one blob that stands for the txids
// [first, first+count). The blob is copied.
func SealOpaque(prev Digest, epoch fencing.Epoch, first TxID, count int, blob []byte, opts SealOptions) (Frame, error) {
	if len(blob) > MaxFramePayload {
		return Frame{}, mismatch(ErrTooLarge, "opaque payload", len(blob), MaxFramePayload)
	}
	if count < 1 || count > MaxFrameTxns {
		return Frame{}, mismatch(ErrTooLarge, "txids of an opaque frame", count, MaxFrameTxns)
	}
	h := FrameHeader{Flags: FlagOpaque, First: first, Count: uint32(count), RawLen: uint32(len(blob)), Epoch: epoch}
	buf := make([]byte, FrameHeaderSize, FrameHeaderSize+len(blob))
	if opts.Compress {
		enc, err := zstdEncoder()
		if err != nil {
			return Frame{}, err
		}
		if buf = enc.EncodeAll(blob, buf); len(buf)-FrameHeaderSize < len(blob) {
			h.Flags |= FlagZstd
			return sealFrame(buf, h, prev)
		}
		buf = buf[:FrameHeaderSize]
	}
	return sealFrame(append(buf, blob...), h, prev)
}

// sealFrame writes the header in front of the payload that buf holds.
func sealFrame(buf []byte, h FrameHeader, prev Digest) (Frame, error) {
	h.PayloadLen = uint32(len(buf) - FrameHeaderSize)
	putFrameHeader(buf, h)
	if err := checkFrameHeader(&h, buf); err != nil {
		return Frame{}, err
	}
	// The digest's input is the previous digest, 36 bytes of header and the payload. It is put
	// together in the header's own room, right before the payload, so that one call hashes it all.
	var head [chainHeadSize]byte
	putChainHead(head[:], prev, buf)
	copy(buf[FrameHeaderSize-chainHeadSize:], head[:])
	h.Digest = xxh3.Hash128(buf[FrameHeaderSize-chainHeadSize:]).Bytes()

	putFrameHeader(buf, h)
	h.Checksum = frameChecksum(buf)
	binary.LittleEndian.PutUint32(buf[frameOffCRC:], h.Checksum)
	return Frame{raw: buf[:len(buf):len(buf)], h: h}, nil
}

// putFrameHeader writes everything but the checksum, which it leaves zero.
func putFrameHeader(b []byte, h FrameHeader) {
	copy(b, frameMagic)
	b[frameOffVersion] = frameVersion
	b[frameOffFlags] = byte(h.Flags)
	binary.LittleEndian.PutUint16(b[frameOffZero:], 0)
	binary.LittleEndian.PutUint32(b[frameOffLen:], h.PayloadLen)
	binary.LittleEndian.PutUint32(b[frameOffCRC:], 0)
	binary.LittleEndian.PutUint64(b[frameOffFirst:], uint64(h.First))
	binary.LittleEndian.PutUint32(b[frameOffCount:], h.Count)
	binary.LittleEndian.PutUint32(b[frameOffRaw:], h.RawLen)
	binary.LittleEndian.PutUint64(b[frameOffEpoch:], uint64(h.Epoch))
	copy(b[frameOffDigest:], h.Digest[:])
}
