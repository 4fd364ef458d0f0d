package recovery

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

// Step names a round of requests.
type Step string

// The rounds of one attempt, in their order.
const (
	StepState    Step = "state"    // what has been promised (F2: asked before anything is claimed)
	StepPromise  Step = "promise"  // NewEpoch
	StepPrepare  Step = "prepare"  // what the newest segment holds
	StepAccept   Step = "accept"   // this is how it ends
	StepFinalize Step = "finalize" // close it
)

// Options of one attempt. The zero value is an ordinary recovery.
type Options struct {
	// FenceOnly stops after the promises (F7).
	FenceOnly bool
	// HearAll waits for every member, or for Patience to end, before the choice: what an attempt does
	// that follows a *FloorError or ErrNotComparable.
	HearAll bool
	// MinEpoch is the lowest epoch to propose; the attempt takes max(promised)+1 where that is higher.
	MinEpoch fencing.Epoch
}

// Event is something that happened: Begin, a reply, Failed, or PatienceOver.
type Event interface{ isEvent() }

type (
	// Begin starts the attempt; it is the first event.
	Begin struct{}
	// Stated: a node told its promise (no promise was asked).
	Stated struct {
		Node     quorum.Key
		Promised fencing.Epoch
	}
	// Promised: a node made the promise. Newest is its data answer where DataKnown; a node whose data
	// is unknown gives a promise only (F2).
	Promised struct {
		Node      quorum.Key
		DataKnown bool
		Newest    segments.TxID
		Purged    segments.Position // its purge point (C5)
	}
	// Prepared: a node told what it holds.
	Prepared struct{ Answer Answer }
	// AcceptedBy: a node made the ending durable.
	AcceptedBy struct{ Node quorum.Key }
	// FinalizedBy: a node closed the segment.
	FinalizedBy struct{ Node quorum.Key }
	// Failed: a request of a step was refused, could not be sent, or was not answered in time.
	Failed struct {
		Node quorum.Key
		Step Step
		Err  error
	}
	// PatienceOver: the time that SetPatience asked for has passed, in the same round.
	PatienceOver struct{ Step Step }
)

func (Begin) isEvent()        {}
func (Stated) isEvent()       {}
func (Promised) isEvent()     {}
func (Prepared) isEvent()     {}
func (AcceptedBy) isEvent()   {}
func (FinalizedBy) isEvent()  {}
func (Failed) isEvent()       {}
func (PatienceOver) isEvent() {}

// Effect is something the caller does, in the order given.
type Effect interface{ isEffect() }

type (
	// AskState asks a node for its promise, changing nothing.
	AskState struct{ Node quorum.Key }
	// AskPromise sends NewEpoch.
	AskPromise struct {
		Node  quorum.Key
		Claim fencing.Claim
	}
	// AskPrepare sends Prepare, with questions about frame ends.
	AskPrepare struct {
		Node    quorum.Key
		Claim   fencing.Claim
		Segment segments.TxID
		Digests []segments.TxID
	}
	// AskAccept sends Accept.
	AskAccept struct {
		Node   quorum.Key
		Accept AcceptRequest
	}
	// AskFinalize sends Finalize.
	AskFinalize struct {
		Node  quorum.Key
		Claim fencing.Claim
		End   segments.End
	}
	// SetPatience asks for a PatienceOver event of the same round after the caller's bound.
	SetPatience struct{ Step Step }
	// Done ends the attempt well; it is the last effect.
	Done struct{ Result Result }
	// Fail ends the attempt; it is the last effect. A new attempt needs a new Coordinator, which takes
	// a higher epoch (R2a).
	Fail struct{ Err error }
)

func (AskState) isEffect()    {}
func (AskPromise) isEffect()  {}
func (AskPrepare) isEffect()  {}
func (AskAccept) isEffect()   {}
func (AskFinalize) isEffect() {}
func (SetPatience) isEffect() {}
func (Done) isEffect()        {}
func (Fail) isEffect()        {}

