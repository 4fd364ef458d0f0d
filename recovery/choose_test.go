package recovery

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

func epochOf(e int) fencing.Epoch { return fencing.Epoch(e) }

type choiceCase struct {
	name    string
	nodes   int
	answers []Answer
	want    string // the chosen history
	sources []int
	empty   bool
	err     error
	quar    []int
	cutAt   []int
}

func ids(is []int) []quorum.NodeID {
	var out []quorum.NodeID
	for _, i := range is {
		out = append(out, node(i))
	}
	return out
}

func runChoices(t *testing.T, cases []choiceCase) {
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			n := tc.nodes
			if n == 0 {
				n = 3
			}
			ch, need, err := Choose(config(n), seg, tc.answers)
			require.Empty(t, need)
			if tc.err != nil {
				require.ErrorIs(t, err, tc.err)
				require.Zero(t, ch)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tc.empty, ch.Empty)
			require.Equal(t, end(tc.want), ch.End)
			require.Equal(t, prev, ch.Prev)
			require.Equal(t, ids(tc.sources), ch.Sources)
			require.Equal(t, ids(tc.quar), ch.Quarantine)
			require.Equal(t, ids(tc.cutAt), ch.CutAt)
		})
	}
}

// Guards the order of comparisons in choose (Ballot before length) and HasTxns.
func TestR2_OrderOfCopies(t *testing.T) {
	runChoices(t, []choiceCase{
		{name: "any over none", answers: []Answer{absent(1), inProgress(2, 1, "a"), absent(3)}, want: "a", sources: []int{2}},
		{name: "a copy without txns is none", answers: []Answer{inProgress(1, 9, ""), inProgress(2, 1, "a")}, want: "a", sources: []int{2}},
		{name: "all empty", answers: []Answer{inProgress(1, 2, ""), absent(2)}, empty: true},
		{name: "finalized over in progress, however long and high", answers: []Answer{finalized(1, 1, "aa"), inProgress(2, 7, "abbb").accepted(8, "abbb")}, want: "aa", sources: []int{1}},
		{name: "higher ballot over longer: by writer epoch", answers: []Answer{inProgress(1, 1, "aaaa"), inProgress(2, 2, "ab")}, want: "ab", sources: []int{2}},
		{name: "higher ballot over longer: by accepted epoch", answers: []Answer{inProgress(1, 1, "aaaa"), inProgress(2, 1, "aa").accepted(2, "aa")}, want: "aa", sources: []int{2}},
		{name: "writer epoch above accepted epoch", answers: []Answer{inProgress(1, 1, "a").accepted(2, "a"), inProgress(2, 3, "bb")}, want: "bb", sources: []int{2}},
		{name: "accepted epoch above writer epoch", answers: []Answer{inProgress(1, 1, "a").accepted(4, "a"), inProgress(2, 3, "bb")}, want: "a", sources: []int{1}},
		{name: "longer at equal ballot", answers: []Answer{inProgress(1, 1, "aa"), inProgress(2, 1, "aaa"), inProgress(3, 1, "a")}, want: "aaa", sources: []int{2}},
		{name: "all holders are sources, sorted", answers: []Answer{inProgress(3, 1, "aa"), inProgress(1, 1, "aa"), inProgress(2, 1, "a")}, want: "aa", sources: []int{1, 3}},
		{name: "one that was cut takes part and is named", answers: []Answer{inProgress(1, 1, "a").cut("a"), absent(2)}, want: "a", sources: []int{1}, cutAt: []int{1}},
	})
}

