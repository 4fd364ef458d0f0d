package memfs

import (
	"maps"
	"slices"
)

// notCut is the value of content.cutTo for a file that did not shrink since its last sync.
const notCut = -1

// node is a file or a directory: an inode. It is guarded by FS.mu.
type node struct {
	isDir  bool
	linked bool // whether the written tree holds it
	locked bool

	content // of a file

	// Of a directory. Between them stand the changes in FS.pending.
	entries       map[string]*node
	syncedEntries map[string]*node
}

func newFile() *node { return &node{linked: true, content: content{cutTo: notCut}} }

func newDir() *node {
	return &node{linked: true, isDir: true, entries: map[string]*node{}, syncedEntries: map[string]*node{}}
}

// content is what a file holds, as written and as synced.
//
// Sectors outside dirty are as in synced after a crash, whatever data says: after a failed sync
// (dropUnsynced) the two differ there, and no later sync repairs that.
type content struct {
	data        []byte
	synced      []byte
	dirty       spans // written since the last sync
	sizeChanged bool  // since the last sync
	cutTo       int64 // smallest size since the last sync if below the synced one, or notCut
}

// write puts p at off, with zeros between the end and off.
func (c *content) write(p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	c.growTo(off + int64(len(p)))
	copy(c.data[off:], p)
	c.dirty = c.dirty.add(sectorsOf(off, off+int64(len(p))))
}

func (c *content) growTo(size int64) {
	old := int64(len(c.data))
	if size <= old {
		return
	}
	c.data = resize(c.data, size)
	c.dirty = c.dirty.add(sectorsOf(old, size))
	c.sizeChanged = true
}

func (c *content) truncate(size int64) {
	if size >= int64(len(c.data)) {
		c.growTo(size)
		return
	}
	c.data = c.data[:size]
	c.dirty = c.dirty.below(sectorsOf(0, size).hi)
	c.sizeChanged = true
	if size < int64(len(c.synced)) && (c.cutTo == notCut || size < c.cutTo) {
		c.cutTo = size
	}
}

// sync makes the dirty sectors, and only those, durable.
func (c *content) sync() {
	if c.cutTo != notCut {
		c.synced = c.synced[:c.cutTo]
	}
	if c.sizeChanged {
		c.synced = resize(c.synced, int64(len(c.data)))
	}
	for _, sp := range c.dirty {
		for sector := sp.lo; sector < sp.hi; sector++ {
			c.synced = overlay(c.synced, c.data, sector)
		}
	}
	c.dropUnsynced()
}

// dropUnsynced is what a failed fsync does on Linux: the pages stay readable as written and count
// as clean, so only a new write to a sector can make that sector durable.
func (c *content) dropUnsynced() {
	c.dirty = c.dirty[:0]
	c.sizeChanged = false
	c.cutTo = notCut
}

// afterCrash returns what the disk holds; keep decides for each unsynced change.
func (c *content) afterCrash(keep func() bool) []byte {
	disk := slices.Clone(c.synced)
	if c.cutTo != notCut && keep() {
		disk = disk[:c.cutTo]
	}
	for _, sp := range c.dirty {
		for sector := sp.lo; sector < sp.hi; sector++ {
			if keep() {
				disk = overlay(disk, c.data, sector)
			}
		}
	}
	return disk
}

// overlay copies one sector of data into disk, which grows as far as that sector of data reaches.
func overlay(disk, data []byte, sector int64) []byte {
	lo := sector * sectorBytes
	hi := min(lo+sectorBytes, int64(len(data)))
	if int64(len(disk)) < hi {
		disk = resize(disk, hi)
	}
	copy(disk[lo:hi], data[lo:hi])
	return disk
}

// resize sets the length; bytes gained are zero, also where the capacity holds older ones.
func resize(b []byte, size int64) []byte {
	old := int64(len(b))
	if size <= old {
		return b[:size]
	}
	b = slices.Grow(b, int(size-old))[:size]
	clear(b[old:])
	return b
}

// copyTree copies a tree with everything that is pending in it. copies maps old nodes to new ones:
// a node may stand in a written and in a synced directory.
func (n *node) copyTree(copies map[*node]*node) *node {
	if n == nil {
		return nil
	}
	if twin, done := copies[n]; done {
		return twin
	}
	twin := &node{isDir: n.isDir, linked: n.linked, content: n.content}
	copies[n] = twin
	twin.data = slices.Clone(n.data)
	twin.synced = slices.Clone(n.synced)
	twin.dirty = slices.Clone(n.dirty)
	twin.entries = copyEntries(n.entries, copies)
	twin.syncedEntries = copyEntries(n.syncedEntries, copies)
	return twin
}

func copyEntries(entries map[string]*node, copies map[*node]*node) map[string]*node {
	if entries == nil {
		return nil
	}
	twins := make(map[string]*node, len(entries))
	for name, child := range entries {
		twins[name] = child.copyTree(copies)
	}
	return twins
}

// sortedNames returns the names in a directory.
func sortedNames(entries map[string]*node) []string {
	return slices.Sorted(maps.Keys(entries))
}
