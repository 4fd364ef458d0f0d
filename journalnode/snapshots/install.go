package snapshots

import (
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/segments"
)

// InstallInput is what an installation rests on: the snapshot is listed, here, and verified here.
type InstallInput struct {
	Snapshot Snapshot
	Segments []Segment
	// OwnAt is the digest at Snapshot.At.TxID in the own copy that holds that txid; zero where no frame
	// ends there, or none is known to.
	OwnAt  segments.Digest
	Purged segments.Position // the durable purge point
}

// InstallPlan is what to do: set aside, make Point durable, then remove, oldest first (C5).
type InstallPlan struct {
	Keep     []segments.TxID
	SetAside []segments.TxID
	Remove   []segments.TxID
	// Point is the new purge point: the end of the last segment removed; where something is missing before the
	// segment that holds the snapshot, the end of what comes before that; where that segment is not here, and a
	// later one is finalized here, the snapshot's own position, if its frame ends with it. Behind it there is
	// always a segment that tells an opener what to go on from: of nodes that knew nothing but their purge points
	// a majority could never be opened again (C5).
	Point segments.Position
	// Divergences names finalized segments that are set aside: the snapshot was checked by a majority, so
	// these are a minority's (R2). The caller reports them.
	Divergences []*DivergenceError
}

// fate is what becomes of one segment.
type fate uint8

const (
	fateKeep fate = iota
	fateAside
	fateRemove
)

// InstallDecision says what stays of the own log when a snapshot is installed (C3): segments beyond it, and
// the one that holds it, stay where they agree with its digest; so does what cannot be compared, as damage
// is not absence (N2) and acknowledged frames may be in it. What disagrees is set aside. Finalized segments
// below are removed, but the newest finalized stays (C5), and after a divergence nothing is removed.
//
// ErrHolderMissing where the segment that holds the snapshot is not here, and there is nothing to go on from
// without it: no finalized segment at all, or none behind the purge point that could be taken. So it is where the
// frame that holds the snapshot's transaction has more behind it: nothing covers those, so no purge point may lie
// behind them. Get a segment first: what the peers have not purged.
func InstallDecision(in InstallInput) (InstallPlan, error) {
	if err := in.Snapshot.Validate(); err != nil {
		return InstallPlan{}, err
	}
	segs := slices.SortedFunc(slices.Values(in.Segments), byFirst)
	for _, s := range segs {
		if !s.Finalized && !s.Damaged && s.End.First > 1 && s.End.Last == 0 {
			return InstallPlan{}, fmt.Errorf("%w: segment %d in progress was not opened: its end is not known", ErrInvalid, s.End.First)
		}
	}
	fates := make([]fate, len(segs))
	var bad []segments.End // ends that disagree
	var divergences []*DivergenceError
	holder := -1 // a segment that holds the snapshot stays
	for i, s := range segs {
		whole := slices.IndexFunc(segs[i+1:], func(o Segment) bool { return o.Finalized && !o.Damaged })
		if s.Damaged && s.End.Last == 0 && whole >= 0 {
			s.End.Last = segs[i+1+whole].End.First - 1 // no further: that one was started behind its end
		}
		fates[i] = fateOf(s, in, bad)
		if overtaken(s, segs[i+1:], in) {
			fates[i] = fateAside
		}
		if fates[i] == fateAside && s.Finalized && !s.End.Digest.IsZero() {
			bad = append(bad, s.End)
		}
		if fates[i] == fateAside && s.Finalized && !s.Damaged {
			divergences = append(divergences, &DivergenceError{Segment: s.End.First, Own: ownPosition(s, in), Snapshot: in.Snapshot.ID()})
		}
		if fates[i] == fateKeep && s.End.First <= in.Snapshot.At.TxID && s.End.Last >= in.Snapshot.At.TxID {
			holder = i
		}
	}
	spare(segs, fates, len(divergences) > 0)
	point := before(segs, fates, holder)
	if holder < 0 {
		var all bool
		if point, all = withoutHolder(segs, fates, in.Snapshot); all {
			clear(fates)
			divergences = nil
		}
		if point.TxID <= in.Purged.TxID && in.Purged.TxID < in.Snapshot.At.TxID {
			return InstallPlan{}, fmt.Errorf("%w: %s", ErrHolderMissing, in.Snapshot.ID())
		}
	}
	plan := planned(segs, fates, in.Purged)
	plan.Divergences = divergences
	if point.TxID > plan.Point.TxID {
		plan.Point = point
	}
	return plan, nil
}

