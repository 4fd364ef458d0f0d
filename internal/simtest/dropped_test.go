package simtest

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// seedsPerRule bounds the search.
const seedsPerRule = 600

// TestDroppedRulesAreCaught drops one rule after the other, and requires that some seed shows the oracle
// what that costs. It is the test of the simulation itself: what it cannot catch, it does not guard. A row's
// seed is where the search begins: the first that shows it today. The same seed with the rule finds nothing.
func TestDroppedRulesAreCaught(t *testing.T) {
	for name, row := range map[string]struct {
		rule Rule
		seed uint64
		cfg  Config
	}{
		"W2_AckBeforeTheSync":        {RuleW2, 1, Config{}},
		"N1_WipedNodeCounts":         {RuleN1, 1, Config{Harm: HarmWipe}},
		"N2_DamageIsAbsence":         {RuleN2, 7, Config{Harm: HarmRot}},
		"N2a_CutBelowTheMark":        {RuleN2a, 7, Config{Harm: HarmRot}},
		"F1_PromiseIsNotDurable":     {RuleF1, 2, Config{Harm: HarmSync}},
		"R2_AcceptedRaisesNoBallot":  {RuleR2, 29, Config{}},
		"R2a_EpochIsUsedAgain":       {RuleR2a, 124, Config{}},
		"R3_FloorsIgnored":           {RuleR3, 544, Config{Harm: HarmRot}},
		"R4_ContentWithoutTheRecord": {RuleR4, 29, Config{}},
		"W2a_TailIsNotWrittenAgain":  {RuleW2a, 1, Config{Harm: HarmSync}},
		// With snapshots, and what they cover purged:
		"C2_PeersPurgePointRaisesItsOwn": {RuleC2Peer, 20, Config{Snapshots: true}},
		"C2_PurgedWithoutTheSnapshot":    {RuleC2Held, 7, Config{Snapshots: true}},
		"C5_NewestFinalizedIsPurged":     {RuleC5Newest, 11, Config{Snapshots: true}},
		"C5_PurgePointIsNotDurable":      {RuleC5Point, 2, Config{Snapshots: true}},
		// With members changing:
		"M3_AllMembersAreOneSet":             {RuleM3Union, 13, Config{Changes: true, Slow: true, Writers: 1, Events: 6000}},
		"M3_OldAcksCountByTheNewestConfig":   {RuleM3Newest, 19, Config{Changes: true, Slow: true, Writers: 2, Harm: HarmStrand}},
		"M4_FinalWithoutASeal":               {RuleM4, 1, Config{Changes: true}},
		"M4_SealedAndNotFinalizedOnTheNew":   {RuleM4Held, 57, Config{Changes: true}},
		"M7_StartsOverInTheSameEpoch":        {RuleM7Epoch, 872, Config{Changes: true, Harm: HarmNews}},
		"M7_WhatWasGatheredCounts":           {RuleM7Counts, 92, Config{Changes: true, Harm: HarmNews}},
		"M8_WhoLeavesForgets":                {RuleM8, 10, Config{Changes: true}},
		"N1_WipedMemberCounts_MembersChange": {RuleN1, 3, Config{Changes: true, Harm: HarmWipe}},
		// With members changing, and what is purged:
		"M4_FinalWithoutASeal_Purged":             {RuleM4, 4, Config{Changes: true, Snapshots: true}},
		"M4_SealedAndNotFinalizedOnTheNew_Purged": {RuleM4Held, 10, Config{Changes: true, Snapshots: true}},
		"M8_WhoLeavesForgets_Purged":              {RuleM8, 2, Config{Changes: true, Snapshots: true}},
		"C2_PeersPurgePointRaisesItsOwn_Changes":  {RuleC2Peer, 1, Config{Changes: true, Snapshots: true}},
		"C2_PurgedWithoutTheSnapshot_Changes":     {RuleC2Held, 1, Config{Changes: true, Snapshots: true}},
		"C5_NewestFinalizedIsPurged_Changes":      {RuleC5Newest, 17, Config{Changes: true, Snapshots: true}},
		"C5_PurgePointIsNotDurable_Changes":       {RuleC5Point, 1, Config{Changes: true, Snapshots: true}},
		// With leases:
		"L2_ExpiryNamesNoRenewal":      {RuleL2Renewal, 61, Config{Leases: true}},
		"L2_HolderCountsFromTheAnswer": {RuleL2Sent, 31, Config{Leases: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := row.cfg
			cfg.Broken = row.rule
			if cfg.Writers == 0 {
				cfg.Writers = 3
			}
			for cfg.Seed = row.seed; cfg.Seed < row.seed+seedsPerRule; cfg.Seed++ {
				if err := Run(cfg).Err; err != nil && !errors.Is(err, errNoProgress) {
					t.Logf("seed %d: %v", cfg.Seed, err)
					cfg.Broken = ""
					require.NoError(t, Run(cfg).Err, "with the rule")
					return
				}
			}
			require.Fail(t, "not caught")
		})
	}
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
