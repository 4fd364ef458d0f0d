package simtest

import (
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/journalnode/catalog"
)

// Cuts come and go at random (disturb). Some interleavings need several of them, one after the other: these
// schedules lay them. All of it is what a network may do, and what an operator may ask for.

// wall leaves a node or a client alone, but for those that it reaches (by their number), for a while.
type wall struct {
	reach uint64
	until int64
}

func (w *world) isCut(a, b int) bool {
	return w.cut[[2]int{a, b}] || !w.calm && (w.walled(a, b) || w.walled(b, a))
}

func (w *world) walled(a, b int) bool {
	x := w.walls[a]
	return w.now < x.until && x.reach>>b&1 == 0
}

// wallIn lets somebody reach the given ones only, for so many ticks.
func (w *world) wallIn(who int, ticks int64, reach ...int) {
	x := wall{until: w.now + ticks}
	for _, r := range reach {
		x.reach |= 1 << r
	}
	w.walls[who] = x
	w.note("%d reaches %v for %d", who, reach, ticks)
}

// sendAway cuts a writer off for so long that the world goes on without it.
func (w *world) sendAway() {
	c := w.clients[w.rng.IntN(len(w.clients))]
	if c.core != nil && w.walls[c.at].until < w.now {
		w.wallIn(c.at, 300+w.rng.Int64N(1500))
	}
}

// overtake: an attempt has made its choice, its accepts are under way, and just then a node hears of a newer
// config (M7). One accept arrives; the attempt that starts over does not reach that node.
func (w *world) overtake(c *client, sources []quorum.NodeID) {
	if w.cfg.Harm != HarmNews || !w.cfg.Changes || !w.chance(60) || c.moves != nil {
		return
	}
	switch j := w.group.now(); {
	case j.Change == nil:
	case j.Change.Stage == catalog.StageLearning:
		_ = w.propose(&catalog.Joint{Step: step(j)}) // by a driver that looked a while ago
	case j.Change.Stage < catalog.StageFinal:
		_ = w.propose(&catalog.Abort{Step: step(j), Reason: "asked for"})
	}
	newest := w.group.now().Config
	if newest.Version <= c.cfg.Version {
		return
	}
	w.note("writer %d is overtaken by config %d", c.at, newest.Version)
	ms := c.cfg.Members()
	messenger := w.node(ms[w.rng.IntN(len(ms))].ID)
	acceptor := w.node(sources[w.rng.IntN(len(sources))])
	if messenger == acceptor {
		return
	}
	w.wallIn(c.at, 3*delayMax, messenger.at, acceptor.at)
	if n := messenger; n.j != nil && !n.fault.Crashed() {
		err := n.install(newest)
		w.note("config %d at n%d: %v", newest.Version, n.at+1, err)
		n.buryIfDead()
	}
	life := c.life
	w.after(3*delayMax, func() {
		if !w.calm && c.life != life {
			all := make([]int, 0, len(w.nodes))
			for _, n := range w.nodes {
				if n != acceptor {
					all = append(all, n.at)
				}
			}
			w.wallIn(c.at, 3*timeout, all...)
		}
	})
}

// strand is the long way of M3: what a writer began to write reached one node, then the world goes on without
// the two, and members change. One who stays, with what it acknowledged long ago, and one who joined and
// heard of nothing since, are those that the writer reaches when it is back.
type strand struct {
	w      *world
	c      *client
	life   int
	stays  *simNode
	joins  *simNode
	began  uint64 // the config's version
	writes int    // recoveries until then
	until  int64
}

const strandMax = 6000 // ticks

func (w *world) strand(c *client) {
	if w.cfg.Harm != HarmStrand || !w.cfg.Changes || w.stranded != nil || c.moves != nil || !w.chance(60) {
		return
	}
	j := w.group.now()
	if len(j.Config.Sets) != 1 || j.Change != nil || c.cfg.Version != j.Config.Version {
		return
	}
	ms := j.Config.Members()
	s := &strand{w: w, c: c, life: c.life, stays: w.node(ms[w.rng.IntN(len(ms))].ID), began: j.Config.Version,
		writes: w.result.Recoveries, until: w.now + strandMax}
	w.stranded = s
	w.note("writer %d is stranded with n%d", c.at, s.stays.at+1)
	w.wallIn(c.at, 5*delayMax, s.stays.at)
	w.after(5*delayMax, func() {
		w.wallIn(c.at, strandMax)
		w.wallIn(s.stays.at, strandMax)
		s.look()
	})
}

// look goes on with what is next.
func (s *strand) look() {
	w := s.w
	j := w.group.now()
	switch {
	case w.calm || s.c.life != s.life || w.now > s.until || j.Config.Version > s.began+2:
		s.end()
		return
	case j.Change == nil && j.Config.Version == s.began && w.result.Recoveries > s.writes:
		w.walls[s.stays.at] = wall{} // another writer is there
		if s.joins == nil {
			s.change(j)
		}
	case s.joins != nil && w.walls[s.joins.at].until < w.now && j.Change != nil && j.Change.Stage == catalog.StageJoint:
		w.wallIn(s.joins.at, s.until-w.now)
	case s.joins != nil && s.stays.j != nil && s.stays.j.Config().Version == s.began+2 && j.Config.Has(s.joins.member.ID, s.joins.incarnation):
		w.note("writer %d is back", s.c.at)
		w.wallIn(s.joins.at, 3*timeout, s.c.at)
		w.wallIn(s.c.at, 3*timeout, s.joins.at, s.stays.at)
		w.stranded = nil
		return
	}
	w.after(delayMax, s.look)
}

// change has the operator ask for a set of the one that stays, one that joins, and the others.
func (s *strand) change(j catalog.Journal) {
	w := s.w
	set := slices.Clone(j.Config.Sets[0])
	var out []*simNode
	for _, n := range w.nodes {
		if !slices.ContainsFunc(set, func(m quorum.Member) bool { return m.ID == n.member.ID }) {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return
	}
	s.joins = out[w.rng.IntN(len(out))]
	for i, m := range set {
		if w.node(m.ID) != s.stays {
			set[i] = w.member(s.joins)
			break
		}
	}
	if !w.bears(set) {
		return
	}
	err := w.propose(&catalog.BeginChange{Target: target(j), To: set})
	w.note("wanted:%s: %v", names(set), err)
}

func (s *strand) end() {
	w := s.w
	w.stranded = nil
	w.walls[s.c.at], w.walls[s.stays.at] = wall{}, wall{}
	if s.joins != nil {
		w.walls[s.joins.at] = wall{}
	}
}
