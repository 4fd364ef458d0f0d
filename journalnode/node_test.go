package journalnode_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/durable"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

func TestStart_ListsAllThatIsWrong(t *testing.T) {
	_, err := journalnode.Start(t.Context(), journalnode.Options{
		ID: "a b", InitialCluster: []journalnode.Peer{{ID: "x", Addr: "h:1"}, {ID: "x", Addr: "h:2"}, {ID: "y", Addr: ""}, {ID: "z", Addr: "h:1"}},
	})
	require.Error(t, err)
	for _, want := range []string{`"a b"`, "no data directory", "x stands twice", "y of the initial cluster has no address", "same address h:1", "does not name this node"} {
		require.Contains(t, err.Error(), want)
	}
	many := journalnode.Options{ID: "n0", DataDir: "d"}
	for i := range 40 {
		many.InitialCluster = append(many.InitialCluster, journalnode.Peer{ID: many.ID, Addr: "h"})
		many.InitialCluster[i].ID, many.InitialCluster[i].Addr = many.InitialCluster[i].ID+"x", fmt.Sprint(i)
	}
	_, err = journalnode.Start(t.Context(), many)
	require.ErrorContains(t, err, "too large")
}

func TestStart_EvenNumberIsWarnedOf(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex
	run(t, testcluster.Options{Nodes: 4, Tune: func(_ int, o *journalnode.Options) {
		o.Logger = slog.New(slog.NewTextHandler(&lockedWriter{&mu, &log}, nil))
	}}, func(b *bed) { b.founded() })
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, 4, strings.Count(log.String(), "even number of nodes"))
}

// N4: a node that waits for founders says so again and again, and names who is missing.
func TestFounding_SaysWhoIsMissing(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex
	text := func() string { mu.Lock(); defer mu.Unlock(); return log.String() }
	run(t, testcluster.Options{Idle: true, Tune: func(_ int, o *journalnode.Options) {
		o.Logger = slog.New(slog.NewTextHandler(&lockedWriter{&mu, &log}, nil))
	}}, func(b *bed) {
		b.StartNode(0)
		b.StartNode(1)
		b.wait(65 * time.Second)
		require.Equal(b, 2*6, strings.Count(text(), "founding nodes not heard yet: n3 at n3"), text())
		require.ErrorIs(b, b.Nodes[0].Ready(), rpc.ErrNotFounded)
		require.ErrorContains(b, b.Nodes[0].Ready(), "n3 at n3")
		b.StartNode(2)
		b.founded()
		before := text()
		b.wait(time.Minute)
		require.Equal(b, strings.Count(before, "not heard yet"), strings.Count(text(), "not heard yet"))
	})
}

// N4: founders that were started with different lists are told so, both.
func TestFounding_ListsDiffer(t *testing.T) {
	run(t, testcluster.Options{Idle: true, Tune: func(i int, o *journalnode.Options) {
		if i == 0 {
			o.InitialCluster = o.InitialCluster[:2]
		}
	}}, func(b *bed) {
		for i := range 3 {
			b.StartNode(i)
		}
		b.wait(time.Minute)
		for i := range 2 {
			err := b.Nodes[i].Ready()
			require.ErrorIs(b, err, rpc.ErrNotFounded)
			require.ErrorIs(b, err, journalnode.ErrFoundersDiffer)
			require.ErrorContains(b, err, "[n1 n2 n3]")
			require.ErrorContains(b, err, "[n1 n2]")
		}
	})
}

