package replication

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// Guards acked: a majority, by the writer's own digest; the floor says which segment and epoch.
func TestW3_CommittedByAMajority(t *testing.T) {
	r := newRig(t, Options{})
	r.start(a, b, c)
	r.add(1)
	one := r.Last()
	two := r.add(1)
	require.Equal(t, []string{"frames 1..2"}, r.sent(a))
	require.Equal(t, []string{"frames 1..2"}, r.sent(b))

	require.False(t, r.says(a, rpc.Synced, two), "one node is no majority")
	require.Zero(t, r.Committed())
	require.False(t, r.says(a, rpc.Synced, two), "the same node twice is no majority either")
	require.True(t, r.says(b, rpc.Synced, one))
	require.Equal(t, one, r.Committed())
	require.True(t, r.says(b, rpc.Synced, two))
	require.Equal(t, two, r.Committed())
	require.Equal(t, recovery.Floor{Segment: 1, Epoch: claim.Epoch, At: two}, r.floor)

	require.False(t, r.says(b, rpc.Synced, one), "a late, lower ack changes nothing")
	require.Equal(t, two, r.Committed(), "the floor never goes back")
	require.EqualValues(t, 2, r.Status()[1].Acked)
}

// Guards checkReply and the digest in acked. Each reply is about txid 1, which b has acknowledged: one
// more ack would commit it.
func TestW3_AcksThatDoNotCount(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*rpc.WriteReply)
		err    error
	}{
		{"another epoch", func(w *rpc.WriteReply) { w.Epoch++ }, ErrForeignReply},
		{"another config version", func(w *rpc.WriteReply) { w.ConfigVersion++ }, ErrForeignReply},
		{"another incarnation", func(w *rpc.WriteReply) { w.Incarnation = quorum.Incarnation{99} }, ErrForeignReply},
		{"another digest (S8)", func(w *rpc.WriteReply) { w.At.Digest[0] ^= 1 }, recovery.ErrBreach},
		{"beyond what was sent", func(w *rpc.WriteReply) { w.At.TxID = 9 }, recovery.ErrBreach},
		{"another segment", func(w *rpc.WriteReply) { w.Segment = 7 }, nil},
		{"a heartbeat's answer", func(w *rpc.WriteReply) { w.Kind = rpc.Alive }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, Options{})
			r.start(a, b)
			one := r.add(1)
			r.sent(a)
			r.sent(b)
			r.says(b, rpc.Synced, one)
			w := r.reply(a, rpc.Synced, one)
			tc.change(&w)
			_, err := r.Handle(a, w)
			if tc.err == nil {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, tc.err)
			}
			require.Zero(t, r.Committed())
		})
	}
	t.Run("a node that is no member", func(t *testing.T) {
		r := newRig(t, Options{})
		_, err := r.Handle(key("x"), rpc.WriteReply{})
		require.NoError(t, err)
		_, ok := r.Next(key("x"))
		require.False(t, ok)
		require.False(t, r.Wants(key("x")))
	})
}

// A position told at rejoin counts as an ack, by digest only (W3, S8). Guards onStarted.
func TestW3_PositionAtRejoin_S8(t *testing.T) {
	r := newRig(t, Options{})
	r.start(a, b)
	one := r.add(1)
	r.sent(a)
	r.sent(b)
	r.says(a, rpc.Synced, one)
	r.Unlinked(b, rpc.ErrUnavailable)
	r.Linked(b)
	r.sent(b)
	require.True(t, r.says(b, rpc.Started, one), "the ack was lost, the position is told again")
	require.Equal(t, one, r.Committed())

	r.Linked(c)
	r.sent(c)
	_, err := r.Handle(c, r.reply(c, rpc.Started, segments.Position{TxID: 1, Digest: segments.Digest{7}}))
	require.ErrorIs(t, err, recovery.ErrBreach)
	require.False(t, r.Wants(c), "it holds what this writer did not write")
}

// Guards "!n.startSent" in onStarted: an answer to nothing is not taken.
func TestW3_StartedUnasked(t *testing.T) {
	r := newRig(t, Options{})
	one := r.add(1)
	r.Linked(a)
	r.Linked(b)
	r.says(a, rpc.Started, one)
	r.says(b, rpc.Started, one)
	require.Zero(t, r.Committed())
}

