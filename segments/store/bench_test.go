package store

import (
	"fmt"
	"testing"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/internal/vfs/osfs"
	"github.com/quorumjournal/qjm/segments"
)

// BenchmarkAppendCommit appends one frame and commits it. On osfs it measures the disk, on memfs it
// shows what the code itself takes.
func BenchmarkAppendCommit(b *testing.B) {
	for _, size := range []int{256, 20 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("mem/%dB", size), func(b *testing.B) { benchAppend(b, memfs.New(), size) })
		b.Run(fmt.Sprintf("os/%dB", size), func(b *testing.B) { benchAppend(b, osfs.New(b.TempDir()), size) })
	}
}

func benchAppend(b *testing.B, fsys vfs.FS, size int) {
	d, err := Open(fsys, "j", testJournal, Options{})
	if err != nil {
		b.Fatal(err)
	}
	var w *Writer
	var bld segments.Builder
	var f segments.Frame
	txn := make([]byte, size)
	prev := segments.End{}
	roll := func() {
		if w != nil {
			prev = segments.End{First: w.Header().First, Last: w.Last().TxID, Digest: w.Last().Digest}
			if _, err := w.Finalize(prev); err != nil {
				b.Fatal(err)
			}
			if err := d.Remove(prev.First); err != nil {
				b.Fatal(err)
			}
		}
		if w, err = d.Create(header(1, prev)); err != nil {
			b.Fatal(err)
		}
	}
	roll()
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for n := 0; b.Loop(); n += size {
		if n > 64<<20 {
			b.StopTimer()
			roll()
			n = 0
			b.StartTimer()
		}
		bld.Reuse(f.Bytes())
		bld.Reset(w.Last().TxID+1, w.Epoch())
		_ = bld.Add(txn)
		if f, err = bld.Seal(w.Last().Digest, segments.SealOptions{}); err != nil {
			b.Fatal(err)
		}
		if err := w.Append(f); err != nil {
			b.Fatal(err)
		}
		if err := w.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}
