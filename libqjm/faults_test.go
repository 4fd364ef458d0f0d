package libqjm_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/recovery"
)

// scripted is a cluster whose requests come one after the other: each waits a moment of fake time, so
// that everything before it is through when it is counted, lost or delivered.
func scripted(t *testing.T, fault func(memnet.Call) memnet.Verdict, f func(b *bed)) {
	t.Helper()
	run(t, testcluster.Options{Tune: noRepair}, func(b *bed) {
		b.Net.ResetCalls()
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			if c.From != "client" {
				return memnet.Deliver
			}
			pass(time.Microsecond)
			return fault(c)
		})
		f(b)
	})
}

// workload becomes the writer, then writes and finalizes 1 to 3 and 4 to 6. It returns the last txid
// that was acknowledged; where a step does not succeed in time it ends there, as if the process died.
func (b *bed) workload() (acknowledged libqjm.TxID) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	w, err := b.cl.OpenWriter(ctx, "j", libqjm.WriterOptions{})
	if err != nil {
		return 0
	}
	defer b.abandon(w)
	for first := libqjm.TxID(1); first <= 4; first += 3 {
		_, last, err := w.AppendBatch(ctx, texts(first, first+2))
		if err != nil {
			return acknowledged
		}
		acknowledged = last
		pass(5 * time.Millisecond) // fake: the last node and the committed floor have the time to come along
		if err := w.Roll(ctx); err != nil {
			return acknowledged
		}
		pass(5 * time.Millisecond)
	}
	return acknowledged
}

// requests counts what the workload sends to each node: in all, and without heartbeats.
func requests(t *testing.T) (counts, work [3]int) {
	var mu sync.Mutex
	beats := map[string]int{}
	count := func(c memnet.Call) memnet.Verdict {
		if c.Method == "Write.Heartbeat" {
			mu.Lock()
			defer mu.Unlock()
			beats[c.To]++
		}
		return memnet.Deliver
	}
	scripted(t, count, func(b *bed) {
		require.EqualValues(b, 6, b.workload())
		mu.Lock()
		defer mu.Unlock()
		for i := range counts {
			counts[i] = b.Net.Calls("client", b.ID(i))
			work[i] = counts[i] - beats[b.ID(i)]
		}
	})
	return counts, work
}

func TestScenario30_AllNodesGetTheSameRequests(t *testing.T) {
	counts, work := requests(t)
	t.Logf("requests: %v, without heartbeats: %v", counts, work)
	require.Equal(t, work[0], work[1])
	require.Equal(t, work[0], work[2])
	require.Greater(t, work[0], 8)
	// One node may be told what is committed once more than another: that depends on whose answer came last.
	require.LessOrEqual(t, slices.Max(counts[:])-slices.Min(counts[:]), 1)
}

// TestScenario31_EveryPairOfLostRequests: node x loses exactly its a-th request, node y exactly its
// b-th, for all pairs of requests and all pairs of nodes. One more than the fault-free run sends, for
// what a reconnection adds.
func TestScenario31_EveryPairOfLostRequests(t *testing.T) {
	counts, _ := requests(t)
	last := max(counts[0], counts[1], counts[2]) + 1
	pairs := [][2]string{{"n1", "n2"}, {"n2", "n3"}, {"n1", "n3"}}
	if testing.Short() {
		pairs = pairs[:1]
	}
	for _, verdict := range []memnet.Verdict{memnet.Drop, memnet.LoseReply} {
		for _, pair := range pairs {
			if verdict == memnet.LoseReply && pair != pairs[0] {
				continue // which nodes does not matter so much: requests go to all alike
			}
			t.Run(fmt.Sprintf("%d %s %s", verdict, pair[0], pair[1]), func(t *testing.T) {
				t.Parallel()
				for x := 1; x <= last; x++ {
					for y := 1; y <= last; y++ {
						lose := func(c memnet.Call) memnet.Verdict {
							if c.To == pair[0] && c.N == x || c.To == pair[1] && c.N == y {
								return verdict
							}
							return memnet.Deliver
						}
						scripted(t, lose, func(b *bed) {
							what := fmt.Sprintf("lost: %s %d, %s %d", pair[0], x, pair[1], y)
							acknowledged := b.workload()
							require.EqualValues(b, 6, acknowledged, "two lost requests stop nobody (%s)", what)
							b.recoverAfter(acknowledged, what)
						})
						if t.Failed() {
							return
						}
					}
				}
			})
		}
	}
}

