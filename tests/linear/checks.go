package main

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// Violation is something that the history shows and that must not be.
type Violation struct {
	Rule  string `json:"rule"` // H1 to H9, see doc.go
	Check string `json:"check,omitempty"`
	Text  string `json:"text"`
	Ops   []int  `json:"ops,omitempty"`
	Key   string `json:"key,omitempty"` // that is not linearizable
}

// searchLimit bounds the search for an order of one key's operations. An undecided key is no pass.
const searchLimit = time.Minute

// violation about operations, which are printed with it.
func violation(rule string, ops []*Op, format string, args ...any) Violation {
	v := Violation{Rule: rule, Text: fmt.Sprintf(format, args...)}
	for _, o := range ops {
		v.Ops = append(v.Ops, o.N)
		v.Text += "\n" + o.String()
	}
	return v
}

// check is one of the checks of a whole history.
type check struct {
	rule, what string
	run        func(*facts) []Violation
}

// runsAsMeant is checked while a run goes on.
const runsAsMeant = "no process ends by itself, and writing goes on after healing"

// checks are all of them, in the order in which they are reported.
func checks() []check {
	return []check{
		{"H1", "writes, linearizable and lease reads of each key are linearizable", checkLinearizable},
		{"H1", "linearizable reads have everything, of all keys, that was told before", checkHorizon(Linearizable)},
		{"H1", "lease reads have, too", checkHorizon(Lease)},
		{"H2", "a txid is one write, an ETag is one value", checkNames},
		{"H2", "txids are in the order of real time", checkOrder},
		{"H3", "a read is what its key had at exactly Qjm-Applied", checkPrefix},
		{"H3", "Qjm-Applied never goes back in one process", checkForward},
		{"H4", "fresh reads have what was acknowledged longer than their bound ago", checkFresh},
		{"H5", "after=TXID has that transaction", checkAfter},
		{"H6", "a retry in a session is answered as the first time", checkAgain},
		{"H7", "nothing acknowledged is missing at the end", checkFinal},
		{"H7", "nothing refused was made", checkRefused},
		{"H8", "all replicas end with the same state", checkReplicas},
		{"H9", "answers are as the contract has them", checkContract},
	}
}

// facts are a history, and what several checks want to know of it.
type facts struct {
	ops    []*Op
	writes map[string][]written // by key: those whose txid is known, in the order of txids
	byTx   []*Op                // acknowledged writes in the order of their returns
	txidOf map[string]uint64    // of values, as answered or read
	put    map[string]*Op       // who wrote a value
}

// written is a write that was made.
type written struct {
	txid uint64
	op   *Op
}

func newFacts(ops []*Op) *facts {
	f := &facts{ops: ops, writes: map[string][]written{}, txidOf: map[string]uint64{}, put: map[string]*Op{}}
	for _, o := range ops {
		if o.isWrite() && o.Outcome == OK {
			f.byTx = append(f.byTx, o)
			if o.Kind == Put {
				f.txidOf[o.Value] = o.ETag
			}
		}
		if o.Kind == Put {
			f.put[o.Value] = o
		}
	}
	f.byTx = byReturn(f.byTx)
	for _, o := range ops {
		if o.Kind == Get && o.Outcome == OK && f.txidOf[o.Got] == 0 {
			f.txidOf[o.Got] = o.ETag
		}
	}
	for _, o := range ops {
		switch {
		case o.Kind == Put && f.txidOf[o.Value] != 0:
			f.writes[o.Key] = append(f.writes[o.Key], written{f.txidOf[o.Value], o})
		case o.Kind == Delete && o.Outcome == OK:
			f.writes[o.Key] = append(f.writes[o.Key], written{o.ETag, o})
		}
	}
	for _, ws := range f.writes {
		slices.SortFunc(ws, func(a, b written) int { return cmp.Compare(a.txid, b.txid) })
	}
	return f
}

// at returns the newest write of a key that is known to be at or below a txid.
func (f *facts) at(key string, txid uint64) (written, bool) {
	ws := f.writes[key]
	i := sort.Search(len(ws), func(i int) bool { return ws[i].txid > txid })
	if i == 0 {
		return written{}, false
	}
	return ws[i-1], true
}

