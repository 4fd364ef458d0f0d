package journalnode

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"slices"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/journalnode/snapshots"
	"github.com/quorumjournal/qjm/segments"
)

// purgeStep bounds how many segments go in one task of the owner: appends wait behind it.
const purgeStep = 8

// snapshotRounds is how many ticks of the snapshot loop pass between two full looks at a journal in which
// nothing changed that is known to count: uploads and downloads end by the clock.
const snapshotRounds = 10

// snapshotLog is what the snapshot loop remembers of a journal.
type snapshotLog struct {
	compared  time.Time // with the peers' purge points
	said      string    // the last error: said once, not with each try
	overrun   string    // the pins that are known to need too much: said once
	structure uint64    // of the log, when it was looked after
	round     uint64    // when that was
	failed    bool
	// scrubbed is when each snapshot here was last read in full.
	scrubbed map[segments.TxID]time.Time
}

// snapshotLoop keeps what is listed: it gets and verifies the newest listed snapshot, starts from it where
// the peers have purged what this node lacks (C3), and purges what is covered (C2, C5). News are of one
// journal and cost a look at that one; a tick looks at those where something may have changed.
func (n *Node) snapshotLoop() {
	tick := time.NewTicker(n.opts.SnapshotEvery)
	defer tick.Stop()
	logs := map[segments.JournalID]*snapshotLog{}
	for round := uint64(0); ; {
		var due []*owner
		select {
		case <-tick.C:
			round++
			if err := n.desk.endIdle(n.opts.UploadIdle); err != nil {
				n.log.Warn("an upload was closed badly", "err", err)
			}
			for _, o := range n.allOwners() {
				if log := logs[o.j.ID()]; log == nil || n.snapshotsStale(o, *log, round) {
					due = append(due, o)
				}
			}
		case <-n.snapshotWake:
			due = n.takeDue()
		case <-n.stopping:
			return
		}
		for _, o := range due {
			log := logs[o.j.ID()]
			if log == nil {
				log = &snapshotLog{}
				logs[o.j.ID()] = log
			}
			view, _ := o.j.Watch() // before: what changes meanwhile is looked at again
			log.structure, log.round = view.Structure, round
			err := n.keepSnapshots(o, log)
			select {
			case <-n.stopping:
				return
			default:
			}
			log.failed = err != nil
			if text := fmt.Sprint(err); text != log.said && err != nil {
				o.log.Log(context.Background(), slog.LevelWarn, "snapshots are not in order and will be tried again", "err", err)
				log.said = text
			} else if err == nil {
				log.said = ""
			}
		}
	}
}

// takeDue returns the journals of which there are news.
func (n *Node) takeDue() []*owner {
	n.mu.Lock()
	defer n.mu.Unlock()
	var due []*owner
	for id := range n.snapshotDue {
		if o := n.owners[id]; o != nil {
			due = append(due, o)
		}
	}
	clear(n.snapshotDue)
	return due
}

// snapshotsStale reports, at next to no cost, whether a journal is to be looked after though there are no news
// of it.
func (n *Node) snapshotsStale(o *owner, log snapshotLog, round uint64) bool {
	listed := o.j.Listed()
	if len(listed) == 0 {
		return false
	}
	view, _ := o.j.Watch()
	return log.failed || view.Structure != log.structure || round-log.round >= snapshotRounds ||
		time.Since(log.compared) >= n.opts.CompareEvery && o.j.Needs() <= listed[len(listed)-1].At.TxID
}

// keepSnapshots looks after one journal. Each step goes on without the one before.
func (n *Node) keepSnapshots(o *owner, log *snapshotLog) error {
	listed := o.j.Listed()
	if len(listed) == 0 || o.j.Usable() != nil || !n.keepsData(o) {
		return nil
	}
	ctx, cancel := n.context(n.opts.ScrubEvery)
	defer cancel()
	store, err := o.j.Snapshots()
	if err != nil {
		return err
	}
	newest := listed[len(listed)-1]
	errs := []error{n.getSnapshot(ctx, o, store, newest), n.verifyOne(store, listed), n.scrubSnapshots(store, listed, log)}
	if o.j.Needs() <= newest.At.TxID && (time.Since(log.compared) >= n.opts.CompareEvery || o.j.Incomplete()) {
		errs = append(errs, n.installIfBehind(ctx, o))
		log.compared = time.Now()
	}
	errs = append(errs, n.purge(ctx, o, log), n.dispose(o, store, listed))
	errs = append(errs, store.Cleanup(snapshots.Cleanup{
		WrittenBefore: time.Now().Add(-n.opts.UploadKeep).UnixMilli(), Below: newest.TxID,
	}))
	return errors.Join(errs...)
}

