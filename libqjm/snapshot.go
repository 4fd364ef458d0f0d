package libqjm

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/opening"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/snapshot"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// Snapshot names the user's state after a transaction, as it is kept by the journal's nodes. Its fields: TxID; At, the
// frame that holds it; Size and Checksum of the content; Epoch of the writer that saved it.
type Snapshot = snapshot.Snapshot

// PurgedError says that what a reader asks for is gone, and which snapshot to start from (D5).
type PurgedError = rpc.PurgedError

var (
	// ErrPurged is the class of *PurgedError.
	ErrPurged = rpc.ErrPurged
	// ErrNoSnapshot: no such snapshot is listed.
	ErrNoSnapshot = rpc.ErrNoSnapshot
	// ErrSnapshotExists: another content is listed, or held, as the snapshot of that txid.
	ErrSnapshotExists = rpc.ErrSnapshotExists
	// ErrSnapshotDiverges: the snapshot is of a history that the journal does not have.
	ErrSnapshotDiverges = rpc.ErrSnapshotDiverges
	// ErrSnapshotDamaged: a snapshot's content is not what was saved, on every node that was tried.
	ErrSnapshotDamaged = rpc.ErrSnapshotDamaged
	// ErrSnapshotOld: a newer snapshot is listed.
	ErrSnapshotOld = errors.New("libqjm: a newer snapshot is listed")
	// ErrNotCommitted: a snapshot of a transaction that is not committed.
	ErrNotCommitted = errors.New("libqjm: transaction is not committed")
	// ErrNotListed: a majority holds the snapshot, and the catalog was not heard to list it: it has no leader, or
	// its answer was lost. Nothing is purged for it unless it is. The same again goes on from there.
	ErrNotListed = errors.New("libqjm: snapshot is held by a majority and not known to be listed")
)

