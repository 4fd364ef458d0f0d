package libqjm

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/snapshot"
	"github.com/quorumjournal/qjm/segments"
)

// Timing of a replica.
const (
	replicaAgain   = 500 * time.Millisecond // before something that failed is tried again
	replicaConfig  = 5 * time.Second        // how often it asks who the journal's nodes are
	resignPatience = 5 * time.Second        // for giving up the lease after a failure
)

// run is the replica's goroutine: it loads, follows, takes over, serves, and follows again. While it serves, and only then, others may
// touch the state machine, too (applyQueue).
func (r *Replica) run() {
	err := r.live()
	if r.ctx.Err() != nil && !fatal(err) {
		if err = context.Cause(r.ctx); !fatal(err) {
			err = nil // it was closed
		}
	}
	r.change(func() { r.role, r.failed = RoleStopped, err })
	r.cancel(err)
	if err != nil {
		r.c.log.Error("replica failed", "journal", r.name, "replica", r.opts.Name, "err", err)
	}
	r.events.end(func() {
		if f := r.opts.Callbacks.OnShutdown; f != nil {
			f(err)
		}
	})
	close(r.done)
}

// fatal: to try again makes nothing better. Where too few nodes answered, what some of them said decides nothing: one that
// is no member of the journal says that there is none.
func fatal(err error) bool {
	return isAny(err, ErrStateMachine, ErrStateDiverges, ErrNotOurs, ErrBadSnapshot) ||
		isAny(err, ErrJournalDeleted, ErrNoJournal, ErrBadRequest) && !errors.Is(err, ErrNoQuorum)
}

func isAny(err error, classes ...error) bool {
	return slices.ContainsFunc(classes, func(class error) bool { return errors.Is(err, class) })
}

func (r *Replica) live() error {
	for _, first := range []func(context.Context) error{r.identify, r.restore} {
		if err := r.again(r.ctx, first); err != nil {
			return err
		}
	}
	for {
		if r.isClosing() {
			<-r.ctx.Done()
			return nil
		}
		lead, err := r.follow()
		if err != nil {
			return err
		}
		if err := r.reign(lead); err != nil {
			return err
		}
	}
}

