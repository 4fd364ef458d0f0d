package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// fault is one thing that is done to the cluster, and undone.
type fault struct {
	Kind    string        `json:"kind"`
	Targets []string      `json:"targets,omitempty"`
	Begin   time.Duration `json:"begin"`
	End     time.Duration `json:"end"`
	Alone   bool          `json:"alone,omitempty"` // the only one of its round

	lasts time.Duration
	do    func(context.Context, *fault) (undo func(context.Context))
}

// menuItem is a kind of fault, and how often it is chosen beside the others of its class.
type menuItem struct {
	kind   string
	weight int
	most   time.Duration // that it lasts
	do     func(*nemesis, context.Context, *fault, *rand.Rand) (undo func(context.Context))
}

// classes of faults: at most one of each is there at a time, so that a majority of nodes runs, but where a kind says otherwise.
var classes = [][]menuItem{
	{ // of replicas
		{"kill active", 4, 4 * time.Second, killReplicas(theActive)},
		{"kill replica", 1, 4 * time.Second, killReplicas(anyOne)},
		{"kill all replicas", 1, 2 * time.Second, killReplicas(all)},
		{"stop active", 5, 10 * time.Second, stopReplicas(theActive)},
		{"stop replica", 1, 10 * time.Second, stopReplicas(anyOne)},
		{"stutter active", 4, 6 * time.Second, stutterReplicas(theActive)},
		{"stutter all replicas", 1, 6 * time.Second, stutterReplicas(all)},
		{"end active", 2, time.Second, termReplica},
		{"standby behind", 3, 6 * time.Second, standbyBehind},
	},
	{ // of nodes
		{"kill node", 4, 6 * time.Second, killNodes(1)},
		{"stop node", 3, 10 * time.Second, stopNodes(1)},
		{"stutter node", 1, 6 * time.Second, stutterNode},
		{"kill majority", 1, 2 * time.Second, killNodes(2)},
		{"stop majority", 1, 2 * time.Second, stopNodes(2)},
		{"kill all nodes", 1, time.Second, killNodes(3)},
	},
	{ // of the network
		{"active from nodes", 4, 8 * time.Second, cut(activeNodes(true, true))},
		{"active to nodes, one way", 2, 8 * time.Second, cut(activeNodes(true, false))},
		{"nodes to active, one way", 2, 8 * time.Second, cut(activeNodes(false, true))},
		{"replica and node", 2, 8 * time.Second, cut(replicaNode)},
		{"node and node", 2, 8 * time.Second, cut(nodeNode)},
		{"node from nodes", 2, 8 * time.Second, cut(nodeFromNodes)},
		{"node from all", 2, 8 * time.Second, cut(nodeFromAll)},
		{"clients from active", 2, 6 * time.Second, cut(clientsActive)},
		{"two sides", 5, 6 * time.Second, cut(twoSides)},
		{"connections reset", 1, time.Millisecond, resetAll},
	},
}

// nemesis does harm in rounds: one or two faults at once, and then a while of quiet.
type nemesis struct {
	*cluster
	h       *history
	rnd     *rand.Rand
	most    time.Duration // that a fault lasts
	quiet   time.Duration // between rounds, at most
	log     io.Writer
	note    func(string) // what goes on now
	mu      sync.Mutex
	faults  []*fault // guarded by mu, as the next
	trouble []string
}

// round chooses everything before anything is done, so that a seed makes the same choices, however long they take.
func (n *nemesis) round(ctx context.Context) {
	order := n.rnd.Perm(len(classes))
	if n.rnd.IntN(10) < 6 {
		order = order[:1]
	} else {
		order = order[:2]
	}
	var chosen []*fault
	for _, class := range order {
		f := n.choose(classes[class])
		f.Alone = len(order) == 1
		chosen = append(chosen, f)
	}
	quiet := time.Duration(n.rnd.Int64N(int64(n.quiet)))
	var names []string
	for _, f := range chosen {
		names = append(names, f.Kind)
	}
	n.note(strings.Join(names, ", "))
	var under sync.WaitGroup
	for _, f := range chosen {
		under.Go(func() { n.carryOut(ctx, f) })
	}
	under.Wait()
	n.note("")
	for _, p := range n.processes() { // a replica that found no nodes has given up
		n.failed(p.start())
	}
	pause(ctx, n.quiet/2+quiet)
}

// choose takes a kind by weight, and how long it lasts: short ones are as many as long ones.
func (n *nemesis) choose(menu []menuItem) *fault {
	sum := 0
	for _, m := range menu {
		sum += m.weight
	}
	k := n.rnd.IntN(sum)
	for _, m := range menu {
		if k -= m.weight; k < 0 {
			most := min(m.most, n.most)
			if n.rnd.IntN(2) == 0 {
				most /= 4
			}
			rnd := rand.New(rand.NewPCG(n.rnd.Uint64(), 0))
			return &fault{
				Kind: m.kind, lasts: most/8 + time.Duration(n.rnd.Int64N(int64(most))),
				do: func(ctx context.Context, f *fault) func(context.Context) { return m.do(n, ctx, f, rnd) },
			}
		}
	}
	return nil
}

