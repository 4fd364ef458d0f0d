package model

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Beginnings that several scripts share.
const (
	// w1 begins segment 1 on A and B.
	w1OnAB = `
		w1 NewEpoch+Prepare(1) at A
		w1 NewEpoch+Prepare(1) at B
		w1 chooses segment 1 empty (answers AB)
		w1 StartSegment(1) at A
		w1 StartSegment(1) at B
		w1 sends txid 1
		w1 Append(1) at A
	`
	// w1 left txid 1 on A alone, uncommitted.
	w1OnA = `
		w1 NewEpoch+Prepare(1) at A
		w1 NewEpoch+Prepare(1) at B
		w1 chooses segment 1 empty (answers AB)
		w1 StartSegment(1) at A
		w1 sends txid 1
		w1 Append(1) at A
	`
	// A has 1 and 2, B and C have 1, all of epoch 1.
	w1Two = w1OnAB + `
		w1 StartSegment(1) at C
		w1 Append(1) at B
		w1 Append(1) at C
		w1 sends txid 2
		w1 Append(2) at A
	`
	// From w1OnA on: w2 recovers without A and commits its own txid 1 on B and C.
	w2OnBC = `
		w2 NewEpoch+Prepare(2) at B
		w2 NewEpoch+Prepare(2) at C
		w2 chooses segment 1 empty (answers BC)
		w2 StartSegment(1) at B
		w2 StartSegment(1) at C
		w2 sends txid 1
		w2 Append(1) at B
		w2 Append(1) at C
	`
	// From w1Two on: two recoveries cut off after one Accept each, so that A and B hold equal
	// copies of 2 which C's accepted record outbids.
	cutOffTwice = w1Two + `
		w2 NewEpoch+Prepare(2) at B
		w2 NewEpoch+Prepare(2) at C
		w2 chooses segment 1 ends 1 (answers BC)
		w2 Accept(1..1) at C
		w3 NewEpoch+Prepare(3) at A
		w3 NewEpoch+Prepare(3) at B
		w3 chooses segment 1 ends 2 (answers AB)
		w3 Accept(1..2) at B
	`
)

// TestFindings replays the review's findings by name. Weak, the script ends in the violation, or at
// weakEnd if the finding is a refusal; strong, it cannot go past strongEnd, or runs through unharmed.
func TestFindings(t *testing.T) {
	tests := []struct {
		name               string
		drop               string
		faults             Faults
		reader             Reader
		skipped            Checks
		script             string
		kind               Kind
		weakEnd, strongEnd string
	}{
		{name: "S1_duplicateStartSegment", drop: "W0Idempotent", kind: Lost, strongEnd: "w1 StartSegment(1) at A",
			script: w1OnAB + `w1 StartSegment(1) at A; w1 Append(1) at B`},
		{name: "S2_lateDiscard", drop: "R6SafeDiscard", kind: Lost, strongEnd: "w1 Discard(1) at A",
			script: w1OnAB + `w1 Discard(1) at A; w1 Append(1) at B`},
		{name: "S3a_floorShowsStaleCopy", drop: "W3FloorDigest", skipped: Checks{Probe: true}, kind: WrongRead,
			script: w1OnA + w2OnBC + `w2 tells A committed=1`},
		{name: "S3b_floorBlocksRepair", drop: "W3FloorDigest", kind: Stuck,
			script: w1OnA + w2OnBC + `w2 tells A committed=1`},
		{name: "S3c_floorBlocksRejoin", drop: "W3FloorDigest", skipped: Checks{Probe: true, D1: true},
			script: w1OnA + w2OnBC + `w2 tells A committed=1; w2 StartSegment(1) at A`, weakEnd: "w2 StartSegment(1) at A"},
		{name: "S4_retryDivides", drop: "R2aOneChoice", kind: Divergence, strongEnd: "w2 gives up",
			script: w1OnA + `
				w2 NewEpoch+Prepare(2) at A
				w2 NewEpoch+Prepare(2) at B
				w2 chooses segment 1 ends 1 (answers AB)
				w2 Accept(1..1) at A
				w2 gives up
				w2 NewEpoch+Prepare(2) at B
				w2 NewEpoch+Prepare(2) at C
				w2 chooses segment 1 empty (answers BC)
				w2 StartSegment(1) at B
				w2 sends txid 1
				w2 Append(1) at B`},
		{name: "S4_retryChangesDecision", drop: "R2aOneChoice", kind: DecisionChanged, strongEnd: "w2 gives up",
			script: w1Two + `
				w2 NewEpoch+Prepare(2) at A
				w2 NewEpoch+Prepare(2) at B
				w2 chooses segment 1 ends 2 (answers AB)
				w2 Accept(1..2) at A
				w2 gives up
				w2 NewEpoch+Prepare(2) at B
				w2 NewEpoch+Prepare(2) at C
				w2 chooses segment 1 ends 1 (answers BC)
				w2 Accept(1..1) at B
				w2 Accept(1..1) at C`},
		{name: "S5a_finalizeUncommitted_shown", drop: "W8FinalizeCommitted", kind: WrongRead, strongEnd: "w1 decides",
			script: w1OnA + `w1 decides to finalize 1..1; w1 Finalize(1..1) at A`},
		{name: "S5a_finalizeUncommitted_lost", drop: "W8FinalizeCommitted", skipped: Checks{D1: true}, kind: Lost, strongEnd: "w1 decides",
			script: w1OnA + `w1 decides to finalize 1..1; w1 Finalize(1..1) at A` + w2OnBC},
		{name: "S5b_startBeforeFinalize", drop: "W8FinalizeMajority", kind: Unreadable, strongEnd: "w1 rolls",
			script: w1OnAB + `w1 Append(1) at B; w1 decides to finalize 1..1; w1 rolls to segment 2; w1 StartSegment(2) at A`},
		{name: "S6_unknownFormsMajority", drop: "F2DataAnswers", faults: Faults{Unknown: true}, kind: Lost,
			script: w1OnAB + `w1 Append(1) at B; A segments damaged`},
		{name: "S7_rotIsTorn", drop: "N2aCutAtWaits", faults: Faults{Rot: true}, kind: Lost,
			script: w1OnAB + `w1 Append(1) at B; A last frame of 1 rots`},
		{name: "S8_statusIsAck", drop: "W3AckEpoch", kind: Lost, strongEnd: "w1 takes the status answer of B",
			script: cutOffTwice + `w1 takes the status answer of B`},
		{name: "S9_readerCountsCopies", reader: ReaderCount, kind: Lost, strongEnd: "reader counts equal copies of 1 on A and B",
			script: cutOffTwice + `reader counts equal copies of 1 on A and B`},
		{name: "S12_txidReused", faults: Faults{Reuse: true}, kind: Divergence, strongEnd: "w1 gives txid 1 to other bytes",
			script: w1OnAB + `w1 gives txid 1 to other bytes; w1 Append(1) at B`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{Writers: 3, TxIDs: 2, Rules: Strong(), Faults: tt.faults, Reader: tt.reader, Skipped: tt.skipped}
			lines := ParseScript(tt.script)
			strong, err := Replay(strengthened(cfg), lines)
			require.Nil(t, strong.Violation)
			requireEnd(t, err, tt.strongEnd)

			require.NoError(t, cfg.Rules.Drop(splitNames(tt.drop)...))
			weak, err := Replay(cfg, lines)
			requireEnd(t, err, tt.weakEnd)
			if tt.kind == "" {
				require.Nil(t, weak.Violation)
				return
			}
			require.NotNil(t, weak.Violation)
			require.Equal(t, tt.kind, weak.Violation.Kind, "%v", weak.Violation)
			require.Len(t, weak.Violation.Trace, len(lines), "the last step is the one that does it")
		})
	}
}

