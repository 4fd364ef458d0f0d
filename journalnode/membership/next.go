package membership

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/segments"
)

// ErrDivergence: nodes have installed two configs of one version.
var ErrDivergence = errors.New("membership: two configs of one version are installed")

// Options of the decisions. The zero value is the default.
type Options struct {
	// MarginTxns is how far behind the finalized end a learner may be when the joint config is proposed.
	MarginTxns uint64
}

// Next returns what to do now.
func Next(v View, o Options) Action {
	if a := v.outranked(); a != nil {
		return a
	}
	if !v.heard() && v.Journal.Change == nil {
		return v.settle()
	}
	switch {
	case v.Journal.Change == nil:
		return v.settle()
	case !v.heard() && !v.mayAbort():
		return Wait{Why: "a majority of the members must answer: " + v.silent(v.Journal.Config.Members())}
	}
	switch v.Journal.Change.Stage {
	case catalog.StageLearning:
		return v.learning(o)
	case catalog.StageJoint:
		return v.joint()
	case catalog.StageSealed:
		return v.sealed()
	}
	return v.final()
}

// outranked is M9: what nodes have installed outranks what the catalog remembers.
func (v *View) outranked() Action {
	cur := v.Journal.Config
	newest := cur
	for _, k := range sortedKeys(v.Reports) {
		cfg := v.Reports[k].Config
		switch {
		case cfg.Version == newest.Version && cfg.Digest() != newest.Digest():
			return Stop{fmt.Errorf("%w: journal %s, version %d, node %s", ErrDivergence, v.Journal.Name, cfg.Version, k.ID)}
		case cfg.Version > newest.Version:
			newest = cfg
		}
	}
	if newest.Version > cur.Version {
		return Propose{&catalog.Adopt{Journal: v.Journal.ID, Config: newest}}
	}
	return nil
}

// settle puts a config in force that no change waits for: of a new journal, or of an abort. Every member,
// and everybody who left, is given it.
func (v *View) settle() Action {
	// First: a member that refuses the config, beside a majority that has it, must not keep the journal from its
	// next change, or from being deleted.
	if v.Journal.InForce < v.Journal.Config.Version && v.inForce() {
		return Propose{&catalog.InForce{Target: v.target()}}
	}
	if on := v.lacking(v.Journal.Config.Members()); len(on) > 0 {
		return Install{on, v.Journal.Config}
	}
	if on := v.lacking(v.left()); len(on) > 0 {
		return Install{on, v.Journal.Config}
	}
	// Clean-up waits for this: the change is over, so a segment was started under the final config (M8).
	full := slices.DeleteFunc(v.left(), func(m quorum.Member) bool { r := v.report(m); return !r.HasData || r.Err != "" })
	if len(full) > 0 && v.Journal.InForce == v.Journal.Config.Version {
		return CleanUp{full}
	}
	return Nothing{}
}

// inForce is M2: a majority of one set of the config before has installed this one: of a joint config the
// old set, which comes first; of a final one the new set; of an aborted one the old set, which is all of it.
func (v *View) inForce() bool {
	sets := v.Journal.Config.Sets
	return len(sets) > 0 && has(sets[0], v.installed)
}

// learning copies what is finalized to the new members, and validates them, before anything is decided
// (M6).
func (v *View) learning(o Options) Action {
	if v.Journal.InForce < v.Journal.Config.Version {
		if v.inForce() { // first: a new member that refuses must not keep the journal from being deleted
			return Propose{&catalog.InForce{Target: v.target()}}
		}
		return Install{v.lacking(v.Journal.Config.Members()), v.Journal.Config}
	}
	learners := v.Journal.Change.Learners()
	var lacking []quorum.Member
	for _, m := range learners {
		switch r := v.report(m); {
		case !r.Heard || r.Err != "":
			return Wait{Why: fmt.Sprintf("%s does not take part: %s", m.ID, orElse(r.Err, "no answer"))}
		case r.Config.IsZero(), r.Config.Version < v.Journal.Config.Version:
			lacking = append(lacking, m)
		}
	}
	if len(lacking) > 0 {
		return Install{lacking, v.Journal.Config}
	}
	end := segments.TxID(0)
	highest := fencing.Epoch(0)
	for _, m := range v.Journal.Change.Old {
		end = max(end, v.report(m).Finalized)
		highest = max(highest, v.report(m).Promised.Epoch)
	}
	reach, refused := v.reach(learners)
	if refused {
		return Wait{Why: reach, Learners: learners}
	}
	for _, m := range learners {
		r := v.report(m)
		if uint64(r.Finalized)+o.MarginTxns < uint64(end) {
			return Wait{Why: fmt.Sprintf("%s copies: %d of %d txns", m.ID, r.Finalized, end), Learners: learners}
		}
		if r.Promised.Epoch > highest {
			// It promised in a change that was given up. Joint would leave the live writer without a quorum of
			// the new set, so a higher epoch comes first, under the old config (M6).
			return Move{MinEpoch: r.Promised.Epoch + 1, Why: fmt.Sprintf("%s has promised epoch %d", m.ID, r.Promised.Epoch)}
		}
	}
	if reach != "" {
		return Wait{Why: reach, Learners: learners}
	}
	return Propose{&catalog.Joint{Step: v.step()}}
}

