package membership

import (
	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/segments"
)

// Report is what one node told of the journal. The zero Report is that of a node that did not answer.
type Report struct {
	// Heard: the node answered, with the storage that the catalog knows it by (N1).
	Heard bool
	// Err is why it did not, or why it cannot take part: no room, another version of the software.
	Err string
	// Config is what it has installed. Zero: it does not have the journal.
	Config quorum.Config
	// Promised is its promise, and DataKnown whether it can read its newest segment (N2).
	Promised  fencing.Claim
	DataKnown bool
	// WriterHeard: a write stream was heard there within the bound that makes a writer live, or the node has not
	// been up for as long as that, and cannot tell.
	WriterHeard bool
	// Writer is who has a write stream to the node, and Reached what that writer answered last when it was asked
	// whether it reaches the learners (M6). Question tells answers apart: a higher one was asked later; 0: there is
	// none, or none that is new enough.
	Writer   fencing.Claim
	Question uint64
	Reached  []Reached
	// HasData: it holds segments or snapshots of the journal.
	HasData bool
	// Finalized is the end of the finalized segments that it holds without a hole, from the purge point on.
	Finalized segments.TxID
	// Seal is what a writer told of the segment that it writes; zero: nothing (M4).
	Seal Seal
	// Before is the end of the segment before Seal.Segment, by the header of the copy that the seal's epoch
	// wrote here; zero where the node has none.
	Before segments.End
	// HoldsBefore: all before the seal is finalized here, with the digest that View.Before names, and the
	// newest listed snapshot is held and verified where segments were purged.
	HoldsBefore bool
}

// Reached is what a writer said of one node. Err is why it does not reach it; empty: it does.
type Reached struct {
	Node quorum.Key
	Err  string
}

// Seal names the segment that sealed a config (M4).
type Seal struct {
	Version uint64
	catalog.Seal
}

// View is all that a decision rests on.
type View struct {
	Journal catalog.Journal
	Reports map[quorum.Key]Report
	// Expired: the change has made no progress for its bound.
	Expired bool
	// Unanswered: the writer was asked again and again, for its bound, and never answered.
	Unanswered bool
}

func (v *View) report(m quorum.Member) Report { return v.Reports[m.Key()] }

// has reports whether a majority of the set satisfies f.
func has(set []quorum.Member, f func(quorum.Member) bool) bool {
	return quorum.Config{Sets: [][]quorum.Member{set}}.Majority(f)
}

func (v *View) installed(m quorum.Member) bool {
	return v.report(m).Config.Version >= v.Journal.Config.Version
}

// heard: a majority of each set of the config answered (M9).
func (v *View) heard() bool {
	return v.Journal.Config.Majority(func(m quorum.Member) bool { return v.report(m).Heard })
}

// live: a majority of the set has a writer's stream with a heartbeat. It is the nodes that tell: the leader
// cannot know a writer that is dead from one that is cut off from itself.
func (v *View) live(set []quorum.Member) bool {
	return has(set, func(m quorum.Member) bool { return v.report(m).WriterHeard })
}

// Live reports whether a change at its beginning has a writer to reckon with.
func (v *View) Live() bool { return v.Journal.Change != nil && v.live(v.Journal.Change.Old) }

// Writer returns the writer that has a stream to a majority of the old members. Two cannot: each of those
// nodes has promised one claim.
func (v *View) Writer() (fencing.Claim, bool) {
	for _, m := range v.Journal.Change.Old {
		w := v.report(m).Writer
		if !w.IsZero() && has(v.Journal.Change.Old, func(m quorum.Member) bool { r := v.report(m); return r.WriterHeard && r.Writer == w }) {
			return w, true
		}
	}
	return fencing.Claim{}, false
}

// Answering returns those of the members that answer.
func (v *View) Answering(ms []quorum.Member) []quorum.Member { return v.reachable(ms) }

// Answered reports whether the writer has given an answer that counts.
func (v *View) Answered(w fencing.Claim) bool { return v.answer(w).Question > 0 }

// answer is the newest that the writer gave to any of the old members.
func (v *View) answer(w fencing.Claim) (newest Report) {
	for _, m := range v.Journal.Change.Old {
		if r := v.report(m); r.Writer == w && r.Question > newest.Question {
			newest = r
		}
	}
	return newest
}

// sealedUnder returns the seal that nodes were told of for the config version, with the end before it.
func (v *View) sealedUnder(version uint64) (Seal, segments.End, bool) {
	var seal Seal
	for _, m := range v.Journal.Config.Members() {
		if r := v.report(m); r.Seal.Version == version && r.Seal.Epoch > seal.Epoch {
			seal = r.Seal
		}
	}
	for _, m := range v.Journal.Config.Members() {
		if r := v.report(m); seal.Epoch > 0 && r.Seal == seal && r.Before.Next() == seal.Segment {
			return seal, r.Before, true
		}
	}
	return seal, segments.End{}, false
}