// requireEnd checks that a replay could not take line, or with "" that it came to its end.
func requireEnd(t *testing.T, err error, line string) {
	t.Helper()
	if line == "" {
		require.NoError(t, err)
		return
	}
	var refused *UnavailableError
	require.ErrorAs(t, err, &refused)
	require.True(t, strings.HasPrefix(refused.Line, line), "stopped at %q, want %q", refused.Line, line)
}

// TestR4InPlaceCrash is the in-place order by script: the half-done Accept at B is harmless.
func TestR4InPlaceCrash(t *testing.T) {
	cfg := Config{Writers: 3, TxIDs: 2, Rules: Strong(), Faults: Faults{InPlace: true}}
	lines := ParseScript(w1Two + `
		w2 NewEpoch+Prepare(2) at A
		w2 NewEpoch+Prepare(2) at B
		w2 chooses segment 1 ends 2 (answers AB)
		w2 Accept(1..2) at B, crash: content in place, record not
		w3 NewEpoch+Prepare(3) at B
		w3 NewEpoch+Prepare(3) at C
		w3 chooses segment 1 ends 2 (answers BC)
		w3 Accept(1..2) at C
		w2 Accept(1..2) at A`)
	res, err := Replay(cfg, lines)
	require.NoError(t, err)
	require.Nil(t, res.Violation)
}

// TestLateAcceptOfOlderSegment is a state that an earlier check of decided ends took for a loss: an
// Accept of segment 1 reaches its majority after segment 2 was decided.
func TestLateAcceptOfOlderSegment(t *testing.T) {
	lines := ParseScript(w1OnAB + `
		w1 Append(1) at B
		w1 decides to finalize 1..1
		w1 Finalize(1..1) at A
		w1 Finalize(1..1) at B
		w1 rolls to segment 2
		w1 StartSegment(2) at A
		w1 sends txid 2
		w1 Append(2) at A
		w2 NewEpoch+Prepare(2) at B
		w2 NewEpoch+Prepare(2) at C
		w2 chooses segment 1 ends 1 (answers BC)
		w2 Accept(1..1) at A
		w3 NewEpoch+Prepare(3) at A
		w3 NewEpoch+Prepare(3) at B
		w3 chooses segment 2 ends 2 (answers AB)
		w3 Accept(2..2) at A
		w3 Accept(2..2) at B
		w2 Accept(1..1) at C
		w2 has accepts from a majority
		w2 Finalize(1..1) at C`)
	cfg := Config{Writers: 3, TxIDs: 2, Rules: Strong()}
	res, err := Replay(cfg, lines)
	require.NoError(t, err)
	require.Nil(t, res.Violation)

	_, err = Replay(cfg, append(lines, "w2 recovery done"))
	requireEnd(t, err, "w2 recovery done")
}

func TestReplayNamesWhatIsUnavailable(t *testing.T) {
	_, err := Replay(Config{Writers: 1, TxIDs: 1, Rules: Strong()}, ParseScript("w1 NewEpoch; w1 sends txid 1"))
	require.EqualError(t, err, `model: no action "w1 sends txid 1" after 1 steps`)
}
