package systems

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/quorumjournal/qjm/bench/load"
)

// BenchmarkLarge compares transactions of 64 KiB with what the file system takes, in bytes of transactions a second: one
// writer with 64 MiB under way, and 16 callers that wait. Beside them are two rates of three files that are written at
// once, in pieces of a MiB (a frame of qjm, and 16 callers' transactions), each synced before the next one: what each
// file takes at its own pace until all three have everything, into room that was reserved before, as qjm's segments are;
// and the harness' floor, in step with the faster two and into files full of zeros. The bar is of the first.
func BenchmarkLarge(b *testing.B) {
	const size, callers = 64 << 10, 16
	q := newWriter(b, nodes, nil)
	floor, err := startFloorDisk(b.Context(), load.Env{Dir: b.TempDir()})
	must(b, err)
	b.Cleanup(func() { _ = floor.Close() })
	var figures table
	for b.Loop() {
		files := rawRate(b, callers*size, 512<<20)
		async := measure(b, qjmAsyncSpec, q, 1, size) * size
		calls := measure(b, qjmSpec, q, callers, size) * size
		step := measure(b, floorDiskSpec, floor, callers, size) * size
		figures.add("files-MB/s", files/1e6)
		figures.add("floor-MB/s", step/1e6)
		figures.add("async-MB/s", async/1e6)
		figures.add("16-callers-MB/s", calls/1e6)
		figures.add("x-files-async", async/files)
		figures.add("x-files-16-callers", calls/files)
		figures.add("x-floor-async", async/step)
		figures.add("x-floor-16-callers", calls/step)
	}
	figures.report(b)
}

// rawRate writes total bytes to each of three files at once, and returns the bytes a second of each.
func rawRate(b *testing.B, piece, total int) float64 {
	b.Helper()
	dir, data := b.TempDir(), load.Payloads(1, piece)[0]
	var files []*os.File
	for i := range nodes {
		f, err := os.Create(filepath.Join(dir, strconv.Itoa(i)))
		must(b, err)
		defer func() { _ = errors.Join(f.Close(), os.Remove(f.Name())) }()
		must(b, syscall.Fallocate(int(f.Fd()), 0, 0, int64(total)))
		must(b, f.Sync())
		files = append(files, f)
	}
	ended := make(chan error, nodes)
	begin := time.Now()
	for _, f := range files {
		go func() {
			var err error
			for off := 0; off < total && err == nil; off += piece {
				if _, err = f.WriteAt(data, int64(off)); err == nil {
					err = syscall.Fdatasync(int(f.Fd()))
				}
			}
			ended <- err
		}()
	}
	var errs []error
	for range files {
		errs = append(errs, <-ended)
	}
	must(b, errors.Join(errs...))
	return float64(total) / time.Since(begin).Seconds()
}
