package model

import "fmt"

// Kind is what went wrong.
type Kind string

// Kinds of violations.
const (
	Lost            Kind = "LOST"             // a committed txn is gone, or another stands in its place
	Stuck           Kind = "STUCK"            // a healthy majority cannot be recovered or written to
	Divergence      Kind = "DIVERGENCE"       // recovery stops: copies contradict each other, and no disk lied
	DecisionChanged Kind = "DECISION CHANGED" // a segment's decided end moved
	WrongRead       Kind = "D1"               // a node shows what is not committed
	Unreadable      Kind = "UNREADABLE"       // a committed txn is finalized on no node of a majority
	TwoValues       Kind = "TWO VALUES"       // one txid was committed twice, with different contents
)

// Violation is a property that does not hold, and how the system got there.
type Violation struct {
	Kind    Kind
	Message string
	Trace   []string // the actions from the initial state on
}

func (v *Violation) String() string { return fmt.Sprintf("%s: %s", v.Kind, v.Message) }

func violation(k Kind, format string, args ...any) *Violation {
	return &Violation{Kind: k, Message: fmt.Sprintf(format, args...)}
}
