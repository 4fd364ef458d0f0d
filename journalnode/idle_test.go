package journalnode_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/recovery"
)

// lists counts how often nodes asked one another for lists of segments, since the last call.
func (w *ward) lists() (n int) {
	for from := range w.Nodes {
		for to := range w.Nodes {
			n += w.Net.Count(w.ID(from), w.ID(to), "Segments")
		}
	}
	w.Net.ResetCalls()
	return n
}

// quiet waits until nothing is left to compare.
func (w *ward) quiet() {
	w.wait(time.Minute)
	w.lists()
	w.wait(5 * time.Minute)
	require.Positive(w, w.Net.Count("n1", "n2", "Journals"), "the peers are asked")
	require.Zero(w, w.lists(), "and tell nothing new")
}

// A1: where nothing changed nothing is listed; and whatever changes is compared, again until it is in order.
func TestA1_OnlyNewsAreCompared(t *testing.T) {
	t.Run("a restart", func(t *testing.T) {
		inWard(t, nil, func(w *ward) {
			w.quiet()
			w.StopNode(1)
			w.StartNode(1)
			w.wait(time.Minute)
			require.Positive(w, w.lists())
			w.quiet()
		})
	})
	t.Run("a segment that a node missed", func(t *testing.T) {
		inWard(t, nil, func(w *ward) {
			w.quiet()
			w.Net.Cut("client", "n1")
			qw, err := w.Client().OpenWriter(w.ctx, "j", libqjm.WriterOptions{})
			require.NoError(w, err)
			_, err = qw.Append(w.ctx, []byte("more"))
			require.NoError(w, err)
			require.NoError(w, qw.Close(w.ctx))
			w.Net.HealAll()
			w.Until(time.Minute, "it is pulled", func() bool { return w.finalized(0) == 4 })
			require.Equal(w, w.ends(1), w.ends(0))
			w.quiet()
		})
	})
	t.Run("a digest that differs", func(t *testing.T) {
		inWard(t, nil, func(w *ward) {
			w.quiet()
			w.StopNode(0)
			w.swap(0, 3, "something else")
			w.StartNode(0)
			w.Until(time.Minute, "it is set aside, and what was decided is pulled", func() bool {
				return w.finalized(0) == 3 && w.ends(0)[1] == w.ends(1)[1]
			})
			w.quiet()
		})
	})
	t.Run("rot", func(t *testing.T) {
		inWard(t, nil, func(w *ward) {
			w.quiet()
			w.rot(0, 3)
			w.Until(5*time.Minute, "it is replaced", func() bool { return w.metric(0, "qjm_repaired_segments_total") > 0 })
			w.wait(time.Minute)
			require.Equal(w, w.ends(1), w.ends(0))
			w.quiet()
		})
	})
	t.Run("a node that is away", func(t *testing.T) {
		inWard(t, nil, func(w *ward) {
			w.StopNode(2)
			w.StopNode(0)
			w.StartNode(0)
			w.quiet()
			require.NotContains(w, w.said(0), "repair is not complete", "what does not answer is no news")
			require.NoError(w, w.Disks[2].Remove(w.file(2, 5)))
			w.StartNode(2)
			w.Until(time.Minute, "it is compared with", func() bool { return w.Net.Count("n1", "n3", "Segments") > 0 })
			w.Until(time.Minute, "it gets what it lacks", func() bool { return w.finalized(2) == 3 })
			w.quiet()
		})
	})
}

// N2: a peer that cannot tell the end of a segment now says nothing about it, and may be able to later without any
// change there. What was compared meanwhile does not stand for in order.
func TestA1_WhatCannotBeToldIsAskedAgain(t *testing.T) {
	inWard(t, nil, func(w *ward) {
		w.StopNode(0)
		require.NoError(w, w.Disks[0].Remove(w.file(0, 5))) // the newest: n1 cannot know that it lacks it
		mute := &atomic.Bool{}
		mute.Store(true)
		for i := 1; i < 3; i++ {
			w.Net.Serve(w.ID(i), muted{w.Nodes[i], mute})
		}
		w.StartNode(0)
		w.wait(5 * time.Minute)
		require.Equal(w, 2, w.finalized(0))
		mute.Store(false)
		w.Until(time.Minute, "it is pulled", func() bool { return w.finalized(0) == 3 })
	})
}

