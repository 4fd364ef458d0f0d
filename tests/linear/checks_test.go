package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
)

// sound is a history in which nothing is wrong. Times are milliseconds; operations follow one another, but for the last put
// before the end, of which nobody knows what became of it.
func sound() []*Op {
	ops := []*Op{
		{Kind: Put, Key: "a", Value: "a1", ETag: 2, Session: "s", Seq: 1},
		{Kind: Put, Key: "a", Value: "a2", IfMatch: 2, ETag: 3},
		{Kind: Put, Key: "a", Value: "a3", IfMatch: 2, ETag: 3, Outcome: Failed},
		{Kind: Again, Key: "a", Value: "a1", ETag: 2, Session: "s", Seq: 1},
		{Kind: Get, Key: "a", Read: Linearizable, Got: "a2", ETag: 3, Applied: 5, Replica: "r1"},
		{Kind: Delete, Key: "a", IfMatch: 3, ETag: 6}, // 5
		{Kind: Get, Key: "a", Read: Lease, Outcome: Absent, Applied: 6, Replica: "r1"},
		{Kind: Put, Key: "b", Value: "b1", IfAbsent: true, ETag: 7},
		{Kind: Get, Key: "b", Read: Fresh, Within: ms(2), Got: "b1", ETag: 7, Applied: 7, Replica: "r2"},
		{Kind: Get, Key: "b", Read: Stale, After: 7, Got: "b1", ETag: 7, Applied: 7, Replica: "r2"},
		{Kind: Get, Key: "a", Read: Stale, Got: "a2", ETag: 3, Applied: 4, Replica: "r3"}, // 10
		{Kind: Put, Key: "b", Value: "b2", Outcome: NotDone},
		{Kind: Put, Key: "b", Value: "b3", Outcome: Unknown},
		{Kind: Get, Key: "b", Read: Linearizable, Got: "b3", ETag: 8, Applied: 8, Replica: "r2"},
		{Kind: Get, Key: "a", Read: Linearizable, Outcome: Absent, Applied: 8, Replica: "r2", Final: true},
		{Kind: Get, Key: "b", Read: Linearizable, Got: "b3", ETag: 8, Applied: 8, Replica: "r2", Final: true}, // 15
	}
	for _, r := range []string{"r1", "r2", "r3"} {
		ops = append(ops,
			&Op{Kind: Get, Key: "a", Read: Stale, Outcome: Absent, Applied: 8, Replica: r, Final: true},
			&Op{Kind: Get, Key: "b", Read: Stale, Got: "b3", ETag: 8, Applied: 8, Replica: r, Final: true})
	}
	for i, o := range ops {
		o.N, o.Call, o.Return, o.Incarnation = i+1, ms(10*i), ms(10*i+5), 1
		if o.Outcome == "" {
			o.Outcome = OK
		}
	}
	return ops
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

func TestSoundHistoryPasses(t *testing.T) {
	require.Empty(t, checkAll(sound()))
}

// TestEachCheckCanFail spoils the sound history in one way at a time: the check that is named must see it.
func TestEachCheckCanFail(t *testing.T) {
	var spoiled []string
	for _, c := range []struct {
		name, check string
		spoil       func(ops []*Op) []*Op
	}{
		{"linearizable read of an old value", "each key are linear", change(4, func(o *Op) { o.Got, o.ETag = "a1", 2 })},
		{"lease read of an old value", "each key are linear", change(6, func(o *Op) { o.Outcome, o.Got, o.ETag = OK, "a2", 3 })},
		{"condition held, and did not", "each key are linear", change(1, func(o *Op) { o.IfMatch = 99 })},
		{"condition did not hold, and did", "each key are linear", change(2, func(o *Op) { o.IfMatch = 3 })},
		{"refused for an ETag that the key does not have", "each key are linear", change(2, func(o *Op) { o.ETag = 2 })},
		{"deleted what was not there", "each key are linear", add(Op{Kind: Delete, Key: "a", ETag: 9}, 66)},
		{"a delete says that the key is absent, and it is not", "each key are linear", add(Op{Kind: Delete, Key: "a", Outcome: Absent}, 36)},
		{"put into a key that was absent, and was not", "each key are linear", change(1, func(o *Op) { o.IfMatch, o.IfAbsent = 0, true })},
		{"an acknowledged write is missing", "each key are linear", change(13, func(o *Op) { o.Got, o.ETag = "a1", 2 })},
		{"txids fall in the order of the values", "each key are linear", change(1, func(o *Op) { o.ETag, o.IfMatch = 1, 0 })},
		{"linearizable read behind another key's write", "linearizable reads have", change(13, func(o *Op) { o.Applied = 6 })},
		{"linearizable read behind what was read stale", "linearizable reads have", change(9, func(o *Op) { o.Applied = 12 })},
		{"lease read behind another key's write", "lease reads have", change(6, func(o *Op) { o.Applied = 5 })},
		{"two writes with one txid", "a txid is one", change(7, func(o *Op) { o.ETag = 6 })},
		{"no ETag", "a txid is one", change(7, func(o *Op) { o.ETag = 0 })},
		{"another value under an ETag", "a txid is one", change(10, func(o *Op) { o.Got = "a1" })},
		{"a value under two ETags", "a txid is one", change(10, func(o *Op) { o.Got, o.ETag = "a1", 4 })},
		{"a value of unknown fate under two ETags", "a txid is one", change(15, func(o *Op) { o.ETag = 9 })},
		{"txids against real time, of two keys", "order of real time", change(7, func(o *Op) { o.ETag = 5 })},
		{"a value from nowhere", "exactly Qjm-Applied", change(10, func(o *Op) { o.Got = "z" })},
		{"a value of another key", "exactly Qjm-Applied", change(10, func(o *Op) { o.Got = "b1" })},
		{"a value from the future", "exactly Qjm-Applied", change(12, func(o *Op) { o.Call, o.Return = ms(900), ms(901) })},
		{"a value that was replaced by then", "exactly Qjm-Applied", change(10, func(o *Op) { o.Got, o.ETag = "a1", 2 })},
		{"a value that was not there yet", "exactly Qjm-Applied", change(10, func(o *Op) { o.Applied = 2 })},
		{"a value that was deleted by then", "exactly Qjm-Applied", change(10, func(o *Op) { o.Applied = 6 })},
		{"absent, and not yet deleted", "exactly Qjm-Applied", change(10, func(o *Op) { o.Outcome, o.Got, o.ETag = Absent, "", 0 })},
		{"at txid 0", "exactly Qjm-Applied", change(10, func(o *Op) { o.Applied = 0 })},
		{"back to an older state", "never goes back", change(9, func(o *Op) { o.Applied, o.After = 6, 0 })},
		{"fresh read of an old state", "fresh reads have", change(8, func(o *Op) { o.Applied = 6 })},
		{"after a txid, and before it", "after=TXID", change(9, func(o *Op) { o.After = 8 })},
		{"a retry with another ETag", "answered as the first", change(3, func(o *Op) { o.ETag = 5 })},
		{"a retry with another outcome", "answered as the first", change(3, func(o *Op) { o.Outcome = Failed })},
		{"the last read behind an acknowledgement", "missing at the end", change(15, func(o *Op) { o.Applied = 6 })},
		{"the last read of an old value", "missing at the end", change(15, func(o *Op) { o.Got, o.ETag = "b1", 6 })},
		{"a key not read at the end", "missing at the end", change(14, func(o *Op) { o.Final = false })},
		{"a refused write was made", "nothing refused", change(13, func(o *Op) { o.Got = "b2" })},
		{"a write whose condition failed was made", "nothing refused", change(10, func(o *Op) { o.Got = "a3" })},
		{"replicas with other values", "end with the same", change(19, func(o *Op) { o.Got, o.ETag = "b1", 7 })},
		{"replicas at other txids", "end with the same", change(19, func(o *Op) { o.Applied = 9 })},
		{"a replica that does not answer", "end with the same", change(19, func(o *Op) { o.Outcome = NotDone })},
		{"a replica that was not read", "end with the same", func(ops []*Op) []*Op { return ops[:len(ops)-1] }},
		{"nobody was compared", "end with the same", func(ops []*Op) []*Op { return ops[:18] }},
		{"an odd answer", "contract", change(9, func(o *Op) { o.Odd = "get was answered 500" })},
	} {
		t.Run(c.name, func(t *testing.T) {
			var seen []string
			for _, v := range checkAll(c.spoil(sound())) {
				seen = append(seen, v.Check)
			}
			i := slices.IndexFunc(seen, func(s string) bool { return strings.Contains(s, c.check) })
			require.GreaterOrEqual(t, i, 0, "only these see it: %v", seen)
			spoiled = append(spoiled, seen[i])
		})
	}
	for _, c := range checks() {
		require.Contains(t, spoiled, c.what, "nothing shows that it can fail")
	}
}

func change(i int, f func(*Op)) func([]*Op) []*Op {
	return func(ops []*Op) []*Op {
		f(ops[i])
		return ops
	}
}

// add puts an operation in at a time.
func add(o Op, at int) func([]*Op) []*Op {
	return func(ops []*Op) []*Op {
		o.N, o.Call, o.Return = 99, ms(at), ms(at+1)
		if o.Outcome == "" {
			o.Outcome = OK
		}
		return append(ops, &o)
	}
}

// TestUnknownOutcomes: what may be made may be made at any time after the call, or never; once.
func TestUnknownOutcomes(t *testing.T) {
	put := func(v string, etag uint64, o Outcome, call, ret int) *Op {
		return &Op{Kind: Put, Key: "k", Value: v, ETag: etag, Outcome: o, Call: ms(call), Return: ms(ret)}
	}
	get := func(v string, etag uint64, call, ret int) *Op {
		o := &Op{Kind: Get, Key: "k", Read: Linearizable, Got: v, ETag: etag, Outcome: OK, Call: ms(call), Return: ms(ret)}
		if v == "" {
			o.Outcome = Absent
		}
		return o
	}
	for _, c := range []struct {
		name string
		ops  []*Op
		want porcupine.CheckResult
	}{
		{"never made", []*Op{put("x", 0, Unknown, 0, 1), get("", 0, 2, 3)}, porcupine.Ok},
		{"made long after", []*Op{put("x", 0, Unknown, 0, 1), get("", 0, 2, 3), get("x", 7, 4, 5)}, porcupine.Ok},
		{"made, and unmade", []*Op{put("x", 0, Unknown, 0, 1), get("x", 7, 2, 3), get("", 0, 4, 5)}, porcupine.Illegal},
		{"seen before it was asked for", []*Op{get("x", 7, 0, 1), put("x", 0, Unknown, 2, 3)}, porcupine.Illegal},
		{"made twice", []*Op{put("x", 0, Unknown, 0, 1), get("x", 7, 2, 3), put("y", 8, OK, 4, 5), get("x", 7, 6, 7)}, porcupine.Illegal},
		{"made after a newer txid", []*Op{put("x", 0, Unknown, 0, 1), put("y", 8, OK, 2, 3), get("y", 8, 4, 5), get("x", 7, 6, 7)}, porcupine.Illegal},
		{"refused is left out", []*Op{put("x", 0, NotDone, 0, 1), get("x", 7, 2, 3)}, porcupine.Illegal},
		{"explains a delete", []*Op{
			put("x", 0, Unknown, 0, 1), {Kind: Delete, Key: "k", ETag: 9, Outcome: OK, Call: ms(2), Return: ms(3)}, get("", 0, 4, 5),
		}, porcupine.Ok},
		{"explains a refusal", []*Op{
			put("x", 0, Unknown, 0, 1), {Kind: Put, Key: "k", Value: "y", IfAbsent: true, ETag: 9, Outcome: Failed, Call: ms(2), Return: ms(3)},
		}, porcupine.Ok},
		{"nothing explains a refusal", []*Op{
			{Kind: Put, Key: "k", Value: "y", IfAbsent: true, ETag: 9, Outcome: Failed, Call: ms(2), Return: ms(3)},
		}, porcupine.Illegal},
		{"a delete of unknown outcome explains absence", []*Op{
			put("x", 7, OK, 0, 1), {Kind: Delete, Key: "k", Outcome: Unknown, Call: ms(2), Return: ms(3)}, get("x", 7, 4, 5), get("", 0, 6, 7),
		}, porcupine.Ok},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i, o := range c.ops {
				o.Process = i
			}
			got, _ := linearize(c.ops, newFacts(c.ops).txidOf, time.Minute)
			require.Equal(t, c.want, got)
		})
	}
}

func TestHistoryIsKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "h")
	h, err := newHistory(file)
	require.NoError(t, err)
	for _, o := range sound() {
		h.add(o)
	}
	require.NoError(t, h.close())
	ops, err := readHistory(file)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(sound()), fmt.Sprint(ops))
}
