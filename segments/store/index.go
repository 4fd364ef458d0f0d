package store

import (
	"cmp"
	"slices"

	"github.com/quorumjournal/qjm/segments"
)

// index holds a directory's segments by first txid, and beside them what is asked all the time: no question about one
// segment, and none about what is wrong, costs more for the others being many. A segment that is listed changes its
// name, its damage and its size through change alone. Guarded by Dir.mu.
type index struct {
	all      []*segment // by first; a new one comes at the end nearly always
	progress []*segment // in progress by name, by first: hardly ever more than one or two
	damaged  []*segment // by first
	gaps     int        // how many segments begin elsewhere than where the finalized one before them ends
	bytes    int64      // of the finalized ones whose size is known
	unsized  []*segment // all whose size is not known, and some that are known by now, or gone; see FinalizedBytes
}

func (x *index) get(first segments.TxID) *segment {
	if i, found := find(x.all, first); found {
		return x.all[i]
	}
	return nil
}

// put enters a segment, in place of the one that was there.
func (x *index) put(s *segment) {
	x.remove(s.name.First)
	i, _ := find(x.all, s.name.First)
	x.gaps -= x.gap(i)
	x.all = slices.Insert(x.all, i, s)
	x.gaps += x.gap(i) + x.gap(i+1)
	x.count(s)
}

func (x *index) remove(first segments.TxID) {
	i, found := find(x.all, first)
	if !found {
		return
	}
	x.uncount(x.all[i])
	x.gaps -= x.gap(i) + x.gap(i+1)
	x.all = slices.Delete(x.all, i, i+1)
	x.gaps += x.gap(i)
}

// change lets a segment's name, but not its first txid, its damage and its size be changed, be it listed or not.
func (x *index) change(s *segment, to func(*segment)) {
	i, _ := find(x.all, s.name.First)
	if i == len(x.all) || x.all[i] != s {
		to(s)
		return
	}
	x.uncount(s)
	x.gaps -= x.gap(i + 1)
	to(s)
	x.gaps += x.gap(i + 1)
	x.count(s)
}

func (x *index) damage(s *segment, err error) {
	x.change(s, func(s *segment) { s.err = err })
}

func (x *index) setBytes(s *segment, n int64) {
	x.change(s, func(s *segment) { s.bytes = n })
}

// gap is 1 where the segment at i does not begin where a finalized one before it ends: one in progress below the
// newest makes a gap, too.
func (x *index) gap(i int) int {
	if i < 1 || i >= len(x.all) || x.all[i-1].finalized() && x.all[i-1].name.Last+1 == x.all[i].name.First {
		return 0
	}
	return 1
}

func (x *index) count(s *segment) {
	if s.err != nil {
		x.damaged = insert(x.damaged, s)
	}
	switch {
	case !s.finalized():
		x.progress = insert(x.progress, s)
	case s.bytes < 0:
		x.unsized = append(x.unsized, s)
	default:
		x.bytes += s.bytes
	}
}

func (x *index) uncount(s *segment) {
	if s.err != nil {
		x.damaged = without(x.damaged, s)
	}
	switch {
	case !s.finalized():
		x.progress = without(x.progress, s)
	case s.bytes >= 0:
		x.bytes -= s.bytes
	}
}

// upTo returns how many segments begin at or before a txid.
func (x *index) upTo(t segments.TxID) int {
	i, found := find(x.all, t)
	if found {
		i++
	}
	return i
}

// finalizedUpTo returns the last of those that is finalized by name, or nil.
func (x *index) finalizedUpTo(t segments.TxID) *segment {
	for i := x.upTo(t) - 1; i >= 0; i-- { // what it passes by is in progress: hardly ever more than one or two
		if x.all[i].finalized() {
			return x.all[i]
		}
	}
	return nil
}

// find returns where in a list a segment is, or belongs.
func find(list []*segment, first segments.TxID) (int, bool) {
	if n := len(list); n > 0 && list[n-1].name.First < first {
		return n, false
	}
	return slices.BinarySearchFunc(list, first, func(s *segment, t segments.TxID) int { return cmp.Compare(s.name.First, t) })
}

func insert(list []*segment, s *segment) []*segment {
	i, _ := find(list, s.name.First)
	return slices.Insert(list, i, s)
}

func without(list []*segment, s *segment) []*segment {
	i, _ := find(list, s.name.First)
	return slices.Delete(list, i, i+1)
}
