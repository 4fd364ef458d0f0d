package model

// writer visits everything writer wi may do, and every delivery of what it has sent.
func (x *expansion) writer(wi int) {
	w := &x.from.writer[wi]
	if w.phase == electing {
		x.elect(wi)
		return
	}
	if !x.cfg.Rules.R2aOneChoice && w.phase == accepting && !w.retried {
		n := &x.fork().writer[wi]
		*n = writer{retried: true}
		x.emit(action{verb: retries, writer: epochOf(wi)})
	}
	if !w.empty {
		x.recoverSegment(wi)
	} else {
		x.discardLeftovers(wi)
	}
	if w.phase != writing {
		return
	}
	for k := range int(w.cur) + 1 {
		// A first segment past the last txid of this configuration has nothing to hold.
		if int(w.own[k]) <= x.cfg.TxIDs {
			x.writeSegment(wi, k)
		}
	}
}

func epochOf(wi int) epoch { return epoch(wi + 1) }

// elect collects promises and answers, in one step per node, and chooses once a majority gave data.
func (x *expansion) elect(wi int) {
	w, e := &x.from.writer[wi], epochOf(wi)
	var heard nodeSet
	var answers [nodeCount]*node
	for i := range nodeCount {
		answers[i] = &w.answers[i].node
		if w.answers[i].given {
			heard = heard.with(i)
			continue
		}
		n := &x.from.node[i]
		again := !x.cfg.Rules.R2aOneChoice && n.promised == e
		if x.cfg.excluded(n) || (n.promised >= e && !again) {
			continue
		}
		s := x.fork()
		s.node[i].promised = e
		s.writer[wi].answers[i] = answer{given: true, node: s.node[i]}
		x.emit(action{verb: promises, writer: e, node: int8(i)})
	}
	for _, q := range majorities {
		if q.in(heard) && x.bad == nil {
			x.chooseFrom(wi, q, &answers)
		}
	}
}

func (x *expansion) chooseFrom(wi int, q nodeSet, answers *[nodeCount]*node) {
	data, enough := x.cfg.dataAnswers(answers, q)
	if !enough {
		return
	}
	ch, v := x.cfg.choose(answers, data)
	act := action{verb: chooses, writer: epochOf(wi), first: ch.seg, last: ch.end, quorum: q}
	if v != nil {
		v.Message = "recovery from answers of " + q.String() + ": " + v.Message
		x.fail(v, act)
		return
	}
	w := &x.fork().writer[wi]
	w.answers = [nodeCount]answer{} // only the choice counts from here on
	w.choice = ch
	w.phase = accepting
	if ch.end < ch.seg {
		w.empty = true
		w.beginWriting(ch.seg)
	}
	x.emit(act)
}

func (w *writer) beginWriting(seg txid) {
	w.phase = writing
	w.own[0], w.last, w.committed = seg, seg-1, seg-1
}

// recoverSegment delivers Accept and Finalize of the choice, for ever, and moves on when majorities answered.
func (x *expansion) recoverSegment(wi int) {
	w, e := &x.from.writer[wi], epochOf(wi)
	ch := &w.choice
	for i := range nodeCount {
		if x.cfg.excluded(&x.from.node[i]) {
			continue
		}
		x.acceptAt(wi, i)
		if x.cfg.Faults.InPlace {
			if s := x.fork(); x.cfg.acceptInPlace(&s.node[i], ch, e) == crashed {
				x.emitChanged(action{verb: acceptsInPlaceAt, writer: e, node: int8(i), first: ch.seg, last: ch.end})
			}
		}
		if w.phase < finalizing {
			continue
		}
		if s := x.fork(); s.node[i].finalize(ch.seg, ch.end, e, &ch.data) == done {
			s.writer[wi].recovered = w.recovered.with(i)
			x.emitChanged(action{verb: finalizesAt, writer: e, node: int8(i), first: ch.seg, last: ch.end})
		}
	}
	if w.phase == accepting && w.accepted.isMajority() {
		x.fork().writer[wi].phase = finalizing
		x.emit(action{verb: acceptedByMajority, writer: e})
	}
	if w.phase == finalizing && (w.recovered.isMajority() || !x.cfg.Rules.W8FinalizeMajority) {
		x.fork().writer[wi].beginWriting(ch.end + 1)
		x.emit(action{verb: recoversDone, writer: e, first: ch.end + 1})
	}
}

func (x *expansion) acceptAt(wi, i int) {
	w, e := &x.from.writer[wi], epochOf(wi)
	ch := &w.choice
	s := x.fork()
	if x.cfg.accept(&s.node[i], ch, e) != done {
		return // a refusal on a healthy majority is for the probe to find
	}
	act := action{verb: acceptsAt, writer: e, node: int8(i), first: ch.seg, last: ch.end}
	s.writer[wi].accepted = w.accepted.with(i)
	if s.writer[wi].accepted.isMajority() {
		x.fail(s.decide(ch), act)
	}
	x.emitChanged(act)
}

