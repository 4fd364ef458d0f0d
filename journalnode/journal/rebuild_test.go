package journal

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// damagedC: 1..2 are committed by A and B; C held 1 of the same epoch, and it rotted.
func damagedC(t *testing.T) (*cluster, *writer, segments.Position) {
	c, w, two := openSegment(t)
	require.NoError(t, c.nodes[nodeC].Quiet()) // a mark: below it, it is damage (N2a)
	c.rot(nodeC, 1, "one")
	require.Equal(t, recovery.Unknown, c.copyAt(nodeC, 1).State)
	return c, w, two
}

// The node is in step again inside the segment, and what it acknowledges from then on counts.
func TestW0_DamagedCopyOfTheSameEpochIsRebuilt(t *testing.T) {
	c, w, two := damagedC(t)
	_, err := w.start(nodeC)
	require.ErrorIs(t, err, recovery.ErrUnknownData, "it must not come back as nothing")

	at, err := w.rebuild(nodeC, two, nodeB)
	require.NoError(t, err)
	require.Equal(t, two, at)
	_, err = w.put(nodeC, w.sent[2])
	require.NoError(t, err)
	at, err = w.start(nodeC)
	require.NoError(t, err)
	require.EqualValues(t, 3, at.TxID)
	c.restart(nodeC, 0)
	require.Equal(t, at, c.copyAt(nodeC, 1).Last)
	c.probe(two, at)
	require.Contains(t, asides(t, c.nodes[nodeC]), "00000000000000000001.inprogress.damaged-1", "nothing is deleted")
}

// "Put in place only when it holds all that is committed": short of the target, or beside it, it is not.
func TestW0_RebuiltCopyReachesTheTargetOrIsNotPutInPlace(t *testing.T) {
	c, w, two := damagedC(t)
	other := two
	other.Digest[0]++
	for name, target := range map[string]segments.Position{"beside": other, "beyond the source": {TxID: 3, Digest: w.sent[2].Digest()}} {
		_, err := w.rebuild(nodeC, target, nodeB)
		require.Error(t, err, name)
		require.Equal(t, recovery.Unknown, c.copyAt(nodeC, 1).State, name)
	}
	_, err := w.rebuild(nodeC, segments.Position{}, nodeB)
	require.NoError(t, err, "where nothing is committed, an empty copy holds all of it")
}

// A promise of another epoch, and an ending that another recovery accepted or finalized, may come while
// frames are being fetched. Guards the second judgement.
func TestW0_RebuildIsJudgedAgain(t *testing.T) {
	rebuilding := func(t *testing.T) (*cluster, *writer, func() error) {
		c, w, two := damagedC(t)
		s, prev := w.stream(nodeC), w.prev
		s.m.Attach(s.Stream)
		f := rpc.Fill{Segment: 1, Target: two, Rebuild: &prev}
		inc, err := s.m.BeginRebuild(s.Stream, f)
		require.NoError(t, err)
		for _, frame := range w.sent[:2] {
			require.NoError(t, inc.Append(frame))
		}
		return c, w, func() error { return s.m.FinishRebuild(s.Stream, f, inc) }
	}
	t.Run("promise", func(t *testing.T) {
		c, _, finish := rebuilding(t)
		_, err := c.nodes[nodeC].NewEpoch(c.header(nodeC, fencing.Claim{Epoch: 9, Writer: fencing.WriterID{9}}))
		require.NoError(t, err)
		require.ErrorIs(t, finish(), fencing.ErrFenced)
		require.Equal(t, recovery.Unknown, c.copyAt(nodeC, 1).State)
	})
	t.Run("finalized meanwhile", func(t *testing.T) {
		c, w, finish := rebuilding(t)
		m := c.nodes[nodeC]
		inc, err := m.NewIncoming(segments.End{}, 1)
		require.NoError(t, err)
		for _, frame := range w.sent {
			require.NoError(t, inc.Append(frame))
		}
		require.NoError(t, m.InstallFinalized(inc, w.end()))
		_ = finish() // started again, or refused: it is the copy that matters
		require.Equal(t, recovery.Finalized, c.copyAt(nodeC, 1).State)
		require.Equal(t, w.end().Position(), c.copyAt(nodeC, 1).Last)
	})
	t.Run("another rebuild was faster, and frames came since", func(t *testing.T) {
		c, w, finish := rebuilding(t)
		_, err := w.rebuild(nodeC, w.sent[1].Position(), nodeA)
		require.NoError(t, err)
		_, err = w.put(nodeC, w.sent[2])
		require.NoError(t, err)
		require.NoError(t, finish())
		require.EqualValues(t, 3, c.copyAt(nodeC, 1).Last.TxID, "S1: it dropped what was acknowledged")
	})
}

func TestW0_RebuildOfNonsenseIsRefused(t *testing.T) {
	c, w, two := damagedC(t)
	s := w.stream(nodeC)
	s.m.Attach(s.Stream)
	for _, f := range []rpc.Fill{
		{Segment: 2, Target: two, Rebuild: &segments.End{}},
		{Segment: 3, Target: segments.Position{TxID: 1}, Rebuild: &segments.End{First: 1, Last: 2}},
	} {
		_, err := s.m.BeginRebuild(s.Stream, f)
		require.ErrorIs(t, err, rpc.ErrBadRequest)
	}
	_, err := w.rebuild(nodeA, two, nodeB)
	require.NoError(t, err, "a copy that is whole is left alone")
	require.EqualValues(t, 3, c.copyAt(nodeA, 1).Last.TxID)
}

func asides(t *testing.T, m *machine) []string {
	names, err := m.disk.List(dir + "/" + segmentsDir)
	require.NoError(t, err)
	var out []string
	for _, s := range names {
		if n, ok := segments.ParseName(s); ok && n.Kind == segments.NameAside {
			out = append(out, s)
		}
	}
	return out
}

