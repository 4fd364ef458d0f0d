package recovery

import (
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

var (
	writerA = fencing.WriterID{0xaa}
	writerB = fencing.WriterID{0xbb}
	errGone = errors.New("gone")
)

// The transcripts in testdata step one Coordinator through a story:
//
//	new [nodes=N] [hear-all] [fence-only] [min-epoch=E]
//	begin | patience [step]
//	stated NODE EPOCH
//	promised NODE newest=S | unknown
//	prepared NODE absent | unknown | in-progress EPOCH HISTORY | finalized EPOCH HISTORY
//	         [accepted=EPOCH] [cut] [floor=HISTORY] [newest=S] [digests=HISTORY,HISTORY...]
//	accepted NODE | finalized NODE
//	failed NODE STEP gone | fenced=EPOCH | race | source
//
// Histories are strings with one letter per transaction of segment 101; "-" is the empty one. The
// output is the list of effects.
func TestCoordinatorTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var c *Coordinator
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "new" {
				c = newScripted(d)
				return "ok\n"
			}
			return printEffects(c.Step(parseEvent(t, d)))
		})
	})
}

func newScripted(d *datadriven.TestData) *Coordinator {
	n, opts := 3, Options{}
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "nodes":
			n, _ = strconv.Atoi(a.Vals[0])
		case "hear-all":
			opts.HearAll = true
		case "fence-only":
			opts.FenceOnly = true
		case "min-epoch":
			e, _ := strconv.Atoi(a.Vals[0])
			opts.MinEpoch = epochOf(e)
		}
	}
	return NewCoordinator(config(n), writerA, opts)
}

func parseEvent(t *testing.T, d *datadriven.TestData) Event {
	arg := func(i int) string {
		if i < len(d.CmdArgs) {
			return d.CmdArgs[i].Key
		}
		return ""
	}
	val := func(key string) (string, bool) {
		for _, a := range d.CmdArgs {
			if a.Key == key && len(a.Vals) > 0 {
				return strings.Join(a.Vals, ","), true
			}
		}
		return "", false
	}
	num := func(s string) int { v, err := strconv.Atoi(s); require.NoError(t, err, d.Pos); return v }
	var n quorum.Key
	if i, err := strconv.Atoi(strings.TrimPrefix(arg(0), "n")); err == nil {
		n = key(i)
	}
	switch d.Cmd {
	case "begin":
		return Begin{}
	case "patience":
		return PatienceOver{Step: Step(arg(0))}
	case "stated":
		return Stated{Node: n, Promised: epochOf(num(arg(1)))}
	case "promised":
		s, known := val("newest")
		if !known {
			return Promised{Node: n}
		}
		return Promised{Node: n, DataKnown: true, Newest: segments.TxID(num(s))}
	case "accepted":
		return AcceptedBy{Node: n}
	case "finalized":
		return FinalizedBy{Node: n}
	case "failed":
		e := Failed{Node: n, Step: Step(arg(1)), Err: errGone}
		if s, ok := val("fenced"); ok {
			e.Err = &fencing.FencedError{Promised: fencing.Claim{Epoch: epochOf(num(s)), Writer: writerB}}
		}
		if arg(2) == "race" {
			e.Err = &fencing.LostRaceError{Holder: fencing.Claim{Epoch: 1, Writer: writerB}}
		}
		return e
	case "prepared":
		i := num(strings.TrimPrefix(arg(0), "n"))
		var a Answer
		history := strings.Trim(arg(3), "-")
		switch arg(1) {
		case "absent":
			a = absent(i)
		case "unknown":
			a = unknown(i)
		case "in-progress":
			a = inProgress(i, num(arg(2)), history)
		case "finalized":
			a = finalized(i, num(arg(2)), history)
		default:
			t.Fatalf("%s: state %q", d.Pos, arg(1))
		}
		a = a.terse()
		for _, x := range d.CmdArgs {
			switch x.Key {
			case "accepted":
				a = a.accepted(num(x.Vals[0]), history)
			case "cut":
				a = a.cut(history)
			case "floor":
				a = a.floored(1, x.Vals[0])
			case "newest":
				a.Newest = segments.TxID(num(x.Vals[0]))
			case "digests":
				for _, v := range x.Vals {
					a.Digests = append(a.Digests, DigestReply{At: at(v), Found: true})
				}
			}
		}
		return Prepared{Answer: a}
	}
	t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	return nil
}

