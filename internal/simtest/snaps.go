package simtest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/journalnode/snapshots"
	"github.com/quorumjournal/qjm/segments"
)

// Users' snapshots, and what they allow to be purged (C1-C5): what libqjm's SaveSnapshot and journalnode's
// snapshot loop do in their shells. The store, and the decisions, are the real ones.

// blockBytes is small, so that a snapshot has several blocks.
const blockBytes = 512

// content is the user's state at a txid.
func content(id snapshots.ID) []byte {
	b := fmt.Appendf(nil, "the state at %d of %s\n", id.TxID, id.At)
	for len(b) < 100+int(id.TxID)%3*blockBytes {
		b = append(b, b...)
	}
	return b
}

func snapshotOf(id snapshots.ID) snapshots.Snapshot {
	b := content(id)
	return snapshots.Snapshot{TxID: id.TxID, At: id.At, Epoch: id.Epoch, Size: int64(len(b)), Checksum: sha256.Sum256(b)}
}

// save has a user save a snapshot now and then: of what was acknowledged most often, and now and then of a frame
// that its writer has only handed out yet (C1 is to refuse it).
func (w *world) save() {
	if w.calm {
		return
	}
	defer w.after(100+w.rng.Int64N(300), w.save)
	c := w.clients[w.rng.IntN(len(w.clients))]
	at := w.oracle.acked
	if w.rng.IntN(4) == 0 && len(c.sealed) > 0 {
		at = c.sealed[len(c.sealed)-1]
	}
	for range w.rng.IntN(4) {
		if before := w.oracle.parent[at]; before.TxID > 0 {
			at = before
		}
	}
	if at.TxID == 0 {
		return
	}
	first := w.oracle.parent[at].TxID + 1
	id := snapshots.ID{TxID: first + segments.TxID(w.rng.Uint64N(uint64(at.TxID-first)+1)), At: at, Epoch: 1}
	cfg := w.group.now().Config
	if w.cfg.Changes && !c.cfg.IsZero() && w.rng.IntN(4) == 0 {
		cfg = c.cfg // it may be an older one
	}
	w.upload(c.at, cfg, snapshotOf(id))
}

// upload sends a snapshot to all members, and lists it when a majority has it (C1).
func (w *world) upload(from int, cfg quorum.Config, snap snapshots.Snapshot) {
	var holders []quorum.Member
	for _, m := range cfg.Members() {
		h := rpc.Header{Journal: w.journal, ConfigVersion: cfg.Version, Incarnation: m.Incarnation}
		n, told := w.node(m.ID), false
		call(w, from, n, "snapshot", func(j *journal.Journal, reply func(struct{}, error)) {
			reply(struct{}{}, n.take(j, h, snap))
		}, func(_ struct{}, err error) {
			if err != nil || told {
				return
			}
			told = true
			holders = append(holders, m)
			if cfg.Majority(func(o quorum.Member) bool { return slices.ContainsFunc(holders, o.Same) }) {
				w.list(cfg, snap, holders)
			}
		})
	}
}

func (w *world) list(cfg quorum.Config, snap snapshots.Snapshot, holders []quorum.Member) {
	err := w.propose(&catalog.ListSnapshot{
		Target: catalog.Target{Journal: w.journal, ExpectVersion: cfg.Version}, Holders: slices.Clone(holders),
		Snapshot: catalog.Snapshot{TxID: snap.TxID, FrameLast: snap.At, Size: uint64(snap.Size), Checksum: snap.Checksum, Epoch: snap.Epoch},
	})
	w.note("snapshot %s is listed: %v", snap.ID(), err)
	if err == nil {
		w.result.Listed++
		w.oracle.listed(snap)
	}
}

// take is a node's side of an upload (rpc.Service: BeginSnapshot, WriteSnapshot, FinishSnapshot).
func (n *simNode) take(j *journal.Journal, h rpc.Header, snap snapshots.Snapshot) error {
	if err := errors.Join(j.AdmitSnapshot(h), j.CheckSnapshot(snap.ID())); err != nil {
		return err
	}
	s, err := j.Snapshots()
	if err != nil {
		return err
	}
	if have, ok := heldAs(s, snap.TxID); ok && have.Snapshot == snap {
		if err := s.Verify(snap.TxID, nil); err != nil {
			return err
		}
	} else if err := n.write(s, snap, content(snap.ID())); err != nil {
		return err
	}
	return j.AdmitSnapshot(h)
}

