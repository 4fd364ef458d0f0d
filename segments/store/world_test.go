package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/segments"
)

var testJournal = segments.JournalID{1, 2, 3}

const testDir = "j/segments"

// smallOptions make little content cross every bound.
var smallOptions = Options{PreallocateBytes: 8 << 10, PreallocateBytesMax: 32 << 10, BufferBytes: 1 << 10, FootersCached: 2}

// testingT is what testing.TB and *rapid.T share.
type testingT interface {
	require.TestingT
	Helper()
	Logf(format string, args ...any)
}

// version is one content that a segment may lawfully have.
type version struct {
	h      segments.Header
	frames []segments.Frame
	min    int  // so many frames are durable; the rest is "maybe"
	maybe  bool // it may be finalized
	final  bool // it is finalized, with all frames
}

func (v version) position(n int) segments.Position {
	if n == 0 {
		return v.h.Start()
	}
	return v.frames[n-1].Position()
}

// belief is what the oracle knows of a segment: the versions it may have, and whether it may be
// absent. With one version and no doubt it is durable.
type belief struct {
	versions []version
	absent   bool
}

// world is a directory on a disk that can crash, with the oracle of what must be there.
type world struct {
	t    testingT
	disk *memfs.FS
	fs   *faultfs.FS
	opts Options
	d    *Dir
	w    *Writer // of the newest segment, or nil

	segs   map[segments.TxID]*belief
	asides map[string]int // aside files that must be there, by "base.reason"
}

func newWorld(t testingT, opts Options) *world {
	w := &world{t: t, opts: opts, segs: map[segments.TxID]*belief{}, asides: map[string]int{}}
	w.boot(memfs.New())
	require.NoError(t, w.disk.MkdirAll("j"))
	require.NoError(t, w.disk.SyncDir("."))
	require.NoError(t, w.open())
	return w
}

func (w *world) boot(disk *memfs.FS) {
	w.disk, w.fs, w.d, w.w = disk, faultfs.New(disk), nil, nil
}

func (w *world) open() (err error) {
	w.d, err = Open(w.fs, testDir, testJournal, w.opts)
	return err
}

// one returns the only version of a segment.
func (w *world) one(first segments.TxID) *version {
	require.Len(w.t, w.segs[first].versions, 1)
	return &w.segs[first].versions[0]
}

func (w *world) belief(first segments.TxID) *belief {
	b := w.segs[first]
	if b == nil {
		b = &belief{absent: true}
		w.segs[first] = b
	}
	return b
}

// makeFrames seals n frames that continue pos.
func makeFrames(t require.TestingT, pos segments.Position, epoch fencing.Epoch, sizes ...int) []segments.Frame {
	frames := make([]segments.Frame, 0, len(sizes))
	var b segments.Builder
	for _, size := range sizes {
		b.Reset(pos.TxID+1, epoch)
		require.NoError(t, b.Add(bytes.Repeat([]byte{byte(size)}, size)))
		if size%3 == 0 {
			require.NoError(t, b.Add([]byte(fmt.Sprintf("second of %d", pos.TxID))))
		}
		f, err := b.Seal(pos.Digest, segments.SealOptions{})
		require.NoError(t, err)
		frames = append(frames, f)
		pos = f.Position()
	}
	return frames
}

func (w *world) create(h segments.Header) error {
	b := w.belief(h.First)
	b.versions = []version{{h: h}}
	wr, err := w.d.Create(h)
	if err != nil {
		return err
	}
	b.absent = false
	w.w = wr
	return nil
}

func (w *world) append(sizes ...int) error {
	v := w.one(w.w.Header().First)
	frames := makeFrames(w.t, w.w.Last(), v.h.Epoch, sizes...)
	v.frames = append(v.frames, frames...)
	err := w.w.Append(frames...)
	if errors.Is(err, vfs.ErrNoSpace) {
		v.frames = v.frames[:v.min]
		require.Equal(w.t, v.position(v.min), w.w.Last())
	}
	return err
}

func (w *world) commit() error {
	v := w.one(w.w.Header().First)
	err := w.w.Commit()
	if err == nil {
		v.min = len(v.frames)
		require.Equal(w.t, v.position(v.min), w.w.Synced())
	}
	return err
}

