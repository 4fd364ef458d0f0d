package journal

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// Each test here guards checks that could be taken out one at a time without any other test of the package
// failing.

// names lists a node's segment files.
func (m *machine) names(t require.TestingT) []string {
	names, err := m.disk.List(dir + "/" + segmentsDir)
	require.NoError(t, err)
	return names
}

func (m *machine) aside(t require.TestingT, why segments.Reason) (n int) {
	for _, name := range m.names(t) {
		if strings.Contains(name, "."+string(why)+"-") {
			n++
		}
	}
	return n
}

func (m *machine) temporaries(t require.TestingT) (n int) {
	for _, name := range m.names(t) {
		if p, ok := segments.ParseName(name); ok && p.Kind != segments.NameInProgress && p.Kind != segments.NameFinalized && p.Kind != segments.NameAside {
			n++
		}
	}
	return n
}

// between: something happens on A between two messages of one write stream of epoch 1.
var between = map[string]struct {
	happens func(t *testing.T, c *cluster, m *machine)
	want    error
}{
	"F1: a higher epoch is promised": {func(t *testing.T, c *cluster, m *machine) {
		_, err := m.NewEpoch(c.header(nodeA, fencing.Claim{Epoch: 7, Writer: fencing.WriterID{7}}))
		require.NoError(t, err)
	}, fencing.ErrFenced},
	"M1: a newer config": {func(_ *testing.T, c *cluster, m *machine) {
		m.config = quorum.NewConfig(2, c.cfg.Members()...)
	}, rpc.ErrConfig},
	"N1: no member any more": {func(_ *testing.T, c *cluster, m *machine) {
		m.config = quorum.NewConfig(1, quorum.Member{ID: nodeA, Incarnation: quorum.Incarnation{99}}, c.cfg.Members()[1])
	}, rpc.ErrUnknownNode},
	"M8: the journal is deleted": {func(t *testing.T, c *cluster, m *machine) {
		require.NoError(t, c.delete(m))
	}, rpc.ErrJournalDeleted},
	"a write failed": {func(t *testing.T, c *cluster, m *machine) {
		m.fs.Inject(faultfs.Rule{Op: faultfs.OpSync, PathContains: fenceFile, Nth: 1})
		_, err := m.NewEpoch(c.header(nodeA, fencing.Claim{Epoch: 7, Writer: fencing.WriterID{7}}))
		require.ErrorIs(t, err, rpc.ErrPoisoned)
	}, rpc.ErrPoisoned},
	"a write of a copy built outside the owner failed": {func(t *testing.T, _ *cluster, m *machine) {
		inc, err := m.NewIncoming(segments.End{}, 1)
		require.NoError(t, err)
		m.fs.Inject(faultfs.Rule{Op: faultfs.OpSync, Nth: 1})
		require.ErrorIs(t, inc.Sync(), store.ErrPoisoned)
	}, rpc.ErrPoisoned},
}

// N1, M1, F1: the gate of a stream is passed at each message, not only by its first one: no ack leaves, no
// frame is written, no segment is started or finalized, no position is told. Guards check and Holds in
// handle and FillPosition, and every case of check.
func TestN1_M1_F1_EachMessagePassesTheGate(t *testing.T) {
	for name, tc := range between {
		t.Run(name, func(t *testing.T) {
			for _, kind := range []string{"frames", "resent", "start", "finalize", "alive", "fill"} {
				c := newCluster(t)
				w := c.mustRecover().mustStart(nodeA)
				m := c.nodes[nodeA]
				s := w.stream(nodeA)
				one := w.frame("1")
				_, err := s.send(rpc.WriteRequest{Frames: []segments.Frame{one}})
				require.NoError(t, err)
				require.Len(t, s.replies, 1)
				end, prev := w.end(), w.prev
				request := map[string]rpc.WriteRequest{
					"frames": {Frames: []segments.Frame{w.frame("2")}}, "resent": {Frames: []segments.Frame{one}},
					"start": {Start: &prev}, "finalize": {Finalize: &end}, "alive": {}, "fill": {},
				}[kind]
				tc.happens(t, c, m)
				s.replies = nil
				if kind == "fill" {
					_, err = m.FillPosition(s.Header, 1)
				} else {
					m.Process([]Item{{s.Stream, request}})
					err = s.err
				}
				require.ErrorIs(t, err, tc.want, kind)
				require.Empty(t, s.replies, kind)
				require.LessOrEqual(t, c.copyAt(nodeA, 1).Last.TxID, one.Last(), kind)
				require.NotEqual(t, recovery.Finalized, c.copyAt(nodeA, 1).State, kind)
			}
		})
	}
}

