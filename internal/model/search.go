package model

import "slices"

// Result is what a search, a walk or a script came to.
type Result struct {
	States      int // distinct states, up to renaming nodes; for a walk, runs begun
	Transitions int
	Depth       int  // actions in the longest shortest path, or in the violation's trace
	Complete    bool // every reachable state was seen and checked
	Violation   *Violation
}

// Search explores cfg breadth first, so the trace of a violation is as short as any, and stops at
// the first violation or after stateMax states. It is deterministic.
func Search(cfg Config, stateMax int) (Result, error) {
	if err := cfg.Validate(); err != nil {
		return Result{}, err
	}
	b := &search{cfg: &cfg, seen: newVisited(), stateMax: stateMax}
	b.expand = expansion{cfg: &cfg, visit: b.visit}
	b.run()
	return b.res, nil
}

// layer holds the states of one depth, packed, with their numbers.
type layer struct {
	words   []uint64
	numbers []uint32
}

type search struct {
	cfg      *Config
	stateMax int
	seen     *visited
	expand   expansion
	cur      uint32 // number of the state being expanded
	next     layer
	res      Result
}

func (b *search) run() {
	var first, s state
	b.seen.add(first.key(b.cfg.Writers), 0)
	cur := layer{words: first.appendTo(nil, b.cfg.Writers), numbers: []uint32{0}}
	for len(cur.numbers) > 0 {
		rest := cur.words
		for _, n := range cur.numbers {
			rest = s.readFrom(rest, b.cfg.Writers)
			b.cur = n
			v := b.expand.run(&s)
			b.res.States = len(b.seen.keys)
			if v != nil {
				v.Trace = append(b.trace(n), b.expand.badBy.String())
				b.res.Violation, b.res.Depth = v, len(v.Trace)
				return
			}
			if b.res.States > b.stateMax {
				return
			}
		}
		cur, b.next = b.next, layer{words: cur.words[:0], numbers: cur.numbers[:0]}
		if len(cur.numbers) > 0 {
			b.res.Depth++
		}
	}
	b.res.Complete = true
}

func (b *search) visit(s *state, _ action) *Violation {
	b.res.Transitions++
	n, isNew := b.seen.add(s.key(b.cfg.Writers), b.cur)
	if !isNew {
		return nil
	}
	b.next.words = s.appendTo(b.next.words, b.cfg.Writers)
	b.next.numbers = append(b.next.numbers, n)
	return b.cfg.check(s)
}

// trace replays the way to state n: the table keeps keys, not actions. Any successor with the right
// key will do, since states of one key have the same future up to renaming nodes.
func (b *search) trace(n uint32) []string {
	var s state
	var out []string
	for _, key := range b.seen.path(n) {
		steps, _ := successors(b.cfg, &s)
		k := slices.IndexFunc(steps, func(st step) bool { return st.next.key(b.cfg.Writers) == key })
		if k < 0 {
			return append(out, "(trace lost: two states share a key)")
		}
		out = append(out, steps[k].by.String())
		s = steps[k].next
	}
	return out
}

// step is one transition, kept.
type step struct {
	next state
	by   action
}

// successors lists the transitions out of s, unchecked. If the list ends in a violation, that one's
// action is its last entry, with no state worth going on from.
func successors(cfg *Config, s *state) ([]step, *Violation) {
	var out []step
	x := expansion{cfg: cfg, visit: func(next *state, a action) *Violation {
		out = append(out, step{*next, a})
		return nil
	}}
	v := x.run(s)
	if v != nil {
		out = append(out, step{by: x.badBy})
	}
	return out, v
}