// carryOut does a fault, and undoes it: that, always, and whatever it takes.
func (n *nemesis) carryOut(ctx context.Context, f *fault) {
	f.Begin = n.h.now()
	undo := f.do(ctx, f)
	pause(ctx, f.lasts)
	undo(context.WithoutCancel(ctx))
	f.End = n.h.now()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = append(n.faults, f)
	if b, err := json.Marshal(f); err == nil {
		_, _ = n.log.Write(append(b, '\n'))
	}
}

func (n *nemesis) failed(err error) {
	if err == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trouble = append(n.trouble, err.Error())
}

// Which replicas are meant.
type chooser func(*nemesis, context.Context, *rand.Rand) []*process

func theActive(n *nemesis, ctx context.Context, rnd *rand.Rand) []*process {
	if i := n.active(ctx); i >= 0 {
		return []*process{n.replicas[i]}
	}
	return anyOne(n, ctx, rnd)
}

func anyOne(n *nemesis, _ context.Context, rnd *rand.Rand) []*process {
	return []*process{n.replicas[rnd.IntN(len(n.replicas))]}
}

func all(n *nemesis, _ context.Context, _ *rand.Rand) []*process { return n.replicas }

func names(ps []*process) (out []string) {
	for _, p := range ps {
		out = append(out, p.name)
	}
	return out
}

type action = func(*nemesis, context.Context, *fault, *rand.Rand) func(context.Context)

func killReplicas(who chooser) action {
	return func(n *nemesis, ctx context.Context, f *fault, rnd *rand.Rand) func(context.Context) {
		return n.kill(f, who(n, ctx, rnd))
	}
}

func killNodes(count int) action {
	return func(n *nemesis, _ context.Context, f *fault, rnd *rand.Rand) func(context.Context) {
		return n.kill(f, n.someNodes(count, rnd))
	}
}

func (n *nemesis) someNodes(count int, rnd *rand.Rand) (out []*process) {
	for _, i := range rnd.Perm(len(n.nodes))[:count] {
		out = append(out, n.nodes[i])
	}
	return out
}

func (n *nemesis) kill(f *fault, ps []*process) func(context.Context) {
	f.Targets = names(ps)
	for _, p := range ps {
		p.kill()
	}
	return n.startAgain(ps)
}

// startAgain does not wait for replicas: they may need what another fault keeps from them.
func (n *nemesis) startAgain(ps []*process) func(context.Context) {
	return func(context.Context) {
		for _, p := range ps {
			n.failed(p.start())
		}
	}
}

func stopReplicas(who chooser) action {
	return func(n *nemesis, ctx context.Context, f *fault, rnd *rand.Rand) func(context.Context) {
		return n.stop(f, who(n, ctx, rnd))
	}
}

func stopNodes(count int) action {
	return func(n *nemesis, _ context.Context, f *fault, rnd *rand.Rand) func(context.Context) {
		return n.stop(f, n.someNodes(count, rnd))
	}
}

func (n *nemesis) stop(f *fault, ps []*process) func(context.Context) {
	f.Targets = names(ps)
	for _, p := range ps {
		p.signal(syscall.SIGSTOP)
	}
	return func(context.Context) {
		for _, p := range ps {
			p.signal(syscall.SIGCONT)
		}
	}
}

// How long a process that stutters stands, and goes on: about as long as a lease, and a request.
const (
	standsMost = 1200 * time.Millisecond
	goesMost   = 60 * time.Millisecond
)

func stutterReplicas(who chooser) action {
	return func(n *nemesis, ctx context.Context, f *fault, rnd *rand.Rand) func(context.Context) {
		return n.stutter(ctx, f, who(n, ctx, rnd), rnd)
	}
}

func stutterNode(n *nemesis, ctx context.Context, f *fault, rnd *rand.Rand) func(context.Context) {
	return n.stutter(ctx, f, n.someNodes(1, rnd), rnd)
}

// stutter stops and continues processes time after time, each in its own rhythm: they wake up in the middle of what they did,
// with what they knew before.
func (n *nemesis) stutter(ctx context.Context, f *fault, ps []*process, rnd *rand.Rand) func(context.Context) {
	f.Targets = names(ps)
	ctx, cancel := context.WithCancel(ctx)
	var going sync.WaitGroup
	for _, p := range ps {
		own := rand.New(rand.NewPCG(rnd.Uint64(), 0))
		going.Go(func() {
			for ctx.Err() == nil {
				p.signal(syscall.SIGSTOP)
				pause(ctx, time.Duration(own.Int64N(int64(standsMost))))
				p.signal(syscall.SIGCONT)
				pause(ctx, time.Duration(own.Int64N(int64(goesMost))))
			}
		})
	}
	return func(context.Context) {
		cancel()
		going.Wait()
	}
}

