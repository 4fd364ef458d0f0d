package journal

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/journalnode/snapshots"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// Self is the storage that the journal lives on (N1).
type Self struct {
	ID          quorum.NodeID
	Incarnation quorum.Incarnation
}

// Options of a journal. The zero value is the default.
type Options struct {
	Store store.Options
	// Snapshots are the options of the store of users' snapshots.
	Snapshots snapshots.Options
	// Room is the disk's reserve; nil: none. Its methods must not call back.
	Room Room
}

// Room is what a journal may ask of the reserve that its node keeps on the disk.
type Room interface {
	// Low: the reserve is not there. New frames and segments must not take the room that is left.
	Low() bool
	// GiveUp makes room for what must go on, and reports whether it did.
	GiveUp() bool
}

type noRoom struct{}

func (noRoom) Low() bool    { return false }
func (noRoom) GiveUp() bool { return false }

// Journal is one journal on one node. The methods of its owner must be called one at a time; those
// that say so may be called by anyone.
type Journal struct {
	self  Self
	id    segments.JournalID
	name  string
	files files
	store *store.Dir

	fence  fencing.State
	config quorum.Config
	// unknown is why the whole journal counts for nothing here: fence or config cannot be read (N2).
	unknown error
	// poisoned is the write or sync that failed: nothing is written any more until a restart.
	poisoned error

	room Room

	accepted    map[segments.TxID]recovery.Accepted
	badAccepted map[segments.TxID]error // unreadable: counts as present (N2)
	tails       map[segments.TxID]*tail // in-progress segments that could be opened
	broken      map[segments.TxID]error // segments that could not (N2)
	floor       recovery.Floor
	floorSaved  recovery.Floor
	floorNoted  recovery.Floor    // at least that much is in a file, synced or not
	purged      segments.Position // the durable purge point (C5)

	streams []*Stream // attached, see Attach
	seal    rpc.Seal  // what the writer told of the open segment (M4)

	reached    rpc.Reached   // the last answer to a question to the writer (M6)
	answeredBy fencing.Claim // who gave it
	writerLeft bool          // the last message was of a writer that is about to be gone

	newestFirst segments.TxID // cached; see structureChanged
	structure   uint64        // how often segments came, ended or went
	incoming    uint64        // numbers the temporaries
	copies      uint64        // how often a copy in progress came into use
	closedBytes int64         // of all segments but those with a tail; see structureChanged

	quota atomic.Uint64 // bytes of log; 0: no bound. Anyone's

	viewMu  sync.Mutex
	view    View          // guarded by viewMu
	changed chan struct{} // guarded by viewMu; nil while nobody watches
	// What else anyone may ask; guarded by viewMu.
	summary   rpc.JournalSummary
	unusable  error
	lacksRoom bool
	whole     wholeness
	listed    []snapshots.Snapshot // as the applied catalog lists them, oldest first (C2)

	snapMu   sync.Mutex       // guards what follows; held while the store is opened
	snaps    *snapshots.Store // nil until it is needed
	snapOpts snapshots.Options
	// snapsGone: the journal is deleted, or being left, and so are they.
	snapsGone bool
}

// tail is an open in-progress segment.
type tail struct {
	w     *store.Writer
	cutAt *segments.Position // N2a
}

