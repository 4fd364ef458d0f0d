package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
)

// noLeader waits until the survivors know that they have none, and each its log of the catalog.
func (c client) noLeader() {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		var s surveyJSON
		require.NoError(c.t, json.Unmarshal([]byte(c.ok("unsafe", "recover-quorum", "survey", "-o", "json")), &s))
		for _, n := range s.Nodes {
			if n.Answers && (n.Leader != "" || n.Down != "") {
				return false
			}
		}
		return true
	}, time.Minute, 20*time.Millisecond)
}

// TestRecoverQuorum walks the way that an operator walks: survey, plan, apply.
func TestRecoverQuorum(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a")
	require.Equal(t, 0, c.do(strings.NewReader("x\ny\n"), "journal", "append", "a").code)
	require.Eventually(t, func() bool { return c.do(nil, "journal", "status", "a").code == 0 }, time.Minute, 10*time.Millisecond)

	whole := c.ok("unsafe", "recover-quorum", "plan")
	require.Contains(t, whole, "there is nothing to do")
	require.Contains(t, c.ok("unsafe", "recover-quorum", "survey"), "CATALOG: its group is left alone")

	cluster.StopNode(1)
	cluster.StopNode(2)
	c.noLeader()
	require.Equal(t, 5, c.do(strings.NewReader("z\n"), "journal", "append", "a", "--timeout", "500ms").code)

	require.Regexp(t, `(?m)^n2 +member +unreachable +- +- +[0-9a-f]{8}$`, c.ok("quorum", "show", "a", "--consistency", "stale"), "nobody told a number")
	r := c.do(nil, "cluster", "status", "--timeout", "500ms")
	require.Equal(t, 5, r.code)
	require.Contains(t, words(r.err), "see: qjmclient unsafe recover-quorum survey")
	table := c.ok("unsafe", "recover-quorum", "survey")
	fits(t, table)
	require.Contains(t, table, "JOURNAL a: config 1; force: a majority of its members is lost")
	first, second := c.ok("unsafe", "recover-quorum", "plan"), c.ok("unsafe", "recover-quorum", "plan")
	fits(t, first)
	require.Equal(t, first, second, "a plan is deterministic")
	require.Contains(t, words(first), "a majority of the old members runs again and reaches nobody else", "why they must stay off")
	require.Contains(t, words(first), "LOSS: what the group decided without them is lost")
	require.Contains(t, first, "members from now on: n1, config 1001")
	require.Contains(t, first, "kept: everything up to txid 2")
	require.Contains(t, words(first), "LOSS: the lost nodes were enough to commit without the others; what they acknowledged beyond txid 2 is lost")
	var plan libqjm.RecoveryPlan
	require.NoError(t, json.Unmarshal([]byte(c.ok("unsafe", "recover-quorum", "plan", "-o", "json")), &plan))
	require.Equal(t, "qjm.v1/recovery-plan", plan.Schema)
	require.Contains(t, first, "plan digest "+plan.Digest)

	apply := []string{"unsafe", "recover-quorum", "apply"}
	require.Equal(t, 2, c.do(nil, apply...).code)
	require.Equal(t, 2, c.do(nil, append(apply, "--i-understand-data-loss")...).code)
	require.Equal(t, 2, c.do(nil, append(apply, "--plan-digest", plan.Digest)...).code)
	wrong := append(apply, "--i-understand-data-loss", "--plan-digest", strings.Repeat("0", 32))
	require.Equal(t, 4, c.do(nil, wrong...).code)
	require.Equal(t, 4, c.do(nil, append(apply, "--dry-run", "--plan-digest", strings.Repeat("0", 32))...).code)
	require.Equal(t, first, c.ok(append(apply, "--dry-run")...))
	require.Equal(t, first, c.ok("unsafe", "recover-quorum", "plan"), "nothing was done")

	apply = append(apply, "--i-understand-data-loss", "--plan-digest", plan.Digest)
	var out applyJSON
	require.NoError(t, json.Unmarshal([]byte(c.ok(append(apply, "-o", "json")...)), &out))
	require.Equal(t, applyJSON{Schema: "qjm.v1/recovery-apply", Result: "recovered", Digest: plan.Digest, Journals: []string{"a"}, Dropped: []string{}, Left: []string{"keep n2, n3 switched off; give each a blank disk before it is started again"}}, out)
	require.Contains(t, c.ok(apply...), "carried out before")
	require.Equal(t, "x\ny\n", c.ok("journal", "tail", "a"))
	require.Equal(t, 0, c.do(strings.NewReader("z\n"), "journal", "append", "a").code)
	require.Contains(t, c.ok("quorum", "history", "a"), "forced")
}

