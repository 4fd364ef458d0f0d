package recovery

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

// The tests in the files holes_test.go show holes that a hostile review found; each failed before its hole was mended.

func attackConfig() quorum.Config {
	return quorum.NewConfig(1,
		quorum.Member{ID: "n1", Incarnation: quorum.Incarnation{1}},
		quorum.Member{ID: "n2", Incarnation: quorum.Incarnation{2}},
		quorum.Member{ID: "n3", Incarnation: quorum.Incarnation{3}})
}

func attackCoordinator(promised fencing.Epoch) *Coordinator {
	c := NewCoordinator(attackConfig(), fencing.WriterID{9}, Options{})
	c.Step(Begin{})
	c.Step(Stated{key(1), promised})
	c.Step(Stated{key(3), promised})
	return c
}

func effectOf[T Effect](effects []Effect) (out T, ok bool) {
	for _, e := range effects {
		if t, is := e.(T); is {
			return t, true
		}
	}
	return out, false
}

func pos(t segments.TxID, d byte) segments.Position {
	return segments.Position{TxID: t, Digest: segments.Digest{d}}
}

// N2a, S7: n1 and n2 acked txn 1; n1's last frame rots, its restart cuts it as torn (cut_at = 0). n2 is
// merely slower with its promise than n3. The coordinator must wait for n2 before it chooses.
func TestHole_N2aCutTailDoesNotWaitForSlowPromise(t *testing.T) {
	c := attackCoordinator(1)
	c.Step(Promised{Node: key(1), DataKnown: true, Newest: 1})
	c.Step(Promised{Node: key(3), DataKnown: true, Newest: 0})
	cut := pos(0, 0)
	c.Step(Prepared{Answer{Node: key(1), Newest: 1, Copy: Copy{Segment: 1, State: InProgress, Epoch: 1, CutAt: &cut}}})
	effects := c.Step(Prepared{Answer{Node: key(3), Copy: Copy{Segment: 1, State: Absent}}})
	if d, ok := effectOf[Done](effects); ok {
		t.Fatalf("chose empty=%v at once, without waiting for n2, which holds acked txn 1: LOST (%+v)", d.Result.Recovered.Empty, d.Result)
	}
	_, ok := effectOf[SetPatience](effects)
	require.True(t, ok)
}

// R1: n1's digest is needed; when it is asked, n1's read meets damage and it answers "unknown" without
// the digest. The attempt must fail (ErrNotComparable): nothing else is under way, so it hangs for ever.
func TestHole_R1LostDigestHangsTheAttempt(t *testing.T) {
	c := attackCoordinator(1)
	c.Step(Promised{Node: key(1), DataKnown: true, Newest: 1})
	c.Step(Promised{Node: key(3), DataKnown: true, Newest: 1})
	c.Step(Prepared{Answer{Node: key(1), Newest: 1, Copy: Copy{Segment: 1, State: InProgress, Epoch: 1, Last: pos(5, 5)}}})
	effects := c.Step(Prepared{Answer{Node: key(3), Newest: 1, Copy: Copy{Segment: 1, State: InProgress, Epoch: 1, Last: pos(3, 3)}}})
	ask, ok := effectOf[AskPrepare](effects)
	require.True(t, ok)
	require.Equal(t, quorum.NodeID("n1"), ask.Node.ID)
	effects = c.Step(Prepared{Answer{Node: key(1), Newest: 1, Copy: Copy{Segment: 1, State: Unknown, Epoch: 1}}})
	require.NotEmpty(t, effects, "no effect, no request under way, no patience: the attempt hangs until its caller gives up")
}

// R3: "every floor for S or for a later segment in any answer, those of unknown nodes too". n1 is
// unknown (its newest segment, 11, is damaged) and reports a floor in it; n2 and n3 know of segment 1
// only. The answer is thrown away because "newest moved", and its floor with it.
func TestHole_R3FloorOfUnknownNodeWithLaterSegmentIsIgnored(t *testing.T) {
	c := NewCoordinator(attackConfig(), fencing.WriterID{9}, Options{HearAll: true})
	c.Step(Begin{})
	c.Step(Stated{key(1), 1})
	c.Step(Stated{key(2), 1})
	c.Step(Promised{Node: key(1), DataKnown: false, Newest: 11})
	c.Step(Promised{Node: key(2), DataKnown: true, Newest: 1})
	c.Step(Promised{Node: key(3), DataKnown: true, Newest: 1})
	floor := Floor{Segment: 11, Epoch: 1, At: pos(15, 15)}
	var effects []Effect
	effects = append(effects, c.Step(Prepared{Answer{Node: key(1), Newest: 11, Copy: Copy{Segment: 1, State: Absent}, Floor: floor}})...)
	effects = append(effects, c.Step(Prepared{Answer{Node: key(2), Newest: 1, Copy: Copy{Segment: 1, State: InProgress, Epoch: 1, Last: pos(3, 3)}}})...)
	effects = append(effects, c.Step(Prepared{Answer{Node: key(3), Newest: 1, Copy: Copy{Segment: 1, State: InProgress, Epoch: 1, Last: pos(3, 3)}}})...)
	if a, ok := effectOf[AskAccept](effects); ok {
		t.Fatalf("chose %s though n1 answered with floor %s", a.Accept.End, floor)
	}
	f, ok := effectOf[Fail](effects)
	require.True(t, ok)
	require.ErrorIs(t, f.Err, ErrBelowFloor)
}

// F2: the epoch proposed must be above every promise heard. At the end of the range it wraps to 0, and
// the journal can never be written again; NewEpoch takes epoch 2^64-1 from anybody (fencing.Admit).
func TestHole_F2EpochWrapsToZero(t *testing.T) {
	c := NewCoordinator(attackConfig(), fencing.WriterID{9}, Options{})
	c.Step(Begin{})
	c.Step(Stated{key(1), math.MaxUint64})
	effects := c.Step(Stated{key(2), 1})
	if ask, ok := effectOf[AskPromise](effects); ok {
		t.Fatalf("proposes epoch %d where %d is promised", ask.Claim.Epoch, uint64(math.MaxUint64))
	}
}

// F2: an absurd epoch is accepted as a promise and bricks the node for good.
func TestHole_F2LastEpochIsPromised(t *testing.T) {
	_, err := fencing.State{}.Admit(fencing.Claim{Epoch: math.MaxUint64, Writer: fencing.WriterID{1}})
	require.Error(t, err, "nothing can ever be promised above it")
}

// R2, "never guess": two answers name predecessors of the empty segment 3 that differ in their digest.
// The choice takes the one of the node that sorts last, and the next segment is chained to it.
func TestHole_R2EmptyChoiceGuessesAmongPredecessors(t *testing.T) {
	a := Answer{Node: key(1), Newest: 3, Copy: Copy{Segment: 3, State: InProgress, Epoch: 1, Prev: segments.End{First: 1, Last: 2, Digest: segments.Digest{1}}}}
	b := Answer{Node: key(2), Newest: 3, Copy: Copy{Segment: 3, State: InProgress, Epoch: 2, Prev: segments.End{First: 1, Last: 2, Digest: segments.Digest{2}}}}
	ch, _, err := Choose(attackConfig(), 3, []Answer{a, b})
	require.Error(t, err, "chose %s", ch.Prev)
}
