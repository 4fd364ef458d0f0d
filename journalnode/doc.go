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
