package simtest

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/recovery"
)

// How a journal's config comes to nodes and writers: what libqjm and journalnode do in their shells.

// learn is the config that a client begins with: the one that it knew, or what any node has installed.
func (w *world) learn(c *client) quorum.Config {
	if !w.cfg.Changes {
		return w.members
	}
	if c.moves != nil || c.last || !c.cfg.IsZero() && w.rng.IntN(2) == 0 {
		if c.last {
			return w.group.now().Config
		}
		return c.cfg
	}
	var heard []quorum.Config
	for _, n := range w.nodes {
		if n.j != nil && n.j.Usable() == nil {
			heard = append(heard, n.j.Config())
		}
	}
	if len(heard) == 0 {
		return w.members
	}
	got := heard[w.rng.IntN(len(heard))]
	if got.Version < c.cfg.Version {
		return c.cfg // M7: the newest that it has heard of
	}
	return got
}

// isNewer: a node has a newer config installed than the request carried, and refused it for that (M1).
func isNewer(err error, version uint64) bool {
	ce, ok := errors.AsType[*rpc.ConfigError](err)
	return ok && ce.Want > version
}

// lacks: the node is to be sent the config that the request carried, or the whole journal (M0).
func lacks(err error, version uint64) bool {
	ce, ok := errors.AsType[*rpc.ConfigError](err)
	return ok && ce.Want < version || errors.Is(err, rpc.ErrNoJournal)
}

// ask is call, by a client that sends its config to nodes that lack it (M0).
func ask[T any](c *client, to quorum.Key, what string, serve func(*journal.Journal, func(T, error)), done func(T, error)) {
	w, n, cfg, life := c.w, c.w.node(to.ID), c.cfg, c.life
	call(w, c.at, n, what, serve, func(v T, err error) {
		if !w.cfg.Changes || !lacks(err, cfg.Version) || c.life != life {
			done(v, err)
			return
		}
		w.install(c.at, n, cfg, func(ierr error) {
			if ierr != nil {
				done(v, err)
				return
			}
			call(w, c.at, n, what, serve, done)
		})
	})
}

// stateFor is State as a coordinator counts it: from a member, with the storage that is meant, under this
// very config (N1, D6).
func stateFor(j *journal.Journal, to quorum.Key, cfg quorum.Config) (rpc.JournalState, error) {
	st := j.State()
	switch own := st.Summary.Config.Version; {
	case st.Incarnation != to.Incarnation:
		return st, &rpc.WrongNodeError{Node: to.ID, Got: to.Incarnation, Want: st.Incarnation}
	case own != cfg.Version:
		return st, &rpc.ConfigError{Got: cfg.Version, Want: own}
	case !st.Member:
		return st, rpc.ErrUnknownNode // N1
	}
	return st, nil
}

// install hands a node a config, and makes the journal where it is not there (rpc.Service.InstallConfig).
func (w *world) install(from int, n *simNode, cfg quorum.Config, done func(error)) {
	answered := false
	w.send(from, n.at, func() {
		if n.j == nil && !n.none {
			return
		}
		err := n.install(cfg)
		if n.fault.Crashed() {
			n.buryIfDead()
			return
		}
		w.note("config %d at n%d for %d: %v", cfg.Version, n.at+1, from, err)
		w.send(n.at, from, func() { answered = true; done(err) })
	})
	w.after(timeout, func() {
		if !answered {
			answered = true
			done(rpc.ErrUnavailable)
		}
	})
}

func (n *simNode) install(cfg quorum.Config) error {
	if !n.none {
		return n.j.InstallConfig(cfg)
	}
	err := journal.Create(n.fault, dir, n.w.journal, "sim", cfg)
	if err == nil {
		err = n.fault.SyncDir(".")
	}
	if err != nil || n.fault.Crashed() {
		return errors.Join(err, rpc.ErrUnavailable)
	}
	n.start()
	return nil
}

func hasJournal(disk *memfs.FS) bool {
	_, err := disk.Stat(path.Join(dir, "VERSION"))
	return err == nil
}

// outdated: an attempt has heard of a newer config. It starts over under that, in a new epoch (M7).
func (c *client) outdated(n *simNode) {
	if c.moving {
		return
	}
	c.moving = true
	life, at := c.life, c.at
	call(c.w, at, n, "config", func(j *journal.Journal, reply func(quorum.Config, error)) { reply(j.Config(), nil) },
		func(cfg quorum.Config, err error) {
			if c.life != life || c.co == nil {
				return
			}
			c.moving = false
			if err != nil || cfg.Version <= c.cfg.Version {
				c.failed(rpc.ErrUnavailable)
				return
			}
			c.w.note("writer %d hears of config %d in its attempt, chose: %t", c.at, cfg.Version, c.chose)
			c.startOver(cfg)
		})
}

// move: the writer has heard of a newer config. It adopts that, and keeps its epoch (M3).
func (c *client) move(n *simNode) {
	if c.moving || c.core == nil {
		return
	}
	c.moving = true
	call(c.w, c.at, n, "config", func(j *journal.Journal, reply func(quorum.Config, error)) { reply(j.Config(), nil) },
		guard(c, func(cfg quorum.Config, err error) {
			c.moving = false
			if c.core == nil || c.core.Err() != nil || err != nil || cfg.Version <= c.cfg.Version {
				return // the streams come up again, and are refused again
			}
			c.adopt(cfg)
		}))
}

