package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/quorumjournal/qjm/examples/namespace/demo/scan"
	"github.com/quorumjournal/qjm/examples/namespace/tree"
	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/libqjm"
)

const journal = "namespace"

// How far the import is when things happen, in percent of the entries, and how long it takes to the last
// of these points: slow enough that a node can die and come back on the way, and from there on as fast as
// it goes, so that the active dies with many requests under way.
const (
	killNodeAt     = 8
	restartNodeAt  = 16
	fullSpeedAt    = 55
	slowSeconds    = 6
	underWayAtKill = 256 // requests under way, at least, when the active is killed
)

const (
	lease           = time.Second // of the active
	snapshotPercent = 15          // replica a saves a snapshot after so much of the entries
	noSnapshots     = 1 << 40     // replica b saves none: so the journal is needed, too
)

// stepLimit bounds whatever the demo waits for.
const stepLimit = 60 * time.Second

type demo struct {
	screen         *screen
	dir, root      string
	nodeBin, nsBin string

	children []*process
	ids      []string
	nodes    map[string]*process
	replicas map[string]*process
	addrs    map[string]string // node or replica to HOST:PORT
	cluster  string            // --initial-cluster
	client   *libqjm.Client
	importer *importer
	oldClaim libqjm.Claim // of the active that is killed
	imported chan error   // how the import ended
	disk     map[string]tree.Op
	result   result
}

// result is what the demo found out on the way.
type result struct {
	entries            int
	asked              map[string]bool
	acked, found       []ack
	doubt              []string
	oldEpoch, newEpoch uint64
	firstNew           uint64 // first txid of the second active: everything below was recovered
	refused            refusal
	catchUp            time.Duration
	failover           time.Duration
	restarted          status   // of the replica that was killed, when it is back
	snapshots          []uint64 // that were saved, by txid
	restartedDiffering []string
	journal            []record
	holdings           []holding
	sameSegment        []string // what is wrong with the node that came back
	rebuiltDiffering   []string
}

// refusal is what the old writer was told.
type refusal struct {
	epoch, promised uint64
	definite        bool
	text            string
}

func (d *demo) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		d.startNodes, d.startImport, d.killNode, d.killActive, d.takeOver, d.oldWriter, d.restart, d.rebuildThrice,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return errors.Join(d.client.Close(), d.report())
}

func (d *demo) endpoints() string {
	var all []string
	for _, id := range d.ids {
		all = append(all, d.addrs[id])
	}
	return strings.Join(all, ",")
}

// dial connects as a client of its own.
func (d *demo) dial(ctx context.Context) (*libqjm.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	return libqjm.Dial(ctx, libqjm.Options{Endpoints: strings.Split(d.endpoints(), ",")})
}

// startNodes is step 1.
func (d *demo) startNodes(ctx context.Context) error {
	d.ids = []string{"n1", "n2", "n3"}
	ports, err := freePorts(2*len(d.ids) + 2)
	if err != nil {
		return err
	}
	d.nodes, d.replicas = map[string]*process{}, map[string]*process{}
	d.addrs = map[string]string{"a": ports[2*len(d.ids)], "b": ports[2*len(d.ids)+1]}
	var cluster []string
	for i, id := range d.ids {
		d.addrs[id], d.addrs[id+" http"] = ports[i], ports[len(d.ids)+i]
		cluster = append(cluster, id+"="+ports[i])
	}
	d.cluster = strings.Join(cluster, ",")
	var pids []string
	for _, id := range d.ids {
		if err := d.startNode(id); err != nil {
			return err
		}
		pids = append(pids, fmt.Sprintf("%s (pid %d)", id, d.nodes[id].pid()))
	}
	if d.client, err = d.dial(ctx); err != nil {
		return err
	}
	d.screen.step(1, "three JournalNodes started: %s; cluster %s founded", strings.Join(pids, ", "), d.client.ClusterID()[:8])
	return nil
}

func (d *demo) startNode(id string) (err error) {
	d.nodes[id], err = d.spawn(id, d.nodeBin, "--id", id, "--data-dir", filepath.Join(d.dir, id),
		"--listen", d.addrs[id], "--http-listen", d.addrs[id+" http"], "--initial-cluster", d.cluster)
	return err
}

