package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/examples/namespace/tree"
)

func file(txid uint64) node { return node{txid: txid, meta: "m"} }

// sound is what a run that went well leaves behind: /b was under way when the first active died, and recovered; /x was
// under way, too, was lost, as it may be, and was asked for again.
func sound() *result {
	return &result{
		asked:    map[string]bool{"/a": true, "/b": true, "/x": true, "/c": true},
		acked:    []ack{{1, 1, "/a"}, {3, 2, "/x"}, {4, 2, "/c"}},
		found:    []ack{{2, 2, "/b"}},
		doubt:    []string{"/b", "/x"},
		oldEpoch: 1, newEpoch: 2, firstNew: 3,
		refused:   refusal{epoch: 1, promised: 2, definite: true},
		restarted: status{role: "standby", txid: 4, applied: 2},
		snapshots: []uint64{1, 2},
		journal:   []record{{1, 1, "/a"}, {2, 1, "/b"}, {3, 2, "/x"}, {4, 2, "/c"}},
		holdings:  []holding{{"n1", 4, "d"}, {"n2", 4, "d"}, {"n3", 4, "d"}},
		entries:   4,
	}
}

// Every check must be able to fail: each is shown a run that went wrong in one way.
func TestChecksFail(t *testing.T) {
	const (
		isLost = iota
		isDuplicated
		isInvented
		isElsewhere
		isNotUnderWay
		isCutOff
		isNotRefused
		isInterleaved
		isWithoutSnapshot
		isRestartedDiffering
		isDiffering
		isUnequal
	)
	for _, c := range []struct {
		name  string
		spoil func(*result)
		fails []int
	}{
		{"nothing is wrong", func(*result) {}, nil},
		{"an acknowledged transaction is missing at the end", func(r *result) { r.journal = r.journal[:3] }, []int{isLost}},
		{"another one stands in its place", func(r *result) { r.journal[0].path = "/b" }, []int{isLost, isDuplicated}},
		{"it is there under another txid", func(r *result) { r.acked[0].txid = 2 }, []int{isLost}},
		{"a txid is there twice", func(r *result) { r.journal = append(r.journal, r.journal[3]) }, []int{isDuplicated}},
		{"an entry was made twice", func(r *result) { r.journal = append(r.journal, record{5, 2, "/a"}) }, []int{isDuplicated}},
		{"a gap", func(r *result) { r.journal[1].txid = 7 }, []int{isDuplicated, isInterleaved}},
		{"nobody asked for this", func(r *result) { r.journal[1].path = "/who" }, []int{isInvented}},
		{"a transaction that made nothing", func(r *result) { r.journal = append(r.journal, record{5, 2, ""}) }, []int{isInvented}},
		{"the node is in another segment", func(r *result) { r.sameSegment = []string{"no"} }, []int{isElsewhere}},
		{"nothing was under way", func(r *result) { r.doubt = nil }, []int{isNotUnderWay}},
		{"recovery cut off what was acknowledged", func(r *result) { r.acked = append(r.acked, ack{3, 1, "/b"}) }, []int{isLost, isCutOff}},
		{"nothing was acknowledged before the kill", func(r *result) { r.acked = r.acked[1:] }, []int{isCutOff}},
		{"the old writer was let in", func(r *result) { r.refused = refusal{} }, []int{isNotRefused}},
		{"the old writer was left in doubt", func(r *result) { r.refused.definite = false }, []int{isNotRefused}},
		{"the old writer was refused for another epoch", func(r *result) { r.refused.promised = 3 }, []int{isNotRefused}},
		{"the old writer wrote after the new one", func(r *result) { r.journal[3].epoch = 1 }, []int{isInterleaved}},
		{"the replica began with nothing", func(r *result) { r.restarted.applied = 4 }, []int{isWithoutSnapshot}},
		{"the replica began with a snapshot that nobody saved", func(r *result) { r.restarted.applied = 1 }, []int{isWithoutSnapshot}},
		{"the replica has another tree", func(r *result) { r.restartedDiffering = []string{"no"} }, []int{isRestartedDiffering}},
		{"a rebuilt tree differs", func(r *result) { r.rebuiltDiffering = []string{"no"} }, []int{isDiffering}},
		{"a node has another digest", func(r *result) { r.holdings[1].digest = "e" }, []int{isUnequal}},
		{"a node is shorter", func(r *result) { r.holdings[2].last = 2 }, []int{isUnequal}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := sound()
			c.spoil(r)
			var failed []int
			for i, k := range r.checks() {
				if len(k.wrong) > 0 {
					failed = append(failed, i)
				}
			}
			require.Equal(t, c.fails, failed)
		})
	}
}

func TestDifferences(t *testing.T) {
	all := map[string]node{"/a": file(1), "/b": {txid: 2, dir: true}}
	disk := func() map[string]tree.Op {
		return map[string]tree.Op{"/a": all["/a"].op("/a"), "/b": all["/b"].op("/b")}
	}
	require.Empty(t, differences(all, disk()))
	other := disk()
	other["/a"] = tree.Op{Kind: "create", Path: "/a", Meta: "n"}
	require.Len(t, differences(all, other), 1)
	other = disk()
	other["/b"] = tree.Op{Kind: "create", Path: "/b"}
	require.Len(t, differences(all, other), 1)
	other = disk()
	delete(other, "/b")
	require.Len(t, differences(all, other), 1)
	other["/c"] = tree.Op{Kind: "create", Path: "/c"} // one more, one less: the numbers agree
	require.Len(t, differences(all, other), 2)
}

// TestMade: a transaction made what it says, and nothing else.
func TestMade(t *testing.T) {
	data, err := file(1).op("/a").Encode()
	require.NoError(t, err)
	require.True(t, made(append([]byte{1}, data...), "/a", file(1)))
	require.False(t, made(append([]byte{1}, data...), "/b", file(1)))
	require.False(t, made(append([]byte{1}, data...), "/a", node{txid: 1, dir: true, meta: "m"}))
	require.False(t, made(append(data, 1), "/a", file(1)))
	require.False(t, made([]byte{1}, "", node{}))
}

func TestCommas(t *testing.T) {
	require.Equal(t, []string{"0", "999", "1,000", "12,801", "1,234,567"},
		[]string{commas(0), commas(999), commas(1000), commas(12801), commas(1234567)})
}
