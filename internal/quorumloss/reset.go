package quorumloss

import (
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
)

// MakeReset plans to overwrite the members of one group on one node: the catalog's where no journal is named.
// It is RecoverQuorum's blunt sister: it compares nothing, and nobody else is told.
func MakeReset(f Facts, journal, node string, peers []string) (*Plan, error) {
	f.Sort()
	p := &Plan{Schema: Schema, Kind: ResetPeers, Cluster: fmt.Sprintf("%x", f.Cluster), Survivors: []Storage{}, Lost: []Storage{}, Journals: []JournalPlan{}}
	at, err := f.node(node)
	if err != nil {
		return nil, err
	}
	if at.Err != nil {
		return nil, fmt.Errorf("%w: %s: %w", rpc.ErrUnavailable, node, at.Err)
	}
	p.Survivors = append(p.Survivors, storage(at.Member))
	for _, n := range f.Nodes {
		p.Generation = max(p.Generation, n.Group.Record.Generation)
	}
	p.Generation++
	var to []Storage
	for _, id := range peers {
		n, err := f.node(id)
		if err != nil {
			return nil, err
		}
		to = append(to, storage(n.Member))
	}
	slices.SortFunc(to, compareStorages)
	if len(to) == 0 || len(slices.Compact(slices.Clone(to))) != len(to) {
		return nil, fmt.Errorf("%w: the new peers must be named, each once", rpc.ErrBadRequest)
	}
	if journal == "" {
		if !slices.Contains(to, p.Survivors[0]) {
			return nil, fmt.Errorf("%w: the node itself must be one of the catalog group's new peers", rpc.ErrBadRequest)
		}
		p.Group = &GroupPlan{Voters: to, Before: []ServerPlan{}, Newest: node, GiveUp: []Storage{}}
		for _, s := range at.Group.Servers {
			p.Group.Before = append(p.Group.Before, ServerPlan{Storage: Storage{Node: string(s.Key.ID), Incarnation: s.Key.Incarnation.String()}, Voter: s.Voter})
		}
		return p, p.Seal()
	}
	i := slices.IndexFunc(f.Journals, func(j JournalFacts) bool { return j.Name == journal && !j.Deleted })
	if i < 0 {
		return nil, fmt.Errorf("%w: %s", rpc.ErrNoJournal, journal)
	}
	j, err := f.Journals[i].plan(f, true)
	if err != nil {
		return nil, err
	}
	j.Action, j.Why, j.Members = Force, "asked for on node "+node+" alone", to
	for _, c := range f.Journals[i].Configs {
		j.NewVersion = max(j.NewVersion, c.Version)
	}
	j.NewVersion += Jump
	j.Loss.Possible = true
	p.Journals = append(p.Journals, j)
	return p, p.Seal()
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
		return NodeFacts{}, fmt.Errorf("%w: no node %q is known", rpc.ErrBadRequest, id)
	}
	return *found, nil
}
