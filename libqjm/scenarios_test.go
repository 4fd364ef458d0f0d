package libqjm_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/recovery"
)

// The scenarios are numbered as in the list that was re-stated from Hadoop's tests (Given / When / Then).
// Its JN0, JN1 and JN2 are n1, n2 and n3 here.

// noRepair turns anti-entropy off: what a scenario leaves as a hole stays one.
func noRepair(_ int, o *journalnode.Options) { o.RepairEvery, o.CompareEvery = time.Hour, time.Hour }

// lose drops what goes from the client to a node, of all methods with that prefix.
func (b *bed) lose(rules map[string][]string) {
	b.Net.Fault(func(c memnet.Call) memnet.Verdict {
		if c.From != "client" {
			return memnet.Deliver
		}
		for _, prefix := range rules[c.To] {
			if strings.HasPrefix(c.Method, prefix) {
				return memnet.Drop
			}
		}
		return memnet.Deliver
	})
}

// knows waits until every node that runs knows that all up to id is committed.
func (b *bed) knows(id libqjm.TxID) {
	b.Helper()
	b.Until(time.Minute, "the committed floor is known", func() bool {
		st, err := b.cl.Status(b.ctx, "j")
		require.NoError(b, err)
		for _, n := range st.Nodes {
			if n.Err == nil && n.Committed < id && !(n.SegState == "finalized" && n.Last >= id) {
				return false
			}
		}
		return true
	})
}

func (b *bed) inSync(w *libqjm.Writer, nodes ...string) {
	b.Helper()
	for _, id := range nodes {
		b.Until(time.Minute, id+" is in sync", func() bool {
			for _, ch := range w.Status().Channels {
				if ch.Node == id {
					return ch.InSync
				}
			}
			return false
		})
	}
}

// holds waits until a node has acknowledged all up to id.
func (b *bed) holds(w *libqjm.Writer, node string, id libqjm.TxID) {
	b.Helper()
	b.Until(time.Minute, node+" has acknowledged", func() bool { return b.acked(w, node) >= id })
}

func (b *bed) acked(w *libqjm.Writer, node string) libqjm.TxID {
	for _, ch := range w.Status().Channels {
		if ch.Node == node {
			return ch.Acked
		}
	}
	return 0
}

func TestScenario01_SingleWriter(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.writeFinal(w, 1, 3)
		b.writeFinal(w, 4, 4)
		b.finalized(1, 3)
		b.finalized(4, 4)
		require.NoError(b, w.Close(b.ctx))
		b.Until(time.Minute, "all hold both", func() bool { return b.copies(1, 3) == 3 && b.copies(4, 4) == 3 })
	})
}

func TestScenario02_CreateOnce(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		_, err := b.cl.Status(b.ctx, "other")
		require.ErrorIs(b, err, libqjm.ErrNoJournal)
		require.NoError(b, b.cl.CreateJournal(b.ctx, "other"))
		st, err := b.cl.Status(b.ctx, "other")
		require.NoError(b, err)
		require.True(b, st.Quorum)
		require.ErrorIs(b, b.cl.CreateJournal(b.ctx, "other"), libqjm.ErrJournalExists)
	})
}

func TestScenario03_ReaderWhileAnotherWrites(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		final := libqjm.ReaderOptions{FinalizedOnly: true}
		w := b.writer()
		require.Empty(b, b.read(final))
		b.writeFinal(w, 1, 3)
		require.Equal(b, upTo(1, 3), b.read(final))
		b.write(w, 4, 6)
		b.knows(6)
		require.Equal(b, upTo(1, 3), b.read(final))
		require.Equal(b, upTo(1, 6), b.read(libqjm.ReaderOptions{}))
		require.NoError(b, w.Roll(b.ctx))
		require.Equal(b, upTo(1, 6), b.read(final))
	})
}

