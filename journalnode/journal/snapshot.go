package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/snapshots"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// Snapshots returns the store of the users' snapshots, which is opened when it is first needed. Anyone.
func (j *Journal) Snapshots() (*snapshots.Store, error) {
	view, _ := j.Watch()
	j.snapMu.Lock()
	defer j.snapMu.Unlock()
	switch {
	case view.Deleted || j.snapsGone:
		return nil, rpc.ErrJournalDeleted
	case j.snaps != nil:
		return j.snaps, nil
	}
	s, err := snapshots.Open(j.files.fs, j.files.path(snapshotsDir), j.id, j.snapOpts, snapshots.Cleanup{})
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j.snaps = s
	return s, nil
}

// HeldSnapshots lists what the store holds, without making one where there never was any. Anyone.
func (j *Journal) HeldSnapshots() ([]snapshots.Info, error) {
	j.snapMu.Lock()
	opened := j.snaps != nil
	j.snapMu.Unlock()
	if _, err := j.files.fs.Stat(j.files.path(snapshotsDir)); !opened && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	s, err := j.Snapshots()
	if err != nil {
		return nil, err
	}
	return s.List(), nil
}

// verified lists the snapshots that are here and were verified here (C2).
func (j *Journal) verified() ([]snapshots.Snapshot, error) {
	held, err := j.HeldSnapshots()
	var out []snapshots.Snapshot
	for _, h := range held {
		if h.Verified && h.Err == nil {
			out = append(out, h.Snapshot)
		}
	}
	return out, err
}

// dropSnapshots removes the snapshots of a journal that is deleted, or that this node has left. Uploads and
// readers under way fail, or end.
func (j *Journal) dropSnapshots() error {
	j.snapMu.Lock()
	defer j.snapMu.Unlock()
	if j.snaps != nil {
		j.snaps.Retire() // an upload under way must not give a name to what a later store has begun
	}
	j.snaps, j.snapsGone = nil, true
	dir := j.files.path(snapshotsDir)
	names, err := j.files.fs.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, n := range names {
		if rerr := j.files.fs.Remove(path.Join(dir, n)); !errors.Is(rerr, fs.ErrNotExist) { // an upload may end meanwhile
			err = errors.Join(err, rerr)
		}
	}
	return errors.Join(err, j.files.fs.SyncDir(dir))
}

// mayHoldSnapshots lets snapshots be kept again, where the journal lives on without this node: it may come back.
func (j *Journal) mayHoldSnapshots() {
	j.snapMu.Lock()
	defer j.snapMu.Unlock()
	j.snapsGone = false
}

// SetListed says which snapshots are listed. They come from the applied catalog, and from nowhere else (C2).
// Anyone.
func (j *Journal) SetListed(listed []snapshots.Snapshot) {
	listed = slices.SortedFunc(slices.Values(listed), func(a, b snapshots.Snapshot) int { return cmp.Compare(a.TxID, b.TxID) })
	j.viewMu.Lock()
	defer j.viewMu.Unlock()
	j.listed = listed
	j.view.Start = j.readersStart()
}

// readersStart is where a reader below the purge point starts (D5). viewMu is held.
func (j *Journal) readersStart() snapshots.Snapshot {
	if len(j.listed) == 0 {
		return snapshots.Snapshot{}
	}
	return j.listed[len(j.listed)-1]
}

// Listed returns what SetListed was told, oldest first. Anyone.
func (j *Journal) Listed() []snapshots.Snapshot {
	j.viewMu.Lock()
	defer j.viewMu.Unlock()
	return j.listed
}

// Purged returns the purge point. Anyone.
func (j *Journal) Purged() segments.Position {
	view, _ := j.Watch()
	return view.Purged
}

// AdmitSnapshot is the gate of an upload: what is counted together carries one config, and the storage it is
// meant for (N1, M1). A writer's claim is promised like that of any request (F3, C4); without a claim the
// snapshot has only its digest to stand on. Owner only.
func (j *Journal) AdmitSnapshot(h rpc.Header) error {
	if !h.Claim.IsZero() {
		if err := j.admit(h); err != nil {
			return err
		}
		return j.mayGrow()
	}
	if err := j.check(h); err != nil {
		return err
	}
	return j.mayGrow()
}

