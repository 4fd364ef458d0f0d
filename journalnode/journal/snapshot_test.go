package journal

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/durable"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/journalnode/snapshots"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// finalSegments writes n segments of two txns each, finalized on all nodes, and returns their ends.
func finalSegments(c *cluster, w *writer, n int) []segments.Position {
	var ends []segments.Position
	for range n {
		w.mustStart(nodeA, nodeB, nodeC)
		w.write("first", nodeA, nodeB, nodeC)
		ends = append(ends, w.write("second", nodeA, nodeB, nodeC))
		for _, id := range c.ids() {
			require.NoError(c, w.finalize(id))
		}
		w.next()
	}
	return ends
}

// give puts a snapshot of a position on a machine, listed, and returns it.
func (m *machine) give(t require.TestingT, at segments.Position) snapshots.Snapshot {
	return m.giveID(t, snapshots.ID{TxID: at.TxID, At: at, Epoch: 1})
}

func (m *machine) giveID(t require.TestingT, id snapshots.ID) snapshots.Snapshot {
	b := fmt.Appendf(nil, "state at %d", id.TxID)
	s, err := m.Snapshots()
	require.NoError(t, err)
	u, err := s.Begin(id, int64(len(b)))
	require.NoError(t, err)
	require.NoError(t, u.Write(0, b))
	snap, err := u.Finish(int64(len(b)), sha256.Sum256(b))
	require.NoError(t, err)
	m.SetListed([]snapshots.Snapshot{snap})
	return snap
}

// again is what a restarted node does: it hears the list, and verifies.
func (m *machine) again(t require.TestingT, snap snapshots.Snapshot) {
	m.SetListed([]snapshots.Snapshot{snap})
	s, err := m.Snapshots()
	require.NoError(t, err)
	require.NoError(t, s.Verify(snap.TxID, nil))
}

var everything = PurgeRequest{Margin: snapshots.Margin{Txns: -1, Bytes: -1}}

// whole: what the log lacks is at or below the purge point, and that is covered by a snapshot here (C2, C5).
func (m *machine) whole(t require.TestingT, snap snapshots.Snapshot, what string) {
	require.LessOrEqual(t, m.Purged().TxID, snap.TxID, what)
	next := m.Purged().TxID + 1
	for _, s := range m.Segments() {
		if s.First <= next && s.State == recovery.Finalized {
			next = max(next, s.Last.TxID+1)
		}
	}
	require.GreaterOrEqual(t, next, segments.TxID(9), what)
	held, err := m.HeldSnapshots()
	require.NoError(t, err)
	require.Len(t, held, 1)
	require.Equal(t, snap, held[0].Snapshot)
}

// C5, C2: a crash at each operation of a purge, and a failure of each. The purge point comes first; what goes
// afterwards is covered; and the purge is finished after a restart.
func TestC5_PurgeCutOffAtEveryOperation(t *testing.T) {
	for k := int64(1); ; k++ {
		c := newCluster(t)
		w := c.mustRecover()
		ends := finalSegments(c, w, 4)
		m := c.nodes[nodeA]
		snap := m.give(t, ends[2])
		m.fs.CrashAt(m.fs.Mutations() + k)
		_, err := m.Purge(everything)
		done := !m.fs.Crashed()
		for _, percent := range []int{0, 40, 100} {
			old := m.disk
			c.restart(nodeA, percent)
			what := fmt.Sprintf("crash at %d, %d%%", k, percent)
			m.whole(t, snap, what)
			if done {
				require.NoError(t, err)
				require.Equal(t, ends[2], m.Purged(), what)
			}
			m.again(t, snap)
			_, perr := m.Purge(everything)
			require.NoError(t, perr)
			require.Equal(t, ends[2], m.Purged())
			require.Len(t, m.Segments(), 1)
			c.probe(ends[3])
			m.disk = old
		}
		if done {
			require.Greater(t, k, int64(5))
			return
		}
	}
}

