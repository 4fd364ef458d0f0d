package opening

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
)

// ErrClosed: Start said that nothing more may be begun.
var ErrClosed = errors.New("opening: closed")

// Bounds of the requests of an attempt.
type Bounds struct {
	Request  time.Duration // one small request to one node
	Accept   time.Duration // the copying of one segment to one node
	Patience time.Duration // how long recovery waits for the last nodes where it should hear them all (N2a)
}

// Opening is somebody who wants to write a journal. All fields are needed.
type Opening struct {
	// Journal is the journal, with the newest config heard of; Win takes a newer one in.
	Journal rpc.JournalSummary
	// Nodes returns the connection to a member.
	Nodes  func(quorum.Member) (rpc.Node, error)
	Bounds Bounds
	Log    *slog.Logger
	// Life bounds requests that outlive their attempt. Start runs one of them, unless its owner is closed.
	Life  context.Context
	Start func(func()) bool
	// Refresh asks around for the newest config; zero: none was heard of.
	Refresh func(context.Context) quorum.Config
}

// Bounds of winning an epoch (F5).
const (
	racesMax  = 16 // attempts that lost to another writer
	floorsMax = 3  // attempts that would have lost something committed, and heard more nodes then

	divergedMax = 3 // attempts that met copies which differ, and tried to hear all nodes then
)

// Win runs attempts until one succeeds: each in a new, higher epoch with a fresh writer id (R2a, F4).
// Without a quorum it goes on trying until the context ends. A newer config that is heard of meanwhile is
// taken into Journal, and the next attempt counts under that (M7).
func (o *Opening) Win(ctx context.Context, opts recovery.Options) (recovery.Result, error) {
	races, floors, diverged := 0, 0, 0
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		res, err := o.attempt(ctx, opts)
		if err == nil {
			return res, nil
		}
		opts.MinEpoch = max(opts.MinEpoch, res.Claim.Epoch+1) // one epoch, one choice (R2a, F2a)
		switch superseded, lost := errors.AsType[*recovery.SupersededError](err); {
		case lost:
			if races++; races > racesMax {
				return res, err
			}
			opts.MinEpoch = max(superseded.Promised, superseded.Epoch) + 1
		case errors.Is(err, recovery.ErrBelowFloor), errors.Is(err, recovery.ErrNotComparable):
			if floors++; floors > floorsMax {
				return res, err
			}
			opts.HearAll = true
		case errors.Is(err, recovery.ErrDivergence) && diverged < divergedMax:
			// A majority may hold one end finalized, and it is decided then, though this attempt heard one of
			// them and a node that has another (R2). It stops having tried to hear all, more than once: one lost
			// message must not look like copies that nobody can choose from.
			opts.HearAll = true
			diverged++
		case errors.Is(err, recovery.ErrNoQuorum):
		case IsNewerConfig(err, o.Journal.Config.Version):
			if newest := o.Refresh(ctx); newest.Version > o.Journal.Config.Version {
				o.Journal.Config = newest
				continue // nothing to wait for
			}
		default:
			return res, err
		}
		o.Log.Info("recovery attempt failed, trying again", "journal", o.Journal.Name, "err", err)
		pause := wait/2 + rand.N(wait) // two racers must not stay in step
		select {
		case <-time.After(pause):
		case <-o.Life.Done():
			return res, ErrClosed
		case <-ctx.Done():
			return res, fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}
}

