package recovery

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/segments"
)

// local is a node that holds the answer's copy, and whose newest segment is seg, or lower where it is
// absent.
func local(a Answer) Local { return Local{Copy: a.Copy, Newest: a.Newest, Floor: a.Floor} }

func (l Local) holdingFloor(history string) Local {
	l.Floor, l.HoldsFloor = Floor{Segment: seg, Epoch: 1, At: at(history)}, true
	return l
}

func (l Local) newest(s segments.TxID) Local { l.Newest = s; return l }

// unreadable is a damaged copy whose header says the epoch; 0: unreadable, too.
func unreadable(epoch int) Local {
	l := local(unknown(1))
	l.Copy.Epoch = epochOf(epoch)
	return l
}

// Each row guards the case of DecideStart with that outcome: epoch 5 starts segment 101 behind prev.
func TestW0_DecideStart(t *testing.T) {
	otherPrev := prev
	otherPrev.Digest = segments.Digest{1}
	elsewhere := local(inProgress(1, 5, "aa"))
	elsewhere.Copy.Prev = otherPrev
	fresh := StartDecision{AsideReason: "stale"}
	aside := StartDecision{SetAside: true, AsideReason: "stale"}
	for _, tc := range []struct {
		name string
		l    Local
		prev segments.End
		want StartDecision
		rule string // of the breach
		err  error
	}{
		{name: "nothing here", l: local(absent(1)), want: fresh},
		{name: "S1: started by this epoch before: touch nothing", l: local(inProgress(1, 5, "aa")), want: StartDecision{Again: true}},
		{name: "S1: the same, empty", l: local(inProgress(1, 5, "")), want: StartDecision{Again: true}},
		{name: "S1: the same, holding the floor", l: local(inProgress(1, 5, "aa")).holdingFloor("a"), want: StartDecision{Again: true}},
		{name: "started by this epoch behind something else", l: elsewhere, rule: "W0"},
		{name: "started and accepted in one epoch", l: local(inProgress(1, 5, "aa").accepted(5, "aa")), rule: "R2a"},
		{name: "older copy", l: local(inProgress(1, 4, "aa")), want: aside},
		{name: "older copy with an older record", l: local(inProgress(1, 3, "aa").accepted(4, "aa")), want: StartDecision{RemoveAccepted: true, SetAside: true, AsideReason: "stale"}},
		{name: "S3c: a floor beside the copy never blocks", l: local(inProgress(1, 4, "aa").floored(3, "b")), want: aside},
		{name: "S3c: a floor above the copy never blocks", l: local(inProgress(1, 4, "a").floored(3, "aaa")), want: aside},
		{name: "copy with the floor's own digest", l: local(inProgress(1, 4, "aa")).holdingFloor("a"), rule: "W0"},
		{name: "copy of a higher epoch", l: local(inProgress(1, 6, "")), rule: "W0"},
		{name: "record of an equal epoch", l: local(inProgress(1, 4, "a").accepted(5, "a")), rule: "W0"},
		{name: "record of a higher epoch", l: local(inProgress(1, 4, "a").accepted(6, "a")), rule: "W0"},
		{name: "finalized here", l: local(finalized(1, 4, "a")), rule: "W0"},
		{name: "finalized here by this epoch: its answer was lost", l: local(finalized(1, 5, "a")), want: StartDecision{Again: true}},
		{name: "a later segment here", l: local(absent(1)).newest(seg + 1), rule: "W0"},
		{name: "previous segment ends elsewhere", l: local(absent(1)), prev: segments.End{First: 1, Last: 50}, rule: "W0"},
		{name: "damaged, epoch unknown", l: unreadable(0), err: ErrUnknownData},
		{name: "damaged, of this epoch: its acks may be in there", l: unreadable(5), err: ErrUnknownData},
		{name: "damaged, of a lower epoch", l: unreadable(4), want: StartDecision{SetAside: true, AsideReason: "damaged"}},
		{name: "damaged, of a higher epoch", l: unreadable(6), rule: "W0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := prev
			if !tc.prev.IsZero() {
				p = tc.prev
			}
			got, err := DecideStart(tc.l, 5, seg, p)
			check(t, tc.rule, tc.err, err)
			require.Equal(t, tc.want, got)
		})
	}
}

func check(t *testing.T, rule string, class, err error) {
	t.Helper()
	if rule != "" {
		var b *BreachError
		require.ErrorAs(t, err, &b)
		require.Equal(t, rule, b.Rule)
		return
	}
	if class != nil {
		require.ErrorIs(t, err, class)
		return
	}
	require.NoError(t, err)
}

