package libqjm_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorumloss"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
)

// loseForGood stops nodes for good, and waits until the survivors have no leader.
func (b *bed) loseForGood(lost ...int) {
	b.Helper()
	for _, i := range lost {
		b.StopNode(i)
	}
	b.cl = b.Client()
	b.noLeader()
}

// noLeader waits until the survivors have none, and each of them knows its log of the catalog: a plan needs that.
func (b *bed) noLeader() {
	b.Helper()
	b.Until(time.Minute, "no leader is left", func() bool {
		s, err := b.cl.Survey(b.ctx)
		return err == nil && !slices.ContainsFunc(s.Nodes, func(n quorumloss.NodeFacts) bool { return n.Group.Leader != "" || n.Group.Down != "" })
	})
}

// settled waits until every node holds first..last finalized, so that it does not matter which are lost.
func (b *bed) settled(first, last libqjm.TxID) {
	b.Helper()
	b.Until(time.Minute, "every node holds the segment", func() bool { return b.copies(first, last) == len(b.Nodes) })
}

// everywhere waits until the open segment reaches a txid on every node.
func (b *bed) everywhere(last libqjm.TxID) {
	b.Helper()
	b.Until(time.Minute, "every node holds the tail", func() bool {
		st, err := b.cl.Status(b.ctx, "j")
		return err == nil && !slices.ContainsFunc(st.Nodes, func(n libqjm.NodeStatus) bool { return n.Last != last })
	})
}

// planned waits for survivors whose group is being started, also anew by an operator's plan.
func (b *bed) planned() (p *libqjm.RecoveryPlan) {
	b.Helper()
	b.Until(time.Minute, "each survivor knows its log of the catalog", func() bool {
		s, err := b.cl.Survey(b.ctx)
		require.NoError(b, err)
		p, err = libqjm.PlanRecovery(s, libqjm.RecoverOptions{})
		if _, unread := errors.AsType[*quorumloss.UnreadError](err); unread {
			return false
		}
		require.NoError(b, err)
		return true
	})
	return p
}

func (b *bed) recovered(p *libqjm.RecoveryPlan) {
	b.Helper()
	_, notes, err := b.cl.RecoverQuorum(b.ctx, p.Digest, libqjm.RecoverOptions{})
	require.NoError(b, err)
	require.Empty(b, notes)
}

func nodesOf(ss []libqjm.PlanStorage) (out []string) {
	for _, s := range ss {
		out = append(out, s.Node)
	}
	return out
}

// Nothing that was acknowledged is lost: it is on the survivors, and is read back byte for byte.
func TestRecoverQuorum_NothingLost(t *testing.T) {
	for name, tc := range map[string]struct {
		nodes int
		lost  []int
		left  []string
	}{
		"five lose three": {5, []int{2, 3, 4}, []string{"n1", "n2"}},
		"three lose two":  {3, []int{0, 1}, []string{"n3"}},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, testcluster.Options{Nodes: tc.nodes}, func(b *bed) {
				w := b.writer()
				b.writeFinal(w, 1, 10)
				b.write(w, 11, 20)
				b.settled(1, 10)
				b.everywhere(20)
				b.abandon(w)
				b.loseForGood(tc.lost...)
				_, err := b.cl.OpenWriter(b.within(5*time.Second), "j", libqjm.WriterOptions{})
				require.ErrorIs(b, err, libqjm.ErrNoQuorum)

				p, again := b.planned(), b.planned()
				require.Equal(b, p, again, "the same facts, the same plan")
				require.Equal(b, tc.left, nodesOf(p.Group.Voters))
				j := p.Journals[0]
				require.Equal(b, quorumloss.Force, j.Action)
				require.Equal(b, tc.left, nodesOf(j.Members))
				require.EqualValues(b, 20, j.Last)
				require.True(b, j.Loss.Possible, "the lost ones could have committed without the others")
				require.Zero(b, j.Loss.CertainLast)
				_, _, err = b.cl.RecoverQuorum(b.ctx, "0123456789abcdef0123456789abcdef", libqjm.RecoverOptions{})
				require.ErrorIs(b, err, libqjm.ErrPlan)
				require.Equal(b, p.Digest, b.planned().Digest, "a wrong digest did nothing")

				b.recovered(p)
				require.Equal(b, upTo(1, 20), b.read(libqjm.ReaderOptions{Linearizable: true}))
				w = b.writer()
				b.write(w, 21, 30)
				require.NoError(b, w.Close(b.ctx))
				require.Equal(b, upTo(1, 30), b.read(libqjm.ReaderOptions{Linearizable: true}))
				v, err := b.cl.Catalog(b.ctx, libqjm.Linearizable)
				require.NoError(b, err)
				require.Len(b, v.Nodes, len(tc.left))
				require.Equal(b, "forced", v.Journals[0].History[len(v.Journals[0].History)-1].Kind)
				require.NoError(b, b.cl.CreateJournal(b.ctx, "k"), "the catalog decides again")

				// Once more: nothing is left to do.
				require.True(b, b.planned().Empty())
			})
		})
	}
}

