package journalnode

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/quorumloss"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/journalnode/raftgroup"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// What a node does when a majority was lost for good. It does nothing of that by itself: each step comes from
// an operator who was shown a plan, and names it by its digest. The plan is written down first, on every
// survivor, so that whoever goes on after a crash goes on with the same one. Each step may be repeated.

// forceTimeout bounds how long the catalog's group may take to end.
const forceTimeout = 30 * time.Second

// unsafe is the node's part in recoveries.
type unsafe struct {
	turn sync.Mutex // one step at a time; taken before mu

	mu    sync.Mutex
	state recoveryState // guarded by mu
}

func (n *Node) recovery() recoveryState {
	n.unsafe.mu.Lock()
	defer n.unsafe.mu.Unlock()
	return n.unsafe.state
}

// keepRecovery makes it durable, then visible. The caller holds turn.
func (n *Node) keepRecovery(next recoveryState) error {
	if err := next.save(n.fs, n.opts.DataDir); err != nil {
		return err
	}
	n.unsafe.mu.Lock()
	n.unsafe.state = next
	n.unsafe.mu.Unlock()
	return nil
}

// errStarting: a node answers before its group runs.
var errStarting = errors.New("its part in the catalog is being started")

// SurveyGroup implements rpc.Service. It answers whoever asks, a node that is no part of anything any more too.
func (n *Node) SurveyGroup(context.Context) (rpc.GroupState, error) {
	id, rec := n.identity(), n.recovery()
	out := rpc.GroupState{
		Cluster: id.Cluster, Node: quorum.Key{ID: id.ID, Incarnation: id.Incarnation},
		Record: rpc.RecoveryRecord{Generation: rec.Generation, Digest: rec.Digest, Progress: rec.Progress},
	}
	if rec.Progress != rpc.RecoveryDone { // nobody needs it any more then
		out.Record.Plan = rec.Plan
	}
	for _, s := range rec.GivenUp {
		if m, err := s.Member(); err == nil {
			out.Record.GivenUp = append(out.Record.GivenUp, m)
		}
	}
	g, err := n.control.member()
	admitted := n.admitted()
	switch {
	case err == nil:
		err = admitted
	case admitted == nil && errors.Is(err, rpc.ErrNotFounded):
		err = errStarting
	}
	if err != nil {
		out.Down = err.Error()
		return out, nil
	}
	members, index, term := g.Standing()
	out.LastIndex, out.LastTerm, out.CommitIndex = index, term, g.Stats().Commit
	for _, s := range members {
		if m, err := memberOf(s.ID); err == nil {
			out.Servers = append(out.Servers, rpc.GroupServer{Key: m.Key(), Voter: s.Voter})
		}
	}
	leader, _ := g.Leader()
	if m, err := memberOf(leader); err == nil {
		out.Leader = m.ID
	}
	return out, nil
}

// InspectCopy implements rpc.Service.
func (n *Node) InspectCopy(ctx context.Context, req rpc.InspectRequest) (recovery.Answer, error) {
	o, err := n.owner(req.Journal)
	if err != nil {
		return recovery.Answer{}, err
	}
	return ask(ctx, o, func(j *journal.Journal) (recovery.Answer, error) { return j.Answer(req.Segment, req.Digests) })
}

// CarryOut implements rpc.Service.
func (n *Node) CarryOut(ctx context.Context, req rpc.CarryOutRequest) (string, error) {
	if err := n.admitted(); err != nil {
		return "", err
	}
	if req.Step == rpc.StepRecord {
		return "", n.recordPlan(req)
	}
	rec := n.recovery()
	if rec.Digest != req.Digest {
		return "", fmt.Errorf("%w: another one is recorded here (got %q, have %q)", rpc.ErrPlan, req.Digest, rec.Digest)
	}
	plan, err := rec.plan()
	if err != nil {
		return "", err
	}
	switch req.Step {
	case rpc.StepGroup:
		return "", n.forceGroup(plan)
	case rpc.StepJournal:
		return n.forceJournal(ctx, plan, req.Journal)
	case rpc.StepFloor:
		return "", n.lowerFloors(ctx, plan, req.Journal)
	case rpc.StepRemove:
		return n.removeLost(ctx, plan)
	case rpc.StepDone:
		n.unsafe.turn.Lock()
		defer n.unsafe.turn.Unlock()
		next := n.recovery()
		next.Progress = rpc.RecoveryDone
		return "", n.keepRecovery(next)
	}
	return "", fmt.Errorf("%w: step %d", rpc.ErrBadRequest, req.Step)
}

