package main

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
)

func (c client) json(t *testing.T, v any, args ...string) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(c.ok(append(args, "-o", "json")...)), v))
}

var catalogIndex = regexp.MustCompile(`"catalog_index":"\d+"`)

// TestQuorum walks through a change of members and the replacement of a node, and pins the JSON.
func TestQuorum(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{Nodes: 4})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a", "--replicas", "3")
	require.Equal(t, 0, c.do(strings.NewReader("1\n2\n3\n"), "journal", "append", "a").code)
	var q quorumJSON
	c.json(t, &q, "quorum", "show", "a")
	require.Equal(t, "qjm.v1/quorum-show", q.Schema)
	require.Len(t, q.Sets, 1)
	old := q.Sets[0]
	fourth := ""
	for i := range 4 {
		if !slices.Contains(old, cluster.ID(i)) {
			fourth = cluster.ID(i)
		}
	}
	to := []string{old[1], old[2], fourth}
	slices.Sort(to)
	change := func(args ...string) []string { return append([]string{"quorum", "change", "a"}, args...) }
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{change(), 2, ""},
		{change("--to", "n1", "--abort"), 2, ""},
		{change("--to", "n9"), 4, ""},
		{change("--abort"), 4, ""},
		{change("--to", strings.Join(old, ","), "-o", "json"), 0, `{"schema":"qjm.v1/quorum-change","journal":"a","result":"unchanged","config_version":"1","members":["` + strings.Join(old, `","`) + `"]}`},
		{change("--to", strings.Join(to, ","), "--expect-generation", "7"), 4, ""},
		{change("--to", strings.Join(to, ","), "--dry-run", "-o", "json"), 0, `{"schema":"qjm.v1/plan","action":"quorum-change","journal":"a","plan":"change the members of journal \"a\" from ` + strings.Join(old, ", ") + ` to ` + strings.Join(to, ", ") + `; new ones copy it first","dry_run":true}`},
		{change("--to", strings.Join(to, ","), "-o", "json"), 0, `{"schema":"qjm.v1/quorum-change","journal":"a","result":"changed","config_version":"3","members":["` + strings.Join(to, `","`) + `"]}`},
		{change("--resume"), 0, `journal "a" unchanged, no change is under way: members ` + strings.Join(to, ", ") + `, config 3`},
		{[]string{"quorum", "history", "a", "-o", "json"}, 0, `{"schema":"qjm.v1/quorum-history","journal":"a","events":[{"catalog_index":"N","kind":"created","config_version":"1"},{"catalog_index":"N","kind":"changed","config_version":"3"}]}`},
		{[]string{"quorum", "show", "none"}, 4, ""},
		{[]string{"member", "add", fourth}, 2, ""},
		{[]string{"member", "add", fourth + "=127.0.0.1:1"}, 4, ""},
		{[]string{"member", "replace", fourth, "n9", "--yes"}, 4, ""},
		{[]string{"member", "replace", fourth, "n9=127.0.0.1:1", "--dry-run"}, 4, ""}, // the endpoints answer, n9 does not
		{[]string{"member", "replace", fourth, fourth, "--yes"}, 4, ""},
		{[]string{"member", "replace", fourth, old[0], "--dry-run", "-o", "json"}, 0, `{"schema":"qjm.v1/plan","action":"member-replace","journal":"","plan":"move 1 journal (a) from ` + fourth + ` to ` + old[0] + `, then take ` + fourth + ` out of the cluster","dry_run":true}`},
		{[]string{"member", "replace", fourth, old[0], "--yes", "-o", "json"}, 0, `{"schema":"qjm.v1/member-replace","old":"` + fourth + `","new":"` + old[0] + `","result":"replaced","journals":["a"]}`},
		{[]string{"journal", "tail", "a"}, 0, "1\n2\n3"},
	} {
		r := c.do(nil, tc.args...)
		require.Equal(t, tc.code, r.code, "%s: %s", tc.args, r.err)
		out := strings.TrimSuffix(normal(r.out), "\n")
		if i := strings.Index(out, `"catalog_index":"`); i >= 0 {
			out = catalogIndex.ReplaceAllString(out, `"catalog_index":"N"`)
		}
		require.Equal(t, tc.want, out, tc.args)
	}
	for i := range 4 {
		if cluster.ID(i) == fourth {
			cluster.StopNode(i)
		}
	}
	require.Equal(t, 0, c.do(nil, "journal", "status", "a").code, "the node that was replaced is not missed")
	for _, args := range []string{"quorum show a", "quorum history a"} {
		require.NotEmpty(t, c.ok(strings.Fields(args)...))
	}
}