// Scenario 82, with its additions. Guards chooseFinalized, checkAccepted and the ballot order.
func TestR2_Scenario82(t *testing.T) {
	runChoices(t, []choiceCase{
		{name: "in progress 1-3 equals itself", answers: []Answer{inProgress(1, 0, "aaa"), inProgress(2, 0, "aaa")}, want: "aaa", sources: []int{1, 2}},
		{name: "1-4 over 1-3", answers: []Answer{inProgress(1, 0, "aaa"), inProgress(2, 0, "aaaa")}, want: "aaaa", sources: []int{2}},
		{name: "finalized 1-3 over in progress 1-4", answers: []Answer{finalized(1, 0, "aaa"), inProgress(2, 0, "aaaa")}, want: "aaa", sources: []int{1}},
		{name: "finalized 1-3 over in progress 1-4 accepted in 1", answers: []Answer{finalized(1, 0, "aaa"), inProgress(2, 0, "aaaa").accepted(1, "aaaa")}, want: "aaa", sources: []int{1}},
		{name: "two finalized that differ", answers: []Answer{finalized(1, 0, "aaa"), finalized(2, 0, "aaaa")}, err: ErrDivergence},
		{name: "one side without segment", answers: []Answer{absent(1), inProgress(2, 0, "aaa")}, want: "aaa", sources: []int{2}},
	})
}

// Guards chooseFinalized's majority (L9) and its error.
func TestR2_FinalizedThatDiffer_L9(t *testing.T) {
	runChoices(t, []choiceCase{
		{name: "a majority outvotes a minority", answers: []Answer{finalized(1, 1, "aa"), finalized(2, 1, "ab"), finalized(3, 1, "aa")}, want: "aa", sources: []int{1, 3}, quar: []int{2}},
		{name: "no majority among five", nodes: 5, answers: []Answer{finalized(1, 1, "aa"), finalized(2, 1, "ab"), finalized(3, 1, "aa")}, err: ErrDivergence},
		{name: "a prefix is another end", answers: []Answer{finalized(1, 1, "aa"), finalized(2, 1, "a")}, err: ErrDivergence},
	})
}

// Guards checkPrefixes and both breaches of checkAccepted.
func TestR2_DivergenceStops(t *testing.T) {
	runChoices(t, []choiceCase{
		{name: "equal ballot, equal length", answers: []Answer{inProgress(1, 1, "aa"), inProgress(2, 1, "ab")}, err: ErrDivergence},
		{name: "equal ballot, no prefix", answers: []Answer{inProgress(1, 1, "aaa"), inProgress(2, 1, "ab")}, err: ErrDivergence},
		{name: "equal ballot below the best one", answers: []Answer{inProgress(1, 3, "a"), inProgress(2, 1, "aa"), inProgress(3, 1, "bb")}, err: ErrDivergence},
		{name: "unequal ballots may differ", answers: []Answer{inProgress(1, 2, "aaa"), inProgress(2, 1, "ab")}, want: "aaa", sources: []int{1}},
		{name: "one epoch accepted two ends", answers: []Answer{inProgress(1, 1, "aa").accepted(2, "aa"), inProgress(2, 1, "a").accepted(2, "a")}, err: ErrDivergence},
		{name: "one epoch accepted and wrote", answers: []Answer{inProgress(1, 1, "a").accepted(2, "a"), inProgress(2, 2, "ab")}, err: ErrDivergence},
		{name: "one epoch accepted and started", answers: []Answer{inProgress(1, 1, "a").accepted(2, "a"), inProgress(2, 2, "")}, err: ErrDivergence},
		{name: "equal accepts agree", answers: []Answer{inProgress(1, 1, "a").accepted(2, "a"), inProgress(2, 1, "a").accepted(2, "a")}, want: "a", sources: []int{1, 2}},
		{name: "a later accept of another end", answers: []Answer{inProgress(1, 1, "a").accepted(3, "a"), inProgress(2, 1, "aa").accepted(2, "aa")}, want: "a", sources: []int{1}},
	})
}

// Guards Choose's majority of data answers: an unknown copy is never an answer (S6, N2).
func TestR2_MajorityOfDataAnswers_S6(t *testing.T) {
	runChoices(t, []choiceCase{
		{name: "unknown does not count", answers: []Answer{unknown(1), absent(2)}, err: ErrNoQuorum},
		{name: "two of three, the third unknown", answers: []Answer{unknown(1), inProgress(2, 1, "a"), inProgress(3, 1, "a")}, want: "a", sources: []int{2, 3}},
		{name: "one answer", answers: []Answer{inProgress(2, 1, "a")}, err: ErrNoQuorum},
		{name: "three of five, one of them unknown", nodes: 5, answers: []Answer{unknown(1), inProgress(2, 1, "a"), inProgress(3, 1, "a")}, err: ErrNoQuorum},
	})
}

