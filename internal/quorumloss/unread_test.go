package quorumloss

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/rpc"
)

// groupOf gives the first nodes of the world a log of the catalog each, at that term; the others do not answer.
func (w *world) groupOf(n int, terms ...uint64) {
	var servers []rpc.GroupServer
	for i := 1; i <= n; i++ {
		servers = append(servers, rpc.GroupServer{Key: node(i).Key(), Voter: true})
	}
	for i, term := range terms {
		w.facts.Nodes[i].Err = nil
		w.facts.Nodes[i].Group = rpc.GroupState{Servers: servers, LastIndex: 20, LastTerm: term}
	}
}

// Q1: a survivor that answers while its group is being started, or cannot be, may have the newest log. A plan that
// goes by the others' logs would take up what was never decided.
func TestQ1_LogThatIsNotKnown(t *testing.T) {
	w := newWorld(5)
	w.groupOf(5, 4, 3)
	p, err := Make(w.facts, Options{})
	require.NoError(t, err)
	require.Equal(t, "n1", p.Group.Newest)

	w.facts.Nodes[0].Group = rpc.GroupState{Down: "it is being started"}
	_, err = Make(w.facts, Options{})
	require.ErrorIs(t, err, ErrStopped)
	var unread *UnreadError
	require.ErrorAs(t, err, &unread)
	require.Equal(t, &UnreadError{Node: "n1", Why: "it is being started"}, unread)

	p, err = Make(w.facts, Options{WithoutLog: []string{"n1"}})
	require.NoError(t, err, "the operator gives that log up")
	require.Equal(t, "n2", p.Group.Newest)
	require.Equal(t, []string{"n2"}, ids(p.Group.Voters))
	require.Equal(t, []string{"n1", "n2"}, ids(p.Survivors))
	require.Equal(t, []string{"n3", "n4", "n5"}, ids(p.Group.GiveUp))
	_, err = Make(w.facts, Options{WithoutLog: []string{"n6"}})
	require.ErrorIs(t, err, rpc.ErrBadRequest, "nobody has that name")

	w.facts.Nodes[1].Group = rpc.GroupState{Down: "so is it"}
	_, err = Make(w.facts, Options{WithoutLog: []string{"n1"}})
	require.ErrorAs(t, err, &unread, "nobody knows the group")
	require.EqualValues(t, "n2", unread.Node)
}

// Q6: a group that has its majority is left alone, whoever else is being started.
func TestQ6_LogThatIsNotNeeded(t *testing.T) {
	w := newWorld(5)
	w.groupOf(5, 4, 4, 4, 4)
	w.facts.Nodes[3].Group = rpc.GroupState{Down: "it is being started"}
	p, err := Make(w.facts, Options{})
	require.NoError(t, err)
	require.Nil(t, p.Group)
}

// Q6: what is being started may have its majority soon, and is not reset.
func TestQ6_ResetOfWhatIsBeingStarted(t *testing.T) {
	w := newWorld(3)
	w.groupOf(3, 4, 4, 4)
	for i := range 2 {
		w.facts.Nodes[i+1].Group = rpc.GroupState{Down: "it is being started"}
	}
	reset := Reset{Node: "n1", Peers: []string{"n1"}}
	_, err := MakeReset(w.facts, reset)
	require.ErrorIs(t, err, ErrHasMajority)
	reset.DespiteMajority = true
	p, err := MakeReset(w.facts, reset)
	require.NoError(t, err)
	require.Equal(t, []string{"n1"}, ids(p.Group.Voters))
	reset.Node, reset.Peers = "n2", []string{"n2"}
	_, err = MakeReset(w.facts, reset)
	require.ErrorIs(t, err, ErrStopped)
}
