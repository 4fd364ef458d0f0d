// Package store keeps the segments of one journal in a directory: it starts, appends to, finalizes,
// reads, replaces and removes them, over package vfs.
//
//	dir/00000000000000000001-00000000000000000400.seg     finalized
//	    00000000000000000401.inprogress                   may grow
//	    00000000000000000401.inprogress.torn-1            put aside, with the reason
//	    00000000000000000401.inprogress.install-replaced  on its way into place; Open finishes it
//	    incoming-00000000000000000401-peer2.tmp           being built; Open removes it
//
// A copy's ways:
//
//	Create --> in progress --Finalize--> finalized --Remove--> gone
//	             |  ^   |                   ^   ^
//	   OpenTail: |  |   +--- damaged ---+   |   | InstallFinalized
//	   cut, put  +--+                   +---+---+
//	   down again   ^                   |
//	                +-InstallInProgress-+--SetAside--> aside
//
// A minimal user:
//
//	d, err := store.Open(fsys, dir, journal, store.Options{})
//	w, err := d.Create(segments.Header{Journal: journal, First: 1, Epoch: epoch})
//	err = w.Append(frames...)
//	err = w.Commit()                   // durable, and visible to readers, from here on
//	info, err := w.Finalize(segments.End{First: 1, Last: w.Last().TxID, Digest: w.Last().Digest})
//	r, err := d.Reader(1, 17)
//	f, err := r.Next()
//
// Invariants, cited by tests:
//
//	T1 What Commit returned nil for is there after every crash (W2).
//	T2 Readers see synced content only, and only whole and verified frames (D2, D3).
//	T3 Damage at or below the highest synced mark is never cut, and never answered as absence or as
//	   a shorter length (N2, N2a).
//	T4 What OpenTail reported survives a power loss right after it (W2a).
//	T5 Multi-step changes of names are rolled forward by Open, or were never visible (R4). No copy is
//	   deleted to make room for another: it is renamed aside.
//	T6 After a failed write or sync nothing is written any more. No sync is tried again.
package store
