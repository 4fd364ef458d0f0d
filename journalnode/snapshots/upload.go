package snapshots

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/segments"
)

// Upload is a snapshot on its way in: invisible until Finish (C4). It is for one caller at a time.
//
// vfs.ErrNoSpace and ErrQuota leave it as it was, to go on from Offset later; so do ErrOffset, ErrDiffers
// and ErrSize. Any other failed write or sync poisons it, until the store is opened anew (P5).
type Upload struct {
	s    *Store
	t    *temp
	h    header
	seed [4]byte
	f    vfs.File

	buf      []byte // the block being filled, with room for its head
	blocks   int64  // written
	written  int64  // content in them
	unsynced int64  // bytes written since the last sync
	sum      hash.Hash
	ended    bool   // the last block is written: nothing may follow
	other    []byte // a block read back, to compare
	err      error  // why nothing more can be done with it
}

// Begin starts an upload, or resumes it where it was cut off: Offset says from where. size is SizeUnknown,
// or the content's. Two calls with equal ids mean the same upload; with another size it starts over.
//
// Errors: ErrInvalid; *ExistsError where a whole snapshot of that txid is here, which may be just this one;
// ErrBusy while somebody is at this upload; ErrTooMany; ErrQuota; vfs.ErrNoSpace; ErrPoisoned. Uploads that
// nobody is at make room for new ones, those of lower epochs and txids first.
func (s *Store) Begin(id ID, size int64) (*Upload, error) {
	if err := id.Validate(); err != nil {
		return nil, err
	}
	h := header{journal: s.journal, id: id, size: size, blockBytes: s.opts.BlockBytes}
	if size < SizeUnknown || size > SizeMax || size != SizeUnknown && h.blocks(size) > blocksMax {
		return nil, mismatch(ErrInvalid, "size", size, fmt.Sprintf("at most %d", min(SizeMax, int64(h.blockBytes)*blocksMax)))
	}
	t, fresh, err := s.acquire(id)
	if err != nil {
		return nil, err
	}
	u := &Upload{s: s, t: t, h: h, sum: sha256.New()}
	if !fresh {
		if fresh, err = u.resume(); err == nil && fresh {
			if err = s.fs.Remove(s.path(t.name)); err != nil {
				err = u.poison("remove upload", err)
			}
		}
	}
	if err == nil && fresh {
		err = u.create()
	}
	if err != nil {
		if u.f != nil {
			_ = u.f.Close() // the first error counts
		}
		s.release(t, u.err)
		s.forgetAbsent(t)
		return nil, err
	}
	u.buf = make([]byte, blockHeadSize, blockHeadSize+u.h.blockBytes)
	return u, nil
}

