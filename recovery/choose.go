package recovery

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

// Choice is how a segment ends.
type Choice struct {
	End     segments.End
	Empty   bool            // no transaction survives; the segment is started anew (R6)
	Prev    segments.End    // the segment before it
	Epoch   fencing.Epoch   // writer epoch of the chosen content
	Sources []quorum.NodeID // nodes that hold the content, sorted
	// Quarantine names nodes whose finalized copy differs from the one that a majority holds (R2).
	Quarantine []quorum.NodeID
	// CutAt names nodes whose tail was cut as torn and that were part of the basis (N2a).
	CutAt []quorum.NodeID

	holders []quorum.Key // those of Sources, as they answered
}

// Query asks a node for the digest of its copy at a frame end.
type Query struct {
	Node quorum.Key
	TxID segments.TxID
}

// Choose applies R2, R3 and C5 to the answers for segment s, sorted or not; the result does not depend on
// their order. All answers must have been given under one epoch. It returns either a choice, or
// queries whose replies the comparison still needs (the caller adds them to the answers and calls
// again), or an error: *DivergenceError, *FloorError, *NoQuorumError where the answers hold no
// majority of data answers.
func Choose(cfg quorum.Config, s segments.TxID, answers []Answer) (Choice, []Query, error) {
	answers = slices.Clone(answers)
	slices.SortFunc(answers, func(a, b Answer) int { return a.Node.Compare(b.Node) })
	data := slices.DeleteFunc(slices.Clone(answers), func(a Answer) bool { return a.Copy.State == Unknown })
	if !cfg.Majority(among(data)) {
		return Choice{}, nil, &NoQuorumError{Step: "data answers", Causes: unknownCauses(answers)}
	}
	ch, need, err := choose(cfg, s, data)
	if err != nil || len(need) > 0 {
		return Choice{}, need, err
	}
	for _, a := range data {
		if a.Copy.CutAt != nil {
			ch.CutAt = append(ch.CutAt, a.Node.ID)
		}
	}
	need, err = checkFloors(ch, s, answers)
	if err != nil || len(need) > 0 {
		return Choice{}, need, err
	}
	need, err = checkPurged(ch, s, answers)
	if err != nil || len(need) > 0 {
		return Choice{}, need, err
	}
	return ch, nil, nil
}

func among(answers []Answer) func(quorum.Member) bool {
	return func(m quorum.Member) bool {
		return slices.ContainsFunc(answers, func(a Answer) bool { return a.Node == m.Key() })
	}
}

// choose is R2: any > none; finalized > in progress; higher ballot; longer.
func choose(cfg quorum.Config, s segments.TxID, data []Answer) (Choice, []Query, error) {
	if ch, ok, err := chooseFinalized(cfg, s, data); ok || err != nil {
		return ch, nil, err
	}
	copies := slices.DeleteFunc(slices.Clone(data), func(a Answer) bool { return !a.Copy.HasTxns() })
	if len(copies) == 0 {
		return emptyChoice(s, data)
	}
	if err := checkAccepted(s, data); err != nil {
		return Choice{}, nil, err
	}
	// Highest ballot first, then longest, then by name: copies[0] is the choice.
	slices.SortFunc(copies, func(a, b Answer) int {
		return cmp.Or(cmp.Compare(b.Copy.Ballot(), a.Copy.Ballot()),
			cmp.Compare(b.Copy.Last.TxID, a.Copy.Last.TxID), a.Node.Compare(b.Node))
	})
	need, err := checkPrefixes(s, copies)
	if err != nil || len(need) > 0 {
		return Choice{}, need, err
	}
	best := copies[0].Copy
	ch := Choice{
		End:   segments.End{First: s, Last: best.Last.TxID, Digest: best.Last.Digest},
		Prev:  best.Prev,
		Epoch: best.Epoch,
	}
	for _, a := range copies {
		if a.Copy.Ballot() == best.Ballot() && a.Copy.Last == best.Last {
			ch.Sources = append(ch.Sources, a.Node.ID)
			ch.holders = append(ch.holders, a.Node)
		}
	}
	slices.Sort(ch.Sources)
	return ch, nil, nil
}

