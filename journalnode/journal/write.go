package journal

import (
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// Stream is one write stream: what its first message said, and where answers go. Reply and Fail are
// called by the owner and must not block; after Fail the stream is over.
type Stream struct {
	Header rpc.Header
	Reply  func(rpc.WriteReply)
	Fail   func(error)

	over bool // owner's: Fail was called
	// What the writer said and was asked on it, owner's (M6).
	heard, leaving bool
	asked          uint64
	// What the journal was like when the stream was attached, owner's: the newest segment, if it was damaged,
	// and Journal.copies.
	damaged segments.TxID
	copies  uint64
}

// Item is one message of a write stream.
type Item struct {
	Stream  *Stream
	Request rpc.WriteRequest
}

// Hello is the gate of a new write stream: what all of its messages carry is checked once, and a higher
// epoch promised (F3). Each message is checked again when it is handled (W1). Owner only.
func (j *Journal) Hello(h rpc.Header) error { return j.admit(h) }

// Process handles messages in order, with one write and one sync for all frames that come together, and
// lets the acks go after it (group commit). Acks are cumulative: one per stream. A message that is
// refused ends its own stream only. Owner only.
func (j *Journal) Process(items []Item) {
	b := batch{j: j}
	for _, it := range items {
		if it.Stream.over {
			continue
		}
		if err := b.handle(it.Stream, it.Request); err != nil {
			end(it.Stream, err)
		}
	}
	b.commit()
	j.publish()
}

// batch is what one Process has staged: frames of one segment, and the streams to ack after the sync.
type batch struct {
	j      *Journal
	tail   *tail
	s      segments.TxID
	staged []*Stream
}

func end(st *Stream, err error) {
	if !st.over {
		st.over = true
		st.Fail(err)
	}
}

func (b *batch) handle(st *Stream, m rpc.WriteRequest) error {
	j := b.j
	if err := j.check(st.Header); err != nil {
		return err
	}
	if err := j.fence.Holds(st.Header.Claim); err != nil {
		return err
	}
	j.heed(st, m)
	j.raiseFloor(st.Header, m.Floor)
	if !m.Sealed.IsZero() && m.Sealed.Version == j.config.Version && m.Sealed.Epoch == st.Header.Claim.Epoch {
		j.seal = m.Sealed
	}
	switch {
	case m.Start != nil:
		b.commit() // W2: answered only after the syncs already under way
		return j.start(st, *m.Start)
	case len(m.Frames) > 0:
		return b.frames(st, m.Frames)
	case m.Finalize != nil:
		b.commit()
		if err := j.finalize(*m.Finalize); err != nil {
			return err
		}
		st.Reply(j.reply(st.Header, rpc.Finalized, m.Finalize.First, m.Finalize.Position()))
	case m.Fill != nil:
		return fmt.Errorf("%w: a fill is the node's to carry out", rpc.ErrBadRequest)
	default:
		st.Reply(rpc.WriteReply{Kind: rpc.Alive, OverQuota: j.OverQuota()})
	}
	return nil
}

func (j *Journal) reply(h rpc.Header, kind rpc.ReplyKind, s segments.TxID, at segments.Position) rpc.WriteReply {
	return rpc.WriteReply{
		Kind: kind, Segment: s, Epoch: h.Claim.Epoch, ConfigVersion: j.config.Version,
		Incarnation: j.self.Incarnation, At: at, OverQuota: j.OverQuota(),
	}
}

// raiseFloor takes the writer's word for what is committed; it never goes back (W3).
func (j *Journal) raiseFloor(h rpc.Header, f recovery.Floor) {
	if f.At.TxID > j.floor.At.TxID && f.Epoch == h.Claim.Epoch {
		j.floor = f
	}
}

// start is StartSegment (W0), and W8's node side for the segment before it.
func (j *Journal) start(st *Stream, prev segments.End) error {
	s, e := prev.Next(), st.Header.Claim.Epoch
	d, err := recovery.DecideStart(j.local(s), e, s, prev)
	if err != nil {
		return err
	}
	if d.Again {
		st.Reply(j.reply(st.Header, rpc.Started, s, j.copyOf(s).Last))
		return nil
	}
	if err := j.mayGrow(); err != nil {
		return err
	}
	if err := j.closePrev(prev); err != nil {
		return err
	}
	if err := j.dropAccepted(s); err != nil {
		return err
	}
	if d.SetAside {
		if err := j.setAside(s, segments.Reason(d.AsideReason)); err != nil {
			return err
		}
	}
	w, err := j.store.Create(segments.Header{Journal: j.id, First: s, Epoch: e, Prev: prev})
	if err != nil {
		return j.stored(err)
	}
	j.tails[s] = &tail{w: w}
	j.copies++
	j.structureChanged()
	st.Reply(j.reply(st.Header, rpc.Started, s, w.Synced()))
	return nil
}

// closePrev finalizes the previous segment if the copy here has the decided end; a copy that has
// anything else is a leftover, which anti-entropy replaces (W8, R9).
func (j *Journal) closePrev(prev segments.End) error {
	c := j.copyOf(prev.First)
	if prev.IsZero() || c.State != recovery.InProgress || c.Last != prev.Position() {
		return nil
	}
	return j.finalize(prev)
}

// setAside closes a copy and renames it aside; nothing is ever deleted on this path.
func (j *Journal) setAside(s segments.TxID, why segments.Reason) error {
	if t := j.tails[s]; t != nil {
		delete(j.tails, s)
		_ = t.w.Close() // it is not written any more
	}
	if err := j.store.SetAside(s, why); err != nil {
		return j.stored(err)
	}
	delete(j.broken, s)
	return nil
}

// frames checks W1 and stages the frames; the ack goes out after the sync.
func (b *batch) frames(st *Stream, frames []segments.Frame) error {
	j, e := b.j, st.Header.Claim.Epoch
	s := j.newest()
	t := j.tails[s]
	if t == nil || t.w.Header().Epoch != e {
		return fmt.Errorf("%w: epoch %d has no open segment here", rpc.ErrOutOfSync, e)
	}
	if err := t.w.Damaged(); err != nil {
		return fmt.Errorf("%w: %w", recovery.ErrUnknownData, err) // N2: acks must not rest on it
	}
	if !j.accepted[s].IsZero() {
		return &recovery.BreachError{Rule: "W3", Segment: s, Text: "frames for a segment with an accepted record"}
	}
	b.tail, b.s = t, s
	var err error
	for _, f := range frames {
		if err = b.stage(f); err != nil {
			break
		}
	}
	// Also where a frame is refused: the good ones before it are in the group, and must not stay there
	// for whoever writes next.
	if !slices.Contains(b.staged, st) {
		b.staged = append(b.staged, st)
	}
	return err
}

func (b *batch) stage(f segments.Frame) error {
	w := b.tail.w
	last := w.Last()
	switch {
	case f.Epoch() != w.Header().Epoch:
		return &recovery.BreachError{Rule: "W1", Segment: b.s, Text: fmt.Sprintf("frame of epoch %d (want %d)", f.Epoch(), w.Header().Epoch)}
	case f.Last() <= last.TxID:
		return b.resent(f)
	case f.First() != last.TxID+1:
		return fmt.Errorf("%w: %w", rpc.ErrOutOfSync, &segments.GapError{Got: f.First(), Want: last.TxID + 1})
	}
	if err := f.Verify(last.Digest); err != nil {
		return fmt.Errorf("journal: frame %s: %w", f.Range(), err)
	}
	if p := b.j.purged; f.First() <= p.TxID && p.TxID <= f.Last() && f.Position() != p {
		// Frames come back below the purge point where a snapshot was installed in the middle of a segment
		// (C3). The snapshot was checked by a majority: another frame here is another history.
		return &recovery.BreachError{Rule: "C5", Segment: b.s, Text: fmt.Sprintf("frame %s does not end at the purge point %s", f.Range(), p)}
	}
	if err := b.j.mayGrow(); err != nil {
		return err
	}
	if f.Last() > b.j.floor.At.TxID { // what is committed already is no new transaction
		if err := b.j.withinQuota(); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	return b.j.stored(w.Append(f))
}

// resent: a frame that is held already is acknowledged again if it is the same one, and is a breach if
// it is not (W4).
func (b *batch) resent(f segments.Frame) error {
	if f.Last() > b.tail.w.Synced().TxID {
		b.commit() // only what is synced can be looked up
	}
	if err := b.j.poisoned; err != nil {
		return fmt.Errorf("%w: %w", rpc.ErrPoisoned, err)
	}
	d, found, err := b.j.store.DigestAt(b.s, f.Last())
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if !found || d != f.Digest() {
		return &recovery.BreachError{Rule: "W4", Segment: b.s, Text: fmt.Sprintf("frame %s was written here with other content", f.Range())}
	}
	return nil
}

// commit writes and syncs what is staged, then lets one ack per stream go (W2).
func (b *batch) commit() {
	if len(b.staged) == 0 {
		return
	}
	j, t, staged := b.j, b.tail, b.staged
	b.staged = nil
	if err := t.w.Commit(); err != nil {
		err = j.stored(err)
		for _, st := range staged {
			end(st, err)
		}
		return
	}
	at := t.w.Synced()
	if t.cutAt != nil && at.TxID > t.cutAt.TxID {
		t.cutAt = nil // filled beyond the cut (N2a)
	}
	j.publish() // readers may see what is synced, as far as the floor says (D2)
	for _, st := range staged {
		if !st.over {
			st.Reply(j.reply(st.Header, rpc.Synced, b.s, at))
		}
	}
}

// FillPosition returns how far the segment that the stream's epoch is writing is durable here: where a
// fill goes on (W5). It passes the gate of an ack: the promise is the stream's, no record was accepted,
// nothing is damaged (W3). Owner only.
func (j *Journal) FillPosition(h rpc.Header, s segments.TxID) (segments.Position, error) {
	if err := j.check(h); err != nil {
		return segments.Position{}, err
	}
	if err := j.fence.Holds(h.Claim); err != nil {
		return segments.Position{}, err
	}
	c := j.copyOf(s)
	if c.State != recovery.InProgress || c.Epoch != h.Claim.Epoch || s != j.newest() || !c.Accepted.IsZero() {
		return segments.Position{}, fmt.Errorf("%w: epoch %d does not write segment %d here", rpc.ErrOutOfSync, h.Claim.Epoch, s)
	}
	return c.Last, nil
}