// A majority is one of every member set. Guards quorum.Config.Majority as Choose uses it.
func TestR2_JointConfigNeedsBothSets(t *testing.T) {
	joint := quorum.Config{Version: 2, Sets: [][]quorum.Member{members(1, 2, 3), members(3, 4, 5)}}
	_, _, err := Choose(joint, seg, []Answer{inProgress(1, 1, "a"), inProgress(2, 1, "a"), inProgress(3, 1, "a")})
	require.ErrorIs(t, err, ErrNoQuorum)
	ch, _, err := Choose(joint, seg, []Answer{absent(1), absent(3), inProgress(4, 1, "a")})
	require.NoError(t, err)
	require.Equal(t, end("a"), ch.End, "1 and 3 of the old set, 3 and 4 of the new")
}

// Guards checkFloors.
func TestR3_ChoiceContainsEveryFloor(t *testing.T) {
	later := inProgress(2, 1, "aa")
	later.Floor = Floor{Segment: seg + 10, Epoch: 3, At: segments.Position{TxID: seg + 12}}
	older := inProgress(2, 1, "aa")
	older.Floor = Floor{Segment: 1, Epoch: 3, At: segments.Position{TxID: 50}}
	runChoices(t, []choiceCase{
		{name: "at the end", answers: []Answer{inProgress(1, 1, "aa"), inProgress(2, 1, "aa").floored(1, "aa")}, want: "aa", sources: []int{1, 2}},
		{name: "inside", answers: []Answer{inProgress(1, 1, "aa"), inProgress(2, 1, "a").floored(1, "a")}, want: "aa", sources: []int{1}},
		{name: "beyond", answers: []Answer{inProgress(1, 1, "aa"), inProgress(2, 1, "aa").floored(1, "aaa")}, err: ErrBelowFloor},
		{name: "beside", answers: []Answer{inProgress(1, 2, "ab"), inProgress(2, 1, "aa").floored(1, "aa")}, err: ErrBelowFloor},
		{name: "beside, below the end", answers: []Answer{inProgress(1, 2, "abb"), inProgress(2, 1, "a").floored(1, "aa")}, err: ErrBelowFloor},
		{name: "of an absent copy", answers: []Answer{inProgress(1, 2, "a"), absent(2).floored(1, "aa")}, err: ErrBelowFloor},
		{name: "of an unknown node", answers: []Answer{inProgress(1, 2, "a"), absent(2), unknown(3).floored(1, "aa")}, err: ErrBelowFloor},
		{name: "of an empty choice", answers: []Answer{inProgress(1, 2, ""), absent(2).floored(1, "a")}, err: ErrBelowFloor},
		{name: "in a finalized one", answers: []Answer{finalized(1, 2, "a"), absent(2).floored(1, "aa")}, err: ErrBelowFloor},
		{name: "of a later segment", answers: []Answer{inProgress(1, 1, "aa"), later}, err: ErrBelowFloor},
		{name: "of an earlier segment", answers: []Answer{inProgress(1, 1, "aa"), older}, want: "aa", sources: []int{1, 2}},
	})
}

// A floor between the frame ends of the choice is not contained in it. Guards "!found" in checkFloors.
func TestR3_FloorInsideAFrame(t *testing.T) {
	a := inProgress(1, 1, "aaa").terse()
	a.Digests = []DigestReply{{At: segments.Position{TxID: seg + 1}}} // no frame ends there
	_, need, err := Choose(config(3), seg, []Answer{a, inProgress(2, 1, "").floored(1, "aa")})
	require.Empty(t, need)
	require.ErrorIs(t, err, ErrBelowFloor)
}