func TestScenario04_ReaderCombinesNodesWithHoles(t *testing.T) {
	run(t, testcluster.Options{Tune: noRepair}, func(b *bed) {
		w := b.writer()
		b.writeFinal(w, 1, 3)
		b.inSync(w, "n1", "n2", "n3")
		b.StopNode(0)
		b.writeFinal(w, 4, 6)
		b.StartNode(0)
		b.inSync(w, "n1")
		b.writeFinal(w, 7, 9)
		b.inSync(w, "n1", "n2", "n3")
		b.StopNode(1)
		b.Net.ResetCalls()
		require.Equal(b, upTo(1, 9), b.read(libqjm.ReaderOptions{}))
		require.Equal(b, 1, b.Net.Count("client", "n1", "Tail"), "the node with the hole was read first")
		require.Equal(b, 1, b.Net.Count("client", "n3", "Tail"), "and another one went on")
	})
}

func TestScenario05_AllNodesDown(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		for i := range b.Nodes {
			b.StopNode(i)
		}
		_, err := b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{})
		require.ErrorIs(b, err, libqjm.ErrNoQuorum)
		var nq *recovery.NoQuorumError
		require.ErrorAs(b, err, &nq)
		require.Len(b, nq.Causes, 3, "each node and why")
		var said strings.Builder
		log := slog.New(slog.NewTextHandler(&said, nil))
		_, err = libqjm.Dial(b.within(time.Minute), libqjm.Options{Endpoints: b.Endpoints(), Dialer: b.Net.Dialer("late"), Logger: log})
		require.ErrorIs(b, err, libqjm.ErrUnavailable)
		require.Equal(b, 1, strings.Count(said.String(), "no endpoint answers"), "whoever waits is told why, once: %s", &said)
	})
}

func TestScenario06_WriterDiesAtTheBeginningOfASegment(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.writeFinal(w, 1, 3)
		b.inSync(w, "n1", "n2", "n3") // segment 4 is started everywhere
		b.abandon(w)
		w = b.writer()
		require.EqualValues(b, 4, w.FirstTxID())
		b.finalized(1, 3)
		b.writeFinal(w, 4, 6)
		b.finalized(4, 6)
	})
}

func TestScenario08_NewWriterFindsNodesInSync(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 3)
		b.abandon(w)
		w = b.writer()
		require.EqualValues(b, 4, w.FirstTxID())
		b.finalized(1, 3)
	})
}

// outOfSync leaves segment 1 in progress with ends n1=3, n2=4, n3=5: txid 4 is committed, 5 is in doubt.
func (b *bed) outOfSync() {
	b.Helper()
	w := b.writer()
	b.write(w, 1, 3)
	for _, n := range []string{"n1", "n2", "n3"} {
		b.holds(w, n, 3)
	}
	b.lose(map[string][]string{"n1": {"Write"}})
	b.write(w, 4, 4)
	b.holds(w, "n2", 4)
	b.holds(w, "n3", 4)
	b.lose(map[string][]string{"n1": {"Write"}, "n2": {"Write"}})
	f, err := w.AppendAsync(b.ctx, text(5))
	require.NoError(b, err)
	b.holds(w, "n3", 5)
	select {
	case <-f.Done():
		require.FailNow(b, "committed on one node")
	default:
	}
	b.abandon(w)
	_, err = f.Wait(b.ctx)
	require.True(b, libqjm.MayHaveCommitted(err), "%v", err)
	b.Net.Fault(nil)
}

func TestScenario09_NewWriterFindsNodesOutOfSync(t *testing.T) {
	for without, want := range []libqjm.TxID{5, 5, 4} {
		t.Run("without n"+string(rune('1'+without)), func(t *testing.T) {
			run(t, testcluster.Options{Tune: noRepair}, func(b *bed) {
				b.outOfSync()
				b.StopNode(without)
				r, err := b.cl.Recover(b.ctx, "j")
				require.NoError(b, err)
				require.Equal(b, want, r.LastTx)
				require.EqualValues(b, 1, r.Segment)
				b.finalized(1, want)
				b.StartNode(without)
				w := b.writer()
				require.Equal(b, want+1, w.FirstTxID())
				b.writeFinal(w, want+1, want+2)
			})
		})
	}
}