// acquire makes an upload ours, an old one or a new one.
func (s *Store) acquire(id ID) (t *temp, fresh bool, err error) {
	name := uploadName(id)
	for {
		s.mu.Lock()
		var victim *temp
		t, victim, err = s.acquireLocked(name, id)
		s.mu.Unlock()
		if err != nil {
			return nil, false, err
		}
		if victim == nil {
			break
		}
		if err := s.drop(victim); err != nil {
			return nil, false, err
		}
	}
	_, err = s.fs.Stat(s.path(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.release(t, nil)
		return nil, false, err
	}
	return t, err != nil, nil
}

// acquireLocked returns the upload, active; or one that was made active to be dropped first.
func (s *Store) acquireLocked(name string, id ID) (t, victim *temp, err error) {
	if s.retired {
		return nil, nil, ErrClosed
	}
	if h := s.held[id.TxID]; h != nil && !errors.Is(h.info.Err, ErrCorrupt) {
		if h.info.Err != nil {
			return nil, nil, h.info.Err
		}
		got := Snapshot{TxID: id.TxID, At: id.At, Epoch: id.Epoch}
		return nil, nil, &ExistsError{Have: h.info.Snapshot, Got: got}
	}
	if t = s.temps[name]; t != nil {
		switch {
		case t.active:
			return nil, nil, fmt.Errorf("%w: upload of snapshot %d", ErrBusy, id.TxID)
		case t.err != nil:
			return nil, nil, t.err
		}
		t.active = true
		return t, nil, nil
	}
	if len(s.temps) >= s.opts.UploadsMax {
		if victim = s.idlest(); victim == nil {
			return nil, nil, mismatch(ErrTooMany, "uploads under way", len(s.temps)+1, fmt.Sprintf("at most %d", s.opts.UploadsMax))
		}
		victim.active = true
		return nil, victim, nil
	}
	t = &temp{name: name, id: id, active: true}
	s.temps[name] = t
	return t, nil, nil
}

// idlest returns the upload that makes room first, or nil if somebody is at each.
func (s *Store) idlest() (victim *temp) {
	for _, t := range s.temps {
		if !t.active && (victim == nil || cmp.Or(cmp.Compare(t.id.Epoch, victim.id.Epoch), cmp.Compare(t.name, victim.name)) < 0) {
			victim = t
		}
	}
	return victim
}

// forgetAbsent forgets an upload that has no file.
func (s *Store) forgetAbsent(t *temp) {
	_, err := s.fs.Stat(s.path(t.name))
	if !errors.Is(err, fs.ErrNotExist) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.temps[t.name] == t && !t.active && t.err == nil {
		delete(s.temps, t.name)
	}
}

// create makes the file, with its header, durable.
func (u *Upload) create() error {
	if err := u.reserve(headerSize + trailerSize + max(u.h.size, 0)); err != nil {
		return err
	}
	name := u.s.path(u.t.name)
	f, err := u.s.fs.Create(name)
	if errors.Is(err, vfs.ErrNoSpace) {
		return fmt.Errorf("snapshots: begin snapshot %d: %w", u.h.id.TxID, err)
	}
	if err != nil {
		return u.poison("create upload", err)
	}
	u.f = f
	b := u.h.encode()
	u.seed = headerSeed(b)
	if _, err := f.WriteAt(b, 0); err != nil {
		if !errors.Is(err, vfs.ErrNoSpace) {
			return u.poison("write upload", err)
		}
		err = fmt.Errorf("snapshots: begin snapshot %d: %w", u.h.id.TxID, err)
		if rerr := u.s.fs.Remove(name); rerr != nil {
			return u.poison("remove upload", rerr)
		}
		return err
	}
	if err := f.Sync(); err != nil {
		return u.poison("sync upload", err)
	}
	if err := u.s.fs.SyncDir(u.s.dir); err != nil {
		return u.poison("sync directory", err)
	}
	return nil
}

// resume verifies what is there, block by block, and writes it again with its own bytes: it may be in the
// page cache only, and after a failed sync by an earlier process no sync would tell (P6, W2a). What is torn
// is cut. over: it is not this upload, and is to be made anew.
func (u *Upload) resume() (over bool, err error) {
	name := u.s.path(u.t.name)
	f, err := u.s.fs.OpenWrite(name)
	if err != nil {
		return false, fmt.Errorf("snapshots: resume snapshot %d: %w", u.h.id.TxID, err)
	}
	h, seed, err := u.s.readHeader(f, name)
	if err != nil || h.id != u.h.id || h.size != u.h.size {
		return true, f.Close()
	}
	u.f, u.h, u.seed = f, h, seed
	b := make([]byte, blockHeadSize+h.blockBytes)
	if err := u.rewrite(h.encode(), 0); err != nil {
		return false, err
	}
	for {
		off := h.blockOffset(u.blocks)
		// A block that cannot be read is as good as torn: its content will be sent again.
		if readFull(f, b, off) != nil || checkBlock(b, u.blocks, seed) != nil {
			break
		}
		if err := u.rewrite(b, off); err != nil {
			return false, err
		}
		u.count(b)
		if err := u.syncSome(); err != nil {
			return false, err
		}
	}
	if err := f.Truncate(h.blockOffset(u.blocks)); err != nil {
		return false, u.poison("cut upload", err)
	}
	if err := f.Sync(); err != nil {
		return false, u.poison("sync upload", err)
	}
	u.unsynced = 0
	return false, nil
}

// rewrite writes bytes where they stand. Without room for that, nothing has changed.
func (u *Upload) rewrite(b []byte, off int64) error {
	_, err := u.f.WriteAt(b, off)
	if errors.Is(err, vfs.ErrNoSpace) {
		return fmt.Errorf("snapshots: resume snapshot %d: %w", u.h.id.TxID, err)
	}
	if err != nil {
		return u.poison("write upload", err)
	}
	return nil
}

// ID returns what is uploaded.
func (u *Upload) ID() ID { return u.h.id }

// Offset returns from where in the content to go on. After Begin all before it is verified and synced.
func (u *Upload) Offset() int64 { return u.written + int64(len(u.buf)-blockHeadSize) }

// Write takes a chunk of the content. It must begin at or before Offset; what overlaps must be equal. After
// an error the chunk may have been taken in part: Offset says how far.
func (u *Upload) Write(offset int64, chunk []byte) error {
	if u.err != nil {
		return u.err
	}
	limit := u.h.sizeMax()
	if u.ended {
		limit = u.written
	}
	switch {
	case offset < 0 || offset > u.Offset():
		return mismatch(ErrOffset, "offset", offset, u.Offset())
	case int64(len(chunk)) > limit-offset:
		return mismatch(ErrSize, "end of content", offset+int64(len(chunk)), fmt.Sprintf("at most %d", limit))
	}
	n := min(int64(len(chunk)), u.Offset()-offset)
	if err := u.compare(offset, chunk[:n]); err != nil {
		return err
	}
	for chunk = chunk[n:]; len(chunk) > 0; {
		if len(u.buf) == cap(u.buf) {
			if err := u.flush(); err != nil {
				return err
			}
		}
		k := min(len(chunk), cap(u.buf)-len(u.buf))
		u.buf = append(u.buf, chunk[:k]...)
		chunk = chunk[k:]
	}
	return nil
}

// compare checks a chunk against content received before.
func (u *Upload) compare(offset int64, chunk []byte) error {
	for len(chunk) > 0 {
		number := offset / int64(u.h.blockBytes)
		block, start := u.buf, u.written
		if offset < u.written {
			var err error
			if block, err = u.readBack(number); err != nil {
				return err
			}
			start = number * int64(u.h.blockBytes)
		}
		have := block[blockHeadSize+offset-start:]
		n := min(len(chunk), len(have))
		for i := range n {
			if chunk[i] != have[i] {
				return mismatch(ErrDiffers, fmt.Sprintf("byte %d", offset+int64(i)), chunk[i], have[i])
			}
		}
		offset, chunk = offset+int64(n), chunk[n:]
	}
	return nil
}

// readBack reads a written block.
func (u *Upload) readBack(number int64) ([]byte, error) {
	if u.other == nil {
		u.other = make([]byte, blockHeadSize+u.h.blockBytes)
	}
	n := min(int64(u.h.blockBytes), u.written-number*int64(u.h.blockBytes))
	b, off := u.other[:blockHeadSize+n], u.h.blockOffset(number)
	err := readFull(u.f, b, off)
	if err == nil {
		err = checkBlock(b, number, u.seed)
	}
	if err != nil {
		return nil, u.poison("read back", &CorruptError{File: u.s.path(u.t.name), Offset: off, Err: err})
	}
	return b, nil
}

// flush writes the block that was filled.
func (u *Upload) flush() error {
	off := u.h.blockOffset(u.blocks)
	if err := u.reserve(off + int64(len(u.buf)) + trailerSize); err != nil {
		return err
	}
	sealBlock(u.buf, u.blocks, u.seed)
	if err := u.put(u.buf, off); err != nil {
		return err
	}
	u.count(u.buf)
	u.buf = u.buf[:blockHeadSize]
	return u.syncSome()
}

// put writes at the end of the file. If there is no room the file is what it was.
func (u *Upload) put(b []byte, off int64) error {
	_, err := u.f.WriteAt(b, off)
	if errors.Is(err, vfs.ErrNoSpace) {
		if terr := u.f.Truncate(off); terr != nil {
			return u.poison("undo write", terr)
		}
		return fmt.Errorf("snapshots: write snapshot %d: %w", u.h.id.TxID, err)
	}
	if err != nil {
		return u.poison("write upload", err)
	}
	return nil
}

// count enters a block that was written.
func (u *Upload) count(block []byte) {
	_, _ = u.sum.Write(block[blockHeadSize:]) // never fails
	u.blocks++
	u.written += int64(len(block) - blockHeadSize)
	u.unsynced += int64(len(block))
}

// syncSome keeps what is not synced small.
func (u *Upload) syncSome() error {
	if u.unsynced < u.s.opts.SyncBytes {
		return nil
	}
	if err := u.f.Sync(); err != nil {
		return u.poison("sync upload", err)
	}
	u.unsynced = 0
	return nil
}

// reserve makes room for the file in the bounds, or refuses (ErrQuota).
func (u *Upload) reserve(bytes int64) error {
	s := u.s
	s.mu.Lock()
	defer s.mu.Unlock()
	uploads, all := bytes, bytes
	for _, t := range s.temps {
		if t != u.t {
			uploads, all = uploads+t.bytes, all+t.bytes
		}
	}
	for _, h := range s.held {
		all += h.info.Bytes
	}
	switch {
	case bytes <= u.t.bytes: // has it already
	case uploads > s.opts.UploadBytesMax:
		return mismatch(ErrQuota, "bytes of all uploads", uploads, s.opts.UploadBytesMax)
	case s.opts.QuotaBytes > 0 && all > s.opts.QuotaBytes:
		return mismatch(ErrQuota, "bytes of all snapshots", all, s.opts.QuotaBytes)
	default:
		u.t.bytes = bytes
	}
	return nil
}

// Finish ends the upload: it compares size and checksum, and makes the snapshot durable and visible. The
// caller has compared the id's digest with its own log before (C1). A wrong checksum throws the upload away,
// so that it can begin anew. *ExistsError where another content came first.
func (u *Upload) Finish(size int64, checksum Checksum) (Snapshot, error) {
	switch {
	case u.err != nil:
		return Snapshot{}, u.err
	case size != u.Offset() || u.h.size != SizeUnknown && size != u.h.size:
		return Snapshot{}, mismatch(ErrSize, "content", u.Offset(), size)
	}
	if len(u.buf) > blockHeadSize {
		if err := u.flush(); err != nil {
			return Snapshot{}, err
		}
	}
	u.ended = true
	if got := Checksum(u.sum.Sum(nil)); got != checksum {
		return Snapshot{}, errors.Join(mismatch(ErrChecksum, "content's sha256", got, checksum), u.Abort())
	}
	tr := trailer{offset: u.h.contentEnd(size), blocks: u.blocks, size: size, checksum: checksum}
	if err := u.put(tr.encode(u.seed), tr.offset); err != nil {
		return Snapshot{}, err
	}
	if err := u.f.Sync(); err != nil {
		return Snapshot{}, u.poison("sync upload", err)
	}
	if err := u.f.Close(); err != nil {
		return Snapshot{}, u.poison("close upload", err)
	}
	u.err = ErrClosed
	snap := u.h.snapshot(tr)
	if err := u.s.install(u.t, snap, tr.offset+trailerSize); err != nil {
		return Snapshot{}, err
	}
	return snap, nil
}

// install gives a whole and synced file its name. A crash leaves it invisible, or there.
func (s *Store) install(t *temp, snap Snapshot, size int64) error {
	old, err := s.place(t, snap)
	if err != nil {
		return err
	}
	defer s.unclaim(snap.TxID)
	switch {
	case old != nil && old.info.Err == nil: // the same content came by another upload
		_ = s.drop(t) // what is left of it is invisible
		return nil
	case old != nil:
		if err := s.renameAside(snap.TxID, segments.ReasonDamaged); err != nil {
			err = &PoisonedError{Op: "set aside", Err: err}
			s.release(t, err)
			return err
		}
	}
	if err := s.fs.Rename(s.path(t.name), s.path(finalName(snap.TxID))); err != nil {
		err = &PoisonedError{Op: "rename upload", Err: err}
		s.release(t, err)
		return err
	}
	// From here on it has its name, but a crash may take it back: until the directory is synced it is unknown.
	h := &held{info: Info{Snapshot: snap, Bytes: size, Verified: true}}
	if err := s.fs.SyncDir(s.dir); err != nil {
		h.info.Verified, h.info.Err = false, &PoisonedError{Op: "sync directory", Err: err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.temps, t.name)
	s.held[snap.TxID] = h
	return h.info.Err
}

// place claims a name for a finished upload, and returns what stands there: the same content, or damage.
// Otherwise the upload stays, closed.
func (s *Store) place(t *temp, snap Snapshot) (old *held, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old = s.held[snap.TxID]
	switch {
	case s.retired:
		err = ErrClosed
	case s.changing[snap.TxID]:
		err = fmt.Errorf("%w: snapshot %d", ErrBusy, snap.TxID)
	case old == nil || errors.Is(old.info.Err, ErrCorrupt):
	case old.info.Err != nil:
		err = old.info.Err
	case old.info.Snapshot != snap:
		err = &ExistsError{Have: old.info.Snapshot, Got: snap}
	}
	if err != nil {
		t.active = false
		return nil, err
	}
	s.changing[snap.TxID] = true
	return old, nil
}

// Close leaves the upload to be resumed, at the last full block. After Finish it does nothing.
func (u *Upload) Close() error {
	if errors.Is(u.err, ErrClosed) {
		return nil
	}
	err := u.f.Close()
	u.s.release(u.t, u.err)
	u.err = ErrClosed
	return err
}

// Abort throws the upload away. After Finish it does nothing.
func (u *Upload) Abort() error {
	if errors.Is(u.err, ErrClosed) {
		return nil
	}
	u.err = ErrClosed
	return errors.Join(u.f.Close(), u.s.drop(u.t))
}

// poison records the failure after which nothing more is done, and returns it.
func (u *Upload) poison(op string, err error) error {
	u.err = &PoisonedError{Op: op, Err: err}
	return u.err
}
