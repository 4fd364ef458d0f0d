// Package journal is one journal on one node: segments, fence, config and accepted records behind one
// set of methods that the journal's owner calls, one at a time. It decides with the pure cores
// (fencing, recovery), carries the decision out on disk, and only then returns the reply: persist, then
// reply. It starts no goroutine, reads no clock and opens no connection, so the simulation runs this
// very code.
//
//	owner:   NewEpoch Prepare BeginAccept FinishAccept Finalize Process ... (one caller at a time)
//	readers: View, Read, Digest                                             (any number)
//
// Process is the write path: it takes whatever messages of write streams have come together, stages
// their frames, writes and syncs them once (group commit), and only then lets the acks go.
//
// On disk, below the journal's directory:
//
//	VERSION        journal id and name, format version
//	fence          promised epoch and its writer id                       (F1)
//	config         installed config version and members                   (M0)
//	accepted-TXID  an accepted recovery                                   (R4)
//	committed      committed floor, best effort                           (W3)
//	segments/      segment files, see package segments/store
//
// A fence or config that is missing or cannot be read makes the whole journal unknown here (N2); a
// segment or accepted record that cannot be read makes that segment unknown, never absent.
package journal