// A node whose address in the initial cluster is not where it listens is warned.
func TestStart_AddressIsWarnedOf(t *testing.T) {
	for listen, want := range map[string]int{"127.0.0.1:0": 0, "127.0.0.2:0": 1} {
		var log bytes.Buffer
		var mu sync.Mutex
		n, err := journalnode.Start(t.Context(), journalnode.Options{
			ID: "a", DataDir: "a", Listen: listen, InitialCluster: []journalnode.Peer{{ID: "a", Addr: "127.0.0.1:7400"}},
			FS: memfs.New(), ReserveBytes: -1, Logger: slog.New(slog.NewTextHandler(&lockedWriter{&mu, &log}, nil)),
		})
		require.NoError(t, err)
		require.NoError(t, n.Stop(t.Context()))
		require.Equal(t, want, strings.Count(log.String(), "others may not reach it"), listen)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(p)
}

// TestN3_OneProcessPerDirectory: a second node on a directory is refused, says which directory it is, and
// has changed nothing in it; the first goes on. Under whatever id the second one comes.
func TestN3_OneProcessPerDirectory(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		id := b.journal("j")
		before := dirTree(b, b.Disks[0], b.Dir(0))
		for name, tune := range map[string]func(*journalnode.Options){
			"the same": func(*journalnode.Options) {},
			"other id": func(o *journalnode.Options) { o.ID = "n2" },
		} {
			o := b.NodeOptions(0)
			tune(&o)
			_, err := journalnode.Start(b.ctx, o)
			require.ErrorIs(b, err, vfs.ErrLocked, name)
			require.ErrorContains(b, err, o.DataDir, name)
		}
		require.Equal(b, before, dirTree(b, b.Disks[0], b.Dir(0)))
		_, err := b.node(0).NewEpoch(b.ctx, b.header(0, id, 3, writerID()))
		require.NoError(b, err)
		b.StopNode(0)
		b.StartNode(0)
	})
}

// TestN3_OneProcessPerDirectory_OnADisk is the same with the lock of the operating system, before the
// cluster is founded, and under another name of the directory.
func TestN3_OneProcessPerDirectory_OnADisk(t *testing.T) {
	base := t.TempDir()
	o := journalnode.Options{ID: "a", DataDir: filepath.Join(base, "data"), InitialCluster: []journalnode.Peer{{ID: "a", Addr: "a:1"}, {ID: "b", Addr: "b:1"}, {ID: "c", Addr: "c:1"}}, ReserveBytes: smallReserve}
	n, err := journalnode.Start(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, os.Symlink(o.DataDir, filepath.Join(base, "link")))
	for _, dir := range []string{o.DataDir, filepath.Join(base, "link")} {
		second := o
		second.DataDir = dir
		_, err = journalnode.Start(t.Context(), second)
		require.ErrorIs(t, err, vfs.ErrLocked)
		require.ErrorContains(t, err, dir)
	}
	require.NoError(t, n.Stop(t.Context()))
	n, err = journalnode.Start(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, n.Stop(t.Context()))
}

// dirTree is every file below a directory with its content.
func dirTree(t require.TestingT, fsys vfs.FS, dir string) map[string]string {
	out := map[string]string{}
	names, err := fsys.List(dir)
	require.NoError(t, err)
	for _, n := range names {
		name := path.Join(dir, n)
		if info, err := fsys.Stat(name); err == nil && info.IsDir() {
			maps.Copy(out, dirTree(t, fsys, name))
			continue
		}
		f, err := fsys.Open(name)
		require.NoError(t, err)
		size, err := f.Size()
		require.NoError(t, err)
		b := make([]byte, size)
		if _, err := f.ReadAt(b, 0); err != nil {
			require.ErrorIs(t, err, io.EOF)
		}
		require.NoError(t, f.Close())
		out[name] = string(b)
	}
	return out
}

func TestStart_DirectoryOfAnotherNode(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		b.founded()
		b.StopNode(0)
		o := b.NodeOptions(0)
		o.ID = "n2"
		_, err := journalnode.Start(b.ctx, o)
		require.ErrorIs(b, err, journalnode.ErrOtherNode)
		b.StartNode(0) // the lock was released
	})
}

