package catalog

import (
	"fmt"
	"maps"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
)

// Init founds the catalog: cluster id and founders, all of them voters. The same cluster again is
// answered again.
type Init struct {
	Cluster ClusterID
	Nodes   []Node
}

func (m *Init) kind() kind { return kindInit }

func (m *Init) code(c *coder) {
	c.fixed(m.Cluster[:])
	list(c, &m.Nodes, MaxNodes, codeNode)
}

func (m *Init) check() error {
	if m.Cluster == (ClusterID{}) {
		return invalid("cluster id", "zero", "a UUID")
	}
	if len(m.Nodes) == 0 || len(m.Nodes) > MaxNodes {
		return invalid("founders", len(m.Nodes), fmt.Sprintf("1 to %d", MaxNodes))
	}
	seen := map[quorum.NodeID]bool{}
	for _, n := range m.Nodes {
		if err := checkNode(n); err != nil {
			return err
		}
		if seen[n.ID] {
			return invalid("founder "+string(n.ID), "twice", "once")
		}
		seen[n.ID] = true
	}
	return nil
}

func (m *Init) apply(c *Catalog, _ uint64) (Result, error) {
	if c.cluster == m.Cluster {
		return Result{Again: true}, nil
	}
	if c.cluster != (ClusterID{}) {
		return Result{}, refuse(ErrCluster, "init", fmt.Sprintf("%x", m.Cluster), fmt.Sprintf("%x", c.cluster))
	}
	c.cluster = m.Cluster
	for _, n := range m.Nodes {
		n = n.clone()
		n.Voter, n.Leaving = true, false
		c.nodes[nodeKey{n.ID, n.Incarnation}] = &n
	}
	return Result{}, nil
}

func checkNode(n Node) error {
	if err := n.ID.Validate(); err != nil {
		return &Refusal{Class: ErrInvalid, What: "node", Cause: err}
	}
	if n.Incarnation.IsZero() {
		return invalid("node "+string(n.ID)+": incarnation", "zero", "a UUID")
	}
	if n.Level < LevelFirst {
		return invalid("node "+string(n.ID)+": level", n.Level, fmt.Sprintf("at least %d", LevelFirst))
	}
	if len(n.Labels) > MaxLabels {
		return refuse(ErrLimit, "labels of node "+string(n.ID), len(n.Labels), MaxLabels)
	}
	for _, k := range slices.Sorted(maps.Keys(n.Labels)) { // sorted: every node names the same bad label
		if err := checkText("label", k, 1, MaxLabelBytes); err != nil {
			return err
		}
		if err := checkText("label "+k, n.Labels[k], 0, MaxLabelBytes); err != nil {
			return err
		}
	}
	if err := checkText("address", n.Addr, 1, MaxAddrBytes); err != nil {
		return err
	}
	if err := checkText("HTTP address", n.HTTPAddr, 0, MaxAddrBytes); err != nil {
		return err
	}
	return checkText("version", n.Version, 0, MaxTextBytes)
}

// SetLevel raises the feature level. It is refused while a node's software does not know the new one,
// so that no node ever meets a state that it cannot read.
type SetLevel struct{ Level uint16 }

func (m *SetLevel) kind() kind    { return kindSetLevel }
func (m *SetLevel) code(c *coder) { u16(c, &m.Level) }
func (m *SetLevel) check() error  { return nil }

func (m *SetLevel) apply(c *Catalog, _ uint64) (Result, error) {
	if m.Level == c.level {
		return Result{Again: true}, nil
	}
	if m.Level < c.level {
		return Result{}, refuse(ErrLevel, "levels only grow", m.Level, fmt.Sprintf("above %d", c.level))
	}
	for _, n := range c.sortedNodes() {
		if n.Level < m.Level {
			return Result{}, refuse(ErrLevel, "node "+string(n.ID), n.Level, m.Level)
		}
	}
	if m.Level > c.known {
		c.stuck = m.Level
		return Result{}, c.unsupported(m.Level)
	}
	c.level = m.Level
	return Result{}, nil
}

