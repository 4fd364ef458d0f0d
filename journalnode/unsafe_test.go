package journalnode_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/quorumloss"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
)

// planFor makes a plan in which these nodes go on with the catalog.
func (b *bed) planFor(generation uint64, change func(*quorumloss.Plan), is ...int) (*quorumloss.Plan, []byte) {
	b.Helper()
	p := &quorumloss.Plan{Schema: quorumloss.Schema, Kind: quorumloss.RecoverQuorum, Cluster: hexOf(b.founded()), Generation: generation}
	for _, i := range is {
		info := b.info(i)
		p.Survivors = append(p.Survivors, quorumloss.Storage{Node: string(info.ID), Incarnation: info.Incarnation.String(), Address: b.ID(i)})
	}
	p.Group = &quorumloss.GroupPlan{Voters: p.Survivors}
	if change != nil {
		change(p)
	}
	require.NoError(b, p.Seal())
	enc, err := p.Encode()
	require.NoError(b, err)
	return p, enc
}

func hexOf(c rpc.ClusterID) string { return quorum.Incarnation(c).String() }

// A node carries out nothing but the plan that it has in writing, and writes no other one down than one of its
// own cluster, that names it, and that is newer than the last.
func TestCarryOut_Refuses(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		b.led()
		record := func(i int, p *quorumloss.Plan, enc []byte) error {
			_, err := b.node(i).CarryOut(b.ctx, rpc.CarryOutRequest{Digest: p.Digest, Step: rpc.StepRecord, Plan: enc})
			return err
		}
		p, enc := b.planFor(1, nil, 0, 1)
		for _, step := range []rpc.CarryOutStep{rpc.StepGroup, rpc.StepJournal, rpc.StepFloor, rpc.StepRemove, rpc.StepDone} {
			_, err := b.node(0).CarryOut(b.ctx, rpc.CarryOutRequest{Digest: p.Digest, Step: step})
			require.ErrorIs(b, err, rpc.ErrPlan, "it is not recorded")
		}
		require.ErrorIs(b, record(2, p, enc), rpc.ErrPlan, "n3 is not among its survivors")
		other, otherEnc := b.planFor(1, func(p *quorumloss.Plan) { p.Cluster = strings.Repeat("0", 32) }, 0, 1)
		require.ErrorIs(b, record(0, other, otherEnc), rpc.ErrPlan, "another cluster")
		require.ErrorIs(b, record(0, other, enc), rpc.ErrBadRequest, "another digest")
		require.ErrorIs(b, record(0, p, []byte("{")), rpc.ErrBadRequest)
		require.NoError(b, record(0, p, enc))
		require.NoError(b, record(0, p, enc), "again")
		same, sameEnc := b.planFor(1, func(p *quorumloss.Plan) { p.Lost = p.Survivors }, 0, 1)
		require.ErrorIs(b, record(0, same, sameEnc), rpc.ErrPlan, "two operators at work")
		b.StopNode(0)
		b.StartNode(0)
		var g rpc.GroupState
		var err error
		b.Until(time.Minute, "it is up", func() bool {
			g, err = b.node(0).SurveyGroup(b.ctx)
			return err == nil && g.Down == ""
		})
		require.Equal(b, p.Digest, g.Record.Digest)
		require.Equal(b, rpc.RecoveryRecorded, g.Record.Progress)
		require.Len(b, g.Servers, 3, "nothing else was done")

		// The group has its majority, whoever leads: it is not forced.
		b.led()
		for i := range 2 {
			p, enc := b.planFor(9, nil, i)
			require.NoError(b, record(i, p, enc))
			b.Until(time.Minute, "it knows its leader", func() bool {
				g, err := b.node(i).SurveyGroup(b.ctx)
				return err == nil && g.Leader != ""
			})
			_, err = b.node(i).CarryOut(b.ctx, rpc.CarryOutRequest{Digest: p.Digest, Step: rpc.StepGroup})
			require.ErrorIs(b, err, rpc.ErrPlan)
		}
		_, err = b.node(0).CarryOut(b.ctx, rpc.CarryOutRequest{Digest: p.Digest, Step: rpc.StepDone})
		require.ErrorIs(b, err, rpc.ErrPlan, "it was replaced by a later one")
		require.True(b, slices.Contains(b.voters(), "n1"))
	})
}

