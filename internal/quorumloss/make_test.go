package quorumloss

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

func node(i int) quorum.Member {
	return quorum.Member{ID: quorum.NodeID(fmt.Sprintf("n%d", i)), Incarnation: quorum.Incarnation{byte(i)}, Addr: fmt.Sprintf("a:%d", i)}
}

func at(txid int) segments.Position {
	return segments.Position{TxID: segments.TxID(txid), Digest: segments.Digest{byte(txid), 1}}
}

// world is a journal of n members of which only those in copies answer.
type world struct {
	facts Facts
	j     *JournalFacts
}

func newWorld(n int) *world {
	w := &world{}
	var ms []quorum.Member
	for i := 1; i <= n; i++ {
		ms = append(ms, node(i))
		w.facts.Nodes = append(w.facts.Nodes, NodeFacts{Member: node(i), Err: errors.New("no answer")})
	}
	w.facts.Cluster = rpc.ClusterID{1}
	w.facts.Journals = []JournalFacts{{ID: segments.JournalID{2}, Name: "j", Configs: []quorum.Config{quorum.NewConfig(3, ms...)}}}
	w.j = &w.facts.Journals[0]
	for i := 1; i <= n; i++ {
		w.j.Copies = append(w.j.Copies, CopyFacts{Node: node(i).Key(), Err: errors.New("no answer")})
	}
	return w
}

// answers makes a node a survivor that holds a copy of the segment at 1.
func (w *world) answers(i int, c recovery.Copy, floor recovery.Floor) *CopyFacts {
	w.facts.Nodes[i-1].Err = nil
	c.Segment = 1
	f := &w.j.Copies[i-1]
	f.Err = nil
	f.State = rpc.JournalState{DataKnown: c.State != recovery.Unknown, Member: true, Promised: fencing.Claim{Epoch: 5}}
	f.Answer = recovery.Answer{Node: node(i).Key(), Copy: c, Floor: floor, Newest: 1}
	f.State.Answer = f.Answer
	return f
}

func inProgress(epoch fencing.Epoch, last int) recovery.Copy {
	return recovery.Copy{State: recovery.InProgress, Epoch: epoch, Last: at(last)}
}

func floor(txid int) recovery.Floor { return recovery.Floor{Segment: 1, Epoch: 5, At: at(txid)} }

func (w *world) plan(t *testing.T) JournalPlan {
	t.Helper()
	p, err := Make(w.facts, Options{})
	require.NoError(t, err)
	return p.Journals[0]
}

func ids(ss []Storage) (out []string) {
	for _, s := range ss {
		out = append(out, s.Node)
	}
	return out
}

// Q1: two of equal ballot where one is no prefix of the other; two configs of one version; a floor that is no
// loss, but another history.
func TestQ1_NeverAGuess(t *testing.T) {
	w := newWorld(5)
	w.answers(1, inProgress(5, 9), recovery.Floor{})
	other := inProgress(5, 9)
	other.Last.Digest = segments.Digest{7}
	w.answers(2, other, recovery.Floor{})
	_, err := Make(w.facts, Options{})
	require.ErrorIs(t, err, ErrStopped)
	require.ErrorIs(t, err, recovery.ErrDivergence)
	require.ErrorContains(t, err, "journal j")
	p, err := Make(w.facts, Options{Skip: []string{"j"}})
	require.NoError(t, err)
	require.Equal(t, Leave, p.Journals[0].Action)

	w = newWorld(5)
	w.answers(1, inProgress(5, 9), recovery.Floor{})
	w.j.Configs = append(w.j.Configs, quorum.NewConfig(3, node(1)))
	_, err = Make(w.facts, Options{})
	require.ErrorIs(t, err, rpc.ErrConfigDiverges)

	w = newWorld(5)
	c := w.answers(1, inProgress(5, 9), recovery.Floor{Segment: 1, Epoch: 5, At: segments.Position{TxID: 4, Digest: segments.Digest{9}}})
	require.Equal(t, []recovery.Query{{Node: node(1).Key(), TxID: 4}}, w.j.Questions())
	_, err = Make(w.facts, Options{})
	require.ErrorIs(t, err, recovery.ErrNotComparable, "a digest is missing")
	c.Answer.Digests = []recovery.DigestReply{{At: at(4), Found: true}}
	_, err = Make(w.facts, Options{})
	require.ErrorIs(t, err, recovery.ErrBelowFloor)

	w = newWorld(5)
	for i, d := range []byte{1, 2} {
		f := w.answers(i+1, inProgress(5, 9), recovery.Floor{})
		f.Segments = []rpc.SegmentInfo{{First: 1, State: recovery.Finalized, Last: segments.Position{TxID: 3, Digest: segments.Digest{d}}}}
	}
	_, err = Make(w.facts, Options{})
	require.ErrorIs(t, err, recovery.ErrDivergence, "older segments, too")
}