// PutNode registers a node, or updates addresses, labels and version of a registered one; Voter and
// Leaving of Node are ignored. An id that is taken by another incarnation is refused unless Replaces
// names that one. The replaced incarnation stays, marked as leaving, for journals still name it (N1);
// RemoveNode ends it.
type PutNode struct {
	Node     Node
	Replaces quorum.Incarnation
}

func (m *PutNode) kind() kind { return kindPutNode }

func (m *PutNode) code(c *coder) {
	codeNode(c, &m.Node)
	c.fixed(m.Replaces[:])
}

func (m *PutNode) check() error { return checkNode(m.Node) }

func (m *PutNode) apply(c *Catalog, _ uint64) (Result, error) {
	if m.Node.Level < c.level {
		return Result{}, refuse(ErrLevel, "node "+string(m.Node.ID), m.Node.Level, fmt.Sprintf("at least %d", c.level))
	}
	n := m.Node.clone()
	n.Voter, n.Leaving = false, false
	if old, ok := c.nodes[nodeKey{n.ID, n.Incarnation}]; ok {
		n.Voter, n.Leaving = old.Voter, old.Leaving
		c.nodes[nodeKey{n.ID, n.Incarnation}] = &n
		return Result{}, nil
	}
	if err := c.makeRoom(n.Member(), m.Replaces); err != nil {
		return Result{}, err
	}
	c.nodes[nodeKey{n.ID, n.Incarnation}] = &n
	return Result{}, nil
}

// makeRoom lets the node id's present incarnation go, if replaces names it. It is called last, when
// nothing else can refuse.
func (c *Catalog) makeRoom(m quorum.Member, replaces quorum.Incarnation) error {
	there := c.incarnations(m.ID)
	if len(there) == 0 {
		if !replaces.IsZero() {
			return refuse(ErrNoNode, "node "+string(m.ID)+" to replace", replaces, "a registered one")
		}
		if ids := c.nodeIDs(); ids >= MaxNodes {
			return refuse(ErrLimit, "nodes", ids+1, MaxNodes)
		}
		return nil
	}
	old := there[0]
	if cur := c.current(m.ID); cur != nil {
		old = cur
	}
	if replaces != old.Incarnation {
		return refuse(ErrIncarnation, "node "+string(m.ID)+": replaces", replaces, old.Incarnation)
	}
	if len(there) < maxIncarnations {
		marked := old.clone()
		marked.Leaving = true
		c.nodes[nodeKey{old.ID, old.Incarnation}] = &marked
		return nil
	}
	// A replacement that was wiped in its turn goes at once, if no journal got to know it.
	if old.Voter || c.inUse(old.Member()) != nil {
		return refuse(ErrReplaceUnderWay, "node "+string(m.ID), len(there)+1, maxIncarnations)
	}
	delete(c.nodes, nodeKey{old.ID, old.Incarnation})
	return nil
}

// incarnations returns the registered incarnations of a node id, sorted.
func (c *Catalog) incarnations(id quorum.NodeID) []*Node {
	return slices.DeleteFunc(c.sortedNodes(), func(n *Node) bool { return n.ID != id })
}

// current returns the incarnation that is not leaving, or nil.
func (c *Catalog) current(id quorum.NodeID) *Node {
	for _, n := range c.incarnations(id) {
		if !n.Leaving {
			return n
		}
	}
	return nil
}

func (c *Catalog) nodeIDs() int {
	ids := map[quorum.NodeID]bool{}
	for k := range c.nodes {
		ids[k.id] = true
	}
	return len(ids)
}

// RemoveNode ends one incarnation of a node. It is refused while any journal's config, change or
// tombstones name it (M8), and while it votes.
type RemoveNode struct {
	ID          quorum.NodeID
	Incarnation quorum.Incarnation
}

