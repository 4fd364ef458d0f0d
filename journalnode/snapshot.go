package journalnode

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/journalnode/snapshots"
	"github.com/quorumjournal/qjm/segments"
)

// takeOverAfter is how long a client may be silent before a node that knows other sources goes on itself.
const takeOverAfter = 2 * time.Second

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// uploadKey names one upload on this node.
type uploadKey struct {
	journal segments.JournalID
	id      snapshots.ID
}

// upload is one that was begun and is held open for the next piece.
type upload struct {
	mu   sync.Mutex // one piece at a time
	u    *snapshots.Upload
	size int64
	over bool      // taken out; begin anew
	used time.Time // guarded by desk.mu
}

// desk is where uploads and downloads of snapshots are known. Nothing of it outlives the process: the store
// resumes what was cut off.
type desk struct {
	mu      sync.Mutex
	uploads map[uploadKey]*upload
	read    map[uploadKey]time.Time // when a piece was last read
}

func newDesk() *desk {
	return &desk{uploads: map[uploadKey]*upload{}, read: map[uploadKey]time.Time{}}
}

func (d *desk) find(k uploadKey) *upload {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.uploads[k]
	if u != nil {
		u.used = time.Now()
	}
	return u
}

// end takes an upload out and closes it: the store keeps what is there, to be resumed. u.mu is held.
func (d *desk) end(k uploadKey, u *upload) error {
	u.over = true
	d.mu.Lock()
	if d.uploads[k] == u {
		delete(d.uploads, k)
	}
	d.mu.Unlock()
	return u.u.Close()
}