// Q2: R2's order.
func TestQ2_TheOrderOfR2(t *testing.T) {
	finalized := recovery.Copy{State: recovery.Finalized, Epoch: 4, Last: at(5)}
	accepted := recovery.Copy{State: recovery.InProgress, Epoch: 3, Last: at(6), Accepted: recovery.Accepted{Epoch: 6, End: segments.End{First: 1, Last: 6, Digest: at(6).Digest}}}
	for name, tc := range map[string]struct {
		a, b recovery.Copy
		want string
	}{
		"finalized before longer": {finalized, inProgress(5, 9), "n1"},
		"ballot before length":    {inProgress(4, 9), inProgress(5, 7), "n2"},
		"accepted is a ballot":    {accepted, inProgress(5, 9), "n1"},
		"any before none":         {recovery.Copy{State: recovery.Absent}, inProgress(1, 2), "n2"},
	} {
		w := newWorld(5)
		w.answers(1, tc.a, recovery.Floor{})
		w.answers(2, tc.b, recovery.Floor{})
		require.Equal(t, []string{tc.want}, w.plan(t).Sources, name)
	}
}

// Q3: whichever majority of the new members a writer hears, it finds the chosen copy. Three survivors of seven,
// and one of them is ahead: with all three as members, the two others would recover without it.
func TestQ3_EveryMajorityHoldsTheChoice(t *testing.T) {
	w := newWorld(7)
	w.answers(1, inProgress(4, 5), recovery.Floor{})
	w.answers(2, inProgress(4, 5), recovery.Floor{})
	w.answers(3, inProgress(5, 9), recovery.Floor{})
	j := w.plan(t)
	require.Equal(t, []string{"n3"}, j.Sources)
	require.Equal(t, []string{"n1", "n3"}, ids(j.Members))
	require.Equal(t, []string{"n2"}, ids(j.Later))
	// The same of an empty segment: who alone knows what comes before it.
	w = newWorld(7)
	prev := segments.End{First: 1, Last: 4, Digest: at(4).Digest}
	for i := 1; i <= 3; i++ {
		f := w.answers(i, recovery.Copy{State: recovery.Absent}, recovery.Floor{})
		f.Answer.Copy.Segment, f.Answer.Newest = 5, 1
		f.State.Answer = f.Answer
	}
	f := &w.j.Copies[2]
	f.Answer.Copy, f.Answer.Newest = recovery.Copy{Segment: 5, State: recovery.InProgress, Epoch: 5, Prev: prev, Last: at(4)}, 5
	f.State.Answer = f.Answer
	f.Segments = []rpc.SegmentInfo{{First: 1, State: recovery.Finalized, Last: at(4)}}
	j = w.plan(t)
	require.EqualValues(t, 4, j.Last)
	require.Len(t, j.Members, 2)
	require.Contains(t, ids(j.Members), "n3")
}

// Q4: it outranks whatever was installed, by more than a lost node can be ahead.
func TestQ4_TheNewConfigOutranks(t *testing.T) {
	w := newWorld(5)
	w.answers(1, inProgress(7, 5), recovery.Floor{})
	w.j.Configs = append(w.j.Configs, quorum.NewConfig(2, node(1)))
	j := w.plan(t)
	require.EqualValues(t, 3+Jump, j.NewVersion)
	require.EqualValues(t, 7+Jump, j.MinEpoch)
}

