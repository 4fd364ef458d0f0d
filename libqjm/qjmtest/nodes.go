package qjmtest

import (
	"os"
	"slices"

	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/journalnode"
)

// Nodes returns how many nodes there are, those that are down included.
func (c *Cluster) Nodes() int { return len(c.nodes.Nodes) }

// NodeName returns the name of a node: n1 is that of node 0.
func (c *Cluster) NodeName(i int) string {
	c.tb.Helper()
	c.check(i)
	return c.nodes.ID(i)
}

// Node returns a node, or nil while it is down.
func (c *Cluster) Node(i int) *journalnode.Node {
	c.tb.Helper()
	c.check(i)
	defer c.lock()()
	return c.nodes.Nodes[i]
}

// StartNode starts a node that is down, on what it has on its disk, and returns when it runs; AwaitReady waits until it
// takes part. One that runs is left as it is.
func (c *Cluster) StartNode(i int) {
	c.tb.Helper()
	c.check(i)
	defer c.lock()()
	if c.nodes.Nodes[i] == nil {
		c.nodes.StartNode(i)
	}
}

// StopNode ends a node as an operator does: it finishes what it is at. One that is down stays so.
func (c *Cluster) StopNode(i int) {
	c.tb.Helper()
	c.check(i)
	defer c.lock()()
	c.nodes.StopNode(i)
}

// KillNode ends a node as kill -9 does: at once, and what it had written is there when it starts again, synced or not.
// It needs a cluster in memory, and a node that runs.
func (c *Cluster) KillNode(i int) {
	c.tb.Helper()
	defer c.running("KillNode", i)()
	c.nodes.KillNode(i)
}

// CrashNode takes the power from a node: it ends at once, and what it had not synced is gone from its disk. What
// journals acknowledged is synced. It needs a cluster in memory, and a node that runs.
//
// The catalog's Raft log counts as synced.
func (c *Cluster) CrashNode(i int) {
	c.tb.Helper()
	defer c.running("CrashNode", i)()
	c.nodes.CrashNode(i, memfs.CrashOptions{})
}

// WipeNode stops a node, if it runs, and gives it an empty disk: a new one in place of one that failed. The others
// do not take the storage that StartNode makes there for the one that they knew, and the node says so in Ready, until
// libqjm.Client.ReplaceMember puts it in its place.
func (c *Cluster) WipeNode(i int) {
	c.tb.Helper()
	c.check(i)
	defer c.lock()()
	if !c.opts.Loopback {
		c.nodes.WipeNode(i)
		return
	}
	c.nodes.StopNode(i)
	if err := os.RemoveAll(c.nodes.Dir(i)); err != nil {
		c.tb.Fatalf("qjmtest: wipe node %s: %v", c.nodes.ID(i), err)
	}
}

// FillDisk makes a node's disk full: it refuses transactions, and promises, recovers and is read from its reserve. A
// crash leaves the disk full. It needs a cluster in memory.
func (c *Cluster) FillDisk(i int) {
	c.tb.Helper()
	c.memory("FillDisk")
	c.check(i)
	defer c.lock()()
	c.nodes.Disks[i].Fill()
}

// FreeDisk ends FillDisk: the node takes transactions again by itself. It needs a cluster in memory.
func (c *Cluster) FreeDisk(i int) {
	c.tb.Helper()
	c.memory("FreeDisk")
	c.check(i)
	defer c.lock()()
	c.nodes.Disks[i].SetCapacity(-1)
}

// running takes the turn for a fault of a node that runs, in memory.
func (c *Cluster) running(what string, i int) (unlock func()) {
	c.tb.Helper()
	c.memory(what)
	c.check(i)
	unlock = c.lock()
	if c.nodes.Nodes[i] == nil {
		unlock()
		c.tb.Fatalf("qjmtest: %s: node %s is down", what, c.nodes.ID(i))
	}
	return unlock
}

// check fails the test where there is no such node.
func (c *Cluster) check(i int) {
	c.tb.Helper()
	if i < 0 || i >= c.Nodes() {
		c.tb.Fatalf("qjmtest: there is no node %d (got %d, want 0 to %d)", i, i, c.Nodes()-1)
	}
}

// memory fails the test on a cluster that is not in memory.
func (c *Cluster) memory(what string) {
	c.tb.Helper()
	if c.opts.Loopback {
		c.tb.Fatalf("qjmtest: %s needs a cluster in memory, and Options.Loopback is set", what)
	}
}

func (c *Cluster) names() []string {
	var names []string
	for i := range c.Nodes() {
		names = append(names, c.nodes.ID(i))
	}
	return names
}

// ends fails the test where one of the names is neither a node's nor a process's.
func (c *Cluster) ends(what string, names ...string) {
	c.tb.Helper()
	c.memory(what)
	unlock := c.lock()
	known := c.names()
	for process := range c.processes {
		known = append(known, process)
	}
	unlock()
	for _, name := range names {
		if !slices.Contains(known, name) {
			c.tb.Fatalf("qjmtest: %s: nothing is called %q (there are %q)", what, name, slices.Sorted(slices.Values(known)))
		}
	}
}