// Bounds of sending a snapshot.
const (
	snapshotPiece     = 256 << 10             // in one message; one at a time to each node, so that appends get through
	snapshotRetryMin  = 50 * time.Millisecond // pause before a node is tried again
	snapshotRetryMax  = 2 * time.Second       //
	snapshotGraceMin  = time.Second           // for nodes beyond the majority; or as long again as that took
	snapshotSendsMax  = 3                     // times that a content whose checksum was wrong is sent anew
	snapshotConfigMax = 5                     // configs, or names of the same content, that one save goes through
	snapshotToldPoll  = 20 * time.Millisecond // how often the nodes are asked whether they have heard of the listing
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// lister has the catalog list a snapshot that a majority of every member set of that version of the journal's
// config holds; it refuses where that is no longer the current one, or a newer snapshot is listed (C1).
type lister interface {
	listSnapshot(ctx context.Context, req rpc.ListRequest) error
}

// catalogLister asks the cluster's nodes: each asks the holders itself before it proposes anything.
type catalogLister struct{ c *Client }

func (l catalogLister) listSnapshot(ctx context.Context, req rpc.ListRequest) error {
	_, err := anyNode(ctx, l.c, func(ctx context.Context, n rpc.Node) (struct{}, error) { return struct{}{}, n.ListSnapshot(ctx, req) })
	return err
}

// SaveSnapshot saves the state after a transaction. See Client.SaveSnapshot; here the nodes take it under the
// writer's epoch, so that what a fenced writer applied last never becomes a snapshot (F3, C4).
func (w *Writer) SaveSnapshot(ctx context.Context, txid TxID, content io.ReadSeeker) (Snapshot, error) {
	w.mu.Lock()
	claim, committed, err := w.recovered.Claim, w.core.Committed().TxID, w.err
	w.mu.Unlock()
	switch {
	case err != nil:
		return Snapshot{}, err
	case txid > committed:
		return Snapshot{}, fmt.Errorf("%w: txid %d was asked for, the last one is %d", ErrNotCommitted, txid, committed)
	}
	snap, err := w.c.saveSnapshot(ctx, w.ref.name, txid, content, claim)
	if err == nil {
		w.snapshotSaved(snap)
	}
	return snap, err
}

// SaveSnapshot saves content as the user's state after a transaction that is committed: it is sent to all of
// the journal's nodes, and listed when a majority of them has it, synced and verified (C1). What is listed
// allows the log before it to be purged. content is read twice, from its start; pieces of it are read as the
// nodes take them, at any place, so it must not change. A save that was cut off goes on where it was when it
// is called again with the same content.
//
// Errors: ErrNotCommitted; ErrSnapshotOld, ErrSnapshotExists; ErrSnapshotDiverges; ErrNoQuorum, also where the
// context ended first; ErrNotListed; ErrFenced.
func (c *Client) SaveSnapshot(ctx context.Context, name string, txid TxID, content io.ReadSeeker) (Snapshot, error) {
	return c.saveSnapshot(ctx, name, txid, content, fencing.Claim{})
}

func (c *Client) saveSnapshot(ctx context.Context, name string, txid TxID, content io.ReadSeeker, claim fencing.Claim) (Snapshot, error) {
	if txid == 0 {
		return Snapshot{}, fmt.Errorf("%w: snapshot of txid 0", ErrBadRequest)
	}
	src := &source{r: content}
	size, sum, err := src.measure(ctx)
	if err != nil {
		return Snapshot{}, err
	}
	adopted := fencing.Epoch(0)
	for round := 1; ; round++ {
		ref, err := c.waitForJournal(ctx, name)
		if err != nil {
			return Snapshot{}, err
		}
		snap := Snapshot{TxID: txid, Size: size, Checksum: sum, Epoch: claim.Epoch}
		if listed, err := c.alreadyListed(ctx, ref, snap); listed.TxID != 0 || err != nil {
			return listed, err
		}
		at, epoch, err := c.frameOf(ctx, ref, txid)
		if err != nil {
			return Snapshot{}, err
		}
		snap.At, snap.Epoch = at, cmp.Or(adopted, claim.Epoch, epoch)
		err = c.sendSnapshot(ctx, ref, snap, claim, src)
		if have, ok := errors.AsType[*rpc.SnapshotExistsError](err); ok && ctx.Err() == nil {
			if !sameContent(have.Have, snap) || round >= snapshotConfigMax {
				return Snapshot{}, have
			}
			adopted = have.Have.Epoch // an earlier writer saved the very same, and did not live to see it listed
			continue
		}
		if opening.IsNewerConfig(err, ref.cfg.Version) && round < snapshotConfigMax {
			continue // what nodes have of it is there; they are only counted anew (M0)
		}
		if err != nil {
			return Snapshot{}, err
		}
		err = c.lister.listSnapshot(ctx, rpc.ListRequest{Journal: ref.id, ConfigVersion: ref.cfg.Version, Claim: claim, Snapshot: snap})
		switch {
		case err == nil:
			c.awaitTold(ctx, ref, snap)
			return snap, nil
		case !listAgain(err) || round >= snapshotConfigMax:
			return snap, notListed(snap, err)
		case opening.IsNewerConfig(err, ref.cfg.Version):
			continue
		}
		select {
		case <-time.After(snapshotRetryMax): // a holder is away, or has to hear of the config
		case <-ctx.Done():
			return snap, notListed(snap, errors.Join(err, context.Cause(ctx)))
		}
	}
}

// sameContent: both are the same state of the same history, whoever saved it.
func sameContent(a, b Snapshot) bool {
	a.Epoch = b.Epoch
	return a == b
}

// listAgain: what refused the listing may be over soon.
func listAgain(err error) bool {
	return errors.Is(err, rpc.ErrConfig) || errors.Is(err, ErrNoQuorum) && !errors.Is(err, ErrFenced) && !errors.Is(err, ErrLostRace)
}

// notListed names the class of why a snapshot that a majority holds was not listed.
func notListed(snap Snapshot, err error) error {
	switch {
	case errors.Is(err, catalog.ErrOldSnapshot):
		return fmt.Errorf("%w: %w", ErrSnapshotOld, err)
	case errors.Is(err, ErrFenced), errors.Is(err, ErrLostRace), errors.Is(err, ErrNoJournal), errors.Is(err, ErrJournalDeleted):
		return err
	}
	return fmt.Errorf("%w: txid %d: %w", ErrNotListed, snap.TxID, err)
}

// awaitTold gives the nodes a moment to hear of the listing, so that whoever is told of the snapshot by the
// caller finds it. It is listed, whatever they say.
func (c *Client) awaitTold(ctx context.Context, ref journalRef, snap Snapshot) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Patience)
	defer cancel()
	told := false
	for !told {
		askMembers(ctx, c, ref.cfg.Members(), func(ctx context.Context, n rpc.Node, _ quorum.Member) (rpc.SnapshotList, error) {
			return n.Snapshots(ctx, ref.id)
		}, func(r reply[rpc.SnapshotList]) bool {
			told = told || r.err == nil && slices.ContainsFunc(r.val.Listed, func(s Snapshot) bool { return s.TxID >= snap.TxID })
			return told
		})
		select {
		case <-time.After(snapshotToldPoll):
		case <-ctx.Done():
			return
		}
	}
}

