// Package fencing decides who may write. It is the epoch fence of one journal on one node as a pure
// state machine: values in, values out, nothing else. The caller makes a new State durable before it
// replaces the old one, and replies only after that.
//
//	next, err := state.Admit(claim)      // state is untouched
//	if err != nil { return err }         // refused, on saved state only
//	if next != state { save(next) }      // temporary, fsync, rename, fsync directory
//	state = next                         // visible only now; then the reply
//
// Invariants, by their numbers in docs/protocol.md:
//
//   - F1: a promise never goes back, and is durable before anything rests on it.
//   - F2: NewEpoch succeeds above the promise; the same claim again is answered again; the same
//     epoch from another writer is a lost race, which is not fencing.
//   - F3: every other request of an equal epoch must come from the promised writer; one of a higher
//     epoch promises first.
//   - F4: a writer id names one opening; ids are never reused.
package fencing