// words is a text without its line breaks.
func words(text string) string { return strings.Join(strings.Fields(text), " ") }

// TestRecoverQuorum_Drop: a journal of which nothing is left is named, and dropped only when that is asked for.
func TestRecoverQuorum_Drop(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a", "--replicas", "1")
	var d describeJSON
	require.NoError(t, json.Unmarshal([]byte(c.ok("journal", "describe", "a", "-o", "json")), &d))
	for i := range 3 {
		if cluster.ID(i) == d.Sets[0][0] {
			cluster.StopNode(i)
		}
	}
	require.Eventually(t, func() bool { return c.do(nil, "cluster", "status", "--timeout", "1s").code == 0 }, time.Minute, 10*time.Millisecond)

	text := c.ok("unsafe", "recover-quorum", "plan")
	fits(t, text)
	for _, want := range []string{"JOURNAL a: config 1; lost: no member answers", "LOSS: all of it", "plan and apply with --drop a", "there is nothing to do"} {
		require.Contains(t, words(text), want)
	}
	fits(t, c.ok("unsafe", "recover-quorum", "survey"))
	for _, flag := range []string{"--drop", "--skip"} { // a name that is mistyped is not found out after the fact
		r := c.do(nil, "unsafe", "recover-quorum", "plan", flag, "b")
		require.Equal(t, 4, r.code, flag)
		require.Contains(t, r.err, "no such journal: b")
	}
	c.ok("unsafe", "recover-quorum", "plan", "--skip", "a")
	text = c.ok("unsafe", "recover-quorum", "plan", "--drop", "a")
	fits(t, text)
	require.Contains(t, words(text), "drop: no member answers")
	require.Contains(t, words(text), "it leaves the catalog, and its name is free")
	require.NotContains(t, text, "there is nothing to do")
	var plan libqjm.RecoveryPlan
	require.NoError(t, json.Unmarshal([]byte(c.ok("unsafe", "recover-quorum", "plan", "--drop", "a", "-o", "json")), &plan))
	apply := []string{"unsafe", "recover-quorum", "apply", "--i-understand-data-loss", "--plan-digest", plan.Digest, "-o", "json"}
	require.Equal(t, 4, c.do(nil, apply...).code, "it is asked for each time")
	var out applyJSON
	require.NoError(t, json.Unmarshal([]byte(c.ok(append(apply, "--drop", "a")...)), &out))
	require.Equal(t, "recovered", out.Result)
	require.Equal(t, []string{"a"}, out.Dropped)
	require.Len(t, out.Left, 2)
	require.Contains(t, out.Left[0], "qjmclient journal create a")
	require.Contains(t, out.Left[1], "only where they reach the others")
	c.ok("journal", "create", "a")
	require.Equal(t, 0, c.do(strings.NewReader("x\n"), "journal", "append", "a").code)
}