// R3: what only the lost nodes hold is told beforehand, where a survivor has heard that it was committed, and
// the floor is lowered by the plan, by nothing else.
func TestRecoverQuorum_LossIsTold(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 10)
		b.everywhere(10)
		pass(3 * time.Second)
		old := map[int]*memfs.FS{0: b.Disks[0].ProcessCrashClone(), 1: b.Disks[1].ProcessCrashClone()}
		b.write(w, 11, 20)
		pass(3 * time.Second) // the floors are written down
		b.abandon(w)
		for i := range b.Nodes {
			b.StopNode(i)
		}
		// The survivors have heard of what they do not hold.
		for i, disk := range old {
			name := filepath.Join(b.JournalDir(i), "committed")
			floor := readFile(b, b.Disks[i], name)
			require.NoError(b, disk.Remove(name))
			writeFile(b, disk, name, floor)
			b.Disks[i] = disk
			b.StartNode(i)
		}
		b.cl = b.Client()
		b.noLeader()
		p := b.planned()
		j := p.Journals[0]
		require.EqualValues(b, 10, j.Last)
		require.EqualValues(b, 11, j.Loss.CertainFirst)
		require.EqualValues(b, 20, j.Loss.CertainLast)
		require.Len(b, j.Floors, 2)
		b.recovered(p)
		require.Equal(b, upTo(1, 10), b.read(libqjm.ReaderOptions{Linearizable: true}))
		w = b.writer()
		require.Greater(b, uint64(w.Epoch()), uint64(quorumloss.Jump))
		b.write(w, 11, 12)
		require.NoError(b, w.Close(b.ctx))
	})
}

func readFile(b *bed, disk *memfs.FS, name string) []byte {
	f, err := disk.Open(name)
	require.NoError(b, err)
	defer func() { require.NoError(b, f.Close()) }()
	info, err := disk.Stat(name)
	require.NoError(b, err)
	buf := make([]byte, info.Size())
	_, err = f.ReadAt(buf, 0)
	require.NoError(b, err)
	return buf
}

func writeFile(b *bed, disk *memfs.FS, name string, content []byte) {
	f, err := disk.Create(name)
	require.NoError(b, err)
	_, err = f.WriteAt(content, 0)
	require.NoError(b, err)
	require.NoError(b, errors.Join(f.Sync(), f.Close(), disk.SyncDir(filepath.Dir(name))))
}

