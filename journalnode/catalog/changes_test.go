package catalog

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
)

func ids(set []quorum.Member) (out []quorum.NodeID) {
	for _, m := range set {
		out = append(out, m.ID)
	}
	return out
}

func TestChange(t *testing.T) {
	w := withJournal(t)
	old, to := members("n1", "n2", "n3"), members("n1", "n4", "n5")

	res := w.ok(&BeginChange{Target: w.target(), To: []quorum.Member{to[2], to[0], to[1]}})
	require.Equal(t, w.index, res.Change)
	j := w.journal()
	require.Equal(t, quorum.NewConfig(1, old...), j.Config, "learners are in no config")
	require.Equal(t, members("n4", "n5"), j.Change.Learners())

	w.ok(&SetNote{w.step(), "n4 is 3 segments behind"})
	require.Equal(t, "n4 is 3 segments behind", w.journal().Change.Note)

	require.Equal(t, uint64(2), w.ok(&Joint{w.step()}).Version)
	j = w.journal()
	require.Equal(t, quorum.Config{Version: 2, Sets: [][]quorum.Member{old, to}}, j.Config)
	require.Empty(t, j.Change.Note)
	require.Equal(t, uint64(1), j.InForce)

	w.ok(&Sealed{w.step(), testSeal})
	require.Equal(t, testSeal, w.journal().Change.Seal)
	require.Equal(t, uint64(2), w.journal().InForce, "a sealed config is in force")

	require.Equal(t, uint64(3), w.ok(&Final{w.step(), testSeal}).Version)
	j = w.journal()
	require.Equal(t, quorum.NewConfig(3, to...), j.Config)
	require.Equal(t, []Former{{members("n2")[0], 3}, {members("n3")[0], 3}}, j.Former)
	require.Equal(t, Changed, j.History[len(j.History)-1].Kind)

	w.finish()
	require.Nil(t, w.journal().Change)
	require.Len(t, w.journal().Former, 2, "tombstones outlive the change (M8)")
}

func TestBeginChangeRefusals(t *testing.T) {
	w := withJournal(t)
	w.no(ErrSameMembers, &BeginChange{Target: w.target(), To: members("n3", "n2", "n1")})
	w.no(ErrInvalid, &BeginChange{Target: w.target()})
	w.no(ErrInvalid, &BeginChange{Target: w.target(), To: members("n1", "n1")})
	w.no(ErrNoNode, &BeginChange{Target: w.target(), To: members("n1", "n9")})
	w.no(ErrNoNode, &BeginChange{Target: w.target(), To: []quorum.Member{member("n1", 1), member("n4", 2)}})
	w.no(ErrNoJournal, &BeginChange{Target: Target{j2, 1}, To: members("n1")})
	w.no(ErrConflict, &BeginChange{Target: Target{j1, 2}, To: members("n1")})
	w.ok(&PutNode{Node: node(member("n4", 2)), Replaces: member("n4", 1).Incarnation})
	w.no(ErrLeaving, &BeginChange{Target: w.target(), To: members("n1", "n4")})
	w.changeOfOne()
	err := w.no(ErrChangeUnderWay, &BeginChange{Target: w.target(), To: members("n1", "n2")})
	e, ok := errors.AsType[*ChangeUnderWayError](err)
	require.True(t, ok)
	require.Equal(t, "ns1", e.Name)
	require.Equal(t, StageLearning, e.Stage)
	require.Equal(t, []quorum.NodeID{"n1"}, ids(e.To))
}

// changeOfOne begins a change to n1 alone: losing the majority of the old set at once is what joint is for.
func (w *world) changeOfOne() { w.ok(&BeginChange{Target: w.target(), To: members("n1")}) }

