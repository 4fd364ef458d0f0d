package libqjm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/segments"
)

// Bounds of a lease's time to live, and its default.
const (
	MinLeaseTTL     = rpc.LeaseTTLMin
	MaxLeaseTTL     = rpc.LeaseTTLMax
	DefaultLeaseTTL = 10 * time.Second
)

const (
	// renewalsPerTTL is how many renewals are sent in one time to live; as many may be under way, and one more.
	renewalsPerTTL = 3
	// leaseAskMin and leaseAskMax bound how long one node is given to answer a request for a lease. What comes
	// after the time to live would be of no use.
	leaseAskMin = time.Second
	leaseAskMax = 5 * time.Second
)

// LeaseOptions of a lease. Zero values are the defaults.
type LeaseOptions struct {
	// Holder names who holds the lease: whoever transfers one names the next holder by it. Each process should
	// have a name of its own; the default is a random one.
	Holder string
	// Addr is shown to whoever reads the lease: where clients find the holder, say. Nothing looks into it.
	Addr string
	// TTL is the time to live: from 300 ms to 10 minutes, in whole milliseconds. After so long without a
	// renewal the lease is over. Short ones make failover fast, and cost more when the catalog is slow.
	TTL time.Duration
	// NoWait: where somebody has the lease, return ErrLeaseHeld at once.
	NoWait bool
}

func (o LeaseOptions) withDefaults() LeaseOptions {
	o.TTL = cmp.Or(o.TTL, DefaultLeaseTTL)
	if o.Holder == "" {
		o.Holder = uuid.NewString()
	}
	return o
}

func (o LeaseOptions) validate() error {
	switch {
	case o.TTL < MinLeaseTTL || o.TTL > MaxLeaseTTL || o.TTL%time.Millisecond != 0:
		return fmt.Errorf("%w: TTL (got %s, want %s to %s in milliseconds)", ErrBadRequest, o.TTL, MinLeaseTTL, MaxLeaseTTL)
	case len(o.Addr) > rpc.LeaseAddrMax || !printable(o.Addr):
		return fmt.Errorf("%w: Addr (got %d bytes, want up to %d of printable UTF-8)", ErrBadRequest, len(o.Addr), rpc.LeaseAddrMax)
	}
	return checkHolder(o.Holder)
}

func checkHolder(name string) error {
	if name == "" || len(name) > rpc.LeaseNameMax || !printable(name) {
		return fmt.Errorf("%w: name of a holder (got %d bytes, want 1 to %d of printable UTF-8)", ErrBadRequest, len(name), rpc.LeaseNameMax)
	}
	return nil
}

