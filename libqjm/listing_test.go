package libqjm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/snapshot"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
)

// listOn is what a client asks a node for.
func (c *catalog) listOn(i int, req rpc.ListRequest) error {
	c.Helper()
	n, err := c.Net.Dialer("client").Dial(c.ID(i))
	require.NoError(c, err)
	defer func() { require.NoError(c, n.Close()) }()
	return n.ListSnapshot(c.ctx, req)
}

// C1: it is listed when SaveSnapshot returns, by the catalog, on every node that has applied it; the same again
// changes nothing.
func TestC1_ListedWhenSaved(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		w := c.writer()
		c.segmentsTo(w, 20)
		snap, err := w.SaveSnapshot(c.ctx, 15, strings.NewReader("fifteen"))
		require.NoError(c, err)
		latest, err := c.cl.LatestSnapshot(c.ctx, "j")
		require.NoError(c, err)
		require.Equal(c, snap, latest)
		for i := range 3 {
			c.Until(time.Minute, "every node applies it", func() bool {
				l := c.list1(i).Listed
				return len(l) == 1 && l[0] == snap
			})
			require.NoError(c, c.listOn(i, rpc.ListRequest{Journal: c.id, ConfigVersion: 1, Snapshot: snap}))
		}
		require.NoError(c, w.Close(c.ctx))
		for i := range 3 {
			c.StopNode(i)
			c.start(i)
		}
		for i := range 3 {
			c.Until(time.Minute, "and after a restart", func() bool { return len(c.list1(i).Listed) == 1 })
		}
		require.Equal(c, []byte("fifteen"), c.open(15))
	})
}

// C1: a client's word is no evidence. The node asks those who are said to hold it.
func TestC1_AWordIsNoEvidence(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		w := c.writer()
		c.segmentsTo(w, 20)
		c.everywhere(20)
		snap := c.save(10, []byte("ten"))
		for name, lie := range map[string]func(*rpc.ListRequest){
			"nobody holds it":        func(r *rpc.ListRequest) { r.Snapshot.TxID, r.Snapshot.At.TxID = 20, 20 },
			"another content":        func(r *rpc.ListRequest) { r.Snapshot.Checksum[0]++ },
			"another history":        func(r *rpc.ListRequest) { r.Snapshot.At.Digest[0]++ },
			"another writer's epoch": func(r *rpc.ListRequest) { r.Snapshot.Epoch++ },
		} {
			req := rpc.ListRequest{Journal: c.id, ConfigVersion: 1, Snapshot: snap}
			lie(&req)
			require.ErrorIs(c, c.listOn(1, req), libqjm.ErrNoQuorum, name)
		}
		for _, version := range []uint64{0, 2} {
			err := c.listOn(0, rpc.ListRequest{Journal: c.id, ConfigVersion: version, Snapshot: libqjm.Snapshot{
				TxID: 20, At: snap.At, Epoch: 1, Size: 1,
			}})
			require.Error(c, err, "config %d", version)
		}
		require.Len(c, c.list1(0).Listed, 1)
	})
}

// C1, C4: to be asked whether it holds a snapshot ends no upload: a half-done save of somebody else's is none.
func TestC1_AskedIsNotSaved(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		w := c.writer()
		c.segmentsTo(w, 20)
		c.everywhere(20)
		snap := c.save(10, []byte("ten"))
		f, err := c.cl.SaveSnapshot(c.ctx, "j", 20, strings.NewReader("twenty"))
		require.NoError(c, err)
		require.NotEqual(c, snap, f)

		st, err := c.Nodes[0].State(c.ctx, c.id)
		require.NoError(c, err)
		h := rpc.Header{Journal: c.id, ConfigVersion: 1, Incarnation: st.Incarnation}
		c.write(w, 21, 30)
		c.Until(time.Minute, "n1 knows that it is committed", func() bool {
			st, err := c.Nodes[0].State(c.ctx, c.id)
			return err == nil && st.Answer.Floor.At.TxID >= 30
		})
		st, err = c.Nodes[0].State(c.ctx, c.id)
		require.NoError(c, err)
		content := []byte("thirty")
		half := libqjm.Snapshot{TxID: 30, At: st.Answer.Floor.At, Size: int64(len(content)), Checksum: sha256.Sum256(content), Epoch: 1}
		_, err = c.Nodes[0].BeginSnapshot(c.ctx, rpc.SnapshotUpload{Header: h, ID: half.ID(), Size: half.Size})
		require.NoError(c, err)
		_, err = c.Nodes[0].PutSnapshot(c.ctx, rpc.SnapshotPiece{
			Journal: c.id, ID: half.ID(), Bytes: content, CRC: crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli)),
		})
		require.NoError(c, err)
		err = c.Nodes[0].FinishSnapshot(c.ctx, rpc.SnapshotEnd{Header: h, Snapshot: half, HeldOnly: true})
		require.ErrorIs(c, err, libqjm.ErrNoSnapshot)
		require.NoError(c, c.Nodes[0].FinishSnapshot(c.ctx, rpc.SnapshotEnd{Header: h, Snapshot: half}))
		require.NoError(c, c.Nodes[0].FinishSnapshot(c.ctx, rpc.SnapshotEnd{Header: h, Snapshot: half, HeldOnly: true}))
	})
}

