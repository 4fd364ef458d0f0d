package membership

import (
	"maps"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/snapshot"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// Told is what one node answered when it was asked for a journal.
type Told struct {
	Member quorum.Member
	State  rpc.JournalState
	List   rpc.SegmentsPage // all pages
	Held   []rpc.HeldSnapshot
	None   bool // it does not have the journal
	// WriterHeard as in Report.
	WriterHeard bool
	Err         error
}

// EndBefore returns the end of the segment before the change's seal, by the header of a copy of the sealed
// segment: one of the seal's epoch, or of a later one, which started it again where it was empty (R6).
func EndBefore(j catalog.Journal, told map[quorum.Key]Told) (segments.End, bool) {
	if j.Change == nil || j.Change.Seal.Segment == 0 {
		return segments.End{}, false
	}
	if j.Change.Seal.Segment == 1 {
		return segments.End{}, true
	}
	for _, k := range slices.SortedFunc(maps.Keys(told), quorum.Key.Compare) {
		for _, s := range told[k].List.Segments {
			if s.First == j.Change.Seal.Segment && s.Epoch >= j.Change.Seal.Epoch && s.Prev.Next() == s.First {
				return s.Prev, true
			}
		}
	}
	return segments.End{}, false
}

// Report judges what the node told; before is EndBefore's, and moved what the leader sealed itself: nodes may
// have forgotten it.
func (t Told) Report(j catalog.Journal, before segments.End, known bool, moved rpc.Seal) Report {
	if t.Err != nil {
		return Report{Err: t.Err.Error()}
	}
	if t.None {
		return Report{Heard: true, HoldsBefore: known && before.IsZero()}
	}
	st := t.State
	r := Report{
		Heard: true, Config: st.Summary.Config, Promised: st.Promised, DataKnown: st.DataKnown, HasData: len(t.List.Segments)+len(t.Held) > 0,
		WriterHeard: t.WriterHeard,
	}
	if st.Poisoned != "" {
		r.Err = "it takes no writes: " + st.Poisoned
	}
	for _, damage := range st.Damaged {
		if damage.Segment == 0 { // of the whole journal: it takes no config either (N2)
			r.Err = "it cannot take part: " + damage.Text
		}
	}
	if moved.Version == j.Config.Version && st.Summary.Config.Version == j.Config.Version {
		st.Seal = moved
	}
	if !st.Seal.IsZero() {
		r.Seal = Seal{Version: st.Seal.Version, Seal: catalog.Seal{Epoch: st.Seal.Epoch, Segment: st.Seal.Segment}}
	}
	if OutByForce(j, t.Member) {
		r.HasData = false // nobody cleans up what may be all that is left of something
	}
	for _, s := range t.List.Segments {
		if s.First == r.Seal.Segment && s.Epoch >= r.Seal.Epoch {
			r.Before = s.Prev
		}
	}
	last, ended := t.finalized(before)
	r.Finalized = last
	r.HoldsBefore = known && (ended || before.IsZero())
	if purged := t.List.Purged; purged.TxID > 0 {
		// What the purge point covers is in the snapshot. A purge point with nothing behind it does not count: a
		// majority of such nodes could not tell what to go on from (C5).
		beyond := j.Change != nil && j.Change.Seal.Segment > 0 && purged.TxID >= j.Change.Seal.Segment
		covers := last > purged.TxID && (beyond || known && purged == before.Position())
		r.HoldsBefore = (r.HoldsBefore || covers) && t.holdsListed(j.Snapshots)
	}
	return r
}

// OutByForce: the member left because a lost majority was given up, or by a config that nodes had before the catalog
// knew of it. What it holds is nobody's to remove: it is copied when it becomes a member again, or an operator looks
// at it.
func OutByForce(j catalog.Journal, m quorum.Member) bool {
	i := slices.IndexFunc(j.Former, func(f catalog.Former) bool { return f.Member.Same(m) })
	return i >= 0 && slices.ContainsFunc(j.History, func(h catalog.HistoryEntry) bool {
		return h.Kind.ByForce() && h.Version == j.Former[i].Version
	})
}

// finalized returns the end of the finalized segments that are there without a hole, from the purge point on,
// and whether one of them has that end (M4). A segment may begin below the purge point: a snapshot was
// installed in the middle of it (C3).
func (t Told) finalized(before segments.End) (last segments.TxID, ended bool) {
	last = t.List.Purged.TxID
	for _, s := range t.List.Segments {
		if s.State != recovery.Finalized || s.First > last+1 || s.Last.TxID <= last {
			continue
		}
		last = s.Last.TxID
		ended = ended || s.Last == before.Position()
	}
	return last, ended
}

// holdsListed: the newest listed snapshot is there, verified by that node.
func (t Told) holdsListed(listed []catalog.Snapshot) bool {
	if len(listed) == 0 {
		return false
	}
	l := listed[0] // newest first
	want := snapshot.Snapshot{TxID: l.TxID, At: l.FrameLast, Size: int64(l.Size), Checksum: l.Checksum, Epoch: l.Epoch}
	return slices.ContainsFunc(t.Held, func(h rpc.HeldSnapshot) bool {
		return h.Snapshot == want && h.Verified && h.Problem == ""
	})
}
