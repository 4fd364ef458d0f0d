package journalnode_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorumloss"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/osfs"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
)

// offline is the reset of a stopped node's directory.
func offline(dir string, peers ...string) journalnode.OfflineReset {
	return journalnode.OfflineReset{DataDir: dir, Peers: peers}
}

// digestOf makes the plan twice: it is the same.
func digestOf(t *testing.T, r journalnode.OfflineReset) string {
	t.Helper()
	p, err := journalnode.PlanOfflineReset(r)
	require.NoError(t, err)
	again, err := journalnode.PlanOfflineReset(r)
	require.NoError(t, err)
	require.Equal(t, p, again)
	return p.Digest
}

// leads waits for a leader of the catalog's group on that node.
func leads(t *testing.T, c *testcluster.Cluster, i int) rpc.GroupState {
	t.Helper()
	var g rpc.GroupState
	require.Eventually(t, func() bool {
		var err error
		g, err = c.Nodes[i].SurveyGroup(t.Context())
		return err == nil && g.Leader != ""
	}, time.Minute, 10*time.Millisecond)
	return g
}

// Two survivors of five go on with the catalog, on real files, while no node runs. A third one comes back and is
// told (Q9).
func TestOfflineReset(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Nodes: 5})
	ctx := t.Context()
	cl := c.Client()
	require.NoError(t, cl.CreateJournal(ctx, "a"))
	g := leads(t, c, 0)
	require.Len(t, g.Servers, 5)
	two := offline(c.Dir(0), "n1", "n2")
	_, err := journalnode.PlanOfflineReset(two)
	require.ErrorIs(t, err, vfs.ErrLocked, "N3")
	_, err = journalnode.ResetPeersOffline(two, "")
	require.ErrorIs(t, err, vfs.ErrLocked, "N3")
	for i := range c.Nodes {
		c.StopNode(i)
	}

	_, err = journalnode.PlanOfflineReset(offline(c.Dir(0), "n2", "n3"))
	require.ErrorIs(t, err, rpc.ErrBadRequest, "the node itself must be in it")
	_, err = journalnode.PlanOfflineReset(offline(c.Dir(0), "n1", "n9"))
	require.ErrorIs(t, err, quorumloss.ErrNoNode)
	_, err = journalnode.PlanOfflineReset(offline(c.Dir(0), "n1", "n1"))
	require.ErrorIs(t, err, rpc.ErrBadRequest)
	most := offline(c.Dir(0), "n1", "n2", "n3")
	_, err = journalnode.PlanOfflineReset(most)
	require.ErrorIs(t, err, quorumloss.ErrHasMajority)
	most.DespiteMajority = true
	p, err := journalnode.PlanOfflineReset(most)
	require.NoError(t, err)
	require.Contains(t, p.Majority, "3 of 5 voters")
	_, err = journalnode.ResetPeersOffline(two, p.Digest)
	require.ErrorIs(t, err, rpc.ErrPlan, "another digest")
	p, err = journalnode.PlanOfflineReset(two)
	require.NoError(t, err)
	require.Len(t, p.Group.Before, 5, "nothing was changed so far")
	require.Len(t, p.Group.GiveUp, 3)

	for i := range 2 {
		r := offline(c.Dir(i), "n1", "n2")
		digest := digestOf(t, r)
		for range 2 { // the second time does nothing
			_, err = journalnode.ResetPeersOffline(r, digest)
			require.NoError(t, err)
		}
		_, err := journalnode.PlanOfflineReset(offline(c.Dir(i), c.ID(i)))
		if i == 0 {
			require.NoError(t, err)
		}
		c.StartNode(i)
	}
	require.Len(t, leads(t, c, 0).Servers, 2)
	cl = c.ClientWith(libqjm.Options{Endpoints: c.Endpoints()[:2]})
	v, err := cl.Catalog(ctx, libqjm.Linearizable)
	require.NoError(t, err)
	require.Len(t, v.Journals, 1, "the catalog is what it was")
	c.StartNode(2)
	require.Eventually(t, func() bool { return errors.Is(c.Nodes[2].Ready(), journalnode.ErrGivenUp) }, time.Minute, 10*time.Millisecond)
	c.StopNode(2)
	_, err = journalnode.PlanOfflineReset(offline(c.Dir(2), "n3"))
	require.ErrorIs(t, err, journalnode.ErrGivenUp)
}

// What is no directory of a founded node with a raft store is left alone (N5).
func TestOfflineReset_Refuses(t *testing.T) {
	dir := t.TempDir()
	_, err := journalnode.PlanOfflineReset(offline(dir, "n1"))
	require.ErrorIs(t, err, journalnode.ErrOffline)
	names, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, names, "not even a lock is made")
	c := testcluster.Start(t, testcluster.Options{Idle: true})
	c.StartNode(0) // it waits for the other founders
	c.StopNode(0)
	_, err = journalnode.PlanOfflineReset(offline(c.Dir(0), "n1"))
	require.ErrorIs(t, err, journalnode.ErrOffline)
}

