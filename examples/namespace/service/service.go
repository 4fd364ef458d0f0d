// Package service is a highly available namespace: a tree in memory whose every change is a transaction
// in a qjm journal. One process is active and changes it; standbys follow and keep the same tree; any of
// them takes over when it is told to.
//
//	s := service.New(client, "namespace")
//	err := s.Follow(ctx)                // standby, until ctx ends
//	err = s.TakeOver(ctx)               // active from here on
//	txid, err := s.Do(ctx, tree.Op{Kind: tree.Mkdir, Path: "/a", Entry: tree.Entry{Kind: tree.Dir}})
//
// The rules that make it safe, for whoever builds another service on libqjm:
//
//   - S1: the tree changes only by transactions that are committed, in the order of their txids.
//   - S2: a caller hears of success only after its transaction is committed and applied.
//   - S3: a caller hears of a refusal ("exists") only when everything the refusal rests on is committed.
//   - S4: after one append failed, this process is not active any more: what it knows may be wrong. Only
//     another TakeOver, here or elsewhere, finds out what is in the journal.
//   - S5: an error says whether the change may have been made: libqjm.MayHaveCommitted.
//
// Who decides that a standby takes over, an election or an operator, is not the service's business. A
// wrong decision does no harm: OpenWriter fences the writer before, whatever that one believes.
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/quorumjournal/qjm/examples/namespace/tree"
	"github.com/quorumjournal/qjm/libqjm"
)

// InFlightMax bounds the changes under way. It keeps their bytes far below the writer's own bound, so an
// append never waits while the service is locked.
const InFlightMax = 1024

// ErrNotActive: the service is a standby, or was deposed. The change was not made.
var ErrNotActive = errors.New("service: not active")

// Service is one replica. Its methods may be called concurrently, except Follow, TakeOver and Close.
type Service struct {
	client  *libqjm.Client
	journal string
	slots   chan struct{}  // one taken by each change under way
	done    sync.WaitGroup // of the goroutine that completes changes

	mu      sync.Mutex
	tree    *tree.Tree     // what is committed, up to applied; guarded by mu
	applied libqjm.TxID    // guarded by mu
	ahead   *tree.Tree     // tree, once all that is under way is committed: new changes are checked against it; guarded by mu
	writer  *libqjm.Writer // nil on a standby; guarded by mu
	queue   chan *Change   // under way, in the order of their txids; guarded by mu for sending
	down    error          // why it is not active; guarded by mu
}

// New returns an empty standby.
func New(client *libqjm.Client, journal string) *Service {
	return &Service{
		client: client, journal: journal, slots: make(chan struct{}, InFlightMax),
		tree: tree.New(), down: fmt.Errorf("%w: standby", ErrNotActive),
	}
}

// Follow applies what the active one commits until the context ends, which is no error.
func (s *Service) Follow(ctx context.Context) error {
	err := s.replay(ctx, libqjm.ReaderOptions{From: s.Applied() + 1, Follow: true})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// CatchUp applies all that was acknowledged before the call. libqjm.ErrUndecided: the writer died and
// nobody took over yet.
func (s *Service) CatchUp(ctx context.Context) error {
	err := s.replay(ctx, libqjm.ReaderOptions{From: s.Applied() + 1, Linearizable: true})
	if errors.Is(err, libqjm.ErrPastEnd) {
		return nil
	}
	return err
}

func (s *Service) replay(ctx context.Context, opts libqjm.ReaderOptions) error {
	r, err := s.client.OpenReader(ctx, s.journal, opts)
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		txn, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		op, err := tree.Decode(txn.Data)
		if err != nil {
			return fmt.Errorf("service: txid %d: %w", txn.ID, err)
		}
		if err := s.apply(txn.ID, op); err != nil {
			return err
		}
	}
}

// apply changes the tree by a committed transaction (S1). It was checked before it was written, so an
// error means that this replica differs from the writer, and must stop.
func (s *Service) apply(id libqjm.TxID, op tree.Op) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id != s.applied+1 {
		return fmt.Errorf("service: out of order (got txid %d, want %d)", id, s.applied+1)
	}
	if err := s.tree.Apply(op); err != nil {
		return fmt.Errorf("service: txid %d does not fit the tree: %w", id, err)
	}
	s.applied = id
	return nil
}

