package libqjm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorumjournal/qjm/internal/session"
)

// Proposal is what is to be applied.
type Proposal struct {
	// Data is handed to StateMachine.Apply. It is copied before Propose waits, and may be empty.
	Data []byte
	// Epoch, where not 0: only if this replica is active in this epoch. Whoever read something while it was active,
	// and proposes what follows from it, is not fooled by a replica that was replaced and is active again
	// meanwhile. Otherwise *EpochError.
	Epoch Epoch
	// Session, where set, makes retries harmless: see Session.
	Session *SessionRef
}

// Applied is a proposal that is committed and applied.
type Applied struct {
	// TxID of the transaction. Of a retry in a session it is the retry's own, and not that of the one that took effect: a
	// service that tells its clients txids puts them into the result.
	TxID   TxID
	Result []byte // what Apply returned for it; not to be changed
}

// ErrEpoch is the class of *EpochError.
var ErrEpoch = errors.New("libqjm: replica is active in another epoch")

// EpochError: the replica is active, but not in the epoch that was expected. The proposal was not appended.
type EpochError struct{ Got, Want Epoch }

func (e *EpochError) Error() string {
	return fmt.Sprintf("%v (got %d, want %d)", ErrEpoch, e.Got, e.Want)
}

// Unwrap returns ErrEpoch.
func (e *EpochError) Unwrap() error { return ErrEpoch }

// Pending is a proposal under way.
type Pending struct {
	f Future
	p seat
}

// Done is closed when the outcome is known.
func (p *Pending) Done() <-chan struct{} { return p.f.Done() }

// TxID returns the txid that the proposal has got. It is not committed before Done.
func (p *Pending) TxID() TxID { return p.f.last }

// Wait waits for the outcome: the errors are those of Propose. Where the context ends first the proposal goes on.
func (p *Pending) Wait(ctx context.Context) (Applied, error) {
	txid, err := p.f.Wait(ctx)
	if err != nil {
		return Applied{}, err
	}
	var out outcome
	if b := p.f.b; b.outs != nil {
		out = b.outs[txid-b.first]
	}
	if out.err != nil {
		return Applied{}, out.err
	}
	return Applied{TxID: txid, Result: out.result}, nil
}

// Propose has the active commit a proposal, and returns when it is committed and applied here.
//
// On a replica that is not active it calls ReplicaOptions.Forward, once it knows who is, or else fails with
// *NotActiveError, which says where the active is, if it knows. While one hands over to another (Transfer) proposals wait for it.
//
// MayHaveCommitted(err) tells whether the proposal may be applied nonetheless; then only a Session makes a retry
// harmless. Other errors: ErrTooLarge, ErrQueueFull, ErrQuota, ErrFenced; *EpochError; those of the session; ErrNotApplied: it is committed,
// and this replica has failed.
func (r *Replica) Propose(ctx context.Context, p Proposal) (Applied, error) {
	done, err := r.propose(ctx, &p)
	if err == nil {
		return done, nil
	}
	return r.elsewhere(ctx, &p, err)
}

// elsewhere has the active commit a proposal that was not committed here, if it was refused because another one is.
func (r *Replica) elsewhere(ctx context.Context, p *Proposal, err error) (done Applied, _ error) {
	for {
		na, redirect := errors.AsType[*NotActiveError](err)
		if !redirect {
			return done, err
		}
		if na.Role == RoleDraining || r.opts.Forward != nil && na.Active == "" {
			if err := r.await(ctx, func() (bool, error) { return r.settled(), nil }); err != nil {
				return Applied{}, errors.Join(na, err)
			}
			done, err = r.propose(ctx, p)
			continue
		}
		if r.opts.Forward == nil || na.Addr == "" {
			return Applied{}, err
		}
		return r.opts.Forward(ctx, na.Addr, *p)
	}
}

func (r *Replica) propose(ctx context.Context, p *Proposal) (Applied, error) {
	var under Pending
	if err := r.begin(ctx, p, &under, &under.p); err != nil {
		return Applied{}, err
	}
	under.f.w.in.awaitWith(ctx, under.f.b, under.p)
	done, err := under.Wait(ctx)
	return done, r.redirected(err)
}

