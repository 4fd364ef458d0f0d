package journal

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// These tests are the interleavings of the design's review (S1..S13 safety, L1..L11 liveness), each on
// the real cores and disks. After each the oracle recovers on every majority.

// A second StartSegment wiped what was acknowledged. Guards StartDecision.Again in start.
func TestW0_StartSegmentIsIdempotent_S1(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB)
	f := w.frame("x")
	at, err := w.put(nodeA, f)
	require.NoError(t, err)
	require.Equal(t, f.Position(), at)
	again, err := w.start(nodeA)
	require.NoError(t, err)
	require.Equal(t, f.Position(), again, "the last durable position, nothing touched")
	c.kill(nodeA)
	again, err = w.start(nodeA)
	require.NoError(t, err)
	require.Equal(t, f.Position(), again, "also after a restart")
	_, err = w.put(nodeB, f)
	require.NoError(t, err)
	c.probe(f.Position())
}

// A delayed discard hit a segment that was started since: there is no such message. Guards R6 in the
// coordinator (Empty is Done) and in DecideAccept.
func TestR6_EmptyChoiceSendsNothing_S2(t *testing.T) {
	c := newCluster(t)
	c.mustRecover().mustStart(nodeA)
	var sent []recovery.Effect
	c.net = func(e recovery.Effect, _ quorum.NodeID) fate { sent = append(sent, e); return deliver }
	r, err := c.attempt(recovery.Options{})
	require.NoError(t, err)
	require.True(t, r.Recovered.Empty)
	for _, e := range sent {
		_, accept := e.(recovery.AskAccept)
		_, finalize := e.(recovery.AskFinalize)
		require.False(t, accept || finalize)
	}
	c.net = nil
	w := c.writes(r).mustStart(nodeA, nodeB, nodeC)
	p := w.write("x", nodeA, nodeB)
	empty := recovery.AcceptRequest{Claim: w.claim, End: segments.End{First: 1}, Epoch: 1}
	require.ErrorIs(t, c.accept(nodeA, empty), recovery.ErrBreach)
	c.probe(p)
}

// s3 leaves x@1 on A, in a segment where epoch 2 committed y on B and C.
func s3(t *testing.T) (*cluster, *writer, segments.Position) {
	c := newCluster(t)
	w1 := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
	_, err := w1.put(nodeA, w1.frame("x"))
	require.NoError(t, err)
	w2 := c.mustRecover(nodeB, nodeC).mustStart(nodeB, nodeC)
	y := w2.write("y", nodeB, nodeC)
	w2.commit(y)
	w2.tell(nodeA)
	w2.tell(nodeB)
	return c, w2, y
}

// A reader was shown an uncommitted transaction because a floor was a mere txid. Guards the epoch in
// publish.
func TestD1_FloorOfAnotherEpochShowsNothing_S3(t *testing.T) {
	c, _, y := s3(t)
	got, err := c.shown(nodeA)
	require.NoError(t, err)
	require.Empty(t, got, "A holds x at the floor's txid")
	got, err = c.shown(nodeB)
	require.NoError(t, err)
	require.Equal(t, []string{"y"}, got)
	c.probe(y)
}

// The floor that A heard of blocked its repair for ever. Guards HoldsFloor in losesFloor.
func TestR5_FloorBesideTheCopyBlocksNoRepair_S3_L1(t *testing.T) {
	c, _, y := s3(t)
	r, err := c.recover(nodeA, nodeB)
	require.NoError(t, err)
	require.Equal(t, y, r.Prev.Position())
	require.Equal(t, recovery.Finalized, c.copyAt(nodeA, 1).State)
	c.probe(y)
}

// ... and its way back into the segment. Guards HoldsFloor in DecideStart.
func TestW0_FloorBesideTheCopyBlocksNoStart_S3_L1(t *testing.T) {
	c, w2, y := s3(t)
	at, err := w2.start(nodeA)
	require.NoError(t, err)
	require.Zero(t, at)
	_, err = w2.put(nodeA, w2.sent...)
	require.NoError(t, err)
	got, err := c.shown(nodeA)
	require.NoError(t, err)
	require.Equal(t, []string{"y"}, got)
	c.probe(y)
}

