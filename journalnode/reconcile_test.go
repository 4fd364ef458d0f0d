package journalnode

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/raftgroup"
	"github.com/quorumjournal/qjm/segments"
)

func catalogNode(i int, voter, leaving bool) catalog.Node {
	return catalog.Node{ID: quorum.NodeID(fmt.Sprintf("n%d", i)), Incarnation: quorum.Incarnation{byte(i)}, Voter: voter, Leaving: leaving}
}

func server(i int, voter bool) raftgroup.Member {
	x := catalogNode(i, voter, false)
	return raftgroup.Member{ID: serverID(x.ID, x.Incarnation), Voter: voter}
}

// TestDutiesOf: what the leader finds to do, and nothing where all is as the catalog has it.
func TestDutiesOf(t *testing.T) {
	cluster := rpc.ClusterID{1}
	one := catalogNode(1, true, false)
	at := func(i int) quorum.Member { return catalogNode(i, false, false).Member() }
	former := catalog.Former{Member: at(1), Version: 2}
	deleted := catalog.Journal{ID: segments.JournalID{7}, Deleted: true, Former: []catalog.Former{former}}
	reclaimed := deleted
	reclaimed.Reclaimed = true
	for name, tc := range map[string]struct {
		in   known
		want []duty
	}{
		"not founded": {in: known{}, want: []duty{{kind: foundCatalog}}},
		"all is well": {in: known{cluster: cluster, nodes: []catalog.Node{one}, servers: []raftgroup.Member{server(1, true)}}},
		"a node came": {in: known{cluster: cluster, nodes: []catalog.Node{catalogNode(2, false, false)}}, want: []duty{{kind: addServer, node: at(2)}}},
		"it copies": {
			in:   known{cluster: cluster, nodes: []catalog.Node{catalogNode(2, false, false)}, servers: []raftgroup.Member{server(2, false)}},
			want: []duty{{kind: promoteServer, node: at(2)}},
		},
		"it votes, and the catalog was not told": {
			in:   known{cluster: cluster, nodes: []catalog.Node{catalogNode(2, false, false)}, servers: []raftgroup.Member{server(2, true)}},
			want: []duty{{kind: recordVoter, node: at(2)}},
		},
		"it votes no more": {
			in:   known{cluster: cluster, nodes: []catalog.Node{catalogNode(2, true, false)}, servers: []raftgroup.Member{server(2, false)}},
			want: []duty{{kind: recordNoVoter, node: at(2)}},
		},
		"it is being taken out": {
			in: known{cluster: cluster, nodes: []catalog.Node{catalogNode(2, true, false)}, removing: map[raftgroup.ServerID]bool{server(2, true).ID: true}},
		},
		"it leaves, and is out": {
			in:   known{cluster: cluster, nodes: []catalog.Node{catalogNode(2, true, true)}},
			want: []duty{{kind: recordNoVoter, node: at(2)}},
		},
		"one that leaves gets no vote": {
			in: known{cluster: cluster, nodes: []catalog.Node{catalogNode(2, false, true)}, servers: []raftgroup.Member{server(2, false)}},
		},
		"a lost storage votes, and another one took its place": {
			in: known{
				cluster: cluster, nodes: []catalog.Node{one, catalogNode(2, true, true), catalogNode(3, true, false)},
				servers: []raftgroup.Member{server(1, true), server(2, true), server(3, true)},
			},
			want: []duty{{kind: dropVote, node: at(2)}},
		},
		"a delete under way":     {in: known{cluster: cluster, journals: []catalog.Journal{deleted}}, want: []duty{{kind: finishDelete, journal: deleted.ID}}},
		"a tombstone to be told": {in: known{cluster: cluster, journals: []catalog.Journal{reclaimed}}, want: []duty{{kind: forgetFormer, journal: deleted.ID, node: at(1)}}},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, tc.want, dutiesOf(tc.in)) })
	}
	full := known{cluster: cluster}
	for i := 1; i <= rpc.VotersMax+1; i++ {
		full.nodes = append(full.nodes, catalogNode(i, i <= rpc.VotersMax, false))
		full.servers = append(full.servers, server(i, i <= rpc.VotersMax))
	}
	require.Empty(t, dutiesOf(full), "there are as many votes as there may be")
}

// TestM8_DeleteInForce: a majority of the members that the journal had.
func TestM8_DeleteInForce(t *testing.T) {
	var j catalog.Journal
	j.Config.Version = 4
	for i := 1; i <= 3; i++ {
		j.Former = append(j.Former, catalog.Former{Member: catalogNode(i, false, false).Member(), Version: 4})
	}
	j.Former = append(j.Former, catalog.Former{Member: catalogNode(9, false, false).Member(), Version: 2})
	m := func(i int) quorum.Member { return catalogNode(i, false, false).Member() }
	require.False(t, deleteInForce(j, nil))
	require.False(t, deleteInForce(j, []quorum.Member{m(1), m(9)}), "who left before does not count")
	require.True(t, deleteInForce(j, []quorum.Member{m(1), m(3)}))
	other := m(3)
	other.Incarnation = quorum.Incarnation{99}
	require.False(t, deleteInForce(j, []quorum.Member{m(1), other}), "N1: another storage")
}