// attempt steps one coordinator: effects become requests, answers become events.
func (o *Opening) attempt(ctx context.Context, opts recovery.Options) (recovery.Result, error) {
	co := recovery.NewCoordinator(o.Journal.Config, fencing.WriterID(uuid.New()), opts)
	r := &runner{o: o, journal: o.Journal, events: make(chan recovery.Event, 16), done: make(chan struct{})}
	defer close(r.done)
	effects := co.Step(recovery.Begin{})
	for {
		for _, e := range effects {
			switch e := e.(type) {
			case recovery.Done:
				if q := e.Result.Recovered.Quarantine; len(q) > 0 {
					o.Log.Error("finalized copies that differ from the majority's", "journal", o.Journal.Name, "nodes", q, "segment", e.Result.Recovered.End)
				}
				return e.Result, nil
			case recovery.Fail:
				return recovery.Result{Claim: co.Claim()}, e.Err
			default:
				r.run(e)
			}
		}
		if r.closed {
			return recovery.Result{Claim: co.Claim()}, ErrClosed
		}
		select {
		case ev := <-r.events:
			if f, ok := ev.(recovery.Failed); ok && IsNewerConfig(f.Err, r.journal.Config.Version) {
				return recovery.Result{Claim: co.Claim()}, f.Err
			}
			effects = co.Step(ev)
		case <-ctx.Done():
			return recovery.Result{Claim: co.Claim()}, fmt.Errorf("opening: recovery of %s: %w", o.Journal.Name, context.Cause(ctx))
		}
	}
}

// runner carries out the effects of one attempt. Requests run on after the attempt is decided, each
// within its own bound: a node that was slow to accept is in step all the same then.
type runner struct {
	o       *Opening
	journal rpc.JournalSummary // as it was when the attempt began
	events  chan recovery.Event
	done    chan struct{}
	closed  bool // whoever opens was closed: nothing more is sent
}

func (r *runner) start(f func()) { r.closed = r.closed || !r.o.Start(f) }

func (r *runner) post(ev recovery.Event) {
	select {
	case r.events <- ev:
	case <-r.done:
	}
}

// run starts what an effect asks for; it does not wait.
func (r *runner) run(e recovery.Effect) {
	switch e := e.(type) {
	case recovery.AskState:
		r.call(e.Node, recovery.StepState, r.o.Bounds.Request, func(ctx context.Context, n rpc.Node, m quorum.Member) (recovery.Event, error) {
			st, err := r.state(ctx, n, m)
			return recovery.Stated{Node: m.Key(), Promised: st.Promised.Epoch}, err
		})
	case recovery.AskPromise:
		r.call(e.Node, recovery.StepPromise, r.o.Bounds.Request, func(ctx context.Context, n rpc.Node, m quorum.Member) (recovery.Event, error) {
			p, err := n.NewEpoch(ctx, r.header(m, e.Claim))
			return recovery.Promised{Node: m.Key(), DataKnown: p.DataKnown, Newest: p.Newest, Purged: p.Purged}, err
		})
	case recovery.AskPrepare:
		r.call(e.Node, recovery.StepPrepare, r.o.Bounds.Request, func(ctx context.Context, n rpc.Node, m quorum.Member) (recovery.Event, error) {
			a, err := n.Prepare(ctx, r.header(m, e.Claim), e.Segment, e.Digests)
			a.Node = m.Key()
			return recovery.Prepared{Answer: a}, err
		})
	case recovery.AskAccept:
		r.call(e.Node, recovery.StepAccept, r.o.Bounds.Accept, func(ctx context.Context, n rpc.Node, m quorum.Member) (recovery.Event, error) {
			return recovery.AcceptedBy{Node: m.Key()}, r.accept(ctx, n, m, e.Accept)
		})
	case recovery.AskFinalize:
		r.call(e.Node, recovery.StepFinalize, r.o.Bounds.Request, func(ctx context.Context, n rpc.Node, m quorum.Member) (recovery.Event, error) {
			return recovery.FinalizedBy{Node: m.Key()}, n.Finalize(ctx, r.header(m, e.Claim), e.End)
		})
	case recovery.SetPatience:
		r.start(func() {
			select {
			case <-time.After(r.o.Bounds.Patience):
				r.post(recovery.PatienceOver{Step: e.Step})
			case <-r.done:
			case <-r.o.Life.Done():
			}
		})
	}
}

