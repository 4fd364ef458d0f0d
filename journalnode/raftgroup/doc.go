// Package raftgroup is one Raft group as a small API. It is the only package that imports
// hashicorp/raft, so that the faults of that library are met in one place. It knows nothing of the
// catalog: what is replicated is a Machine over bytes.
//
//	opts := raftgroup.Options{Dir: dir, Self: "n1/7f3a", Cluster: cluster, Machine: m, Dial: dial}
//	err := raftgroup.Bootstrap(opts, voters)    // once in the life of a founder; Create for one that joins
//	g, err := raftgroup.Start(opts)
//	from, err := raftgroup.ReadHello(conn, cluster, opts.Self) // the node's listener
//	g.Accept(conn, from)
//	res, err := g.Apply(ctx, command)           // on the leader
//	err = g.Barrier(ctx)                        // then read the machine: a linearizable read
//	err = g.Shutdown(ctx)
//
// Invariants, cited by the tests:
//
//	G1 Heartbeats take the same queue as every other request: no reply leaves while the main loop is
//	   inside the store (upstream #695). So they measure the disk, and the timeouts are seconds.
//	G2 Pre-vote is on.
//	G3 Nothing rests on upstream's check of leadership by heartbeat, which says yes on a deposed leader.
//	   A read rests on a Barrier, which is an entry of the log.
//	G4 A ServerID is id/incarnation, and it is the address too. It becomes a connection at dial only, so
//	   no address ever comes from the log. The first bytes of a stream name cluster, sender and
//	   receiver; on a mismatch it is closed. A node without a started group answers nobody.
//	G5 While a call to the log store is older than Options.StoreStallAfter, every outgoing request
//	   fails, and Apply, Barrier and changes are refused at once: to the others this node is cut off,
//	   and one of them leads (#503, #666). The call itself is never given up: an entry that is written
//	   late, after we said that it was not, could win an election later.
//	G6 One request is under way at a time to each peer (#612).
//	G7 A transfer of leadership ends in bounded time, and after a failed one there is no second to the
//	   same peer in the same term: that second one could block upstream for ever (#696).
//	G8 One raft snapshot that is installed more than twice on one peer raises an alarm in Stats (#697).
//	   It heals when the leader's newest snapshot is beyond the peer's last entry: SnapshotNow.
//	G9 A store is created complete and synced, under its name only then (N5), and never by Start: a
//	   blank node would vote.
//	G10 An error of Apply says whether the command may have happened: errors.Is(err, ErrMayHaveHappened).
//	G11 A leader leads alone for LeaderLease, less a tenth, from when its last Barrier began: Leased. Not
//	    in a term in which it tried to transfer its leadership.
//
// The exception to "only internal/vfs touches the disk": bbolt maps its file into memory and the file
// snapshot store writes its own files, so this package uses os. internal/lint names it.
package raftgroup