// CheckSnapshot compares a snapshot with the own log (C1): the frame that holds its transaction is committed
// here, and ends where the snapshot says, with that digest. rpc.ErrSnapshotNotHeld: this node cannot tell,
// or not yet; rpc.ErrSnapshotDiverges: it is of another history. Anyone.
func (j *Journal) CheckSnapshot(id snapshots.ID) error {
	view, _ := j.Watch()
	if p := view.Purged; id.At.TxID == p.TxID && id.At.Digest == p.Digest {
		return nil
	} else if id.At.TxID == p.TxID {
		return fmt.Errorf("%w: %s, purged here up to %s", rpc.ErrSnapshotDiverges, id, p)
	}
	info, limit, found := j.shown(id.TxID, view)
	switch {
	case !found || limit < id.TxID:
		return fmt.Errorf("%w: %s", rpc.ErrSnapshotNotHeld, id)
	case info.State == store.StateDamaged:
		return fmt.Errorf("%w: %s: %w", rpc.ErrSnapshotNotHeld, id, info.Err)
	}
	if err := j.checkFloor(info.First, limit, view); err != nil {
		return err
	}
	r, err := j.store.Reader(info.First, id.TxID)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	f, err := r.Next()
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	switch {
	case f.Last() > limit:
		return fmt.Errorf("%w: %s", rpc.ErrSnapshotNotHeld, id)
	case f.Position() != id.At:
		return fmt.Errorf("%w: %s, the frame that holds it ends %s here", rpc.ErrSnapshotDiverges, id, f.Position())
	}
	return nil
}

// shown finds the segment that holds a txid, and how far it may be shown (D1, D2).
func (j *Journal) shown(t segments.TxID, view View) (info store.Info, limit segments.TxID, found bool) {
	for _, in := range j.store.Infos() {
		switch {
		case in.First > t:
		case in.Finalized && in.Last >= t:
			return in, in.Last, true
		case !in.Finalized && in.First == view.InProgress:
			return in, view.Limit, true
		}
	}
	return info, 0, false
}

// LoadInfos reads what Purge and Install need to know of segments, so that the owner does not have to. Anyone.
func (j *Journal) LoadInfos() {
	for _, in := range j.store.Infos() {
		if !in.Loaded && in.State == store.StateFinalized {
			_, _ = j.store.Info(in.First) // what cannot be read is damaged from then on
		}
	}
}

// described is the log as the decisions about snapshots see it.
func (j *Journal) described() []snapshots.Segment {
	var out []snapshots.Segment
	for _, in := range j.store.Infos() {
		if full, err := j.store.Info(in.First); err == nil {
			in = full
		}
		s := snapshots.Segment{End: in.End(), Prev: in.Prev, Finalized: in.Finalized, Bytes: in.Bytes}
		unread := in.Finalized && !in.Loaded // it cannot be opened now: its end is not known
		s.Damaged = in.State == store.StateDamaged || unread || j.broken[in.First] != nil
		if t := j.tails[in.First]; t != nil {
			s.End = segments.End{First: in.First, Last: t.w.Synced().TxID, Digest: t.w.Synced().Digest}
			s.Prev, s.Damaged = t.w.Header().Prev, s.Damaged || t.w.Damaged() != nil
		}
		out = append(out, s)
	}
	return out
}

// PurgeRequest says what stays of what is covered by snapshots.
type PurgeRequest struct {
	Margin      snapshots.Margin
	Pins        []snapshots.Pin
	PinBytesMax int64
	Max         int // segments to remove at most: the owner has other work
}

// PurgeResult is what was done.
type PurgeResult struct {
	Point   segments.Position
	Removed []segments.TxID // first txids
	Aside   []segments.TxID // leftovers that were set aside
	More    bool            // Max was reached
	Overrun []snapshots.Pin
}

