package libqjm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/quorumloss"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
)

// What an operator does when a majority is lost for good: a plan is made from a survey, looked at, and then
// carried out by its digest. Nothing of this happens by itself.

// carryOutTimeout bounds one step of a plan on one node: the catalog's group is ended and started again.
const carryOutTimeout = 30 * time.Second

var (
	// ErrPlan: the digest is not that of the plan which would be made now, or the plan does not hold on a node.
	ErrPlan = rpc.ErrPlan
	// ErrNoPlan: the survivors of a journal diverge, or cannot be compared; *quorumloss.StoppedError names it. Or a
	// survivor's log of the catalog is not known; *quorumloss.UnreadError names that.
	ErrNoPlan = quorumloss.ErrStopped
	// ErrHasMajority: what is to be reset has its majority, so nothing is lost there.
	ErrHasMajority = quorumloss.ErrHasMajority
	// ErrPlanLost: a journal ended before the plan's end when it was recovered.
	ErrPlanLost = errors.New("libqjm: the journal ended before what the plan keeps")
)

// The plan, and its parts.
type (
	RecoveryPlan = quorumloss.Plan
	JournalPlan  = quorumloss.JournalPlan
	GroupPlan    = quorumloss.GroupPlan
	CopyPlan     = quorumloss.CopyPlan
	PlanStorage  = quorumloss.Storage
	PeersReset   = quorumloss.Reset
)

// RecoverOptions of a plan.
type RecoverOptions struct {
	// Skip names journals that are left as they are.
	Skip []string
	// WithoutLog names nodes that answer, and whose log of the catalog is given up: it cannot be read any more. What
	// that log alone had is lost.
	WithoutLog []string
	// Drop names journals of which nothing is left: the catalog forgets them, and their names are free.
	Drop []string
	// Progress, if not nil, is told each step before it is done.
	Progress func(string)
}

func (o RecoverOptions) say(format string, args ...any) {
	if o.Progress != nil {
		o.Progress(fmt.Sprintf(format, args...))
	}
}

// PlanRecovery makes the plan that the survey asks for. Errors: ErrNoPlan.
func PlanRecovery(s LossSurvey, o RecoverOptions) (*RecoveryPlan, error) {
	return quorumloss.Make(s, quorumloss.Options{Skip: o.Skip, WithoutLog: o.WithoutLog, Drop: o.Drop})
}

// RecoverQuorum surveys again, and carries out the plan of that digest: the one that would be made now, or one
// that was begun and cut off. What it does can lose acknowledged transactions; the plan says which. It returns
// the plan and what is left to do.
//
// Errors: ErrPlan, ErrNoPlan; after any other, the same call goes on where it was cut off.
func (c *Client) RecoverQuorum(ctx context.Context, digest string, o RecoverOptions) (*RecoveryPlan, []string, error) {
	o.say("surveying")
	facts, err := c.Survey(ctx)
	if err != nil {
		return nil, nil, err
	}
	plan, err := recorded(facts, digest)
	if err != nil {
		return nil, nil, err
	}
	if plan == nil && over(facts, digest) {
		return &RecoveryPlan{Digest: digest}, []string{"it was carried out before"}, nil
	}
	if plan == nil {
		if plan, err = PlanRecovery(facts, o); err != nil {
			return nil, nil, err
		}
	}
	if plan.Digest != digest {
		return nil, nil, fmt.Errorf("%w: things have changed since it was made (got %s, want %s)", ErrPlan, digest, plan.Digest)
	}
	notes, err := c.carryOut(ctx, facts, plan, o)
	return plan, notes, err
}

// recorded returns a plan of that digest that was begun.
func recorded(facts LossSurvey, digest string) (*RecoveryPlan, error) {
	for _, n := range facts.Nodes {
		if r := n.Group.Record; n.Err == nil && r.Digest == digest && len(r.Plan) > 0 {
			return quorumloss.Parse(r.Plan)
		}
	}
	return nil, nil
}

// over: every survivor has noted that the plan was carried out.
func over(facts LossSurvey, digest string) bool {
	return slices.ContainsFunc(facts.Nodes, func(n quorumloss.NodeFacts) bool {
		return n.Err == nil && n.Group.Record.Digest == digest && n.Group.Record.Progress == rpc.RecoveryDone
	})
}

// carrier does the steps of one plan.
type carrier struct {
	c     *Client
	plan  *RecoveryPlan
	nodes map[quorum.Key]rpc.Node
	order []quorum.Member
	o     RecoverOptions
	notes []string
}

// carryOut: every survivor has the plan in writing before any of them does anything.
func (c *Client) carryOut(ctx context.Context, facts LossSurvey, plan *RecoveryPlan, o RecoverOptions) ([]string, error) {
	b, err := plan.Encode()
	if err != nil || plan.Empty() {
		return nil, err
	}
	w := &carrier{c: c, plan: plan, nodes: map[quorum.Key]rpc.Node{}, o: o}
	if err := w.reach(facts); err != nil {
		return nil, err
	}
	if err := w.each(ctx, "writing the plan down", rpc.CarryOutRequest{Step: rpc.StepRecord, Plan: b}); err != nil {
		return nil, err
	}
	if err := w.each(ctx, "giving the catalog's group its new members", rpc.CarryOutRequest{Step: rpc.StepGroup}); err != nil {
		return nil, err
	}
	for _, j := range plan.Forced() {
		if err := w.journal(ctx, j); err != nil {
			return w.notes, fmt.Errorf("journal %s: %w", j.Name, err)
		}
	}
	for _, j := range plan.Dropped() {
		if err := w.drop(ctx, j); err != nil {
			return w.notes, fmt.Errorf("journal %s: %w", j.Name, err)
		}
	}
	if plan.Kind == quorumloss.RecoverQuorum && plan.Group != nil {
		o.say("taking the lost nodes out of the catalog")
		if err := w.through(ctx, rpc.CarryOutRequest{Step: rpc.StepRemove}); err != nil {
			return w.notes, err
		}
	}
	return w.notes, w.each(ctx, "noting that it is done", rpc.CarryOutRequest{Step: rpc.StepDone})
}