// TakeOver makes this replica the active one: it fences and recovers, applies what it has not seen yet,
// and is active when it returns nil. After an error it is a standby as before.
func (s *Service) TakeOver(ctx context.Context) error {
	w, err := s.client.OpenWriter(ctx, s.journal, libqjm.WriterOptions{})
	if err != nil {
		return err
	}
	// Everything below FirstTxID is decided, and nobody else can add to it. A reader that follows waits
	// for a node that knows so, rather than end early.
	if from, last := s.Applied()+1, w.FirstTxID()-1; from <= last {
		if err := s.replay(ctx, libqjm.ReaderOptions{From: from, To: last, Follow: true}); err != nil {
			return errors.Join(err, w.Close(ctx))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writer, s.ahead, s.down = w, s.tree.Clone(), nil
	s.queue = make(chan *Change, InFlightMax)
	queue := s.queue
	s.done.Go(func() { s.complete(queue) })
	return nil
}

// Change is a change under way.
type Change struct {
	op      tree.Op
	future  libqjm.Future
	refused error         // by the tree
	done    chan struct{} // closed when the outcome is known
	txid    libqjm.TxID
	err     error
}

// Wait returns the outcome, see Do. Where the context ends first, the change goes on, and the error says
// that it may be made.
func (c *Change) Wait(ctx context.Context) (libqjm.TxID, error) {
	select {
	case <-c.done:
		return c.txid, c.err
	case <-ctx.Done():
	}
	if c.refused != nil {
		return 0, context.Cause(ctx)
	}
	if _, err := c.future.Wait(ctx); err != nil {
		return 0, err // has the right words for an outcome that is not known
	}
	<-c.done // committed after all: it is applied in a moment
	return c.txid, c.err
}

// Do changes the tree. nil: the change is made, for good. An error for which libqjm.MayHaveCommitted is
// true: it is not known whether it is; ask the service that is active next (Stat), and do not repeat the
// change blindly. Any other error: it is not. ErrNotActive sends the caller to the active one; what the
// tree refuses is an *fs.PathError.
func (s *Service) Do(ctx context.Context, op tree.Op) (libqjm.TxID, error) {
	c, err := s.Start(ctx, op)
	if err != nil {
		return 0, err
	}
	return c.Wait(ctx)
}

// Start is Do without the wait for the outcome. Changes are made in the order of the calls. An error
// means that the change was not made.
func (s *Service) Start(ctx context.Context, op tree.Op) (*Change, error) {
	data, err := op.Encode()
	if err != nil {
		return nil, err
	}
	select {
	case s.slots <- struct{}{}: // complete gives it back
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		<-s.slots
		return nil, s.down
	}
	c := &Change{op: op, done: make(chan struct{})}
	if c.refused = s.ahead.Apply(op); c.refused == nil {
		if c.future, err = s.writer.AppendAsync(ctx, data); err != nil {
			<-s.slots
			s.stepDown(err) // ahead has the change and the journal has not
			return nil, err // nothing was handed over: AppendAsync's errors are definite
		}
	}
	s.queue <- c // has room for as many as there are slots
	return c, nil
}

// complete waits for the changes in their order, applies them and tells their callers.
func (s *Service) complete(queue <-chan *Change) {
	for c := range queue {
		if c.refused == nil {
			s.outcome(c)
		} else if c.err = s.isDown(); c.err == nil { // else the refusal may rest on what never happened (S3)
			c.err = c.refused
		}
		close(c.done)
		<-s.slots
	}
}

// outcome waits until a change is committed, and applies it.
func (s *Service) outcome(c *Change) {
	if c.txid, c.err = c.future.Wait(context.Background()); c.err == nil {
		if err := s.apply(c.txid, c.op); err != nil { // a bug: tree and ahead got the same changes
			c.err = &libqjm.AppendError{Handed: true, First: c.txid, Last: c.txid, Err: err}
		}
	}
	if c.err != nil {
		s.mu.Lock()
		s.stepDown(c.err)
		s.mu.Unlock()
	}
}

func (s *Service) isDown() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

// stepDown ends being active after an append failed (S4). The text of the failure is kept, not the error
// itself: MayHaveCommitted is true of it, and must not be of later refusals (S5). That it was fenced is
// kept for errors.Is. The caller holds mu.
func (s *Service) stepDown(err error) {
	if s.down == nil {
		s.down = fmt.Errorf("%w: %v", ErrNotActive, err)
		if fenced := s.writer.Err(); errors.Is(fenced, libqjm.ErrFenced) {
			s.down = fmt.Errorf("%w: %w", ErrNotActive, fenced)
		}
	}
}

// Stat returns the metadata of a path, as committed.
func (s *Service) Stat(path string) (tree.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tree.Stat(path)
}

// Applied returns the last txid in the tree.
func (s *Service) Applied() libqjm.TxID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.applied
}

// Snapshot returns a copy of the tree, and the last txid in it.
func (s *Service) Snapshot() (*tree.Tree, libqjm.TxID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tree.Clone(), s.applied
}

// Writer returns the journal's writer while the service is, or was, active; nil on a standby.
func (s *Service) Writer() *libqjm.Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writer
}

// Close completes what is under way and resigns: the service is a standby then, which may follow, and
// take over again. Where the context ends first, callers of Do are told that their outcome is not known.
// After a failure that callers have heard of already it returns nil.
func (s *Service) Close(ctx context.Context) error {
	s.mu.Lock()
	w, queue, failed := s.writer, s.queue, s.down != nil
	if !failed {
		s.down = fmt.Errorf("%w: closed", ErrNotActive)
	}
	s.queue = nil
	s.mu.Unlock()
	if queue == nil {
		return nil
	}
	err := w.Close(ctx)
	close(queue) // nobody sends any more: down is set
	s.done.Wait()
	if failed {
		return nil
	}
	return err
}