// C1: one that a minority holds is not listed, though a majority held it a moment ago; with the others back it is.
func TestC1_HoldersAreAskedAnew(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		w := c.writer()
		c.segmentsTo(w, 20)
		c.everywhere(20)
		var held libqjm.Snapshot
		c.cl.SetLister(func(_ context.Context, r rpc.ListRequest) error {
			held = r.Snapshot
			return errors.New("by this test")
		})
		_, err := c.cl.SaveSnapshot(c.ctx, "j", 15, strings.NewReader("fifteen"))
		require.ErrorIs(c, err, libqjm.ErrNotListed)
		c.cl.SetLister(nil)
		for _, i := range []int{1, 2} { // the group has its majority, the snapshot has not
			c.Net.Partition(c.ID(0), c.ID(i))
		}
		c.StopNode(1)
		dir := c.JournalDir(1) + "/snapshots/"
		require.NoError(c, c.Disks[1].Remove(dir+pad(15)+".snap"))
		require.NoError(c, c.Disks[1].SyncDir(dir))
		c.start(1)
		req := rpc.ListRequest{Journal: c.id, ConfigVersion: 1, Snapshot: held}
		c.Until(time.Minute, "the group is up again, and says so", func() bool {
			err := c.listOn(2, req)
			require.Error(c, err)
			return errors.Is(err, libqjm.ErrNoQuorum)
		})
		require.Empty(c, c.list1(2).Listed)
		c.Net.HealAll()
		c.Until(time.Minute, "n1 is heard again", func() bool { return c.listOn(2, req) == nil })
	})
}

// C1: the config moved on between the upload and the listing. Its holders are counted anew, under the newer one.
func TestC1_ConfigMovedOn(t *testing.T) {
	runSnapshots(t, testcluster.Options{Nodes: 4}, func(c *catalog) {
		_, err := c.cl.CreateJournalWith(c.ctx, "k", libqjm.CreateOptions{Replicas: 3})
		require.NoError(c, err)
		w, err := c.cl.OpenWriter(c.ctx, "k", libqjm.WriterOptions{})
		require.NoError(c, err)
		for range 3 {
			_, err = w.Append(c.ctx, []byte("x"))
			require.NoError(c, err)
			require.NoError(c, w.Roll(c.ctx))
		}
		out := ""
		for i := range 4 {
			if !contains(c.membersOf("k"), c.ID(i)) {
				out = c.ID(i)
			}
		}
		to := append(c.membersOf("k")[1:], out)
		asked := 0
		c.cl.SetLister(func(ctx context.Context, r rpc.ListRequest) error {
			if asked++; asked == 1 {
				_, err := c.cl.ChangeMembers(ctx, "k", to, libqjm.ChangeOptions{})
				require.NoError(c, err)
				require.NoError(c, c.cl.WaitForChange(ctx, "k", nil))
			}
			err := c.listOn(0, r)
			if asked == 1 {
				require.ErrorIs(c, err, rpc.ErrConfig)
			}
			return err
		})
		snap, err := c.cl.SaveSnapshot(c.ctx, "k", 2, strings.NewReader("two"))
		require.NoError(c, err)
		require.Equal(c, 2, asked)
		latest, err := c.cl.LatestSnapshot(c.ctx, "k")
		require.NoError(c, err)
		require.Equal(c, snap, latest)
		require.NoError(c, w.Close(c.ctx))
	})
}