// endIdle closes uploads whose client went away, and forgets old reads.
func (d *desk) endIdle(idle time.Duration) error {
	d.mu.Lock()
	old := map[uploadKey]*upload{}
	for k, u := range d.uploads {
		if time.Since(u.used) >= idle {
			old[k] = u
		}
	}
	for k, at := range d.read {
		if time.Since(at) >= idle {
			delete(d.read, k)
		}
	}
	d.mu.Unlock()
	var errs []error
	for k, u := range old {
		if u.mu.TryLock() { // else it is not idle
			errs = append(errs, d.end(k, u))
			u.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

// takeOver closes an upload, so that the node can go on with it itself; false: it is busy with a client.
func (d *desk) takeOver(k uploadKey) bool {
	d.mu.Lock()
	u := d.uploads[k]
	busy := u != nil && time.Since(u.used) < takeOverAfter
	d.mu.Unlock()
	if u == nil || busy || !u.mu.TryLock() {
		return u == nil
	}
	defer u.mu.Unlock()
	return d.end(k, u) == nil
}

// downloading lists what was read not long ago: it must not be pulled away (C2).
func (d *desk) downloading(j segments.JournalID) []segments.TxID {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []segments.TxID
	for k := range d.read {
		if k.journal == j {
			out = append(out, k.id.TxID)
		}
	}
	return out
}

// wakeSnapshots has the snapshot loop look after a journal soon.
func (n *Node) wakeSnapshots(id segments.JournalID) {
	n.mu.Lock()
	n.snapshotDue[id] = true
	n.mu.Unlock()
	select {
	case n.snapshotWake <- struct{}{}:
	default:
	}
}

// snapshotError names the class of an error of the store as it travels.
func snapshotError(err error) error {
	if e, ok := errors.AsType[*snapshots.ExistsError](err); ok {
		return &rpc.SnapshotExistsError{Have: e.Have}
	}
	for _, class := range []struct{ from, to error }{
		{snapshots.ErrCorrupt, rpc.ErrSnapshotDamaged},
		{snapshots.ErrUnsupported, rpc.ErrSnapshotDamaged},
		{snapshots.ErrPoisoned, rpc.ErrPoisoned},
		{snapshots.ErrDivergence, rpc.ErrSnapshotDiverges},
		{snapshots.ErrChecksum, rpc.ErrSnapshotChecksum},
		{snapshots.ErrNotFound, rpc.ErrNoSnapshot},
		{snapshots.ErrClosed, rpc.ErrNoSnapshot},
		{snapshots.ErrBusy, rpc.ErrSnapshotBusy},
		{snapshots.ErrTooMany, rpc.ErrSnapshotBusy},
		{snapshots.ErrQuota, rpc.ErrSnapshotQuota},
		{snapshots.ErrOffset, rpc.ErrSnapshotChunk},
		{snapshots.ErrDiffers, rpc.ErrSnapshotChunk},
		{snapshots.ErrSize, rpc.ErrSnapshotChunk},
		{snapshots.ErrInvalid, rpc.ErrBadRequest},
	} {
		if errors.Is(err, class.from) {
			return fmt.Errorf("%w: %w", class.to, err)
		}
	}
	return err
}

// BeginSnapshot implements rpc.Service (C4).
func (n *Node) BeginSnapshot(ctx context.Context, req rpc.SnapshotUpload) (int64, error) {
	o, err := n.owner(req.Header.Journal)
	if err != nil {
		return 0, err
	}
	if err := o.do(ctx, func(j *journal.Journal) error { return j.AdmitSnapshot(req.Header) }); err != nil {
		return 0, err
	}
	if err := o.j.CheckSnapshot(req.ID); err != nil && !errors.Is(err, rpc.ErrSnapshotNotHeld) {
		return 0, err // no byte more of what this node would never vouch for
	}
	store, err := o.j.Snapshots()
	if err != nil {
		return 0, err
	}
	k := uploadKey{req.Header.Journal, req.ID}
	if u := n.desk.find(k); u != nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		if !u.over && u.size == req.Size {
			return u.u.Offset(), nil
		}
		if err := n.desk.end(k, u); err != nil {
			return 0, snapshotError(err)
		}
	}
	made, err := store.Begin(req.ID, req.Size)
	if err != nil {
		return 0, snapshotError(err)
	}
	n.desk.mu.Lock()
	n.desk.uploads[k] = &upload{u: made, size: req.Size, used: time.Now()}
	n.desk.mu.Unlock()
	return made.Offset(), nil
}

// PutSnapshot implements rpc.Service.
func (n *Node) PutSnapshot(_ context.Context, p rpc.SnapshotPiece) (int64, error) {
	if err := n.admitted(); err != nil {
		return 0, err
	}
	if len(p.Bytes) > rpc.SnapshotChunkMax {
		return 0, fmt.Errorf("%w: a piece of %d bytes (want at most %d)", rpc.ErrBadRequest, len(p.Bytes), rpc.SnapshotChunkMax)
	}
	if got := crc32.Checksum(p.Bytes, castagnoli); got != p.CRC {
		return 0, fmt.Errorf("%w: crc (got %08x, want %08x)", rpc.ErrSnapshotChunk, got, p.CRC)
	}
	if n.reserve.Low() {
		return 0, fmt.Errorf("journalnode: the disk has no more than its reserve: %w", vfs.ErrNoSpace)
	}
	k := uploadKey{p.Journal, p.ID}
	u := n.desk.find(k)
	if u == nil {
		return 0, fmt.Errorf("%w: no upload of %s was begun", rpc.ErrNoSnapshot, p.ID)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return 0, fmt.Errorf("%w: the upload of %s is over", rpc.ErrNoSnapshot, p.ID)
	}
	err := u.u.Write(p.Offset, p.Bytes)
	if errors.Is(err, snapshots.ErrPoisoned) {
		err = errors.Join(err, n.desk.end(k, u))
	}
	if err != nil {
		return 0, snapshotError(err)
	}
	return u.u.Offset(), nil
}

// FinishSnapshot implements rpc.Service (C1): the node vouches for the frame by its own log, and for the
// content by its checksum, durably, before it answers; the gate is passed again with the answer, which counts.
func (n *Node) FinishSnapshot(ctx context.Context, req rpc.SnapshotEnd) error {
	o, err := n.owner(req.Header.Journal)
	if err != nil {
		return err
	}
	gate := func() error {
		return o.do(ctx, func(j *journal.Journal) error { return j.AdmitSnapshot(req.Header) })
	}
	if err := gate(); err != nil {
		return err
	}
	if err := o.j.CheckSnapshot(req.Snapshot.ID()); err != nil {
		return err
	}
	switch held, err := n.holdsSnapshot(o, req.Snapshot); {
	case err != nil:
		return err
	case held:
		return gate() // to verify it may have taken long
	case req.HeldOnly:
		return fmt.Errorf("%w: %s", rpc.ErrNoSnapshot, req.Snapshot.ID())
	}
	k := uploadKey{req.Header.Journal, req.Snapshot.ID()}
	u := n.desk.find(k)
	if u == nil {
		return fmt.Errorf("%w: no upload of %s was begun", rpc.ErrNoSnapshot, req.Snapshot.ID())
	}
	if err := n.finishUpload(k, u, req.Snapshot); err != nil {
		return err
	}
	o.log.Info("snapshot held", "snapshot", req.Snapshot.ID(), "bytes", req.Snapshot.Size)
	n.wakeSnapshots(o.j.ID())
	return gate()
}

func (n *Node) finishUpload(k uploadKey, u *upload, snap snapshots.Snapshot) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return fmt.Errorf("%w: the upload of %s is over", rpc.ErrNoSnapshot, snap.ID())
	}
	_, err := u.u.Finish(snap.Size, snap.Checksum)
	if errors.Is(err, snapshots.ErrSize) || errors.Is(err, vfs.ErrNoSpace) || errors.Is(err, snapshots.ErrQuota) {
		return snapshotError(err) // it stands as it was
	}
	return snapshotError(errors.Join(err, n.desk.end(k, u)))
}

