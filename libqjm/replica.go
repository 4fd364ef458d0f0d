package libqjm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/session"
	"github.com/quorumjournal/qjm/segments"
)

// SessionLimits bound the sessions of a replicated state machine. All replicas of a journal must use the same. Its
// fields, where zero is the default:
//
//	Sessions    int    // how many may be open: 10,000
//	Window      uint64 // how many proposals of a session may be awaited at once: 64, SessionWindow
//	ResultBytes int    // what is kept of one session's results for retries: 16 KiB, see ErrResultDropped
type SessionLimits = session.Limits

// ReplicaOptions of one replica. The zero value is good, but for Addr where clients are to be redirected.
type ReplicaOptions struct {
	// Profile says what the defaults of the others are.
	Profile Profile
	// Name tells this replica from the others of its journal. Default: a random one. A name that another process
	// has, too, is no danger to the state: only one of them gets the lease. But a transfer to it goes to either, and
	// they are told apart by Addr alone; what is noticed is logged.
	Name string
	// Addr is where clients of the service find this replica, in the service's own words. Others redirect to it.
	Addr string
	// LeaseTTL is how long the others wait after they have heard nothing of the active: a failover takes about that.
	// A process that is paused for longer is replaced. Default: the profile's, 3 s.
	LeaseTTL time.Duration
	// Observer: it follows, and never becomes active.
	Observer bool
	// OpenWithoutCatalog: see CampaignOptions.
	OpenWithoutCatalog bool
	// Writer is how the active writes. ReopenWhenFenced and OnSnapshotDue must be unset. QueueBytes bounds all
	// proposals that are not applied yet.
	Writer WriterOptions
	// Snapshots says when the active saves a snapshot by itself. Zero: what the journal's own policy says (SetPolicy),
	// and where it has none, the profile.
	Snapshots SnapshotPolicy
	// SpoolDir is where a snapshot is written before it is sent, as a temporary file. Empty: it is held in memory.
	SpoolDir string
	// Sessions bounds what is kept for clients that retry.
	Sessions SessionLimits
	// CompareStates finds a state machine that is not deterministic: the active puts digests of its state into the
	// log, the others compare, and one that differs stops with ErrStateDiverges. The state machine must be a
	// Digester. It is for tests: every transaction is applied by itself, and summed up.
	CompareStates bool
	// Forward sends a proposal to the active's address, and returns its result: Propose on a standby calls it. nil:
	// it returns a *NotActiveError. The error it returns is returned as it is: where the proposal may have been appended over
	// there (no answer came, say) it should be an *AppendError that says so (Handed), or MayHaveCommitted says that it was not.
	Forward func(ctx context.Context, addr string, p Proposal) (Applied, error)
	// Callbacks tell what happens to the replica.
	Callbacks Callbacks
}

// Callbacks of a replica. They are called one at a time, in the order of what they tell, by a goroutine of their own:
// they may call the replica, and wait for it, and hold up nothing but each other. The first may come before OpenReplica has
// returned. nil ones are left out. One that panics stops the replica, like the state machine's code. Who only waits for a role needs none: Replica.AwaitRole.
type Callbacks struct {
	// OnActive: this replica has all that was committed, and takes proposals. It is called again, with a higher epoch,
	// where the writer had to open anew and nobody else wrote in between (F5).
	OnActive func(epoch Epoch)
	// OnStandby: it is not active any more, or has caught up for the first time. reason is nil unless it lost its
	// place: then it says why.
	OnStandby func(reason error)
	// OnFollowing: somebody else holds the lease; his name, and his address.
	OnFollowing func(name, addr string)
	// OnConfig: the journal's nodes are others now.
	OnConfig func(version uint64, nodes []string)
	// OnError: something failed, and is tried again.
	OnError func(err error)
	// OnShutdown is the last one: the replica was closed, or failed. err is nil after Close.
	OnShutdown func(err error)
}

// Role is what a replica does.
type Role uint8