var errMoved = errors.New("simtest: the writer goes over to another config")

func (c *client) adopt(cfg quorum.Config) {
	w := c.w
	for _, l := range c.links {
		l.up, l.over = false, true
		l.gen++
		c.core.Unlinked(l.member.Key(), errMoved)
	}
	c.links = nil
	err := c.reconfigure(cfg)
	w.note("writer %d, epoch %d, goes over to config %d: %v", c.at, c.core.Claim().Epoch, cfg.Version, err)
	if err != nil && c.core.Err() == nil {
		w.fail(err)
		return
	}
	c.cfg = cfg
	if c.core.Last().TxID < c.core.Segment() {
		c.frames = nil
	}
	w.result.Moves++
	if err == nil {
		c.link()
	}
}

func (c *client) reconfigure(cfg quorum.Config) error {
	switch c.w.cfg.Broken {
	case RuleM3Newest, RuleM3Union:
		return c.recount(cfg)
	}
	return c.core.Reconfigure(cfg)
}

// group stands in for the Raft group: the real catalog, applied in one place, and never lost. What it held
// before is kept: drivers may have read it a while ago, and writers know configs of then.
type group struct {
	c     *catalog.Catalog
	index uint64
	log   []catalog.Journal
}

func (w *world) found() {
	w.group = &group{c: catalog.New()}
	other := catalog.Node{ID: "n0", Incarnation: quorum.Incarnation{255}, Addr: "n0:1", Level: catalog.LevelFirst} // votes
	w.try(w.propose(&catalog.Init{Cluster: catalog.ClusterID{1}, Nodes: []catalog.Node{other}}))
	for _, n := range w.nodes {
		w.try(w.propose(&catalog.PutNode{Node: w.registered(n)}))
	}
	w.try(w.propose(&catalog.CreateJournal{ID: w.journal, Name: "sim", Members: w.members.Sets[0]}))
}

func (w *world) registered(n *simNode) catalog.Node {
	return catalog.Node{ID: n.member.ID, Incarnation: n.incarnation, Addr: string(n.member.ID) + ":1", Level: catalog.LevelFirst}
}

// propose is an entry of the log. A refusal changes nothing.
func (w *world) propose(cmd catalog.Command) error {
	g := w.group
	g.index++
	_, err := g.c.Apply(g.index, cmd)
	if j, ok := g.c.Journal(w.journal); ok && err == nil {
		g.log = append(g.log, j)
	}
	return err
}

func (g *group) now() catalog.Journal { return g.log[len(g.log)-1] }

// inUse: the machine's disk is, or is about to be, a member's.
func (w *world) inUse(n *simNode) bool {
	j := w.group.now()
	ms := j.Config.Members()
	if j.Change != nil {
		ms = slices.Concat(ms, j.Change.Old, j.Change.New)
	}
	return slices.ContainsFunc(ms, func(m quorum.Member) bool { return m.ID == n.member.ID })
}

// mayLose is mayDamage where members change: a minority of every member set that may be in force. What is not
// in use, and damaged, is given a new disk.
func (w *world) mayLose(n *simNode) bool {
	for i, x := range w.nodes {
		if x.damaged && !x.latent && x.j != nil && w.oracle.whole(i) {
			x.damaged, x.owes = false, nil
			w.note("n%d is whole again", i+1)
		}
		if x.damaged && !w.inUse(x) && w.tidy(x) {
			x.newDisk()
			x.damaged, x.latent, x.owes = false, false, nil
		}
	}
	return w.inUse(n) && hasJournal(n.disk) && !slices.ContainsFunc(w.mayBeInForce(), func(set []quorum.Member) bool {
		return !w.bears(set, n)
	})
}

// mayBeInForce lists the member sets that somebody may have to find a majority of: of each config from the one
// that is known to be in force on (M2), and those that the change under way goes to.
func (w *world) mayBeInForce() (sets [][]quorum.Member) {
	now := w.group.now()
	for _, cfg := range w.oracle.known() {
		if cfg.Version >= now.InForce {
			sets = append(sets, cfg.Sets...)
		}
	}
	if now.Change != nil {
		sets = append(sets, now.Change.Old, now.Change.New)
	}
	return sets
}

// bears: with these nodes damaged, too, a minority of the set is. A member whose disk was taken away stays lost
// to the sets that name that disk, however whole the machine is with the next one (N1).
func (w *world) bears(set []quorum.Member, more ...*simNode) bool {
	lost := 0
	for _, m := range set {
		if n := w.node(m.ID); n.damaged || n.incarnation != m.Incarnation || slices.Contains(more, n) {
			lost++
		}
	}
	return lost <= (len(set)-1)/2
}

