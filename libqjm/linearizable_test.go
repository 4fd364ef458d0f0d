package libqjm

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// TestD4_TargetNeedsAMajorityOfDataAnswers: of A (damaged, it knows 5) and B (behind, it has nothing) no
// target can be told: taking B's word would show a reader an empty journal after 5 was acknowledged by A
// and C.
func TestD4_TargetNeedsAMajorityOfDataAnswers(t *testing.T) {
	var ms []quorum.Member
	for i, id := range []quorum.NodeID{"a", "b", "c"} {
		ms = append(ms, quorum.Member{ID: id, Incarnation: quorum.Incarnation{byte(i + 1)}})
	}
	cfg := quorum.NewConfig(1, ms...)
	says := func(i int, known bool, last segments.TxID) reply[rpc.JournalState] {
		st := rpc.JournalState{Node: ms[i].ID, Incarnation: ms[i].Incarnation, Member: true, DataKnown: known, Summary: rpc.JournalSummary{Config: cfg}}
		if last > 0 {
			st.Answer = recovery.Answer{Newest: 1, Copy: recovery.Copy{Segment: 1, State: recovery.InProgress, Epoch: 1, Last: segments.Position{TxID: last}}}
		}
		return reply[rpc.JournalState]{node: ms[i].ID, val: st}
	}
	_, err := chosenEnd(cfg, []reply[rpc.JournalState]{says(0, false, 0), says(1, true, 0)})
	require.ErrorIs(t, err, ErrNoQuorum)
	end, err := chosenEnd(cfg, []reply[rpc.JournalState]{says(0, false, 0), says(1, true, 0), says(2, true, 5)})
	require.NoError(t, err)
	require.EqualValues(t, 5, end)
}

// answerOf is what member i of three says: its copy of segment s in progress up to last, by the epochs that
// wrote and accepted it.
func answerOf(i int, s, last segments.TxID, wrote, accepted fencing.Epoch) rpc.JournalState {
	st := fakeState(byte(i))
	c := recovery.Copy{Segment: s, State: recovery.InProgress, Epoch: wrote, Last: segments.Position{TxID: last, Digest: segments.Digest{byte(last)}}}
	if s > 1 {
		c.Prev = segments.End{First: 1, Last: s - 1, Digest: segments.Digest{byte(s - 1)}}
	}
	if accepted > 0 {
		c.Accepted = recovery.Accepted{Epoch: accepted, End: segments.End{First: s, Last: last, Digest: c.Last.Digest}}
	}
	st.Answer = recovery.Answer{Newest: s, Copy: c}
	return st
}

func finalizedAt(st rpc.JournalState) rpc.JournalState {
	st.Answer.Copy.State = recovery.Finalized
	return st
}

func replies(states ...rpc.JournalState) (got []reply[rpc.JournalState]) {
	for _, st := range states {
		got = append(got, reply[rpc.JournalState]{node: quorum.NodeID("n" + strconv.Itoa(int(st.Incarnation[0]))), val: st})
	}
	return got
}

// TestD4_TargetIsTheEndThatRecoveryWouldChoose: neither the longest copy nor the largest floor. Guards the
// order in chosenEnd.
func TestD4_TargetIsTheEndThatRecoveryWouldChoose(t *testing.T) {
	nothing := fakeState(2)
	floored := answerOf(1, 1, 3, 1, 0)
	floored.Answer.Floor = recovery.Floor{Segment: 1, Epoch: 1, At: segments.Position{TxID: 2}}
	for name, tc := range map[string]struct {
		got  []reply[rpc.JournalState]
		want TxID
	}{
		"nothing written":                      {replies(fakeState(1), nothing), 0},
		"any before none":                      {replies(answerOf(1, 1, 3, 1, 0), nothing), 3},
		"longer at equal ballot":               {replies(answerOf(1, 1, 3, 1, 0), answerOf(2, 1, 5, 1, 0)), 5},
		"a longer leftover of a lower ballot":  {replies(answerOf(1, 1, 3, 2, 0), answerOf(2, 1, 9, 1, 0)), 3},
		"accepted, before longer":              {replies(answerOf(1, 1, 3, 1, 2), answerOf(2, 1, 9, 1, 0)), 3},
		"finalized, before ballot and length":  {replies(finalizedAt(answerOf(1, 1, 3, 1, 0)), answerOf(2, 1, 9, 7, 8)), 3},
		"the newest segment, however short":    {replies(answerOf(1, 4, 4, 2, 0), answerOf(2, 1, 9, 7, 0)), 4},
		"a newest segment without transaction": {replies(answerOf(1, 4, 3, 2, 0), answerOf(2, 1, 3, 1, 0)), 3},
		"the floor lags":                       {replies(floored, nothing), 3},
	} {
		got, err := chosenEnd(fakeConfig, tc.got)
		require.NoError(t, err, name)
		require.Equal(t, tc.want, got, name)
	}
}

