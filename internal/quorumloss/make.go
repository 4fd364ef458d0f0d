package quorumloss

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// ErrStopped is the class of StoppedError.
var ErrStopped = errors.New("quorumloss: no plan can be made")

// StoppedError names the journal whose survivors do not agree, or cannot be compared (Q1). Nothing is
// guessed; with the journal left out the others can go on.
type StoppedError struct {
	Journal string
	Err     error
}

func (e *StoppedError) Error() string {
	return fmt.Sprintf("quorumloss: journal %s: %v", e.Journal, e.Err)
}

// Is makes errors.Is(err, ErrStopped) true.
func (e *StoppedError) Is(target error) bool { return target == ErrStopped }

// Unwrap returns why.
func (e *StoppedError) Unwrap() error { return e.Err }

// UnreadError names a survivor that answers, and whose log of the catalog is not known: its part in the group is
// being started, or cannot be. That log may be the newest (Q1).
type UnreadError struct {
	Node quorum.NodeID
	Why  string
}

func (e *UnreadError) Error() string {
	return fmt.Sprintf("quorumloss: node %s answers, and its log of the catalog, which may be the newest, is not known (%s): survey again when it is, or restart the node", e.Node, e.Why)
}

// Is makes errors.Is(err, ErrStopped) true.
func (e *UnreadError) Is(target error) bool { return target == ErrStopped }

// Options of a plan.
type Options struct {
	// Skip names journals that are left as they are.
	Skip []string
	// WithoutLog names nodes that answer, and whose log of the catalog is given up: it cannot be read any more.
	WithoutLog []string
	// Drop names journals that the catalog is to forget: nobody who is left holds anything of them (Q8).
	Drop []string
}

// check: a name that is mistyped must not be found out after the fact.
func (o Options) check(f Facts) error {
	for _, name := range o.Skip {
		if !slices.ContainsFunc(f.Journals, func(j JournalFacts) bool { return j.Name == name }) {
			return fmt.Errorf("%w: %s", rpc.ErrNoJournal, name)
		}
	}
	for _, name := range o.WithoutLog {
		if !slices.ContainsFunc(f.Nodes, func(n NodeFacts) bool { return string(n.Member.ID) == name && n.Err == nil }) {
			return fmt.Errorf("%w: no node %s answers", rpc.ErrBadRequest, name)
		}
	}
	for _, name := range o.Drop {
		switch {
		case slices.Contains(o.Skip, name):
			return fmt.Errorf("%w: journal %s is both skipped and dropped", rpc.ErrBadRequest, name)
		case !slices.ContainsFunc(f.Journals, func(j JournalFacts) bool { return j.Name == name && j.listed() }):
			return fmt.Errorf("%w: %s", rpc.ErrNoJournal, name)
		}
	}
	return nil
}

// Make makes the plan. It needs no digests any more: JournalFacts.Questions is empty for each journal.
func Make(f Facts, o Options) (*Plan, error) {
	f.Sort()
	if err := o.check(f); err != nil {
		return nil, err
	}
	p := &Plan{Schema: Schema, Kind: RecoverQuorum, Cluster: fmt.Sprintf("%x", f.Cluster), Survivors: []Storage{}, Lost: []Storage{}, Journals: []JournalPlan{}}
	for _, n := range f.Nodes {
		if n.Err != nil {
			p.Lost = append(p.Lost, storage(n.Member))
			continue
		}
		p.Survivors = append(p.Survivors, storage(n.Member))
		p.Generation = max(p.Generation, n.Group.Record.Generation)
	}
	p.Generation++
	var err error
	if p.Group, err = f.group(p.Lost, o.WithoutLog); err != nil {
		return nil, err
	}
	for i := range f.Journals {
		name := f.Journals[i].Name
		j, err := f.Journals[i].plan(f, slices.Contains(o.Skip, name))
		if err == nil && slices.Contains(o.Drop, name) && f.Journals[i].listed() {
			err = f.Journals[i].drop(&j)
		}
		if err != nil {
			return nil, &StoppedError{name, err}
		}
		p.Journals = append(p.Journals, j)
	}
	return p, p.Seal()
}

// group: the servers go on without the lost ones if these were too many (Q6), and if the log of each survivor is
// known (Q1).
func (f *Facts) group(lost []Storage, without []string) (*GroupPlan, error) {
	g, whole := f.survivors(lost)
	if whole {
		return nil, nil
	}
	for _, n := range f.Nodes {
		if n.Err == nil && n.Group.Down != "" && !slices.Contains(without, string(n.Member.ID)) {
			return nil, &UnreadError{n.Member.ID, n.Group.Down}
		}
	}
	return g, nil
}