// recordPlan writes the plan down. A later one replaces it; two of one generation are two operators at work.
func (n *Node) recordPlan(req rpc.CarryOutRequest) error {
	plan, err := quorumloss.Parse(req.Plan)
	if err != nil {
		return err
	}
	id := n.identity()
	switch self := (quorum.Key{ID: id.ID, Incarnation: id.Incarnation}); {
	case plan.Kind == quorumloss.ResetOffline:
		return fmt.Errorf("%w: a plan for a node that does not run", rpc.ErrBadRequest)
	case plan.Digest != req.Digest:
		return fmt.Errorf("%w: digest (got %s, want %s)", rpc.ErrBadRequest, req.Digest, plan.Digest)
	case plan.Cluster != fmt.Sprintf("%x", id.Cluster):
		return fmt.Errorf("%w: it is of another cluster (got %s, want %x)", rpc.ErrPlan, plan.Cluster, id.Cluster)
	case !plan.Survives(self):
		return fmt.Errorf("%w: %s is not among its survivors", rpc.ErrPlan, self)
	}
	n.unsafe.turn.Lock()
	defer n.unsafe.turn.Unlock()
	next := n.recovery()
	switch {
	case next.Digest == plan.Digest:
		return nil
	case next.Progress == rpc.RecoveryForcing:
		return fmt.Errorf("%w: another one was begun here and did not come to its end; restart the node, which goes on with it", rpc.ErrPlan)
	case plan.Generation <= next.Generation:
		return fmt.Errorf("%w: one that is as new is recorded here (generation %d, digest %s)", rpc.ErrPlan, next.Generation, next.Digest)
	}
	next.Generation, next.Digest, next.Plan, next.Progress = plan.Generation, plan.Digest, req.Plan, rpc.RecoveryRecorded
	if err := n.keepRecovery(next); err != nil {
		return err
	}
	n.log.Error("an operator gives up a lost majority: the plan is recorded", "kind", plan.Kind, "digest", plan.Digest, "generation", plan.Generation)
	return nil
}

// forceGroup gives the catalog's group the plan's members, on this node. The group is down meanwhile. That it has
// begun is written down first: after a crash in between the node finishes it when it starts.
func (n *Node) forceGroup(plan *quorumloss.Plan) error {
	n.unsafe.turn.Lock()
	defer n.unsafe.turn.Unlock()
	next := n.recovery()
	switch next.Progress {
	case rpc.RecoveryRecorded:
	case rpc.RecoveryForcing:
		return fmt.Errorf("%w: this was begun here and did not come to its end; restart the node, which goes on with it", rpc.ErrCatalogDown)
	default:
		return nil
	}
	voters, err := newVoters(plan, n.identity())
	if err != nil {
		return err
	}
	if len(voters) == 0 { // the group is left alone, or this node copies, and the leader takes it in again
		next.Progress = rpc.RecoveryForced
		return n.keepRecovery(next)
	}
	if err := n.endGroup(voters, plan); err != nil {
		return err
	}
	next.Progress = rpc.RecoveryForcing
	if err := n.keepRecovery(next); err != nil {
		return errors.Join(err, n.runGroupAgain())
	}
	if err := n.finishForce(); err != nil {
		n.controlDown(err)
		return fmt.Errorf("%w: %w; restart the node, which goes on with it", rpc.ErrCatalogDown, err)
	}
	return n.runGroupAgain()
}

