// Package model is an explicit-state model of the data-plane rules: the design, executed, before
// and beside the code. It asks one question of every state a system of three nodes can reach: can
// any majority still be recovered by a fresh writer, with every committed txn in it, and does no
// node show what is not committed? docs/model.md says what it found and is the page to read first.
//
//	cfg := model.Config{Writers: 2, TxIDs: 1, Rules: model.Strong()}
//	cfg.Rules.R2aOneChoice = false            // weaken one rule
//	res, err := model.Search(cfg, 20_000_000) // every reachable state, breadth first
//	if err == nil && res.Violation != nil {
//		fmt.Println(res.Violation)            // DIVERGENCE: recovery on nodes AB: ...
//		for _, line := range res.Violation.Trace {
//			fmt.Println(line)                 // w1 NewEpoch+Prepare(1) at A, ...
//		}
//	}
//
// Search is exhaustive and deterministic, Walk takes random runs through what is too large for it,
// and Replay follows a script; a trace is a script. Command qjmmodel (cmd/qjmmodel) runs all three.
//
// # What is modelled
//
// Up to three writers, one epoch each, and up to three txids. A writer promises and prepares (one
// step a node), chooses, accepts, finalizes, starts a segment, appends, tells committed floors,
// finalizes, rolls once. Every message, once sent, may arrive at any time, any number of times, or
// never; a crashed writer takes no further step; a node may crash between any two disk steps of
// StartSegment. Nodes pull finalized segments from one another. Contents are values, so equal value
// stands for equal digest. Faults adds at most one rotten or unreadable copy and one wiped disk.
//
// # What is not
//
// Membership and config versions, snapshots and purge, leases, several frames in a batch, sources
// that refuse to serve, more than three nodes, a second opening of one writer. NewEpoch and Prepare
// are one step, and so is Accept, whose record is written first and rolled forward. A finalized
// copy that a majority contradicts is a violation here, not quarantined. The wait for remaining
// nodes of N2a never runs out, so what the rules leave open there is out of sight.
//
// # Invariants
//
// Checked in every state (kinds in capitals; probe.go):
//
//   - MC1 LOST: on each majority, the recovered segment holds every committed txid of its range,
//     with the committed value, and no committed txid lies beyond its end.
//   - MC2 UNREADABLE: a committed txid before that segment is finalized on some node of the majority.
//   - MC3 DECISION CHANGED: the recovered end is the one decided before, if any was.
//   - MC4 DIVERGENCE, STUCK: the recovery neither stops nor is refused, and the next segment starts.
//   - MC5 D1: what a node serves to readers is committed, with that value.
//   - MC6 TWO VALUES: no txid is committed with two values.
//
// # Rules
//
// Each switch of Rules is one numbered rule of the protocol, true in its strong form:
//
//	N1  N1Incarnation        W0 W0Idempotent          R1  R1SegmentEpoch
//	N2a N2aSyncedMark        W0 W0RemovesRecord       R2  R2Digests
//	N2a N2aCutAtWaits        W1 W1EpochIsPromise      R2a R2aOneChoice
//	F2  F2DataAnswers        W2 W2SyncBeforeAck       R3  R3Floors
//	                         W3 W3AckEpoch            R4  R4AcceptedRecord
//	                         W3 W3FloorDigest         R6  R6SafeDiscard
//	                         W5 W5FrameEpoch
//	                         W8 W8FinalizeCommitted   (W6, R4's order: Faults; D4: Reader)
//	                         W8 W8FinalizeMajority
//
// A new switch needs a row in the tests: what it catches, or why the model cannot see it.
package model
