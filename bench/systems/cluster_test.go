package systems

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorumjournal/qjm/bench/load"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// What the benchmarks of single bars share. Each of them compares two states of one cluster, or qjm and the machine,
// in turn within one run, so that drift of the machine hits both; -benchtime 3x makes three such rounds. The ratio that
// is reported is the median of the rounds.
const (
	window = 3 * time.Second        // one measurement
	settle = 500 * time.Millisecond // of the same load before it, as the harness does
	// benchPatience bounds whatever a benchmark waits for.
	benchPatience = 3 * time.Minute
)

// newCluster starts nodes and a client, and ends them with the benchmark.
func newCluster(b *testing.B, count int, change func(i int, o *journalnode.Options)) *qjm {
	b.Helper()
	dir := b.TempDir()
	q, err := startCluster(b.Context(), dir, count, change)
	must(b, err)
	b.Cleanup(func() {
		if err := q.Close(); err != nil {
			b.Log(err)
		}
	})
	must(b, q.create(b.Context(), journalName))
	return q
}

// newWriter is newCluster with a writer.
func newWriter(b *testing.B, count int, change func(i int, o *journalnode.Options)) *qjm {
	b.Helper()
	q := newCluster(b, count, change)
	var err error
	q.writer, err = q.client.OpenWriter(b.Context(), journalName, libqjm.WriterOptions{})
	must(b, err)
	return q
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// await looks again every few milliseconds until cond holds.
func await(b *testing.B, what string, cond func() bool) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), benchPatience)
	defer cancel()
	must(b, until(ctx, what, func() (bool, error) { return cond(), nil }))
}

// journalID returns the id of a journal; its directory at each node is called so.
func (q *qjm) journalID(b *testing.B, name string) segments.JournalID {
	b.Helper()
	list, err := q.client.Journals(b.Context())
	must(b, err)
	i := slices.IndexFunc(list, func(j libqjm.JournalInfo) bool { return j.Name == name })
	if i < 0 {
		b.Fatal("no journal ", name)
	}
	id, err := segments.ParseJournalID(list[i].ID)
	must(b, err)
	return id
}

func (q *qjm) segmentsDir(i int, id segments.JournalID) string {
	return filepath.Join(q.opts[i].DataDir, "journals", id.String(), "segments")
}

// finalized returns which finalized segments a node says that it holds, by where they end. It asks the node itself, not
// over the network; a node that is not ready yet holds none.
func (q *qjm) finalized(i int, id segments.JournalID) map[segments.Position]bool {
	out := map[segments.Position]bool{}
	list, err := rpc.AllSegments(context.Background(), id, q.nodes[i].Segments)
	for _, s := range list {
		if err == nil && s.State == recovery.Finalized {
			out[s.Last] = true
		}
	}
	return out
}

// holdsAll tells whether a node holds every finalized segment that another one holds.
func (q *qjm) holdsAll(i, of int, id segments.JournalID) bool {
	want := q.finalized(of, id)
	got := q.finalized(i, id)
	for end := range want {
		if !got[end] {
			return false
		}
	}
	return true
}

// standing returns how the writer stands, and how with one node.
func (q *qjm) standing(i int) (libqjm.WriterStatus, libqjm.ChannelStatus) {
	st := q.writer.Status()
	for _, ch := range st.Channels {
		if ch.Node == string(q.opts[i].ID) {
			return st, ch
		}
	}
	return st, libqjm.ChannelStatus{}
}

// awaitStep waits until a node is in step again under load: the writer's channel to it has nothing missing and follows,
// and it holds all finalized segments.
func (q *qjm) awaitStep(b *testing.B, i int, id segments.JournalID) {
	b.Helper()
	var before libqjm.TxID // what was committed when it was looked last, some milliseconds ago
	await(b, "the node to be in step", func() bool {
		st, ch := q.standing(i)
		ok := before > 0 && ch.InSync && ch.Acked >= before
		before = st.Committed
		return ok && q.holdsAll(i, 0, id)
	})
}