// A stream that was refused is over: what is queued behind the refused message has no effect, though it
// would pass by itself. Guards over in Process.
func TestW1_NothingBehindARefusedMessage(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA)
	one, two, three := w.frame("1"), w.frame("2"), w.frame("3")
	_, err := w.stream(nodeA).send(rpc.WriteRequest{Frames: []segments.Frame{one}},
		rpc.WriteRequest{Frames: []segments.Frame{three}}, rpc.WriteRequest{Frames: []segments.Frame{two}})
	require.ErrorIs(t, err, rpc.ErrOutOfSync)
	require.Equal(t, one.Position(), c.copyAt(nodeA, 1).Last)
	_, err = w.stream(nodeA).send(rpc.WriteRequest{Fill: &rpc.Fill{Segment: 1}})
	require.ErrorIs(t, err, rpc.ErrBadRequest, "a fill is carried out by the node, not by the journal")
}

// R4: while the content was fetched, the accept was done by another request, or the segment was finalized
// with that very end: there is nothing left to do, and nothing is touched. Guards AcceptDone in FinishAccept.
func TestR4_AcceptDoneMeanwhile(t *testing.T) {
	for name, finalize := range map[string]bool{"the same accept": false, "finalized": true} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			w := c.mustRecover().mustStart(nodeA)
			w.write("1", nodeA)
			m := c.nodes[nodeC]
			req := recovery.AcceptRequest{Claim: fencing.Claim{Epoch: 5, Writer: fencing.WriterID{5}}, Epoch: 1, End: w.end(), Sources: []quorum.NodeID{nodeA}}
			h := c.header(nodeC, req.Claim)
			slow, err := m.BeginAccept(h, req)
			require.NoError(t, err)
			require.True(t, slow.Fetch)
			require.NoError(t, slow.Incoming.Append(w.sent[0]))
			require.NoError(t, c.accept(nodeC, req))
			if finalize {
				require.NoError(t, m.Finalize(h, req.End))
			}
			before := c.copyAt(nodeC, 1)
			m.fs.ResetLog()
			require.NoError(t, m.FinishAccept(h, req, slow.Incoming))
			require.Equal(t, before, c.copyAt(nodeC, 1))
			require.Zero(t, m.aside(t, segments.ReasonReplaced))
			require.Zero(t, m.temporaries(t))
			require.NotContains(t, strings.Join(m.fs.Log(), "\n"), acceptedPrefix, "no record is written again")
			c.restart(nodeC, 0)
			require.Equal(t, before, c.copyAt(nodeC, 1))
		})
	}
}

// R9: an accept names the segment before its own. Guards judgeAccept.
func TestR9_AcceptNamesThePredecessor(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA)
	w.write("1", nodeA)
	req := recovery.AcceptRequest{
		Claim: fencing.Claim{Epoch: 5, Writer: fencing.WriterID{5}}, Epoch: 1, End: w.end(),
		Prev: segments.End{First: 1, Last: 8, Digest: segments.Digest{1}},
	}
	_, err := c.nodes[nodeA].BeginAccept(c.header(nodeA, req.Claim), req)
	require.ErrorIs(t, err, rpc.ErrBadRequest)
	require.Zero(t, c.copyAt(nodeA, 1).Accepted)
}

// pulled is a copy of w's open segment, or of other frames, as anti-entropy brings it to a node.
func (m *machine) pulled(t *testing.T, w *writer, frames ...segments.Frame) (*store.Incoming, segments.End) {
	inc, err := m.NewIncoming(w.prev, frames[0].Epoch())
	require.NoError(t, err)
	for _, f := range frames {
		require.NoError(t, inc.Append(f))
	}
	last := frames[len(frames)-1].Position()
	return inc, segments.End{First: w.prev.Next(), Last: last.TxID, Digest: last.Digest}
}

