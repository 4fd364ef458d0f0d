package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

// Kind is what was asked for.
type Kind string

// Kinds.
const (
	Put    Kind = "put"
	Delete Kind = "delete"
	Get    Kind = "get"
	Again  Kind = "again" // a write of a session, sent once more after it was answered
)

// Strength of a read, as the kv example spells it.
type Strength string

// Strengths.
const (
	Linearizable Strength = "linearizable"
	Lease        Strength = "lease"
	Fresh        Strength = "fresh"
	Stale        Strength = "stale"
)

// Outcome is what came back.
type Outcome string

// Outcomes.
const (
	OK      Outcome = "ok"
	Failed  Outcome = "failed"   // the condition did not hold
	Absent  Outcome = "absent"   // the key was not there
	NotDone Outcome = "not-done" // a write that was certainly not made; a read that was not answered
	Unknown Outcome = "unknown"  // a write that may have been made, or will be
)

// Op is one operation of a client: a request, or the retries of one in a session.
type Op struct {
	N        int           `json:"n"`
	Process  int           `json:"process"` // does one thing at a time; after an unknown outcome its client goes on as another
	Kind     Kind          `json:"kind"`
	Key      string        `json:"key"`
	Value    string        `json:"value,omitempty"`     // of a put; each is written once
	IfMatch  uint64        `json:"if_match,omitempty"`  // the ETag that it is to have
	IfAbsent bool          `json:"if_absent,omitempty"` // If-None-Match: *
	Read     Strength      `json:"read,omitempty"`
	Within   time.Duration `json:"within,omitempty"`
	After    uint64        `json:"after,omitempty"`
	Session  string        `json:"session,omitempty"`
	Seq      uint64        `json:"seq,omitempty"`
	Attempts int           `json:"attempts,omitempty"`

	Call   time.Duration `json:"call"` // since the run began
	Return time.Duration `json:"return"`

	Replica     string  `json:"replica,omitempty"` // who answered
	Incarnation int     `json:"incarnation,omitempty"`
	Status      int     `json:"status,omitempty"`
	Outcome     Outcome `json:"outcome"`
	Got         string  `json:"got,omitempty"`
	ETag        uint64  `json:"etag,omitempty"`
	Applied     uint64  `json:"applied,omitempty"`
	Err         string  `json:"err,omitempty"`
	Odd         string  `json:"odd,omitempty"`   // what is not as the contract has it
	Final       bool    `json:"final,omitempty"` // after all was healed, and nobody writes
}

func (o *Op) isWrite() bool { return o.Kind == Put || o.Kind == Delete }

// answered: a read that says something of the state.
func (o *Op) answered() bool { return o.Kind == Get && (o.Outcome == OK || o.Outcome == Absent) }

func (o *Op) String() string {
	s := fmt.Sprintf("#%d p%d %s", o.N, o.Process, o.Kind)
	if o.Kind == Get {
		s += " " + string(o.Read)
	}
	s += " " + o.Key
	if o.Value != "" {
		s += "=" + o.Value
	}
	if o.IfMatch != 0 {
		s += fmt.Sprintf(" if-match %d", o.IfMatch)
	}
	if o.IfAbsent {
		s += " if-absent"
	}
	if o.After != 0 {
		s += fmt.Sprintf(" after %d", o.After)
	}
	if o.Session != "" {
		s += fmt.Sprintf(" session %.8s/%d", o.Session, o.Seq)
	}
	s += fmt.Sprintf(" [%.6f, %.6f] %s", o.Call.Seconds(), o.Return.Seconds(), o.Outcome)
	if o.Got != "" {
		s += " got " + o.Got
	}
	if o.ETag != 0 {
		s += fmt.Sprintf(" etag %d", o.ETag)
	}
	if o.Applied != 0 {
		s += fmt.Sprintf(" applied %d", o.Applied)
	}
	if o.Replica != "" {
		s += fmt.Sprintf(" from %s.%d", o.Replica, o.Incarnation)
	}
	return s
}

// history collects operations, and writes each down as it ends.
type history struct {
	began time.Time

	mu   sync.Mutex
	ops  []*Op
	out  *bufio.Writer // nil: nobody keeps it
	file io.Closer
	err  error
}

func newHistory(file string) (*history, error) {
	h := &history{began: time.Now()}
	if file == "" {
		return h, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	h.out, h.file = bufio.NewWriterSize(f, 1<<20), f
	return h, nil
}

// now is the run's clock: monotonic, as time.Since is.
func (h *history) now() time.Duration { return time.Since(h.began) }

func (h *history) add(o *Op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	o.N = len(h.ops) + 1
	h.ops = append(h.ops, o)
	if h.out == nil || h.err != nil {
		return
	}
	b, err := json.Marshal(o)
	if err == nil {
		_, err = h.out.Write(append(b, '\n'))
	}
	h.err = err
}

func (h *history) snapshot() []*Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.ops)
}

func (h *history) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.out == nil {
		return nil
	}
	return errors.Join(h.err, h.out.Flush(), h.file.Close())
}

// readHistory reads what a run has kept.
func readHistory(file string) (ops []*Op, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for dec := json.NewDecoder(bufio.NewReaderSize(f, 1<<20)); ; {
		o := new(Op)
		switch err := dec.Decode(o); {
		case errors.Is(err, io.EOF):
			return ops, nil
		case err != nil:
			return nil, fmt.Errorf("%s: operation %d: %w", file, len(ops)+1, err)
		}
		ops = append(ops, o)
	}
}

// byKey sorts operations into keys, the keys sorted.
func byKey(ops []*Op) (keys []string, of map[string][]*Op) {
	of = map[string][]*Op{}
	for _, o := range ops {
		if of[o.Key] == nil {
			keys = append(keys, o.Key)
		}
		of[o.Key] = append(of[o.Key], o)
	}
	slices.Sort(keys)
	return keys, of
}

// byCall and byReturn return operations in that order.
func byCall(ops []*Op) []*Op {
	return slices.SortedStableFunc(slices.Values(ops), func(a, b *Op) int { return cmp.Compare(a.Call, b.Call) })
}

func byReturn(ops []*Op) []*Op {
	return slices.SortedStableFunc(slices.Values(ops), func(a, b *Op) int { return cmp.Compare(a.Return, b.Return) })
}
