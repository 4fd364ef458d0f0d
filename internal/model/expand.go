package model

// expansion generates the successors of one state. A message is never stored: whatever a writer's
// memory says it has sent may arrive at any node at any time, again and again, or never. That
// covers loss, delay, duplication and reordering at once, and a crashed writer is one that takes no
// further step.
type expansion struct {
	cfg  *Config
	from *state
	next state // the successor under construction

	// visit gets each successor; what it returns ends the expansion.
	visit func(next *state, a action) *Violation
	bad   *Violation
	badBy action
}

// run visits every successor of from, stopping at the first violation.
func (x *expansion) run(from *state) *Violation {
	x.from, x.bad = from, nil
	for wi := 0; wi < x.cfg.Writers && x.bad == nil; wi++ {
		x.writer(wi)
	}
	for i := 0; i < nodeCount && x.bad == nil; i++ {
		x.antiEntropy(i)
		x.faults(i)
	}
	if x.cfg.Reader != ReaderNone && x.bad == nil {
		x.countingReader()
	}
	return x.bad
}

// fork begins a successor as a copy of the state.
func (x *expansion) fork() *state {
	x.next = *x.from
	return &x.next
}

func (x *expansion) emit(a action) {
	if x.bad == nil {
		x.fail(x.visit(&x.next, a), a)
	}
}

// emitChanged leaves out what changed nothing: a duplicate answered again.
func (x *expansion) emitChanged(a action) {
	if x.next != *x.from {
		x.emit(a)
	}
}

// fail notes the first violation and the action that led to it.
func (x *expansion) fail(v *Violation, by action) {
	if x.bad == nil && v != nil {
		x.bad, x.badBy = v, by
	}
}

// excluded reports whether N1 keeps the node out of everything that counts.
func (c *Config) excluded(n *node) bool { return n.wiped && c.Rules.N1Incarnation }

// antiEntropy is A1: node i pulls a finalized segment it has not finalized itself.
func (x *expansion) antiEntropy(i int) {
	for seg := txid(1); seg <= maxTxIDs; seg++ {
		for j := range nodeCount {
			theirs := &x.from.node[j].seg[seg-1]
			if j == i || theirs.state != finalized || x.from.node[i].seg[seg-1].state == finalized {
				continue
			}
			n := &x.fork().node[i]
			n.seg[seg-1] = *theirs
			n.acc[seg-1] = record{}
			n.filled(seg, theirs.last)
			x.emit(action{verb: pullsFinalized, node: int8(i), peer: int8(j), first: seg})
		}
	}
}

// faults are what may befall node i.
func (x *expansion) faults(i int) {
	f, g := &x.cfg.Faults, &x.from.ghost
	for seg := txid(1); seg <= maxTxIDs; seg++ {
		x.losePower(i, seg)
		if f.Rot && !g.rotten {
			x.rot(i, seg)
		}
	}
	if f.Unknown && !g.rotten {
		s := x.fork()
		s.node[i].unknown, s.ghost.rotten = true, true
		x.emit(action{verb: turnsUnknown, node: int8(i)})
	}
	if f.Wipe && !g.wiped {
		s := x.fork()
		s.node[i], s.ghost.wiped = node{wiped: true}, true
		x.emit(action{verb: isWiped, node: int8(i)})
	}
}

// losePower drops an unsynced tail; W2 leaves none that was acked, so only its weak form has any.
func (x *expansion) losePower(i int, seg txid) {
	old := &x.from.node[i].seg[seg-1]
	if x.from.ghost.lostPowerUnsynced || old.state != inProgress || old.synced >= old.last {
		return
	}
	s := x.fork()
	n := &s.node[i].seg[seg-1]
	n.data = n.data.part(seg, n.synced)
	n.last = n.synced
	s.ghost.lostPowerUnsynced = true
	x.emit(action{verb: losesPower, node: int8(i), first: seg})
}

// rot makes the last frame of the newest segment unreadable and restarts the node. Until then the
// node may have been idle for long enough to write its mark again.
func (x *expansion) rot(i int, seg txid) {
	old := &x.from.node[i]
	if old.seg[seg-1].state != inProgress || old.seg[seg-1].last < seg || old.newest() != seg {
		return
	}
	if !old.seg[seg-1].marked {
		x.fork().node[i].seg[seg-1].marked = true
		x.emit(action{verb: writesIdleMark, node: int8(i), first: seg})
	}
	s := x.fork()
	n := &s.node[i]
	sg := &n.seg[seg-1]
	if x.cfg.Rules.N2aSyncedMark && sg.marked {
		n.unknown = true
	} else {
		n.cut = cut{seg: seg, at: sg.last}
		sg.data[sg.last-1] = 0
		sg.last--
		sg.synced, sg.marked = min(sg.synced, sg.last), false
	}
	s.ghost.rotten = true
	x.emit(action{verb: rots, node: int8(i), first: seg})
}

// countingReader lets a reader believe what two nodes hold alike (D4).
func (x *expansion) countingReader() {
	for seg := txid(1); seg <= maxTxIDs; seg++ {
		for i := range nodeCount {
			for j := i + 1; j < nodeCount; j++ {
				x.countCopies(i, j, seg)
			}
		}
	}
}

func (x *expansion) countCopies(i, j int, seg txid) {
	a, b := &x.from.node[i], &x.from.node[j]
	sa, sb := &a.seg[seg-1], &b.seg[seg-1]
	if sa.state == absent || sb.state == absent {
		return
	}
	if x.cfg.Reader == ReaderBallot {
		ballotA, ballotB := max(sa.epoch, a.acc[seg-1].epoch), max(sb.epoch, b.acc[seg-1].epoch)
		if ballotA != ballotB || sa.state != inProgress || sb.state != inProgress {
			return
		}
	}
	act := action{verb: readerCounts, node: int8(i), peer: int8(j), first: seg}
	s := x.fork()
	for t := seg; t <= min(sa.last, sb.last) && sa.data[t-1] == sb.data[t-1]; t++ {
		x.fail(s.commit(t, sa.data[t-1]), act)
	}
	x.emitChanged(act)
}