// planned sorts the segments by their fates; the purge point covers what is removed.
func planned(segs []Segment, fates []fate, purged segments.Position) InstallPlan {
	plan := InstallPlan{Point: purged}
	for i, s := range segs {
		switch fates[i] {
		case fateKeep:
			plan.Keep = append(plan.Keep, s.End.First)
		case fateAside:
			plan.SetAside = append(plan.SetAside, s.End.First)
		case fateRemove:
			plan.Remove = append(plan.Remove, s.End.First)
			if s.End.Last > plan.Point.TxID && !s.End.Digest.IsZero() {
				plan.Point = s.End.Position()
			}
		}
	}
	return plan
}

// withoutHolder returns how far the purge point may go where the segment that holds the snapshot is not here;
// zero: nowhere. all: every segment stays as it is. Behind what is below the snapshot more is to come, from the
// peers or from a writer; nothing is known to be in its way.
func withoutHolder(segs []Segment, fates []fate, snap Snapshot) (point segments.Position, all bool) {
	newest := -1
	for i, s := range segs {
		if s.Finalized && !s.Damaged && fates[i] == fateKeep {
			newest = i
		}
	}
	switch {
	case newest < 0:
		return segments.Position{}, false
	case segs[newest].End.First <= snap.At.TxID:
		return before(segs, make([]fate, len(segs)), newest), true
	case snap.At.TxID > snap.TxID:
		return segments.Position{}, false
	}
	return snap.At, false
}

// before returns where the unbroken run of segments that ends with the holder begins: what is missing below
// is covered by the snapshot, and nobody is to look for it.
func before(segs []Segment, fates []fate, holder int) segments.Position {
	if holder < 0 {
		return segments.Position{}
	}
	low := holder
	for i := low - 1; i >= 0 && fates[i] == fateKeep && segs[i].Finalized && segs[i].End.Last+1 == segs[low].End.First; i-- {
		low = i
	}
	if prev := segs[low].Prev; prev.Last+1 == segs[low].End.First && !prev.Digest.IsZero() {
		return prev.Position()
	}
	return segments.Position{}
}

// fateOf judges one segment; bad are the ends of those before it that disagree.
func fateOf(s Segment, in InstallInput, bad []segments.End) fate {
	at := in.Snapshot.At
	switch {
	case s.End.First > at.TxID:
		return fateBeyond(s, at, bad)
	case s.Damaged && (s.End.Last == 0 || s.End.Last >= at.TxID):
		return fateKeep // nobody can compare it; scrub will replace it
	case s.End.First <= in.Snapshot.TxID && s.End.Last >= at.TxID:
		if in.OwnAt == at.Digest {
			return fateKeep
		}
		return fateAside
	case s.Finalized && !s.Damaged && s.End.Last < in.Snapshot.TxID:
		return fateRemove
	}
	// Below and in progress or damaged; or it begins or ends within the frame that holds the snapshot.
	return fateAside
}

// fateBeyond: chained to the snapshot, or to nothing that is known to disagree.
func fateBeyond(s Segment, at segments.Position, bad []segments.End) fate {
	switch {
	case s.Damaged || s.Prev.IsZero():
		return fateKeep
	case s.End.First == at.TxID+1 && s.Prev.Position() != at, slices.Contains(bad, s.Prev):
		return fateAside
	}
	return fateKeep
}

// overtaken: a copy that was never finalized goes on beyond where a finalized one has begun, and that one holds the
// snapshot, so the digest at the snapshot is that one's. What was decided ends before it: this is a leftover,
// readable or not, and no peer has anything to put in its place.
func overtaken(s Segment, later []Segment, in InstallInput) bool {
	at := in.Snapshot.At
	return !s.Finalized && slices.ContainsFunc(later, func(o Segment) bool {
		holds := o.Finalized && !o.Damaged && o.End.First <= at.TxID && o.End.Last >= at.TxID
		return holds && o.End.First <= s.End.Last && in.OwnAt == at.Digest
	})
}

// spare takes back removals: of the newest finalized segment, and all after a divergence.
func spare(segs []Segment, fates []fate, divergence bool) {
	newest := -1
	for i, s := range segs {
		if s.Finalized && !s.Damaged && fates[i] != fateAside {
			newest = i
		}
	}
	for i := range fates {
		if fates[i] == fateRemove && (divergence || i == newest) {
			fates[i] = fateKeep
		}
	}
}

// ownPosition is what a segment says where the snapshot is.
func ownPosition(s Segment, in InstallInput) segments.Position {
	if at := in.Snapshot.At.TxID; s.End.First <= at && at <= s.End.Last {
		return segments.Position{TxID: at, Digest: in.OwnAt}
	}
	return s.End.Position()
}
