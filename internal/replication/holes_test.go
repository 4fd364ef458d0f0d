package replication

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// The tests in the files holes_test.go show holes that a hostile review found; each failed before its hole was mended.

var n1, n2, n3 = quorum.Key{ID: "n1", Incarnation: quorum.Incarnation{1}}, quorum.Key{ID: "n2", Incarnation: quorum.Incarnation{2}}, quorum.Key{ID: "n3", Incarnation: quorum.Incarnation{3}}

func attackCore() *Core {
	cfg := quorum.NewConfig(1,
		quorum.Member{ID: "n1", Incarnation: quorum.Incarnation{1}},
		quorum.Member{ID: "n2", Incarnation: quorum.Incarnation{2}},
		quorum.Member{ID: "n3", Incarnation: quorum.Incarnation{3}})
	c := New(cfg, fencing.Claim{Epoch: 1, Writer: fencing.WriterID{1}}, segments.End{}, Options{})
	for _, m := range cfg.Members() {
		c.Linked(m.Key())
	}
	return c
}

// F6, L2: a majority refuses the segment with a breach (an accepted record of this epoch, a finalized
// copy, a copy of a higher epoch). Nothing can commit in this segment any more, so it is never rolled and
// they are never tried again: no error, not blocked, no reopening. Every append hangs till its deadline.
func TestHole_BreachOnAMajorityEndsInSilence(t *testing.T) {
	c := attackCore()
	breach := &recovery.BreachError{Rule: "W0", Segment: 1, Text: "is finalized here"}
	c.Unlinked(n1, breach)
	c.Unlinked(n2, breach)
	require.False(t, c.Wants(n1))
	require.True(t, c.Err() != nil || c.Blocked() != nil, "the writer has no quorum for good, and nobody is told")
}

// W5: what a fill source held is remembered for ever: n2 acked 3, restarted, cut its tail to 1 and said
// so (Started at 1); sources must not name it for what it lost.
func TestHole_SourcesAfterRestart(t *testing.T) {
	c := attackCore()
	var prev segments.Position
	var at []segments.Position
	for range 3 {
		var b segments.Builder
		b.Reset(prev.TxID+1, 1)
		require.NoError(t, b.Add([]byte("x")))
		f, err := b.Seal(prev.Digest, segments.SealOptions{})
		require.NoError(t, err)
		require.NoError(t, c.Add(f))
		prev = f.Position()
		at = append(at, prev)
	}
	say := func(id quorum.Key, inc byte, kind rpc.ReplyKind, p segments.Position) {
		_, err := c.Handle(id, rpc.WriteReply{Kind: kind, Segment: 1, Epoch: 1, ConfigVersion: 1, Incarnation: quorum.Incarnation{inc}, At: p})
		require.NoError(t, err)
	}
	c.Next(n2)
	say(n2, 2, rpc.Started, segments.Position{})
	c.Next(n2)
	say(n2, 2, rpc.Synced, at[2])
	require.Equal(t, []quorum.NodeID{"n2"}, c.sources(at[2], n1))
	c.Unlinked(n2, rpc.ErrUnavailable)
	require.Empty(t, c.sources(at[2], n1), "n2 is not even connected: who asks it waits for a timeout each time")
}

// The writer's half of S8 by way of a Fill (journalnode: TestHole_S8FillAcksForADeposedWriter): a node that
// was asked to fill up to 1 says "Synced 3". Frame 3 was never sent to it; counting it commits 3.
func TestHole_S8CoreCountsAPositionBeyondTheFillThatItNeverSent(t *testing.T) {
	c := attackCore()
	c.opts.RingBytes = 1
	var prev segments.Position
	var at []segments.Position
	add := func() {
		var b segments.Builder
		b.Reset(prev.TxID+1, 1)
		require.NoError(t, b.Add([]byte("x")))
		f, err := b.Seal(prev.Digest, segments.SealOptions{})
		require.NoError(t, err)
		require.NoError(t, c.Add(f))
		prev = f.Position()
		at = append(at, prev)
	}
	say := func(id quorum.Key, inc byte, k rpc.ReplyKind, p segments.Position) {
		_, _ = c.Handle(id, rpc.WriteReply{Kind: k, Segment: 1, Epoch: 1, ConfigVersion: 1, Incarnation: quorum.Incarnation{inc}, At: p})
	}
	for i, id := range []quorum.Key{n1, n3} {
		c.Next(id)
		say(id, byte(1+2*i), rpc.Started, segments.Position{})
	}
	for range 2 {
		add()
		for i, id := range []quorum.Key{n1, n3} {
			c.Next(id)
			say(id, byte(1+2*i), rpc.Synced, prev)
		}
	}
	c.Next(n2)
	say(n2, 2, rpc.Started, segments.Position{})
	m, _ := c.Next(n2)
	require.NotNil(t, m.Fill)
	require.Equal(t, at[0], m.Fill.Target)
	add()
	c.Next(n1)
	say(n1, 1, rpc.Synced, at[2])
	say(n2, 2, rpc.Synced, at[2])
	require.Equal(t, at[1], c.Committed(), "frame 3 was never sent to n2, and is committed on its word")
}

// F6, L2: whether the nodes that refused leave a quorum was asked only when one refused. Where the quorum
// changes, by a newer config or by the next segment that counts under it, nobody asked again: the writer
// had no quorum for good, and waited without an error.
func TestHole_F6RefusalsOutliveTheConfigThatTheyWereCountedIn(t *testing.T) {
	t.Run("an empty segment goes over at once", func(t *testing.T) {
		r := newRig(t, Options{})
		r.start(a, b, c)
		r.Unlinked(c, fencedBy(9))
		require.NoError(t, r.Err(), "a and b go on")
		two := configOf(4, []quorum.Key{a, c})
		require.ErrorIs(t, r.Reconfigure(two), fencing.ErrFenced)
		require.ErrorIs(t, r.Err(), fencing.ErrFenced)
	})
	t.Run("the next segment counts by both sets", func(t *testing.T) {
		r := newRig(t, Options{})
		r.start(a, b, c)
		r.add(1)
		r.acks(a, b)
		require.NoError(t, r.Reconfigure(joint))
		for _, id := range []quorum.Key{a, b} {
			r.Linked(id)
		}
		r.Unlinked(d, fencedBy(9))
		r.Unlinked(e, fencedBy(9))
		require.NoError(t, r.Err(), "the open segment does not need them")
		r.finalize(a, b)
		r.OpenNext()
		require.ErrorIs(t, r.Err(), fencing.ErrFenced, "the next one does")
		require.False(t, r.Writing())
	})
}
