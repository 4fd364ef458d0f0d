package model

// outcome is what a request came to at a node.
type outcome uint8

const (
	done             outcome = iota
	crashed                  // the node crashed part of the way; what it did so far is on disk
	refusedEpoch             // its promise is higher
	refusedFinalized         // finalized here, with another end or contents where that matters
	refusedFloor             // would drop what the node knows to be committed
	refusedNoCopy            // Finalize without the copy it names
)

func (o outcome) String() string {
	return [...]string{"done", "crashed", "refused: old epoch", "refused: finalized here",
		"refused: would drop the committed floor", "refused: no such copy"}[o]
}

// The disk steps of W0. A crash may follow each; startDone is the last.
const (
	startPromised = iota
	startWriterKept
	startRecordRemoved
	startCopyAside
	startDone
)

// startSegment is W0: the node begins segment seg of epoch e, and crashes after the given step
// unless that is startDone.
func (c *Config) startSegment(n *node, seg txid, e epoch, step int) outcome {
	if n.promised > e {
		return refusedEpoch
	}
	n.promised = e
	s := &n.seg[seg-1]
	if s.state == finalized {
		return refusedFinalized
	}
	if c.Rules.W0Idempotent && s.state == inProgress && s.epoch == e {
		return done
	}
	if s.state == inProgress && c.dropsFloor(n, seg, seg-1, &contents{}) {
		return refusedFloor
	}
	if step >= startWriterKept && !c.Rules.R1SegmentEpoch {
		n.lastWriter = e
	}
	if step >= startRecordRemoved && c.Rules.W0RemovesRecord {
		n.acc[seg-1] = record{}
	}
	if step >= startCopyAside && n.acc[seg-1].epoch == 0 {
		*s = segment{}
	}
	if step < startDone {
		return crashed
	}
	*s = segment{state: inProgress, epoch: e, last: seg - 1, synced: seg - 1}
	return done
}

// accept is R4: the node makes its copy equal to ch and leaves a record. The two are one step here:
// a record that was written first is rolled forward at restart, so the crash between them shows nothing.
func (c *Config) accept(n *node, ch *choice, e epoch) outcome {
	if o := c.admitAccept(n, ch, e); o != done || n.seg[ch.seg-1].state == finalized {
		return o
	}
	c.putCopy(n, ch)
	if c.Rules.R4AcceptedRecord {
		n.acc[ch.seg-1] = record{epoch: e, last: ch.end, data: ch.data}
	}
	return done
}

// acceptInPlace is the wrong order of R4 with a crash in the middle: the content is in place, the
// record is not.
func (c *Config) acceptInPlace(n *node, ch *choice, e epoch) outcome {
	if o := c.admitAccept(n, ch, e); o != done || n.seg[ch.seg-1].state == finalized {
		return o
	}
	c.putCopy(n, ch)
	return crashed
}

func (c *Config) admitAccept(n *node, ch *choice, e epoch) outcome {
	if n.promised > e {
		return refusedEpoch
	}
	n.promised = e
	s := &n.seg[ch.seg-1]
	switch {
	case s.state == finalized && (s.last != ch.end || s.data != ch.data):
		return refusedFinalized
	case s.state != finalized && c.dropsFloor(n, ch.seg, ch.end, &ch.data):
		return refusedFloor
	}
	return done
}

func (c *Config) putCopy(n *node, ch *choice) {
	n.seg[ch.seg-1] = segment{state: inProgress, epoch: ch.epoch, last: ch.end, synced: ch.end, marked: c.Faults.Rot, data: ch.data}
	n.filled(ch.seg, ch.end)
}

// filled forgets the cut of seg once the copy reaches beyond it again. Beginning the segment anew
// is not enough, nor is anything done to another segment.
func (n *node) filled(seg, last txid) {
	if n.cut.seg == seg && n.cut.at <= last {
		n.cut = cut{}
	}
}

// finalize is R7: seg ends at end with data.
func (n *node) finalize(seg, end txid, e epoch, data *contents) outcome {
	if n.promised > e {
		return refusedEpoch
	}
	n.promised = e
	s := &n.seg[seg-1]
	equal := s.last == end && s.data == *data
	switch {
	case s.state == finalized && equal:
		return done
	case s.state == finalized:
		return refusedFinalized
	case s.state != inProgress || !equal:
		return refusedNoCopy
	}
	s.synced = s.last
	s.state, s.marked = finalized, false
	n.acc[seg-1] = record{}
	n.filled(seg, end)
	return done
}

// discard is the message that R6 does without: remove what is left of an empty segment.
func (c *Config) discard(n *node, seg txid, e epoch) outcome {
	s := &n.seg[seg-1]
	switch {
	case n.promised > e:
		return refusedEpoch
	case s.state != inProgress:
		return refusedNoCopy
	case c.dropsFloor(n, seg, seg-1, &contents{}):
		return refusedFloor
	case c.Rules.R6SafeDiscard && (s.epoch >= e || s.last >= seg):
		return refusedNoCopy
	}
	n.promised = e
	*s = segment{}
	n.acc[seg-1] = record{}
	return done
}

// dropsFloor is R5: would replacing the node's copy of seg by seg..end with data drop what the node
// knows to be committed? Only a copy that has the floor's own digest is protected: a floor above or
// beside what the node holds must not block a repair (S3).
func (c *Config) dropsFloor(n *node, seg, end txid, data *contents) bool {
	s, f := &n.seg[seg-1], &n.floor
	if s.state != inProgress {
		return false
	}
	if !c.Rules.W3FloorDigest {
		held := min(f.last, s.last)
		return held >= seg && (end < held || !agree(data, &s.data, seg, held))
	}
	if f.seg != seg || f.last > s.last || !agree(&s.data, &f.data, seg, f.last) {
		return false
	}
	return end < f.last || !agree(data, &f.data, seg, f.last)
}