// R5, A1: a finalized copy from a peer replaces no copy that holds the floor, if it lacks it; nor another
// finalized one. Guards keepsFloor and the finalized case in InstallFinalized.
func TestR5_PulledCopyKeepsTheFloor(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB)
	one := w.write("1", nodeA, nodeB)
	w.commit(one)
	w.tell(nodeA)
	m := c.nodes[nodeA]
	x := sealed(segments.Position{}, 8, "x")
	for name, other := range map[string][]segments.Frame{"other content": {x}, "other and longer": {x, sealed(x.Position(), 8, "y")}} {
		inc, end := m.pulled(t, w, other...)
		require.ErrorIs(t, m.InstallFinalized(inc, end), recovery.ErrBreach, name)
		require.Equal(t, recovery.InProgress, c.copyAt(nodeA, 1).State)
		require.Equal(t, one, c.copyAt(nodeA, 1).Last)
		require.Zero(t, m.temporaries(t))
	}
	_, err := w.put(nodeA, w.frame("2"))
	require.NoError(t, err, "the open copy is as good as before")

	inc, end := m.pulled(t, w, w.sent[0])
	require.NoError(t, m.InstallFinalized(inc, end), "what was decided holds the floor")
	require.Equal(t, recovery.Finalized, c.copyAt(nodeA, 1).State)
	require.Equal(t, 1, m.aside(t, segments.ReasonLeftover), "what it replaces is kept")
	for name, tc := range map[string]struct {
		frames []segments.Frame
		want   error
	}{"the same again": {w.sent[:1], nil}, "another one": {[]segments.Frame{x}, recovery.ErrMismatch}, "a longer one": {w.sent, recovery.ErrMismatch}} {
		inc, end := m.pulled(t, w, tc.frames...)
		require.ErrorIs(t, m.InstallFinalized(inc, end), tc.want, name)
		require.Equal(t, one, c.copyAt(nodeA, 1).Last)
		require.Zero(t, m.temporaries(t))
	}
	c.probe(one)
}

// A1, M8, N2: a journal that is deleted, unknown or poisoned here takes no copies, also where that came
// while one was under way. Guards the first case in InstallFinalized.
func TestN1_PulledCopyNeedsAWorkingJournal(t *testing.T) {
	for name, breaks := range map[string]func(*cluster, *machine){
		"deleted":  func(c *cluster, m *machine) { require.NoError(t, c.delete(m)) },
		"unknown":  func(_ *cluster, m *machine) { m.unknown = io.ErrUnexpectedEOF },
		"poisoned": func(_ *cluster, m *machine) { _ = m.poison(io.ErrShortWrite) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			w := c.mustRecover().mustStart(nodeB)
			w.write("1", nodeB)
			m := c.nodes[nodeA]
			inc, end := m.pulled(t, w, w.sent...)
			breaks(c, m)
			require.ErrorIs(t, m.InstallFinalized(inc, end), rpc.ErrUnknownNode)
			require.Empty(t, m.names(t))
			_, err := m.NewIncoming(segments.End{}, 1)
			require.Equal(t, name == "poisoned", err != nil)
		})
	}
}

// A2: a damaged copy is kept aside under a name that says so. Guards the reason in InstallFinalized.
func TestA2_DamagedCopyIsKept(t *testing.T) {
	for _, final := range []bool{true, false} {
		c := newCluster(t)
		w := c.mustRecover().mustStart(nodeA, nodeB)
		one := w.write("payload", nodeA, nodeB)
		if final {
			require.NoError(t, w.finalize(nodeA))
		} else {
			require.NoError(t, c.nodes[nodeA].Quiet(), "the mark makes the rot damage, not a torn tail")
		}
		m := c.rot(nodeA, 1, "payload")
		if final {
			require.Error(t, m.Verify(1, nil))
		}
		require.Equal(t, recovery.Unknown, c.copyAt(nodeA, 1).State)
		require.NotEmpty(t, m.State().Damaged)
		inc, end := m.pulled(t, w, w.sent...)
		require.NoError(t, m.InstallFinalized(inc, end))
		require.Equal(t, recovery.Finalized, c.copyAt(nodeA, 1).State)
		require.Equal(t, one, c.copyAt(nodeA, 1).Last)
		require.Equal(t, 1, m.aside(t, segments.ReasonDamaged))
		require.Empty(t, m.State().Damaged)
	}
}

// N5: creating a journal that is complete leaves it alone, its promise above all; a directory of another
// journal is refused. Guards Create's first step and loadMeta's comparison.
func TestN5_CompleteJournalIsLeftAlone(t *testing.T) {
	c := newCluster(t)
	m := c.nodes[nodeA]
	claim := fencing.Claim{Epoch: 7, Writer: fencing.WriterID{7}}
	_, err := m.NewEpoch(c.header(nodeA, claim))
	require.NoError(t, err)
	require.NoError(t, Create(m.disk, dir, journalID, "test", c.cfg))
	require.Equal(t, claim, c.restart(nodeA, 0).State().Promised)
	_, err = Open(m.disk, dir, Self{nodeA, incarnation(nodeA)}, segments.JournalID{8}, small)
	require.ErrorContains(t, err, "another journal")
}

