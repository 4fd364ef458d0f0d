package catalog

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

type nodeKey struct {
	id  quorum.NodeID
	inc quorum.Incarnation
}

// Catalog is the state machine. It is not safe for concurrent use. The zero value is not usable.
type Catalog struct {
	cluster  ClusterID
	level    uint16
	index    uint64
	nodes    map[nodeKey]*Node
	journals map[segments.JournalID]*Journal
	byName   map[string]segments.JournalID // of journals that are not reclaimed

	// changed is the index at which each journal became what it is; after a restore, the restored one. It is
	// no part of the state: it spares readers the journals that they know.
	changed map[segments.JournalID]uint64

	known uint16 // the highest level that this software knows
	stuck uint16 // a level that it was asked for and does not know; it goes no further
}

// Command is one entry for the state machine: a pointer to one of this package's command types.
type Command interface {
	kind() kind
	code(*coder)  // the fields, in both directions
	check() error // what can be said without the state
	apply(c *Catalog, index uint64) (Result, error)
}

// Result is the answer to a command that was not refused.
type Result struct {
	Index    uint64
	Again    bool   // the command was applied before; nothing changed now
	Version  uint64 // the journal's config version, for commands on a journal
	Change   uint64 // BeginChange: names the change from now on
	Revision uint64 // Grant, Transfer: the lease's
	Kept     []Kept // KeepAlive: one per item, in their order
}

// New returns the catalog of a cluster that is not founded yet.
func New() *Catalog {
	return &Catalog{
		level: LevelFirst, known: LevelMax,
		nodes: map[nodeKey]*Node{}, journals: map[segments.JournalID]*Journal{}, byName: map[string]segments.JournalID{},
		changed: map[segments.JournalID]uint64{},
	}
}

// Apply applies the entry at index. The same entries in the same order give the same results and the
// same state everywhere. An error is a refusal and leaves all but the index as it was, except
// ErrUnsupported: then the node must stop, for its software is too old.
func (c *Catalog) Apply(index uint64, cmd Command) (Result, error) {
	if err := c.begin(index); err != nil {
		return Result{}, err
	}
	return c.run(cmd)
}

// ApplyBytes applies an encoded command. One that cannot be read is refused like any other.
func (c *Catalog) ApplyBytes(index uint64, b []byte) (Result, error) {
	if err := c.begin(index); err != nil {
		return Result{}, err
	}
	cmd, err := DecodeCommand(b)
	if err != nil {
		return Result{}, err
	}
	return c.run(cmd)
}

// begin takes the index of an entry. Raft hands out each index once, in order.
func (c *Catalog) begin(index uint64) error {
	if c.stuck > 0 {
		return c.unsupported(c.stuck)
	}
	if index <= c.index {
		return refuse(ErrIndex, "entry", index, fmt.Sprintf("above %d", c.index))
	}
	c.index = index
	return nil
}

func (c *Catalog) unsupported(level uint16) error {
	return fmt.Errorf("%w: feature level (got %d, want at most %d)", ErrUnsupported, level, c.known)
}

func (c *Catalog) run(cmd Command) (Result, error) {
	if cmd == nil {
		return Result{}, refuse(ErrBadCommand, "command", "nil", "a command")
	}
	if need := levelOf(cmd); need > c.level {
		return Result{}, refuse(ErrLevel, "command", need, fmt.Sprintf("at most %d", c.level))
	}
	if _, ok := cmd.(*Init); !ok && c.cluster == (ClusterID{}) {
		return Result{}, &Refusal{Class: ErrNotFounded}
	}
	if err := cmd.check(); err != nil {
		return Result{}, err
	}
	res, err := cmd.apply(c, c.index)
	if err != nil {
		return Result{}, err
	}
	res.Index = c.index
	return res, nil
}

// Target names a journal and the config version on which the sender decided: every entry is a
// compare-and-set (M6).
type Target struct {
	Journal       segments.JournalID
	ExpectVersion uint64
}

func (t *Target) code(c *coder) {
	c.fixed(t.Journal[:])
	u64(c, &t.ExpectVersion)
}

// edit hands a copy of the journal to f, and keeps the copy if f does not refuse.
func (c *Catalog) edit(t Target, f func(*Journal) (Result, error)) (Result, error) {
	cur, err := c.alive(t.Journal)
	if err != nil {
		return Result{}, err
	}
	if t.ExpectVersion != cur.Config.Version {
		return Result{}, &ConflictError{Journal: t.Journal, Of: "config version", Got: t.ExpectVersion, Want: cur.Config.Version}
	}
	return c.replace(cur, f)
}

