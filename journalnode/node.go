package journalnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/osfs"
	"github.com/quorumjournal/qjm/internal/wire"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/segments"
)

// Node is a running JournalNode. It implements rpc.Service. All methods may be called concurrently.
type Node struct {
	opts  Options
	log   *slog.Logger
	fs    vfs.FS
	lock  io.Closer
	peers *peers

	startedAt time.Time
	stopping  chan struct{}
	admission chan struct{} // closed when this storage belongs to its cluster (N4)
	stopOnce  sync.Once
	work      sync.WaitGroup // background loops and opening journals
	net       listeners
	control   *control
	unsafe    unsafe
	metrics   *metrics
	spare     *spare
	reserve   *reserve

	rememberTurn chan struct{} // who writes the file of addresses
	rememberMu   sync.Mutex
	remembered   map[quorum.NodeID]string // what that file has; guarded by rememberMu

	idMu sync.Mutex
	id   identity // guarded by idMu; ID and Incarnation never change
	out  error    // why this storage is not admitted; guarded by idMu
	// removed is why it is no part of the cluster any more, by the catalog's word; guarded by idMu.
	removed error
	// waiting is why the cluster is not founded yet, as far as it is known; guarded by idMu.
	waiting error

	createMu sync.Mutex // one journal is made at a time; taken before mu

	mu       sync.Mutex
	stopped  bool                             // no owner is started any more; guarded by mu
	manifest manifest                         // guarded by mu
	owners   map[segments.JournalID]*owner    // guarded by mu
	ordered  []*owner                         // owners by id; nil: to be made anew; guarded by mu
	failed   map[segments.JournalID]error     // listed, and could not be opened (N2); guarded by mu
	unopened map[segments.JournalID]*unopened // listed, and not used yet (W2a); guarded by mu
	tries    map[segments.JournalID]repairLog // guarded by mu
	// snapshotDue are the journals whose snapshots are to be looked after; guarded by mu.
	snapshotDue map[segments.JournalID]bool

	followMu sync.Mutex // taken before mu
	followed uint64     // the index up to which the applied catalog was taken over; guarded by followMu
	logWas   uint64     // the end of the group's log at logAt, see catalogFresh; guarded by followMu
	logAt    time.Time

	installed uint64 // the index up to which this node's journals are as the applied catalog has them; installOwn's

	desk         *desk
	snapshotWake chan struct{} // one place

	// inCatalog is what this node's copy of the catalog knows of a journal; another one in tests.
	inCatalog func(segments.JournalID) (catalog.Journal, bool)
}

// Start opens the data directory and runs the node until Stop. It returns when the node listens; the
// cluster may not be founded yet then, see Ready. The context bounds the start only: when it ends later, the
// node runs on. After an error nothing is left running, and the directory is free.
//
// Errors: an option that makes no sense, ErrOtherNode, ErrLocked where another process holds the
// directory (N3), an address that is taken, a directory that is damaged, of a later version, or cannot be written.
func Start(ctx context.Context, opts Options) (*Node, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	n := &Node{
		opts: opts, log: opts.Logger.With("node", string(opts.ID)), fs: opts.FS, startedAt: time.Now(),
		stopping: make(chan struct{}), admission: make(chan struct{}), owners: map[segments.JournalID]*owner{},
		failed: map[segments.JournalID]error{}, unopened: map[segments.JournalID]*unopened{}, tries: map[segments.JournalID]repairLog{},
		snapshotDue: map[segments.JournalID]bool{}, desk: newDesk(), snapshotWake: make(chan struct{}, 1),
	}
	if n.fs == nil {
		n.fs = osfs.New("")
	}
	if n.opts.Dialer == nil {
		n.opts.Dialer = &wire.Dialer{}
	}
	n.inCatalog = n.journalOf
	n.peers = newPeers(n.opts.Dialer, opts.InitialCluster)
	n.rememberTurn = make(chan struct{}, 1)
	n.control = newControl(n.log)
	n.metrics = newMetrics(n)
	n.spare = newSpare(n.opts.QuietAfter)
	if len(opts.Join) == 0 && len(opts.InitialCluster)%2 == 0 {
		n.log.Warn("an even number of nodes tolerates no more failures than one node less",
			"nodes", len(opts.InitialCluster))
	}
	n.warnOfAddress()
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, n.release())
	}
	return n, nil
}