// survivors: who has the newest log tells who the servers are. They are whole if a majority of them answers.
func (f *Facts) survivors(lost []Storage) (g *GroupPlan, whole bool) {
	alive := map[quorum.Key]NodeFacts{}
	var newest NodeFacts
	for _, n := range f.Nodes {
		if n.Err != nil || n.Group.Down != "" || len(n.Group.Servers) == 0 {
			continue
		}
		alive[n.Member.Key()] = n
		if newest.Group.Servers == nil || cmp.Or(cmp.Compare(n.Group.LastTerm, newest.Group.LastTerm), cmp.Compare(n.Group.LastIndex, newest.Group.LastIndex)) > 0 {
			newest = n
		}
	}
	if newest.Group.Servers == nil {
		return nil, false
	}
	g = &GroupPlan{Newest: string(newest.Member.ID), Voters: []Storage{}, Before: []ServerPlan{}, GiveUp: lost}
	voters, up := 0, 0
	for _, s := range newest.Group.Servers {
		sp := ServerPlan{Storage: Storage{Node: string(s.Key.ID), Incarnation: s.Key.Incarnation.String()}, Voter: s.Voter}
		n, ok := alive[s.Key]
		if ok {
			sp.Storage, sp.Alive, sp.LastIndex, sp.LastTerm = storage(n.Member), true, n.Group.LastIndex, n.Group.LastTerm
			g.Voters = append(g.Voters, sp.Storage)
		}
		if s.Voter {
			voters++
			if ok {
				up++
			}
		}
		g.Before = append(g.Before, sp)
	}
	slices.SortFunc(g.Before, func(a, b ServerPlan) int { return compareStorages(a.Storage, b.Storage) })
	slices.SortFunc(g.Voters, compareStorages)
	if len(g.Voters) == 0 {
		return nil, false
	}
	return g, up > voters/2
}

func compareStorages(a, b Storage) int {
	return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Incarnation, b.Incarnation))
}

// plan decides on one journal.
func (f *JournalFacts) plan(all Facts, skip bool) (JournalPlan, error) {
	j := JournalPlan{
		Name: f.Name, ID: f.ID.String(), Sets: [][]Storage{}, Copies: []CopyPlan{}, Members: []Storage{}, Later: []Storage{},
		Sources: []string{}, Floors: []FloorPlan{}, Loss: Loss{Holes: []Range{}},
	}
	cfg, err := f.Config()
	if err != nil && !skip {
		return j, err
	}
	j.Version = cfg.Version
	for _, set := range cfg.Sets {
		var ss []Storage
		for _, m := range set {
			m.Addr = all.addr(m) // which differs with who was asked first
			ss = append(ss, storage(m))
		}
		j.Sets = append(j.Sets, ss)
	}
	for _, c := range f.Copies {
		d := c.describe()
		d.Storage = storage(quorum.Member{ID: c.Node.ID, Incarnation: c.Node.Incarnation, Addr: all.addr(quorum.Member{ID: c.Node.ID, Incarnation: c.Node.Incarnation})})
		j.Copies = append(j.Copies, d)
	}
	known := func(m quorum.Member) bool {
		return slices.ContainsFunc(f.Copies, func(c CopyFacts) bool { return c.Node == m.Key() && c.known() })
	}
	switch {
	case skip:
		j.Action, j.Why = Leave, "it was left out on request"
		return j, nil
	case f.Deleted || len(cfg.Sets) == 0:
		j.Action, j.Why = Leave, "it is deleted, or being deleted"
		return j, nil
	case cfg.Majority(known):
		j.Action, j.Why = Keep, "a majority of its members answers"
		return j, nil
	case !slices.ContainsFunc(cfg.Members(), known):
		return j, f.lost(&j, cfg, all)
	}
	return j, f.force(&j, cfg, known, all)
}

// lost: no member can say what it holds. One that answers and cannot read it has not lost it (N2): it may be
// mended, so nobody takes the journal for gone.
func (f *JournalFacts) lost(j *JournalPlan, cfg quorum.Config, all Facts) error {
	for _, m := range cfg.Members() {
		if all.answers(m) {
			j.Action, j.Why = Leave, fmt.Sprintf("no member that answers can read it; %s holds it, unreadable, and may be mended", m.ID)
			return nil
		}
	}
	j.Action, j.Why, j.Loss.All = Lost, "no member answers: nobody who is left holds anything of it", true
	return nil
}