// Roles.
const (
	RoleStarting Role = iota + 1 // it loads the state, and catches up for the first time
	RoleStandby                  // it follows
	RoleActive                   // it takes proposals
	RoleDraining                 // it finishes proposals and takes no more, to hand over or to stop
	RoleStopped                  // it was closed, or has failed
)

// String returns the word that is used in logs and JSON.
func (r Role) String() string {
	switch r {
	case RoleStarting:
		return "starting"
	case RoleStandby:
		return "standby"
	case RoleActive:
		return "active"
	case RoleDraining:
		return "draining"
	case RoleStopped:
		return "stopped"
	}
	return "unknown"
}

// MarshalText writes it as String does.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// NotActiveError: the replica takes no proposals. The proposal was not appended.
type NotActiveError struct {
	Role   Role
	Active string // who holds the lease, as far as this replica has heard; empty: nobody, or it is not known
	Addr   string // where that one is found
}

// ErrNotActive is the class of *NotActiveError.
var ErrNotActive = errors.New("libqjm: replica is not active")

func (e *NotActiveError) Error() string {
	if e.Active == "" {
		return fmt.Sprintf("%v: it is %v, and no other is known to be active", ErrNotActive, e.Role)
	}
	return fmt.Sprintf("%v: it is %v; the active is %s at %q", ErrNotActive, e.Role, e.Active, e.Addr)
}

// Unwrap returns ErrNotActive.
func (e *NotActiveError) Unwrap() error { return ErrNotActive }

// RedirectTo returns where the active is found, if err says that a replica is not active, and knows who is.
func RedirectTo(err error) (addr string, ok bool) {
	na, ok := errors.AsType[*NotActiveError](err)
	if !ok || na.Addr == "" {
		return "", false
	}
	return na.Addr, true
}

// ReplicaStatus is how a replica stands. It can be shown as JSON.
type ReplicaStatus struct {
	Name    string `json:"name"`
	Role    Role   `json:"role"`
	Epoch   Epoch  `json:"epoch,omitempty"` // while active
	Applied TxID   `json:"applied"`
	Active  string `json:"active,omitempty"` // who holds the lease, as far as it has heard
	Addr    string `json:"addr,omitempty"`   // and where he is found
	// Snapshot is the newest one that this replica has loaded or saved: a restart reads it, and what follows.
	Snapshot TxID  `json:"snapshot,omitempty"`
	Err      error `json:"-"` // why it has stopped
}

// Replica keeps a user's state machine: the same state in each of several processes, of which one is active. The active
// takes proposals, which are committed and then applied everywhere; the others follow closely, and one of them
// becomes active by itself when the active is gone. Nothing that was acknowledged is lost, and nobody who was
// replaced can acknowledge anything.
//
// Safe for concurrent use.
type Replica struct {
	c    *Client
	name string // the journal's
	opts ReplicaOptions

	m      *machine           // run's alone, but for what applyQueue has others do
	id     segments.JournalID // of the journal that the state is of; run's alone
	queue  *applyQueue
	due    chan SnapshotReason // one place
	ctx    context.Context
	cancel context.CancelCauseFunc // nil: it was closed; else why it fails
	done   chan struct{}           // closed when run has ended
	events *events
	rounds confirmRounds
	leads  atomic.Pointer[Leadership] // lead while active, and nil while not: what proposals look at

	mu      sync.Mutex
	role    Role
	applied TxID
	snap    TxID          // the newest snapshot that was loaded or saved
	moved   chan struct{} // closed when what is guarded by mu has changed; nil while nobody waits
	lead    *Leadership   // while active or draining
	active  LeaseInfo     // what was last heard of the lease
	fresh   time.Time     // the state was linearizable then
	failed  error         // why it has stopped
	lost    error         // why it is not active any more, until it follows again
	closing bool
	killed  bool // Close was called without any time
}