// startImport is step 2.
func (d *demo) startImport(ctx context.Context) error {
	entries, err := d.walk(ctx, "reading ")
	if err != nil {
		return err
	}
	if d.result.entries = len(entries); d.result.entries < 1000 {
		return fmt.Errorf("%s has %d entries: too few to kill anything on the way, at least 1,000 are needed", d.root, d.result.entries)
	}
	// Snapshots would let go of the log that they cover. Here it is kept, for the checks.
	_, err = d.client.CreateJournalWith(ctx, journal, libqjm.CreateOptions{Policy: libqjm.Policy{RetainTxns: uint64(len(entries))}})
	if err != nil {
		return err
	}
	d.importer = newImporter([]string{d.addrs["a"], d.addrs["b"]})
	if err := d.startReplica(ctx, "a", "active", max(d.percent(snapshotPercent), 100)); err != nil {
		return err
	}
	if err := d.startReplica(ctx, "b", "standby", noSnapshots); err != nil {
		return err
	}
	if err := d.importer.next(ctx, reign{}); err != nil {
		return err
	}
	d.result.oldEpoch = d.importer.reign().epoch
	if err := d.noteClaim(ctx); err != nil {
		return err
	}
	slow := d.percent(fullSpeedAt)
	d.imported = make(chan error, 1)
	go func() { d.imported <- d.importer.run(ctx, entries, slow/slowSeconds, slow) }()
	d.screen.step(2, "replica a (pid %d) is active in epoch %d, replica b (pid %d) follows; the %s entries below %s are imported through a, a transaction each",
		d.replicas["a"].pid(), d.result.oldEpoch, d.replicas["b"].pid(), commas(d.result.entries), d.root)
	return nil
}

// noteClaim remembers what the active writes under.
func (d *demo) noteClaim(ctx context.Context) error {
	st, err := d.client.Status(ctx, journal)
	if err != nil {
		return err
	}
	d.oldClaim.Epoch = st.Epoch
	d.oldClaim.Writer, err = fencing.ParseWriterID(st.Writer)
	return err
}

// walk reads what is on disk.
func (d *demo) walk(ctx context.Context, doing string) (entries []tree.Op, err error) {
	for op, err := range scan.Walk(d.root) {
		if err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		entries = append(entries, op)
		d.screen.bar(doing+d.root, len(entries), max(d.result.entries, len(entries)))
	}
	return entries, nil
}

// startReplica starts the example itself, and waits until it has a role.
func (d *demo) startReplica(ctx context.Context, name, role string, snapshotTxns int) (err error) {
	d.replicas[name], err = d.spawn(name, d.nsBin, "-endpoints", d.endpoints(), "-listen", d.addrs[name],
		"-lease", lease.String(), "-snapshot-txns", fmt.Sprint(snapshotTxns))
	if err != nil {
		return err
	}
	return d.until(ctx, fmt.Sprintf("replica %s is %s", name, role), stepLimit, statusEvery, func(ctx context.Context) (bool, error) {
		st, err := d.importer.status(ctx, d.addrs[name])
		return err == nil && st.role == role, nil // it does not listen yet
	})
}

func (d *demo) percent(n int) int { return d.result.entries * n / 100 }

// reached waits until so many entries are there, and at least so many requests under way.
func (d *demo) reached(ctx context.Context, n, underWay int, doing string) error {
	return d.until(ctx, fmt.Sprintf("%s entries are imported", commas(n)), stepLimit, time.Millisecond, func(context.Context) (bool, error) {
		there, now := d.importer.progress()
		d.screen.bar(doing, there, d.result.entries)
		if d.importer.reign().epoch != d.result.oldEpoch {
			return false, fmt.Errorf("b took over before a was killed: this machine was too busy for a lease of %s", lease)
		}
		if there == d.result.entries {
			return false, errors.New("all was imported before a was killed")
		}
		return there >= n && now >= underWay, d.importFailed()
	})
}

// importFailed returns why the import has failed, if it has.
func (d *demo) importFailed() error {
	select {
	case err := <-d.imported:
		d.imported <- err
		return err
	default:
		return nil
	}
}

func (d *demo) status(ctx context.Context, id string) (libqjm.JournalStatus, libqjm.NodeStatus, error) {
	st, err := d.client.Status(ctx, journal)
	for _, n := range st.Nodes {
		if n.Node == id {
			return st, n, err
		}
	}
	return st, libqjm.NodeStatus{}, err
}