// refused has a rebuild of the open segment to target refused, and left as it was.
func refused(t *testing.T, s *stream, f rpc.Fill, inc *store.Incoming) {
	before := s.m.copyOf(f.Segment)
	err := s.m.FinishRebuild(s.Stream, f, inc)
	require.Error(t, err)
	require.Equal(t, before, s.m.copyOf(f.Segment))
}

// W0: a rebuild voids what the writer counted before it asked, not what was acknowledged since. 1. A stream
// asks for a rebuild up to 2, which drags on; 2. the next stream has it done, 3 is acknowledged here and
// committed; 3. the new copy rots, too; 4. the first rebuild is through. Put in place it is a data answer
// that ends at 2: A gone, a recovery over B and C drops 3.
func TestHole_W0StaleRebuildHealsADamageThatCameAfterIt(t *testing.T) {
	begin := func(t *testing.T) (*cluster, *writer, *stream, rpc.Fill) {
		c, w, two := damagedC(t)
		s, prev := w.stream(nodeC), w.prev
		s.m.Attach(s.Stream)
		return c, w, s, rpc.Fill{Segment: 1, Target: two, Rebuild: &prev}
	}
	again := func(c *cluster, w *writer, two segments.Position) segments.Position {
		_, err := w.rebuild(nodeC, two, nodeB)
		require.NoError(t, err)
		three, err := w.put(nodeC, w.sent[2]) // A has it, too: it is committed
		require.NoError(t, err)
		m := c.nodes[nodeC]
		m.store.MarkDamaged(1, segments.ErrCorrupt)
		require.Equal(t, recovery.Unknown, c.copyAt(nodeC, 1).State)
		return three
	}
	t.Run("begun before", func(t *testing.T) {
		c, w, s, f := begin(t)
		inc, err := s.m.BeginRebuild(s.Stream, f)
		require.NoError(t, err)
		for _, frame := range w.sent[:2] {
			require.NoError(t, inc.Append(frame))
		}
		three := again(c, w, f.Target)
		refused(t, s, f, inc)
		c.damaged = nodeC
		c.probe(three)
	})
	t.Run("begun after", func(t *testing.T) {
		c, w, s, f := begin(t)
		again(c, w, f.Target)
		_, err := s.m.BeginRebuild(s.Stream, f)
		require.ErrorIs(t, err, recovery.ErrUnknownData, "the writer hears of the new damage, and voids what it counted")
	})
}

// W0: "put in place only when it holds all that is committed" holds for what this node was told, too.
func TestHole_W0RebuildBelowTheKnownFloor(t *testing.T) {
	c, w, two := damagedC(t)
	w.commit(two)
	w.tell(nodeC)
	_, err := w.rebuild(nodeC, w.sent[0].Position(), nodeB)
	require.Error(t, err)
	require.Equal(t, recovery.Unknown, c.copyAt(nodeC, 1).State)
	_, err = w.rebuild(nodeC, two, nodeB)
	require.NoError(t, err)
}

// R5, A2: a damaged copy that was finalized is replaced by a finalized one alone. The rebuild copied all of
// it, could not be put in place, and left its temporary, on every try of the writer.
func TestHole_R5RebuildOfADamagedFinalizedCopy(t *testing.T) {
	c, w, _ := openSegment(t)
	_, err := w.put(nodeC, w.sent[1:]...)
	require.NoError(t, err)
	require.NoError(t, w.finalize(nodeC))
	c.nodes[nodeC].store.MarkDamaged(1, segments.ErrCorrupt)
	for range 3 {
		_, err := w.rebuild(nodeC, w.end().Position(), nodeA)
		require.ErrorIs(t, err, recovery.ErrUnknownData)
	}
	names, err := c.nodes[nodeC].disk.List(dir + "/" + segmentsDir)
	require.NoError(t, err)
	require.Equal(t, []string{"00000000000000000001-00000000000000000003.seg"}, names)
	require.NotContains(t, c.nodes[nodeC].broken, segments.TxID(1))
}

// A copy from a peer must not take the room that is left on a full disk, here neither.
func TestHole_RebuildTakesTheReserve(t *testing.T) {
	c, w, two := damagedC(t)
	m := c.nodes[nodeC]
	c.fill(m, 1<<20, 0).low = true
	_, err := w.rebuild(nodeC, two, nodeB)
	require.ErrorIs(t, err, vfs.ErrNoSpace)
	require.NotErrorIs(t, err, rpc.ErrPoisoned)
}

// M0, and the procedures: what a node held unfinished from before it was dropped is no data answer when it
// becomes a member again; it is put aside. A member that stays one keeps it. Guards setOpenAside.
func TestM0_UnfinishedIsPutAsideWhereANodeBecomesAMember(t *testing.T) {
	c, _, _ := openSegment(t)
	m, all := c.nodes[nodeC], c.cfg.Sets[0]
	require.NoError(t, m.InstallConfig(quorum.Config{Version: 2, Sets: [][]quorum.Member{all}}))
	require.EqualValues(t, 1, c.copyAt(nodeC, 1).Last.TxID)
	require.NoError(t, m.InstallConfig(quorum.Config{Version: 3, Sets: [][]quorum.Member{all[:2]}}))
	require.EqualValues(t, 1, c.copyAt(nodeC, 1).Last.TxID)
	require.NoError(t, m.InstallConfig(quorum.Config{Version: 4, Sets: [][]quorum.Member{all}}))
	require.Equal(t, recovery.Absent, c.copyAt(nodeC, 1).State)
	require.Contains(t, asides(t, m), "00000000000000000001.inprogress.leftover-1")
}
