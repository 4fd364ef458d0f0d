package systems

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quorumjournal/qjm/bench/load"
	"github.com/quorumjournal/qjm/libqjm"
)

// replicaLease is the lease of the bars.
const replicaLease = 500 * time.Millisecond

// blob is a state of a given size, and a count of what was applied to it. What it costs to apply and to save is as good as
// nothing, so that what is measured is the library.
type blob struct {
	applied atomic.Uint64
	size    int
	loaded  atomic.Int64 // bytes of a snapshot
}

func (s *blob) Apply(batch []libqjm.Entry) ([][]byte, error) {
	s.applied.Add(uint64(len(batch)))
	return nil, nil
}

const blobPiece = 1 << 20

func (s *blob) SaveSnapshot() (func(io.Writer) error, error) {
	applied := s.applied.Load()
	return func(w io.Writer) error {
		piece := make([]byte, blobPiece)
		for i := range piece {
			piece[i] = byte(i * i >> 3)
		}
		binary.LittleEndian.PutUint64(piece, applied)
		for left := s.size; left > 0; left -= len(piece) {
			if _, err := w.Write(piece[:min(left, len(piece))]); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func (s *blob) LoadSnapshot(r io.Reader) error {
	piece := make([]byte, blobPiece)
	for first := true; ; first = false {
		n, err := io.ReadFull(r, piece)
		s.loaded.Add(int64(n))
		if first && n >= 8 {
			s.applied.Store(binary.LittleEndian.Uint64(piece))
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// replicas is a system: a replica whose callers are each in Propose.
type replicas struct {
	*qjm
	r *libqjm.Replica
}

func (s replicas) Append(ctx context.Context, txn []byte) error {
	_, err := s.r.Propose(ctx, libqjm.Proposal{Data: txn})
	return err
}

// openReplica opens one in this process, with a client of its own.
func (q *qjm) openReplica(b *testing.B, name string, sm libqjm.StateMachine, o libqjm.ReplicaOptions) *libqjm.Replica {
	b.Helper()
	c, err := libqjm.Dial(b.Context(), libqjm.Options{Endpoints: q.endpoints()})
	must(b, err)
	o.Name, o.Addr, o.LeaseTTL = name, name, replicaLease
	r, err := c.OpenReplica(journalName, sm, o)
	must(b, err)
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
		defer cancel()
		if err := errors.Join(r.Close(ctx), c.Close()); err != nil {
			b.Log(err)
		}
	})
	return r
}

func (q *qjm) endpoints() []string {
	var out []string
	for _, o := range q.opts {
		out = append(out, o.Listen)
	}
	return out
}

func awaitRole(b *testing.B, r *libqjm.Replica, role libqjm.Role) {
	b.Helper()
	await(b, "a replica that is "+role.String(), func() bool { return r.Status().Role == role })
}

// BenchmarkPropose compares 1, 16, 256 and 2,048 callers in Replica.Propose, of a state machine that does nothing, with as
// many in Writer.Append, in turn in one cluster: what it costs the processors, and the rate.
func BenchmarkPropose(b *testing.B) {
	for _, callers := range []int{1, 16, 256, 2048} {
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) {
			q := newCluster(b, nodes, nil)
			spec := load.Spec{Name: "qjm", Mode: load.Callers}
			run := func(sys load.System) (cpu, rate float64) {
				s, err := load.Run(b.Context(), spec, sys, load.Cell{Callers: callers, Size: 256, Warm: settle, Duration: window, Dir: b.TempDir()})
				must(b, err)
				return float64(s.CPU.Nanoseconds()) / 1e3 / float64(s.Ops), float64(s.Ops) / s.Elapsed.Seconds()
			}
			must(b, q.create(b.Context(), "replicated"))
			var t table
			for b.Loop() {
				w, err := q.client.OpenWriter(b.Context(), journalName, libqjm.WriterOptions{})
				must(b, err)
				q.writer = w
				appendCPU, appendRate := run(q)
				q.writer = nil
				must(b, w.Close(b.Context()))

				r, err := q.client.OpenReplica("replicated", &blob{}, libqjm.ReplicaOptions{})
				must(b, err)
				awaitRole(b, r, libqjm.RoleActive)
				cpu, rate := run(replicas{q, r})
				must(b, r.Close(b.Context()))
				t.add("append-µs-cpu", appendCPU)
				t.add("propose-µs-cpu", cpu)
				t.add("x-append-cpu", cpu/appendCPU)
				t.add("x-append-rate", rate/appendRate)
			}
			t.report(b)
		})
	}
}

// BenchmarkTransfer hands a state machine over from one replica to another and back, with 16 callers in it: the time
// from the call until the other one has answered a proposal, and how many failed.
func BenchmarkTransfer(b *testing.B) {
	q := newCluster(b, nodes, nil)
	var by [2]*libqjm.Replica
	names := []string{"one", "two"}
	forward := func(ctx context.Context, addr string, p libqjm.Proposal) (libqjm.Applied, error) {
		for {
			for i, name := range names {
				if addr != name {
					continue
				}
				a, err := by[i].Propose(ctx, p)
				na, redirected := errors.AsType[*libqjm.NotActiveError](err)
				if !redirected {
					return a, err
				}
				if na.Addr != "" {
					addr = na.Addr
				}
			}
			pause(time.Millisecond)
		}
	}
	for i, name := range names {
		by[i] = q.openReplica(b, name, &blob{}, libqjm.ReplicaOptions{Forward: forward})
		awaitRole(b, by[i], []libqjm.Role{libqjm.RoleActive, libqjm.RoleStandby}[i])
	}
	var failed atomic.Int64
	t := startTraffic(b, 16, 256, func(ctx context.Context, i int, txn []byte) error {
		_, err := by[i%2].Propose(ctx, libqjm.Proposal{Data: txn})
		if err != nil && ctx.Err() == nil {
			failed.Add(1)
			return nil
		}
		return err
	})
	var took, longest []float64
	for from := 0; b.Loop(); from = 1 - from {
		pause(300 * time.Millisecond)
		t.done.Store(new(load.Histogram))
		begin := time.Now()
		must(b, by[from].Transfer(b.Context(), names[1-from]))
		_, err := by[1-from].Propose(b.Context(), libqjm.Proposal{Data: []byte("x")})
		for errors.Is(err, libqjm.ErrNotActive) {
			_, err = by[1-from].Propose(b.Context(), libqjm.Proposal{Data: []byte("x")})
		}
		must(b, err)
		took = append(took, millis(time.Since(begin)))
		pause(100 * time.Millisecond)
		longest = append(longest, millis(t.done.Load().Quantile(1)))
		awaitRole(b, by[from], libqjm.RoleStandby)
	}
	t.end()
	b.ReportMetric(median(took), "ms/p50")
	b.ReportMetric(quantile(took, 1), "ms/worst")
	b.ReportMetric(median(longest), "ms-longest-wait/p50")
	b.ReportMetric(quantile(longest, 1), "ms-longest-wait/worst")
	b.ReportMetric(float64(failed.Load()), "failed")
}

// BenchmarkReplicaFailover kills the process of the active replica with SIGKILL, and takes the time until another one has
// answered a proposal and a linearizable read. Three processes, three nodes, a lease of 500 ms, 100 kills with -benchtime 100x.
func BenchmarkReplicaFailover(b *testing.B) {
	q := newCluster(b, nodes, nil)
	actives := make(chan int, 100)
	var procs [3]*exec.Cmd
	start := func(i int) {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), replicaEnv+"="+strings.Join(q.endpoints(), ","))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe() // it ends with this process
		must(b, err)
		out, err := cmd.StdoutPipe()
		must(b, err)
		must(b, cmd.Start())
		procs[i] = cmd
		ready := make(chan struct{})
		var once sync.Once
		go func() {
			defer in.Close()
			for lines := bufio.NewScanner(out); lines.Scan(); {
				switch lines.Text() {
				case "ready":
					once.Do(func() { close(ready) })
				case "active":
					once.Do(func() { close(ready) })
					actives <- i
				}
			}
		}()
		<-ready
	}
	end := func(i int) {
		_ = procs[i].Process.Signal(syscall.SIGKILL)
		_ = procs[i].Wait()
	}
	for i := range procs {
		start(i)
		defer func() { end(i) }()
	}
	active := <-actives
	var took []float64
	for b.Loop() {
		pause(700 * time.Millisecond) // at another moment of the lease each time
		pause(time.Duration(len(took)*37%170) * time.Millisecond)
		begin := time.Now()
		must(b, procs[active].Process.Signal(syscall.SIGKILL))
		next := <-actives
		took = append(took, millis(time.Since(begin)))
		_ = procs[active].Wait()
		start(active)
		active = next
	}
	b.ReportMetric(median(took), "ms/p50")
	b.ReportMetric(quantile(took, 0.99), "ms/p99")
	b.ReportMetric(quantile(took, 1), "ms/worst")
}