// Purge removes what may go (C2, C5): the purge point is durable before the first segment is deleted, oldest
// first. A crash in between leaves segments below the purge point, which go the next time. Owner only.
func (j *Journal) Purge(req PurgeRequest) (PurgeResult, error) {
	if err := j.mayPurge(); err != nil {
		return PurgeResult{}, err
	}
	held, err := j.verified()
	if err != nil {
		return PurgeResult{}, err
	}
	segs, listed := j.described(), j.Listed()
	plan, err := snapshots.PurgeDecision(snapshots.PurgeInput{
		Segments: segs, Listed: listed, Held: held, Purged: j.purged,
		Margin: req.Margin, Pins: req.Pins, PinBytesMax: req.PinBytesMax,
	})
	res := PurgeResult{Point: j.purged, Overrun: plan.Overrun}
	if err == nil {
		res.Aside, err = plan.SetAside, j.setAsideAll(plan.SetAside)
	}
	if err != nil || len(plan.Remove) == 0 {
		return res, err
	}
	cover, _ := snapshots.Cover(listed, held)
	own, here, err := j.digestAt(segs, cover.At.TxID)
	if err != nil {
		return res, err
	}
	if here && own != cover.At.Digest {
		return res, &snapshots.DivergenceError{Segment: plan.Remove[0], Own: segments.Position{TxID: cover.At.TxID, Digest: own}, Snapshot: cover.ID()}
	}
	if req.Max > 0 && len(plan.Remove) > req.Max {
		plan.Remove, res.More = plan.Remove[:req.Max], true
		plan.Point = j.purged
		for _, s := range segs {
			if slices.Contains(plan.Remove, s.End.First) && s.End.Last > plan.Point.TxID {
				plan.Point = s.End.Position()
			}
		}
	}
	if err := j.raisePurged(plan.Point); err != nil {
		return res, err
	}
	res.Point, res.Removed = j.purged, plan.Remove
	return res, j.removeSegments(plan.Remove)
}

func (j *Journal) mayPurge() error {
	switch {
	case j.poisoned != nil:
		return fmt.Errorf("%w: %w", rpc.ErrPoisoned, j.poisoned)
	case j.unknown != nil:
		return fmt.Errorf("%w: %w", rpc.ErrUnknownNode, j.unknown)
	case j.config.IsEmpty():
		return rpc.ErrJournalDeleted
	}
	return nil
}

// raisePurged makes a higher purge point durable. It never goes back.
func (j *Journal) raisePurged(p segments.Position) error {
	if p.TxID <= j.purged.TxID {
		return nil
	}
	if err := j.save(func() error { return snapshots.SavePurged(j.files.fs, j.files.path(purgedFile), p) }); err != nil {
		return err
	}
	j.purged = p
	j.publish()
	return nil
}

// dropPurged forgets the purge point, durably: the data that it is about goes next (M8).
func (j *Journal) dropPurged() error {
	if j.purged.TxID == 0 {
		return nil
	}
	if err := j.save(j.files.removePurged); err != nil {
		return err
	}
	j.purged = segments.Position{}
	return nil
}

func (j *Journal) removeSegments(firsts []segments.TxID) error {
	if len(firsts) == 0 {
		return nil
	}
	err := j.stored(j.store.Remove(firsts...))
	for _, s := range firsts {
		delete(j.broken, s)
		err = errors.Join(err, j.dropAccepted(s))
	}
	j.structureChanged()
	return err
}

// digestAt returns the digest at a txid in the own log, and whether the log holds that txid in a copy that can be
// read; the digest is zero then where no frame ends there. A finalized copy outdoes one in progress, which may be
// a leftover. An error: it could not be read now, which says nothing about what is in it (N2).
func (j *Journal) digestAt(segs []snapshots.Segment, t segments.TxID) (d segments.Digest, here bool, err error) {
	for _, finalized := range []bool{true, false} {
		for _, s := range segs {
			if s.Finalized != finalized || s.End.First > t || s.End.Last < t || s.Damaged {
				continue
			}
			if d, _, err = j.store.DigestAt(s.End.First, t); err != nil {
				return d, true, fmt.Errorf("journal: %w", err)
			}
			return d, true, nil
		}
	}
	return d, false, nil
}