// checkLinearizable is H1 of each key. Where it fails, the two kinds of reads are tried apart, to say which it is.
func checkLinearizable(f *facts) (bad []Violation) {
	keys, of := byKey(f.ops)
	for _, key := range keys {
		res, _ := linearize(only(of[key], Linearizable, Lease), f.txidOf, searchLimit)
		if res == porcupine.Ok {
			continue
		}
		text := "key " + key + " is not linearizable"
		if res == porcupine.Unknown {
			text = fmt.Sprintf("key %s: no order was found within %v, and none was excluded", key, searchLimit)
		}
		for _, apart := range [][]Strength{nil, {Linearizable}, {Lease}} {
			res, _ := linearize(only(of[key], apart...), f.txidOf, searchLimit)
			text += fmt.Sprintf("\nwrites with reads %v: %v", apart, res)
		}
		bad = append(bad, Violation{Rule: "H1", Text: text, Key: key})
	}
	return bad
}

// only leaves out reads of other strengths.
func only(ops []*Op, reads ...Strength) (out []*Op) {
	for _, o := range ops {
		if o.Kind != Get || slices.Contains(reads, o.Read) {
			out = append(out, o)
		}
	}
	return out
}

// told is what was told by a time: how far the log goes at least.
type told struct {
	txid uint64
	by   *Op
}

// horizon walks along two clocks: for each of asking, in the order of their calls, see is called with the furthest of
// what telling were told, in the order of their returns, before the call.
func horizon(telling, asking []*Op, says func(*Op) uint64, before func(*Op) time.Duration, see func(*Op, told)) {
	telling = byReturn(telling)
	asking = slices.SortedStableFunc(slices.Values(asking), func(a, b *Op) int { return cmp.Compare(before(a), before(b)) })
	var most told
	i := 0
	for _, o := range asking {
		for ; i < len(telling) && telling[i].Return < before(o); i++ {
			if txid := says(telling[i]); txid > most.txid {
				most = told{txid, telling[i]}
			}
		}
		see(o, most)
	}
}

// says is the furthest txid that an answer tells of.
func says(o *Op) uint64 {
	if o.Outcome == NotDone || o.Outcome == Unknown {
		return 0
	}
	return max(o.ETag, o.Applied)
}

// checkHorizon is H1 over all keys: the log is one, so what was told of any key is a part of what is read of another.
func checkHorizon(s Strength) func(*facts) []Violation {
	return func(f *facts) (bad []Violation) {
		horizon(f.ops, reads(f.ops, s), says, call, func(o *Op, t told) {
			if o.Applied < t.txid {
				bad = append(bad, violation("H1", []*Op{t.by, o}, "a %s read is of txid %d, %d was told before it", s, o.Applied, t.txid))
			}
		})
		return bad
	}
}

func call(o *Op) time.Duration { return o.Call }

// reads returns the answered reads of a strength; none: of all.
func reads(ops []*Op, of ...Strength) (out []*Op) {
	for _, o := range ops {
		if o.answered() && (len(of) == 0 || slices.Contains(of, o.Read)) {
			out = append(out, o)
		}
	}
	return out
}

// checkNames is H2: one write has one txid, one txid is one write, one ETag is one value of one key.
func checkNames(f *facts) (bad []Violation) {
	type name struct{ key, value string }
	write, read, value := map[uint64]*Op{}, map[uint64]*Op{}, map[string]*Op{}
	for _, o := range f.byTx {
		if o.ETag == 0 {
			bad = append(bad, violation("H2", []*Op{o}, "a write was acknowledged without an ETag"))
			continue
		}
		if other := write[o.ETag]; other != nil {
			bad = append(bad, violation("H2", []*Op{other, o}, "two writes have txid %d", o.ETag))
		}
		write[o.ETag] = o
		if o.Kind == Put {
			value[o.Value] = o
		}
	}
	for _, o := range f.ops {
		if o.Kind != Get || o.Outcome != OK {
			continue
		}
		if w := write[o.ETag]; w != nil && (name{w.Key, w.Value} != name{o.Key, o.Got}) {
			bad = append(bad, violation("H2", []*Op{w, o}, "ETag %d is of another write than the value that was read", o.ETag))
		}
		if r := read[o.ETag]; r != nil && (name{r.Key, r.Got} != name{o.Key, o.Got}) {
			bad = append(bad, violation("H2", []*Op{r, o}, "ETag %d was read with two values", o.ETag))
		}
		if v := value[o.Got]; v != nil && v.ETag != o.ETag {
			bad = append(bad, violation("H2", []*Op{v, o}, "value %s has two ETags, %d and %d: it was made twice", o.Got, v.ETag, o.ETag))
		}
		read[o.ETag] = o
		if value[o.Got] == nil {
			value[o.Got] = o
		}
	}
	return bad
}

