package journal

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// F3: every request passes the gate: lower epochs and another writer's equal one are refused, by all
// requests alike, and change nothing; a higher one is promised first. Guards admit's callers.
func TestF3_EveryRequestPassesTheGate(t *testing.T) {
	holder := fencing.Claim{Epoch: 5, Writer: fencing.WriterID{5}}
	end := segments.End{First: 1, Last: 1, Digest: segments.Digest{1}}
	requests := map[string]func(*machine, rpc.Header) error{
		"NewEpoch": func(m *machine, h rpc.Header) error { _, err := m.NewEpoch(h); return err },
		"Prepare":  func(m *machine, h rpc.Header) error { _, err := m.Prepare(h, 1, nil); return err },
		"Accept": func(m *machine, h rpc.Header) error {
			_, err := m.BeginAccept(h, recovery.AcceptRequest{Claim: h.Claim, End: end, Epoch: 1})
			return err
		},
		"FinishAccept": func(m *machine, h rpc.Header) error {
			inc, err := m.store.NewIncoming(segments.Header{Journal: journalID, First: 1, Epoch: 1}, "test")
			if err != nil {
				return err
			}
			return m.FinishAccept(h, recovery.AcceptRequest{Claim: h.Claim, End: end, Epoch: 1}, inc)
		},
		"Finalize": func(m *machine, h rpc.Header) error { return m.Finalize(h, end) },
		"Hello":    func(m *machine, h rpc.Header) error { return m.Hello(h) },
	}
	for name, request := range requests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			m := c.nodes[nodeA]
			_, err := m.NewEpoch(c.header(nodeA, holder))
			require.NoError(t, err)
			lower, other, higher := holder, holder, holder
			lower.Epoch, other.Writer, higher.Epoch = 4, fencing.WriterID{6}, 6
			require.ErrorIs(t, request(m, c.header(nodeA, lower)), fencing.ErrFenced)
			require.ErrorIs(t, request(m, c.header(nodeA, other)), fencing.ErrLostRace)
			require.Equal(t, holder, m.State().Promised)
			_ = request(m, c.header(nodeA, higher)) // it may be refused for other reasons, but not before
			require.Equal(t, higher, m.State().Promised)
			require.Equal(t, higher, c.restart(nodeA, 0).State().Promised, "F1: durable")
			require.Zero(t, m.newest())
		})
	}
}

// W1, F3: what was queued before a promise is refused when it is written. Guards Holds in handle.
func TestW1_CheckedWhenWritten(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA)
	s := w.stream(nodeA)
	require.NoError(t, s.m.Hello(s.Header))
	_, err := s.m.NewEpoch(c.header(nodeA, fencing.Claim{Epoch: 7, Writer: fencing.WriterID{7}}))
	require.NoError(t, err)
	prev := w.prev
	for _, m := range []rpc.WriteRequest{{Frames: []segments.Frame{w.frame("late")}}, {Start: &prev}, {Finalize: &segments.End{First: 1, Last: 1}}, {}} {
		s := w.stream(nodeA)
		s.m.Process([]Item{{s.Stream, m}})
		require.ErrorIs(t, s.err, fencing.ErrFenced)
		require.Empty(t, s.replies)
	}
	require.Zero(t, c.copyAt(nodeA, 1).Last)
	above := w.stream(nodeA)
	above.Header.Claim.Epoch = 8
	above.m.Process([]Item{{above.Stream, rpc.WriteRequest{}}})
	require.ErrorIs(t, above.err, fencing.ErrNotPromised)
}

