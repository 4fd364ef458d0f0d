package store

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/segments"
)

// State is what a node's copy of a segment is.
type State uint8

const (
	// StateFinalized: decided, complete, never changed again.
	StateFinalized State = iota + 1
	// StateInProgress: it may grow, or be replaced by recovery.
	StateInProgress
	// StateDamaged: not readable in full. It is unknown, not absent and not shorter (N2).
	StateDamaged
)

// String returns the state in one word.
func (s State) String() string {
	switch s {
	case StateFinalized:
		return "finalized"
	case StateInProgress:
		return "in progress"
	case StateDamaged:
		return "damaged"
	}
	return "invalid"
}

// Info is what is known of a segment.
type Info struct {
	First segments.TxID
	// Last is the last txid: of a finalized segment by its name, of an open one the last synced; 0
	// for an in-progress segment that is not open.
	Last  segments.TxID
	State State
	// Finalized tells by which name a damaged copy goes.
	Finalized bool
	Open      bool  // in progress, with a writer
	Bytes     int64 // size of the file
	Err       error // StateDamaged: why

	// Loaded reports that the fields below are known; Dir.Info loads them, Dir.Infos does not.
	Loaded bool
	Digest segments.Digest // at Last
	Epoch  fencing.Epoch   // writer epoch of this copy
	Prev   segments.End
}

// End returns the segment's end; it means something where Last and Digest are known.
func (i Info) End() segments.End { return segments.End{First: i.First, Last: i.Last, Digest: i.Digest} }

// segment is one copy in the directory. Its fields are guarded by Dir.mu. There may be very many: it is small.
type segment struct {
	name  segments.Name
	err   error    // why it is damaged
	read  *facts   // what was read of the file; nil: nothing yet
	bytes int64    // -1: not known yet
	live  *content // in progress and open
}

// facts are what Info wants of a file. They are copied: content, which they are read with, is much larger.
type facts struct {
	epoch  fencing.Epoch
	prev   segments.End
	header bool // epoch and prev are the header's own
	footer bool // finalized, and the footer was read: digest is known
	digest segments.Digest
}

// learn returns the segment's facts, to be changed. Dir.mu is held.
func (s *segment) learn() *facts {
	if s.read == nil {
		s.read = &facts{}
	}
	return s.read
}

func (s *segment) learnHeader(h segments.Header) {
	f := s.learn()
	f.epoch, f.prev, f.header = h.Epoch, h.Prev, true
}

func (s *segment) learnFooter(h segments.Header, end segments.End) {
	s.learnHeader(h)
	s.read.footer, s.read.digest = true, end.Digest
}

func (s *segment) finalized() bool { return s.name.Kind == segments.NameFinalized }

func (s *segment) state() State {
	switch {
	case s.err != nil:
		return StateDamaged
	case s.finalized():
		return StateFinalized
	}
	return StateInProgress
}

func (s *segment) info() Info {
	i := Info{First: s.name.First, Last: s.name.Last, State: s.state(), Finalized: s.finalized(), Bytes: s.bytes, Err: s.err}
	if s.read != nil {
		i.Epoch, i.Prev, i.Loaded, i.Digest = s.read.epoch, s.read.prev, s.read.footer, s.read.digest
	}
	if s.live != nil {
		_, last := s.live.synced()
		i.Open, i.Loaded, i.Last, i.Digest = true, true, last.TxID, last.Digest
	}
	return i
}

// Dir is the directory with a journal's segments. The methods that change something, and those of
// its Writer and Incoming, are for one caller at a time, the journal's owner; all others, and those
// of Readers, may be called concurrently with them and with one another.
type Dir struct {
	fs      vfs.FS
	dir     string
	journal segments.JournalID
	opts    Options

	poisoned atomic.Pointer[PoisonedError]
	clears   atomic.Uint64 // how often Clear was called
	recent   recent        // the owner's
	changes  atomic.Uint64 // see Changes; counted while mu is held

	// moving is held while files change their names, until segs says so, too. A reader that finds no file
	// under the name that it looked up waits for it, and looks again; nobody else takes it.
	moving sync.RWMutex

	// mu guards what follows. It is not held while the disk is read or written.
	mu     sync.Mutex
	segs   map[segments.TxID]*segment
	asides map[string]uint64 // the highest number given to "name.reason"
	cached []*cachedContent  // contents of finalized segments, least recently used first
}

