package model

// probeEpoch is above every writer's.
const probeEpoch epoch = 15

// check is the oracle: after every state, a fresh writer that meets no further fault must recover on
// each majority, find everything committed, and be able to start the next segment there; and no node
// may show a reader what is not committed. So both durability and "no majority is stuck" are checked
// in every state, not only at the end of a run.
func (c *Config) check(s *state) *Violation {
	if !c.Skipped.Probe {
		for _, q := range majorities {
			if v := c.probe(s, q); v != nil {
				v.Message = "recovery on nodes " + q.String() + ": " + v.Message
				return v
			}
		}
	}
	if !c.Skipped.D1 {
		return c.checkReaders(s)
	}
	return nil
}

// probe recovers on quorum. Where the rules say that these nodes are no quorum, for wiped or
// unreadable disks or a cut tail, there is nothing to ask of them.
func (c *Config) probe(s *state, quorum nodeSet) *Violation {
	nodes := s.node // the recovery's own copy
	var answers [nodeCount]*node
	for i := range nodeCount {
		answers[i] = &nodes[i]
		if quorum.has(i) && c.excluded(&nodes[i]) {
			return nil
		}
	}
	data, enough := c.dataAnswers(&answers, quorum)
	if !enough {
		return nil
	}
	ch, v := c.choose(&answers, data)
	if v != nil {
		return v
	}
	if v := checkChoice(s, quorum, &ch); v != nil {
		return v
	}
	return c.carryOut(&nodes, quorum, &ch)
}

// checkChoice compares what was recovered with what was decided and committed.
func checkChoice(s *state, quorum nodeSet, ch *choice) *Violation {
	if end := s.ghost.end[ch.seg-1]; end != 0 && end != ch.end {
		return violation(DecisionChanged, "segment %d was decided to end at %d, recovered end %d", ch.seg, end, ch.end)
	}
	for t := txid(1); t <= maxTxIDs; t++ {
		want := s.ghost.committed[t-1]
		switch {
		case want == 0:
		case t > ch.end:
			return violation(Lost, "committed txid %d, recovered end %d", t, ch.end)
		case t < ch.seg:
			if v := checkFinalized(s, quorum, ch.seg, t, want); v != nil {
				return v
			}
		case ch.data[t-1] != want:
			return violation(Lost, "txid %d committed value %d, recovered %d", t, want, ch.data[t-1])
		}
	}
	return nil
}

// checkFinalized looks for t in the segments before the recovered one: these are never recovered
// again, so a finalized copy must be in reach.
func checkFinalized(s *state, quorum nodeSet, newest, t txid, want value) *Violation {
	found := false
	for i := range nodeCount {
		for seg := txid(1); seg <= t && quorum.has(i); seg++ {
			sg := &s.node[i].seg[seg-1]
			if sg.state != finalized || sg.last < t {
				continue
			}
			if sg.data[t-1] != want {
				return violation(Lost, "txid %d committed value %d, a finalized copy holds %d", t, want, sg.data[t-1])
			}
			found = true
		}
	}
	if !found {
		return violation(Unreadable, "committed txid %d is older than the newest segment %d and finalized on no node", t, newest)
	}
	return nil
}

// carryOut accepts, finalizes and starts the next segment; every node of the quorum must agree.
func (c *Config) carryOut(nodes *[nodeCount]node, quorum nodeSet, ch *choice) *Violation {
	next := ch.end + 1
	for i := range nodeCount {
		if !quorum.has(i) {
			continue
		}
		n := &nodes[i]
		if ch.end >= ch.seg {
			if o := c.accept(n, ch, probeEpoch); o != done {
				return violation(Stuck, "Accept(%d..%d) at %c %v", ch.seg, ch.end, nodeName(i), o)
			}
			if o := n.finalize(ch.seg, ch.end, probeEpoch, &ch.data); o != done {
				return violation(Stuck, "Finalize(%d..%d) at %c %v", ch.seg, ch.end, nodeName(i), o)
			}
		}
		if next > maxTxIDs {
			continue
		}
		if o := c.startSegment(n, next, probeEpoch, startDone); o != done {
			return violation(Stuck, "StartSegment(%d) at %c %v", next, nodeName(i), o)
		}
	}
	return nil
}

// checkReaders is D1: what a node would serve is what was committed.
func (c *Config) checkReaders(s *state) *Violation {
	for i := range nodeCount {
		n := &s.node[i]
		for seg := txid(1); seg <= maxTxIDs; seg++ {
			sg := &n.seg[seg-1]
			for t := seg; t <= c.servedTo(n, seg); t++ {
				if want := s.ghost.committed[t-1]; want != sg.data[t-1] {
					return violation(WrongRead, "node %c serves txid %d value %d as committed; committed is %d",
						nodeName(i), t, sg.data[t-1], want)
				}
			}
		}
	}
	return nil
}

// servedTo returns the last txid of seg that the node shows to readers.
func (c *Config) servedTo(n *node, seg txid) txid {
	sg := &n.seg[seg-1]
	switch {
	case sg.state == finalized:
		return sg.last
	case sg.state != inProgress:
		return 0
	case c.Rules.W3FloorDigest && (n.floor.seg != seg || n.floor.epoch != sg.epoch):
		return 0
	}
	return min(n.floor.last, sg.last)
}
