package simtest

import (
	"errors"
	"maps"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/journalnode/membership"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
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
	told := map[quorum.Key]told{}
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

// told is what one node answered.
type told struct {
	state  rpc.JournalState
	list   []rpc.SegmentInfo
	writer bool
	none   bool
	err    error
}

func (d *driver) ask(m quorum.Member, into map[quorum.Key]told) {
	w, n := d.w, d.w.node(m.ID)
	call(w, d.at, n, "report", func(j *journal.Journal, reply func(told, error)) {
		t := told{state: j.State(), list: j.Segments(), writer: n.heard > 0 && w.now-n.heard <= writerGone}
		if t.state.Incarnation != m.Incarnation {
			reply(t, &rpc.WrongNodeError{Node: m.ID, Got: m.Incarnation, Want: t.state.Incarnation}) // N1
			return
		}
		reply(t, nil)
	}, func(t told, err error) {
		if errors.Is(err, rpc.ErrNoJournal) && n.incarnation == m.Incarnation {
			t.none, err = true, nil
		}
		if t.err = err; err == nil {
			into[m.Key()] = t
		}
	})
}

// view is what journalnode's driver makes of the answers.
func (d *driver) view(from map[quorum.Key]told) membership.View {
	j := d.have
	stage := catalog.Stage(0)
	if j.Change != nil {
		stage = j.Change.Stage
	}
	if d.now != j.Config.Version || d.stage != stage {
		d.now, d.stage, d.since = j.Config.Version, stage, 0
	}
	d.since++
	before, known := endBefore(j, from)
	v := membership.View{Journal: j, Reports: map[quorum.Key]membership.Report{}, Expired: d.since > giveUp}
	for k, t := range from {
		v.Reports[k] = d.report(t, before, known)
	}
	return v
}

// endBefore returns the end of the segment before the change's seal, by the header of a copy of the sealed
// segment.
func endBefore(j catalog.Journal, from map[quorum.Key]told) (segments.End, bool) {
	if j.Change == nil || j.Change.Seal.Segment <= 1 {
		return segments.End{}, j.Change != nil && j.Change.Seal.Segment == 1
	}
	for _, k := range slices.SortedFunc(maps.Keys(from), quorum.Key.Compare) {
		for _, s := range from[k].list {
			if s.First == j.Change.Seal.Segment && s.Epoch >= j.Change.Seal.Epoch && s.Prev.Next() == s.First {
				return s.Prev, true
			}
		}
	}
	return segments.End{}, false
}

func (d *driver) report(t told, before segments.End, known bool) membership.Report {
	empty := known && before.IsZero()
	if t.none {
		return membership.Report{Heard: true, HoldsBefore: empty}
	}
	st, j := t.state, d.have
	r := membership.Report{
		Heard: true, Config: st.Summary.Config, Promised: st.Promised, DataKnown: st.DataKnown, HasData: len(t.list) > 0,
		WriterHeard: t.writer, Err: st.Poisoned, HoldsBefore: empty,
	}
	for _, damage := range st.Damaged {
		if damage.Segment == 0 {
			r.Err = damage.Text // of the whole journal
		}
	}
	if d.moved.Version == j.Config.Version && st.Summary.Config.Version == j.Config.Version {
		st.Seal = d.moved
	}
	if !st.Seal.IsZero() {
		r.Seal = membership.Seal{Version: st.Seal.Version, Seal: catalog.Seal{Epoch: st.Seal.Epoch, Segment: st.Seal.Segment}}
	}
	next := segments.TxID(1)
	for _, s := range t.list {
		if s.First == r.Seal.Segment && s.Epoch >= r.Seal.Epoch {
			r.Before = s.Prev
		}
		if s.First != next || s.State != recovery.Finalized {
			continue
		}
		next = s.Last.TxID + 1
		r.Finalized = s.Last.TxID
		r.HoldsBefore = r.HoldsBefore || known && s.Last == before.Position()
	}
	return r
}

func (d *driver) act(v membership.View) {
	w, j := d.w, d.have
	action := d.next(v)
	w.note("driver %d, config %d, stage %v: %T", d.at, j.Config.Version, d.stage, action)
	switch a := action.(type) {
	case membership.Install:
		for _, m := range a.On {
			w.install(d.at, w.node(m.ID), a.Config, func(error) {})
		}
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