type cachedContent struct {
	name segments.Name
	c    *content
}

// Open opens the directory, making it if need be. It finishes what a crash cut short and removes
// what never was: temporaries. It reads no segment. Files with names that are not ours are left alone.
//
// The directory and its entry in the parent are durable on return (W2a); the parent's own entry is
// the caller's affair.
func Open(fsys vfs.FS, dir string, journal segments.JournalID, opts Options) (*Dir, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	d := &Dir{
		fs: fsys, dir: dir, journal: journal, opts: opts,
		segs: map[segments.TxID]*segment{}, asides: map[string]uint64{},
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("store: open %s: %w", dir, err)
	}
	// What is seen here may be the page cache's only; decisions below rest on it.
	if err := errors.Join(fsys.SyncDir(path.Dir(dir)), fsys.SyncDir(dir)); err != nil {
		return nil, fmt.Errorf("store: open %s: %w", dir, err)
	}
	if err := d.load(); err != nil {
		return nil, fmt.Errorf("store: open %s: %w", dir, err)
	}
	return d, nil
}

// load reads the directory's names and tidies up.
func (d *Dir) load() error {
	list, err := d.fs.List(d.dir)
	if err != nil {
		return err
	}
	var installs, twins []segments.Name
	removed := false
	for _, s := range list {
		n, ok := segments.ParseName(s)
		if !ok {
			continue
		}
		switch n.Kind {
		case segments.NameTemporary:
			removed = true
			if err := d.fs.Remove(d.path(n)); err != nil {
				return err
			}
		case segments.NameAside:
			key := asideKey(n.Base(), n.Reason)
			d.asides[key] = max(d.asides[key], n.N)
		case segments.NameInstall:
			installs = append(installs, n)
		case segments.NameFinalized, segments.NameInProgress:
			twins = append(twins, d.adopt(n)...)
		}
	}
	for _, n := range twins {
		if err := d.renameAside(n, segments.ReasonLeftover); err != nil {
			return err
		}
	}
	for _, n := range installs {
		if err := d.finishInstall(n); err != nil {
			return err
		}
	}
	if removed {
		return d.fs.SyncDir(d.dir)
	}
	return nil
}

// adopt enters a copy that was found, and returns what must go aside for it. Names come sorted, so
// of two copies of a segment the finalized one comes first: it is the decided one, and the other is
// what was there before InstallFinalized put it in place.
func (d *Dir) adopt(n segments.Name) (aside []segments.Name) {
	seg := &segment{name: n, bytes: -1}
	have, twin := d.segs[n.First]
	if !twin {
		d.segs[n.First] = seg
		return nil
	}
	if have.finalized() && n.Kind == segments.NameInProgress {
		return []segments.Name{n}
	}
	// Two finalized copies with different ends: nobody here may choose.
	have.err = &segments.CorruptionError{Segment: n.First, Err: fmt.Errorf("store: two finalized copies: %v and %v", have.name, n)}
	return nil
}

// Changes counts how often a segment came, went, was replaced, was finalized, or turned out to be damaged. While it
// stays the same, so do the finalized segments, their digests, and which segments are damaged: whoever reads it before
// he lists them has not to list them again. What is appended to an open segment does not count.
func (d *Dir) Changes() uint64 { return d.changes.Load() }

func (d *Dir) path(n segments.Name) string { return path.Join(d.dir, n.String()) }

