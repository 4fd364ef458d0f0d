package quorumloss

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
)

// ErrHasMajority: what is to be reset has its majority. Nothing is lost there, and nothing has to be reset.
var ErrHasMajority = errors.New("quorumloss: it has its majority, so nothing has to be reset")

// ErrNoNode: a node was named that nobody knows, or that is no server of the group.
var ErrNoNode = errors.New("quorumloss: no such node")

// Reset says which group is to be overwritten, where, and by what.
type Reset struct {
	Journal string // none: the catalog's group
	Node    string
	Peers   []string
	// DespiteMajority: the operator means it although the group has its majority.
	DespiteMajority bool
}

// MakeReset plans to overwrite the members of one group on one node: the catalog's where no journal is named.
// It is RecoverQuorum's blunt sister: it brings nothing together, and nobody else is told.
//
// Errors: ErrHasMajority; ErrStopped.
func MakeReset(f Facts, r Reset) (*Plan, error) {
	f.Sort()
	p := newReset(fmt.Sprintf("%x", f.Cluster))
	at, err := f.node(r.Node)
	if err != nil {
		return nil, err
	}
	if at.Err != nil {
		return nil, fmt.Errorf("%w: %s: %w", rpc.ErrUnavailable, r.Node, at.Err)
	}
	p.Survivors = append(p.Survivors, storage(at.Member))
	for _, n := range f.Nodes {
		p.Generation = max(p.Generation, n.Group.Record.Generation)
	}
	p.Generation++
	var to []Storage
	for _, id := range r.Peers {
		n, err := f.node(id)
		if err != nil {
			return nil, err
		}
		to = append(to, storage(n.Member))
	}
	if to, err = checkPeers(to); err != nil {
		return nil, err
	}
	if r.Journal == "" {
		err = f.resetGroup(p, at, to)
	} else {
		err = f.resetJournal(p, r, to)
	}
	switch {
	case err != nil:
		return nil, err
	case p.Majority != "" && !r.DespiteMajority:
		return nil, fmt.Errorf("%w: %s", ErrHasMajority, p.Majority)
	}
	return p, p.Seal()
}

func newReset(cluster string) *Plan {
	return &Plan{Schema: Schema, Kind: ResetPeers, Cluster: cluster, Survivors: []Storage{}, Lost: []Storage{}, Journals: []JournalPlan{}}
}

// checkPeers sorts them.
func checkPeers(to []Storage) ([]Storage, error) {
	slices.SortFunc(to, compareStorages)
	same := func(a, b Storage) bool { return compareStorages(a, b) == 0 }
	if len(to) == 0 || len(slices.CompactFunc(slices.Clone(to), same)) != len(to) {
		return nil, fmt.Errorf("%w: the new peers must be named, each once", rpc.ErrBadRequest)
	}
	return to, nil
}

// resetGroup gives the catalog's group, as that node sees it, other members.
func (f *Facts) resetGroup(p *Plan, at NodeFacts, to []Storage) error {
	if !slices.Contains(to, p.Survivors[0]) {
		return errNotAmongPeers
	}
	if at.Group.Down != "" { // nobody knows whether it has its majority
		return &UnreadError{at.Member.ID, at.Group.Down}
	}
	p.Group = &GroupPlan{Voters: to, Before: []ServerPlan{}, Newest: string(at.Member.ID), GiveUp: []Storage{}}
	voters, up := 0, 0
	for _, s := range at.Group.Servers {
		n := f.storage(s.Key)
		sp := ServerPlan{Storage: Storage{Node: string(s.Key.ID), Incarnation: s.Key.Incarnation.String()}, Voter: s.Voter}
		sp.Alive = n.Err == nil && n.Group.Down == "" && n.Group.Servers != nil
		if sp.Alive {
			sp.LastIndex, sp.LastTerm = n.Group.LastIndex, n.Group.LastTerm
		}
		if s.Voter {
			voters++
			if n.Err == nil { // also where it is being started: it will vote
				up++
			}
		}
		p.Group.Before = append(p.Group.Before, sp)
	}
	slices.SortFunc(p.Group.Before, func(a, b ServerPlan) int { return compareStorages(a.Storage, b.Storage) })
	switch {
	case at.Group.Leader != "":
		p.Majority = fmt.Sprintf("the catalog's group has a leader, %s, and with it a majority; %d of its %d voters answer", at.Group.Leader, up, voters)
	case up > voters/2:
		p.Majority = fmt.Sprintf("the catalog's group has its majority, %d of its %d voters answer, and will have a leader soon", up, voters)
	}
	return nil
}

