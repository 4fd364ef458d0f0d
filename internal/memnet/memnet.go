package memnet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/internal/rpc"
)

// Call is one message from one endpoint to another: a unary call, the opening of a stream, or a message
// on a write stream.
type Call struct {
	From, To string
	// Method is the name in rpc.Node; messages of write streams are "Write.Start", "Write.Frames",
	// "Write.Finalize", "Write.Fill" and "Write.Heartbeat".
	Method string
	// N numbers the calls from From to To, from 1.
	N int
}

// Verdict is what becomes of a call.
type Verdict uint8

const (
	// Deliver it.
	Deliver Verdict = iota
	// Drop it before it arrives. The caller gets rpc.ErrUnavailable; on a stream, the stream breaks.
	Drop
	// LoseReply delivers it; the caller gets rpc.ErrUnavailable. On a stream, the stream breaks behind it.
	LoseReply
	// Hang drops it, and the caller hears nothing until its context ends.
	Hang
)

// buffer is how many messages a stream holds in each direction.
const buffer = 16

// Network connects endpoints by name; the names are the addresses. It is safe for concurrent use.
type Network struct {
	mu        sync.Mutex
	endpoints map[string]*endpoint
	cuts      map[way]bool
	delays    map[way]time.Duration
	stalls    map[way]chan struct{} // closed when it is over
	counts    map[way]int
	methods   map[Call]int // by From, To, Method
	fault     func(Call) Verdict
}

// endpoint is one life of a service at an address.
type endpoint struct {
	svc  rpc.Service
	life context.Context // ends when it goes down
	end  context.CancelFunc
}

// New returns a network without endpoints.
func New() *Network {
	return &Network{
		endpoints: map[string]*endpoint{}, cuts: map[way]bool{}, delays: map[way]time.Duration{}, stalls: map[way]chan struct{}{},
		counts: map[way]int{}, methods: map[Call]int{},
	}
}

// Serve brings an endpoint up.
func (n *Network) Serve(name string, svc rpc.Service) {
	ep := &endpoint{svc: svc}
	ep.life, ep.end = context.WithCancel(context.Background())
	n.mu.Lock()
	old := n.endpoints[name]
	n.endpoints[name] = ep
	n.mu.Unlock()
	if old != nil {
		old.end()
	}
}

// Down takes an endpoint off the network: calls to and from it fail, streams break (Y4).
func (n *Network) Down(name string) {
	n.mu.Lock()
	ep := n.endpoints[name]
	if ep == nil { // it called others before it was ever served
		ep = &endpoint{}
		ep.life, ep.end = context.WithCancel(context.Background())
		n.endpoints[name] = ep
	}
	n.mu.Unlock()
	ep.end()
}

// Fault sets the hook that decides about every call; nil delivers all. It is called without any lock, in
// the goroutine of the caller, and may sleep to delay the call.
func (n *Network) Fault(f func(Call) Verdict) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fault = f
}

// Cut stops all that goes from one endpoint to the other. Calls that way are dropped; calls the other
// way arrive, and their replies are lost. In Cut, Delay, Stall and what ends them an empty name stands for all
// endpoints, and is a fault of its own: Heal("", "a") ends what Cut("", "a") began, and nothing else.
func (n *Network) Cut(from, to string) { n.setCut(from, to, true) }

// Heal ends a Cut.
func (n *Network) Heal(from, to string) { n.setCut(from, to, false) }

// Partition cuts both ways between two endpoints.
func (n *Network) Partition(a, b string) { n.Cut(a, b); n.Cut(b, a) }

// HealAll ends every Cut.
func (n *Network) HealAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cuts)
}

func (n *Network) setCut(from, to string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if cut {
		n.cuts[way{from, to}] = true
	} else {
		delete(n.cuts, way{from, to})
	}
}

func (n *Network) isCut(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cutLocked(from, to)
}

func (n *Network) cutLocked(from, to string) bool {
	if len(n.cuts) == 0 {
		return false
	}
	for _, r := range rules(from, to) {
		if n.cuts[r] {
			return true
		}
	}
	return false
}

// Calls returns how many calls went from one endpoint to another, lost ones included.
func (n *Network) Calls(from, to string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.counts[way{from, to}]
}

// Count returns how many calls of one method went from one endpoint to another.
func (n *Network) Count(from, to, method string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.methods[Call{From: from, To: to, Method: method}]
}

// ResetCalls starts all counts anew.
func (n *Network) ResetCalls() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.counts)
	clear(n.methods)
}

// Dialer returns the dialer of one endpoint, or of a client by any name.
func (n *Network) Dialer(from string) rpc.Dialer { return dialer{n, from} }

type dialer struct {
	net  *Network
	from string
}

// Dial implements rpc.Dialer.
func (d dialer) Dial(addr string) (rpc.Node, error) {
	c := &conn{net: d.net, from: d.from, to: addr}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// unavailable is what a caller hears of a call that was lost.
func unavailable(to, what string) error {
	return fmt.Errorf("%w: %s: %s", rpc.ErrUnavailable, to, what)
}

// asReceived is a service's error as the caller sees it: a context that ended over there says no more
// than that there was no answer.
func asReceived(to string, err error) error {
	if err != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) && !errors.Is(err, rpc.ErrUnavailable) {
		return fmt.Errorf("%w: %s: %w", rpc.ErrUnavailable, to, err)
	}
	return err
}