// Infos returns what is known of all segments, by first txid. It reads no file: digest, epoch and
// previous end are there only where Loaded says so.
func (d *Dir) Infos() []Info {
	d.mu.Lock()
	infos := make([]Info, 0, len(d.segs))
	for _, s := range d.segs {
		infos = append(infos, s.info())
	}
	d.mu.Unlock()
	for i := range infos {
		if infos[i].Open || infos[i].Bytes < 0 {
			infos[i].Bytes = d.statBytes(infos[i])
		}
	}
	slices.SortFunc(infos, func(a, b Info) int { return cmp.Compare(a.First, b.First) })
	return infos
}

// statBytes returns the size of a segment's file, 0 if it is gone meanwhile.
func (d *Dir) statBytes(i Info) int64 {
	n := segments.Name{Kind: segments.NameInProgress, First: i.First}
	if i.Finalized {
		n = segments.Name{Kind: segments.NameFinalized, First: i.First, Last: i.Last}
	}
	st, err := d.fs.Stat(d.path(n))
	if err != nil {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.segs[i.First]; s != nil && s.name == n && s.finalized() {
		s.bytes = st.Size()
	}
	return st.Size()
}

// Info returns all there is to know of a segment without reading its frames: from the footer, or
// from the header of one in progress. A damaged segment is no error here, but State and Err say so;
// its epoch is filled in where the header is readable (W0 asks for it). ErrNotFound where there is
// no such segment.
func (d *Dir) Info(first segments.TxID) (Info, error) {
	i, known, err := d.known(first)
	if !known && err == nil {
		d.look(first)
		i, _, err = d.known(first)
	}
	if err == nil && (i.Open || i.Bytes < 0) { // a finalized segment does not change
		i.Bytes = d.statBytes(i)
	}
	return i, err
}

// look reads what Info wants of a segment's file. It keeps nothing else: all segments are looked at sooner or later.
func (d *Dir) look(first segments.TxID) {
	o, err := d.open(first)
	if err != nil {
		return
	}
	defer func() { _ = o.f.Close() }()
	if o.err == nil && o.live == nil && o.name.Kind == segments.NameFinalized {
		if foot, err := d.readFooter(o); err == nil {
			d.mu.Lock()
			o.seg.learnFooter(foot.Header, foot.End)
			d.mu.Unlock()
		}
	}
	_, _ = d.readHeader(o) // also of a damaged one, if it is whole
}

// known returns what is in memory of a segment, and whether that is all.
func (d *Dir) known(first segments.TxID) (i Info, all bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.segs[first]
	if s == nil {
		return Info{}, false, notFound(first)
	}
	i = s.info()
	return i, i.Loaded && s.read != nil && s.read.header, nil
}

// Header returns the header of a segment's file, of a damaged one, too, if the header is whole.
func (d *Dir) Header(first segments.TxID) (segments.Header, error) {
	o, err := d.open(first)
	if err != nil {
		return segments.Header{}, err
	}
	defer func() { _ = o.f.Close() }()
	return d.readHeader(o)
}

// readHeader reads and checks the header of a copy, and remembers it.
func (d *Dir) readHeader(o opened) (segments.Header, error) {
	size, err := o.f.Size()
	if err != nil {
		return segments.Header{}, err
	}
	h, err := segments.ReadHeader(o.f, size)
	if err == nil {
		err = d.checkHeader(h, o.name)
	}
	if err != nil {
		d.noteDamage(o.seg, err)
		return segments.Header{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	o.seg.learnHeader(h)
	return h, nil
}

// readFooter reads and checks the footer of a finalized copy. Damage makes the segment Damaged.
func (d *Dir) readFooter(o opened) (segments.Footer, error) {
	size, err := o.f.Size()
	if err != nil {
		return segments.Footer{}, err
	}
	foot, err := segments.ReadFooter(o.f, size)
	if err == nil {
		err = d.checkFooter(foot, o.name)
	}
	d.noteDamage(o.seg, err)
	return foot, err
}

// checkHeader compares a header with the name it was found under.
func (d *Dir) checkHeader(h segments.Header, n segments.Name) error {
	var err error
	switch {
	case h.Journal != d.journal:
		err = fmt.Errorf("%w (got %v, want %v)", ErrForeign, h.Journal, d.journal)
	case h.First != n.First:
		err = fmt.Errorf("store: header's first txid (got %d, want %d)", h.First, n.First)
	default:
		return nil
	}
	return &segments.CorruptionError{Segment: n.First, Err: err}
}

// opened is a segment's file, opened for reading, and what the directory said of it at that time.
type opened struct {
	f    vfs.File
	seg  *segment
	name segments.Name
	live *content
	err  error // the segment's damage
}

// open opens a segment's file for reading. The owner may rename it meanwhile (Finalize), or put
// another copy in its place: what is returned belongs together.
func (d *Dir) open(first segments.TxID) (opened, error) {
	for tries := 0; ; tries++ {
		o, err := d.peek(first)
		if err != nil {
			return o, err
		}
		f, err := d.fs.Open(d.path(o.name))
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) && tries < 10 {
				d.moving.RLock()
				d.moving.RUnlock() //nolint:staticcheck // an empty section: it is the waiting
				continue
			}
			return o, err
		}
		// An open segment is closed before its file is replaced, and its name changes when it is
		// finalized, so if nothing changed the file is the one that was looked up.
		if now, err := d.peek(first); err == nil && now == o {
			o.f = f
			return o, nil
		}
		if err := f.Close(); err != nil {
			return o, err
		}
	}
}

func (d *Dir) peek(first segments.TxID) (opened, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.segs[first]
	if s == nil {
		return opened{}, notFound(first)
	}
	return opened{seg: s, name: s.name, live: s.live, err: s.err}, nil
}

// SetAside renames a copy aside, durably: it is then no segment any more, but it is not deleted.
// The segment must have no open writer.
func (d *Dir) SetAside(first segments.TxID, reason segments.Reason) error {
	seg, err := d.idle(first)
	if err != nil {
		return err
	}
	d.moving.Lock()
	defer d.moving.Unlock()
	if err := d.renameAside(seg.name, reason); err != nil {
		return d.poison("set aside", err)
	}
	d.forget(seg.name)
	return nil
}

// Remove deletes finalized segments, durably: what a snapshot covers (C2). The order of removal is
// that of firsts, so oldest first leaves no hole. Asides of a segment stay.
func (d *Dir) Remove(firsts ...segments.TxID) error {
	for _, first := range firsts {
		seg, err := d.idle(first)
		if err != nil {
			return err
		}
		if !seg.finalized() {
			return fmt.Errorf("store: remove segment %d: it is in progress", first)
		}
		if err := d.fs.Remove(d.path(seg.name)); err != nil {
			return d.poison("remove", err)
		}
		d.forget(seg.name)
	}
	if err := d.fs.SyncDir(d.dir); err != nil {
		return d.poison("sync directory", err)
	}
	return nil
}

// Clear removes all there is, temporaries and asides too, durably: the journal is deleted, or this node is no
// member any more (M8). No segment may have an open writer; incoming copies under way are closed. A crash leaves
// some of it.
func (d *Dir) Clear() error {
	d.moving.Lock()
	defer d.moving.Unlock()
	d.clears.Add(1)
	d.recent = recent{}
	names, err := d.fs.List(d.dir)
	if err != nil {
		return fmt.Errorf("store: clear %s: %w", d.dir, err)
	}
	for _, n := range names {
		if err := d.fs.Remove(path.Join(d.dir, n)); err != nil {
			return fmt.Errorf("store: clear %s: %w", d.dir, err)
		}
	}
	d.mu.Lock()
	d.segs, d.cached = map[segments.TxID]*segment{}, nil
	d.changes.Add(1)
	d.mu.Unlock()
	if err := d.fs.SyncDir(d.dir); err != nil {
		return fmt.Errorf("store: clear %s: %w", d.dir, err)
	}
	return nil
}

// idle returns a segment for a change to its name.
func (d *Dir) idle(first segments.TxID) (*segment, error) {
	if err := d.Poisoned(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.segs[first]
	switch {
	case s == nil:
		return nil, notFound(first)
	case s.live != nil:
		return nil, fmt.Errorf("%w: %d", ErrBusy, first)
	}
	return s, nil
}

// renameAside gives a copy an aside name and syncs the directory.
func (d *Dir) renameAside(n segments.Name, reason segments.Reason) error {
	aside := d.asideName(n, reason)
	if err := d.fs.Rename(d.path(n), d.path(aside)); err != nil {
		return err
	}
	return d.fs.SyncDir(d.dir)
}

func (d *Dir) asideName(n segments.Name, reason segments.Reason) segments.Name {
	key := asideKey(n, reason)
	d.asides[key]++
	return segments.Name{Kind: segments.NameAside, First: n.First, Last: n.Last, Reason: reason, N: d.asides[key]}
}

func asideKey(base segments.Name, reason segments.Reason) string {
	return base.String() + "." + string(reason)
}

func (d *Dir) forget(n segments.Name) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.segs, n.First)
	d.changes.Add(1)
	d.uncache(n)
}