// A recovery that tried again in its own epoch decided twice. Guards one choice per Coordinator, and the
// higher epoch of the next.
func TestR2a_RetryTakesAHigherEpoch_S4_L2(t *testing.T) {
	c := newCluster(t)
	w1 := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
	_, err := w1.put(nodeA, w1.frame("x"))
	require.NoError(t, err)
	c.net = func(e recovery.Effect, id quorum.NodeID) fate {
		if _, ok := e.(recovery.AskAccept); ok && id == nodeB {
			return delay
		}
		return only(nodeA, nodeB)(e, id)
	}
	_, err = c.attempt(recovery.Options{})
	require.ErrorIs(t, err, recovery.ErrNoQuorum)
	require.EqualValues(t, 2, c.copyAt(nodeA, 1).Accepted.Epoch)

	w3 := c.mustRecover(nodeB, nodeC).mustStart(nodeB, nodeC)
	require.EqualValues(t, 3, w3.claim.Epoch)
	y := w3.write("y", nodeB, nodeC)
	require.ErrorIs(t, c.delayed[0](), fencing.ErrFenced, "the old accept arrives now")
	r, err := c.recover(nodeA, nodeB)
	require.NoError(t, err)
	require.Equal(t, y, r.Prev.Position())
	c.probe(y)
}

// The second form: an end that was accepted in epoch 2 on one node and another one decided in epoch 3.
func TestR2a_DecidedEndStays_S4(t *testing.T) {
	c := newCluster(t)
	w1 := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
	one := w1.write("1", nodeA, nodeB, nodeC)
	w1.write("2", nodeA)
	cut := func(lost quorum.NodeID, kinds ...bool) func(recovery.Effect, quorum.NodeID) fate {
		return func(e recovery.Effect, id quorum.NodeID) fate {
			_, accept := e.(recovery.AskAccept)
			_, finalize := e.(recovery.AskFinalize)
			if id == lost || finalize || accept && len(kinds) > 0 && id != nodeA {
				return drop
			}
			return deliver
		}
	}
	c.net = cut(nodeC, true)
	_, err := c.attempt(recovery.Options{})
	require.Error(t, err)
	require.EqualValues(t, 2, c.copyAt(nodeA, 1).Accepted.End.Last)
	c.net = cut(nodeA)
	_, err = c.attempt(recovery.Options{})
	require.Error(t, err)
	require.EqualValues(t, 1, c.copyAt(nodeB, 1).Accepted.End.Last, "decided: accepted by B and C")
	r, err := c.recover(nodeA, nodeB)
	require.NoError(t, err)
	require.Equal(t, one, r.Prev.Position())
	c.probe(one)
}

// Next segments were started before the last was final anywhere; its transactions could be read nowhere.
// Guards closePrev: equal copies are finalized by the next start, others stay as leftovers, unseen.
func TestW8_NodeSideOfTheNextStart_S5_L3(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
	w.write("1", nodeA, nodeB, nodeC)
	two := w.write("2", nodeA, nodeB)
	w.commit(two)
	w.tell(nodeC)
	require.NoError(t, w.finalize(nodeA))
	w.next().mustStart(nodeA, nodeB, nodeC)
	require.Equal(t, recovery.Finalized, c.copyAt(nodeA, 1).State)
	require.Equal(t, recovery.Finalized, c.copyAt(nodeB, 1).State, "by the start of the next")
	require.Equal(t, recovery.InProgress, c.copyAt(nodeC, 1).State, "a leftover: it lacks txid 2")
	require.True(t, c.nodes[nodeC].Incomplete())
	got, err := c.shown(nodeC)
	require.ErrorIs(t, err, rpc.ErrNotFound)
	require.Empty(t, got, "R9: leftovers are never served")
	three := w.write("3", nodeA, nodeC)
	c.probe(two, three)
}