// AcceptRequest says how a segment ends and where its content can be had.
type AcceptRequest struct {
	Claim   fencing.Claim
	End     segments.End
	Prev    segments.End    // the segment before it
	Epoch   fencing.Epoch   // writer epoch of the content
	Sources []quorum.NodeID // nodes that hold it
}

// Result is a finished attempt: the journal ends at Prev.Last, and the next segment starts behind it
// and names it (R9).
type Result struct {
	Claim fencing.Claim
	Prev  segments.End // the newest segment with content, finalized on a majority; zero: none
	// Recovered is the choice that was made; Empty where the newest segment held nothing.
	Recovered Choice
	// PromisedBy lists the nodes that promised, sorted.
	PromisedBy []quorum.NodeID
	// Missing names nodes that a cut tail made worth waiting for, and that did not answer (N2a).
	Missing []quorum.NodeID
}

// Coordinator runs one attempt at fencing and recovery, in one epoch, with one choice (R2a). It is a
// plain value stepped by one caller at a time.
type Coordinator struct {
	cfg    quorum.Config
	writer fencing.WriterID
	opts   Options

	step    Step
	claim   fencing.Claim
	over    bool
	patient bool // SetPatience was asked for in this step
	hurry   bool // PatienceOver came

	replied  map[quorum.Key]bool // in this step
	failed   map[quorum.Key]error
	highest  fencing.Epoch
	promised map[quorum.Key]Promised
	segment  segments.TxID // the newest segment; 0 = the journal is empty
	answers  map[quorum.Key]Answer
	basis    []Answer // frozen: what the choice is made over
	asked    map[Query]bool
	choice   Choice
}

// NewCoordinator returns an attempt by writer under cfg. The writer id must be fresh (F4).
func NewCoordinator(cfg quorum.Config, writer fencing.WriterID, opts Options) *Coordinator {
	return &Coordinator{
		cfg: cfg, writer: writer, opts: opts,
		promised: map[quorum.Key]Promised{}, answers: map[quorum.Key]Answer{}, asked: map[Query]bool{},
	}
}

// Claim returns the claim of this attempt; zero before the promise round.
func (c *Coordinator) Claim() fencing.Claim { return c.claim }

// Step takes an event and returns what to do. Events of earlier rounds, and any after the end, are
// ignored: they can be late, but never wrong.
func (c *Coordinator) Step(ev Event) []Effect {
	if c.over {
		return nil
	}
	switch ev := ev.(type) {
	case Begin:
		return c.enter(StepState, func(m quorum.Member) Effect { return AskState{m.Key()} })
	case Stated:
		return c.onStated(ev)
	case Promised:
		return c.onPromised(ev)
	case Prepared:
		return c.onPrepared(ev)
	case AcceptedBy:
		return c.onAck(StepAccept, ev.Node)
	case FinalizedBy:
		return c.onAck(StepFinalize, ev.Node)
	case Failed:
		return c.onFailed(ev)
	case PatienceOver:
		if ev.Step != c.step {
			return nil // of an earlier round: this one has a patience of its own
		}
		c.hurry = true
		return c.advance()
	}
	return nil
}

// enter begins a round: a request to every member.
func (c *Coordinator) enter(s Step, ask func(quorum.Member) Effect) []Effect {
	c.step, c.patient, c.hurry = s, false, false
	c.replied, c.failed = map[quorum.Key]bool{}, map[quorum.Key]error{}
	var effects []Effect
	for _, m := range c.cfg.Members() {
		if e := ask(m); e != nil {
			effects = append(effects, e)
		}
	}
	return effects
}

func (c *Coordinator) onStated(ev Stated) []Effect {
	if c.step != StepState {
		return nil
	}
	c.highest = max(c.highest, ev.Promised)
	c.replied[ev.Node] = true
	return c.advance()
}

