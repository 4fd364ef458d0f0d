package recovery

import (
	"errors"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/segments"
)

// ErrUnknownData is why a node whose copy cannot be read in full does not take part (N2).
var ErrUnknownData = errors.New("recovery: the node's copy is unknown (damaged)")

// Local is what a node holds as far as a request about one segment is concerned.
type Local struct {
	Copy   Copy
	Newest segments.TxID // first txid of the newest segment here; 0 = none
	Floor  Floor
	Purged segments.Position // the purge point here (C5)
	// HoldsFloor: the node's own copy of this segment has the floor's digest at the floor's txid, so
	// it holds what was committed.
	HoldsFloor bool
}

// losesFloor reports whether content that ends at last (and, where it is longer than the floor, is
// not known to hold it) would drop what this copy holds as committed.
func (l Local) losesFloor(last segments.TxID) bool {
	return l.HoldsFloor && l.Floor.Segment == l.Copy.Segment && last < l.Floor.At.TxID
}

// StartDecision is what StartSegment does.
type StartDecision struct {
	// Again: the segment was started by this epoch before. Ack the last durable position, touch
	// nothing (W0; touching it would drop frames that were acknowledged, S1 of the review).
	Again bool
	// Otherwise, in this order on disk: remove the accepted record, set the old copy aside, create.
	RemoveAccepted bool
	SetAside       bool
	AsideReason    string
}

// DecideStart is rule W0 for StartSegment(prev.Next()) by epoch e, already admitted by the fence.
func DecideStart(l Local, e fencing.Epoch, s segments.TxID, prev segments.End) (StartDecision, error) {
	c := l.Copy
	switch {
	case prev.Last+1 != s:
		return StartDecision{}, breach("W0", s, "previous segment %s does not end before it", prev)
	case l.Purged.TxID != 0 && l.Purged.TxID == prev.Last && l.Purged.Digest != prev.Digest:
		return StartDecision{}, breach("C5", s, "follows %s, and what was purged here ends %s", prev, l.Purged)
	case (c.State == InProgress || c.State == Finalized) && c.Epoch == e && c.Prev != prev:
		return StartDecision{}, breach("W0", s, "epoch %d started it after %s, now after %s", e, c.Prev, prev)
	case c.State == InProgress && c.Epoch == e && !c.Accepted.IsZero():
		return StartDecision{}, breach("R2a", s, "epoch %d both started it and has an accepted record on it", e)
	case (c.State == InProgress || c.State == Finalized) && c.Epoch == e:
		// Finalized: the writer's own Finalize, of which it did not hear. It sends it again when it
		// knows that nothing is missing here.
		return StartDecision{Again: true}, nil
	case c.State == Finalized:
		return StartDecision{}, breach("W0", s, "is finalized here (%s)", c.Last)
	case (c.State == InProgress || c.State == Unknown) && c.Epoch > e:
		return StartDecision{}, breach("W0", s, "the copy here has a higher epoch (got %d, have %d)", e, c.Epoch)
	case c.Accepted.Epoch >= e:
		return StartDecision{}, breach("W0", s, "an ending was accepted in epoch %d (got %d)", c.Accepted.Epoch, e)
	case l.Newest > s:
		return StartDecision{}, breach("W0", s, "a later segment stands here (%d)", l.Newest)
	case c.State == Unknown && (c.Epoch == 0 || c.Epoch == e):
		// Its own epoch's acknowledged frames may be in there: it must not come back as "nothing".
		return StartDecision{}, ErrUnknownData
	case c.State != Absent && l.losesFloor(s-1):
		return StartDecision{}, breach("W0", s, "would lose %s", l.Floor)
	}
	// A purged one may come back: this node installed a snapshot in the middle of it (C3), and the writer
	// fills it. Its frames must agree with the purge point, see HoldsPurged.
	there := c.State != Absent && c.State != Purged
	d := StartDecision{RemoveAccepted: !c.Accepted.IsZero(), SetAside: there, AsideReason: "stale"}
	if c.State == Unknown {
		d.AsideReason = "damaged"
	}
	return d, nil
}