// checkOrder is H2: who was called after another had returned has the higher txid, whatever the keys.
func checkOrder(f *facts) (bad []Violation) {
	horizon(f.byTx, f.byTx, says, call, func(o *Op, t told) {
		if o.ETag <= t.txid {
			bad = append(bad, violation("H2", []*Op{t.by, o}, "txid %d was given after %d was acknowledged", o.ETag, t.txid))
		}
	})
	return bad
}

// checkPrefix is H3: a value was written, of this key, before it was read, and is what the key had at Qjm-Applied. Writes
// whose txid nobody was told can explain that a key is absent; nothing else.
func checkPrefix(f *facts) (bad []Violation) {
	deletes := map[string]time.Duration{} // the first call of a delete of unknown outcome
	for _, o := range byCall(f.ops) {
		if _, ok := deletes[o.Key]; !ok && o.Kind == Delete && o.Outcome == Unknown {
			deletes[o.Key] = o.Call
		}
	}
	for _, o := range reads(f.ops) {
		w, any := f.at(o.Key, o.Applied)
		switch {
		case o.Applied == 0 && o.Outcome == OK:
			bad = append(bad, violation("H3", []*Op{o}, "a value was read at txid 0"))
		case o.Outcome == OK:
			bad = append(bad, f.checkValue(o, w, any)...)
		case any && w.op.Kind == Put:
			if first, ok := deletes[o.Key]; !ok || first > o.Return {
				bad = append(bad, violation("H3", []*Op{w.op, o}, "key %s is absent at txid %d, and was put at %d", o.Key, o.Applied, w.txid))
			}
		}
	}
	return bad
}

func (f *facts) checkValue(o *Op, w written, any bool) (bad []Violation) {
	put := f.put[o.Got]
	switch {
	case put == nil || put.Key != o.Key:
		return []Violation{violation("H3", []*Op{o}, "nobody wrote %q to key %s", o.Got, o.Key)}
	case put.Call > o.Return:
		return []Violation{violation("H3", []*Op{put, o}, "value %s was read before it was written", o.Got)}
	case o.ETag > o.Applied:
		return []Violation{violation("H3", []*Op{put, o}, "ETag %d was read at txid %d", o.ETag, o.Applied)}
	case any && w.txid > o.ETag:
		return []Violation{violation("H3", []*Op{w.op, o}, "the value of txid %d was read at txid %d, and txid %d wrote the key", o.ETag, o.Applied, w.txid)}
	}
	return nil
}

// checkForward is H3: what one process has applied it does not take back.
func checkForward(f *facts) (bad []Violation) {
	type process struct {
		replica     string
		incarnation int
	}
	of := map[process][]*Op{}
	for _, o := range reads(f.ops) {
		if o.Incarnation != 0 {
			p := process{o.Replica, o.Incarnation}
			of[p] = append(of[p], o)
		}
	}
	for _, ops := range of {
		horizon(ops, ops, func(o *Op) uint64 { return o.Applied }, call, func(o *Op, t told) {
			if o.Applied < t.txid {
				bad = append(bad, violation("H3", []*Op{t.by, o}, "replica %s went back from txid %d to %d", o.Replica, t.txid, o.Applied))
			}
		})
	}
	return bad
}

// checkFresh is H4. The bound is counted by the replica, from after the call, by a clock that goes on while the process is
// stopped: it is never more generous than this.
func checkFresh(f *facts) (bad []Violation) {
	before := func(o *Op) time.Duration { return o.Call - o.Within }
	horizon(f.byTx, reads(f.ops, Fresh), says, before, func(o *Op, t told) {
		if o.Applied < t.txid {
			bad = append(bad, violation("H4", []*Op{t.by, o}, "a read within %v is of txid %d, and %d was acknowledged longer ago", o.Within, o.Applied, t.txid))
		}
	})
	return bad
}