// TestResetPeers_HasAMajority: where nothing is lost nothing is reset, but on an explicit word; and no loss is told
// where there is none.
func TestResetPeers_HasAMajority(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a")
	require.Equal(t, 0, c.do(strings.NewReader("x\ny\n"), "journal", "append", "a").code)
	require.Eventually(t, func() bool { return c.do(nil, "journal", "status", "a").code == 0 }, time.Minute, 10*time.Millisecond)
	one := []string{"unsafe", "reset-peers", "--node", "n1", "--new-peers", "n1"}
	r := c.do(nil, one...)
	require.Equal(t, 4, r.code)
	require.Contains(t, words(r.err), "the catalog's group has a leader")
	require.Contains(t, words(r.err), "and with it a majority; 3 of its 3 voters answer")
	require.Contains(t, words(r.err), "--despite-majority")
	require.NotContains(t, r.err, "LOSS")
	for _, unknown := range [][]string{{"--node", "n9", "--new-peers", "n1"}, {"--node", "n1", "--new-peers", "n9"}} {
		r := c.do(nil, append([]string{"unsafe", "reset-peers"}, unknown...)...)
		require.Equal(t, 4, r.code)
		require.Contains(t, r.err, "no such node: n9")
	}
	r = c.do(nil, append(one, "--group", "a")...)
	require.Equal(t, 4, r.code)
	require.Contains(t, words(r.err), "journal a has its majority: 3 of its 3 members answer")

	text := c.ok(append(one, "--despite-majority")...)
	fits(t, text)
	require.Contains(t, words(text), "ATTENTION: the catalog's group has a leader")
	require.NotContains(t, text, "LOSS")
	require.NotContains(t, text, "newest log")
	text = c.ok(append(one, "--group", "a", "--despite-majority")...)
	fits(t, text)
	require.Contains(t, words(text), "LOSS: without n2, n3 the new members may lack what was acknowledged; all beyond txid 2 is given up")
	text = c.ok("unsafe", "reset-peers", "--group", "a", "--node", "n1", "--new-peers", "n1,n2", "--despite-majority")
	require.Contains(t, words(text), "loss: none; every acknowledged transaction was acknowledged by one of the new members")
	require.NotContains(t, text, "LOSS")

	var said string
	require.Eventually(t, func() bool { // the nodes may tell the catalog something of themselves between plan and apply
		var plan libqjm.RecoveryPlan
		require.NoError(t, json.Unmarshal([]byte(c.ok(append(one, "--despite-majority", "-o", "json")...)), &plan))
		torn := append(one, "--i-understand-data-loss", "--plan-digest", plan.Digest)
		require.Equal(t, 4, c.do(nil, torn...).code)
		r := c.do(nil, append(torn, "--despite-majority")...)
		said = r.out
		return r.code == 0 || !strings.Contains(words(r.err), "the plan does not hold")
	}, time.Minute, 10*time.Millisecond)
	require.Contains(t, said, "reset:")
}