// TestStart_CrashAtEveryWrite: the power goes at the k-th write of a node's first start, and what is
// left starts.
func TestStart_CrashAtEveryWrite(t *testing.T) {
	for _, spared := range []int{0, 100} {
		for k := int64(1); ; k++ {
			finished := false
			synctest.Test(t, func(t *testing.T) {
				disk := memfs.New()
				faulty := faultfs.New(disk)
				faulty.CrashAt(k)
				o := journalnode.Options{ID: "a", DataDir: "data/a", InitialCluster: []journalnode.Peer{{ID: "a", Addr: "a"}}, FS: faulty, ReserveBytes: smallReserve}
				n, err := journalnode.Start(t.Context(), o)
				if err == nil {
					<-time.After(time.Second) // founded by now, or the disk is dead
					finished = !faulty.Crashed()
					if err := n.Stop(t.Context()); finished {
						require.NoError(t, err)
					}
				}
				o.FS = disk.CrashClone(memfs.CrashOptions{UnsyncedPercent: spared})
				n, err = journalnode.Start(t.Context(), o)
				require.NoError(t, err, "crash at write %d, %d%% spared: %v", k, spared, faulty.Log())
				<-time.After(time.Minute)
				require.NoError(t, n.Ready())
				require.NoError(t, n.Stop(t.Context()))
			})
			if finished {
				require.Greater(t, k, int64(10))
				break
			}
			require.False(t, t.Failed())
		}
	}
}

func TestStart_LaterFormatVersion(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		b.founded()
		for i, name := range []string{"identity", "manifest"} {
			b.journal(fmt.Sprint("j", i))
			b.StopNode(i)
			path := b.Dir(i) + "/" + name
			old, err := b.Disks[i].ReadAll(path)
			require.NoError(b, err)
			later := durable.Seal([8]byte(old[:8]), 99, old[durable.Overhead:])
			require.NoError(b, b.Disks[i].Overwrite(path, 0, later))
			require.ErrorIs(b, b.TryStartNode(i), durable.ErrUnsupported, name)
			require.NoError(b, b.Disks[i].Overwrite(path, 0, old))
			b.StartNode(i)
		}
	})
}

func TestStart_DamagedIdentityOrManifest(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		b.journal("j")
		for i, name := range []string{"identity", "manifest"} {
			b.StopNode(i)
			require.NoError(b, b.Disks[i].FlipBit(b.Dir(i)+"/"+name, 30, 1))
			require.ErrorIs(b, b.TryStartNode(i), durable.ErrDamaged, name)
		}
		// Lost altogether: data without an identity is no blank directory.
		b.StopNode(2)
		require.NoError(b, b.Disks[2].Remove(b.Dir(2)+"/identity"))
		require.ErrorContains(b, b.TryStartNode(2), "holds journals but no identity")
	})
}

func removeAll(t testing.TB, disk *memfs.FS, name string) {
	t.Helper()
	info, err := disk.Stat(name)
	require.NoError(t, err)
	if info.IsDir() {
		names, err := disk.List(name)
		require.NoError(t, err)
		for _, n := range names {
			removeAll(t, disk, name+"/"+n)
		}
	}
	require.NoError(t, disk.Remove(name))
}

// N5: listed in the manifest and missing is damage, not absence. N2: a fence or config that cannot be
// read makes the whole journal unknown here, and nothing else.
func TestN2_N5_ListedAndMissingIsDamaged(t *testing.T) {
	for name, damage := range map[string]func(b *bed, dir string){
		"directory missing": func(b *bed, dir string) { removeAll(b, b.Disks[0], dir) },
		"fence rotten":      func(b *bed, dir string) { require.NoError(b, b.Disks[0].FlipBit(dir+"/fence", 30, 0)) },
		"fence missing":     func(b *bed, dir string) { require.NoError(b, b.Disks[0].Remove(dir+"/fence")) },
		"config rotten":     func(b *bed, dir string) { require.NoError(b, b.Disks[0].FlipBit(dir+"/config", 30, 0)) },
		"config missing":    func(b *bed, dir string) { require.NoError(b, b.Disks[0].Remove(dir+"/config")) },
		"VERSION missing":   func(b *bed, dir string) { require.NoError(b, b.Disks[0].Remove(dir+"/VERSION")) },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, testcluster.Options{}, func(b *bed) {
				id := b.journal("j")
				_, err := b.node(0).NewEpoch(b.ctx, b.header(0, id, 7, writerID()))
				require.NoError(b, err)
				dir := b.JournalDir(0)
				b.StopNode(0)
				damage(b, dir)
				b.StartNode(0)
				n := b.node(0)
				_, err = n.NewEpoch(b.ctx, b.header(0, id, 8, writerID()))
				require.ErrorIs(b, err, rpc.ErrUnknownNode, "no promise")
				_, err = n.Prepare(b.ctx, b.header(0, id, 8, writerID()), 1, nil)
				require.ErrorIs(b, err, rpc.ErrUnknownNode, "no data answer")
				require.Error(b, n.InstallConfig(b.ctx, rpc.JournalSummary{ID: id, Name: "j", Config: b.founders()}), "it is not built again over the damage")
				s, err := n.Write(b.ctx, b.header(0, id, 8, writerID()))
				require.NoError(b, err)
				_, err = soon(b, time.Minute, "refusal", s.Recv)
				require.ErrorIs(b, err, rpc.ErrUnknownNode, "no ack")
				require.Error(b, b.Nodes[0].Ready())
				if st, err := n.State(b.ctx, id); err == nil {
					require.False(b, st.Member)
					require.False(b, st.DataKnown)
					require.NotEmpty(b, st.Damaged)
				} else {
					require.ErrorIs(b, err, rpc.ErrUnknownNode)
				}
				other := rpc.JournalIDOf(b.info(0).Cluster, "other")
				require.NoError(b, n.InstallConfig(b.ctx, rpc.JournalSummary{ID: other, Name: "other", Config: b.founders()}), "other journals go on")
				_, err = n.NewEpoch(b.ctx, b.header(0, other, 1, writerID()))
				require.NoError(b, err)
				b.wait(time.Minute) // nor is it built again by anti-entropy
				require.Error(b, b.Nodes[0].Ready())
			})
		})
	}
}

