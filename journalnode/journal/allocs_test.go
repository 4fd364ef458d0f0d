package journal

import (
	"path"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/internal/vfs/osfs"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// What a node allocates for a frame does not depend on how many transactions are in it: nothing per transaction.
// Allocations are exact where times are not, so this is what guards the write path in CI.
func TestAllocs_NothingPerTransaction(t *testing.T) {
	const perFrame = 12 // the system calls' closures and paths to errors; what is above it was added by somebody
	for _, txns := range []int{1, 1000} {
		j, st := startedOnDisk(t)
		var fs []segments.Frame
		at := segments.Position{}
		const runs = 100
		for range runs + 1 {
			var b segments.Builder
			b.Reset(at.TxID+1, st.Header.Claim.Epoch)
			for range txns {
				require.NoError(t, b.Add(make([]byte, 256)))
			}
			f, err := b.Seal(at.Digest, segments.SealOptions{})
			require.NoError(t, err)
			fs, at = append(fs, f), f.Position()
		}
		items := []Item{{Stream: st}}
		got := testing.AllocsPerRun(runs, func() {
			items[0].Request.Frames, fs = fs[:1], fs[1:]
			j.Process(items)
		})
		require.LessOrEqual(t, got, float64(perFrame), "allocations for a frame of %d transactions", txns)
		require.Equal(t, at, j.tails[1].w.Synced())
	}
}

// startedOnDisk is a journal on a real disk with a segment that was started.
func startedOnDisk(t *testing.T) (*Journal, *Stream) {
	fs := osfs.New(t.TempDir())
	self := Self{nodeA, incarnation(nodeA)}
	cfg := quorum.NewConfig(1, quorum.Member{ID: nodeA, Incarnation: self.Incarnation})
	require.NoError(t, Create(fs, dir, journalID, "test", cfg))
	j, err := Open(fs, dir, self, journalID, Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, j.Close()) })
	h := rpc.Header{Journal: journalID, ConfigVersion: 1, Incarnation: self.Incarnation,
		Claim: fencing.Claim{Epoch: 1, Writer: fencing.WriterID{1}}}
	st := &Stream{Header: h, Reply: func(rpc.WriteReply) {}, Fail: func(err error) { t.Error(err) }}
	require.NoError(t, j.Hello(h))
	j.Attach(st)
	j.Process([]Item{{Stream: st, Request: rpc.WriteRequest{Start: &segments.End{}}}})
	return j, st
}

// What is behind the open segment costs nothing: neither the questions of a takeover nor a reader that begins somewhere
// allocate more where there are more segments.
func TestAllocs_NothingPerSegment(t *testing.T) {
	const runs, slack = 100, 2 << 10 // a list of the segments would be 100 times that
	ask := func(count int) map[string]uint64 {
		j := longJournal(t, count)
		middle, end := segments.TxID(count/2), segments.TxID(count)
		view, _ := j.Watch()
		bytes := map[string]uint64{}
		for what, ask := range map[string]func(){
			"state":   func() { require.Equal(t, end, j.State().Answer.Newest) },
			"absent":  func() { require.Equal(t, end, j.copyOf(end+1).Prev.Last) },
			"changed": j.structureChanged,
			"missing": func() { require.Equal(t, end+1, j.Needs()) },
			"page":    func() { require.Len(t, j.SegmentsAfter(middle, 2).Segments, 2) },
			"seek": func() {
				next, err := j.tailOnce(t.Context(), middle, false, view, func(rpc.Chunk) error { return nil })
				require.NoError(t, err)
				require.Equal(t, middle+1, next)
			},
			"at end": func() {
				require.ErrorIs(t, j.Tail(t.Context(), rpc.TailRequest{From: end + 2}, nil), rpc.ErrPastEnd)
			},
		} {
			bytes[what] = allocated(runs, ask)
		}
		return bytes
	}
	few, many := ask(10), ask(1000)
	for what := range few {
		require.LessOrEqual(t, many[what], few[what]+slack, what)
	}
}

// allocated returns how many bytes a run allocates, once everything is warm.
func allocated(runs int, run func()) uint64 {
	var before, after runtime.MemStats
	run()
	runtime.ReadMemStats(&before)
	for range runs {
		run()
	}
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) / uint64(runs)
}

// longJournal has so many finalized segments of a transaction each.
func longJournal(t *testing.T, count int) *Journal {
	fs, self := memfs.New(), Self{nodeA, incarnation(nodeA)}
	cfg := quorum.NewConfig(1, quorum.Member{ID: nodeA, Incarnation: self.Incarnation})
	require.NoError(t, Create(fs, dir, journalID, "test", cfg))
	d, err := store.Open(fs, path.Join(dir, segmentsDir), journalID, small.Store)
	require.NoError(t, err)
	prev := segments.End{}
	for range count {
		w, err := d.Create(segments.Header{Journal: journalID, First: prev.Next(), Epoch: 1, Prev: prev})
		require.NoError(t, err)
		var b segments.Builder
		b.Reset(prev.Next(), 1)
		require.NoError(t, b.Add([]byte("transaction")))
		f, err := b.Seal(prev.Digest, segments.SealOptions{})
		require.NoError(t, err)
		require.NoError(t, w.Append(f))
		require.NoError(t, w.Commit())
		prev = segments.End{First: f.First(), Last: f.Last(), Digest: f.Position().Digest}
		_, err = w.Finalize(prev)
		require.NoError(t, err)
	}
	j, err := Open(fs, dir, self, journalID, small)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, j.Close()) })
	return j
}

// A page costs its own segments, and is loaded by whoever wants it: the owner, who has appends to do, finds it in memory.
func TestLoadPage_LoadsThePageAlone(t *testing.T) {
	j := longJournal(t, 20)
	j.LoadPage(5, 3)
	for _, in := range j.store.Infos() {
		require.Equal(t, in.First > 5 && in.First <= 8, in.Loaded, "segment %d", in.First)
	}
}
