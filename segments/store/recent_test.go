package store

import (
	"path"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/segments"
)

// dropped records what may leave the page cache, by the name that a file was opened under: [0, n) of it.
type dropped struct {
	vfs.FS
	upTo map[string]int64
	file map[string]string // what a segment in progress is called now
}

type droppedFile struct {
	vfs.File
	d    *dropped
	name string
}

func (d *dropped) Create(name string) (vfs.File, error) { return d.wrap(name)(d.FS.Create(name)) }
func (d *dropped) Open(name string) (vfs.File, error)   { return d.wrap(name)(d.FS.Open(name)) }

func (d *dropped) wrap(name string) func(vfs.File, error) (vfs.File, error) {
	return func(f vfs.File, err error) (vfs.File, error) {
		if err != nil {
			return nil, err
		}
		return droppedFile{f, d, name}, nil
	}
}

func (d *dropped) Rename(from, to string) error {
	d.upTo[to] = d.upTo[from]
	delete(d.upTo, from)
	d.file[from] = to
	return d.FS.Rename(from, to)
}

func (f droppedFile) DropCache(off, n int64) {
	name := f.name
	for f.d.file[name] != "" {
		name = f.d.file[name]
	}
	if off > f.d.upTo[name] {
		return // what lies before it stays: not all is dropped
	}
	f.d.upTo[name] = max(f.d.upTo[name], off+n)
}

// TestRecentStaysCached: of what was appended, in whatever segments, the newest CachedBytes stay in the page cache, and
// little more does; nothing is dropped that was not synced.
func TestRecentStaysCached(t *testing.T) {
	const cached, frame, perSegment, count = 3 << 20, 256 << 10, 11, 4
	d := &dropped{FS: memfs.New(), upTo: map[string]int64{}, file: map[string]string{}}
	dir, err := Open(d, "j", testJournal, Options{CachedBytes: cached})
	require.NoError(t, err)

	type group struct {
		first    segments.TxID
		from, to int64
	}
	var written []group
	check := func() {
		newer := int64(0)
		for i := len(written) - 1; i >= 0; i-- {
			g := written[i]
			dir.mu.Lock()
			name := dir.segs[g.first].name
			dir.mu.Unlock()
			gone := d.upTo[path.Join("j", name.String())]
			if newer+g.to-g.from <= cached {
				require.LessOrEqual(t, gone, g.from, "%v: dropped with only %d bytes behind it", g, newer)
			}
			if newer > cached+dropStep+frame {
				require.GreaterOrEqual(t, gone, g.to, "%v: kept with %d bytes behind it", g, newer)
			}
			newer += g.to - g.from
		}
	}
	prev := segments.End{}
	for range count {
		w, err := dir.Create(header(1, prev))
		require.NoError(t, err)
		first := w.Header().First
		for range perSegment {
			from := w.Bytes()
			f := makeFrames(t, w.Last(), 1, frame)
			require.NoError(t, w.Append(f...))
			require.NoError(t, w.Commit())
			written = append(written, group{first, from, w.Bytes()})
			check()
		}
		prev = segments.End{First: first, Last: w.Last().TxID, Digest: w.Last().Digest}
		_, err = w.Finalize(prev)
		require.NoError(t, err)
	}
	require.NotEmpty(t, d.upTo)

	require.NoError(t, dir.Remove(1)) // what is gone is no trouble
	w, err := dir.Create(header(1, prev))
	require.NoError(t, err)
	for range 40 {
		require.NoError(t, w.Append(makeFrames(t, w.Last(), 1, frame)...))
		require.NoError(t, w.Commit())
	}
}

// TestRecentIsBounded: many tiny segments are not remembered one by one.
func TestRecentIsBounded(t *testing.T) {
	var r recent
	segs := make([]segment, 10*spansMax)
	for i := range segs {
		r.add(&segs[i], 100, 200)
	}
	require.Len(t, r.spans, spansMax)
	require.EqualValues(t, 100*spansMax, r.bytes)
	_, more := r.excess(0)
	require.False(t, more, "a step is not full")
	r.add(&segs[0], 0, 3*dropStep)
	for range spansMax - 1 {
		s, more := r.excess(dropStep)
		require.True(t, more)
		require.EqualValues(t, 100, s.to-s.from)
	}
	s, more := r.excess(dropStep)
	require.True(t, more)
	require.Equal(t, span{&segs[0], 0, 2 * dropStep}, s)
	_, more = r.excess(dropStep)
	require.False(t, more)
	require.EqualValues(t, dropStep, r.bytes)
}