// A node that rejoins with less than it acknowledged is sent what it lacks, and committed stays
// (guards the reset of n.acked and n.sent in onStarted).
func TestW3_RejoinWithLess(t *testing.T) {
	r := newRig(t, Options{})
	r.start(a, b)
	two := r.add(2)
	r.sent(a)
	r.sent(b)
	r.says(a, rpc.Synced, two)
	r.says(b, rpc.Synced, two)
	require.Equal(t, two, r.Committed())

	r.Unlinked(b, rpc.ErrUnavailable)
	r.Linked(b)
	require.Equal(t, []string{"start 1"}, r.sent(b))
	r.says(b, rpc.Started, segments.Position{})
	require.Equal(t, two, r.Committed())
	three := r.add(1)
	require.Equal(t, []string{"frames 1..3"}, r.sent(b))
	r.sent(a)
	require.False(t, r.says(a, rpc.Synced, three), "b does not count for txid 3 yet")
	require.Equal(t, two, r.Committed())
	require.True(t, r.says(b, rpc.Synced, three))
	require.Equal(t, three, r.Committed())
}

// A stream that breaks is taken up with the same frames, byte by byte. Guards the ring as the only
// source, and the cursor set by onStarted.
func TestW4_ReconnectSendsTheSameBytes(t *testing.T) {
	r := newRig(t, Options{})
	r.start(a)
	r.add(3)
	first, ok := r.Next(a)
	require.True(t, ok)
	r.Unlinked(a, rpc.ErrUnavailable)
	require.Empty(t, r.sent(a), "no stream, nothing to send")
	r.start(a)
	again, ok := r.Next(a)
	require.True(t, ok)
	require.Len(t, again.Frames, 3)
	for i := range again.Frames {
		require.Equal(t, first.Frames[i].Bytes(), again.Frames[i].Bytes())
	}
	require.EqualValues(t, 2, again.Seq, "a stream counts from one")
	r.says(a, rpc.Synced, again.Frames[1].Position())
	r.Unlinked(a, nil)
	r.Linked(a)
	r.sent(a)
	r.says(a, rpc.Started, again.Frames[1].Position())
	require.Equal(t, []string{"frames 3..3"}, r.sent(a), "what it holds is not sent again")
}

// Guards Next's order: no frame before the node answered Start.
func TestW5_StartComesFirst(t *testing.T) {
	r := newRig(t, Options{})
	r.add(1)
	r.Linked(a)
	require.Equal(t, []string{"start 1"}, r.sent(a))
	require.Empty(t, r.sent(a))
	r.says(a, rpc.Started, segments.Position{})
	require.Equal(t, []string{"frames 1..1"}, r.sent(a))
}

// slow returns a rig whose ring has lost frames 1..8 that c never got.
func slow(t require.TestingT) *rig {
	r := newRig(t, Options{RingBytes: 2 * frameAfter(segments.Position{}, 5, 10).Size()})
	r.start(a, b, c)
	for range 10 {
		p := r.add(1)
		r.sent(a)
		r.sent(b)
		r.says(a, rpc.Synced, p)
		r.says(b, rpc.Synced, p)
	}
	require.EqualValues(t, 10, r.Committed().TxID)
	return r
}

// Guards askFill and onSynced's fill: the target is the writer's own position, an end with another
// digest is refused, and the stream goes on in the same segment.
func TestW5_Fill(t *testing.T) {
	r := slow(t)
	target := r.ring.start()
	require.EqualValues(t, 8, target.TxID)
	require.Equal(t, []string{"fill to 8 from [a b]"}, r.sent(c))
	require.True(t, r.Status()[2].Filling)
	require.False(t, r.says(c, rpc.Synced, segments.Position{TxID: 5, Digest: segments.Digest{5}}), "under way; the target proves the chain")
	require.Empty(t, r.sent(c), "nothing else goes out meanwhile")
	r.says(c, rpc.Synced, target)
	require.Equal(t, []string{"frames 9..10"}, r.sent(c))

	r = slow(t)
	r.sent(c)
	_, err := r.Handle(c, r.reply(c, rpc.Synced, segments.Position{TxID: 8, Digest: segments.Digest{5}}))
	require.ErrorIs(t, err, recovery.ErrBreach, "S11: the chain does not reach the target")
	require.False(t, r.Wants(c))
}