func TestStop_EndsStreamsAtOnce(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		id := b.journal("j")
		n := b.node(0)
		s, err := n.Write(b.ctx, b.header(0, id, 1, writerID()))
		require.NoError(b, err)
		require.NoError(b, s.Send(rpc.WriteRequest{Start: &segments.End{}}))
		_, err = s.Recv()
		require.NoError(b, err)
		tail, err := n.Tail(b.ctx, rpc.TailRequest{Journal: id, From: 1, Follow: true})
		require.NoError(b, err)
		began := time.Now()
		require.NoError(b, b.Nodes[0].Stop(b.ctx))
		require.Less(b, time.Since(began), time.Second)
		_, err = soon(b, time.Minute, "end of the write stream", s.Recv)
		require.ErrorIs(b, err, rpc.ErrClosed)
		_, err = soon(b, time.Minute, "end of the tail", tail.Recv)
		require.ErrorIs(b, err, rpc.ErrClosed)
		_, err = n.State(b.ctx, id)
		require.ErrorIs(b, err, rpc.ErrClosed)
		b.Nodes[0] = nil
		b.StartNode(0)
		st, err := b.node(0).State(b.ctx, id)
		require.NoError(b, err)
		require.EqualValues(b, 1, st.Promised.Epoch)
	})
}

// The same over gRPC, where only the transport ends a Recv: no drain timeout is used up, and nothing is
// left running.
func TestStop_OverGRPC(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	c := testcluster.Start(t, testcluster.Options{})
	cl := c.Client()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, cl.CreateJournal(ctx, "j"))
	w, err := cl.OpenWriter(ctx, "j", writerOptions)
	require.NoError(t, err)
	_, err = w.Append(ctx, []byte("a"))
	require.NoError(t, err)
	r, err := cl.OpenReader(ctx, "j", readerOptions)
	require.NoError(t, err)
	_, err = r.Next(ctx)
	require.NoError(t, err)
	for i := range c.Nodes {
		began := time.Now()
		stop, cancel := context.WithTimeout(ctx, 30*time.Second)
		require.NoError(t, c.Nodes[i].Stop(stop))
		cancel()
		require.Less(t, time.Since(began), 10*time.Second, "it waited for the drain timeout")
		c.Nodes[i] = nil
	}
	require.NoError(t, r.Close())
	require.NoError(t, cl.Close())
}