// termReplica has the active drain. Where nothing else is wrong it succeeds.
func termReplica(n *nemesis, ctx context.Context, f *fault, rnd *rand.Rand) func(context.Context) {
	ps := theActive(n, ctx, rnd)
	f.Targets = names(ps)
	for _, p := range ps {
		if err := p.term(); f.Alone {
			n.failed(err)
		}
	}
	return n.startAgain(ps)
}

// standbyBehind stops a replica, and meanwhile has others take over from each other: segments end, snapshots are
// saved, and what the stopped one would read next is purged.
func standbyBehind(n *nemesis, ctx context.Context, f *fault, rnd *rand.Rand) func(context.Context) {
	i, active := rnd.IntN(len(n.replicas)), n.active(ctx)
	if i == active {
		i = (i + 1) % len(n.replicas)
	}
	goOn := n.stop(f, n.replicas[i:i+1])
	for range takeOvers {
		pause(ctx, f.lasts/takeOvers)
		if now := n.active(ctx); now >= 0 && now != i {
			n.replicas[now].kill()
			n.failed(n.replicas[now].start())
		}
	}
	return goOn
}

// takeOvers that a stopped standby misses.
const takeOvers = 3

// cut cuts the ways that which names, and heals them.
func cut(which func(*nemesis, context.Context, *rand.Rand) []way) action {
	return func(n *nemesis, ctx context.Context, f *fault, rnd *rand.Rand) func(context.Context) {
		ways := which(n, ctx, rnd)
		for _, w := range ways {
			f.Targets = append(f.Targets, w.from+">"+w.to)
		}
		n.net.set(ways, true)
		return func(context.Context) { n.net.set(ways, false) }
	}
}

// between are the ways between a and each of the others: there, and back.
func between(a string, others []string, there, back bool) (ways []way) {
	for _, b := range others {
		if there && b != a {
			ways = append(ways, way{a, b})
		}
		if back && b != a {
			ways = append(ways, way{b, a})
		}
	}
	return ways
}

// direction is both ways, or one.
func direction(rnd *rand.Rand) (there, back bool) {
	k := rnd.IntN(4)
	return k != 0, k != 1
}

func activeNodes(there, back bool) func(*nemesis, context.Context, *rand.Rand) []way {
	return func(n *nemesis, ctx context.Context, rnd *rand.Rand) []way {
		return between(theActive(n, ctx, rnd)[0].name, names(n.nodes), there, back)
	}
}

func replicaNode(n *nemesis, ctx context.Context, rnd *rand.Rand) []way {
	there, back := direction(rnd)
	return between(anyOne(n, ctx, rnd)[0].name, names(n.someNodes(1, rnd)), there, back)
}

func nodeNode(n *nemesis, _ context.Context, rnd *rand.Rand) []way {
	two := names(n.someNodes(2, rnd))
	there, back := direction(rnd)
	return between(two[0], two[1:], there, back)
}

func nodeFromNodes(n *nemesis, _ context.Context, rnd *rand.Rand) []way {
	there, back := direction(rnd)
	return between(names(n.someNodes(1, rnd))[0], names(n.nodes), there, back)
}

func nodeFromAll(n *nemesis, _ context.Context, rnd *rand.Rand) []way {
	there, back := direction(rnd)
	return between(names(n.someNodes(1, rnd))[0], slices.Concat(names(n.nodes), names(n.replicas)), there, back)
}

func clientsActive(n *nemesis, ctx context.Context, rnd *rand.Rand) []way {
	there, back := direction(rnd)
	return between(theActive(n, ctx, rnd)[0].name, n.clients, there, back)
}

// twoSides: the active is alone with one node.
func twoSides(n *nemesis, ctx context.Context, rnd *rand.Rand) (ways []way) {
	active, nodes := theActive(n, ctx, rnd)[0].name, names(n.someNodes(len(n.nodes), rnd))
	ways = between(active, nodes[1:], true, true)
	ways = append(ways, between(nodes[0], nodes[1:], true, true)...)
	for _, r := range n.replicas {
		if r.name != active {
			ways = append(ways, between(nodes[0], []string{r.name}, true, true)...)
		}
	}
	return ways
}

func resetAll(n *nemesis, _ context.Context, _ *fault, _ *rand.Rand) func(context.Context) {
	n.net.reset()
	return func(context.Context) {}
}

// gap is the longest time without a successful write that touches a fault.
func (f *fault) gap(acked []*Op, end time.Duration) time.Duration {
	var most, last time.Duration
	for _, o := range acked {
		if last <= f.End && o.Return >= f.Begin {
			most = max(most, o.Return-last)
		}
		last = o.Return
	}
	if last <= f.End {
		most = max(most, end-last)
	}
	return most
}

func (f *fault) String() string { return fmt.Sprintf("%s %v", f.Kind, f.Targets) }