// printEffects prints one line per effect; equal requests to several nodes share one.
func printEffects(effects []Effect) string {
	if len(effects) == 0 {
		return "(nothing)\n"
	}
	var out []string
	for _, e := range effects {
		switch e := e.(type) {
		case AskState:
			out = append(out, fmt.Sprintf("ask-state %s", e.Node.ID))
		case AskPromise:
			out = append(out, fmt.Sprintf("ask-promise %s epoch=%d", e.Node.ID, e.Claim.Epoch))
		case AskPrepare:
			s := fmt.Sprintf("ask-prepare %s epoch=%d segment=%d", e.Node.ID, e.Claim.Epoch, e.Segment)
			if len(e.Digests) > 0 {
				s += fmt.Sprintf(" digests=%v", e.Digests)
			}
			out = append(out, s)
		case AskAccept:
			out = append(out, fmt.Sprintf("ask-accept %s epoch=%d end=%s content-epoch=%d sources=%v", e.Node.ID, e.Accept.Claim.Epoch, e.Accept.End, e.Accept.Epoch, e.Accept.Sources))
		case AskFinalize:
			out = append(out, fmt.Sprintf("ask-finalize %s epoch=%d end=%s", e.Node.ID, e.Claim.Epoch, e.End))
		case SetPatience:
			out = append(out, fmt.Sprintf("set-patience %s", e.Step))
		case Done:
			r := e.Result
			s := fmt.Sprintf("done epoch=%d prev=%s promised-by=%v", r.Claim.Epoch, r.Prev, r.PromisedBy)
			if r.Recovered.Empty {
				s += " empty"
			}
			if len(r.Recovered.CutAt) > 0 {
				s += fmt.Sprintf(" cut-at=%v missing=%v", r.Recovered.CutAt, r.Missing)
			}
			out = append(out, s)
		case Fail:
			out = append(out, fmt.Sprintf("fail: %v [%s]", e.Err, classOf(e.Err)))
		}
	}
	return strings.Join(out, "\n") + "\n"
}

func classOf(err error) string {
	var names []string
	for name, class := range map[string]error{
		"divergence": ErrDivergence, "below-floor": ErrBelowFloor, "no-quorum": ErrNoQuorum,
		"superseded": ErrSuperseded, "not-comparable": ErrNotComparable,
	} {
		if errors.Is(err, class) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return strings.Join(names, " ")
}

// R2a, R8: whatever the order of events, with losses, repeats and late ones: one epoch sends one accept,
// and Done means that majorities promised, accepted and finalized it. Guards c.step's checks in onAck
// and onPrepared, the frozen basis, and majority() in advance.
func TestR2a_OneChoicePerEpoch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.SampledFrom([]int{3, 5}).Draw(t, "nodes")
		opts := Options{HearAll: rapid.Bool().Draw(t, "hear all")}
		c := NewCoordinator(config(total), writerA, opts)
		w := &randomWorld{t: t, cfg: config(total), c: c, answers: map[quorum.Key]func() Answer{}}
		for i := 1; i <= total; i++ {
			w.answers[key(i)] = w.drawNode(i)
		}
		w.step(Begin{})
		for n := 0; len(w.events) > 0 && n < 200; n++ {
			i := rapid.IntRange(0, len(w.events)-1).Draw(t, "event")
			ev := w.events[i]
			if rapid.IntRange(0, 3).Draw(t, "repeat") > 0 { // else it comes again
				w.events = append(w.events[:i], w.events[i+1:]...)
			}
			w.step(ev)
		}
	})
}