func (r *runner) call(id quorum.Key, step recovery.Step, bound time.Duration, f func(context.Context, rpc.Node, quorum.Member) (recovery.Event, error)) {
	r.start(func() {
		ctx, cancel := context.WithTimeout(r.o.Life, bound)
		defer cancel()
		m, _ := r.journal.Config.Find(id)
		n, err := r.o.Nodes(m)
		var ev recovery.Event
		if err == nil {
			ev, err = f(ctx, n, m)
			if SendConfig(ctx, n, r.journal, err) {
				ev, err = f(ctx, n, m)
			}
		}
		if err != nil {
			ev = recovery.Failed{Node: id, Step: step, Err: err}
		}
		r.post(ev)
	})
}

func (r *runner) header(m quorum.Member, claim fencing.Claim) rpc.Header {
	return rpc.Header{Journal: r.journal.ID, ConfigVersion: r.journal.Config.Version, Incarnation: m.Incarnation, Claim: claim}
}

// state asks a member for its promise.
func (r *runner) state(ctx context.Context, n rpc.Node, m quorum.Member) (rpc.JournalState, error) {
	st, err := n.State(ctx, r.journal.ID)
	switch {
	case err != nil:
		return st, err
	case st.Incarnation != m.Incarnation:
		return st, &rpc.WrongNodeError{Node: m.ID, Got: m.Incarnation, Want: st.Incarnation}
	case st.Summary.Config.Version != r.journal.Config.Version:
		return st, &rpc.ConfigError{Journal: r.journal.ID, Got: r.journal.Config.Version, Want: st.Summary.Config.Version}
	case !st.Member:
		return st, fmt.Errorf("%w: %s", rpc.ErrUnknownNode, m.ID)
	}
	return st, nil
}

// accept asks a node to make its copy equal. Where it can reach no source, the frames are relayed (R4).
func (r *runner) accept(ctx context.Context, n rpc.Node, m quorum.Member, req recovery.AcceptRequest) error {
	h := r.header(m, req.Claim)
	err := n.Accept(ctx, h, req, nil)
	if !errors.Is(err, rpc.ErrNoSource) {
		return err
	}
	for _, id := range req.Sources {
		if id == m.ID {
			continue
		}
		if rerr := r.relay(ctx, id, n, h, req); rerr != nil {
			err = errors.Join(err, fmt.Errorf("relay from %s: %w", id, rerr))
			continue
		}
		return nil
	}
	return err
}

func (r *runner) relay(ctx context.Context, from quorum.NodeID, to rpc.Node, h rpc.Header, req recovery.AcceptRequest) error {
	src, _ := r.journal.Config.Member(from) // any incarnation: the frames are verified
	n, err := r.o.Nodes(src)
	if err != nil {
		return err
	}
	stream, err := n.ReadSegment(ctx, rpc.ReadRequest{
		Journal: h.Journal, Segment: req.End.First, From: req.End.First, UpTo: req.End.Last, Durable: true, Epoch: req.Epoch,
	})
	if err != nil {
		return err
	}
	defer stream.Close()
	return to.Accept(ctx, h, req, stream)
}

// IsNewerConfig: a node has a newer config installed than the one that the request carried, and refused it
// for that (M1).
func IsNewerConfig(err error, version uint64) bool {
	ce, ok := errors.AsType[*rpc.ConfigError](err)
	return ok && ce.Want > version
}

// SendConfig is the answer to "send config": a node that lacks the config that a request carried, or the
// whole journal, is given it, unchanged as it was heard from a node that has it installed (M0). It reports
// whether the request is worth another try.
func SendConfig(ctx context.Context, n rpc.Node, j rpc.JournalSummary, err error) bool {
	ce, ok := errors.AsType[*rpc.ConfigError](err)
	if (!ok || ce.Want >= j.Config.Version) && !errors.Is(err, rpc.ErrNoJournal) {
		return false
	}
	return n.InstallConfig(ctx, j) == nil
}
