package journalnode_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/inspect"
	"github.com/quorumjournal/qjm/internal/memnet"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// ward is a cluster in a bubble whose journal "j" holds three finalized segments of two transactions on
// every node, with what the nodes log and count.
type ward struct {
	*bed
	id   segments.JournalID
	mu   sync.Mutex
	logs [3]bytes.Buffer
	regs [3]*prometheus.Registry
	// held: nodes that are not let read segments from their peers.
	held map[string]bool
}

func inWard(t *testing.T, tune func(i int, o *journalnode.Options), f func(w *ward)) {
	t.Helper()
	w := &ward{held: map[string]bool{}}
	opts := testcluster.Options{Tune: func(i int, o *journalnode.Options) {
		w.regs[i] = prometheus.NewRegistry()
		o.Registerer, o.Gatherer = w.regs[i], w.regs[i]
		o.Logger = slog.New(slog.NewTextHandler(&lockedWriter{&w.mu, &w.logs[i]}, nil))
		o.ScrubEvery = time.Minute
		if tune != nil {
			tune(i, o)
		}
	}}
	run(t, opts, func(b *bed) {
		w.bed = b
		w.Net.Fault(func(c memnet.Call) memnet.Verdict {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.held[c.From] && c.Method == "ReadSegment" {
				return memnet.Drop
			}
			return memnet.Deliver
		})
		w.id = b.journal("j")
		qw, err := b.Client().OpenWriter(b.ctx, "j", libqjm.WriterOptions{})
		require.NoError(b, err)
		for s := range 3 {
			_, _, err := qw.AppendBatch(b.ctx, [][]byte{fmt.Appendf(nil, "payload %d", s), []byte("x")})
			require.NoError(b, err)
			if s < 2 {
				require.NoError(b, qw.Roll(b.ctx))
			}
		}
		require.NoError(b, qw.Close(b.ctx))
		for i := range b.Nodes {
			b.Until(time.Minute, "every node has all", func() bool { return w.finalized(i) == 3 })
		}
		f(w)
	})
}

func (w *ward) hold(held bool, nodes ...int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, i := range nodes {
		w.held[w.ID(i)] = held
	}
}

func (w *ward) said(i int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.logs[i].String()
}

