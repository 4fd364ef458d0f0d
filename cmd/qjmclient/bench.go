package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/libqjm"
)

type benchJSON struct {
	Schema      string      `json:"schema"`
	Journal     string      `json:"journal"`
	Epoch       string      `json:"epoch"`
	Size        string      `json:"size"`
	Concurrency string      `json:"concurrency"`
	DurationS   float64     `json:"duration_s"`
	Ops         string      `json:"ops"`
	OpsPerSec   float64     `json:"ops_per_sec"`
	MBPerSec    float64     `json:"mb_per_sec"`
	Latency     latencyJSON `json:"latency_us"`
	Errors      string      `json:"errors"`
}

type latencyJSON struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

func (a *app) benchCmd() *cobra.Command {
	size, workers, duration := 256, 64, 5*time.Second
	c := &cobra.Command{
		Use: "bench NAME", Short: "Measure appends: how many a second, how long each", Args: journalName,
		Long: `Become the journal's writer and append random transactions from several callers at once, each
waiting until its transaction is committed. They stay in the journal: use one made for it.`,
		Example: "  qjmclient journal create bench\n  qjmclient bench bench --size 1024 --concurrency 16 --duration 10s",
	}
	c.Flags().IntVar(&size, "size", size, "bytes of one transaction")
	c.Flags().IntVar(&workers, "concurrency", workers, "callers at once")
	c.Flags().DurationVar(&duration, "duration", duration, "how long")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if size < 1 || size > libqjm.DefaultMaxTxnBytes || workers < 1 || workers > 1<<16 || duration <= 0 {
			return cli.Usagef("want --size from 1 to %d, --concurrency from 1 to %d, --duration above zero", libqjm.DefaultMaxTxnBytes, 1<<16)
		}
		a.subject.Does = cli.Writes
		if a.dryRun {
			return a.withClient(cmd, args[0], func(ctx context.Context, cl *libqjm.Client) error {
				return a.planTakeover(ctx, cmd, cl, args[0], "bench")
			})
		}
		b := &bench{size: size, workers: workers, duration: duration}
		return b.run(a, cmd, args[0])
	}
	return a.mutating(c, ofJournal)
}

type bench struct {
	size, workers int
	duration      time.Duration

	hist   histogram
	errs   atomic.Int64
	first  atomic.Pointer[error]
	cancel context.CancelFunc
}

func (b *bench) run(a *app, cmd *cobra.Command, name string) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
	defer cancel()
	c, err := a.dial(ctx, cmd.ErrOrStderr(), name)
	if err != nil {
		return err
	}
	stop := a.waiting(ctx, cmd, c, name)
	w, err := c.OpenWriter(ctx, name, libqjm.WriterOptions{})
	stop()
	if err != nil {
		return errors.Join(err, c.Close())
	}
	took := b.measure(a, cmd, w)
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
	defer cancel()
	closeErr := w.Close(ctx)
	out := b.result(name, w.Epoch(), took)
	err = a.print(cmd, out, func(w io.Writer) error { return out.table(w, b) })
	if e := b.first.Load(); e != nil {
		closeErr = *e
	}
	if cmd.Context().Err() != nil {
		closeErr = cli.ErrInterrupted
	}
	return errors.Join(err, closeErr, c.Close())
}

// measure runs the callers for the duration, and returns how long it really was.
func (b *bench) measure(a *app, cmd *cobra.Command, w *libqjm.Writer) time.Duration {
	progress := cli.NewProgress(cmd.ErrOrStderr())
	defer progress.Done()
	begin := time.Now()
	end := begin.Add(b.duration)
	// What is under way at the end is waited for, but not longer than --timeout.
	ctx, cancel := context.WithDeadline(cmd.Context(), end.Add(a.timeout))
	defer cancel()
	b.cancel = cancel
	var wg sync.WaitGroup
	for range b.workers {
		wg.Go(func() { b.worker(ctx, w, end) })
	}
	if progress.Enabled() {
		stop := every(progressEvery, progressEvery, func() {
			n := int64(b.hist.count())
			progress.Show(int64(time.Since(begin)), int64(b.duration), fmt.Sprintf("%s appends, %s", cli.Count(n), progress.Rate(n)))
		})
		defer stop()
	}
	wg.Wait()
	return time.Since(begin)
}

const progressEvery = 200 * time.Millisecond