// F4: a segment tells its own writer epoch, not the node's last one, and it is there before any frame
// (R1). Guards the header in start and copyOf's Epoch.
func TestF4_R1_EpochOfTheCopyItself(t *testing.T) {
	c := newCluster(t)
	w1 := c.mustRecover().mustStart(nodeA, nodeB)
	w1.write("x", nodeA)
	_, err := c.recover(nodeB, nodeC)
	require.NoError(t, err)
	a, err := c.nodes[nodeA].Prepare(c.header(nodeA, fencing.Claim{Epoch: 9, Writer: fencing.WriterID{9}}), 1, []segments.TxID{0, 1, 2})
	require.NoError(t, err)
	require.EqualValues(t, 1, a.Copy.Epoch)
	require.EqualValues(t, 1, a.Newest)
	require.Equal(t, []recovery.DigestReply{
		{At: segments.Position{}, Found: true},
		{At: w1.pos, Found: true},
		{At: segments.Position{TxID: 2}},
	}, a.Digests)
	w := c.mustRecover()
	_, err = w.start(nodeC)
	require.NoError(t, err)
	c.restart(nodeC, 0)
	require.Equal(t, w.claim.Epoch, c.copyAt(nodeC, w.prev.Next()).Epoch, "W0: durable before the first frame")
}

// W2: no ack without a sync; a failed one ends all writing here until a restart, and no sync is tried
// again. Guards commit and poison.
func TestW2_NoAckWithoutSync(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB)
	m := c.nodes[nodeA]
	m.fs.Inject(faultfs.Rule{Op: faultfs.OpSync, Nth: 1})
	f := w.frame("x")
	at, err := w.put(nodeA, f)
	require.ErrorIs(t, err, rpc.ErrPoisoned)
	require.Zero(t, at)
	m.fs.ResetLog()
	_, err = w.put(nodeA, f)
	require.ErrorIs(t, err, rpc.ErrPoisoned)
	_, err = m.NewEpoch(c.header(nodeA, fencing.Claim{Epoch: 9, Writer: fencing.WriterID{9}}))
	require.ErrorIs(t, err, rpc.ErrPoisoned)
	require.NoError(t, m.Quiet())
	require.Empty(t, m.fs.Log(), "nothing is written any more")
	require.ErrorIs(t, m.Usable(), rpc.ErrPoisoned)
	require.NotEmpty(t, m.State().Poisoned)
	c.probe()
}

// W2: group commit: messages that come together are written and synced once, and acknowledged once, by
// position. Guards batch.
func TestW2_OneSyncPerGroup(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA)
	var ms []rpc.WriteRequest
	for range 10 {
		ms = append(ms, rpc.WriteRequest{Frames: []segments.Frame{w.frame("x"), w.frame("y")}})
	}
	m := c.nodes[nodeA]
	m.fs.ResetLog()
	replies, err := w.stream(nodeA).send(ms...)
	require.NoError(t, err)
	require.Len(t, replies, 1)
	require.Equal(t, rpc.WriteReply{Kind: rpc.Synced, Segment: 1, Epoch: w.claim.Epoch, ConfigVersion: 1, Incarnation: incarnation(nodeA), At: w.pos}, replies[0])
	require.Len(t, m.fs.Log(), 2, "one write, one sync: %v", m.fs.Log())
}

// W2: a Finalize behind frames is answered after their sync, in one group, too. Guards b.commit in handle.
func TestW2_FinalizeBehindFrames(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA)
	f := w.frame("x")
	end := w.end()
	replies, err := w.stream(nodeA).send(rpc.WriteRequest{Frames: []segments.Frame{f}}, rpc.WriteRequest{Finalize: &end})
	require.NoError(t, err)
	require.Len(t, replies, 2)
	require.Equal(t, rpc.Synced, replies[0].Kind)
	require.Equal(t, rpc.Finalized, replies[1].Kind)
}