// tidy has the catalog forget disks of the node that are gone, and reports whether it may get another one.
func (w *world) tidy(n *simNode) bool {
	for _, x := range w.group.c.Nodes() {
		if x.ID == n.member.ID && x.Incarnation != n.incarnation {
			_ = w.propose(&catalog.Forget{ID: x.ID, Incarnation: x.Incarnation})
			if err := w.propose(&catalog.RemoveNode{ID: x.ID, Incarnation: x.Incarnation}); err != nil {
				return false // a config names it
			}
		}
	}
	return true
}

// newDisk takes the disk away, and with it the incarnation (N1).
func (n *simNode) newDisk() {
	w := n.w
	n.j, n.inbox, n.none, n.full = nil, nil, false, false
	n.disk = memfs.New()
	n.seen, n.applied = -1, 0
	w.oracle.forget(n.at)
	if w.cfg.Broken != RuleN1 {
		w.disks++
		old := n.incarnation
		n.incarnation = quorum.Incarnation{byte(0x80 + n.at), byte(w.disks), byte(w.disks >> 8)}
		w.try(w.propose(&catalog.PutNode{Node: w.registered(n), Replaces: old}))
	}
	w.note("n%d has a new disk", n.at+1)
	w.after(20+w.rng.Int64N(300), n.restart)
}

// lostMembers: a set names a disk that is gone.
func (w *world) lostMembers(set []quorum.Member) bool {
	return slices.ContainsFunc(set, func(m quorum.Member) bool { return w.node(m.ID).incarnation != m.Incarnation })
}

func (w *world) member(n *simNode) quorum.Member {
	return quorum.Member{ID: n.member.ID, Incarnation: n.incarnation}
}

// goal picks the members to go over to: lost disks are replaced, or one member, or all, or 3 become 5.
func (w *world) goal(now []quorum.Member) []quorum.Member {
	in := map[int]bool{}
	for _, m := range now {
		in[w.node(m.ID).at] = true
	}
	var others []int
	for i := range w.nodes {
		if !in[i] {
			others = append(others, i)
		}
	}
	w.rng.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	switch k := w.rng.IntN(4); {
	case w.calm || w.lostMembers(now) && k > 0: // as it was, on the disks that are there
	case k == 0 && len(others) >= 3: // all of them
		in = map[int]bool{others[0]: true, others[1]: true, others[2]: true}
	case k == 1 && len(others) > 0: // one
		for i := range w.nodes {
			if in[i] {
				delete(in, i)
				break
			}
		}
		in[others[0]] = true
	default: // 3 or 5 of all
		in = map[int]bool{}
		for _, i := range w.rng.Perm(len(w.nodes))[:3+2*w.rng.IntN(2)] {
			in[i] = true
		}
	}
	var want []quorum.Member
	for i, n := range w.nodes {
		if in[i] {
			want = append(want, w.member(n))
		}
	}
	return quorum.NewConfig(1, want...).Sets[0]
}

// operate is the operator, who wants other members now and then, a member replaced whose disk is gone, or a
// change given up.
func (w *world) operate(stuck bool) {
	j := w.group.now()
	learning := j.Change != nil && j.Change.Stage == catalog.StageLearning
	switch {
	case w.stranded != nil: // it has its own plans
		return
	case learning && (stuck || w.lostMembers(j.Change.New)), j.Change != nil && !w.calm && w.rng.IntN(40) == 0:
		err := w.propose(&catalog.Abort{Step: step(j), Reason: "asked for"})
		w.note("operator aborts: %v", err)
		if err == nil && !learning {
			w.result.Aborts++
		}
		return
	case j.Change != nil || !w.calm && w.rng.IntN(3) != 0 || w.calm && !w.lostMembers(j.Config.Sets[0]):
		return
	}
	want := w.goal(j.Config.Sets[0])
	if !w.bears(want) {
		return // nobody asks for a majority of damaged disks
	}
	err := w.propose(&catalog.BeginChange{Target: target(j), To: want})
	w.note("wanted:%s: %v", names(want), err)
}

func target(j catalog.Journal) catalog.Target {
	return catalog.Target{Journal: j.ID, ExpectVersion: j.Config.Version}
}

func step(j catalog.Journal) catalog.Step {
	return catalog.Step{Target: target(j), Change: j.Change.StartedIndex}
}

func names(set []quorum.Member) (s string) {
	for _, m := range set {
		s += fmt.Sprintf(" %s/%x", m.ID, m.Incarnation[:2])
	}
	return s
}

// startOver is what an attempt does that has heard of a newer config.
func (c *client) startOver(cfg quorum.Config) {
	claim := c.as(c.co.Claim())
	switch c.w.cfg.Broken {
	case RuleM7Epoch:
		c.reuse = claim
	case RuleM7Counts:
		if claim.Epoch > 0 {
			c.goOn(cfg)
			return
		}
	default:
		c.least = max(c.least, claim.Epoch+1)
	}
	c.cfg = cfg
	c.co = nil
	c.life++
	if c.moves != nil {
		c.die() // its driver begins again
		return
	}
	c.w.after(1+c.w.rng.Int64N(20), c.begin)
}

// keep remembers what an attempt has gathered.
func (c *client) keep(ev recovery.Event) recovery.Event {
	c.kept = append(c.kept, ev)
	return ev
}