// killNode is step 3: a node dies, misses transactions, and is back in the segment it died in.
func (d *demo) killNode(ctx context.Context) error {
	const id = "n2"
	if err := d.reached(ctx, d.percent(killNodeAt), 0, "importing"); err != nil {
		return err
	}
	_, before, err := d.status(ctx, id)
	if err != nil {
		return err
	}
	if err := d.nodes[id].end(syscall.SIGKILL); err != nil {
		return err
	}
	d.screen.step(3, "JournalNode %s killed with SIGKILL at txid %s, in the segment that begins at %d; the import goes on with two of three",
		id, commas(uint64(before.Last)), before.Newest)
	if err := d.reached(ctx, d.percent(restartNodeAt), 0, "importing, "+id+" is down"); err != nil {
		return err
	}
	there, _ := d.importer.progress() // a transaction each
	missed := uint64(there)
	began := time.Now()
	if err := d.startNode(id); err != nil {
		return err
	}
	var now libqjm.NodeStatus
	err = d.until(ctx, id+" is in step again", stepLimit, 10*time.Millisecond, func(ctx context.Context) (bool, error) {
		there, _ := d.importer.progress()
		d.screen.bar("importing, "+id+" catches up", there, d.result.entries)
		var st libqjm.JournalStatus
		st, now, err = d.status(ctx, id)
		return now.State == "in-sync" && uint64(now.Last) > missed && now.Last >= st.Committed, err
	})
	if err != nil {
		return err
	}
	d.result.catchUp = time.Since(began)
	if now.Newest != before.Newest || now.SegEpoch != before.SegEpoch || now.SegState != before.SegState {
		d.result.sameSegment = append(d.result.sameSegment, fmt.Sprintf("it was killed in segment %d of epoch %d (%s) and is in %d of epoch %d (%s)",
			before.Newest, before.SegEpoch, before.SegState, now.Newest, now.SegEpoch, now.SegState))
	}
	d.screen.line("     %s restarted at txid %s; %s later it has caught up, to txid %s, in the segment that begins at %d",
		id, commas(missed), millis(d.result.catchUp), commas(uint64(now.Last)), now.Newest)
	return nil
}

// killActive is step 4: the active dies with requests under way. Nobody tells the other one.
func (d *demo) killActive(ctx context.Context) error {
	if err := d.reached(ctx, d.percent(fullSpeedAt), underWayAtKill, "importing"); err != nil {
		return err
	}
	began := time.Now()
	there, underWay := d.importer.progress()
	if err := d.replicas["a"].end(syscall.SIGKILL); err != nil {
		return err
	}
	d.screen.step(4, "replica a killed with SIGKILL, with %s transactions acknowledged and %s requests under way; nobody tells b", commas(there), commas(underWay))
	err := d.until(ctx, "replica b has acknowledged something", stepLimit, time.Millisecond, func(context.Context) (bool, error) {
		now := d.importer.reign().epoch
		return now > d.result.oldEpoch && d.importer.ackedIn(now) > 0, d.importFailed()
	})
	d.result.failover = time.Since(began)
	return err
}

// takeOver is step 5: the standby is active, and the import is finished.
func (d *demo) takeOver(ctx context.Context) error {
	d.result.newEpoch = d.importer.reign().epoch
	segments, err := d.client.Segments(ctx, journal)
	if err != nil {
		return err
	}
	for _, s := range segments {
		if uint64(s.Epoch) == d.result.newEpoch {
			d.result.firstNew = uint64(s.First)
		}
	}
	d.screen.step(5, "replica b became active by itself: epoch %d fences epoch %d, recovery ends at txid %s; its first acknowledgement came %s after the kill",
		d.result.newEpoch, d.result.oldEpoch, commas(d.result.firstNew-1), millis(d.result.failover))
	err = d.until(ctx, "the import is finished", stepLimit, 10*time.Millisecond, func(context.Context) (bool, error) {
		there, _ := d.importer.progress()
		d.screen.bar("importing the rest", there, d.result.entries)
		select {
		case err := <-d.imported:
			return true, err
		default:
			return false, nil
		}
	})
	if err != nil {
		return err
	}
	im := d.importer
	d.result.asked, d.result.acked, d.result.found, d.result.doubt = im.started, im.acked, im.found, im.doubt
	d.screen.line("     of %s requests without an answer %s were found there, the others made anew; the import is finished",
		commas(len(im.doubt)), commas(len(im.found)))
	return nil
}

