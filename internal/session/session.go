package session

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"slices"
)

// ID names a session: a random number that its client chose.
type ID [16]byte

// String returns it in hexadecimal.
func (id ID) String() string { return fmt.Sprintf("%x", id[:]) }

// Limits of a table. They are a part of the replicated state: all replicas of a journal use the same. The zero value
// is the defaults.
type Limits struct {
	// Sessions is how many there may be. Default 10,000.
	Sessions int
	// Window is how many proposals of a session may be awaited at once. Default 64.
	Window uint64
	// ResultBytes bounds the results that are kept for one session; the result that does not fit is replaced by
	// ErrResultDropped for whoever asks again. Default 16 KiB.
	ResultBytes int
}

// Defaults of Limits.
const (
	DefaultSessions    = 10_000
	DefaultWindow      = 64
	DefaultResultBytes = 16 << 10
)

// Millis is a time, or a span of it, in milliseconds.
type Millis int64

// Bounds of a session's time to live: a second, and 30 days.
const (
	MinTTL Millis = 1000
	MaxTTL Millis = 30 * 24 * 3600 * 1000
)

// StepMax, a minute, is how far one entry may move the table's time. An active whose clock is a year ahead ends no session that
// way; and after an hour without an entry, sessions live on for what they had left.
const StepMax Millis = 60_000

// BackMax, ten minutes: a stamp that is less behind the last one is late, for its proposer waited for its turn; one that
// is further behind is of another clock, and what follows is counted from it.
const BackMax = 10 * StepMax

var (
	// ErrUnknown: there is no such session. It has ended, or was never opened. A proposal that was tried in it
	// before may have been applied.
	ErrUnknown = errors.New("session: no such session: it has ended, or was never opened")
	// ErrTooMany: Limits.Sessions are open.
	ErrTooMany = errors.New("session: too many sessions")
	// ErrForgotten: the client said before that it has the answer to this proposal.
	ErrForgotten = errors.New("session: the proposal was answered, and its result is forgotten")
	// ErrWindow: the number is too far beyond what the client awaits.
	ErrWindow = errors.New("session: number of the proposal is out of the window")
	// ErrResultDropped: the proposal was applied, once, and its result was too large to be kept.
	ErrResultDropped = errors.New("session: the proposal was applied, but its result was too large to be kept")
	// ErrBad: what no client of ours sends.
	ErrBad = errors.New("session: bad request")
)

// Verdict is what to do with a proposal.
type Verdict uint8

// Verdicts.
const (
	Refused Verdict = iota // do not apply it; Err says why
	Apply                  // apply it, and call Done
	Again                  // do not apply it: Result is what it returned, or Err that this is lost
)

// Answer is what Begin returns.
type Answer struct {
	Verdict Verdict
	Result  []byte // not to be changed
	Err     error
}

// Table is all sessions of a replicated state.
type Table struct {
	limits Limits
	stamp  Millis // of the last entry, since 1970 by some active's clock
	now    Millis // the table's own time: the sum of steps
	open   map[ID]*state
	due    byEnd
}

// state of one session. Proposals below awaited are answered; those in applied have been applied, and are kept
// with their results; all others have not.
type state struct {
	id      ID
	ttl     Millis
	end     Millis // in the table's time
	at      int    // in the heap
	awaited uint64
	applied []kept // by number
	bytes   int
}

type kept struct {
	seq     uint64
	result  []byte
	dropped bool
}

// New returns an empty table.
func New(l Limits) *Table {
	l.Sessions = cmp.Or(l.Sessions, DefaultSessions)
	l.Window = cmp.Or(l.Window, DefaultWindow)
	l.ResultBytes = cmp.Or(l.ResultBytes, DefaultResultBytes)
	return &Table{limits: l, open: map[ID]*state{}}
}

// Len returns how many sessions are open.
func (t *Table) Len() int { return len(t.open) }

// Advance moves the table's time to what an entry is stamped with, since 1970, by StepMax at most and
// never back, and ends sessions whose time is over.
func (t *Table) Advance(stamp Millis) {
	late := t.stamp - stamp
	if t.stamp != 0 && stamp > t.stamp {
		step := -late
		if step < 0 || step > StepMax { // below 0: it is that far that it wraps
			step = StepMax
		}
		t.now += step
	}
	if stamp > t.stamp || late < 0 || late >= BackMax { // below 0 here: it wraps, too
		t.stamp = stamp
	}
	for len(t.due) > 0 && t.due[0].end <= t.now {
		t.remove(t.due[0])
	}
}

