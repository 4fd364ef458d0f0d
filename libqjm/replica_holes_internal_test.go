package libqjm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/session"
	"github.com/quorumjournal/qjm/internal/snapshot"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// F5, as TestF5_WhatIsUnderWayWhenAWriterOpensAnew, for the writer of a replica: what recovery kept is applied before
// its callers are told, and what is under way counts once.
func TestHole_ReplicaWriterOpensAnew(t *testing.T) {
	q := newApplyQueue()
	b := newBench(t, 3, WriterOptions{FrameBytes: 1000, FramesInFlight: 2, sink: q})
	var fs []Future
	for i := range 3 {
		f, err := b.AppendAsync(t.Context(), append(make([]byte, 999), byte(i)))
		require.NoError(t, err)
		fs = append(fs, f)
	}
	require.Len(t, b.flying, 2)
	kept := b.flying[0].frame.Position()
	b.mu.Lock()
	require.NoError(t, b.adopt(recovery.Result{
		Claim: fencing.Claim{Epoch: 2, Writer: fencing.WriterID{2}},
		Prev:  segments.End{First: 1, Last: kept.TxID, Digest: kept.Digest},
	}))
	b.mu.Unlock()
	select {
	case <-fs[0].Done():
		t.Fatal("it is not applied")
	default:
	}
	got := q.take()
	require.Len(t, got, 1)
	require.Same(t, fs[0].b, got[0])
	require.Equal(t, 3000, b.in.queued)
	got[0].finish()
	b.in.applied(got[0])
	require.Equal(t, 2000, b.in.queued)
}

// F5: a writer that opens anew has another epoch, and the replica's owner hears of it, though nothing is written.
func TestReplica_TellsOfTheNewEpoch(t *testing.T) {
	q := newApplyQueue()
	b := newBench(t, 3, WriterOptions{sink: q})
	r := &Replica{c: &Client{log: slog.New(slog.DiscardHandler)}, m: newMachine(&echo{}, SessionLimits{}, false), events: newEvents(slog.New(slog.DiscardHandler), nil)}
	var heard []Epoch
	r.opts.Callbacks.OnActive = func(e Epoch) { heard = append(heard, e) }
	told := r.crown(b.Writer, 0)
	require.Empty(t, q.news)
	b.mu.Lock()
	require.NoError(t, b.adopt(recovery.Result{Claim: fencing.Claim{Epoch: 2, Writer: fencing.WriterID{2}}}))
	b.mu.Unlock()
	require.Len(t, q.news, 1)
	told = r.crown(b.Writer, told)
	require.EqualValues(t, 2, r.crown(b.Writer, told))
	r.events.end(func() {})
	close(r.events.news)
	r.events.run()
	require.Equal(t, []Epoch{1, 2}, heard)
}

// What cannot be read is no bad snapshot, wherever in it that is; and a state that was loaded in part is none.
func TestHole_SnapshotThatCannotBeRead(t *testing.T) {
	m := newMachine(&echo{}, SessionLimits{}, false)
	_, err := m.apply(entries(1, plain("a"), logEntry{kind: entryOpen, session: session.ID{1}, ttl: 5000}))
	require.NoError(t, err)
	write, err := m.save()
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, write(&b))
	gone := errors.New("nobody has it any more")
	for cut := range b.Len() {
		twin := newMachine(&echo{}, SessionLimits{}, false)
		err := twin.load(2, int64(b.Len()), io.MultiReader(bytes.NewReader(b.Bytes()[:cut]), iotest.ErrReader(gone)))
		require.ErrorIs(t, err, gone, cut)
		require.False(t, fatal(err), cut)
		require.Zero(t, twin.applied)
		table := m.sessions.Append(nil)
		require.Equal(t, cut >= snapshotHead+len(table), twin.torn, "%d", cut)
		require.NoError(t, twin.load(2, int64(b.Len()), bytes.NewReader(b.Bytes())))
		require.False(t, twin.torn)
	}
	require.ErrorIs(t, m.load(2, int64(b.Len()), bytes.NewReader(b.Bytes()[:snapshotHead])), ErrBadSnapshot)
}

