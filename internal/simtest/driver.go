package simtest

import (
	"errors"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/journalnode/membership"
)

// driver carries membership changes on, as journalnode's does: it reads the catalog, asks the nodes, does the
// one thing that membership.Next names, and begins again. It crashes now and then, and whoever comes next
// goes on. Two are at it at a time, as no leader knows how long it is one.
type driver struct {
	w     *world
	at    int
	life  int
	have  catalog.Journal // what it read of the catalog, a while ago perhaps
	mover *client
	moved rpc.Seal // what its mover sealed
	stage catalog.Stage
	since int // rounds at this stage of this config
	now   uint64
}

const (
	drivers    = 2
	giveUp     = 60  // rounds without progress
	writerGone = 300 // ticks
	learnFor   = 600 // ticks, without being told again
)

func (d *driver) round(life int) {
	w := d.w
	if d.life != life || w.over() || w.rested {
		return
	}
	if w.chance(6) {
		d.crash()
		return
	}
	if d.have.Config.IsZero() || !w.chance(25) {
		d.have = w.group.now()
	}
	if d.at == w.firstDriver() {
		w.operate(d.since > giveUp)
	}
	told := map[quorum.Key]membership.Told{}
	for _, m := range everybody(d.have) {
		d.ask(m, told)
	}
	w.after(2*delayMax+w.rng.Int64N(delayMax), func() {
		if d.life != life || w.over() {
			return
		}
		d.act(d.view(told))
		w.after(1+w.rng.Int64N(30), func() { d.round(life) })
	})
}

// everybody who has, had or will have to do with the journal.
func everybody(j catalog.Journal) []quorum.Member {
	ms := j.Config.Members()
	for _, f := range j.Former {
		ms = append(ms, f.Member)
	}
	if j.Change != nil {
		ms = slices.Concat(ms, j.Change.Old, j.Change.New)
	}
	return quorum.NewConfig(1, ms...).Members()
}

func (d *driver) ask(m quorum.Member, into map[quorum.Key]membership.Told) {
	w, n := d.w, d.w.node(m.ID)
	call(w, d.at, n, "report", func(j *journal.Journal, reply func(membership.Told, error)) {
		t := membership.Told{Member: m, State: j.State(), List: j.SegmentsAfter(0, 0), Held: n.held(j),
			WriterHeard: n.heard > 0 && w.now-n.heard <= writerGone}
		if t.State.Incarnation != m.Incarnation {
			reply(t, &rpc.WrongNodeError{Node: m.ID, Got: m.Incarnation, Want: t.State.Incarnation}) // N1
			return
		}
		reply(t, nil)
	}, func(t membership.Told, err error) {
		if errors.Is(err, rpc.ErrNoJournal) && n.incarnation == m.Incarnation {
			t.Member, t.None, err = m, true, nil
		}
		if err == nil {
			into[m.Key()] = t
		}
	})
}

// view is what journalnode's driver makes of the answers.
func (d *driver) view(from map[quorum.Key]membership.Told) membership.View {
	j := d.have
	stage := catalog.Stage(0)
	if j.Change != nil {
		stage = j.Change.Stage
	}
	if d.now != j.Config.Version || d.stage != stage {
		d.now, d.stage, d.since = j.Config.Version, stage, 0
	}
	d.since++
	before, known := membership.EndBefore(j, from)
	v := membership.View{Journal: j, Reports: map[quorum.Key]membership.Report{}, Expired: d.since > giveUp}
	for k, t := range from {
		v.Reports[k] = t.Report(j, before, known, d.moved)
	}
	return v
}

func (d *driver) act(v membership.View) {
	w, j := d.w, d.have
	action := d.next(v)
	w.note("driver %d, config %d, stage %v: %T", d.at, j.Config.Version, d.stage, action)
	switch a := action.(type) {
	case membership.Wait:
		d.give(a.Learners, j.Config, true)
	case membership.Install:
		d.give(a.On, a.Config, j.Change != nil && j.Change.Stage == catalog.StageLearning)
	case membership.CleanUp:
		for _, m := range a.On {
			d.cleanUp(w.node(m.ID))
		}
	case membership.Bump:
		for _, m := range a.On {
			h := rpc.Header{Journal: w.journal, ConfigVersion: j.Config.Version, Incarnation: m.Incarnation, Claim: a.Claim}
			call(w, d.at, w.node(m.ID), "bump", func(j *journal.Journal, reply func(rpc.PromiseReply, error)) { reply(j.NewEpoch(h)) },
				func(rpc.PromiseReply, error) {})
		}
	case membership.Move:
		d.sendMover(a)
	case membership.Propose:
		d.propose(a.Command)
	case membership.Stop:
		w.fail(a.Err)
	case membership.Nothing:
		if now := w.group.now(); w.calm && now.Change == nil && now.Config.Version == j.Config.Version {
			w.settleMembers()
		}
	}
}

// give has nodes install a config. Learners are told that they are to copy (M6).
func (d *driver) give(to []quorum.Member, cfg quorum.Config, learn bool) {
	for _, m := range to {
		n := d.w.node(m.ID)
		d.w.install(d.at, n, cfg, func(err error) {
			if err == nil && learn {
				n.learnUntil = d.w.now + learnFor
			}
		})
	}
}

func (d *driver) propose(cmd catalog.Command) {
	w := d.w
	err := w.propose(cmd)
	now := w.group.now()
	w.note("catalog: %T by driver %d: %v; config %d, %d sets", cmd, d.at, err, now.Config.Version, len(now.Config.Sets))
	if err != nil {
		return
	}
	switch cmd.(type) {
	case *catalog.Joint:
		w.result.Joints++
	case *catalog.Final:
		w.result.Finals++
		if slices.ContainsFunc(d.have.Change.New, func(m quorum.Member) bool {
			n := w.node(m.ID)
			return n.j != nil && n.j.Purged().TxID > 0
		}) {
			w.result.PurgedFinals++
		}
	case *catalog.Abort:
		w.result.Aborts++
	}
}

// cleanUp has a node drop its data: it has left (M8).
func (d *driver) cleanUp(n *simNode) {
	w := d.w
	if w.cfg.Broken == RuleM8 {
		w.send(d.at, n.at, func() {
			if n.j != nil && !n.j.State().Member {
				n.forget()
			}
		})
		return
	}
	call(w, d.at, n, "leave", func(j *journal.Journal, reply func(struct{}, error)) { reply(struct{}{}, j.Leave()) },
		func(struct{}, error) {})
}

// sendMover opens the journal as any writer would, under the catalog's config, and starts a segment.
func (d *driver) sendMover(a membership.Move) {
	if d.mover != nil && !d.mover.over && d.mover.cfg.Version == d.have.Config.Version {
		return // it is at it
	}
	if d.w.rng.IntN(5) != 0 {
		return // not at once: another driver may be at it, and a writer may come
	}
	d.dismiss()
	d.w.result.Movers++
	d.mover = &client{w: d.w, at: d.at, cfg: d.have.Config, least: a.MinEpoch, moves: d}
	d.mover.begin()
}

// sealed: the mover is done.
func (d *driver) sealed(s rpc.Seal) { d.moved = s }

func (d *driver) dismiss() {
	if d.mover != nil {
		d.mover.die()
		d.mover.over = true
	}
	d.mover = nil
}

func (d *driver) crash() {
	d.w.note("driver %d dies", d.at)
	d.dismiss()
	d.life++
	d.have, d.moved, d.since = catalog.Journal{}, rpc.Seal{}, 0
	life := d.life
	d.w.after(20+d.w.rng.Int64N(200), func() { d.round(life) })
}