// TestM2_NothingOnTopOfWhatIsNotInForce: a config that no majority is known to have installed is
// followed by none but an abort.
func TestM2_NothingOnTopOfWhatIsNotInForce(t *testing.T) {
	w := withJournal(t)
	w.changeUpTo(StageJoint)
	require.Less(t, w.journal().InForce, w.version())
	w.ok(&Abort{w.step(), "n4 is gone"}) // every joint quorum had a majority of the old set
	require.Equal(t, quorum.NewConfig(3, members("n1", "n2", "n3")...), w.journal().Config)

	w.ok(&BeginChange{Target: w.target(), To: members("n1", "n2", "n6")})
	w.no(ErrNotInForce, &Joint{w.step()})
	w.ok(&InForce{w.target()})
	w.again(&InForce{w.target()})
	w.ok(&Joint{w.step()})
	w.no(ErrConflict, &InForce{Target{j1, 3}})

	w.ok(&Sealed{w.step(), testSeal})
	w.ok(&Final{w.step(), testSeal})
	w.no(ErrNotInForce, &Finish{w.step()})
	w.finish()

	w.ok(&BeginChange{Target: w.target(), To: members("n1")})
	w.ok(&Joint{w.step()})
	w.ok(&Abort{w.step(), ""})
	w.no(ErrNotInForce, &DeleteJournal{w.target()})
	w.ok(&InForce{w.target()})
	w.ok(&DeleteJournal{w.target()})
}

// TestM4_FinalNeedsTheSeal: no other stage leads to final, and no other seal.
func TestM4_FinalNeedsTheSeal(t *testing.T) {
	w := withJournal(t)
	w.no(ErrNoChange, &Final{w.step(), testSeal})
	w.changeUpTo(StageLearning)
	w.no(ErrStage, &Final{w.step(), testSeal})
	w.no(ErrStage, &Sealed{w.step(), testSeal})
	w.ok(&Joint{w.step()})
	w.no(ErrStage, &Final{w.step(), testSeal})
	w.no(ErrInvalid, &Sealed{w.step(), Seal{Epoch: 5}})
	w.no(ErrInvalid, &Sealed{w.step(), Seal{Segment: 101}})
	w.ok(&Sealed{w.step(), testSeal})
	w.no(ErrStage, &Sealed{w.step(), Seal{Epoch: 6, Segment: 101}})
	w.no(ErrSeal, &Final{w.step(), Seal{Epoch: 6, Segment: 101}})
	w.no(ErrSeal, &Final{w.step(), Seal{Epoch: 5, Segment: 102}})
	w.no(ErrInvalid, &Final{w.step(), Seal{}})
	w.ok(&Final{w.step(), testSeal})
	w.no(ErrStage, &Final{w.step(), testSeal})
}

// TestM6_CompareAndSet: every command on a change names the config version and the change. The second
// change of the test begins at the same version as the first; entries of the first must not move it.
func TestM6_CompareAndSet(t *testing.T) {
	w := withJournal(t)
	w.changeUpTo(StageLearning)
	first := w.step()
	w.ok(&Abort{first, ""})
	w.ok(&BeginChange{Target: w.target(), To: members("n1", "n2", "n6")})
	second := w.step()
	require.Equal(t, first.Target, second.Target)

	later := Step{Target{j1, second.ExpectVersion + 1}, second.Change}
	for _, s := range []Step{first, later} {
		for _, cmd := range []Command{
			&Joint{s}, &Sealed{s, testSeal}, &Final{s, testSeal}, &Abort{s, ""}, &Finish{s}, &SetNote{s, "x"},
		} {
			err := w.no(ErrConflict, cmd)
			e, ok := errors.AsType[*ConflictError](err)
			require.True(t, ok)
			require.NotEqual(t, e.Got, e.Want)
		}
	}
	for _, cmd := range []Command{
		&BeginChange{Target: later.Target, To: members("n1")}, &DeleteJournal{later.Target},
		&SetPolicy{Target: later.Target}, &SetQuota{Target: later.Target}, &InForce{later.Target},
		&ListSnapshot{Target: later.Target, Snapshot: image(1), Holders: members("n1", "n2")},
		&ForceConfig{Target: later.Target, Config: quorum.NewConfig(9, members("n1")...), Reason: "x"},
		&DropLost{Target: later.Target, Version: 9, Reason: "x"},
	} {
		w.no(ErrConflict, cmd)
	}
	w.ok(&Joint{second})
	w.no(ErrConflict, &Joint{second})
}