// Each row guards the case of DecideAccept with that outcome: epoch 5 says that 101 ends with "aa".
func TestR4_R5_DecideAccept(t *testing.T) {
	const chosen = "aa"
	for _, tc := range []struct {
		name  string
		l     Local
		holds bool // a frame of the copy ends there with that digest
		want  AcceptMethod
		rule  string
		err   error
	}{
		{name: "nothing here", l: local(absent(1)), want: AcceptFetch},
		{name: "an equal copy stays", l: local(inProgress(1, 1, "aa")), holds: true, want: AcceptInPlace},
		{name: "an equal copy, accepted before in a lower epoch", l: local(inProgress(1, 1, "aa").accepted(4, "aa")), holds: true, want: AcceptInPlace},
		{name: "done before in this epoch", l: local(inProgress(1, 1, "aa").accepted(5, "aa")), holds: true, want: AcceptDone},
		{name: "a longer copy with that prefix", l: local(inProgress(1, 1, "aab")), holds: true, want: AcceptOwnPrefix},
		{name: "equal length is not equal content", l: local(inProgress(1, 1, "ab")), want: AcceptFetch},
		{name: "a longer copy without that prefix", l: local(inProgress(1, 1, "abb")), want: AcceptFetch},
		{name: "a shorter copy", l: local(inProgress(1, 1, "a")), want: AcceptFetch},
		{name: "a damaged copy", l: unreadable(1), want: AcceptFetch},
		{name: "R5: finalized with this end", l: local(finalized(1, 1, "aa")), want: AcceptDone},
		{name: "R5: finalized with another end", l: local(finalized(1, 1, "a")), err: ErrMismatch},
		{name: "R5: finalized, equal length", l: local(finalized(1, 1, "ab")), err: ErrMismatch},
		{name: "R5: would lose the floor that the copy holds", l: local(inProgress(1, 1, "aaa")).holdingFloor("aaa"), holds: true, rule: "R5"},
		{name: "R5: contains the floor", l: local(inProgress(1, 1, "aaa")).holdingFloor("aa"), holds: true, want: AcceptOwnPrefix},
		{name: "L1: a floor beside the copy never blocks", l: local(inProgress(1, 1, "b").floored(3, "aaa")), want: AcceptFetch},
		{name: "S4: two ends in one epoch", l: local(inProgress(1, 1, "a").accepted(5, "a")), rule: "R2a"},
		{name: "accepted in a higher epoch", l: local(inProgress(1, 1, "a").accepted(6, "a")), rule: "R4"},
		{name: "this epoch writes it", l: local(inProgress(1, 5, "aa")), holds: true, rule: "R2a"},
		{name: "a higher epoch writes it", l: local(inProgress(1, 6, "aa")), holds: true, rule: "R2a"},
		{name: "a later segment here", l: local(absent(1)).newest(seg + 2), rule: "R4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := DecideAccept(tc.l, 5, end(chosen), tc.holds)
			check(t, tc.rule, tc.err, err)
			require.Equal(t, tc.want, got)
		})
	}
}

// R6: an empty ending needs no message, so there is none that could wipe what was started since (S2).
func TestR6_EmptyEndingIsNoAccept_S2(t *testing.T) {
	for _, l := range []Local{local(absent(1)), local(inProgress(1, 1, "aa")), local(inProgress(1, 5, "aa"))} {
		_, err := DecideAccept(l, 5, end(""), true)
		check(t, "R6", nil, err)
	}
}

// Each row guards the case of DecideFinalize with that outcome.
func TestR7_DecideFinalize(t *testing.T) {
	for _, tc := range []struct {
		name string
		l    Local
		want FinalizeDecision
		err  error
	}{
		{name: "equal", l: local(inProgress(1, 1, "aa")), want: FinalizeNow},
		{name: "equal, accepted", l: local(inProgress(1, 1, "aa").accepted(3, "aa")), want: FinalizeNow},
		{name: "again", l: local(finalized(1, 1, "aa")), want: FinalizeDone},
		{name: "finalized elsewhere", l: local(finalized(1, 1, "a")), err: ErrMismatch},
		{name: "shorter", l: local(inProgress(1, 1, "a")), err: ErrMismatch},
		{name: "longer", l: local(inProgress(1, 1, "aaa")), err: ErrMismatch},
		{name: "equal length is not equal content", l: local(inProgress(1, 1, "ab")), err: ErrMismatch},
		{name: "absent (scenario 45)", l: local(absent(1)), err: ErrMismatch},
		{name: "damaged", l: unreadable(1), err: ErrUnknownData},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := DecideFinalize(tc.l, end("aa"))
			check(t, "", tc.err, err)
			require.Equal(t, tc.want, got)
		})
	}
}