func TestHTTP(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Nodes: 1, Tune: func(_ int, o *journalnode.Options) { o.HTTPListen = "127.0.0.1:0" }})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.Nodes[0].HTTPAddr()+path, nil)
		require.NoError(t, err)
		resp, err := client.Do(req)
		require.NoError(t, err)
		defer func() { require.NoError(t, resp.Body.Close()) }()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	cl := c.Client()
	require.NoError(t, cl.CreateJournal(t.Context(), "j"))
	w, err := cl.OpenWriter(t.Context(), "j", writerOptions)
	require.NoError(t, err)
	_, err = w.Append(t.Context(), []byte("a"))
	require.NoError(t, err)
	require.NoError(t, w.Close(t.Context()))
	for _, path := range []string{"/healthz", "/readyz"} {
		code, body := get(path)
		require.Equal(t, http.StatusOK, code, path)
		require.Equal(t, "ok\n", body)
	}
	code, body := get("/metrics")
	require.Equal(t, http.StatusOK, code)
	for _, want := range []string{"qjm_ready 1", "qjm_journals 1", "qjm_commit_seconds_count"} {
		require.Contains(t, body, want)
	}
	code, _ = get("/nope")
	require.Equal(t, http.StatusNotFound, code)
}

func TestHTTP_NotReady(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Nodes: 3, Idle: true, Tune: func(_ int, o *journalnode.Options) { o.HTTPListen = "127.0.0.1:0" }})
	c.StartNode(0)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.Nodes[0].HTTPAddr()+"/readyz", nil)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Contains(t, string(body), "not founded")
}

func TestStart_PortInUse(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Nodes: 1})
	o := c.NodeOptions(0)
	o.DataDir = t.TempDir()
	_, err := journalnode.Start(t.Context(), o)
	require.ErrorContains(t, err, "listen")
	// The lock was released: the directory can be used elsewhere.
	o.Listen = ""
	n, err := journalnode.Start(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, n.Stop(t.Context()))
}

// hangFS hangs in Sync while hang is set.
type hangFS struct {
	vfs.FS
	mu   sync.Mutex
	hang chan struct{} // closed when the disk comes back; guarded by mu
}

func (f *hangFS) set(c chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hang = c
}

func (f *hangFS) wait() {
	f.mu.Lock()
	c := f.hang
	f.mu.Unlock()
	if c != nil {
		<-c
	}
}

func (f *hangFS) wrap(file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &hangFile{file, f}, nil
}

func (f *hangFS) Create(name string) (vfs.File, error)    { return f.wrap(f.FS.Create(name)) }
func (f *hangFS) OpenWrite(name string) (vfs.File, error) { return f.wrap(f.FS.OpenWrite(name)) }

type hangFile struct {
	vfs.File
	fs *hangFS
}

func (f *hangFile) Sync() error {
	f.fs.wait()
	return f.File.Sync()
}

func TestStalledDisk_AnswersAtOnce(t *testing.T) {
	disks := make([]*hangFS, 3)
	opts := testcluster.Options{FS: func(i int, d *memfs.FS) vfs.FS {
		disks[i] = &hangFS{FS: d}
		return disks[i]
	}}
	run(t, opts, func(b *bed) {
		id := b.journal("j")
		n := b.node(0)
		h := b.header(0, id, 1, writerID())
		s, err := n.Write(b.ctx, h)
		require.NoError(b, err)
		require.NoError(b, s.Send(rpc.WriteRequest{Start: &segments.End{}}))
		_, err = s.Recv()
		require.NoError(b, err)
		back := make(chan struct{})
		disks[0].set(back)
		require.NoError(b, s.Send(rpc.WriteRequest{Frames: frames(b, segments.Position{}, 1, "a")}))
		require.NoError(b, b.Nodes[0].Ready(), "a moment's delay is none")
		b.wait(journalnode.DefaultStallAfter + time.Second)
		require.ErrorIs(b, b.Nodes[0].Ready(), rpc.ErrStalled)
		began := time.Now()
		_, err = n.State(b.ctx, id)
		require.ErrorIs(b, err, rpc.ErrStalled)
		_, err = n.NewEpoch(b.ctx, b.header(0, id, 2, writerID()))
		require.ErrorIs(b, err, rpc.ErrStalled)
		_, err = n.Info(b.ctx)
		require.NoError(b, err)
		require.Zero(b, time.Since(began), "nobody waited")
		disks[0].set(nil)
		close(back)
		r, err := soon(b, time.Second, "the ack", s.Recv)
		require.NoError(b, err)
		require.Equal(b, rpc.Synced, r.Kind)
		b.Until(time.Minute, "the others that waited for the disk are through, too", func() bool { return b.Nodes[0].Ready() == nil })
		_, err = n.State(b.ctx, id)
		require.NoError(b, err)
		s.Close()
	})
}