// C3: the same of an installation: C was away, and holds a leftover.
func TestC3_InstallCutOffAtEveryOperation(t *testing.T) {
	for k := int64(1); ; k++ {
		c := newCluster(t)
		w := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
		w.write("first", nodeA, nodeB, nodeC)
		var ends []segments.Position
		for range 4 {
			w.mustStart(nodeA, nodeB)
			ends = append(ends, w.write("second", nodeA, nodeB))
			for _, id := range []quorum.NodeID{nodeA, nodeB} {
				require.NoError(t, w.finalize(id))
			}
			w.next()
		}
		m := c.nodes[nodeC]
		c.pullFinalized(nodeC, nodeA, 5)
		snap := m.give(t, ends[2])
		m.fs.CrashAt(m.fs.Mutations() + k)
		_, err := m.Install(snap, ends[1].TxID)
		done := !m.fs.Crashed()
		for _, percent := range []int{0, 40, 100} {
			old := m.disk
			c.restart(nodeC, percent)
			m.again(t, snap)
			plan, ierr := m.Install(snap, ends[1].TxID)
			require.NoError(t, ierr)
			require.Equal(t, ends[2], m.Purged(), "%+v", plan)
			require.Len(t, m.Segments(), 1)
			c.probe(ends[3])
			m.disk = old
		}
		if done {
			require.NoError(t, err)
			require.Greater(t, k, int64(3))
			return
		}
	}
}

// C5: B and C were away, hold the snapshot, and nothing of the log yet. A purge point alone would be all that they
// can tell an opener, and with A away nobody could say where the journal goes on: they wait for a finalized
// segment first.
func TestC3_PurgePointIsNeverAllThatIsThere(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover()
	var ends []segments.Position
	for range 3 {
		w.mustStart(nodeA, nodeC)
		ends = append(ends, w.write("x", nodeA, nodeC))
		require.NoError(t, w.finalize(nodeA))
		require.NoError(t, w.finalize(nodeC))
		w.next()
	}
	b := c.nodes[nodeB]
	snap := b.give(t, ends[2])
	_, err := b.Install(snap, ends[1].TxID)
	require.ErrorIs(t, err, snapshots.ErrHolderMissing)
	require.Zero(t, b.Purged())
	require.Empty(t, b.Segments())

	c.pullFinalized(nodeB, nodeA, 3)
	plan, err := b.Install(snap, ends[1].TxID)
	require.NoError(t, err)
	require.Equal(t, ends[1], plan.Point)
	require.Equal(t, ends[1], b.Purged())
	require.False(t, b.Incomplete())
	c.probe(ends[2])
}

// C3: a copy that a writer may be writing is not set aside for a snapshot.
func TestC3_OpenSegmentIsNeverSetAside(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover()
	ends := finalSegments(c, w, 1)
	w.mustStart(nodeA, nodeB, nodeC)
	w.write("open", nodeA, nodeB, nodeC)
	ahead := w.write("ahead", nodeA, nodeB)
	require.NoError(t, w.finalize(nodeA))
	w.next().mustStart(nodeA)
	w.write("further", nodeA)
	require.NoError(t, w.finalize(nodeA))
	c.pullFinalized(nodeC, nodeA, 5)
	m := c.nodes[nodeC]
	snap := m.give(t, ahead)
	_, err := m.Install(snap, ends[0].TxID)
	require.ErrorIs(t, err, rpc.ErrSnapshotBusy)
	require.Equal(t, recovery.InProgress, m.copyOf(3).State)
}

// C2, C3: C starts from a snapshot whose segment is still to come, and leaves what it has as it is; a copy that was
// never finalized is below the purge point then, and what is behind it can be purged all the same.
func TestC2_LeftoverBelowThePurgePointStopsNoPurge(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover()
	finalSegments(c, w, 1)
	w.mustStart(nodeA, nodeB, nodeC)
	w.write("first", nodeA, nodeB, nodeC)
	below := w.write("second", nodeA, nodeB)
	var ends []segments.Position
	for range 4 {
		require.NoError(t, w.finalize(nodeA))
		require.NoError(t, w.finalize(nodeB))
		w.next().mustStart(nodeA, nodeB)
		ends = append(ends, w.write("x", nodeA, nodeB))
	}
	c.pullFinalized(nodeC, nodeA, 5)
	m := c.nodes[nodeC]
	snap := m.give(t, ends[1])
	_, err := m.Install(snap, below.TxID)
	require.NoError(t, err)
	require.Equal(t, below, m.Purged())
	require.Equal(t, recovery.InProgress, m.copyOf(3).State)
	for s := ends[1].TxID; s <= ends[2].TxID; s++ {
		c.pullFinalized(nodeC, nodeA, s)
	}

	res, err := m.Purge(everything)
	require.NoError(t, err)
	require.Equal(t, []segments.TxID{3}, res.Aside)
	require.Equal(t, []segments.TxID{1, 5, 6}, res.Removed)
	require.Equal(t, ends[1], m.Purged())
	require.False(t, m.Incomplete())
	c.restart(nodeC, 100)
	m = c.nodes[nodeC]
	require.False(t, m.Incomplete())
	c.probe(ends[3])
}