// begun: it is in writing that the reset was begun, and not that it has ended.
func begun(dir string) bool {
	_, err := journalnode.PlanOfflineReset(offline(dir, "nobody"))
	return err == nil
}

// crashed cuts a reset off at the k-th change of the node's own files, and copies the raft store of before back
// where old is set: then it was cut off before that was changed.
func crashed(t *testing.T, from, digest string, k int64, old bool) (dir string, done bool) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "n1")
	require.NoError(t, os.CopyFS(dir, os.DirFS(from)))
	fsys := faultfs.New(osfs.New(""))
	fsys.CrashAt(k)
	r := offline(dir, "n1")
	r.FS = fsys
	_, err := journalnode.ResetPeersOffline(r, digest)
	if err == nil {
		return dir, true
	}
	require.ErrorIs(t, err, faultfs.ErrCrashed)
	if old && begun(dir) {
		require.NoError(t, os.RemoveAll(filepath.Join(dir, "raft")))
		require.NoError(t, os.CopyFS(filepath.Join(dir, "raft"), os.DirFS(filepath.Join(from, "raft"))))
	}
	return dir, false
}

// Cut off at each step, the same call goes on; and before it was begun in writing, nothing has changed.
func TestOfflineReset_CutOffAnywhere(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{})
	require.NoError(t, c.Client().CreateJournal(t.Context(), "a"))
	leads(t, c, 0)
	for i := range c.Nodes {
		c.StopNode(i)
	}
	digest := digestOf(t, offline(c.Dir(0), "n1"))
	cut := 0
	for k, done := int64(1), false; !done; k++ {
		for _, old := range []bool{true, false} {
			dir := ""
			if dir, done = crashed(t, c.Dir(0), digest, k, old); done {
				require.Greater(t, k, int64(6), "it got through")
				break
			}
			p, err := journalnode.PlanOfflineReset(offline(dir, "n1"))
			if !errors.Is(err, quorumloss.ErrHasMajority) { // it has its new members, and that is in writing
				require.NoError(t, err)
				require.Equal(t, digest, p.Digest, "the old members, or the plan that was begun")
			}
			if begun(dir) {
				cut++
				_, err = journalnode.ResetPeersOffline(offline(dir, "n1"), "another")
				require.ErrorIs(t, err, rpc.ErrPlan)
			}
			_, err = journalnode.ResetPeersOffline(offline(dir, "n1"), digest)
			require.NoError(t, err)
			_, err = journalnode.PlanOfflineReset(offline(dir, "n1"))
			require.ErrorIs(t, err, quorumloss.ErrHasMajority, "it has its new members")
		}
	}
	require.Greater(t, cut, 1)
}

// Cut off when it was begun in writing, the start of the node finishes it, whatever had become of the store.
func TestOfflineReset_TheStartFinishesIt(t *testing.T) {
	root := t.TempDir()
	c := testcluster.Start(t, testcluster.Options{Dir: root})
	require.NoError(t, c.Client().CreateJournal(t.Context(), "a"))
	leads(t, c, 0)
	for i := range c.Nodes {
		c.StopNode(i)
	}
	kept := filepath.Join(t.TempDir(), "n1")
	require.NoError(t, os.CopyFS(kept, os.DirFS(c.Dir(0))))
	digest := digestOf(t, offline(kept, "n1"))
	var states []string // begun, with the store as it was at first, and with the new members at last
	for k, done := int64(1), false; !done; k++ {
		dir := ""
		if dir, done = crashed(t, kept, digest, k, false); !done && begun(dir) {
			states = append(states, dir)
		}
	}
	require.Greater(t, len(states), 2)
	for i, dir := range []string{states[0], states[len(states)-1]} {
		raft, err := os.ReadFile(filepath.Join(dir, "raft", "raft.db"))
		require.NoError(t, err)
		before, err := os.ReadFile(filepath.Join(kept, "raft", "raft.db"))
		require.NoError(t, err)
		require.Equal(t, i == 0, bytes.Equal(before, raft))
		require.NoError(t, os.RemoveAll(c.Dir(0)))
		require.NoError(t, os.CopyFS(c.Dir(0), os.DirFS(dir)))
		c.StartNode(0)
		g := leads(t, c, 0)
		require.Len(t, g.Servers, 1)
		require.Equal(t, rpc.RecoveryDone, g.Record.Progress)
		require.Len(t, g.Record.GivenUp, 2)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		v, err := c.Nodes[0].Catalog(ctx, rpc.Linearizable)
		cancel()
		require.NoError(t, err)
		require.Len(t, v.Journals, 1)
		c.StopNode(0)
	}
}
