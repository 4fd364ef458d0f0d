// Package leaseclock is the leader's count of when writer leases are over, as a value (L2, L3). Nobody counts in the
// catalog's state machine, and no clock is read here: the time is passed in.
//
//	c := leaseclock.New()        // after the leader's own Barrier
//	c.See(now, catalog.Leases()) // what there is
//	c.Renew(now, index, kept)    // as an entry with renewals is applied
//	for _, e := range c.Due(now) {
//		// propose e: the catalog refuses it if the lease was renewed before it in the log
//	}
package leaseclock
