package systems

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quorumjournal/qjm/bench/load"
	"github.com/quorumjournal/qjm/libqjm"
)

// BenchmarkFailover takes a journal over from a writer that is still there: fence, recover what it left in the open
// segment, start the next one, and have one transaction committed. The metrics are the median and the worst.
func BenchmarkFailover(b *testing.B) {
	for _, open := range []int{0, 1 << 20, 64 << 20} {
		b.Run(fmt.Sprintf("open=%dMiB", open>>20), func(b *testing.B) {
			sys, err := startQJM(b.Context(), load.Env{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			q := sys.(*qjm)
			defer func() { _ = q.Close() }()
			opts := libqjm.WriterOptions{SegmentBytes: 1 << 40, SegmentAge: time.Hour}
			set := load.Payloads(1024, 256)
			var took []time.Duration
			for b.Loop() {
				b.StopTimer()
				w, err := q.client.OpenWriter(b.Context(), journalName, opts)
				if err != nil {
					b.Fatal(err)
				}
				var f libqjm.Future
				for n := 0; n < open; n += len(set) * 256 {
					if f, err = w.AppendBatchAsync(b.Context(), set); err != nil {
						b.Fatal(err)
					}
				}
				if open > 0 {
					if _, err := f.Wait(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				begin := time.Now()
				if q.writer, err = q.client.OpenWriter(b.Context(), journalName, opts); err != nil {
					b.Fatal(err)
				}
				if _, err := q.writer.Append(b.Context(), set[0]); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1e3, "ms/p50")
			b.ReportMetric(float64(took[len(took)-1].Microseconds())/1e3, "ms/worst")
		})
	}
}

// BenchmarkFailoverBehind is BenchmarkFailover, with an empty tail, of a journal of 10 finalized segments and of one of
// 10,000, in turn in one cluster.
func BenchmarkFailoverBehind(b *testing.B) {
	q := newCluster(b, nodes, nil)
	q.longJournals(b, map[string]int{"few": 10, "many": manySegments})
	takeover := func(name string) float64 {
		begin := time.Now()
		w, err := q.client.OpenWriter(b.Context(), name, libqjm.WriterOptions{})
		must(b, err)
		_, err = w.Append(b.Context(), []byte("transaction"))
		must(b, err)
		return millis(time.Since(begin))
	}
	var few, many []float64
	for b.Loop() {
		few, many = append(few, takeover("few")), append(many, takeover("many"))
	}
	b.ReportMetric(median(few), "10-ms/p50")
	b.ReportMetric(quantile(few, 0.99), "10-ms/p99")
	b.ReportMetric(median(many), "10000-ms/p50")
	b.ReportMetric(quantile(many, 0.99), "10000-ms/p99")
	b.ReportMetric(median(many)/median(few), "x-10-p50")
	b.ReportMetric(quantile(many, 0.99)/quantile(few, 0.99), "x-10-p99")
}
