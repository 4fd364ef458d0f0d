package systems

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/osfs"
	"github.com/quorumjournal/qjm/journalnode"
)

// faulty is the node that is dead, slow or behind. It is no other than the rest for the data plane; it may lead the
// catalog, which appends never wait for.
const faulty = 2

// BenchmarkDegraded compares what 256 callers of 256 B get with one node of three not well, to what they get right
// before in the same cluster. The callers never stop. On one machine a dead node gives its share of the
// processors to the others, and one that catches up takes more than its share: three machines would do neither.
func BenchmarkDegraded(b *testing.B) {
	b.Run("dead", benchDead)
	b.Run("slow", benchSlow)
	b.Run("restart", benchRestart)
}

func benchDead(b *testing.B) {
	q := newWriter(b, nodes, nil)
	id := q.journalID(b, journalName)
	t := q.appends(b, 256)
	var figures table
	for b.Loop() {
		healthy := t.rate(b)
		must(b, q.stopNode(b.Context(), faulty))
		with := t.rate(b)
		must(b, q.startNode(b.Context(), faulty))
		q.awaitStep(b, faulty, id) // the next round begins healthy
		figures.add("healthy-txns/s", healthy)
		figures.add("dead-txns/s", with)
		figures.add("x-healthy", with/healthy)
	}
	t.end()
	figures.report(b)
}

// benchSlow: all syncs of one node take ten times what they took, as on a disk that is about to fail. The node's part
// of the catalog's group is in memory here, as on all file systems but the operating system's own; with healthy
// disks and with a slow one alike.
func benchSlow(b *testing.B) {
	const times = 10
	const toFallBehind = 12 * time.Second // the writer's ring is full before, if the node cannot keep up at all
	disk := &slowDisk{FS: osfs.New("")}
	q := newWriter(b, nodes, func(i int, o *journalnode.Options) {
		if i == faulty {
			o.FS = disk
		}
	})
	id := q.journalID(b, journalName)
	t := q.appends(b, 256)
	var figures table
	for b.Loop() {
		disk.times.Store(1)
		q.awaitStep(b, faulty, id)
		healthy := t.rate(b)
		disk.times.Store(times)
		pause(toFallBehind)
		with := t.rate(b)
		st, ch := q.standing(faulty)
		figures.add("healthy-txns/s", healthy)
		figures.add("slow-txns/s", with)
		figures.add("slow-behind-txns", float64(st.Committed-min(st.Committed, ch.Acked)))
		figures.add("slow-behind-segments", float64(len(q.finalized(0, id))-len(q.finalized(faulty, id))))
		figures.add("x-healthy", with/healthy)
	}
	disk.times.Store(1)
	t.end()
	figures.report(b)
}

// benchRestart: a node was away for some seconds; measured from its start until it is in step.
func benchRestart(b *testing.B) {
	const away = 5 * time.Second
	q := newWriter(b, nodes, nil)
	id := q.journalID(b, journalName)
	t := q.appends(b, 256)
	var figures table
	for b.Loop() {
		healthy := t.rate(b)
		must(b, q.stopNode(b.Context(), faulty))
		pause(away)
		begin := time.Now()
		with, _ := t.over(b, func() {
			must(b, q.startNode(b.Context(), faulty))
			q.awaitStep(b, faulty, id)
		})
		figures.add("healthy-txns/s", healthy)
		figures.add("catching-up-txns/s", with)
		figures.add("s-to-step", time.Since(begin).Seconds())
		figures.add("x-healthy", with/healthy)
	}
	t.end()
	figures.report(b)
}

// slowDisk makes each sync take as many times as long as it took. Writes go to the page cache on any disk.
type slowDisk struct {
	vfs.FS
	times atomic.Int64
}

func (d *slowDisk) slowly(sync func() error) error {
	begin := time.Now()
	err := sync()
	if more := d.times.Load() - 1; more > 0 {
		pause(time.Since(begin) * time.Duration(more))
	}
	return err
}

func (d *slowDisk) SyncDir(dir string) error {
	return d.slowly(func() error { return d.FS.SyncDir(dir) })
}

func (d *slowDisk) Create(name string) (vfs.File, error)    { return d.file(d.FS.Create(name)) }
func (d *slowDisk) OpenWrite(name string) (vfs.File, error) { return d.file(d.FS.OpenWrite(name)) }

func (d *slowDisk) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return slowFile{f, d}, nil
}

type slowFile struct {
	vfs.File
	d *slowDisk
}

func (f slowFile) Sync() error { return f.d.slowly(f.File.Sync) }
