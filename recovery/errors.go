package recovery

import (
	"errors"
	"fmt"
	"strings"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

var (
	// ErrDivergence is the class of *DivergenceError.
	ErrDivergence = errors.New("recovery: copies diverge")
	// ErrBelowFloor is the class of *FloorError.
	ErrBelowFloor = errors.New("recovery: the choice would lose committed transactions")
	// ErrBreach is the class of *BreachError.
	ErrBreach = errors.New("recovery: request breaks the protocol")
	// ErrMismatch is the class of *MismatchError.
	ErrMismatch = errors.New("recovery: the copy does not have the named end")
	// ErrNoQuorum is the class of *NoQuorumError.
	ErrNoQuorum = errors.New("recovery: no quorum")
	// ErrSuperseded is the class of *SupersededError.
	ErrSuperseded = errors.New("recovery: attempt is over, a higher epoch is needed")
	// ErrNotComparable: a comparison that the choice needs could not be had (R1). A new epoch that
	// hears other nodes may go on.
	ErrNotComparable = errors.New("recovery: a digest needed for the choice could not be had")
)

// DivergenceError says that two nodes hold contents that cannot both be right. Recovery stops: which
// one to keep is the operator's decision.
type DivergenceError struct {
	Segment segments.TxID
	What    string
	Nodes   []quorum.NodeID
	Ends    []segments.Position // of Nodes, in the same order
}

func (e *DivergenceError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "recovery: segment %d diverges: %s:", e.Segment, e.What)
	for i, n := range e.Nodes {
		fmt.Fprintf(&b, " %s has %s", n, e.Ends[i])
	}
	return b.String()
}

// Is makes errors.Is(err, ErrDivergence) true.
func (e *DivergenceError) Is(target error) bool { return target == ErrDivergence }

// FloorError says that a node knows of something committed which the choice does not contain (R3). An
// attempt in a new epoch that hears more nodes may go on.
type FloorError struct {
	Node   quorum.NodeID
	Floor  Floor
	Choice segments.End
}

func (e *FloorError) Error() string {
	return fmt.Sprintf("recovery: node %s knows %s as committed, which the choice %s does not contain",
		e.Node, e.Floor, e.Choice)
}

// Is makes errors.Is(err, ErrBelowFloor) true.
func (e *FloorError) Is(target error) bool { return target == ErrBelowFloor }

// BreachError says that a request cannot come from a writer that follows the protocol, or that this
// node's state cannot come from one. It has no effect and is never retried.
type BreachError struct {
	Rule    string
	Segment segments.TxID
	Text    string
}

func (e *BreachError) Error() string {
	return fmt.Sprintf("recovery: segment %d: %s (rule %s)", e.Segment, e.Text, e.Rule)
}

// Is makes errors.Is(err, ErrBreach) true.
func (e *BreachError) Is(target error) bool { return target == ErrBreach }

func breach(rule string, s segments.TxID, format string, args ...any) *BreachError {
	return &BreachError{Rule: rule, Segment: s, Text: fmt.Sprintf(format, args...)}
}

// MismatchError says that a node's copy does not end where the request says.
type MismatchError struct {
	State CopyState
	Got   segments.Position
	Want  segments.End
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("recovery: the %s copy of segment %d ends elsewhere (got %s, want %s)",
		e.State, e.Want.First, e.Got, e.Want.Position())
}

// Is makes errors.Is(err, ErrMismatch) true.
func (e *MismatchError) Is(target error) bool { return target == ErrMismatch }

// NoQuorumError says that too few nodes answered a step. Causes are per node, in the order of the
// config; a node without an entry did not answer in time.
type NoQuorumError struct {
	Step   string
	Causes []NodeCause
}

// NodeCause is why one node does not count.
type NodeCause struct {
	Node quorum.NodeID
	Err  error
}

func (e *NoQuorumError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "recovery: no quorum for %s", e.Step)
	for i, c := range e.Causes {
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%s: %v", sep, c.Node, c.Err)
	}
	return b.String()
}

// Is makes errors.Is(err, ErrNoQuorum) true.
func (e *NoQuorumError) Is(target error) bool { return target == ErrNoQuorum }

// Unwrap returns the causes, so that errors.Is finds their classes.
func (e *NoQuorumError) Unwrap() []error {
	errs := make([]error, len(e.Causes))
	for i, c := range e.Causes {
		errs[i] = c.Err
	}
	return errs
}

// SupersededError says that this attempt met an epoch above its own, or lost the race for its own,
// on so many nodes that no majority is left.
type SupersededError struct {
	Epoch    fencing.Epoch // the attempt's
	Promised fencing.Epoch // the highest met
	Causes   []NodeCause
}

func (e *SupersededError) Error() string {
	return fmt.Sprintf("recovery: epoch %d met a higher one or another owner (highest promised: %d)", e.Epoch, e.Promised)
}

// Is makes errors.Is(err, ErrSuperseded) true.
func (e *SupersededError) Is(target error) bool { return target == ErrSuperseded }