func (b *bench) worker(ctx context.Context, w *libqjm.Writer, end time.Time) {
	txn := make([]byte, b.size)
	for i := range txn {
		txn[i] = byte(rand.Uint32())
	}
	for t := time.Now(); t.Before(end); {
		_, err := w.Append(ctx, txn)
		now := time.Now()
		if err != nil {
			b.errs.Add(1)
			if b.first.CompareAndSwap(nil, &err) {
				b.cancel()
			}
			return
		}
		b.hist.add(now.Sub(t))
		t = now
	}
}

func (b *bench) result(name string, epoch libqjm.Epoch, took time.Duration) benchJSON {
	n := b.hist.count()
	rate := float64(n) / took.Seconds()
	return benchJSON{
		Schema: cli.Schema("bench"), Journal: name, Epoch: cli.U64(epoch), Size: cli.U64(uint64(b.size)),
		Concurrency: cli.U64(uint64(b.workers)), DurationS: took.Seconds(), Ops: cli.U64(n), OpsPerSec: rate,
		MBPerSec: rate * float64(b.size) / 1e6, Errors: cli.U64(uint64(b.errs.Load())),
		Latency: latencyJSON{
			Mean: b.hist.mean(), P50: b.hist.quantile(0.5), P90: b.hist.quantile(0.9), P99: b.hist.quantile(0.99),
			P999: b.hist.quantile(0.999), Max: micros(b.hist.max.Load()),
		},
	}
}

func (r benchJSON) table(w io.Writer, b *bench) error {
	_, err := fmt.Fprintf(w, `%s appends of %s bytes by %s callers in %.1f s, errors: %s
throughput   %.0f appends/s   %.2f MB/s
latency      mean %s  p50 %s  p90 %s  p99 %s  p99.9 %s  max %s
`, r.Ops, r.Size, r.Concurrency, r.DurationS, r.Errors, r.OpsPerSec, r.MBPerSec,
		ms(r.Latency.Mean), ms(r.Latency.P50), ms(r.Latency.P90), ms(r.Latency.P99), ms(r.Latency.P999), ms(r.Latency.Max))
	return err
}

// ms prints a latency; seconds where it is that long, so that the line stays one.
func ms(us float64) string {
	if us >= 1e6 {
		return fmt.Sprintf("%.3g s", us/1e6)
	}
	return fmt.Sprintf("%.3g ms", us/1000)
}

func micros(ns int64) float64 { return float64(ns) / 1000 }

// histogram counts durations in buckets 1/32 wide, relative to their size. All methods may be called
// concurrently.
type histogram struct {
	buckets [64 * subBuckets]atomic.Uint64
	sum     atomic.Int64
	max     atomic.Int64
}

const (
	subBits    = 5
	subBuckets = 1 << subBits
)

func (h *histogram) add(d time.Duration) {
	ns := uint64(max(d, 0))
	h.buckets[bucketOf(ns)].Add(1)
	h.sum.Add(int64(ns))
	for m := h.max.Load(); int64(ns) > m && !h.max.CompareAndSwap(m, int64(ns)); m = h.max.Load() {
	}
}

func bucketOf(ns uint64) int {
	if ns < subBuckets {
		return int(ns)
	}
	exp := bits.Len64(ns) - 1 - subBits
	return (exp+1)<<subBits + int(ns>>exp)&(subBuckets-1)
}

// upper is the largest value of a bucket.
func upper(i int) uint64 {
	if i < subBuckets {
		return uint64(i)
	}
	exp := i>>subBits - 1
	return (uint64(i&(subBuckets-1)|subBuckets)+1)<<exp - 1
}

func (h *histogram) count() uint64 {
	n := uint64(0)
	for i := range h.buckets {
		n += h.buckets[i].Load()
	}
	return n
}

func (h *histogram) mean() float64 {
	n := h.count()
	if n == 0 {
		return 0
	}
	return micros(h.sum.Load()) / float64(n)
}

func (h *histogram) quantile(q float64) float64 {
	n := h.count()
	if n == 0 {
		return 0
	}
	want := uint64(q*float64(n)) + 1
	seen := uint64(0)
	for i := range h.buckets {
		if seen += h.buckets[i].Load(); seen >= want {
			return micros(min(int64(upper(i)), h.max.Load()))
		}
	}
	return micros(h.max.Load())
}