// alreadyListed returns the listed snapshot that is the very one, or why it cannot be listed any more.
func (c *Client) alreadyListed(ctx context.Context, ref journalRef, want Snapshot) (Snapshot, error) {
	newest, err := c.newestListed(ctx, ref)
	switch {
	case errors.Is(err, ErrNoSnapshot) || err == nil && newest.TxID < want.TxID:
		return Snapshot{}, nil
	case err != nil:
		return Snapshot{}, err
	case newest.TxID > want.TxID:
		return Snapshot{}, fmt.Errorf("%w: of txid %d (got %d)", ErrSnapshotOld, newest.TxID, want.TxID)
	case newest.Size == want.Size && newest.Checksum == want.Checksum:
		return newest, nil
	}
	return Snapshot{}, &rpc.SnapshotExistsError{Have: newest}
}

// frameOf finds the end of the frame that holds a transaction, and the epoch that wrote it: what a snapshot is
// named by (C1). It is one node's word; every node compares it with its own log.
func (c *Client) frameOf(ctx context.Context, ref journalRef, txid TxID) (at segments.Position, e Epoch, err error) {
	over := time.After(c.opts.Patience) // nodes hear of what is committed a moment later
	for {
		var errs []error
		for _, m := range ref.cfg.Members() {
			f, ferr := c.readFrame(ctx, ref, m, txid)
			if ferr == nil {
				return f.Position(), f.Epoch(), nil
			}
			if errors.Is(ferr, ErrPurged) {
				return at, 0, ferr
			}
			errs = append(errs, fmt.Errorf("%s: %w", m.ID, ferr))
		}
		select {
		case <-time.After(snapshotRetryMin):
		case <-over:
			if !slices.ContainsFunc(errs, func(err error) bool { return !errors.Is(err, ErrPastEnd) }) {
				errs = errs[:1] // all say the same
			}
			return at, 0, fmt.Errorf("%w: txid %d: %w", ErrNotCommitted, txid, errors.Join(errs...))
		case <-ctx.Done():
			return at, 0, fmt.Errorf("libqjm: %w", errors.Join(context.Cause(ctx), errors.Join(errs...)))
		}
	}
}

func (c *Client) readFrame(ctx context.Context, ref journalRef, m quorum.Member, txid TxID) (segments.Frame, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.RequestTimeout)
	defer cancel()
	n, err := c.node(m)
	if err != nil {
		return segments.Frame{}, err
	}
	stream, err := n.Tail(ctx, rpc.TailRequest{Journal: ref.id, From: txid})
	if err != nil {
		return segments.Frame{}, err
	}
	defer stream.Close()
	chunk, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return segments.Frame{}, ErrPastEnd
	}
	if err != nil {
		return segments.Frame{}, err
	}
	frames, err := segments.ParseFrames(chunk.Frames)
	if err != nil {
		return segments.Frame{}, err
	}
	if len(frames) == 0 || frames[0].First() > txid || frames[0].Last() < txid {
		return segments.Frame{}, fmt.Errorf("%w: no frame that holds txid %d", rpc.ErrNotFound, txid)
	}
	return frames[0], frames[0].Verify(chunk.Prev.Digest)
}

