package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Group is one server's part in the group. It is safe for concurrent use.
type Group struct {
	o         Options
	raft      *raft.Raft
	transport *transport
	streams   *streams
	machine   *machine
	watch     *watchdog
	progress  *progress
	stores    stores
	barriers  barriers
	lease     readLease
	snaps     snapshotter

	leadership chan bool
	slots      chan struct{} // one token a request under way
	transfer   chan struct{} // one token: a transfer of leadership under way
	failed     failedTransfers

	mu      sync.Mutex // guards closed, and flights.Add against Shutdown's Wait
	closed  bool
	closing chan struct{}  // closed with closed
	flights sync.WaitGroup // requests that upstream has
	loops   sync.WaitGroup
	ended   chan struct{} // closed when everything has ended
	endErr  error         // set before ended is closed
}

// Start runs the server. There must be a store, made by Bootstrap or Create.
func Start(opts Options) (*Group, error) {
	o := opts.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Machine == nil || o.Dial == nil {
		return nil, fmt.Errorf("%w: a machine and a dialler are needed", ErrInvalid)
	}
	s, err := o.Stores.open()
	if err != nil {
		return nil, err
	}
	g, err := start(o, s)
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return g, nil
}

func start(o Options, s stores) (*Group, error) {
	g := &Group{
		o: o, stores: s, streams: newStreams(o), watch: newWatchdog(o.StoreStallAfter), progress: newProgress(),
		leadership: make(chan bool, 1), slots: make(chan struct{}, o.InFlight), transfer: make(chan struct{}, 1),
		closing: make(chan struct{}), ended: make(chan struct{}),
	}
	g.machine = &machine{m: o.Machine, snapshotMax: o.SnapshotBytes, onMembership: func(m Membership) { g.progress.keep(m.Members) }}
	g.snaps.init()
	snaps := snapshots{s.snapshots, g.machine}
	if err := newestReadable(snaps); err != nil {
		return nil, err
	}
	if o.wrapLogs != nil {
		s.logs = o.wrapLogs(s.logs)
	}
	g.transport = newTransport(o, g.streams, g.watch, g.progress)
	r, err := raft.NewRaft(o.config(), g.machine, watchedLogs{s.logs, g.watch}, watchedStable{s.stable, g.watch}, snaps, g.transport)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("raftgroup: start: %w", err), g.transport.Close())
	}
	g.raft = r
	g.loops.Go(g.relayLeadership)
	g.loops.Go(g.snapshotLoop)
	return g, nil
}

// newestReadable refuses a store whose newest raft snapshot cannot be read: upstream would take an older
// one, and the entries between the two may be gone.
func newestReadable(s raft.SnapshotStore) error {
	list, err := s.List()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if len(list) == 0 {
		return nil
	}
	_, r, err := s.Open(list[0].ID)
	if err != nil {
		return fmt.Errorf("%w: raft snapshot at %d: %w", ErrDamaged, list[0].Index, err)
	}
	return r.Close()
}

// Accept takes an incoming stream whose hello was read and matched by ReadHello, and owns it from now on.
func (g *Group) Accept(conn net.Conn, from ServerID) { g.streams.add(conn, from) }

// relayLeadership keeps the newest news of upstream, so that a slow reader misses none that still holds.
func (g *Group) relayLeadership() {
	defer close(g.leadership)
	for {
		select {
		case leads := <-g.raft.LeaderCh():
			g.tellLeadership(leads)
		case <-g.ended:
			g.tellLeadership(false)
			return
		}
	}
}

func (g *Group) tellLeadership(leads bool) {
	select { // this goroutine is the only one that sends, so the room stays
	case <-g.leadership:
	default:
	}
	g.leadership <- leads
}

// Leadership tells when this server begins or ends to lead. A value that was not read is replaced by a
// newer one, so the last one read is what holds; two equal ones in a row mean that it changed twice. It
// is closed after Shutdown. One reader.
func (g *Group) Leadership() <-chan bool { return g.leadership }

// Leader returns who leads, as far as this server knows ("" if it does not), and the term.
func (g *Group) Leader() (ServerID, uint64) {
	_, id := g.raft.LeaderWithID()
	return ServerID(id), g.raft.CurrentTerm()
}

// IsLeader tells whether this server believes that it leads and its store does not hang. Another one may
// lead already: what must rest on it rests on Apply or Barrier (G3).
func (g *Group) IsLeader() bool {
	return g.raft.State() == raft.Leader && g.watch.check() == nil
}

// ready refuses, at once, what could only hang or fail.
func (g *Group) ready() error {
	if err := g.watch.check(); err != nil {
		return err
	}
	if g.raft.State() != raft.Leader {
		return g.notLeader()
	}
	return nil
}

func (g *Group) notLeader() error {
	leader, _ := g.Leader()
	if leader == g.o.Self {
		leader = ""
	}
	return &NotLeaderError{Leader: leader}
}