// rot flips a bit of a payload in a node's segment, and powers the node off and on.
func (c *cluster) rot(id quorum.NodeID, s segments.TxID, payload string) *machine {
	m := c.nodes[id]
	names, err := m.disk.List(dir + "/" + segmentsDir)
	require.NoError(c, err)
	for _, n := range names {
		name := dir + "/" + segmentsDir + "/" + n
		b, err := m.disk.ReadAll(name)
		require.NoError(c, err)
		if p, ok := segments.ParseName(n); !ok || p.First != s || p.Kind != segments.NameInProgress && p.Kind != segments.NameFinalized {
			continue
		}
		i := bytes.Index(b, []byte(payload))
		require.Positive(c, i)
		require.NoError(c, m.disk.FlipBit(name, int64(i), 3))
		return c.restart(id, 0)
	}
	require.Fail(c, "no such segment")
	return nil
}

// A node with unreadable data was counted where S was picked. Guards dataKnown and copyOf's Unknown.
func TestN2_UnreadableDataIsNoAnswer_S6(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB)
	w.write("first", nodeA, nodeB)
	p := w.write("second", nodeA, nodeB)
	c.rot(nodeA, 1, "first")
	require.Equal(t, recovery.Unknown, c.copyAt(nodeA, 1).State)
	reply, err := c.nodes[nodeA].NewEpoch(c.header(nodeA, fencing.Claim{Epoch: 1, Writer: w.claim.Writer}))
	require.NoError(t, err, "F2: it promises all the same")
	require.False(t, reply.DataKnown)
	_, err = c.recover(nodeA, nodeC)
	require.ErrorIs(t, err, recovery.ErrNoQuorum)
	require.ErrorIs(t, err, recovery.ErrUnknownData)
	r, err := c.recover()
	require.NoError(t, err)
	require.Equal(t, p, r.Prev.Position())
}

// N2 is per segment: an old one that rots stops nobody. Guards dataKnown's "newest".
func TestN2_OldDamageIsOfItsSegment_S6(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
	w.write("old", nodeA, nodeB, nodeC)
	for _, id := range c.ids() {
		require.NoError(t, w.finalize(id))
	}
	w.next().mustStart(nodeA, nodeB, nodeC)
	p := w.write("new", nodeA, nodeB)
	a := c.rot(nodeA, 1, "old")
	require.Error(t, a.Verify(1, nil))
	require.Equal(t, recovery.Unknown, c.copyAt(nodeA, 1).State)
	r, err := c.recover(nodeA, nodeC)
	require.NoError(t, err)
	require.Equal(t, p, r.Prev.Position())
}

// A rotten last frame looked torn and was cut: absence for damage. Guards the mark (Quiet), cut_at and
// the wait for the others.
func TestN2a_RottenTail_S7(t *testing.T) {
	t.Run("below the mark it is damage", func(t *testing.T) {
		c := newCluster(t)
		w := c.mustRecover().mustStart(nodeA, nodeB)
		w.write("x", nodeA, nodeB)
		require.NoError(t, c.nodes[nodeA].Quiet())
		c.rot(nodeA, 1, "x")
		require.Equal(t, recovery.Unknown, c.copyAt(nodeA, 1).State)
		_, err := c.recover(nodeA, nodeC)
		require.ErrorIs(t, err, recovery.ErrNoQuorum)
	})
	above := func(t *testing.T) (*cluster, *writer, segments.Position) {
		c := newCluster(t)
		w := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
		p := w.write("x", nodeA, nodeB)
		c.rot(nodeA, 1, "x")
		require.NotNil(t, c.copyAt(nodeA, 1).CutAt)
		return c, w, p
	}
	t.Run("above it the node says cut_at, and the others are waited for", func(t *testing.T) {
		c, _, p := above(t)
		var order []quorum.NodeID
		c.net = func(e recovery.Effect, id quorum.NodeID) fate {
			if _, ok := e.(recovery.AskPrepare); ok {
				order = append(order, id)
			}
			return deliver
		}
		r, err := c.attempt(recovery.Options{})
		require.NoError(t, err)
		require.Equal(t, p, r.Prev.Position(), "B had it: %v", order)
		require.Equal(t, []quorum.NodeID{nodeA}, r.Recovered.CutAt)
		require.Empty(t, r.Missing)
		c.probe(p)
	})
	t.Run("the node that is missing is named", func(t *testing.T) {
		c, _, _ := above(t)
		r, err := c.recover(nodeA, nodeC)
		require.NoError(t, err)
		require.Equal(t, []quorum.NodeID{nodeB}, r.Missing)
	})
	t.Run("cut_at stands until it is filled beyond, through restarts", func(t *testing.T) {
		c, w, p := above(t)
		c.restart(nodeA, 0)
		require.NotNil(t, c.copyAt(nodeA, 1).CutAt)
		at, err := w.start(nodeA)
		require.NoError(t, err)
		require.Zero(t, at)
		_, err = w.put(nodeA, w.sent...)
		require.NoError(t, err)
		require.Nil(t, c.copyAt(nodeA, 1).CutAt)
		c.restart(nodeA, 0)
		require.Nil(t, c.copyAt(nodeA, 1).CutAt)
		c.probe(p)
	})
}