// chooseFinalized: a finalized copy is the decision. One that a majority holds outvotes a minority
// copy that differs, which is quarantined; without such a majority two that differ stop recovery.
func chooseFinalized(cfg quorum.Config, s segments.TxID, data []Answer) (Choice, bool, error) {
	var fin []Answer
	for _, a := range data {
		if a.Copy.State == Finalized {
			fin = append(fin, a)
		}
	}
	if len(fin) == 0 {
		return Choice{}, false, nil
	}
	decided := -1
	for i, a := range fin {
		same := slices.DeleteFunc(slices.Clone(fin), func(b Answer) bool { return b.Copy.Last != a.Copy.Last })
		if len(same) == len(fin) || cfg.Majority(among(same)) {
			decided = i
			break
		}
	}
	if decided < 0 {
		e := &DivergenceError{Segment: s, What: "finalized copies differ"}
		for _, a := range fin {
			e.Nodes, e.Ends = append(e.Nodes, a.Node.ID), append(e.Ends, a.Copy.Last)
		}
		return Choice{}, false, e
	}
	c := fin[decided].Copy
	ch := Choice{End: segments.End{First: s, Last: c.Last.TxID, Digest: c.Last.Digest}, Prev: c.Prev, Epoch: c.Epoch}
	for _, a := range fin {
		if a.Copy.Last == c.Last {
			ch.Sources = append(ch.Sources, a.Node.ID)
			ch.holders = append(ch.holders, a.Node)
		} else {
			ch.Quarantine = append(ch.Quarantine, a.Node.ID)
		}
	}
	return ch, true, nil
}

// emptyChoice: nobody in a majority holds a transaction of s. The next writer starts s again, and has
// to name its predecessor. W8 finalized that on a majority before s was started anywhere, so one node at
// least among any majority knows it: from the header of an empty copy of s, or because it holds the
// predecessor finalized. Interleaving without this: s was started on A alone; A promises, and its answer
// to Prepare is lost; B and C hold nothing of s, and the journal would begin anew at "no segment".
func emptyChoice(s segments.TxID, data []Answer) (Choice, []Query, error) {
	ch := Choice{Empty: true, End: segments.End{First: s, Last: s - 1}}
	var from Answer
	for _, a := range data {
		switch {
		case a.Copy.Prev.Last != s-1 || a.Copy.Prev.IsZero():
		case ch.Prev.IsZero():
			ch.Prev, from = a.Copy.Prev, a
		case ch.Prev != a.Copy.Prev:
			e := divergence(s, "predecessors of an empty segment differ", from, a)
			e.Ends = []segments.Position{from.Copy.Prev.Position(), a.Copy.Prev.Position()}
			return Choice{}, nil, e
		}
	}
	if ch.Prev.Next() != s {
		return Choice{}, nil, fmt.Errorf("%w: nobody tells which segment comes before %d", ErrNotComparable, s)
	}
	ch.End.Digest = ch.Prev.Digest
	return ch, nil, nil
}

// checkAccepted finds the two breaches of R2a: one epoch that accepted two endings, and one epoch that
// both accepted an ending of s and wrote into s.
func checkAccepted(s segments.TxID, data []Answer) error {
	for i, a := range data {
		if a.Copy.Accepted.IsZero() {
			continue
		}
		for j, b := range data {
			if i == j {
				continue
			}
			if j > i && b.Copy.Accepted.Epoch == a.Copy.Accepted.Epoch && b.Copy.Accepted != a.Copy.Accepted {
				return divergence(s, "one epoch accepted two endings", a, b)
			}
			if b.Copy.State == InProgress && b.Copy.Epoch == a.Copy.Accepted.Epoch {
				return divergence(s, "one epoch accepted an ending of the segment and wrote into it", a, b)
			}
		}
	}
	return nil
}