func printable(s string) bool {
	for _, r := range s {
		if r < ' ' || r == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

// Lease is a journal's writer lease while this process holds it. It says who should write; who can is decided
// by epochs alone, so the end of a lease stops no writer (L1). It is kept alive in the background until it is
// resigned or transferred, is lost, or the client is closed. Safe for concurrent use.
type Lease struct {
	c    *Client
	name string
	ref  rpc.LeaseRef
	opts LeaseOptions

	ctx    context.Context // ends with the lease
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	until  time.Time     // guarded by mu, like all below
	moved  chan struct{} // closed, and made anew, when until has moved
	err    error         // why it is over
	at     int           // which node is asked
	flying int           // renewals under way
	silent bool          // the last renewal sent was not answered yet
	heard  time.Time     // when a node last answered anything
}

// AcquireLease gets a journal's lease, waiting for it as long as the context lives, and keeps it alive. It
// needs the catalog's leader. When the context ends first, the lease may have been granted all the same: then
// it expires.
//
// Errors: ErrLeaseHeld with NoWait; ErrBadRequest, ErrNoJournal, ErrJournalDeleted, ErrNoLeader, ErrClosed;
// context errors.
func (c *Client) AcquireLease(ctx context.Context, journal string, o LeaseOptions) (*Lease, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	ask := asking{nonce: uuid.New()}
	for {
		l, err := c.tryLease(ctx, journal, o, &ask)
		switch {
		case err == nil:
			if err = l.awaitValid(ctx); err == nil {
				return l, nil
			}
			l.end(err)
			if !errors.Is(err, ErrLeaseLost) {
				return nil, err
			}
			ask = asking{nonce: uuid.New()}
		case o.NoWait || !errors.Is(err, ErrLeaseHeld):
			return nil, fmt.Errorf("libqjm: lease of %s: %w", journal, err)
		default:
			if err := c.awaitFree(ctx, journal, o.Holder); err != nil {
				return nil, fmt.Errorf("libqjm: lease of %s: %w", journal, err)
			}
		}
	}
}

// asking is one wish for a lease, which may take several requests. Any of them may be the one that is granted.
type asking struct {
	nonce [16]byte
	first time.Time // when the first one was sent
}

// tryLease asks for the lease once, of nodes in turn. The time of a lease that an earlier request got is
// counted from the first one.
func (c *Client) tryLease(ctx context.Context, journal string, o LeaseOptions, ask *asking) (*Lease, error) {
	var sent time.Time
	var id segments.JournalID
	g, err := onJournal(ctx, c, journal, func(j segments.JournalID) (rpc.LeaseGrant, error) {
		id = j
		req := rpc.LeaseRequest{Journal: j, Holder: o.Holder, Addr: o.Addr, TTL: o.TTL, Nonce: ask.nonce}
		return anyNode(ctx, c, func(ctx context.Context, n rpc.Node) (rpc.LeaseGrant, error) {
			ctx, cancel := context.WithTimeout(ctx, min(max(o.TTL, leaseAskMin), leaseAskMax))
			defer cancel()
			sent = time.Now()
			if ask.first.IsZero() {
				ask.first = sent
			}
			return n.AcquireLease(ctx, req)
		})
	})
	if err != nil {
		return nil, err
	}
	if g.Again {
		sent = ask.first
	}
	l := &Lease{
		c: c, name: journal, ref: rpc.LeaseRef{Journal: id, Revision: g.Revision}, opts: o, until: sent.Add(o.TTL),
		done: make(chan struct{}), moved: make(chan struct{}),
	}
	l.heard = time.Now()
	l.ctx, l.cancel = context.WithCancel(c.ctx)
	if !c.start(l.keep) {
		return nil, ErrClosed
	}
	c.log.Info("lease acquired", "journal", journal, "holder", o.Holder, "revision", g.Revision)
	return l, nil
}

// staleTries is how often a name may stand for a journal that the catalog does not know, in one call.
const staleTries = 4

// onJournal calls with the journal that a name stands for, and again where the name was another one's by then.
// It waits for nodes that know it as long as the context lives. A node that has not heard of a deletion gives the
// old journal's id for the name, time after time: after staleTries the answer is that it is gone.
func onJournal[T any](ctx context.Context, c *Client, name string, call func(segments.JournalID) (T, error)) (T, error) {
	var none T
	tries := 0
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		found, err := c.find(ctx, name)
		if err == nil {
			var v T
			v, err = call(found.ID)
			deleted := errors.Is(err, ErrJournalDeleted)
			if !deleted && !errors.Is(err, ErrNoJournal) || !c.forget(name, found.ID, deleted) {
				return v, err
			}
			if tries++; tries == staleTries {
				return none, err
			}
		} else if !errors.Is(err, ErrNoQuorum) {
			return none, err
		}
		select {
		case <-time.After(wait):
		case <-c.ctx.Done():
			return none, ErrClosed
		case <-ctx.Done():
			return none, fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}
}

// keep sends renewals until the lease is over.
func (l *Lease) keep() {
	tick := time.NewTicker(l.opts.TTL / renewalsPerTTL)
	defer tick.Stop()
	if every := l.opts.TTL / renewalsPerTTL; time.Until(l.Until()) < l.opts.TTL-every {
		l.renew() // the grant took its time
	}
	for {
		select {
		case <-tick.C:
			l.renew()
		case <-l.ctx.Done():
			l.end(ErrClosed)
			return
		}
	}
}

// renew sends one renewal, and does not wait for the answer: a node that is silent must not keep the next one
// from another node.
//
// Who has heard nothing for a whole time to live renews no more, until it hears something: where a network loses what
// comes to this process and delivers what it sends, nothing can be committed here, and nobody else would ever get
// the lease. A catalog without a leader is no such case: its nodes answer, if only to a question.
func (l *Lease) renew() {
	ids := l.c.nodeIDs()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil || l.flying > renewalsPerTTL || len(ids) == 0 {
		return
	}
	if l.silent {
		l.at++
	}
	at := l.at
	to := quorum.Member{ID: ids[at%len(ids)]}
	send := l.send
	if time.Since(l.heard) > l.opts.TTL {
		send = l.listen
	}
	if l.c.start(func() { send(to, at) }) {
		l.flying++
		l.silent = true
	}
}

// listen asks a node what it can answer by itself.
func (l *Lease) listen(to quorum.Member, at int) {
	ctx, cancel := context.WithTimeout(l.ctx, l.opts.TTL)
	defer cancel()
	n, err := l.c.node(to)
	if err == nil {
		_, err = n.State(ctx, l.ref.Journal)
	}
	l.mu.Lock()
	l.flying--
	l.answered(at, err)
	heard := time.Since(l.heard) <= l.opts.TTL
	l.mu.Unlock()
	if heard {
		l.renew() // at once: a new leader's count may be running already
	}
}

// answered notes what came of a request. Only the lack of an answer is silence. The caller holds mu.
func (l *Lease) answered(at int, err error) {
	silent := errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
	if !silent {
		l.heard = time.Now()
	}
	if at == l.at {
		l.silent = false
		if err != nil {
			l.at++
		}
	}
}

func (l *Lease) send(to quorum.Member, at int) {
	ctx, cancel := context.WithTimeout(l.ctx, l.opts.TTL) // later, the answer is of no use
	defer cancel()
	sent := time.Now()
	n, err := l.c.node(to)
	var kept []error
	if err == nil {
		kept, err = n.KeepLeases(ctx, rpc.LeaseRenewal{Leases: []rpc.LeaseRef{l.ref}})
	}
	if err == nil && len(kept) != 1 {
		err = fmt.Errorf("%w: %d answers to one renewal", ErrUnavailable, len(kept))
	}
	lost := err == nil && kept[0] != nil
	l.mu.Lock()
	l.flying--
	l.answered(at, err)
	if err == nil && !lost {
		l.extend(sent)
	}
	l.mu.Unlock()
	if lost {
		l.end(fmt.Errorf("libqjm: lease of %s: %w", l.name, kept[0]))
	}
}

// extend: the time is counted from when the renewal was sent. When it was answered says nothing: this process
// may have been stopped in between (L2). The caller holds mu.
func (l *Lease) extend(sent time.Time) {
	if until := sent.Add(l.opts.TTL); until.After(l.until) {
		l.until = until
		close(l.moved)
		l.moved = make(chan struct{})
	}
}

// end ends the lease for this process, once.
func (l *Lease) end(err error) {
	l.mu.Lock()
	first := l.err == nil
	if first {
		l.err = err
		close(l.done)
	}
	l.mu.Unlock()
	l.cancel()
	if first && !errors.Is(err, ErrClosed) {
		l.c.log.Warn("lease lost", "journal", l.name, "revision", l.ref.Revision, "err", err)
	}
}

// awaitValid waits until the lease is known to be held.
func (l *Lease) awaitValid(ctx context.Context) error {
	for {
		l.mu.Lock()
		err, moved, valid := l.err, l.moved, l.validAt(time.Now())
		l.mu.Unlock()
		if err != nil || valid {
			return err
		}
		select {
		case <-moved:
		case <-l.done:
		case <-ctx.Done():
			return fmt.Errorf("libqjm: lease of %s: %w", l.name, context.Cause(ctx))
		}
	}
}

// Journal returns the journal's name, Holder the name that the lease is held under.
func (l *Lease) Journal() string { return l.name }

// Holder returns the name that the lease is held under.
func (l *Lease) Holder() string { return l.opts.Holder }

// Revision names this lease, and no other one ever.
func (l *Lease) Revision() uint64 { return l.ref.Revision }

// Valid reports whether the lease is certainly held, by this process's monotonic clock: less than TTL ago it
// sent the request that granted or last renewed it. That needs no message, so it holds for a process that was
// stopped and goes on, too. While it is false nobody may have taken the lease yet: it can become true again,
// as long as Done is open. What it rests on is in docs/leases.md (L3).
func (l *Lease) Valid() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.validAt(time.Now())
}

func (l *Lease) validAt(now time.Time) bool { return l.err == nil && now.Before(l.until) }

// Until returns when Valid ends if no renewal comes.
func (l *Lease) Until() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until
}

