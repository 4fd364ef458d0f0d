package catalog

import (
	"cmp"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
)

// Place chooses members for a new journal: nodes that stay, spread over the values of a label where
// spread names one, the least loaded first, ties by id. A node of which answers says no is chosen for want of
// others only, whatever its label; nil: all do. It decides nothing by itself; its answer goes into CreateJournal or
// BeginChange.
func Place(nodes []Node, journals []Journal, replicas int, spread string, answers func(Node) bool) ([]quorum.Member, error) {
	if replicas < 1 || replicas > quorum.MaxMembers {
		return nil, invalid("replicas", replicas, quorum.MaxMembers)
	}
	load := loads(journals)
	free := slices.DeleteFunc(slices.Clone(nodes), func(n Node) bool { return n.Leaving })
	if len(free) < replicas {
		return nil, refuse(ErrTooFewNodes, "nodes that stay", len(free), replicas)
	}
	var out []quorum.Member
	used := map[string]int{} // chosen nodes by the label's value; nodes without it are one group
	for len(out) < replicas {
		best := slices.MinFunc(free, func(a, b Node) int {
			there, group := 0, 0
			if answers != nil && answers(a) != answers(b) {
				if there = 1; answers(a) {
					there = -1
				}
			}
			if spread != "" {
				group = cmp.Compare(used[a.Labels[spread]], used[b.Labels[spread]])
			}
			return cmp.Or(there, group, cmp.Compare(load[key(a.Member())], load[key(b.Member())]), compareMembers(a.Member(), b.Member()))
		})
		used[best.Labels[spread]]++
		out = append(out, best.Member())
		free = slices.DeleteFunc(free, func(n Node) bool { return n.ID == best.ID })
		if len(free) == 0 && len(out) < replicas {
			return nil, refuse(ErrTooFewNodes, "nodes that stay", len(out), replicas)
		}
	}
	return sortedSet(out), nil
}

func key(m quorum.Member) nodeKey { return nodeKey{m.ID, m.Incarnation} }

// loads counts, by node, the journals that it is or becomes a member of.
func loads(journals []Journal) map[nodeKey]int {
	load := map[nodeKey]int{}
	for _, j := range journals {
		for _, m := range j.Config.Members() {
			load[key(m)]++
		}
		if j.Change != nil && j.Change.Stage == StageLearning {
			for _, m := range j.Change.Learners() {
				load[key(m)]++
			}
		}
	}
	return load
}
