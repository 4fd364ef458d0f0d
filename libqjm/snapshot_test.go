package libqjm_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/snapshot"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/journalnode/snapshots"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/segments"
)

// catalog is a bed whose catalog is asked for snapshots.
type catalog struct {
	*bed
	id segments.JournalID
}

// noMargin has nodes keep nothing that is covered.
func noMargin(_ int, o *journalnode.Options) { o.Retain = snapshots.Margin{Txns: -1, Bytes: -1} }

// runSnapshots is run without a margin.
func runSnapshots(t *testing.T, opts testcluster.Options, f func(c *catalog)) {
	t.Helper()
	if opts.Tune == nil {
		opts.Tune = noMargin
	}
	run(t, opts, func(b *bed) {
		c := &catalog{bed: b}
		js, err := b.Nodes[0].Journals(b.ctx)
		require.NoError(b, err)
		c.id = js[0].ID
		f(c)
	})
}

// start runs a node again, and waits until it has its journal.
func (c *catalog) start(i int) {
	c.Helper()
	c.StartNode(i)
	c.Until(time.Minute, "the node has its journal", func() bool {
		_, err := c.Nodes[i].State(c.ctx, c.id)
		return err == nil
	})
}

// segmentsTo writes finalized segments of ten up to a txid, and leaves the last one open.
func (c *catalog) segmentsTo(w *libqjm.Writer, last libqjm.TxID) {
	c.Helper()
	for first := w.Status().Assigned + 1; first <= last; first += 10 {
		c.writeFinal(w, first, first+9)
	}
}

// everywhere waits until all nodes hold what was written: one that lags would install the snapshot.
func (c *catalog) everywhere(last libqjm.TxID) {
	c.Helper()
	for first := libqjm.TxID(1); first < last; first += 10 {
		c.Until(time.Minute, "all have the segment", func() bool { return c.copies(first, first+9) == 3 })
	}
}

func (c *catalog) save(txid libqjm.TxID, content []byte) libqjm.Snapshot {
	c.Helper()
	snap, err := c.cl.SaveSnapshot(c.ctx, "j", txid, bytes.NewReader(content))
	require.NoError(c, err)
	require.Equal(c, txid, snap.TxID)
	require.EqualValues(c, len(content), snap.Size)
	return snap
}

func (c *catalog) list1(i int) rpc.SnapshotList {
	c.Helper()
	l, err := c.Nodes[i].Snapshots(c.ctx, c.id)
	require.NoError(c, err)
	return l
}

func (c *catalog) untilPurged(to libqjm.TxID, is ...int) {
	c.Helper()
	for _, i := range is {
		c.Until(time.Minute, fmt.Sprintf("n%d purged to %d", i+1, to), func() bool { return c.list1(i).Purged.TxID == to })
		c.Until(time.Minute, "the segments are gone", func() bool {
			l, err := rpc.AllSegments(c.ctx, c.id, c.Nodes[i].Segments)
			require.NoError(c, err)
			return len(l) == 0 || l[0].First > to
		})
	}
}

func (c *catalog) open(txid libqjm.TxID) []byte {
	c.Helper()
	r, err := c.cl.OpenSnapshot(c.ctx, "j", txid)
	require.NoError(c, err)
	b, err := io.ReadAll(r)
	require.NoError(c, err)
	require.NoError(c, r.Close())
	return b
}

// state is a user's state of n bytes, which differ everywhere.
func state(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	_, _ = r.Read(b) // never fails
	return b
}