type randomWorld struct {
	t       *rapid.T
	cfg     quorum.Config
	c       *Coordinator
	answers map[quorum.Key]func() Answer
	events  []Event

	accept                        *AcceptRequest
	promised, accepted, finalized map[quorum.Key]bool
	over                          bool
}

// drawNode: a copy that may be another one each time it is asked for, as anti-entropy, rot and late
// replies make it.
func (w *randomWorld) drawNode(i int) func() Answer {
	draw := func() Answer {
		switch rapid.IntRange(0, 5).Draw(w.t, "copy") {
		case 0:
			return absent(i)
		case 1:
			return unknown(i)
		case 2:
			return inProgress(i, 2, "ab")
		case 3:
			return inProgress(i, 1, "aaa").cut("aaa").terse()
		default:
			return inProgress(i, 1, strings.Repeat("a", rapid.IntRange(0, 4).Draw(w.t, "len"))).terse()
		}
	}
	first := draw()
	return func() Answer {
		if rapid.IntRange(0, 9).Draw(w.t, "changed") == 0 {
			return draw()
		}
		return first
	}
}

func (w *randomWorld) reply(n quorum.Key, s Step, ev Event) {
	if rapid.IntRange(0, 5).Draw(w.t, "lost") == 0 {
		w.events = append(w.events, Failed{Node: n, Step: s, Err: errGone})
		return
	}
	w.events = append(w.events, ev)
}

func (w *randomWorld) step(ev Event) {
	mark := func(m *map[quorum.Key]bool, n quorum.Key) {
		if *m == nil {
			*m = map[quorum.Key]bool{}
		}
		(*m)[n] = true
	}
	switch ev := ev.(type) {
	case Promised:
		mark(&w.promised, ev.Node)
	case AcceptedBy:
		mark(&w.accepted, ev.Node)
	case FinalizedBy:
		mark(&w.finalized, ev.Node)
	}
	effects := w.c.Step(ev)
	if w.over && len(effects) > 0 {
		w.t.Fatalf("effects after the end: %v", effects)
	}
	for _, e := range effects {
		switch e := e.(type) {
		case AskState:
			w.reply(e.Node, StepState, Stated{e.Node, 3})
		case AskPromise:
			a := w.answers[e.Node]()
			w.reply(e.Node, StepPromise, Promised{Node: e.Node, DataKnown: a.Copy.State != Unknown, Newest: seg})
		case AskPrepare:
			a := w.answers[e.Node]()
			for _, t := range e.Digests {
				a.Digests = append(a.Digests, DigestReply{At: at(strings.Repeat("a", int(t-seg)+1)), Found: true})
			}
			w.reply(e.Node, StepPrepare, Prepared{a})
		case AskAccept:
			if w.accept != nil && (w.accept.End != e.Accept.End || w.accept.Claim != e.Accept.Claim) {
				w.t.Fatalf("two choices in one epoch: %v and %v", *w.accept, e.Accept)
			}
			w.accept = &e.Accept
			w.reply(e.Node, StepAccept, AcceptedBy{e.Node})
		case AskFinalize:
			if !w.cfg.Majority(func(m quorum.Member) bool { return w.accepted[m.Key()] }) {
				w.t.Fatalf("R7: finalize before a majority accepted: %v", w.accepted)
			}
			if e.End != w.accept.End {
				w.t.Fatalf("finalize of another end: %v", e.End)
			}
			w.reply(e.Node, StepFinalize, FinalizedBy{e.Node})
		case SetPatience:
			w.events = append(w.events, PatienceOver{Step: e.Step})
		case Done:
			w.over = true
			all := []map[quorum.Key]bool{w.promised}
			if !e.Result.Recovered.Empty {
				all = append(all, w.accepted, w.finalized)
			}
			for i, m := range all {
				if !w.cfg.Majority(func(x quorum.Member) bool { return m[x.Key()] }) {
					w.t.Fatalf("done without majority %d: %v", i, m)
				}
			}
		case Fail:
			w.over = true
		}
	}
}
