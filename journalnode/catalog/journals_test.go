package catalog

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

func TestCreateJournal(t *testing.T) {
	w := newWorld(t)
	create := &CreateJournal{
		ID: j1, Name: "ns1", Members: members("n3", "n1", "n2"),
		Policy: Policy{SnapshotBytes: 256 << 20, Replicas: 3, AutoReadmit: true}, Quota: 10 << 30,
	}
	w.ok(create)
	w.again(create)
	j, ok := w.c.JournalByName("ns1")
	require.True(t, ok)
	require.Equal(t, Journal{
		ID: j1, Name: "ns1", Config: quorum.NewConfig(1, members("n1", "n2", "n3")...), InForce: 1,
		Policy: create.Policy, Quota: create.Quota, History: []HistoryEntry{{Index: w.index - 1, Kind: Created, Version: 1}},
	}, j)

	with := func(f func(*CreateJournal)) *CreateJournal {
		m := *create
		f(&m)
		return &m
	}
	w.no(ErrJournalExists, with(func(m *CreateJournal) { m.Name = "ns2" }))
	w.no(ErrJournalExists, with(func(m *CreateJournal) { m.Members = members("n1", "n2", "n4") }))
	w.no(ErrNameTaken, with(func(m *CreateJournal) { m.ID = j2 }))
	fresh := func(f func(*CreateJournal)) *CreateJournal {
		return with(func(m *CreateJournal) { m.ID, m.Name = j2, "ns2"; f(m) })
	}
	w.no(ErrNoNode, fresh(func(m *CreateJournal) { m.Members = members("n1", "n9") }))
	w.no(ErrInvalid, fresh(func(m *CreateJournal) { m.Members = nil }))
	w.no(ErrInvalid, fresh(func(m *CreateJournal) { m.Members = members("n1", "n1") }))
	w.no(ErrInvalid, fresh(func(m *CreateJournal) { m.ID = segments.JournalID{} }))
	w.no(ErrInvalid, fresh(func(m *CreateJournal) { m.Name = "" }))
	w.no(ErrInvalid, fresh(func(m *CreateJournal) { m.Name = "a/b" }))
	w.no(ErrInvalid, fresh(func(m *CreateJournal) { m.Policy.Replicas = quorum.MaxMembers + 1 }))
	w.ok(&PutNode{Node: node(member("n4", 2)), Replaces: member("n4", 1).Incarnation})
	w.no(ErrLeaving, fresh(func(m *CreateJournal) { m.Members = members("n1", "n4") }))
	w.changeUpToOf(create.ID)
	w.no(ErrJournalExists, create) // it has moved on
}

// changeUpToOf moves a journal to another config version.
func (w *world) changeUpToOf(id segments.JournalID) {
	w.ok(&Adopt{id, quorum.NewConfig(2, members("n1", "n2", "n5")...)})
}

func TestPolicyAndQuota(t *testing.T) {
	w := withJournal(t)
	p := Policy{SnapshotTxns: 5, SnapshotIntervalMillis: 6, SnapshotGrowthPercent: 7, RetainTxns: 8, RetainBytes: 9, Replicas: 5}
	w.ok(&SetPolicy{w.target(), p})
	w.ok(&SetQuota{w.target(), 77})
	require.Equal(t, p, w.journal().Policy)
	require.Equal(t, uint64(77), w.journal().Quota)
	require.Equal(t, uint64(1), w.version(), "neither is a config")
	w.no(ErrInvalid, &SetPolicy{w.target(), Policy{Replicas: 200}})
}

