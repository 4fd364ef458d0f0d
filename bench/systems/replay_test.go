package systems

import (
	"context"
	"testing"

	"github.com/quorumjournal/qjm/bench/load"
	"github.com/quorumjournal/qjm/libqjm"
)

// BenchmarkReplay reads a journal from its start, over the network, each frame verified: what a standby or a restarted
// process waits for. The metric is transactions of 256 B a second.
func BenchmarkReplay(b *testing.B) {
	const txns, batch = 1 << 20, 1024
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	sys, err := startQJM(ctx, load.Env{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	q := sys.(*qjm)
	defer func() { _ = q.Close() }()
	set := load.Payloads(batch, 256)
	var f libqjm.Future
	for range txns / batch {
		if f, err = q.writer.AppendBatchAsync(ctx, set); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := f.Wait(ctx); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r, err := q.client.OpenReader(ctx, journalName, libqjm.ReaderOptions{Linearizable: true})
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for _, err := range r.All(ctx) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if err := r.Close(); err != nil || n != txns {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(txns)*float64(b.N)/b.Elapsed().Seconds(), "txns/s")
}