// R1: a comparison that cannot be made counts as not made. Guards the "!known" cases.
func TestR1_MissingComparisonIsNoChoice(t *testing.T) {
	short, long := inProgress(1, 1, "aa").terse(), inProgress(2, 1, "aaa").terse()
	ch, need, err := Choose(config(3), seg, []Answer{short, long})
	require.NoError(t, err)
	require.Zero(t, ch)
	require.Equal(t, []Query{{Node: key(2), TxID: seg + 1}}, need)

	ch, need, err = Choose(config(3), seg, []Answer{inProgress(1, 2, "aaa").terse(), inProgress(2, 1, "a").terse().floored(1, "a")})
	require.NoError(t, err)
	require.Zero(t, ch)
	require.Equal(t, []Query{{Node: key(1), TxID: seg}}, need)
}

// The predecessor of an empty segment is known from a header of it only. Where the node that named the
// segment is lost, "empty, behind nothing" must not be the choice: the writer would start the journal
// at txid 1 again. Guards the check of ch.Prev in choose.
func TestR2_EmptyChoiceNeedsItsPredecessor(t *testing.T) {
	ch, need, err := Choose(config(3), seg, []Answer{absent(1), absent(2)})
	require.ErrorIs(t, err, ErrNotComparable)
	require.Empty(t, need)
	require.Zero(t, ch)

	ch, _, err = Choose(config(3), 1, []Answer{{Node: key(1)}, {Node: key(2)}})
	require.NoError(t, err, "an empty journal has no predecessor")
	require.True(t, ch.Empty)
	require.Zero(t, ch.Prev)
}

// Scenario 9: ends 3, 4, 5; recovery without one of them.
func TestR2_Scenario9_Ends345(t *testing.T) {
	n1, n2, n3 := inProgress(1, 1, "aaa"), inProgress(2, 1, "aaaa"), inProgress(3, 1, "aaaaa")
	runChoices(t, []choiceCase{
		{name: "without the first", answers: []Answer{n2, n3}, want: "aaaaa", sources: []int{3}},
		{name: "without the second", answers: []Answer{n1, n3}, want: "aaaaa", sources: []int{3}},
		{name: "without the third", answers: []Answer{n1, n2}, want: "aaaa", sources: []int{2}},
	})
}

// Scenario 11: an accepted end of 4 beats a copy that goes to 5, after a recovery that was cut off.
func TestR2_Scenario11_IncompleteRecovery(t *testing.T) {
	runChoices(t, []choiceCase{{
		name:    "accepted 4 over 5",
		answers: []Answer{inProgress(2, 1, "aaaa").accepted(2, "aaaa"), inProgress(3, 1, "aaaaa")},
		want:    "aaaa", sources: []int{2},
	}})
}

// Scenario 13: an accepted end loses to content of a newer writer.
func TestR2_Scenario13_NewerVersionWins(t *testing.T) {
	runChoices(t, []choiceCase{{
		name:    "written in 3 over accepted in 2",
		answers: []Answer{inProgress(1, 1, "a").accepted(2, "a"), inProgress(2, 3, "bbbbb"), inProgress(3, 3, "bbbbb")},
		want:    "bbbbb", sources: []int{2, 3},
	}})
}

// naive is R2 and R3 once more, over whole histories instead of digests, with no thought of speed. It
// says what must come out: an error's class, or the choice.
type naiveNode struct {
	i        int
	state    CopyState
	epoch    int
	accepted int // epoch of the accepted record; its end is the whole history
	history  string
	floor    string // what it knows as committed; "": nothing
	later    bool   // the floor lies in a later segment
	cut      bool
}

func (n naiveNode) ballot() int { return max(n.epoch, n.accepted) }

func (n naiveNode) holds() bool {
	return (n.state == InProgress || n.state == Finalized) && n.history != ""
}

func (n naiveNode) answer() Answer {
	var a Answer
	switch n.state {
	case Absent:
		a = absent(n.i)
	case Unknown:
		a = unknown(n.i)
	case InProgress:
		a = inProgress(n.i, n.epoch, n.history)
	case Finalized:
		a = finalized(n.i, n.epoch, n.history)
	}
	if n.accepted > 0 {
		a = a.accepted(n.accepted, n.history)
	}
	if n.floor != "" {
		a = a.floored(1, n.floor)
		if n.later {
			a.Floor.Segment = seg + 20
		}
	}
	if n.cut {
		a = a.cut(n.history)
	}
	return a
}

