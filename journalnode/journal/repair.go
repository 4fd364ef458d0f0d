package journal

import (
	"io"

	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// Changes is store.Dir.Changes: while it stays the same, so does what this node holds finalized. Anyone.
func (j *Journal) Changes() uint64 { return j.store.Changes() }

// wholeness is what Incomplete found, and what of.
type wholeness struct {
	known      bool
	changes    uint64
	purged     segments.TxID
	incomplete bool
}

// Incomplete reports whether this node can tell by itself that it lacks something that was finalized: a
// hole between its purge point and its newest segment, a leftover there, or a damaged copy. It is asked all the time,
// and looks again only when a segment came, went, ended or was found damaged, or the purge point moved: it rests on
// nothing else. Anyone.
func (j *Journal) Incomplete() bool {
	now := wholeness{known: true, changes: j.store.Changes()} // before the list: what changes meanwhile is looked at again
	j.viewMu.Lock()
	now.purged = j.view.Purged.TxID
	last := j.whole
	j.viewMu.Unlock()
	now.incomplete = last.incomplete
	if now == last {
		return last.incomplete
	}
	now.incomplete = incomplete(j.store.Infos(), now.purged)
	j.viewMu.Lock()
	j.whole = now
	j.viewMu.Unlock()
	return now.incomplete
}

func incomplete(infos []store.Info, purged segments.TxID) bool {
	next := purged + 1
	for i, in := range infos {
		if in.Finalized && in.Last <= purged {
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