// source is content that several goroutines read at different places.
type source struct {
	mu sync.Mutex
	r  io.ReadSeeker // guarded by mu
}

// sourceError is what went wrong with the user's content: no node is to blame, and none is tried again.
type sourceError struct{ err error }

func (e *sourceError) Error() string {
	return fmt.Sprintf("libqjm: content of the snapshot: %v", e.err)
}

func (e *sourceError) Unwrap() error { return e.err }

func (s *source) measure(ctx context.Context) (size int64, sum snapshot.Checksum, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.r.Seek(0, io.SeekStart); err != nil {
		return 0, sum, &sourceError{err}
	}
	h := sha256.New()
	buf := make([]byte, snapshotPiece)
	for {
		n, err := io.ReadFull(s.r, buf)
		_, _ = h.Write(buf[:n]) // never fails
		size += int64(n)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		if errors.Is(err, io.EOF) {
			return size, snapshot.Checksum(h.Sum(nil)), nil
		}
		if err != nil {
			return 0, sum, &sourceError{err}
		}
		if ctx.Err() != nil {
			return 0, sum, fmt.Errorf("libqjm: %w", context.Cause(ctx))
		}
	}
}

func (s *source) readAt(b []byte, off int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.r.Seek(off, io.SeekStart)
	if err == nil {
		_, err = io.ReadFull(s.r, b)
	}
	if err != nil {
		return &sourceError{err}
	}
	return nil
}

// sent is news of one node.
type sent struct {
	node quorum.Key
	err  error // nil: it has the snapshot
	over bool  // it is not tried again
}

// sendSnapshot sends a snapshot to all members and returns when a majority of every member set has it under
// one config version (C1), and nodes that are getting on well had some time more.
func (c *Client) sendSnapshot(ctx context.Context, ref journalRef, snap Snapshot, claim fencing.Claim, src *source) error {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait() // nobody reads the content after this returned
	defer cancel()
	news := make(chan sent)
	members := ref.cfg.Members()
	for _, m := range members {
		work.Go(func() {
			u := &sending{c: c, ref: ref, m: m, snap: snap, claim: claim, src: src}
			u.run(ctx, news)
		})
	}
	began := time.Now()
	latest := map[quorum.Key]sent{}
	has := func(m quorum.Member) bool { s, ok := latest[m.Key()]; return ok && s.err == nil }
	var grace <-chan time.Time
	for {
		select {
		case s := <-news:
			latest[s.node] = s
			if err := hopeless(ref, s, latest); err != nil {
				return err
			}
		case <-grace:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", notSaved(ref, latest), context.Cause(ctx))
		}
		if !ref.cfg.Majority(has) {
			continue
		}
		if !slices.ContainsFunc(members, func(m quorum.Member) bool { _, ok := latest[m.Key()]; return !ok }) {
			return nil // all others are in trouble; they get it from their peers
		}
		if grace == nil {
			grace = time.After(max(time.Since(began), snapshotGraceMin))
		}
	}
}

// hopeless returns why a save cannot succeed any more, or nil.
func hopeless(ref journalRef, s sent, latest map[quorum.Key]sent) error {
	if _, ours := errors.AsType[*sourceError](s.err); ours || opening.IsNewerConfig(s.err, ref.cfg.Version) {
		return s.err
	}
	if !ref.cfg.MajorityPossible(func(m quorum.Member) bool { l, ok := latest[m.Key()]; return ok && l.err != nil && l.over }) {
		return notSaved(ref, latest)
	}
	return nil
}

