package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

func TestInit(t *testing.T) {
	w := &world{T: t, c: New()}
	w.no(ErrNotFounded, &PutNode{Node: node(member("n1", 1))})
	w.no(ErrInvalid, &Init{Nodes: []Node{node(member("n1", 1))}})
	w.no(ErrInvalid, &Init{Cluster: testCluster})
	w.no(ErrInvalid, &Init{Cluster: testCluster, Nodes: []Node{node(member("n1", 1)), node(member("n1", 2))}})
	init := &Init{Cluster: testCluster, Nodes: []Node{node(member("n1", 1))}}
	w.ok(init)
	require.Equal(t, testCluster, w.c.Cluster())
	require.Equal(t, LevelFirst, w.c.Level())
	n, ok := w.c.Node("n1")
	require.True(t, ok)
	require.True(t, n.Voter)
	w.again(init)
	w.no(ErrCluster, &Init{Cluster: ClusterID{9}, Nodes: init.Nodes})
}

func TestPutNode(t *testing.T) {
	w := newWorld(t)
	n := node(member("n7", 1))
	w.ok(&PutNode{Node: n})
	n.Addr, n.HTTPAddr, n.Version, n.Labels = "n7:1", "", "v2", map[string]string{"zone": "z"}
	w.ok(&PutNode{Node: n})
	got, ok := w.c.Incarnation("n7", n.Incarnation)
	require.True(t, ok)
	require.Equal(t, n, got)

	w.ok(&SetVoter{"n7", n.Incarnation, true})
	w.ok(&PutNode{Node: n})
	got, _ = w.c.Node("n7")
	require.True(t, got.Voter, "an update leaves the vote alone")

	for name, bad := range map[string]func(*Node){
		"id":          func(n *Node) { n.ID = "a b" },
		"incarnation": func(n *Node) { n.Incarnation = quorum.Incarnation{} },
		"level":       func(n *Node) { n.Level = 0 },
		"address":     func(n *Node) { n.Addr = "" },
		"http":        func(n *Node) { n.HTTPAddr = "a\n" },
		"version":     func(n *Node) { n.Version = "\xff" },
		"label":       func(n *Node) { n.Labels = map[string]string{"": "x"} },
		"label value": func(n *Node) { n.Labels = map[string]string{"x": "\x01"} },
	} {
		m := node(member("n8", 1))
		bad(&m)
		t.Log(name)
		w.no(ErrInvalid, &PutNode{Node: m})
	}
	m := node(member("n8", 1))
	m.Labels = map[string]string{}
	for i := range MaxLabels + 1 {
		m.Labels[fmt.Sprint(i)] = "x"
	}
	_, err := EncodeCommand(&PutNode{Node: m})
	require.ErrorIs(t, err, ErrLimit)
	m.Labels = map[string]string{"x": strings.Repeat("x", MaxLabelBytes+1)}
	_, err = EncodeCommand(&PutNode{Node: m})
	require.ErrorIs(t, err, ErrInvalid)
}