func TestScenario11_RecoverAfterIncompleteRecovery(t *testing.T) {
	run(t, testcluster.Options{Tune: noRepair}, func(b *bed) {
		b.outOfSync()
		b.StopNode(2)
		finalize := []string{"Finalize"}
		b.lose(map[string][]string{"n1": finalize, "n2": finalize})
		_, err := b.cl.Recover(b.within(3*time.Second), "j")
		require.ErrorIs(b, err, context.DeadlineExceeded)
		require.Positive(b, b.Net.Count("client", "n1", "Finalize"))
		b.Net.Fault(nil)
		b.StopNode(0)
		b.StartNode(2)
		r, err := b.cl.Recover(b.ctx, "j")
		require.NoError(b, err)
		require.EqualValues(b, 4, r.LastTx, "what was accepted stands, though a longer copy has come back")
		b.finalized(1, 4)
	})
}

func TestScenario13_NewerVersionOfASegmentWins(t *testing.T) {
	run(t, testcluster.Options{Tune: noRepair}, func(b *bed) {
		w := b.writer()
		b.writeFinal(w, 1, 100)
		b.inSync(w, "n1", "n2", "n3")
		b.lose(map[string][]string{"n2": {"Write"}, "n3": {"Write"}})
		_, err := w.AppendAsync(b.ctx, text(101))
		require.NoError(b, err)
		b.holds(w, "n1", 101)
		b.abandon(w)

		// A recovery that hears n1 and n3 chooses 101, and gets no further than n1's accept.
		all := []string{"State", "NewEpoch", "Prepare", "Accept", "Finalize"}
		b.lose(map[string][]string{"n2": all, "n3": {"Accept"}})
		_, err = b.cl.Recover(b.within(time.Second), "j")
		require.Error(b, err)
		b.Net.Fault(nil)

		b.StopNode(0)
		w = b.writer()
		require.EqualValues(b, 101, w.FirstTxID())
		other := make([][]byte, 50)
		for i := range other {
			other[i] = text(libqjm.TxID(101 + i))
		}
		_, last, err := w.AppendBatch(b.ctx, other)
		require.NoError(b, err)
		require.EqualValues(b, 150, last)
		b.abandon(w)

		b.StartNode(0)
		r, err := b.cl.Recover(b.ctx, "j")
		require.NoError(b, err)
		require.EqualValues(b, 150, r.LastTx)
		b.finalized(101, 150)
		require.Equal(b, upTo(1, 150), b.read(libqjm.ReaderOptions{}))
	})
}

func TestScenario18_ReadNotFromABoundary(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		for s := libqjm.TxID(0); s < 5; s++ {
			b.writeFinal(w, s*10+1, s*10+10) // one batch each: 25 lies in the middle of a frame
		}
		require.Equal(b, upTo(25, 50), b.read(libqjm.ReaderOptions{From: 25}))
	})
}

func TestScenario19_RecoveryFinalizesAllThatWasWritten(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 5)
		b.knows(5)
		b.write(w, 6, 8)
		r, err := b.cl.Recover(b.ctx, "j")
		require.NoError(b, err)
		require.EqualValues(b, 8, r.LastTx)
		b.finalized(1, 8)
		require.Equal(b, upTo(1, 8), b.read(libqjm.ReaderOptions{}))
		_, err = w.Append(b.ctx, text(9))
		require.ErrorIs(b, err, libqjm.ErrFenced)
	})
}

func TestScenario20_OnlyWhatIsCommittedIsRead(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 5)
		b.knows(5)
		b.lose(map[string][]string{"n1": {"Write"}, "n2": {"Write"}})
		_, err := w.AppendAsync(b.ctx, text(6))
		require.NoError(b, err)
		b.holds(w, "n3", 6)
		b.Net.ResetCalls()
		require.Equal(b, upTo(1, 5), b.read(libqjm.ReaderOptions{}))
		tails := 0
		for _, n := range []string{"n1", "n2", "n3"} {
			tails += b.Net.Count("client", n, "Tail")
		}
		require.Equal(b, 1, tails, "one node served it all")
	})
}