// Done returns a channel that is closed when the lease is over for good, as far as this process has heard.
func (l *Lease) Done() <-chan struct{} { return l.done }

// Err returns why the lease is over: ErrLeaseLost, or ErrClosed where this process ended it; nil before.
func (l *Lease) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close stops keeping the lease alive: it expires. To let others have it at once, use Resign.
func (l *Lease) Close() { l.end(ErrClosed) }

// Resign ends the lease, and lets others have it at once. For this process it is over with the call, whatever
// comes of it: on an error it expires. Errors: ErrNoLeader, ErrUnavailable.
func (l *Lease) Resign(ctx context.Context) error {
	l.end(ErrClosed)
	err := l.c.resign(ctx, l.ref)
	if errors.Is(err, ErrLeaseLost) {
		return nil // it is over
	}
	return err
}

// Transfer ends the lease, and reserves the next one for the holder of that name: nobody else gets it for as
// long as it lived. For this process it is over with the call, like with Resign. Errors: ErrLeaseLost where it
// was over before; ErrBadRequest; ErrNoLeader, ErrUnavailable.
func (l *Lease) Transfer(ctx context.Context, to string) error {
	if err := checkHolder(to); err != nil {
		return err
	}
	if to == l.opts.Holder {
		return fmt.Errorf("%w: the lease is %q's already", ErrBadRequest, to)
	}
	l.end(ErrClosed)
	return l.c.transfer(ctx, l.ref, to)
}

