package memfs

import "slices"

// slot is one place for an entry.
type slot struct {
	dir  *node
	name string
}

// change is one entry change that is not durable yet: a creation (from is unset), a removal (to is
// unset) or a rename.
type change struct {
	node     *node
	from, to slot
	// unsyncedDirs are the directories whose SyncDir the change still waits for.
	unsyncedDirs []*node
}

func newChange(n *node, from, to slot) *change {
	c := &change{node: n, from: from, to: to}
	for _, s := range []slot{from, to} {
		if s.dir != nil && !slices.Contains(c.unsyncedDirs, s.dir) {
			c.unsyncedDirs = append(c.unsyncedDirs, s.dir)
		}
	}
	return c
}

func (c *change) touches(s slot) bool { return s.dir != nil && (c.from == s || c.to == s) }

// appliesTo reports whether the change can be on a disk with these entries, where an earlier change
// may be lost. The file must be where the change takes it from, and the change must not displace a
// file that still exists: that one's own, earlier, move away would be lost and the file with it,
// which breaks M4. A file that is gone in the written tree may well be gone earlier than it was.
func (c *change) appliesTo(entries func(*node) map[string]*node) bool {
	if c.from.dir != nil && entries(c.from.dir)[c.from.name] != c.node {
		return false
	}
	if c.to.dir == nil {
		return true
	}
	standing := entries(c.to.dir)[c.to.name]
	return standing == nil || !standing.linked
}

func (c *change) apply(entries func(*node) map[string]*node) {
	if c.from.dir != nil {
		delete(entries(c.from.dir), c.from.name)
	}
	if c.to.dir != nil {
		entries(c.to.dir)[c.to.name] = c.node
	}
}

func written(dir *node) map[string]*node { return dir.entries }
func synced(dir *node) map[string]*node  { return dir.syncedEntries }

// syncDir makes the changes that waited for dir alone durable, and with them the earlier ones in the
// same slots: a name that was moved away from and taken again cannot be durable in its second use
// only. What stays pending shares no slot with what goes, so the two commute.
func (f *FS) syncDir(dir *node) {
	durable := make([]bool, len(f.pending))
	var slots []slot
	for i, c := range slices.Backward(f.pending) {
		c.unsyncedDirs = slices.DeleteFunc(c.unsyncedDirs, func(d *node) bool { return d == dir })
		durable[i] = len(c.unsyncedDirs) == 0 || slices.ContainsFunc(slots, c.touches)
		if durable[i] {
			slots = append(slots, c.from, c.to)
		}
	}
	var rest []*change
	for i, c := range f.pending {
		if durable[i] {
			c.apply(synced)
		} else {
			rest = append(rest, c)
		}
	}
	f.pending = rest
}