// C1, C2, C5, D5: save, purge everywhere, and start again from the snapshot and what comes behind it.
func TestC2_SaveAndPurge(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		w := c.writer()
		c.segmentsTo(w, 40)
		c.write(w, 41, 45)
		_, err := c.cl.LatestSnapshot(c.ctx, "j")
		require.ErrorIs(c, err, libqjm.ErrNoSnapshot)
		content := state(700_000)
		snap := c.save(25, content)
		c.untilPurged(20, 0, 1, 2)

		for _, follow := range []bool{false, true} {
			_, err = c.tryRead(libqjm.ReaderOptions{From: 7, Follow: follow})
			gone, ok := errors.AsType[*libqjm.PurgedError](err)
			require.True(c, ok, "%v", err)
			require.Equal(c, snap, gone.Snapshot)
			require.EqualValues(c, 20, gone.PurgedTo.TxID)
		}
		latest, err := c.cl.LatestSnapshot(c.ctx, "j")
		require.NoError(c, err)
		require.Equal(c, snap, latest)
		require.Equal(c, content, c.open(25))
		require.Equal(c, upTo(26, 45), c.read(libqjm.ReaderOptions{From: 26}))
		require.Equal(c, upTo(21, 45), c.read(libqjm.ReaderOptions{From: 21}))

		// The newest finalized segment stays, whatever is covered (C5).
		require.NoError(c, w.Close(c.ctx))
		c.save(45, state(10))
		c.untilPurged(40, 0, 1, 2)
		again := c.writer()
		require.EqualValues(c, 46, again.FirstTxID())
		c.writeFinal(again, 46, 50)
		c.save(50, nil)
		c.untilPurged(45, 0, 1, 2)
		require.Empty(c, c.open(50))
		require.Equal(c, upTo(46, 50), c.read(libqjm.ReaderOptions{From: 46}))
		c.Until(time.Minute, "the oldest snapshot is removed, the two newest listed stay", func() bool {
			return len(c.list1(0).Held) == 2 && len(c.list1(1).Held) == 2 && len(c.list1(2).Held) == 2
		})
	})
}

// C2: purged segments do not come back through repair, and a restart forgets no purge point.
func TestC5_PurgePointSurvives(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		w := c.writer()
		c.segmentsTo(w, 40)
		c.save(35, state(1000))
		c.untilPurged(30, 0, 1, 2)
		for i := range 3 {
			c.crash(i)
			c.StartNode(i)
		}
		c.Until(time.Minute, "the cluster answers", func() bool { _, err := c.cl.Status(c.ctx, "j"); return err == nil })
		pass(5 * time.Second)
		for i := range 3 {
			require.EqualValues(c, 30, c.list1(i).Purged.TxID)
			l, err := rpc.AllSegments(c.ctx, c.id, c.Nodes[i].Segments)
			require.NoError(c, err)
			require.EqualValues(c, 31, l[0].First)
		}
		c.abandon(w)
		again := c.writer()
		require.EqualValues(c, 41, again.FirstTxID())
	})
}

// A1: a node that has purged does not pull again what a peer still has, and one that has not keeps it.
func TestA1_PurgedIsNotPulledAgain(t *testing.T) {
	only := func(i int, o *journalnode.Options) {
		if i == 0 {
			noMargin(i, o) // the others keep all of it
		}
	}
	runSnapshots(t, testcluster.Options{Tune: only}, func(c *catalog) {
		w := c.writer()
		c.segmentsTo(w, 40)
		c.everywhere(40)
		c.save(35, state(10))
		c.untilPurged(30, 0)
		pass(10 * time.Second)
		for i, first := range []libqjm.TxID{31, 1, 1} {
			l, err := rpc.AllSegments(c.ctx, c.id, c.Nodes[i].Segments)
			require.NoError(c, err)
			require.Equal(c, first, l[0].First)
		}
		require.Equal(c, upTo(1, 40), c.read(libqjm.ReaderOptions{}), "as long as one has it, it is read")
	})
}

