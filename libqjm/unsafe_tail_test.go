package libqjm_test

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	control "github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/libqjm"
)

// M0, M8: what a survivor has in its log of the catalog, and nobody decided on, is in its own copy when its group is
// given new members. It goes by none of that before it has heard the new leader: here it would remove acknowledged
// transactions for a delete that never was.
func TestRecoverQuorum_WhatWasNeverDecided(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		_, err := b.cl.CreateJournalWith(b.ctx, "three", libqjm.CreateOptions{Replicas: 3})
		require.NoError(b, err)
		w, err := b.cl.OpenWriter(b.ctx, "three", libqjm.WriterOptions{})
		require.NoError(b, err)
		_, _, err = w.AppendBatch(b.ctx, texts(1, 5))
		require.NoError(b, err)
		require.NoError(b, w.Close(b.ctx))
		j := b.inCatalog("three")
		var in, out []int
		for i := range b.Nodes {
			if b.isMember("three", i) {
				in = append(in, i)
			} else {
				out = append(out, i)
			}
		}
		leader, stale := out[0], in[1]
		_, err = b.cl.TransferLeader(b.ctx, b.ID(leader))
		require.NoError(b, err)
		_, err = b.cl.Catalog(b.ctx, libqjm.Linearizable)
		require.NoError(b, err)
		for i := range b.Nodes {
			if i != leader && i != stale {
				b.Net.Partition(b.ID(i), b.ID(leader))
				b.Net.Partition(b.ID(i), b.ID(stale))
			}
		}
		cmd, err := control.EncodeCommand(&control.DeleteJournal{Target: control.Target{Journal: j.ID, ExpectVersion: j.Config.Version}})
		require.NoError(b, err)
		_, err = b.Nodes[leader].ForwardCommand(b.within(time.Second), cmd)
		require.Error(b, err)
		has, err := b.Nodes[stale].SurveyGroup(b.ctx)
		require.NoError(b, err)
		lacks, err := b.Nodes[in[0]].SurveyGroup(b.ctx)
		require.NoError(b, err)
		require.Greater(b, has.LastIndex, lacks.LastIndex, "one has the delete in its log")
		b.StopNode(leader)
		b.StopNode(stale)
		b.Net.HealAll()
		b.cl = b.Client()
		b.Until(time.Minute, "the others have a leader", func() bool {
			_, err := b.cl.Catalog(b.within(time.Second), libqjm.Linearizable)
			return err == nil
		})
		require.False(b, b.inCatalog("three").Deleted)
		require.NoError(b, b.cl.SetQuota(b.ctx, "three", 1<<30))
		for _, i := range []int{in[0], in[2], out[1]} { // the first one, too: as the leader it would set the other one right
			b.StopNode(i)
		}
		b.StartNode(in[0])
		b.StartNode(stale)
		b.cl = b.Client()
		b.noLeader()
		p := b.planned()
		require.Len(b, p.Survivors, 2)
		_, _, err = b.cl.RecoverQuorum(b.ctx, p.Digest, libqjm.RecoverOptions{})
		require.NoError(b, err)
		dir := filepath.Join(b.Dir(stale), "journals", j.ID.String(), "segments")
		pass(5 * time.Minute)
		names, err := b.Disks[stale].List(dir)
		require.NoError(b, err)
		require.NotEmpty(b, names)
		require.Equal(b, 5, b.count("three"))
	})
}

// starting stands before a node that answers, and whose part in the catalog's group is not started yet.
type starting struct {
	rpc.Service
	node int
	held *atomic.Int64 // which one that is; -1: none
}

func (s starting) SurveyGroup(ctx context.Context) (rpc.GroupState, error) {
	g, err := s.Service.SurveyGroup(ctx)
	if s.held.Load() == int64(s.node) {
		g = rpc.GroupState{Cluster: g.Cluster, Node: g.Node, Down: "it is being started", Record: g.Record}
	}
	return g, err
}

// Q1: a survivor that answers before its group is started has a log all the same. It may be the newest, so no plan
// goes by the logs of the others.
func TestRecoverQuorum_SurvivorIsBeingStarted(t *testing.T) {
	held := &atomic.Int64{}
	held.Store(-1)
	wrap := func(i int, s rpc.Service) rpc.Service { return starting{s, i, held} }
	run(t, testcluster.Options{Nodes: 5, Wrap: wrap}, func(b *bed) {
		w := b.writer()
		b.writeFinal(w, 1, 10)
		b.settled(1, 10)
		b.abandon(w)
		b.loseForGood(2, 3, 4)
		whole := b.planned()
		require.Equal(b, []string{"n1", "n2"}, nodesOf(whole.Group.Voters))

		held.Store(0)
		s, err := b.cl.Survey(b.ctx)
		require.NoError(b, err)
		_, err = libqjm.PlanRecovery(s, libqjm.RecoverOptions{})
		require.ErrorIs(b, err, libqjm.ErrNoPlan)
		require.ErrorContains(b, err, "n1")
		_, _, err = b.cl.RecoverQuorum(b.ctx, whole.Digest, libqjm.RecoverOptions{})
		require.ErrorIs(b, err, libqjm.ErrNoPlan)

		without := libqjm.RecoverOptions{WithoutLog: []string{"n1"}}
		p, err := libqjm.PlanRecovery(s, without)
		require.NoError(b, err)
		require.Equal(b, []string{"n2"}, nodesOf(p.Group.Voters), "on request only")
		_, _, err = b.cl.RecoverQuorum(b.ctx, p.Digest, libqjm.RecoverOptions{})
		require.ErrorIs(b, err, libqjm.ErrNoPlan, "it is asked for again when it is carried out")

		held.Store(-1)
		require.Equal(b, whole.Digest, b.planned().Digest, "nothing was done")
		_, _, err = b.cl.RecoverQuorum(b.ctx, p.Digest, without)
		require.ErrorIs(b, err, libqjm.ErrPlan, "its log is known now, and counts")
		b.recovered(whole)
		require.Equal(b, upTo(1, 10), b.read(libqjm.ReaderOptions{Linearizable: true}))
	})
}

func (b *bed) isMember(name string, i int) bool {
	b.Helper()
	for _, id := range b.membersOf(name) {
		if id == b.ID(i) {
			return true
		}
	}
	return false
}
