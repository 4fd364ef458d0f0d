package journalnode

import (
	"context"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/raftgroup"
	"github.com/quorumjournal/qjm/segments"
)

const (
	// driversMax bounds how many journals are looked at at the same time.
	driversMax = 8
	// driverPause is how soon a change that waits for something is looked at again, at first; while it stays
	// where it is, that grows to driverPauseMax: a look asks every node for its list of segments.
	driverPause    = 100 * time.Millisecond
	driverPauseMax = 2 * time.Second
)

// drivers carries on what is to be done about the members of the cluster's journals, while this node leads:
// a driver for each journal that needs one, until it needs none.
type drivers struct {
	n    *Node
	ctx  context.Context
	ctl  *leading
	room chan struct{} // a token for each round under way
	work sync.WaitGroup

	mu      sync.Mutex
	running map[segments.JournalID]bool // guarded by mu
}

// newDrivers belongs to one term: ctx ends with it.
func (n *Node) newDrivers(ctx context.Context, g *raftgroup.Group) *drivers {
	return &drivers{
		n: n, ctx: ctx, ctl: newLeading(n, g), room: make(chan struct{}, driversMax), running: map[segments.JournalID]bool{},
	}
}

// start sees to the journals that are unsettled.
func (d *drivers) start() {
	var journals []catalog.Journal
	d.n.readCatalog(func(c *catalog.Catalog) { journals = c.Journals() })
	for _, j := range journals {
		if !j.Deleted && unsettled(j) {
			d.run(j.ID)
		}
	}
}

// lookAtAll sees to the journals whose members are not as the catalog has them: a new leader must hear first what the
// nodes have installed (M9), and now and then, because nodes that left may be back with their data (M8). Each member is
// asked for all of its journals at once. A driver would ask for each, with entries of the log for its Barriers, and have
// nothing to do where the members that answer have the very config of the catalog and nobody has left.
func (d *drivers) lookAtAll() {
	d.work.Go(func() {
		var journals []catalog.Journal
		d.n.readCatalog(func(c *catalog.Catalog) { journals = c.Journals() })
		told := d.installed(journals)
		for _, j := range journals {
			if !j.Deleted && (unsettled(j) || len(j.Former) > 0 || astray(j, told)) {
				d.run(j.ID)
			}
		}
	})
}

// run starts a journal's driver, if it has none.
func (d *drivers) run(id segments.JournalID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.running[id] {
		d.running[id] = true
		d.work.Go(func() { d.drive(id) })
	}
}

// installedOn is which configs the nodes that answered have, of all journals.
type installedOn map[quorum.NodeID]map[segments.JournalID]quorum.Config

// installed asks all members of journals for what they have installed, at the same time.
func (d *drivers) installed(journals []catalog.Journal) installedOn {
	ids := map[quorum.NodeID]bool{}
	for _, j := range journals {
		ms := j.Config.Members()
		d.n.peers.learn(ms)
		for _, m := range ms {
			ids[m.ID] = true
		}
	}
	told := installedOn{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for id := range ids {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(d.ctx, d.n.opts.PeerTimeout)
			defer cancel()
			js, err := d.n.journalsAt(ctx, id)
			if err != nil {
				return // a driver would hear nothing either
			}
			configs := make(map[segments.JournalID]quorum.Config, len(js))
			for _, s := range js {
				configs[s.ID] = s.Config
			}
			mu.Lock()
			defer mu.Unlock()
			told[id] = configs
		})
	}
	wg.Wait()
	return told
}

// astray: a member that answered has another config than the catalog, or none.
func astray(j catalog.Journal, told installedOn) bool {
	for _, m := range j.Config.Members() {
		configs, answered := told[m.ID]
		cfg, has := configs[j.ID]
		if answered && (!has || cfg.Version != j.Config.Version || cfg.Digest() != j.Config.Digest()) {
			return true
		}
	}
	return false
}

// unsettled: something waits for the leader.
func unsettled(j catalog.Journal) bool { return j.Change != nil || j.InForce < j.Config.Version }

// drive runs rounds until the journal is settled, or this node leads no more.
func (d *drivers) drive(id segments.JournalID) {
	drv := d.n.newDriver(d.ctl, id)
	pause, at := driverPause, ""
	for {
		select {
		case d.room <- struct{}{}:
		case <-d.ctx.Done():
			return
		}
		more, err := drv.round(d.ctx)
		<-d.room
		if at != drv.stage {
			pause, at = driverPause, drv.stage
		}
		wait := pause
		pause = min(2*pause, driverPauseMax)
		if err != nil {
			drv.warn(err)
			wait = leaderRetry
		}
		if more && err == nil {
			continue
		}
		if err == nil && d.settled(id) {
			return
		}
		select {
		case <-time.After(wait):
		case <-d.ctx.Done():
			return
		}
	}
}

// settled reports whether there is nothing to do, and lets the next start begin anew: what it decides on was
// read after the round, so a change that begins now is not lost.
func (d *drivers) settled(id segments.JournalID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if j, ok := d.ctl.Journal(id); ok && !j.Deleted && unsettled(j) {
		return false
	}
	delete(d.running, id)
	return true
}

// leading is the catalog as its leader has it.
type leading struct {
	n *Node
	g *raftgroup.Group

	turn chan struct{} // one barrier at a time
	mu   sync.Mutex
	next *sharedBarrier // not begun yet: whoever comes now may rest on it; guarded by mu
}

type sharedBarrier struct {
	done chan struct{}
	err  error // set before done is closed
}

func newLeading(n *Node, g *raftgroup.Group) *leading {
	return &leading{n: n, g: g, turn: make(chan struct{}, 1)}
}

// Barrier implements decider. Many drivers share one entry of the log: any that begins after the call will do.
func (l *leading) Barrier(ctx context.Context) error {
	l.mu.Lock()
	b := l.next
	if b == nil {
		b = &sharedBarrier{done: make(chan struct{})}
		l.next = b
		l.n.work.Go(func() { l.run(b) })
	}
	l.mu.Unlock()
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *leading) run(b *sharedBarrier) {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	l.mu.Lock()
	l.next = nil
	l.mu.Unlock()
	ctx, cancel := l.n.context(dutyTimeout)
	defer cancel()
	_, b.err = l.n.barrier(ctx, l.g)
	close(b.done)
}

// Journal implements decider.
func (l *leading) Journal(id segments.JournalID) (j catalog.Journal, ok bool) {
	l.n.readCatalog(func(c *catalog.Catalog) { j, ok = c.Journal(id) })
	return j, ok
}

// Propose implements decider: as the leader, and only as that.
func (l *leading) Propose(ctx context.Context, cmd catalog.Command) (catalog.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, dutyTimeout)
	defer cancel()
	b, err := catalog.EncodeCommand(cmd)
	if err != nil {
		return catalog.Result{}, err
	}
	return applyHere(ctx, l.g, b)
}

// replaced pairs what is leaving with the storage that the same node has now.
func replaced(nodes []catalog.Node) map[quorum.Key]quorum.Member {
	out := map[quorum.Key]quorum.Member{}
	for _, old := range nodes {
		for _, x := range nodes {
			if old.Leaving && !x.Leaving && x.ID == old.ID {
				out[old.Member().Key()] = x.Member()
			}
		}
	}
	return out
}
