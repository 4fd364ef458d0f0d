// Package simtest is the deterministic simulation: several JournalNodes and competing writers in one
// goroutine, over a fake network, clock and disk, driven by one seed. What decides and what touches the
// disk is the real code: journalnode/journal on the node, recovery.Coordinator and internal/replication
// on the writer; only the shells around them (goroutines, queues, gRPC) are replaced by an event queue.
//
// The network loses, delays, repeats and reorders requests, breaks streams, and is cut between any two
// parties, one way or both. Disks lose what was not synced; machines die at any disk operation, and come
// back. Writers die anywhere and are followed by others, up to three at once.
//
// The oracle keeps what was acknowledged. After every step that changed what would survive a power
// failure, it asks on every majority whether a fresh writer could recover there, and whether that would
// keep every acknowledged transaction, with its content, and every decided ending (oracle.go).
//
// The same seed gives the same run, to the byte: Result.Digest covers every event.
//
//	make sim SEEDS=1000 SEED=1
package simtest