// D6: who asks while a round is under way gets the outcome of one that began later.
func TestD6_ARoundThatBeganAfterTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c confirmRounds
		var began atomic.Int64
		release := make(chan struct{})
		call := func() (TxID, error) {
			n := began.Add(1)
			<-release
			return TxID(n), nil
		}
		got := make(chan TxID, 10)
		ask := func() {
			id, err := c.do(t.Context(), call)
			require.NoError(t, err)
			got <- id
		}
		go ask()
		synctest.Wait() // the first round is under way
		for range 5 {
			go ask()
		}
		synctest.Wait()
		close(release)
		rounds := map[TxID]int{}
		for range 6 {
			rounds[<-got]++
		}
		require.Equal(t, map[TxID]int{1: 1, 2: 5}, rounds, "all share the next one")
		synctest.Wait()
		require.False(t, c.running)
		go ask()
		require.EqualValues(t, 3, <-got)
	})
}

// After a snapshot the digests begin anew: a state that differs behind it is found.
func TestDigests_BehindASnapshot(t *testing.T) {
	m := newMachine(&echo{}, SessionLimits{}, true)
	_, err := m.apply(entries(1, plain("a"), plain("b"), plain("c")))
	require.NoError(t, err)
	write, err := m.save()
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, write(&b))
	binary.LittleEndian.PutUint64(b.Bytes()[5:], 10) // as if it were of txid 10
	require.NoError(t, m.load(10, int64(b.Len()), &b))
	_, err = m.apply(entries(11, plain("d")))
	require.NoError(t, err)
	_, err = m.apply(entries(12, logEntry{kind: entryDigests, first: 11, data: make([]byte, digestSize)}))
	require.ErrorIs(t, err, ErrStateDiverges)
	require.ErrorContains(t, err, "txid 11 is the first")
}

// A callback that does not return makes no heap of those behind it; the last one is told.
func TestEvents_AreBounded(t *testing.T) {
	e := newEvents(slog.New(slog.DiscardHandler), func(error) {})
	told := 0
	for range 2 * eventsMax {
		e.tell(func() { told++ })
	}
	e.end(func() { told += 10 * eventsMax })
	e.tell(func() { t.Error("after the last one") })
	e.run()
	require.Equal(t, 11*eventsMax, told)
}

// What is forgotten to stay within bounds shifts nothing.
func TestDigests_AreForgottenInOrder(t *testing.T) {
	user, d, none := &echo{}, digestLog{on: true}, session.New(SessionLimits{})
	const last = digestsKept + 10
	for i := range TxID(last) {
		user.sum = uint64(i + 1)
		require.NoError(t, d.note(i+1, user, none))
	}
	right := binary.LittleEndian.AppendUint64(nil, d.sums[len(d.sums)-1])
	require.NoError(t, d.compare(last, right))
	require.ErrorIs(t, d.compare(last-1, right), ErrStateDiverges)
	require.NoError(t, d.compare(1, right), "forgotten")
}

// A writer that commits is not stuck, however much always waits.
func TestStuckWatch_ProgressIsEnough(t *testing.T) {
	s, at := stuckWatch{patience: 2 * time.Second}, time.Unix(0, 0)
	for i := range TxID(10) {
		require.False(t, s.look(at, i, i+5))
		at = at.Add(1500 * time.Millisecond)
	}
	require.False(t, s.look(at, 9, 15))
	require.True(t, s.look(at.Add(2*time.Second), 9, 15))
}

// brittle is a state machine that fails when it is told to, and of which no snapshot may be asked.
type brittle struct {
	echo
	bad error
}

func (s *brittle) Apply(batch []Entry) ([][]byte, error) {
	out, _ := s.echo.Apply(batch)
	return out, s.bad
}