// A write or sync that fails poisons the journal on this node: no ack, never again until a restart.
func TestFailedSync_Poisons(t *testing.T) {
	disks := make([]*faultfs.FS, 3)
	opts := testcluster.Options{FS: func(i int, d *memfs.FS) vfs.FS {
		disks[i] = faultfs.New(d)
		return disks[i]
	}}
	run(t, opts, func(b *bed) {
		id := b.journal("j")
		n := b.node(0)
		w := writerID()
		s, err := n.Write(b.ctx, b.header(0, id, 1, w))
		require.NoError(b, err)
		require.NoError(b, s.Send(rpc.WriteRequest{Start: &segments.End{}}))
		_, err = s.Recv()
		require.NoError(b, err)
		disks[0].Inject(faultfs.Rule{Op: faultfs.OpSync, PathContains: "inprogress", Nth: 1, DropUnsynced: true})
		require.NoError(b, s.Send(rpc.WriteRequest{Frames: frames(b, segments.Position{}, 1, "a")}))
		_, err = soon(b, time.Minute, "the failure", s.Recv)
		require.ErrorIs(b, err, rpc.ErrPoisoned)
		_, err = n.NewEpoch(b.ctx, b.header(0, id, 2, writerID()))
		require.ErrorIs(b, err, rpc.ErrPoisoned)
		require.ErrorIs(b, b.Nodes[0].Ready(), rpc.ErrPoisoned)
		b.StopNode(0)
		b.StartNode(0)
		st, err := b.node(0).State(b.ctx, id)
		require.NoError(b, err)
		require.Empty(b, st.Poisoned)
		// The failed sync marked the pages clean, so the bytes are seen and not durable. Having told of
		// them, the node must keep them (W2a).
		require.EqualValues(b, 1, st.Answer.Copy.Last.TxID)
		b.CrashNode(0, memfs.CrashOptions{})
		b.StartNode(0)
		st, err = b.node(0).State(b.ctx, id)
		require.NoError(b, err)
		require.EqualValues(b, 1, st.Answer.Copy.Last.TxID)
	})
}

// 128: the promise's file fails to become durable in one way or another: no promise is answered, and
// after a power cut the node stands at the old one or the new one, never at none.
func TestFailedPromise_IsNotAnswered(t *testing.T) {
	for _, op := range []faultfs.OpKind{faultfs.OpCreate, faultfs.OpWrite, faultfs.OpSync, faultfs.OpRename, faultfs.OpSyncDir} {
		disks := make([]*faultfs.FS, 3)
		opts := testcluster.Options{FS: func(i int, d *memfs.FS) vfs.FS {
			disks[i] = faultfs.New(d)
			return disks[i]
		}}
		run(t, opts, func(b *bed) {
			id := b.journal("j")
			_, err := b.node(0).NewEpoch(b.ctx, b.header(0, id, 3, writerID()))
			require.NoError(b, err)
			path := "fence"
			if op == faultfs.OpSyncDir {
				path = b.JournalDir(0)
			}
			disks[0].Inject(faultfs.Rule{Op: op, PathContains: path, Nth: 1})
			_, err = b.node(0).NewEpoch(b.ctx, b.header(0, id, 4, writerID()))
			require.ErrorIs(b, err, rpc.ErrPoisoned, "op %d", op)
			st, err := b.node(0).State(b.ctx, id)
			require.NoError(b, err)
			require.EqualValues(b, 3, st.Promised.Epoch, "what is not saved is not seen")
			b.CrashNode(0, memfs.CrashOptions{})
			b.StartNode(0)
			st, err = b.node(0).State(b.ctx, id)
			require.NoError(b, err)
			require.Contains(b, []fencing.Epoch{3, 4}, st.Promised.Epoch)
		})
	}
}