// recoverAfter: a new writer must find at least what was acknowledged, and be able to write and
// finalize three more.
func (b *bed) recoverAfter(acknowledged libqjm.TxID, what string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	w, err := b.cl.OpenWriter(ctx, "j", libqjm.WriterOptions{})
	require.NoError(b, err, what)
	end := w.FirstTxID() - 1
	require.GreaterOrEqual(b, end, acknowledged, what)
	_, _, err = w.AppendBatch(ctx, texts(end+1, end+3))
	require.NoError(b, err, what)
	require.NoError(b, w.Close(ctx), what)
	b.finalized(end+1, end+3)
	require.Equal(b, upTo(1, end+3), b.read(libqjm.ReaderOptions{}), what)
}

var (
	seedFlag  = flag.Uint64("seed", 0, "run TestScenario33 with this seed only")
	seedsFlag = flag.Uint64("seeds", 16, "run TestScenario33 with so many seeds")
)

// TestScenario33_Random: writers come one after the other; requests and replies are lost, nodes go down
// and come back, some of them after a power cut that spares unsynced data as the dice fall.
func TestScenario33_Random(t *testing.T) {
	seeds := []uint64{*seedFlag}
	if *seedFlag == 0 {
		seeds = nil
		for s := uint64(1); s <= *seedsFlag; s++ {
			seeds = append(seeds, s)
		}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			defer func() {
				if t.Failed() {
					t.Logf("again: go test ./libqjm -run TestScenario33 -seed %d", seed)
				}
			}()
			run(t, testcluster.Options{}, func(b *bed) { b.randomRun(seed, 40) })
		})
	}
}

func (b *bed) randomRun(seed uint64, writers int) {
	b.Helper()
	d := newDice(seed)
	var acknowledged libqjm.TxID
	content := map[libqjm.TxID]string{} // of acknowledged txids
	faulty := func(c memnet.Call) memnet.Verdict {
		if c.From != "client" {
			return memnet.Deliver
		}
		// By the call's own number, not by the order of all calls: that one depends on the scheduler.
		switch n := newDice(seed ^ uint64(c.To[1])<<56 ^ uint64(c.N)<<20).intn(100); {
		case n < 4:
			return memnet.Drop
		case n < 8:
			return memnet.LoseReply
		}
		return memnet.Deliver
	}
	for round := range writers {
		// At most one node is down or lags behind at a time: what the protocol promises to survive.
		down := -1
		if d.roll(40) {
			down = d.intn(3)
			switch d.intn(4) {
			case 0:
				b.StopNode(down)
			case 1:
				b.KillNode(down)
			default:
				b.CrashNode(down, memfs.CrashOptions{UnsyncedPercent: d.intn(101), Rand: d.r})
			}
		}
		b.Net.Fault(faulty)
		ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
		w, err := b.cl.OpenWriter(ctx, "j", libqjm.WriterOptions{})
		if err != nil {
			b.lawful(err, round)
			cancel()
		} else {
			require.Greater(b, w.FirstTxID(), acknowledged, "round %d lost what was acknowledged", round)
			b.randomWriter(ctx, d, w, &acknowledged, content, round)
			cancel()
		}
		if down >= 0 {
			b.StartNode(down)
		}
		if d.roll(20) { // the power of the whole rack
			for i := range b.Nodes {
				b.CrashNode(i, memfs.CrashOptions{UnsyncedPercent: d.intn(101), Rand: d.r})
			}
			for i := range b.Nodes {
				b.StartNode(i)
			}
		}
	}
	b.Net.Fault(nil)
	w := b.writer()
	require.Greater(b, w.FirstTxID(), acknowledged)
	require.NoError(b, w.Close(b.ctx))
	r, err := b.cl.OpenReader(b.ctx, "j", libqjm.ReaderOptions{})
	require.NoError(b, err)
	next := libqjm.TxID(1)
	for txn, err := range r.All(b.ctx) {
		require.NoError(b, err)
		require.Equal(b, next, txn.ID)
		if want, ok := content[txn.ID]; ok {
			require.Equal(b, want, string(txn.Data), "txid %d", txn.ID)
		}
		next++
	}
	require.Greater(b, next, acknowledged)
	b.Until(time.Minute, "all finalized copies agree, everywhere", b.agree)
}