// listed: the name is the journal's.
func (f *JournalFacts) listed() bool { return !f.Deleted || f.Deleting }

// drop has the catalog forget a journal of which nothing is left, or one that is being deleted and waits for
// members that never answer (Q8).
func (f *JournalFacts) drop(j *JournalPlan) error {
	switch {
	case f.Deleting:
		j.Why = "it is being deleted, and waits for members that are lost"
	case j.Action != Lost:
		return fmt.Errorf("%w: it is not lost as a whole (%s: %s); it is not dropped", rpc.ErrBadRequest, j.Action, j.Why)
	}
	j.Action = Drop
	j.NewVersion = f.newVersion()
	return nil
}

// newVersion outranks every config that anybody may have (Q4).
func (f *JournalFacts) newVersion() uint64 {
	var v uint64
	for _, c := range f.Configs {
		v = max(v, c.Version)
	}
	return v + Jump
}

// answers: that storage answers, whatever it has to say of the journal.
func (f *Facts) answers(m quorum.Member) bool {
	return slices.ContainsFunc(f.Nodes, func(n NodeFacts) bool { return n.Err == nil && n.Member.Same(m) })
}

// force fills in how the journal goes on.
func (f *JournalFacts) force(j *JournalPlan, cfg quorum.Config, known func(quorum.Member) bool, all Facts) error {
	j.Action, j.Why = Force, "a majority of its members is lost"
	for _, c := range f.Copies {
		if c.Err == nil && c.State.Poisoned != "" {
			return fmt.Errorf("%w: node %s takes no writes since one failed (%s): restart it first", rpc.ErrPoisoned, c.Node.ID, c.State.Poisoned)
		}
	}
	if err := f.finalizedAgree(); err != nil {
		return err
	}
	ch := f.choose()
	switch {
	case ch.err != nil:
		return ch.err
	case len(ch.need) > 0:
		return fmt.Errorf("%w: segment %d, %d digests are missing", recovery.ErrNotComparable, f.Newest(), len(ch.need))
	}
	j.Segment, j.Last, j.Digest = uint64(f.Newest()), uint64(ch.choice.End.Last), ch.choice.End.Digest.String()
	if f.Newest() == 0 {
		j.Last, j.Digest = 0, ""
	}
	for _, id := range ch.choice.Sources {
		j.Sources = append(j.Sources, string(id))
	}
	j.NewVersion = f.newVersion()
	for _, c := range f.Copies {
		j.MinEpoch = max(j.MinEpoch, uint64(c.State.Promised.Epoch), uint64(c.Answer.Copy.Ballot()))
	}
	j.MinEpoch += Jump
	f.seat(j, ch, cfg, all)
	f.loss(j, cfg, known)
	return nil
}

// seat says who the members are (Q3): all that hold the choice, and of the others no more than these, so that
// no majority is without one. The rest is added by an ordinary change, which copies to them first.
func (f *JournalFacts) seat(j *JournalPlan, ch chosen, cfg quorum.Config, all Facts) {
	room := len(ch.holders)
	for _, m := range cfg.Members() {
		i := slices.IndexFunc(f.Copies, func(c CopyFacts) bool { return c.Node == m.Key() })
		if i < 0 || !f.Copies[i].known() {
			continue
		}
		m.Addr = all.addr(m)
		switch {
		case slices.Contains(ch.holders, m.Key()):
			j.Members = append(j.Members, storage(m))
		case room > 0:
			room--
			j.Members = append(j.Members, storage(m))
		default:
			j.Later = append(j.Later, storage(m))
		}
	}
	slices.SortFunc(j.Members, compareStorages)
	slices.SortFunc(j.Later, compareStorages)
	for _, l := range ch.lost {
		if slices.ContainsFunc(j.Members, func(s Storage) bool { m, _ := s.Member(); return m.Key() == l.node }) {
			m := quorum.Member{ID: l.node.ID, Incarnation: l.node.Incarnation}
			m.Addr = all.addr(m)
			j.Floors = append(j.Floors, FloorPlan{storage(m), uint64(l.floor.Segment), uint64(l.floor.Epoch), uint64(l.floor.At.TxID), l.floor.At.Digest.String()})
		}
	}
	slices.SortFunc(j.Floors, func(a, b FloorPlan) int { return compareStorages(a.Storage, b.Storage) })
}

