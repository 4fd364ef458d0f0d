// Package libqjm writes and reads journals: replicated, epoch-fenced write-ahead logs for services that
// keep their state in memory and must not lose it. One process writes, standbys follow, and when the
// writer dies another takes over without losing one acknowledged transaction, and without the old one
// being able to write again.
//
// Start here:
//
//	client, err := libqjm.Dial(ctx, libqjm.Options{Endpoints: []string{"10.0.0.1:7400", "10.0.0.2:7400", "10.0.0.3:7400"}})
//	err = client.CreateJournal(ctx, "namespace")
//
//	w, err := client.OpenWriter(ctx, "namespace", libqjm.WriterOptions{})   // fences, recovers, is ready
//	txid, err := w.Append(ctx, []byte("mkdir /a"))                          // returns when committed
//
//	r, err := client.OpenReader(ctx, "namespace", libqjm.ReaderOptions{From: 1, Follow: true})
//	for txn, err := range r.All(ctx) { ... }
//
// Who wants a replicated state rather than a log gives a StateMachine to OpenReplica, in each of several processes: one
// is active, the others follow, and failover is automatic. It is new, and its API may still change.
//
//	r, err := client.OpenReplica("namespace", &tree, libqjm.ReplicaOptions{Addr: "10.0.1.1:80"})
//	done, err := r.Propose(ctx, libqjm.Proposal{Data: []byte("mkdir /a")})  // returns when committed and applied
//
// Package qjmtest has a cluster in one line for the tests of programs that use this package, with faults to come through.
//
// What a return from Append means: nil, the transaction is on the disks of a majority of the journal's
// nodes, synced, and every later writer finds it, and every linearizable reader; a plain reader may lag
// the last acknowledgements by a moment (ReaderOptions.Linearizable). An error: MayHaveCommitted(err) says
// whether it may be in the journal all the same (a deadline passed while it was under way, say), or is
// definitely not. A writer that lost its quorum is not dead: appends wait until their context ends, and
// go on when nodes return. A writer that was fenced is: every call returns the same *fencing.FencedError,
// which tells both epochs; appends wrap it in an *AppendError.
package libqjm