// A node that rejoins below the ring is filled, and counts for nothing before the chain is proved.
// Guards "at.TxID < c.ring.start()" in onStarted.
func TestW5_RejoinBelowTheRing(t *testing.T) {
	r := slow(t)
	r.Unlinked(c, nil)
	r.Linked(c)
	r.sent(c)
	r.says(c, rpc.Started, segments.Position{TxID: 3, Digest: segments.Digest{9}})
	require.Zero(t, r.Status()[2].Acked)
	require.Equal(t, []string{"fill to 8 from [a b]"}, r.sent(c))
}

// L4: no peer can serve: the writer relays what lies below the ring.
func TestW5_Relay_L4(t *testing.T) {
	r := slow(t)
	var frames []segments.Frame
	p := segments.Position{}
	for p.TxID < 8 {
		frames = append(frames, frameAfter(p, claim.Epoch, r.bytes))
		p = frames[len(frames)-1].Position()
	}
	_, _, _, ok := r.Relay(c)
	require.False(t, ok)
	require.Equal(t, []string{"fill to 8 from [a b]"}, r.sent(c))
	_, _, _, ok = r.Relay(c)
	require.False(t, ok, "the fill may still work")

	fail := r.reply(c, rpc.FillFailed, segments.Position{})
	fail.Err = "nobody there"
	_, err := r.Handle(c, fail)
	require.NoError(t, err)
	from, to, sources, ok := r.Relay(c)
	require.True(t, ok)
	require.EqualValues(t, 1, from)
	require.Equal(t, r.ring.start(), to)
	require.Equal(t, []quorum.NodeID{"a", "b"}, sources)

	_, ok = r.Relayed(c, frames[2:])
	require.False(t, ok, "a gap")
	m, ok := r.Relayed(c, frames[:5])
	require.True(t, ok)
	require.Equal(t, "frames 1..5", text(m))
	m, ok = r.Relayed(c, frames[5:])
	require.True(t, ok)
	require.Equal(t, "frames 6..8", text(m))
	require.Empty(t, r.sent(c))
	r.says(c, rpc.Synced, to)
	require.Equal(t, []string{"frames 9..10"}, r.sent(c))
}

// Guards Add: a txid is bound to its bytes once it is added; what is refused uses up no txid.
func TestW6_AddBindsTxids(t *testing.T) {
	r := newRig(t, Options{})
	one := r.add(1)
	require.Error(t, r.Add(frameAfter(segments.Position{}, claim.Epoch, 3)), "txid 1 again, other bytes")
	require.Error(t, r.Add(frameAfter(segments.Position{TxID: 2}, claim.Epoch, 3)), "a gap")
	require.Error(t, r.Add(frameAfter(one, claim.Epoch+1, 3)), "W1: another epoch")
	require.Equal(t, one, r.Last())
	r.start(a)
	require.Equal(t, []string{"frames 1..1"}, r.sent(a))
}

// Guards room and after (window, message size) and Full.
func TestW7_Bounds(t *testing.T) {
	size := frameAfter(segments.Position{}, 5, 10).Size()
	r := newRig(t, Options{RingBytes: 6 * size, WindowBytes: 4 * size, MessageBytes: 2*size + 1})
	r.start(a, b)
	r.add(5)
	require.False(t, r.Full())
	r.add(1)
	require.True(t, r.Full(), "the callers wait")
	require.Equal(t, []string{"frames 1..2", "frames 3..4"}, r.sent(a), "four frames may be under way")
	three, _ := r.ring.at(3)
	r.says(a, rpc.Synced, three)
	require.Equal(t, []string{"frames 5..6"}, r.sent(a))

	require.True(t, r.Full(), "one ack commits nothing")
	r.sent(b)
	r.says(b, rpc.Synced, three)
	require.False(t, r.Full())

	// One frame larger than every bound goes out alone.
	r = newRig(t, Options{RingBytes: 10, WindowBytes: 10, MessageBytes: 10})
	r.start(a)
	r.add(2)
	require.Equal(t, []string{"frames 1..1"}, r.sent(a))
}

// L7: only committed frames leave the ring, however many there are. Guards trim's first argument.
func TestW7_OnlyCommittedFramesLeaveTheRing_L7(t *testing.T) {
	r := newRig(t, Options{RingBytes: 1})
	r.start(a, b)
	last := r.add(100)
	r.sent(a)
	require.False(t, r.says(a, rpc.Synced, last))
	require.Len(t, r.ring.frames, 100)
	half, _ := r.ring.at(50)
	r.sent(b)
	r.says(b, rpc.Synced, half)
	require.Len(t, r.ring.frames, 50)
	require.Equal(t, half, r.ring.start())
	for _, f := range r.ring.frames {
		require.False(t, f.IsZero())
	}
}