func (f *Facts) addr(m quorum.Member) string {
	for _, n := range f.Nodes {
		if n.Member.Same(m) {
			return n.Member.Addr
		}
	}
	return m.Addr
}

// loss says what may be lost. Where the nodes that do not answer, or whose data is unknown, were no majority
// of one of the sets, each commit has a survivor, and nothing is.
func (f *JournalFacts) loss(j *JournalPlan, cfg quorum.Config, known func(quorum.Member) bool) {
	j.Loss.Possible = cfg.Majority(func(m quorum.Member) bool { return !known(m) })
	f.certain(j)
	j.Loss.Holes = append(j.Loss.Holes, f.holes()...)
}

// certain: a floor tells of what is not kept.
func (f *JournalFacts) certain(j *JournalPlan) {
	for _, c := range f.Copies {
		if c.Err != nil {
			continue
		}
		for _, at := range []segments.TxID{c.State.Answer.Floor.At.TxID, c.Answer.Floor.At.TxID} {
			if uint64(at) > j.Last {
				j.Loss.CertainFirst, j.Loss.CertainLast = j.Last+1, max(j.Loss.CertainLast, uint64(at))
			}
		}
	}
}

// holes are transactions before the newest segment that no survivor holds finalized and whole. What a
// survivor purged is covered by a snapshot that it holds (C2).
func (f *JournalFacts) holes() []Range {
	next := segments.TxID(1)
	var all []rpc.SegmentInfo
	for _, c := range f.Copies {
		if !c.known() {
			continue
		}
		next = max(next, c.State.Answer.Purged.TxID+1)
		all = append(all, c.Segments...)
	}
	slices.SortFunc(all, func(a, b rpc.SegmentInfo) int { return cmp.Compare(a.First, b.First) })
	var out []Range
	for _, s := range all {
		if s.State != recovery.Finalized || s.Last.TxID < next || s.First >= f.Newest() {
			continue
		}
		if s.First > next {
			out = append(out, Range{uint64(next), uint64(s.First - 1)})
		}
		next = s.Last.TxID + 1
	}
	if s := f.Newest(); s > next {
		out = append(out, Range{uint64(next), uint64(s - 1)})
	}
	return out
}

// finalizedAgree: two finalized copies of one segment that differ are a divergence, whichever segment it is
// (Q1).
func (f *JournalFacts) finalizedAgree() error {
	type seen struct {
		node quorum.NodeID
		last segments.Position
	}
	ends := map[segments.TxID]seen{}
	for _, c := range f.Copies {
		if !c.known() {
			continue
		}
		for _, s := range c.Segments {
			if s.State != recovery.Finalized {
				continue
			}
			o, ok := ends[s.First]
			if ok && o.last != s.Last {
				return &recovery.DivergenceError{
					Segment: s.First, What: "finalized copies differ",
					Nodes: []quorum.NodeID{o.node, c.Node.ID}, Ends: []segments.Position{o.last, s.Last},
				}
			}
			ends[s.First] = seen{c.Node.ID, s.Last}
		}
	}
	return nil
}

func (c CopyFacts) describe() CopyPlan {
	p := CopyPlan{State: "lost"}
	switch {
	case c.Err != nil:
		return p
	case c.None:
		p.State = recovery.Absent.String()
		return p
	}
	a := c.Answer
	p.State = a.Copy.State.String()
	if !c.State.DataKnown {
		p.State = recovery.Unknown.String()
	}
	p.ConfigVersion, p.Promised = c.State.Summary.Config.Version, uint64(c.State.Promised.Epoch)
	p.Segment, p.Epoch, p.Ballot, p.Last = uint64(a.Copy.Segment), uint64(a.Copy.Epoch), uint64(a.Copy.Ballot()), uint64(a.Copy.Last.TxID)
	p.Digest = a.Copy.Last.Digest.String()
	if !a.Copy.Accepted.IsZero() {
		p.Accepted = fmt.Sprintf("%s in epoch %d", a.Copy.Accepted.End, a.Copy.Accepted.Epoch)
	}
	p.Floor, p.FloorSegment, p.Purged = uint64(a.Floor.At.TxID), uint64(a.Floor.Segment), uint64(a.Purged.TxID)
	p.FloorDigest = a.Floor.At.Digest.String()
	if a.Copy.CutAt != nil {
		p.CutAt = uint64(a.Copy.CutAt.TxID)
	}
	return p
}
