package memfs

import (
	"maps"
	"math/rand/v2"
)

// CrashOptions says what a power loss spares.
type CrashOptions struct {
	// UnsyncedPercent is the chance of each unsynced sector and of each unsynced entry change to
	// survive: 0 loses all, 100 keeps all.
	UnsyncedPercent int
	// Rand throws the dice. It is needed where UnsyncedPercent is neither 0 nor 100.
	Rand *rand.Rand
}

// CrashClone returns what a disk may hold when the power fails now, with nothing pending and no lock
// held. The original stays as it is and usable, so that one moment can be crashed in many ways.
func (f *FS) CrashClone(opts CrashOptions) *FS {
	keep := func() bool { return opts.UnsyncedPercent >= 100 }
	if opts.UnsyncedPercent > 0 && opts.UnsyncedPercent < 100 {
		if opts.Rand == nil {
			panic("memfs: CrashClone needs CrashOptions.Rand to throw dice")
		}
		keep = func() bool { return opts.Rand.IntN(100) < opts.UnsyncedPercent }
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	disk := &crashedDisk{keep: keep, entries: map[*node]map[string]*node{}}
	for _, c := range f.pending {
		if keep() && c.appliesTo(disk.of) {
			c.apply(disk.of)
		}
	}
	clone := &FS{capacity: f.capacity}
	clone.root = disk.build(f.root, &clone.used)
	return clone
}

// crashedDisk collects the entries that survive.
type crashedDisk struct {
	keep    func() bool
	entries map[*node]map[string]*node // by directory of the original
}

// of returns the surviving entries of a directory: the synced ones, until a change is applied.
func (d *crashedDisk) of(dir *node) map[string]*node {
	entries, known := d.entries[dir]
	if !known {
		entries = maps.Clone(dir.syncedEntries)
		d.entries[dir] = entries
	}
	return entries
}

// build makes the new tree, in the order of names so that equal dice fall on equal sectors.
func (d *crashedDisk) build(n *node, used *int64) *node {
	if !n.isDir {
		twin := newFile()
		twin.synced = n.afterCrash(d.keep)
		twin.data = append([]byte(nil), twin.synced...)
		*used += int64(len(twin.data))
		return twin
	}
	twin := newDir()
	entries := d.of(n)
	for _, name := range sortedNames(entries) {
		child := d.build(entries[name], used)
		twin.entries[name] = child
		twin.syncedEntries[name] = child
	}
	return twin
}

// ProcessCrashClone returns what a process that dies (kill -9) leaves to the next one: everything
// written is there, unsynced changes are still unsynced, locks are released.
func (f *FS) ProcessCrashClone() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	copies := map[*node]*node{}
	clone := &FS{capacity: f.capacity, used: f.used, root: f.root.copyTree(copies)}
	for _, c := range f.pending {
		twin := &change{
			node: c.node.copyTree(copies),
			from: slot{dir: c.from.dir.copyTree(copies), name: c.from.name},
			to:   slot{dir: c.to.dir.copyTree(copies), name: c.to.name},
		}
		for _, dir := range c.unsyncedDirs {
			twin.unsyncedDirs = append(twin.unsyncedDirs, dir.copyTree(copies))
		}
		clone.pending = append(clone.pending, twin)
	}
	return clone
}
