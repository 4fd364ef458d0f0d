package libqjm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/segments"
)

// controlTimeout bounds one request that the catalog's leader has to answer: the node that is asked waits a
// while for a leader.
const controlTimeout = 15 * time.Second

// idsMax bounds the names that are remembered; beyond it all are looked up anew.
const idsMax = 10_000

// names remembers which journal a name stands for. A name that gets free may stand for another one later:
// the nodes of the old one say that it is deleted, and then the name is looked up again.
type names struct {
	ids  map[string]segments.JournalID
	dead map[segments.JournalID]bool // deleted for good
}

// find returns the journal that a name stands for, by what any node knows: no leader is needed. The config
// is where to begin asking; nothing rests on it.
func (c *Client) find(ctx context.Context, name string) (rpc.JournalSummary, error) {
	if err := rpc.CheckJournalName(name); err != nil {
		return rpc.JournalSummary{}, err
	}
	c.mu.Lock()
	id, ok := c.names.ids[name]
	c.mu.Unlock()
	if ok {
		return rpc.JournalSummary{ID: id, Name: name}, nil
	}
	return c.lookUp(ctx, name)
}

func (c *Client) lookUp(ctx context.Context, name string) (rpc.JournalSummary, error) {
	var found rpc.JournalSummary
	var got []reply[rpc.JournalState] // judged like any answers without a journal
	ids := c.nodeIDs()
	ask(ctx, c, ids, func(ctx context.Context, n rpc.Node) (rpc.JournalSummary, error) {
		return n.FindJournal(ctx, name)
	}, func(r reply[rpc.JournalSummary]) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if r.err == nil && c.names.dead[r.val.ID] {
			r.err = ErrNoJournal // it has not been told yet
		}
		if r.err != nil {
			got = append(got, reply[rpc.JournalState]{node: r.node, err: r.err})
			return false
		}
		found = r.val
		if len(c.names.ids) >= idsMax {
			clear(c.names.ids)
		}
		c.names.ids[name] = found.ID
		return true
	})
	if found.ID.IsZero() {
		return found, judge(name, quorum.Config{}, len(ids), got)
	}
	c.adoptAddrs(found.Config)
	return found, nil
}

// forget drops what a name stands for, because that journal is not there, or, with deleted, never again. It
// reports whether there was anything to drop.
func (c *Client) forget(name string, id segments.JournalID, deleted bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if deleted {
		if len(c.names.dead) >= idsMax {
			clear(c.names.dead)
		}
		c.names.dead[id] = true
	}
	if c.names.ids[name] != id {
		return false
	}
	delete(c.names.ids, name)
	return true
}

// anyNode asks one node after the other, until one has an answer that is one. What is asked must be the same
// when it is done twice: an answer may be lost.
func anyNode[T any](ctx context.Context, c *Client, call func(context.Context, rpc.Node) (T, error)) (T, error) {
	var none T
	var last error
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		for _, id := range c.nodeIDs() {
			n, err := c.node(quorum.Member{ID: id})
			if err == nil {
				var v T
				asked, cancel := context.WithTimeout(ctx, controlTimeout)
				v, err = call(asked, n)
				cancel()
				if !passing(err) {
					return v, err
				}
			}
			if last == nil || !errors.Is(err, ErrUnavailable) {
				last = fmt.Errorf("%s: %w", id, err) // what a node says is worth more than its silence
			}
			if ctx.Err() != nil {
				return none, last
			}
		}
		select {
		case <-time.After(wait):
		case <-c.ctx.Done():
			return none, ErrClosed
		case <-ctx.Done():
			return none, last
		}
	}
}