// R1, C5: what is purged is told as purged, with every answer; it is not absent.
func TestC5_PurgedIsNotAbsent(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover()
	ends := finalSegments(c, w, 4)
	m := c.nodes[nodeA]
	m.give(t, ends[2])
	res, err := m.Purge(PurgeRequest{Margin: everything.Margin, Max: 2})
	require.NoError(t, err)
	require.Equal(t, PurgeResult{Point: ends[1], Removed: []segments.TxID{1, 3}, More: true}, res)
	res, err = m.Purge(everything)
	require.NoError(t, err)
	require.Equal(t, PurgeResult{Point: ends[2], Removed: []segments.TxID{5}}, res)

	h := c.header(nodeA, w.claim)
	p, err := m.NewEpoch(h)
	require.NoError(t, err)
	require.Equal(t, rpc.PromiseReply{DataKnown: true, Newest: 7, Purged: ends[2]}, p)
	for _, s := range []segments.TxID{1, 3, 5} {
		a, err := m.Prepare(h, s, nil)
		require.NoError(t, err)
		require.Equal(t, recovery.Purged, a.Copy.State)
		require.Equal(t, ends[2], a.Purged)
	}
	a, err := m.Prepare(h, 9, nil)
	require.NoError(t, err)
	require.Equal(t, recovery.Absent, a.Copy.State)
	require.Equal(t, ends[2], m.State().Answer.Purged)
	require.Equal(t, ends[2], m.SegmentsAfter(0, 1).Purged)
	require.False(t, m.Incomplete(), "a purge point is no hole")
	require.EqualValues(t, 9, m.Needs())
	_, err = c.shown(nodeA)
	require.ErrorIs(t, err, rpc.ErrPurged)

	in, err := Inspect(m.disk, dir)
	require.NoError(t, err)
	require.Equal(t, ends[2], in.Purged)
	require.Len(t, in.Snapshots, 1)
	require.Empty(t, in.Extra)
	require.Empty(t, in.Bad)
	c.probe(ends[3])
}

// N2: a purge point that cannot be read is no purge point of zero: the journal is unknown.
func TestN2_DamagedPurgePointIsUnknown(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover()
	ends := finalSegments(c, w, 4)
	m := c.nodes[nodeA]
	m.give(t, ends[2])
	_, err := m.Purge(everything)
	require.NoError(t, err)
	require.NoError(t, m.disk.FlipBit(dir+"/"+purgedFile, 20, 1))
	c.restart(nodeA, 100)
	_, err = m.NewEpoch(c.header(nodeA, w.claim))
	require.ErrorIs(t, err, rpc.ErrUnknownNode)
	require.ErrorIs(t, err, durable.ErrDamaged)
	in, err := Inspect(m.disk, dir)
	require.NoError(t, err)
	require.ErrorIs(t, in.Bad[purgedFile], durable.ErrDamaged)
}

// C2: nothing goes for what is not listed, not held, or not verified since the start; nor when the log is
// another history than the snapshot.
func TestC2_NothingGoesWithoutAVerifiedListedSnapshot(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover()
	ends := finalSegments(c, w, 4)
	m := c.nodes[nodeA]
	snap := m.give(t, ends[2])
	m.SetListed(nil)
	none := func() {
		t.Helper()
		res, err := m.Purge(everything)
		require.NoError(t, err)
		require.Empty(t, res.Removed)
		require.Zero(t, m.Purged())
	}
	none()
	c.restart(nodeA, 100)
	m.SetListed([]snapshots.Snapshot{snap})
	none() // not verified
	other := snap
	other.Checksum[0]++
	m.again(t, snap)
	m.SetListed([]snapshots.Snapshot{other})
	none()
	m.SetListed([]snapshots.Snapshot{snap})
	_, err := m.Purge(everything)
	require.NoError(t, err)
	require.Equal(t, ends[2], m.Purged())

	b := c.nodes[nodeB]
	wrong := ends[2]
	wrong.Digest[0]++
	b.give(t, wrong)
	_, err = b.Purge(everything)
	require.ErrorIs(t, err, snapshots.ErrDivergence)
	require.Zero(t, b.Purged())
}

