package journalnode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/journalnode/membership"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

var _ rpc.Service = (*Node)(nil)

// Info implements rpc.Service.
func (n *Node) Info(context.Context) (rpc.NodeInfo, error) {
	id := n.identity()
	return rpc.NodeInfo{
		ID: id.ID, Incarnation: id.Incarnation, Cluster: id.Cluster, Phase: id.Phase,
		Founders: n.withAddrs(id.Founders), Version: n.opts.Version,
		Full: n.reserve.Low(),
	}, nil
}

// withAddrs gives members the addresses that this node was started with.
func (n *Node) withAddrs(ms []quorum.Member) []quorum.Member {
	ms = slices.Clone(ms)
	for i := range ms {
		if a, ok := n.peers.addr(ms[i].ID); ok {
			ms[i].Addr = a
		}
	}
	return ms
}

// Journals implements rpc.Service.
func (n *Node) Journals(ctx context.Context) ([]rpc.JournalSummary, error) {
	if err := n.admitted(); err != nil {
		return nil, err
	}
	n.openAll()
	n.mu.Lock()
	owners := make([]*owner, 0, len(n.owners))
	for _, o := range n.owners {
		owners = append(owners, o)
	}
	n.mu.Unlock()
	out := make([]rpc.JournalSummary, 0, len(owners))
	for _, o := range owners {
		s := o.j.Summary()
		s.Holding = o.holding()
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b rpc.JournalSummary) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// InstallConfig implements rpc.Service (M0). A journal that is not here is made with the config: this node
// is about to copy it, or is a member that was not reached when it was created.
func (n *Node) InstallConfig(ctx context.Context, s rpc.JournalSummary) error {
	if err := n.admitted(); err != nil {
		return err
	}
	if err := s.Config.Validate(); err != nil {
		return fmt.Errorf("%w: %w", rpc.ErrBadRequest, err)
	}
	if err := rpc.CheckJournalName(s.Name); err != nil {
		return err
	}
	if s.Config.IsEmpty() {
		return n.installDeleted(ctx, s)
	}
	o, err := n.owner(s.ID)
	if errors.Is(err, rpc.ErrNoJournal) {
		o, err = n.makeJournalOf(s)
	}
	if err != nil {
		return err
	}
	if name := o.j.Name(); name != s.Name {
		return fmt.Errorf("%w: name of journal %s (got %q, want %q)", rpc.ErrBadRequest, s.ID, s.Name, name)
	}
	n.peers.learn(s.Config.Members())
	if s.Learner {
		o.learnUntil.Store(time.Now().Add(rpc.LearnFor).UnixNano())
	}
	// Also where it was just made: what a crash left of an earlier creation is completed as it stands.
	err = o.do(ctx, func(j *journal.Journal) error { return j.InstallConfig(s.Config) })
	if err == nil {
		o.log.Info("config installed", "version", s.Config.Version, "sets", len(s.Config.Sets))
	}
	return err
}

// installDeleted is a delete that the catalog decided on (M8). The data goes, so nobody's word is taken for
// it: this node's own copy of the catalog says so, which it may have to wait for. The tombstone stays. Of a journal
// that was dropped because all its members were lost, the data stays, too: here it is after all.
func (n *Node) installDeleted(ctx context.Context, s rpc.JournalSummary) error {
	lost, err := n.awaitDeleted(ctx, s)
	if err != nil {
		return err
	}
	o, err := n.owner(s.ID)
	if errors.Is(err, rpc.ErrNoJournal) {
		o, err = n.makeJournal(s)
	}
	if err != nil {
		return err
	}
	if lost {
		if err = o.do(ctx, func(j *journal.Journal) error { return j.Entomb(s.Config) }); err == nil {
			o.log.Error("an operator gave this journal up for lost while no member answered; what is here stays, and serves nothing", "version", s.Config.Version)
		}
		return err
	}
	if err = o.do(ctx, func(j *journal.Journal) error { return j.Bury(s.Config) }); err == nil {
		o.log.Info("journal deleted, as the catalog has it", "version", s.Config.Version)
	}
	return err
}

// awaitDeleted returns when this node's copy of the catalog has the delete, and whether it gave up what was lost.
func (n *Node) awaitDeleted(ctx context.Context, s rpc.JournalSummary) (lost bool, err error) {
	j, err := n.awaitDecided(ctx, s, "deletes it", func(j catalog.Journal) bool {
		return j.Deleted && j.Config.Version == s.Config.Version
	})
	return j.LostWhole(), err
}

// awaitDecided waits until this node's own copy of the catalog says of a journal what somebody says that it
// says. Data goes by it, so nobody's word is taken. A copy that stands still, because the node was taken out of
// the cluster or hears no leader, says nothing new: then nothing is removed here, ever, but by the operator.
//
// Errors: rpc.ErrNotInCatalog.
func (n *Node) awaitDecided(ctx context.Context, s rpc.JournalSummary, what string, decided func(catalog.Journal) bool) (catalog.Journal, error) {
	over := time.NewTimer(min(n.opts.PeerTimeout, n.patience(ctx)))
	defer over.Stop()
	for {
		at, advance := n.control.machine.applied()
		if n.copyStands() {
			if j, ok := n.inCatalog(s.ID); ok && decided(j) {
				return j, nil
			}
		}
		select {
		case <-advance:
		case <-over.C:
			return catalog.Journal{}, fmt.Errorf("%w: that config %d of journal %q %s (M8; applied up to %d)", rpc.ErrNotInCatalog, s.Config.Version, s.Name, what, at)
		case <-ctx.Done():
			return catalog.Journal{}, fmt.Errorf("journalnode: %w", context.Cause(ctx))
		case <-n.stopping:
			return catalog.Journal{}, rpc.ErrClosed
		}
	}
}

// LeaveJournal implements rpc.Service (M8). The data goes by the config that this node's own copy of the catalog
// has, and by no other; who asks only says that it is time.
func (n *Node) LeaveJournal(ctx context.Context, s rpc.JournalSummary) error {
	o, err := n.owner(s.ID)
	if err != nil {
		return err
	}
	if have := o.j.Summary().Config.Version; have > s.Config.Version {
		return &rpc.ConfigError{Journal: s.ID, Got: s.Config.Version, Want: have} // M1
	}
	id := n.identity()
	self := quorum.Member{ID: id.ID, Incarnation: id.Incarnation}
	decided, err := n.awaitDecided(ctx, s, "drops this node", func(j catalog.Journal) bool {
		return j.Config.Version >= s.Config.Version && hasLeft(j, self)
	})
	if err != nil {
		return err
	}
	o.learnUntil.Store(0)
	err = o.do(ctx, func(j *journal.Journal) error {
		if err := j.InstallConfig(decided.Config); err != nil {
			return err
		}
		return j.Leave()
	})
	if err == nil {
		o.log.Info("no member any more: the journal's data was removed", "version", decided.Config.Version)
	}
	return err
}

// hasLeft: a member was dropped by a config that is in force, and nothing is under way that it has a part in, or
// may have one in (M8). What a forced config dropped may be all that is left of something: that is kept.
func hasLeft(j catalog.Journal, m quorum.Member) bool {
	former := slices.ContainsFunc(j.Former, func(f catalog.Former) bool { return f.Member.Same(m) })
	part := j.Change != nil && (slices.ContainsFunc(j.Change.Old, m.Same) || slices.ContainsFunc(j.Change.New, m.Same))
	return former && !part && !j.Deleted && !j.Config.Has(m.ID, m.Incarnation) && j.InForce == j.Config.Version && !membership.OutByForce(j, m)
}

// makeJournalOf makes a journal because of a config. One that does not name this storage may be another
// cluster's: a client may take this node for one of that. A learner is named by no config yet, and asked for
// by the leader, who has looked who this is.
func (n *Node) makeJournalOf(s rpc.JournalSummary) (*owner, error) {
	if id := n.identity(); !s.Learner && !s.Config.Has(id.ID, id.Incarnation) {
		return nil, fmt.Errorf("%w: storage %s is no member of journal %q", rpc.ErrWrongNode, id.Incarnation, s.Name)
	}
	return n.makeJournal(s)
}

// makeJournal makes a journal that is not here, with its config, and returns its owner.
func (n *Node) makeJournal(s rpc.JournalSummary) (*owner, error) {
	n.createMu.Lock() // mu is not held over the disk
	defer n.createMu.Unlock()
	o, err := n.owner(s.ID)
	if !errors.Is(err, rpc.ErrNoJournal) {
		return o, err
	}
	if err := n.build(s.ID, s.Name, s.Config); err != nil {
		return nil, err
	}
	return n.owner(s.ID)
}

// build makes a journal. The caller holds createMu.
func (n *Node) build(id segments.JournalID, name string, cfg quorum.Config) error {
	dir := n.journalDir(id)
	if err := journal.Create(n.fs, dir, id, name, cfg); err != nil {
		return err
	}
	if err := n.fs.SyncDir(path.Dir(dir)); err != nil {
		return fmt.Errorf("journalnode: %w", err)
	}
	if err := n.list(func(m *manifest) {
		if !m.has(id) {
			m.Journals = append(m.Journals, id)
		}
	}); err != nil {
		return err
	}
	if err := n.openJournal(id); err != nil {
		return err
	}
	n.log.Info("journal created", "journal", name, "id", id)
	return nil
}

// list changes the manifest, on the disk first. The caller holds createMu.
func (n *Node) list(change func(*manifest)) error {
	n.mu.Lock()
	next := n.manifest.clone()
	n.mu.Unlock()
	change(&next)
	if err := next.save(n.fs, n.opts.DataDir); err != nil {
		return err
	}
	n.mu.Lock()
	n.manifest = next
	n.mu.Unlock()
	return nil
}

// AskWriter implements rpc.Service (M6).
func (n *Node) AskWriter(ctx context.Context, req rpc.AskWriterRequest) (rpc.WriterAnswer, error) {
	if req.Reach.ID == 0 || len(req.Reach.Nodes) == 0 {
		return rpc.WriterAnswer{}, fmt.Errorf("%w: a question to a writer has a number, and names nodes", rpc.ErrBadRequest)
	}
	o, err := n.owner(req.Journal)
	if err != nil {
		return rpc.WriterAnswer{}, err
	}
	return ask(ctx, o, func(j *journal.Journal) (rpc.WriterAnswer, error) { return j.AskWriter(req.Reach), nil })
}

// State implements rpc.Service.
func (n *Node) State(ctx context.Context, id segments.JournalID) (rpc.JournalState, error) {
	o, err := n.owner(id)
	if err != nil {
		return rpc.JournalState{}, err
	}
	st, err := ask(ctx, o, func(j *journal.Journal) (rpc.JournalState, error) { return j.State(), nil })
	st.LastSync = time.Duration(o.lastTook.Load())
	if at := o.lastAt.Load(); at != 0 {
		st.SinceSync = time.Since(time.Unix(0, at))
	}
	if at := o.writerAt.Load(); at != 0 {
		st.SinceWriter = max(time.Since(time.Unix(0, at)), 1)
	}
	st.Up = time.Since(n.startedAt)
	sets := slices.Clone(st.Summary.Config.Sets) // the journal's own must not change
	for i := range sets {
		sets[i] = n.withAddrs(sets[i])
	}
	st.Summary.Config.Sets = sets
	return st, err
}

// NewEpoch implements rpc.Service (F2).
func (n *Node) NewEpoch(ctx context.Context, h rpc.Header) (rpc.PromiseReply, error) {
	o, err := n.owner(h.Journal)
	if err != nil {
		return rpc.PromiseReply{}, err
	}
	r, err := ask(ctx, o, func(j *journal.Journal) (rpc.PromiseReply, error) { return j.NewEpoch(h) })
	if err == nil {
		o.log.Info("promised", "epoch", h.Claim.Epoch, "writer", h.Claim.Writer, "newest", r.Newest)
	}
	return r, err
}

// Prepare implements rpc.Service (R1).
func (n *Node) Prepare(ctx context.Context, h rpc.Header, s segments.TxID, digests []segments.TxID) (recovery.Answer, error) {
	o, err := n.owner(h.Journal)
	if err != nil {
		return recovery.Answer{}, err
	}
	return ask(ctx, o, func(j *journal.Journal) (recovery.Answer, error) { return j.Prepare(h, s, digests) })
}

// Accept implements rpc.Service (R4). On a full disk the reserve is given up for it; frames that are relayed
// cannot be had twice, so there the next attempt has it.
func (n *Node) Accept(ctx context.Context, h rpc.Header, req recovery.AcceptRequest, relay rpc.ChunkStream) error {
	err := n.acceptOnce(ctx, h, req, relay)
	if errors.Is(err, vfs.ErrNoSpace) && n.reserve.GiveUp() && relay == nil {
		return n.acceptOnce(ctx, h, req, nil)
	}
	return err
}

// acceptOnce fetches the content outside the owner; the gate is passed again with it.
func (n *Node) acceptOnce(ctx context.Context, h rpc.Header, req recovery.AcceptRequest, relay rpc.ChunkStream) error {
	o, err := n.owner(h.Journal)
	if err != nil {
		return err
	}
	req.Claim = h.Claim
	inc, err := n.begin(ctx, o, func(j *journal.Journal) (*store.Incoming, error) {
		plan, err := j.BeginAccept(h, req)
		return plan.Incoming, err
	})
	if err != nil || inc == nil {
		return err
	}
	if err := n.fetch(ctx, h.Journal, req, relay, inc); err != nil {
		n.abort(o, inc)
		return err
	}
	err = n.finish(ctx, o, inc, func(j *journal.Journal) error { return j.FinishAccept(h, req, inc) })
	if err == nil {
		o.log.Info("accepted", "epoch", h.Claim.Epoch, "end", req.End)
	}
	return err
}

// fetch fills an incoming copy from whoever can serve: relayed frames first, then the sources.
func (n *Node) fetch(ctx context.Context, id segments.JournalID, req recovery.AcceptRequest, relay rpc.ChunkStream, inc *store.Incoming) error {
	take := func(frames []segments.Frame) error {
		for _, f := range frames {
			if f.Last() <= inc.Position().TxID {
				continue // a source before this one got that far
			}
			if f.Last() > req.End.Last {
				return fmt.Errorf("%w: source goes beyond the end (got %d, want %d)", rpc.ErrNoSource, f.Last(), req.End.Last)
			}
			if err := inc.Append(f); err != nil {
				return err
			}
		}
		return nil
	}
	errs := []error{rpc.ErrNoSource}
	if relay != nil {
		errs = append(errs, receiveFrames(relay, take))
	}
	for _, src := range req.Sources {
		if inc.Position() == req.End.Position() {
			return nil
		}
		if src == n.opts.ID {
			continue
		}
		err := n.readFrom(ctx, src, rpc.ReadRequest{
			Journal: id, Segment: req.End.First, From: inc.Position().TxID + 1, UpTo: req.End.Last,
			Durable: true, Epoch: req.Epoch,
		}, take)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", src, err))
		}
	}
	if inc.Position() == req.End.Position() {
		return nil
	}
	return errors.Join(errs...)
}