// TestN1_AnotherIncarnationHasToBeNamed: a wiped disk is somebody else, and takes the place of the old
// one only where the old one is named.
func TestN1_AnotherIncarnationHasToBeNamed(t *testing.T) {
	w := withJournal(t)
	first, second, third := member("n3", 1), member("n3", 2), member("n3", 3)
	w.no(ErrIncarnation, &PutNode{Node: node(second)})
	w.no(ErrIncarnation, &PutNode{Node: node(second), Replaces: third.Incarnation})
	w.no(ErrNoNode, &PutNode{Node: node(member("n9", 2)), Replaces: member("n9", 1).Incarnation})
	w.ok(&PutNode{Node: node(second), Replaces: first.Incarnation})
	old, _ := w.c.Incarnation("n3", first.Incarnation)
	require.True(t, old.Leaving)
	cur, _ := w.c.Node("n3")
	require.Equal(t, second.Incarnation, cur.Incarnation)
	require.False(t, cur.Voter)
	require.True(t, old.Voter, "Raft is told apart")

	// member replace, as a whole
	to := []quorum.Member{member("n1", 1), member("n2", 1), second}
	w.ok(&BeginChange{Target: w.target(), To: to})
	w.no(ErrReplaceUnderWay, &PutNode{Node: node(third), Replaces: second.Incarnation})
	w.ok(&Joint{w.step()})
	w.ok(&Sealed{w.step(), testSeal})
	w.ok(&Final{w.step(), testSeal})
	w.finish()
	w.no(ErrInUse, &RemoveNode{"n3", first.Incarnation})
	w.ok(&Forget{ID: "n3", Incarnation: first.Incarnation})
	w.no(ErrVoter, &RemoveNode{"n3", first.Incarnation})
	w.ok(&SetVoter{"n3", second.Incarnation, true})
	w.ok(&SetVoter{"n3", first.Incarnation, false})
	w.no(ErrLeaving, &SetVoter{"n3", first.Incarnation, true})
	w.ok(&RemoveNode{"n3", first.Incarnation})
	w.ok(&PutNode{Node: node(third), Replaces: second.Incarnation})
}

// TestN1_AReplacementThatIsWipedInItsTurn: no journal got to know it, so it goes at once.
func TestN1_AReplacementThatIsWipedInItsTurn(t *testing.T) {
	w := withJournal(t)
	first, second, third := member("n3", 1), member("n3", 2), member("n3", 3)
	w.ok(&PutNode{Node: node(second), Replaces: first.Incarnation})
	w.no(ErrIncarnation, &PutNode{Node: node(third), Replaces: first.Incarnation})
	w.ok(&SetVoter{"n3", second.Incarnation, true})
	w.no(ErrReplaceUnderWay, &PutNode{Node: node(third), Replaces: second.Incarnation})
	w.ok(&SetVoter{"n3", second.Incarnation, false})
	w.ok(&PutNode{Node: node(third), Replaces: second.Incarnation})
	_, ok := w.c.Incarnation("n3", second.Incarnation)
	require.False(t, ok)
	_, ok = w.c.Incarnation("n3", first.Incarnation)
	require.True(t, ok, "journals still name it")
	w.ok(&RemoveNode{"n3", third.Incarnation})
	_, ok = w.c.Node("n3")
	require.False(t, ok, "what is left of n3 is leaving")
	w.ok(&PutNode{Node: node(second), Replaces: first.Incarnation})
}

// TestM8_NoNodeIsRemovedThatAJournalNames: not a member, not a learner, not one that left.
func TestM8_NoNodeIsRemovedThatAJournalNames(t *testing.T) {
	remove := func(id quorum.NodeID) *RemoveNode { return &RemoveNode{id, member(id, 1).Incarnation} }
	w := withJournal(t)
	w.no(ErrNoNode, remove("n9"))
	w.no(ErrNoNode, &RemoveNode{"n4", member("n4", 2).Incarnation})
	w.ok(remove("n6"))
	w.ok(&SetVoter{"n2", member("n2", 1).Incarnation, false})
	w.no(ErrInUse, remove("n2"))
	w.ok(&BeginChange{Target: w.target(), To: members("n1", "n4", "n5")})
	e, ok := errors.AsType[*InUseError](w.no(ErrInUse, remove("n4")))
	require.True(t, ok)
	require.Equal(t, []string{"ns1"}, e.Journals)
	w.ok(&Joint{w.step()})
	w.no(ErrInUse, remove("n4"))
	w.no(ErrInUse, remove("n2"))
	w.ok(&Sealed{w.step(), testSeal})
	w.ok(&Final{w.step(), testSeal})
	w.no(ErrInUse, remove("n2"))
	w.finish()
	w.no(ErrInUse, remove("n2"))
	w.ok(&Forget{ID: "n2", Incarnation: member("n2", 1).Incarnation})
	w.ok(remove("n2"))
}