// holdsSnapshot reports whether it is here, and verifies it where that was not done since the node started.
func (n *Node) holdsSnapshot(o *owner, snap snapshots.Snapshot) (bool, error) {
	held, err := o.j.HeldSnapshots()
	if err != nil {
		return false, err
	}
	for _, h := range held {
		if h.Snapshot != snap || h.Err != nil {
			continue
		}
		if h.Verified {
			return true, nil
		}
		s, err := o.j.Snapshots()
		if err == nil {
			err = s.Verify(snap.TxID, n.slowly)
		}
		return err == nil, snapshotError(err)
	}
	return false, nil
}

func (n *Node) slowly(r io.ReaderAt) io.ReaderAt {
	return brokenOff{&slowReader{r: r, rate: n.opts.ScrubRate, stop: n.stopping}}
}

// brokenOff tells a store of snapshots that the node stops, which is no damage.
type brokenOff struct{ io.ReaderAt }

func (b brokenOff) ReadAt(p []byte, off int64) (int, error) {
	k, err := b.ReaderAt.ReadAt(p, off)
	if errors.Is(err, rpc.ErrClosed) {
		err = snapshots.ErrClosed
	}
	return k, err
}

// Snapshots implements rpc.Service.
func (n *Node) Snapshots(_ context.Context, id segments.JournalID) (rpc.SnapshotList, error) {
	o, err := n.owner(id)
	if err != nil {
		return rpc.SnapshotList{}, err
	}
	held, err := o.j.HeldSnapshots()
	if err != nil {
		return rpc.SnapshotList{}, err
	}
	// Fresh is looked at first: what is read after it is not older.
	l := rpc.SnapshotList{Fresh: n.catalogFresh(), Listed: o.j.Listed(), Purged: o.j.Purged(), Policy: o.kept.get().policy}
	if j, ok := n.journalOf(id); ok {
		l.Listed = listedOf(j) // a journal that was just opened has not taken it over yet
	}
	l.Listed = l.Listed[max(0, len(l.Listed)-rpc.SnapshotsMax):]
	for _, h := range held[max(0, len(held)-rpc.SnapshotsMax):] {
		line := rpc.HeldSnapshot{Snapshot: h.Snapshot, Bytes: h.Bytes, Verified: h.Verified}
		if h.Err != nil {
			line.Problem = h.Err.Error()
		}
		l.Held = append(l.Held, line)
	}
	return l, nil
}

// ReadSnapshot implements rpc.Service. Each piece stands alone, so that a reader can go on with any node.
func (n *Node) ReadSnapshot(_ context.Context, req rpc.SnapshotRead) (rpc.SnapshotChunk, error) {
	o, err := n.owner(req.Journal)
	if err != nil {
		return rpc.SnapshotChunk{}, err
	}
	if req.Length < 1 || req.Length > rpc.SnapshotChunkMax || req.Offset < 0 || req.Offset > req.Snapshot.Size {
		return rpc.SnapshotChunk{}, fmt.Errorf("%w: %d bytes at %d of a snapshot of %d", rpc.ErrBadRequest, req.Length, req.Offset, req.Snapshot.Size)
	}
	held, err := o.j.HeldSnapshots()
	if err != nil {
		return rpc.SnapshotChunk{}, err
	}
	if len(held) == 0 {
		return rpc.SnapshotChunk{}, fmt.Errorf("%w: %s", rpc.ErrNoSnapshot, req.Snapshot.ID())
	}
	s, err := o.j.Snapshots()
	if err != nil {
		return rpc.SnapshotChunk{}, err
	}
	r, err := s.OpenReader(req.Snapshot.TxID)
	if err != nil {
		return rpc.SnapshotChunk{}, snapshotError(err)
	}
	defer func() { _ = r.Close() }()
	if r.Snapshot() != req.Snapshot {
		return rpc.SnapshotChunk{}, fmt.Errorf("%w: %s is here with another content", rpc.ErrNoSnapshot, req.Snapshot.ID())
	}
	n.desk.mu.Lock()
	n.desk.read[uploadKey{req.Journal, req.Snapshot.ID()}] = time.Now()
	n.desk.mu.Unlock()
	b := make([]byte, min(int64(req.Length), req.Snapshot.Size-req.Offset))
	if _, err := r.ReadAt(b, req.Offset); err != nil && !(errors.Is(err, io.EOF) && len(b) == 0) {
		return rpc.SnapshotChunk{}, snapshotError(err)
	}
	return rpc.SnapshotChunk{Bytes: b, CRC: crc32.Checksum(b, castagnoli)}, nil
}
