package systems

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/quorumjournal/qjm/bench/load"
	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/osfs"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// BenchmarkStart starts a node that holds many journals of many segments each, until it is ready, and looks at what it
// takes then: anonymous memory, and processor time while nothing happens.
func BenchmarkStart(b *testing.B) {
	const journals, segs = 1000, 100
	addrs, err := freeAddrs(1)
	if err != nil {
		b.Fatal(err)
	}
	opts := journalnode.Options{
		ID: "n1", DataDir: b.TempDir(), Listen: addrs[0],
		InitialCluster: []journalnode.Peer{{ID: quorum.NodeID("n1"), Addr: addrs[0]}},
	}
	n, err := journalnode.Start(b.Context(), opts)
	if err != nil {
		b.Fatal(err)
	}
	client, err := libqjm.Dial(b.Context(), libqjm.Options{Endpoints: addrs})
	if err != nil {
		b.Fatal(err)
	}
	for i := range journals {
		if err := client.CreateJournal(b.Context(), fmt.Sprintf("j%04d", i)); err != nil {
			b.Fatal(err)
		}
	}
	if err := client.Close(); err != nil {
		b.Fatal(err)
	}
	if err := n.Stop(b.Context()); err != nil {
		b.Fatal(err)
	}
	dirs, err := os.ReadDir(filepath.Join(opts.DataDir, "journals"))
	if err != nil || len(dirs) != journals {
		b.Fatal(len(dirs), err)
	}
	for _, d := range dirs {
		fillJournal(b, filepath.Join(opts.DataDir, "journals", d.Name(), "segments"), d.Name(), segs)
	}
	var mem, idle float64
	for b.Loop() {
		n, err := journalnode.Start(b.Context(), opts)
		if err != nil {
			b.Fatal(err)
		}
		for n.Ready() != nil {
			<-time.After(time.Millisecond)
		}
		b.StopTimer()
		runtime.GC()
		if m, err := load.AnonMemory(); err == nil {
			mem = max(mem, float64(m)/(1<<20))
		}
		idle += idleCPU(b, opts.DataDir, time.Second, 5*time.Second)
		if m, err := load.AnonMemory(); err == nil {
			mem = max(mem, float64(m)/(1<<20))
		}
		if err := n.Stop(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(mem, "MiB")
	b.ReportMetric(idle/float64(b.N)*100, "idle-%core")
}

// BenchmarkIdle runs three nodes with many journals that nobody uses, and looks at what a node takes then: once they have
// compared what they hold, for longer than anything is done that is done rarely.
func BenchmarkIdle(b *testing.B) {
	const journals = 1000
	var mem, idle float64
	for range b.N { // what is measured is no time
		sys, err := startQJM(b.Context(), load.Env{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		q := sys.(*qjm)
		for i := range journals {
			name := fmt.Sprintf("j%04d", i)
			if err := q.client.CreateJournal(b.Context(), name); err != nil {
				b.Fatal(err)
			}
			if i%10 > 0 {
				continue
			}
			w, err := q.client.OpenWriter(b.Context(), name, libqjm.WriterOptions{})
			if err == nil {
				_, err = w.Append(b.Context(), []byte("transaction"))
			}
			if err == nil {
				err = w.Close(b.Context())
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		if err := q.writer.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		idle += idleCPU(b, b.TempDir(), 30*time.Second, 65*time.Second) / float64(len(q.nodes))
		if m, err := load.AnonMemory(); err == nil {
			mem = max(mem, float64(m)/(1<<20)/float64(len(q.nodes)))
		}
		q.writer = nil
		if err := q.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(mem, "MiB/node")
	b.ReportMetric(idle/float64(b.N)*100, "idle-%core/node")
}

// idleCPU is the share of a core that the process takes while nobody asks for anything.
func idleCPU(b *testing.B, dir string, settle, window time.Duration) float64 {
	<-time.After(settle)
	before, err := load.ReadUsage(dir)
	if err != nil {
		b.Fatal(err)
	}
	<-time.After(window)
	after, err := load.ReadUsage(dir)
	if err != nil {
		b.Fatal(err)
	}
	return (after.CPU - before.CPU).Seconds() / after.At.Sub(before.At).Seconds()
}

// unsynced makes files without waiting for the disk.
type unsynced struct{ vfs.FS }

func (u unsynced) SyncDir(string) error { return nil }
func (u unsynced) Create(name string) (vfs.File, error) {
	f, err := u.FS.Create(name)
	return unsyncedFile{f}, err
}
func (u unsynced) OpenWrite(name string) (vfs.File, error) {
	f, err := u.FS.OpenWrite(name)
	return unsyncedFile{f}, err
}

type unsyncedFile struct{ vfs.File }

func (unsyncedFile) Sync() error { return nil }

// fillJournal writes finalized segments of a transaction each into a journal of a node that does not run.
func fillJournal(b *testing.B, dir, name string, count int) {
	id, err := segments.ParseJournalID(name)
	if err != nil {
		b.Fatal(err)
	}
	d, err := store.Open(unsynced{osfs.New("")}, dir, id, store.Options{PreallocateBytes: 8 << 10})
	if err != nil {
		b.Fatal(err)
	}
	prev := segments.End{}
	for range count {
		w, err := d.Create(segments.Header{Journal: id, First: prev.Next(), Epoch: 1, Prev: prev})
		if err != nil {
			b.Fatal(err)
		}
		var fb segments.Builder
		fb.Reset(prev.Next(), fencing.Epoch(1))
		_ = fb.Add([]byte("transaction"))
		f, err := fb.Seal(prev.Digest, segments.SealOptions{})
		if err == nil {
			err = w.Append(f)
		}
		if err == nil {
			err = w.Commit()
		}
		prev = segments.End{First: f.First(), Last: f.Last(), Digest: f.Digest()}
		if err == nil {
			_, err = w.Finalize(prev)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