// W4: what is held is acknowledged again, alone or before new frames, also within one group and after a
// restart; other bytes for a txid are a breach. Guards resent.
func TestW4_Resending(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA)
	one, two := w.frame("1"), w.frame("2")
	at, err := w.put(nodeA, one, two)
	require.NoError(t, err)
	require.Equal(t, two.Position(), at)
	for range 2 {
		at, err = w.put(nodeA, one)
		require.NoError(t, err)
		require.Equal(t, two.Position(), at, "acks are cumulative")
		c.restart(nodeA, 0)
	}
	three, four := w.frame("3"), w.frame("4")
	replies, err := w.stream(nodeA).send(
		rpc.WriteRequest{Frames: []segments.Frame{two, three}}, rpc.WriteRequest{Frames: []segments.Frame{three, four}})
	require.NoError(t, err)
	require.Equal(t, four.Position(), replies[len(replies)-1].At)
	require.Equal(t, four.Position(), c.copyAt(nodeA, 1).Last)
	for _, f := range []segments.Frame{
		sealed(segments.Position{}, w.claim.Epoch, "other"),
		sealed(three.Position(), w.claim.Epoch, "other"),
	} {
		_, err = w.put(nodeA, f)
		require.ErrorIs(t, err, recovery.ErrBreach)
	}
	require.Equal(t, four.Position(), c.copyAt(nodeA, 1).Last)
}

// N2: an accepted record that cannot be read counts as present: the copy is unknown, not one without a
// record. Guards badAccepted in copyOf.
func TestN2_UnreadableAcceptedRecord(t *testing.T) {
	p := paths["accept, equal copy"](t)
	require.NoError(t, p.op())
	m := p.machine()
	require.NoError(t, m.disk.FlipBit(dir+"/"+acceptedName(1), 30, 2))
	m = p.c.restart(nodeB, 0)
	require.Equal(t, recovery.Unknown, p.c.copyAt(nodeB, 1).State)
	reply, err := m.NewEpoch(p.c.header(nodeB, fencing.Claim{Epoch: 9, Writer: fencing.WriterID{9}}))
	require.NoError(t, err)
	require.False(t, reply.DataKnown)
}

// R5: a finalized segment is never changed, and content with the floor is not replaced by content that
// lacks it, by either half of an accept. Guards DecideAccept, keepsFloor.
func TestR5_NothingCommittedIsReplaced(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
	one := w.write("1", nodeA, nodeB)
	w.commit(one)
	w.tell(nodeA)
	claim := fencing.Claim{Epoch: 9, Writer: fencing.WriterID{9}}
	other := []segments.Frame{sealed(segments.Position{}, 8, "x")}
	other = append(other, sealed(other[0].Position(), 8, "y"))
	req := recovery.AcceptRequest{Claim: claim, Epoch: 8, End: segments.End{First: 1, Last: 2, Digest: other[1].Digest()}}
	m := c.nodes[nodeA]
	plan, err := m.BeginAccept(c.header(nodeA, claim), req)
	require.NoError(t, err, "it is long enough; what it holds is seen when it is here")
	require.True(t, plan.Fetch)
	for _, f := range other {
		require.NoError(t, plan.Incoming.Append(f))
	}
	require.ErrorIs(t, m.FinishAccept(c.header(nodeA, claim), req, plan.Incoming), recovery.ErrBreach)
	require.Equal(t, one, c.copyAt(nodeA, 1).Last)
	require.Zero(t, c.copyAt(nodeA, 1).Accepted)

	w2 := c.mustRecover()
	require.Equal(t, one, w2.prev.Position())
	claim.Epoch = 20
	req.Claim = claim
	_, err = m.BeginAccept(c.header(nodeA, claim), req)
	require.ErrorIs(t, err, recovery.ErrMismatch, "finalized")
	require.Equal(t, recovery.Finalized, c.copyAt(nodeA, 1).State)
}