func (w *ward) metric(i int, name string) float64 {
	w.Helper()
	families, err := w.regs[i].Gather()
	require.NoError(w, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	require.FailNow(w, "no such metric", name)
	return 0
}

func (w *ward) segments(i int) []rpc.SegmentInfo {
	w.Helper()
	infos, err := rpc.AllSegments(w.ctx, w.id, w.node(i).Segments)
	require.NoError(w, err)
	return infos
}

func (w *ward) segment(i int, s segments.TxID) rpc.SegmentInfo {
	w.Helper()
	for _, info := range w.segments(i) {
		if info.First == s {
			return info
		}
	}
	return rpc.SegmentInfo{First: s}
}

func (w *ward) finalized(i int) (n int) {
	w.Helper()
	for _, s := range w.segments(i) {
		if s.State == recovery.Finalized {
			n++
		}
	}
	return n
}

// ends are what a node holds finalized.
func (w *ward) ends(i int) (ends []segments.End) {
	w.Helper()
	for _, s := range w.segments(i) {
		if s.State == recovery.Finalized {
			ends = append(ends, segments.End{First: s.First, Last: s.Last.TxID, Digest: s.Last.Digest})
		}
	}
	return ends
}

// file is the finalized segment's file on a node's disk.
func (w *ward) file(i int, s segments.TxID) string {
	w.Helper()
	return path.Join(w.JournalDir(i), "segments", segments.Name{Kind: segments.NameFinalized, First: s, Last: s + 1}.String())
}

func (w *ward) content(i int, name string) string {
	w.Helper()
	b, err := w.Disks[i].ReadAll(name)
	require.NoError(w, err)
	return string(b)
}

func (w *ward) rot(i int, s segments.TxID) (rotten string) {
	w.Helper()
	name := w.file(i, s)
	at := strings.Index(w.content(i, name), "payload")
	require.Positive(w, at)
	require.NoError(w, w.Disks[i].FlipBit(name, int64(at), 2))
	return w.content(i, name)
}

// aside returns the content of finalized copies of a segment that were set aside on a node.
func (w *ward) aside(i int, s segments.TxID, why segments.Reason) (contents []string) {
	w.Helper()
	dir := path.Join(w.JournalDir(i), "segments")
	names, err := w.Disks[i].List(dir)
	require.NoError(w, err)
	for _, n := range names {
		if p, ok := segments.ParseName(n); ok && p.Kind == segments.NameAside && p.Base().Kind == segments.NameFinalized && p.First == s && p.Reason == why {
			contents = append(contents, w.content(i, path.Join(dir, n)))
		}
	}
	return contents
}

// swap puts another finalized copy in the place of a stopped node's, and returns its bytes.
func (w *ward) swap(i int, s segments.TxID, payload string) string {
	w.Helper()
	d, err := store.Open(w.Disks[i], path.Join(w.JournalDir(i), "segments"), w.id, store.Options{})
	require.NoError(w, err)
	h, err := d.Header(s)
	require.NoError(w, err)
	require.NoError(w, d.Remove(s))
	inc, err := d.NewIncoming(h, "test")
	require.NoError(w, err)
	fs := frames(w, segments.Position{TxID: h.Prev.Last, Digest: h.Prev.Digest}, h.Epoch, payload, "other")
	for _, f := range fs {
		require.NoError(w, inc.Append(f))
	}
	_, err = inc.InstallFinalized(segments.End{First: s, Last: s + 1, Digest: fs[1].Digest()}, segments.ReasonLeftover)
	require.NoError(w, err)
	return w.content(i, w.file(i, s))
}

// TestA2_ScrubFindsRot: a finalized segment rots on n1. The scrub of the node finds it; from then on it is
// unknown there, told in metrics, log, status and offline, and not served; its bytes stay where they are
// until there is something better. Then a verified copy is fetched, and the rotten one kept aside.
func TestA2_ScrubFindsRot(t *testing.T) {
	inWard(t, nil, func(w *ward) {
		w.hold(true, 0)
		rotten := w.rot(0, 3)
		require.Equal(w, recovery.Finalized, w.segment(0, 3).State, "nobody has looked")
		w.Until(3*time.Minute, "the scrub finds it", func() bool { return w.metric(0, "qjm_scrub_damages_total") > 0 })
		w.wait(3 * time.Minute)
		require.Equal(w, recovery.Unknown, w.segment(0, 3).State)
		require.NotEmpty(w, w.segment(0, 3).Problem)
		require.Contains(w, w.said(0), "segment is damaged")
		require.Contains(w, w.said(0), "segment=3")
		st, err := w.node(0).State(w.ctx, w.id)
		require.NoError(w, err)
		require.Len(w, st.Damaged, 1)
		require.EqualValues(w, 3, st.Damaged[0].Segment)
		stream, err := w.node(0).ReadSegment(w.ctx, rpc.ReadRequest{Journal: w.id, Segment: 3})
		if err == nil {
			_, err = stream.Recv()
		}
		require.ErrorIs(w, err, segments.ErrCorrupt, "it is not served")
		require.Equal(w, rotten, w.content(0, w.file(0, 3)), "A0: it may be all there is")
		require.EqualValues(w, 1, w.metric(0, "qjm_scrub_damages_total"), "it is not read again and again")
		require.Equal(w, 1, w.corrupt(0), "offline")

		pulled := w.metric(0, "qjm_repaired_segments_total")
		w.hold(false, 0)
		w.Until(time.Minute, "it is replaced", func() bool { return w.finalized(0) == 3 })
		require.Equal(w, w.ends(1), w.ends(0))
		require.Equal(w, []string{rotten}, w.aside(0, 3, segments.ReasonDamaged))
		w.Until(time.Minute, "and it says so", func() bool { return strings.Contains(w.said(0), "segment pulled from a peer") })
		require.Equal(w, pulled+1, w.metric(0, "qjm_repaired_segments_total"))
		require.Zero(w, w.corrupt(0), "offline: what was set aside is history")
		st, err = w.node(0).State(w.ctx, w.id)
		require.NoError(w, err)
		require.Empty(w, st.Damaged)
		for i := range w.Nodes {
			require.Zero(w, w.metric(i, "qjm_divergences_total"))
			require.Greater(w, w.metric(i, "qjm_scrubbed_segments_total"), 2.0, "every node scrubs")
		}
	})
}

// corrupt is how many damages an offline look at a node's disk finds.
func (w *ward) corrupt(i int) int {
	w.Helper()
	tree, err := inspect.Open(w.Disks[i], w.Dir(i))
	require.NoError(w, err)
	return inspect.Verify([]*inspect.Tree{tree}, nil).Count(inspect.Corrupt)
}

// TestA2_OneVerifiedCopyIsEnough_L8: n1's copy is rotten, n3 has none at all, and n2's is the only one left.
func TestA2_OneVerifiedCopyIsEnough_L8(t *testing.T) {
	inWard(t, nil, func(w *ward) {
		w.StopNode(2)
		require.NoError(w, w.Disks[2].Remove(w.file(2, 3)))
		rotten := w.rot(0, 3)
		w.Until(3*time.Minute, "it is replaced", func() bool { return len(w.aside(0, 3, segments.ReasonDamaged)) == 1 && w.finalized(0) == 3 })
		require.Equal(w, []string{rotten}, w.aside(0, 3, segments.ReasonDamaged))
		w.StartNode(2)
		w.Until(time.Minute, "n3, too", func() bool { return w.finalized(2) == 3 })
		require.Equal(w, w.ends(1), w.ends(2))
	})
}

// TestA2_CopiesThatDisagree: n1's copy is rotten, and the finalized ones of n2 and n3 differ: nobody chooses.
// It is named on every node, nothing is touched, and what is not in doubt is repaired all the same.
func TestA2_CopiesThatDisagree(t *testing.T) {
	inWard(t, nil, func(w *ward) {
		w.hold(true, 0)
		rotten, other := w.rot(0, 3), w.rot(0, 5)
		w.Until(3*time.Minute, "the scrub finds both", func() bool { return w.metric(0, "qjm_scrub_damages_total") == 2 })
		w.StopNode(2)
		odd := w.swap(2, 3, "something else")
		good := w.content(1, w.file(1, 3))
		w.StartNode(2)
		w.hold(false, 0)
		w.Until(time.Minute, "the other segment is repaired", func() bool { return w.segment(0, 5).State == recovery.Finalized })
		require.Equal(w, []string{other}, w.aside(0, 5, segments.ReasonDamaged))
		w.wait(5 * time.Minute)
		require.Equal(w, recovery.Unknown, w.segment(0, 3).State)
		for i, want := range []string{rotten, good, odd} {
			require.Equal(w, want, w.content(i, w.file(i, 3)), "n%d", i+1)
			require.Empty(w, w.aside(i, 3, segments.ReasonLeftover))
			require.Empty(w, w.aside(i, 3, segments.ReasonDamaged))
			require.Positive(w, w.metric(i, "qjm_divergences_total"))
			said := w.said(i)
			require.Contains(w, said, "finalized copies diverge")
			for _, text := range []string{"segment 3", "n2 has", "n3 has", w.segment(1, 3).Last.String(), w.segment(2, 3).Last.String()} {
				require.Contains(w, said, text)
			}
		}
	})
}

// TestR2_MinorityCopyIsQuarantined_L9: n3 has a finalized copy that differs from the equal ones of n1 and n2,
// which are the decision: n3 sets its own aside, says so with all ends, and pulls the decided one. Nobody else
// is touched.
func TestR2_MinorityCopyIsQuarantined_L9(t *testing.T) {
	inWard(t, nil, func(w *ward) {
		before := []string{w.content(0, w.file(0, 3)), w.content(1, w.file(1, 3))}
		w.StopNode(2)
		odd := w.swap(2, 3, "something else")
		w.hold(true, 2)
		w.StartNode(2)
		w.Until(time.Minute, "it is set aside", func() bool { return len(w.aside(2, 3, segments.ReasonLeftover)) == 1 })
		require.Equal(w, []string{odd}, w.aside(2, 3, segments.ReasonLeftover))
		require.NotEqual(w, recovery.Finalized, w.segment(2, 3).State)
		stream, err := w.node(2).ReadSegment(w.ctx, rpc.ReadRequest{Journal: w.id, Segment: 3})
		if err == nil {
			_, err = stream.Recv()
		}
		require.Error(w, err, "it is served no longer")
		said := w.said(2)
		require.Contains(w, said, "the copy here is set aside")
		for _, text := range []string{"segment 3", "n1 has", "n2 has", "n3 has", w.segment(0, 3).Last.String()} {
			require.Contains(w, said, text)
		}
		require.EqualValues(w, 1, w.metric(2, "qjm_divergences_total"))
		w.hold(false, 2)
		w.Until(time.Minute, "the decided one is pulled", func() bool { return w.finalized(2) == 3 })
		require.Equal(w, w.ends(0), w.ends(2))
		for i := range 2 {
			require.Equal(w, before[i], w.content(i, w.file(i, 3)))
			require.Empty(w, w.aside(i, 3, segments.ReasonLeftover))
		}
		require.Equal(w, []string{odd}, w.aside(2, 3, segments.ReasonLeftover))
	})
}

// TestR2_RecoveryNamesTheMinorityCopy_L9: where the newest segment is the one, recovery goes on with the
// majority's and names the node. Of n1 and n3 alone nobody could tell: the next attempt hears n2, too.
func TestR2_RecoveryNamesTheMinorityCopy_L9(t *testing.T) {
	off := false
	noRepair := func(_ int, o *journalnode.Options) {
		if off {
			o.RepairEvery, o.CompareEvery = time.Hour, time.Hour
		}
	}
	inWard(t, noRepair, func(w *ward) {
		off = true // n3 does not look after itself when it is back
		w.StopNode(2)
		w.swap(2, 5, "something else")
		w.StartNode(2)
		lost := false
		w.Net.Fault(func(c memnet.Call) memnet.Verdict {
			w.mu.Lock()
			defer w.mu.Unlock()
			if c.To == "n2" && c.Method == "Prepare" && !lost {
				lost = true
				return memnet.Drop
			}
			return memnet.Deliver
		})
		r, err := w.Client().Recover(w.ctx, "j")
		require.NoError(w, err)
		require.True(w, lost)
		require.Equal(w, []string{"n3"}, r.Quarantine)
		require.Equal(w, w.segment(0, 5).Last.Digest.String(), r.Digest)
	})
}

// TestA0_NothingGoesBecausePeersLackIt: n1 alone has the segments, and an open one with more in it; its
// peers answer, as members in good standing, that they have none of it, or do not know the journal. Whatever
// they say and however often they are asked, n1's disk stays as it is.
func TestA0_NothingGoesBecausePeersLackIt(t *testing.T) {
	for name, lack := range map[string]lacking{
		"no segments":            {segments: func([]rpc.SegmentInfo) ([]rpc.SegmentInfo, error) { return nil, nil }},
		"only the first":         {segments: func(s []rpc.SegmentInfo) ([]rpc.SegmentInfo, error) { return s[:1], nil }},
		"shorter, in progress":   {segments: inProgressOnly},
		"no such journal":        {segments: func([]rpc.SegmentInfo) ([]rpc.SegmentInfo, error) { return nil, rpc.ErrNoJournal }, noJournal: true},
		"one says it is deleted": {segments: func([]rpc.SegmentInfo) ([]rpc.SegmentInfo, error) { return nil, rpc.ErrJournalDeleted }, deleted: "n2"},
	} {
		t.Run(name, func(t *testing.T) {
			inWard(t, nil, func(w *ward) {
				h := w.header(0, w.id, 99, writerID())
				s, err := w.node(0).Write(w.ctx, h)
				require.NoError(w, err)
				end := w.segment(0, 5)
				prev := segments.End{First: 5, Last: end.Last.TxID, Digest: end.Last.Digest}
				require.NoError(w, s.Send(rpc.WriteRequest{Start: &prev}))
				require.NoError(w, s.Send(rpc.WriteRequest{Frames: frames(w, end.Last, 99, "alone")}))
				for acked := segments.TxID(0); acked < end.Last.TxID+1; {
					r, err := s.Recv()
					require.NoError(w, err)
					acked = r.At.TxID
				}
				s.Close()
				w.wait(5 * time.Second) // marks and floors are written when all is quiet
				before := dirTree(w, w.Disks[0], w.Dir(0))
				for i := 1; i < 3; i++ {
					l := lack
					l.Service, l.id = w.Nodes[i], w.ID(i)
					w.Net.Serve(w.ID(i), l)
				}
				w.Net.ResetCalls()
				w.wait(5 * time.Minute)
				asked := "Segments"
				if lack.noJournal {
					asked = "Journals" // it is told that there is no list to ask for
				}
				require.Greater(w, w.Net.Count("n1", "n2", asked), 10, "it asked")
				require.Equal(w, before, dirTree(w, w.Disks[0], w.Dir(0)))
				require.Equal(w, 3, w.finalized(0))
				w.CrashNode(0, memfs.CrashOptions{})
				w.StartNode(0)
				w.wait(time.Minute)
				require.Equal(w, 3, w.finalized(0))
				require.EqualValues(w, end.Last.TxID+1, w.segment(0, 7).Last.TxID)
			})
		})
	}
}

func inProgressOnly(s []rpc.SegmentInfo) ([]rpc.SegmentInfo, error) {
	for i := range s {
		s[i].State, s[i].Last = recovery.InProgress, segments.Position{TxID: s[i].First}
	}
	return s, nil
}

// lacking is a node that says it has less than it has.
type lacking struct {
	rpc.Service
	id        string
	segments  func([]rpc.SegmentInfo) ([]rpc.SegmentInfo, error)
	noJournal bool
	deleted   string // the node that says so
}

// Segments says what the test wants it to say.
func (l lacking) Segments(ctx context.Context, req rpc.SegmentsRequest) (rpc.SegmentsPage, error) {
	p, err := l.Service.Segments(ctx, req)
	if err == nil {
		p.Segments, err = l.segments(p.Segments)
	}
	return p, err
}

// Journals says what the test wants it to say.
func (l lacking) Journals(ctx context.Context) ([]rpc.JournalSummary, error) {
	js, err := l.Service.Journals(ctx)
	if err != nil || l.noJournal {
		return nil, err
	}
	for i := range js {
		js[i].Holding = rpc.Holding{} // it is of an older version, so that it is asked again and again
		if l.deleted == l.id {
			js[i].Deleted, js[i].Config = true, quorum.Config{Version: 2}
		}
	}
	return js, nil
}

// TestA1_OneSegmentHoldsUpNoOther: nobody can serve the first segment that n1 lacks. The others are pulled, and
// what is missing is said, once.
func TestA1_OneSegmentHoldsUpNoOther(t *testing.T) {
	inWard(t, nil, func(w *ward) {
		w.StopNode(0)
		for _, s := range []segments.TxID{1, 3, 5} {
			require.NoError(w, w.Disks[0].Remove(w.file(0, s)))
		}
		for i := 1; i < 3; i++ {
			w.Net.Serve(w.ID(i), unreadable{w.Nodes[i], 1})
		}
		w.StartNode(0)
		w.Until(time.Minute, "the others are pulled", func() bool { return w.finalized(0) == 2 })
		w.wait(5 * time.Minute)
		require.Equal(w, 2, w.finalized(0))
		require.Equal(w, 1, strings.Count(w.said(0), "repair is not complete"), w.said(0))
		require.Contains(w, w.said(0), "segment 1:")
		for i := 1; i < 3; i++ {
			w.Net.Serve(w.ID(i), w.Nodes[i])
		}
		w.Until(time.Minute, "this one, too", func() bool { return w.finalized(0) == 3 })
		require.Equal(w, w.ends(1), w.ends(0))
	})
}

// unreadable is a node that cannot serve a segment.
type unreadable struct {
	rpc.Service
	segment segments.TxID
}

// ReadSegment fails for the one.
func (u unreadable) ReadSegment(ctx context.Context, req rpc.ReadRequest, send func(rpc.Chunk) error) error {
	if req.Segment == u.segment {
		return segments.ErrCorrupt
	}
	return u.Service.ReadSegment(ctx, req, send)
}
