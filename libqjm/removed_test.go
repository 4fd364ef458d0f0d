package libqjm_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/quorumloss"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/segments"
)

// A node that was taken out and still runs counts for nothing: what it does not answer is no sign that a
// journal is there or is not, clients go on to other nodes, and it is named as an outsider.
func TestRemoved_NodeIsPassedBy(t *testing.T) {
	for _, nodes := range []int{2, 4} {
		t.Run(fmt.Sprint(nodes), func(t *testing.T) { removedIsPassedBy(t, nodes) })
	}
}

func removedIsPassedBy(t *testing.T, nodes int) {
	run(t, testcluster.Options{Nodes: nodes}, func(b *bed) {
		gone := (b.leader() + 1) % nodes
		var members []string
		for i := range b.Nodes {
			if i != gone {
				members = append(members, b.ID(i))
			}
		}
		_, err := b.cl.ChangeMembers(b.ctx, "j", members, libqjm.ChangeOptions{})
		require.NoError(b, err)
		require.NoError(b, b.cl.WaitForChange(b.ctx, "j", nil))
		require.NoError(b, b.cl.RemoveNode(b.ctx, b.ID(gone), false))
		b.Until(time.Minute, "it has found out", func() bool { return b.Nodes[gone].Ready() != nil })
		for i, o := range []libqjm.Options{{Endpoints: []string{b.ID(gone)}}, {Endpoints: []string{b.ID(gone), members[0]}}} {
			cl := b.ClientWith(o)
			v, err := cl.Catalog(b.ctx, libqjm.Stale)
			require.NoError(b, err, i)
			require.Len(b, v.Nodes, nodes-1)
			_, err = cl.Status(b.ctx, "none")
			require.ErrorIs(b, err, libqjm.ErrNoJournal)
			st, err := cl.Status(b.ctx, "j")
			require.NoError(b, err)
			require.True(b, st.Quorum)
			require.False(b, st.Degraded(), "%+v", st)
			list, err := cl.Journals(b.ctx)
			require.NoError(b, err)
			require.Len(b, list, 1)
			require.Empty(b, cl.Outsiders(b.ctx, v), "a stale read says it of nobody")
			v, err = cl.Catalog(b.ctx, libqjm.Linearizable)
			require.NoError(b, err)
			out := cl.Outsiders(b.ctx, v)
			require.Len(b, out, 1)
			require.Equal(b, b.ID(gone), out[0].Node)
			require.Contains(b, out[0].Why, "no part of the cluster any more")
		}
		ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
		defer cancel()
		err = b.cl.AddMember(ctx, b.ID(gone), b.ID(gone), false, nil)
		require.ErrorIs(b, err, libqjm.ErrRefused, "it never asks again")
		require.ErrorContains(b, err, "was taken out of the cluster")
		s, err := b.cl.Survey(b.ctx)
		require.NoError(b, err)
		require.False(b, slices.ContainsFunc(s.Nodes, func(n quorumloss.NodeFacts) bool { return n.Err != nil }))
	})
}

// ghosts is a node that says of every name that it stands for a journal that nobody has.
type ghosts struct{ rpc.Service }

func (g ghosts) FindJournal(ctx context.Context, name string) (rpc.JournalSummary, error) {
	if name == "ghost" {
		return rpc.JournalSummary{ID: segments.JournalID{9}, Name: name, Config: quorum.Config{}}, nil
	}
	return g.Service.FindJournal(ctx, name)
}

// A node that is behind for good says what a name stands for, and all others do not have that: they are asked a
// few times, with pauses, and not for as long as the caller has patience.
func TestStates_NameOfNothing(t *testing.T) {
	run(t, testcluster.Options{Wrap: func(i int, s rpc.Service) rpc.Service {
		if i == 0 {
			return ghosts{s}
		}
		return s
	}}, func(b *bed) {
		b.Net.ResetCalls()
		began := time.Now()
		_, err := b.cl.Status(b.ctx, "ghost")
		require.ErrorIs(b, err, libqjm.ErrNoJournal)
		require.Less(b, time.Since(began), 5*time.Second)
		require.Less(b, b.Net.Count("client", "n2", "State"), 30)
	})
}

// A node that was taken out, knows it and still runs, is no survivor: a plan that asks anything of it could never be
// carried out.
func TestRemoved_NodeIsNoSurvivor(t *testing.T) {
	run(t, testcluster.Options{Nodes: 4}, func(b *bed) {
		_, err := b.cl.ChangeMembers(b.ctx, "j", []string{"n1", "n2", "n3"}, libqjm.ChangeOptions{})
		require.NoError(b, err)
		require.NoError(b, b.cl.WaitForChange(b.ctx, "j", nil))
		require.NoError(b, b.cl.RemoveNode(b.ctx, "n4", false))
		b.Until(time.Minute, "it has found out", func() bool { return b.Nodes[3].Ready() != nil })
		b.loseForGood(1, 2)
		p := b.planned()
		require.Equal(b, []string{"n1"}, nodesOf(p.Survivors))
		b.recovered(p)
		w := b.writer()
		b.write(w, 1, 2)
		require.NoError(b, w.Close(b.ctx))
	})
}