// again calls until it succeeds, or fails for good, or the context ends.
func (r *Replica) again(ctx context.Context, call func(context.Context) error) error {
	for {
		err := call(ctx)
		switch {
		case err == nil:
			return nil
		case fatal(err):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		r.trouble(err)
		if !sleep(ctx, replicaAgain) {
			return context.Cause(ctx)
		}
	}
}

// trouble tells of an error that will be tried again.
func (r *Replica) trouble(err error) {
	r.c.log.Warn("replica", "journal", r.name, "replica", r.opts.Name, "err", err)
	if f := r.opts.Callbacks.OnError; f != nil {
		r.events.tell(func() { f(err) })
	}
}

// identify learns which journal the name stands for.
func (r *Replica) identify(ctx context.Context) error {
	ref, _, err := r.c.states(ctx, r.name, false)
	if err == nil {
		r.id = ref.id
	}
	return err
}

// ours: the name still stands for the journal whose state this is.
func (r *Replica) ours(id segments.JournalID) error {
	if id != r.id {
		return fmt.Errorf("%w: %s, and another one has its name", ErrJournalDeleted, r.name)
	}
	return nil
}

// reader opens one for the journal whose state this is.
func (r *Replica) reader(ctx context.Context, o ReaderOptions) (*Reader, error) {
	in, err := r.c.OpenReader(ctx, r.name, o)
	if err == nil {
		if err = r.ours(in.ref.id); err != nil {
			return nil, errors.Join(err, in.Close())
		}
	}
	return in, err
}

// restore loads the newest snapshot, unless the state is beyond it.
func (r *Replica) restore(ctx context.Context) error {
	snap, err := r.c.LatestSnapshot(ctx, r.name)
	if !r.m.torn && (errors.Is(err, ErrNoSnapshot) || err == nil && snap.TxID <= r.m.applied) {
		return nil
	}
	if err != nil {
		return err
	}
	in, err := r.c.OpenSnapshot(ctx, r.name, snap.TxID)
	if err != nil {
		return err
	}
	if err := r.ours(in.ref.id); err != nil {
		return errors.Join(err, in.Close())
	}
	began := time.Now()
	err = r.m.load(snap.TxID, snap.Size, bufio.NewReaderSize(in, snapshotPiece))
	if err = errors.Join(err, in.Close()); err != nil {
		return fmt.Errorf("libqjm: snapshot at txid %d: %w", snap.TxID, err)
	}
	r.c.log.Info("replica has loaded a snapshot", "journal", r.name, "replica", r.opts.Name, "txid", snap.TxID, "bytes", snap.Size, "took", time.Since(began))
	r.change(func() { r.snap = snap.TxID })
	r.publish()
	return nil
}

// publish tells how far the state is.
func (r *Replica) publish() {
	r.change(func() { r.applied = r.m.applied })
}

// follow applies what others write, until this replica is to lead.
func (r *Replica) follow() (*Leadership, error) {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	elected := make(chan election, 1)
	campaigning := false
	defer func() {
		if campaigning { // it is over when ctx is: whoever was elected just then gives way
			cancel()
			if e := <-elected; e.lead != nil {
				r.giveWay(e.lead)
			}
		}
	}()
	goal, err := r.goal(ctx)
	if err != nil {
		return nil, err
	}
	for {
		if r.m.applied >= goal && !campaigning {
			r.standby()
			if campaigning = !r.opts.Observer; campaigning {
				go r.campaign(ctx, elected)
			}
		}
		lead, err := r.followOnce(ctx, goal, campaigning, elected)
		switch {
		case lead != nil:
			campaigning = false
			return lead, nil
		case err == nil:
			continue
		case errors.Is(err, ErrPurged):
			before := r.m.applied
			if gone := r.again(ctx, r.restore); gone != nil {
				err = gone
			} else if r.m.applied > before {
				continue
			}
		}
		if fatal(err) || ctx.Err() != nil {
			return nil, cmpErr(err, ctx)
		}
		r.trouble(err)
		if !sleep(ctx, replicaAgain) {
			return nil, context.Cause(ctx)
		}
	}
}

func cmpErr(err error, ctx context.Context) error {
	if err == nil || !fatal(err) && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// goal is how far the journal is known to be committed: whoever is behind it does not campaign yet.
func (r *Replica) goal(ctx context.Context) (goal TxID, err error) {
	err = r.again(ctx, func(ctx context.Context) error {
		ref, got, err := r.c.states(ctx, r.name, false)
		for _, g := range got {
			if g.err == nil {
				goal = max(goal, readable(g.val, false))
			}
		}
		if err != nil {
			return err
		}
		return r.ours(ref.id)
	})
	return goal, err
}

// followOnce reads until something changes: the goal is reached, this replica was elected, or the reader failed.
func (r *Replica) followOnce(ctx context.Context, goal TxID, campaigning bool, elected <-chan election) (*Leadership, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, err := r.reader(ctx, ReaderOptions{From: r.m.applied + 1, Follow: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	var e election
	heard := make(chan struct{})
	if campaigning {
		go func() {
			defer close(heard)
			select {
			case e = <-elected:
				cancel() // the reader stops at once: what is missing is read once it is decided
			case <-ctx.Done():
			}
		}()
	} else {
		close(heard)
	}
	for {
		txns, err := in.nextFrame(ctx)
		if err == nil {
			err = r.applyTxns(txns)
		}
		reached := err == nil && !campaigning && r.m.applied >= goal
		if err != nil || reached {
			cancel()
			<-heard
			if e.lead != nil && !fatal(err) {
				return e.lead, nil
			}
			if e.lead != nil {
				r.giveWay(e.lead)
			}
			if fatal(err) {
				return nil, err
			}
			return nil, cmp.Or(e.err, err)
		}
	}
}

// nextFrame returns the transactions of the next frame, as Next does one by one.
func (r *Reader) nextFrame(ctx context.Context) ([]Txn, error) {
	t, err := r.Next(ctx)
	if err != nil {
		return nil, err
	}
	txns := append([]Txn{t}, r.txns...)
	r.txns = nil
	r.next = txns[len(txns)-1].Last + 1
	return txns, nil
}

func (r *Replica) applyTxns(txns []Txn) error {
	if _, err := r.m.apply(txns); err != nil {
		return err
	}
	r.publish()
	return nil
}

// election is what came of a campaign: a leadership, or an error that is fatal or of the context.
type election struct {
	lead *Leadership
	err  error
}

// campaign waits for the lease and opens the writer. It sends what came of it.
func (r *Replica) campaign(ctx context.Context, elected chan<- election) {
	defer close(elected)
	r.queue = newApplyQueue()
	opts := r.opts.campaign(r.queue, func(why SnapshotReason) {
		select {
		case r.due <- why:
		default:
		}
	})
	var e election
	e.err = r.again(ctx, func(ctx context.Context) (err error) {
		e.lead, err = r.c.Campaign(ctx, r.name, opts)
		return err
	})
	elected <- e
}

// giveWay lets others lead.
func (r *Replica) giveWay(lead *Leadership) {
	r.mu.Lock()
	killed := r.killed
	r.mu.Unlock()
	if killed {
		lead.abandon()
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), resignPatience)
	defer cancel()
	_ = lead.Resign(ctx) // else the lease expires
}

// isClosing: Close was called.
func (r *Replica) isClosing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closing
}

// standby says that this replica follows.
func (r *Replica) standby() {
	var why error
	r.change(func() { why, r.role, r.lead, r.lost = r.lost, RoleStandby, nil, nil })
	log := r.c.log.With("journal", r.name, "replica", r.opts.Name, "applied", r.m.applied)
	if why != nil {
		log = log.With("because", why)
	}
	log.Info("replica is a standby")
	if f := r.opts.Callbacks.OnStandby; f != nil {
		r.events.tell(func() { f(why) })
	}
}

// reign catches up, serves until the leadership ends, and finishes what was taken. The error is fatal, or of ctx.
func (r *Replica) reign(lead *Leadership) error {
	q := r.queue
	err := r.ours(lead.w.ref.id)
	if err == nil {
		err = r.again(r.ctx, func(ctx context.Context) error { return r.catchUp(ctx, lead) })
	}
	if err == nil && lead.Err() == nil {
		r.change(func() { r.role, r.lead = RoleActive, lead })
		err = r.serve(lead, q)
	}
	if err != nil {
		q.close(notApplied(err))
		r.giveWay(lead)
		return err
	}
	r.change(func() { r.role, r.lead, r.lost = RoleStarting, nil, lead.Err() }) // a standby again once it has caught up
	return nil
}

// crown tells of the epoch that this replica is active in, if that is another one than was told.
func (r *Replica) crown(w *Writer, told Epoch) Epoch {
	epoch := w.Epoch()
	if epoch == told {
		return told
	}
	r.c.log.Info("replica is active", "journal", r.name, "replica", r.opts.Name, "epoch", epoch, "applied", r.Applied())
	if f := r.opts.Callbacks.OnActive; f != nil {
		r.events.tell(func() { f(epoch) })
	}
	return epoch
}

// catchUp applies all that was committed before the leadership.
func (r *Replica) catchUp(ctx context.Context, lead *Leadership) error {
	last := lead.w.FirstTxID() - 1
	for r.m.applied < last {
		in, err := r.reader(ctx, ReaderOptions{From: r.m.applied + 1, To: last})
		if errors.Is(err, ErrPurged) {
			// Again until it is whole: to part of a state nothing is applied.
			if err = r.again(ctx, r.restore); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		err = r.applyAll(ctx, in)
		if err = errors.Join(err, in.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (r *Replica) applyAll(ctx context.Context, in *Reader) error {
	for {
		txns, err := in.nextFrame(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = r.applyTxns(txns)
		}
		if err != nil {
			return err
		}
	}
}

// serve applies what the writer commits, until the leadership has ended. Then all that it committed is applied, and
// the rest was answered by the writer.
func (r *Replica) serve(lead *Leadership, q *applyQueue) (err error) {
	var saving savingSnapshot
	defer saving.wait()
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel() // a snapshot under way ends with the reign: it may wait for nodes that are away, and would hold up following
	told, epoch := r.m.applied, Epoch(0)
	q.serve(&lead.w.in, r.applyBatch, !r.m.digests.on) // digests are told after each batch, which needs the owner
	defer func() {
		if err = cmp.Or(q.leave(), err); err != nil { // it may have failed on a node's channel just now
			r.failing(err)
			q.close(notApplied(err))
		}
	}()
	for over := false; ; {
		if !over {
			epoch = r.crown(lead.w, epoch)
		}
		var due SnapshotReason
		select {
		case <-q.news:
		case due = <-r.due:
		case <-lead.Done():
			over = true // and nothing is put into the queue any more
		case <-r.ctx.Done(): // closed in haste: what is not applied yet is left to others
			return context.Cause(r.ctx)
		}
		err := q.inTurn(func() (err error) {
			err = q.drain() // first: no snapshot is made of a state machine that has failed
			if err == nil && due != snapshot.ReasonNone {
				err = r.saveSnapshot(ctx, lead.w, due, &saving)
			}
			if err == nil && !over {
				told = r.tellDigests(lead.w, told)
			}
			return err
		})
		if err != nil || over {
			return err
		}
	}
}

// notApplied is what proposers hear whose proposals are committed, and not applied here for that reason.
func notApplied(why error) error { return fmt.Errorf("%w: %w", ErrNotApplied, why) }

// failing says why the replica fails, before its proposers hear that it does.
func (r *Replica) failing(err error) {
	if fatal(err) {
		r.change(func() { r.role, r.failed = RoleDraining, err })
	}
}

// applyBatch applies what is committed, and leaves in the batch what its proposers are told.
func (r *Replica) applyBatch(b *batch) error {
	r.m.begin()
	epoch := b.frame.Epoch()
	err := b.frame.EachTxn(func(txid TxID, data []byte) error { return r.m.take(txid, epoch, data) })
	if err != nil {
		return err
	}
	outs, err := r.m.end()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(outs, func(o outcome) bool { return o.result != nil || o.err != nil }) {
		b.outs = slices.Clone(outs)
	}
	r.publish()
	return nil
}

// tellDigests puts digests of the state into the log when there are enough.
func (r *Replica) tellDigests(w *Writer, told TxID) TxID {
	if !r.m.digests.on || r.m.applied < told+digestsPerEntry/2 {
		return told
	}
	first, data := r.m.digests.pending(told)
	if len(data) == 0 {
		return told
	}
	head := logEntry{kind: entryDigests, first: first}.append(nil)
	now, cancel := context.WithCancel(r.ctx)
	cancel() // it does not wait for room, which only this goroutine makes
	if _, err := w.add(now, nil, head, data); err != nil {
		return told // the leadership ends, or the queue is full
	}
	return first + TxID(len(data)/digestSize) - 1
}

// watch keeps what is known of the lease, and of the journal's nodes, for whoever is redirected.
func (r *Replica) watch() {
	go r.watchConfig()
	for r.ctx.Err() == nil {
		for l, err := range r.c.WatchLease(r.ctx, r.name) {
			if err != nil {
				break
			}
			r.change(func() { r.active = l })
			if l.Holder == r.opts.Name && r.another(l) {
				r.c.log.Error("another process runs under this replica's name", "journal", r.name, "replica", r.opts.Name, "addr", l.Addr)
			}
			if f := r.opts.Callbacks.OnFollowing; f != nil && r.another(l) {
				r.events.tell(func() { f(l.Holder, l.Addr) })
			}
		}
		if !sleep(r.ctx, replicaAgain) {
			return
		}
	}
}

func (r *Replica) watchConfig() {
	f := r.opts.Callbacks.OnConfig
	if f == nil {
		return
	}
	known := uint64(0)
	for {
		ref, _, err := r.c.states(r.ctx, r.name, false)
		if v := uint64(ref.cfg.Version); err == nil && v > known {
			known = v
			nodes := memberIDs(ref.cfg)
			r.events.tell(func() { f(v, nodes) })
		}
		if !sleep(r.ctx, replicaConfig) {
			return
		}
	}
}

func memberIDs(cfg quorum.Config) []string {
	var ids []string
	for _, m := range cfg.Members() {
		ids = append(ids, string(m.ID))
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
