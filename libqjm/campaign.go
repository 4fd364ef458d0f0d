package libqjm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
)

const (
	// silenceMin is the least silence after which a writer counts as gone: an idle one sends a heartbeat each
	// second.
	silenceMin = 3 * heartbeatEvery
	// catalogPatience is how long the catalog is asked before it counts as down, at least: its nodes need
	// seconds to choose another leader.
	catalogPatience = 5 * time.Second
	// leaseAgain is how soon a leadership that has no lease asks for one again after an error.
	leaseAgain = time.Second
)

// CampaignOptions of one campaign.
type CampaignOptions struct {
	// Lease is what is campaigned for; NoWait makes no sense here.
	Lease LeaseOptions
	// Writer is how the writer is opened. ReopenWhenFenced must be off: here the lease decides who writes.
	Writer WriterOptions
	// OpenWithoutCatalog lets the campaign go on where the catalog does not answer: when a majority of the
	// journal's nodes has not heard its writer for twice the TTL, and for 3 s at least, and this client has seen
	// that for as long, the writer is opened without a lease. That is safe, for epochs decide who writes; but two
	// campaigners who both do it fence one another, and a writer that reaches none of the nodes that this client
	// reaches is fenced though it lives. Off by default: without the catalog there is no failover then.
	OpenWithoutCatalog bool
}

// Leadership is an open writer, and the lease for it. It ends when the writer ends, and only then: the end of
// the lease stops no active writer (L1). Where the lease is lost, it is asked for again in the background; if
// another process gets it, that one fences this writer. A writer that reaches no majority, and has something to commit,
// lets others have the lease after four times its time to live, and no less than 2 s. Safe for concurrent use.
type Leadership struct {
	c    *Client
	name string
	opts CampaignOptions
	w    *Writer

	stop   context.CancelFunc
	kept   chan struct{} // closed when nobody looks after the lease any more
	mu     sync.Mutex
	lease  *Lease // nil: there is none at the moment; guarded by mu
	proved *Lease // the writer's epoch is known to be the highest since this lease began (L3); guarded by mu
	resign bool   // the lease is given up by a call, not by the end of the writer; guarded by mu
}

// Campaign waits for the journal's lease, and then opens the writer under it: whoever wrote before is fenced,
// and what they left is recovered. It returns when the writer is ready, and keeps both.
//
// A service campaigns in every process, follows as a reader meanwhile, and serves when Campaign has returned.
// When Leadership.Done is closed it goes back to following, and campaigns again.
//
// Errors: those of AcquireLease and of OpenWriter. A lease that was had by then is resigned.
func (c *Client) Campaign(ctx context.Context, journal string, o CampaignOptions) (*Leadership, error) {
	o.Lease = o.Lease.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	for {
		lease, err := c.contend(ctx, journal, o)
		if err != nil {
			return nil, err
		}
		w, err := c.openUnder(ctx, journal, lease, o.Writer)
		if err == nil {
			return c.lead(journal, o, w, lease), nil
		}
		if lease == nil {
			return nil, err
		}
		lost := errors.Is(lease.Err(), ErrLeaseLost)
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(o.Lease.TTL, leaseAskMax))
		_ = lease.Resign(bounded) // else it expires
		cancel()
		if ctx.Err() == nil && errors.Is(err, errCutOff) {
			c.log.Warn("too few nodes are reached to open the writer: others may have the lease", "journal", journal, "err", err)
			lost = sleep(ctx, o.Lease.TTL) // whoever watches asks for it first
		}
		if !lost || ctx.Err() != nil {
			return nil, err
		}
	}
}

// errCutOff: who has the lease reaches no majority, and stands in the way of those who might.
var errCutOff = errors.New("libqjm: no majority of the journal's nodes is reached")

// giveUpWithoutMajority cancels the opening of a writer when no majority of the nodes has answered for as long as a writer may
// be stuck, and a few times: a node that is busy with a recovery answers late.
func (c *Client) giveUpWithoutMajority(ctx context.Context, journal string, ttl time.Duration, giveUp context.CancelCauseFunc) {
	patience := max(stuckTTLs*ttl, stuckMin) + 2*c.opts.RequestTimeout
	for since := time.Now(); sleep(ctx, patience/4); {
		switch _, _, err := c.states(ctx, journal, false); {
		case err == nil:
			since = time.Now()
		case time.Since(since) >= patience:
			giveUp(fmt.Errorf("%w: %w", errCutOff, err))
			return
		}
	}
}

func (o CampaignOptions) validate() error {
	switch {
	case o.Lease.NoWait:
		return fmt.Errorf("%w: a campaign waits for the lease: NoWait makes no sense", ErrBadRequest)
	case o.Writer.ReopenWhenFenced:
		return fmt.Errorf("%w: ReopenWhenFenced must be off where a lease decides who writes", ErrBadRequest)
	}
	return errors.Join(o.Lease.validate(), o.Writer.withDefaults().validate())
}