// oldWriter is step 6: the dead writer comes back with the claim it had.
func (d *demo) oldWriter(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	w, err := d.client.AttachWriter(ctx, journal, d.oldClaim)
	if err != nil {
		return err
	}
	_, err = w.Append(ctx, []byte("from the old writer"))
	if err == nil {
		return errors.New("the old writer was not refused")
	}
	d.result.refused = refusal{text: err.Error(), definite: !libqjm.MayHaveCommitted(err)}
	if fenced, ok := errors.AsType[*fencing.FencedError](err); ok {
		d.result.refused.epoch, d.result.refused.promised = uint64(fenced.Got.Epoch), uint64(fenced.Promised.Epoch)
	}
	d.screen.step(6, "a writer with the epoch and the writer id that a had gets this answer:")
	d.screen.line("     | %s", d.result.refused.text)
	return nil
}

// restart is step 7: the replica that was killed is back, from a snapshot.
func (d *demo) restart(ctx context.Context) error {
	if err := d.noteSnapshots(ctx); err != nil {
		return err
	}
	entries, err := d.walk(ctx, "walking once more: ")
	if err != nil {
		return err
	}
	d.disk = map[string]tree.Op{}
	for _, op := range entries {
		d.disk[op.Path] = op
	}
	began := time.Now()
	if err := d.startReplica(ctx, "a", "standby", noSnapshots); err != nil {
		return err
	}
	took := time.Since(began)
	root, err := d.importer.list(ctx, d.addrs["a"])
	if err != nil {
		return err
	}
	d.result.restartedDiffering = differences(flatten(root), d.disk)
	if d.result.restarted, err = d.importer.status(ctx, d.addrs["a"]); err != nil {
		return err
	}
	st := d.result.restarted
	d.screen.step(7, "replica a started again: it began from the snapshot at txid %s, applied %s transactions, and follows after %s; %s differences from what is on disk",
		commas(st.txid-st.applied), commas(st.applied), millis(took), commas(len(d.result.restartedDiffering)))
	return d.noteSnapshots(ctx)
}

// noteSnapshots remembers which snapshots are listed.
func (d *demo) noteSnapshots(ctx context.Context) error {
	snapshots, err := d.client.Snapshots(ctx, journal)
	for _, s := range snapshots {
		d.result.snapshots = append(d.result.snapshots, uint64(s.TxID))
	}
	return err
}

// rebuildThrice is step 8: the journal is enough, whichever node is missing.
func (d *demo) rebuildThrice(ctx context.Context) error {
	d.screen.step(8, "the tree rebuilt three times, and each transaction read again from the first one on:")
	for _, id := range d.ids {
		if err := d.allInStep(ctx); err != nil {
			return err
		}
		if err := d.nodes[id].end(syscall.SIGTERM); err != nil {
			return err
		}
		if err := d.rebuildWithout(ctx, id); err != nil {
			return fmt.Errorf("without %s: %w", id, err)
		}
		if err := d.startNode(id); err != nil {
			return err
		}
	}
	return d.allInStep(ctx)
}

func (d *demo) rebuildWithout(ctx context.Context, id string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	client, err := d.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	began := time.Now()
	all, err := rebuild(ctx, client)
	if err != nil {
		return err
	}
	records, err := readJournal(ctx, client, all)
	if err != nil {
		return err
	}
	wrong := differences(all, d.disk)
	if before := d.result.journal; before != nil && !slices.Equal(before, records) {
		wrong = append(wrong, "the journal is another one than without the node before")
	}
	d.result.journal = records
	d.screen.line("     without %s: %s entries, %s transactions in %s, %s differences", id, commas(len(all)), commas(len(records)), millis(time.Since(began)), commas(len(wrong)))
	for _, w := range wrong {
		d.result.rebuiltDiffering = append(d.result.rebuiltDiffering, "without "+id+": "+w)
	}
	return nil
}

// allInStep waits until all nodes hold the same, and notes what they hold.
func (d *demo) allInStep(ctx context.Context) error {
	return d.until(ctx, "all nodes hold the whole journal", stepLimit, 20*time.Millisecond, func(ctx context.Context) (bool, error) {
		st, err := d.client.Status(ctx, journal)
		if err != nil || st.Degraded() {
			return false, err
		}
		segments, err := d.client.Segments(ctx, journal)
		if err != nil {
			return false, err
		}
		d.result.holdings = holdings(segments)
		return len(d.result.holdings) == len(d.ids) && len(unequal(d.result.holdings)) == 0, nil
	})
}