// reach is what M6 asks of a live writer: that it reaches each of the new members, from where it is. Joint would
// leave it without a quorum of the new set otherwise, and appends would wait until the change is given up. An
// empty reason: it does, or there is no writer, or it is of a version that does not know the question. Refused:
// it has said no, and the sooner that is told the better.
func (v *View) reach(learners []quorum.Member) (why string, refused bool) {
	if len(learners) == 0 || !v.Live() {
		return "", false
	}
	w, ok := v.Writer()
	if !ok {
		return "a writer was heard lately, and has no stream to a majority: it is asked, or taken for gone, soon", false
	}
	a := v.answer(w)
	switch {
	case a.Question == 0 && v.Unanswered:
		return "", false
	case a.Question == 0:
		return fmt.Sprintf("the writer at epoch %d is asked whether it reaches %s", w.Epoch, names(learners)), false
	}
	for _, m := range learners {
		i := slices.IndexFunc(a.Reached, func(r Reached) bool { return r.Node == m.Key() })
		switch {
		case i < 0:
			return fmt.Sprintf("the writer at epoch %d has not said whether it reaches %s", w.Epoch, m.ID), false
		case a.Reached[i].Err != "":
			return fmt.Sprintf("the writer at epoch %d cannot reach %s (%s): %s", w.Epoch, m.ID, m.Addr, a.Reached[i].Err), true
		}
	}
	return "", false
}

// joint waits until the old config is dead, and then for the seal.
func (v *View) joint() Action {
	cfg := v.Journal.Config
	if on := v.reachable(v.lacking(cfg.Members())); len(on) > 0 {
		return Install{on, cfg}
	}
	seal, _, ok := v.sealedUnder(cfg.Version)
	switch {
	case ok:
		return Propose{&catalog.Sealed{Step: v.step(), Seal: seal.Seal}}
	case v.Expired:
		return v.abort("no progress: " + v.silent(cfg.Members()))
	case !v.inForce():
		return Wait{Why: "the old members must install the joint config: " + v.silent(cfg.Sets[0])}
	case v.live(cfg.Sets[0]):
		return Wait{Why: "a writer was heard lately: it goes over to the joint config, or is taken for gone soon"}
	}
	return Move{Why: "no writer is heard, so the leader seals the joint config"}
}

// sealed checks what final rests on: everything before the seal is finalized, with equal digests, on a
// majority of the new set (M4), and that majority has promised what the old set has (M5).
func (v *View) sealed() Action {
	ch := v.Journal.Change
	if on := v.reachable(v.lacking(v.Journal.Config.Members())); len(on) > 0 {
		return Install{on, v.Journal.Config}
	}
	holds := func(m quorum.Member) bool { return v.installed(m) && v.report(m).HoldsBefore }
	if !has(ch.New, holds) {
		if v.Expired {
			return v.abort("no progress: the new members do not hold everything before the seal")
		}
		return Wait{Why: fmt.Sprintf("the new members copy everything before txid %d", ch.Seal.Segment)}
	}
	claim, ok := v.highestOfOld()
	if !ok {
		return Wait{Why: "the old members' promises must be heard: " + v.silent(ch.Old)}
	}
	if behind := v.behind(ch.New, claim); len(behind) > 0 {
		return Bump{behind, claim}
	}
	return Propose{&catalog.Final{Step: v.step(), Seal: ch.Seal}}
}

// highestOfOld is the highest promise that any of a majority of the old set reports, each after it installed
// the joint config (M5).
func (v *View) highestOfOld() (fencing.Claim, bool) {
	var claim fencing.Claim
	told := func(m quorum.Member) bool { return v.report(m).Heard && v.installed(m) }
	for _, m := range v.Journal.Change.Old {
		if p := v.report(m).Promised; told(m) && p.Epoch > claim.Epoch {
			claim = p
		}
	}
	return claim, has(v.Journal.Change.Old, told)
}