// decide records that ch's segment ends there for good. What is committed beyond that end is not
// looked at here, since a later segment may hold it lawfully: (1) w1 finalizes 1..1 on A and B and has
// txid 2 in segment 2 on A; (2) w2 hears B and C, chooses 1..1, A accepts; (3) w3 hears A and B,
// chooses and gets accepted 2..2; (4) C accepts 1..1 from w2. Nothing is lost, and w2 is fenced
// before it can finalize or start. If it were, the probe of this state would say so.
func (s *state) decide(ch *choice) *Violation {
	end := &s.ghost.end[ch.seg-1]
	if *end != 0 && *end != ch.end {
		return violation(DecisionChanged, "segment %d ended at %d, a majority now accepted end %d", ch.seg, *end, ch.end)
	}
	*end = ch.end
	for t := ch.seg; t <= ch.end; t++ {
		if v := s.commit(t, ch.data[t-1]); v != nil {
			return v
		}
	}
	return nil
}

func (x *expansion) discardLeftovers(wi int) {
	e, seg := epochOf(wi), x.from.writer[wi].choice.seg
	for i := range nodeCount {
		if x.cfg.excluded(&x.from.node[i]) {
			continue
		}
		if s := x.fork(); x.cfg.discard(&s.node[i], seg, e) == done {
			x.emit(action{verb: discardsAt, writer: e, node: int8(i), first: seg})
		}
	}
}

// writeSegment visits the writer's own segment k: messages to each node, then its own decisions.
func (x *expansion) writeSegment(wi, k int) {
	w := &x.from.writer[wi]
	for i := range nodeCount {
		if x.cfg.excluded(&x.from.node[i]) {
			continue
		}
		x.startAt(wi, k, i)
		x.appendAt(wi, k, i)
		x.finalizeAt(wi, k, i)
		if k == int(w.cur) {
			x.fillAt(wi, i)
			x.statusAt(wi, i)
			x.floorAt(wi, i)
		}
	}
	if k == int(w.cur) {
		x.decideInSegment(wi)
	}
}

// startAt delivers StartSegment, whole and with a crash after each disk step.
func (x *expansion) startAt(wi, k, i int) {
	e, seg := epochOf(wi), x.from.writer[wi].own[k]
	for step := startDone; step >= startPromised; step-- {
		s := x.fork()
		switch x.cfg.startSegment(&s.node[i], seg, e, step) {
		case done:
			x.emitChanged(action{verb: startsAt, writer: e, node: int8(i), first: seg})
		case crashed:
			x.emitChanged(action{verb: startsAndCrashesAt, writer: e, node: int8(i), first: seg, step: int8(step)})
		}
	}
}

// mayAppend is the part of W1 that a node checks against itself.
func (c *Config) mayAppend(n *node, seg txid, e epoch) bool {
	s := &n.seg[seg-1]
	return s.state == inProgress && s.epoch == e && (n.promised == e || !c.Rules.W1EpochIsPromise)
}

// appendAt delivers the next frame that the node lacks, from the queue or the replay ring. Resends
// of what it holds (W4) change nothing.
func (x *expansion) appendAt(wi, k, i int) {
	w, e := &x.from.writer[wi], epochOf(wi)
	seg, last := w.own[k], w.last
	if k != int(w.cur) {
		last = w.end[k]
	}
	n := &x.from.node[i]
	if !x.cfg.mayAppend(n, seg, e) || n.seg[seg-1].last >= last {
		return
	}
	s := x.fork()
	t := s.node[i].appendNext(seg, &w.data, x.cfg.Rules.W2SyncBeforeAck)
	act := action{verb: appendsAt, writer: e, node: int8(i), first: t}
	if k == int(w.cur) {
		x.fail(s.ack(wi, i, t), act)
	}
	x.emit(act)
}

// appendNext adds the frame after the node's last one, taken from data.
func (n *node) appendNext(seg txid, data *contents, sync bool) txid {
	s := &n.seg[seg-1]
	s.last++
	s.marked = false
	s.data[s.last-1] = data[s.last-1]
	if sync {
		s.synced = s.last
	}
	n.filled(seg, s.last)
	return s.last
}

