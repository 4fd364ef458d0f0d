// Package recovery decides how an in-progress segment ends: paxos, one decision per segment, "S ends
// at txid E with chain digest D". It is pure: values in, values and effects out; no network, clock,
// file or goroutine.
//
// Three parts:
//
//   - Choose: given what a majority of nodes hold of a segment, the one ending that cannot contradict
//     anything acknowledged (rules R2, R3), or an error that names why there is none. Never a guess.
//   - Coordinator: the writer's side; one epoch, one choice (R2a). It is stepped with Events and
//     answers with Effects.
//   - Decide...: the node's side (the acceptor): what StartSegment, Accept and Finalize do to the copy
//     that a node holds (W0, R4, R5, R7). The node carries the decision out on disk, then replies.
//
// The numbered rules are in docs/protocol.md; each test is named after the one it guards.
package recovery
