package systems

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/quorumjournal/qjm/libqjm"
)

// newFiles is how long a load runs before it is measured, as a new segment's file has its room made first, in
// each of three nodes, and a thousand of them take seconds.
const newFiles = 10 * time.Second

// BenchmarkJournals compares the same 1,024 callers of 256 B over one journal, and spread over many, each with a writer
// of its own; all writers are one client's. One journal is measured while it is alone, so that what many cost just by
// being there counts against them; and once more beside them, which shows how much of the loss that is.
func BenchmarkJournals(b *testing.B) {
	const callers = 1024
	var figures table
	for b.Loop() {
		q := newWriter(b, nodes, nil)
		writers := []*libqjm.Writer{q.writer}
		over := func(n int) float64 {
			t := startTraffic(b, callers, 256, func(ctx context.Context, i int, txn []byte) error {
				_, err := writers[i%n].Append(ctx, txn)
				return err
			})
			defer t.end()
			pause(newFiles)
			return t.rate(b)
		}
		alone := over(1)
		figures.add("alone-txns/s", alone)
		for _, n := range []int{10, 100, 1000} {
			writers = append(writers, q.moreWriters(b, len(writers), n)...)
			rate := over(n)
			figures.add(fmt.Sprintf("%d-txns/s", n), rate)
			figures.add(fmt.Sprintf("x-alone-%d", n), rate/alone)
		}
		figures.add("x-alone-1-beside-999", over(1)/alone)
		closeWriters(b, writers[1:])
		must(b, q.Close())
	}
	figures.report(b)
}

// moreWriters makes the journals from one number up to another, and opens them.
func (q *qjm) moreWriters(b *testing.B, from, to int) []*libqjm.Writer {
	b.Helper()
	out, errs := make([]*libqjm.Writer, to-from), make([]error, to-from)
	parallel(16, to-from, func(i int) {
		name := fmt.Sprintf("j%04d", from+i)
		if errs[i] = q.create(b.Context(), name); errs[i] == nil {
			out[i], errs[i] = q.client.OpenWriter(b.Context(), name, libqjm.WriterOptions{})
		}
	})
	for _, err := range errs {
		must(b, err)
	}
	return out
}
