package snapshots

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"math"

	"github.com/quorumjournal/qjm/internal/snapshot"
	"github.com/quorumjournal/qjm/segments"
)

// The file format, version 1: docs/format.md, pinned by testdata/v1. Header, blocks, trailer.
const (
	formatVersion = 1

	headerMagic = "QJMSNAP\x00"
	headerSize  = 128

	headerOffVersion   = 8
	headerOffCRC       = 12
	headerOffJournal   = 16
	headerOffID        = 32
	headerOffSize      = headerOffID + snapshot.IDSize
	headerOffBlockSize = headerOffSize + 8
	headerUsed         = headerOffBlockSize + 4

	blockMagic    = "QJMB"
	blockHeadSize = 16

	blockOffLen    = 4
	blockOffNumber = 8
	blockOffCRC    = 12

	trailerMagic = "QJMT"
	trailerSize  = 64

	trailerOffVersion  = 4
	trailerOffOffset   = 8
	trailerOffBlocks   = 16
	trailerOffSize     = 20
	trailerOffChecksum = 28
	trailerOffCRC      = 60

	// BlockBytesMax bounds a block, and so the memory that a foreign file can take.
	BlockBytesMax = 16 << 20
	blockBytesMin = 512
	blocksMax     = math.MaxUint32

	// SizeUnknown is the declared size of an upload whose writer does not know it yet.
	SizeUnknown = -1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is what is known when an upload begins. It is never written again, and its checksum is part of
// the checksum of every block and of the trailer, so that what belongs to another file is found.
type header struct {
	journal    segments.JournalID
	id         ID
	size       int64 // declared, or SizeUnknown
	blockBytes int
}

func (h header) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, headerMagic)
	binary.LittleEndian.PutUint32(b[headerOffVersion:], formatVersion)
	copy(b[headerOffJournal:], h.journal[:])
	h.id.Append(b[:headerOffID])
	binary.LittleEndian.PutUint64(b[headerOffSize:], uint64(h.size))
	binary.LittleEndian.PutUint32(b[headerOffBlockSize:], uint32(h.blockBytes))
	binary.LittleEndian.PutUint32(b[headerOffCRC:], headerChecksum(b))
	return b
}

func headerChecksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:headerOffCRC], castagnoli), castagnoli, b[headerOffJournal:])
}

// headerSeed is the header's checksum as it stands in it.
func headerSeed(b []byte) [4]byte { return [4]byte(b[headerOffCRC:]) }

// parseHeader reads what encode wrote. Errors are ErrCorrupt or ErrUnsupported.
func parseHeader(b []byte) (h header, err error) {
	if len(b) != headerSize || string(b[:8]) != headerMagic {
		return h, mismatch(ErrCorrupt, "header's magic", b[:min(8, len(b))], headerMagic)
	}
	if got, want := headerChecksum(b), binary.LittleEndian.Uint32(b[headerOffCRC:]); got != want {
		return h, mismatch(ErrCorrupt, "header's checksum", got, want)
	}
	if v := binary.LittleEndian.Uint32(b[headerOffVersion:]); v > formatVersion {
		return h, mismatch(ErrUnsupported, "file", v, formatVersion)
	}
	h.journal = segments.JournalID(b[headerOffJournal:])
	h.id = snapshot.ParseID(b[headerOffID:])
	h.size = int64(binary.LittleEndian.Uint64(b[headerOffSize:]))
	h.blockBytes = int(binary.LittleEndian.Uint32(b[headerOffBlockSize:]))
	if h.id.Validate() != nil || h.size < SizeUnknown || h.size > SizeMax || h.blockBytes < blockBytesMin || h.blockBytes > BlockBytesMax {
		return h, mismatch(ErrCorrupt, "header's fields", h, "valid ones")
	}
	if !bytes.Equal(h.encode(), b) {
		return h, mismatch(ErrCorrupt, "header's version or reserved bytes", "others", "version 1 and zeros")
	}
	return h, nil
}

// blocks returns how many blocks hold size bytes.
func (h header) blocks(size int64) int64 {
	return (size + int64(h.blockBytes) - 1) / int64(h.blockBytes)
}

// sizeMax bounds the content: by what was declared, and by what the block numbers reach.
func (h header) sizeMax() int64 {
	if h.size != SizeUnknown {
		return h.size
	}
	return min(SizeMax, int64(h.blockBytes)*blocksMax)
}

// blockOffset returns where a block starts in the file; all blocks but the last are full.
func (h header) blockOffset(number int64) int64 {
	return headerSize + number*int64(blockHeadSize+h.blockBytes)
}

// contentEnd returns where the last block ends in the file.
func (h header) contentEnd(size int64) int64 {
	return headerSize + h.blocks(size)*blockHeadSize + size
}