// Addresses are taken for this cluster and this storage only, and outlast a restart.
func TestLearnAddresses_Refuses(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		cluster, me := b.founded(), b.memberOf(0)
		require.ErrorIs(b, b.node(0).LearnAddresses(b.ctx, rpc.AddressesRequest{Cluster: rpc.ClusterID{1}}), rpc.ErrBadRequest)
		other := me
		other.Incarnation = quorum.Incarnation{9}
		require.ErrorIs(b, b.node(0).LearnAddresses(b.ctx, rpc.AddressesRequest{Cluster: cluster, Nodes: []quorum.Member{other}}), rpc.ErrWrongNode)
		nowhere := b.memberOf(1)
		nowhere.Addr = ""
		require.ErrorIs(b, b.node(0).LearnAddresses(b.ctx, rpc.AddressesRequest{Cluster: cluster, Nodes: []quorum.Member{nowhere}}), rpc.ErrBadRequest)
		me.Addr = "elsewhere"
		require.NoError(b, b.node(0).LearnAddresses(b.ctx, rpc.AddressesRequest{Cluster: cluster, Nodes: []quorum.Member{me}}))
		told := func() bool {
			v, err := b.catalog(0, rpc.Stale) // nobody reaches it there, so nobody asks it as the leader
			return err == nil && len(v.Nodes) > 0 && v.Nodes[0].Addr == "elsewhere"
		}
		b.Until(time.Minute, "the catalog has it", told)
		b.StopNode(0)
		b.StartNode(0)
		b.led()
		pass(time.Minute)
		require.True(b, told(), "old flags do not undo it")
	})
}

// The group's members are replaced in writing, in the store, in writing: cut off between the last two, the node's
// start finishes it; before the first one nothing has changed.
func TestCarryOut_ForceIsFinished(t *testing.T) {
	var faults *faultfs.FS
	wrap := func(i int, disk *memfs.FS) vfs.FS {
		f := faultfs.New(disk)
		if i == 0 {
			faults = f
		}
		return f
	}
	run(t, testcluster.Options{FS: wrap}, func(b *bed) {
		b.led()
		p, enc := b.planFor(1, func(p *quorumloss.Plan) {
			for _, i := range []int{1, 2} {
				info := b.info(i)
				p.Group.GiveUp = append(p.Group.GiveUp, quorumloss.Storage{Node: string(info.ID), Incarnation: info.Incarnation.String(), Address: b.ID(i)})
			}
		}, 0)
		later, laterEnc := b.planFor(2, nil, 0)
		b.StopNode(1)
		b.StopNode(2)
		survey := func() rpc.GroupState {
			g, err := b.node(0).SurveyGroup(b.ctx)
			require.NoError(b, err)
			return g
		}
		b.Until(time.Minute, "no leader is left", func() bool { return survey().Leader == "" })
		step := func(s rpc.CarryOutStep) error {
			_, err := b.node(0).CarryOut(b.ctx, rpc.CarryOutRequest{Digest: p.Digest, Step: s, Plan: enc})
			return err
		}
		require.NoError(b, step(rpc.StepRecord))

		faults.Inject(faultfs.Rule{Op: faultfs.OpRename, PathContains: "recovery", Nth: 1, Err: vfs.ErrNoSpace})
		require.ErrorIs(b, step(rpc.StepGroup), vfs.ErrNoSpace)
		b.Until(time.Minute, "it runs as it did", func() bool { return len(survey().Servers) == 3 })
		require.Equal(b, rpc.RecoveryRecorded, survey().Record.Progress)
		b.Until(time.Minute, "no leader is left", func() bool { return survey().Leader == "" })

		faults.ClearRules()
		faults.Inject(faultfs.Rule{Op: faultfs.OpRename, PathContains: "recovery", Nth: 2, Err: vfs.ErrNoSpace})
		require.ErrorIs(b, step(rpc.StepGroup), rpc.ErrCatalogDown)
		require.Equal(b, rpc.RecoveryForcing, survey().Record.Progress)
		require.NotEmpty(b, survey().Down)
		require.ErrorIs(b, step(rpc.StepGroup), rpc.ErrCatalogDown, "it says that the node has to be restarted")
		_, err := b.node(0).CarryOut(b.ctx, rpc.CarryOutRequest{Digest: later.Digest, Step: rpc.StepRecord, Plan: laterEnc})
		require.ErrorIs(b, err, rpc.ErrPlan, "what was begun comes first")
		b.StopNode(0)
		b.StartNode(0)
		b.Until(time.Minute, "it leads alone", func() bool { g := survey(); return g.Leader == "n1" && len(g.Servers) == 1 })
		require.Equal(b, rpc.RecoveryForced, survey().Record.Progress)
		require.Len(b, survey().Record.GivenUp, 2)
		require.NoError(b, step(rpc.StepGroup))
		require.NoError(b, step(rpc.StepDone))
	})
}