// TestScenario133_RepeatedRequests: what is asked twice by the same writer is answered twice.
func TestScenario133_RepeatedRequests(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		id := b.journal("j")
		n := b.node(0)
		h := b.header(0, id, 3, writerID())
		first, err := n.NewEpoch(b.ctx, h)
		require.NoError(b, err)
		again, err := n.NewEpoch(b.ctx, h)
		require.NoError(b, err)
		require.Equal(b, first, again)
		_, err = n.NewEpoch(b.ctx, b.header(0, id, 3, writerID()))
		require.ErrorIs(b, err, fencing.ErrLostRace)
		_, err = n.NewEpoch(b.ctx, b.header(0, id, 2, writerID()))
		require.ErrorIs(b, err, fencing.ErrFenced)

		s, err := n.Write(b.ctx, h)
		require.NoError(b, err)
		fs := frames(b, segments.Position{}, 3, "a", "b")
		at := fs[1].Position()
		for range 3 { // Start and frames again: nothing is touched, all is acknowledged
			require.NoError(b, s.Send(rpc.WriteRequest{Start: &segments.End{}}))
			_, err = s.Recv()
			require.NoError(b, err)
			require.NoError(b, s.Send(rpc.WriteRequest{Frames: fs}))
			r, err := s.Recv()
			require.NoError(b, err)
			require.Equal(b, at, r.At)
		}
		end := segments.End{First: 1, Last: 2, Digest: at.Digest}
		for range 2 {
			require.NoError(b, s.Send(rpc.WriteRequest{Finalize: &end}))
			r, err := s.Recv()
			require.NoError(b, err)
			require.Equal(b, rpc.Finalized, r.Kind)
			require.NoError(b, n.Finalize(b.ctx, h, end))
		}
		end.Last++
		require.ErrorIs(b, n.Finalize(b.ctx, h, end), recovery.ErrMismatch)
		s.Close()
	})
}

func TestAbsurdRequests(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		id := b.journal("j")
		n := b.node(0)
		h := b.header(0, id, 1, writerID())
		most := segments.TxID(math.MaxUint64)
		for i, m := range []rpc.WriteRequest{
			{Start: &segments.End{First: 5, Last: 3}},
			{Start: &segments.End{First: 1, Last: most}},
			{Finalize: &segments.End{First: most, Last: 0}},
			{Finalize: &segments.End{}},
			{Frames: frames(b, segments.Position{}, 1, "no segment is open")},
			{Frames: []segments.Frame{{}}},
		} {
			s, err := n.Write(b.ctx, h)
			require.NoError(b, err)
			require.NoError(b, s.Send(m))
			for err == nil {
				_, err = soon(b, time.Minute, fmt.Sprint("refusal of ", i), s.Recv)
				if i == 1 && err == nil {
					break // a start far away is odd, and harmless: it is set aside again
				}
			}
			s.Close()
		}
		s, err := n.Write(b.ctx, h)
		require.NoError(b, err)
		require.NoError(b, s.Send(rpc.WriteRequest{Fill: &rpc.Fill{Segment: most, Target: segments.Position{TxID: most}, Sources: nil}}))
		r, err := soon(b, time.Minute, "answer to a fill", s.Recv)
		require.NoError(b, err)
		require.Equal(b, rpc.FillFailed, r.Kind)
		s.Close()

		for _, seg := range []segments.TxID{0, most} {
			_, err = n.Prepare(b.ctx, h, seg, []segments.TxID{0, most})
			require.NoError(b, err)
			require.Error(b, n.Finalize(b.ctx, h, segments.End{First: seg, Last: seg}))
			require.Error(b, n.Accept(b.ctx, h, recovery.AcceptRequest{End: segments.End{First: seg, Last: seg}, Epoch: 1}, nil))
			st, err := n.ReadSegment(b.ctx, rpc.ReadRequest{Journal: id, Segment: seg, From: most, UpTo: 1})
			require.NoError(b, err)
			_, err = soon(b, time.Minute, "read", st.Recv)
			require.Error(b, err)
			st, err = n.Tail(b.ctx, rpc.TailRequest{Journal: id, From: seg})
			require.NoError(b, err)
			_, err = soon(b, time.Minute, "tail", st.Recv)
			require.Error(b, err)
		}
		bad := h
		bad.Claim = fencing.Claim{}
		_, err = n.NewEpoch(b.ctx, bad)
		require.ErrorIs(b, err, fencing.ErrZeroEpoch)
		bad = h
		bad.Journal = segments.JournalID{1}
		_, err = n.NewEpoch(b.ctx, bad)
		require.ErrorIs(b, err, rpc.ErrNoJournal)
		require.ErrorIs(b, n.InstallConfig(b.ctx, rpc.JournalSummary{ID: id, Name: "another", Config: b.founders()}), rpc.ErrBadRequest)
		require.ErrorIs(b, n.InstallConfig(b.ctx, rpc.JournalSummary{ID: id, Name: "../up", Config: b.founders()}), rpc.ErrBadRequest)
		require.NoError(b, b.Nodes[0].Ready(), "and it serves")
	})
}

