package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/quorumjournal/qjm/examples/namespace/runlog"
	"github.com/quorumjournal/qjm/examples/namespace/scan"
	"github.com/quorumjournal/qjm/examples/namespace/tree"
	"github.com/quorumjournal/qjm/libqjm"
)

const journal = "namespace"

// How far the import is when things happen, in percent of the entries, and how long it takes to the last
// of these points: slow enough that a node can die and come back on the way, and from there on as fast as
// it goes, so that the writer dies with many appends under way.
const (
	killNodeAt     = 8
	restartNodeAt  = 16
	fullSpeedAt    = 55
	slowSeconds    = 8
	underWayAtKill = 256 // appends under way, at least, when the writer is killed
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
	addrs    map[string]string // node to HOST:PORT
	cluster  string            // --initial-cluster
	client   *libqjm.Client
	result   result
}

// result is what the demo found out on the way.
type result struct {
	entries          int
	old, new         *runlog.Follower // the two writers' logs
	oldState         runlog.State
	newState         runlog.State
	refused          runlog.State
	catchUp          time.Duration
	failover         time.Duration
	journal          []record
	holdings         []holding
	sameSegment      []string // what is wrong with the node that came back
	rebuiltDiffering []string
}

func (d *demo) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		d.startNodes, d.startImport, d.killNode, d.killWriter, d.takeOver, d.oldWriter, d.rebuildThrice,
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
	ports, err := freePorts(2 * len(d.ids))
	if err != nil {
		return err
	}
	d.addrs, d.nodes = map[string]string{}, map[string]*process{}
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
	err := filepath.WalkDir(d.root, func(p string, _ fs.DirEntry, err error) error {
		if p != d.root {
			d.result.entries++
		}
		return err
	})
	if err != nil {
		return err
	}
	if d.result.entries < 1000 {
		return fmt.Errorf("%s has %d entries: too few to kill anything on the way, at least 1,000 are needed", d.root, d.result.entries)
	}
	slow := d.percent(fullSpeedAt)
	if _, err := d.spawnNamespace("writer", "import", "--rate", fmt.Sprint(slow/slowSeconds), "--rate-for", fmt.Sprint(slow)); err != nil {
		return err
	}
	if d.result.oldState, err = d.awaitState(ctx, "writer", "active"); err != nil {
		return err
	}
	if d.result.old, err = d.follow(ctx, "writer"); err != nil {
		return err
	}
	if _, err = d.spawnNamespace("standby", "standby"); err != nil {
		return err
	}
	if _, err = d.awaitState(ctx, "standby", "standby"); err != nil {
		return err
	}
	d.screen.step(2, "a writer (pid %d, epoch %d) imports the %s entries below %s, a transaction each; a standby (pid %d) follows",
		d.child("writer").pid(), d.result.oldState.Epoch, commas(d.result.entries), d.root, d.child("standby").pid())
	return nil
}

func (d *demo) percent(n int) int { return d.result.entries * n / 100 }

func (d *demo) spawnNamespace(name, command string, args ...string) (*process, error) {
	return d.spawn(name, d.nsBin, slices.Concat([]string{
		command, "--endpoints", d.endpoints(), "--journal", journal, "--root", d.root,
		"--log", d.opsFile(name), "--state", d.stateFile(name),
	}, args)...)
}

func (d *demo) opsFile(name string) string   { return filepath.Join(d.dir, name+".ops") }
func (d *demo) stateFile(name string) string { return filepath.Join(d.dir, name+".state") }

func (d *demo) child(name string) *process {
	i := slices.IndexFunc(d.children, func(p *process) bool { return p.name == name })
	return d.children[i]
}

func (d *demo) awaitState(ctx context.Context, name, role string) (st runlog.State, err error) {
	err = d.until(ctx, fmt.Sprintf("the %s is %s", name, role), stepLimit, 2*time.Millisecond, func(context.Context) (bool, error) {
		st, err = runlog.Load(d.stateFile(name))
		return st.Role == role, err
	})
	return st, err
}

// follow opens a process's log of operations, once there is one.
func (d *demo) follow(ctx context.Context, name string) (f *runlog.Follower, err error) {
	err = d.until(ctx, "the "+name+" starts", stepLimit, time.Millisecond, func(context.Context) (bool, error) {
		f, err = runlog.Follow(d.opsFile(name))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil, err
	})
	return f, err
}