// Apply replicates a command and returns what the machine's Apply returned. On an error see G10.
func (g *Group) Apply(ctx context.Context, command []byte) (any, error) {
	if n := len(command); n > g.o.CommandBytes {
		return nil, &TooLargeError{What: "command", Got: int64(n), Max: int64(g.o.CommandBytes)}
	}
	if err := g.ready(); err != nil {
		return nil, err
	}
	command = append([]byte(nil), command...) // upstream keeps it longer than this call may last
	return g.await(ctx, "apply", nil, func() (any, error) {
		f := g.raft.Apply(command, g.o.EnqueueTimeout)
		if err := f.Error(); err != nil {
			return nil, err
		}
		return f.Response(), nil
	})
}

// await runs a call of upstream, which cannot be interrupted, and waits for it as long as ctx lives. held,
// which may be nil, is a token that the caller took; it is given back when the call is over.
func (g *Group) await(ctx context.Context, op string, held chan struct{}, call func() (any, error)) (any, error) {
	release := func() {
		if held != nil {
			<-held
		}
	}
	if err := g.begin(ctx); err != nil {
		release()
		return nil, err
	}
	type result struct {
		res any
		err error
	}
	done := make(chan result, 1)
	go func() {
		defer g.finish()
		res, err := call()
		release()
		done <- result{res, err}
	}()
	select {
	case r := <-done:
		return r.res, g.judge(op, r.err)
	case <-ctx.Done():
		return nil, &UnknownOutcomeError{Op: op, Err: ctx.Err()}
	case <-g.ended: // upstream does not answer everything when it ends
		return nil, &UnknownOutcomeError{Op: op, Err: ErrClosed}
	}
}

// begin takes a slot; without one, nothing has happened.
func (g *Group) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("raftgroup: not begun: %w", err)
	}
	timer := time.NewTimer(g.o.EnqueueTimeout)
	defer timer.Stop()
	select {
	case g.slots <- struct{}{}:
	case <-timer.C:
		return ErrBusy
	case <-g.closing:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("raftgroup: not begun: %w", ctx.Err())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		<-g.slots
		return ErrClosed
	}
	g.flights.Add(1)
	return nil
}

func (g *Group) finish() {
	<-g.slots
	g.flights.Done()
}

// judge sorts upstream's errors into "did not happen" and "may have" (G10). What it does not know for
// certain may have.
func (g *Group) judge(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader):
		return g.notLeader()
	case errors.Is(err, raft.ErrEnqueueTimeout): // the queue has no buffer: it never got in
		return ErrBusy
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrTransferring
	}
	return &UnknownOutcomeError{Op: op, Err: err}
}

// Barrier returns when the machine holds everything that any server had answered for before the call.
// Calls that come together share one.
func (g *Group) Barrier(ctx context.Context) error {
	if err := g.ready(); err != nil {
		return err
	}
	return g.barriers.wait(ctx, func() error {
		return g.confirmed(func() error {
			_, err := g.await(context.Background(), "barrier", nil, func() (any, error) {
				return nil, g.raft.Barrier(g.o.EnqueueTimeout).Error()
			})
			return err
		})
	})
}

// Shutdown ends the server: no further requests, then those under way, as long as ctx lives and a
// leader without a majority would keep them; then upstream and every stream. If ctx ends first, the rest
// goes on behind it, and a store that hangs is closed when it answers.
func (g *Group) Shutdown(ctx context.Context) error {
	g.mu.Lock()
	first := !g.closed
	if first {
		g.closed = true
		close(g.closing)
	}
	g.mu.Unlock()
	if first {
		go g.end(ctx)
	}
	select {
	case <-g.ended:
		g.loops.Wait()
		return g.endErr
	case <-ctx.Done():
		return fmt.Errorf("raftgroup: shutdown goes on: %w", ctx.Err())
	}
}

func (g *Group) end(ctx context.Context) {
	landed := make(chan struct{})
	go func() {
		g.flights.Wait()
		close(landed)
	}()
	// Upstream forgets to answer some requests when it is shut down, so they are given time to end.
	timer := time.NewTimer(2*g.o.LeaderLease + g.o.EnqueueTimeout)
	defer timer.Stop()
	select {
	case <-landed:
	case <-timer.C:
	case <-ctx.Done():
	}
	f := g.raft.Shutdown()
	_ = g.transport.Close() // ends the requests on the wire, which f waits for
	err := f.Error()
	g.endErr = errors.Join(err, g.stores.close())
	close(g.ended)
}

// failedTransfers remembers, for one term, to whom leadership could not be transferred (G7).
type failedTransfers struct {
	mu   sync.Mutex // guards what follows
	term uint64
	to   map[ServerID]bool
}

// any reports whether a transfer was tried in that term.
func (f *failedTransfers) any(term uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.term == term && len(f.to) > 0
}

func (f *failedTransfers) has(term uint64, to ServerID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.term == term && f.to[to]
}

func (f *failedTransfers) add(term uint64, to ServerID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.term != term {
		f.term, f.to = term, map[ServerID]bool{}
	}
	f.to[to] = true
}

// snapshotter lets one raft snapshot be taken at a time, and remembers how it went.
type snapshotter struct {
	token   chan struct{}
	running atomic.Bool

	mu   sync.Mutex // guards what follows
	at   time.Time  // of the last one, or of the start
	next time.Time  // the policy does not try before
	err  error      // of the last try
}

func (s *snapshotter) init() {
	s.token, s.at = make(chan struct{}, 1), time.Now()
}
