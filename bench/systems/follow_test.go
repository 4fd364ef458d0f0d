package systems

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorumjournal/qjm/bench/load"
	"github.com/quorumjournal/qjm/libqjm"
)

// BenchmarkFollow is how long after Append has returned a reader that follows has the transaction in its hand: with one
// append every 10 ms, and under 256 callers, beside what their appends take. A transaction that the reader has first
// counts as 0.
func BenchmarkFollow(b *testing.B) {
	b.Run("idle", func(b *testing.B) {
		benchFollow(b, 1, 10*time.Millisecond)
	})
	b.Run("load", func(b *testing.B) {
		benchFollow(b, 256, 0)
	})
}

// followMax bounds the transactions that are looked at in one run.
const followMax = 1 << 23

func benchFollow(b *testing.B, callers int, every time.Duration) {
	q := newWriter(b, nodes, nil)
	// When each transaction was acknowledged and when it was in the reader's hand, by txid, since begin; 0: not yet.
	committed, held := make([]atomic.Int64, followMax), make([]int64, followMax)
	begin := time.Now()
	var last atomic.Uint64 // how far the reader is
	ctx, cancel := context.WithCancel(b.Context())
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	r, err := q.client.OpenReader(ctx, journalName, libqjm.ReaderOptions{Follow: true})
	must(b, err)
	reading.Go(func() {
		defer func() { _ = r.Close() }()
		for txn, err := range r.All(ctx) {
			if err != nil || txn.ID >= followMax {
				return
			}
			held[txn.ID] = int64(time.Since(begin))
			last.Store(uint64(txn.ID))
		}
	})
	t := startTraffic(b, callers, 256, func(ctx context.Context, _ int, txn []byte) error {
		id, err := q.writer.Append(ctx, txn)
		if err == nil && id < followMax {
			committed[id].Store(int64(time.Since(begin)))
		}
		if every > 0 {
			pause(every)
		}
		return err
	})
	var figures table
	for b.Loop() {
		pause(settle)
		from := q.writer.Committed() + 1
		rate, took := t.over(b, func() { pause(window) })
		to := min(q.writer.Committed(), followMax-1)
		await(b, "the reader", func() bool { return last.Load() >= uint64(to) })
		var h load.Histogram
		for id := from; id <= to; id++ {
			if at := committed[id].Load(); at > 0 {
				h.Add(time.Duration(held[id]-at), 1)
			}
		}
		figures.add("txns/s", rate)
		figures.add("p50-ms", millis(h.Quantile(0.5)))
		figures.add("p99-ms", millis(h.Quantile(0.99)))
		if every == 0 {
			figures.add("append-p50-ms", millis(took.Quantile(0.5)))
			figures.add("append-p99-ms", millis(took.Quantile(0.99)))
			figures.add("x-append-p99", float64(h.Quantile(0.99))/float64(took.Quantile(0.99)))
		}
	}
	t.end()
	figures.report(b)
}