// Q1: survivors that diverge are refused, and named. Two histories of one epoch cannot both be right.
func TestRecoverQuorum_DivergentSurvivorsAreRefused(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		w := b.writer()
		b.writeFinal(w, 1, 10)
		require.NoError(b, w.Close(b.ctx))
		b.settled(1, 10)
		for i := range b.Nodes {
			b.StopNode(i)
		}
		var before, kept []*memfs.FS
		for i := range b.Nodes {
			before = append(before, b.Disks[i].ProcessCrashClone())
			b.StartNode(i)
		}
		history := func(texts ...string) {
			b.cl = b.Client()
			w := b.writer()
			for _, s := range texts {
				_, err := w.Append(b.ctx, []byte(s))
				require.NoError(b, err)
			}
			require.NoError(b, w.Close(b.ctx))
			end := w.Committed()
			b.Until(time.Minute, "all have it", func() bool {
				st, err := b.cl.Status(b.ctx, "j")
				return err == nil && !slices.ContainsFunc(st.Nodes, func(n libqjm.NodeStatus) bool { return n.Last != end })
			})
			for i := range b.Nodes {
				b.StopNode(i)
			}
		}
		history("one", "two")
		kept = append(kept, b.Disks[0])
		for i := range b.Nodes {
			b.Disks[i] = before[i]
			b.StartNode(i)
		}
		history("another")
		b.Disks[0] = kept[0]
		b.StartNode(0)
		b.StartNode(1)
		b.cl = b.Client()
		b.noLeader()
		s, err := b.cl.Survey(b.ctx)
		require.NoError(b, err)
		_, err = libqjm.PlanRecovery(s, libqjm.RecoverOptions{})
		require.ErrorIs(b, err, libqjm.ErrNoPlan)
		require.ErrorIs(b, err, libqjm.ErrDivergence)
		require.ErrorContains(b, err, "journal j")
		_, _, err = b.cl.RecoverQuorum(b.ctx, "0123456789abcdef0123456789abcdef", libqjm.RecoverOptions{})
		require.ErrorIs(b, err, libqjm.ErrNoPlan)
		// Left out, it does not keep the rest from going on.
		p, err := libqjm.PlanRecovery(s, libqjm.RecoverOptions{Skip: []string{"j"}})
		require.NoError(b, err)
		require.NotNil(b, p.Group)
		require.Empty(b, p.Forced())
	})
}

// M1, M9: lost nodes that come back do not count, not even all of them together, bring nothing of the old
// config back, and are told why.
func TestRecoverQuorum_LostNodesComeBack(t *testing.T) {
	run(t, testcluster.Options{Nodes: 3}, func(b *bed) {
		w := b.writer()
		b.writeFinal(w, 1, 10)
		require.NoError(b, w.Close(b.ctx))
		b.settled(1, 10)
		b.loseForGood(1, 2)
		p := b.planned()
		b.recovered(p)
		w = b.writer()
		b.write(w, 11, 20)
		for _, i := range []int{1, 2} {
			b.StartNode(i)
			b.Until(time.Minute, "it is told", func() bool { return errors.Is(b.Nodes[i].Ready(), journalnode.ErrGivenUp) })
		}
		b.write(w, 21, 30)
		b.StopNode(2)
		b.StartNode(2)
		require.ErrorIs(b, b.Nodes[2].Ready(), journalnode.ErrGivenUp, "it remembers")
		pass(time.Minute)
		for _, i := range []int{1, 2} {
			_, err := b.Nodes[i].State(b.ctx, b.inCatalog("j").ID)
			require.ErrorIs(b, err, rpc.ErrUnknownNode)
			g, err := b.Nodes[i].SurveyGroup(b.ctx)
			require.NoError(b, err)
			require.Contains(b, g.Down, "given up")
		}
		j := b.inCatalog("j")
		require.Equal(b, p.Journals[0].NewVersion, j.Config.Version)
		require.Equal(b, []string{"n1"}, b.membersOf("j"))
		b.write(w, 31, 40)
		require.NoError(b, w.Close(b.ctx))
		require.Equal(b, upTo(1, 40), b.read(libqjm.ReaderOptions{Linearizable: true}))
		v, err := b.cl.Catalog(b.ctx, libqjm.Linearizable)
		require.NoError(b, err)
		require.Len(b, v.Nodes, 1)
		// With a blank disk the same node is welcome.
		b.WipeNode(1)
		b.StartNode(1)
		b.Until(time.Minute, "it is let in", func() bool { return b.Nodes[1].Ready() == nil })
		_, err = b.cl.ChangeMembers(b.ctx, "j", []string{"n1", "n2"}, libqjm.ChangeOptions{})
		require.NoError(b, err)
		require.NoError(b, b.cl.WaitForChange(b.ctx, "j", nil))
	})
}