func TestScenario22_23_ReadWithDeadNodes(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 10)
		b.knows(10)
		b.StopNode(0)
		require.Equal(b, upTo(1, 10), b.read(libqjm.ReaderOptions{}))
		b.StopNode(1)
		// Committed is committed: the node that is left can prove it by its floor. Nothing new can be
		// decided.
		require.Equal(b, upTo(1, 10), b.read(libqjm.ReaderOptions{}))
		_, err := b.cl.Recover(b.within(10*time.Second), "j")
		require.ErrorIs(b, err, libqjm.ErrNoQuorum)
		st, err := b.cl.Status(b.ctx, "j")
		require.NoError(b, err)
		require.False(b, st.Quorum)
		require.True(b, st.Degraded())
	})
}

func TestScenario27_ReadAfterAllNodesRestarted(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.writeFinal(w, 1, 10)
		require.NoError(b, w.Close(b.ctx))
		for i := range b.Nodes {
			b.StopNode(i)
		}
		for i := range b.Nodes {
			b.StartNode(i)
		}
		b.cl = b.Client()
		require.Equal(b, upTo(1, 10), b.read(libqjm.ReaderOptions{}))
	})
}

func TestScenario34_EpochsCountUp(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		for e := libqjm.Epoch(1); e <= 5; e++ {
			require.Equal(b, e, b.writer().Epoch())
		}
	})
}

func TestScenario35_EpochsAreUniqueThoughRequestsAreLost(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		dice := newDice(35)
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			if c.Method == "State" && dice.roll(10) || c.Method == "NewEpoch" && dice.roll(40) {
				return memnet.Drop
			}
			return memnet.Deliver
		})
		last := libqjm.Epoch(0)
		for range 20 {
			w := b.writer()
			require.Greater(b, w.Epoch(), last)
			last = w.Epoch()
			if dice.roll(50) {
				require.NoError(b, w.Close(b.ctx))
			}
		}
	})
}

// removeSegment deletes a finalized segment's file behind a stopped node's back.
func (b *bed) removeSegment(i int, first, last libqjm.TxID) {
	b.Helper()
	dir := b.JournalDir(i) + "/segments/"
	names, err := b.Disks[i].List(dir)
	require.NoError(b, err)
	for _, n := range names {
		if strings.HasPrefix(n, pad(first)+"-"+pad(last)) {
			require.NoError(b, b.Disks[i].Remove(dir+n))
			require.NoError(b, b.Disks[i].SyncDir(dir))
			return
		}
	}
	require.FailNow(b, "no such segment", "node %d, %d to %d: %v", i, first, last, names)
}

// eachHas waits until all nodes hold segments of ten txids, count of them, finalized.
func (b *bed) eachHas(count libqjm.TxID) {
	b.Helper()
	b.Until(30*time.Second, "every node holds every segment", func() bool {
		for s := range count {
			if b.copies(s*10+1, s*10+10) != 3 {
				return false
			}
		}
		return true
	})
}

func TestScenario68_73_DeletedSegmentsComeBack(t *testing.T) {
	type loss struct {
		node    int
		segment libqjm.TxID // from 0
	}
	dice := newDice(73)
	var random []loss
	for _, s := range dice.perm(20)[:5] {
		random = append(random, loss{dice.intn(3), libqjm.TxID(s)})
	}
	for name, tt := range map[string]struct {
		segments libqjm.TxID
		lost     []loss
	}{
		"68 first":                {3, []loss{{0, 0}}},
		"69 two in a row":         {4, []loss{{0, 0}, {0, 1}}},
		"70 with one between":     {4, []loss{{0, 0}, {0, 2}}},
		"71 the same on two":      {3, []loss{{0, 0}, {1, 0}}},
		"72 several on all":       {4, []loss{{0, 0}, {1, 0}, {1, 1}, {2, 2}}},
		"73 random":               {20, random},
		"the newest finalized":    {3, []loss{{0, 2}}},
		"all of one, but the end": {4, []loss{{2, 0}, {2, 1}, {2, 2}, {2, 3}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, testcluster.Options{}, func(b *bed) {
				w := b.writer()
				for s := range tt.segments {
					b.writeFinal(w, s*10+1, s*10+10)
				}
				require.NoError(b, w.Close(b.ctx))
				b.eachHas(tt.segments)
				for i := range b.Nodes {
					b.StopNode(i)
				}
				for _, l := range tt.lost {
					b.removeSegment(l.node, l.segment*10+1, l.segment*10+10)
				}
				for i := range b.Nodes {
					b.StartNode(i)
				}
				b.eachHas(tt.segments)
				require.Equal(b, upTo(1, tt.segments*10), b.read(libqjm.ReaderOptions{}))
			})
		})
	}
}

