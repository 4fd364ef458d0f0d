package model

// visited is the set of states seen, by key, each with the state it was first reached from. It is
// an open-addressed table over two flat arrays: 20 to 30 bytes a state, and nothing for the
// collector to walk.
type visited struct {
	keys   []uint64
	parent []uint32
	slots  []uint32 // index into keys, plus one; 0: free
}

func newVisited() *visited { return &visited{slots: make([]uint32, 1<<16)} }

// add enters key, reached from the state numbered from, and reports its number and whether it is new.
func (v *visited) add(key uint64, from uint32) (uint32, bool) {
	if 3*len(v.keys) >= 2*len(v.slots) {
		v.grow()
	}
	slot := v.find(key)
	if n := v.slots[slot]; n != 0 {
		return n - 1, false
	}
	n := uint32(len(v.keys))
	v.keys, v.parent = append(v.keys, key), append(v.parent, from)
	v.slots[slot] = n + 1
	return n, true
}

// find returns the slot that holds key, or the free one where it belongs.
func (v *visited) find(key uint64) uint64 {
	mask := uint64(len(v.slots) - 1)
	slot := key & mask
	for v.slots[slot] != 0 && v.keys[v.slots[slot]-1] != key {
		slot = (slot + 1) & mask
	}
	return slot
}

func (v *visited) grow() {
	v.slots = make([]uint32, 2*len(v.slots))
	for n, key := range v.keys {
		v.slots[v.find(key)] = uint32(n) + 1
	}
}

// path returns the keys from the state after the first one to state n.
func (v *visited) path(n uint32) []uint64 {
	var keys []uint64
	for ; n != 0; n = v.parent[n] {
		keys = append(keys, v.keys[n])
	}
	for i, j := 0, len(keys)-1; i < j; i, j = i+1, j-1 {
		keys[i], keys[j] = keys[j], keys[i]
	}
	return keys
}
