package journal

import (
	"io"

	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// Incomplete reports whether this node can tell by itself that it lacks something that was finalized: a
// hole between its purge point and its newest segment, a leftover there, or a damaged copy. Anyone.
func (j *Journal) Incomplete() bool {
	view, _ := j.Watch()
	next := view.Purged.TxID + 1
	infos := j.store.Infos()
	for i, in := range infos {
		if in.Finalized && in.Last <= view.Purged.TxID {
			continue // it will go; what is wrong with it is nobody's business any more
		}
		if in.First > next || in.State == store.StateDamaged {
			return true
		}
		if in.Finalized {
			next = in.Last + 1
			continue
		}
		if i < len(infos)-1 {
			return true // in progress, below the newest
		}
	}
	return false
}

// Needs returns the first txid behind the purge point that is not here: where this node would go on if it had
// to catch up. Anyone.
func (j *Journal) Needs() segments.TxID {
	view, _ := j.Watch()
	next := view.Purged.TxID + 1
	infos := j.store.Infos()
	for i, in := range infos {
		if in.First <= next && (in.State == store.StateFinalized || in.Open && i == len(infos)-1) { // else a leftover
			next = max(next, in.Last+1)
		}
	}
	return next
}

// FinalizedFirsts lists the finalized segments. Anyone.
func (j *Journal) FinalizedFirsts() []segments.TxID {
	var out []segments.TxID
	for _, in := range j.store.Infos() {
		if in.State == store.StateFinalized {
			out = append(out, in.First)
		}
	}
	return out
}

// Verify reads a finalized segment in full through wrap; damage makes it unknown from then on (A2, N2).
// Anyone.
func (j *Journal) Verify(s segments.TxID, wrap func(io.ReaderAt) io.ReaderAt) error {
	return j.store.Verify(s, wrap)
}

// Quarantine sets a finalized copy aside that a majority contradicts (R2): it is served no longer, and
// what was decided is pulled in its place. Owner only.
func (j *Journal) Quarantine(s segments.TxID) error {
	if err := j.stored(j.store.SetAside(s, segments.ReasonLeftover)); err != nil {
		return err
	}
	j.structureChanged()
	return nil
}