func (c *Coordinator) onPromised(ev Promised) []Effect {
	if _, again := c.promised[ev.Node]; again {
		return nil
	}
	switch {
	case c.step == StepPromise:
		c.promised[ev.Node] = ev
		c.replied[ev.Node] = true
		return c.advance()
	case c.step != StepPrepare || c.basis != nil:
		return nil
	case !ev.DataKnown || ev.Newest > c.segment:
		return c.onFailed(Failed{ev.Node, StepPrepare, errLatePromise})
	}
	c.promised[ev.Node] = ev
	delete(c.failed, ev.Node)
	return []Effect{AskPrepare{Node: ev.Node, Claim: c.claim, Segment: max(c.segment, 1)}}
}

func (c *Coordinator) onPrepared(ev Prepared) []Effect {
	a := ev.Answer
	if c.step != StepPrepare {
		return nil
	}
	if a.Newest > c.segment && a.Copy.State != Unknown {
		// Anti-entropy brought it a later segment since it promised, or it never knew its data: its answer
		// to NewEpoch, which the segment was picked from, does not tell what it holds. It is no data
		// answer; the floor that it knows of counts all the same (R3).
		a.Copy = Copy{Segment: a.Copy.Segment, State: Unknown}
	}
	if c.basis != nil && a.Copy.State == Unknown {
		// Its copy became unreadable since the first answer. That one stands in the basis, but no digest
		// will ever come (R1).
		return c.onFailed(Failed{a.Node, StepPrepare, ErrUnknownData})
	}
	if old, ok := c.answers[a.Node]; ok {
		a.Digests = append(slices.Clone(old.Digests), a.Digests...)
		for i := range c.basis {
			if c.basis[i].Node == a.Node {
				c.basis[i].Digests = a.Digests
			}
		}
	}
	c.answers[a.Node] = a
	c.replied[a.Node] = true
	return c.advance()
}

func (c *Coordinator) onAck(s Step, n quorum.Key) []Effect {
	if c.step != s {
		return nil
	}
	c.replied[n] = true
	return c.advance()
}

func (c *Coordinator) onFailed(ev Failed) []Effect {
	if fenced, ok := errors.AsType[*fencing.FencedError](ev.Err); ok {
		c.highest = max(c.highest, fenced.Promised.Epoch)
	}
	if _, ok := c.promised[ev.Node]; !ok && ev.Step == StepPromise && c.step == StepPrepare {
		ev.Step = StepPrepare // the round that waits for its late promise
	}
	if ev.Step != c.step || c.replied[ev.Node] && ev.Step != StepPrepare {
		return nil
	}
	c.failed[ev.Node] = ev.Err
	return c.advance()
}

// advance moves on when the round has what it needs, and fails when it no longer can.
func (c *Coordinator) advance() []Effect {
	switch c.step {
	case StepState:
		if c.majority() {
			return c.propose()
		}
	case StepPromise:
		if c.majority() && (c.opts.FenceOnly || c.cfg.Majority(c.knowsData)) && c.heardEnough(c.opts.HearAll) {
			return c.afterPromises()
		}
		if c.settled() && !c.opts.FenceOnly && !c.cfg.Majority(c.knowsData) {
			return c.fail(c.noQuorum("data answers"))
		}
	case StepPrepare:
		return c.decide()
	case StepAccept:
		if c.majority() {
			return c.enter(StepFinalize, func(m quorum.Member) Effect {
				return AskFinalize{m.Key(), c.claim, c.choice.End}
			})
		}
	case StepFinalize:
		if c.majority() {
			return c.done()
		}
	}
	return c.failIfLost()
}

// majority: enough nodes replied well in this round.
func (c *Coordinator) majority() bool {
	return c.cfg.Majority(func(m quorum.Member) bool { return c.replied[m.Key()] })
}

func (c *Coordinator) knowsData(m quorum.Member) bool { return c.promised[m.Key()].DataKnown }