// Install makes a snapshot the start of the log here (C3): what the peers have purged cannot be had any more.
// It is listed, here, and verified here. behind is how far the peers have purged; a copy in progress that
// begins above it may be what a writer is writing, and is never set aside for a snapshot: it is
// rpc.ErrSnapshotBusy until that segment is finalized, or holds the snapshot. Owner only.
func (j *Journal) Install(snap snapshots.Snapshot, behind segments.TxID) (snapshots.InstallPlan, error) {
	if err := j.mayPurge(); err != nil {
		return snapshots.InstallPlan{}, err
	}
	held, err := j.verified()
	if err != nil {
		return snapshots.InstallPlan{}, err
	}
	if !slices.Contains(held, snap) || !slices.Contains(j.Listed(), snap) {
		return snapshots.InstallPlan{}, fmt.Errorf("%w: %s is not listed, held and verified here", rpc.ErrNoSnapshot, snap.ID())
	}
	segs := j.described()
	own, _, err := j.digestAt(segs, snap.At.TxID)
	if err != nil {
		return snapshots.InstallPlan{}, err
	}
	plan, err := snapshots.InstallDecision(snapshots.InstallInput{Snapshot: snap, Segments: segs, OwnAt: own, Purged: j.purged})
	if err != nil {
		return plan, err
	}
	for _, s := range segs {
		if !s.Finalized && s.End.First > behind && slices.Contains(plan.SetAside, s.End.First) {
			return plan, fmt.Errorf("%w: segment %d may be being written", rpc.ErrSnapshotBusy, s.End.First)
		}
	}
	plan.Remove = plan.Remove[:min(len(plan.Remove), installRemoves)]
	return plan, j.install(plan)
}

// installRemoves is how many segments one Install removes: appends wait behind it. The others are below the purge
// point then, and go with the purges, as far as those keep no margin.
const installRemoves = 8

// install carries a plan out in its order. A crash anywhere leaves a node that lacks something, as before.
func (j *Journal) install(plan snapshots.InstallPlan) error {
	if err := j.setAsideAll(plan.SetAside); err != nil {
		return err
	}
	if err := j.raisePurged(plan.Point); err != nil {
		return err
	}
	return j.removeSegments(plan.Remove)
}

func (j *Journal) setAsideAll(leftovers []segments.TxID) error {
	if len(leftovers) == 0 {
		return nil
	}
	defer j.structureChanged()
	for _, s := range leftovers {
		if err := j.dropAccepted(s); err != nil {
			return err
		}
		if err := j.setAside(s, segments.ReasonLeftover); err != nil {
			return err
		}
	}
	return nil
}

// PurgedBy returns how far the peers have purged, if the segment that holds a txid cannot be had from any of
// them any more, and 0 otherwise. A copy in progress counts as there unless a later segment is finalized
// somewhere: then it is a leftover.
func PurgedBy(need segments.TxID, peers map[quorum.NodeID]rpc.SegmentsPage) segments.TxID {
	var purged, finalized segments.TxID
	for _, page := range peers {
		purged = max(purged, page.Purged.TxID)
		for _, s := range page.Segments {
			if s.State == recovery.Finalized {
				finalized = max(finalized, s.Last.TxID)
			}
		}
	}
	if purged < need {
		return 0
	}
	for _, page := range peers {
		for _, s := range page.Segments {
			switch {
			case s.First > need:
			case s.State == recovery.Finalized && s.Last.TxID >= need:
				if s.Last.TxID > page.Purged.TxID { // else it is about to go
					return 0
				}
			case s.State == recovery.InProgress && s.First > finalized:
				return 0
			}
		}
	}
	return purged
}
