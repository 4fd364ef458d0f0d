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
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/membership"
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
	lists := map[quorum.Key]membership.Told{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, m := range quorum.NewConfig(1, ms...).Members() {
		wg.Go(func() {
			t := d.ask(ctx, m, j)
			mu.Lock()
			lists[m.Key()] = t
			mu.Unlock()
		})
	}
	wg.Wait()
	before, known := membership.EndBefore(j, lists)
	for key, t := range lists {
		v.Reports[key] = t.Report(j, before, known, d.moved)
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

// ask hears a node. What it holds is asked for only where something is decided by it: a change, or the clean-up after one.
// A node looks at each of its segments to answer that, and the leader asks after every journal once a minute.
func (d *driver) ask(ctx context.Context, m quorum.Member, j catalog.Journal) membership.Told {
	id := j.ID
	holds := j.Change != nil || slices.ContainsFunc(j.Former, func(f catalog.Former) bool { return f.Member.Same(m) })
	t := membership.Told{Member: m}
	ctx, cancel := context.WithTimeout(ctx, d.n.opts.PeerTimeout)
	defer cancel()
	p, err := d.n.member(m)
	if err != nil {
		t.Err = err
		return t
	}
	t.State, t.Err = p.State(ctx, id)
	switch {
	case errors.Is(t.Err, rpc.ErrNoJournal):
		t.None, t.Err = true, nil
		info, err := p.Info(ctx)
		if err == nil && info.Incarnation != m.Incarnation {
			err = &rpc.WrongNodeError{Node: m.ID, Got: m.Incarnation, Want: info.Incarnation}
		}
		t.Err = err
	case t.Err == nil && t.State.Incarnation != m.Incarnation:
		t.Err = &rpc.WrongNodeError{Node: m.ID, Got: m.Incarnation, Want: t.State.Incarnation} // N1
	case t.Err == nil:
		since, gone := t.State.SinceWriter, d.n.opts.WriterGoneAfter
		t.WriterHeard = since > 0 && since <= gone || since == 0 && t.State.Up <= gone
		if !holds {
			break
		}
		if t.List, t.Err = rpc.WholeList(ctx, id, p.Segments); t.Err == nil {
			l, _ := p.Snapshots(ctx, id) // one whose snapshots cannot be read holds none that would count
			t.Held = l.Held
		}
	}
	return t
}
