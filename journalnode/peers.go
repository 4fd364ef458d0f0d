package journalnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/segments"
)

// peers keeps one connection to each address, made when it is first needed.
type peers struct {
	dialer rpc.Dialer

	mu    sync.Mutex
	addrs map[quorum.NodeID]string       // started with, or remembered by a config; guarded by mu
	told  map[quorum.NodeID]string       // by the catalog, which outranks them; guarded by mu
	given map[quorum.NodeID]givenAddress // by an operator, who outranks both; guarded by mu
	nodes map[string]rpc.Node            // by address; guarded by mu
}

func newPeers(d rpc.Dialer, cluster []Peer) *peers {
	p := &peers{dialer: d, addrs: map[quorum.NodeID]string{}, told: map[quorum.NodeID]string{}, nodes: map[string]rpc.Node{}}
	for _, c := range cluster {
		p.addrs[c.ID] = c.Addr
	}
	return p
}

// learn takes in where members of a config listen, as far as nothing is known of them: what this node was
// started with is newer than what a config remembers.
func (p *peers) learn(ms []quorum.Member) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range ms {
		if _, ok := p.addrs[m.ID]; !ok && m.Addr != "" {
			p.addrs[m.ID] = m.Addr
		}
	}
}

// tell takes in where the nodes of the catalog listen.
func (p *peers) tell(addrs map[quorum.NodeID]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = addrs
}

func (p *peers) addr(id quorum.NodeID) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addrLocked(id)
}

func (p *peers) addrLocked(id quorum.NodeID) (string, bool) {
	if a, ok := p.givenLocked(id); ok {
		return a, true
	}
	if a, ok := p.told[id]; ok {
		return a, true
	}
	a, ok := p.addrs[id]
	return a, ok
}

// all returns every address that is known of a node, the likeliest first. A cluster whose addresses all
// changed is started with new ones, and its catalog has the old ones until it has a leader.
func (p *peers) all(id quorum.NodeID) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	if a, ok := p.givenLocked(id); ok {
		out = append(out, a)
	}
	for _, from := range []map[quorum.NodeID]string{p.told, p.addrs} {
		if a, ok := from[id]; ok && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

func (p *peers) node(id quorum.NodeID) (rpc.Node, error) {
	addr, ok := p.addr(id)
	if !ok {
		return nil, fmt.Errorf("%w: no address is known of node %s", rpc.ErrUnavailable, id)
	}
	return p.at(addr)
}

// at returns the connection to an address.
func (p *peers) at(addr string) (rpc.Node, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.nodes[addr]; n != nil {
		return n, nil
	}
	n, err := p.dialer.Dial(addr)
	if err != nil {
		return nil, fmt.Errorf("journalnode: dial %s: %w", addr, err)
	}
	p.nodes[addr] = n
	return n, nil
}

func (p *peers) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, n := range p.nodes {
		errs = append(errs, n.Close())
	}
	return errors.Join(errs...)
}

// readFrom reads frames from a peer and hands them over chunk by chunk. A silence longer than
// PeerTimeout ends it.
func (n *Node) readFrom(ctx context.Context, id quorum.NodeID, req rpc.ReadRequest, take func([]segments.Frame) error) error {
	peer, err := n.peers.node(id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := n.after(n.opts.PeerTimeout, cancel)
	defer silence.Stop()
	stream, err := peer.ReadSegment(ctx, req)
	if err != nil {
		return err
	}
	defer stream.Close()
	return receiveFrames(stream, func(frames []segments.Frame) error {
		silence.Reset(n.opts.PeerTimeout)
		return take(frames)
	})
}

// receiveFrames parses the chunks of a stream. Their checksums and chain are the taker's to check.
func receiveFrames(stream rpc.ChunkStream, take func([]segments.Frame) error) error {
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		frames, err := segments.ParseFrames(chunk.Frames)
		if err != nil {
			return err
		}
		if err := take(frames); err != nil {
			return err
		}
	}
}
