package simtest

import (
	"container/heap"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

// Config of one run. Zero values are the defaults.
type Config struct {
	Seed    uint64
	Nodes   int // default 3; with Changes, 5 or 6
	Writers int // that compete; default 1 to 3, by seed
	Events  int // faults stop after so many events; default 1500
	// Changes has members changed, all the time (members.go).
	Changes bool
	// Snapshots are saved and listed, and what they cover is purged (snaps.go).
	Snapshots bool
	// Leases are campaigned for by the writers' processes (leases.go).
	Leases bool
	// Slow writers take their time, and so live to see the members change.
	Slow bool
	// Members at the beginning, with Changes: default 3.
	Members int
	// Harm is what disks do, and more of it; "" leaves it to the seed.
	Harm Harm
	// Broken is a rule that the run goes without: it must then be caught.
	Broken Rule
	// Trace keeps a line per event.
	Trace bool
}

// Result of one run.
type Result struct {
	Digest     string // of every event
	Acked      segments.TxID
	Recoveries int
	Crashes    int
	Probes     int

	Wipes, Rots, Fulls, FailedSyncs       int
	TornTails                             int // starts that found a cut
	LostRenames                           int // power losses after which other names were there
	Listed, Purges, Installs              int // of snapshots
	Joints, Finals, Aborts, Movers, Moves int // of membership changes; writers that went over
	PurgedFinals, Learned                 int // changes of a journal that was purged; learners that started from a snapshot
	Leases, Expired, Unleased             int // acks to writers without the lease that another one had

	// Residue: a choice went without frames that rotted above their node's last mark, while the other
	// holder was away: N2a's documented residue. The run ends there.
	Residue bool

	Err   error // what the oracle found
	Trace []string
}

const (
	faultyMessages = 8  // of 100 unary messages, this many are lost, and as many repeated
	breaking       = 1  // of 100 messages of a stream, this many end it instead
	delayMax       = 20 // in ticks of the fake clock
	timeout        = 120
)

// errNoProgress is a run that does not come to rest though all faults are over.
var errNoProgress = errors.New("no progress")

// world is one run.
type world struct {
	cfg    Config
	rng    *rand.Rand
	now    int64
	seq    int
	events eventHeap
	steps  int

	journal segments.JournalID
	members quorum.Config
	nodes   []*simNode
	clients []*client
	cut     map[[2]int]bool // from, to: nothing passes
	walls   map[int]wall    // around whom
	calm    bool            // no more faults: everybody heals
	wipes   bool            // disks may be taken away
	rots    bool            // disks may rot

	group   *group
	drivers []*driver
	disks   int  // how many were new since the beginning
	rested  bool // the last change is over

	leases   *leases // nil: there are none
	stranded *strand // the writer that is

	oracle oracle
	log    hash.Hash
	trace  []string
	result Result
}

type event struct {
	at  int64
	seq int
	run func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return h[i].seq < h[j].seq
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

// Run plays one seed to its end.
func Run(cfg Config) Result {
	w := newWorld(cfg)
	w.play()
	w.result.Digest = hex.EncodeToString(w.log.Sum(nil))
	w.result.Acked = w.oracle.acked.TxID
	w.result.Trace = w.trace
	return w.result
}

func newWorld(cfg Config) *world {
	w := &world{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x716a6d)), cut: map[[2]int]bool{}, walls: map[int]wall{},
		log: sha256.New(), journal: segments.JournalID{1},
	}
	if w.cfg.Nodes == 0 {
		w.cfg.Nodes = 3
		if w.cfg.Changes {
			w.cfg.Nodes = 5 + w.rng.IntN(2)
		}
	}
	if w.cfg.Members == 0 || !w.cfg.Changes {
		w.cfg.Members = w.cfg.Nodes
		if w.cfg.Changes {
			w.cfg.Members = 3
		}
	}
	if w.cfg.Events == 0 {
		w.cfg.Events = 1500
		if w.cfg.Changes {
			w.cfg.Events = 4000
		}
	}
	if w.cfg.Writers == 0 {
		w.cfg.Writers = 1 + w.rng.IntN(3)
	}
	damage := w.rng.IntN(4) // none in one run of four
	w.wipes, w.rots = damage&1 != 0 || cfg.Harm != "", damage&2 != 0 || cfg.Harm != ""
	var ms []quorum.Member
	for i := range w.cfg.Nodes {
		ms = append(ms, quorum.Member{ID: quorum.NodeID(fmt.Sprintf("n%d", i+1)), Incarnation: quorum.Incarnation{byte(i + 1)}})
	}
	w.members = quorum.NewConfig(1, ms[:w.cfg.Members]...)
	w.oracle = newOracle(w)
	for i, m := range ms {
		w.nodes = append(w.nodes, newSimNode(w, i, m))
	}
	if w.cfg.Changes || w.cfg.Snapshots || w.cfg.Leases {
		w.found()
	}
	if w.cfg.Changes {
		for i := range drivers {
			d := &driver{w: w, at: w.firstDriver() + i}
			w.drivers = append(w.drivers, d)
			w.after(100+w.rng.Int64N(400), func() { d.round(0) })
		}
	}
	for i := range w.cfg.Writers {
		c := &client{w: w, at: w.cfg.Nodes + i}
		w.clients = append(w.clients, c)
		w.after(w.rng.Int64N(200), c.begin)
	}
	if w.cfg.Snapshots {
		w.after(200, w.save)
	}
	if w.cfg.Leases {
		w.leases = newLeases(w)
	}
	w.after(50, w.disturb)
	return w
}