// imported waits until the writer has so many acknowledgements, and at least so many appends under way.
func (d *demo) imported(ctx context.Context, n, underWay int, doing string) error {
	return d.until(ctx, fmt.Sprintf("%s entries are imported", commas(n)), stepLimit, time.Millisecond, func(context.Context) (bool, error) {
		err := d.result.old.Read()
		d.screen.bar(doing, len(d.result.old.Acked), d.result.entries)
		if err == nil && !d.child("writer").running() {
			err = errors.New("the writer ended too early")
		}
		return len(d.result.old.Acked) >= n && d.underWay() >= underWay, err
	})
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
	if err := d.imported(ctx, d.percent(killNodeAt), 0, "importing"); err != nil {
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
	if err := d.imported(ctx, d.percent(restartNodeAt), 0, "importing, "+id+" is down"); err != nil {
		return err
	}
	missed := d.result.old.Acked[len(d.result.old.Acked)-1].TxID
	began := time.Now()
	if err := d.startNode(id); err != nil {
		return err
	}
	var now libqjm.NodeStatus
	err = d.until(ctx, id+" is in step again", stepLimit, 10*time.Millisecond, func(ctx context.Context) (bool, error) {
		if err := d.result.old.Read(); err != nil {
			return false, err
		}
		d.screen.bar("importing, "+id+" catches up", len(d.result.old.Acked), d.result.entries)
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

// killWriter is step 4: the writer dies with appends under way.
func (d *demo) killWriter(ctx context.Context) error {
	if err := d.imported(ctx, d.percent(fullSpeedAt), underWayAtKill, "importing"); err != nil {
		return err
	}
	began := time.Now()
	if err := d.child("writer").end(syscall.SIGKILL); err != nil {
		return err
	}
	if err := d.child("standby").cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		return err
	}
	if err := d.result.old.Read(); err != nil {
		return err
	}
	d.screen.step(4, "the writer killed with SIGKILL: %s transactions were acknowledged to it, %s more were under way",
		commas(len(d.result.old.Acked)), commas(d.underWay()))
	var err error
	if d.result.new, err = d.follow(ctx, "standby"); err != nil {
		return err
	}
	err = d.until(ctx, "the standby has an acknowledgement", stepLimit, time.Millisecond, func(context.Context) (bool, error) {
		err := d.result.new.Read()
		return len(d.result.new.Acked) > 0, err
	})
	d.result.failover = time.Since(began)
	return err
}

func (d *demo) underWay() int { return len(d.result.old.Started) - len(d.result.old.Acked) }

// takeOver is step 5: the standby is the writer, and finishes what the other one began.
func (d *demo) takeOver(ctx context.Context) error {
	st, err := runlog.Load(d.stateFile("standby"))
	if err != nil {
		return err
	}
	d.screen.step(5, "the standby took over: epoch %d fences epoch %d, recovery ends at txid %s; its first acknowledgement came %s after the kill",
		st.Epoch, d.result.oldState.Epoch, commas(st.FirstTx-1), millis(d.result.failover))
	err = d.until(ctx, "the standby finishes the import", stepLimit, 10*time.Millisecond, func(context.Context) (bool, error) {
		err := d.result.new.Read()
		d.screen.bar("importing the rest", int(st.FirstTx)-1+len(d.result.new.Acked), d.result.entries)
		return !d.child("standby").running(), err
	})
	if err != nil {
		return err
	}
	if err := d.result.new.Read(); err != nil {
		return err
	}
	if d.result.newState, err = d.awaitState(ctx, "standby", "done"); err != nil {
		return err
	}
	d.screen.line("     it finished the import: %s entries were there already, %s were new", commas(d.result.newState.Skipped), commas(len(d.result.new.Acked)))
	return nil
}

// oldWriter is step 6: the dead writer comes back with the epoch it had.
func (d *demo) oldWriter(ctx context.Context) error {
	p, err := d.spawn("old-writer", d.nsBin, "import", "--endpoints", d.endpoints(), "--journal", journal, "--root", d.root,
		"--state", d.stateFile("old-writer"), "--resume-epoch", fmt.Sprint(d.result.oldState.Epoch), "--writer-id", d.result.oldState.Writer)
	if err != nil {
		return err
	}
	p.meant = true // it ends by itself, and not with 0
	err = d.until(ctx, "the old writer is refused", stepLimit, 10*time.Millisecond, func(context.Context) (bool, error) {
		return !p.running(), nil
	})
	if err != nil {
		return err
	}
	if d.result.refused, err = runlog.Load(d.stateFile("old-writer")); err != nil {
		return err
	}
	d.screen.step(6, "the old writer, started again with its old epoch, gets this answer:")
	d.screen.line("%s", lastLines(p.log))
	return nil
}

// rebuildThrice is step 7: the journal alone is enough, whichever node is missing.
func (d *demo) rebuildThrice(ctx context.Context) error {
	disk := map[string]tree.Entry{}
	for op, err := range scan.Walk(d.root) {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		disk[op.Path] = op.Entry
		d.screen.bar("walking "+d.root+" again", len(disk), d.result.entries)
	}
	d.screen.step(7, "%s walked once more, and the namespace rebuilt from the journal three times:", d.root)
	for _, id := range d.ids {
		if err := d.allInStep(ctx); err != nil {
			return err
		}
		if err := d.nodes[id].end(syscall.SIGTERM); err != nil {
			return err
		}
		if err := d.rebuildWithout(ctx, id, disk); err != nil {
			return fmt.Errorf("without %s: %w", id, err)
		}
		if err := d.startNode(id); err != nil {
			return err
		}
	}
	return d.allInStep(ctx)
}

func (d *demo) rebuildWithout(ctx context.Context, id string, disk map[string]tree.Entry) (err error) {
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	client, err := d.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	began := time.Now()
	if d.result.journal, err = readJournal(ctx, client, journal); err != nil {
		return err
	}
	t, err := rebuild(d.result.journal)
	if err != nil {
		return err
	}
	wrong := differences(t, disk)
	if sum := fmt.Sprintf("%x", t.Digest()); sum != d.result.newState.Digest {
		wrong = append(wrong, fmt.Sprintf("the rebuilt tree has digest %s, the writer's had %s", sum, d.result.newState.Digest))
	}
	d.screen.line("     without %s: %s entries in %s, %s differences", id, commas(t.Len()), millis(time.Since(began)), commas(len(wrong)))
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