// finishForce does what was begun. The group does not run. The caller holds turn.
func (n *Node) finishForce() error {
	next := n.recovery()
	opts := n.groupOptions(n.identity())
	opts.Machine = newMachine(n.log, func() {}, func(uint64, []catalog.Kept) {})
	if err := next.force(opts, n.identity()); err != nil {
		return err
	}
	if err := n.keepRecovery(next); err != nil {
		return err
	}
	n.log.Error("the catalog's group has been given new members by an operator", "digest", next.Digest)
	return nil
}

// resumeForce finishes what a crash cut off, before the group runs.
func (n *Node) resumeForce() error {
	n.unsafe.turn.Lock()
	defer n.unsafe.turn.Unlock()
	if n.recovery().Progress != rpc.RecoveryForcing {
		return nil
	}
	if err := n.finishForce(); err != nil {
		return fmt.Errorf("journalnode: replacing the catalog group's members, which was cut off: %w", err)
	}
	return nil
}

// newVoters are the group's servers from now on; none where this storage is not one of them.
func newVoters(plan *quorumloss.Plan, id identity) ([]raftgroup.ServerID, error) {
	if plan.Group == nil {
		return nil, nil
	}
	ms, err := plan.Group.Members()
	if err != nil || !slices.ContainsFunc(ms, quorum.Member{ID: id.ID, Incarnation: id.Incarnation}.Same) {
		return nil, err
	}
	var voters []raftgroup.ServerID
	for _, m := range ms {
		voters = append(voters, serverID(m.ID, m.Incarnation))
	}
	return voters, nil
}

// force replaces the members in the store, and notes that. Who was given up is refused as soon as the group runs
// again: it is down until this is saved. Again, it does the same.
func (s *recoveryState) force(opts raftgroup.Options, id identity) error {
	plan, err := s.plan()
	if err != nil {
		return err
	}
	voters, err := newVoters(plan, id)
	if err != nil {
		return err
	}
	if err := s.giveUp(plan.Group.GiveUp); err != nil {
		return err
	}
	if err := raftgroup.Force(opts, voters); err != nil {
		return err
	}
	rest, err := raftgroup.Look(opts)
	if err != nil {
		return err
	}
	s.ForcedIndex = rest.Index
	s.Progress = rpc.RecoveryForced
	if plan.Kind == quorumloss.ResetOffline {
		s.Progress = rpc.RecoveryDone
	}
	return nil
}

// copyStands: what this node's copy of the catalog says was decided. After its group was given new members the copy
// has all that was in the log here, also what nobody ever agreed to, until a leader has gone on from it, or has sent
// its own in its place. Asked before the copy is read by whoever cannot take back what he does.
func (n *Node) copyStands() bool {
	index := n.recovery().ForcedIndex
	if index == 0 {
		return true
	}
	g, err := n.control.member()
	return err == nil && g.Stats().Applied > index
}

// standEvery is how often it is asked anew whether the copy stands.
const standEvery = time.Second

// awaitCopy returns when it does, or false when the node stops.
func (n *Node) awaitCopy() bool {
	for !n.copyStands() {
		select {
		case <-time.After(standEvery):
		case <-n.stopping:
			return false
		}
	}
	return true
}

// endGroup ends the group, if it may be forced, and leaves it down. Whoever asked for it may be gone by then: it is
// not left half done for that.
func (n *Node) endGroup(voters []raftgroup.ServerID, plan *quorumloss.Plan) error {
	ctx, cancel := n.context(forceTimeout)
	defer cancel()
	g, err := n.control.member()
	if err != nil {
		return err
	}
	alone := plan.Kind == quorumloss.ResetPeers
	if leader, _ := g.Leader(); plan.Majority == "" && !mayBeForced(leader, n.identity().serverID(), voters, alone) {
		return fmt.Errorf("%w: the catalog's group has a leader now, %s", rpc.ErrPlan, leader)
	}
	n.control.mu.Lock()
	n.control.group = nil
	n.control.mu.Unlock()
	if err := g.Shutdown(ctx); err != nil {
		n.control.mu.Lock()
		n.control.down = fmt.Errorf("its group could not be ended for a recovery; restart the node: %w", err)
		n.control.mu.Unlock()
		return fmt.Errorf("%w: %w", rpc.ErrCatalogDown, err)
	}
	return nil
}

