package snapshots

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/segments"
)

// Info is what is known of a snapshot here.
type Info struct {
	Snapshot Snapshot // of a damaged one the txid only
	Bytes    int64    // of the file
	// Verified: all of its content was compared with its checksum since the store was opened, here (C2).
	Verified bool
	Readers  int   // open ones
	Err      error // it is damaged, or unknown, for this reason; never absent (N2)
}

// Cleanup says which half uploads nobody will resume. The zero value spares all.
type Cleanup struct {
	WrittenBefore int64         // not written to since, in milliseconds since 1970; the caller has the clock
	Below         segments.TxID // of a lower txid: newer snapshots are listed
}

// held is a snapshot here. Its fields are guarded by Store.mu.
type held struct{ info Info }

// temp is an upload's file. Its fields are guarded by Store.mu, but for name and id, which never change.
type temp struct {
	name   string
	id     ID
	bytes  int64 // what it takes, or will take, as far as that is known
	active bool  // somebody is at it
	err    error // poisoned
}

// Store keeps one journal's snapshots in a directory. Its methods may be called concurrently. Changes to
// one txid at the same time are refused (ErrBusy).
type Store struct {
	fs      vfs.FS
	dir     string
	journal segments.JournalID
	opts    Options

	// mu guards what follows. It is not held while the disk is read or written.
	mu       sync.Mutex
	held     map[segments.TxID]*held
	temps    map[string]*temp
	asides   map[string]uint64 // the highest number given to "name.reason"
	changing map[segments.TxID]bool
	retired  bool
}

// Open opens the directory, making it if need be, and removes what Cleanup says. It reads the ends of each
// snapshot, and no content. The directory and its entry in the parent are durable on return (W2a). Files
// with names that are not ours are left alone.
func Open(fsys vfs.FS, dir string, journal segments.JournalID, opts Options, c Cleanup) (*Store, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	s := &Store{
		fs: fsys, dir: dir, journal: journal, opts: opts,
		held: map[segments.TxID]*held{}, temps: map[string]*temp{},
		asides: map[string]uint64{}, changing: map[segments.TxID]bool{},
	}
	err := fsys.MkdirAll(dir)
	if err == nil {
		// What is seen here may be the page cache's only; answers will rest on it.
		err = errors.Join(fsys.SyncDir(path.Dir(dir)), fsys.SyncDir(dir))
	}
	if err == nil {
		err = s.load()
	}
	if err == nil {
		err = s.Cleanup(c)
	}
	if err != nil {
		return nil, fmt.Errorf("snapshots: open %s: %w", dir, err)
	}
	return s, nil
}

func (s *Store) path(name string) string { return path.Join(s.dir, name) }

func (s *Store) load() error {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if id, ok := parseUpload(name); ok {
			st, err := s.fs.Stat(s.path(name))
			if err != nil {
				return err
			}
			s.temps[name] = &temp{name: name, id: id, bytes: st.Size()}
		} else if txid := parseFinal(name); txid != 0 {
			info, err := s.inspect(txid)
			if err != nil {
				return err
			}
			s.held[txid] = &held{info: info}
		} else if key, n, ok := parseAside(name); ok {
			s.asides[key] = max(s.asides[key], n)
		}
	}
	return nil
}

// inspect reads header and trailer of a finished snapshot. Damage is in the result; an error means that
// the file could not be opened.
func (s *Store) inspect(txid segments.TxID) (Info, error) {
	info := Info{Snapshot: Snapshot{TxID: txid}}
	f, err := s.fs.Open(s.path(finalName(txid)))
	if err != nil {
		return info, err
	}
	defer func() { _ = f.Close() }()
	if info.Bytes, err = f.Size(); err != nil {
		return info, err
	}
	e, err := s.readEnds(f, txid, info.Bytes)
	if err != nil {
		info.Err = err
		return info, nil
	}
	info.Snapshot = e.header.snapshot(e.trailer)
	return info, nil
}