func TestAbort(t *testing.T) {
	old := members("n1", "n2", "n3")
	for _, stage := range []Stage{StageLearning, StageJoint, StageSealed} {
		t.Run(stage.String(), func(t *testing.T) {
			w := withJournal(t)
			w.changeUpTo(stage)
			w.ok(&Abort{w.step(), "no room on n4"})
			j := w.journal()
			require.Nil(t, j.Change)
			want, former := quorum.NewConfig(1, old...), []Former{{member("n4", 1), 1}, {member("n5", 1), 1}}
			if stage != StageLearning {
				want, former = quorum.NewConfig(3, old...), []Former{{member("n4", 1), 3}, {member("n5", 1), 3}}
			}
			require.Equal(t, want, j.Config)
			require.Equal(t, former, j.Former)
			last := j.History[len(j.History)-1]
			require.Equal(t, HistoryEntry{w.index, Aborted, want.Version, "no room on n4"}, last)
		})
	}
	t.Run("after final", func(t *testing.T) {
		w := withJournal(t)
		w.changeUpTo(StageFinal)
		w.no(ErrStage, &Abort{w.step(), ""})
		w.finish()
		w.no(ErrNoChange, &Abort{w.step(), ""})
	})
}

// TestM8_WhoComesAgainIsNoFormerMember: a tombstone ends when its node is a member again.
func TestM8_WhoComesAgainIsNoFormerMember(t *testing.T) {
	w := withJournal(t)
	w.changeUpTo(StageJoint)
	w.ok(&Abort{w.step(), ""})
	w.ok(&InForce{w.target()})
	require.Equal(t, []Former{{member("n4", 1), 3}, {member("n5", 1), 3}}, w.journal().Former)
	w.ok(&BeginChange{Target: w.target(), To: members("n1", "n2", "n4")})
	require.Len(t, w.journal().Former, 2, "a learner is no member")
	w.ok(&Joint{w.step()})
	require.Equal(t, []Former{{member("n5", 1), 3}}, w.journal().Former)
	w.ok(&Abort{w.step(), ""})
	require.Equal(t, []Former{{member("n4", 1), 5}, {member("n5", 1), 3}}, w.journal().Former)

	forget := &Forget{ID: "n4", Incarnation: member("n4", 1).Incarnation, Journal: j1, Version: 3}
	w.no(ErrConflict, forget) // an entry about the first tombstone
	forget.Version = 5
	w.ok(forget)
	w.again(forget)
	w.no(ErrNoJournal, &Forget{ID: "n4", Journal: j2})
	require.Equal(t, []Former{{member("n5", 1), 3}}, w.journal().Former)
}

func TestM8_ALearnerThatLeavesIsNotMadeAMember(t *testing.T) {
	w := withJournal(t)
	w.changeUpTo(StageLearning)
	w.ok(&PutNode{Node: node(member("n4", 2)), Replaces: member("n4", 1).Incarnation})
	w.no(ErrLeaving, &Joint{w.step()})
	w.ok(&Abort{w.step(), "n4 was wiped"})
	w.no(ErrInUse, &RemoveNode{"n4", member("n4", 1).Incarnation}) // it may have copied
	w.ok(&Forget{ID: "n4", Incarnation: member("n4", 1).Incarnation})
	w.ok(&RemoveNode{"n4", member("n4", 1).Incarnation})
}

// TestM9_Adopt: what nodes have installed outranks what the catalog remembers.
func TestM9_Adopt(t *testing.T) {
	old, to := members("n1", "n2", "n3"), members("n1", "n4", "n5")
	joint := quorum.Config{Version: 4, Sets: [][]quorum.Member{old, to}}
	for _, stage := range []Stage{0, StageLearning, StageJoint, StageSealed, StageFinal} {
		t.Run(stage.String(), func(t *testing.T) {
			w := withJournal(t)
			if stage > 0 {
				w.changeUpTo(stage)
			}
			force := w.journal().InForce
			w.ok(&Adopt{j1, joint})
			j := w.journal()
			require.Equal(t, joint, j.Config)
			require.Equal(t, force, j.InForce)
			require.Equal(t, &Change{Stage: StageJoint, Old: old, New: to, BaseVersion: 3, StartedIndex: w.index}, j.Change)
			require.Equal(t, Adopted, j.History[len(j.History)-1].Kind)
			w.again(&Adopt{j1, joint})

			w.ok(&Adopt{j1, quorum.NewConfig(5, to...)})
			require.Nil(t, w.journal().Change)
			require.Equal(t, []quorum.NodeID{"n2", "n3"}, formerIDs(w.journal()))
			w.no(ErrConflict, &Adopt{j1, joint})
		})
	}
}