// Finalize implements rpc.Service (R7).
func (n *Node) Finalize(ctx context.Context, h rpc.Header, end segments.End) error {
	o, err := n.owner(h.Journal)
	if err != nil {
		return err
	}
	return o.do(ctx, func(j *journal.Journal) error { return j.Finalize(h, end) })
}

// Segments implements rpc.Service.
func (n *Node) Segments(ctx context.Context, req rpc.SegmentsRequest) (rpc.SegmentsPage, error) {
	o, err := n.owner(req.Journal)
	if err != nil {
		return rpc.SegmentsPage{}, err
	}
	return ask(ctx, o, func(j *journal.Journal) (rpc.SegmentsPage, error) { return j.SegmentsAfter(req.After, req.Limit), nil })
}

// ReadSegment implements rpc.Service.
func (n *Node) ReadSegment(ctx context.Context, req rpc.ReadRequest, send func(rpc.Chunk) error) error {
	o, err := n.owner(req.Journal)
	if err != nil {
		return err
	}
	ctx, cancel := n.untilStop(ctx)
	defer cancel(nil)
	return o.j.Read(ctx, req, send)
}

// Tail implements rpc.Service.
func (n *Node) Tail(ctx context.Context, req rpc.TailRequest, send func(rpc.Chunk) error) error {
	o, err := n.owner(req.Journal)
	if err != nil {
		return err
	}
	ctx, cancel := n.untilStop(ctx)
	defer cancel(nil)
	return o.j.Tail(ctx, req, send)
}

// untilStop ends a stream when the node stops.
func (n *Node) untilStop(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := make(chan struct{})
	go func() {
		select {
		case <-n.stopping:
			cancel(rpc.ErrClosed)
		case <-stop:
		}
	}()
	return ctx, func(err error) { close(stop); cancel(err) }
}