// N2: a small file that cannot be what it was is damage, whatever its checksum says; what a crash leaves of
// a temporary is nothing. Guards the checks behind the checksums in files.go.
func TestN2_SmallFilesThatMakeNoSense(t *testing.T) {
	type save struct {
		name    string
		magic   [8]byte
		payload []byte
	}
	one := sealed(segments.Position{}, 1, "1").Position()
	record := appendEnd(make([]byte, 8), segments.End{First: 1, Last: one.TxID, Digest: one.Digest})
	elsewhere := appendEnd(make([]byte, 8), segments.End{First: 3, Last: one.TxID, Digest: one.Digest})
	for name, tc := range map[string]struct {
		save  save
		state recovery.CopyState // of segment 1
		whole bool               // the journal is not unknown
		floor bool
	}{
		"VERSION cut short":                    {save: save{versionFile, versionMagic, []byte{7}}},
		"record of a wrong length":             {save: save{acceptedName(1), acceptedMagic, append(slices.Clone(record), 0)}, state: recovery.Unknown, whole: true, floor: true},
		"record of another segment":            {save: save{acceptedName(1), acceptedMagic, elsewhere}, state: recovery.Unknown, whole: true, floor: true},
		"temporary of a record":                {save: save{acceptedName(1) + ".tmp", acceptedMagic, record}, state: recovery.InProgress, whole: true, floor: true},
		"a name that is no record's":           {save: save{"rejected-00000000000000000001", acceptedMagic, record}, state: recovery.InProgress, whole: true, floor: true},
		"a record's name without a number":     {save: save{acceptedPrefix + "x", acceptedMagic, record}, state: recovery.InProgress, whole: true, floor: true},
		"L10: floor of a wrong length: absent": {save: save{committedFile, committedMagic, record[:20]}, state: recovery.InProgress, whole: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			w := c.mustRecover().mustStart(nodeA)
			w.commit(w.write("1", nodeA))
			w.tell(nodeA)
			require.NoError(t, c.nodes[nodeA].SaveFloor())
			f := files{c.nodes[nodeA].disk, dir}
			require.NoError(t, f.save(tc.save.name, tc.save.magic, tc.save.payload))
			m := c.restart(nodeA, 0)
			require.Equal(t, tc.whole, m.Usable() == nil)
			if !tc.whole {
				require.NotEmpty(t, m.State().Damaged)
				require.ErrorIs(t, c.delete(m), rpc.ErrUnknownNode)
				return
			}
			require.Equal(t, tc.state, c.copyAt(nodeA, 1).State)
			require.Equal(t, tc.floor, !m.floor.IsZero())
			require.Equal(t, tc.state == recovery.Unknown, len(m.State().Damaged) > 0)
		})
	}
}

// R1, R6: a node that holds nothing of a segment names the finalized one that ends just before it, and no
// other. Guards finalizedBefore.
func TestR1_AbsentSegmentNamesItsPredecessor(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB)
	w.write("1", nodeA, nodeB)
	w.write("2", nodeA)
	require.Zero(t, c.copyAt(nodeA, 3).Prev, "in progress is no ending")
	require.NoError(t, w.finalize(nodeA))
	require.Equal(t, w.end(), c.copyAt(nodeA, 3).Prev)
	require.Zero(t, c.copyAt(nodeA, 2).Prev, "txid 2 lies in it")
	require.Zero(t, c.copyAt(nodeA, 4).Prev, "a gap")
	require.Zero(t, c.copyAt(nodeB, 3).Prev)
	require.Equal(t, w.end(), c.nodes[nodeA].FinalizedEnd(1))
	require.Zero(t, c.nodes[nodeB].FinalizedEnd(1))
	m := c.rot(nodeA, 1, "1")
	require.Error(t, m.Verify(1, nil))
	require.Zero(t, c.copyAt(nodeA, 3).Prev, "damaged: it cannot tell")
	require.Zero(t, m.FinalizedEnd(1))
}

// N2: a rotten footer is met when the node is asked, not when it opens: it names no predecessor then.
func TestN2_RottenFooterNamesNothing(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA)
	w.write("1", nodeA)
	require.NoError(t, w.finalize(nodeA))
	m := c.nodes[nodeA]
	name := dir + "/" + segmentsDir + "/" + segments.Name{Kind: segments.NameFinalized, First: 1, Last: 1}.String()
	b, err := m.disk.ReadAll(name)
	require.NoError(t, err)
	require.NoError(t, m.disk.FlipBit(name, int64(len(b)-10), 1))
	c.restart(nodeA, 0)
	require.Zero(t, c.copyAt(nodeA, 2).Prev)
	require.Equal(t, recovery.Unknown, c.copyAt(nodeA, 1).State)
}