// TestResetPeers_Offline walks the way of an operator whose nodes all stand still.
func TestResetPeers_Offline(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{Nodes: 5})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a")
	require.Equal(t, 0, c.do(strings.NewReader("x\ny\n"), "journal", "append", "a").code)
	require.Eventually(t, func() bool { return c.do(nil, "journal", "status", "a").code == 0 }, time.Minute, 10*time.Millisecond)
	offline := client{t: t}
	reset := func(i int, more ...string) []string {
		return append([]string{"unsafe", "reset-peers", "--data-dir", cluster.Dir(i), "--new-peers", "n1,n2"}, more...)
	}
	require.Equal(t, 4, offline.do(nil, reset(0)...).code, "the node runs")
	for i := range 5 {
		cluster.StopNode(i)
	}
	require.Equal(t, 2, offline.do(nil, reset(0, "--node", "n1")...).code)
	require.Equal(t, 2, offline.do(nil, reset(0, "--group", "a")...).code)
	require.Equal(t, 2, offline.do(nil, "unsafe", "reset-peers", "--data-dir", cluster.Dir(0)).code)
	require.Equal(t, 4, offline.do(nil, "unsafe", "reset-peers", "--data-dir", t.TempDir(), "--new-peers", "n1").code)
	unknown := offline.do(nil, "unsafe", "reset-peers", "--data-dir", cluster.Dir(0), "--new-peers", "n9")
	require.Equal(t, 4, unknown.code)
	require.Contains(t, words(unknown.err), "no such node: n9 is no server of the catalog's group, which has n1/")
	for i := range 2 {
		text := offline.ok(reset(i)...)
		fits(t, text)
		require.Equal(t, text, offline.ok(reset(i, "--dry-run")...))
		require.Contains(t, words(text), "from now on it is n1, n2")
		require.Contains(t, words(text), "leaving the cluster: n3, n4, n5; they need blank disks to come back")
		require.Contains(t, words(text), "switch them off for good before this is carried out")
		var plan libqjm.RecoveryPlan
		require.NoError(t, json.Unmarshal([]byte(offline.ok(reset(i, "-o", "json")...)), &plan))
		require.Equal(t, 2, offline.do(nil, reset(i, "--plan-digest", plan.Digest)...).code)
		require.Equal(t, 4, offline.do(nil, reset(i, "--i-understand-data-loss", "--plan-digest", strings.Repeat("0", 32))...).code)
		text = offline.ok(reset(i, "--i-understand-data-loss", "--plan-digest", plan.Digest)...)
		fits(t, text)
		require.Contains(t, text, "reset: the catalog's group;")
		require.Contains(t, words(text), "left to do: the same in the directory of each of "+cluster.ID(1-i)+", then start all")
	}
	for i := range 2 {
		cluster.StartNode(i)
	}
	require.Eventually(t, func() bool { return c.do(nil, "cluster", "status", "--timeout", "1s").code == 0 }, time.Minute, 10*time.Millisecond)
	var plan libqjm.RecoveryPlan
	require.NoError(t, json.Unmarshal([]byte(c.ok("unsafe", "recover-quorum", "plan", "-o", "json")), &plan))
	require.Nil(t, plan.Group, "it has its majority again")
	require.Len(t, plan.Forced(), 1)
	c.ok("unsafe", "recover-quorum", "apply", "--i-understand-data-loss", "--plan-digest", plan.Digest)
	require.Equal(t, "x\ny\n", c.ok("journal", "tail", "a"))
	require.Equal(t, 0, c.do(strings.NewReader("z\n"), "journal", "append", "a").code)
	for _, n := range []string{"n3", "n4", "n5"} {
		c.ok("member", "remove", n, "--yes")
	}
}

// TestResetPeersCommand: the same guards, and one node only.
func TestResetPeersCommand(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a")
	cluster.StopNode(1)
	cluster.StopNode(2)
	c.noLeader()
	reset := []string{"unsafe", "reset-peers", "--node", "n1", "--new-peers", "n1"}
	require.Equal(t, 2, c.do(nil, "unsafe", "reset-peers").code)
	var plan libqjm.RecoveryPlan
	require.NoError(t, json.Unmarshal([]byte(c.ok(append(reset, "-o", "json")...)), &plan))
	require.Equal(t, 2, c.do(nil, append(reset, "--plan-digest", plan.Digest)...).code)
	require.Equal(t, 4, c.do(nil, append(reset, "--i-understand-data-loss", "--plan-digest", strings.Repeat("0", 32))...).code)
	fits(t, c.ok(reset...))
	c.ok("reset_peer", "--group", "catalog", "--peer", cluster.Endpoints()[0]+":0", "--new_peers", cluster.Endpoints()[0], "--plan-digest", plan.Digest, "--i-understand-data-loss")
	var v clusterJSON
	require.NoError(t, json.Unmarshal([]byte(c.ok("cluster", "status", "-o", "json")), &v))
	require.Equal(t, "n1", v.Leader)
}

