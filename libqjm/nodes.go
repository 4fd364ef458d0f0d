package libqjm

// NodeAddr is a node that is known and where it is reached.
type NodeAddr struct {
	Node string
	Addr string
}

// Nodes lists the cluster's nodes as far as they are known, by id.
func (c *Client) Nodes() []NodeAddr {
	ids := c.nodeIDs()
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]NodeAddr, len(ids))
	for i, id := range ids {
		out[i] = NodeAddr{Node: string(id), Addr: c.addrs[id].addr}
	}
	return out
}