// R1: questions about a segment that is not here do no harm: it stays absent, not unknown. Guards answer.
func TestR1_QuestionsAboutAnAbsentSegment(t *testing.T) {
	c := newCluster(t)
	claim := fencing.Claim{Epoch: 1, Writer: fencing.WriterID{1}}
	for range 2 {
		a, err := c.nodes[nodeA].Prepare(c.header(nodeA, claim), 1, []segments.TxID{0, 1, 7})
		require.NoError(t, err)
		require.Equal(t, recovery.Absent, a.Copy.State)
		require.Empty(t, a.Digests)
	}
	r, err := c.nodes[nodeA].NewEpoch(c.header(nodeA, claim))
	require.NoError(t, err)
	require.True(t, r.DataKnown)
}

// W7: what is read is sent in chunks of bounded size. Guards ChunkBytes in stream.
func TestW7_ChunksAreBounded(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA)
	large := strings.Repeat("x", rpc.ChunkBytes/4)
	for range 10 {
		w.write(large, nodeA)
	}
	sizes, txns := []int{}, 0
	require.NoError(t, c.nodes[nodeA].Read(context.Background(), rpc.ReadRequest{Journal: journalID, Segment: 1, Durable: true, Epoch: 1}, func(ch rpc.Chunk) error {
		sizes = append(sizes, len(ch.Frames))
		return eachFrame(ch.Frames, func(segments.Frame) error { txns++; return nil })
	}))
	require.Equal(t, 10, txns)
	require.Greater(t, len(sizes), 1)
	for _, n := range sizes {
		require.Less(t, n, rpc.ChunkBytes+2*len(large))
	}
}

// W1, W3: frames are taken by the open segment of their epoch only, and not over an accepted record; nor is a
// position told otherwise (W5). Guards frames and FillPosition.
func TestW3_PositionsAreOfTheOpenSegment(t *testing.T) {
	type state struct {
		c *cluster
		w *writer
	}
	begin := func(t *testing.T) state {
		c := newCluster(t)
		w := c.mustRecover().mustStart(nodeA)
		w.write("1", nodeA)
		return state{c, w}
	}
	for name, tc := range map[string]struct {
		happens func(*testing.T, *state)
		segment segments.TxID
		frames  error
	}{
		"accepted record": {func(_ *testing.T, s *state) {
			s.c.nodes[nodeA].accepted[1] = recovery.Accepted{Epoch: 1, End: s.w.end()}
		}, 1, recovery.ErrBreach},
		"another epoch's copy": {func(_ *testing.T, s *state) {
			s.w = s.c.mustRecover(nodeB, nodeC)
			require.NoError(s.c, s.c.nodes[nodeA].Hello(s.c.header(nodeA, s.w.claim)))
		}, 1, rpc.ErrOutOfSync},
		"nothing was started": {func(t *testing.T, s *state) {
			s.c = newCluster(t)
			s.w = s.c.mustRecover()
		}, 1, rpc.ErrOutOfSync},
		"finalized": {func(t *testing.T, s *state) {
			require.NoError(t, s.w.finalize(nodeA))
		}, 1, rpc.ErrOutOfSync},
		"a later segment is open": {func(t *testing.T, s *state) {
			s.w.write("2", nodeA)
			s.w.prev = segments.End{First: 1, Last: 1, Digest: s.w.sent[0].Digest()}
			s.w.mustStart(nodeA) // as nobody does who follows W8: 2 lies in the segment before, too
		}, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			tc.happens(t, &s)
			m := s.c.nodes[nodeA]
			h := s.c.header(nodeA, s.w.claim)
			_, err := m.FillPosition(h, tc.segment)
			require.ErrorIs(t, err, rpc.ErrOutOfSync)
			if tc.frames != nil {
				_, err = s.w.put(nodeA, s.w.frame("next"))
				require.ErrorIs(t, err, tc.frames)
			}
		})
	}
	s := begin(t)
	at, err := s.c.nodes[nodeA].FillPosition(s.c.header(nodeA, s.w.claim), 1)
	require.NoError(t, err)
	require.Equal(t, s.w.pos, at)
}

