package quorum

import "slices"

// Majority reports whether the members for which has is true are a majority of every set. A config
// without sets has no majority: a deleted journal decides nothing.
func (c Config) Majority(has func(Member) bool) bool {
	for _, set := range c.Sets {
		n := 0
		for _, m := range set {
			if has(m) {
				n++
			}
		}
		if n <= len(set)/2 {
			return false
		}
	}
	return len(c.Sets) > 0
}

// MajorityPossible reports whether the members that are not lost could still be a majority of every
// set.
func (c Config) MajorityPossible(lost func(Member) bool) bool {
	return c.Majority(func(m Member) bool { return !lost(m) })
}

// Common returns the highest value that a majority of every set has reached: the committed txid,
// where value is each member's acknowledged one.
func (c Config) Common(value func(Member) uint64) uint64 {
	if len(c.Sets) == 0 {
		return 0
	}
	low := ^uint64(0)
	var buf [MaxMembers]uint64
	for _, set := range c.Sets {
		v := buf[:0]
		for _, m := range set {
			v = append(v, value(m))
		}
		slices.Sort(v)
		// The majority of n has n/2+1 nodes, so the value that many have reached is the one with
		// n/2 values at or above it besides itself.
		low = min(low, v[len(v)-len(v)/2-1])
	}
	return low
}

// CommonSets returns the config c with only those member sets that o has, too, compared whole, by (id,
// incarnation). What an open segment commits on while its writer goes over to another config (M3). It
// has no majority where there are none.
func (c Config) CommonSets(o Config) Config {
	both := Config{Version: c.Version}
	for _, set := range c.Sets {
		same := func(other []Member) bool { return slices.EqualFunc(set, other, Member.Same) }
		if slices.ContainsFunc(o.Sets, same) {
			both.Sets = append(both.Sets, set)
		}
	}
	return both
}