// C2: a snapshot of another history in the middle of a segment covers nothing, though no segment ends there.
func TestC2_SnapshotOfAnotherHistoryWithinASegment(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover()
	finalSegments(c, w, 4)
	m := c.nodes[nodeA]
	m.give(t, segments.Position{TxID: 5, Digest: segments.Digest{1}}) // 5 and 6 are two frames of one segment
	_, err := m.Purge(everything)
	require.ErrorIs(t, err, snapshots.ErrDivergence)
	require.Len(t, m.Segments(), 4)
}

// C5: what comes back below a purge point in the middle of a segment agrees with it, by whichever way it comes.
func TestC5_WhatComesBackAgreesWithThePurgePoint(t *testing.T) {
	for _, right := range []bool{true, false} {
		c := newCluster(t)
		w := c.mustRecover().mustStart(nodeA, nodeB)
		w.write("first", nodeA, nodeB)
		two := w.write("second", nodeA, nodeB)
		w.write("third", nodeA, nodeB)
		m := c.nodes[nodeC]
		if !right {
			two.Digest[0]++
		}
		require.NoError(t, m.raisePurged(two))
		require.Equal(t, recovery.Purged, m.copyOf(1).State)

		// From the writer.
		w.mustStart(nodeC)
		_, err := w.put(nodeC, w.sent...)
		if right {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, recovery.ErrBreach)
		}
		// From a peer.
		c.restart(nodeC, 100)
		for _, id := range []quorum.NodeID{nodeA, nodeB} {
			require.NoError(t, w.finalize(id))
		}
		inc, err := m.NewIncoming(segments.End{}, w.claim.Epoch)
		require.NoError(t, err)
		for _, f := range w.sent {
			require.NoError(t, inc.Append(f))
		}
		err = m.InstallFinalized(inc, w.end())
		if right {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, recovery.ErrBreach)
		}
	}
}

// The room of a full disk is not taken by snapshots; the purge point has the reserve.
func TestDiskFull_PurgeGoesOn(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover()
	ends := finalSegments(c, w, 4)
	m := c.nodes[nodeA]
	m.give(t, ends[2])
	room := c.fill(m, 0, 4096)
	require.True(t, room.GiveUp())
	require.ErrorIs(t, m.AdmitSnapshot(c.header(nodeA, w.claim)), vfs.ErrNoSpace)
	_, err := m.Purge(everything)
	require.NoError(t, err)
	require.Len(t, m.Segments(), 1)
}

// C2, C3: the own log has no frame that ends where the snapshot's does: that is another history as well. A copy
// that cannot be read where the two are to be compared is neither: nothing is purged, and nothing set aside (N2).
func TestC2_FrameEndsOfAnotherHistory(t *testing.T) {
	ready := func() (*machine, segments.Position) {
		c := newCluster(t)
		w := c.mustRecover()
		finalSegments(c, w, 3)
		w.mustStart(nodeA)
		seven := w.write("seven", nodeA)
		w.write("eight", nodeA)
		require.NoError(t, w.finalize(nodeA))
		return c.nodes[nodeA], seven
	}
	m, _ := ready()
	wide := snapshots.ID{TxID: 5, At: segments.Position{TxID: 6, Digest: segments.Digest{1}}, Epoch: 1}
	m.giveID(t, wide) // 5 and 6 are two frames here, and 6 ends otherwise
	_, err := m.Purge(everything)
	require.ErrorIs(t, err, snapshots.ErrDivergence)

	c := newCluster(t)
	w := c.mustRecover()
	two := func(before segments.Position) segments.Frame { // a frame of two txns
		var b segments.Builder
		b.Reset(before.TxID+1, w.claim.Epoch)
		require.NoError(t, b.Add([]byte("a")))
		require.NoError(t, b.Add([]byte("b")))
		f, err := b.Seal(before.Digest, segments.SealOptions{})
		require.NoError(t, err)
		return f
	}
	for range 3 {
		w.mustStart(nodeA, nodeB, nodeC)
		f := two(w.pos)
		w.pos = f.Position()
		for _, id := range c.ids() {
			_, err := w.put(id, f)
			require.NoError(t, err)
			require.NoError(t, w.finalize(id))
		}
		w.next()
	}
	m = c.nodes[nodeA]
	m.give(t, segments.Position{TxID: 3, Digest: segments.Digest{1}}) // here 3 and 4 are one frame
	_, err = m.Purge(everything)
	require.ErrorIs(t, err, snapshots.ErrDivergence)
	require.Len(t, m.Segments(), 3)
	require.Zero(t, m.Purged())

	for name, op := range map[string]func(m *machine, snap snapshots.Snapshot) error{
		"purge":   func(m *machine, _ snapshots.Snapshot) error { _, err := m.Purge(everything); return err },
		"install": func(m *machine, snap snapshots.Snapshot) error { _, err := m.Install(snap, 1); return err },
	} {
		m, own := ready()
		snap := m.give(t, own)
		m.fs.Inject(faultfs.Rule{Op: faultfs.OpRead | faultfs.OpOpen, PathContains: "segments/"})
		require.ErrorIs(t, op(m, snap), faultfs.ErrInjected, name)
		m.fs.ClearRules()
		require.Zero(t, m.Purged(), name)
		require.Len(t, m.Segments(), 4, name)
	}
}

