package libqjm

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
)

// outsiderTimeout bounds the asking of addresses that the catalog does not have: most have nobody there.
const outsiderTimeout = time.Second

// Outsider is a storage that answers as one of the cluster's, and is no part of it any more. It has no use but
// to be switched off.
type Outsider struct {
	Node, Incarnation, Addr string
	// Why is what it says itself; empty while it has not found out.
	Why string
}

// Outsiders asks at the addresses that the client knows, and the catalog does not have, who is there. Only by a
// linearizable read of the catalog can it be said of anybody that it is out.
func (c *Client) Outsiders(ctx context.Context, v Catalog) []Outsider {
	if v.Strength != Linearizable {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, outsiderTimeout)
	defer cancel()
	var mu sync.Mutex
	out := map[quorum.Key]Outsider{}
	var work sync.WaitGroup
	for _, addr := range c.unlisted(v) {
		work.Go(func() {
			n, err := c.conn(addr)
			if err != nil {
				return
			}
			g, err := n.SurveyGroup(ctx)
			if err != nil || g.Cluster != v.Cluster || slices.ContainsFunc(v.Nodes, func(x CatalogNode) bool { return keyOf(x) == g.Node }) {
				return // nobody, or somebody who belongs there
			}
			mu.Lock()
			defer mu.Unlock()
			out[g.Node] = Outsider{Node: string(g.Node.ID), Incarnation: g.Node.Incarnation.String(), Addr: addr, Why: g.Down}
		})
	}
	work.Wait()
	var list []Outsider
	for _, o := range out {
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b Outsider) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Incarnation, b.Incarnation))
	})
	return list
}

func keyOf(x rpc.CatalogNode) quorum.Key { return quorum.Key{ID: x.ID, Incarnation: x.Incarnation} }

// unlisted are the addresses that the client knows, and no node of the catalog has.
func (c *Client) unlisted(v Catalog) []string {
	c.mu.Lock()
	addrs := slices.Clone(c.opts.Endpoints)
	for _, p := range c.addrs {
		addrs = append(addrs, p.addr)
	}
	c.mu.Unlock()
	slices.Sort(addrs)
	return slices.DeleteFunc(slices.Compact(addrs), func(addr string) bool {
		return slices.ContainsFunc(v.Nodes, func(x CatalogNode) bool { return x.Addr == addr })
	})
}