func TestScenario74_SyncAfterDowntime(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.StopNode(0)
		for s := range libqjm.TxID(8) {
			b.writeFinal(w, s*10+1, s*10+10)
		}
		b.StartNode(0)
		b.writeFinal(w, 81, 90)
		b.eachHas(9)
	})
}

func TestScenario76_WipedNodeStaysOut(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		for s := range libqjm.TxID(4) {
			b.writeFinal(w, s*10+1, s*10+10)
		}
		b.WipeNode(0)
		b.StartNode(0)
		for s := range libqjm.TxID(6) {
			b.writeFinal(w, s*10+41, s*10+50)
		}
		b.Until(time.Minute, "it knows that it is nobody", func() bool {
			st, err := b.cl.Status(b.ctx, "j")
			return err == nil && st.Nodes[0].State == "unknown"
		})
		// N1: it counts for nothing, so one more loss stalls the journal rather than trusting it.
		b.StopNode(1)
		_, err := w.Append(b.within(5*time.Second), text(101))
		require.ErrorIs(b, err, context.DeadlineExceeded)
		b.StartNode(1)
		b.Until(time.Minute, "goes on", func() bool { return w.Committed() == 101 })
	})
}

func TestScenario79_OneBatchIsOneMessage(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.inSync(w, "n1", "n2", "n3")
		b.Net.ResetCalls()
		b.write(w, 1, 3)
		for _, n := range []string{"n1", "n2", "n3"} {
			b.holds(w, n, 3)
			require.Equal(b, 1, b.Net.Count("client", n, "Write.Frames"))
		}
	})
}

func TestScenario80_QueueIsBounded(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writerWith(libqjm.WriterOptions{QueueBytes: 64 << 10, FrameBytes: 4 << 10, FramesInFlight: 1})
		b.inSync(w, "n1", "n2", "n3")
		frames := []string{"Write"}
		b.lose(map[string][]string{"n1": frames, "n2": frames, "n3": frames})
		var futures []libqjm.Future
		var err error
		for err == nil {
			var f libqjm.Future
			if f, err = w.AppendAsync(b.within(time.Second), make([]byte, 4<<10)); err == nil {
				futures = append(futures, f)
			}
		}
		require.ErrorIs(b, err, libqjm.ErrQueueFull)
		require.False(b, libqjm.MayHaveCommitted(err), "it was not handed to anybody")
		require.Len(b, futures, 1+16, "one frame under way and 64 KiB of queue")
		b.Net.Fault(nil)
		for _, f := range futures {
			_, err := f.Wait(b.ctx)
			require.NoError(b, err)
		}
		require.EqualValues(b, len(futures), w.Committed(), "the refusal used up no txid")
		id, err := w.Append(b.ctx, []byte("x"))
		require.NoError(b, err)
		require.EqualValues(b, len(futures)+1, id)
	})
}

func TestScenario81_LostMessageIsMadeUpForInTheSameSegment(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.inSync(w, "n1", "n2", "n3")
		lost := false
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			if c.To == "n1" && c.Method == "Write.Frames" && !lost {
				lost = true
				return memnet.Drop
			}
			return memnet.Deliver
		})
		b.write(w, 1, 2)
		b.write(w, 3, 3)
		b.holds(w, "n1", 3)
		require.True(b, lost)
		require.EqualValues(b, 1, w.Status().Segment)
	})
}

