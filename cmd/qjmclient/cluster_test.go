package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
)

// TestCluster: who is in the cluster and who leads it, and handing that over.
func TestCluster(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a", "--replicas", "1")
	for _, args := range [][]string{{"cluster", "status"}, {"member", "list"}, {"member", "list", "--consistency", "lease"}, {"cluster", "status", "--consistency", "stale"}} {
		var v clusterJSON
		require.NoError(t, json.Unmarshal([]byte(c.ok(append(args, "-o", "json")...)), &v))
		require.Equal(t, args[0]+"-"+args[1], v.Schema[len("qjm.v1/"):])
		want := "linearizable"
		if len(args) > 2 {
			want = args[3]
		}
		require.Equal(t, want, v.Consistency)
		require.Len(t, v.Nodes, 3)
		require.NotEmpty(t, c.ok(args...))
	}
	var before, after clusterJSON
	require.NoError(t, json.Unmarshal([]byte(c.ok("member", "list", "-o", "json")), &before))
	var m memberJSON
	require.NoError(t, json.Unmarshal([]byte(c.ok("member", "transfer-leader", "-o", "json")), &m))
	require.Equal(t, "leads", m.Result)
	require.NotEqual(t, before.Leader, m.Node)
	require.NoError(t, json.Unmarshal([]byte(c.ok("member", "snapshot", "n1", "-o", "json")), &m))
	require.NotEqual(t, "0", m.Index)
	require.NoError(t, json.Unmarshal([]byte(c.ok("member", "remove", "n3", "--yes", "-o", "json")), &m))
	require.NoError(t, json.Unmarshal([]byte(c.ok("member", "list", "-o", "json")), &after))
	require.Len(t, after.Nodes, 2)
	require.Len(t, after.Outsiders, 1, "it still runs")
	require.Equal(t, "n3", after.Outsiders[0].Node)
	require.Contains(t, c.ok("cluster", "status"), "node n3 ")
	require.NotContains(t, c.ok("cluster", "status", "--consistency", "stale"), "switch it off", "a stale read knows no outsider")
	cluster.Until(time.Minute, "n3 has found out", func() bool { return cluster.Nodes[2].Ready() != nil })
	require.NoError(t, json.Unmarshal([]byte(c.ok("cluster", "status", "-o", "json")), &after))
	require.Contains(t, after.Outsiders[0].Says, "taken out")
	alone := client{t, cluster.Endpoints()[2]}
	require.Contains(t, alone.ok("cluster", "status"), "switch it off", "it sends the client on to the others")
	require.Contains(t, alone.ok("journal", "list"), "a ")
	r := c.do(nil, "member", "list", "--consistency", "loud")
	require.Equal(t, 2, r.code)
}