// cutOff lets so many steps of a plan through. The next one is lost, on its way there or on its way back.
type cutOff struct {
	rpc.Dialer
	left   *int
	answer bool
}

type cutNode struct {
	rpc.Node
	cutOff
}

func (c cutOff) Dial(addr string) (rpc.Node, error) {
	n, err := c.Dialer.Dial(addr)
	return cutNode{n, c}, err
}

func (n cutNode) CarryOut(ctx context.Context, req rpc.CarryOutRequest) (string, error) {
	*n.left--
	switch {
	case *n.left >= 0:
		return n.Node.CarryOut(ctx, req)
	case n.answer && *n.left == -1:
		_, _ = n.Node.CarryOut(ctx, req)
	}
	return "", errCutOff
}

var errCutOff = errors.New("cut off")

// Cut off at each step, and with a survivor killed there, the same plan is carried on to its end.
func TestRecoverQuorum_IsResumed(t *testing.T) {
	for name, tc := range map[string]struct{ answer, kill bool }{"request": {}, "answer": {answer: true}, "crash": {true, true}} {
		t.Run(name, func(t *testing.T) {
			run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
				w := b.writer()
				b.writeFinal(w, 1, 10)
				require.NoError(b, w.Close(b.ctx))
				b.settled(1, 10)
				b.loseForGood(2, 3, 4)
				p := b.planned()
				for steps := 0; ; steps++ {
					require.Less(b, steps, 30)
					left := steps
					cl := b.ClientWith(libqjm.Options{Dialer: cutOff{b.Net.Dialer("client"), &left, tc.answer}})
					_, _, err := cl.RecoverQuorum(b.ctx, p.Digest, libqjm.RecoverOptions{})
					if err == nil {
						require.GreaterOrEqual(b, steps, 8)
						break
					}
					require.ErrorIs(b, err, errCutOff)
					if tc.kill {
						i := steps % 2
						b.KillNode(i)
						b.StartNode(i)
						b.Until(time.Minute, "it is up", func() bool {
							g, err := b.Nodes[i].SurveyGroup(b.ctx)
							return err == nil && g.Down == "" && b.Nodes[i].Ready() == nil
						})
					}
				}
				require.Equal(b, upTo(1, 10), b.read(libqjm.ReaderOptions{Linearizable: true}))
				require.Equal(b, []string{"n1", "n2"}, b.membersOf("j"))
				b.cl = b.Client()
				w = b.writer()
				b.write(w, 11, 12)
				require.NoError(b, w.Close(b.ctx))
			})
		})
	}
}