// TestM8_NameIsFreeAfterReclaim: a deleted journal keeps its name until its empty config is in force, and
// its tombstones until every former member was forgotten.
func TestM8_NameIsFreeAfterReclaim(t *testing.T) {
	w := withJournal(t)
	w.ok(&Grant{Journal: j1, Holder: "w", TTLMillis: 1000, Nonce: testNonce})
	w.no(ErrNotDeleted, &Reclaim{j1, 1})
	w.ok(&BeginChange{Target: w.target(), To: members("n1", "n4")})
	require.Equal(t, uint64(2), w.ok(&DeleteJournal{w.target()}).Version)
	j := w.journal()
	require.True(t, j.Deleted)
	require.True(t, j.Config.IsEmpty())
	require.Nil(t, j.Change)
	require.Nil(t, j.Lease)
	// The learner was no member: it does not count for the delete (M2), and is told of it.
	require.Equal(t, []Former{{member("n1", 1), 2}, {member("n2", 1), 2}, {member("n3", 1), 2}, {member("n4", 1), 1}}, j.Former)

	again := &CreateJournal{ID: j2, Name: "ns1", Members: members("n4")}
	w.no(ErrNameTaken, again)
	for _, cmd := range []Command{
		&DeleteJournal{w.target()}, &SetQuota{w.target(), 1}, &SetPolicy{Target: w.target()}, &InForce{w.target()},
		&BeginChange{Target: w.target(), To: members("n1")}, &ListSnapshot{Target: w.target(), Snapshot: image(1)},
		&Grant{Journal: j1, Holder: "w", TTLMillis: 1000, Nonce: testNonce}, &Expire{LeaseRef{j1, 1}, 1},
		&ForceConfig{Target: w.target(), Config: quorum.NewConfig(9, members("n1")...), Reason: "x"},
	} {
		w.no(ErrDeleted, cmd)
	}
	w.no(ErrConflict, &Reclaim{j1, 1})
	w.no(ErrNoJournal, &Reclaim{j2, 1})
	w.ok(&Reclaim{j1, 2})
	w.again(&Reclaim{j1, 2})
	_, ok := w.c.JournalByName("ns1")
	require.False(t, ok)
	w.ok(again)

	w.no(ErrInUse, &RemoveNode{"n1", member("n1", 1).Incarnation})
	w.ok(&Forget{ID: "n1", Incarnation: member("n1", 1).Incarnation})
	w.again(&Forget{ID: "n1", Incarnation: member("n1", 1).Incarnation})
	for _, m := range members("n2", "n3") {
		require.True(t, w.journal().Reclaimed)
		w.ok(&Forget{ID: m.ID, Incarnation: m.Incarnation, Journal: j1, Version: 2})
	}
	w.ok(&Forget{ID: "n4", Incarnation: member("n4", 1).Incarnation, Journal: j1, Version: 1})
	_, ok = w.c.Journal(j1)
	require.False(t, ok, "nobody has to be kept from it any more")
}

func TestReclaimOfAJournalThatAllForgot(t *testing.T) {
	w := withJournal(t)
	w.ok(&DeleteJournal{w.target()})
	for _, m := range members("n1", "n2", "n3") {
		w.ok(&Forget{ID: m.ID, Incarnation: m.Incarnation})
	}
	require.True(t, w.journal().Deleted, "the name is not free before the empty config is in force")
	w.ok(&Reclaim{j1, 2})
	require.Empty(t, w.c.Journals())
}

func TestDeleteDuringAChange(t *testing.T) {
	for _, stage := range []Stage{StageJoint, StageSealed, StageFinal} {
		w := withJournal(t)
		w.changeUpTo(stage)
		w.no(ErrChangeUnderWay, &DeleteJournal{w.target()})
	}
}

// image is a snapshot at a txid, as its writer names it.
func image(txid segments.TxID) Snapshot {
	return Snapshot{
		TxID: txid, FrameLast: segments.Position{TxID: txid + 2, Digest: segments.Digest{byte(txid)}},
		Size: 1 << 30, Checksum: [32]byte{byte(txid), 31: 1}, Epoch: 5,
	}
}

// TestC1_CountedUnderTheCurrentConfig: a snapshot that was counted under a config that is gone may be
// held by nobody who stays.
func TestC1_CountedUnderTheCurrentConfig(t *testing.T) {
	w := withJournal(t)
	counted := w.target()
	w.changeUpTo(StageFinal)
	e, ok := errors.AsType[*ConflictError](w.no(ErrConflict, &ListSnapshot{counted, image(100), members("n2", "n3")}))
	require.True(t, ok)
	require.Equal(t, ConflictError{Journal: j1, Of: "config version", Got: 1, Want: 3}, *e)
	w.no(ErrNoMajority, &ListSnapshot{w.target(), image(100), members("n2", "n3")})
	w.ok(&ListSnapshot{w.target(), image(100), members("n1", "n4")})
}

// TestC1_AMajorityOfEverySetHoldsIt counts the holders, each storage once.
func TestC1_AMajorityOfEverySetHoldsIt(t *testing.T) {
	w := withJournal(t)
	list := func(holders ...quorum.Member) *ListSnapshot { return &ListSnapshot{w.target(), image(100), holders} }
	w.no(ErrNoMajority, list())
	w.no(ErrNoMajority, list(members("n1")...))
	w.no(ErrNoMajority, list(members("n1", "n1")...))
	w.no(ErrNoMajority, list(member("n1", 1), member("n2", 2)))
	w.no(ErrNoMajority, list(members("n1", "n2", "n9")...))
	w.changeUpTo(StageJoint) // {n1,n2,n3} and {n1,n4,n5}
	w.no(ErrNoMajority, list(members("n1", "n2", "n3")...))
	w.no(ErrNoMajority, list(members("n1", "n4", "n5")...))
	w.ok(list(members("n4", "n2", "n1")...))
	s := w.journal().Snapshots[0]
	require.Equal(t, uint64(2), s.ConfigVersion)
	require.Equal(t, w.index, s.Index)
	require.Equal(t, []quorum.NodeID{"n1", "n2", "n4"}, ids(s.Holders))
}