// keepsData: the node is a member, or a learner under way. One that has left goes on hearing what is listed, and
// keeps nothing but config and promise (M8).
func (n *Node) keepsData(o *owner) bool {
	return o.j.Summary().Config.Has(n.opts.ID, o.j.Self().Incarnation) || time.Now().UnixNano() <= o.learnUntil.Load()
}

func heldAs(store *snapshots.Store, txid segments.TxID) (snapshots.Info, bool) {
	held := store.List()
	i := slices.IndexFunc(held, func(h snapshots.Info) bool { return h.Snapshot.TxID == txid })
	if i < 0 {
		return snapshots.Info{}, false
	}
	return held[i], true
}

// getSnapshot makes sure that a listed snapshot is here: one that is damaged, or another content under its
// txid, is put aside, and what is missing is copied from a peer.
func (n *Node) getSnapshot(ctx context.Context, o *owner, store *snapshots.Store, snap snapshots.Snapshot) error {
	if h, ok := heldAs(store, snap.TxID); ok {
		why := segments.ReasonReplaced
		switch {
		case errors.Is(h.Err, snapshots.ErrCorrupt):
			why = segments.ReasonDamaged
			n.metrics.damages.Inc()
			o.log.Error("a snapshot is damaged: it is put aside, and copied from a peer", "snapshot", snap.TxID, "err", h.Err)
		case h.Err != nil:
			return h.Err
		case h.Snapshot == snap:
			return nil
		}
		if err := store.SetAside(snap.TxID, why); err != nil {
			return err
		}
	}
	return n.fetchSnapshot(ctx, o, store, snap)
}

// fetchSnapshot copies a snapshot from peers, piece by piece. What is cut off is resumed the next time. It
// counts for nothing: what is here by it was vouched for by a majority when it was listed.
func (n *Node) fetchSnapshot(ctx context.Context, o *owner, store *snapshots.Store, snap snapshots.Snapshot) error {
	if err := o.j.CheckSnapshot(snap.ID()); errors.Is(err, rpc.ErrSnapshotDiverges) {
		n.metrics.divergences.Inc()
		return err
	}
	if !n.desk.takeOver(uploadKey{o.j.ID(), snap.ID()}) {
		return nil // its writer is sending it
	}
	u, err := store.Begin(snap.ID(), snap.Size)
	if err != nil {
		return err
	}
	defer func() { _ = u.Close() }() // what is there is resumed, or was finished
	errs := []error{rpc.ErrNoSource}
	for _, id := range n.sources(o) {
		err := n.fetchFrom(ctx, id, o.j.ID(), u, snap)
		if err == nil {
			_, err = u.Finish(snap.Size, snap.Checksum)
			if err == nil {
				o.log.Info("snapshot copied from a peer", "snapshot", snap.ID(), "source", id)
			}
			return err
		}
		errs = append(errs, fmt.Errorf("%s: %w", id, err))
	}
	return errors.Join(errs...)
}