// AcceptMethod is how a node makes its copy equal to the chosen content (R4).
type AcceptMethod uint8

const (
	// AcceptDone: it is finalized here with this very end, or this accept was done before.
	AcceptDone AcceptMethod = iota
	// AcceptInPlace: the copy is equal, and was verified since open; sync it, then write the record.
	AcceptInPlace
	// AcceptOwnPrefix: a prefix of the copy is the content, if the digest at End.Last agrees; build a
	// temporary from it.
	AcceptOwnPrefix
	// AcceptFetch: the content must come from a source.
	AcceptFetch
)

// DecideAccept is rules R4 and R5 for Accept(end) by epoch e, already admitted by the fence. holds
// tells whether a frame of the own copy ends at end.Last with end.Digest.
func DecideAccept(l Local, e fencing.Epoch, end segments.End, holds bool) (AcceptMethod, error) {
	c := l.Copy
	switch {
	case end.Last < end.First:
		return 0, breach("R6", end.First, "an empty ending needs no accept")
	case c.State == Finalized && c.Last == end.Position():
		return AcceptDone, nil
	case c.State == Finalized:
		return 0, &MismatchError{State: Finalized, Got: c.Last, Want: end}
	case c.Accepted.Epoch == e && c.Accepted.End != end:
		return 0, breach("R2a", end.First, "epoch %d accepted %s before, now %s", e, c.Accepted.End, end)
	case c.Accepted.Epoch > e:
		return 0, breach("R4", end.First, "an ending was accepted in epoch %d (got %d)", c.Accepted.Epoch, e)
	case c.State == InProgress && c.Epoch >= e:
		return 0, breach("R2a", end.First, "the copy here is of epoch %d (got %d)", c.Epoch, e)
	case l.Newest > end.First:
		return 0, breach("R4", end.First, "a later segment stands here (%d)", l.Newest)
	case l.losesFloor(end.Last):
		return 0, breach("R5", end.First, "ending at %d would lose %s", end.Last, l.Floor)
	case !HoldsPurged(l.Purged, end.Position()):
		return 0, breach("C5", end.First, "ending %s lacks what was purged here, up to %s", end, l.Purged)
	case c.State == InProgress && c.Last == end.Position() && c.Accepted == (Accepted{e, end}):
		return AcceptDone, nil
	case c.State == InProgress && c.Last == end.Position():
		return AcceptInPlace, nil
	case c.State == InProgress && holds:
		return AcceptOwnPrefix, nil
	}
	return AcceptFetch, nil
}

// FinalizeDecision is what Finalize does.
type FinalizeDecision uint8

const (
	// FinalizeDone: finalized with this end before.
	FinalizeDone FinalizeDecision = iota
	// FinalizeNow: write the footer, sync, rename, sync the directory.
	FinalizeNow
)

// DecideFinalize is rule R7 (and W8's node side) for Finalize(end), already admitted by the fence.
// Equality of (txid, digest) is what makes it safe whoever wrote the copy. A node that holds anything
// else answers *MismatchError and is repaired by anti-entropy.
func DecideFinalize(l Local, end segments.End) (FinalizeDecision, error) {
	c := l.Copy
	switch {
	case c.State == Unknown:
		return 0, ErrUnknownData
	case c.State == Purged && end.Position() == l.Purged:
		return FinalizeDone, nil
	case c.State == Purged:
		return 0, &MismatchError{State: c.State, Got: l.Purged, Want: end}
	case c.State == Absent || c.Last != end.Position():
		return 0, &MismatchError{State: c.State, Got: c.Last, Want: end}
	case c.State == Finalized:
		return FinalizeDone, nil
	}
	return FinalizeNow, nil
}

// HoldsPurged reports whether content that ends at a position may hold the purge point: it ends there with
// that digest, or behind it (its digest at the purge point is to be compared then).
func HoldsPurged(purged, end segments.Position) bool {
	return purged.TxID < end.TxID || purged == end
}