// openUnder opens the writer, as long as the lease is not lost: its next holder should not be fenced by one
// that came too late.
func (c *Client) openUnder(ctx context.Context, journal string, lease *Lease, o WriterOptions) (*Writer, error) {
	if lease != nil {
		if err := lease.awaitValid(ctx); err != nil { // this process may have been stopped meanwhile
			return nil, err
		}
		under, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(lease.ctx, func() { cancel(lease.Err()) })()
		go c.giveUpWithoutMajority(under, journal, lease.opts.TTL, cancel)
		ctx = under
	}
	w, err := c.OpenWriter(ctx, journal, o)
	if why := context.Cause(ctx); err != nil && errors.Is(why, errCutOff) {
		err = why
	}
	return w, err
}

// contend returns the lease, or nil where the writer is to be opened without one.
func (c *Client) contend(ctx context.Context, journal string, o CampaignOptions) (*Lease, error) {
	if !o.OpenWithoutCatalog {
		return c.AcquireLease(ctx, journal, o.Lease)
	}
	type acquired struct {
		lease *Lease
		err   error
	}
	asking, giveUp := context.WithCancel(ctx)
	defer giveUp()
	got := make(chan acquired, 1)
	go func() {
		l, err := c.AcquireLease(asking, journal, o.Lease)
		got <- acquired{l, err}
	}()
	silent := make(chan struct{})
	go func() {
		if c.awaitSilence(asking, journal, o.Lease.TTL) {
			close(silent)
		}
	}()
	select {
	case a := <-got:
		return a.lease, a.err
	case <-silent:
	}
	giveUp()
	if a := <-got; a.lease != nil {
		return a.lease, nil
	}
	c.log.Warn("the catalog does not answer, and the writer is silent: the journal is opened without a lease", "journal", journal)
	return nil, nil
}

// awaitSilence returns true when the writer has not been heard for long enough and the catalog does not
// answer; false when the context ended.
func (c *Client) awaitSilence(ctx context.Context, journal string, ttl time.Duration) bool {
	bound := max(2*ttl, silenceMin)
	var since time.Time // since when this client has seen nothing but silence
	for {
		now := time.Now()
		switch {
		case !c.writerSilent(ctx, journal, bound):
			since = time.Time{}
		case since.IsZero():
			since = now
		case now.Sub(since) >= bound && !c.catalogAnswers(ctx, journal, max(2*ttl, catalogPatience)):
			// Asking took a while: the writer may be back.
			if ctx.Err() == nil && c.writerSilent(ctx, journal, bound) {
				return true
			}
			since = time.Time{}
		}
		if !sleep(ctx, max(ttl/2, heartbeatEvery/2)) {
			return false
		}
	}
}

func (c *Client) catalogAnswers(ctx context.Context, journal string, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_, err := c.Lease(ctx, journal)
	return err == nil || errors.Is(err, ErrNoJournal) || errors.Is(err, ErrJournalDeleted)
}

// writerSilent: a majority of the journal's nodes has not heard its writer for so long, or not since they
// were started.
func (c *Client) writerSilent(ctx context.Context, journal string, bound time.Duration) bool {
	silent := func(cfg quorum.Config, got []reply[rpc.JournalState]) bool {
		return cfg.Majority(func(m quorum.Member) bool {
			for _, r := range got {
				if r.node == m.ID && r.val.Incarnation == m.Incarnation && counts(cfg, r) && quietFor(r.val, bound) {
					return true
				}
			}
			return false
		})
	}
	ref, got, err := c.statesUntil(ctx, journal, silent)
	return err == nil && silent(ref.cfg, got)
}

func quietFor(st rpc.JournalState, bound time.Duration) bool {
	return st.SinceWriter == 0 || st.SinceWriter > bound
}

// lead begins to look after the lease.
func (c *Client) lead(journal string, o CampaignOptions, w *Writer, lease *Lease) *Leadership {
	l := &Leadership{c: c, name: journal, opts: o, w: w, lease: lease, proved: lease, kept: make(chan struct{})}
	ctx, stop := context.WithCancel(c.ctx)
	l.stop = stop
	if !c.start(func() { l.keep(ctx) }) {
		close(l.kept) // the client is closed, and so is the writer
	}
	return l
}

// keep looks after the lease until the writer has ended, or a call takes over.
func (l *Leadership) keep(ctx context.Context) {
	defer close(l.kept)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := l.w.Done()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	stuck := stuckWatch{patience: max(stuckTTLs*l.opts.Lease.TTL, stuckMin)}
	for {
		if lease := l.Lease(); lease != nil && !l.hold(ctx, lease, &stuck) {
			l.giveUp(lease)
			return
		}
		l.set(nil)
		lease, err := l.c.AcquireLease(ctx, l.name, l.opts.Lease)
		if err == nil {
			l.set(lease)
			continue
		}
		if ctx.Err() == nil {
			l.c.log.Warn("the writer goes on without a lease, which is asked for again", "journal", l.name, "err", err)
		}
		if !sleep(ctx, leaseAgain) {
			return
		}
	}
}