// A writer that woke up asked a node where it stands, and took the answer for an ack. Guards Hello: the
// question is asked under its epoch, which is over.
func TestW3_PositionIsToldUnderTheEpochOnly_S8(t *testing.T) {
	c := newCluster(t)
	w1 := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
	one := w1.write("1", nodeA, nodeB, nodeC)
	f := w1.frame("2")
	_, err := w1.put(nodeA, f)
	require.NoError(t, err)
	acceptOnlyAt := func(at, lost quorum.NodeID) func(recovery.Effect, quorum.NodeID) fate {
		return func(e recovery.Effect, id quorum.NodeID) fate {
			if _, ok := e.(recovery.AskAccept); id == lost || ok && id != at {
				return drop
			}
			return deliver
		}
	}
	c.net = acceptOnlyAt(nodeC, nodeA)
	_, err = c.attempt(recovery.Options{})
	require.Error(t, err)
	c.net = acceptOnlyAt(nodeB, nodeC)
	_, err = c.attempt(recovery.Options{})
	require.Error(t, err)
	require.Equal(t, f.Position(), c.copyAt(nodeB, 1).Last, "B holds 2, accepted, not from w1")
	_, err = w1.start(nodeB)
	require.ErrorIs(t, err, fencing.ErrFenced)
	_, err = w1.put(nodeB, f)
	require.ErrorIs(t, err, fencing.ErrFenced)
	r, err := c.recover(nodeA, nodeC)
	require.NoError(t, err)
	require.Equal(t, one, r.Prev.Position(), "C accepted the end 1 in epoch 2")
	c.probe(one)
}

// A process crash made unsynced bytes count; worse after a failed sync, when a later sync reports
// success without them. Guards OpenTail's rewrite (W2a) as the journal uses it.
func TestW2a_WhatAnOpenTellsIsDurable_S10(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB)
	m := c.nodes[nodeA]
	m.fs.Inject(faultfs.Rule{Op: faultfs.OpSync, PathContains: segmentsDir, DropUnsynced: true})
	f := w.frame("x")
	at, err := w.put(nodeA, f)
	require.ErrorIs(t, err, rpc.ErrPoisoned)
	require.Zero(t, at, "W2: no ack")
	c.kill(nodeA)
	told, err := w.start(nodeA)
	require.NoError(t, err)
	require.Equal(t, f.Position(), told, "the page cache had it")
	_, err = w.put(nodeB, f)
	require.NoError(t, err)
	c.restart(nodeA, 0)
	require.Equal(t, told, c.copyAt(nodeA, 1).Last, "a position told is an ack")
	c.probe(f.Position())
}