// redirected makes of a refusal by a writer that has ended what a replica says that is not active any more: the proposal came
// when the reign was just over, and was not appended.
func (r *Replica) redirected(err error) error {
	if err == nil || MayHaveCommitted(err) || !errors.Is(err, ErrClosed) && !errors.Is(err, ErrFenced) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	na, ok := errors.AsType[*NotActiveError](r.notActiveLocked())
	if !ok {
		return err // it has stopped
	}
	if na.Role == RoleActive {
		na.Role = RoleDraining // run has not heard of the end yet
	}
	return na
}

// settled: it is clear who is active after a transfer. The caller holds mu.
func (r *Replica) settled() bool {
	return r.role == RoleActive && r.lead.Err() == nil || r.role != RoleDraining && r.another(r.active)
}

// ProposeAsync is Propose without the wait, on the active only: elsewhere it is a *NotActiveError. It waits only while
// too much is under way. Proposals are applied in the order of the calls.
func (r *Replica) ProposeAsync(ctx context.Context, p Proposal) (*Pending, error) {
	under := new(Pending)
	if err := r.begin(ctx, &p, under, nil); err != nil {
		return nil, err
	}
	return under, nil
}

// serving returns the leadership of an active.
func (r *Replica) serving() (*Leadership, error) {
	if lead := r.leads.Load(); lead != nil {
		return lead, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.role == RoleActive {
		return r.lead, nil
	}
	return nil, r.notActiveLocked()
}

// begin hands a proposal to the writer; at, where not nil, becomes the caller's seat.
func (r *Replica) begin(ctx context.Context, p *Proposal, under *Pending, at *seat) error {
	lead, err := r.serving()
	if err != nil {
		return err
	}
	if p.Epoch != 0 {
		if got := lead.w.Epoch(); got != p.Epoch {
			return &EpochError{Got: got, Want: p.Epoch}
		}
	}
	head := plainHead
	if p.Session != nil {
		if head, err = p.Session.head(); err != nil {
			return err
		}
	}
	under.f, err = lead.w.add(ctx, at, head, p.Data)
	return r.redirected(err)
}

// plainHead is in front of a proposal that is in no session.
var plainHead = []byte{entryPlain}

// head is in front of a proposal of a session.
func (s *SessionRef) head() ([]byte, error) {
	if s.Seq == 0 || s.Awaited == 0 || s.Awaited > s.Seq {
		return nil, fmt.Errorf("%w: session (got Seq %d, Awaited %d, want 1 <= Awaited <= Seq)", ErrBadRequest, s.Seq, s.Awaited)
	}
	e := logEntry{kind: entryInOrder, stamp: now(), session: session.ID(s.ID), seq: s.Seq, awaited: s.Awaited}
	return e.append(make([]byte, 0, entryHeadMax)), nil
}

// now is what entries are stamped with.
func now() session.Millis { return session.Millis(time.Now().UnixMilli()) }

// OpenSession opens a session for a client that retries, or keeps one that is open for as long again. It ends when it was
// not used for ttl, which is MinSessionTTL to MaxSessionTTL. One that has ended is begun anew, and knows nothing: what was tried
// in it before would be applied again. So do not call it while an answer is awaited. Like CloseSession it is for the active; elsewhere it is a
// *NotActiveError. Errors: those of Propose, ErrTooManySessions, ErrBadRequest.
func (r *Replica) OpenSession(ctx context.Context, id SessionID, ttl time.Duration) error {
	if ttl < MinSessionTTL || ttl > MaxSessionTTL {
		return fmt.Errorf("%w: ttl of a session (got %s, want %s to %s)", ErrBadRequest, ttl, MinSessionTTL, MaxSessionTTL)
	}
	return r.control(ctx, logEntry{kind: entryOpen, stamp: now(), session: session.ID(id), ttl: session.Millis(ttl.Milliseconds())})
}

// CloseSession ends a session.
func (r *Replica) CloseSession(ctx context.Context, id SessionID) error {
	return r.control(ctx, logEntry{kind: entryClose, stamp: now(), session: session.ID(id)})
}

// control has an entry applied that is about a session, and no proposal.
func (r *Replica) control(ctx context.Context, e logEntry) error {
	lead, err := r.serving()
	if err != nil {
		return err
	}
	f, err := lead.w.add(ctx, nil, e.append(nil), nil)
	if err == nil {
		_, err = (&Pending{f: f}).Wait(ctx)
	}
	return r.redirected(err)
}
