package recovery

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/segments"
)

// purgedAt is an answer for seg of a node whose purge point lies at the end of that history.
func purgedAt(i int, history string) Answer {
	a := Answer{Node: key(i), Copy: Copy{Segment: seg, State: Purged}, Purged: at(history)}
	if history == "" {
		a.Copy.State = Absent // nothing of seg itself is below it
	}
	return a
}

func holds(i int, s CopyState, history string) Answer {
	return told(Answer{
		Node: key(i), Newest: seg,
		Copy: Copy{Segment: seg, State: s, Epoch: 3, Prev: prev, Last: at(history)},
	}, history)
}

func with(a Answer, p segments.Position) Answer {
	a.Purged = p
	return a
}

// C5 with R2, R3: a purge point is committed. The choice holds every one that was told, or there is none: a
// journal never ends below what was purged, and never begins at txid 1 again (finding 7 of the review).
func TestC5_ChoiceHoldsEveryPurgePoint(t *testing.T) {
	empty := Answer{Node: key(3), Newest: seg, Copy: Copy{Segment: seg, State: InProgress, Epoch: 3, Prev: prev, Last: segments.Position{TxID: seg - 1, Digest: prevDigest}}}
	other := segments.Position{TxID: seg + 1, Digest: segments.Digest{9}}
	for name, test := range map[string]struct {
		answers []Answer
		want    string // the end of the choice; "stop": ErrBelowFloor
	}{
		"a leftover, where others purged beyond it":    {[]Answer{purgedAt(1, "abcd"), holds(2, InProgress, "ab")}, "stop"},
		"finalized, and purged beyond it":              {[]Answer{purgedAt(1, "abcd"), holds(2, Finalized, "ab"), holds(3, InProgress, "a")}, "stop"},
		"purged here, finalized there, a leftover":     {[]Answer{purgedAt(1, "abcd"), holds(2, Finalized, "abcd"), holds(3, InProgress, "ab")}, "abcd"},
		"purged within what is finalized":              {[]Answer{purgedAt(1, "ab"), holds(2, Finalized, "abcd"), holds(3, InProgress, "a")}, "abcd"},
		"a snapshot installed within an open one":      {[]Answer{purgedAt(1, "ab"), holds(2, InProgress, "abc")}, "abc"},
		"the same, and the copy is shorter":            {[]Answer{purgedAt(1, "abc"), holds(2, InProgress, "ab")}, "stop"},
		"the same, and the copy is another history":    {[]Answer{with(purgedAt(1, "ab"), other), holds(2, InProgress, "abcd")}, "stop"},
		"at the end of the choice, by digest":          {[]Answer{with(purgedAt(1, "ab"), other), holds(2, InProgress, "ab")}, "stop"},
		"empty, and nothing of it was purged":          {[]Answer{purgedAt(1, ""), empty}, ""},
		"empty, behind another history":                {[]Answer{with(purgedAt(1, ""), segments.Position{TxID: seg - 1, Digest: segments.Digest{8}}), empty}, "stop"},
		"empty, and purged beyond it":                  {[]Answer{purgedAt(1, "a"), empty}, "stop"},
		"below the segment it says nothing":            {[]Answer{with(holds(1, InProgress, "ab"), segments.Position{TxID: seg - 2, Digest: segments.Digest{8}}), holds(2, InProgress, "ab")}, "ab"},
		"told by one whose copy is unknown, it counts": {[]Answer{holds(1, InProgress, "ab"), holds(2, InProgress, "ab"), {Node: key(3), Copy: Copy{Segment: seg, State: Unknown}, Purged: at("abc")}}, "stop"},
	} {
		t.Run(name, func(t *testing.T) {
			ch, need, err := Choose(config(3), seg, test.answers)
			if test.want == "stop" {
				require.ErrorIs(t, err, ErrBelowFloor)
				require.ErrorContains(t, err, "purge point")
				return
			}
			require.NoError(t, err)
			require.Empty(t, need)
			require.Equal(t, end(test.want).Position(), ch.End.Position())
			require.Equal(t, test.want == "", ch.Empty)
		})
	}
}