// mayBeForced: a group that has a leader has its majority, and is not forced. The survivors are forced in the
// plan's order, so only behind the first of them may there be one: of the group as it was forced there. A leader
// that was not forced itself was elected by the old members. With alone, the others are reset one by one, in any
// order.
func mayBeForced(leader, self raftgroup.ServerID, voters []raftgroup.ServerID, alone bool) bool {
	return leader == "" || leader != self && slices.Contains(voters, leader) && (alone || voters[0] != self)
}

// runGroupAgain starts the group on what is in its store now.
func (n *Node) runGroupAgain() error {
	g, err := n.startGroup()
	if err != nil {
		n.controlDown(err)
		return fmt.Errorf("%w: %w", rpc.ErrCatalogDown, err)
	}
	n.work.Go(func() { n.lead(g) })
	return nil
}

// forceJournal replaces the journal's config in the catalog, and passes it on. The note says if the journal has
// gone on since the plan was made.
func (n *Node) forceJournal(ctx context.Context, plan *quorumloss.Plan, id segments.JournalID) (string, error) {
	jp, ok := plan.Journal(id)
	if !ok {
		return "", fmt.Errorf("%w: it does nothing with journal %s", rpc.ErrPlan, id)
	}
	if jp.Action == quorumloss.Drop {
		return n.dropLost(ctx, plan, jp, id)
	}
	cfg, err := jp.NewConfig()
	if err != nil {
		return "", err
	}
	if plan.Kind == quorumloss.ResetPeers {
		return "", n.InstallConfig(ctx, rpc.JournalSummary{ID: id, Name: jp.Name, Config: cfg})
	}
	if err := n.linearizable(ctx); err != nil {
		return "", err
	}
	j, ok := n.journalOf(id)
	if !ok { // its creation is not in what is left of the catalog
		if _, err := n.propose(ctx, &catalog.CreateJournal{ID: id, Name: jp.Name, Members: cfg.Members()}); err != nil {
			return "", err
		}
		j, _ = n.journalOf(id)
	}
	switch {
	case j.Deleted:
		return fmt.Sprintf("journal %s is deleted", jp.Name), nil
	case j.Config.Version > cfg.Version:
		return fmt.Sprintf("journal %s has config %d by now", jp.Name, j.Config.Version), nil
	case j.Config.Version < cfg.Version:
		for _, m := range j.Config.Members() {
			if !jp.Knows(m) {
				return "", fmt.Errorf("%w: the catalog has member %s of journal %s, which it does not know", rpc.ErrPlan, m.ID, jp.Name)
			}
		}
		cmd := &catalog.ForceConfig{Target: catalog.Target{Journal: id, ExpectVersion: j.Config.Version}, Config: cfg, Reason: "recover-quorum, plan " + plan.Digest}
		if _, err := n.propose(ctx, cmd); err != nil {
			return "", err
		}
		n.log.Error("a journal's members were replaced by an operator", "journal", jp.Name, "version", cfg.Version, "members", names(cfg.Members()))
	}
	if j, ok = n.journalOf(id); !ok {
		return "", fmt.Errorf("%w: %s", rpc.ErrNoJournal, jp.Name)
	}
	_, causes := n.install(ctx, j.Config.Members(), summaryOf(j))
	if len(causes) > 0 {
		return "", &recovery.NoQuorumError{Step: "installing the new config on every survivor", Causes: causes}
	}
	return "", nil
}