// Open opens a session, or, if it is open, keeps it for its time again. ErrTooMany, ErrBad.
func (t *Table) Open(id ID, ttl Millis) error {
	if ttl < MinTTL || ttl > MaxTTL {
		return fmt.Errorf("%w: time to live (got %d ms, want %d to %d)", ErrBad, ttl, MinTTL, MaxTTL)
	}
	s := t.open[id]
	if s == nil {
		if len(t.open) >= t.limits.Sessions {
			return fmt.Errorf("%w: %d are open", ErrTooMany, len(t.open))
		}
		s = &state{id: id, awaited: 1}
		t.open[id] = s
		heap.Push(&t.due, s)
	}
	s.ttl = ttl
	t.touch(s)
	return nil
}

// Close ends a session. It is no error if there is none: it was closed before.
func (t *Table) Close(id ID) {
	if s := t.open[id]; s != nil {
		t.remove(s)
	}
}

// Begin says what to do with proposal seq of a session, whose client awaits no answer below awaited any more. It keeps
// the session for its time again.
func (t *Table) Begin(id ID, seq, awaited uint64) Answer {
	s := t.open[id]
	switch {
	case s == nil:
		return Answer{Err: fmt.Errorf("%w (%v)", ErrUnknown, id)}
	case seq == 0 || awaited == 0 || awaited > seq:
		return Answer{Err: fmt.Errorf("%w: proposal %d while %d is awaited", ErrBad, seq, awaited)}
	}
	t.touch(s)
	s.forget(awaited)
	switch {
	case seq < s.awaited:
		return Answer{Err: fmt.Errorf("%w (proposal %d, awaited from %d on)", ErrForgotten, seq, s.awaited)}
	case seq-s.awaited >= t.limits.Window:
		return Answer{Err: fmt.Errorf("%w (proposal %d, awaited from %d on, window %d)", ErrWindow, seq, s.awaited, t.limits.Window)}
	}
	at, found := s.find(seq)
	switch {
	case !found:
		return Answer{Verdict: Apply}
	case s.applied[at].dropped:
		return Answer{Verdict: Again, Err: ErrResultDropped}
	}
	return Answer{Verdict: Again, Result: s.applied[at].result}
}

// Done notes that a proposal was applied, for which Begin said Apply just before, and what it returned. The result is
// kept, and must not be changed.
func (t *Table) Done(id ID, seq uint64, result []byte) {
	s := t.open[id]
	if s == nil {
		return
	}
	at, found := s.find(seq)
	if found {
		return
	}
	k := kept{seq: seq, result: result}
	if s.bytes+len(result) > t.limits.ResultBytes {
		k.result, k.dropped = nil, true
	}
	s.bytes += len(k.result)
	s.applied = slices.Insert(s.applied, at, k)
}

func (s *state) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(s.applied, seq, func(k kept, seq uint64) int { return cmp.Compare(k.seq, seq) })
}

// forget drops what the client has the answers to. It never goes back: a retry that was delayed on its way says less
// than the client knows by now.
func (s *state) forget(awaited uint64) {
	if awaited <= s.awaited {
		return
	}
	s.awaited = awaited
	n, _ := s.find(awaited)
	for _, k := range s.applied[:n] {
		s.bytes -= len(k.result)
	}
	s.applied = slices.Delete(s.applied, 0, n)
}

// touch gives a session its time again.
func (t *Table) touch(s *state) {
	s.end = t.now + s.ttl
	t.fix(s)
}

func (t *Table) fix(s *state) { heap.Fix(&t.due, s.at) }

func (t *Table) remove(s *state) {
	delete(t.open, s.id)
	heap.Remove(&t.due, s.at)
}

// byEnd is a heap: the session that ends first. Equal ends are ordered by id, so that all replicas end sessions
// alike (S2).
type byEnd []*state

func (h byEnd) Len() int { return len(h) }

func (h byEnd) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].end, h[j].end), slices.Compare(h[i].id[:], h[j].id[:])) < 0
}

func (h byEnd) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push is heap.Interface's.
func (h *byEnd) Push(x any) {
	s := x.(*state)
	s.at = len(*h)
	*h = append(*h, s)
}

// Pop is heap.Interface's.
func (h *byEnd) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