// C3, W7: an installation removes a bounded number of segments in one task of the owner: appends wait behind it.
// What is left is below the purge point, and goes with the purges.
func TestC3_InstallRemovesAFewAtATime(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover()
	m := c.nodes[nodeC]
	var ends []segments.Position
	for i := range installRemoves + 8 {
		w.mustStart(nodeA, nodeB)
		ends = append(ends, w.write("x", nodeA, nodeB))
		require.NoError(t, w.finalize(nodeA))
		require.NoError(t, w.finalize(nodeB))
		if i != installRemoves+4 { // C lacks one
			c.pullFinalized(nodeC, nodeA, w.prev.Next())
		}
		w.next()
	}
	at := ends[installRemoves+6]
	snap := m.give(t, at)
	plan, err := m.Install(snap, ends[installRemoves+4].TxID)
	require.NoError(t, err)
	require.Len(t, plan.Remove, installRemoves)
	require.Equal(t, ends[installRemoves+5], m.Purged())
	require.Len(t, m.Segments(), 7)
	res, err := m.Purge(everything)
	require.NoError(t, err)
	require.Len(t, res.Removed, 6)
	require.Equal(t, ends[installRemoves+6], m.Purged())
	require.False(t, m.Incomplete())
	c.probe(ends[installRemoves+7])
}

// C5, D5: purged is not absent for readers, either: right behind the purge point a node without more is up to
// date; and a segment that is purged while a reader comes to it is told as purged, with the snapshot.
func TestD5_ReadersAtThePurgePoint(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover()
	ends := finalSegments(c, w, 4)
	m := c.nodes[nodeA]
	snap := m.give(t, ends[2])
	stale, _ := m.Watch()
	none := func(rpc.Chunk) error { return nil }
	_, err := m.Purge(everything)
	require.NoError(t, err)
	_, err = m.stream(t.Context(), 3, 3, 4, stale, none)
	want := &rpc.PurgedError{PurgedTo: ends[2], Snapshot: snap}
	require.Equal(t, want, err, "purged between looking and opening")
	_, err = m.tailOnce(t.Context(), 3, false, stale, none)
	require.Equal(t, want, err, "purged before looking")
	require.Equal(t, want, m.Tail(t.Context(), rpc.TailRequest{From: 6}, none))
	require.Equal(t, want, m.Read(t.Context(), rpc.ReadRequest{Segment: 5}, none))
	require.NoError(t, m.Tail(t.Context(), rpc.TailRequest{From: 9}, none))
	require.ErrorIs(t, m.Tail(t.Context(), rpc.TailRequest{From: 10}, none), rpc.ErrPastEnd)

	b := newCluster(t).nodes[nodeB]
	require.NoError(t, b.raisePurged(ends[2]))
	require.NoError(t, b.Tail(t.Context(), rpc.TailRequest{From: 7}, none))
	require.ErrorIs(t, b.Tail(t.Context(), rpc.TailRequest{From: 8}, none), rpc.ErrPastEnd)
}