func TestInUseNamesABoundedNumber(t *testing.T) {
	w := newWorld(t)
	for i := range MaxNamedInUse + 3 {
		w.ok(&CreateJournal{ID: segments.JournalID{byte(i + 1)}, Name: fmt.Sprintf("ns%d", i), Members: members("n4")})
	}
	e, ok := errors.AsType[*InUseError](w.no(ErrInUse, &RemoveNode{"n4", member("n4", 1).Incarnation}))
	require.True(t, ok)
	require.Len(t, e.Journals, MaxNamedInUse)
	require.Equal(t, "ns0", e.Journals[0])
	require.Equal(t, 3, e.More)
}

func TestSetVoter(t *testing.T) {
	w := newWorld(t)
	voter := func(id quorum.NodeID, v bool) *SetVoter { return &SetVoter{id, member(id, 1).Incarnation, v} }
	w.no(ErrNoNode, voter("n9", true))
	w.again(voter("n1", true))
	w.ok(voter("n1", false))
	w.ok(voter("n2", false))
	w.no(ErrVoter, voter("n3", false))
	w.no(ErrVoter, &RemoveNode{"n3", member("n3", 1).Incarnation})
	w.ok(voter("n4", true))
	w.ok(voter("n3", false))
}

func TestNodesAreBounded(t *testing.T) {
	w := newWorld(t)
	for i := len(w.c.nodes); i < MaxNodes; i++ {
		w.ok(&PutNode{Node: node(member(quorum.NodeID(fmt.Sprintf("m%d", i)), 1))})
	}
	w.no(ErrLimit, &PutNode{Node: node(member("one-more", 1))})
	w.ok(&PutNode{Node: node(member("n4", 2)), Replaces: member("n4", 1).Incarnation})
}

// TestLevels: software of level 1 and of level 2 refuse a command of level 2 alike, until every node
// knows it.
func TestLevels(t *testing.T) {
	w := newWorld(t)
	future := &Future{Level: 2, Bytes: []byte{77, 2, 0, 99, 1, 2, 3}}
	w.no(ErrLevel, future)
	w.again(&SetLevel{1})
	w.no(ErrLevel, &SetLevel{0})
	w.no(ErrLevel, &SetLevel{2})
	for _, n := range w.c.Nodes() {
		n.Level = 2
		w.ok(&PutNode{Node: n})
	}
	state := encoded(t, w.c)

	newer, err := Restore(state)
	require.NoError(t, err)
	newer.known = 2
	_, err = newer.Apply(w.index+1, &SetLevel{2})
	require.NoError(t, err)
	require.Equal(t, uint16(2), newer.Level())
	_, err = newer.Apply(w.index+2, &PutNode{Node: node(member("n9", 1))})
	require.ErrorIs(t, err, ErrLevel, "software that does not know the level cannot join")
	_, err = Restore(encoded(t, newer))
	require.ErrorIs(t, err, ErrUnsupported)

	// Software that does not know the level goes no further, and passes nothing on.
	_, err = w.c.Apply(w.index+1, &SetLevel{2})
	require.ErrorIs(t, err, ErrUnsupported)
	_, err = w.c.Apply(w.index+2, &SetLevel{1})
	require.ErrorIs(t, err, ErrUnsupported)
	_, err = w.c.AppendBinary(nil)
	require.ErrorIs(t, err, ErrUnsupported)
}

func TestIndexesOnlyGrow(t *testing.T) {
	w := newWorld(t)
	for _, i := range []uint64{0, w.index - 1, w.index} {
		_, err := w.c.Apply(i, &SetLevel{1})
		require.ErrorIs(t, err, ErrIndex)
		require.Equal(t, w.index, w.c.Index())
	}
	_, err := w.c.Apply(w.index+10, &SetLevel{1}) // entries of the consensus group itself take indexes, too
	require.NoError(t, err)
	_, err = w.c.Apply(w.index+11, nil)
	require.ErrorIs(t, err, ErrBadCommand)
	_, err = w.c.ApplyBytes(w.index+12, []byte{1, 2})
	require.ErrorIs(t, err, ErrBadCommand)
	require.Equal(t, w.index+12, w.c.Index())
}