// randomWriter writes up to two segments of up to four batches, and ends in one way or another.
func (b *bed) randomWriter(ctx context.Context, d *dice, w *libqjm.Writer, acknowledged *libqjm.TxID, content map[libqjm.TxID]string, round int) {
	b.Helper()
	for range d.intn(3) {
		for i := range d.intn(5) {
			txn := fmt.Sprintf("round %d txn %d", round, i)
			id, err := w.Append(ctx, []byte(txn))
			if err != nil {
				b.lawful(err, round)
				break
			}
			require.Greater(b, id, *acknowledged)
			*acknowledged, content[id] = id, txn
		}
		if err := w.Roll(ctx); err != nil {
			b.lawful(err, round)
		}
	}
	if d.roll(50) {
		if err := w.Close(ctx); err != nil {
			b.lawful(err, round)
		}
		return
	}
	b.abandon(w)
}

// lawful: faults may cost a quorum or time, nothing else.
func (b *bed) lawful(err error, round int) {
	b.Helper()
	if errors.Is(err, recovery.ErrDivergence) || errors.Is(err, recovery.ErrBreach) || errors.Is(err, libqjm.ErrCorrupt) {
		require.NoError(b, err, "round %d", round)
	}
	ok := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, libqjm.ErrNoQuorum) || errors.Is(err, libqjm.ErrFenced) || errors.Is(err, libqjm.ErrLostRace)
	require.True(b, ok, "round %d: %v", round, err)
}

// agree: all three nodes hold the same finalized segments.
func (b *bed) agree() bool {
	segs, err := b.cl.Segments(b.ctx, "j")
	require.NoError(b, err)
	byFirst := map[libqjm.TxID][]libqjm.SegmentInfo{}
	for _, s := range segs {
		require.Empty(b, s.Problem, "%+v", s)
		if s.State == "finalized" {
			byFirst[s.First] = append(byFirst[s.First], s)
		}
	}
	for _, copies := range byFirst {
		for _, c := range copies {
			require.Equal(b, copies[0].Digest, c.Digest)
			require.Equal(b, copies[0].Last, c.Last)
		}
		if len(copies) != 3 {
			return false
		}
	}
	return true
}

// TestScenario128_PromiseSurvivesAPowerCut: whatever was answered stays promised.
func TestScenario128_PromiseSurvivesAPowerCut(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		e, err := b.cl.Fence(b.ctx, "j")
		require.NoError(b, err)
		for i := range b.Nodes {
			b.CrashNode(i, memfs.CrashOptions{}) // nothing unsynced survives
		}
		for i := range b.Nodes {
			b.StartNode(i)
		}
		st, err := b.cl.Status(b.ctx, "j")
		require.NoError(b, err)
		require.Equal(b, e, st.Epoch, "%+v", st)
		require.Greater(b, b.writer().Epoch(), e)
	})
}