func contains(ids []string, id string) bool {
	for _, x := range ids {
		if x == id {
			return true
		}
	}
	return false
}

// C1, F3: a writer that is fenced between the upload and the listing has nothing listed.
func TestC1_FencedWriterListsNothing(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		w := c.writer()
		c.segmentsTo(w, 20)
		c.everywhere(20) // a node that lags takes no snapshot yet, and would take the other content later
		var later *libqjm.Writer
		c.cl.SetLister(func(_ context.Context, r rpc.ListRequest) error {
			later = c.writer()
			return c.listOn(0, r)
		})
		_, err := w.SaveSnapshot(c.ctx, 20, strings.NewReader("twenty"))
		require.ErrorIs(c, err, libqjm.ErrFenced)
		c.cl.SetLister(nil)
		_, err = c.cl.LatestSnapshot(c.ctx, "j")
		require.ErrorIs(c, err, libqjm.ErrNoSnapshot)

		// What nodes hold of it stands in the way of another content under that txid, and of no other.
		_, err = later.SaveSnapshot(c.ctx, 20, strings.NewReader("another"))
		require.ErrorIs(c, err, libqjm.ErrSnapshotExists)
		snap, err := later.SaveSnapshot(c.ctx, 20, strings.NewReader("twenty"))
		require.NoError(c, err)
		require.Less(c, snap.Epoch, later.Epoch())
		require.Equal(c, []byte("twenty"), c.open(20))
	})
}

// C2: what is listed comes from the node's own applied catalog. One that is cut off from the group holds the
// snapshot, hears of its listing from nobody else, and keeps its log until it has applied it.
func TestC2_OnlyTheAppliedCatalogCounts(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		w := c.writer()
		c.segmentsTo(w, 40)
		c.everywhere(40)
		c.Net.Partition(c.ID(2), c.ID(0))
		c.Net.Partition(c.ID(2), c.ID(1))
		c.save(35, state(1000))
		c.untilPurged(30, 0, 1)
		pass(20 * time.Second)
		require.Len(c, c.list1(2).Held, 1)
		require.Empty(c, c.list1(2).Listed)
		require.Zero(c, c.list1(2).Purged)
		c.Net.HealAll()
		c.untilPurged(30, 2)
	})
}

// C2: a journal's policy says what is retained; where it says nothing, the node does.
func TestC2_PolicyRetains(t *testing.T) {
	all := func(_ int, o *journalnode.Options) { o.Retain.Txns, o.Retain.Bytes = 1<<40, 1<<40 }
	runSnapshots(t, testcluster.Options{Tune: all}, func(c *catalog) {
		w := c.writer()
		c.segmentsTo(w, 50)
		c.everywhere(50)
		c.save(45, state(10))
		pass(20 * time.Second)
		require.Zero(c, c.list1(0).Purged, "the node's own margin")
		require.NoError(c, c.cl.SetPolicy(c.ctx, "j", libqjm.Policy{RetainTxns: 12}))
		c.untilPurged(30, 0, 1, 2)
		require.NoError(c, c.cl.SetPolicy(c.ctx, "j", libqjm.Policy{RetainTxns: 1, RetainBytes: 1}))
		c.untilPurged(30, 0, 1, 2) // 35 is within a segment, so the one before stays for its bytes
		require.Equal(c, upTo(31, 50), c.read(libqjm.ReaderOptions{From: 31}))
	})
}