func (c *Client) resign(ctx context.Context, ref rpc.LeaseRef) error {
	tried := false
	_, err := anyNode(ctx, c, func(ctx context.Context, n rpc.Node) (struct{}, error) {
		err := n.ResignLease(ctx, ref)
		if tried && errors.Is(err, ErrLeaseLost) {
			return struct{}{}, nil // an answer was lost
		}
		tried = tried || errors.Is(err, ErrUnavailable)
		return struct{}{}, err
	})
	return err
}

func (c *Client) transfer(ctx context.Context, ref rpc.LeaseRef, to string) error {
	tried := false
	_, err := anyNode(ctx, c, func(ctx context.Context, n rpc.Node) (uint64, error) {
		revision, err := n.TransferLease(ctx, rpc.LeaseTransfer{LeaseRef: ref, To: to})
		if tried && errors.Is(err, ErrLeaseLost) { // maybe by the attempt whose answer was lost
			if now, failed := n.Lease(ctx, ref.Journal); failed == nil && (now.ReservedFor == to || now.Holder == to) {
				return now.Revision, nil
			}
		}
		tried = tried || errors.Is(err, ErrUnavailable)
		return revision, err
	})
	return err
}

// ResignLease ends somebody's lease, which the revision names: an operator's way. Its holder's writer goes on
// (L1). Errors: ErrLeaseLost where the lease is another one by now; ErrNoJournal, ErrNoLeader.
func (c *Client) ResignLease(ctx context.Context, journal string, revision uint64) error {
	_, err := onJournal(ctx, c, journal, func(id segments.JournalID) (struct{}, error) {
		return struct{}{}, c.resign(ctx, rpc.LeaseRef{Journal: id, Revision: revision})
	})
	return err
}

// TransferLease is ResignLease, with the next lease reserved for somebody.
func (c *Client) TransferLease(ctx context.Context, journal string, revision uint64, to string) error {
	if err := checkHolder(to); err != nil {
		return err
	}
	_, err := onJournal(ctx, c, journal, func(id segments.JournalID) (struct{}, error) {
		return struct{}{}, c.transfer(ctx, rpc.LeaseRef{Journal: id, Revision: revision}, to)
	})
	return err
}