var errNotAmongPeers = fmt.Errorf("%w: the node itself must be one of the catalog group's new peers", rpc.ErrBadRequest)

// resetJournal gives a journal other members. A config that is installed anywhere outranks the catalog's (M9), so in
// the end everybody takes it over: what is lost is what the new members do not hold.
func (f *Facts) resetJournal(p *Plan, r Reset, to []Storage) error {
	i := slices.IndexFunc(f.Journals, func(j JournalFacts) bool { return j.Name == r.Journal && !j.Deleted })
	if i < 0 {
		return fmt.Errorf("%w: %s", rpc.ErrNoJournal, r.Journal)
	}
	all := f.Journals[i]
	j, err := all.plan(*f, true) // the facts; what is to be done comes next
	if err != nil {
		return err
	}
	cfg, err := all.Config()
	if err != nil {
		return err
	}
	j.Action, j.Why, j.Members, j.NewVersion = Force, "asked for on node "+r.Node+" alone", to, all.newVersion()
	answering := func(m quorum.Member) bool {
		return slices.ContainsFunc(all.Copies, func(c CopyFacts) bool { return c.Node == m.Key() && c.known() })
	}
	if cfg.Majority(answering) {
		p.Majority = fmt.Sprintf("journal %s has its majority: %s", r.Journal, answers(cfg, answering))
	}
	all.among(to).keeps(&j, cfg)
	all.certain(&j)
	p.Journals = append(p.Journals, j)
	return nil
}

func answers(cfg quorum.Config, answering func(quorum.Member) bool) string {
	ms := cfg.Members()
	up := slices.DeleteFunc(slices.Clone(ms), func(m quorum.Member) bool { return !answering(m) })
	return fmt.Sprintf("%d of its %d members answer", len(up), len(ms))
}

// among is the journal as only these storages know it.
func (f *JournalFacts) among(to []Storage) *JournalFacts {
	out := *f
	out.Copies = slices.Clone(f.Copies)
	for i, c := range out.Copies {
		if !slices.ContainsFunc(to, func(s Storage) bool { m, err := s.Member(); return err == nil && m.Key() == c.Node }) {
			out.Copies[i] = CopyFacts{Node: c.Node, Err: errLeftOut}
		}
	}
	return &out
}

var errLeftOut = errors.New("quorumloss: it is left out")

// keeps says what these storages hold together, and what may be lost beside it. That they cannot be compared does
// not stop a reset; it is said.
func (f *JournalFacts) keeps(j *JournalPlan, cfg quorum.Config) {
	ch := f.choose()
	if err := f.finalizedAgree(); err != nil {
		ch.err = err
	}
	if ch.err == nil && len(ch.need) > 0 {
		ch.err = fmt.Errorf("%w: segment %d, %d digests are missing", recovery.ErrNotComparable, f.Newest(), len(ch.need))
	}
	if ch.err != nil {
		j.Why += fmt.Sprintf("; what the new members hold cannot be told from here: %v", ch.err)
		j.Loss.Possible = true
		return
	}
	if j.Segment = uint64(f.Newest()); j.Segment > 0 {
		j.Last, j.Digest = uint64(ch.choice.End.Last), ch.choice.End.Digest.String()
	}
	for _, id := range ch.choice.Sources {
		j.Sources = append(j.Sources, string(id))
	}
	f.loss(j, cfg, func(m quorum.Member) bool {
		return slices.ContainsFunc(f.Copies, func(c CopyFacts) bool { return c.Node == m.Key() && c.known() })
	})
}

// storage finds what one storage answered.
func (f *Facts) storage(k quorum.Key) NodeFacts {
	i := slices.IndexFunc(f.Nodes, func(n NodeFacts) bool { return n.Member.Key() == k })
	if i < 0 {
		return NodeFacts{Err: rpc.ErrUnavailable}
	}
	return f.Nodes[i]
}

