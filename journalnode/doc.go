// Package journalnode is one JournalNode: it keeps journals for their writers, which are elsewhere, and
// serves them to readers. Start runs a whole node inside any process; cmd/journalnode is a thin main
// around it.
//
//	node, err := journalnode.Start(ctx, journalnode.Options{
//		ID: "n1", DataDir: "/var/lib/qjm", Listen: "127.0.0.1:7400",
//		InitialCluster: []journalnode.Peer{{ID: "n1", Addr: "127.0.0.1:7400"}, ...},
//	})
//	...
//	err = node.Stop(ctx) // drains
//
// What who embeds a node should know:
//
//   - Start returns when the node listens, and does not wait for others: founders that are started one after the other find
//     each other. Ready tells when the cluster is founded and the node serves. All other work is done in goroutines of the
//     node's own, until Stop; the context of Start bounds the start only. Nothing ends the process: a node with a broken disk
//     goes on, and says so in Ready and in its log.
//   - It listens on Options.Listen for clients and peers, over gRPC without TLS, and on Options.HTTPListen, where set, for
//     /healthz, /readyz and /metrics; Node.Handler is the same for an HTTP server of the embedder's. The gRPC service itself
//     has a server of its own, and cannot be put into another one. The address in InitialCluster is where others reach the
//     node, so a founder cannot listen on port 0, and a node that moved says so with Advertise.
//   - DataDir belongs to one node. Start takes its lock, and returns ErrLocked where this process or another has it (N3);
//     Stop, or the end of the process, gives it back. Its identity is in it: what is in there must not be copied to another
//     node, nor be put back from a backup, for then the node has forgotten what it promised (N1).
//   - Disk: what journals hold is purged only behind snapshots that their users saved. ReserveBytes (64 MiB) are kept back
//     for the day when the disk is full. Memory: up to QueueBytes (64 MiB) wait for each journal whose writer is faster than
//     the disk, and GroupBytes are written at once; the catalog is held in memory.
//   - Several nodes in one process are well for tests and trials, with one DataDir and one port each. They also fall
//     together, so they tolerate the failure of nothing.
//   - A node and a writer in the same process are strangers to each other: the writer reaches the node over its port, as it
//     reaches the others.
//   - Metrics go to a registry of the node's own, or to Options.Registerer; set Gatherer with it. Two nodes cannot share
//     one, unless it adds a label for each (prometheus.WrapRegistererWith).
//
// Inside: package journal is one journal as a value that does what it is told, one call at a time. Each
// journal has one owner goroutine (owner.go), the only one that calls it; write streams (stream.go)
// queue messages for it, bounded in bytes, and it handles whatever has come together with one sync.
// Around them: who this storage is and how a cluster is founded (identity.go, genesis.go, rules N1 to
// N5), repair of segments from peers (repair.go, rules A0 and A1; holdings.go says when there is nothing to
// compare), the scrub (scrub.go, A2), and health.
//
// The control plane: the catalog (package catalog) is driven by a Raft group (package raftgroup) whose
// life is in control.go and machine.go. Commands and reads go through propose.go, to the leader wherever
// it is; what hangs on the catalog hooks in at oncatalog.go. The leader makes things so in leader.go, by
// the decisions of reconcile.go, which are pure. Journals are placed and dropped in journals.go, nodes
// come and go in members.go. Nothing of it is ever waited for by the data plane.
package journalnode