func formerIDs(j Journal) (out []quorum.NodeID) {
	for _, f := range j.Former {
		out = append(out, f.Member.ID)
	}
	return out
}

// TestM0_TwoConfigsOfOneVersion: nobody chooses between them.
func TestM0_TwoConfigsOfOneVersion(t *testing.T) {
	w := withJournal(t)
	w.no(ErrDivergence, &Adopt{j1, quorum.NewConfig(1, members("n1", "n2", "n4")...)})
	wiped := []quorum.Member{member("n1", 1), member("n2", 1), member("n3", 2)}
	w.no(ErrDivergence, &Adopt{j1, quorum.NewConfig(1, wiped...)})
	moved := members("n1", "n2", "n3")
	moved[0].Addr = "elsewhere:1"
	w.again(&Adopt{j1, quorum.NewConfig(1, moved...)}) // an address is no part of a config's identity
	w.no(ErrInvalid, &Adopt{j1, quorum.Config{}})
	w.no(ErrNoJournal, &Adopt{j2, quorum.NewConfig(1, moved...)})
}

func TestM9_AdoptADeletedJournalsConfig(t *testing.T) {
	w := withJournal(t)
	w.ok(&Grant{Journal: j1, Holder: "w", TTLMillis: 1000, Nonce: testNonce})
	w.ok(&Adopt{j1, quorum.Config{Version: 7}})
	require.True(t, w.journal().Deleted)
	w.ok(&Adopt{j1, quorum.NewConfig(8, members("n1")...)}) // the catalog went back, and forgot more
	require.False(t, w.journal().Deleted)
	w.ok(&InForce{w.target()})
	w.ok(&DeleteJournal{w.target()})
	w.ok(&Reclaim{j1, 9})
	w.no(ErrDeleted, &Adopt{j1, quorum.NewConfig(10, members("n1")...)})
}

func TestForceConfig(t *testing.T) {
	w := withJournal(t)
	w.changeUpTo(StageJoint)
	force := func(v uint64, ids ...quorum.NodeID) *ForceConfig {
		return &ForceConfig{Target: w.target(), Config: quorum.NewConfig(v, members(ids...)...), Reason: "n2 and n3 burnt down"}
	}
	w.no(ErrConflict, force(2, "n1"))
	w.no(ErrInvalid, force(3))
	w.no(ErrNoNode, force(3, "n9"))
	w.no(ErrInvalid, &ForceConfig{Target: w.target(), Config: quorum.NewConfig(3, members("n1")...)})
	w.no(ErrInvalid, &ForceConfig{Target: w.target(), Config: quorum.Config{Version: 3}, Reason: "x"})
	two := quorum.Config{Version: 3, Sets: [][]quorum.Member{members("n1"), members("n2")}}
	w.no(ErrInvalid, &ForceConfig{Target: w.target(), Config: two, Reason: "x"})
	w.ok(force(9, "n1"))
	j := w.journal()
	require.Equal(t, quorum.NewConfig(9, members("n1")...), j.Config)
	require.Nil(t, j.Change)
	require.Equal(t, []quorum.NodeID{"n2", "n3", "n4", "n5"}, formerIDs(j))
	require.Equal(t, HistoryEntry{w.index, Forced, 9, "n2 and n3 burnt down"}, j.History[len(j.History)-1])
}

// A journal whose members are all lost leaves its name free at once, and tombstones to whoever comes back.
func TestDropLost(t *testing.T) {
	w := withJournal(t)
	w.changeUpTo(StageJoint)
	drop := &DropLost{Target: w.target(), Version: 9, Reason: "all are ashes"}
	w.no(ErrInvalid, &DropLost{Target: w.target(), Version: 9})
	w.no(ErrConflict, &DropLost{Target: w.target(), Version: 2, Reason: "x"})
	w.ok(drop)
	j := w.journal()
	require.Equal(t, quorum.Config{Version: 9}, j.Config)
	require.True(t, j.Deleted && j.Reclaimed && j.LostWhole())
	require.Equal(t, []quorum.NodeID{"n1", "n2", "n3", "n4", "n5"}, formerIDs(j))
	require.Equal(t, HistoryEntry{w.index, Forced, 9, "all are ashes"}, j.History[len(j.History)-1])
	w.again(&DropLost{Target: w.target(), Version: 9, Reason: "x"})
	w.ok(&CreateJournal{ID: j2, Name: j.Name, Members: members("n1")})
	for _, f := range j.Former {
		w.ok(&Forget{ID: f.Member.ID, Incarnation: f.Member.Incarnation})
	}
	_, ok := w.c.Journal(j1)
	require.False(t, ok)
	w.no(ErrNoJournal, drop)
}

