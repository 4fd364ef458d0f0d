// Linear starts real nodes and real replicas of examples/kv, has concurrent clients read and write through them while
// processes are killed and stopped and the network between them is cut, and then checks what the clients were
// told against what libqjm promises.
//
//	make linear DURATION=5m SEED=1
//
// A run leaves a history: one Op for each request, with when it was called and when it returned by one monotonic clock. The
// checks (checks.go) look at nothing else, and each has a test with a history that it must refuse.
//
// Invariants that are checked:
//
//	H1  Writes, linearizable reads and lease reads of a key are linearizable, and each linearizable read and each
//	    lease read has everything, of all keys, that anybody was told of before it was called.
//	H2  An ETag is a txid: unique over all writes, in the order of real time, and names one value of one key.
//	H3  Any read's value is what its key had at exactly Qjm-Applied, which never goes back in one process.
//	H4  A fresh read has everything that was acknowledged longer than its bound before it was called.
//	H5  A read after=TXID has that transaction.
//	H6  A write in a session takes effect once, and each retry is answered alike.
//	H7  Nothing that was acknowledged is missing at the end; nothing that was refused was made.
//	H8  At the end all replicas have the same state at the same txid.
//	H9  No process ends that nobody ended; each answer is one of the contract's; writing goes on after healing.
//
// The program knows its processes by their pids, and ends no others.
package main
