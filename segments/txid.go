package segments

import (
	"encoding/hex"
	"fmt"
	"strconv"
)

// TxID numbers the transactions of a journal, densely, from 1. Zero means "before the first".
type TxID uint64

// String returns the decimal form.
func (t TxID) String() string { return strconv.FormatUint(uint64(t), 10) }

// Digest is the chain digest of a frame: it covers the frame and, through the digest of the frame
// before it, the whole history of the journal up to there. It guards against accidents, not against
// forgery. The digest of "before the first frame of the journal" is zero.
type Digest [16]byte

// IsZero reports whether d is the digest of the empty journal.
func (d Digest) IsZero() bool { return d == Digest{} }

// String returns the digest in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short returns the first eight hexadecimal digits, for tables and log lines.
func (d Digest) Short() string { return hex.EncodeToString(d[:4]) }

// ParseDigest reads what String wrote.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != 2*len(d) {
		return d, fmt.Errorf("segments: digest %q is no 32 hexadecimal digits", s)
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("segments: digest %q: %w", s, err)
	}
	return d, nil
}

// Position is the end of a frame. Since digests are chained it names a whole prefix of the journal:
// two nodes with equal positions hold the same transactions up to there.
type Position struct {
	TxID   TxID
	Digest Digest
}

// String returns "txid/digest", the digest shortened.
func (p Position) String() string { return p.TxID.String() + "/" + p.Digest.Short() }

// End is what recovery and finalization decide about a segment: it starts at First and ends at Last
// with chain digest Digest (S, E and D in the protocol's rules). The zero End stands for "no segment
// yet", the predecessor of a journal's first segment.
type End struct {
	First  TxID
	Last   TxID
	Digest Digest
}

// IsZero reports whether e stands for "no segment".
func (e End) IsZero() bool { return e == End{} }

// Position returns the end as a position.
func (e End) Position() Position { return Position{e.Last, e.Digest} }

// Next returns the first txid of the segment that follows.
func (e End) Next() TxID { return e.Last + 1 }

// String returns "first..last/digest", the digest shortened.
func (e End) String() string {
	return e.First.String() + ".." + e.Last.String() + "/" + e.Digest.Short()
}

// Range is an inclusive range of txids.
type Range struct {
	First TxID
	Last  TxID
}

// Len returns how many txids the range holds; an empty or inverted range holds none.
func (r Range) Len() uint64 {
	if r.Last < r.First {
		return 0
	}
	return uint64(r.Last-r.First) + 1
}

// Contains reports whether t is in the range.
func (r Range) Contains(t TxID) bool { return r.First <= t && t <= r.Last }

// String returns "first..last".
func (r Range) String() string { return r.First.String() + ".." + r.Last.String() }
