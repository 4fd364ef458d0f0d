package snapshots

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/quorumjournal/qjm/internal/durable"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/segments"
)

// Segment is what a decision needs to know of a segment here.
type Segment struct {
	// End is first and last txid, and the digest there; a zero digest means "not known". Of one in progress
	// it is the last synced frame: open it first (W2a).
	End       segments.End
	Prev      segments.End // as its header says; InstallDecision only
	Finalized bool
	Damaged   bool
	Bytes     int64
}

// Margin is what stays of the covered log for slow readers: at least the newest Txns transactions, and at
// least the newest Bytes bytes.
type Margin struct {
	Txns  int64
	Bytes int64
}

// Pin is a learner under way that needs the log from a txid on.
type Pin struct {
	Node string
	From segments.TxID
}

// PurgeInput is all that a purge may rest on. A peer's purge point is not in it (C2).
type PurgeInput struct {
	Segments []Segment
	Listed   []Snapshot // as in the applied catalog
	Held     []Snapshot // on this node, verified by this node
	Margin   Margin
	Pins     []Pin
	// PinBytesMax bounds what one pin may hold back; a pin that needs more holds back nothing, and its
	// learner starts from a snapshot again.
	PinBytesMax int64
	Purged      segments.Position // the durable purge point; zero: nothing was purged yet
}

// PurgePlan is what to do, in this order: set aside, make Point durable, then delete the segments in their order (C5).
type PurgePlan struct {
	SetAside []segments.TxID   // first txids of leftovers that the purge point has passed
	Point    segments.Position // end of the last purged segment
	Remove   []segments.TxID   // first txids, oldest first
	Overrun  []Pin             // pins that need more than PinBytesMax
}

// PurgeDecision says what may go (C2, C5): segments that a listed snapshot covers that this node holds and
// has verified itself, less the margin and the pins, oldest first; never the newest finalized segment and
// nothing from the first one on that is not finalized. The purge point never goes back. What it has passed, and has
// no end, is set aside.
//
// *DivergenceError where the covering snapshot is of another history than the segments: then nothing may go.
func PurgeDecision(in PurgeInput) (PurgePlan, error) {
	plan := PurgePlan{Point: in.Purged}
	cover, ok := Cover(in.Listed, in.Held)
	if !ok {
		return plan, nil
	}
	segs := slices.SortedFunc(slices.Values(in.Segments), byFirst)
	for _, s := range segs {
		if s.Finalized && !s.Damaged && s.End.Last == cover.At.TxID && !s.End.Digest.IsZero() && s.End.Digest != cover.At.Digest {
			return plan, &DivergenceError{Segment: s.End.First, Own: s.End.Position(), Snapshot: cover.ID()}
		}
	}
	for _, s := range segs {
		if passed(s, segs, in.Purged) {
			plan.SetAside = append(plan.SetAside, s.End.First)
		}
	}
	segs = slices.DeleteFunc(segs, func(s Segment) bool { return slices.Contains(plan.SetAside, s.End.First) })
	removable := lessMargin(covered(segs, cover.TxID), cover.TxID, in.Margin)
	removable, plan.Overrun = lessPins(removable, in.Pins, in.PinBytesMax)
	for _, s := range removable {
		plan.Remove = append(plan.Remove, s.End.First)
		if s.End.Last > plan.Point.TxID {
			plan.Point = s.End.Position()
		}
	}
	return plan, nil
}

// passed: all that was decided of a segment lies at or below the purge point, and what is here of it has no end: a copy
// that was never finalized, though a later segment is, or damage. No peer has anything to put in its place, and
// nothing that is behind it could ever be purged.
func passed(s Segment, segs []Segment, purged segments.Position) bool {
	if s.Finalized {
		return s.Damaged && s.End.Digest.IsZero() && s.End.Last <= purged.TxID
	}
	return slices.ContainsFunc(segs, func(o Segment) bool {
		return o.Finalized && !o.Damaged && o.End.First > s.End.First && o.End.First <= purged.TxID+1
	})
}

func byFirst(a, b Segment) int { return cmp.Compare(a.End.First, b.End.First) }

// Cover returns the newest snapshot that is listed, held and verified. All fields must agree: what is held
// under a listed txid with another checksum is another content.
func Cover(listed, held []Snapshot) (newest Snapshot, ok bool) {
	for _, s := range held {
		if s.TxID > newest.TxID && slices.Contains(listed, s) {
			newest, ok = s, true
		}
	}
	return newest, ok
}

// covered returns the oldest segments that end at or below txid, up to the first that must stay: one that
// is not finalized, whose end is not known (the purge point would have no digest), or the newest finalized
// (without it, and without a purge point, an opener would begin at txid 1 again).
func covered(segs []Segment, txid segments.TxID) []Segment {
	newest := segments.TxID(0)
	for _, s := range segs {
		if s.Finalized && !s.Damaged {
			newest = s.End.First
		}
	}
	for i, s := range segs {
		if !s.Finalized || s.End.First == newest || s.End.Digest.IsZero() || s.End.Last > txid {
			return segs[:i]
		}
	}
	return segs
}