// node finds the storage of a node: the one that answers, where there are two.
func (f *Facts) node(id string) (NodeFacts, error) {
	var found *NodeFacts
	for i, n := range f.Nodes {
		if n.Member.ID == quorum.NodeID(id) && (found == nil || n.Err == nil) {
			found = &f.Nodes[i]
		}
	}
	if found == nil {
		return NodeFacts{}, fmt.Errorf("%w: %s", ErrNoNode, id)
	}
	return *found, nil
}

// Directory is what the directory of a node that does not run says of the catalog's group.
type Directory struct {
	Cluster             rpc.ClusterID
	Self                quorum.Member
	Generation          uint64 // of the last recovery that it took part in
	Servers             []rpc.GroupServer
	LastIndex, LastTerm uint64
}

// MakeOffline plans to give the catalog's group other members in one directory. The new ones are servers that the
// group has, named by id or id/incarnation. Those that are not named leave the cluster: nothing but that keeps them
// from going on among themselves (Q9).
//
// Errors: ErrHasMajority.
func MakeOffline(d Directory, r Reset) (*Plan, error) {
	p := newReset(fmt.Sprintf("%x", d.Cluster))
	p.Kind, p.Generation = ResetOffline, d.Generation+Jump // what the others took part in is not known here
	p.Survivors = append(p.Survivors, storage(d.Self))
	g := &GroupPlan{Newest: string(d.Self.ID), Before: []ServerPlan{}, GiveUp: []Storage{}}
	var to []Storage
	for _, name := range r.Peers {
		s, err := d.server(name)
		if err != nil {
			return nil, err
		}
		to = append(to, s)
	}
	to, err := checkPeers(to)
	if err != nil {
		return nil, err
	}
	voters, named := 0, 0
	for _, s := range d.Servers {
		st := ofKey(s.Key)
		sp := ServerPlan{Storage: st, Voter: s.Voter, Alive: s.Key == d.Self.Key()}
		if sp.Alive {
			sp.LastIndex, sp.LastTerm = d.LastIndex, d.LastTerm
		}
		g.Before = append(g.Before, sp)
		in := slices.Contains(to, st)
		if !in {
			g.GiveUp = append(g.GiveUp, st)
		}
		if s.Voter {
			voters++
			if in {
				named++
			}
		}
	}
	slices.SortFunc(g.Before, func(a, b ServerPlan) int { return compareStorages(a.Storage, b.Storage) })
	slices.SortFunc(g.GiveUp, compareStorages)
	g.Voters, p.Group, p.Lost = to, g, g.GiveUp
	if !slices.Contains(to, ofKey(d.Self.Key())) {
		return nil, errNotAmongPeers
	}
	if named > voters/2 {
		p.Majority = fmt.Sprintf("the new peers are a majority of the group as it is, %d of %d voters: started, they have a leader", named, voters)
		if !r.DespiteMajority {
			return nil, fmt.Errorf("%w: %s", ErrHasMajority, p.Majority)
		}
	}
	return p, p.Seal()
}

func ofKey(k quorum.Key) Storage {
	return Storage{Node: string(k.ID), Incarnation: k.Incarnation.String()}
}

// server finds a server of the group by id, or by id/incarnation.
func (d Directory) server(name string) (Storage, error) {
	var found, all []Storage
	for _, s := range d.Servers {
		st := ofKey(s.Key)
		all = append(all, st)
		if name == st.Node || name == st.Node+"/"+st.Incarnation {
			found = append(found, st)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Storage{}, fmt.Errorf("%w: %s is no server of the catalog's group, which has %s", ErrNoNode, name, strings.Join(servers(all), ", "))
	}
	return Storage{}, fmt.Errorf("%w: there are %d storages of %q; name one as id/incarnation: %s", rpc.ErrBadRequest, len(found), name, strings.Join(servers(found), ", "))
}

func servers(ss []Storage) (out []string) {
	for _, s := range ss {
		out = append(out, s.Node+"/"+s.Incarnation)
	}
	return out
}
