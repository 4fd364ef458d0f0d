package systems

import (
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorumjournal/qjm/bench/load"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/segments"
)

var catchUpGiB = flag.Float64("catchup-gib", 1, "what BenchmarkCatchUp has a node catch up; takes four times that of disk")

// BenchmarkCatchUp has a node that was not there while a journal was written catch up all of it, finalized segments of 64
// MiB with transactions of 256 B, and compares that with a plain copy of the same files on the same file system: pieces of
// a MiB, one sync for each file. The time is from the node's start until it holds all; what passes until it holds the
// first segment is shown beside it, as that does not grow with the journal. The copy is made before and
// after, and the mean counts. Both read files that were just written, so from memory as far as it goes.
func BenchmarkCatchUp(b *testing.B) {
	var figures table
	for b.Loop() {
		q := newCluster(b, nodes, nil)
		id := q.journalID(b, journalName)
		await(b, "the last node to be ready", func() bool { return q.nodes[faulty].Ready() == nil })
		must(b, q.stopNode(b.Context(), faulty))
		q.fill(b, int(*catchUpGiB*(1<<30)))
		copied, before := copyFiles(b, q.segmentsDir(0, id))
		begin := time.Now()
		must(b, q.startNode(b.Context(), faulty))
		await(b, "the first segment", func() bool { return len(q.finalized(faulty, id)) > 0 })
		first := time.Since(begin)
		await(b, "all segments", func() bool { return q.holdsAll(faulty, 0, id) })
		took := time.Since(begin)
		_, after := copyFiles(b, q.segmentsDir(0, id))
		must(b, q.Close())
		for _, o := range q.opts {
			must(b, os.RemoveAll(o.DataDir))
		}
		plain := (before + after) / 2
		figures.add("copy-MB/s", float64(copied)/1e6/plain.Seconds())
		figures.add("catch-up-MB/s", float64(copied)/1e6/took.Seconds())
		figures.add("s-to-first", first.Seconds())
		figures.add("x-copy", plain.Seconds()/took.Seconds())
	}
	figures.report(b)
}

// fill writes so many bytes of transactions of 256 B, and finalizes them.
func (q *qjm) fill(b *testing.B, bytes int) {
	b.Helper()
	const size, batch = 256, 1024
	w, err := q.client.OpenWriter(b.Context(), journalName, libqjm.WriterOptions{})
	must(b, err)
	set := load.Payloads(batch, size)
	var f libqjm.Future
	for n := 0; n < bytes; n += size * batch {
		f, err = w.AppendBatchAsync(b.Context(), set)
		must(b, err)
	}
	_, err = f.Wait(b.Context())
	must(b, errors.Join(err, w.Close(b.Context())))
}

// copyFiles copies the finalized segments of a directory, and removes the copy.
func copyFiles(b *testing.B, from string) (bytes int64, took time.Duration) {
	b.Helper()
	names, err := os.ReadDir(from)
	must(b, err)
	to := b.TempDir()
	begin := time.Now()
	for _, n := range names {
		if name, ok := segments.ParseName(n.Name()); !ok || name.Kind != segments.NameFinalized {
			continue
		}
		size, err := copyFile(filepath.Join(from, n.Name()), filepath.Join(to, n.Name()))
		must(b, err)
		bytes += size
	}
	took = time.Since(begin)
	must(b, os.RemoveAll(to))
	return bytes, took
}

func copyFile(from, to string) (size int64, err error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	// Bare Reader and Writer: else the kernel would copy by itself, or share the blocks.
	size, err = io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{in}, make([]byte, 1<<20))
	return size, errors.Join(err, out.Sync())
}