// passing: another node, or the same one later, may have another answer.
func passing(err error) bool {
	for _, class := range []error{ErrUnavailable, ErrNoLeader, rpc.ErrCatalogDown, rpc.ErrNotFounded, rpc.ErrUnknownNode, rpc.ErrClosed} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// CreateOptions of a journal. The zero value places it on every node, or on five where there are more.
type CreateOptions struct {
	Replicas int
	// Spread names a label over whose values the members are spread.
	Spread string
	Policy Policy
	Quota  uint64 // bytes of log per node; 0: no limit
	// DryRun only says who the members would be.
	DryRun bool
}

// Policy says when snapshots are due and what is kept. Zero switches a line off.
type Policy = rpc.JournalPolicy

// EnsureJournal is CreateJournal for a program that does not care whether it is the first: a journal that is there is no error.
func (c *Client) EnsureJournal(ctx context.Context, name string) error {
	if err := c.CreateJournal(ctx, name); err != nil && !errors.Is(err, ErrJournalExists) {
		return err
	}
	return nil
}

// CreateJournal makes a journal with default options. See CreateJournalWith.
func (c *Client) CreateJournal(ctx context.Context, name string) error {
	_, err := c.CreateJournalWith(ctx, name, CreateOptions{})
	return err
}

// CreateJournalWith makes a journal and returns its members. It returns when a majority of them has it; the
// others get it when they are met. It needs the catalog's leader, and waits for one as long as the context
// lives.
//
// Errors: ErrJournalExists; ErrJournalDeleting while the name belongs to a journal whose delete is not in
// force; ErrBadRequest for a name that cannot be one; ErrTooFewNodes; ErrNoLeader; ErrNoQuorum.
func (c *Client) CreateJournalWith(ctx context.Context, name string, o CreateOptions) ([]string, error) {
	if err := rpc.CheckJournalName(name); err != nil {
		return nil, err
	}
	req := rpc.PlaceRequest{
		ID: segments.JournalID(uuid.New()), Name: name, Replicas: o.Replicas, Spread: o.Spread, Policy: o.Policy, Quota: o.Quota, DryRun: o.DryRun,
	}
	cfg, err := anyNode(ctx, c, func(ctx context.Context, n rpc.Node) (quorum.Config, error) { return n.PlaceJournal(ctx, req) })
	if err != nil {
		return nil, fmt.Errorf("libqjm: create %s: %w", name, err)
	}
	c.adoptAddrs(cfg)
	var members []string
	for _, m := range cfg.Members() {
		members = append(members, string(m.ID))
	}
	return members, nil
}

// DeleteJournal removes a journal and its data for good. It returns when a majority of its members has the
// tombstone: nobody commits anything more in it then, and the name is free. The other members hear of it
// when they are met.
//
// Errors: ErrNoJournal, ErrNoLeader. After ErrNoQuorum, or a context that ended, the delete may be decided
// already; the cluster finishes it then, and the same again waits for it.
func (c *Client) DeleteJournal(ctx context.Context, name string) error {
	if err := rpc.CheckJournalName(name); err != nil {
		return err
	}
	tried, meant := false, segments.JournalID{}
	id, err := anyNode(ctx, c, func(ctx context.Context, n rpc.Node) (segments.JournalID, error) {
		if meant.IsZero() { // looked up once: asked for again, it must not be what somebody made under the name since
			var err error
			if meant, err = idInCatalog(ctx, n, name); err != nil {
				return meant, err
			}
		}
		id, err := n.DropJournal(ctx, rpc.DropRequest{Name: name, ID: meant})
		if tried && errors.Is(err, ErrNoJournal) {
			return meant, nil // an answer was lost
		}
		tried = tried || errors.Is(err, ErrUnavailable)
		return id, err
	})
	if err != nil {
		return fmt.Errorf("libqjm: delete %s: %w", name, err)
	}
	c.forget(name, id, !id.IsZero())
	return nil
}

func idInCatalog(ctx context.Context, n rpc.Node, name string) (segments.JournalID, error) {
	v, err := n.Catalog(ctx, Linearizable)
	if err != nil {
		return segments.JournalID{}, err
	}
	i := slices.IndexFunc(v.Journals, func(j CatalogJournal) bool { return j.Name == name })
	if i < 0 {
		return segments.JournalID{}, fmt.Errorf("%w: %s", ErrNoJournal, name)
	}
	return v.Journals[i].ID, nil
}

// SetPolicy replaces a journal's policy. Errors: ErrNoJournal, ErrNoLeader.
func (c *Client) SetPolicy(ctx context.Context, name string, p Policy) error {
	return c.configure(ctx, rpc.ConfigureRequest{Name: name, Policy: &p})
}

// SetQuota replaces a journal's quota, in bytes of log per node; 0: no limit. Over it appends fail with ErrQuota;
// what counts is in docs/concepts.md. Errors: ErrNoJournal, ErrNoLeader.
func (c *Client) SetQuota(ctx context.Context, name string, quota uint64) error {
	return c.configure(ctx, rpc.ConfigureRequest{Name: name, Quota: &quota})
}

func (c *Client) configure(ctx context.Context, req rpc.ConfigureRequest) error {
	_, err := anyNode(ctx, c, func(ctx context.Context, n rpc.Node) (struct{}, error) {
		return struct{}{}, n.ConfigureJournal(ctx, req)
	})
	return err
}

// The catalog as of one index, and what is in it.
type (
	// Catalog says in Strength what it rests on.
	Catalog        = rpc.CatalogView
	CatalogNode    = rpc.CatalogNode
	CatalogJournal = rpc.CatalogJournal
	ReadStrength   = rpc.ReadStrength
)

// Strengths of a read of the catalog.
const (
	Linearizable = rpc.Linearizable
	LeaseRead    = rpc.LeaseRead
	Stale        = rpc.Stale
)

// Catalog reads the catalog. Stale needs any node; the others need its leader.
func (c *Client) Catalog(ctx context.Context, strength ReadStrength) (Catalog, error) {
	return anyNode(ctx, c, func(ctx context.Context, n rpc.Node) (Catalog, error) { return n.Catalog(ctx, strength) })
}

// RemoveNode takes a node out of the cluster. With dryRun it only says whether that could be done. Errors:
// ErrNodeInUse while a journal needs the node; ErrNoNode; ErrNoLeader.
func (c *Client) RemoveNode(ctx context.Context, node string, dryRun bool) error {
	tried := false
	_, err := anyNode(ctx, c, func(ctx context.Context, n rpc.Node) (struct{}, error) {
		err := n.RemoveNode(ctx, rpc.RemoveRequest{Node: quorum.NodeID(node), DryRun: dryRun})
		if tried && errors.Is(err, ErrNoNode) {
			return struct{}{}, nil // an answer was lost
		}
		tried = tried || errors.Is(err, ErrUnavailable)
		return struct{}{}, err
	})
	return err
}

// TransferLeader hands the leadership of the catalog's group over, to any other voter where to is empty. It
// returns who leads next.
func (c *Client) TransferLeader(ctx context.Context, to string) (string, error) {
	id, err := anyNode(ctx, c, func(ctx context.Context, n rpc.Node) (quorum.NodeID, error) {
		return n.TransferLeader(ctx, rpc.TransferRequest{To: quorum.NodeID(to)})
	})
	return string(id), err
}

// RaftSnapshot makes one node take a raft snapshot of the catalog, and returns the index that it reaches.
// Errors: ErrNoNode where the catalog does not have the node, as whichever node answers knows it.
func (c *Client) RaftSnapshot(ctx context.Context, node string) (uint64, error) {
	v, err := c.Catalog(ctx, Stale)
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(v.Nodes, func(x CatalogNode) bool { return string(x.ID) == node && !x.Leaving })
	if i < 0 {
		return 0, fmt.Errorf("%w: %s", ErrNoNode, node)
	}
	x := v.Nodes[i]
	n, err := c.node(quorum.Member{ID: x.ID, Incarnation: x.Incarnation, Addr: x.Addr})
	if err != nil {
		return 0, err
	}
	return n.RaftSnapshot(ctx)
}
