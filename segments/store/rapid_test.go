package store

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/segments"
)

// machine drives a world at random: all operations of the owner, full disks, and crashes at a random
// operation with random survivors. The oracle has three values for every frame: absent, maybe
// (appended, not committed; or an operation that a crash cut short), durable.
type machine struct {
	rt *rapid.T
	w  *world
	// limit is how many operations of the disk are left before the power fails; 0 is never.
	limit int64

	last struct { // what Check saw the last time
		dir     *Dir
		changes uint64
		held    []Info
	}
}

// do runs an operation; if the machine crashed in it, it starts again from what the disk kept.
func (m *machine) do(op func() error) {
	err := op()
	switch {
	case err == nil:
	case m.w.fs.Crashed():
		m.crash()
	case errors.Is(err, vfs.ErrNoSpace) && !errors.Is(err, ErrPoisoned):
		m.w.disk.SetCapacity(-1)
	default:
		require.NoError(m.rt, err)
	}
}

func (m *machine) crash() {
	seed := rapid.Uint64().Draw(m.rt, "seed")
	percent := rapid.SampledFrom([]int{0, 30, 70, 100, -1}).Draw(m.rt, "survivors")
	disk := m.w.disk.ProcessCrashClone()
	if percent >= 0 {
		disk = m.w.disk.CrashClone(memfs.CrashOptions{UnsyncedPercent: percent, Rand: rand.New(rand.NewPCG(seed, 9))})
	}
	disk.SetCapacity(-1)
	m.w.reopen(disk)
}

// newest returns the last segment, if there is one.
func (m *machine) newest() (Info, bool) {
	infos := m.w.d.Infos()
	if len(infos) == 0 {
		return Info{}, false
	}
	return infos[len(infos)-1], true
}

func (m *machine) sizes() []int {
	return rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(900, 3000), rapid.IntRange(0, 20_000)), 1, 4).Draw(m.rt, "sizes")
}

func (m *machine) needWriter() {
	if m.w.w == nil {
		m.rt.Skip("no writer")
	}
}

func (m *machine) needIdle() Info {
	i, ok := m.newest()
	if !ok || m.w.w != nil || i.State != StateInProgress {
		m.rt.Skip("no idle segment in progress")
	}
	return i
}

func (m *machine) Create() {
	i, ok := m.newest()
	prev := segments.End{}
	if ok {
		if i.State != StateFinalized {
			m.rt.Skip("in progress")
		}
		prev = m.w.one(i.First).end()
	}
	m.do(func() error { return m.w.create(header(1, prev)) })
}

func (m *machine) Append()   { m.needWriter(); m.do(func() error { return m.w.append(m.sizes()...) }) }
func (m *machine) Commit()   { m.needWriter(); m.do(m.w.commit) }
func (m *machine) MarkIdle() { m.needWriter(); m.do(func() error { return m.w.w.MarkIdle() }) }
func (m *machine) Close()    { m.needWriter(); m.do(m.w.close) }

func (m *machine) Finalize() {
	m.needWriter()
	if v := m.w.one(m.w.w.Header().First); v.min == 0 || v.min < len(v.frames) {
		m.rt.Skip("empty, or not committed")
	}
	err := m.w.finalize()
	if errors.Is(err, vfs.ErrNoSpace) {
		m.w.one(m.w.w.Header().First).maybe = false
	}
	m.do(func() error { return err })
}

func (m *machine) OpenTail() {
	i := m.needIdle()
	m.do(func() error { _, err := m.w.openTail(i.First); return err })
}

func (m *machine) SetAside() {
	i := m.needIdle()
	m.do(func() error { return m.w.setAside(i.First, segments.ReasonStale) })
}

// Install puts another copy in place of an idle one: a prefix of it, or one of a higher epoch.
func (m *machine) Install() {
	i := m.needIdle()
	v := *m.w.one(i.First)
	frames, h := v.frames, v.h
	if len(frames) > 0 && rapid.Bool().Draw(m.rt, "prefix") {
		frames = frames[:rapid.IntRange(1, len(frames)).Draw(m.rt, "frames")]
	} else {
		h.Epoch++
		frames = makeFrames(m.rt, h.Start(), h.Epoch, m.sizes()...)
	}
	final := rapid.Bool().Draw(m.rt, "final")
	m.do(func() error { return m.w.install(h, frames, final, segments.ReasonReplaced) })
}

func (m *machine) RemoveOldest() {
	infos := m.w.d.Infos()
	if len(infos) < 2 {
		m.rt.Skip("the newest stays")
	}
	m.do(func() error { return m.w.remove(infos[0].First) })
}

func (m *machine) FillDisk() {
	m.w.disk.SetCapacity(0)
}

func (m *machine) CrashNow() { m.w.fs.Crash(); m.crash() }

func (m *machine) CrashSoon() {
	k := m.w.fs.Mutations() + rapid.Int64Range(1, 12).Draw(m.rt, "k")
	if rapid.Bool().Draw(m.rt, "after") {
		m.w.fs.CrashAfter(k)
	} else {
		m.w.fs.CrashAt(k)
	}
}

// Check compares what readers see with what is durable.
func (m *machine) Check() {
	if m.w.fs.Crashed() {
		return
	}
	for first, b := range m.w.segs {
		if len(b.versions) != 1 {
			continue
		}
		v := b.versions[0]
		if !v.final && (m.w.w == nil || m.w.w.Header().First != first) {
			continue
		}
		got := m.w.framesOf(first)
		require.Len(m.rt, got, v.min)
		for i, f := range got {
			require.Equal(m.rt, v.frames[i].Bytes(), f.Bytes())
		}
	}
	m.checkChanges()
}

// checkChanges: while Changes says that nothing changed, a list made before is as good as a new one (A1).
func (m *machine) checkChanges() {
	changes, held := m.w.d.Changes(), listed(m.rt, m.w.d)
	if m.last.dir == m.w.d && m.last.changes == changes {
		require.Equal(m.rt, m.last.held, held)
	}
	m.last.dir, m.last.changes, m.last.held = m.w.d, changes, held
}

// listed is what anti-entropy compares: which segments there are, in which state, and of finalized ones the ends.
func listed(t testingT, d *Dir) []Info {
	t.Helper()
	out := []Info{}
	for _, i := range d.Infos() {
		i, err := d.Info(i.First)
		require.NoError(t, err)
		if i.State != StateFinalized {
			i = Info{First: i.First, State: i.State}
		}
		out = append(out, i)
	}
	return out
}

func TestStoreMachine(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &machine{rt: rt, w: newWorld(rt, smallOptions)}
		op := func(run func()) func(*rapid.T) {
			return func(rt *rapid.T) { m.rt, m.w.t = rt, rt; run() }
		}
		rt.Repeat(map[string]func(*rapid.T){
			"Create": op(m.Create), "Append": op(m.Append), "Append2": op(m.Append), "Commit": op(m.Commit),
			"Commit2": op(m.Commit), "MarkIdle": op(m.MarkIdle), "Close": op(m.Close), "Finalize": op(m.Finalize),
			"OpenTail": op(m.OpenTail), "SetAside": op(m.SetAside), "Install": op(m.Install),
			"RemoveOldest": op(m.RemoveOldest), "FillDisk": op(m.FillDisk),
			"CrashNow": op(m.CrashNow), "CrashSoon": op(m.CrashSoon), "": op(m.Check),
		})
	})
}
