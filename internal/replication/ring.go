package replication

import (
	"slices"
	"sort"

	"github.com/quorumjournal/qjm/segments"
)

// ring holds the frames of the open segment that may still have to be sent: all that are not committed,
// and as many committed ones as fit the bound.
type ring struct {
	frames []segments.Frame
	ends   []int64           // total bytes up to and including frames[i]
	base   segments.Position // the position before frames[0]
	total  int64             // bytes ever pushed in this segment
	offset int64             // bytes that left
}

func (r *ring) reset(base segments.Position) { *r = ring{base: base} }

func (r *ring) push(f segments.Frame) {
	r.total += int64(f.Size())
	r.frames, r.ends = append(r.frames, f), append(r.ends, r.total)
}

func (r *ring) start() segments.Position { return r.base }

func (r *ring) last() segments.Position {
	if len(r.frames) == 0 {
		return r.base
	}
	return r.frames[len(r.frames)-1].Position()
}

// index returns how many frames end at or before t.
func (r *ring) index(t segments.TxID) int {
	return sort.Search(len(r.frames), func(i int) bool { return r.frames[i].Last() > t })
}

// at returns the position of the frame that ends at t.
func (r *ring) at(t segments.TxID) (segments.Position, bool) {
	if t == r.base.TxID {
		return r.base, true
	}
	i := r.index(t)
	if i == 0 || r.frames[i-1].Last() != t {
		return segments.Position{}, false
	}
	return r.frames[i-1].Position(), true
}

// bytesUpTo returns how many bytes of this segment lie at or before t.
func (r *ring) bytesUpTo(t segments.TxID) int64 {
	if i := r.index(t); i > 0 {
		return r.ends[i-1]
	}
	return r.offset
}

func (r *ring) bytesAfter(t segments.TxID) int { return int(r.total - r.bytesUpTo(t)) }

func (r *ring) bytesBetween(a, b segments.TxID) int {
	return max(0, int(r.bytesUpTo(b)-r.bytesUpTo(a)))
}

// after returns the frames behind t, up to bytes of them and up to room; always at least one where
// there is room at all.
func (r *ring) after(t segments.TxID, room, bytes int) []segments.Frame {
	i := r.index(t)
	if i == len(r.frames) || room <= 0 {
		return nil
	}
	j, sum := i, 0
	for j < len(r.frames) && (j == i || sum+r.frames[j].Size() <= min(room, bytes)) {
		sum += r.frames[j].Size()
		j++
	}
	return slices.Clone(r.frames[i:j]) // the ring's own slots are cleared when frames leave
}

// trim lets committed frames go while more than keep bytes are held.
func (r *ring) trim(committed segments.TxID, keep int) {
	n := r.index(committed)
	drop := 0
	for drop < n && r.total-r.ends[drop] >= int64(keep) {
		drop++
	}
	if drop == 0 {
		return
	}
	r.base, r.offset = r.frames[drop-1].Position(), r.ends[drop-1]
	clear(r.frames[:drop]) // let the bytes go now, not when append moves the slice
	r.frames, r.ends = r.frames[drop:], r.ends[drop:]
}
