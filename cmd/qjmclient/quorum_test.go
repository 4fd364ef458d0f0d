package main

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
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
		{change("--resume"), 0, `journal "a" changed: members ` + strings.Join(to, ", ") + `, config 3`},
		{[]string{"quorum", "history", "a", "-o", "json"}, 0, `{"schema":"qjm.v1/quorum-history","journal":"a","events":[{"catalog_index":"N","kind":"created","config_version":"1"},{"catalog_index":"N","kind":"changed","config_version":"3"}]}`},
		{[]string{"quorum", "show", "none"}, 4, ""},
		{[]string{"member", "add", fourth}, 2, ""},
		{[]string{"member", "add", fourth + "=127.0.0.1:1"}, 2, ""},
		{[]string{"member", "replace", fourth, "n9", "--yes"}, 4, ""},
		{[]string{"member", "replace", fourth, fourth, "--yes"}, 2, ""},
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