// Guards progress and Next: no Finalize before all is committed; no Start of the next segment before a
// majority finalized (S5).
func TestW8_Order_S5(t *testing.T) {
	r := newRig(t, Options{})
	require.False(t, r.Roll(), "an empty segment is not finalized")
	r.start(a, b, c)
	two := r.add(2)
	require.True(t, r.Roll())
	require.False(t, r.Roll())
	require.False(t, r.Writing())
	require.Error(t, r.Add(frameAfter(two, claim.Epoch, 1)))
	for _, id := range []quorum.Key{a, b, c} {
		require.Equal(t, []string{"frames 1..2"}, r.sent(id), "no finalize behind frames in doubt")
	}
	r.says(a, rpc.Synced, two)
	require.Empty(t, r.sent(a), "one ack is no commit")
	r.says(b, rpc.Synced, two)
	require.Equal(t, []string{"finalize 1..2"}, r.sent(a))
	require.Equal(t, []string{"finalize 1..2"}, r.sent(b))
	require.Equal(t, []string{"finalize 1..2"}, r.sent(c), "behind the frames, in order")

	r.OpenNext()
	require.EqualValues(t, 1, r.Segment(), "nobody finalized yet")
	require.False(t, r.says(a, rpc.Finalized, two))
	r.OpenNext()
	require.EqualValues(t, 1, r.Segment(), "one node finalized")
	require.False(t, r.says(a, rpc.Finalized, two), "twice")
	require.True(t, r.says(b, rpc.Finalized, two))
	end, ok := r.Finished()
	require.True(t, ok)
	require.Equal(t, segments.End{First: 1, Last: 2, Digest: two.Digest}, end)
	r.OpenNext()
	require.EqualValues(t, 3, r.Segment())
	require.Equal(t, two, r.Committed())
	require.Equal(t, []string{"start 3"}, r.sent(a))
	require.Equal(t, []string{"start 3"}, r.sent(c), "c, too: its start finalizes or leaves the segment before (W8)")
	require.False(t, r.Ready())
	r.says(a, rpc.Started, two)
	require.False(t, r.Ready())
	r.says(c, rpc.Started, two)
	require.True(t, r.Ready())
}

// A finalize at another end, or while the segment is written, is no ack of ours. Guards Handle.
func TestW8_FinalizedElsewhere(t *testing.T) {
	r := newRig(t, Options{})
	r.start(a, b)
	one := r.add(1)
	_, err := r.Handle(a, r.reply(a, rpc.Finalized, one))
	require.ErrorIs(t, err, recovery.ErrBreach)
	r.Roll()
	_, err = r.Handle(b, r.reply(b, rpc.Finalized, segments.Position{TxID: 1, Digest: segments.Digest{3}}))
	require.ErrorIs(t, err, recovery.ErrBreach)
}

// A finalize whose answer was lost: the segment is finalized there, so StartSegment would be refused
// (W0) and the node be left out, two of them for good. It is asked to finalize again, which answers
// again (R7). Guards closeFirst in Linked and Next.
func TestW8_FinalizeAnswerLost(t *testing.T) {
	r := newRig(t, Options{})
	r.start(a, b)
	one := r.add(1)
	r.Roll()
	for _, id := range []quorum.Key{a, b} {
		r.sent(id)
		r.says(id, rpc.Synced, one)
	}
	require.Equal(t, []string{"finalize 1..1"}, r.sent(a))
	require.Equal(t, []string{"finalize 1..1"}, r.sent(b))
	r.says(a, rpc.Finalized, one)
	r.Unlinked(b, rpc.ErrUnavailable) // b did it
	r.Linked(b)
	require.Equal(t, []string{"finalize 1..1"}, r.sent(b))
	require.True(t, r.says(b, rpc.Finalized, one))
	r.OpenNext()
	require.Equal(t, []string{"start 2"}, r.sent(b))

	// A node that has something else refuses it; then it is started and sent what it lacks.
	r = newRig(t, Options{})
	r.start(a, b)
	one = r.add(1)
	r.Roll()
	for _, id := range []quorum.Key{a, b} {
		r.sent(id)
		r.says(id, rpc.Synced, one)
	}
	r.Linked(c)
	require.Equal(t, []string{"finalize 1..1"}, r.sent(c))
	r.Unlinked(c, &recovery.MismatchError{State: recovery.Absent})
	r.Linked(c)
	require.Equal(t, []string{"start 1"}, r.sent(c))
	r.says(c, rpc.Started, segments.Position{})
	require.Equal(t, []string{"frames 1..1", "finalize 1..1"}, r.sent(c))
	r.says(c, rpc.Synced, one)
	r.says(c, rpc.Finalized, one)
	require.True(t, r.says(a, rpc.Finalized, one))
}