// C2, C3, M6: a learner under way keeps the log from being purged; one that lacks what was purged before installs
// the newest listed snapshot by itself, and counts in the end.
func TestC3_LearnerInstalls(t *testing.T) {
	runSnapshots(t, testcluster.Options{Nodes: 4}, func(c *catalog) {
		_, err := c.cl.CreateJournalWith(c.ctx, "k", libqjm.CreateOptions{Replicas: 3})
		require.NoError(c, err)
		c.id = c.inCatalog("k").ID
		members := c.membersOf("k")
		var in []int
		out := -1
		for i := range 4 {
			if contains(members, c.ID(i)) {
				in = append(in, i)
			} else {
				out = i
			}
		}
		w, err := c.cl.OpenWriter(c.ctx, "k", libqjm.WriterOptions{})
		require.NoError(c, err)
		c.segmentsTo(w, 40)
		content := state(700_000)
		save := func(txid libqjm.TxID) {
			_, err := w.SaveSnapshot(c.ctx, txid, bytes.NewReader(content))
			require.NoError(c, err)
		}
		save(25)
		c.untilPurged(20, in...)

		c.StopNode(out)
		to := []string{members[1], members[2], c.ID(out)}
		c.startStopped(out, func() {
			_, err = c.cl.ChangeMembers(c.ctx, "k", to, libqjm.ChangeOptions{})
			require.NoError(c, err)
		})
		c.segmentsTo(w, 80)
		save(65)
		pass(20 * time.Second)
		for _, i := range in {
			require.EqualValues(c, 20, c.list1(i).Purged.TxID, "the learner pins it")
		}
		c.StartNode(out)
		require.NoError(c, c.cl.WaitForChange(c.ctx, "k", nil))
		c.untilPurged(60, out)
		c.segmentsTo(w, 100)
		require.NoError(c, w.Close(c.ctx))

		// It counts: with another of the new members away, the journal goes on.
		for _, i := range in {
			if id := c.ID(i); id == members[0] || id == members[1] {
				c.StopNode(i)
			}
		}
		again, err := c.cl.OpenWriter(c.ctx, "k", libqjm.WriterOptions{})
		require.NoError(c, err)
		require.EqualValues(c, 101, again.FirstTxID())
		r, err := c.cl.OpenSnapshot(c.ctx, "k", 65)
		require.NoError(c, err)
		got, err := io.ReadAll(r)
		require.NoError(c, err)
		require.True(c, bytes.Equal(content, got))
		require.NoError(c, r.Close())
	})
}

// startStopped begins a change to a node that answers no more by the time it is asked to copy: it runs only while
// f does.
func (c *catalog) startStopped(i int, f func()) {
	c.Helper()
	c.StartNode(i)
	c.Until(time.Minute, "the node runs", func() bool { return c.Nodes[i].Ready() == nil })
	f()
	c.StopNode(i)
}

// The journal's policy in the catalog asks the writer's program, and counts from what is listed, whoever saved it.
func TestSnapshotPolicyOfTheJournal(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		require.NoError(c, c.cl.SetPolicy(c.ctx, "j", libqjm.Policy{SnapshotTxns: 20}))
		asked := make(chan libqjm.SnapshotReason, 10)
		open := func() *libqjm.Writer {
			return c.writerWith(libqjm.WriterOptions{OnSnapshotDue: func(r libqjm.SnapshotReason) { asked <- r }})
		}
		w := open()
		c.segmentsTo(w, 10)
		pass(30 * time.Second)
		require.Empty(c, asked)
		c.segmentsTo(w, 20)
		require.Equal(c, snapshot.ReasonTxns, <-asked)
		_, err := c.cl.LatestSnapshot(c.ctx, "j")
		require.ErrorIs(c, err, libqjm.ErrNoSnapshot, "it asks, and takes none")
		c.save(20, state(10)) // by another program
		pass(30 * time.Second)
		c.segmentsTo(w, 30)
		pass(30 * time.Second)
		require.Empty(c, asked)
		require.NoError(c, w.Close(c.ctx))

		// A new writer counts from the listed snapshot, not from its own beginning.
		w = open()
		c.segmentsTo(w, 40)
		require.Equal(c, snapshot.ReasonTxns, <-asked)

		// Bytes are those of the log behind it.
		c.save(40, state(10))
		require.NoError(c, c.cl.SetPolicy(c.ctx, "j", libqjm.Policy{SnapshotBytes: 50_000}))
		pass(30 * time.Second)
		for range 6 {
			_, err := w.Append(c.ctx, make([]byte, 10_000))
			require.NoError(c, err)
		}
		require.Equal(c, snapshot.ReasonBytes, <-asked)
		require.NoError(c, c.cl.SetPolicy(c.ctx, "j", libqjm.Policy{}))
		pass(30 * time.Second)
		c.segmentsTo(w, 200)
		pass(30 * time.Second)
		require.Empty(c, asked, "switched off")
		require.NoError(c, w.Close(c.ctx))

		// Also those that earlier writers wrote.
		require.NoError(c, c.cl.SetPolicy(c.ctx, "j", libqjm.Policy{SnapshotBytes: 50_000}))
		w = open()
		c.write(w, w.FirstTxID(), w.FirstTxID())
		require.Equal(c, snapshot.ReasonBytes, <-asked)
		require.NoError(c, w.Close(c.ctx))
	})
}

