// Package replication is the writer's side of the write path as a pure state machine: which frames are
// assigned, what each node is to be sent next, who has acknowledged what, what is committed, and when
// the writer is fenced. No goroutine, clock or network: libqjm puts streams around it, the simulation a
// fake network.
//
// The shell pulls: for each connected node it asks Next, sends what it gets, and feeds replies to
// Handle. There is no queue per node. All nodes read the same ring of encoded frames, each behind its
// own cursor, so a slow node costs no memory and never slows the others: when committed frames that it
// has not been sent leave the ring, it is told to fill the gap from a peer (W5) and then goes on, in
// the same segment.
package replication
