package memfs

import "slices"

// sectorBytes is what a disk writes whole or not at all.
const sectorBytes = 512

// span is a range of sectors, [lo, hi).
type span struct{ lo, hi int64 }

// spans is a set of sectors: sorted, disjoint, not touching. Appending to a file only ever grows the
// last span.
type spans []span

// sectorsOf returns the sectors that bytes [lo, hi) touch.
func sectorsOf(lo, hi int64) span {
	return span{lo: lo / sectorBytes, hi: (hi + sectorBytes - 1) / sectorBytes}
}

// add returns the set with sp in it.
func (s spans) add(sp span) spans {
	if sp.lo >= sp.hi {
		return s
	}
	// [first, last) are the spans that overlap or touch sp; one span replaces them.
	first, _ := slices.BinarySearchFunc(s, sp.lo, func(e span, lo int64) int {
		if e.hi < lo {
			return -1
		}
		return 1
	})
	last := first
	for last < len(s) && s[last].lo <= sp.hi {
		sp.lo = min(sp.lo, s[last].lo)
		sp.hi = max(sp.hi, s[last].hi)
		last++
	}
	return slices.Replace(s, first, last, sp)
}

// below returns the set without the sectors from hi on.
func (s spans) below(hi int64) spans {
	for len(s) > 0 && s[len(s)-1].lo >= hi {
		s = s[:len(s)-1]
	}
	if len(s) > 0 {
		s[len(s)-1].hi = min(s[len(s)-1].hi, hi)
	}
	return s
}