// ack counts what node i holds of the open segment, up to t, and commits what a majority holds (W3).
func (s *state) ack(wi, i int, t txid) *Violation {
	w := &s.writer[wi]
	w.acked[i] = max(w.acked[i], t)
	a, b, c := w.acked[0], w.acked[1], w.acked[2]
	median := max(min(a, b), min(max(a, b), c))
	for t := max(w.committed+1, w.own[w.cur]); t <= median; t++ {
		if v := s.commit(t, w.data[t-1]); v != nil {
			return v
		}
		w.committed = t
	}
	return nil
}

// fillAt is W5: a node that missed frames of the open segment takes the next one from a peer.
func (x *expansion) fillAt(wi, i int) {
	w, e := &x.from.writer[wi], epochOf(wi)
	seg := w.own[w.cur]
	n := &x.from.node[i]
	if !x.cfg.mayAppend(n, seg, e) || n.seg[seg-1].last >= w.committed {
		return
	}
	for j := range nodeCount {
		peer := &x.from.node[j].seg[seg-1]
		if j == i || peer.state == absent || peer.last <= n.seg[seg-1].last {
			continue
		}
		if x.cfg.Rules.W5FrameEpoch && peer.epoch != e && peer.state != finalized {
			continue
		}
		s := x.fork()
		t := s.node[i].appendNext(seg, &peer.data, true)
		act := action{verb: fillsFromPeer, writer: e, node: int8(i), peer: int8(j), first: t}
		x.fail(s.ack(wi, i, t), act)
		x.emit(act)
	}
}

// statusAt is the weak W3: a status answer counts as an ack if the contents agree, whatever the
// node's promise and the epoch of its copy (S8).
func (x *expansion) statusAt(wi, i int) {
	w, e := &x.from.writer[wi], epochOf(wi)
	seg := w.own[w.cur]
	held := &x.from.node[i].seg[seg-1]
	if x.cfg.Rules.W3AckEpoch || held.state == absent {
		return
	}
	t := min(held.last, w.last)
	if t < seg || t <= w.acked[i] || !agree(&held.data, &w.data, seg, t) {
		return
	}
	s := x.fork()
	act := action{verb: takesStatusAsAck, writer: e, node: int8(i), last: t}
	x.fail(s.ack(wi, i, t), act)
	x.emit(act)
}

func (x *expansion) finalizeAt(wi, k, i int) {
	w, e := &x.from.writer[wi], epochOf(wi)
	seg, end := w.own[k], w.end[k]
	if end == 0 {
		return
	}
	data := w.data.part(seg, end)
	if s := x.fork(); s.node[i].finalize(seg, end, e, &data) == done {
		s.writer[wi].ended[k] = w.ended[k].with(i)
		x.emitChanged(action{verb: finalizesAt, writer: e, node: int8(i), first: seg, last: end})
	}
}

// floorAt tells the node the committed floor, also when the node is idle or lacks the segment.
func (x *expansion) floorAt(wi, i int) {
	w, e := &x.from.writer[wi], epochOf(wi)
	seg := w.own[w.cur]
	n := &x.from.node[i]
	if w.committed < seg || n.promised > e || n.floor.last >= w.committed {
		return
	}
	s := x.fork()
	s.node[i].promised = e
	s.node[i].floor = floor{last: w.committed, seg: seg, epoch: e, data: w.data.part(seg, w.committed)}
	x.emit(action{verb: tellsFloor, writer: e, node: int8(i), last: w.committed})
}

// decideInSegment is what the writer does by itself in its open segment: send, reuse, finalize, roll.
func (x *expansion) decideInSegment(wi int) {
	w, e, k := &x.from.writer[wi], epochOf(wi), int(x.from.writer[wi].cur)
	seg, room := w.own[k], int(w.last) < x.cfg.TxIDs
	if w.end[k] != 0 {
		acked := w.ended[k].isMajority() || !x.cfg.Rules.W8FinalizeMajority
		if acked && room && k+1 < ownMax {
			n := &x.fork().writer[wi]
			n.cur = 1
			n.own[1] = w.last + 1
			n.acked = [nodeCount]txid{}
			x.emit(action{verb: rolls, writer: e, first: w.last + 1})
		}
		return
	}
	if room {
		n := &x.fork().writer[wi]
		n.last++
		n.data[n.last-1] = value(e)
		x.emit(action{verb: sends, writer: e, first: n.last})
	}
	if w.last < seg {
		return
	}
	if x.cfg.Faults.Reuse && w.last > w.committed && w.data[w.last-1] == value(e) {
		n := &x.fork().writer[wi]
		n.data[n.last-1] += reusedValue
		x.emit(action{verb: reuses, writer: e, first: n.last})
	}
	if w.committed == w.last || !x.cfg.Rules.W8FinalizeCommitted {
		x.fork().writer[wi].end[k] = w.last
		x.emit(action{verb: endsSegment, writer: e, first: seg, last: w.last})
	}
}
