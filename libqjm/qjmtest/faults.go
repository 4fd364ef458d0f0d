package qjmtest

import (
	"sync"
	"time"

	"github.com/quorumjournal/qjm/internal/memnet"
)

// faults are those of the network, as far as they are not healed. Faults of the same kind on the same way last until
// the last of them is healed.
type faults struct {
	net *memnet.Network

	mu   sync.Mutex
	open map[*fault]bool // guarded by mu
}

// fault is one fault of the ways that it names.
type fault struct {
	kind  kind
	ways  [][2]string
	delay time.Duration
}

type kind uint8

const (
	cut kind = iota + 1
	stall
	delay
)

// Cut takes a node or a process off the network: nothing gets from it to anybody else, or to it. Who sends hears at once
// that it was lost, or of a broken connection. The function that Cut returns puts it back; it may be called more than
// once, and by any goroutine. Like all faults of the network it needs a cluster in memory, and names that exist:
// NodeName, or what Client was called with.
//
// A process that is cut off and not healed is, for the others, one that died; what its own code does goes on. To
// end that too, see KillProcess.
func (c *Cluster) Cut(name string) (heal func()) {
	c.tb.Helper()
	c.ends("Cut", name)
	return c.faults.begin(&fault{kind: cut, ways: around(name)})
}

// CutBetween cuts two nodes or processes off from one another; others reach both.
func (c *Cluster) CutBetween(a, b string) (heal func()) {
	c.tb.Helper()
	c.ends("CutBetween", a, b)
	return c.faults.begin(&fault{kind: cut, ways: [][2]string{{a, b}, {b, a}}})
}

// CutOneWay loses what goes from one to the other, and delivers what comes back: requests of from do not arrive;
// requests of to arrive, and it does not hear the answers.
func (c *Cluster) CutOneWay(from, to string) (heal func()) {
	c.tb.Helper()
	c.ends("CutOneWay", from, to)
	return c.faults.begin(&fault{kind: cut, ways: [][2]string{{from, to}}})
}

// Delay has everything arrive later that goes to a node or process, or comes from it; a round trip takes twice as much
// more. Messages do not hold one another up. Delays add up. The function that it returns ends it.
func (c *Cluster) Delay(name string, d time.Duration) (heal func()) {
	c.tb.Helper()
	c.ends("Delay", name)
	return c.faults.begin(&fault{kind: delay, ways: around(name), delay: d})
}

// DelayBetween delays what goes between two nodes or processes, each way.
func (c *Cluster) DelayBetween(a, b string, d time.Duration) (heal func()) {
	c.tb.Helper()
	c.ends("DelayBetween", a, b)
	return c.faults.begin(&fault{kind: delay, ways: [][2]string{{a, b}, {b, a}}, delay: d})
}

// Stall holds back everything that goes to a node or process, or comes from it, until the function that it returns is
// called; then all of it arrives. No connection breaks, and who waits hears nothing: so a process that was stopped
// (SIGSTOP), or a machine that hangs, looks from outside. Its own code goes on, and sees its own clock.
func (c *Cluster) Stall(name string) (resume func()) {
	c.tb.Helper()
	c.ends("Stall", name)
	return c.faults.begin(&fault{kind: stall, ways: around(name)})
}

// HealAll ends all faults of the network that were not healed yet. Delays are faults, too.
func (c *Cluster) HealAll() {
	c.tb.Helper()
	c.memory("HealAll")
	c.faults.healAll()
}

// KillProcess ends a process as kill -9 does, for the cluster and for the process: nothing that it does reaches anybody
// any more, its connections break, and its clients are closed, so that its replicas stop and calls under way fail. Its
// lease is not resigned; it expires. Client with the same name is the process started anew. It needs a cluster in
// memory.
//
// Code of the process that called its client is not ended: a writer's Append waits until its context ends.
func (c *Cluster) KillProcess(process string) {
	c.tb.Helper()
	c.ends("KillProcess", process)
	defer c.lock()()
	if process == admin || len(c.processes[process]) == 0 {
		c.tb.Fatalf("qjmtest: KillProcess: no process %q runs", process)
	}
	c.nodes.Net.Down(process) // first: nobody says goodbye
	for _, cl := range c.processes[process] {
		if err := cl.Close(); err != nil {
			c.tb.Fatalf("qjmtest: kill process %s: %v", process, err)
		}
	}
	c.processes[process] = nil
}

// around are the ways to everybody else, and back.
func around(name string) [][2]string { return [][2]string{{name, ""}, {"", name}} }

// begin puts a fault into the network. What it returns ends it.
func (f *faults) begin(x *fault) (heal func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[x] = true
	f.apply(x)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.end(x)
	}
}

func (f *faults) healAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for x := range f.open {
		f.end(x)
	}
}

// end ends a fault, unless it was ended before. The caller holds mu.
func (f *faults) end(x *fault) {
	if f.open[x] {
		delete(f.open, x)
		f.apply(x)
	}
}

// apply makes the network on the ways of a fault what all open faults of its kind want. The caller holds mu.
func (f *faults) apply(x *fault) {
	for _, w := range x.ways {
		n, sum := f.on(x.kind, w)
		from, to := w[0], w[1]
		switch {
		case x.kind == delay:
			f.net.Delay(from, to, sum)
		case x.kind == cut && n > 0:
			f.net.Cut(from, to)
		case x.kind == cut:
			f.net.Heal(from, to)
		case n > 0:
			f.net.Stall(from, to)
		default:
			f.net.Resume(from, to)
		}
	}
}

// on returns how many open faults of a kind stand on a way, and the sum of their delays.
func (f *faults) on(k kind, w [2]string) (n int, sum time.Duration) {
	for x := range f.open {
		if x.kind != k {
			continue
		}
		for _, y := range x.ways {
			if y == w {
				n++
				sum += x.delay
			}
		}
	}
	return n, sum
}