// One that is being deleted, and whose members never hear of it: the delete was meant, so nothing is kept.
func TestDropLost_OfADelete(t *testing.T) {
	w := withJournal(t)
	w.ok(&DeleteJournal{w.target()})
	w.ok(&DropLost{Target: w.target(), Version: 1001, Reason: "x"})
	j := w.journal()
	require.Equal(t, quorum.Config{Version: 2}, j.Config)
	require.True(t, j.Reclaimed)
	require.False(t, j.LostWhole())
	_, taken := w.c.JournalByName(j.Name)
	require.False(t, taken)
}

func TestHistoryIsBounded(t *testing.T) {
	w := withJournal(t)
	for range 2 * MaxHistory {
		w.changeUpTo(StageLearning)
		w.ok(&Abort{w.step(), ""})
	}
	require.Len(t, w.journal().History, MaxHistory)
	require.Equal(t, w.index, w.journal().History[MaxHistory-1].Index)
}

// M8: by whose word a former member left is known as long as its tombstone is: what it holds may be all that is left.
func TestHistory_KeepsWhoWasForcedOut(t *testing.T) {
	w := withJournal(t)
	w.ok(&ForceConfig{Target: w.target(), Config: quorum.NewConfig(9, members("n1")...), Reason: "n2 and n3 burnt down"})
	at := w.index
	for range 2 * MaxHistory {
		w.changeUpTo(StageLearning)
		w.ok(&Abort{w.step(), ""})
	}
	h := w.journal().History
	require.Len(t, h, MaxHistory)
	require.Equal(t, HistoryEntry{at, Forced, 9, "n2 and n3 burnt down"}, h[0])
	require.Equal(t, w.index, h[MaxHistory-1].Index)
	for _, m := range members("n2", "n3", "n4", "n5") {
		w.ok(&Forget{ID: m.ID, Incarnation: m.Incarnation, Journal: j1, Version: 9})
	}
	w.ok(&ForceConfig{Target: w.target(), Config: quorum.NewConfig(10, members("n1")...), Reason: "again"})
	require.False(t, slices.ContainsFunc(w.journal().History, func(h HistoryEntry) bool { return h.Version == 9 && h.Kind == Forced }), "nobody rests on it any more")
}

// More of them than the history has room for: the oldest share an entry with those who came after them.
func TestHistory_ForcedOutAgainAndAgain(t *testing.T) {
	var j Journal
	for v := uint64(1); v <= 2*MaxHistory; v++ {
		j.Former = append(j.Former, Former{member("n1", byte(v)), v})
		j.Config.Version = v
		j.remember(v, Forced, "again")
	}
	require.Len(t, j.History, MaxHistory)
	require.EqualValues(t, 2*MaxHistory, j.History[MaxHistory-1].Version)
	for _, f := range j.Former {
		require.True(t, slices.ContainsFunc(j.History, func(h HistoryEntry) bool { return h.Version == f.Version }), f.Member.Incarnation)
	}
}

// TestAddressesComeFromTheNodes: a config of a new version has the addresses of its day.
func TestAddressesComeFromTheNodes(t *testing.T) {
	w := withJournal(t)
	for _, id := range []quorum.NodeID{"n1", "n4"} {
		n := node(member(id, 1))
		n.Addr = "new-" + n.Addr
		w.ok(&PutNode{Node: n})
	}
	require.Equal(t, "n1:8480", w.journal().Config.Sets[0][0].Addr)
	w.changeUpTo(StageJoint)
	for _, set := range w.journal().Config.Sets {
		require.Equal(t, "new-n1:8480", set[0].Addr)
	}
	require.Equal(t, "new-n4:8480", w.journal().Config.Sets[1][1].Addr)
}