// muted is a node that cannot open its files for a while.
type muted struct {
	rpc.Service
	mute *atomic.Bool
}

// Segments says of all that it is not known.
func (m muted) Segments(ctx context.Context, req rpc.SegmentsRequest) (rpc.SegmentsPage, error) {
	p, err := m.Service.Segments(ctx, req)
	for i := range p.Segments {
		if m.mute.Load() {
			p.Segments[i] = rpc.SegmentInfo{First: p.Segments[i].First, State: recovery.Unknown}
		}
	}
	return p, err
}

// After a start everything is news: the journals are compared a number at a time, and all of them in the end.
func TestA1_ComparesAreBounded(t *testing.T) {
	const journals, bound = 250, 100
	run(t, testcluster.Options{Tune: func(_ int, o *journalnode.Options) { o.ReserveBytes, o.RepairEvery = smallReserve, time.Second }}, func(b *bed) {
		for i := range journals {
			b.journal(fmt.Sprintf("j%03d", i))
		}
		b.StopNode(0)
		b.Net.ResetCalls()
		b.StartNode(0)
		b.wait(500 * time.Millisecond) // between two rounds
		last := 0
		for range 30 {
			b.wait(time.Second)
			n := b.Net.Count("n1", "n2", "Segments")
			require.LessOrEqual(b, n-last, bound, "in a round")
			last = n
		}
		require.Equal(b, journals, last, "each of them once")
	})
}

// Peers of an older version do not tell what they hold: all journals are news in each round, and each has its turn.
func TestA1_ComparesAreFair(t *testing.T) {
	const journals = 250
	tune := func(_ int, o *journalnode.Options) {
		o.ReserveBytes, o.RepairEvery, o.CompareEvery = smallReserve, time.Second, time.Second
	}
	run(t, testcluster.Options{Tune: tune}, func(b *bed) {
		for i := range journals {
			b.journal(fmt.Sprintf("j%03d", i))
		}
		b.StopNode(0)
		asked := &sync.Map{}
		for i := 1; i < 3; i++ {
			b.Net.Serve(b.ID(i), older{b.Nodes[i], asked})
		}
		b.StartNode(0)
		b.wait(10 * time.Second)
		n := 0
		asked.Range(func(any, any) bool { n++; return true })
		require.Equal(b, journals, n)
	})
}

// older is a node that does not tell what it holds.
type older struct {
	rpc.Service
	asked *sync.Map
}

// Journals says nothing of holdings.
func (o older) Journals(ctx context.Context) ([]rpc.JournalSummary, error) {
	js, err := o.Service.Journals(ctx)
	for i := range js {
		js[i].Holding = rpc.Holding{}
	}
	return js, err
}

// Segments notes what is asked for.
func (o older) Segments(ctx context.Context, req rpc.SegmentsRequest) (rpc.SegmentsPage, error) {
	o.asked.Store(req.Journal, true)
	return o.Service.Segments(ctx, req)
}

// M9, M8: the leader hears once a minute what the nodes have installed, of all journals at once. It asks after a journal
// by itself where somebody has something else than the catalog, and nowhere else: each such look is an entry of the log.
func TestM9_LeaderLooksWhereSomethingIsAstray(t *testing.T) {
	inWard(t, nil, func(w *ward) {
		c := w.Client()
		for i := range 10 {
			require.NoError(w, c.CreateJournal(w.ctx, fmt.Sprintf("k%d", i)))
		}
		w.wait(3 * time.Minute)
		states := func() (n int) {
			for from := range w.Nodes {
				for to := range w.Nodes {
					n += w.Net.Count(w.ID(from), w.ID(to), "State")
				}
			}
			w.Net.ResetCalls()
			return n
		}
		states()
		w.wait(10 * time.Minute)
		require.Zero(w, states(), "all is as the catalog has it")
	})
}