// What newcomers stumbled over: what is not there, or not as things stand, is refused with 4, a mistake on the
// command line with 2, and what was done or not is said as it is.
func TestRefusals(t *testing.T) {
	cluster := testcluster.Start(t, testcluster.Options{Tune: func(i int, o *journalnode.Options) {
		if i == 0 {
			o.Labels = map[string]string{"rack": "r1"}
		}
	}})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a", "--replicas", "1")
	dir := t.TempDir()
	for _, tc := range []struct {
		args string
		code int
		says string
	}{
		{"member snapshot n9", 4, "no such node: n9"},
		{"member transfer-leader n9", 4, "no such node: n9"},
		{"member add n2=127.0.0.1:1", 4, "node n2 is in the cluster, at"},
		{"member add n9=" + cluster.Endpoints()[0], 4, "another node answers"},
		{"member replace n2 n2 --yes", 4, "has the storage that the catalog knows"},
		{"quorum change a --resume", 0, "unchanged, no change is under way"},
		{"journal policy a", 0, "auto-readmit false"},
		{"journal policy a --auto-readmit", 0, "policy set"},
		{"journal policy a -o json", 0, `"result":"unchanged","policy":{`},
		{"journal describe a", 0, "auto-readmit true"},
		{"snapshot save a --txid 0", 2, "--txid is 0: transactions are numbered from 1"},
		{"snapshot save a", 2, "--txid is missing"},
		{"snapshot save a --txid 1 --file " + dir + "/none", 2, "no such file"},
		{"snapshot save a --txid 1 --file " + dir, 2, "is a directory"},
		{"journal append a --file " + dir + "/none", 2, "no such file"},
		{"journal create b --replicas 1 --spread shelf --dry-run", 0, `no node has a label "shelf"`},
		{"journal create b --replicas 1 --spread rack --dry-run", 0, `n2, n3: no label "rack"`},
	} {
		r := c.do(strings.NewReader(""), strings.Fields(tc.args)...)
		require.Equal(t, tc.code, r.code, "%s: %s", tc.args, r.err)
		require.Contains(t, strings.Join(strings.Fields(r.out+" "+r.err), " "), tc.says, tc.args)
	}
	both := c.ok("journal", "create", "both", "--replicas", "3")
	require.Contains(t, both, "created")
	for _, args := range []string{"member replace n1 n2 --yes", "member replace n1 n2 --dry-run"} {
		r := c.do(nil, strings.Fields(args)...)
		require.Equal(t, 4, r.code, "%s: %s", args, r.err)
		require.Contains(t, r.err, "has n2 already")
	}
}

// A change that was given up before it was looked at is not told as done.
func TestGaveUp(t *testing.T) {
	j := libqjm.CatalogJournal{History: []libqjm.MembershipEvent{
		{Index: 5, Kind: "created"}, {Index: 10, Kind: "aborted", Note: "asked for"}, {Index: 20, Kind: "changed"},
	}}
	require.ErrorIs(t, gaveUp(j, 7), libqjm.ErrChangeAborted)
	require.NoError(t, gaveUp(j, 12))
	require.NoError(t, gaveUp(j, 21))
	require.NoError(t, gaveUp(j, 0))
	j.History = j.History[:2]
	require.ErrorIs(t, gaveUp(j, 0), libqjm.ErrChangeAborted)
	require.NoError(t, gaveUp(libqjm.CatalogJournal{}, 0))
}
