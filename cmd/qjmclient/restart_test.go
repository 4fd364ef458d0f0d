package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/journalnode"
)

// TestRestart_AllHaveJoined: the founder has left, and all others, who joined by way of it, are started anew at once.
// Their flags name nobody who is there, and no journal tells of the others: they find each other all the same.
func TestRestart_AllHaveJoined(t *testing.T) {
	var founder []journalnode.Peer
	cluster := testcluster.Start(t, testcluster.Options{Nodes: 4, Idle: true, Tune: func(i int, o *journalnode.Options) {
		if founder = o.InitialCluster[:1]; i == 0 {
			o.InitialCluster = founder
		} else {
			o.InitialCluster, o.Join = nil, []string{founder[0].Addr}
		}
	}})
	for i := range 4 {
		cluster.StartNode(i)
	}
	c := clientOf(t, cluster)
	voters := func(want int) func() bool {
		return func() bool {
			r := c.do(nil, "member", "list", "-o", "json", "--timeout", "1s")
			if r.code != 0 {
				return false
			}
			var v clusterJSON
			require.NoError(t, json.Unmarshal([]byte(r.out), &v))
			n := 0
			for _, x := range v.Nodes {
				if x.Role == "voter" || x.Role == "leader" {
					n++
				}
			}
			return n == want
		}
	}
	require.Eventually(t, voters(4), time.Minute, 20*time.Millisecond)
	c.ok("member", "remove", "n1", "--yes")
	cluster.StopNode(0)
	require.Eventually(t, voters(3), time.Minute, 20*time.Millisecond)
	for i := 1; i < 4; i++ {
		cluster.StopNode(i)
	}
	for i := 1; i < 4; i++ {
		cluster.StartNode(i)
	}
	require.Eventually(t, voters(3), 20*time.Second, 20*time.Millisecond, "they find each other")
}
