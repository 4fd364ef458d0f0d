// Package simtest is the deterministic simulation: several JournalNodes and competing writers in one
// goroutine, over a fake network, clock and disk, driven by one seed. What decides and what touches the
// disk is the real code: journalnode/journal on the node, recovery.Coordinator and internal/replication
// on the writer; only the shells around them (goroutines, queues, gRPC) are replaced by an event queue.
//
// The network loses, delays, repeats and reorders requests, breaks streams, and is cut between any two
// parties, one way or both. Machines die at any disk operation, and come back with each unsynced sector and
// each unsynced rename kept or lost by itself. Disks run full for a while, and syncs fail. Writers die
// anywhere and are followed by others, up to three at once. There are three nodes, or five.
//
// Disks are damaged, too, a minority of every member set in force at once (damage.go): one is wiped, and comes
// back as another incarnation; bytes rot, on a machine that is up or down, in segments and in every small file.
// The node's scrub and repair are stepped along. A damaged node counts as whole again when its disk holds all
// that was acknowledged, and all of it can be read; only then may another be damaged.
//
// In a part of the runs members change all the time (members.go, driver.go): 3 to 5 and back, one or all of
// them replaced, a wiped disk re-admitted as another incarnation, by two drivers that crash at any step and go
// on from an old copy of the catalog. The catalog is the real state machine, applied in one place: it stands
// for the Raft group, which never loses anything here. What to do next is membership.Next's decision. Writers
// go over to newer configs (M3), attempts start over (M7), nodes are sent what they lack (M0), those that have
// left drop their data (M8), and are switched off in the end.
//
// Some interleavings take several cuts, one after the other: walls.go lays them. A writer is stranded with one
// node while members change, and comes back (M3); an attempt hears of a newer config between its choice and its
// last accept (M7).
//
// In another part of the runs users save snapshots, a majority's are listed, and nodes purge what they cover, less a
// margin, each as its copy of the catalog is applied; who finds its log purged at its peers starts from a snapshot
// (snaps.go). Store and decisions are the real ones. The oracle then takes a listed snapshot that a node of the
// majority holds, with all behind it, for what was purged; it holds purge points against C2 and C5 itself. Where both
// are on, members of purged journals change: learners start from a snapshot, and hold purges back, within a bound that
// some of them need more than; what counts as held before the seal is membership's own judgement (M4); who leaves
// drops snapshots and purge point (M8), and may come back; a node's copy of the catalog stands still for long.
//
// Where there are leases (leases.go), the writers' processes campaign for them: grants, renewals, expiries and transfers
// are the catalog's own, and the count is the leader's own (leaseclock). An entry about leases changes nothing else, and
// writers whose lease is over, or somebody else's, go on (L1); none is ended that its holder may trust, and no two are
// trusted at a time (L2, L3).
//
// The oracle keeps what was acknowledged. After every step that changed what would survive a power
// failure, it asks on every majority whether a fresh writer could recover there, and whether that would
// keep every acknowledged transaction, with its content, and every decided ending (oracle.go). A majority
// with a damaged node may be stuck; it must not choose wrongly. It asks so for every config that there ever
// was, on each majority of which nobody has heard of a newer one. One loss is excused, N2a's documented
// residue: synced frames that rot above their node's last mark, while the other holder is away. The oracle
// reads the marks itself, requires that nothing is lost with all nodes there, nor where a floor tells of it,
// and ends the run at such a choice (measure, chosen).
//
// A run can go without a rule (broken.go), to see that the oracle notices: TestDroppedRulesAreCaught. With the rule
// the same run must find nothing.
//
// What is not simulated: majorities that are lost for good; leases that decide who opens; the shells, so also which
// node repair asks and what it makes of lists that differ (journalnode); genesis and the manifest (N4, N5); two
// journals on one node; relays (R4, W5); deleted journals; readers, but for what nodes would show them.
//
// The same seed gives the same run, to the byte: Result.Digest covers every event.
//
//	make sim SEEDS=1000 SEED=1
package simtest