// W3: the floor is written down when the journal is quiet or closed, where it moved; not by a journal that
// is poisoned or unknown. A full disk is no reason to end. Guards Quiet, SaveFloor and Close.
func TestW3_FloorIsWrittenDown(t *testing.T) {
	begin := func(t *testing.T) (*cluster, *machine, recovery.Floor) {
		c := newCluster(t)
		w := c.mustRecover().mustStart(nodeA)
		w.commit(w.write("1", nodeA))
		w.tell(nodeA)
		c.nodes[nodeA].fs.ResetLog()
		return c, c.nodes[nodeA], w.floor
	}
	writes := func(m *machine) string { return strings.Join(m.fs.Log(), "\n") }
	t.Run("quiet", func(t *testing.T) {
		c, m, floor := begin(t)
		require.NoError(t, m.Quiet())
		m.fs.ResetLog()
		require.NoError(t, m.Quiet())
		require.Empty(t, writes(m), "it did not move")
		require.NoError(t, m.Close())
		require.NotContains(t, writes(m), committedFile)
		require.Equal(t, floor, c.restart(nodeA, 0).floor)
	})
	t.Run("close", func(t *testing.T) {
		c, m, floor := begin(t)
		require.NoError(t, m.Close())
		require.Equal(t, floor, c.restart(nodeA, 0).floor)
	})
	t.Run("poisoned or unknown", func(t *testing.T) {
		for _, breaks := range []func(*machine){
			func(m *machine) { _ = m.poison(io.ErrShortWrite) },
			func(m *machine) { m.unknown = io.ErrUnexpectedEOF },
		} {
			_, m, _ := begin(t)
			breaks(m)
			require.NoError(t, m.Quiet())
			require.NoError(t, m.SaveFloor())
			require.Empty(t, writes(m))
			_ = m.Close()
			require.NotContains(t, writes(m), committedFile)
		}
	})
	t.Run("disk full", func(t *testing.T) {
		c, m, _ := begin(t)
		m.disk.SetCapacity(0)
		require.NoError(t, m.Quiet())
		require.NoError(t, m.Usable())
		m.disk.SetCapacity(1 << 30)
		require.NoError(t, m.Quiet())
		require.False(t, c.restart(nodeA, 0).floor.IsZero())
	})
	t.Run("the mark cannot be synced", func(t *testing.T) {
		_, m, _ := begin(t)
		m.fs.Inject(faultfs.Rule{Op: faultfs.OpSync, Nth: 1})
		require.ErrorIs(t, m.Quiet(), rpc.ErrPoisoned)
		require.ErrorIs(t, m.Usable(), rpc.ErrPoisoned)
	})
}

// read is what ReadSegment sends.
func (c *cluster) read(id quorum.NodeID, req rpc.ReadRequest) (out []segments.Range, err error) {
	req.Journal = journalID
	err = c.nodes[id].Read(context.Background(), req, func(ch rpc.Chunk) error {
		return eachFrame(ch.Frames, func(f segments.Frame) error { out = append(out, f.Range()); return nil })
	})
	return out, err
}

// D1, W5, R4: a copy is read to be filled or accepted from only if it has the epoch asked for; anything else
// of an open segment only up to the floor of the newest one; damage not at all. Guards Read.
func TestD1_ReadServesTheCopyThatIsMeant(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
	w.commit(w.write("1", nodeA, nodeB, nodeC))
	w.write("2", nodeA, nodeB)
	w.write("three", nodeA)
	w.tell(nodeA)
	each := func(from, to segments.TxID) (out []segments.Range) {
		for t := from; t <= to; t++ {
			out = append(out, segments.Range{First: t, Last: t})
		}
		return out
	}
	for name, tc := range map[string]struct {
		req  rpc.ReadRequest
		want []segments.Range
		err  error
	}{
		"durable":                        {rpc.ReadRequest{Segment: 1, Durable: true, Epoch: 1}, each(1, 3), nil},
		"S11: durable, of another epoch": {rpc.ReadRequest{Segment: 1, Durable: true, Epoch: 2}, nil, rpc.ErrNotFound},
		"durable, up to":                 {rpc.ReadRequest{Segment: 1, Durable: true, Epoch: 1, UpTo: 2}, each(1, 2), nil},
		"durable, from, up to":           {rpc.ReadRequest{Segment: 1, Durable: true, Epoch: 1, From: 2, UpTo: 2}, each(2, 2), nil},
		"committed":                      {rpc.ReadRequest{Segment: 1}, each(1, 1), nil},
		"committed, up to more":          {rpc.ReadRequest{Segment: 1, UpTo: 9}, each(1, 1), nil},
		"above committed":                {rpc.ReadRequest{Segment: 1, From: 2}, nil, nil},
		"no such segment":                {rpc.ReadRequest{Segment: 7}, nil, segments.ErrNotFound},
	} {
		got, err := c.read(nodeA, tc.req)
		require.ErrorIs(t, err, tc.err, name)
		require.Equal(t, tc.want, got, name)
	}
	_, err := c.read(nodeC, rpc.ReadRequest{Segment: 1})
	require.ErrorIs(t, err, rpc.ErrNotFound, "C was told of no floor")

	require.NoError(t, w.finalize(nodeA))
	w.next().mustStart(nodeA, nodeB)
	w.commit(w.write("4", nodeA, nodeB))
	w.tell(nodeB)
	_, err = c.read(nodeB, rpc.ReadRequest{Segment: 1})
	require.ErrorIs(t, err, rpc.ErrNotFound, "R9: a leftover, below the floor's own segment")
	got, err := c.read(nodeB, rpc.ReadRequest{Segment: 4})
	require.NoError(t, err)
	require.Equal(t, each(4, 4), got)
	m := c.rot(nodeA, 1, "three")
	require.Error(t, m.Verify(1, nil))
	got, err = c.read(nodeA, rpc.ReadRequest{Segment: 1})
	require.ErrorIs(t, err, segments.ErrCorrupt)
	require.Empty(t, got, "N2: nothing of it, not even what is whole")
}

