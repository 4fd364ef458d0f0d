// Package membership decides how a change of a journal's members goes on: given what the catalog
// remembers and what the nodes have told, Next returns the one thing to do now. It is pure: no goroutine,
// clock, network or file. The leader's shell asks the nodes, calls Next, does what it says, and asks again;
// whoever leads next does the same from where the catalog and the nodes stand, so a change can be cut off
// anywhere and goes on (M6).
//
//	learning ── Joint ──► joint ── Sealed ──► sealed ── Final ──► final ── Finish ──► no change
//	   │ new members copy    │ old: majority has   │ everything before    │ new: majority has the config,
//	   │ all that is         │ installed it (M2);  │ the seal finalized   │ a segment was started under it;
//	   │ finalized (M6)      │ the writer, or a    │ on a majority of     │ those that left keep config and
//	   │                     │ mover, seals (M4)   │ the new set (M4)     │ promise as a tombstone (M8)
//	   └──────── Abort ──────┴─────────────────────┘ until Final is applied: the old set as a new version
//
// The rule that everything hangs on is the seal, M4: under the joint config one epoch has started a segment
// on a majority of both sets. Every later quorum meets one of them, so nothing more can be committed under
// the config before; and what was before it is finalized, so it can be compared by digest.
package membership