func (w *world) finalize() error {
	v := w.one(w.w.Header().First)
	last := v.position(len(v.frames))
	v.maybe = true
	_, err := w.w.Finalize(segments.End{First: v.h.First, Last: last.TxID, Digest: last.Digest})
	if err == nil {
		v.final = true
		w.w = nil
	}
	return err
}

func (w *world) close() error {
	v := w.one(w.w.Header().First)
	err := w.w.Close()
	if err == nil {
		v.frames = v.frames[:v.min]
		w.w = nil
	}
	return err
}

// openTail opens a segment in progress; what it reports is durable from then on (T4).
func (w *world) openTail(first segments.TxID) (TailReport, error) {
	wr, report, err := w.d.OpenTail(first)
	if err != nil {
		return report, err
	}
	w.w = wr
	v := w.recognize(first, wr.Header(), w.framesOf(first), false)
	require.Equal(w.t, v.position(v.min), report.Last)
	return report, nil
}

// recognize finds the version that a segment turned out to have, and believes in that only.
func (w *world) recognize(first segments.TxID, h segments.Header, frames []segments.Frame, final bool) version {
	w.t.Helper()
	b := w.segs[first]
	require.NotNil(w.t, b, "segment %d was never made", first)
	for _, v := range b.versions {
		if v.h != h || len(frames) < v.min || len(frames) > len(v.frames) || final && !v.maybe && !v.final ||
			(final || v.final) && len(frames) != len(v.frames) || v.final && !final {
			continue
		}
		same := true
		for i, f := range frames {
			same = same && bytes.Equal(f.Bytes(), v.frames[i].Bytes())
		}
		if same {
			got := version{h: h, frames: frames, min: len(frames), maybe: final, final: final}
			*b = belief{versions: []version{got}}
			return got
		}
	}
	require.Failf(w.t, "unlawful content", "segment %d: epoch %d, %d frames, finalized %v; lawful: %+v", first, h.Epoch, len(frames), final, summaries(b.versions))
	return version{}
}

func summaries(vs []version) (s []string) {
	for _, v := range vs {
		s = append(s, fmt.Sprintf("epoch %d, %d to %d frames, finalized %v/%v", v.h.Epoch, v.min, len(v.frames), v.maybe, v.final))
	}
	return s
}

// framesOf reads all that a reader gets.
func (w *world) framesOf(first segments.TxID) []segments.Frame {
	w.t.Helper()
	r, err := w.d.Reader(first, first)
	require.NoError(w.t, err)
	defer func() { require.NoError(w.t, r.Close()) }()
	var frames []segments.Frame
	for {
		f, err := r.Next()
		if err == io.EOF {
			return frames
		}
		require.NoError(w.t, err)
		frames = append(frames, f.Clone())
	}
}

func (w *world) setAside(first segments.TxID, reason segments.Reason) error {
	b := w.segs[first]
	b.absent = true
	key := w.baseOf(first) + "." + string(reason)
	if err := w.d.SetAside(first, reason); err != nil {
		return err
	}
	w.asides[key]++
	delete(w.segs, first)
	return nil
}

func (w *world) baseOf(first segments.TxID) string {
	n := segments.Name{Kind: segments.NameInProgress, First: first}
	if v := w.one(first); v.final {
		n = segments.Name{Kind: segments.NameFinalized, First: first, Last: v.position(len(v.frames)).TxID}
	}
	return n.String()
}

// install builds a copy of frames and installs it.
func (w *world) install(h segments.Header, frames []segments.Frame, final bool, reason segments.Reason) error {
	in, err := w.d.NewIncoming(h, "test")
	if err != nil {
		return err
	}
	for _, f := range frames {
		if err := in.Append(f); err != nil {
			if errors.Is(err, vfs.ErrNoSpace) {
				return errors.Join(err, in.Abort())
			}
			return err
		}
	}
	b := w.belief(h.First)
	key := ""
	if len(b.versions) > 0 {
		key = w.baseOf(h.First) + "." + string(reason)
	}
	before := *b
	b.versions = append(b.versions[:len(b.versions):len(b.versions)],
		version{h: h, frames: frames, min: len(frames), maybe: final, final: final})
	if final {
		pos := in.Position()
		_, err = in.InstallFinalized(segments.End{First: h.First, Last: pos.TxID, Digest: pos.Digest}, reason)
	} else {
		err = in.InstallInProgress(reason)
	}
	if errors.Is(err, vfs.ErrNoSpace) {
		*b = before
		return errors.Join(err, in.Abort())
	}
	if err != nil {
		return err
	}
	*b = belief{versions: b.versions[len(b.versions)-1:]}
	if key != "" {
		w.asides[key]++
	}
	return nil
}

