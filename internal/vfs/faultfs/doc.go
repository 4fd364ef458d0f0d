// Package faultfs wraps a vfs.FS and makes it fail, or stops the world, at an operation of the test's
// choice. It also keeps the log of operations, so that a test can pin the order of syncs.
//
//	disk := memfs.New()
//	fsys := faultfs.New(disk)
//	fsys.Inject(faultfs.Rule{Op: faultfs.OpSync, PathContains: "segments/", Nth: 2, DropUnsynced: true})
//	fsys.CrashAt(17)                                  // the machine dies at the 17th mutation
//	err := workload(fsys)                             // errors.Is(err, faultfs.ErrCrashed)
//	after := disk.CrashClone(memfs.CrashOptions{})    // what the next boot finds
//
// Invariants:
//
//	X1  Operations run one at a time, and nothing reaches the inner FS after the crash. So what
//	    returned nil was done before the crash, whatever other goroutines do, and the inner FS holds
//	    still.
//	X2  An operation that fails by a rule is not done at all; Sync with DropUnsynced alone leaves a
//	    trace. An operation that fails by CrashAfter is done, and its caller does not learn it.
//	X3  Close is no operation: it is passed on always, so that handles and locks never leak, and
//	    reports ErrCrashed after the crash.
package faultfs