// C3: a node that was away while the others purged starts from the snapshot, and repair does the rest.
func TestC3_NodeBehindThePurgePointInstalls(t *testing.T) {
	for _, leftover := range []bool{false, true} {
		runSnapshots(t, testcluster.Options{}, func(c *catalog) {
			w := c.writer()
			if leftover {
				c.write(w, 1, 5) // in progress on all, when n3 goes
			}
			c.StopNode(2)
			if leftover {
				c.writeFinal(w, 6, 10)
			}
			c.segmentsTo(w, 60)
			content := state(3 << 20)
			c.save(45, content)
			c.untilPurged(40, 0, 1)
			c.start(2)
			c.Until(time.Minute, "n3 has the snapshot and what is behind it", func() bool {
				l, err := rpc.AllSegments(c.ctx, c.id, c.Nodes[2].Segments)
				require.NoError(c, err)
				return len(l) >= 2 && l[0].First == 41 && l[0].State.String() == "finalized" && l[1].First == 51 && len(c.list1(2).Held) == 1 && c.list1(2).Purged.TxID == 40
			})
			c.write(w, 61, 65)
			c.StopNode(0) // n3 counts now
			c.write(w, 66, 70)
			c.abandon(w)
			again := c.writer()
			require.EqualValues(c, 71, again.FirstTxID())
			c.StopNode(1)
			c.StartNode(0)
			c.Until(time.Minute, "n1 runs", func() bool { return c.Nodes[0].Ready() == nil })
			require.Equal(c, content, c.open(45))
			require.Equal(c, upTo(46, 60), c.read(libqjm.ReaderOptions{From: 46, To: 60}))
		})
	}
}

// C3: cut off anywhere, by a crash of the node, the installation goes on.
func TestC3_InstallCutOffAnywhere(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		w := c.writer()
		c.write(w, 1, 5)
		c.StopNode(2)
		c.writeFinal(w, 6, 10)
		c.segmentsTo(w, 60)
		c.save(45, state(3<<20+5))
		c.untilPurged(40, 0, 1)
		for pieces := 1; pieces <= 4; pieces++ {
			seen := 0
			var mu sync.Mutex
			enough := make(chan struct{})
			c.Net.Fault(func(call memnet.Call) memnet.Verdict {
				if call.From != "n3" || call.Method != "ReadSnapshot" {
					return memnet.Deliver
				}
				mu.Lock()
				defer mu.Unlock()
				if seen++; seen < 2 {
					return memnet.Deliver
				}
				if seen == 2 {
					close(enough)
				}
				return memnet.Drop
			})
			c.start(2)
			select {
			case <-enough:
			case <-time.After(time.Minute):
				require.Equal(c, 4, pieces, "all of it came before")
			}
			c.crash(2)
		}
		c.Net.Fault(nil)
		c.start(2)
		c.Until(time.Minute, "n3 is whole", func() bool {
			l, err := rpc.AllSegments(c.ctx, c.id, c.Nodes[2].Segments)
			require.NoError(c, err)
			return len(l) >= 2 && l[0].First == 41 && l[1].First == 51 && c.list1(2).Purged.TxID == 40
		})
	})
}

// Finding 7: A has purged what B holds finalized and C in progress, and nothing was written since. Whichever
// two are heard, the journal goes on behind what was committed.
func TestC5_JournalNeverBeginsAgain(t *testing.T) {
	for _, away := range []int{0, 1, 2} {
		runSnapshots(t, testcluster.Options{}, func(c *catalog) {
			w := c.writer()
			c.segmentsTo(w, 20)
			c.write(w, 21, 25)
			c.StopNode(2) // with 21 to 25 in progress
			c.writeFinal(w, 26, 30)
			c.segmentsTo(w, 40)
			require.NoError(c, w.Close(c.ctx))
			c.StopNode(1) // hears of no list
			snap, err := c.cl.SaveSnapshot(c.within(2*time.Second), "j", 40, bytes.NewReader(state(100)))
			require.Error(c, err, "no majority: %v", snap)
			c.StartNode(1)
			c.Until(time.Minute, "n2 runs", func() bool { return c.Nodes[1].Ready() == nil })
			snap, err = c.cl.SaveSnapshot(c.ctx, "j", 40, bytes.NewReader(state(100)))
			require.NoError(c, err)
			c.untilPurged(30, 0)
			require.NotZero(c, snap.TxID)
			c.StopNode(away)
			if away != 2 {
				c.StartNode(2)
			}
			again, err := c.cl.OpenWriter(c.ctx, "j", libqjm.WriterOptions{})
			require.NoError(c, err)
			require.EqualValues(c, 41, again.FirstTxID())
			c.write(again, 41, 42)
		})
	}
}