func (w *world) remove(first segments.TxID) error {
	w.segs[first].absent = true
	if err := w.d.Remove(first); err != nil {
		return err
	}
	delete(w.segs, first)
	return nil
}

// reopen opens the directory on another disk and checks all of it against the oracle: every segment
// lawful, none missing that must be there, none there that nobody made. Each tail is opened and
// closed, so that afterwards there is no doubt about anything.
func (w *world) reopen(disk *memfs.FS) {
	w.t.Helper()
	w.boot(disk)
	require.NoError(w.t, w.open())
	w.check()
}

func (w *world) check() {
	w.t.Helper()
	there := map[segments.TxID]bool{}
	for _, i := range w.d.Infos() {
		there[i.First] = true
		require.NotEqual(w.t, StateDamaged, i.State, "%v", i.Err)
		if i.State == StateFinalized {
			require.NoError(w.t, w.d.Verify(i.First, nil))
			full, err := w.d.Info(i.First)
			require.NoError(w.t, err)
			h, err := w.d.Header(i.First)
			require.NoError(w.t, err)
			v := w.recognize(i.First, h, w.framesOf(i.First), true)
			require.Equal(w.t, v.position(v.min), full.End().Position())
			continue
		}
		_, err := w.openTail(i.First)
		require.NoError(w.t, err)
		require.NoError(w.t, w.close())
	}
	for first, b := range w.segs {
		if !there[first] {
			require.True(w.t, b.absent, "segment %d is missing; lawful: %v", first, summaries(b.versions))
			delete(w.segs, first)
		}
	}
	w.checkAsides()
}

func (w *world) checkAsides() {
	w.t.Helper()
	names, err := w.disk.List(testDir)
	require.NoError(w.t, err)
	found := map[string]int{}
	for _, s := range names {
		n, ok := segments.ParseName(s)
		require.True(w.t, ok, s)
		require.NotEqual(w.t, segments.NameInstall, n.Kind, s)
		if n.Kind == segments.NameAside {
			found[n.Base().String()+"."+string(n.Reason)]++
		}
	}
	for key, n := range w.asides {
		require.GreaterOrEqual(w.t, found[key], n, key)
	}
}

// header returns the header of a segment that follows what the oracle believes in.
func header(epoch fencing.Epoch, prev segments.End) segments.Header {
	return segments.Header{Journal: testJournal, First: prev.Next(), Epoch: epoch, Prev: prev}
}

func (v version) end() segments.End {
	pos := v.position(len(v.frames))
	return segments.End{First: v.h.First, Last: pos.TxID, Digest: pos.Digest}
}

// crashes yields what the disk may hold after a power loss now.
func crashes(disk *memfs.FS, seed uint64) []*memfs.FS {
	return []*memfs.FS{
		disk.CrashClone(memfs.CrashOptions{}),
		disk.CrashClone(memfs.CrashOptions{UnsyncedPercent: 100}),
		disk.CrashClone(memfs.CrashOptions{UnsyncedPercent: 50, Rand: rand.New(rand.NewPCG(seed, 1))}),
		disk.CrashClone(memfs.CrashOptions{UnsyncedPercent: 50, Rand: rand.New(rand.NewPCG(seed, 2))}),
		disk.CrashClone(memfs.CrashOptions{UnsyncedPercent: 80, Rand: rand.New(rand.NewPCG(seed, 3))}),
		disk.ProcessCrashClone(),
	}
}

// copyBeliefs lets several futures start from one past.
func (w *world) fork() *world {
	twin := &world{t: w.t, opts: w.opts, segs: map[segments.TxID]*belief{}, asides: map[string]int{}}
	for first, b := range w.segs {
		twin.segs[first] = &belief{versions: append([]version(nil), b.versions...), absent: b.absent}
	}
	for key, n := range w.asides {
		twin.asides[key] = n
	}
	return twin
}

func names(t require.TestingT, disk *memfs.FS) string {
	list, err := disk.List(testDir)
	require.NoError(t, err)
	return strings.Join(list, "\n")
}