func (n *Node) open(ctx context.Context) error {
	dir := n.opts.DataDir
	if err := makeDataDir(n.fs, dir); err != nil {
		return fmt.Errorf("journalnode: data directory %s: %w", dir, err)
	}
	var err error
	if n.lock, err = n.fs.Lock(path.Join(dir, lockFile)); err != nil {
		return fmt.Errorf("journalnode: data directory %s: %w", dir, err)
	}
	if n.id, err = loadIdentity(n.fs, dir, n.opts.ID, quorum.Incarnation(uuid.New())); err != nil {
		return err
	}
	given, err := loadAddresses(n.fs, dir)
	if err != nil {
		return err
	}
	n.peers.give(given)
	n.recall()
	if n.unsafe.state, err = loadRecovery(n.fs, dir); err != nil {
		return err
	}
	if n.unsafe.state.Out != "" {
		n.takeOut(n.unsafe.state)
	}
	n.reserve = newReserve(n.fs, dir, n.opts.ReserveBytes, n.log)
	if err := n.reserve.load(); err != nil {
		return err
	}
	n.opts.Journal.Room = n.reserve
	if err := n.openJournals(); err != nil {
		return err
	}
	if err := n.listen(ctx); err != nil {
		return err
	}
	n.log.Info("node started", "incarnation", n.id.Incarnation, "phase", n.id.Phase,
		"journals", len(n.manifest.Journals), "listen", n.Addr(), "http", n.HTTPAddr())
	if len(n.opts.Join) > 0 {
		n.work.Go(n.joinCluster)
	} else {
		n.work.Go(n.foundCluster)
	}
	n.work.Go(n.runControl)
	n.work.Go(n.openRest)
	n.work.Go(n.repairLoop)
	n.work.Go(n.scrubLoop)
	n.work.Go(n.snapshotLoop)
	n.work.Go(n.reserveLoop)
	n.work.Go(n.lossLoop)
	n.work.Go(n.standingLoop)
	return nil
}