// C4: an upload that is cut off at any piece goes on there; so it does after the node lost its power.
func TestC4_UploadCutOffAtAnyPiece(t *testing.T) {
	content := state(1 << 20) // four pieces
	for _, verdict := range []memnet.Verdict{memnet.Drop, memnet.LoseReply} {
		for _, method := range []string{"BeginSnapshot", "PutSnapshot", "FinishSnapshot"} {
			for k := 1; k <= 4 && (k == 1 || method == "PutSnapshot"); k++ {
				runSnapshots(t, testcluster.Options{}, func(c *catalog) {
					w := c.writer()
					c.writeFinal(w, 1, 10)
					var mu sync.Mutex
					n := map[string]int{}
					c.Net.Fault(func(call memnet.Call) memnet.Verdict {
						if call.From != "client" || call.Method != method {
							return memnet.Deliver
						}
						mu.Lock()
						defer mu.Unlock()
						if n[call.To]++; n[call.To] == k {
							return verdict
						}
						return memnet.Deliver
					})
					c.save(10, content)
					require.Equal(c, content, c.open(10))
					require.Less(c, c.Net.Count("client", "n1", "PutSnapshot"), 6, "it went on where it was")
				})
			}
		}
	}
	small := func(i int, o *journalnode.Options) {
		noMargin(i, o)
		o.Journal.Snapshots = snapshots.Options{BlockBytes: 64 << 10, SyncBytes: 256 << 10}
	}
	runSnapshots(t, testcluster.Options{Tune: small}, func(c *catalog) {
		big := state(5 << 20)
		w := c.writer()
		c.writeFinal(w, 1, 10)
		var mu sync.Mutex
		puts := map[string]int{}
		c.Net.Fault(func(call memnet.Call) memnet.Verdict {
			mu.Lock()
			defer mu.Unlock()
			if call.Method == "PutSnapshot" {
				if puts[call.To]++; puts[call.To] > 12 {
					return memnet.Drop
				}
			}
			return memnet.Deliver
		})
		_, err := c.cl.SaveSnapshot(c.within(2*time.Second), "j", 10, bytes.NewReader(big))
		require.ErrorIs(c, err, libqjm.ErrNoQuorum)
		for i := range 3 {
			require.Empty(c, c.list1(i).Held, "half an upload is invisible (C4)")
			c.crash(i)
			c.StartNode(i)
		}
		c.Net.Fault(nil)
		c.Net.ResetCalls()
		c.Until(time.Minute, "the cluster answers", func() bool { _, err := c.cl.Status(c.ctx, "j"); return err == nil })
		c.save(10, big)
		require.Equal(c, big, c.open(10))
		require.Less(c, c.Net.Count("client", "n1", "PutSnapshot"), 20, "it went on where it was")
	})
}

// changing is content that is not the same when it is read again.
type changing struct {
	*bytes.Reader
	rounds *int
}

func (r changing) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	*r.rounds++
	if n > 0 && *r.rounds > 8 {
		p[0] ^= 1
	}
	return n, err
}

// C1: what must not become a snapshot does not.
func TestC1_Refused(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		w := c.writer()
		c.segmentsTo(w, 20)
		c.write(w, 21, 25)
		one := func(txid libqjm.TxID, content string) (libqjm.Snapshot, error) {
			return c.cl.SaveSnapshot(c.ctx, "j", txid, bytes.NewReader([]byte(content)))
		}
		_, err := one(0, "x")
		require.ErrorIs(c, err, libqjm.ErrBadRequest)
		for _, txid := range []libqjm.TxID{26, 1 << 60} {
			_, err = one(txid, "x")
			require.ErrorIs(c, err, libqjm.ErrNotCommitted)
			_, err = w.SaveSnapshot(c.ctx, txid, bytes.NewReader(nil))
			require.ErrorIs(c, err, libqjm.ErrNotCommitted)
		}
		rounds := 0
		_, err = c.cl.SaveSnapshot(c.ctx, "j", 20, changing{bytes.NewReader(state(1 << 20)), &rounds})
		require.ErrorIs(c, err, libqjm.ErrNoQuorum)
		require.ErrorIs(c, err, rpc.ErrSnapshotChecksum)
		for i := range 3 {
			require.Empty(c, c.list1(i).Held)
		}

		first, err := one(20, "twenty")
		require.NoError(c, err)
		again, err := one(20, "twenty")
		require.NoError(c, err)
		require.Equal(c, first, again)
		_, err = one(20, "another")
		require.ErrorIs(c, err, libqjm.ErrSnapshotExists)
		_, err = one(19, "x")
		require.ErrorIs(c, err, libqjm.ErrSnapshotOld)
		middle, err := w.SaveSnapshot(c.ctx, 23, bytes.NewReader([]byte("within a frame")))
		require.NoError(c, err)
		require.EqualValues(c, 25, middle.At.TxID)
		require.Equal(c, w.Epoch(), middle.Epoch)

		other := c.writer() // fences
		_, err = w.SaveSnapshot(c.ctx, 25, bytes.NewReader([]byte("fenced")))
		require.ErrorIs(c, err, libqjm.ErrFenced)
		require.NoError(c, other.Close(c.ctx))
	})
}