// dropLost has the catalog forget a journal of which nothing is left. The plan may be older than the last time that a
// member was started: each is asked once more.
func (n *Node) dropLost(ctx context.Context, plan *quorumloss.Plan, jp quorumloss.JournalPlan, id segments.JournalID) (string, error) {
	if err := n.linearizable(ctx); err != nil {
		return "", err
	}
	j, ok := n.journalOf(id)
	if !ok || j.Reclaimed {
		return "", nil // done before
	}
	var back []quorum.Member // of a delete: those that it waits for
	for _, m := range deletedMembers(j) {
		if !n.recovery().gaveUp(m.Key()) && n.hears(ctx, m) {
			back = append(back, m)
		}
	}
	if j.Deleted && deleteInForce(j, back) {
		return fmt.Sprintf("journal %s: its members answer again, and its delete goes on by itself", jp.Name), nil
	}
	for _, m := range j.Config.Members() {
		switch {
		case !jp.Knows(m):
			return "", fmt.Errorf("%w: the catalog has member %s of journal %s, which it does not know", rpc.ErrPlan, m.ID, jp.Name)
		case !n.recovery().gaveUp(m.Key()) && n.mayHold(ctx, m, id):
			return "", fmt.Errorf("%w: member %s of journal %s answers again", rpc.ErrPlan, m.ID, jp.Name)
		}
	}
	cmd := &catalog.DropLost{
		Target:  catalog.Target{Journal: id, ExpectVersion: j.Config.Version},
		Version: max(jp.NewVersion, j.Config.Version+1), Reason: "recover-quorum, plan " + plan.Digest,
	}
	if _, err := n.propose(ctx, cmd); err != nil {
		return "", err
	}
	n.log.Error("a journal of which nothing was left has been dropped by an operator", "journal", jp.Name, "id", id, "digest", plan.Digest)
	return "", nil
}

// mayHold: that storage answers, and does not say that it never had the journal. One that cannot read what it has
// answers, too (N2).
func (n *Node) mayHold(ctx context.Context, m quorum.Member, id segments.JournalID) bool {
	if !n.hears(ctx, m) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, n.opts.PeerTimeout)
	defer cancel()
	p, err := n.member(m)
	if err == nil {
		_, err = p.State(ctx, id)
	}
	return !errors.Is(err, rpc.ErrNoJournal)
}

// hears: that very storage answers.
func (n *Node) hears(ctx context.Context, m quorum.Member) bool {
	if id := n.identity(); m.ID == id.ID {
		return m.Incarnation == id.Incarnation
	}
	ctx, cancel := context.WithTimeout(ctx, n.opts.PeerTimeout)
	defer cancel()
	p, err := n.member(m)
	if err != nil {
		return false
	}
	info, err := p.Info(ctx)
	return err == nil && info.ID == m.ID && info.Incarnation == m.Incarnation
}

// lowerFloors makes this node forget the floors that the plan names (R3).
func (n *Node) lowerFloors(ctx context.Context, plan *quorumloss.Plan, id segments.JournalID) error {
	jp, ok := plan.Journal(id)
	if !ok {
		return fmt.Errorf("%w: it does nothing with journal %s", rpc.ErrPlan, id)
	}
	self := n.identity()
	for _, f := range jp.Floors {
		m, err := f.Member()
		if err != nil {
			return err
		}
		if m.ID != self.ID || m.Incarnation != self.Incarnation {
			continue
		}
		floor, err := f.Floor()
		if err != nil {
			return err
		}
		o, err := n.owner(id)
		if err != nil {
			return err
		}
		if err := o.do(ctx, func(j *journal.Journal) error { return j.LowerFloor(jp.NewVersion, floor) }); err != nil {
			return err
		}
		o.log.Error("an operator lowered the committed floor: what it names is lost", "floor", floor, "digest", plan.Digest)
	}
	return nil
}

// removeLost takes the lost storages out of the cluster, so that nothing waits for them and the same node may
// come with another disk. Those that a journal still names stay until its members were changed.
func (n *Node) removeLost(ctx context.Context, plan *quorumloss.Plan) (string, error) {
	if plan.Group == nil {
		return "", nil
	}
	lost, err := plan.Group.Lost()
	if err != nil {
		return "", err
	}
	note := ""
	for _, m := range lost {
		err := n.RemoveNode(ctx, rpc.RemoveRequest{Node: m.ID, Incarnation: m.Incarnation})
		switch {
		case errors.Is(err, catalog.ErrNoNode):
		case errors.Is(err, catalog.ErrInUse):
			note += fmt.Sprintf("%s stays in the catalog: %v. ", m.ID, err)
		case err != nil:
			return note, err
		}
	}
	return note, nil
}