// Nobody holds a segment: without the purge point the journal would begin at txid 1.
func TestC5_NeverBeginsAgain(t *testing.T) {
	all := segments.Position{TxID: 100, Digest: prevDigest}
	none := func(i int) Answer { return Answer{Node: key(i), Copy: Copy{Segment: 1, State: Absent}} }
	ch, _, err := Choose(config(3), 1, []Answer{none(1), none(2), none(3)})
	require.NoError(t, err)
	require.True(t, ch.Empty, "a journal without a segment begins")
	purged := none(1)
	purged.Copy.State, purged.Purged = Purged, all
	_, _, err = Choose(config(3), 1, []Answer{purged, none(2), none(3)})
	require.ErrorIs(t, err, ErrBelowFloor)
}

// A digest that nobody told is asked for, of a node that holds the choice.
func TestC5_DigestAtThePurgePointIsAskedFor(t *testing.T) {
	whole := holds(2, Finalized, "abcd")
	digests := whole.Digests
	whole.Digests = nil
	_, need, err := Choose(config(3), seg, []Answer{purgedAt(1, "ab"), whole})
	require.NoError(t, err)
	require.Equal(t, []Query{{whole.Node, seg + 1}}, need)
	whole.Digests = digests
	_, need, err = Choose(config(3), seg, []Answer{purgedAt(1, "ab"), whole})
	require.NoError(t, err)
	require.Empty(t, need)
}

// A node that promised, and whose answer to Prepare was lost, has told its purge point with the promise.
func TestC5_PurgePointOfAPromiseCounts(t *testing.T) {
	c := NewCoordinator(config(3), fencing.WriterID{1}, Options{})
	c.Step(Begin{})
	for i := range 3 {
		c.Step(Stated{Node: key(i + 1)})
	}
	c.Step(Promised{Node: key(1), DataKnown: true, Newest: seg, Purged: at("abcd")})
	c.Step(Promised{Node: key(2), DataKnown: true, Newest: seg})
	c.Step(Promised{Node: key(3), DataKnown: true, Newest: seg})
	c.Step(Failed{Node: key(1), Step: StepPrepare, Err: ErrUnknownData})
	c.Step(Prepared{Answer: holds(2, InProgress, "ab")})
	effects := c.Step(Prepared{Answer: holds(3, InProgress, "ab")})
	require.Len(t, effects, 1)
	require.ErrorIs(t, effects[0].(Fail).Err, ErrBelowFloor)
}

// The node's side: what would end below the purge point, or continue something else, is refused.
func TestC5_NodeKeepsItsPurgePoint(t *testing.T) {
	l := Local{Copy: Copy{Segment: seg, State: Purged}, Purged: at("abc")}
	_, err := DecideAccept(l, 9, end("ab"), false)
	require.ErrorIs(t, err, ErrBreach)
	_, err = DecideAccept(l, 9, segments.End{First: seg, Last: seg + 2, Digest: segments.Digest{1}}, false)
	require.ErrorIs(t, err, ErrBreach)
	m, err := DecideAccept(l, 9, end("abc"), false)
	require.NoError(t, err)
	require.Equal(t, AcceptFetch, m)

	d, err := DecideStart(l, 9, seg, prev)
	require.NoError(t, err, "the writer brings back what a snapshot stands for")
	require.Equal(t, StartDecision{AsideReason: "stale"}, d, "there is nothing to set aside")
	l.Purged = segments.Position{TxID: prev.Last, Digest: segments.Digest{4}}
	_, err = DecideStart(Local{Copy: Copy{Segment: seg}, Purged: l.Purged}, 9, seg, prev)
	require.ErrorIs(t, err, ErrBreach)

	l.Purged = at("abc")
	f, err := DecideFinalize(l, end("abc"))
	require.NoError(t, err)
	require.Equal(t, FinalizeDone, f)
	_, err = DecideFinalize(l, end("abcd"))
	require.ErrorIs(t, err, ErrMismatch)
}