// C1, N1, M1, F3: each node compares with its own log, and the gate is every request's.
func TestC1_NodeVouches(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		w := c.writer()
		c.segmentsTo(w, 20)
		c.everywhere(20)
		c.write(w, 21, 25)
		snap := c.save(20, []byte("twenty"))
		n := c.Nodes[0]
		st, err := n.State(c.ctx, c.id)
		require.NoError(c, err)
		h := rpc.Header{Journal: c.id, ConfigVersion: 1, Incarnation: st.Incarnation}
		try := func(h rpc.Header, s snapshots.Snapshot) error {
			return n.FinishSnapshot(c.ctx, rpc.SnapshotEnd{Header: h, Snapshot: s})
		}
		require.NoError(c, try(h, snap), "the same again")

		wrong := snap
		wrong.At.Digest[3]++
		_, err = n.BeginSnapshot(c.ctx, rpc.SnapshotUpload{Header: h, ID: wrong.ID()})
		require.ErrorIs(c, err, rpc.ErrSnapshotDiverges)
		require.ErrorIs(c, try(h, wrong), rpc.ErrSnapshotDiverges)
		wrong = snap
		wrong.At.TxID, wrong.TxID = 15, 15 // no frame ends there
		require.ErrorIs(c, try(h, wrong), rpc.ErrSnapshotDiverges)
		wrong.At.TxID, wrong.TxID = 30, 30
		require.ErrorIs(c, try(h, wrong), rpc.ErrSnapshotNotHeld)
		wrong = snap
		wrong.TxID, wrong.At.TxID = 5, 5
		c.untilPurged(10, 0)
		require.ErrorIs(c, try(h, wrong), rpc.ErrSnapshotNotHeld, "what is purged cannot be compared")

		bad := h
		bad.Incarnation = quorum.Incarnation{9}
		require.ErrorIs(c, try(bad, snap), rpc.ErrWrongNode)
		bad = h
		bad.ConfigVersion = 0
		require.ErrorIs(c, try(bad, snap), rpc.ErrConfig)
		bad = h
		bad.Claim = fencing.Claim{Epoch: w.Epoch() - 1 + 1, Writer: fencing.WriterID{1}}
		require.Error(c, try(bad, snap), "another writer of the same epoch")

		_, err = n.PutSnapshot(c.ctx, rpc.SnapshotPiece{Journal: c.id, ID: snap.ID(), Bytes: []byte("x"), CRC: 1})
		require.ErrorIs(c, err, rpc.ErrSnapshotChunk)
		piece := rpc.SnapshotPiece{Journal: c.id, ID: snap.ID(), Bytes: make([]byte, rpc.SnapshotChunkMax+1)}
		_, err = n.PutSnapshot(c.ctx, piece)
		require.ErrorIs(c, err, rpc.ErrBadRequest, "too large a piece")
		_, err = n.ReadSnapshot(c.ctx, rpc.SnapshotRead{Journal: c.id, Snapshot: wrong, Length: 1})
		require.ErrorIs(c, err, rpc.ErrNoSnapshot)
	})
}

