package journalnode

import (
	"errors"
	"fmt"
	"log/slog"
	"path"
	"path/filepath"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/quorumloss"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/osfs"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/raftgroup"
)

// ErrOffline: the directory is not one in which the catalog's group can be given other members.
var ErrOffline = errors.New("journalnode: nothing can be reset in this directory")

// OfflineReset gives the catalog's group other members in the directory of a node that does not run.
type OfflineReset struct {
	DataDir string
	Peers   []string // from now on: servers that the group has, as id or id/incarnation
	// DespiteMajority: the operator means it although the new peers are a majority of the old ones.
	DespiteMajority bool

	FS     vfs.FS            // nil: the operating system's
	Raft   raftgroup.Options // as in Options
	Logger *slog.Logger      // nil: silence
}

// PlanOfflineReset says what ResetPeersOffline would do, and changes nothing.
//
// Errors: vfs.ErrLocked where the node runs (N3), ErrOffline, quorumloss.ErrHasMajority.
func PlanOfflineReset(r OfflineReset) (*quorumloss.Plan, error) {
	d, err := r.open()
	if err != nil {
		return nil, err
	}
	if d.rec.Progress == rpc.RecoveryForcing { // the one that was begun: no other can be, before it has ended
		plan, err := d.rec.plan()
		return plan, errors.Join(err, d.close())
	}
	plan, err := d.plan(r)
	return plan, errors.Join(err, d.close())
}

// ResetPeersOffline carries out the plan of that digest. Cut off anywhere, the group has its old members; or the
// same call, or the start of the node, finishes it.
//
// Errors: those of PlanOfflineReset, and rpc.ErrPlan where the digest is another one.
func ResetPeersOffline(r OfflineReset, digest string) (*quorumloss.Plan, error) {
	d, err := r.open()
	if err != nil {
		return nil, err
	}
	plan, err := d.reset(r, digest)
	return plan, errors.Join(err, d.close())
}

// directory is a data directory that this process holds the lock of.
type directory struct {
	fs    vfs.FS
	dir   string
	close func() error
	id    identity
	rec   recoveryState
	opts  raftgroup.Options
}

// open takes the lock (N3), and reads what the directory says of itself.
func (r OfflineReset) open() (*directory, error) {
	d := &directory{fs: r.FS, dir: r.DataDir}
	if d.fs == nil {
		d.fs = osfs.New("")
	}
	if !IsDataDir(d.fs, d.dir) { // before the lock, which is a file
		return nil, fmt.Errorf("%w: %s is no data directory", ErrOffline, d.dir)
	}
	lock, err := d.fs.Lock(path.Join(d.dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("journalnode: data directory %s: %w", d.dir, err)
	}
	d.close = lock.Close
	if err := d.load(r); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return d, nil
}

func (d *directory) load(r OfflineReset) error {
	var err error
	if d.id, err = readIdentity(d.fs, d.dir); err != nil {
		return err
	}
	m, err := loadManifest(d.fs, d.dir)
	if err != nil {
		return err
	}
	if d.rec, err = loadRecovery(d.fs, d.dir); err != nil {
		return err
	}
	switch {
	case d.id.Phase != rpc.Founded:
		return fmt.Errorf("%w: it belongs to no cluster", ErrOffline)
	case !m.Raft: // N5: a store that is not listed is unfinished, whatever is there
		return fmt.Errorf("%w: it has no part in a catalog's group", ErrOffline)
	case d.rec.Out != "":
		return fmt.Errorf("%w: %w (%s)", ErrOffline, ErrGivenUp, d.rec.Out)
	}
	log := r.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d.opts = r.Raft
	d.opts.Dir = filepath.Join(d.dir, raftDir)
	d.opts.Self, d.opts.Cluster, d.opts.Logger = d.id.serverID(), [16]byte(d.id.Cluster), log
	d.opts.Machine = newMachine(log, func() {}, func(uint64, []catalog.Kept) {})
	return nil
}

func (d *directory) plan(r OfflineReset) (*quorumloss.Plan, error) {
	rest, err := raftgroup.Look(d.opts)
	if err != nil {
		return nil, fmt.Errorf("journalnode: the raft store that the manifest lists: %w", err)
	}
	facts := quorumloss.Directory{
		Cluster: d.id.Cluster, Self: quorum.Member{ID: d.id.ID, Incarnation: d.id.Incarnation}, Generation: d.rec.Generation,
		LastIndex: rest.Index, LastTerm: rest.Term,
	}
	for _, s := range rest.Members {
		m, err := memberOf(s.ID)
		if err != nil {
			return nil, fmt.Errorf("journalnode: server %q of the group: %w", s.ID, err)
		}
		facts.Servers = append(facts.Servers, rpc.GroupServer{Key: m.Key(), Voter: s.Voter})
	}
	plan, err := quorumloss.MakeOffline(facts, quorumloss.Reset{Peers: r.Peers, DespiteMajority: r.DespiteMajority})
	if err != nil {
		return nil, err
	}
	ms, err := plan.Group.Members()
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(ms, func(m quorum.Member) bool { return d.rec.gaveUp(m.Key()) }); i >= 0 {
		return nil, fmt.Errorf("%w: %s was given up for lost by a recovery before; it needs a blank disk", rpc.ErrPlan, ms[i].ID)
	}
	return plan, nil
}

// reset: begun is written down, then the store is changed, then done is written down.
func (d *directory) reset(r OfflineReset, digest string) (*quorumloss.Plan, error) {
	plan, err := d.begin(r, digest)
	if err != nil || d.rec.Progress == rpc.RecoveryDone {
		return plan, err
	}
	if err := d.rec.force(d.opts, d.id); err != nil {
		return nil, err
	}
	return plan, d.rec.save(d.fs, d.dir)
}

// begin returns the plan that was begun here before, or that is begun now.
func (d *directory) begin(r OfflineReset, digest string) (*quorumloss.Plan, error) {
	switch {
	case d.rec.Digest == digest && (d.rec.Progress == rpc.RecoveryForcing || d.rec.Progress == rpc.RecoveryDone):
		return d.rec.plan()
	case d.rec.Progress == rpc.RecoveryForcing:
		return nil, fmt.Errorf("%w: another one was begun here and did not come to its end (digest %s); the start of the node goes on with it", rpc.ErrPlan, d.rec.Digest)
	}
	plan, err := d.plan(r)
	if err != nil {
		return nil, err
	}
	if plan.Digest != digest {
		return nil, fmt.Errorf("%w: things have changed since it was made (got %s, want %s)", rpc.ErrPlan, digest, plan.Digest)
	}
	b, err := plan.Encode()
	if err != nil {
		return nil, err
	}
	d.rec.Generation, d.rec.Digest, d.rec.Plan, d.rec.Progress = plan.Generation, plan.Digest, b, rpc.RecoveryForcing
	return plan, d.rec.save(d.fs, d.dir)
}
