package raftgroup

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// acceptQueue is how many accepted streams may wait for upstream to take them.
	acceptQueue = 64
	// connsPerPeer bounds the incoming streams of one peer; the oldest is closed for a newer one, because
	// a peer that died without a word leaves its streams half open.
	connsPerPeer = 16
	// peersMax bounds from how many peers streams are kept.
	peersMax = 256
	// poolConns is how many idle outgoing streams upstream keeps to one peer: one for heartbeats, one
	// for entries, one for votes.
	poolConns = 3
)

// streams is upstream's StreamLayer: it dials by server id, and hands over the streams that the node's
// listener accepted. It keeps all of them, because upstream's Close leaves them open.
type streams struct {
	self    ServerID
	cluster [16]byte
	dial    func(context.Context, ServerID) (net.Conn, error)
	queue   chan net.Conn
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc

	mu     sync.Mutex // guards what follows
	closed bool
	out    map[*conn]struct{}
	in     map[ServerID][]*conn // oldest first
}

var _ raft.StreamLayer = (*streams)(nil)

func newStreams(o Options) *streams {
	ctx, cancel := context.WithCancel(context.Background())
	return &streams{
		self: o.Self, cluster: o.Cluster, dial: o.Dial, queue: make(chan net.Conn, acceptQueue), ctx: ctx, cancel: cancel,
		out: map[*conn]struct{}{}, in: map[ServerID][]*conn{},
	}
}

// conn is a stream that the layer knows until it is closed.
type conn struct {
	net.Conn
	once   sync.Once
	forget func(*conn)
}

func (c *conn) Close() error {
	c.once.Do(func() { c.forget(c) })
	return c.Conn.Close()
}

// Dial implements raft.StreamLayer. The address is a server id (G4).
func (s *streams) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	to := ServerID(address)
	if to == s.self {
		return nil, fmt.Errorf("raftgroup: dial: %s is this server", to)
	}
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	raw, err := s.dial(ctx, to)
	if err != nil {
		return nil, fmt.Errorf("raftgroup: dial %s: %w", to, err)
	}
	if err := WriteHello(raw, s.cluster, s.self, to); err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, forget: func(c *conn) {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.out, c)
	}}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = raw.Close()
		return nil, ErrClosed
	}
	s.out[c] = struct{}{}
	return c, nil
}

// add takes an incoming stream; one that finds no room is closed.
func (s *streams) add(raw net.Conn, from ServerID) {
	c := &conn{Conn: raw, forget: func(c *conn) { s.forgetIn(from, c) }}
	s.mu.Lock()
	_, known := s.in[from]
	if s.closed || (!known && len(s.in) >= peersMax) {
		s.mu.Unlock()
		_ = raw.Close()
		return
	}
	s.in[from] = append(s.in[from], c)
	var oldest *conn
	if len(s.in[from]) > connsPerPeer {
		oldest = s.in[from][0]
	}
	s.mu.Unlock()
	if oldest != nil {
		_ = oldest.Close()
	}
	select {
	case s.queue <- c:
	default:
		_ = c.Close()
	}
}

func (s *streams) forgetIn(from ServerID, c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cs := s.in[from]
	for i := range cs {
		if cs[i] == c {
			cs = append(cs[:i:i], cs[i+1:]...)
			break
		}
	}
	if s.in[from] = cs; len(cs) == 0 {
		delete(s.in, from)
	}
}

// Accept implements net.Listener.
func (s *streams) Accept() (net.Conn, error) {
	select {
	case c := <-s.queue:
		return c, nil
	case <-s.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener: all streams end.
func (s *streams) Close() error {
	s.mu.Lock()
	s.closed = true
	var all []*conn
	for c := range s.out {
		all = append(all, c)
	}
	for _, cs := range s.in {
		all = append(all, cs...)
	}
	s.mu.Unlock()
	s.cancel()
	for _, c := range all {
		_ = c.Close()
	}
	return nil
}

// Addr implements net.Listener; upstream takes it as this server's address.
func (s *streams) Addr() net.Addr { return addr(s.self) }

type addr ServerID

func (addr) Network() string  { return "raftgroup" }
func (a addr) String() string { return string(a) }