func (d *Dir) uncache(n segments.Name) {
	d.cached = slices.DeleteFunc(d.cached, func(c *cachedContent) bool { return c.name == n })
}

// Poisoned returns the *PoisonedError that stops all writing here, or nil.
func (d *Dir) Poisoned() error {
	if p := d.poisoned.Load(); p != nil {
		return p
	}
	return nil
}

// poison records the first failure and returns it, every time.
func (d *Dir) poison(op string, err error) error {
	d.poisoned.CompareAndSwap(nil, &PoisonedError{Op: op, Err: err})
	return d.poisoned.Load()
}

// MarkDamaged makes a copy Damaged: whoever reads bad content from it says so here. It has no effect
// if it is damaged already. The file is left alone.
func (d *Dir) MarkDamaged(first segments.TxID, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.segs[first]; s != nil && s.err == nil {
		s.err = err
		d.changes.Add(1)
		d.uncache(s.name)
	}
}

// noteDamage marks the copy that was read, if err is damage and the copy is still the one.
func (d *Dir) noteDamage(seg *segment, err error) {
	if !errors.Is(err, segments.ErrCorrupt) && !errors.Is(err, segments.ErrUnsupported) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.segs[seg.name.First] == seg && seg.err == nil {
		seg.err = err
		d.changes.Add(1)
		d.uncache(seg.name)
	}
}