func notSaved(ref journalRef, latest map[quorum.Key]sent) error {
	nq := &recovery.NoQuorumError{Step: "saving the snapshot"}
	for _, m := range ref.cfg.Members() {
		if l, ok := latest[m.Key()]; ok && l.err != nil {
			nq.Causes = append(nq.Causes, recovery.NodeCause{Node: m.ID, Err: l.err})
		}
	}
	return nq
}

// sending sends a snapshot to one node.
type sending struct {
	c     *Client
	ref   journalRef
	m     quorum.Member
	snap  Snapshot
	claim fencing.Claim
	src   *source
	sends int // contents that arrived with a wrong checksum
}

// run tries until the node has the snapshot, will never take it, or the context ends.
func (u *sending) run(ctx context.Context, news chan<- sent) {
	for wait := snapshotRetryMin; ; wait = min(2*wait, snapshotRetryMax) {
		err := u.once(ctx)
		if errors.Is(err, rpc.ErrSnapshotChecksum) {
			u.sends++
		}
		over := err == nil || u.final(err)
		select {
		case news <- sent{u.m.Key(), err, over}:
		case <-ctx.Done():
			return
		}
		if over {
			return
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// final: trying again would change nothing.
func (u *sending) final(err error) bool {
	if _, ours := errors.AsType[*sourceError](err); ours {
		return true
	}
	for _, class := range []error{
		ErrFenced, ErrLostRace, ErrSnapshotDiverges, ErrSnapshotExists, ErrBadRequest, ErrJournalDeleted, rpc.ErrPoisoned,
		rpc.ErrUnknownNode, rpc.ErrWrongNode, rpc.ErrConfigDiverges, recovery.ErrDivergence,
	} {
		if errors.Is(err, class) {
			return true
		}
	}
	return opening.IsNewerConfig(err, u.ref.cfg.Version) || u.sends >= snapshotSendsMax
}

func (u *sending) once(ctx context.Context) error {
	n, err := u.c.node(u.m)
	if err != nil {
		return err
	}
	err = u.send(ctx, n)
	if opening.SendConfig(ctx, n, u.ref.summary(), err) {
		err = u.send(ctx, n)
	}
	return err
}

func (u *sending) send(ctx context.Context, n rpc.Node) error {
	h := rpc.Header{Journal: u.ref.id, ConfigVersion: u.ref.cfg.Version, Incarnation: u.m.Incarnation, Claim: u.claim}
	offset, err := bounded(ctx, u.c.opts.RequestTimeout, func(ctx context.Context) (int64, error) {
		return n.BeginSnapshot(ctx, rpc.SnapshotUpload{Header: h, ID: u.snap.ID(), Size: u.snap.Size})
	})
	if have, ok := errors.AsType[*rpc.SnapshotExistsError](err); ok && have.Have == u.snap {
		offset, err = u.snap.Size, nil // it only has to vouch for it
	}
	buf := make([]byte, min(snapshotPiece, u.snap.Size)) // not used again after an error: the node may still read it
	for err == nil && offset < u.snap.Size {
		b := buf[:min(snapshotPiece, u.snap.Size-offset)]
		if err := u.src.readAt(b, offset); err != nil {
			return err
		}
		before := offset
		offset, err = bounded(ctx, u.c.opts.RequestTimeout, func(ctx context.Context) (int64, error) {
			return n.PutSnapshot(ctx, rpc.SnapshotPiece{
				Journal: u.ref.id, ID: u.snap.ID(), Offset: before, Bytes: b, CRC: crc32.Checksum(b, castagnoli),
			})
		})
		if err == nil && offset <= before {
			err = fmt.Errorf("%w: the node went back (got %d, had %d)", rpc.ErrSnapshotChunk, offset, before)
		}
	}
	if err != nil {
		return err
	}
	_, err = bounded(ctx, u.c.opts.AcceptTimeout, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, n.FinishSnapshot(ctx, rpc.SnapshotEnd{Header: h, Snapshot: u.snap})
	})
	return err
}

// bounded makes one call with a bound of its own.
func bounded[T any](ctx context.Context, d time.Duration, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return call(ctx)
}

// Snapshots returns the snapshots of a journal that are listed, oldest first, as far as the nodes that answer
// know.
func (c *Client) Snapshots(ctx context.Context, name string) ([]Snapshot, error) {
	ref, err := c.waitForJournal(ctx, name)
	if err != nil {
		return nil, err
	}
	return c.listed(ctx, ref)
}

// listed returns what the nodes that answer list.
func (c *Client) listed(ctx context.Context, ref journalRef) ([]Snapshot, error) {
	list, _, err := c.listedOnce(ctx, ref)
	return list, err
}

func (c *Client) listedOnce(ctx context.Context, ref journalRef) (best []Snapshot, fresh bool, err error) {
	var errs []error
	answered := false
	askMembers(ctx, c, ref.cfg.Members(), func(ctx context.Context, n rpc.Node, _ quorum.Member) (rpc.SnapshotList, error) {
		return n.Snapshots(ctx, ref.id)
	}, func(r reply[rpc.SnapshotList]) bool {
		if r.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.node, r.err))
			return false
		}
		answered = true
		fresh = fresh || r.val.Fresh
		if l := r.val.Listed; len(l) > 0 && (len(best) == 0 || l[len(l)-1].TxID > best[len(best)-1].TxID) {
			best = l
		}
		return false // all: one of them has applied the newest
	})
	if !answered {
		return nil, false, fmt.Errorf("%w: %w", ErrUnavailable, errors.Join(errs...))
	}
	return best, fresh, nil
}

