package main

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/internal/testcluster"
)

// Every command that changes something has the same flags, and no other has one of them.
func TestMutating_FlagsAreAlike(t *testing.T) {
	guards := map[string]guard{}
	for g, paths := range map[guard]string{
		ofJournal: `journal policy, journal quota, journal delete, journal append, journal recover, snapshot save, writer fence, lease acquire,
			lease resign, lease transfer, quorum change, bench, add_peer, remove_peer, change_peers, braft_snapshot, transfer_leader`,
		ofCluster: "member add, member remove, member replace, member transfer-leader, member snapshot",
		unguarded: "journal create, member update-address, unsafe reset-peers, unsafe recover-quorum apply, reset_peer",
	} {
		for path := range strings.SplitSeq(paths, ",") {
			guards[strings.TrimSpace(path)] = g
		}
	}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		path := strings.TrimPrefix(c.CommandPath(), "qjmclient ")
		g, mutating := guards[path]
		delete(guards, path)
		require.Equal(t, mutating, c.Flags().Lookup("dry-run") != nil, path)
		require.Equal(t, mutating, c.Flags().Lookup("yes") != nil, path)
		expect := c.Flags().Lookup("expect-generation")
		require.Equal(t, mutating && g != unguarded, expect != nil, path)
		if expect != nil {
			require.Equal(t, guardUsage[g], expect.Usage, path)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&app{}).root())
	require.Empty(t, guards, "no such command")
}

// terminal runs a command as if somebody sat in front of it.
func (c client) terminal(types string, args ...string) result {
	c.t.Helper()
	var out, errs buffer
	a := &app{format: cli.Table, onTerminal: func(any) bool { return true }, subject: cli.Subject{Program: "qjmclient"}}
	code := cli.Run(c.t.Context(), a.root(), append(args, "--endpoints", c.endpoints), strings.NewReader(types), &out, &errs, &a.subject)
	return result{code, out.String(), errs.String()}
}

// What cannot be taken back asks on a terminal, and is refused in a pipe without --yes; the plan is shown before.
func TestMutating_DestructiveAsks(t *testing.T) {
	c := clientOf(t, testcluster.Start(t, testcluster.Options{Nodes: 4}))
	c.ok("journal", "create", "a", "--replicas", "1")
	var j listJSON
	require.NoError(t, json.Unmarshal([]byte(c.ok("journal", "list", "-o", "json")), &j))
	on := j.Journals[0].Members[0]
	free := slices.DeleteFunc([]string{"n1", "n2", "n3", "n4"}, func(id string) bool { return id == on })
	for _, tc := range []struct{ args, word, plan string }{
		{"member replace " + free[0] + " " + on, free[0], "move no journal from " + free[0] + " to " + on + ", then take " + free[0] + " out"},
		{"remove_peer --group catalog --peer " + free[1], free[1], "take node " + free[1] + " out"},
		{"member remove " + free[2], free[2], "take node " + free[2] + " out"},
		{"journal delete a", "a", `delete journal "a"`},
	} {
		args := strings.Fields(tc.args)
		r := c.do(strings.NewReader(tc.word+"\n"), args...)
		require.Equal(t, 2, r.code, "%s: %s", tc.args, r.err)
		require.Contains(t, r.err, "add --yes")
		require.Equal(t, 0, c.do(nil, append(args, "--dry-run")...).code, tc.args)
		r = c.terminal("no\n", args...)
		require.Equal(t, 4, r.code, "%s: %s", tc.args, r.err)
		require.Contains(t, r.err, "nothing was done")
		require.Contains(t, strings.Join(strings.Fields(r.err), " "), "About to "+tc.plan)
		if strings.HasPrefix(tc.args, "remove_peer") {
			require.Equal(t, 0, c.do(nil, append(args, "--yes")...).code, tc.args)
			continue
		}
		r = c.terminal(tc.word+"\n", args...)
		require.Equal(t, 0, r.code, "%s: %s", tc.args, r.err)
	}
	require.Empty(t, c.ok("journal", "list"))
}

// --expect-generation: of a journal its config's version, of the cluster what cluster status shows; another one
// means that things are not as they were looked at.
func TestMutating_ExpectGeneration(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a", "--replicas", "1")
	for _, args := range []string{
		"journal quota a --bytes 0", "journal policy a --snapshot-txns 5", "writer fence a", "journal recover a", "lease acquire a --for 1ms",
		"quorum change a --to n1,n2", "quorum change a --to n1,n2 --dry-run", "journal append a", "bench a --duration 1ms", "journal delete a --yes",
	} {
		r := c.do(strings.NewReader("x\n"), append(strings.Fields(args), "--expect-generation", "7")...)
		require.Equal(t, 4, r.code, "%s: %s", args, r.err)
		require.Contains(t, r.err, "generation 1, not 7", args)
	}
	require.Equal(t, "", c.ok("journal", "tail", "a"), "nothing was appended")
	c.ok("journal", "quota", "a", "--bytes", "9", "--expect-generation", "1")
	var v clusterJSON
	require.NoError(t, json.Unmarshal([]byte(c.ok("cluster", "status", "-o", "json")), &v))
	seen, err := strconv.ParseUint(v.Generation, 10, 64)
	require.NoError(t, err)
	for _, args := range []string{"member transfer-leader", "member snapshot n1", "member remove n3 --yes", "transfer_leader --group catalog --peer n2"} {
		r := c.do(nil, append(strings.Fields(args), "--expect-generation", strconv.FormatUint(seen+1, 10))...)
		require.Equal(t, 4, r.code, "%s: %s", args, r.err)
		require.Contains(t, r.err, "nothing was done", args)
	}
	c.ok("member", "transfer-leader", "--expect-generation", v.Generation)
	for _, j := range []string{"1", "2", "3"} { // a journal of one is on one of them
		if r := c.do(nil, "member", "remove", "n"+j, "--yes", "--expect-generation", v.Generation); r.code == 0 {
			break
		}
	}
	r := c.do(nil, "member", "transfer-leader", "--expect-generation", v.Generation)
	require.Equal(t, 4, r.code, "the nodes are others now")
}