func (m *RemoveNode) kind() kind { return kindRemoveNode }

func (m *RemoveNode) code(c *coder) {
	text(c, &m.ID, quorum.MaxIDBytes)
	c.fixed(m.Incarnation[:])
}

func (m *RemoveNode) check() error { return nil }

func (m *RemoveNode) apply(c *Catalog, _ uint64) (Result, error) {
	n, err := c.node(m.ID, m.Incarnation)
	if err != nil {
		return Result{}, err
	}
	if err := c.inUse(n.Member()); err != nil {
		return Result{}, err
	}
	if n.Voter {
		return Result{}, &Refusal{Class: ErrVoter, What: string(m.ID)}
	}
	delete(c.nodes, nodeKey{m.ID, m.Incarnation})
	return Result{}, nil
}

// inUse returns an *InUseError if a journal names the member.
func (c *Catalog) inUse(m quorum.Member) error {
	e := &InUseError{Node: m}
	for _, j := range c.sortedJournals() {
		switch {
		case !j.names(m):
		case len(e.Journals) < MaxNamedInUse:
			e.Journals = append(e.Journals, j.Name)
		default:
			e.More++
		}
	}
	if len(e.Journals) == 0 {
		return nil
	}
	return e
}

func (c *Catalog) node(id quorum.NodeID, inc quorum.Incarnation) (*Node, error) {
	n, ok := c.nodes[nodeKey{id, inc}]
	if !ok {
		return nil, &Refusal{Class: ErrNoNode, What: fmt.Sprintf("%s/%s", id, inc)}
	}
	return n, nil
}

// SetVoter records whether the node votes in the catalog's group. The last voter stays one.
type SetVoter struct {
	ID          quorum.NodeID
	Incarnation quorum.Incarnation
	Voter       bool
}

func (m *SetVoter) kind() kind { return kindSetVoter }

func (m *SetVoter) code(c *coder) {
	text(c, &m.ID, quorum.MaxIDBytes)
	c.fixed(m.Incarnation[:])
	c.boolean(&m.Voter)
}

func (m *SetVoter) check() error { return nil }

func (m *SetVoter) apply(c *Catalog, _ uint64) (Result, error) {
	n, err := c.node(m.ID, m.Incarnation)
	if err != nil {
		return Result{}, err
	}
	if n.Voter == m.Voter {
		return Result{Again: true}, nil
	}
	if m.Voter && n.Leaving {
		return Result{}, &Refusal{Class: ErrLeaving, What: string(m.ID)}
	}
	voters := 0
	for _, o := range c.nodes {
		if o.Voter {
			voters++
		}
	}
	if !m.Voter && voters == 1 {
		return Result{}, refuse(ErrVoter, "voters left without "+string(m.ID), 0, "at least 1")
	}
	next := n.clone()
	next.Voter = m.Voter
	c.nodes[nodeKey{m.ID, m.Incarnation}] = &next
	return Result{}, nil
}

// members checks that the members are registered and fills in their addresses. Those that are not in keep
// must not be leaving.
func (c *Catalog) members(set, keep []quorum.Member) ([]quorum.Member, error) {
	out := sortedSet(set)
	for i, m := range out {
		n, err := c.node(m.ID, m.Incarnation)
		if err != nil {
			return nil, err
		}
		if n.Leaving && !slices.ContainsFunc(keep, m.Same) {
			return nil, &Refusal{Class: ErrLeaving, What: string(m.ID)}
		}
		out[i].Addr = n.Addr
	}
	return out, nil
}

// addressed returns the set with the addresses that the nodes have today, as far as they are registered.
func (c *Catalog) addressed(set []quorum.Member) []quorum.Member {
	out := sortedSet(set)
	for i, m := range out {
		if n, ok := c.nodes[nodeKey{m.ID, m.Incarnation}]; ok {
			out[i].Addr = n.Addr
		}
	}
	return out
}