// settled: every member replied or failed in this round.
func (c *Coordinator) settled() bool {
	return !slices.ContainsFunc(c.cfg.Members(), func(m quorum.Member) bool {
		return !c.replied[m.Key()] && c.failed[m.Key()] == nil
	})
}

// heardEnough reports whether a round that wants everybody need not wait any longer.
func (c *Coordinator) heardEnough(wantAll bool) bool { return !wantAll || c.hurry || c.settled() }

// wait asks for a PatienceOver, once a round.
func (c *Coordinator) wait() []Effect {
	if c.patient {
		return nil
	}
	c.patient = true
	return []Effect{SetPatience{c.step}}
}

func (c *Coordinator) failIfLost() []Effect {
	lost := func(m quorum.Member) bool { return c.failed[m.Key()] != nil && !c.replied[m.Key()] }
	if !c.cfg.MajorityPossible(lost) {
		return c.fail(c.noQuorum(string(c.step)))
	}
	if c.step == StepPromise && c.opts.HearAll && c.majority() {
		return c.wait()
	}
	return nil
}

// noQuorum says why: superseded where higher epochs or lost races are what is missing to a majority, so
// that a higher epoch may help; a full disk on two of three nodes stays what it is.
func (c *Coordinator) noQuorum(step string) error {
	var causes []NodeCause
	raced := false
	for _, m := range c.cfg.Members() {
		if err := c.failed[m.Key()]; err != nil {
			causes = append(causes, NodeCause{m.ID, err})
			raced = raced || isRace(err)
		} else if p, ok := c.promised[m.Key()]; ok && !p.DataKnown {
			causes = append(causes, NodeCause{m.ID, ErrUnknownData})
		}
	}
	lost := func(m quorum.Member) bool { err := c.failed[m.Key()]; return err != nil && !isRace(err) }
	if raced && c.cfg.MajorityPossible(lost) {
		return &SupersededError{Epoch: c.claim.Epoch, Promised: c.highest, Causes: causes}
	}
	return &NoQuorumError{Step: step, Causes: causes}
}

func isRace(err error) bool {
	return errors.Is(err, fencing.ErrFenced) || errors.Is(err, fencing.ErrLostRace)
}

func (c *Coordinator) propose() []Effect {
	if c.highest == ^fencing.Epoch(0) {
		return c.fail(fmt.Errorf("%w: no epoch is left above %d", fencing.ErrEpochTooFar, c.highest))
	}
	c.claim = fencing.Claim{Epoch: max(c.highest+1, c.opts.MinEpoch), Writer: c.writer}
	return c.enter(StepPromise, func(m quorum.Member) Effect { return AskPromise{m.Key(), c.claim} })
}

// afterPromises picks the segment: the highest newest one among data answers from a majority.
func (c *Coordinator) afterPromises() []Effect {
	if c.opts.FenceOnly {
		return c.done()
	}
	for _, p := range c.promised {
		if p.DataKnown {
			c.segment = max(c.segment, p.Newest)
		}
	}
	failed := c.failed
	return c.enter(StepPrepare, func(m quorum.Member) Effect {
		if _, ok := c.promised[m.Key()]; !ok {
			// One whose promise is still under way may yet take part, and a cut tail waits for it (N2a).
			if err := failed[m.Key()]; err != nil {
				c.failed[m.Key()] = err
			}
			return nil
		}
		return AskPrepare{Node: m.Key(), Claim: c.claim, Segment: max(c.segment, 1)}
	})
}

var errLatePromise = errors.New("recovery: its promise came after the segment was picked, and does not fit it")