// R4: what arrives must end as the request says, and the gate is passed again after the fetch. Guards
// FinishAccept's checks.
func TestR4_FinishAcceptChecksAgain(t *testing.T) {
	begin := func(t *testing.T) (*cluster, *writer, recovery.AcceptRequest, *store.Incoming) {
		c := newCluster(t)
		w := c.mustRecover().mustStart(nodeA)
		w.write("1", nodeA)
		w.write("2", nodeA)
		req := recovery.AcceptRequest{Claim: fencing.Claim{Epoch: 5, Writer: fencing.WriterID{5}}, Epoch: 1, End: w.end()}
		plan, err := c.nodes[nodeC].BeginAccept(c.header(nodeC, req.Claim), req)
		require.NoError(t, err)
		return c, w, req, plan.Incoming
	}
	t.Run("too short", func(t *testing.T) {
		c, w, req, inc := begin(t)
		require.NoError(t, inc.Append(w.sent[0]))
		require.ErrorIs(t, c.nodes[nodeC].FinishAccept(c.header(nodeC, req.Claim), req, inc), recovery.ErrMismatch)
		require.Equal(t, recovery.Absent, c.copyAt(nodeC, 1).State)
	})
	t.Run("fenced meanwhile", func(t *testing.T) {
		c, w, req, inc := begin(t)
		for _, f := range w.sent {
			require.NoError(t, inc.Append(f))
		}
		_, err := c.nodes[nodeC].NewEpoch(c.header(nodeC, fencing.Claim{Epoch: 6, Writer: fencing.WriterID{6}}))
		require.NoError(t, err)
		require.ErrorIs(t, c.nodes[nodeC].FinishAccept(c.header(nodeC, req.Claim), req, inc), fencing.ErrFenced)
		require.Equal(t, recovery.Absent, c.copyAt(nodeC, 1).State)
		require.Zero(t, c.copyAt(nodeC, 1).Accepted)
	})
	t.Run("frames that do not chain", func(t *testing.T) {
		_, w, _, inc := begin(t)
		require.Error(t, inc.Append(w.sent[1]))
	})
}

// R7, scenario 133: Finalize and Accept may come twice.
func TestR7_RequestsMayComeTwice(t *testing.T) {
	c, _, two := openSegment(t)
	c.net = func(recovery.Effect, quorum.NodeID) fate { return twice }
	r, err := c.attempt(recovery.Options{})
	require.NoError(t, err)
	require.GreaterOrEqual(t, r.Prev.Last, two.TxID)
	c.net = nil
	c.probe(two)
	m, claim := c.nodes[nodeA], r.Claim
	require.NoError(t, m.Finalize(c.header(nodeA, claim), r.Prev))
	other := r.Prev
	other.Digest = segments.Digest{1}
	require.ErrorIs(t, m.Finalize(c.header(nodeA, claim), other), recovery.ErrMismatch)
	require.ErrorIs(t, m.Finalize(c.header(nodeA, claim), segments.End{First: 1000, Last: 1001}), recovery.ErrMismatch, "scenario 45")
}

// R8: a recovery that is cut off anywhere, by a lost request or a lost answer at the k-th message, and any
// number of times: what was acknowledged is decided the same.
func TestR8_RecoveryCutOffAnywhere(t *testing.T) {
	for _, how := range []fate{drop, loseReply} {
		for k := 1; ; k++ {
			c, _, two := openSegment(t)
			n := 0
			c.net = func(recovery.Effect, quorum.NodeID) fate {
				if n++; n >= k {
					return how
				}
				return deliver
			}
			_, err := c.attempt(recovery.Options{})
			c.net = nil
			c.probe(two)
			for _, id := range c.ids() {
				c.restart(id, 0)
			}
			r, rerr := c.recover()
			require.NoError(t, rerr)
			require.GreaterOrEqual(t, r.Prev.Last, two.TxID)
			if err == nil && n < k {
				break
			}
		}
	}
}

// D1: nothing above the floor is shown, by Tail or Read, and nothing of a copy whose digest is another.
// Guards View.Limit and checkFloor.
func TestD1_NothingAboveCommittedIsShown(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB)
	one := w.write("1", nodeA, nodeB)
	w.write("2", nodeA)
	got, _ := c.shown(nodeA)
	require.Empty(t, got, "no floor is known")
	w.commit(one)
	w.tell(nodeA)
	got, err := c.shown(nodeA)
	require.NoError(t, err)
	require.Equal(t, []string{"1"}, got)
	err = c.nodes[nodeA].Read(context.Background(), rpc.ReadRequest{Journal: journalID, Segment: 1, From: 2},
		func(rpc.Chunk) error { require.Fail(t, "shown"); return nil })
	require.NoError(t, err)
	w.floor.At.Digest = segments.Digest{9}
	w.floor.At.TxID = 2
	w.tell(nodeA)
	got, err = c.shown(nodeA)
	require.ErrorIs(t, err, recovery.ErrDivergence)
	require.Empty(t, got)
}