// Q5: what a survivor has heard to be committed, and nobody holds, is loss; the floors of members are lowered,
// those that the choice contains are not.
func TestQ5_FloorsThatNobodyHoldsAreLoss(t *testing.T) {
	w := newWorld(5)
	w.answers(1, inProgress(5, 9), floor(12))
	w.answers(2, inProgress(5, 9), floor(9))
	j := w.plan(t)
	require.Equal(t, Loss{CertainFirst: 10, CertainLast: 12, Possible: true, Holes: []Range{}}, j.Loss)
	require.Len(t, j.Floors, 1)
	require.Equal(t, "n1", j.Floors[0].Node)
	f, err := j.Floors[0].Floor()
	require.NoError(t, err)
	require.Equal(t, floor(12), f)
	// An unknown survivor's floor tells of loss, too (Q7).
	w = newWorld(5)
	w.answers(1, inProgress(5, 9), recovery.Floor{})
	w.answers(2, recovery.Copy{State: recovery.Unknown}, floor(20))
	j = w.plan(t)
	require.EqualValues(t, 20, j.Loss.CertainLast)
	require.Empty(t, j.Floors)
	require.Equal(t, []string{"n1"}, ids(j.Members))
	require.Equal(t, "unknown", j.Copies[1].State)
}

// Q6: a majority that answers is left alone. Where every commit needed a survivor, nothing is lost.
func TestQ6_WhatHasItsMajorityIsLeftAlone(t *testing.T) {
	w := newWorld(3)
	w.answers(1, inProgress(5, 9), recovery.Floor{})
	w.answers(2, inProgress(5, 9), recovery.Floor{})
	require.Equal(t, Keep, w.plan(t).Action)
	w = newWorld(4)
	w.answers(1, inProgress(5, 9), recovery.Floor{})
	w.answers(2, inProgress(5, 9), recovery.Floor{})
	j := w.plan(t)
	require.Equal(t, Force, j.Action)
	require.True(t, j.Loss.None(), "two of four cannot commit")
	w = newWorld(3)
	require.Equal(t, Lost, w.plan(t).Action)
}

// Q8: only a journal of which nothing is left can be dropped, and only by name. Who answers and cannot read what
// it holds has not lost it; who answers and never had it holds nothing.
func TestDrop(t *testing.T) {
	drop := Options{Drop: []string{"j"}}
	w := newWorld(3)
	p, err := Make(w.facts, Options{})
	require.NoError(t, err)
	require.True(t, p.Empty())
	require.Len(t, p.LostWhole(), 1)
	require.True(t, p.Journals[0].Loss.All)
	require.False(t, p.Journals[0].Loss.None())
	without := p.Digest
	p, err = Make(w.facts, drop)
	require.NoError(t, err)
	require.NotEqual(t, without, p.Digest)
	require.False(t, p.Empty())
	require.Empty(t, p.Forced())
	require.Equal(t, Drop, p.Journals[0].Action)
	require.EqualValues(t, 3+Jump, p.Journals[0].NewVersion)
	_, found := p.Journal(w.j.ID)
	require.True(t, found)

	_, err = Make(w.facts, Options{Drop: []string{"k"}})
	require.ErrorIs(t, err, rpc.ErrNoJournal)
	_, err = Make(w.facts, Options{Drop: []string{"j"}, Skip: []string{"j"}})
	require.ErrorIs(t, err, rpc.ErrBadRequest)

	w.answers(1, recovery.Copy{State: recovery.Unknown}, recovery.Floor{})
	j := w.plan(t)
	require.Equal(t, Leave, j.Action)
	require.Contains(t, j.Why, "n1 holds it, unreadable")
	w.j.Copies[0].Err = rpc.ErrUnknownNode // it cannot open it at all
	require.Equal(t, Leave, w.plan(t).Action)
	_, err = Make(w.facts, drop)
	require.ErrorIs(t, err, ErrStopped)
	require.ErrorIs(t, err, rpc.ErrBadRequest)
	for i := 1; i <= 3; i++ {
		w.answers(i, inProgress(5, 9), recovery.Floor{})
	}
	_, err = Make(w.facts, drop)
	require.ErrorIs(t, err, ErrStopped, "it is whole")

	w = newWorld(3)
	w.j.Configs = append(w.j.Configs, quorum.Config{Version: 4})
	w.j.Deleted = true
	_, err = Make(w.facts, drop)
	require.ErrorIs(t, err, rpc.ErrNoJournal, "its name is free already")
	w.j.Deleting = true
	p, err = Make(w.facts, drop)
	require.NoError(t, err)
	require.Equal(t, Drop, p.Journals[0].Action)
}