func TestScenario83_85_OpeningNeedsAQuorum(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		require.EqualValues(b, 1, b.writer().Epoch())
		b.StopNode(0)
		require.EqualValues(b, 2, b.writer().Epoch())
		b.StopNode(1)
		_, err := b.cl.OpenWriter(b.within(20*time.Second), "j", libqjm.WriterOptions{})
		require.ErrorIs(b, err, libqjm.ErrNoQuorum)
		require.ErrorIs(b, err, rpc.ErrUnavailable, "the cause is in it")
		require.ErrorIs(b, err, context.DeadlineExceeded)
	})
}

func TestScenario87_BatchesAreFrames(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.inSync(w, "n1", "n2", "n3")
		b.Net.ResetCalls()
		b.write(w, 1, 2)
		b.holds(w, "n2", 2)
		b.write(w, 3, 3)
		b.holds(w, "n2", 3)
		require.Equal(b, 2, b.Net.Count("client", "n2", "Write.Frames"))
	})
}

func TestScenario88_OneNodeNeverAnswers(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			if c.To == "n3" && c.From == "client" {
				return memnet.Hang
			}
			return memnet.Deliver
		})
		w := b.writer()
		began := time.Now()
		b.write(w, 1, 1)
		require.Less(b, time.Since(began), 10*time.Millisecond)
		b.Until(time.Minute, "the others learn what is committed", func() bool {
			st, err := b.cl.Status(b.ctx, "j")
			require.NoError(b, err)
			return st.Nodes[0].Committed == 1 && st.Nodes[1].Committed == 1
		})
		b.Net.Fault(nil)
		require.NoError(b, w.Close(b.ctx))
	})
}

func TestScenario96_98_WaitingForAQuorum(t *testing.T) {
	answerAfter := func(d time.Duration) func(memnet.Call) memnet.Verdict {
		return func(c memnet.Call) memnet.Verdict {
			if c.From == "client" {
				time.Sleep(d) // fake: the network's delay
			}
			return memnet.Deliver
		}
	}
	t.Run("97 nobody answers", func(t *testing.T) {
		run(t, testcluster.Options{}, func(b *bed) {
			b.Net.Fault(func(memnet.Call) memnet.Verdict { return memnet.Hang })
			began := time.Now()
			_, err := b.cl.Recover(b.ctx, "j")
			require.ErrorIs(b, err, libqjm.ErrNoQuorum)
			require.Equal(b, libqjm.DefaultRequestTimeout, time.Since(began))
		})
	})
	t.Run("98 all answer late", func(t *testing.T) {
		run(t, testcluster.Options{}, func(b *bed) {
			b.Net.Fault(answerAfter(libqjm.DefaultRequestTimeout - time.Second))
			w := b.writer()
			b.write(w, 1, 1)
		})
	})
	t.Run("96 an error counts as an answer", func(t *testing.T) {
		run(t, testcluster.Options{}, func(b *bed) {
			b.lose(map[string][]string{"n1": {""}, "n2": {""}})
			began := time.Now()
			_, err := b.cl.Recover(b.ctx, "j")
			require.ErrorIs(b, err, libqjm.ErrNoQuorum)
			require.Less(b, time.Since(began), time.Second, "two of three failed: there is nothing to wait for")
		})
	})
}

func TestScenario135_SlowNodeSlowsNobody(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		const pause = 50 * time.Millisecond
		var slow atomic.Bool
		slow.Store(true)
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			if slow.Load() && c.To == "n3" && c.Method == "Write.Frames" {
				time.Sleep(pause) // fake: it takes ten times as long as the others' whole day
			}
			return memnet.Deliver
		})
		w := b.writerWith(libqjm.WriterOptions{RingBytes: 16 << 10})
		b.inSync(w, "n1", "n2", "n3")
		began := time.Now()
		const count = 200
		for i := libqjm.TxID(1); i <= count; i++ {
			_, err := w.Append(b.ctx, append(text(i), make([]byte, 1<<10)...))
			require.NoError(b, err)
		}
		require.Less(b, time.Since(began), pause, "the others' speed")
		require.Less(b, b.acked(w, "n3"), libqjm.TxID(count/2))
		slow.Store(false)
		b.holds(w, "n3", count)
		require.EqualValues(b, 1, w.Status().Segment, "it came back inside the segment")
	})
}