// hold returns when the lease is over, which may be because it was resigned here: a writer that commits nothing stands in
// the way of those who could. It goes on (L1), and if nobody takes the lease it is asked for again. It reports false
// when the context has ended.
func (l *Leadership) hold(ctx context.Context, lease *Lease, stuck *stuckWatch) bool {
	tick := time.NewTicker(stuck.patience / 4)
	defer tick.Stop()
	for {
		select {
		case <-lease.Done():
			return true
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		if st := l.w.Status(); !stuck.look(time.Now(), st.Committed, st.Assigned) {
			continue
		}
		l.c.log.Warn("nothing was committed for a while, and something waits: others may have the lease", "journal", l.name)
		l.set(nil)
		bounded, cancel := context.WithTimeout(ctx, leaseAskMax)
		_ = lease.Resign(bounded) // else it expires
		cancel()
		return sleep(ctx, l.opts.Lease.TTL) // whoever watches asks for it first
	}
}

// How long a writer may commit nothing, while something waits, before it lets others have the lease: so many times its time to
// live, and no less than stuckMin; twice that the next time it happens to the same writer, up to stuckMax: what it waits for is not
// of its own making then, and each time costs its readers their lease.
const (
	stuckTTLs = 4
	stuckMin  = 2 * time.Second
	stuckMax  = time.Minute
)

// stuckWatch tells when a writer makes no progress though it has something to commit.
type stuckWatch struct {
	patience  time.Duration
	committed TxID
	since     time.Time // since when nothing has moved; zero: nothing waits
}

// look reports whether it is stuck.
func (s *stuckWatch) look(now time.Time, committed, assigned TxID) bool {
	switch {
	case committed >= assigned:
		s.since = time.Time{}
	case committed != s.committed || s.since.IsZero():
		s.since = now
	case now.Sub(s.since) >= s.patience:
		s.since, s.patience = time.Time{}, min(2*s.patience, max(stuckMax, s.patience))
		return true
	}
	s.committed = committed
	return false
}

// giveUp lets others have the lease when the writer was fenced: nobody would campaign against a lease that is
// kept alive for nothing.
func (l *Leadership) giveUp(lease *Lease) {
	l.mu.Lock()
	taken := l.resign
	l.mu.Unlock()
	if taken {
		return
	}
	ctx, cancel := context.WithTimeout(l.c.ctx, min(l.opts.Lease.TTL, leaseAskMax))
	defer cancel()
	_ = lease.Resign(ctx) // else it expires
	l.set(nil)
}

// covers: nobody else has taken an epoch since the lease was had, if it is valid: the writer was opened under it, or a
// majority confirmed its epoch since (L3).
func (l *Leadership) covers(lease *Lease) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.proved == lease
}

func (l *Leadership) cover(lease *Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.proved = lease
}

func (l *Leadership) set(lease *Lease) {
	l.mu.Lock()
	l.lease = lease
	l.mu.Unlock()
}

// Writer returns the writer.
func (l *Leadership) Writer() *Writer { return l.w }

// Lease returns the lease; nil while there is none.
func (l *Leadership) Lease() *Lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lease
}

// Done returns a channel that is closed when the writer has ended.
func (l *Leadership) Done() <-chan struct{} { return l.w.Done() }

// Err returns why the writer has ended, or nil while it has not.
func (l *Leadership) Err() error { return l.w.Err() }

// Resign closes the writer and lets others have the lease. The errors are those of Writer.Close and
// Lease.Resign; where the lease could not be resigned it expires.
func (l *Leadership) Resign(ctx context.Context) error {
	lease := l.takeOver()
	defer l.w.stop() // last: a state machine that hangs keeps nobody from the lease
	err := l.w.finish(ctx)
	if lease != nil {
		err = errors.Join(err, lease.Resign(ctx))
	}
	return err
}

// abandon ends both as if the process had died: the lease expires, and what is under way is in doubt.
func (l *Leadership) abandon() {
	if lease := l.takeOver(); lease != nil {
		lease.Close()
	}
	l.w.abandon(ErrClosed)
}

// Transfer closes the writer and reserves the lease for the campaigner of that name. Where there is no lease
// at the moment it is ErrLeaseLost, and nothing is done.
func (l *Leadership) Transfer(ctx context.Context, to string) error {
	if err := checkHolder(to); err != nil {
		return err
	}
	if to == l.opts.Lease.Holder {
		return fmt.Errorf("%w: the lease is %q's already", ErrBadRequest, to)
	}
	if lease := l.Lease(); lease == nil || lease.Err() != nil {
		return fmt.Errorf("%w: there is none to be transferred", ErrLeaseLost)
	}
	lease := l.takeOver()
	defer l.w.stop() // last, as in Resign
	err := l.w.finish(ctx)
	if lease == nil {
		return errors.Join(err, fmt.Errorf("%w: there is none to be transferred", ErrLeaseLost))
	}
	return errors.Join(err, lease.Transfer(ctx, to))
}

// takeOver ends the looking after the lease, and returns it: it is kept alive while the writer is closed.
func (l *Leadership) takeOver() *Lease {
	l.mu.Lock()
	l.resign = true
	l.mu.Unlock()
	l.stop()
	<-l.kept
	return l.Lease()
}