// A fill took stale frames. Guards W1's checks in stage: epoch, gap, chain, checksum.
func TestW1_FramesThatDoNotBelong_S11(t *testing.T) {
	c := newCluster(t)
	w1 := c.mustRecover().mustStart(nodeA)
	stale := w1.frame("stale")
	_, err := w1.put(nodeA, stale)
	require.NoError(t, err)
	w := c.mustRecover(nodeB, nodeC).mustStart(nodeB, nodeC)
	_, err = w.put(nodeB, stale)
	require.ErrorIs(t, err, recovery.ErrBreach, "another epoch")
	one := w.write("one", nodeB)

	_, err = w.put(nodeB, sealed(segments.Position{TxID: 2}, w.claim.Epoch, "gap"))
	require.ErrorIs(t, err, rpc.ErrOutOfSync)
	_, err = w.put(nodeB, sealed(segments.Position{TxID: 1, Digest: segments.Digest{9}}, w.claim.Epoch, "chain"))
	require.ErrorIs(t, err, segments.ErrGap)
	raw := bytes.Clone(sealed(one, w.claim.Epoch, "sum").Bytes())
	raw[len(raw)-1] ^= 1
	bad, err := segments.ParseFrame(raw)
	require.NoError(t, err)
	_, err = w.put(nodeB, bad)
	require.ErrorIs(t, err, segments.ErrCorrupt)
	_, err = w.put(nodeA, w.sent[0])
	require.ErrorIs(t, err, rpc.ErrOutOfSync, "A has not started this epoch's segment")
	require.Equal(t, one, c.copyAt(nodeB, 1).Last)
	c.probe()
}

// A message with a good frame and a bad one: the good one must not stay behind, neither written nor
// gone. It came to the disk with a later recovery's accept, behind the accepted end; and a resend of it
// was taken for a breach. Guards frames: the stream is staged before its frames are looked at.
func TestW1_GoodFrameBeforeABadOne(t *testing.T) {
	setup := func(t *testing.T) (*cluster, *writer, segments.Frame) {
		c := newCluster(t)
		w := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
		w.write("1", nodeA, nodeB, nodeC)
		two := w.frame("2")
		_, err := w.put(nodeA, two, sealed(segments.Position{TxID: 7}, w.claim.Epoch, "gap"))
		require.ErrorIs(t, err, rpc.ErrOutOfSync)
		return c, w, two
	}
	t.Run("it is no breach when it comes again", func(t *testing.T) {
		c, w, two := setup(t)
		_, err := w.start(nodeA)
		require.NoError(t, err)
		at, err := w.put(nodeA, two)
		require.NoError(t, err)
		require.Equal(t, two.Position(), at)
		c.probe()
	})
	t.Run("an accept does not write it", func(t *testing.T) {
		c, _, _ := setup(t)
		c.net = func(e recovery.Effect, id quorum.NodeID) fate {
			if _, ok := e.(recovery.AskFinalize); ok {
				return drop
			}
			return deliver
		}
		_, err := c.attempt(recovery.Options{})
		require.Error(t, err)
		for _, id := range c.ids() {
			got := c.copyAt(id, 1)
			require.False(t, got.Accepted.IsZero(), id)
			require.Equal(t, got.Accepted.End.Position(), got.Last, "%s accepted one end and holds another", id)
		}
		c.probe()
	})
}

// Guards loadMeta: what is lost of a journal's directory is unknown, never new.
func TestN2_LostFilesMakeTheJournalUnknown_S13(t *testing.T) {
	for _, name := range []string{fenceFile, configFile, versionFile} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			w := c.mustRecover().mustStart(nodeA, nodeB)
			w.write("x", nodeA, nodeB)
			m := c.nodes[nodeA]
			require.NoError(t, m.disk.Remove(dir+"/"+name))
			require.NoError(t, m.disk.SyncDir(dir))
			m = c.restart(nodeA, 0)
			h := c.header(nodeA, fencing.Claim{Epoch: 9, Writer: fencing.WriterID{9}})
			_, err := m.NewEpoch(h)
			require.ErrorIs(t, err, rpc.ErrUnknownNode, "no promise")
			_, err = m.Prepare(h, 1, nil)
			require.ErrorIs(t, err, rpc.ErrUnknownNode, "no data answer")
			_, err = w.put(nodeA, w.frame("y"))
			require.ErrorIs(t, err, rpc.ErrUnknownNode, "no ack")
			require.False(t, m.State().Member)
			require.False(t, m.State().DataKnown)
			_, err = c.recover(nodeA, nodeC)
			require.Error(t, err)
			_, err = c.recover(nodeB, nodeC)
			require.NoError(t, err)
		})
	}
}