// Verify reads a finalized segment in full and checks it against its footer. Damage makes the
// segment Damaged, and is returned. wrap, if not nil, may slow reading down.
func (d *Dir) Verify(first segments.TxID, wrap func(io.ReaderAt) io.ReaderAt) error {
	o, err := d.open(first)
	if err != nil {
		return err
	}
	defer func() { _ = o.f.Close() }()
	if o.name.Kind != segments.NameFinalized {
		return fmt.Errorf("store: verify segment %d: it is in progress", first)
	}
	size, err := o.f.Size()
	if err != nil {
		return err
	}
	var r io.ReaderAt = o.f
	if wrap != nil {
		r = wrap(o.f)
	}
	foot, err := segments.Verify(r, size)
	if err == nil {
		err = d.checkFooter(foot, o.name)
	}
	d.noteDamage(o.seg, err)
	o.f.DropCache(0, size) // a scrub reads everything once
	return err
}

// checkFooter compares a footer with the name it was found under.
func (d *Dir) checkFooter(f segments.Footer, n segments.Name) error {
	if err := d.checkHeader(f.Header, n); err != nil {
		return err
	}
	if f.End.Last != n.Last {
		return &segments.CorruptionError{Segment: n.First, Offset: f.Offset,
			Err: fmt.Errorf("store: footer's last txid (got %d, want %d)", f.End.Last, n.Last)}
	}
	return nil
}

func notFound(first segments.TxID) error {
	return fmt.Errorf("%w: segment %d", segments.ErrNotFound, first)
}