// freshTime is how long it is asked again whether a snapshot is listed where every node that answers has just been
// started, and does not know its catalog yet, or where the catalog is down.
const freshTime = 3 * time.Second

// newestListed is the newest one that the nodes that answer list.
func (c *Client) newestListed(ctx context.Context, ref journalRef) (Snapshot, error) {
	list, err := c.listed(ctx, ref)
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("%w: none of journal %s is listed", ErrNoSnapshot, ref.name)
	}
	if err != nil {
		return Snapshot{}, err
	}
	return list[len(list)-1], nil
}

// latestListed is that for whoever starts from it: unknown is not none.
func (c *Client) latestListed(ctx context.Context, ref journalRef) (Snapshot, error) {
	over := time.Now().Add(freshTime)
	none := 0
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 500*time.Millisecond) {
		list, fresh, err := c.listedOnce(ctx, ref)
		switch {
		case err != nil:
			return Snapshot{}, err
		case len(list) > 0 && (fresh || time.Now().After(over)):
			return list[len(list)-1], nil
		case fresh:
			if none++; none > 1 { // said twice: a node cannot tell a log that is applied from one that is just being applied
				return Snapshot{}, fmt.Errorf("%w: none of journal %s is listed", ErrNoSnapshot, ref.name)
			}
		}
		if time.Now().After(over) { // nothing is listed by whoever answers, and none of them can tell
			return Snapshot{}, fmt.Errorf("%w: no node knows the catalog now, so whether a snapshot of journal %s is listed", ErrUnavailable, ref.name)
		}
		if err := pauseFor(ctx, wait); err != nil {
			return Snapshot{}, fmt.Errorf("libqjm: %w", err)
		}
	}
}

// LatestSnapshot returns the newest listed snapshot, as far as the nodes that answer know. A program starts
// from it, and reads the journal from the next transaction on. ErrNoSnapshot where there is none;
// ErrUnavailable where no node can tell, because all were just started or the catalog is down.
func (c *Client) LatestSnapshot(ctx context.Context, name string) (Snapshot, error) {
	ref, err := c.waitForJournal(ctx, name)
	if err != nil {
		return Snapshot{}, err
	}
	return c.latestListed(ctx, ref)
}