// TestScenario132_DiskFull: one node after the other runs out of room at some write; nothing is
// acknowledged there, the others go on, and it is back when there is room again.
func TestScenario132_DiskFull(t *testing.T) {
	full := func(b *bed, i int) {
		free, err := b.Disks[i].Free(b.Dir(i))
		require.NoError(b, err)
		require.Positive(b, free)
		b.Disks[i].SetCapacity(0)
	}
	t.Run("append", func(t *testing.T) {
		run(t, testcluster.Options{}, func(b *bed) {
			w := b.writer()
			b.inSync(w, "n1", "n2", "n3")
			full(b, 0)
			big := make([]byte, 512<<10) // beyond what is preallocated
			for range 4 {
				_, err := w.Append(b.ctx, big)
				require.NoError(b, err)
			}
			b.Until(time.Minute, "n1 says why it does not follow", func() bool {
				return errors.Is(w.Status().Channels[0].LastErr, vfs.ErrNoSpace)
			})
			require.Zero(b, b.acked(w, "n1"))
			b.Disks[0].SetCapacity(-1)
			b.holds(w, "n1", 4)
			require.EqualValues(b, 1, w.Status().Segment)
		})
	})
	t.Run("segment header", func(t *testing.T) {
		run(t, testcluster.Options{}, func(b *bed) {
			w := b.writer()
			b.inSync(w, "n1", "n2", "n3")
			full(b, 0)
			b.writeFinal(w, 1, 3)
			b.writeFinal(w, 4, 6)
			b.Disks[0].SetCapacity(-1)
			b.write(w, 7, 7)
			b.holds(w, "n1", 7)
			b.Until(time.Minute, "all of it", func() bool { return b.copies(1, 3) == 3 && b.copies(4, 6) == 3 })
		})
	})
	t.Run("promise and accept", func(t *testing.T) {
		run(t, testcluster.Options{}, func(b *bed) {
			w := b.writer()
			b.write(w, 1, 3)
			full(b, 0)
			r, err := b.cl.Recover(b.ctx, "j")
			require.NoError(b, err)
			require.EqualValues(b, 3, r.LastTx)
			full1 := b.within(5 * time.Second)
			b.Disks[1].SetCapacity(0)
			_, err = b.cl.Recover(full1, "j")
			require.ErrorIs(b, err, context.DeadlineExceeded)
			// The last attempt may have met n3's promise to the ones before.
			require.True(b, errors.Is(err, vfs.ErrNoSpace) || errors.Is(err, recovery.ErrSuperseded), "%v", err)
			b.Disks[0].SetCapacity(-1)
			b.Disks[1].SetCapacity(-1)
			w = b.writer()
			require.EqualValues(b, 4, w.FirstTxID())
			// n3 may have promised the failed attempts a higher epoch than this writer got from the other
			// two: it is left out then (F6).
			b.inSync(w, "n1", "n2")
			b.write(w, 4, 6)
		})
	})
}

// TestScenario133_Repeats: a client that got no answer asks again.
func TestScenario133_Repeats(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 3)
		lost := map[string]bool{}
		var again [2]bool
		var mu sync.Mutex // guards both
		b.Net.Fault(func(c memnet.Call) memnet.Verdict {
			mu.Lock()
			defer mu.Unlock()
			key := c.To + c.Method
			if c.Method != "Write.Finalize" && c.Method != "Write.Start" {
				return memnet.Deliver
			}
			if !lost[key] {
				lost[key] = true
				return memnet.LoseReply
			}
			again[0] = again[0] || c.Method == "Write.Finalize"
			again[1] = again[1] || c.Method == "Write.Start"
			return memnet.Deliver
		})
		require.NoError(b, w.Roll(b.ctx))
		b.writeFinal(w, 4, 6)
		mu.Lock()
		require.Equal(b, [2]bool{true, true}, again)
		mu.Unlock()
		b.finalized(1, 3)
		b.finalized(4, 6)
	})
}

// TestRoll_RepliesToFinalizeAreLost: the segment is finalized on every node, and the writer hears of it
// from none at first. It asks again in a segment that is closed there.
func TestRoll_RepliesToFinalizeAreLost(t *testing.T) {
	for _, repair := range []bool{true, false} {
		opts := testcluster.Options{}
		if !repair {
			opts.Tune = noRepair
		}
		run(t, opts, func(b *bed) {
			w := b.writer()
			b.write(w, 1, 3)
			lost := map[string]bool{}
			var mu sync.Mutex // guards lost
			b.Net.Fault(func(c memnet.Call) memnet.Verdict {
				mu.Lock()
				defer mu.Unlock()
				if c.Method == "Write.Finalize" && !lost[c.To] {
					lost[c.To] = true
					return memnet.LoseReply
				}
				return memnet.Deliver
			})
			require.NoError(b, w.Roll(b.within(time.Minute)))
			require.Len(b, lost, 3)
			b.writeFinal(w, 4, 6)
			require.NoError(b, w.Close(b.ctx))
		})
	}
}