// C1, F3: a node that holds the snapshot already, and has to verify it first, vouches for it as it stands when it
// answers: it has promised another writer meanwhile.
func TestC1_GateIsPassedWithTheAnswer(t *testing.T) {
	tune := func(i int, o *journalnode.Options) {
		noMargin(i, o)
		o.ScrubRate = 1 << 10
	}
	runSnapshots(t, testcluster.Options{Tune: tune}, func(c *catalog) {
		w := c.writer()
		c.segmentsTo(w, 20)
		c.everywhere(20)
		var snap libqjm.Snapshot
		c.cl.SetLister(func(_ context.Context, r rpc.ListRequest) error {
			snap = r.Snapshot
			return errors.New("by this test")
		})
		_, err := w.SaveSnapshot(c.ctx, 20, bytes.NewReader(state(10<<10)))
		require.Error(c, err)
		c.Until(time.Minute, "n1 holds it", func() bool { return len(c.list1(0).Held) == 1 })
		st, err := c.Nodes[0].State(c.ctx, c.id)
		require.NoError(c, err)
		c.StopNode(0)
		c.StartNode(0)
		c.Until(time.Minute, "n1 runs", func() bool { return c.Nodes[0].Ready() == nil })

		h := rpc.Header{Journal: c.id, ConfigVersion: 1, Incarnation: st.Incarnation, Claim: st.Promised}
		vouched := make(chan error, 1)
		go func() { vouched <- c.Nodes[0].FinishSnapshot(c.ctx, rpc.SnapshotEnd{Header: h, Snapshot: snap}) }()
		pass(time.Second) // of ten
		later := h
		later.Claim = fencing.Claim{Epoch: h.Claim.Epoch + 1, Writer: fencing.WriterID{7}}
		_, err = c.Nodes[0].NewEpoch(c.ctx, later)
		require.NoError(c, err)
		require.ErrorIs(c, <-vouched, libqjm.ErrFenced)
	})
}

// A disk that is full keeps no other from taking a snapshot, and takes it when it has room.
func TestC4_DiskFull(t *testing.T) {
	runSnapshots(t, testcluster.Options{Tune: func(i int, o *journalnode.Options) { noMargin(i, o); o.ReserveBytes = -1 }}, func(c *catalog) {
		w := c.writer()
		c.segmentsTo(w, 20)
		content := state(2 << 20)
		room := func(i int, bytes int64) {
			const all = 1 << 40
			c.Disks[i].SetCapacity(all)
			free, err := c.Disks[i].Free("/")
			require.NoError(c, err)
			c.Disks[i].SetCapacity(all - free + bytes)
		}
		room(1, 600_000)
		c.save(15, content)
		require.Empty(c, c.list1(1).Held)
		require.Len(c, c.list1(0).Held, 1)
		c.Disks[1].SetCapacity(-1)
		c.Until(time.Minute, "n2 got it from a peer", func() bool { return len(c.list1(1).Held) == 1 })

		for i := range 2 {
			room(i, 600_000)
		}
		_, err := c.cl.SaveSnapshot(c.within(5*time.Second), "j", 20, bytes.NewReader(content))
		require.ErrorIs(c, err, libqjm.ErrNoQuorum)
		require.ErrorIs(c, err, vfs.ErrNoSpace)
		for i := range 2 {
			c.Disks[i].SetCapacity(-1)
		}
		c.save(20, content)
	})
}

