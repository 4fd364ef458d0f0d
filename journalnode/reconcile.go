package journalnode

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/raftgroup"
	"github.com/quorumjournal/qjm/segments"
)

// dutyKind is one thing that the leader does to make things as the catalog has them.
type dutyKind uint8

const (
	foundCatalog  dutyKind = iota // the first command of all
	addServer                     // a registered node comes into the group
	promoteServer                 // a server that has caught up gets its vote
	recordVoter                   // the catalog is told who votes
	recordNoVoter
	dropVote      // a lost storage votes no more
	finishDelete  // a deleted journal's name gets free
	forgetFormer  // a member that has the tombstone is told all it has to know
	readmitMember // a journal goes over to the storage that took the place of a lost one
	removeLost    // a lost storage leaves the cluster, since nothing needs it any more
)

// duty names it. Which fields count depends on the kind.
type duty struct {
	kind    dutyKind
	node    quorum.Member
	to      []quorum.Member
	journal segments.JournalID
}

// known is what the leader decides on.
type known struct {
	cluster  rpc.ClusterID
	nodes    []catalog.Node
	journals []catalog.Journal
	servers  []raftgroup.Member
	removing map[raftgroup.ServerID]bool
}

// dutiesOf is the leader's decision as a pure function: what is not yet as the catalog has it. Doing a duty
// twice changes nothing; what is left undone comes again.
func dutiesOf(k known) []duty {
	if k.cluster.IsZero() {
		return []duty{{kind: foundCatalog}}
	}
	var out []duty
	voters := 0
	servers := map[raftgroup.ServerID]raftgroup.Member{}
	for _, s := range k.servers {
		servers[s.ID] = s
		if s.Voter {
			voters++
		}
	}
	for _, x := range k.nodes {
		id := serverID(x.ID, x.Incarnation)
		s, in := servers[id]
		t := duty{node: x.Member()}
		switch {
		case k.removing[id]:
			continue // whoever takes it out tells the catalog, too
		case !in && x.Leaving:
			t.kind = recordNoVoter
			if !x.Voter {
				continue
			}
		case !in:
			t.kind = addServer
		case s.Voter && x.Leaving && voters > 1:
			// It never answers again. With its vote beside its successor's, the next disk that is lost, which may be
			// the successor's, would leave the group without a majority.
			t.kind = dropVote
			voters--
		case s.Voter != x.Voter && s.Voter:
			t.kind = recordVoter
		case s.Voter != x.Voter:
			t.kind = recordNoVoter
		case !s.Voter && !x.Leaving && voters < rpc.VotersMax:
			t.kind = promoteServer
			voters++
		default:
			continue
		}
		out = append(out, t)
	}
	out = append(out, replacements(k, servers, voters)...)
	for _, j := range k.journals {
		switch {
		case j.Deleted && !j.Reclaimed:
			out = append(out, duty{kind: finishDelete, journal: j.ID})
		case j.Reclaimed:
			for _, f := range j.Former {
				out = append(out, duty{kind: forgetFormer, journal: j.ID, node: f.Member})
			}
		}
	}
	return out
}

// replacements: of a storage that was replaced, where the policy says so, the journals are moved first, and
// it leaves the cluster last, when the new one has its vote.
func replacements(k known, servers map[raftgroup.ServerID]raftgroup.Member, voters int) (out []duty) {
	for old, fresh := range replaced(k.nodes) {
		lost := quorum.Member{ID: old.ID, Incarnation: old.Incarnation}
		for _, j := range k.journals {
			if !j.Policy.AutoReadmit || j.Deleted || j.Change != nil || j.InForce < j.Config.Version || !j.Config.Has(old.ID, old.Incarnation) {
				continue
			}
			to := slices.Clone(j.Config.Sets[0])
			to[slices.IndexFunc(to, lost.Same)] = fresh
			out = append(out, duty{kind: readmitMember, journal: j.ID, node: lost, to: to})
		}
		s, in := servers[serverID(fresh.ID, fresh.Incarnation)]
		if in && (s.Voter || voters >= rpc.VotersMax) && !k.removing[serverID(old.ID, old.Incarnation)] && neededBy(lost, k.journals) == nil {
			out = append(out, duty{kind: removeLost, node: lost})
		}
	}
	slices.SortFunc(out, func(a, b duty) int {
		return cmp.Or(a.node.Key().Compare(b.node.Key()), bytes.Compare(a.journal[:], b.journal[:]))
	})
	return out
}

// deletedMembers are those who were members until the journal was deleted.
func deletedMembers(j catalog.Journal) []quorum.Member {
	var out []quorum.Member
	for _, f := range j.Former {
		if f.Version == j.Config.Version {
			out = append(out, f.Member)
		}
	}
	return out
}

// deleteInForce: a majority of the members that the journal had has the empty config (M2, M8). Who was
// forgotten meanwhile is gone, and does not count among them.
func deleteInForce(j catalog.Journal, has []quorum.Member) bool {
	members := deletedMembers(j)
	n := 0
	for _, m := range members {
		if slices.ContainsFunc(has, m.Same) {
			n++
		}
	}
	return n > len(members)/2 || len(members) == 0
}