// TestBraftVerbs: they do what our own commands do, and --conf is checked when it is given.
func TestBraftVerbs(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{Nodes: 4, Tune: func(_ int, o *journalnode.Options) { o.WriterGoneAfter = 200 * time.Millisecond }})
	c := clientOf(t, cluster)
	addr := cluster.Endpoints()
	c.ok("journal", "create", "a", "--replicas", "4")
	peer := func(i int) string { return addr[i] + ":0" }
	all := func(is ...int) string {
		var out []string
		for _, i := range is {
			out = append(out, peer(i))
		}
		return strings.Join(out, ",")
	}
	for _, step := range []struct {
		code int
		want string
		args []string
	}{
		{0, `"plan":"change the members of journal \"a\" from n1, n2, n3, n4 to n1, n2, n3; new ones copy it first"`, []string{"remove_peer", "--group", "a", "--peer", peer(3), "--conf", all(0, 1, 2, 3), "--dry-run"}},
		{4, "", []string{"remove_peer", "--group", "a", "--peer", peer(3), "--conf", all(0, 1, 2)}},
		{0, `"members":["n1","n2","n3"]`, []string{"remove_peer", "--group", "a", "--peer", peer(3), "--conf", all(3, 2, 1, 0)}},
		{4, "", []string{"remove_peer", "--group", "a", "--peer", peer(3)}},
		{0, `"members":["n1","n2","n3","n4"]`, []string{"add_peer", "--group", "a", "--peer", addr[3]}},
		{0, `"result":"unchanged"`, []string{"add_peer", "--group", "a", "--peer", "n4"}},
		{0, `"members":["n2","n3","n4"]`, []string{"change_peers", "--group", "a", "--new_peers", all(1, 2, 3)}},
		{4, "", []string{"change_peers", "--group", "a", "--new_peers", "127.0.0.1:1:0"}},
		{0, `"result":"taken"`, []string{"snapshot", "--group", "catalog", "--peer", peer(0)}},
		{4, "", []string{"snapshot", "--group", "a", "--peer", peer(0)}},
		{0, `"node":"n2","result":"leads"`, []string{"transfer_leader", "--group", "catalog", "--peer", peer(1), "--conf", all(0, 1, 2, 3)}},
		{4, "", []string{"transfer_leader", "--group", "a", "--peer", peer(1)}},
		{4, "", []string{"add_peer", "--group", "catalog", "--peer", peer(1)}},
		{4, "", []string{"add_peer", "--group", "nope", "--peer", peer(1)}},
		{0, `"plan":"take node n1 out of the cluster; no journal needs it"`, []string{"remove_peer", "--group", "catalog", "--peer", peer(0), "--dry-run"}},
		{2, "", []string{"add_peer", "--peer", peer(1)}},
		{2, "", []string{"add_peer", "--group", "a"}},
	} {
		r := c.do(nil, append(step.args, "-o", "json")...)
		require.Equal(t, step.code, r.code, "%v: %s%s", step.args, r.out, r.err)
		require.Contains(t, r.out, step.want)
	}
}