// note adds a line to the run's digest, and to its trace.
func (w *world) note(format string, args ...any) {
	line := fmt.Sprintf("%06d "+format, append([]any{w.now}, args...)...)
	w.log.Write([]byte(line))
	w.log.Write([]byte{'\n'})
	if w.cfg.Trace {
		w.trace = append(w.trace, line)
	}
}

func (w *world) after(d int64, f func()) {
	w.seq++
	heap.Push(&w.events, event{w.now + d, w.seq, f})
}

// play runs events until the faults are over and everybody has healed.
func (w *world) play() {
	for !w.over() && len(w.events) > 0 {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.run()
		w.steps++
		if w.over() {
			break
		}
		w.oracle.check()
		if !w.calm && w.steps >= w.cfg.Events {
			w.heal()
		}
		if w.calm && w.oracle.settled() {
			break
		}
		if w.steps > 40*w.cfg.Events {
			w.fail(fmt.Errorf("%w: not settled after %d events%s", errNoProgress, w.steps, w.oracle.holdings()))
		}
	}
	if !w.over() {
		w.oracle.final()
	}
}

func (w *world) over() bool { return w.result.Err != nil || w.result.Residue }

func (w *world) fail(err error) {
	if w.result.Err == nil {
		w.result.Err = fmt.Errorf("seed %d, event %d: %w", w.cfg.Seed, w.steps, err)
		w.note("FAIL %v", err)
	}
}

func (w *world) chance(percent int) bool { return !w.calm && w.rng.IntN(100) < percent }

func (w *world) delay() int64 { return 1 + w.rng.Int64N(delayMax) }

// send carries a message, if it is lucky.
func (w *world) send(from, to int, f func()) {
	if w.isCut(from, to) || w.chance(faultyMessages) {
		w.note("lost %d>%d", from, to)
		return
	}
	w.after(w.delay(), f)
	if w.chance(faultyMessages) {
		w.note("repeated %d>%d", from, to)
		w.after(2*w.delay(), f)
	}
}

// disturb injects one fault now and then.
func (w *world) disturb() {
	if w.calm {
		return
	}
	switch k := w.rng.IntN(14); {
	case k < 3:
		a, b := w.rng.IntN(w.cfg.Nodes+w.cfg.Writers+len(w.drivers)), w.rng.IntN(w.cfg.Nodes)
		w.cut[[2]int{a, b}] = true
		if w.rng.IntN(2) == 0 {
			w.cut[[2]int{b, a}] = true
		}
		w.note("cut %d>%d", a, b)
	case k < 6:
		clear(w.cut)
		w.note("cuts heal")
	case k < 8:
		n := w.nodes[w.rng.IntN(w.cfg.Nodes)]
		if (n.j != nil || n.none) && w.up() > w.cfg.Nodes/2 {
			n.fault.CrashAt(n.fault.Mutations() + 1 + w.rng.Int64N(12))
			w.note("n%d will die at a disk operation", n.at+1)
		}
	case k < 9:
		n := w.nodes[w.rng.IntN(w.cfg.Nodes)]
		if (n.j != nil || n.none) && w.up() > w.cfg.Nodes/2 {
			n.fault.Crash()
			n.buryIfDead()
		}
	case k < 10:
		if c := w.clients[w.rng.IntN(len(w.clients))]; w.stranded == nil || w.stranded.c != c {
			c.die()
		}
	case k < 11 && w.cfg.Changes:
		w.sendAway()
	default:
		w.harm()
	}
	if w.cfg.Harm != "" {
		w.harm()
	}
	w.after(10+w.rng.Int64N(150), w.disturb)
}

func (w *world) up() int {
	n := 0
	for _, x := range w.nodes {
		if x.j != nil || x.none {
			n++
		}
	}
	return n
}

// heal ends all faults: what is left must come to rest with nothing lost.
func (w *world) heal() {
	w.calm = true
	clear(w.cut)
	w.note("calm")
	for _, c := range w.clients {
		c.die()
	}
	for _, n := range w.nodes {
		n.fault.CrashAt(0)
		n.fault.ClearRules()
		n.makeRoom()
		if n.j == nil {
			w.after(1, n.restart)
		}
	}
	if !w.cfg.Changes { // else when the change that is under way is over
		w.begin()
	}
}

// begin starts the last writer.
func (w *world) begin() {
	last := &client{w: w, at: w.cfg.Nodes, last: true}
	w.clients = append(w.clients, last)
	w.after(10, last.begin)
}

func (w *world) firstDriver() int { return w.cfg.Nodes + w.cfg.Writers }

// settleMembers: the last change is over. Those that have left may be switched off now (M8).
func (w *world) settleMembers() {
	if w.rested {
		return
	}
	w.rested = true
	w.note("members are settled")
	if w.rng.IntN(2) == 0 {
		for _, n := range w.nodes {
			if !w.group.now().Config.Has(n.member.ID, n.incarnation) {
				w.note("n%d is switched off", n.at+1)
				n.j, n.none, n.off = nil, false, true
			}
		}
	}
	w.begin()
}

func (w *world) writerID() fencing.WriterID {
	var id fencing.WriterID
	for i := range id {
		id[i] = byte(1 + w.rng.IntN(255))
	}
	return id
}
