package libqjm_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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

func (b *bed) isMember(name string, i int) bool {
	b.Helper()
	for _, id := range b.membersOf(name) {
		if id == b.ID(i) {
			return true
		}
	}
	return false
}
