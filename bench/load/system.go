package load

import "context"

// System is what is measured: a cluster of three, and its client.
type System interface {
	// Append returns when the transaction is durable on two of three. It is called by many goroutines at once.
	// The bytes do not change afterwards.
	Append(ctx context.Context, txn []byte) error
	// Contents reads back what is committed, from the system's own stores. It is for small tests.
	Contents(ctx context.Context) ([][]byte, error)
	// Close ends all of the system's nodes and clients. Its files are removed by the caller.
	Close() error
}

// Windowed is a System that takes transactions without making the caller wait for each.
type Windowed interface {
	System
	// Submit hands transactions over, in order.
	Submit(ctx context.Context, txns [][]byte) (Pending, error)
}

// Pending is an outcome that is not known yet.
type Pending interface {
	Wait(ctx context.Context) error
}

// Prepared is a System that wants to know how many callers are about to come. Nobody appends meanwhile.
type Prepared interface {
	Prepare(callers int) error
}

// Mode is how a system is driven.
type Mode int

const (
	// Callers that each wait for their own Append, one goroutine each.
	Callers Mode = iota
	// Window: one writer that keeps WindowBytes under way.
	Window
	// Raw: one goroutine that hands over what all callers would, in one piece. It is for floors: what the
	// machine would allow if gathering and waking callers cost nothing.
	Raw
)

// Limits of the load.
const (
	// WindowBytes is what a windowed writer keeps under way.
	WindowBytes = 64 << 20
	// WindowBatch is how many transactions it hands over at a time.
	WindowBatch = 256
	// RawBytesMax bounds one piece of a raw load; larger ones would measure memory bandwidth.
	RawBytesMax = 4 << 20
)

// Spec describes a system.
type Spec struct {
	Name  string
	Setup string // how it is set up, in a line, for reports
	Mode  Mode
	Start func(ctx context.Context, env Env) (System, error)
}

// Env is what a system starts in.
type Env struct {
	Dir  string // its own, empty
	Size int    // of the transactions to come, about
}