// Older segments that no survivor holds are named.
func TestHoles(t *testing.T) {
	w := newWorld(3)
	f := w.answers(1, inProgress(5, 29), recovery.Floor{})
	f.Answer.Copy.Segment, f.Answer.Newest = 21, 21
	f.State.Answer = f.Answer
	f.Segments = []rpc.SegmentInfo{{First: 1, State: recovery.Finalized, Last: at(5)}, {First: 11, State: recovery.Finalized, Last: at(15)}, {First: 16, State: recovery.Unknown}}
	require.Equal(t, []Range{{6, 10}, {16, 20}}, w.plan(t).Loss.Holes)
	f.State.Answer.Purged = at(8)
	require.Equal(t, []Range{{9, 10}, {16, 20}}, w.plan(t).Loss.Holes, "a snapshot covers what was purged")
}

// The group goes on with those that answer, if too many voters are lost.
func TestGroup(t *testing.T) {
	w := newWorld(5)
	w.facts.Journals = nil
	var servers []rpc.GroupServer
	for i := 1; i <= 5; i++ {
		servers = append(servers, rpc.GroupServer{Key: node(i).Key(), Voter: i != 4})
	}
	up := func(i int, index, term uint64) {
		w.facts.Nodes[i-1].Err = nil
		w.facts.Nodes[i-1].Group = rpc.GroupState{Servers: servers, LastIndex: index, LastTerm: term, Record: rpc.RecoveryRecord{Generation: uint64(i)}}
	}
	up(1, 9, 2)
	up(2, 7, 3)
	up(4, 1, 1)
	p, err := Make(w.facts, Options{})
	require.NoError(t, err)
	require.Equal(t, "n2", p.Group.Newest, "a later term outranks a longer log")
	require.Equal(t, []string{"n1", "n2", "n4"}, ids(p.Group.Voters))
	require.Equal(t, []string{"n3", "n5"}, ids(p.Group.GiveUp))
	require.EqualValues(t, 5, p.Generation)
	up(3, 9, 3)
	p, err = Make(w.facts, Options{})
	require.NoError(t, err)
	require.Nil(t, p.Group)
	require.True(t, p.Empty())
}

// A plan that was changed on its way is refused, and the order of the answers does not change it.
func TestPlanIsSealed(t *testing.T) {
	w := newWorld(5)
	w.answers(1, inProgress(5, 9), recovery.Floor{})
	w.answers(2, inProgress(5, 9), recovery.Floor{})
	p, err := Make(w.facts, Options{})
	require.NoError(t, err)
	w.facts.Nodes[0], w.facts.Nodes[4] = w.facts.Nodes[4], w.facts.Nodes[0]
	c := w.facts.Journals[0].Copies
	c[0], c[3] = c[3], c[0]
	again, err := Make(w.facts, Options{})
	require.NoError(t, err)
	require.Equal(t, p, again)
	b, err := p.Encode()
	require.NoError(t, err)
	got, err := Parse(b)
	require.NoError(t, err)
	require.Equal(t, p, got)
	p.Journals[0].NewVersion++
	b, err = p.Encode()
	require.NoError(t, err)
	_, err = Parse(b)
	require.ErrorIs(t, err, rpc.ErrBadRequest)
	for _, bad := range []string{"", "{}", "[]", `{"schema":"qjm.v1/recovery-plan","kind":"other"}`} {
		_, err := Parse([]byte(bad))
		require.ErrorIs(t, err, rpc.ErrBadRequest, bad)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"schema":"qjm.v1/recovery-plan","kind":"recover-quorum","digest":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		for _, j := range p.Journals {
			_, _ = j.NewConfig()
			_, _ = j.JournalID()
		}
	})
}