// tail is what Tail sends.
func (c *cluster) tail(id quorum.NodeID, req rpc.TailRequest) (out []segments.Range, err error) {
	req.Journal = journalID
	err = c.nodes[id].Tail(context.Background(), req, func(ch rpc.Chunk) error {
		return eachFrame(ch.Frames, func(f segments.Frame) error { out = append(out, f.Range()); return nil })
	})
	return out, err
}

// D1, D3, N2: a tail goes on across segments, ends where committed ends, stops at a hole and at damage
// instead of skipping them, and says which it was. Guards tailOnce and atEnd.
func TestD1_TailEndsWhereItMust(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB)
	for _, payload := range []string{"one", "two", "three"} { // a segment each; B misses the second
		nodes := []quorum.NodeID{nodeA, nodeB}
		if payload == "two" {
			nodes = nodes[:1]
		}
		w.mustStart(nodes...)
		w.write(payload, nodes...)
		for _, id := range nodes {
			require.NoError(t, w.finalize(id))
		}
		w.next()
	}
	w.mustStart(nodeA, nodeB)
	w.commit(w.write("four", nodeA, nodeB))
	w.write("five", nodeA)
	w.tell(nodeA)
	w.tell(nodeB)
	each := func(from, to segments.TxID) (out []segments.Range) {
		for t := from; t <= to; t++ {
			out = append(out, segments.Range{First: t, Last: t})
		}
		return out
	}
	check := func(name string, id quorum.NodeID, req rpc.TailRequest, want []segments.Range, is error) {
		got, err := c.tail(id, req)
		require.ErrorIs(t, err, is, name)
		require.Equal(t, want, got, name)
	}
	check("all", nodeA, rpc.TailRequest{From: 1}, each(1, 4), nil)
	check("from zero", nodeA, rpc.TailRequest{}, each(1, 4), nil)
	check("from the middle", nodeA, rpc.TailRequest{From: 3}, each(3, 4), nil)
	check("finalized only", nodeA, rpc.TailRequest{From: 1, FinalizedOnly: true}, each(1, 3), nil)
	check("just behind the end", nodeA, rpc.TailRequest{From: 5}, nil, nil)
	check("beyond the end", nodeA, rpc.TailRequest{From: 6}, nil, rpc.ErrPastEnd)
	check("just behind the finalized end", nodeA, rpc.TailRequest{From: 4, FinalizedOnly: true}, nil, nil)
	check("beyond the finalized end", nodeA, rpc.TailRequest{From: 5, FinalizedOnly: true}, nil, rpc.ErrPastEnd)
	check("a hole", nodeB, rpc.TailRequest{From: 1}, each(1, 1), rpc.ErrNotFound)
	check("in the hole", nodeB, rpc.TailRequest{From: 2}, nil, rpc.ErrNotFound)
	check("behind the hole", nodeB, rpc.TailRequest{From: 3}, each(3, 4), nil)
	m := c.rot(nodeA, 2, "two")
	require.Error(t, m.Verify(2, nil))
	check("damage", nodeA, rpc.TailRequest{From: 1}, each(1, 1), segments.ErrCorrupt)
	require.NoError(t, c.delete(m))
	check("deleted", nodeA, rpc.TailRequest{From: 1}, nil, rpc.ErrJournalDeleted)
}