// Cleanup removes half uploads that nobody is at and nobody will resume (C4).
func (s *Store) Cleanup(c Cleanup) error {
	s.mu.Lock()
	var idle []*temp
	for _, t := range s.temps {
		if !t.active {
			idle = append(idle, t)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(idle, func(a, b *temp) int { return cmp.Compare(a.name, b.name) })
	for _, t := range idle {
		st, err := s.fs.Stat(s.path(t.name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone meanwhile
		}
		if err != nil {
			return err
		}
		old := c.WrittenBefore != 0 && st.ModTime().UnixMilli() < c.WrittenBefore
		if !old && t.id.TxID >= c.Below {
			continue
		}
		if !s.take(t) {
			continue // resumed meanwhile
		}
		if err := s.drop(t); err != nil {
			return err
		}
	}
	return nil
}

// take makes an idle upload ours.
func (s *Store) take(t *temp) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.active || s.temps[t.name] != t {
		return false
	}
	t.active = true
	return true
}

// release gives an upload back; err, if not nil, poisons it.
func (s *Store) release(t *temp, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.active = false
	if t.err == nil {
		t.err = err
	}
}

// drop removes an upload that is ours. It is not synced: what comes back after a crash is invisible.
func (s *Store) drop(t *temp) error {
	if err := s.fs.Remove(s.path(t.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		err = &PoisonedError{Op: "remove upload", Err: err}
		s.release(t, err)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.temps, t.name)
	return nil
}

// Retire ends the store: whoever calls it removes the files, and may open another store on the directory. Nothing
// is begun, named or opened through this one any more (ErrClosed); what is open can be read to its end.
func (s *Store) Retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired = true
}

// List returns all snapshots here, by txid, damaged ones too. Uploads are not among them (C4).
func (s *Store) List() []Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	infos := make([]Info, 0, len(s.held))
	for _, h := range s.held {
		infos = append(infos, h.info)
	}
	slices.SortFunc(infos, func(a, b Info) int { return cmp.Compare(a.Snapshot.TxID, b.Snapshot.TxID) })
	return infos
}

// Remove deletes a whole snapshot, durably: see Disposable for which. A damaged one is refused: SetAside.
func (s *Store) Remove(txid segments.TxID) error {
	h, err := s.claim(txid)
	if err != nil {
		return err
	}
	defer s.unclaim(txid)
	if err := s.damageOf(h); err != nil {
		return err
	}
	err = s.fs.Remove(s.path(finalName(txid)))
	if err == nil {
		err = s.fs.SyncDir(s.dir)
	}
	return s.gone(h, "remove", err)
}

// SetAside renames a snapshot aside, durably, whatever is wrong with it: it is no snapshot any more, and it
// is not deleted.
func (s *Store) SetAside(txid segments.TxID, reason segments.Reason) error {
	if !reason.Valid() {
		return fmt.Errorf("%w: reason (got %q)", ErrInvalid, string(reason))
	}
	h, err := s.claim(txid)
	if err != nil {
		return err
	}
	defer s.unclaim(txid)
	return s.gone(h, "set aside", s.renameAside(txid, reason))
}

func (s *Store) renameAside(txid segments.TxID, reason segments.Reason) error {
	base := finalName(txid)
	s.mu.Lock()
	key := base + "." + string(reason)
	s.asides[key]++
	n := s.asides[key]
	s.mu.Unlock()
	if err := s.fs.Rename(s.path(base), s.path(asideName(base, reason, n))); err != nil {
		return err
	}
	return s.fs.SyncDir(s.dir)
}

// gone forgets a snapshot whose name was taken away; after a failure it is unknown whether it was.
func (s *Store) gone(h *held, op string, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		h.info.Err = &PoisonedError{Op: op, Err: err}
		return h.info.Err
	}
	delete(s.held, h.info.Snapshot.TxID)
	return nil
}

// claim makes changes to a txid's name ours.
func (s *Store) claim(txid segments.TxID) (*held, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[txid]
	switch {
	case s.retired:
		return nil, ErrClosed
	case s.changing[txid]:
		return nil, fmt.Errorf("%w: snapshot %d", ErrBusy, txid)
	case h == nil:
		return nil, notFound(txid)
	}
	s.changing[txid] = true
	return h, nil
}

func (s *Store) unclaim(txid segments.TxID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.changing, txid)
}

func (s *Store) damageOf(h *held) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return h.info.Err
}

// noteDamage makes a snapshot unknown, if err is damage: reading that was broken off is none.
func (s *Store) noteDamage(h *held, err error) {
	if errors.Is(err, ErrClosed) || !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h.info.Verified = false
	if h.info.Err == nil {
		h.info.Err = err
	}
}

func notFound(txid segments.TxID) error { return fmt.Errorf("%w: %d", ErrNotFound, txid) }
