package simtest

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// seedsPerRule bounds the search.
const seedsPerRule = 600

// TestDroppedRulesAreCaught drops one rule after the other, and requires that some seed shows the oracle
// what that costs. It is the test of the simulation itself: what it cannot catch, it does not guard. A row's
// seed is where the search begins: the first that shows it today.
func TestDroppedRulesAreCaught(t *testing.T) {
	for name, row := range map[string]struct {
		rule Rule
		harm Harm
		seed uint64
	}{
		"W2_AckBeforeTheSync":        {RuleW2, "", 1},
		"N1_WipedNodeCounts":         {RuleN1, HarmWipe, 1},
		"N2_DamageIsAbsence":         {RuleN2, HarmRot, 7},
		"N2a_CutBelowTheMark":        {RuleN2a, HarmRot, 7},
		"F1_PromiseIsNotDurable":     {RuleF1, HarmSync, 2},
		"R2_AcceptedRaisesNoBallot":  {RuleR2, "", 4},
		"R2a_EpochIsUsedAgain":       {RuleR2a, "", 39},
		"R3_FloorsIgnored":           {RuleR3, HarmRot, 22},
		"R4_ContentWithoutTheRecord": {RuleR4, "", 4},
		"W2a_TailIsNotWrittenAgain":  {RuleW2a, HarmSync, 1},
		// With members changing:
		"M4_FinalWithoutASeal":               {RuleM4, "", 1},
		"M4_SealedAndNotFinalizedOnTheNew":   {RuleM4Held, "", 7},
		"M8_WhoLeavesForgets":                {RuleM8, "", 1},
		"N1_WipedMemberCounts_MembersChange": {RuleN1, HarmWipe, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for s := row.seed; s < row.seed+seedsPerRule; s++ {
				changes := row.rule[0] == 'M' || strings.HasSuffix(name, "_MembersChange")
				err := Run(Config{Seed: s, Writers: 3, Broken: row.rule, Harm: row.harm, Changes: changes}).Err
				if err != nil && !errors.Is(err, errNoProgress) {
					t.Logf("%v", err)
					return
				}
			}
			require.Fail(t, "not caught")
		})
	}
}

// TestM3_CountingByTheUnionIsCaught: a writer that counts a joint config as one set of all members loses what
// the old set does not have.
func TestM3_CountingByTheUnionIsCaught(t *testing.T) {
	for s := uint64(4); s < 4+seedsPerRule; s++ {
		err := Run(Config{Seed: s, Writers: 1, Broken: RuleM3Union, Changes: true, Slow: true, Events: 6000}).Err
		if err != nil && !errors.Is(err, errNoProgress) {
			t.Logf("%v", err)
			return
		}
	}
	require.Fail(t, "not caught")
}

// TestImpliedRulesAreNotMissed: a writer that looks at no digest of an ack (W3) loses nothing, as long as
// the other rules hold. An epoch has one writer id on every node that takes its frames (F2, F3), a copy of
// that epoch was started for that writer (W0), and each frame in it continues the chain (W1): what stands
// there at a txid is the writer's own. The digest in the ack is there to notice that one of those was
// broken; internal/replication tests it alone.
func TestImpliedRulesAreNotMissed(t *testing.T) {
	for s := uint64(1); s <= 30; s++ {
		require.NoError(t, Run(Config{Seed: s, Writers: 3, Broken: RuleW3}).Err)
	}
}
