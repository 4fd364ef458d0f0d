package journal

import (
	"cmp"
	"fmt"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// AcceptPlan is what BeginAccept found out. Where Fetch is set, the caller fills Incoming with the
// frames of the segment up to the end, from a source or relayed, outside the owner, and comes back with
// FinishAccept; else the accept is done.
type AcceptPlan struct {
	Fetch    bool
	Incoming *store.Incoming
}

// BeginAccept is the first half of Accept (R4). Owner only.
func (j *Journal) BeginAccept(h rpc.Header, req recovery.AcceptRequest) (AcceptPlan, error) {
	l, method, err := j.judgeAccept(h, req)
	if err != nil {
		return AcceptPlan{}, err
	}
	switch method {
	case recovery.AcceptDone:
		return AcceptPlan{}, nil
	case recovery.AcceptInPlace:
		return AcceptPlan{}, j.acceptInPlace(req)
	}
	s := req.End.First
	hdr := segments.Header{Journal: j.id, First: s, Epoch: req.Epoch, Prev: req.Prev}
	if method == recovery.AcceptOwnPrefix {
		hdr.Epoch, hdr.Prev = l.Copy.Epoch, l.Copy.Prev
	}
	j.incoming++
	inc, err := j.store.NewIncoming(hdr, fmt.Sprintf("accept%d", j.incoming))
	if err != nil {
		return AcceptPlan{}, j.stored(err)
	}
	if method == recovery.AcceptFetch {
		return AcceptPlan{Fetch: true, Incoming: inc}, nil
	}
	if err := j.store.CopyPrefix(s, req.End.Last, inc); err != nil {
		_ = inc.Abort() // a temporary: what is left of it goes at the next open
		return AcceptPlan{}, fmt.Errorf("journal: %w", err)
	}
	return AcceptPlan{}, j.FinishAccept(h, req, inc)
}

func (j *Journal) judgeAccept(h rpc.Header, req recovery.AcceptRequest) (recovery.Local, recovery.AcceptMethod, error) {
	if err := j.admit(h); err != nil {
		return recovery.Local{}, 0, err
	}
	s := req.End.First
	if s != req.Prev.Next() {
		return recovery.Local{}, 0, fmt.Errorf("%w: segment %d does not follow %s", rpc.ErrBadRequest, s, req.Prev)
	}
	l := j.local(s)
	if info, err := j.store.Info(s); err == nil && info.Finalized && l.Copy.State == recovery.Unknown {
		// A damaged copy that was finalized is replaced by a finalized one alone (R5, A2): an accepted record
		// would stand beside it, and speak of content that cannot be put in place.
		return recovery.Local{}, 0, recovery.ErrUnknownData
	}
	holds := false
	if l.Copy.State == recovery.InProgress {
		d, found, err := j.store.DigestAt(s, req.End.Last)
		holds = err == nil && found && d == req.End.Digest
	}
	method, err := recovery.DecideAccept(l, h.Claim.Epoch, req.End, holds)
	return l, method, err
}

// acceptInPlace: the copy is equal and was made durable when it was opened, or when its acks left
// (W2a, W2); only the record is missing.
func (j *Journal) acceptInPlace(req recovery.AcceptRequest) error {
	s := req.End.First
	if err := j.stored(j.tails[s].w.Commit()); err != nil {
		return err
	}
	if err := j.record(req); err != nil {
		return err
	}
	if t := j.tails[s]; t.cutAt != nil && req.End.Last > t.cutAt.TxID {
		t.cutAt = nil // accepted beyond the cut (N2a)
	}
	j.publish()
	return nil
}

func (j *Journal) record(req recovery.AcceptRequest) error {
	a := recovery.Accepted{Epoch: req.Claim.Epoch, End: req.End}
	if err := j.save(func() error { return j.files.saveAccepted(a) }); err != nil {
		return err
	}
	j.accepted[req.End.First] = a
	delete(j.badAccepted, req.End.First)
	return nil
}

// FinishAccept is the second half: the gate again, since anything may have happened during the fetch;
// then, in this order on disk, the content under a name of its own, the record, the content in place
// (R4). A crash before the record leaves nothing; one after it is rolled forward at open. The incoming
// copy belongs to the journal now, whatever is returned. Owner only.
func (j *Journal) FinishAccept(h rpc.Header, req recovery.AcceptRequest, inc *store.Incoming) error {
	l, method, err := j.judgeAccept(h, req)
	if err != nil {
		_ = inc.Abort() // a temporary: what is left of it goes at the next open
		return err
	}
	if method == recovery.AcceptDone {
		_ = inc.Abort() // a temporary: what is left of it goes at the next open
		return nil
	}
	if inc.Position() != req.End.Position() {
		_ = inc.Abort() // a temporary: what is left of it goes at the next open
		return &recovery.MismatchError{State: recovery.InProgress, Got: inc.Position(), Want: req.End}
	}
	if err := j.keepsFloor(l, inc, req.End); err != nil {
		_ = inc.Abort() // a temporary: what is left of it goes at the next open
		return err
	}
	if err := inc.Keep(); err != nil {
		return j.stored(err)
	}
	if err := j.record(req); err != nil {
		return err
	}
	s := req.End.First
	if t := j.tails[s]; t != nil {
		delete(j.tails, s)
		_ = t.w.Close() // the file is set aside next; nothing is written through it any more
	}
	found, err := j.store.InstallKept(s, req.End, segments.ReasonReplaced)
	if err == nil && !found {
		err = fmt.Errorf("journal: the accepted content of segment %d cannot be read back", s)
	}
	if err != nil {
		// The record is durable: what is in place now is not what it speaks of.
		j.broken[s] = err
		j.structureChanged()
		return j.stored(err)
	}
	j.openTail(s)
	j.structureChanged()
	return j.broken[s]
}

// keepsFloor is R5: content that has the node's floor is not replaced by content that lacks it; and C5:
// content that covers the purge point agrees with it.
func (j *Journal) keepsFloor(l recovery.Local, inc *store.Incoming, end segments.End) error {
	lacks := func(at segments.Position) (bool, error) {
		if at == end.Position() {
			return false, nil
		}
		d, found, err := inc.DigestAt(at.TxID)
		return !found || d != at.Digest, err
	}
	if p := l.Purged; end.First <= p.TxID && p.TxID <= end.Last {
		if bad, err := lacks(p); err != nil || bad {
			return cmp.Or(err, error(&recovery.BreachError{Rule: "C5", Segment: end.First, Text: fmt.Sprintf("ending %s does not contain the purge point %s", end, p)}))
		}
	}
	if !l.HoldsFloor {
		return nil
	}
	bad, err := lacks(l.Floor.At)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if bad {
		return &recovery.BreachError{Rule: "R5", Segment: end.First, Text: fmt.Sprintf("ending %s does not contain %s", end, l.Floor)}
	}
	return nil
}

// Finalize closes a segment at its decided end (R7). Owner only.
func (j *Journal) Finalize(h rpc.Header, end segments.End) error {
	if err := j.admit(h); err != nil {
		return err
	}
	return j.finalize(end)
}

func (j *Journal) finalize(end segments.End) error {
	s := end.First
	what, err := recovery.DecideFinalize(j.local(s), end)
	if err != nil || what == recovery.FinalizeDone {
		return err
	}
	if err := j.withRoom(func() error { _, err := j.tails[s].w.Finalize(end); return err }); err != nil {
		return j.stored(err)
	}
	delete(j.tails, s)
	if err := j.dropAccepted(s); err != nil {
		return err
	}
	j.structureChanged()
	return nil
}

// InstallFinalized puts a finalized segment in place that was copied from a peer (A1): it was decided,
// so it replaces whatever unfinished copy is here, except one that holds something committed which it
// lacks (R5; that would be a divergence). The incoming copy belongs to the journal now. Owner only.
func (j *Journal) InstallFinalized(inc *store.Incoming, end segments.End) error {
	s := end.First
	l := j.local(s)
	switch {
	case j.poisoned != nil || j.unknown != nil || j.config.IsEmpty():
		_ = inc.Abort() // a temporary: what is left of it goes at the next open
		return fmt.Errorf("%w: takes no segments now", rpc.ErrUnknownNode)
	case l.Copy.State == recovery.Finalized:
		_ = inc.Abort() // a temporary: what is left of it goes at the next open
		if l.Copy.Last != end.Position() {
			return &recovery.MismatchError{State: recovery.Finalized, Got: l.Copy.Last, Want: end}
		}
		return nil
	}
	if err := j.keepsFloor(l, inc, end); err != nil {
		_ = inc.Abort() // a temporary: what is left of it goes at the next open
		return err
	}
	if t := j.tails[s]; t != nil {
		delete(j.tails, s)
		_ = t.w.Close() // the file is set aside; nothing is written through it any more
	}
	why := segments.ReasonLeftover
	if l.Copy.State == recovery.Unknown {
		why = segments.ReasonDamaged // A2
	}
	if _, err := inc.InstallFinalized(end, why); err != nil {
		return j.stored(err)
	}
	delete(j.broken, s)
	if err := j.dropAccepted(s); err != nil {
		return err
	}
	j.structureChanged()
	return nil
}

// NewIncoming starts a copy of a finalized segment, which the caller fills outside the owner (A1).
// Owner only.
func (j *Journal) NewIncoming(prev segments.End, e fencing.Epoch) (*store.Incoming, error) {
	if err := j.poisoned; err != nil {
		return nil, fmt.Errorf("%w: %w", rpc.ErrPoisoned, err)
	}
	if err := j.mayGrow(); err != nil {
		return nil, err
	}
	j.incoming++
	hdr := segments.Header{Journal: j.id, First: prev.Next(), Epoch: e, Prev: prev}
	inc, err := j.store.NewIncoming(hdr, fmt.Sprintf("repair%d", j.incoming))
	return inc, j.stored(err)
}

func (j *Journal) dropAccepted(s segments.TxID) error {
	_, good := j.accepted[s]
	_, bad := j.badAccepted[s]
	if !good && !bad {
		return nil
	}
	if err := j.save(func() error { return j.files.removeAccepted(s) }); err != nil {
		return err
	}
	delete(j.accepted, s)
	delete(j.badAccepted, s)
	return nil
}
