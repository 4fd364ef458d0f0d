package segments

import (
	"encoding/binary"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Txn is one transaction of a frame.
type Txn struct {
	ID   TxID
	Data []byte
}

// The codecs are made at first use: they cost memory, and most journals do not compress.
var (
	zstdEncoder = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false))
	})
	zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
		// The cap limit makes a frame that inflates beyond its raw length fail instead of grow.
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true),
			zstd.WithDecoderMaxMemory(MaxFramePayload), zstd.WithDecoderMaxWindow(MaxFramePayload))
	})
)

// Payload returns the payload, decompressed where it is stored compressed. Without compression it is
// shared with the frame, else it is the caller's own. It takes at most the frame's raw length of
// memory. The error is of class ErrCorrupt.
//
// The frame's checksum should have been verified before.
func (f Frame) Payload() ([]byte, error) {
	stored := f.raw[FrameHeaderSize:]
	if !f.Compressed() {
		return stored, nil
	}
	dec, err := zstdDecoder()
	if err != nil {
		return nil, err
	}
	raw, err := dec.DecodeAll(stored, make([]byte, 0, f.h.RawLen))
	if err != nil {
		return nil, mismatch(ErrCorrupt, "zstd payload", err, "no error")
	}
	if len(raw) != int(f.h.RawLen) {
		return nil, mismatch(ErrCorrupt, "decompressed payload length", len(raw), f.h.RawLen)
	}
	return raw, nil
}

// EachTxn calls fn for each transaction in order and stops at its first error, which it returns. An
// opaque frame yields nothing but ErrUnsupported: its blob cannot be told apart into txids, use
// Payload. data is shared with the frame, or with one buffer made for this call.
func (f Frame) EachTxn(fn func(id TxID, data []byte) error) error {
	if f.Opaque() {
		return mismatch(ErrUnsupported, "transactions of an opaque frame", "opaque", "txns")
	}
	payload, err := f.Payload()
	if err != nil {
		return err
	}
	return walkTxns(payload, f.h.First, f.h.Count, fn)
}

// Txns returns the transactions as a slice over shared memory; see EachTxn.
func (f Frame) Txns() ([]Txn, error) {
	txns := make([]Txn, 0, min(f.Count(), 4096)) // the count is believed only as it comes true
	err := f.EachTxn(func(id TxID, data []byte) error {
		txns = append(txns, Txn{id, data})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return txns, nil
}

// CheckPayload checks the structure of the payload: it decompresses to its raw length and holds
// exactly count transactions with nothing behind them. The error is of class ErrCorrupt.
func (f Frame) CheckPayload() error {
	payload, err := f.Payload()
	if err != nil || f.Opaque() {
		return err
	}
	return walkTxns(payload, f.h.First, f.h.Count, nil)
}

// walkTxns splits a payload of length-prefixed transactions. fn may be nil.
func walkTxns(p []byte, first TxID, count uint32, fn func(TxID, []byte) error) error {
	for i := range count {
		n, w := binary.Uvarint(p)
		if w <= 0 || n > uint64(len(p)-w) || w != uvarintLen(n) { // one encoding only
			return mismatch(ErrCorrupt, "length of txn "+(first+TxID(i)).String(), n, len(p))
		}
		if fn != nil {
			if err := fn(first+TxID(i), p[w:w+int(n):w+int(n)]); err != nil {
				return err
			}
		}
		p = p[w+int(n):]
	}
	if len(p) != 0 {
		return mismatch(ErrCorrupt, "bytes behind the last txn", len(p), 0)
	}
	return nil
}

func uvarintLen(n uint64) int {
	w := 1
	for ; n >= 0x80; n >>= 7 {
		w++
	}
	return w
}
