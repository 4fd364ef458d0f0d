package model

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// dropped is one row: what is weakened or let in, the smallest system that shows it, and what the
// shortest trace leads to.
type dropped struct {
	name            string
	drop            string // fields of Rules, comma-separated
	faults          Faults
	reader          Reader
	skipped         Checks
	writers, txids  int
	kind            Kind
	depth           int
	message, lastBy string // parts of the message and of the last action
}

// Where a row drops two rules, the second is the one that turns loss into a clean stop.
var droppedRows = []dropped{
	{name: "W0_StartSegmentIdempotent_S1", drop: "W0Idempotent", writers: 1, txids: 1, kind: Lost, depth: 9},
	{name: "R6_SafeDiscard_S2", drop: "R6SafeDiscard", writers: 1, txids: 1, kind: Lost, depth: 9},
	{name: "W3_FloorHasDigest_S3_blocksRepair", drop: "W3FloorDigest", writers: 2, txids: 1, kind: Stuck, depth: 15,
		message: "would drop the committed floor", lastBy: "tells A committed=1"},
	{name: "W3_FloorHasDigest_S3_showsStaleCopy", drop: "W3FloorDigest", skipped: Checks{Probe: true}, writers: 2, txids: 1,
		kind: WrongRead, depth: 15},
	{name: "R2a_OneChoicePerEpoch_S4", drop: "R2aOneChoice", writers: 2, txids: 1, kind: Divergence, depth: 17},
	{name: "R2a_OneChoicePerEpoch_S4_noDigests", drop: "R2aOneChoice,R2Digests", writers: 2, txids: 1, kind: Lost, depth: 19},
	{name: "W8_FinalizeOnlyCommitted_S5a_shown", drop: "W8FinalizeCommitted", writers: 2, txids: 1, kind: WrongRead, depth: 8},
	{name: "W8_FinalizeOnlyCommitted_S5a_lost", drop: "W8FinalizeCommitted", skipped: Checks{D1: true}, writers: 2, txids: 1,
		kind: Lost, depth: 16},
	{name: "W8_StartAfterMajorityFinalize_S5b", drop: "W8FinalizeMajority", writers: 1, txids: 2, kind: Unreadable, depth: 11},
	{name: "F2_DataAnswersCountedApart_S6", drop: "F2DataAnswers", faults: Faults{Unknown: true}, writers: 1, txids: 1,
		kind: Lost, depth: 9, lastBy: "segments damaged"},
	{name: "N1_WipedNodeCounts", drop: "N1Incarnation", faults: Faults{Wipe: true}, writers: 1, txids: 1,
		kind: Lost, depth: 9, lastBy: "disk wiped"},
	{name: "N2a_TornIsRot_S7", drop: "N2aCutAtWaits,N2aSyncedMark", faults: Faults{Rot: true}, writers: 1, txids: 1,
		kind: Lost, depth: 9, lastBy: "rots"},
	{name: "N2a_TornIsRot_S7_evenWithMarks", drop: "N2aCutAtWaits", faults: Faults{Rot: true}, writers: 1, txids: 1,
		kind: Lost, depth: 9, lastBy: "rots"},
	{name: "W3_AckNeedsEpoch_S8_stops", drop: "W3AckEpoch", writers: 3, txids: 1, kind: Stuck, depth: 15, message: "R3"},
	{name: "W3_AckNeedsEpoch_S8_lost", drop: "W3AckEpoch,R3Floors", writers: 3, txids: 1, kind: Lost, depth: 17},
	{name: "D4_CopiesAtEqualBallot_S9", reader: ReaderCount, writers: 3, txids: 1, kind: Lost, depth: 17, lastBy: "reader counts"},
	{name: "W6_TxidBoundToBytes_S12", faults: Faults{Reuse: true}, writers: 1, txids: 1, kind: Divergence, depth: 9},
	{name: "R1_EpochOfTheSegment", drop: "R1SegmentEpoch", writers: 2, txids: 1, kind: Divergence, depth: 13},
	{name: "R1_EpochOfTheSegment_noDigests", drop: "R1SegmentEpoch,R2Digests", writers: 2, txids: 1, kind: Lost, depth: 15},
	{name: "R4_AcceptedRecord", drop: "R4AcceptedRecord", writers: 2, txids: 2, kind: DecisionChanged, depth: 15},
	{name: "R4_AcceptedRecord_threeWriters", drop: "R4AcceptedRecord", writers: 3, txids: 1, kind: Lost, depth: 17},
	{name: "W0_RemovesAcceptedRecord", drop: "W0RemovesRecord", writers: 3, txids: 1, kind: Divergence, depth: 17},
	{name: "W0_RemovesAcceptedRecord_noDigests", drop: "W0RemovesRecord,R2Digests", writers: 3, txids: 1, kind: Lost, depth: 18},
	{name: "W1_EpochIsPromised", drop: "W1EpochIsPromise", writers: 2, txids: 1, kind: Stuck, depth: 12, message: "R3"},
	{name: "W1_EpochIsPromised_R3_Floors", drop: "W1EpochIsPromise,R3Floors", writers: 2, txids: 1, kind: Lost, depth: 12},
	{name: "W2_SyncBeforeAck", drop: "W2SyncBeforeAck", writers: 1, txids: 1, kind: Lost, depth: 9, lastBy: "loses power"},
}