// write is an upload, which its user gives up now and then (C4).
func (n *simNode) write(s *snapshots.Store, snap snapshots.Snapshot, b []byte) (err error) {
	defer func() { n.sick = n.sick || errors.Is(err, snapshots.ErrPoisoned) }()
	u, err := s.Begin(snap.ID(), snap.Size)
	if err != nil {
		return err
	}
	for off := u.Offset(); off < snap.Size; off = u.Offset() {
		if n.w.chance(5) {
			return errors.Join(rpc.ErrUnavailable, u.Close())
		}
		if err := u.Write(off, b[off:min(off+300, snap.Size)]); err != nil {
			return errors.Join(err, u.Close())
		}
	}
	if _, err = u.Finish(snap.Size, snap.Checksum); err != nil {
		err = errors.Join(err, u.Close())
	}
	return err
}

func heldAs(s *snapshots.Store, txid segments.TxID) (snapshots.Info, bool) {
	held := s.List()
	i := slices.IndexFunc(held, func(h snapshots.Info) bool { return h.Snapshot.TxID == txid })
	if i < 0 {
		return snapshots.Info{}, false
	}
	return held[i], true
}

// listedAt is what the catalog listed when it had applied so much, oldest first.
func (g *group) listedAt(i int) (out []snapshots.Snapshot) {
	for _, s := range g.log[i].Snapshots {
		out = append(out, snapshots.Snapshot{TxID: s.TxID, At: s.FrameLast, Size: int64(s.Size), Checksum: s.Checksum, Epoch: s.Epoch})
	}
	slices.Reverse(out)
	return out
}

// keepSnapshots is one round of a node's snapshot loop. What is listed it hears late, as its catalog is applied.
func (n *simNode) keepSnapshots() {
	w := n.w
	if !w.cfg.Snapshots || n.j == nil {
		return
	}
	last := len(w.group.log) - 1
	if w.cfg.Changes && w.now >= n.deaf && w.chance(4) {
		n.deaf = w.now + w.rng.Int64N(4000) // its part of the group is slow, or cut off
	}
	if w.now < n.deaf && !w.calm {
		last = n.applied
	}
	if n.applied += w.rng.IntN(last - n.applied + 1); w.calm {
		n.applied = last
	}
	listed := w.group.listedAt(n.applied)
	n.handle(func(j *journal.Journal) func() {
		j.SetListed(listed)
		if len(listed) == 0 || j.Usable() != nil || !n.keepsData() {
			return nil
		}
		s, err := j.Snapshots()
		if err == nil {
			n.fetchSnapshot(s, listed[len(listed)-1])
			err = n.keep(j, s, listed, pins(w.group.log[n.applied].Change))
		}
		if err != nil {
			w.note("n%d: snapshots: %v", n.at+1, err)
			n.sick = n.sick || errors.Is(err, snapshots.ErrPoisoned)
		}
		return nil
	})
	if n.j != nil && len(listed) > 0 && n.keepsData() {
		n.installIfBehind(listed[len(listed)-1])
	}
}

// keep verifies what is here, purges, and removes snapshots that nobody needs.
func (n *simNode) keep(j *journal.Journal, s *snapshots.Store, listed []snapshots.Snapshot, pins []snapshots.Pin) error {
	var err error
	if h, ok := heldAs(s, listed[len(listed)-1].TxID); ok && (!h.Verified || n.w.rng.IntN(4) == 0) {
		err = s.Verify(h.Snapshot.TxID, nil)
	}
	j.LoadInfos()
	n.purgeWithout(j, listed)
	if n.fault.Crashed() {
		return err
	}
	margin := snapshots.Margin{Txns: n.w.rng.Int64N(30)}
	res, perr := j.Purge(journal.PurgeRequest{Margin: margin, Pins: pins, PinBytesMax: pinBytesMax, Max: 2})
	if len(res.Removed) > 0 {
		n.w.result.Purges++
		n.w.note("n%d purges to %s", n.at+1, res.Point)
	}
	var files []snapshots.HeldFile
	for _, h := range s.List() {
		files = append(files, snapshots.HeldFile{Snapshot: h.Snapshot, Verified: h.Verified, Damaged: h.Err != nil})
	}
	err = errors.Join(err, perr)
	for _, txid := range snapshots.Disposable(files, listed, nil) {
		err = errors.Join(err, s.Remove(txid))
	}
	return errors.Join(err, s.Cleanup(snapshots.Cleanup{Below: listed[len(listed)-1].TxID}))
}