// OpenReplica starts a replica of a journal that exists, and returns at once: it loads the newest snapshot, follows, and
// campaigns, in the background, until it is closed or fails. Errors: ErrBadRequest, ErrClosed.
func (c *Client) OpenReplica(journal string, sm StateMachine, o ReplicaOptions) (*Replica, error) {
	o.Name = cmp.Or(o.Name, uuid.NewString())
	o = o.withDefaults()
	if err := o.validate(journal, sm); err != nil {
		return nil, err
	}
	r := &Replica{
		c: c, name: journal, opts: o, m: newMachine(sm, o.Sessions, o.CompareStates),
		due: make(chan SnapshotReason, 1), done: make(chan struct{}), role: RoleStarting,
	}
	r.ctx, r.cancel = context.WithCancelCause(c.ctx)
	r.events = newEvents(c.log, r.cancel)
	if !c.start(r.run) {
		return nil, ErrClosed
	}
	go r.events.run()
	go r.watch()
	return r, nil
}

func (o ReplicaOptions) validate(journal string, sm StateMachine) error {
	_, digests := sm.(Digester)
	switch {
	case o.Profile > ProfileAvailability:
		return fmt.Errorf("%w: no such profile: %d", ErrBadRequest, o.Profile)
	case sm == nil:
		return fmt.Errorf("%w: no state machine", ErrBadRequest)
	case o.Sessions.Sessions < 0 || o.Sessions.ResultBytes < 0:
		return fmt.Errorf("%w: Sessions (got %d sessions, %d bytes of results, want none below 0)", ErrBadRequest, o.Sessions.Sessions, o.Sessions.ResultBytes)
	case o.CompareStates && o.Writer.MaxTxnBytes != 0 && o.Writer.MaxTxnBytes < digestsMax:
		return fmt.Errorf("%w: CompareStates needs Writer.MaxTxnBytes of %d (got %d)", ErrBadRequest, digestsMax, o.Writer.MaxTxnBytes)
	case o.CompareStates && !digests:
		return fmt.Errorf("%w: CompareStates needs a state machine that is a Digester", ErrBadRequest)
	case o.Writer.OnSnapshotDue != nil:
		return fmt.Errorf("%w: a replica saves its snapshots itself: Writer.OnSnapshotDue must be unset", ErrBadRequest)
	}
	if err := o.Snapshots.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	return errors.Join(rpc.CheckJournalName(journal), o.campaign(nil, nil).validate())
}

// campaign returns the options to campaign with.
func (o ReplicaOptions) campaign(q *applyQueue, due func(SnapshotReason)) CampaignOptions {
	w := o.Writer
	w.sink, w.OnSnapshotDue, w.SnapshotPolicy = q, due, o.Snapshots
	return CampaignOptions{
		Lease:  LeaseOptions{Holder: o.Name, Addr: o.Addr, TTL: o.LeaseTTL},
		Writer: w, OpenWithoutCatalog: o.OpenWithoutCatalog,
	}
}

// Status returns how the replica stands.
func (r *Replica) Status() ReplicaStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := ReplicaStatus{
		Name: r.opts.Name, Role: r.role, Applied: r.applied, Active: r.active.Holder, Addr: r.active.Addr,
		Snapshot: r.snap, Err: r.failed,
	}
	if r.lead != nil {
		st.Epoch = r.lead.w.Epoch()
	}
	return st
}

// Done returns a channel that is closed when the replica has stopped: it was closed, or has failed.
func (r *Replica) Done() <-chan struct{} { return r.done }

// Err returns why the replica has failed, or nil: it runs, or was closed. The classes are ErrStateMachine,
// ErrStateDiverges, ErrNotOurs, ErrBadSnapshot, ErrJournalDeleted, ErrNoJournal.
func (r *Replica) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// change changes what mu guards, and wakes those who wait for it.
func (r *Replica) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	var leads *Leadership
	if r.role == RoleActive {
		leads = r.lead
	}
	if r.leads.Load() != leads { // most changes are of applied: proposers' caches need not hear of those
		r.leads.Store(leads)
	}
	if r.moved != nil {
		close(r.moved)
		r.moved = nil
	}
}