// reach connects to every survivor of the plan; it needs all of them.
func (w *carrier) reach(facts LossSurvey) error {
	for _, s := range w.plan.Survivors {
		m, err := s.Member()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(facts.Nodes, func(n quorumloss.NodeFacts) bool { return n.Member.Same(m) && n.Err == nil })
		if i < 0 {
			return fmt.Errorf("%w: survivor %s does not answer", ErrUnavailable, m.ID)
		}
		node, err := w.c.conn(facts.Nodes[i].Member.Addr)
		if err != nil {
			return err
		}
		w.nodes[m.Key()] = node
		w.order = append(w.order, m)
	}
	return nil
}

func (w *carrier) do(ctx context.Context, m quorum.Member, req rpc.CarryOutRequest) error {
	ctx, cancel := context.WithTimeout(ctx, carryOutTimeout)
	defer cancel()
	req.Digest = w.plan.Digest
	note, err := w.nodes[m.Key()].CarryOut(ctx, req)
	if note != "" && !slices.Contains(w.notes, note) {
		w.notes = append(w.notes, note)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", m.ID, err)
	}
	return nil
}

// each does a step on every survivor, one after the other.
func (w *carrier) each(ctx context.Context, what string, req rpc.CarryOutRequest) error {
	for _, m := range w.order {
		w.o.say("%s: %s", what, m.ID)
		if err := w.do(ctx, m, req); err != nil {
			return err
		}
	}
	return nil
}

// through does a step that the leader has to do, through any survivor, until there is a leader.
func (w *carrier) through(ctx context.Context, req rpc.CarryOutRequest) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		var last error
		for _, m := range w.order {
			if last = w.do(ctx, m, req); last == nil || !passing(last) && !errors.Is(last, ErrNoQuorum) {
				return last
			}
		}
		if err := pauseFor(ctx, wait); err != nil {
			return fmt.Errorf("%w: %w", err, last)
		}
	}
}

// journal gives one journal its new config, has floors lowered, and recovers it with all its members heard.
func (w *carrier) journal(ctx context.Context, j JournalPlan) error {
	id, err := j.JournalID()
	if err != nil {
		return err
	}
	cfg, err := j.NewConfig()
	if err != nil {
		return err
	}
	var names []string
	for _, m := range j.Members {
		names = append(names, m.Node)
	}
	w.o.say("journal %s: config %d, members %s", j.Name, j.NewVersion, strings.Join(names, ", "))
	if err := w.through(ctx, rpc.CarryOutRequest{Step: rpc.StepJournal, Journal: id}); err != nil || w.plan.Kind != quorumloss.RecoverQuorum {
		return err
	}
	for _, f := range j.Floors {
		m, err := f.Member()
		if err != nil {
			return err
		}
		w.o.say("journal %s: %s forgets that txid %d was committed", j.Name, m.ID, f.TxID)
		if err := w.do(ctx, m, rpc.CarryOutRequest{Step: rpc.StepFloor, Journal: id}); err != nil {
			return err
		}
	}
	w.o.say("journal %s: recovering its newest segment", j.Name)
	ref := journalRef{id: id, name: j.Name, cfg: cfg}
	res, err := w.c.win(ctx, &ref, recovery.Options{MinEpoch: fencing.Epoch(j.MinEpoch), HearAll: true})
	switch {
	case errors.Is(err, recovery.ErrSuperseded), errors.Is(err, ErrFenced), errors.Is(err, ErrLostRace):
		w.notes = append(w.notes, fmt.Sprintf("journal %s: a writer was faster and recovered it itself", j.Name))
		return nil
	case err != nil:
		return err
	case uint64(res.Prev.Last) < j.Last:
		return fmt.Errorf("%w (got txid %d, want %d)", ErrPlanLost, res.Prev.Last, j.Last)
	}
	return nil
}

// drop has the catalog forget a journal.
func (w *carrier) drop(ctx context.Context, j JournalPlan) error {
	id, err := j.JournalID()
	if err != nil {
		return err
	}
	w.o.say("journal %s: nothing is left of it, and it leaves the catalog", j.Name)
	return w.through(ctx, rpc.CarryOutRequest{Step: rpc.StepJournal, Journal: id})
}

// PlanReset is the plan to overwrite the members of one group on one node alone: the catalog's, or a journal's. Every
// other node keeps what it has; a config that is installed anywhere outranks the catalog's (M9). Errors:
// ErrHasMajority, ErrNoPlan.
func PlanReset(s LossSurvey, r PeersReset) (*RecoveryPlan, error) { return quorumloss.MakeReset(s, r) }

// ResetPeers surveys again, and carries out a plan of PlanReset. Errors: ErrPlan, ErrHasMajority, ErrNoPlan.
func (c *Client) ResetPeers(ctx context.Context, r PeersReset, digest string, o RecoverOptions) (*RecoveryPlan, error) {
	facts, err := c.Survey(ctx)
	if err != nil {
		return nil, err
	}
	plan, err := recorded(facts, digest)
	if err == nil && plan == nil {
		plan, err = PlanReset(facts, r)
	}
	if err != nil {
		return nil, err
	}
	if plan.Digest != digest {
		return nil, fmt.Errorf("%w: things have changed since it was made (got %s, want %s)", ErrPlan, digest, plan.Digest)
	}
	_, err = c.carryOut(ctx, facts, plan, o)
	return plan, err
}
