package main

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// state of one key in the model.
type state struct {
	there bool
	value string
	etag  uint64 // of the value; 0: nobody was told
	last  uint64 // the newest write that anybody was told of
}

// input of the model: an operation, and what the rest of the history tells of it.
type input struct {
	*Op
	txid uint64 // of a write that was made; 0: nobody was told
}

// step says whether an operation can have been answered so in a state, and which state it leaves. A write whose
// outcome is unknown may be made at any time after its call, or never: that is at the end, where nobody sees it.
func (s state) step(in input) (bool, state) {
	switch {
	case in.Kind == Get && in.Outcome == OK:
		return s.there && s.value == in.Got && (s.etag == in.ETag || s.etag == 0), s.named(in.ETag)
	case in.Kind == Get:
		return !s.there, s
	case in.Outcome == Absent: // a delete
		return !s.there, s
	case in.Outcome == Failed:
		return s.refuses(in), s.named(in.ETag)
	}
	holds := s.holds(in)
	if in.txid != 0 && in.txid <= s.last {
		return in.Outcome == Unknown && !holds, s // H2: txids rise
	}
	if !holds {
		return in.Outcome == Unknown, s
	}
	next := state{last: max(s.last, in.txid)}
	if in.Kind == Put {
		next.there, next.value, next.etag = true, in.Value, in.txid
	}
	return true, next
}

// named takes in an ETag that was not known.
func (s state) named(etag uint64) state {
	if s.there && s.etag == 0 {
		s.etag, s.last = etag, max(s.last, etag)
	}
	return s
}

// holds: a write's condition holds. Clients condition on ETags of values that they were told only, so none of
// them is that of a value that nobody was told the ETag of.
func (s state) holds(in input) bool {
	switch {
	case in.IfMatch != 0:
		return s.there && s.etag == in.IfMatch
	case in.IfAbsent:
		return !s.there
	}
	return in.Kind == Put || s.there
}

// refuses: the condition does not hold, and the ETag that was told is the key's.
func (s state) refuses(in input) bool {
	if s.holds(in) || in.IfMatch == 0 && !in.IfAbsent {
		return false
	}
	if !s.there {
		return in.ETag == 0
	}
	return in.ETag != 0 && (s.etag == in.ETag || s.etag == 0 && in.ETag > s.last && in.ETag != in.IfMatch)
}

// model is one key of the example.
var model = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(s, in, _ any) (bool, any) { return s.(state).step(in.(input)) },
	DescribeOperation: func(in, _ any) string {
		return in.(input).String()
	},
	DescribeState: func(s any) string {
		v := s.(state)
		if !v.there {
			return fmt.Sprintf("absent, last %d", v.last)
		}
		return fmt.Sprintf("%s etag %d, last %d", v.value, v.etag, v.last)
	},
}

// linearize searches for an order of one key's operations. known are the txids of puts by their values.
func linearize(ops []*Op, known map[string]uint64, limit time.Duration) (porcupine.CheckResult, porcupine.LinearizationInfo) {
	var in []porcupine.Operation
	for _, o := range ops {
		i, end := input{Op: o}, int64(o.Return)
		switch {
		case o.Outcome == NotDone || !o.isWrite() && o.Kind != Get:
			continue
		case o.Outcome == Unknown && o.Kind == Get:
			continue
		case o.Outcome == Unknown:
			end = math.MaxInt64
		}
		if o.Outcome == OK && o.isWrite() {
			i.txid = o.ETag
		}
		if o.Outcome == Unknown && o.Kind == Put {
			i.txid = known[o.Value]
		}
		in = append(in, porcupine.Operation{ClientId: o.Process, Input: i, Call: int64(o.Call), Return: end})
	}
	return porcupine.CheckOperationsVerbose(model, in, limit)
}