// traffic is callers that each append one transaction after the other until it is ended. It goes on while something is
// done to the cluster.
type traffic struct {
	done   atomic.Pointer[load.Histogram]
	cancel context.CancelFunc
	failed chan error
	work   sync.WaitGroup
}

func startTraffic(b *testing.B, callers, size int, add func(ctx context.Context, caller int, txn []byte) error) *traffic {
	ctx, cancel := context.WithCancel(context.Background())
	t := &traffic{cancel: cancel, failed: make(chan error, callers)}
	t.done.Store(new(load.Histogram))
	set := load.Payloads(64, size)
	for i := range callers {
		t.work.Go(func() {
			for last := time.Now(); ; {
				if err := add(ctx, i, set[i%len(set)]); err != nil {
					t.failed <- err
					return
				}
				now := time.Now()
				t.done.Load().Add(now.Sub(last), 1)
				last = now
			}
		})
	}
	b.Cleanup(func() { t.end() })
	return t
}

// appends is the usual traffic: all callers in one writer.
func (q *qjm) appends(b *testing.B, callers int) *traffic {
	return startTraffic(b, callers, 256, func(ctx context.Context, _ int, txn []byte) error { return q.Append(ctx, txn) })
}

// over returns how many were appended a second while f ran, and what each took.
func (t *traffic) over(b *testing.B, f func()) (perSecond float64, took *load.Histogram) {
	b.Helper()
	t.done.Store(new(load.Histogram))
	begin := time.Now()
	f()
	took = t.done.Swap(new(load.Histogram))
	elapsed := time.Since(begin)
	select {
	case err := <-t.failed:
		b.Fatal(err)
	default:
	}
	return float64(took.Count()) / elapsed.Seconds(), took
}

// rate is over of one window, after a moment to settle.
func (t *traffic) rate(b *testing.B) float64 {
	b.Helper()
	pause(settle)
	perSecond, _ := t.over(b, func() { pause(window) })
	return perSecond
}

func pause(d time.Duration) { <-time.After(d) }

func (t *traffic) end() { t.cancel(); t.work.Wait() }

// measure runs the harness's own load on a system for one window, and returns the rate.
func measure(b *testing.B, spec load.Spec, sys load.System, callers, size int) float64 {
	b.Helper()
	s, err := load.Run(b.Context(), spec, sys, load.Cell{
		Callers: callers, Size: size, Warm: settle, Duration: window, Dir: b.TempDir(),
	})
	must(b, err)
	return float64(s.Ops) / s.Elapsed.Seconds()
}

// table gathers figures of rounds, and reports the median of each, and of ratios the lowest, too.
type table struct {
	names  []string
	values map[string][]float64
}

func (t *table) add(name string, v float64) {
	if t.values == nil {
		t.values = map[string][]float64{}
	}
	if t.values[name] == nil {
		t.names = append(t.names, name)
	}
	t.values[name] = append(t.values[name], v)
}

func (t *table) report(b *testing.B) {
	b.ReportMetric(0, "ns/op") // rounds have a fixed length: it would say nothing
	for _, name := range t.names {
		b.ReportMetric(median(t.values[name]), name)
		if ratio, ok := strings.CutPrefix(name, "x-"); ok && b.N > 1 {
			b.ReportMetric(slices.Min(t.values[name]), "lowest-x-"+ratio)
		}
	}
}

func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

func quantile(of []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

func closeWriters(b *testing.B, ws []*libqjm.Writer) {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	errs := make([]error, len(ws))
	parallel(16, len(ws), func(i int) { errs[i] = ws[i].Close(ctx) })
	if err := errors.Join(errs...); err != nil {
		b.Log(err)
	}
}

// parallel does f for 0 to n-1, k at a time.
func parallel(k, n int, f func(i int)) {
	var work sync.WaitGroup
	var next atomic.Int64
	for range k {
		work.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	work.Wait()
}