// sealBlock fills the head of a block whose content stands behind it.
func sealBlock(b []byte, number int64, seed [4]byte) {
	copy(b, blockMagic)
	binary.LittleEndian.PutUint32(b[blockOffLen:], uint32(len(b)-blockHeadSize))
	binary.LittleEndian.PutUint32(b[blockOffNumber:], uint32(number))
	binary.LittleEndian.PutUint32(b[blockOffCRC:], blockChecksum(b, seed))
}

func blockChecksum(b []byte, seed [4]byte) uint32 {
	sum := crc32.Update(crc32.Checksum(seed[:], castagnoli), castagnoli, b[:blockOffCRC])
	return crc32.Update(sum, castagnoli, b[blockHeadSize:])
}

// checkBlock verifies a block of exactly that length and number. Errors are ErrCorrupt.
func checkBlock(b []byte, number int64, seed [4]byte) error {
	if string(b[:4]) != blockMagic {
		return mismatch(ErrCorrupt, "block's magic", b[:4], blockMagic)
	}
	if got, want := int(binary.LittleEndian.Uint32(b[blockOffLen:])), len(b)-blockHeadSize; got != want {
		return mismatch(ErrCorrupt, "block's length", got, want)
	}
	if got := int64(binary.LittleEndian.Uint32(b[blockOffNumber:])); got != number {
		return mismatch(ErrCorrupt, "block's number", got, number)
	}
	if got, want := blockChecksum(b, seed), binary.LittleEndian.Uint32(b[blockOffCRC:]); got != want {
		return mismatch(ErrCorrupt, "block's checksum", got, want)
	}
	return nil
}

// trailer is what is known when an upload ends.
type trailer struct {
	offset   int64 // its own, in the file
	blocks   int64
	size     int64
	checksum Checksum
}

func (t trailer) encode(seed [4]byte) []byte {
	b := make([]byte, trailerSize)
	copy(b, trailerMagic)
	binary.LittleEndian.PutUint32(b[trailerOffVersion:], formatVersion)
	binary.LittleEndian.PutUint64(b[trailerOffOffset:], uint64(t.offset))
	binary.LittleEndian.PutUint32(b[trailerOffBlocks:], uint32(t.blocks))
	binary.LittleEndian.PutUint64(b[trailerOffSize:], uint64(t.size))
	copy(b[trailerOffChecksum:], t.checksum[:])
	binary.LittleEndian.PutUint32(b[trailerOffCRC:], trailerChecksum(b, seed))
	return b
}

func trailerChecksum(b []byte, seed [4]byte) uint32 {
	return crc32.Update(crc32.Checksum(seed[:], castagnoli), castagnoli, b[:trailerOffCRC])
}

// parseTrailer reads the last trailerSize bytes of a file of that size. Errors are ErrCorrupt or
// ErrUnsupported.
func parseTrailer(b []byte, h header, seed [4]byte, fileSize int64) (t trailer, err error) {
	if len(b) != trailerSize || string(b[:4]) != trailerMagic {
		return t, mismatch(ErrCorrupt, "trailer's magic", b[:min(4, len(b))], trailerMagic)
	}
	if got, want := trailerChecksum(b, seed), binary.LittleEndian.Uint32(b[trailerOffCRC:]); got != want {
		return t, mismatch(ErrCorrupt, "trailer's checksum", got, want)
	}
	if v := binary.LittleEndian.Uint32(b[trailerOffVersion:]); v > formatVersion {
		return t, mismatch(ErrUnsupported, "trailer", v, formatVersion)
	}
	t.offset = int64(binary.LittleEndian.Uint64(b[trailerOffOffset:]))
	t.blocks = int64(binary.LittleEndian.Uint32(b[trailerOffBlocks:]))
	t.size = int64(binary.LittleEndian.Uint64(b[trailerOffSize:]))
	t.checksum = Checksum(b[trailerOffChecksum:])
	switch {
	case t.size < 0 || t.size > h.sizeMax() || h.size != SizeUnknown && t.size != h.size:
		return t, mismatch(ErrCorrupt, "trailer's size", t.size, h.size)
	case t.blocks != h.blocks(t.size):
		return t, mismatch(ErrCorrupt, "trailer's block count", t.blocks, h.blocks(t.size))
	case t.offset != h.contentEnd(t.size) || t.offset+trailerSize != fileSize:
		return t, mismatch(ErrCorrupt, "trailer's offset", t.offset, h.contentEnd(t.size))
	}
	return t, nil
}

func (h header) snapshot(t trailer) Snapshot {
	return Snapshot{TxID: h.id.TxID, At: h.id.At, Size: t.size, Checksum: t.checksum, Epoch: h.id.Epoch}
}