// isGivenUp: no stream of that server is taken, whatever members it believes the group to have.
func (n *Node) isGivenUp(s raftgroup.ServerID) bool {
	m, err := memberOf(s)
	return err == nil && n.recovery().gaveUp(m.Key())
}

// givenUpServers are never taken into the group again.
func (n *Node) givenUpServers() []raftgroup.ServerID {
	var out []raftgroup.ServerID
	for _, s := range n.recovery().GivenUp {
		if m, err := s.Member(); err == nil {
			out = append(out, serverID(m.ID, m.Incarnation))
		}
	}
	return out
}

// lossLoop asks the others, from time to time, whether they have given this storage up: a node that comes back
// after it was taken for lost must not count, and is to hear why.
func (n *Node) lossLoop() {
	for wait := time.Duration(0); ; wait = n.opts.CompareEvery {
		select {
		case <-time.After(wait):
		case <-n.stopping:
			return
		}
		if n.identity().Phase == rpc.Founded && n.recovery().Out == "" {
			n.askWhetherLost()
		}
	}
}

func (n *Node) askWhetherLost() {
	var wg sync.WaitGroup
	for _, p := range n.everybody() {
		wg.Go(func() {
			peer, err := n.peers.node(p)
			if err != nil {
				return
			}
			ctx, cancel := n.context(n.opts.PeerTimeout)
			defer cancel()
			if g, err := peer.SurveyGroup(ctx); err == nil {
				n.hearOfRecovery(g)
			}
		})
	}
	wg.Wait()
}

// everybody is whoever may know: those of the catalog, the founders, and those this node was started with.
func (n *Node) everybody() []quorum.NodeID {
	out := n.others()
	for _, m := range n.identity().Founders {
		out = append(out, m.ID)
	}
	for _, p := range n.opts.InitialCluster {
		out = append(out, p.ID)
	}
	n.rememberMu.Lock()
	out = slices.AppendSeq(out, maps.Keys(n.remembered)) // its own copy of the catalog may be empty yet
	n.rememberMu.Unlock()
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(id quorum.NodeID) bool { return id == n.opts.ID })
}

// hearOfRecovery takes this node out, for good, if a recovery that is later than all it knows gave it up.
func (n *Node) hearOfRecovery(g rpc.GroupState) {
	id := n.identity()
	self := quorum.Member{ID: id.ID, Incarnation: id.Incarnation}
	n.unsafe.turn.Lock()
	defer n.unsafe.turn.Unlock()
	next := n.recovery()
	if g.Cluster != id.Cluster || next.Out != "" || g.Record.Generation <= next.Generation || !slices.ContainsFunc(g.Record.GivenUp, self.Same) {
		return
	}
	next.Out = fmt.Sprintf("told by %s: recovery %d, plan %s", g.Node.ID, g.Record.Generation, g.Record.Digest)
	if err := n.keepRecovery(next); err != nil {
		n.log.Error("this storage was given up for lost, and that cannot be written down", "err", err)
		return
	}
	n.takeOut(next)
}

// takeOut: from now on every request is refused, and the group is left.
func (n *Node) takeOut(s recoveryState) {
	err := fmt.Errorf("%w (%s): keep its directory until nobody misses what it holds, then give the node a blank one", ErrGivenUp, s.Out)
	n.idMu.Lock()
	n.out = err
	n.idMu.Unlock()
	n.controlDown(err)
	n.control.mu.Lock()
	g := n.control.group
	n.control.mu.Unlock()
	if g != nil {
		n.work.Go(func() {
			ctx, cancel := n.context(n.opts.PeerTimeout)
			defer cancel()
			_ = g.Shutdown(ctx) // what it has to say is said
		})
	}
}