// Guards refuse: one refusal is not fencing; it is when the others are no majority (L6). The error is
// then the same for every call.
func TestF6_FencedByAMajorityOnly_L6(t *testing.T) {
	r := newRig(t, Options{})
	r.start(a, b, c)
	r.Unlinked(a, fencedBy(7))
	require.NoError(t, r.Err())
	require.False(t, r.Wants(a))
	r.Linked(a)
	require.Empty(t, r.sent(a), "it is left out")
	one := r.add(1)
	r.sent(b)
	r.sent(c)
	r.says(b, rpc.Synced, one)
	r.says(c, rpc.Synced, one)
	require.Equal(t, one, r.Committed(), "two of three go on")

	r.Unlinked(b, rpc.ErrUnavailable)
	require.NoError(t, r.Err())
	r.Unlinked(b, fencedBy(8))
	require.Equal(t, fencedBy(8), r.Err())
	require.Equal(t, fencedBy(8), r.Add(frameAfter(one, claim.Epoch, 1)))
	require.False(t, r.Writing())
	require.Empty(t, r.sent(c), "nothing is retried")
	require.False(t, r.Wants(c))
	_, ok := r.Heartbeat(c)
	require.False(t, ok)
	r.Unlinked(c, fencedBy(9))
	require.Equal(t, fencedBy(8), r.Err(), "the first verdict stands")
}

// L5: a lost race at one node is not fencing; whoever holds the majority goes on. Guards refuse.
func TestF5_LostRaceIsNotFencing_L5(t *testing.T) {
	r := newRig(t, Options{})
	r.start(a, b)
	r.Unlinked(c, lostRace())
	require.NoError(t, r.Err())
	one := r.add(1)
	r.sent(a)
	r.sent(b)
	r.says(a, rpc.Synced, one)
	require.True(t, r.says(b, rpc.Synced, one))
	r.Unlinked(b, lostRace())
	require.Equal(t, lostRace(), r.Err())

	r = newRig(t, Options{})
	r.Unlinked(a, lostRace())
	r.Unlinked(b, fencedBy(9))
	require.Equal(t, fencedBy(9), r.Err(), "the higher epoch says more")
}

// A breach leaves a node out of this segment only. Where a majority is left out the segment can never end:
// the core is over, and the writer opens anew. Guards open and gone.
func TestF6_BreachIsOfOneSegment(t *testing.T) {
	r := newRig(t, Options{})
	r.Unlinked(c, breach())
	require.False(t, r.Wants(c))
	r.start(a, b)
	one := r.add(1)
	r.Roll()
	for _, kind := range []rpc.ReplyKind{rpc.Synced, rpc.Finalized} {
		for _, id := range []quorum.Key{a, b} {
			r.sent(id)
			r.says(id, kind, one)
		}
	}
	r.OpenNext()
	require.True(t, r.Wants(c))
	r.Unlinked(a, breach())
	require.NoError(t, r.Err())
	r.Unlinked(b, breach())
	require.Equal(t, breach(), r.Err())
}

// One node is above the epoch, another does not fit the segment: no majority is left, and neither reason
// makes one by itself. Who hears nothing would wait for ever.
func TestF6_FencedByOneAndABreachByAnother(t *testing.T) {
	for _, first := range []error{fencedBy(8), breach()} {
		r := newRig(t, Options{})
		r.start(a, b, c)
		second := breach()
		if first.Error() == second.Error() {
			second = fencedBy(8)
		}
		r.Unlinked(a, first)
		require.NoError(t, r.Err())
		r.Unlinked(b, second)
		require.Equal(t, fencedBy(8), r.Err())
	}
}