// Reading goes on with another node in the middle, at any place.
func TestOpenSnapshot_FallsOver(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		w := c.writer()
		c.writeFinal(w, 1, 10)
		content := state(5<<20 + 17)
		c.save(10, content)
		c.Until(time.Minute, "all have it", func() bool {
			return len(c.list1(0).Held) == 1 && len(c.list1(1).Held) == 1 && len(c.list1(2).Held) == 1
		})
		r, err := c.cl.OpenSnapshot(c.ctx, "j", 10)
		require.NoError(c, err)
		got := make([]byte, 1<<20+5)
		_, err = io.ReadFull(r, got)
		require.NoError(c, err)
		c.Net.Partition("client", "n1")
		more := make([]byte, 1<<20)
		_, err = io.ReadFull(r, more)
		require.NoError(c, err)
		c.Net.Partition("client", "n2")
		rest, err := io.ReadAll(r)
		require.NoError(c, err)
		require.True(c, bytes.Equal(content, slices.Concat(got, more, rest)))

		at := make([]byte, 100)
		_, err = r.ReadAt(at, 3<<20)
		require.NoError(c, err)
		require.Equal(c, content[3<<20:3<<20+100], at)
		n, err := r.ReadAt(at, int64(len(content))-7)
		require.ErrorIs(c, err, io.EOF)
		require.Equal(c, 7, n)
		_, err = r.Seek(-5, io.SeekEnd)
		require.NoError(c, err)
		tail, err := io.ReadAll(r)
		require.NoError(c, err)
		require.Equal(c, content[len(content)-5:], tail)
		require.NoError(c, r.Close())
		c.Net.HealAll()
		_, err = c.cl.OpenSnapshot(c.ctx, "j", 9)
		require.ErrorIs(c, err, libqjm.ErrNoSnapshot)
	})
}

// N2, C2: a damaged snapshot is no snapshot: it is put aside, and copied from a peer.
func TestC2_DamagedSnapshotIsReplaced(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		w := c.writer()
		c.segmentsTo(w, 40)
		c.StopNode(2)
		c.save(35, state(2<<20))
		c.untilPurged(30, 0, 1)
		dir := filepath.Join(c.JournalDir(0), "snapshots")
		c.StopNode(0)
		require.NoError(c, c.Disks[0].FlipBit(filepath.Join(dir, pad(35)+".snap"), 1<<20+1000, 3))
		c.start(0)
		c.Until(time.Minute, "it is whole again", func() bool {
			l := c.list1(0).Held
			return len(l) == 1 && l[0].Verified && l[0].Problem == ""
		})
		names, err := c.Disks[0].List(dir)
		require.NoError(c, err)
		require.Contains(c, names, pad(35)+".snap.damaged-1")
	})
}

// A2, C2: a snapshot that rots while its node runs is found by the scrub and replaced: what was purged rests on it.
func TestA2_RottenSnapshotIsFoundAndReplaced(t *testing.T) {
	tune := func(i int, o *journalnode.Options) {
		noMargin(i, o)
		o.ScrubEvery = time.Minute
	}
	runSnapshots(t, testcluster.Options{Tune: tune}, func(c *catalog) {
		w := c.writer()
		c.segmentsTo(w, 40)
		c.save(35, state(2<<20))
		c.untilPurged(30, 0, 1, 2)
		dir := filepath.Join(c.JournalDir(0), "snapshots")
		require.NoError(c, c.Disks[0].FlipBit(filepath.Join(dir, pad(35)+".snap"), 1<<20+1000, 3))
		c.Until(3*time.Minute, "it was put aside", func() bool {
			names, err := c.Disks[0].List(dir)
			require.NoError(c, err)
			return slices.Contains(names, pad(35)+".snap.damaged-1")
		})
		c.Until(time.Minute, "it is whole again", func() bool {
			l := c.list1(0).Held
			return len(l) == 1 && l[0].Verified && l[0].Problem == ""
		})
	})
}

// C2: without the margin of readers that are behind, none is told to start over.
func TestC2_MarginStays(t *testing.T) {
	runSnapshots(t, testcluster.Options{Tune: func(_ int, o *journalnode.Options) { o.Retain = snapshots.Margin{Txns: 12, Bytes: -1} }}, func(c *catalog) {
		w := c.writer()
		c.segmentsTo(w, 50)
		c.everywhere(50)
		c.save(45, state(10))
		c.untilPurged(30, 0, 1, 2)
		require.Equal(c, upTo(31, 50), c.read(libqjm.ReaderOptions{From: 31}))
	})
}