// TestUpdateAddress: every node of a stopped cluster is started at a new address with its old flags, founders
// and one that joined later. The cluster finds itself again, and does so after the next restart, too.
func TestUpdateAddress(t *testing.T) {
	var moved []string
	var founders []journalnode.Peer
	cluster := testcluster.Start(t, testcluster.Options{Nodes: 4, Idle: true, Tune: func(i int, o *journalnode.Options) {
		founders = o.InitialCluster[:3]
		if i < 3 {
			o.InitialCluster = founders
		} else {
			o.InitialCluster, o.Join = nil, []string{founders[0].Addr}
		}
		if moved != nil {
			o.Listen = moved[i]
		}
	}})
	for i := range 4 {
		cluster.StartNode(i)
	}
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a", "--replicas", "3")
	require.Eventually(t, func() bool {
		var v clusterJSON
		require.NoError(t, json.Unmarshal([]byte(c.ok("member", "list", "-o", "json")), &v))
		return len(v.Nodes) == 4 && v.Nodes[3].Role != "non-voter"
	}, time.Minute, 20*time.Millisecond)
	require.Equal(t, 0, c.do(strings.NewReader("x\n"), "journal", "append", "a").code)
	for i := range 4 {
		cluster.StopNode(i)
	}
	for range 4 {
		moved = append(moved, testcluster.FreeAddr(t))
	}
	for i := range 4 {
		cluster.StartNode(i)
	}
	c.endpoints = strings.Join(moved, ",")
	args := []string{"member", "update-address"}
	for i, addr := range moved {
		args = append(args, cluster.ID(i)+"="+addr)
	}
	require.Equal(t, 5, c.do(nil, "member", "list", "--timeout", "1s").code, "there is no leader")
	require.Equal(t, 2, c.do(nil, "member", "update-address", "n1").code)
	require.Equal(t, 4, c.do(nil, "member", "update-address", "n1="+moved[1], "--timeout", "5s").code, "another node answers there")
	require.Contains(t, c.ok(append(args, "--dry-run")...), "plan (nothing was changed)")
	require.Contains(t, c.ok(append(args, "-o", "json")...), `"result":"updated"`)

	check := func() {
		var v clusterJSON
		require.NoError(t, json.Unmarshal([]byte(c.ok("member", "list", "-o", "json")), &v))
		for i, n := range v.Nodes {
			require.Equal(t, moved[i], n.Address)
		}
		require.Equal(t, 0, c.do(strings.NewReader("y\n"), "journal", "append", "a").code)
	}
	check()
	for i := range 4 {
		cluster.StopNode(i)
	}
	for i := range 4 {
		cluster.StartNode(i)
	}
	check()
}

// TestRecoverQuorum_WithoutLog: a survivor that answers and cannot read its log of the catalog stops the plan. It is
// left out where the operator says so, and keeps its journals.
func TestRecoverQuorum_WithoutLog(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a")
	require.Equal(t, 0, c.do(strings.NewReader("x\ny\n"), "journal", "append", "a").code)
	for i := range 3 {
		cluster.StopNode(i)
	}
	require.NoError(t, os.WriteFile(filepath.Join(cluster.Dir(0), "raft", "raft.db"), []byte("rotten"), 0o600))
	cluster.StartNode(0)
	cluster.StartNode(1)
	require.Eventually(t, func() bool {
		r := c.do(nil, "unsafe", "recover-quorum", "survey")
		return r.code == 0 && strings.Contains(words(r.out), "no plan can be made: node n1 answers") && !strings.Contains(r.out, "node n2 answers")
	}, time.Minute, 20*time.Millisecond)

	r := c.do(nil, "unsafe", "recover-quorum", "plan")
	require.Equal(t, 4, r.code)
	require.Contains(t, words(r.err), "node n1 answers, and its log of the catalog, which may be the newest, is not known")
	without := []string{"--without-log", "n1"}
	text := c.ok(append([]string{"unsafe", "recover-quorum", "plan"}, without...)...)
	fits(t, text)
	require.Contains(t, words(text), "n1 (its log does not count), n2 (at")
	require.Contains(t, words(text), "from now on it is n2")
	var plan libqjm.RecoveryPlan
	require.NoError(t, json.Unmarshal([]byte(c.ok(append([]string{"unsafe", "recover-quorum", "plan", "-o", "json"}, without...)...)), &plan))
	apply := []string{"unsafe", "recover-quorum", "apply", "--i-understand-data-loss", "--plan-digest", plan.Digest}
	require.Equal(t, 4, c.do(nil, apply...).code, "it is asked for each time")
	c.ok(append(apply, without...)...)
	require.Equal(t, "x\ny\n", c.ok("journal", "tail", "a"))
	require.Equal(t, 0, c.do(strings.NewReader("z\n"), "journal", "append", "a").code)
}
