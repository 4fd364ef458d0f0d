package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/examples/namespace/runlog"
	"github.com/quorumjournal/qjm/examples/namespace/tree"
)

func made(txid, epoch uint64, p string) record {
	return record{txid, epoch, tree.Op{Kind: tree.Create, Path: p, Entry: tree.Entry{Kind: tree.File, Size: 1}}}
}

// sound is what a run that went well leaves behind: /b was under way when the first writer died, and
// recovered; /x was under way, too, and lost, as it may be.
func sound() *result {
	r := &result{
		old:      &runlog.Follower{Started: []string{"/a", "/b", "/x"}, Acked: []runlog.Ack{{TxID: 1, Path: "/a"}}},
		new:      &runlog.Follower{Started: []string{"/c"}, Acked: []runlog.Ack{{TxID: 3, Path: "/c"}}},
		oldState: runlog.State{Epoch: 1},
		newState: runlog.State{Epoch: 2, FirstTx: 3},
		refused:  runlog.State{Role: "refused", Epoch: 1, Promised: 2},
		journal:  []record{made(1, 1, "/a"), made(2, 1, "/b"), made(3, 2, "/c")},
		holdings: []holding{{"n1", 3, "d"}, {"n2", 3, "d"}, {"n3", 3, "d"}},
		entries:  3,
	}
	return r
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
		isDiffering
		isUnequal
	)
	for _, c := range []struct {
		name  string
		spoil func(*result)
		fails []int
	}{
		{"nothing is wrong", func(*result) {}, nil},
		{"an acknowledged transaction is missing at the end", func(r *result) { r.journal = r.journal[:2] }, []int{isLost}},
		{"another one stands in its place", func(r *result) { r.journal[0].op.Path = "/b" }, []int{isLost, isDuplicated}},
		{"it is there under another txid", func(r *result) { r.old.Acked[0].TxID = 2 }, []int{isLost}},
		{"a txid is there twice", func(r *result) { r.journal = append(r.journal, r.journal[2]) }, []int{isDuplicated}},
		{"an entry was made twice", func(r *result) { r.journal = append(r.journal, made(4, 2, "/a")) }, []int{isDuplicated}},
		{"a gap", func(r *result) { r.journal[1].txid = 7 }, []int{isDuplicated, isInterleaved}},
		{"nobody wrote this", func(r *result) { r.journal[1].op.Path = "/who" }, []int{isInvented}},
		{"the node is in another segment", func(r *result) { r.sameSegment = []string{"no"} }, []int{isElsewhere}},
		{"the writer had nothing under way", func(r *result) {
			r.old.Started, r.journal[1].op.Path = []string{"/a"}, "/a2"
			r.new.Started = []string{"/a2", "/c"}
		}, []int{isNotUnderWay}},
		{"recovery cut off what was acknowledged", func(r *result) {
			r.old.Acked = append(r.old.Acked, runlog.Ack{TxID: 3, Path: "/x"})
		}, []int{isLost, isCutOff}},
		{"the old writer was let in", func(r *result) { r.refused = runlog.State{} }, []int{isNotRefused}},
		{"the old writer was refused for another epoch", func(r *result) { r.refused.Promised = 3 }, []int{isNotRefused}},
		{"the old writer wrote after the new one", func(r *result) { r.journal[2].epoch = 1 }, []int{isInterleaved}},
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
	journal := []record{made(1, 1, "/a"), made(2, 1, "/b")}
	disk := func() map[string]tree.Entry {
		return map[string]tree.Entry{"/a": journal[0].op.Entry, "/b": journal[1].op.Entry}
	}
	tr, err := rebuild(journal)
	require.NoError(t, err)
	require.Empty(t, differences(tr, disk()))

	other := disk()
	other["/a"] = tree.Entry{Kind: tree.File, Size: 1, Mode: 1}
	require.Len(t, differences(tr, other), 1)
	other = disk()
	delete(other, "/b")
	require.Len(t, differences(tr, other), 1)
	other = disk()
	other["/c"] = tree.Entry{Kind: tree.File}
	require.Len(t, differences(tr, other), 1)
	delete(other, "/a") // one more, one less: the numbers agree
	require.Len(t, differences(tr, other), 2)

	_, err = rebuild([]record{made(1, 1, "/a"), made(2, 1, "/a")})
	require.Error(t, err)
}

func TestCommas(t *testing.T) {
	require.Equal(t, []string{"0", "999", "1,000", "12,801", "1,234,567"},
		[]string{commas(0), commas(999), commas(1000), commas(12801), commas(1234567)})
}