// Guards check: a request for another storage, or to one that is no member, has no effect.
func TestN1_IncarnationAndMembership_S13(t *testing.T) {
	c := newCluster(t)
	m := c.nodes[nodeA]
	claim := fencing.Claim{Epoch: 9, Writer: fencing.WriterID{9}}
	h := c.header(nodeA, claim)
	h.Incarnation = quorum.Incarnation{99}
	_, err := m.NewEpoch(h)
	require.ErrorIs(t, err, rpc.ErrWrongNode)
	h = c.header(nodeA, claim)
	h.ConfigVersion = 2
	_, err = m.NewEpoch(h)
	require.ErrorIs(t, err, rpc.ErrConfig)

	// The disk was replaced: a new incarnation, which no config names.
	wiped, err := Open(m.disk.CrashClone(memfs.CrashOptions{UnsyncedPercent: 100}), dir, Self{nodeA, quorum.Incarnation{99}}, journalID, small)
	require.NoError(t, err)
	h = c.header(nodeA, claim)
	h.Incarnation = quorum.Incarnation{99}
	_, err = wiped.NewEpoch(h)
	require.ErrorIs(t, err, rpc.ErrUnknownNode)
	require.False(t, wiped.State().Member)
	require.Zero(t, m.State().Promised)
}

// The best copy lies where nobody can fetch it. Guards fetch's ErrNoSource; then the coordinator relays,
// or leaves that answer out in a new epoch.
func TestR4_NobodyCanFetch_L4(t *testing.T) {
	setup := func(t *testing.T) (*cluster, *writer) {
		c := newCluster(t)
		w := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
		w.write("x", nodeA)
		c.mute = map[quorum.NodeID]bool{nodeA: true}
		_, err := c.recover()
		require.ErrorIs(t, err, rpc.ErrNoSource)
		return c, w
	}
	t.Run("left out", func(t *testing.T) {
		c, _ := setup(t)
		w := c.mustRecover(nodeB, nodeC).mustStart(nodeA, nodeB, nodeC)
		require.Zero(t, w.prev)
		c.probe(w.write("y", nodeB, nodeC))
	})
	t.Run("relayed", func(t *testing.T) {
		c, w := setup(t)
		c.net = func(e recovery.Effect, id quorum.NodeID) fate {
			if a, ok := e.(recovery.AskAccept); ok && id == nodeB {
				m, h := c.nodes[id], c.header(id, a.Accept.Claim)
				plan, err := m.BeginAccept(h, a.Accept)
				require.NoError(t, err)
				require.True(t, plan.Fetch)
				require.NoError(t, plan.Incoming.Append(w.sent[0]))
				require.NoError(t, m.FinishAccept(h, a.Accept, plan.Incoming))
			}
			return deliver // to B: done already
		}
		_, err := c.attempt(recovery.Options{})
		require.NoError(t, err)
		c.probe(w.pos)
	})
}

// A race for one epoch. Guards Propose: the same claim is answered again, another writer's is a lost
// race; and F2: whoever has lost hears a majority again and goes higher.
func TestF2_F5_SameEpochRace_L5(t *testing.T) {
	c := newCluster(t)
	a, b := fencing.Claim{Epoch: 2, Writer: fencing.WriterID{0xa}}, fencing.Claim{Epoch: 2, Writer: fencing.WriterID{0xb}}
	for range 2 { // the second time the answer was lost
		for _, id := range []quorum.NodeID{nodeA, nodeB} {
			_, err := c.nodes[id].NewEpoch(c.header(id, a))
			require.NoError(t, err)
		}
		_, err := c.nodes[nodeC].NewEpoch(c.header(nodeC, b))
		require.NoError(t, err)
	}
	_, err := c.nodes[nodeC].NewEpoch(c.header(nodeC, a))
	require.ErrorIs(t, err, fencing.ErrLostRace)
	require.NotErrorIs(t, err, fencing.ErrFenced)
	w := &writer{c: c, claim: a}
	w.mustStart(nodeA, nodeB)
	p := w.write("x", nodeA, nodeB)
	r, err := c.recover(nodeB, nodeC) // A is gone
	require.NoError(t, err)
	require.EqualValues(t, 3, r.Claim.Epoch)
	require.Equal(t, p, r.Prev.Position())
}