func TestGettersReturnCopies(t *testing.T) {
	w := withJournal(t)
	w.changeUpTo(StageJoint)
	w.ok(&ListSnapshot{w.target(), image(9), members("n1", "n2", "n4")})
	w.ok(&Grant{Journal: j1, Holder: "w", TTLMillis: 1000, Nonce: testNonce})
	before := w.state()
	for _, n := range w.c.Nodes() {
		n.Labels["rack"] = "x"
	}
	for _, j := range w.c.Journals() {
		j.Config.Sets[0][0].ID, j.Change.New[0].ID, j.Snapshots[0].Holders[0].ID = "x", "x", "x"
		j.Lease.Holder, j.History[0].Note, j.Change.Note = "x", "x", "x"
	}
	require.Equal(t, before, w.state())
}

func TestPlace(t *testing.T) {
	at := func(id quorum.NodeID, zone string) Node {
		n := node(member(id, 1))
		n.Labels = map[string]string{"zone": zone}
		return n
	}
	nodes := []Node{at("n6", "c"), at("n5", "c"), at("n4", "b"), at("n3", "a"), at("n2", "a"), at("n1", "a")}
	place := func(replicas int, spread string, journals ...Journal) []quorum.NodeID {
		set, err := Place(nodes, journals, replicas, spread, nil)
		require.NoError(t, err)
		return ids(set)
	}
	on := func(ids ...quorum.NodeID) Journal { return Journal{Config: quorum.NewConfig(1, members(ids...)...)} }
	learning := on("n1")
	learning.Change = &Change{Stage: StageLearning, Old: members("n1"), New: members("n2", "n3")}

	require.Equal(t, []quorum.NodeID{"n1", "n2", "n3"}, place(3, ""))
	require.Equal(t, []quorum.NodeID{"n1", "n4", "n5"}, place(3, "zone"))
	require.Equal(t, []quorum.NodeID{"n2", "n4", "n6"}, place(3, "zone", on("n1", "n5")))
	require.Equal(t, []quorum.NodeID{"n4", "n5", "n6"}, place(3, "", learning))
	require.Equal(t, []quorum.NodeID{"n1", "n2", "n4", "n5", "n6"}, place(5, "zone"))
	require.Equal(t, []quorum.NodeID{"n1", "n2", "n3"}, place(3, "no-such-label"))

	without := func(replicas int, spread string, silent ...quorum.NodeID) []quorum.NodeID {
		set, err := Place(nodes, nil, replicas, spread, func(n Node) bool { return !slices.Contains(silent, n.ID) })
		require.NoError(t, err)
		return ids(set)
	}
	require.Equal(t, []quorum.NodeID{"n2", "n3", "n4"}, without(3, "", "n1"))
	require.Equal(t, []quorum.NodeID{"n1", "n2", "n5"}, without(3, "zone", "n4"), "rather one zone twice than one that does not answer")
	require.Equal(t, []quorum.NodeID{"n1", "n5", "n6"}, without(3, "", "n1", "n2", "n3", "n4"), "for want of others")

	nodes[5].Leaving = true
	require.Equal(t, []quorum.NodeID{"n2", "n4", "n5"}, place(3, "zone"))
	_, err := Place(nodes, nil, 6, "", nil)
	require.ErrorIs(t, err, ErrTooFewNodes)
	_, err = Place(nodes, nil, 0, "", nil)
	require.ErrorIs(t, err, ErrInvalid)
}

// A note that is too long ends between two words.
func TestFitText(t *testing.T) {
	long := strings.Repeat("word ", MaxTextBytes)
	got := FitText(long)
	require.LessOrEqual(t, len(got), MaxTextBytes)
	require.True(t, strings.HasSuffix(got, "word..."), got)
	require.Len(t, FitText(strings.Repeat("w", 2*MaxTextBytes)), MaxTextBytes, "one long word is cut")
	require.Equal(t, "a b", FitText("a\nb"))
}