// await waits until done reports true, or an error, with mu held. ErrClosed, or why it failed, once the replica has
// stopped.
func (r *Replica) await(ctx context.Context, done func() (bool, error)) error {
	for {
		r.mu.Lock()
		ok, err := done()
		if !ok && err == nil && r.role == RoleStopped {
			err = cmp.Or(r.failed, ErrClosed)
		}
		if ok || err != nil {
			r.mu.Unlock()
			return err
		}
		if r.moved == nil {
			r.moved = make(chan struct{})
		}
		moved := r.moved
		r.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("libqjm: replica of %s: %w", r.name, context.Cause(ctx))
		}
	}
}

// AwaitRole waits until the replica has one of the roles. Errors: context errors; of a replica that has stopped, ErrClosed
// or why it failed.
func (r *Replica) AwaitRole(ctx context.Context, roles ...Role) error {
	return r.await(ctx, func() (bool, error) { return slices.Contains(roles, r.role), nil })
}

// Close stops the replica. An active finishes the proposals that it has taken, finalizes its segment, and lets another
// have the lease; then the error is that of Leadership.Resign. Where the context ends first it stops at once, and
// another becomes active when the lease has expired; with a context that has ended before, it stops like a process that
// is killed: nobody is told. It may be called by callbacks; not by the state machine, whose methods it waits for.
func (r *Replica) Close(ctx context.Context) error {
	r.change(func() { r.closing, r.killed = true, ctx.Err() != nil })
	lead := r.drain(RoleActive, RoleDraining)
	var err error
	if lead != nil && ctx.Err() != nil {
		lead.abandon()
	} else if lead != nil {
		err = lead.Resign(ctx)
		// What the writer has committed is applied, and its proposers are told, before the rest is stopped.
		_ = r.await(ctx, func() (bool, error) { return r.role != RoleDraining, nil })
	}
	r.cancel(nil)
	<-r.done
	return err
}

// Transfer hands over to the replica of that name: the proposals taken so far are finished, later ones wait until it
// is active, and are forwarded or redirected. Where no replica has that name nobody is active until the lease has
// expired. Errors: ErrNotActive; ErrLeaseLost where there is no lease at the moment: then nothing is done, and the
// replica stays active; the other ones of Leadership.Transfer: the replica is a standby then, and whoever gets the
// lease becomes active. Like Close it is not for the state machine to call.
func (r *Replica) Transfer(ctx context.Context, to string) error {
	if err := checkHolder(to); err != nil {
		return err
	}
	if to == r.opts.Name {
		return fmt.Errorf("%w: the replica is %q itself", ErrBadRequest, to)
	}
	lead := r.drain(RoleActive)
	if lead == nil {
		return r.notActive()
	}
	err := lead.Transfer(ctx, to)
	if lead.Err() == nil { // there was no lease to transfer, and the writer goes on
		r.change(func() {
			if r.role == RoleDraining && r.lead == lead && !r.closing && r.failed == nil {
				r.role = RoleActive
			}
		})
	}
	return err
}

// drain lets no more proposals in, where the replica has one of the roles.
func (r *Replica) drain(from ...Role) (lead *Leadership) {
	r.change(func() {
		for _, role := range from {
			if r.role == role {
				r.role, lead = RoleDraining, r.lead
				return
			}
		}
	})
	return lead
}

func (r *Replica) notActive() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.notActiveLocked()
}

func (r *Replica) notActiveLocked() error {
	if r.role == RoleStopped {
		return cmp.Or(r.failed, ErrClosed)
	}
	e := &NotActiveError{Role: r.role}
	if r.another(r.active) {
		e.Active, e.Addr = r.active.Holder, r.active.Addr
	}
	return e
}

// another reports whether somebody else holds a lease. Two processes with one name are told apart by their addresses.
func (r *Replica) another(l LeaseInfo) bool {
	return l.Holder != "" && (l.Holder != r.opts.Name || l.Addr != r.opts.Addr)
}