// Create makes a journal's directory: fence at zero, config, VERSION last. A directory without VERSION
// is unfinished and is built again (N5); one with VERSION is left alone.
func Create(fsys vfs.FS, dir string, id segments.JournalID, name string, cfg quorum.Config) error {
	if err := rpc.CheckJournalName(name); err != nil {
		return err
	}
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("%w: %w", rpc.ErrBadRequest, err)
	}
	f := files{fsys, dir}
	if _, err := fsys.Stat(f.path(versionFile)); err == nil {
		return nil
	}
	for _, d := range []string{dir, f.path(segmentsDir)} {
		if err := fsys.MkdirAll(d); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		if err := fsys.SyncDir(path.Dir(d)); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	if err := f.saveFence(fencing.State{}); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := f.saveConfig(cfg); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := f.saveVersion(id, name); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// Open loads a journal and makes what it holds durable before anything is answered from it (W2a). A
// journal whose fence or config cannot be read opens as unknown; damage in a segment makes that segment
// unknown. An error means that the directory cannot be used at all.
func Open(fsys vfs.FS, dir string, self Self, id segments.JournalID, opts Options) (*Journal, error) {
	j := &Journal{
		self: self, id: id, files: files{fsys, dir},
		tails: map[segments.TxID]*tail{}, broken: map[segments.TxID]error{}, room: opts.Room,
		snapOpts: opts.Snapshots,
	}
	if j.room == nil {
		j.room = noRoom{}
	}
	if err := j.loadMeta(); err != nil {
		return nil, err
	}
	if err := j.loadSegments(opts); err != nil {
		return nil, err
	}
	if j.Deleted() {
		_ = j.reclaimDeleted() // a crash cut it short; what is left now goes at the next open
		j.structureChanged()
	}
	j.floorSaved, j.floor = j.files.loadFloor()
	j.floorNoted = j.floor
	// A rename seen after a process crash may not be durable yet; nothing may be answered from it
	// before it is.
	if err := fsys.SyncDir(dir); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j.publish()
	return j, nil
}

func (j *Journal) loadMeta() error {
	id, name, err := j.files.loadVersion()
	switch {
	case err != nil:
		j.unknown = fmt.Errorf("journal: %w", err)
	case id != j.id:
		return fmt.Errorf("journal: directory belongs to another journal (got %s, want %s)", id, j.id)
	}
	j.name = name
	if j.fence, err = j.files.loadFence(); err != nil {
		j.unknown = errors.Join(j.unknown, fmt.Errorf("journal: fence: %w", err))
	}
	if j.config, err = j.files.loadConfig(); err != nil {
		j.unknown = errors.Join(j.unknown, fmt.Errorf("journal: config: %w", err))
	}
	if j.purged, err = snapshots.LoadPurged(j.files.fs, j.files.path(purgedFile)); err != nil {
		j.unknown = errors.Join(j.unknown, fmt.Errorf("journal: purge point: %w", err)) // it counts as present (N2)
	}
	if j.accepted, j.badAccepted, err = j.files.loadAccepted(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

func (j *Journal) loadSegments(opts Options) error {
	if _, err := j.files.fs.Stat(j.files.path(segmentsDir)); err != nil {
		// Create makes it before VERSION: it was there, and is lost. That is not "no segments" (N2).
		j.unknown = errors.Join(j.unknown, fmt.Errorf("journal: %w", err))
	}
	var err error
	j.store, err = store.Open(j.files.fs, j.files.path(segmentsDir), j.id, opts.Store)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	for _, info := range j.store.Infos() {
		if info.State == store.StateInProgress {
			j.openTail(info.First)
		}
	}
	for _, s := range sortedKeys(j.accepted) {
		if err := j.rollForward(s, j.accepted[s]); err != nil {
			return err
		}
	}
	for _, s := range sortedKeys(j.badAccepted) {
		if info, err := j.store.Info(s); err == nil && info.State == store.StateFinalized {
			delete(j.badAccepted, s) // done with, whatever it said
			if err := j.files.removeAccepted(s); err != nil {
				return err
			}
		}
	}
	j.structureChanged()
	return nil
}

// rollForward finishes an accept that was cut off between its record and its content (R4): the content
// was synced before the record, so it is there under its own name. A record about a finalized segment
// is done with.
func (j *Journal) rollForward(s segments.TxID, a recovery.Accepted) error {
	if info, err := j.store.Info(s); err == nil && info.State == store.StateFinalized {
		delete(j.accepted, s)
		return j.files.removeAccepted(s)
	}
	if t := j.tails[s]; t != nil && t.w.Last() == a.End.Position() {
		return j.store.DropKept(s)
	}
	if t := j.tails[s]; t != nil {
		_ = t.w.Close() // it is about to be set aside; nothing is written through it any more
		delete(j.tails, s)
	}
	found, err := j.store.InstallKept(s, a.End, segments.ReasonReplaced)
	switch {
	case errors.Is(err, store.ErrFinalized): // and damaged, or the record would be done with
		j.broken[s] = fmt.Errorf("journal: %w", err)
		return nil // it makes itself unknown, not the journal (N2)
	case err != nil:
		return fmt.Errorf("journal: %w", err)
	case found:
		j.openTail(s)
		return nil
	}
	if errors.Is(j.broken[s], vfs.ErrNoSpace) {
		return nil // what is in place may be it: RetryTails will see
	}
	j.broken[s] = fmt.Errorf("journal: accepted %s in epoch %d, but the content is not here", a.End, a.Epoch)
	return nil
}

// Close closes the files, with a last synced mark (N2a). Owner only.
func (j *Journal) Close() error {
	var errs []error
	for _, t := range j.tails {
		errs = append(errs, t.w.Close())
	}
	if j.poisoned == nil && j.unknown == nil && j.floor != j.floorSaved {
		errs = append(errs, j.files.saveFloor(j.floor))
	}
	return errors.Join(errs...)
}

// ID returns the journal's id. Anyone.
func (j *Journal) ID() segments.JournalID { return j.id }

// Deleted reports whether only the tombstone is left. Owner only.
func (j *Journal) Deleted() bool { return j.unknown == nil && j.config.IsEmpty() }

// Quiet is called by the owner when the journal has had nothing to do for a second: the synced mark and
// the committed floor catch up with what is known (N2a, W3).
func (j *Journal) Quiet() error {
	if j.poisoned != nil || j.unknown != nil {
		return nil
	}
	for _, s := range sortedKeys(j.tails) {
		if err := j.stored(j.tails[s].w.MarkIdle()); err != nil && !errors.Is(err, vfs.ErrNoSpace) {
			return err
		}
	}
	return j.SaveFloor()
}

// SaveFloor writes the committed floor down, if it moved. The owner calls it at most once a second,
// never ahead of a waiting append.
func (j *Journal) SaveFloor() error {
	if j.poisoned != nil || j.unknown != nil || j.floor == j.floorSaved {
		return nil
	}
	if err := j.files.saveFloor(j.floor); err != nil {
		if errors.Is(err, vfs.ErrNoSpace) {
			return nil // best effort: it may lag
		}
		return j.poison(err)
	}
	j.floorSaved, j.floorNoted = j.floor, j.floor
	return nil
}

// NoteFloor is SaveFloor without a sync, for when appends wait: 64 bytes into the page cache, some tens of
// microseconds once a second, between two group commits of which each takes longer. The process may crash
// after it without losing it; the machine may not, and then the saved one counts.
func (j *Journal) NoteFloor() error {
	if j.poisoned != nil || j.unknown != nil || j.floor == j.floorNoted {
		return nil
	}
	if err := j.files.noteFloor(j.floor); err != nil {
		if errors.Is(err, vfs.ErrNoSpace) {
			return nil // best effort: it may lag
		}
		return j.poison(err)
	}
	j.floorNoted = j.floor
	return nil
}

// poison ends all writing here: after a failed write or sync the file's state on disk is unknown.
func (j *Journal) poison(err error) error {
	if j.poisoned == nil {
		j.poisoned = err
	}
	j.publish()
	return fmt.Errorf("%w: %w", rpc.ErrPoisoned, err)
}

// stored passes on an error of the segment store: a refusal left everything as it was, a failed write
// or sync poisoned the store, and so the journal.
func (j *Journal) stored(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrPoisoned):
		return j.poison(err)
	}
	return fmt.Errorf("journal: %w", err)
}

// admit is the gate of every request that changes the journal or counts towards a quorum (N1, M1, F3).
// A higher epoch is promised, durably, before it returns.
func (j *Journal) admit(h rpc.Header) error {
	if err := j.check(h); err != nil {
		return err
	}
	next, err := j.fence.Admit(h.Claim)
	if err != nil {
		return err
	}
	return j.promise(next)
}

// check is the part of the gate that no claim changes.
func (j *Journal) check(h rpc.Header) error {
	if err := j.store.Poisoned(); err != nil && j.poisoned == nil {
		j.poisoned = err // by a copy that was being built outside the owner
		j.publish()
	}
	switch {
	case j.poisoned != nil:
		return fmt.Errorf("%w: %w", rpc.ErrPoisoned, j.poisoned)
	case j.unknown != nil:
		return fmt.Errorf("%w: %w", rpc.ErrUnknownNode, j.unknown)
	case h.Incarnation != j.self.Incarnation:
		return &rpc.WrongNodeError{Node: j.self.ID, Got: h.Incarnation, Want: j.self.Incarnation}
	case j.config.IsEmpty():
		return rpc.ErrJournalDeleted
	case h.ConfigVersion != j.config.Version:
		return &rpc.ConfigError{Journal: j.id, Got: h.ConfigVersion, Want: j.config.Version}
	case !j.config.Has(j.self.ID, j.self.Incarnation):
		return fmt.Errorf("%w: (%s, %s) is no member of config %d", rpc.ErrUnknownNode, j.self.ID, j.self.Incarnation, j.config.Version)
	}
	return nil
}

// promise makes a new fence durable before it is visible (F1).
func (j *Journal) promise(next fencing.State) error {
	if next == j.fence {
		return nil
	}
	if err := j.save(func() error { return j.files.saveFence(next) }); err != nil {
		return err
	}
	j.fence = next
	j.publish()
	return nil
}

// NewEpoch makes a promise and says which segment is the newest here (F2). Owner only.
func (j *Journal) NewEpoch(h rpc.Header) (rpc.PromiseReply, error) {
	if err := j.admit(h); err != nil {
		return rpc.PromiseReply{}, err
	}
	newest := j.newest()
	return rpc.PromiseReply{DataKnown: j.dataKnown(newest), Newest: newest, Purged: j.purged}, nil
}

// dataKnown: the node can tell which segment is its newest, and can read that one. An older segment
// that is damaged makes only itself unknown (N2).
func (j *Journal) dataKnown(newest segments.TxID) bool {
	return newest == 0 || j.copyOf(newest).State != recovery.Unknown
}

// newest returns the first txid of the newest segment, damaged ones and mere records included.
func (j *Journal) newest() segments.TxID { return j.newestFirst }

// structureChanged is called whenever a segment or an accepted record came or went.
func (j *Journal) structureChanged() {
	var s segments.TxID
	j.closedBytes = 0
	for _, info := range j.store.Infos() {
		s = max(s, info.First)
		if j.tails[info.First] == nil {
			j.closedBytes += info.Bytes
		}
	}
	for t := range j.accepted {
		s = max(s, t)
	}
	for t := range j.badAccepted {
		s = max(s, t)
	}
	j.newestFirst = s
	j.structure++
	j.publish()
}

// copyOf tells what is held of segment s (R1).
func (j *Journal) copyOf(s segments.TxID) recovery.Copy {
	c := recovery.Copy{Segment: s, State: recovery.Absent, Accepted: j.accepted[s]}
	switch info, err := j.store.Info(s); {
	case err != nil && !errors.Is(err, segments.ErrNotFound):
		c.State = recovery.Unknown
	case err == nil:
		c.Epoch, c.Prev = info.Epoch, info.Prev
		c.State = recovery.Unknown // in progress is known through its tail, set below
		if info.State == store.StateFinalized && info.Loaded {
			c.State, c.Last = recovery.Finalized, info.End().Position()
		}
	}
	if t := j.tails[s]; t != nil {
		h := t.w.Header()
		c.State, c.Epoch, c.Prev, c.Last, c.CutAt = recovery.InProgress, h.Epoch, h.Prev, t.w.Synced(), t.cutAt
	}
	damaged := j.broken[s] != nil || j.tails[s] != nil && j.tails[s].w.Damaged() != nil
	if damaged || j.badAccepted[s] != nil && c.State != recovery.Finalized {
		c.State = recovery.Unknown
	}
	if c.State == recovery.Absent {
		c.Prev = j.finalizedBefore(s)
		if s > 0 && s <= j.purged.TxID {
			c.State = recovery.Purged // decided, and covered by a snapshot here: not absent (C5)
		}
	}
	return c
}

// finalizedBefore returns the finalized segment that ends just before s, if it is here.
func (j *Journal) finalizedBefore(s segments.TxID) segments.End {
	infos := j.store.Infos()
	i := sort.Search(len(infos), func(i int) bool { return infos[i].First >= s })
	if i == 0 || infos[i-1].Last != s-1 || infos[i-1].State != store.StateFinalized {
		return segments.End{}
	}
	info, err := j.store.Info(infos[i-1].First)
	if err != nil || info.State != store.StateFinalized || !info.Loaded {
		return segments.End{}
	}
	return info.End()
}

// local is copyOf with what the acceptor's rules need besides.
func (j *Journal) local(s segments.TxID) recovery.Local {
	l := recovery.Local{Copy: j.copyOf(s), Newest: j.newest(), Floor: j.floor, Purged: j.purged}
	if j.floor.Segment == s && l.Copy.State == recovery.InProgress {
		d, found, err := j.store.DigestAt(s, j.floor.At.TxID)
		l.HoldsFloor = err == nil && found && d == j.floor.At.Digest
	}
	return l
}

// Prepare answers what is held of segment s, and the digests asked for (R1). It changes nothing besides
// the promise, and does not close a segment that the same epoch is writing (L11). Owner only.
func (j *Journal) Prepare(h rpc.Header, s segments.TxID, digests []segments.TxID) (recovery.Answer, error) {
	if err := j.admit(h); err != nil {
		return recovery.Answer{}, err
	}
	return j.answer(s, digests)
}

func (j *Journal) answer(s segments.TxID, digests []segments.TxID) (recovery.Answer, error) {
	a := recovery.Answer{Node: quorum.Key(j.self), Copy: j.copyOf(s), Floor: j.floor, Newest: j.newest(), Purged: j.purged}
	if a.Copy.State != recovery.InProgress && a.Copy.State != recovery.Finalized {
		return a, nil
	}
	for _, t := range digests {
		d, found, err := j.store.DigestAt(s, t)
		if err != nil {
			// The copy was whole when it was opened and is not now: it is unknown from here on.
			j.store.MarkDamaged(s, err)
			j.broken[s] = err
			a.Copy = j.copyOf(s)
			return a, nil
		}
		a.Digests = append(a.Digests, recovery.DigestReply{At: segments.Position{TxID: t, Digest: d}, Found: found})
	}
	return a, nil
}

// State tells how the journal stands without promising anything (F2's first round, D4). Owner only.
func (j *Journal) State() rpc.JournalState {
	newest := j.newest()
	a, _ := j.answer(max(newest, 1), nil)
	st := rpc.JournalState{
		Node: j.self.ID, Incarnation: j.self.Incarnation,
		Summary:  j.summarize(),
		Promised: j.fence.Promised, DataKnown: j.unknown == nil && j.dataKnown(newest),
		Member: j.unknown == nil && j.config.Has(j.self.ID, j.self.Incarnation),
		Answer: a, Seal: j.seal,
	}
	if t := j.tails[newest]; t != nil {
		st.Written = t.w.Last().TxID
	}
	if j.poisoned != nil {
		st.Poisoned = j.poisoned.Error()
	}
	if j.unknown != nil {
		st.Damaged = append(st.Damaged, rpc.Damage{Text: j.unknown.Error()})
	}
	for _, info := range j.store.Infos() {
		if info.State == store.StateDamaged && j.broken[info.First] == nil {
			st.Damaged = append(st.Damaged, rpc.Damage{Segment: info.First, Text: info.Err.Error()})
		}
	}
	for _, s := range sortedKeys(j.broken) {
		st.Damaged = append(st.Damaged, rpc.Damage{Segment: s, Text: j.broken[s].Error()})
	}
	for _, s := range sortedKeys(j.badAccepted) {
		st.Damaged = append(st.Damaged, rpc.Damage{Segment: s, Text: j.badAccepted[s].Error()})
	}
	return st
}

// Segments lists what is held, by first txid. Owner only.
func (j *Journal) Segments() []rpc.SegmentInfo { return j.describe(j.store.Infos()) }

// SegmentsAfter is one page of Segments: the owner is not kept from appends for longer than a page takes.
// Owner only.
func (j *Journal) SegmentsAfter(after segments.TxID, limit int) rpc.SegmentsPage {
	if limit <= 0 || limit > rpc.SegmentsPageMax {
		limit = rpc.SegmentsPageMax
	}
	infos := j.store.Infos()
	infos = infos[sort.Search(len(infos), func(i int) bool { return infos[i].First > after }):]
	page := infos[:min(limit, len(infos))]
	return rpc.SegmentsPage{Segments: j.describe(page), More: len(page) < len(infos), Purged: j.purged}
}

func (j *Journal) describe(infos []store.Info) []rpc.SegmentInfo {
	var out []rpc.SegmentInfo
	for _, info := range infos {
		c := j.copyOf(info.First)
		si := rpc.SegmentInfo{First: c.Segment, State: c.State, Last: c.Last, Epoch: c.Epoch, Prev: c.Prev, Bytes: info.Bytes}
		if err := errors.Join(info.Err, j.broken[info.First], j.badAccepted[info.First]); err != nil {
			si.Problem = err.Error()
		}
		out = append(out, si)
	}
	return out
}

func sortedKeys[V any](m map[segments.TxID]V) []segments.TxID {
	keys := make([]segments.TxID, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Name returns the journal's name. Anyone.
func (j *Journal) Name() string { return j.name }

// Summary returns name, id and config. Anyone.
func (j *Journal) Summary() rpc.JournalSummary {
	j.viewMu.Lock()
	defer j.viewMu.Unlock()
	return j.summary
}

// Usable returns why the journal takes no writes here, or nil. Anyone.
func (j *Journal) Usable() error {
	j.viewMu.Lock()
	defer j.viewMu.Unlock()
	return j.unusable
}

// Self returns the storage that the journal lives on. Anyone.
func (j *Journal) Self() Self { return j.self }

// Answer is what Prepare would answer, without a promise: for reads that count (D4) and for checks.
// Owner only.
func (j *Journal) Answer(s segments.TxID, digests []segments.TxID) (recovery.Answer, error) {
	return j.answer(s, digests)
}

// FinalizedEnd returns the end of segment s if it is finalized here, or the zero End. Owner only.
func (j *Journal) FinalizedEnd(s segments.TxID) segments.End {
	c := j.copyOf(s)
	if c.State != recovery.Finalized {
		return segments.End{}
	}
	return segments.End{First: s, Last: c.Last.TxID, Digest: c.Last.Digest}
}