// A policy asks, and does nothing else.
func TestSnapshotPolicyAsks(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		asked := make(chan libqjm.SnapshotReason, 10)
		w := c.writerWith(libqjm.WriterOptions{
			SnapshotPolicy: libqjm.SnapshotPolicy{Txns: 10, IntervalMillis: 60_000},
			OnSnapshotDue:  func(r libqjm.SnapshotReason) { asked <- r },
		})
		c.write(w, 1, 9)
		pass(10 * time.Second)
		require.Empty(c, asked)
		c.write(w, 10, 10)
		require.Equal(c, snapshot.ReasonTxns, <-asked)
		pass(10 * time.Second)
		require.Empty(c, asked, "once")
		_, err := w.SaveSnapshot(c.ctx, 10, bytes.NewReader(nil))
		require.NoError(c, err)
		c.write(w, 11, 15)
		require.Equal(c, snapshot.ReasonInterval, <-asked)
		_, err = c.cl.OpenWriter(c.ctx, "j", libqjm.WriterOptions{SnapshotPolicy: libqjm.SnapshotPolicy{Bytes: -1}})
		require.ErrorIs(c, err, libqjm.ErrBadRequest)
		require.NoError(c, w.Close(c.ctx))
	})
}

// C5: a power loss at any moment of the purge loses nothing: what the log lacks is below the purge point, and
// that is covered by a snapshot on the node.
func TestC5_CrashWhilePurging(t *testing.T) {
	for k := range 12 {
		runSnapshots(t, testcluster.Options{}, func(c *catalog) {
			w := c.writer()
			c.segmentsTo(w, 40)
			c.everywhere(40)
			c.save(35, state(1000))
			pass(time.Duration(k) * time.Millisecond)
			c.CrashNode(1, memfs.CrashOptions{UnsyncedPercent: 8 * k, Rand: rand.New(rand.NewPCG(uint64(k), 0))})
			c.start(1)
			segs, err := rpc.AllSegments(c.ctx, c.id, c.Nodes[1].Segments)
			require.NoError(c, err)
			l := c.list1(1) // after the segments: purging goes on
			require.LessOrEqual(c, segs[0].First, l.Purged.TxID+1)
			c.untilPurged(30, 0, 1, 2)
			c.StopNode(0)
			c.write(w, 41, 45)
			c.abandon(w)
			require.EqualValues(c, 46, c.writer().FirstTxID())
		})
	}
}

// The same over real connections, with an upload of several pieces.
func TestSnapshotsOverGRPC(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := testcluster.Start(t, testcluster.Options{Tune: noMargin})
	cl := c.Client()
	require.NoError(t, cl.CreateJournal(ctx, "j"))
	w, err := cl.OpenWriter(ctx, "j", libqjm.WriterOptions{})
	require.NoError(t, err)
	for i := range 3 {
		_, err := w.Append(ctx, text(libqjm.TxID(i+1)))
		require.NoError(t, err)
		require.NoError(t, w.Roll(ctx))
	}
	content := state(3<<20 + 1)
	_, err = w.SaveSnapshot(ctx, 3, bytes.NewReader(content))
	require.NoError(t, err)
	r, err := cl.OpenSnapshot(ctx, "j", 3)
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, got))
	require.NoError(t, r.Close())
	c.Until(30*time.Second, "a reader from the start is told", func() bool {
		reader, err := cl.OpenReader(ctx, "j", libqjm.ReaderOptions{})
		if err == nil {
			_, err = reader.Next(ctx)
			require.NoError(t, reader.Close())
		}
		gone, ok := errors.AsType[*libqjm.PurgedError](err)
		return ok && gone.Snapshot.TxID == 3
	})
	require.NoError(t, w.Close(ctx))
}

// C1: nodes that were all just started have applied nothing of their catalog yet. They do not say that no
// snapshot is listed.
func TestC1_LatestAfterARestart(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.writeFinal(w, 1, 10)
		saved, err := b.cl.SaveSnapshot(b.ctx, "j", 10, bytes.NewReader([]byte("state")))
		require.NoError(b, err)
		require.NoError(b, w.Close(b.ctx))
		for i := range b.Nodes {
			b.StopNode(i)
		}
		for i := range b.Nodes {
			b.StartNode(i)
		}
		b.Until(2*time.Minute, "it is known", func() bool {
			got, err := b.cl.LatestSnapshot(b.ctx, "j")
			if err != nil {
				require.ErrorIs(b, err, libqjm.ErrUnavailable, "unknown is not none")
				return false
			}
			return got.TxID == saved.TxID
		})
	})
}
