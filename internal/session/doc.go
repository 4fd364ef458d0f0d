// Package session makes proposals that clients retry take effect once. It is a part of the replicated state: every
// replica steps it with the same entries of the log, in the same order, and so every one knows, after any failover
// and out of any snapshot, which of a client's proposals were applied, and what they returned.
//
// A client opens a session, numbers its proposals in it (from 1, one by one), and says with each which of them it
// still awaits the answer of. A proposal that was applied before is not applied again: its result is returned again.
//
//	t := session.New(session.Limits{})
//	t.Advance(stamp)                       // what time the entry says it is
//	v := t.Begin(id, seq, awaited)         // Apply, or Again with the result, or Refused with the reason
//	t.Done(id, seq, result)                // after it was applied
//
// Invariants:
//
//	S1  Begin says Apply at most once for a session and number, for ever: what is forgotten is refused, never
//	    taken for new.
//	S2  Equal entries make equal tables: no clock, no map order, no random source decides anything.
//	S3  Memory is bounded by Limits.
//	S4  Time only decides how long a session is kept. Stamps come from the clock of whoever was active, so they may
//	    be wrong by anything: they make sessions end early or late, and nothing else.
//
// It is a value: no goroutine, clock, network or file. Not safe for concurrent use.
package session