// decide is the prepare round: gather, wait where N2a or HearAll says so, freeze, choose.
func (c *Coordinator) decide() []Effect {
	if c.basis == nil {
		data := func(m quorum.Member) bool {
			a, ok := c.answers[m.Key()]
			return ok && a.Copy.State != Unknown && c.failed[m.Key()] == nil
		}
		if !c.cfg.Majority(data) {
			lost := func(m quorum.Member) bool {
				_, ok := c.answers[m.Key()]
				return !data(m) && (ok || c.failed[m.Key()] != nil)
			}
			if !c.cfg.MajorityPossible(lost) {
				return c.fail(c.noQuorum("data answers"))
			}
			return nil
		}
		cut := false
		for _, a := range c.answers {
			cut = cut || a.Copy.CutAt != nil
		}
		if !c.heardEnough(cut || c.opts.HearAll) {
			return c.wait()
		}
		for _, m := range c.cfg.Members() {
			if a, ok := c.answers[m.Key()]; ok && c.failed[m.Key()] == nil {
				c.basis = append(c.basis, a)
			}
		}
	}
	return c.choose()
}

// choose makes the one choice of this epoch.
func (c *Coordinator) choose() []Effect {
	s := max(c.segment, 1)
	ch, need, err := Choose(c.cfg, s, c.withPurgePoints(s))
	if err != nil {
		return c.fail(err)
	}
	if len(need) > 0 {
		return c.query(need)
	}
	c.choice = ch
	if ch.Empty {
		return c.done()
	}
	req := AcceptRequest{Claim: c.claim, End: ch.End, Prev: ch.Prev, Epoch: ch.Epoch, Sources: ch.Sources}
	return c.enter(StepAccept, func(m quorum.Member) Effect { return AskAccept{m.Key(), req} })
}

// withPurgePoints is the basis, and the purge points that nodes outside it told with their promise: like
// floors they count whoever tells of them (R3, C5).
func (c *Coordinator) withPurgePoints(s segments.TxID) []Answer {
	answers := slices.Clone(c.basis)
	for _, m := range c.cfg.Members() {
		p, ok := c.promised[m.Key()]
		if ok && p.Purged.TxID != 0 && !slices.ContainsFunc(c.basis, func(a Answer) bool { return a.Node == m.Key() }) {
			answers = append(answers, Answer{Node: m.Key(), Copy: Copy{Segment: s, State: Unknown}, Purged: p.Purged})
		}
	}
	return answers
}

// query asks for the digests that the comparison needs; one that cannot be had ends the attempt (R1).
func (c *Coordinator) query(need []Query) []Effect {
	byNode := map[quorum.Key][]segments.TxID{}
	for _, q := range need {
		if err := c.failed[q.Node]; err != nil {
			return c.fail(fmt.Errorf("%w: txid %d of node %s: %w", ErrNotComparable, q.TxID, q.Node.ID, err))
		}
		if !c.asked[q] {
			c.asked[q] = true
			byNode[q.Node] = append(byNode[q.Node], q.TxID)
		}
	}
	var effects []Effect
	for _, m := range c.cfg.Members() {
		if ts := byNode[m.Key()]; len(ts) > 0 {
			effects = append(effects, AskPrepare{Node: m.Key(), Claim: c.claim, Segment: max(c.segment, 1), Digests: ts})
		}
	}
	return effects
}

func (c *Coordinator) fail(err error) []Effect {
	c.over = true
	return []Effect{Fail{err}}
}

func (c *Coordinator) done() []Effect {
	c.over = true
	r := Result{Claim: c.claim, Recovered: c.choice, Prev: c.choice.End}
	if c.choice.Empty {
		r.Prev = c.choice.Prev
	}
	for n := range c.promised {
		r.PromisedBy = append(r.PromisedBy, n.ID)
	}
	slices.Sort(r.PromisedBy)
	if len(c.choice.CutAt) > 0 {
		for _, m := range c.cfg.Members() {
			if !slices.ContainsFunc(c.basis, func(a Answer) bool { return a.Node == m.Key() && a.Copy.State != Unknown }) {
				r.Missing = append(r.Missing, m.ID)
			}
		}
	}
	return []Effect{Done{r}}
}
