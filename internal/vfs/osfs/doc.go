// Package osfs is vfs.FS on the real file system. It is the only package below cmd that imports os.
//
//	fsys := osfs.New("/var/lib/qjm")
//	lock, err := fsys.Lock("LOCK")            // flock: vfs.ErrLocked while another process runs
//	f, err := fsys.Create("segments/00.seg")  // O_EXCL
//	_, err = f.WriteAt(frame, 0)
//	err = f.Sync()                            // fdatasync
//	err = fsys.SyncDir("segments")            // fsync of the directory
//
// Invariants:
//
//	O1  A failed fdatasync or fsync is reported and never tried again, EINTR excepted (there the
//	    call did not run): Linux marks the pages of a failed write-back clean, so a second call
//	    reports success for data that is lost.
//	O2  ENOSPC and EDQUOT satisfy errors.Is for vfs.ErrNoSpace and for the original error.
//	O3  No path but the caller's is touched; nothing is made, cleaned or removed on the side.
package osfs