// D2: a floor above what is synced here shows what is synced. Guards min in publish.
func TestD2_NothingUnsyncedIsShown(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB)
	w.write("1", nodeA, nodeB)
	two := w.write("2", nodeB)
	w.commit(two)
	w.tell(nodeA)
	got, err := c.shown(nodeA)
	require.NoError(t, err)
	require.Equal(t, []string{"1"}, got)
	v, _ := c.nodes[nodeA].Watch()
	require.EqualValues(t, 1, v.Limit)
}

// W3: the floor never goes back, and another epoch's word for it is not taken. Guards raiseFloor.
func TestW3_FloorNeverGoesBack(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA)
	one := w.write("1", nodeA)
	two := w.write("2", nodeA)
	w.commit(two)
	w.tell(nodeA)
	kept := w.floor
	w.commit(one)
	w.tell(nodeA)
	require.Equal(t, kept, c.nodes[nodeA].floor)
	w.floor = recovery.Floor{Segment: 1, Epoch: 77, At: segments.Position{TxID: 99}}
	w.tell(nodeA)
	require.Equal(t, kept, c.nodes[nodeA].floor)
	require.NoError(t, c.nodes[nodeA].SaveFloor())
	require.Equal(t, kept, c.restart(nodeA, 0).floor)
}

// N5: a directory without VERSION is built again; one with it is left alone. A crash at any step of
// Create leaves one or the other.
func TestN5_CreateCutOffAnywhere(t *testing.T) {
	c := newCluster(t)
	for k := int64(1); ; k++ {
		disk := memfs.New()
		fs := faultfs.New(disk)
		fs.CrashAt(k)
		err := Create(fs, dir, journalID, "test", c.cfg)
		for _, percent := range []int{0, 100} {
			after := disk.CrashClone(memfs.CrashOptions{UnsyncedPercent: percent})
			require.NoError(t, Create(after, dir, journalID, "test", c.cfg))
			j, oerr := Open(after, dir, Self{nodeA, incarnation(nodeA)}, journalID, small)
			require.NoError(t, oerr)
			require.NoError(t, j.Usable(), "k=%d", k)
		}
		if err == nil {
			return
		}
	}
}

// W2: a repeated StartSegment is answered after the syncs under way, and tells what they made durable.
// Guards b.commit before start.
func TestW2_StartBehindFrames(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA)
	prev, f := w.prev, w.frame("x")
	replies, err := w.stream(nodeA).send(rpc.WriteRequest{Frames: []segments.Frame{f}}, rpc.WriteRequest{Start: &prev})
	require.NoError(t, err)
	require.Len(t, replies, 2)
	require.Equal(t, rpc.Started, replies[1].Kind)
	require.Equal(t, f.Position(), replies[1].At)
}

// The list of segments comes in pages: each goes on behind the one before it, and none is longer than
// asked for.
func TestSegmentsAfter_Pages(t *testing.T) {
	c := newCluster(t)
	var w *writer
	for range 5 {
		w = c.mustRecover().mustStart(c.ids()...)
		w.write("x", c.ids()...)
	}
	m := c.nodes[nodeA]
	all := m.Segments()
	require.Len(t, all, 5)
	var got []rpc.SegmentInfo
	for after, more := segments.TxID(0), true; more; {
		p := m.SegmentsAfter(after, 2)
		require.LessOrEqual(t, len(p.Segments), 2)
		got, more, after = append(got, p.Segments...), p.More, p.Segments[len(p.Segments)-1].First
		require.Equal(t, len(got) < 5, more)
	}
	require.Equal(t, all, got)
	require.Equal(t, rpc.SegmentsPage{Segments: all}, m.SegmentsAfter(0, 0), "no limit named: the largest page")
	require.Equal(t, rpc.SegmentsPage{Segments: all[1:]}, m.SegmentsAfter(1, 4))
	require.Zero(t, m.SegmentsAfter(5, 2))
}
