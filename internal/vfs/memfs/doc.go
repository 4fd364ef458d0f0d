// Package memfs is vfs.FS in memory, with a model of what a disk holds after a power loss. It is for
// tests.
//
//	disk := memfs.New()
//	f, _ := disk.Create("a")                 // the entry is pending until SyncDir
//	_, _ = f.WriteAt(data, 0)                // the sectors are pending until Sync
//	_ = f.Sync()
//	after := disk.CrashClone(memfs.CrashOptions{})
//	_, err := after.Open("a")                // fs.ErrNotExist: the directory was not synced
//
// Every file has its written content (what reads see) and its synced content, with the sectors
// written since the last Sync as the difference. Every directory has its entries and its synced
// entries, with a log of changes as the difference. A crash throws a die for each sector and each
// change.
//
// Invariants:
//
//	M1  What was synced survives every crash: data after Sync, entries after SyncDir. A file is there
//	    after the crash when its entry and those of all directories above it are.
//	M2  A sector (512 bytes) survives whole or not at all: as last written, or as last synced.
//	M3  A file that was synced at some size keeps it unless it was cut; growth survives as far as the
//	    last surviving sector, with zeros where sectors before it were lost. A cut is one change.
//	M4  An entry change (creation, rename, removal) survives whole or not at all. A renamed file is
//	    under its old name or its new one, never both; never neither, if the old entry was synced and
//	    the file was not removed or replaced since. Changes may survive out of order.
//	M5  A rename between directories is pending until both are synced.
//	M6  Equal operations and equal dice give equal trees: no map order shows anywhere.
//
// What is not modelled: versions of a sector between the last synced and the last written one (crash
// between the two writes to see them), space taken by unlinked files that are still open, space taken
// by directories, and times (all are zero).
package memfs