func (d *dropped) config(t *testing.T) Config {
	t.Helper()
	cfg := Config{Writers: d.writers, TxIDs: d.txids, Rules: Strong(), Faults: d.faults, Reader: d.reader, Skipped: d.skipped}
	require.NoError(t, cfg.Rules.Drop(splitNames(d.drop)...))
	return cfg
}

func splitNames(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
}

func TestEachRuleDroppedIsCaught(t *testing.T) {
	for _, tt := range droppedRows {
		t.Run(tt.name, func(t *testing.T) {
			cfg := tt.config(t)
			got := mustSearch(t, cfg)
			require.NotNil(t, got.Violation)
			require.Equal(t, tt.kind, got.Violation.Kind, "%v", got.Violation)
			require.Contains(t, got.Violation.Message, tt.message)
			require.Len(t, got.Violation.Trace, tt.depth)
			require.Contains(t, got.Violation.Trace[tt.depth-1], tt.lastBy)
			require.Equal(t, tt.depth, got.Depth)

			again, err := Replay(cfg, got.Violation.Trace)
			require.NoError(t, err, "the trace is itself a script")
			require.Equal(t, got.Violation, again.Violation)

			strong, err := Replay(strengthened(cfg), got.Violation.Trace)
			require.Nil(t, strong.Violation)
			if err != nil {
				var refused *UnavailableError
				require.ErrorAs(t, err, &refused)
			}
		})
	}
}

// strengthened returns cfg with nothing dropped, skipped or careless; what may befall a disk stays in.
func strengthened(cfg Config) Config {
	cfg.Rules, cfg.Skipped = Strong(), Checks{}
	cfg.Faults.Reuse, cfg.Faults.InPlace = false, false
	if cfg.Reader == ReaderCount {
		cfg.Reader = ReaderBallot
	}
	return cfg
}

// silentRows are the weak forms that the model cannot tell from the strong ones, and why. Dropping
// a rule or adding a fault here only adds behaviour, so one search serves several of them at once.
var silentRows = []struct {
	name           string
	drop           string
	faults         Faults
	writers, txids int
}{
	// S11 argues that taking stale frames from a peer needs five nodes. Content put in place before the
	// record matters for rolling forward at restart, not for the choice.
	{name: "W5_FrameEpoch_S11_R4_ContentBeforeRecord", drop: "W5FrameEpoch", faults: Faults{InPlace: true}, writers: 2, txids: 2},
	// Nets under W1, W3, R1, R2a and W0: they turn loss into a stop, and have nothing to stop by themselves.
	{name: "R2_Digests_R3_Floors_R4_ContentBeforeRecord", drop: "R2Digests,R3Floors", faults: Faults{InPlace: true}, writers: 3, txids: 1},
	// The wait at a cut tail covers what the mark would have named, as long as all nodes can be waited for.
	{name: "N2a_SyncedMark", drop: "N2aSyncedMark", faults: Faults{Rot: true}, writers: 2, txids: 1},
}

// TestSilentRules keeps the other half honest: what no search notices is listed, and searched whole.
func TestSilentRules(t *testing.T) {
	for _, tt := range silentRows {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{Writers: tt.writers, TxIDs: tt.txids, Rules: Strong(), Faults: tt.faults}
			require.NoError(t, cfg.Rules.Drop(splitNames(tt.drop)...))
			got := mustSearch(t, cfg)
			require.Nil(t, got.Violation)
			require.True(t, got.Complete)
		})
	}
}

// TestEveryRuleHasARow: a new switch comes with what it catches, or why it catches nothing.
func TestEveryRuleHasARow(t *testing.T) {
	alone, silent := map[string]bool{}, map[string]bool{}
	for _, row := range droppedRows {
		alone[row.drop] = true
	}
	for _, row := range silentRows {
		for _, name := range splitNames(row.drop) {
			silent[name] = true
		}
	}
	for _, name := range fieldNames(reflect.TypeFor[Rules]()) {
		require.NotEqual(t, alone[name], silent[name], "%s: give it a row in droppedRows or in silentRows, not both", name)
	}
}
