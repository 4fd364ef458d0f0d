package main

import (
	"errors"
	"io"
	"net"
	"sync"
)

// network is what lies between the processes: who may send bytes to whom. What is sent on a cut way waits, as what TCP
// repeats does, and arrives when the way is healed; or never, where the connection is reset.
type network struct {
	mu      sync.Mutex
	cut     map[way]int         // how many faults cut it; guarded by mu
	changed chan struct{}       // closed, and made anew, when cut has changed; guarded by mu
	conns   map[*gated]struct{} // guarded by mu
	unknown int                 // connections of which nobody can say whose they are; guarded by mu
}

// way is a direction between two ends: names of nodes and replicas, and clients.
type way struct{ from, to string }

func newNetwork() *network {
	return &network{cut: map[way]int{}, changed: make(chan struct{}), conns: map[*gated]struct{}{}}
}

// set cuts ways, or heals what was cut once.
func (n *network) set(ways []way, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range ways {
		if cut {
			n.cut[w]++
		} else if n.cut[w]--; n.cut[w] <= 0 {
			delete(n.cut, w)
		}
	}
	close(n.changed)
	n.changed = make(chan struct{})
}

// reset ends all connections.
func (n *network) reset() {
	n.mu.Lock()
	var all []*gated
	for c := range n.conns {
		all = append(all, c)
	}
	n.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

// pass waits until a way is open. False: the connection was closed first.
func (n *network) pass(w way, closed <-chan struct{}) bool {
	for {
		n.mu.Lock()
		open, changed := n.cut[w] == 0, n.changed
		n.mu.Unlock()
		select {
		case <-closed:
			return false
		default:
		}
		if open {
			return true
		}
		select {
		case <-changed:
		case <-closed:
			return false
		}
	}
}

// gated is a connection of which each direction can be cut.
type gated struct {
	net.Conn
	n           *network
	out, in     way
	once        sync.Once
	closed      chan struct{}
	incarnation int // of the process that it leads to
}

// gate puts a connection that leads from one end to another under the network's rule.
func (n *network) gate(c net.Conn, from, to string) *gated {
	g := &gated{Conn: c, n: n, out: way{from, to}, in: way{to, from}, closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns[g] = struct{}{}
	return g
}

func (g *gated) Write(b []byte) (int, error) {
	if !g.n.pass(g.out, g.closed) {
		return 0, net.ErrClosed
	}
	return g.Conn.Write(b)
}

// Read asks twice: what has arrived while the way was cut has not.
func (g *gated) Read(b []byte) (int, error) {
	if !g.n.pass(g.in, g.closed) {
		return 0, net.ErrClosed
	}
	k, err := g.Conn.Read(b)
	if !g.n.pass(g.in, g.closed) {
		return 0, net.ErrClosed
	}
	return k, err
}

func (g *gated) Close() error {
	err := net.ErrClosed
	g.once.Do(func() {
		close(g.closed)
		err = g.Conn.Close()
		g.n.mu.Lock()
		delete(g.n.conns, g)
		g.n.mu.Unlock()
	})
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// front is the address that a node has for all others: what is sent there goes on to the node, by the network's rule.
type front struct {
	n        *network
	name     string // of the node behind it
	behind   string // its own address
	listener net.Listener
	// who tells whose a connection is by its address; "" where nobody knows.
	who func(net.Addr) string
}

func (n *network) front(name, behind string, who func(net.Addr) string) (*front, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &front{n: n, name: name, behind: behind, listener: l, who: who}, nil
}

func (f *front) addr() string { return f.listener.Addr().String() }

// accept takes connections until the listener is closed.
func (f *front) accept() {
	for {
		c, err := f.listener.Accept()
		if err != nil {
			return // it was closed
		}
		go f.carry(c)
	}
}

// carry takes a connection on: both ways, each under its rule.
func (f *front) carry(c net.Conn) {
	from := f.who(c.RemoteAddr())
	if from == "" {
		f.n.mu.Lock()
		f.n.unknown++
		f.n.mu.Unlock()
	}
	near := f.n.gate(c, f.name, from) // reads of it come from `from`
	defer near.Close()
	if !f.n.pass(near.in, near.closed) {
		return
	}
	far, err := net.Dial("tcp", f.behind)
	if err != nil {
		return
	}
	defer far.Close()
	done := make(chan struct{}, 2)
	carry := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // an error ends the connection, as it would without a proxy
		done <- struct{}{}
	}
	go carry(far, near)
	go carry(near, far)
	<-done
}
