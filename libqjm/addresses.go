package libqjm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
)

// UpdateAddresses tells a cluster where its nodes are now. It is for one whose addresses all changed: without a
// leader nobody can tell the catalog, and without the right addresses there is no leader. Each named node is
// asked at its new address who it is; then each is told where all are, a leader is found, and the catalog has
// the new addresses. A node that moved alone needs none of this: it says so itself.
//
// Errors: ErrUnavailable where a named node does not answer at its address; ErrRefused where another one
// does; *rpc.WrongNodeError where its storage is another one than the catalog knows; ErrOtherCluster.
func (c *Client) UpdateAddresses(ctx context.Context, addrs map[string]string, dryRun bool) error {
	var nodes []rpc.Node
	req := rpc.AddressesRequest{Cluster: c.cluster}
	known := map[quorum.NodeID]quorum.Incarnation{}
	for _, id := range slices.Sorted(maps.Keys(addrs)) {
		n, m, err := c.identify(ctx, quorum.NodeID(id), addrs[id], known)
		if err != nil {
			return fmt.Errorf("libqjm: node %s at %s: %w", id, addrs[id], err)
		}
		nodes, req.Nodes = append(nodes, n), append(req.Nodes, m)
	}
	for _, m := range req.Nodes {
		if want, ok := known[m.ID]; ok && want != m.Incarnation {
			return &rpc.WrongNodeError{Node: m.ID, Got: m.Incarnation, Want: want}
		}
	}
	if dryRun {
		return nil
	}
	for i, n := range nodes {
		told, cancel := context.WithTimeout(ctx, c.opts.RequestTimeout)
		err := n.LearnAddresses(told, req)
		cancel()
		if err != nil {
			return fmt.Errorf("libqjm: telling node %s: %w", req.Nodes[i].ID, err)
		}
	}
	c.mu.Lock()
	for _, m := range req.Nodes {
		c.addrs[m.ID] = place{m.Addr, m.Incarnation, true}
	}
	c.mu.Unlock()
	return c.awaitAddresses(ctx, req.Nodes)
}

// identify asks who answers at an address, and notes which storages its copy of the catalog knows.
func (c *Client) identify(ctx context.Context, id quorum.NodeID, addr string, known map[quorum.NodeID]quorum.Incarnation) (rpc.Node, quorum.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.RequestTimeout)
	defer cancel()
	n, err := c.conn(addr)
	if err != nil {
		return nil, quorum.Member{}, err
	}
	info, err := n.Info(ctx)
	switch {
	case err != nil:
		return nil, quorum.Member{}, err
	case info.ID != id:
		return nil, quorum.Member{}, fmt.Errorf("%w: another node answers there (got %s, want %s)", ErrRefused, info.ID, id)
	case info.Phase != rpc.Founded || info.Cluster != c.cluster:
		return nil, quorum.Member{}, fmt.Errorf("%w: it is %s, of cluster %x", ErrOtherCluster, info.Phase, info.Cluster)
	}
	v, err := n.Catalog(ctx, rpc.Stale)
	if err != nil {
		return nil, quorum.Member{}, err
	}
	for _, x := range v.Nodes {
		if !x.Leaving {
			known[x.ID] = x.Incarnation
		}
	}
	return n, quorum.Member{ID: id, Incarnation: info.Incarnation, Addr: addr}, nil
}

// awaitAddresses returns when the catalog has them.
func (c *Client) awaitAddresses(ctx context.Context, ms []quorum.Member) error {
	for wait := changePoll; ; wait = min(2*wait, changePollMax) {
		v, err := c.Catalog(ctx, Linearizable)
		if err != nil {
			return err
		}
		behind := slices.DeleteFunc(slices.Clone(ms), func(m quorum.Member) bool {
			return slices.ContainsFunc(v.Nodes, func(x CatalogNode) bool {
				return x.ID == m.ID && x.Incarnation == m.Incarnation && x.Addr == m.Addr
			})
		})
		if len(behind) == 0 {
			return nil
		}
		if err := pauseFor(ctx, wait); err != nil {
			return errors.Join(fmt.Errorf("%w: the catalog does not have the address of node %s yet", ErrUnavailable, behind[0].ID), err)
		}
	}
}