// behind returns who has to raise a promise so that a majority of the set has promised the claim's epoch.
func (v *View) behind(set []quorum.Member, claim fencing.Claim) []quorum.Member {
	enough := func(m quorum.Member) bool { return v.installed(m) && v.report(m).Promised.Epoch >= claim.Epoch }
	if has(set, enough) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(set), func(m quorum.Member) bool { return enough(m) || !v.report(m).Heard })
}

// final puts the new config in force, sees to a first segment under it, and lets those that left go (M8).
func (v *View) final() Action {
	cfg := v.Journal.Config
	if on := v.reachable(v.lacking(cfg.Members())); len(on) > 0 {
		return Install{on, cfg}
	}
	if !v.inForce() {
		return Wait{Why: "the new members must install the final config: " + v.silent(cfg.Members())}
	}
	if v.Journal.InForce < cfg.Version {
		return Propose{&catalog.InForce{Target: v.target()}}
	}
	if seal, _, ok := v.sealedUnder(cfg.Version); !ok || seal.Epoch == 0 {
		if v.live(cfg.Sets[0]) {
			return Wait{Why: "a writer was heard lately: it goes over to the final config, or is taken for gone soon"}
		}
		return Move{Why: "no writer is heard, so the leader starts the first segment under the final config"}
	}
	gone := slices.DeleteFunc(slices.Clone(v.Journal.Change.Old), func(m quorum.Member) bool { return cfg.Has(m.ID, m.Incarnation) })
	if on := v.lacking(v.having(gone)); len(on) > 0 {
		return Install{on, cfg}
	}
	return Propose{&catalog.Finish{Step: v.step()}}
}

// left returns the former members whose tombstones are kept.
func (v *View) left() []quorum.Member {
	var out []quorum.Member
	for _, f := range v.Journal.Former {
		out = append(out, f.Member)
	}
	return v.having(out)
}

// having drops those that do not answer, or never had the journal: a member that was down when it was made, and
// came back too late. It has promised nothing, so it is owed no tombstone, and it takes none: no config that
// it could be given names it.
func (v *View) having(ms []quorum.Member) []quorum.Member {
	return slices.DeleteFunc(v.reachable(ms), func(m quorum.Member) bool { return v.report(m).Config.IsZero() })
}

// lacking returns those that answered, can take part, and have an older config, or none. A member that did not
// answer is given the config by whoever meets it (M0). One that answers and cannot take it (its fence is
// damaged, its disk is full for good) must not hold a change up, least of all the one that replaces it: it is
// left out at once where it says so, and else when the change has expired.
func (v *View) lacking(ms []quorum.Member) []quorum.Member {
	return slices.DeleteFunc(slices.Clone(ms), func(m quorum.Member) bool {
		r := v.report(m)
		return v.installed(m) || !r.Heard || r.Err != "" || v.Expired && v.Journal.Change != nil
	})
}

func (v *View) reachable(ms []quorum.Member) []quorum.Member {
	return slices.DeleteFunc(slices.Clone(ms), func(m quorum.Member) bool { return !v.report(m).Heard })
}

// mayAbort: a change whose nodes are silent can be given up without them.
func (v *View) mayAbort() bool {
	return v.Expired && (v.Journal.Change.Stage == catalog.StageJoint || v.Journal.Change.Stage == catalog.StageSealed)
}

func (v *View) silent(ms []quorum.Member) string {
	s := ""
	for _, m := range ms {
		if r := v.report(m); !r.Heard {
			s += fmt.Sprintf(" %s (%s)", m.ID, orElse(r.Err, "no answer"))
		}
	}
	return orElse(s, "all answer")
}

// abort gives the change up. What the nodes said may be of any length.
func (v *View) abort(why string) Action {
	return Propose{&catalog.Abort{Step: v.step(), Reason: catalog.FitText(why)}}
}

func (v *View) target() catalog.Target {
	return catalog.Target{Journal: v.Journal.ID, ExpectVersion: v.Journal.Config.Version}
}

func (v *View) step() catalog.Step {
	return catalog.Step{Target: v.target(), Change: v.Journal.Change.StartedIndex}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func sortedKeys(m map[quorum.Key]Report) []quorum.Key {
	var ks []quorum.Key
	for k := range m {
		ks = append(ks, k)
	}
	slices.SortFunc(ks, quorum.Key.Compare)
	return ks
}
