// Package libqjm is the client of qjm, a quorum journal: replicated, epoch-fenced write-ahead logs for services that keep
// their state in memory and must not lose it. One process writes, others follow, and when the writer dies one of
// them takes over without losing one acknowledged transaction, and without the old one being able to write again.
//
// # Where to start
//
// What do you want?
//
//   - My state, on two or three processes, one active, failover by itself: [Replica]. Give it a [StateMachine], and
//     call [Replica.Propose]. Most programs want this.
//   - That state once more elsewhere, to read from it or to feed another system: a Replica that is an Observer
//     ([ReplicaOptions]). It sees each proposal once, where the log may hold retries.
//   - A log that I write myself, and somebody decides who writes: [Client.Campaign], which is a [Writer] under a lease.
//   - A log, and I decide who writes: [Client.OpenWriter]. Opening fences whoever wrote before.
//   - To read a log, or to follow one: [Client.OpenReader].
//   - To find the active from outside: [Client.Routes].
//   - To manage journals, members and snapshots: the other methods of [Client], or the program qjmclient.
//
// All begin with [Dial]. The examples in example_test.go run; whole programs are in the module's examples directory: counter, kv,
// lock, namespace. Its docs/embedding.md goes from `go get` to a counter that survives, in ten minutes. Package
// libqjm/qjmtest gives your tests a cluster in one line, with faults; package journalnode runs the nodes in your own
// process.
//
// # A replicated state
//
//	client, err := libqjm.Dial(ctx, libqjm.Options{Endpoints: []string{"10.0.0.1:7400", "10.0.0.2:7400", "10.0.0.3:7400"}})
//	err = client.EnsureJournal(ctx, "accounts")
//	replica, err := client.OpenReplica("accounts", &accounts, libqjm.ReplicaOptions{Addr: "http://10.0.1.1:80"})
//
//	done, err := replica.Propose(ctx, libqjm.Proposal{Data: []byte("pay 5 to Ann")}) // committed, and applied here
//
//	_, err = replica.AwaitLinearizable(ctx) // now the state has all that anybody was told of
//	n := accounts.Of("Ann")
//
// Each process runs this; one is active, the rest are warm. What is applied is committed, on all of them, in one
// order, and never taken back. A proposal to one that is not active fails with a [NotActiveError] that names the active.
// [Replica.Transfer] hands over, [Replica.Close] drains.
//
// # A log
//
//	w, err := client.OpenWriter(ctx, "orders", libqjm.WriterOptions{}) // fences, recovers, is ready
//	txid, err := w.Append(ctx, []byte("pay 5 to Ann"))                 // returns when committed
//
//	r, err := client.OpenReader(ctx, "orders", libqjm.ReaderOptions{From: 1, Follow: true})
//	for txn, err := range r.All(ctx) { ... }
//
// # What an answer means
//
// nil from Append: the transaction is synced on the disks of a majority of the journal's nodes. Every later writer finds
// it, and every linearizable reader; a plain reader may lag by a moment. nil from Propose: that, and it is applied in
// this process.
//
// An error: [MayHaveCommitted] says whether the transaction may be in the log all the same (a deadline passed
// while it was under way, say), or is certainly not. Where it may be, do not just try again, for it may happen twice: look at
// the state, or propose in a [Session].
//
// A writer that lost its majority is not dead: calls wait until their context ends, and go on when nodes return. A
// writer that was fenced is: every call says so, with both epochs. docs/errors.md lists what to do when.
//
// # Limits
//
// Everything is bounded, and every bound has a name: [WriterOptions], [ReplicaOptions], [SessionLimits], [RoutesMax]. A
// transaction has up to [DefaultMaxTxnBytes]; what is under way, up to QueueBytes: beyond it, calls wait.
package libqjm