func (c *Catalog) replace(cur *Journal, f func(*Journal) (Result, error)) (Result, error) {
	next := cur.clone()
	res, err := f(next)
	if err != nil {
		return Result{}, err
	}
	c.put(next)
	res.Version = next.Config.Version
	return res, nil
}

// put makes j the journal of its id.
func (c *Catalog) put(j *Journal) {
	c.journals[j.ID] = j
	c.changed[j.ID] = c.index
}

// alive returns a journal that is not deleted. It must not be changed.
func (c *Catalog) alive(id segments.JournalID) (*Journal, error) {
	j, ok := c.journals[id]
	if !ok {
		return nil, &Refusal{Class: ErrNoJournal, What: id.String()}
	}
	if j.Deleted {
		return nil, &Refusal{Class: ErrDeleted, What: j.Name}
	}
	return j, nil
}

// Cluster returns the cluster's id; zero before Init.
func (c *Catalog) Cluster() ClusterID { return c.cluster }

// Level returns the feature level.
func (c *Catalog) Level() uint16 { return c.level }

// Index returns the index of the last entry applied.
func (c *Catalog) Index() uint64 { return c.index }

// Nodes returns copies of all nodes, sorted by id and incarnation.
func (c *Catalog) Nodes() []Node {
	out := make([]Node, 0, len(c.nodes))
	for _, n := range c.sortedNodes() {
		out = append(out, n.clone())
	}
	return out
}

// Node returns the incarnation of the node that is not leaving.
func (c *Catalog) Node(id quorum.NodeID) (Node, bool) {
	if n := c.current(id); n != nil {
		return n.clone(), true
	}
	return Node{}, false
}

// Incarnation returns one incarnation of a node, leaving or not.
func (c *Catalog) Incarnation(id quorum.NodeID, inc quorum.Incarnation) (Node, bool) {
	if n, ok := c.nodes[nodeKey{id, inc}]; ok {
		return n.clone(), true
	}
	return Node{}, false
}

// Journals returns copies of all journals, deleted and reclaimed ones included, sorted by id.
func (c *Catalog) Journals() []Journal {
	out := make([]Journal, 0, len(c.journals))
	for _, j := range c.sortedJournals() {
		out = append(out, *j.clone())
	}
	return out
}

// Changed returns copies of the journals that changed behind an index, sorted by id. Of those that are gone for
// good it says nothing: that they were deleted was a change before.
func (c *Catalog) Changed(since uint64) []Journal {
	var out []Journal
	for id, at := range c.changed {
		if at > since {
			out = append(out, *c.journals[id].clone())
		}
	}
	slices.SortFunc(out, func(a, b Journal) int { return slices.Compare(a.ID[:], b.ID[:]) })
	return out
}

// Journal returns a copy of the journal with that id, deleted or not.
func (c *Catalog) Journal(id segments.JournalID) (Journal, bool) {
	if j, ok := c.journals[id]; ok {
		return *j.clone(), true
	}
	return Journal{}, false
}

// JournalByName returns a copy of the journal that has the name, be it deleted, but not reclaimed.
func (c *Catalog) JournalByName(name string) (Journal, bool) {
	if id, ok := c.byName[name]; ok {
		return c.Journal(id)
	}
	return Journal{}, false
}

// JournalLease is a lease and its journal.
type JournalLease struct {
	Journal segments.JournalID
	Name    string
	Lease
}

// Leases returns all leases and reservations, sorted by journal id.
func (c *Catalog) Leases() []JournalLease {
	var out []JournalLease
	for _, j := range c.journals {
		if j.Lease != nil {
			out = append(out, JournalLease{Journal: j.ID, Name: j.Name, Lease: *j.Lease})
		}
	}
	slices.SortFunc(out, func(a, b JournalLease) int { return bytes.Compare(a.Journal[:], b.Journal[:]) })
	return out
}

// Lease returns a journal's lease or reservation; nil is none. It copies nothing else of the journal.
// Errors are those of a command on the journal: ErrNoJournal, ErrDeleted.
func (c *Catalog) Lease(id segments.JournalID) (*Lease, error) {
	j, err := c.alive(id)
	if err != nil || j.Lease == nil {
		return nil, err
	}
	l := *j.Lease
	return &l, nil
}

func (c *Catalog) sortedNodes() []*Node {
	return slices.SortedFunc(maps.Values(c.nodes), func(a, b *Node) int {
		return compareMembers(a.Member(), b.Member())
	})
}

func (c *Catalog) sortedJournals() []*Journal {
	return slices.SortedFunc(maps.Values(c.journals), func(a, b *Journal) int {
		return slices.Compare(a.ID[:], b.ID[:])
	})
}