// TestD6_AnswersThatDoNotCount: a quorum query counts an answer only if it is the member's own, from the
// storage that the config names, under that very config, with its data known. Of three nodes n3 is away; what
// n2 says decides nothing then, and the read says that there is no quorum.
func TestD6_AnswersThatDoNotCount(t *testing.T) {
	good := answerOf(2, 1, 5, 1, 0)
	for name, tc := range map[string]struct {
		change func(*rpc.JournalState)
		counts bool
	}{
		"good":                            {func(*rpc.JournalState) {}, true},
		"N1: another incarnation":         {func(s *rpc.JournalState) { s.Incarnation[0] = 9 }, false},
		"N1: no member by its own config": {func(s *rpc.JournalState) { s.Member = false }, false},
		"N2: data unknown":                {func(s *rpc.JournalState) { s.DataKnown = false }, false},
		"M0: an older config": {func(s *rpc.JournalState) {
			s.Summary.Config = quorum.NewConfig(1, fakeConfig.Members()...)
		}, false},
		"M0: another config of that version": {func(s *rpc.JournalState) {
			s.Summary.Config = quorum.NewConfig(2, fakeConfig.Members()[:2]...)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			second := quorum.NewConfig(2, fakeConfig.Members()...)
			one, two, lowest := answerOf(1, 1, 3, 1, 0), good, answerOf(3, 1, 1, 9, 0)
			one.Summary.Config, two.Summary.Config, lowest.Summary.Config = second, second, second
			one.Answer.Floor = recovery.Floor{Segment: 1, Epoch: 1, At: segments.Position{TxID: 5}}
			tc.change(&two)
			c := fakeClient(map[quorum.NodeID]*fakeNode{"n1": {state: one}, "n2": {state: two}, "n3": {err: rpc.ErrUnavailable}})
			end, err := c.linearizableEnd(t.Context(), "a")
			if tc.counts {
				require.NoError(t, err)
				require.EqualValues(t, 5, end)
				return
			}
			require.ErrorIs(t, err, ErrNoQuorum)

			// Nor does its answer move the target where the others are a majority without it.
			got := replies(one, answerOf(3, 1, 4, 1, 0))
			got[1].val.Summary.Config = second
			two.Answer.Copy.Epoch = 8
			end, err = chosenEnd(second, append(got, reply[rpc.JournalState]{node: "n2", val: two}))
			require.NoError(t, err)
			require.EqualValues(t, 4, end)
		})
	}
}

// TestD4_EqualCopiesAtUnequalBallots_S9: txid 2 lies on n1, written by epoch 1, and on n2, accepted in epoch
// 3: equal copies on a majority, and not committed, since n3 accepted the end 1 in epoch 2 and a recovery that
// hears it and n1 drops 2. A linearizable read waits for somebody to settle it; it shows 1 if that was
// settled, and 2 only if that was.
func TestD4_EqualCopiesAtUnequalBallots_S9(t *testing.T) {
	a, b, c := answerOf(1, 1, 2, 1, 0), answerOf(2, 1, 2, 1, 3), answerOf(3, 1, 1, 1, 2)
	for i, st := range []*rpc.JournalState{&a, &b, &c} {
		st.Answer.Node.ID = quorum.NodeID("n" + strconv.Itoa(i+1))
		st.Answer.Floor = recovery.Floor{Segment: 1, Epoch: 1, At: segments.Position{TxID: 1, Digest: segments.Digest{1}}}
	}
	for name, tc := range map[string]struct {
		got  []rpc.JournalState
		want TxID
		err  error
	}{
		"n1 and n2 hold it":             {[]rpc.JournalState{a, b}, 0, ErrUndecided},
		"n1 and n3: the end 1 is known": {[]rpc.JournalState{a, c}, 1, nil},
		"n2 finalized it":               {[]rpc.JournalState{a, finalizedAt(b)}, 2, nil},
	} {
		t.Run(name, func(t *testing.T) {
			nodes := map[quorum.NodeID]*fakeNode{"n1": {err: rpc.ErrUnavailable}, "n2": {err: rpc.ErrUnavailable}, "n3": {err: rpc.ErrUnavailable}}
			for _, st := range tc.got {
				nodes[st.Answer.Node.ID] = &fakeNode{state: st}
			}
			end, err := fakeClient(nodes).linearizableEnd(t.Context(), "a")
			require.ErrorIs(t, err, tc.err)
			require.Equal(t, tc.want, end)
		})
	}
	t.Run("all answer", func(t *testing.T) { // whichever majority does so first decides; never is 2 shown
		for range 20 {
			end, err := fakeClient(map[quorum.NodeID]*fakeNode{"n1": {state: a}, "n2": {state: b}, "n3": {state: c}}).linearizableEnd(t.Context(), "a")
			if err != nil {
				require.ErrorIs(t, err, ErrUndecided)
				continue
			}
			require.EqualValues(t, 1, end)
		}
	})
}