// pinBytesMax is small: now and then a learner needs more, and starts from a snapshot again.
const pinBytesMax = 3000

// pins are what learners under way hold back (C2), as journalnode has it.
func pins(ch *catalog.Change) (all []snapshots.Pin) {
	if ch == nil || ch.Stage >= catalog.StageFinal {
		return nil
	}
	for _, m := range ch.Learners() {
		all = append(all, snapshots.Pin{Node: string(m.ID), From: 1})
	}
	return all
}

// held is what a node tells of its snapshots. One whose snapshots cannot be read holds none.
func (n *simNode) held(j *journal.Journal) (all []rpc.HeldSnapshot) {
	if !n.w.cfg.Snapshots {
		return nil
	}
	held, _ := j.HeldSnapshots()
	for _, h := range held {
		x := rpc.HeldSnapshot{Snapshot: h.Snapshot, Bytes: h.Bytes, Verified: h.Verified}
		if h.Err != nil {
			x.Problem = h.Err.Error()
		}
		all = append(all, x)
	}
	return all
}

// fetchSnapshot copies a listed snapshot from a peer; one that is damaged is put aside.
func (n *simNode) fetchSnapshot(s *snapshots.Store, snap snapshots.Snapshot) {
	w, life := n.w, n.life
	if h, ok := heldAs(s, snap.TxID); ok {
		if h.Err == nil && h.Snapshot == snap {
			return
		}
		if err := s.SetAside(snap.TxID, segments.ReasonDamaged); err != nil {
			return
		}
	}
	sources := n.sources()
	peer := sources[w.rng.IntN(len(sources))]
	if peer == n {
		return
	}
	call(w, n.at, peer, "read snapshot", func(j *journal.Journal, reply func([]byte, error)) { reply(readSnapshot(j, snap)) },
		func(b []byte, err error) {
			if err != nil || n.life != life {
				return
			}
			n.handle(func(j *journal.Journal) func() {
				if errors.Is(j.CheckSnapshot(snap.ID()), rpc.ErrSnapshotDiverges) {
					return nil
				}
				if s, err = j.Snapshots(); err == nil {
					err = n.write(s, snap, b)
				}
				w.note("n%d copies snapshot %d from n%d: %v", n.at+1, snap.TxID, peer.at+1, err)
				return nil
			})
		})
}

func readSnapshot(j *journal.Journal, snap snapshots.Snapshot) ([]byte, error) {
	s, err := j.Snapshots()
	if err != nil {
		return nil, err
	}
	r, err := s.OpenReader(snap.TxID)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if r.Snapshot() != snap {
		err = errors.Join(err, rpc.ErrNoSnapshot)
	}
	return b, errors.Join(err, r.Close())
}

// installIfBehind starts from a snapshot where the peers have purged what this node would go on with (C3).
func (n *simNode) installIfBehind(snap snapshots.Snapshot) {
	w, life := n.w, n.life
	pages := map[quorum.NodeID]rpc.SegmentsPage{}
	for _, peer := range n.sources() {
		if peer != n {
			call(w, n.at, peer, "list", func(j *journal.Journal, reply func(rpc.SegmentsPage, error)) { reply(j.SegmentsAfter(0, 0), nil) },
				func(p rpc.SegmentsPage, err error) {
					if err == nil {
						pages[peer.member.ID] = p
					}
				})
		}
	}
	w.after(2*delayMax, func() {
		if n.life != life {
			return
		}
		n.handle(func(j *journal.Journal) func() {
			need := j.Needs()
			behind := journal.PurgedBy(need, pages)
			if behind == 0 || snap.At.TxID < need {
				return nil
			}
			j.LoadInfos()
			plan, err := j.Install(snap, behind)
			if err == nil {
				w.result.Installs++
				if !j.State().Member {
					w.result.Learned++
				}
			}
			w.note("n%d starts from snapshot %s, purge point %s: %v", n.at+1, snap.ID(), plan.Point, err)
			return nil
		})
	})
}

// holds: the snapshot is on the disk, whole.
func (d *diskView) holds(snap snapshots.Snapshot) bool {
	if d.j == nil {
		return false
	}
	s, err := d.j.Snapshots()
	if err != nil {
		return false
	}
	h, ok := heldAs(s, snap.TxID)
	return ok && h.Snapshot == snap && s.Verify(snap.TxID, nil) == nil
}

