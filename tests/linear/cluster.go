package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/libqjm"
)

// How the cluster is made.
const (
	nodesCount    = 3
	replicasCount = 3
	journal       = "kv"
	lease         = "500ms"
	snapshotTxns  = "400" // often enough that replicas start from one
	retainTxns    = 100   // little enough that one that was away finds that its next transaction is purged
	statusTimeout = 500 * time.Millisecond
)

// cluster is all processes, and what lies between them.
type cluster struct {
	dir             string
	net             *network
	nodes, replicas []*process
	fronts          []*front
	service         []replica // the replicas, as clients see them
	clients         []string  // names in the network
	direct          *http.Client
}

// build compiles what is started.
func build(ctx context.Context, dir string, race bool) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("where the module is: %w", err)
	}
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/journalnode", "./examples/kv")...)
	cmd.Dir = strings.TrimSpace(string(root))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// newCluster prepares nodes and replicas; nothing runs yet. Binaries are in bin.
func newCluster(dir, bin string) (*cluster, error) {
	ports, err := freePorts(nodesCount + replicasCount)
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir, net: newNetwork(), direct: &http.Client{Timeout: statusTimeout}}
	if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o755); err != nil {
		return nil, err
	}
	var founders, endpoints []string
	for i := range nodesCount {
		id := fmt.Sprintf("n%d", i+1)
		f, err := c.net.front(id, ports[i], c.owner)
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		c.fronts = append(c.fronts, f)
		founders, endpoints = append(founders, id+"="+f.addr()), append(endpoints, f.addr())
	}
	for i, f := range c.fronts {
		c.nodes = append(c.nodes, c.process(f.name, filepath.Join(bin, "journalnode"), false,
			"--id", f.name, "--data-dir", filepath.Join(dir, "data", f.name), "--listen", ports[i], "--advertise", f.addr(),
			"--initial-cluster", strings.Join(founders, ","), "--reserve-mib", "1"))
	}
	for i := range replicasCount {
		name, addr := fmt.Sprintf("r%d", i+1), ports[nodesCount+i]
		p := c.process(name, filepath.Join(bin, "kv"), true, "--endpoints", strings.Join(endpoints, ","), "--journal", journal,
			"--name", name, "--listen", addr, "--lease", lease, "--snapshot-txns", snapshotTxns)
		c.replicas = append(c.replicas, p)
		c.service = append(c.service, replica{name, addr, p.current})
	}
	return c, nil
}

func (c *cluster) process(name, bin string, isReplica bool, args ...string) *process {
	return &process{name: name, log: filepath.Join(c.dir, "logs", name+".log"), bin: bin, args: args, isReplica: isReplica}
}

// owner tells whose a connection to a node is.
func (c *cluster) owner(addr net.Addr) string {
	pids := map[int]string{os.Getpid(): "clients"}
	for _, p := range c.processes() {
		if pid := p.pid(); pid != 0 {
			pids[pid] = p.name
		}
	}
	return ownerOf(addr, pids)
}

func (c *cluster) processes() []*process {
	return append(append([]*process(nil), c.nodes...), c.replicas...)
}

// start starts everything, and waits until it is up.
func (c *cluster) start(ctx context.Context) error {
	for _, f := range c.fronts {
		go f.accept()
	}
	for _, p := range c.processes() {
		if err := p.start(); err != nil {
			return err
		}
	}
	if err := c.up(ctx); err != nil {
		return err
	}
	return c.purge(ctx)
}

// purge has the nodes keep little of what snapshots cover.
func (c *cluster) purge(ctx context.Context) (err error) {
	o := libqjm.Options{}
	for _, f := range c.fronts {
		o.Endpoints = append(o.Endpoints, f.addr())
	}
	client, err := libqjm.Dial(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	return client.SetPolicy(ctx, journal, libqjm.Policy{RetainTxns: retainTxns})
}

// up waits until all processes have come up, and starts those again that end meanwhile.
func (c *cluster) up(ctx context.Context) error {
	var waiting sync.WaitGroup
	errs := make([]error, len(c.processes()))
	for i, p := range c.processes() {
		waiting.Go(func() { errs[i] = p.keep(ctx) })
	}
	waiting.Wait()
	return errors.Join(errs...)
}

// stop has everything drain and end, the replicas first, which need the nodes for that.
func (c *cluster) stop() error {
	var errs []error
	for _, ps := range [][]*process{c.replicas, c.nodes} {
		var ending sync.WaitGroup
		each := make([]error, len(ps))
		for i, p := range ps {
			ending.Go(func() { each[i] = p.term() })
		}
		ending.Wait()
		errs = append(errs, each...)
	}
	return errors.Join(errs...)
}

// close ends what still runs, at once.
func (c *cluster) close() error {
	for _, p := range c.processes() {
		p.kill()
	}
	var errs []error
	for _, f := range c.fronts {
		errs = append(errs, f.listener.Close())
	}
	c.net.reset()
	return errors.Join(errs...)
}

// status is what a replica says of itself.
type status struct {
	Role    string `json:"role"`
	Epoch   uint64 `json:"epoch"`
	Applied uint64 `json:"applied"`
}

// status asks a replica by a way that nothing cuts.
func (c *cluster) status(ctx context.Context, i int) (st status, err error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.service[i].addr+"/status", nil)
	if err != nil {
		return st, err
	}
	resp, err := c.direct.Do(req)
	if err != nil {
		return st, err
	}
	defer resp.Body.Close()
	return st, json.NewDecoder(resp.Body).Decode(&st)
}

// active returns which replica is active, the one with the newest epoch where two say so, or -1.
func (c *cluster) active(ctx context.Context) int {
	best, newest := -1, uint64(0)
	for i := range c.service {
		if st, err := c.status(ctx, i); err == nil && st.Role == "active" && st.Epoch >= newest {
			best, newest = i, st.Epoch
		}
	}
	return best
}