func isPrefix(a, b string) bool { return len(a) <= len(b) && b[:len(a)] == a }

func naive(total int, nodes []naiveNode) (history string, epoch int, empty bool, err error) {
	var data []naiveNode
	for _, n := range nodes {
		if n.state != Unknown {
			data = append(data, n)
		}
	}
	if 2*len(data) <= total {
		return "", 0, false, ErrNoQuorum
	}
	history, epoch, empty, err = naiveR2(total, data)
	if err != nil {
		return "", 0, false, err
	}
	for _, n := range nodes {
		if n.floor != "" && (n.later || !isPrefix(n.floor, history)) {
			return "", 0, false, ErrBelowFloor
		}
	}
	return history, epoch, empty, nil
}

func naiveR2(total int, data []naiveNode) (string, int, bool, error) {
	votes := map[string]int{}
	epochs := map[string]int{}
	for _, n := range data {
		if n.state == Finalized {
			votes[n.history]++
			epochs[n.history] = n.epoch
		}
	}
	for h, v := range votes {
		if len(votes) == 1 || 2*v > total {
			return h, epochs[h], false, nil
		}
	}
	if len(votes) > 0 {
		return "", 0, false, ErrDivergence
	}
	var best *naiveNode
	headers := 0
	for _, n := range data {
		if n.state == InProgress {
			headers++
		}
		if n.holds() && (best == nil || n.ballot() > best.ballot() || n.ballot() == best.ballot() && len(n.history) > len(best.history)) {
			best = &n
		}
	}
	switch {
	case best == nil && headers == 0:
		return "", 0, false, ErrNotComparable
	case best == nil:
		return "", 0, true, nil
	}
	for _, a := range data {
		for _, b := range data {
			if a.i == b.i {
				continue
			}
			if a.accepted > 0 && (a.accepted == b.accepted && a.history != b.history || b.state == InProgress && b.epoch == a.accepted) {
				return "", 0, false, ErrDivergence
			}
			if a.holds() && b.holds() && a.ballot() == b.ballot() && !isPrefix(a.history, b.history) && !isPrefix(b.history, a.history) {
				return "", 0, false, ErrDivergence
			}
		}
	}
	return best.history, best.epoch, false, nil
}

