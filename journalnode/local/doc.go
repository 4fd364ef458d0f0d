// Package local runs a whole cluster of JournalNodes in this process, on loopback, to try things out: examples, tests
// of programs that embed libqjm, `journalnode dev`.
//
//	cluster, err := local.Start(ctx, local.Options{})
//	...
//	defer cluster.Stop(ctx)
//	client, err := libqjm.Dial(ctx, libqjm.Options{Endpoints: cluster.Endpoints()})
//
// It is no way to run production. One process is one failure, and so is one disk: a quorum of nodes that die together
// protects from nothing. It is also tuned for somebody who waits: elections are short, and little disk is held back.
package local
