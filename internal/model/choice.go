package model

// choice is the outcome of R2: segment seg ends at end with data; end = seg-1 when it is empty.
type choice struct {
	seg, end txid
	epoch    epoch // writer epoch of the chosen copy, kept by the copies made from it
	data     contents
}

// dataAnswers returns the nodes of quorum whose answers say something about segments, and whether
// they are enough for a choice.
func (c *Config) dataAnswers(answers *[nodeCount]*node, quorum nodeSet) (nodeSet, bool) {
	var data, cut nodeSet
	for i := range nodeCount {
		if !quorum.has(i) || answers[i].unknown {
			continue
		}
		data = data.with(i)
		if answers[i].cut.at != 0 {
			cut = cut.with(i)
		}
	}
	if c.Rules.N2aCutAtWaits && data != allNodes {
		data &^= cut // the coordinator waits for the rest before it counts these
	}
	if c.Rules.F2DataAnswers {
		return data, data.isMajority()
	}
	return data, data != 0
}

// choose applies R2 and R3 to the data answers.
func (c *Config) choose(answers *[nodeCount]*node, data nodeSet) (choice, *Violation) {
	var seg txid = 1
	for i := range nodeCount {
		if data.has(i) {
			seg = max(seg, answers[i].newest())
		}
	}
	ch, found, v := chooseFinalized(answers, data, seg)
	if v == nil && !found {
		ch, v = c.chooseInProgress(answers, data, seg)
	}
	if v != nil || !c.Rules.R3Floors {
		return ch, v
	}
	for i := range nodeCount {
		if data.has(i) && answers[i].floor.last > ch.end {
			return ch, violation(Stuck, "R3: choice %d..%d is below the floor %d that %c knows of",
				seg, ch.end, answers[i].floor.last, nodeName(i))
		}
	}
	return ch, nil
}

func chooseFinalized(answers *[nodeCount]*node, data nodeSet, seg txid) (choice, bool, *Violation) {
	var best *segment
	for i := range nodeCount {
		if !data.has(i) {
			continue
		}
		s := &answers[i].seg[seg-1]
		if s.state != finalized {
			continue
		}
		if best != nil && (best.last != s.last || best.data != s.data) {
			return choice{}, false, violation(Divergence, "two finalized copies of segment %d differ", seg)
		}
		best = s
	}
	if best == nil {
		return choice{}, false, nil
	}
	return choice{seg: seg, end: best.last, epoch: best.epoch, data: best.data}, true, nil
}

func (c *Config) chooseInProgress(answers *[nodeCount]*node, data nodeSet, seg txid) (choice, *Violation) {
	best := choice{seg: seg, end: seg - 1}
	var bestBallot epoch // 0: nothing found yet
	for i := range nodeCount {
		if !data.has(i) {
			continue
		}
		ch, ballot := c.candidate(answers[i], seg)
		if ballot == 0 {
			continue
		}
		if c.Rules.R2Digests && ballot == bestBallot && !agree(&ch.data, &best.data, seg, min(ch.end, best.end)) {
			return best, violation(Divergence, "segment %d: two copies of ballot %d, neither a prefix of the other", seg, ballot)
		}
		if ballot > bestBallot || (ballot == bestBallot && ch.end > best.end) {
			best, bestBallot = ch, ballot
		}
	}
	return best, nil
}

// candidate returns what the answer puts forward for seg and its ballot; ballot 0: nothing, which
// is also what a copy without txns is.
func (c *Config) candidate(a *node, seg txid) (choice, epoch) {
	s, acc := &a.seg[seg-1], &a.acc[seg-1]
	wrote := s.epoch
	if !c.Rules.R1SegmentEpoch && s.state == inProgress {
		wrote = a.lastWriter
	}
	switch {
	case acc.epoch != 0:
		return choice{seg: seg, end: acc.last, epoch: s.epoch, data: acc.data}, max(acc.epoch, wrote)
	case s.state == inProgress && s.last >= seg:
		return choice{seg: seg, end: s.last, epoch: s.epoch, data: s.data}, wrote
	}
	return choice{}, 0
}