// D5: a reader below the purge point is told where to start, by nodes that know it from the catalog alone; and it
// gets there, after every one of them was restarted.
func TestD5_ToldByTheCatalog(t *testing.T) {
	runSnapshots(t, testcluster.Options{}, func(c *catalog) {
		w := c.writer()
		c.segmentsTo(w, 40)
		c.everywhere(40)
		snap := c.save(35, []byte("thirty-five"))
		c.untilPurged(30, 0, 1, 2)
		require.NoError(c, w.Close(c.ctx))
		for i := range 3 {
			c.crash(i)
			c.start(i)
		}
		c.Until(time.Minute, "the nodes have applied the catalog again", func() bool {
			_, err := c.tryRead(libqjm.ReaderOptions{From: 1})
			gone, ok := errors.AsType[*libqjm.PurgedError](err)
			return ok && gone.Snapshot == snap
		})
		require.Equal(c, []byte("thirty-five"), c.open(35))
		require.Equal(c, upTo(36, 40), c.read(libqjm.ReaderOptions{From: 36}))
	})
}

// countingDisk notes which directories of snapshots are looked at by what purges.
type countingDisk struct {
	vfs.FS
	mu   sync.Mutex
	dirs map[string]bool
}

func (d *countingDisk) Stat(name string) (fs.FileInfo, error) {
	if strings.HasSuffix(name, "/snapshots") && calledBy("(*Node).purge") {
		d.mu.Lock()
		d.dirs[name] = true
		d.mu.Unlock()
	}
	return d.FS.Stat(name)
}

// calledBy: others look there, too, such as the driver of membership changes.
func calledBy(function string) bool {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	for {
		f, more := frames.Next()
		if strings.Contains(f.Function, function) {
			return true
		}
		if !more {
			return false
		}
	}
}

func (d *countingDisk) reset() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n = len(d.dirs)
	clear(d.dirs)
	return n
}

// News of one journal cost a look at that one, however many there are.
func TestC2_NewsAreOfOneJournal(t *testing.T) {
	const journals = 12
	disks := make([]*countingDisk, 3)
	opts := testcluster.Options{
		Tune: func(i int, o *journalnode.Options) { noMargin(i, o); o.SnapshotEvery = 24 * time.Hour },
		FS: func(i int, disk *memfs.FS) vfs.FS {
			disks[i] = &countingDisk{FS: disk, dirs: map[string]bool{}}
			return disks[i]
		},
	}
	runSnapshots(t, opts, func(c *catalog) {
		save := func(name string, txid libqjm.TxID) {
			w, err := c.cl.OpenWriter(c.ctx, name, libqjm.WriterOptions{})
			require.NoError(c, err)
			for range 3 {
				_, err = w.Append(c.ctx, []byte("x"))
				require.NoError(c, err)
			}
			_, err = w.SaveSnapshot(c.ctx, txid, strings.NewReader("state"))
			require.NoError(c, err)
			require.NoError(c, w.Close(c.ctx))
		}
		for i := range journals {
			name := "x" + string(rune('a'+i))
			require.NoError(c, c.cl.CreateJournal(c.ctx, name))
			save(name, 3)
		}
		pass(time.Minute)
		for _, d := range disks {
			require.Equal(c, journals, d.reset())
		}
		save("xa", 6)
		pass(time.Minute)
		for _, d := range disks {
			require.Equal(c, 1, d.reset())
		}
	})
}

// sink is a node that takes any snapshot and keeps nothing of it.
type sink struct{ rpc.Service }