func randomNodes(rng *rand.Rand, total int) []naiveNode {
	history := func(most int) string {
		b := make([]byte, rng.IntN(most+1))
		for i := range b {
			b[i] = "aaab"[rng.IntN(4)]
		}
		return string(b)
	}
	var nodes []naiveNode
	for i := 1; i <= total; i++ {
		if rng.IntN(6) == 0 {
			continue // did not answer
		}
		n := naiveNode{i: i, cut: rng.IntN(8) == 0}
		switch r := rng.IntN(10); {
		case r == 0:
			n.state, n.cut = Unknown, false
		case r == 1:
			n.state, n.cut = Absent, false
		case r == 2:
			n.state, n.history, n.epoch, n.cut = Finalized, "a"+history(2), 1+rng.IntN(3), false
		default:
			n.state, n.history, n.epoch = InProgress, history(3), 1+rng.IntN(3)
			if n.history != "" && rng.IntN(4) == 0 {
				n.accepted = 2 + rng.IntN(3)
			}
		}
		if rng.IntN(5) == 0 {
			n.floor, n.later = "a"+history(1), rng.IntN(10) == 0
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// chooseAsking runs Choose on terse answers and tells each digest only when it is asked for.
func chooseAsking(t *testing.T, cfg quorum.Config, full []Answer) (Choice, error) {
	terse := make([]Answer, len(full))
	for i, a := range full {
		terse[i] = a.terse()
	}
	for range 20 {
		ch, need, err := Choose(cfg, seg, terse)
		if len(need) == 0 {
			return ch, err
		}
		if err != nil || !ch.End.IsZero() {
			t.Fatalf("a choice although comparisons are missing: %+v, %v", ch, err)
		}
		for _, q := range need {
			for i, a := range full {
				if a.Node != q.Node {
					continue
				}
				d, found, _ := a.digestAt(q.TxID)
				terse[i].Digests = append(terse[i].Digests, DigestReply{At: segments.Position{TxID: q.TxID, Digest: d}, Found: found})
			}
		}
	}
	t.Fatal("Choose never stops asking")
	return Choice{}, nil
}

// Choose against naive, over random answers, in any order of them, with digests told or asked for.
func TestR2_ChooseAgainstNaive(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	classes := []error{ErrNoQuorum, ErrDivergence, ErrBelowFloor, ErrNotComparable}
	seen := map[error]int{}
	cfgs := map[int]quorum.Config{3: config(3), 5: config(5)}
	for range 100_000 {
		total := 3 + 2*rng.IntN(2)
		nodes := randomNodes(rng, total)
		answers := make([]Answer, len(nodes))
		for i, n := range nodes {
			answers[i] = n.answer()
		}
		history, epoch, empty, want := naive(total, nodes)
		got, need, err := Choose(cfgs[total], seg, answers)
		if len(need) > 0 {
			t.Fatalf("%+v: asks for %v, and was told all", nodes, need)
		}
		for _, class := range classes {
			if (want == class) != is(err, class) {
				t.Fatalf("%+v: got %v, want %v", nodes, err, want)
			}
		}
		seen[want]++
		if want == nil {
			if got.End != end(history) || got.Empty != empty || got.Epoch != epochOf(epoch) && !finalizedMix(nodes, history) {
				t.Fatalf("%+v: got %+v, want %q in epoch %d", nodes, got, history, epoch)
			}
		}
		rng.Shuffle(len(answers), func(i, j int) { answers[i], answers[j] = answers[j], answers[i] })
		shuffled, _, serr := Choose(cfgs[total], seg, answers)
		if !reflect.DeepEqual(got, shuffled) || (err == nil) != (serr == nil) {
			t.Fatalf("the order of answers matters: %+v\n%s", nodes, cmp.Diff(got, shuffled))
		}
		asked, aerr := chooseAsking(t, cfgs[total], answers)
		if !reflect.DeepEqual(got, asked) || (err == nil) != (aerr == nil) {
			t.Fatalf("asking matters: %+v: %v or %v\n%s", nodes, err, aerr, cmp.Diff(got, asked))
		}
	}
	for _, class := range append(classes, nil) {
		require.Greater(t, seen[class], 200, "too few random sets end with: %v", class)
	}
}

// finalizedMix: equal finalized content under several header epochs cannot happen; the random sets have it.
func finalizedMix(nodes []naiveNode, history string) bool {
	n := 0
	for _, x := range nodes {
		if (x.state == Finalized || x.state == InProgress) && x.history == history {
			n++
		}
	}
	return n > 1
}

func is(err, class error) bool { return errors.Is(err, class) }

// R6, R9: only a segment that ends just before the empty one is its predecessor, whoever tells of another.
// Guards emptyChoice.
func TestR9_PredecessorEndsJustBefore(t *testing.T) {
	odd := absent(1)
	odd.Copy.Prev = segments.End{First: 1, Last: 50, Digest: segments.Digest{5}}
	ch, need, err := Choose(config(3), seg, []Answer{odd, inProgress(2, 1, "")})
	require.NoError(t, err)
	require.Empty(t, need)
	require.Equal(t, prev, ch.Prev)
}

// N2: where data answers are missing, the nodes whose data is unknown are named, and no others. Guards
// unknownCauses.
func TestN2_UnknownNodesAreNamed(t *testing.T) {
	_, _, err := Choose(config(3), seg, []Answer{unknown(1), inProgress(2, 1, "a"), unknown(3)})
	var nq *NoQuorumError
	require.ErrorAs(t, err, &nq)
	require.Equal(t, []NodeCause{{node(1), ErrUnknownData}, {node(3), ErrUnknownData}}, nq.Causes)
}