func TestC2_TheTwoNewestSnapshotsStayListed(t *testing.T) {
	w := withJournal(t)
	list := func(s Snapshot) *ListSnapshot { return &ListSnapshot{w.target(), s, members("n1", "n2")} }
	w.ok(list(image(100)))
	w.again(list(image(100)))
	other := image(100)
	other.Checksum[0]++
	w.no(ErrOldSnapshot, list(other))
	other = image(100)
	other.FrameLast.Digest[0]++
	w.no(ErrOldSnapshot, list(other))
	w.no(ErrOldSnapshot, list(image(99)))
	w.no(ErrInvalid, list(Snapshot{}))
	w.no(ErrInvalid, list(Snapshot{TxID: 7, FrameLast: segments.Position{TxID: 6}}))
	w.ok(list(image(200)))
	w.again(list(image(100)))
	w.ok(list(image(300)))
	require.Equal(t, []segments.TxID{300, 200}, []segments.TxID{w.journal().Snapshots[0].TxID, w.journal().Snapshots[1].TxID})
	w.no(ErrOldSnapshot, list(image(100)))
}

func TestJournalsAreBounded(t *testing.T) {
	w := newWorld(t)
	for i := range MaxJournals {
		id := segments.JournalID{1, byte(i >> 8), byte(i)}
		w.c.journals[id] = &Journal{ID: id, Name: id.String(), Config: quorum.NewConfig(1, members("n1")...), InForce: 1}
		w.c.byName[id.String()] = id
	}
	w.no(ErrLimit, &CreateJournal{ID: j1, Name: "one-more", Members: members("n1")})
	_, err := Restore(encoded(t, w.c))
	require.NoError(t, err)
}

func TestTexts(t *testing.T) {
	for _, s := range []string{"", strings.Repeat("x", MaxNameBytes+1), "a b", "a.b", "ä", "a\n", "\xff"} {
		require.ErrorIs(t, checkName(s), ErrInvalid, "%q", s)
	}
	require.NoError(t, checkName(strings.Repeat("x", MaxNameBytes)))
	for _, s := range []string{"a\x00", "a\x7f", "\xff", "four!"} {
		require.ErrorIs(t, checkText("text", s, 1, 4), ErrInvalid, "%q", s)
	}
	require.NoError(t, checkText("text", "äb", 1, 4))
}

// TestARefusalUndoesWhatWasBegun: a command works on a copy, which is kept only if nothing refuses.
func TestARefusalUndoesWhatWasBegun(t *testing.T) {
	w := withJournal(t)
	w.changeUpTo(StageJoint)
	before := w.state()
	_, err := w.c.edit(w.target(), func(j *Journal) (Result, error) {
		j.Quota, j.Change.Note, j.Config.Sets[0][0].ID = 1, "x", "x"
		return Result{}, &Refusal{Class: ErrLimit}
	})
	require.ErrorIs(t, err, ErrLimit)
	require.Equal(t, before, w.state())
}

// TestTombstonesAreBounded: no change begins that could not end for want of room.
func TestTombstonesAreBounded(t *testing.T) {
	w := withJournal(t)
	j := w.c.journals[j1]
	for i := range MaxFormer - 4 {
		m := quorum.Member{ID: "gone", Incarnation: quorum.Incarnation{1, byte(i >> 8), byte(i)}}
		j.Former = append(j.Former, Former{Member: m, Version: 1})
	}
	w.no(ErrLimit, &BeginChange{w.target(), members("n4", "n5")})
	w.changeOfOne()
	w.ok(&Abort{w.step(), ""})
	for i := range 2 {
		m := quorum.Member{ID: "gone-too", Incarnation: quorum.Incarnation{byte(i + 1)}}
		w.c.journals[j1].Former = append(w.c.journals[j1].Former, Former{Member: m, Version: 1})
	}
	w.no(ErrLimit, &Adopt{j1, quorum.NewConfig(9, members("n4")...)})

	w = withJournal(t)
	for i := range MaxTombstones {
		id := segments.JournalID{1, byte(i >> 8), byte(i)}
		w.c.journals[id] = &Journal{
			ID: id, Name: id.String(), Config: quorum.Config{Version: 2}, InForce: 2, Deleted: true, Reclaimed: true,
			Former: []Former{{member("n1", 1), 2}},
		}
	}
	w.ok(&DeleteJournal{w.target()})
	w.no(ErrLimit, &Reclaim{j1, 2})
	w.ok(&Forget{"n1", member("n1", 1).Incarnation, segments.JournalID{1}, 2})
	w.ok(&Reclaim{j1, 2})
}
