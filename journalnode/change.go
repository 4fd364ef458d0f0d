package journalnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/snapshot"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/membership"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// decider is what a driver needs of the catalog's leader.
type decider interface {
	// Barrier returns when this node is known to lead still, and has applied all that was decided (M9).
	Barrier(ctx context.Context) error
	// Journal returns what the catalog knows of the journal now.
	Journal(id segments.JournalID) (catalog.Journal, bool)
	// Propose has a command decided.
	Propose(ctx context.Context, cmd catalog.Command) (catalog.Result, error)
}

// driver carries on the changes of one journal's members, one round at a time, on the leader: it asks the
// nodes, has membership.Next decide, and does that. It remembers nothing that the next leader would miss,
// except for how long the change has been where it is.
type driver struct {
	n   *Node
	ctl decider
	id  segments.JournalID
	log *slog.Logger

	stage  string // what the change was at in the last round
	since  time.Time
	note   string
	warned string
	moved  rpc.Seal  // what this driver sealed itself: nodes may have forgotten it
	taught time.Time // when the learners were last asked to go on copying
	looked time.Time // when the last view was complete
	asking asking    // the live writer (M6)
}

func (n *Node) newDriver(ctl decider, id segments.JournalID) *driver {
	return &driver{n: n, ctl: ctl, id: id, log: n.log.With("journal", id)}
}

// round does the one next thing. It reports whether there may be more to do at once.
func (d *driver) round(ctx context.Context) (more bool, err error) {
	if err := d.ctl.Barrier(ctx); err != nil {
		return false, err
	}
	j, ok := d.ctl.Journal(d.id)
	if !ok || j.Reclaimed {
		return false, nil
	}
	v := d.view(ctx, j)
	action := membership.Next(v, membership.Options{MarginTxns: d.n.opts.LearnerMarginTxns})
	return d.do(ctx, j, v, action)
}

func (d *driver) do(ctx context.Context, j catalog.Journal, v membership.View, action membership.Action) (bool, error) {
	s := rpc.JournalSummary{ID: j.ID, Name: j.Name, Config: j.Config}
	if text, ok := action.(fmt.Stringer); ok {
		d.log.Debug("membership", "stage", d.stage, "action", text)
	}
	switch a := action.(type) {
	case membership.Nothing:
		return false, nil
	case membership.Wait:
		return false, errors.Join(d.teach(ctx, a.Learners, s), d.setNote(ctx, j, a.Why))
	case membership.Install:
		s.Config, s.Learner = a.Config, j.Change != nil && j.Change.Stage == catalog.StageLearning
		return true, d.each(ctx, a.On, func(ctx context.Context, _ quorum.Member, p rpc.Node) error { return p.InstallConfig(ctx, s) })
	case membership.CleanUp:
		return true, d.each(ctx, a.On, func(ctx context.Context, _ quorum.Member, p rpc.Node) error { return p.LeaveJournal(ctx, s) })
	case membership.Bump:
		return true, d.bump(ctx, s, a)
	case membership.Move:
		if again, err := d.stillSo(ctx, j); again || err != nil {
			return again, err
		}
		d.log.Warn("the leader opens the journal as a writer would; whoever writes is fenced", "why", a.Why)
		seal, err := d.n.move(ctx, s, a.MinEpoch)
		if err == nil {
			d.moved = seal
		}
		return err == nil, err
	case membership.Propose:
		_, err := d.ctl.Propose(ctx, a.Command)
		if err == nil {
			d.log.Info("membership change goes on", "command", fmt.Sprintf("%T", a.Command), "version", j.Config.Version)
		}
		return err == nil, err
	case membership.Stop:
		d.log.Error("membership change stopped", "err", a.Err)
		return false, a.Err
	}
	return false, fmt.Errorf("journalnode: unknown action %T", action)
}

// viewFresh is how old a view may be when the leader acts as a writer on it: what was heard of one is old soon.
const viewFresh = time.Second

// stillSo is what comes right before a move, which fences whoever writes: a leader that was stopped for a while
// since it looked may lead no more, or a writer may have come. It reports whether to look again.
func (d *driver) stillSo(ctx context.Context, j catalog.Journal) (again bool, err error) {
	if err := d.ctl.Barrier(ctx); err != nil {
		return false, err
	}
	now, ok := d.ctl.Journal(d.id)
	same := ok && now.Config.Version == j.Config.Version && (now.Change == nil) == (j.Change == nil) &&
		(j.Change == nil || now.Change.StartedIndex == j.Change.StartedIndex && now.Change.Stage == j.Change.Stage)
	return !same || time.Since(d.looked) > viewFresh, nil
}

// warn says why a round failed: the same reason once.
func (d *driver) warn(err error) {
	if why := err.Error(); why != d.warned {
		d.warned = why
		d.log.Warn("a journal's members cannot be seen to now; tried again soon", "stage", d.stage, "err", err)
	}
}