// A node whose copy of the open segment is damaged is told to build it anew, up to what is committed, and
// its acks from before are void: what it acknowledged it may have lost.
func TestW0_DamagedCopyIsRebuilt(t *testing.T) {
	r := newRig(t, Options{})
	r.start(a, b, c)
	one := r.add(1)
	for _, id := range []quorum.Key{a, b, c} {
		r.sent(id)
	}
	r.says(a, rpc.Synced, one)
	require.True(t, r.says(b, rpc.Synced, one))
	two := r.add(1)
	r.sent(c)
	r.says(c, rpc.Synced, two)
	r.Unlinked(c, fmt.Errorf("read: %w", recovery.ErrUnknownData))
	r.sent(a)
	require.False(t, r.says(a, rpc.Synced, two), "c's ack is void: this is one node of three")
	require.Equal(t, one, r.Committed())

	r.Linked(c)
	m, ok := r.Next(c)
	require.True(t, ok)
	require.Equal(t, &rpc.Fill{Segment: 1, Target: one, Sources: []quorum.NodeID{"a", "b"}, Rebuild: &segments.End{}}, m.Fill)
	require.Empty(t, r.sent(c), "its answer says where to go on")
	r.Unlinked(c, rpc.ErrUnavailable)
	r.Linked(c)
	m, _ = r.Next(c)
	require.NotNil(t, m.Fill, "until it has said that the segment stands")
	r.says(c, rpc.Started, one)
	require.Equal(t, []string{"frames 2..2"}, r.sent(c))
	require.True(t, r.says(c, rpc.Synced, two))
	r.Unlinked(c, rpc.ErrUnavailable)
	r.Linked(c)
	require.Equal(t, []string{"start 1"}, r.sent(c))
}

// The floor reaches a node by the next message, or by a heartbeat where there is none (W3).
func TestW3_FloorIsPassedOn(t *testing.T) {
	r := newRig(t, Options{})
	r.start(a, b)
	require.True(t, r.Idle(a), "the seal (M4)")
	r.Heartbeat(a)
	require.False(t, r.Idle(a))
	one := r.add(1)
	r.sent(a)
	r.sent(b)
	r.says(a, rpc.Synced, one)
	r.says(b, rpc.Synced, one)
	require.True(t, r.Idle(a))
	m, ok := r.Heartbeat(a)
	require.True(t, ok)
	require.Equal(t, recovery.Floor{Segment: 1, Epoch: claim.Epoch, At: one}, m.Floor)
	require.False(t, r.Idle(a), "told")
	require.True(t, r.Idle(b))
	require.True(t, r.Untold(b, one.TxID+1), "there is nothing beyond the floor to wait for")
	require.False(t, r.Untold(b, one.TxID-1), "it is news")
	r.add(1)
	m, _ = r.Next(b)
	require.Equal(t, one, m.Floor.At)
	require.False(t, r.Idle(b))
}

// A node that lost what it had acknowledged counts for it no more: the ack of another node must not
// commit with the old one. Guards the reset of n.acked in onStarted.
func TestW3_LostAckDoesNotCount(t *testing.T) {
	r := newRig(t, Options{})
	r.start(a, b)
	one := r.add(1)
	r.sent(a)
	r.sent(b)
	r.says(b, rpc.Synced, one)
	r.Unlinked(b, rpc.ErrUnavailable)
	r.Linked(b)
	r.sent(b)
	r.says(b, rpc.Started, segments.Position{})
	require.False(t, r.says(a, rpc.Synced, one))
	require.Zero(t, r.Committed())
	r.sent(b)
	require.True(t, r.says(b, rpc.Synced, one))
}

// The chain must reach the target that was given, also when the ring has moved on since. Guards the
// comparison with n.fill in onSynced.
func TestW5_FillReachesAnotherTarget_S11(t *testing.T) {
	r := slow(t)
	require.Equal(t, []string{"fill to 8 from [a b]"}, r.sent(c))
	for range 3 {
		p := r.add(1)
		r.sent(a)
		r.sent(b)
		r.says(a, rpc.Synced, p)
		r.says(b, rpc.Synced, p)
	}
	require.Greater(t, r.ring.start().TxID, segments.TxID(8))
	_, err := r.Handle(c, r.reply(c, rpc.Synced, segments.Position{TxID: 8, Digest: segments.Digest{5}}))
	require.ErrorIs(t, err, recovery.ErrBreach)
}
