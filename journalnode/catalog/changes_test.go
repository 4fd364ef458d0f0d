package catalog

import (
	"errors"
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