// sources are the other members of a journal, by the config that is installed here: also for a learner, which
// is none of them.
func (n *Node) sources(o *owner) []quorum.NodeID {
	var ids []quorum.NodeID
	for _, m := range o.j.Summary().Config.Members() {
		if m.ID != n.opts.ID && !slices.Contains(ids, m.ID) {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

func (n *Node) fetchFrom(ctx context.Context, id quorum.NodeID, j segments.JournalID, u *snapshots.Upload, snap snapshots.Snapshot) error {
	peer, err := n.peers.node(id)
	if err != nil {
		return err
	}
	for u.Offset() < snap.Size {
		if n.reserve.Low() {
			return fmt.Errorf("journalnode: the disk has no more than its reserve: %w", vfs.ErrNoSpace)
		}
		c, err := n.readPiece(ctx, peer, rpc.SnapshotRead{Journal: j, Snapshot: snap, Offset: u.Offset(), Length: rpc.SnapshotChunkMax})
		if err != nil {
			return err
		}
		if err := u.Write(u.Offset(), c.Bytes); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) readPiece(ctx context.Context, peer rpc.Node, req rpc.SnapshotRead) (rpc.SnapshotChunk, error) {
	ctx, cancel := context.WithTimeout(ctx, n.opts.PeerTimeout)
	defer cancel()
	c, err := peer.ReadSnapshot(ctx, req)
	switch got := crc32.Checksum(c.Bytes, castagnoli); {
	case err != nil:
		return c, err
	case got != c.CRC:
		return c, fmt.Errorf("%w: crc (got %08x, want %08x)", rpc.ErrSnapshotChunk, got, c.CRC)
	case len(c.Bytes) == 0:
		return c, fmt.Errorf("%w: nothing at %d of %d", rpc.ErrSnapshotChunk, req.Offset, req.Snapshot.Size)
	}
	return c, nil
}

// verifyOne verifies the newest listed snapshot that is here, if that was not done since the node started:
// nothing is purged for a snapshot that was not (C2).
func (n *Node) verifyOne(store *snapshots.Store, listed []snapshots.Snapshot) error {
	for _, snap := range slices.Backward(listed) {
		h, ok := heldAs(store, snap.TxID)
		if !ok || h.Snapshot != snap || h.Err != nil {
			continue
		}
		if h.Verified {
			return nil
		}
		return store.Verify(snap.TxID, n.slowly)
	}
	return nil
}

// scrubSnapshots reads listed snapshots again, each every ScrubEvery (A2): the log before them is gone, or about
// to go. A bad one is unknown from then on, and is copied from a peer.
func (n *Node) scrubSnapshots(store *snapshots.Store, listed []snapshots.Snapshot, log *snapshotLog) error {
	next := map[segments.TxID]time.Time{}
	var errs []error
	for _, snap := range listed {
		h, ok := heldAs(store, snap.TxID)
		if !ok || h.Snapshot != snap || !h.Verified {
			continue
		}
		at, seen := log.scrubbed[snap.TxID]
		if !seen {
			at = time.Now() // it was verified a moment ago
		} else if time.Since(at) >= n.opts.ScrubEvery {
			errs = append(errs, store.Verify(snap.TxID, n.slowly))
			at = time.Now()
		}
		next[snap.TxID] = at
	}
	log.scrubbed = next
	return errors.Join(errs...)
}

// purge removes what may go, a few segments at a time.
func (n *Node) purge(ctx context.Context, o *owner, log *snapshotLog) error {
	o.j.LoadInfos()
	k := o.kept.get()
	for {
		req := journal.PurgeRequest{Margin: k.margin, Pins: k.pins, PinBytesMax: n.opts.PinBytesMax, Max: purgeStep}
		res, err := ask(ctx, o, func(j *journal.Journal) (journal.PurgeResult, error) { return j.Purge(req) })
		if said := fmt.Sprint(res.Overrun); said != log.overrun {
			log.overrun = said
			for _, p := range res.Overrun {
				o.log.Warn("a learner needs more of the log than is kept for it; it starts from a snapshot again", "learner", p.Node, "from", p.From)
			}
		}
		if errors.Is(err, snapshots.ErrDivergence) {
			n.metrics.divergences.Inc()
		}
		if len(res.Aside) > 0 {
			o.log.Warn("leftovers of segments that are purged were set aside", "segments", res.Aside)
		}
		if err != nil {
			return err
		}
		if len(res.Removed) > 0 {
			o.log.Info("purged", "to", res.Point, "segments", len(res.Removed))
		}
		if !res.More {
			return nil
		}
	}
}

// dispose removes snapshots that nobody needs any more.
func (n *Node) dispose(o *owner, store *snapshots.Store, listed []snapshots.Snapshot) error {
	var files []snapshots.HeldFile
	for _, h := range store.List() {
		files = append(files, snapshots.HeldFile{Snapshot: h.Snapshot, Verified: h.Verified, Damaged: h.Err != nil})
	}
	var errs []error
	for _, txid := range snapshots.Disposable(files, listed, n.desk.downloading(o.j.ID())) {
		err := store.Remove(txid)
		if err == nil {
			o.log.Info("snapshot removed; newer ones are listed", "snapshot", txid)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// installIfBehind starts from the newest listed snapshot where the peers have purged what this node would go
// on with (C3). Repair does the rest.
func (n *Node) installIfBehind(ctx context.Context, o *owner) error {
	need := o.j.Needs()
	lists := map[quorum.NodeID]rpc.SegmentsPage{}
	var errs []error
	for _, id := range n.sources(o) {
		page, err := n.listOf(ctx, id, o.j.ID())
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", id, err))
			continue
		}
		lists[id] = page
	}
	behind := journal.PurgedBy(need, lists)
	if behind == 0 {
		return errors.Join(errs...)
	}
	listed := o.j.Listed()
	snap := listed[len(listed)-1]
	held, err := n.holdsSnapshot(o, snap)
	if err != nil || !held || snap.At.TxID < need {
		return err // it is on its way, or the list is older than what the peers rest on
	}
	o.j.LoadInfos()
	plan, err := ask(ctx, o, func(j *journal.Journal) (snapshots.InstallPlan, error) { return j.Install(snap, behind) })
	for _, d := range plan.Divergences {
		n.metrics.divergences.Inc()
		o.log.Error("a finalized segment is of another history than a listed snapshot: it is set aside", "segment", d.Segment, "err", d)
	}
	if errors.Is(err, snapshots.ErrHolderMissing) {
		return nil // repair is about to bring it, or a writer
	}
	if err == nil {
		o.log.Info("snapshot installed: the peers have purged what was missing here", "snapshot", snap.ID(),
			"purged", plan.Point, "aside", plan.SetAside, "removed", plan.Remove)
	}
	return err
}
