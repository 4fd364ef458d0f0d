package raftgroup

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testCluster = [16]byte{1, 2, 3}

// journalMachine keeps every command that it was given, in order.
type journalMachine struct {
	mu       sync.Mutex
	commands [][]byte
	restores int
}

func (m *journalMachine) Apply(index uint64, command []byte) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commands = append(m.commands, command)
	return len(m.commands)
}

func (m *journalMachine) Snapshot() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b []byte
	for _, c := range m.commands {
		b = append(binary.AppendUvarint(b, uint64(len(c))), c...)
	}
	return b, nil
}

func (m *journalMachine) Restore(b []byte) error {
	var cs [][]byte
	for len(b) > 0 {
		n, k := binary.Uvarint(b)
		if k <= 0 || uint64(len(b)-k) < n {
			return errors.New("cut short")
		}
		cs = append(cs, b[k:k+int(n)])
		b = b[k+int(n):]
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.commands = cs
	m.restores++
	return nil
}

func (m *journalMachine) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, c := range m.commands {
		out = append(out, string(c))
	}
	return out
}

// network connects servers by in-memory streams, the way a node does it: a listener per address, which
// reads the hello and hands the stream to the group behind it.
type network struct {
	mu    sync.Mutex
	at    map[string]*server // by address; who listens there
	names map[ServerID]string
	cut   map[string]bool // addresses that nobody reaches, and that reach nobody
	conns map[net.Conn]string
}

func newNetwork() *network {
	return &network{at: map[string]*server{}, names: map[ServerID]string{}, cut: map[string]bool{}, conns: map[net.Conn]string{}}
}

// isolate closes all streams of an address and lets no new ones be made.
func (n *network) isolate(address string, on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[address] = on
	for c, a := range n.conns {
		if on && a == address {
			_ = c.Close()
			delete(n.conns, c)
		}
	}
}

// server is a node of which the group is all that matters.
type server struct {
	t       *testing.T
	net     *network
	address string
	opts    Options
	machine *journalMachine
	group   *Group
	refused []error // hellos
	mu      sync.Mutex
}

func (n *network) dialFrom(address string) func(context.Context, ServerID) (net.Conn, error) {
	return func(ctx context.Context, to ServerID) (net.Conn, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		target := n.names[to]
		s := n.at[target]
		if s == nil || n.cut[address] || n.cut[target] {
			return nil, fmt.Errorf("no way to %s", to)
		}
		ours, theirs := net.Pipe()
		n.conns[ours], n.conns[theirs] = target, address // both ends know whom to blame
		go s.listen(theirs)
		return ours, nil
	}
}

// listen is what a node does with a stream.
func (s *server) listen(c net.Conn) {
	s.mu.Lock()
	self, g := s.opts.Self, s.group
	s.mu.Unlock()
	if g == nil { // not admitted: Raft is not started
		_ = c.Close()
		return
	}
	from, err := ReadHello(c, testCluster, self)
	if err != nil {
		s.mu.Lock()
		s.refused = append(s.refused, err)
		s.mu.Unlock()
		return
	}
	g.Accept(c, from)
}

func (n *network) server(t *testing.T, address string, self ServerID, change ...func(*Options)) *server {
	s := &server{t: t, net: n, address: address}
	s.opts = Options{
		Self: self, Cluster: testCluster, Stores: NewMemStores(), Dial: n.dialFrom(address),
		Heartbeat: 200 * time.Millisecond, Election: 200 * time.Millisecond, LeaderLease: 200 * time.Millisecond,
		Commit: 10 * time.Millisecond, RPC: 2 * time.Second, Snapshots: SnapshotPolicy{Off: true},
	}
	for _, c := range change {
		c(&s.opts)
	}
	n.mu.Lock()
	n.names[self] = address
	n.at[address] = s
	n.mu.Unlock()
	return s
}

func (s *server) start() *server {
	s.machine = &journalMachine{}
	opts := s.opts
	opts.Machine = s.machine
	g, err := Start(opts)
	require.NoError(s.t, err)
	s.mu.Lock()
	s.group = g
	s.mu.Unlock()
	return s
}

// stop ends the group; the disk stays.
func (s *server) stop() {
	s.mu.Lock()
	g := s.group
	s.group = nil
	s.mu.Unlock()
	if g != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(s.t, g.Shutdown(ctx))
	}
}

type cluster struct {
	t   *testing.T
	net *network
	s   []*server
}

// found makes a group of n servers and waits for its leader.
func found(t *testing.T, n int, change ...func(*Options)) *cluster {
	c := &cluster{t: t, net: newNetwork()}
	var voters []ServerID
	for i := range n {
		voters = append(voters, ServerID(fmt.Sprintf("n%d/a", i+1)))
	}
	for i, v := range voters {
		c.s = append(c.s, c.net.server(t, fmt.Sprintf("host%d", i+1), v, change...))
	}
	for _, s := range c.s {
		require.NoError(t, Bootstrap(s.opts, voters))
	}
	for _, s := range c.s {
		s.start()
	}
	t.Cleanup(c.stop)
	c.leader()
	return c
}

func (c *cluster) stop() {
	for _, s := range c.s {
		s.stop()
	}
}

const patience = 30 * time.Second

// until waits for what must come; it is no statement about how soon.
func (c *cluster) until(what string, ok func() bool) {
	c.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(patience)
	defer end.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end.C:
			c.t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// leader waits for a server that answers a Barrier.
func (c *cluster) leader() *server {
	c.t.Helper()
	var l *server
	c.until("a leader", func() bool {
		for _, s := range c.s {
			if s.group != nil && s.group.IsLeader() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				err := s.group.Barrier(ctx)
				cancel()
				if err == nil {
					l = s
					return true
				}
			}
		}
		return false
	})
	return l
}

// anyLeader is for a goroutine beside the one that stops and starts servers.
func (c *cluster) anyLeader() *Group {
	for _, s := range c.s {
		s.mu.Lock()
		g := s.group
		s.mu.Unlock()
		if g != nil && g.IsLeader() {
			return g
		}
	}
	return nil
}

func (c *cluster) follower() *server {
	l := c.leader()
	for _, s := range c.s {
		if s != l && s.group != nil {
			return s
		}
	}
	return nil
}

func (c *cluster) apply(command string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := c.leader().group.Apply(ctx, []byte(command))
	require.NoError(c.t, err)
}

// alike waits until all running machines hold what the leader's holds.
func (c *cluster) alike() {
	c.t.Helper()
	want, _ := c.leader().machine.Snapshot()
	c.until("all machines alike", func() bool {
		for _, s := range c.s {
			if s.group == nil {
				continue
			}
			if got, _ := s.machine.Snapshot(); !bytes.Equal(got, want) {
				return false
			}
		}
		return true
	})
}

func ctx(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return c
}