// makeDataDir makes the directory, and its place in the directories above durable: else a power cut would
// take the whole node away, its promises too. Where it was there before, it was this node's or the
// operator's doing; its parent is synced all the same, because the process that made it may have died
// right after.
func makeDataDir(fsys vfs.FS, dir string) error {
	var made []string
	for d := path.Clean(dir); ; d = path.Dir(d) {
		if _, err := fsys.Stat(d); err == nil || d == path.Dir(d) {
			break
		}
		made = append(made, path.Dir(d))
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	if len(made) == 0 {
		if err := fsys.SyncDir(path.Dir(path.Clean(dir))); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	for _, parent := range made {
		if err := fsys.SyncDir(parent); err != nil {
			return err
		}
	}
	return nil
}

// openJournals notes what the manifest lists (N5). Each is opened when it is first used, or by openRest.
func (n *Node) openJournals() error {
	var err error
	n.manifest, err = loadManifest(n.fs, n.opts.DataDir)
	if errors.Is(err, fs.ErrNotExist) && n.id.Phase == rpc.Blank { // a crash between identity and manifest
		err = n.manifest.save(n.fs, n.opts.DataDir)
	}
	if err != nil {
		return err
	}
	if err := n.fs.MkdirAll(path.Join(n.opts.DataDir, journalsDir)); err != nil {
		return fmt.Errorf("journalnode: %w", err)
	}
	if err := n.fs.SyncDir(n.opts.DataDir); err != nil {
		return fmt.Errorf("journalnode: %w", err)
	}
	for _, id := range n.manifest.Journals {
		n.unopened[id] = &unopened{done: make(chan struct{})}
	}
	return nil
}

// openJournal starts the owner of one journal.
func (n *Node) openJournal(id segments.JournalID) error {
	dir := n.journalDir(id)
	if _, err := n.fs.Stat(dir); err != nil {
		return fmt.Errorf("journalnode: listed in the manifest and missing: %w", err)
	}
	self := journal.Self{ID: n.id.ID, Incarnation: n.id.Incarnation}
	j, err := journal.Open(n.fs, dir, self, id, n.opts.Journal)
	if err != nil {
		return err
	}
	o := newOwner(j, n.opts, n.log.With("journal", j.Name()), n.metrics, n.spare)
	n.peers.learn(j.Summary().Config.Members())
	n.mu.Lock()
	stopped := n.stopped
	if !stopped {
		n.owners[id], n.ordered = o, nil
	}
	n.mu.Unlock()
	if stopped { // a request that came just before is making it: nobody would close it any more
		o.close()
		return rpc.ErrClosed
	}
	n.followOne(o)
	return nil
}

func (n *Node) journalDir(id segments.JournalID) string {
	return path.Join(n.opts.DataDir, journalsDir, id.String())
}

// Stop drains and ends the node: no new requests, work under way finished, files closed, and the directory given
// back. The context bounds the draining of connections; the journals are closed in any case, so it may take
// longer where the disk hangs. Writers take the node for one that is down: nothing is handed over, nor need it be. The
// leader of the catalog does not hand over either: the others need a few seconds to choose another one.
//
// It is called once. A node that was stopped cannot be started again; Start another one on its directory.
func (n *Node) Stop(ctx context.Context) error {
	n.stopOnce.Do(func() { close(n.stopping) })
	err := n.control.stop(ctx)
	n.closeListeners(ctx)
	n.work.Wait()
	n.mu.Lock()
	n.stopped = true
	owners := n.owners
	n.owners, n.ordered = map[segments.JournalID]*owner{}, nil
	n.mu.Unlock()
	for _, o := range owners {
		o.close()
	}
	err = errors.Join(err, n.desk.endIdle(0))
	err = errors.Join(err, n.peers.close(), n.release())
	n.log.Info("node stopped")
	return err
}

func (n *Node) release() error {
	if n.lock == nil {
		return nil
	}
	err := n.lock.Close()
	n.lock = nil
	return err
}

// owner returns the journal's owner, or why there is none.
func (n *Node) owner(id segments.JournalID) (*owner, error) {
	if err := n.admitted(); err != nil {
		return nil, err
	}
	n.firstUse(id)
	n.mu.Lock()
	defer n.mu.Unlock()
	if o := n.owners[id]; o != nil {
		return o, nil
	}
	if err := n.failed[id]; err != nil {
		return nil, fmt.Errorf("%w: %w", rpc.ErrUnknownNode, err)
	}
	select {
	case <-n.stopping:
		return nil, rpc.ErrClosed
	default:
		return nil, fmt.Errorf("%w: %s", rpc.ErrNoJournal, id)
	}
}

// admitted: nothing is promised or held before the cluster is known to be founded with this storage
// (N4).
func (n *Node) admitted() error {
	n.idMu.Lock()
	defer n.idMu.Unlock()
	switch {
	case n.out != nil:
		return fmt.Errorf("%w: %w", rpc.ErrUnknownNode, n.out)
	case n.removed != nil:
		return n.removed
	case n.id.Phase != rpc.Founded && n.waiting != nil:
		return fmt.Errorf("%w: %w", rpc.ErrNotFounded, n.waiting)
	case n.id.Phase != rpc.Founded:
		return rpc.ErrNotFounded
	}
	return nil
}

func (n *Node) identity() identity {
	n.idMu.Lock()
	defer n.idMu.Unlock()
	return n.id
}

// foundCluster runs genesis until this node is founded, or known to be left out (N4).
func (n *Node) foundCluster() {
	said := time.Now() // at a common start the others are a moment late
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		self := n.identity()
		if self.Phase == rpc.Founded {
			close(n.admission)
			return
		}
		heard := n.hear()
		said = n.sayWaiting(heard, said)
		next, err := found(self, n.opts.InitialCluster, heard)
		if err == nil && next.Phase != self.Phase || next.Cluster != self.Cluster {
			err = saveIdentity(n.fs, n.opts.DataDir, next)
			if err == nil {
				n.log.Info("genesis", "phase", next.Phase, "cluster", fmt.Sprintf("%x", next.Cluster))
				wait = 20 * time.Millisecond
			}
		}
		n.idMu.Lock()
		if err == nil {
			n.id = next
		}
		if n.out == nil && errors.Is(err, ErrNotAdmitted) {
			n.log.Error("this storage is unknown to its cluster; if the disk was wiped or replaced, an operator has to say so", "err", err,
				"how", fmt.Sprintf("qjmclient member replace %s %s", n.opts.ID, n.opts.ID))
		}
		n.out = nil
		if errors.Is(err, ErrNotAdmitted) {
			n.out = err
		}
		n.idMu.Unlock()
		if errors.Is(err, ErrNotAdmitted) && !errors.Is(err, ErrTwoClusters) {
			n.readmission()
		}
		select {
		case <-time.After(wait):
		case <-n.stopping:
			return
		}
	}
}

// hear asks all other founders who they are.
func (n *Node) hear() map[quorum.NodeID]rpc.NodeInfo {
	var mu sync.Mutex
	heard := map[quorum.NodeID]rpc.NodeInfo{}
	var wg sync.WaitGroup
	for _, p := range n.opts.InitialCluster {
		if p.ID == n.opts.ID {
			continue
		}
		wg.Go(func() {
			ctx, cancel := n.context(n.opts.PeerTimeout)
			defer cancel()
			peer, err := n.peers.node(p.ID)
			if err != nil {
				return
			}
			info, err := peer.Info(ctx)
			if err != nil {
				return
			}
			if info.ID != p.ID {
				n.log.Error("another node answers at a peer's address", "addr", p.Addr, "want", p.ID, "got", info.ID)
				return
			}
			mu.Lock()
			heard[p.ID] = info
			mu.Unlock()
		})
	}
	wg.Wait()
	return heard
}

// context returns one that ends after d, or when the node stops.
func (n *Node) context(d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	stop := make(chan struct{})
	go func() {
		select {
		case <-n.stopping:
			cancel()
		case <-stop:
		}
	}()
	var once sync.Once
	return ctx, func() { once.Do(func() { close(stop) }); cancel() }
}

// after is time.AfterFunc; one place for it.
func (n *Node) after(d time.Duration, f func()) *time.Timer { return time.AfterFunc(d, f) }

// Ready reports whether the node serves: founded, admitted, and no journal unusable. The error says
// what is missing.
func (n *Node) Ready() error {
	if err := n.admitted(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if k := len(n.unopened); k > 0 {
		return fmt.Errorf("journalnode: %d journals are not opened yet", k)
	}
	for id, err := range n.failed {
		return fmt.Errorf("journal %s: %w", id, err)
	}
	for id, o := range n.owners {
		if o.stalled() {
			return fmt.Errorf("journal %s: %w", id, rpc.ErrStalled)
		}
		if err := o.j.Usable(); err != nil {
			return fmt.Errorf("journal %s: %w", o.j.Name(), err)
		}
	}
	return nil
}