// A client that stops reading its replies holds up nobody but itself: the node takes no more of its messages
// while it cannot answer them, and keeps a bounded number of replies.
func TestWrite_ClientThatDoesNotRead(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		id := b.journal("j")
		n := b.node(0)
		h := b.header(0, id, 1, writerID())
		deaf, err := n.Write(b.ctx, h)
		require.NoError(b, err)
		defer deaf.Close()
		const most = 3000
		var sent atomic.Int64
		var sending sync.WaitGroup
		sending.Go(func() {
			for range most {
				if deaf.Send(rpc.WriteRequest{}) != nil {
					return
				}
				sent.Add(1)
			}
		})
		defer sending.Wait()
		defer deaf.Close()
		synctest.Wait()
		require.Less(b, sent.Load(), int64(most), "its own messages wait")
		s, err := n.Write(b.ctx, h)
		require.NoError(b, err)
		defer s.Close()
		require.NoError(b, s.Send(rpc.WriteRequest{Start: &segments.End{}}))
		_, err = soon(b, time.Second, "another client", s.Recv)
		require.NoError(b, err)
		for range most {
			r, err := soon(b, time.Second, "what was kept, and what waited", deaf.Recv)
			require.NoError(b, err)
			require.Equal(b, rpc.Alive, r.Kind)
		}
	})
}

// Frames of one stream that wait for a slow disk are bounded by QueueBytes: the node stops taking them.
func TestWrite_QueueIsBounded(t *testing.T) {
	disks := make([]*hangFS, 3)
	opts := testcluster.Options{
		FS:   func(i int, d *memfs.FS) vfs.FS { disks[i] = &hangFS{FS: d}; return disks[i] },
		Tune: func(_ int, o *journalnode.Options) { o.QueueBytes, o.StallAfter = 64<<10, time.Hour },
	}
	run(t, opts, func(b *bed) {
		id := b.journal("j")
		s, err := b.node(0).Write(b.ctx, b.header(0, id, 1, writerID()))
		require.NoError(b, err)
		defer s.Close()
		require.NoError(b, s.Send(rpc.WriteRequest{Start: &segments.End{}}))
		_, err = s.Recv()
		require.NoError(b, err)
		payloads := make([]string, 200)
		for i := range payloads {
			payloads[i] = strings.Repeat("x", 4<<10)
		}
		fs := frames(b, segments.Position{}, 1, payloads...)
		back := make(chan struct{})
		disks[0].set(back)
		var mu sync.Mutex
		sent := 0
		go func() {
			for _, f := range fs {
				if s.Send(rpc.WriteRequest{Frames: []segments.Frame{f}}) != nil {
					return
				}
				mu.Lock()
				sent++
				mu.Unlock()
			}
		}()
		b.wait(time.Minute)
		mu.Lock()
		require.Less(b, sent, 60, "flow control holds the writer back")
		mu.Unlock()
		disks[0].set(nil)
		close(back)
		for last := segments.TxID(0); last < 200; {
			r, err := soon(b, time.Minute, "acks", s.Recv)
			require.NoError(b, err)
			last = r.At.TxID
		}
	})
}