// replicaEnv makes this program a replica of the endpoints that it lists.
const replicaEnv = "QJM_BENCH_REPLICA"

func TestMain(m *testing.M) {
	if endpoints := os.Getenv(replicaEnv); endpoints != "" {
		if err := replicaProcess(strings.Split(endpoints, ",")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// replicaProcess says "ready" when it follows, and "active" when it has answered a proposal and a linearizable read.
func replicaProcess(endpoints []string) error {
	ctx := context.Background()
	c, err := libqjm.Dial(ctx, libqjm.Options{Endpoints: endpoints})
	if err != nil {
		return err
	}
	var r *libqjm.Replica
	opened := make(chan struct{})
	r, err = c.OpenReplica(journalName, &blob{}, libqjm.ReplicaOptions{
		Profile: libqjm.ProfileAvailability, LeaseTTL: replicaLease,
		Callbacks: libqjm.Callbacks{
			OnStandby: func(error) { fmt.Println("ready") },
			OnActive: func(libqjm.Epoch) {
				<-opened
				if _, err := r.Propose(ctx, libqjm.Proposal{Data: []byte("x")}); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				if _, err := r.AwaitLinearizable(ctx); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				fmt.Println("active")
			},
		},
	})
	if err != nil {
		return err
	}
	close(opened)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// BenchmarkReplicaRestart opens a replica of a state of 1 GiB with 1,000,000 transactions of 256 B behind its snapshot, and takes
// the time until it has all. Beside it, in turn: the same snapshot read through the library and thrown away, and the same
// transactions read by a Reader.
func BenchmarkReplicaRestart(b *testing.B) {
	const size, txns, batch = 1 << 30, 1_000_000, 1000
	q := newCluster(b, nodes, nil)
	saver := q.openReplica(b, "saver", &blob{size: size}, libqjm.ReplicaOptions{
		SpoolDir: b.TempDir(), Snapshots: libqjm.SnapshotPolicy{Txns: 10},
	})
	awaitRole(b, saver, libqjm.RoleActive)
	for range 20 {
		_, err := saver.Propose(b.Context(), libqjm.Proposal{Data: []byte("x")})
		must(b, err)
	}
	var snap libqjm.Snapshot
	await(b, "a snapshot", func() bool {
		var err error
		snap, err = q.client.LatestSnapshot(b.Context(), journalName)
		return err == nil
	})
	must(b, saver.Close(b.Context()))
	r := q.openReplica(b, "filler", &blob{}, libqjm.ReplicaOptions{Profile: libqjm.ProfileThroughput})
	awaitRole(b, r, libqjm.RoleActive)
	set := load.Payloads(batch, 256)
	var last *libqjm.Pending
	for range txns / batch {
		for _, txn := range set {
			var err error
			last, err = r.ProposeAsync(b.Context(), libqjm.Proposal{Data: txn})
			must(b, err)
		}
	}
	done, err := last.Wait(b.Context())
	must(b, err)
	must(b, r.Close(b.Context()))
	var t table
	for i := 0; b.Loop(); i++ {
		begin := time.Now()
		in, err := q.client.OpenSnapshot(b.Context(), journalName, snap.TxID)
		must(b, err)
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, in, make([]byte, 1<<20))
		must(b, err)
		must(b, in.Close())
		read := time.Since(begin)

		begin = time.Now()
		tail, err := q.client.OpenReader(b.Context(), journalName, libqjm.ReaderOptions{From: snap.TxID + 1, To: done.TxID})
		must(b, err)
		for _, err := range tail.All(b.Context()) {
			must(b, err)
		}
		must(b, tail.Close())
		replay := time.Since(begin)

		sm := &blob{}
		begin = time.Now()
		again := q.openReplica(b, fmt.Sprint("again", i), sm, libqjm.ReplicaOptions{Observer: true})
		_, err = again.WaitApplied(b.Context(), done.TxID)
		must(b, err)
		took := time.Since(begin)
		if sm.loaded.Load() != size {
			b.Fatal("loaded ", sm.loaded.Load())
		}
		must(b, again.Close(b.Context()))
		t.add("s-restart", took.Seconds())
		t.add("s-snapshot-read", read.Seconds())
		t.add("s-tail-read", replay.Seconds())
		t.add("x-reads", took.Seconds()/(read+replay).Seconds())
	}
	t.report(b)
}