// A1: what a node can tell by itself that it lacks: a hole, a leftover below the newest segment, a damaged
// copy. Guards Incomplete and FinalizedFirsts.
func TestA1_IncompleteTellsWhatIsMissing(t *testing.T) {
	segment := func(c *cluster, w *writer, payload string, final bool, ids ...quorum.NodeID) {
		w.mustStart(ids...)
		w.write(payload, ids...)
		if final {
			for _, id := range ids {
				require.NoError(t, w.finalize(id))
			}
		}
		w.next()
	}
	c := newCluster(t)
	w := c.mustRecover()
	segment(c, w, "one", true, nodeA, nodeB)
	require.False(t, c.nodes[nodeC].Incomplete(), "it has nothing, and knows of nothing")
	segment(c, w, "two", true, nodeA, nodeC)
	require.True(t, c.nodes[nodeC].Incomplete(), "a hole at the beginning")
	w.mustStart(nodeA, nodeB)
	require.False(t, c.nodes[nodeA].Incomplete(), "the newest may be in progress")
	require.True(t, c.nodes[nodeB].Incomplete(), "a hole in the middle")
	w.write("three", nodeA, nodeB)
	w.write("iii", nodeB)
	require.NoError(t, w.finalize(nodeB))
	w.next().mustStart(nodeA)
	require.True(t, c.nodes[nodeA].Incomplete(), "a leftover below the newest")
	require.Equal(t, []segments.TxID{1, 2}, c.nodes[nodeA].FinalizedFirsts())
	m := c.rot(nodeA, 1, "one")
	require.Error(t, m.Verify(1, nil))
	require.Equal(t, []segments.TxID{2}, m.FinalizedFirsts(), "a damaged one is not read again and again")

	alone := newCluster(t)
	w = alone.mustRecover()
	segment(alone, w, "one", true, nodeA)
	m = alone.rot(nodeA, 1, "one")
	require.False(t, m.Incomplete(), "it does not know yet")
	require.Error(t, m.Verify(1, nil))
	require.True(t, m.Incomplete(), "damage")
}

// S9 of the review, on real copies: equal copies of txid 2 on A and B, a majority, and 2 is not committed: A
// has it by epoch 1's writing, B by epoch 3's accept, and the next recovery over B and C, or A and C, is free
// to choose. No node shows it, and the two ballots tell a reader that counts copies that they are no proof.
func TestD4_EqualCopiesAreNoCommit_S9(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover().mustStart(nodeA, nodeB, nodeC)
	one := w.write("1", nodeA, nodeB, nodeC)
	two := w.write("2", nodeA)
	w.floor = recovery.Floor{Segment: 1, Epoch: 1, At: one}
	for _, id := range c.ids() {
		w.tell(id)
	}
	for _, step := range []struct{ at, lost quorum.NodeID }{{nodeC, nodeA}, {nodeB, nodeC}} {
		c.net = func(e recovery.Effect, id quorum.NodeID) fate {
			if _, ok := e.(recovery.AskAccept); id == step.lost || ok && id != step.at {
				return drop
			}
			return deliver
		}
		_, err := c.attempt(recovery.Options{})
		require.Error(t, err)
	}
	c.net = nil
	a, b := c.copyAt(nodeA, 1), c.copyAt(nodeB, 1)
	require.Equal(t, two, a.Last)
	require.Equal(t, two, b.Last)
	require.NotEqual(t, a.Ballot(), b.Ballot())
	for _, id := range c.ids() {
		got, err := c.shown(id)
		require.NoError(t, err)
		require.Equal(t, []string{"1"}, got, id)
		require.Equal(t, one, c.nodes[id].State().Answer.Floor.At)
	}
	r, err := c.recover(nodeA, nodeC)
	require.NoError(t, err)
	require.Equal(t, one, r.Prev.Position(), "the accept on C outranks A's copy: txid 2 is gone")
	c.probe(one)
}

// M0: two configs of one version are a divergence, an older one is refused and answered with the newer, the
// same again changes nothing; what is installed is durable. Guards InstallConfig.
func TestM0_InstallConfig(t *testing.T) {
	c := newCluster(t)
	m := c.nodes[nodeA]
	next := quorum.Config{Version: 3, Sets: c.cfg.Sets}
	require.NoError(t, m.InstallConfig(next))
	require.NoError(t, m.InstallConfig(next))
	other := quorum.NewConfig(3, c.cfg.Members()[:1]...)
	require.ErrorIs(t, m.InstallConfig(other), rpc.ErrConfigDiverges)
	older := next
	older.Version = 2
	require.Equal(t, &rpc.ConfigError{Journal: journalID, Got: 2, Want: 3}, m.InstallConfig(older))
	require.EqualValues(t, 3, c.restart(nodeA, 0).Config().Version)
}

// M1: a newer config ends the streams under an older one, and only those, in the order in which they came: what
// a core does must not hang on the order of a map. Guards InstallConfig.
func TestM1_NewerConfigEndsOlderStreamsInOrder(t *testing.T) {
	c := newCluster(t)
	m := c.nodes[nodeA]
	var ended, want []int
	for i := range 20 {
		st := &Stream{Header: rpc.Header{ConfigVersion: uint64(i % 2 * 3)}, Fail: func(error) { ended = append(ended, i) }}
		m.Attach(st)
		m.Attach(st)
		switch {
		case i == 4:
			m.Detach(st)
		case i%2 == 0:
			want = append(want, i)
		}
	}
	require.NoError(t, m.InstallConfig(quorum.Config{Version: 3, Sets: c.cfg.Sets}))
	require.Equal(t, want, ended)
}