// lessMargin returns the oldest of the covered segments without which the margin is still there.
func lessMargin(segs []Segment, txid segments.TxID, m Margin) []Segment {
	kept := int64(0) // covered bytes behind segment i
	for i := len(segs) - 1; i >= 0; i-- {
		// Whole: no overflow, and what is covered only in part counts for nothing.
		if uint64(txid-segs[i].End.Last) >= uint64(max(m.Txns, 0)) && kept >= m.Bytes {
			return segs[:i+1]
		}
		kept += segs[i].Bytes
	}
	return nil
}

// lessPins returns the oldest segments that no pin needs. A pin is in force as long as what it alone holds
// back is within the bound; what several pins hold back is what the lowest of them does.
func lessPins(segs []Segment, pins []Pin, bytesMax int64) (free []Segment, overrun []Pin) {
	free = segs
	for _, p := range pins {
		i := slices.IndexFunc(segs, func(s Segment) bool { return s.End.Last >= p.From })
		if i < 0 {
			continue
		}
		held := int64(0)
		for _, s := range segs[i:] {
			held += s.Bytes
		}
		if held > bytesMax {
			overrun = append(overrun, p)
			continue
		}
		free = free[:min(i, len(free))]
	}
	return free, overrun
}

// listedKept is how many of the newest listed snapshots stay: a download of the last but one may be under
// way when the last is listed.
const listedKept = 2

// HeldFile is a snapshot file here.
type HeldFile struct {
	Snapshot Snapshot
	Verified bool // by this node
	Damaged  bool
}

// Disposable returns the txids of the files that may be removed. It keeps: the two newest listed (C2);
// whatever is being downloaded; what may be listed yet, since this node has answered for it; the newest one
// that is listed and verified here, since the purge point rests on it, or the newest of all as long as none of those
// listed is verified here; and what is damaged (P4).
func Disposable(held []HeldFile, listed []Snapshot, downloading []segments.TxID) []segments.TxID {
	byTxID := func(a, b Snapshot) int { return cmp.Compare(a.TxID, b.TxID) }
	listed = slices.SortedFunc(slices.Values(listed), byTxID)
	if len(listed) == 0 {
		return nil
	}
	newest := listed[len(listed)-1].TxID
	kept := listed[max(0, len(listed)-listedKept):]
	var verified []Snapshot
	for _, h := range held {
		if h.Verified && !h.Damaged {
			verified = append(verified, h.Snapshot)
		}
	}
	cover, ok := Cover(listed, verified)
	for _, h := range held { // the list may have moved on since this node purged
		if s := h.Snapshot; !ok && !h.Damaged && !slices.Contains(kept, s) && s.TxID <= newest && s.TxID > cover.TxID {
			cover = s
		}
	}
	var out []segments.TxID
	for _, h := range held {
		s := h.Snapshot
		if h.Damaged || s.TxID > newest || s == cover || slices.Contains(kept, s) || slices.Contains(downloading, s.TxID) {
			continue
		}
		out = append(out, s.TxID)
	}
	slices.Sort(out)
	return out
}

// The durable purge point (C5).
const (
	purgedVersion = 1
	purgedSize    = 8 + 16
)

var purgedMagic = [8]byte{'Q', 'J', 'M', 'P', 'U', 'R', 'G', 'E'}

// SavePurged makes the purge point durable, before the first delete.
func SavePurged(fsys vfs.FS, name string, p segments.Position) error {
	b, err := appendPurged(nil, p)
	if err != nil {
		return err
	}
	return durable.Save(fsys, name, purgedMagic, purgedVersion, b)
}

// LoadPurged reads what SavePurged wrote. Where nothing was purged yet there is no file, and the point is
// zero. One that cannot be read is durable.ErrDamaged, and unknown (N2).
func LoadPurged(fsys vfs.FS, name string) (segments.Position, error) {
	b, _, err := durable.Load(fsys, name, purgedMagic, purgedVersion)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return segments.Position{}, nil
	case err != nil:
		return segments.Position{}, err
	}
	p, err := parsePurged(b)
	if err != nil {
		return segments.Position{}, fmt.Errorf("%w: %s: %w", durable.ErrDamaged, name, err)
	}
	return p, nil
}

func appendPurged(b []byte, p segments.Position) ([]byte, error) {
	if p.TxID == 0 || p.Digest.IsZero() {
		return b, fmt.Errorf("%w: purge point (got %v)", ErrInvalid, p)
	}
	return append(binary.LittleEndian.AppendUint64(b, uint64(p.TxID)), p.Digest[:]...), nil
}

func parsePurged(b []byte) (p segments.Position, err error) {
	if len(b) != purgedSize {
		return p, fmt.Errorf("%w: purge point's length (got %d, want %d)", ErrInvalid, len(b), purgedSize)
	}
	p.TxID = segments.TxID(binary.LittleEndian.Uint64(b))
	copy(p.Digest[:], b[8:])
	_, err = appendPurged(nil, p)
	return p, err
}