// Q3: of three survivors of seven one alone holds the end. It is never outvoted, and nobody cleans up what the one
// holds that has to wait until it is a member again.
func TestRecoverQuorum_OneSurvivorIsAhead(t *testing.T) {
	run(t, testcluster.Options{Nodes: 7}, func(b *bed) {
		_, err := b.cl.CreateJournalWith(b.ctx, "all", libqjm.CreateOptions{Replicas: 7})
		require.NoError(b, err)
		w, err := b.cl.OpenWriter(b.ctx, "all", libqjm.WriterOptions{})
		require.NoError(b, err)
		_, _, err = w.AppendBatch(b.ctx, texts(1, 10))
		require.NoError(b, err)
		require.NoError(b, w.Roll(b.ctx))
		_, _, err = w.AppendBatch(b.ctx, texts(11, 12))
		require.NoError(b, err)
		b.Until(time.Minute, "all have it", func() bool {
			st, err := b.cl.Status(b.ctx, "all")
			return err == nil && !slices.ContainsFunc(st.Nodes, func(n libqjm.NodeStatus) bool { return n.Last != 12 })
		})
		for _, node := range []string{"n1", "n2"} {
			b.Net.Partition(node, "client")
		}
		_, _, err = w.AppendBatch(b.ctx, texts(13, 20))
		require.NoError(b, err)
		b.Until(time.Minute, "n3 has it", func() bool {
			st, err := b.cl.Status(b.ctx, "all")
			return err == nil && slices.ContainsFunc(st.Nodes, func(n libqjm.NodeStatus) bool { return n.Node == "n3" && n.Last == 20 })
		})
		b.abandon(w)
		for i := 3; i < 7; i++ {
			b.StopNode(i)
		}
		b.Net.HealAll()
		b.cl = b.Client()
		b.noLeader()
		s, err := b.cl.Survey(b.ctx)
		require.NoError(b, err)
		p, err := libqjm.PlanRecovery(s, libqjm.RecoverOptions{})
		require.NoError(b, err)
		i := slices.IndexFunc(p.Journals, func(j libqjm.JournalPlan) bool { return j.Name == "all" })
		require.Equal(b, []string{"n1", "n3"}, nodesOf(p.Journals[i].Members))
		require.Equal(b, []string{"n2"}, nodesOf(p.Journals[i].Later))
		_, notes, err := b.cl.RecoverQuorum(b.ctx, p.Digest, libqjm.RecoverOptions{})
		require.NoError(b, err)
		require.Len(b, notes, 1)
		require.Contains(b, notes[0], "in use by journals j", "it has its majority, and names lost nodes")
		pass(2 * time.Minute) // the leader looks after everything meanwhile
		id := b.inCatalog("all").ID
		page, err := b.Nodes[1].Segments(b.ctx, rpc.SegmentsRequest{Journal: id})
		require.NoError(b, err)
		require.NotEmpty(b, page.Segments, "n2 keeps what it holds")
		require.Equal(b, 20, b.count("all"))
		_, err = b.cl.ChangeMembers(b.ctx, "all", []string{"n1", "n2", "n3"}, libqjm.ChangeOptions{})
		require.NoError(b, err)
		require.NoError(b, b.cl.WaitForChange(b.ctx, "all", nil))
		require.Equal(b, 20, b.count("all"))
	})
}

// A cluster that has its majority is left alone, and so is a journal that has its own (Q6).
func TestRecoverQuorum_WhatHasAMajorityIsLeftAlone(t *testing.T) {
	run(t, testcluster.Options{Nodes: 5}, func(b *bed) {
		_, err := b.cl.CreateJournalWith(b.ctx, "one", libqjm.CreateOptions{Replicas: 1})
		require.NoError(b, err)
		only := b.membersOf("one")[0]
		i := slices.IndexFunc([]int{0, 1, 2, 3, 4}, func(i int) bool { return b.ID(i) == only })
		b.StopNode(i)
		p := b.planned()
		require.Nil(b, p.Group)
		require.Empty(b, p.Forced())
		require.Equal(b, quorumloss.Keep, p.Journals[0].Action)
		require.Equal(b, quorumloss.Lost, p.Journals[1].Action, "nobody has anything of it")
	})
}

// The group's members are overwritten on one node, as braft's reset_peer does.
func TestResetPeers(t *testing.T) {
	run(t, testcluster.Options{Nodes: 3}, func(b *bed) {
		b.loseForGood(1, 2)
		s, err := b.cl.Survey(b.ctx)
		require.NoError(b, err)
		_, err = libqjm.PlanReset(s, libqjm.PeersReset{Node: "n1", Peers: []string{"n2"}})
		require.ErrorIs(b, err, libqjm.ErrBadRequest, "the node itself must be in it")
		for _, journal := range []string{"", "j"} {
			s, err := b.cl.Survey(b.ctx)
			require.NoError(b, err)
			r := libqjm.PeersReset{Journal: journal, Node: "n1", Peers: []string{"n1"}}
			p, err := libqjm.PlanReset(s, r)
			require.NoError(b, err)
			_, err = b.cl.ResetPeers(b.ctx, r, "0123456789abcdef0123456789abcdef", libqjm.RecoverOptions{})
			require.ErrorIs(b, err, libqjm.ErrPlan)
			_, err = b.cl.ResetPeers(b.ctx, r, p.Digest, libqjm.RecoverOptions{})
			require.NoError(b, err)
		}
		b.Until(time.Minute, "the catalog adopts what is installed (M9)", func() bool { return len(b.membersOf("j")) == 1 })
		w := b.writer()
		b.write(w, 1, 2)
		require.NoError(b, w.Close(b.ctx))
	})
}
