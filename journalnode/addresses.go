package journalnode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/quorumjournal/qjm/internal/durable"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/journalnode/catalog"
)

// addressesFile keeps what an operator told this node of where the nodes are (rpc.LearnAddresses).
const addressesFile = "addresses"

var addressesMagic = [8]byte{'Q', 'J', 'M', 'A', 'D', 'D', 'R', 'S'}

// givenAddress is where a node is, as an operator said it. It holds until whatever it contradicted says
// something new: the catalog, or this node's own flags.
type givenAddress struct {
	Node    quorum.NodeID `json:"node"`
	Addr    string        `json:"addr"`
	Catalog string        `json:"catalog,omitempty"` // what the catalog had then
	Flags   string        `json:"flags,omitempty"`   // what this node was started with then
}

func loadAddresses(fsys vfs.FS, dir string) ([]givenAddress, error) {
	b, _, err := durable.Load(fsys, path.Join(dir, addressesFile), addressesMagic, formatVersion)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []givenAddress
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		return nil, fmt.Errorf("journalnode: addresses: %w", err)
	}
	return out, nil
}

func saveAddresses(fsys vfs.FS, dir string, as []givenAddress) error {
	b, err := json.Marshal(as)
	if err == nil {
		err = durable.Save(fsys, path.Join(dir, addressesFile), addressesMagic, formatVersion, b)
	}
	if err != nil {
		return fmt.Errorf("journalnode: addresses: %w", err)
	}
	return nil
}

// peersFile remembers where the catalog had the nodes. A node that is started reads that from its own copy of the
// catalog, which is empty until a leader says how much of the log counts. Who joined was not told of the others by
// its flags: without this file, nodes that all joined and are all started anew would find nobody to vote for.
const peersFile = "peers"

var peersMagic = [8]byte{'Q', 'J', 'M', 'P', 'E', 'E', 'R', 'S'}

// rememberedMax bounds the file: more nodes than that are not remembered.
const rememberedMax = 4 * catalog.MaxNodes

func loadRemembered(fsys vfs.FS, dir string) (map[quorum.NodeID]string, error) {
	b, _, err := durable.Load(fsys, path.Join(dir, peersFile), peersMagic, formatVersion)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out map[quorum.NodeID]string
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		return nil, fmt.Errorf("journalnode: peers: %w", err)
	}
	return out, nil
}

// remember writes down what is new. Nobody is taken out for not being there: what is read of the log after a start
// begins with old entries, and an address too many does no harm.
func (n *Node) remember(addrs map[quorum.NodeID]string) {
	n.rememberTurn <- struct{}{} // no mutex: a disk may hang
	defer func() { <-n.rememberTurn }()
	n.rememberMu.Lock()
	was := n.remembered // is never changed, only replaced
	n.rememberMu.Unlock()
	next := maps.Clone(was)
	if next == nil || len(next)+len(addrs) > rememberedMax {
		next = map[quorum.NodeID]string{}
	}
	maps.Copy(next, addrs)
	if maps.Equal(next, was) {
		return
	}
	b, err := json.Marshal(next)
	if err == nil {
		err = durable.Save(n.fs, path.Join(n.opts.DataDir, peersFile), peersMagic, formatVersion, b)
	}
	if err != nil { // it is known while this process lives
		n.log.Warn("where the nodes are cannot be written down", "err", err)
		return
	}
	n.rememberMu.Lock()
	n.remembered = next
	n.rememberMu.Unlock()
}

// recall takes in what was written down, as far as the flags say nothing of a node.
func (n *Node) recall() {
	known, err := loadRemembered(n.fs, n.opts.DataDir)
	if err != nil { // no safety rests on it, and the catalog says it again
		n.log.Warn("where the nodes are was written down, and cannot be read", "err", err)
		return
	}
	n.rememberMu.Lock()
	n.remembered = known
	n.rememberMu.Unlock()
	var ms []quorum.Member
	for id, addr := range known {
		ms = append(ms, quorum.Member{ID: id, Addr: addr})
	}
	n.peers.learn(ms)
}

// LearnAddresses implements rpc.Service. It is for a cluster that has no leader because every address has
// changed: the group's own messages find the others again, a leader is elected, and then each node tells the
// catalog its new address itself (announce).
func (n *Node) LearnAddresses(_ context.Context, req rpc.AddressesRequest) error {
	id := n.identity()
	if req.Cluster != id.Cluster || id.Phase != rpc.Founded {
		return fmt.Errorf("%w: addresses of another cluster (got %x, want %x)", rpc.ErrBadRequest, req.Cluster, id.Cluster)
	}
	var next []givenAddress
	for _, m := range req.Nodes {
		if m.Addr == "" {
			return fmt.Errorf("%w: no address of node %s", rpc.ErrBadRequest, m.ID)
		}
		if m.ID == id.ID && m.Incarnation != id.Incarnation {
			return &rpc.WrongNodeError{Node: m.ID, Got: m.Incarnation, Want: id.Incarnation}
		}
		next = append(next, givenAddress{Node: m.ID, Addr: m.Addr, Catalog: n.peers.inCatalog(m.ID), Flags: n.startedWith(m.ID)})
	}
	n.createMu.Lock() // one writer of the file at a time
	defer n.createMu.Unlock()
	for _, old := range n.peers.givenAddresses() {
		if !slices.ContainsFunc(next, func(g givenAddress) bool { return g.Node == old.Node }) {
			next = append(next, old)
		}
	}
	if err := saveAddresses(n.fs, n.opts.DataDir, next); err != nil {
		return err
	}
	n.peers.give(next)
	n.log.Warn("an operator told where the nodes are", "nodes", len(req.Nodes))
	n.control.watchers.changed() // announce
	return nil
}

// flagged is where a node is by this node's flags; empty: they do not say.
func (n *Node) flagged(id quorum.NodeID) string {
	if id == n.opts.ID && n.opts.Advertise != "" {
		return n.opts.Advertise
	}
	for _, p := range n.opts.InitialCluster {
		if p.ID == id {
			return p.Addr
		}
	}
	return ""
}

// startedWith is flagged, and of this node itself at least where it listens.
func (n *Node) startedWith(id quorum.NodeID) string {
	if a := n.flagged(id); a != "" || id != n.opts.ID {
		return a
	}
	return n.Addr()
}

// toldOwn is where this node is, as an operator said it, unless it was started with other flags since.
func (n *Node) toldOwn() (string, bool) {
	for _, g := range n.peers.givenAddresses() {
		if g.Node == n.opts.ID && g.Flags == n.startedWith(g.Node) {
			return g.Addr, true
		}
	}
	return "", false
}

// give takes in what an operator said.
func (p *peers) give(as []givenAddress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.given = map[quorum.NodeID]givenAddress{}
	for _, g := range as {
		p.given[g.Node] = g
	}
}

func (p *peers) givenAddresses() []givenAddress {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []givenAddress
	for _, g := range p.given {
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b givenAddress) int { return quorum.Key{ID: a.Node}.Compare(quorum.Key{ID: b.Node}) })
	return out
}

func (p *peers) inCatalog(id quorum.NodeID) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.told[id]
}

// givenLocked: the catalog may not have been read since the start, and may say something new. The caller holds
// mu.
func (p *peers) givenLocked(id quorum.NodeID) (string, bool) {
	g, ok := p.given[id]
	told, known := p.told[id]
	return g.Addr, ok && (!known || told == g.Catalog)
}