// checkAfter is H5; what the key has then is H3.
func checkAfter(f *facts) (bad []Violation) {
	for _, o := range reads(f.ops) {
		if o.Applied < o.After {
			bad = append(bad, violation("H5", []*Op{o}, "a read after %d is of txid %d", o.After, o.Applied))
		}
	}
	return bad
}

// checkAgain is H6. That a write was not made a second time is H1 and H2: its value would come back, and under another ETag.
func checkAgain(f *facts) (bad []Violation) {
	type name struct {
		session string
		seq     uint64
	}
	first := map[name]*Op{}
	for _, o := range f.ops {
		if o.Session == "" || o.Outcome == NotDone || o.Outcome == Unknown {
			continue
		}
		n := name{o.Session, o.Seq}
		if o.Kind != Again {
			first[n] = o
			continue
		}
		if w := first[n]; w != nil && (w.Outcome != o.Outcome || w.ETag != o.ETag) {
			bad = append(bad, violation("H6", []*Op{w, o}, "a retry was answered otherwise than the first time"))
		}
	}
	return bad
}

// checkFinal is H7: a linearizable read of each key at the end is behind every acknowledgement. That it reads the newest value
// is H3.
func checkFinal(f *facts) (bad []Violation) {
	last := told{}
	for _, o := range f.byTx {
		if o.ETag > last.txid {
			last = told{o.ETag, o}
		}
	}
	read := map[string]*Op{}
	for _, o := range reads(f.ops, Linearizable) {
		if o.Final {
			read[o.Key] = o
		}
	}
	keys, _ := byKey(f.ops)
	for _, key := range keys {
		o := read[key]
		if o == nil {
			bad = append(bad, Violation{Rule: "H7", Text: "key " + key + " was not read at the end"})
			continue
		}
		if o.Applied < last.txid {
			bad = append(bad, violation("H7", []*Op{last.by, o}, "the last read is of txid %d, and %d was acknowledged", o.Applied, last.txid))
		}
		if w, ok := f.at(key, last.txid); ok && o.Outcome == OK && o.ETag < w.txid {
			bad = append(bad, violation("H7", []*Op{w.op, o}, "the last read has txid %d, and %d was acknowledged", o.ETag, w.txid))
		}
	}
	return bad
}

// checkRefused is H7: what was refused was not made.
func checkRefused(f *facts) (bad []Violation) {
	for _, o := range f.ops {
		if o.Kind != Get || o.Outcome != OK {
			continue
		}
		if w := f.put[o.Got]; w != nil && (w.Outcome == NotDone || w.Outcome == Failed) {
			bad = append(bad, violation("H7", []*Op{w, o}, "a refused write was made"))
		}
	}
	return bad
}

// checkReplicas is H8: the last reads of each key, on each replica, are alike, at the same txid.
func checkReplicas(f *facts) (bad []Violation) {
	first := map[string]*Op{}
	have := map[string]map[string]bool{}
	for _, o := range f.ops {
		if !o.Final || o.Kind != Get || o.Read != Stale {
			continue
		}
		if !o.answered() {
			bad = append(bad, violation("H8", []*Op{o}, "replica %s did not answer at the end", o.Replica))
			continue
		}
		if have[o.Replica] == nil {
			have[o.Replica] = map[string]bool{}
		}
		have[o.Replica][o.Key] = true
		a := first[o.Key]
		if a == nil {
			first[o.Key] = o
			continue
		}
		if a.Outcome != o.Outcome || a.Got != o.Got || a.ETag != o.ETag || a.Applied != o.Applied {
			bad = append(bad, violation("H8", []*Op{a, o}, "replicas %s and %s differ", a.Replica, o.Replica))
		}
	}
	for replica, keys := range have {
		if len(keys) != len(first) {
			bad = append(bad, Violation{Rule: "H8", Text: fmt.Sprintf("replica %s was read %d keys of %d at the end", replica, len(keys), len(first))})
		}
	}
	if len(have) < 2 {
		bad = append(bad, Violation{Rule: "H8", Text: fmt.Sprintf("%d replicas were read at the end: none was compared", len(have))})
	}
	return bad
}

// checkContract is H9: an answer that the contract does not know.
func checkContract(f *facts) (bad []Violation) {
	for _, o := range f.ops {
		if o.Odd != "" {
			bad = append(bad, violation("H9", []*Op{o}, "%s", strings.TrimSpace(o.Odd)))
		}
	}
	return bad
}