func (sink) BeginSnapshot(context.Context, rpc.SnapshotUpload) (int64, error) { return 0, nil }
func (sink) FinishSnapshot(context.Context, rpc.SnapshotEnd) error            { return nil }

func (sink) PutSnapshot(_ context.Context, p rpc.SnapshotPiece) (int64, error) {
	if crc32.Checksum(p.Bytes, crc32.MakeTable(crc32.Castagnoli)) != p.CRC {
		return 0, rpc.ErrSnapshotChunk
	}
	return p.Offset + int64(len(p.Bytes)), nil
}

// zeros is a large state.
type zeros struct{ at, size int64 }

func (z *zeros) Read(p []byte) (int, error) {
	n := min(int64(len(p)), z.size-z.at)
	clear(p[:n])
	z.at += n
	if n == 0 {
		return 0, io.EOF
	}
	return int(n), nil
}

func (z *zeros) Seek(off int64, whence int) (int64, error) {
	if whence != io.SeekStart {
		return 0, errors.New("from the start only")
	}
	z.at = off
	return off, nil
}

// A large state takes a piece of memory for each node, whatever its size. What the node needs is tested with its
// store.
func TestSaveSnapshot_MemoryIsBounded(t *testing.T) {
	wrap := func(_ int, s rpc.Service) rpc.Service { return sink{s} }
	runSnapshots(t, testcluster.Options{Wrap: wrap}, func(c *catalog) {
		c.writeFinal(c.writer(), 1, 10)
		c.cl.SetLister(func(context.Context, rpc.ListRequest) error { return nil })
		const size = 128 << 20
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := c.cl.SaveSnapshot(c.ctx, "j", 10, &zeros{size: size})
		runtime.ReadMemStats(&after)
		require.NoError(c, err)
		require.Less(c, after.TotalAlloc-before.TotalAlloc, uint64(16<<20), "bytes allocated for three uploads of %d", size)
	})
}

// slowDisk has writes of snapshots wait for a gate.
type slowDisk struct {
	vfs.FS
	from int64 // in a file
	mu   sync.Mutex
	gate chan struct{} // nil: open
}

type slowFile struct {
	vfs.File
	d *slowDisk
}

func (d *slowDisk) shut(gate chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gate = gate
}

func (d *slowDisk) Create(name string) (vfs.File, error) {
	f, err := d.FS.Create(name)
	if err == nil && strings.Contains(name, "/snapshots/") {
		f = slowFile{f, d}
	}
	return f, err
}

func (f slowFile) WriteAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	gate := f.d.gate
	f.d.mu.Unlock()
	if gate != nil && off >= f.d.from {
		<-gate
	}
	return f.File.WriteAt(b, off)
}

// An upload, even to a disk that does not get on with it, is nothing that appends wait for.
func TestSaveSnapshot_HoldsNoAppendUp(t *testing.T) {
	for method, from := range map[string]int64{"BeginSnapshot": 0, "PutSnapshot": 1} {
		t.Run(method, func(t *testing.T) { holdsNoAppendUp(t, method, from) })
	}
}

func holdsNoAppendUp(t *testing.T, method string, from int64) {
	disks := make([]*slowDisk, 3)
	slow := func(i int, disk *memfs.FS) vfs.FS {
		disks[i] = &slowDisk{FS: disk, from: from}
		return disks[i]
	}
	runSnapshots(t, testcluster.Options{FS: slow}, func(c *catalog) {
		w := c.writer()
		c.writeFinal(w, 1, 10)
		gate := make(chan struct{})
		for _, d := range disks {
			d.shut(gate)
		}
		saved := make(chan error, 1)
		go func() {
			_, err := c.cl.SaveSnapshot(c.ctx, "j", 10, bytes.NewReader(state(8<<20)))
			saved <- err
		}()
		c.Until(time.Minute, "all uploads are under way", func() bool {
			return c.Net.Count("client", "n1", method)*c.Net.Count("client", "n2", method)*c.Net.Count("client", "n3", method) > 0
		})
		c.segmentsTo(w, 40)
		c.everywhere(40) // on every node: none of the owners waits
		require.Empty(c, saved)
		close(gate)
		require.NoError(c, <-saved)
	})
}