func (s *brittle) SaveSnapshot() (func(io.Writer) error, error) {
	return nil, errors.New("a snapshot of it was asked for")
}

// one puts a transaction into the queue.
func one(t *testing.T, q *applyQueue, txid TxID) *batch {
	b := &batch{first: txid, count: 1, done: make(chan struct{}), flown: true}
	b.b.Reset(txid, 1)
	require.NoError(t, b.b.Add(plainHead, []byte("x")))
	var err error
	b.frame, err = b.b.Seal(segments.Digest{}, segments.SealOptions{})
	require.NoError(t, err)
	q.put([]*batch{b})
	return b
}

// A state machine that failed on a node's channel is in any state: no snapshot is made of it, and what it failed with is
// what the replica stops with, whatever else comes before its owner is woken.
func TestHole_FailureThatTheOwnerHasNotHeardOf(t *testing.T) {
	for name, then := range map[string]func(*Replica){
		"a snapshot is due": func(r *Replica) { r.due <- snapshot.ReasonTxns },
		"closed in haste":   func(r *Replica) { r.cancel(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, sm := newApplyQueue(), &brittle{}
				r, _, served := serving(t, q, sm, false)
				one(t, q, 1)
				q.wake()
				synctest.Wait()
				sm.bad = errors.New("broken")
				lost := one(t, q, 2)
				require.False(t, q.applyHere())
				then(r)
				require.ErrorIs(t, <-served, sm.bad)
				require.ErrorIs(t, lost.err, sm.bad)
			})
		})
	}
}

// serving runs serve on a writer whose nodes are played by the test.
func serving(t *testing.T, q *applyQueue, sm StateMachine, compare bool) (*Replica, *bench, <-chan error) {
	w := newBench(t, 3, WriterOptions{sink: q})
	log := slog.New(slog.DiscardHandler)
	r := &Replica{c: &Client{log: log}, m: newMachine(sm, SessionLimits{}, compare), due: make(chan SnapshotReason, 1), events: newEvents(log, nil)}
	r.ctx, r.cancel = context.WithCancelCause(t.Context())
	served := make(chan error, 1)
	go func() { served <- r.serve(&Leadership{w: w.Writer}, q) }()
	synctest.Wait()
	return r, w, served
}

// F5: while it serves, a replica hears that its writer has opened anew, and what it applies in each epoch keeps its own result.
func TestReplica_ServesThroughANewEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newApplyQueue()
		r, w, served := serving(t, q, &echo{}, false)
		r.opts.Callbacks.OnActive = func(Epoch) {}
		first := one(t, q, 1)
		q.wake()
		synctest.Wait()
		require.Empty(t, r.events.calls)
		w.mu.Lock()
		require.NoError(t, w.adopt(recovery.Result{Claim: fencing.Claim{Epoch: 2, Writer: fencing.WriterID{2}}}))
		w.mu.Unlock()
		synctest.Wait()
		require.Len(t, r.events.calls, 1)
		second := one(t, q, 2)
		require.True(t, q.applyHere())
		require.Equal(t, []outcome{{result: []byte("r1")}}, first.outs)
		require.Equal(t, []outcome{{result: []byte("r2")}}, second.outs)
		r.cancel(nil)
		require.ErrorIs(t, <-served, context.Canceled)
		require.Len(t, r.events.calls, 1)
	})
}

// Digests are put into the log by the replica's goroutine, after each batch: so it applies them all.
func TestReplica_OwnerAppliesWhereStatesAreCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newApplyQueue()
		r, _, served := serving(t, q, &echo{}, true)
		for txid := range TxID(3) {
			b := one(t, q, txid+1)
			require.False(t, q.applyHere())
			q.wake()
			<-b.done
			require.NoError(t, b.err)
		}
		r.cancel(nil)
		require.ErrorIs(t, <-served, context.Canceled)
	})
}