// checkPrefixes: among copies of equal ballot the shorter must be a prefix of the longest, by digest.
// One writer wrote them, so frame boundaries agree (W6): a missing frame end is a divergence, too.
func checkPrefixes(s segments.TxID, copies []Answer) ([]Query, error) {
	var need []Query
	longest := copies[0]
	for _, c := range copies[1:] {
		if c.Copy.Ballot() != longest.Copy.Ballot() {
			longest = c
			continue
		}
		d, found, known := longest.digestAt(c.Copy.Last.TxID)
		switch {
		case !known:
			need = append(need, Query{longest.Node, c.Copy.Last.TxID})
		case !found || d != c.Copy.Last.Digest:
			return nil, divergence(s, "equal ballots, and one is no prefix of the other", longest, c)
		}
	}
	return need, nil
}

func divergence(s segments.TxID, what string, a, b Answer) *DivergenceError {
	return &DivergenceError{
		Segment: s, What: what,
		Nodes: []quorum.NodeID{a.Node.ID, b.Node.ID},
		Ends:  []segments.Position{a.Copy.Last, b.Copy.Last},
	}
}

// checkFloors is R3: the choice contains, by digest, every floor for s or a later segment that any
// answer reports, those of unknown nodes too.
func checkFloors(ch Choice, s segments.TxID, answers []Answer) ([]Query, error) {
	var need []Query
	for _, a := range answers {
		f := a.Floor
		if f.IsZero() || f.Segment < s {
			continue
		}
		broken := &FloorError{Node: a.Node.ID, Floor: f, Choice: ch.End}
		if f.Segment > s || f.At.TxID > ch.End.Last {
			return nil, broken
		}
		if f.At == ch.End.Position() {
			continue
		}
		d, found, known := lookup(answers, ch.holders, f.At.TxID)
		switch {
		case !known && len(ch.holders) > 0:
			need = append(need, Query{ch.holders[0], f.At.TxID})
		case !found || d != f.At.Digest:
			return nil, broken
		}
	}
	return need, nil
}

// checkPurged is C5's side of R3: a purge point is committed, and unlike a floor it is durable. The choice
// contains every one that any answer reports, by digest; the segment before the choice does where the purge
// point lies just there. Interleaving without this: A and B purged 1 to 100 and hold nothing behind it; C
// comes back with 1 to 50 in progress. "Any copy before none" would end the journal at 50, and without C it
// would begin at txid 1 again. A node that installed a snapshot may lack the segment that holds its purge
// point: it is no obstacle where the others hold that.
func checkPurged(ch Choice, s segments.TxID, answers []Answer) ([]Query, error) {
	var need []Query
	for _, a := range answers {
		p := a.Purged
		if p.TxID == 0 || p.TxID+1 < s {
			continue // below what is chosen, whatever that is
		}
		broken := &FloorError{Node: a.Node.ID, Floor: Floor{At: p}, Choice: ch.End}
		if p.TxID > ch.End.Last {
			return nil, broken
		}
		d, found, known := ch.End.Digest, true, p.TxID == ch.End.Last
		if p.TxID+1 == s {
			d, known = ch.Prev.Digest, true
		}
		if !known {
			d, found, known = lookup(answers, ch.holders, p.TxID)
		}
		switch {
		case !known && len(ch.holders) > 0:
			need = append(need, Query{ch.holders[0], p.TxID})
		case !found || d != p.Digest:
			return nil, broken
		}
	}
	return need, nil
}

// lookup asks the answers of the nodes that hold the choice.
func lookup(answers []Answer, holders []quorum.Key, t segments.TxID) (d segments.Digest, found, known bool) {
	for _, a := range answers {
		if !slices.Contains(holders, a.Node) {
			continue
		}
		if d, found, known = a.digestAt(t); known {
			return d, found, true
		}
	}
	return segments.Digest{}, false, false
}

func unknownCauses(answers []Answer) []NodeCause {
	var cs []NodeCause
	for _, a := range answers {
		if a.Copy.State == Unknown {
			cs = append(cs, NodeCause{a.Node.ID, ErrUnknownData})
		}
	}
	return cs
}