// A challenger that hears no majority claims nothing. Guards the state round (F2).
func TestF2_StateBeforeClaim_L6(t *testing.T) {
	c := newCluster(t)
	_, err := c.recover(nodeA)
	require.ErrorIs(t, err, recovery.ErrNoQuorum)
	require.Zero(t, c.nodes[nodeA].State().Promised)
}

// A floor file that cannot be read is absent: it stops no recovery. Guards loadFloor.
func TestR3_UnreadableFloorIsAbsent_L10(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB)
	p := w.write("x", nodeA, nodeB)
	w.commit(p)
	w.tell(nodeA)
	require.NoError(t, c.nodes[nodeA].Quiet())
	m := c.restart(nodeA, 0)
	require.Equal(t, w.floor, m.floor, "saved")
	require.NoError(t, m.disk.FlipBit(dir+"/"+committedFile, 30, 1))
	m = c.restart(nodeA, 0)
	require.Zero(t, m.floor)
	c.probe(p)
}

// A repeated Prepare or NewEpoch closed the open segment of the same epoch's writer. Guards Prepare and
// NewEpoch, which change nothing (R1, F2).
func TestR1_RepeatsChangeNothing_L11(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB)
	w.write("1", nodeA, nodeB)
	m := c.nodes[nodeA]
	m.fs.ResetLog()
	before, err := m.Prepare(c.header(nodeA, w.claim), 1, nil)
	require.NoError(t, err)
	_, err = m.NewEpoch(c.header(nodeA, w.claim))
	require.NoError(t, err)
	again, err := m.Prepare(c.header(nodeA, w.claim), 1, nil)
	require.NoError(t, err)
	require.Equal(t, before, again)
	require.Empty(t, m.fs.Log(), "nothing was written")
	c.probe(w.write("2", nodeA, nodeB))
}

// A frame that one node had was called refused, and its txid given to other bytes. What the cores do of such a
// writer: no node takes both, recovery never guesses between them, and says who holds what. Where the bytes stay
// the same, as W6 demands, nothing is lost. Guards resent (W4) and checkPrefixes (R2).
func TestW6_TxidIsBoundToItsBytes_S12(t *testing.T) {
	for name, reuse := range map[string]bool{"the txid is used again": true, "the same bytes are sent again": false} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			w := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
			x := w.frame("x")
			_, err := w.put(nodeA, x)
			require.NoError(t, err)
			second := x
			if reuse {
				second = sealed(segments.Position{}, w.claim.Epoch, "y")
			}
			for _, id := range []quorum.NodeID{nodeB, nodeC} {
				at, err := w.put(id, second)
				require.NoError(t, err)
				require.Equal(t, second.Position(), at)
			}
			_, err = w.put(nodeA, second)
			if !reuse {
				require.NoError(t, err)
				c.probe(x.Position())
				return
			}
			require.ErrorIs(t, err, recovery.ErrBreach)
			require.Equal(t, x.Position(), c.copyAt(nodeA, 1).Last)
			for _, ids := range [][]quorum.NodeID{{nodeA, nodeB}, {nodeA, nodeC}, {nodeA, nodeB, nodeC}} {
				_, err = c.recover(ids...)
				var d *recovery.DivergenceError
				require.ErrorAs(t, err, &d)
				require.Contains(t, d.Nodes, nodeA)
				require.Contains(t, d.Ends, x.Position())
				require.Contains(t, d.Ends, second.Position())
			}
			for _, id := range c.ids() {
				require.Equal(t, recovery.InProgress, c.copyAt(id, 1).State, "nobody changed anything")
				require.Zero(t, c.copyAt(id, 1).Accepted)
			}
		})
	}
}