// listed: what a listed snapshot stands for was acknowledged, or decided (C1).
func (o *oracle) listed(snap snapshots.Snapshot) {
	if o.contains(o.acked, snap.At) {
		return
	}
	for _, end := range o.decided {
		if o.contains(end.Position(), snap.At) {
			return
		}
	}
	o.w.fail(fmt.Errorf("C1: snapshot %s is listed, acknowledged is %s", snap.ID(), o.acked))
}

// covered is the newest listed snapshot that one of these nodes holds: what a reader can start from there.
func (o *oracle) covered(mask int) segments.TxID {
	if !o.w.cfg.Snapshots {
		return 0
	}
	for _, snap := range slices.Backward(o.w.group.listedAt(len(o.w.group.log) - 1)) {
		for i, d := range o.disks {
			if mask>>i&1 == 1 && d.holds(snap) {
				return snap.TxID
			}
		}
	}
	return 0
}

// purgePoint: it never goes back, not over a power failure either (C5), and where it rises, the node holds a
// listed snapshot that covers it (C2). Without that no majority loses anything yet, as the newest listed one is
// on a majority (C1): more nodes would have to be damaged than any rule survives. So it is asked here.
func (o *oracle) purgePoint(n *simNode, d *diskView) {
	if !o.w.cfg.Snapshots || d.j == nil {
		return
	}
	point, old := d.j.Purged(), o.purged[n.at]
	told := old
	if n.j != nil && n.j.Purged().TxID > told.TxID {
		told = n.j.Purged()
	}
	o.purged[n.at] = point
	switch {
	case point.TxID == 0 && !d.j.Config().Has(n.member.ID, n.incarnation): // it has left, and dropped its data (M8)
	case point.TxID < told.TxID && !n.damaged:
		o.w.fail(fmt.Errorf("C5: n%d had purged to %s, and knows of %s after a power failure", n.at+1, told, point))
	case point.TxID <= old.TxID:
	case !slices.ContainsFunc(o.everListed(), func(s snapshots.Snapshot) bool { return s.At.TxID >= point.TxID && d.holds(s) }) && !n.damaged:
		o.w.fail(fmt.Errorf("C2: n%d purged to %s, and holds no listed snapshot that covers it", n.at+1, point))
	}
}

func (o *oracle) everListed() (all []snapshots.Snapshot) {
	for i := range o.w.group.log {
		for _, s := range o.w.group.listedAt(i) {
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all
}

// purgeWithout is what a node does that goes without a rule of purging. Its process ends at once, as the journal
// has no such switch.
func (n *simNode) purgeWithout(j *journal.Journal, listed []snapshots.Snapshot) {
	covered := listed[len(listed)-1].TxID
	if n.w.cfg.Broken == RuleC5Newest { // it keeps C2
		files, _ := j.HeldSnapshots()
		files = slices.DeleteFunc(files, func(h snapshots.Info) bool { return !h.Verified || !slices.Contains(listed, h.Snapshot) })
		if len(files) == 0 {
			return
		}
		covered = files[len(files)-1].Snapshot.TxID
	}
	var point segments.Position
	var gone []rpc.SegmentInfo
	all := j.Segments()
	for i, s := range all {
		newest := !slices.ContainsFunc(all[i+1:], func(x rpc.SegmentInfo) bool { return !x.Last.Digest.IsZero() && x.State == s.State })
		var may bool
		switch n.w.cfg.Broken {
		case RuleC2Peer:
			may = !newest && slices.ContainsFunc(n.w.nodes, func(o *simNode) bool { return o.j != nil && o.j.Purged().TxID >= s.Last.TxID })
		case RuleC2Held:
			may = !newest && covered >= s.Last.TxID
		case RuleC5Newest:
			may = covered >= s.Last.TxID
		}
		if !may || j.FinalizedEnd(s.First).IsZero() {
			break
		}
		if s.Last.TxID > j.Purged().TxID {
			point = s.Last
		}
		gone = append(gone, s)
	}
	if point.TxID == 0 {
		return
	}
	n.w.note("n%d purges to %s, against the rule", n.at+1, point)
	n.w.try(snapshots.SavePurged(n.disk, path.Join(dir, "purged"), point))
	for _, s := range gone {
		name := segments.Name{Kind: segments.NameFinalized, First: s.First, Last: s.Last.TxID}
		n.w.try(n.disk.Remove(path.Join(dir, "segments", name.String())))
	}
	n.w.try(n.disk.SyncDir(path.Join(dir, "segments")))
	n.fault.Crash()
}