// teachEvery is how often learners are asked again: a node copies a journal that it is no member of for
// rpc.LearnFor only, and forgets that it does when it restarts.
const teachEvery = 5 * time.Second

// teach keeps the learners copying while the change waits for them. One that was a member before has the config
// already, so that nothing else would tell it (M6, M8).
func (d *driver) teach(ctx context.Context, learners []quorum.Member, s rpc.JournalSummary) error {
	if len(learners) == 0 || time.Since(d.taught) < teachEvery {
		return nil
	}
	d.taught = time.Now()
	s.Learner = true
	return d.each(ctx, learners, func(ctx context.Context, _ quorum.Member, p rpc.Node) error { return p.InstallConfig(ctx, s) })
}

func (d *driver) setNote(ctx context.Context, j catalog.Journal, why string) error {
	why = catalog.FitText(why)
	if j.Change == nil || j.Change.Note == why || d.note == why {
		return nil
	}
	d.note = why
	_, err := d.ctl.Propose(ctx, &catalog.SetNote{
		Step: catalog.Step{Target: catalog.Target{Journal: j.ID, ExpectVersion: j.Config.Version}, Change: j.Change.StartedIndex},
		Note: why,
	})
	return err
}

// each asks several nodes at the same time. One that fails is asked again in the next round.
func (d *driver) each(ctx context.Context, on []quorum.Member, f func(context.Context, quorum.Member, rpc.Node) error) error {
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for _, m := range on {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, d.n.opts.PeerTimeout)
			defer cancel()
			p, err := d.n.member(m)
			if err == nil {
				err = f(ctx, m, p)
			}
			if err != nil {
				mu.Lock()
				errs = append(errs, fmt.Errorf("%s: %w", m.ID, err))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (d *driver) bump(ctx context.Context, s rpc.JournalSummary, b membership.Bump) error {
	return d.each(ctx, b.On, func(ctx context.Context, m quorum.Member, p rpc.Node) error {
		_, err := p.NewEpoch(ctx, rpc.Header{Journal: s.ID, ConfigVersion: s.Config.Version, Incarnation: m.Incarnation, Claim: b.Claim})
		return err
	})
}

// view asks everybody who has, had or will have to do with the journal.
func (d *driver) view(ctx context.Context, j catalog.Journal) membership.View {
	stage := fmt.Sprintf("config %d", j.Config.Version)
	if j.Change != nil {
		stage = fmt.Sprintf("%s of change %d, config %d", j.Change.Stage, j.Change.StartedIndex, j.Config.Version)
	}
	if stage != d.stage {
		d.stage, d.since, d.note = stage, time.Now(), ""
	}
	v := membership.View{Journal: j, Reports: map[quorum.Key]membership.Report{}}
	v.Expired = time.Since(d.since) > d.n.opts.ChangePatience
	ms := append(j.Config.Members(), formerMembers(j)...)
	if j.Change != nil {
		ms = append(append(ms, j.Change.Old...), j.Change.New...)
	}
	lists := map[quorum.Key]told{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, m := range quorum.NewConfig(1, ms...).Members() {
		wg.Go(func() {
			t := d.ask(ctx, m, j.ID)
			mu.Lock()
			lists[m.Key()] = t
			mu.Unlock()
		})
	}
	wg.Wait()
	before, known := endBefore(j, lists)
	for key, t := range lists {
		v.Reports[key] = t.report(j, before, known, d.n.opts.WriterGoneAfter, d.moved)
	}
	d.askWriter(ctx, &v)
	d.looked = time.Now()
	return v
}

func formerMembers(j catalog.Journal) []quorum.Member {
	var ms []quorum.Member
	for _, f := range j.Former {
		ms = append(ms, f.Member)
	}
	return ms
}

// told is what one node answered.
type told struct {
	member quorum.Member
	state  rpc.JournalState
	list   rpc.SegmentsPage // all pages
	held   []rpc.HeldSnapshot
	none   bool // it does not have the journal
	err    error
}

func (d *driver) ask(ctx context.Context, m quorum.Member, id segments.JournalID) told {
	t := told{member: m}
	ctx, cancel := context.WithTimeout(ctx, d.n.opts.PeerTimeout)
	defer cancel()
	p, err := d.n.member(m)
	if err != nil {
		t.err = err
		return t
	}
	t.state, t.err = p.State(ctx, id)
	switch {
	case errors.Is(t.err, rpc.ErrNoJournal):
		t.none, t.err = true, nil
		info, err := p.Info(ctx)
		if err == nil && info.Incarnation != m.Incarnation {
			err = &rpc.WrongNodeError{Node: m.ID, Got: m.Incarnation, Want: info.Incarnation}
		}
		t.err = err
	case t.err == nil && t.state.Incarnation != m.Incarnation:
		t.err = &rpc.WrongNodeError{Node: m.ID, Got: m.Incarnation, Want: t.state.Incarnation} // N1
	case t.err == nil:
		if t.list, t.err = rpc.WholeList(ctx, id, p.Segments); t.err == nil {
			l, _ := p.Snapshots(ctx, id) // one whose snapshots cannot be read holds none that would count
			t.held = l.Held
		}
	}
	return t
}

// endBefore returns the end of the segment before the change's seal, by the header of a copy of the sealed
// segment: one of the seal's epoch, or of a later one, which started it again where it was empty (R6).
func endBefore(j catalog.Journal, lists map[quorum.Key]told) (segments.End, bool) {
	if j.Change == nil || j.Change.Seal.Segment == 0 {
		return segments.End{}, false
	}
	if j.Change.Seal.Segment == 1 {
		return segments.End{}, true
	}
	for _, t := range lists {
		for _, s := range t.list.Segments {
			if s.First == j.Change.Seal.Segment && s.Epoch >= j.Change.Seal.Epoch && s.Prev.Next() == s.First {
				return s.Prev, true
			}
		}
	}
	return segments.End{}, false
}

func (t told) report(j catalog.Journal, before segments.End, known bool, gone time.Duration, moved rpc.Seal) membership.Report {
	if t.err != nil {
		return membership.Report{Err: t.err.Error()}
	}
	if t.none {
		return membership.Report{Heard: true, HoldsBefore: known && before.IsZero()}
	}
	st := t.state
	r := membership.Report{
		Heard: true, Config: st.Summary.Config, Promised: st.Promised, DataKnown: st.DataKnown, HasData: len(t.list.Segments)+len(t.held) > 0,
		WriterHeard: st.SinceWriter > 0 && st.SinceWriter <= gone || st.SinceWriter == 0 && st.Up <= gone,
	}
	if st.Poisoned != "" {
		r.Err = "it takes no writes: " + st.Poisoned
	}
	for _, damage := range st.Damaged {
		if damage.Segment == 0 { // of the whole journal: it takes no config either (N2)
			r.Err = "it cannot take part: " + damage.Text
		}
	}
	if moved.Version == j.Config.Version && st.Summary.Config.Version == j.Config.Version {
		st.Seal = moved
	}
	if !st.Seal.IsZero() {
		r.Seal = membership.Seal{Version: st.Seal.Version, Seal: catalog.Seal{Epoch: st.Seal.Epoch, Segment: st.Seal.Segment}}
	}
	if outByForce(j, t.member) {
		r.HasData = false // nobody cleans up what may be all that is left of something
	}
	for _, s := range t.list.Segments {
		if s.First == r.Seal.Segment && s.Epoch >= r.Seal.Epoch {
			r.Before = s.Prev
		}
	}
	last, ended := t.finalized(before)
	r.Finalized = last
	r.HoldsBefore = known && (ended || before.IsZero())
	if purged := t.list.Purged; purged.TxID > 0 {
		// What the purge point covers is in the snapshot. A purge point with nothing behind it does not count: a
		// majority of such nodes could not tell what to go on from (C5).
		beyond := j.Change != nil && j.Change.Seal.Segment > 0 && purged.TxID >= j.Change.Seal.Segment
		covers := last > purged.TxID && (beyond || known && purged == before.Position())
		r.HoldsBefore = (r.HoldsBefore || covers) && t.holdsListed(j.Snapshots)
	}
	return r
}

// outByForce: the member left because a lost majority was given up. What it holds is nobody's to remove: it is
// copied when it becomes a member again, or an operator looks at it.
func outByForce(j catalog.Journal, m quorum.Member) bool {
	i := slices.IndexFunc(j.Former, func(f catalog.Former) bool { return f.Member.Same(m) })
	return i >= 0 && slices.ContainsFunc(j.History, func(h catalog.HistoryEntry) bool {
		return h.Kind == catalog.Forced && h.Version == j.Former[i].Version
	})
}

// finalized returns the end of the finalized segments that are there without a hole, from the purge point on,
// and whether one of them has that end (M4). A segment may begin below the purge point: a snapshot was
// installed in the middle of it (C3).
func (t told) finalized(before segments.End) (last segments.TxID, ended bool) {
	last = t.list.Purged.TxID
	for _, s := range t.list.Segments {
		if s.State != recovery.Finalized || s.First > last+1 || s.Last.TxID <= last {
			continue
		}
		last = s.Last.TxID
		ended = ended || s.Last == before.Position()
	}
	return last, ended
}

// holdsListed: the newest listed snapshot is there, verified by that node.
func (t told) holdsListed(listed []catalog.Snapshot) bool {
	if len(listed) == 0 {
		return false
	}
	l := listed[0] // newest first
	want := snapshot.Snapshot{TxID: l.TxID, At: l.FrameLast, Size: int64(l.Size), Checksum: l.Checksum, Epoch: l.Epoch}
	return slices.ContainsFunc(t.held, func(h rpc.HeldSnapshot) bool {
		return h.Snapshot == want && h.Verified && h.Problem == ""
	})
}
