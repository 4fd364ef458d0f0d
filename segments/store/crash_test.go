package store

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/segments"
)

// script goes through everything that writes. It stops at the first error.
func script(w *world) error {
	var second segments.Header
	steps := []func() error{
		func() error { return w.create(header(1, segments.End{})) },
		func() error { return w.append(100, 300) },
		func() error { return w.commit() },
		func() error { return w.append(3000, 200, 1500) }, // beyond the buffer
		func() error { return w.commit() },
		func() error { return w.w.MarkIdle() },
		func() error { return w.append(9000) }, // beyond the preallocation
		func() error { return w.commit() },
		func() error { return w.finalize() },

		func() error { second = header(2, w.one(1).end()); return w.create(second) },
		func() error { return w.append(10, 20) },
		func() error { return w.commit() },
		func() error { return w.append(30, 40) },
		func() error { return w.commit() },
		func() error { return w.append(2000) },
		func() error { return w.close() },
		func() error { _, err := w.openTail(second.First); return err },
		func() error { return w.append(50) },
		func() error { return w.commit() },
		func() error { return w.close() },

		// Recovery replaces the copy by a longer one of a higher epoch, then it grows, then it goes
		// aside for a fresh start.
		func() error {
			h := second
			h.Epoch = 3
			return w.install(h, makeFrames(w.t, h.Start(), 3, 11, 22, 3333), false, segments.ReasonReplaced)
		},
		func() error { _, err := w.openTail(second.First); return err },
		func() error { return w.append(60, 70) },
		func() error { return w.commit() },
		func() error { return w.close() },
		func() error { return w.setAside(second.First, segments.ReasonStale) },
		func() error { h := second; h.Epoch = 4; return w.create(h) },
		func() error { return w.append(80) },
		func() error { return w.commit() },
		func() error { return w.append(90) },
		func() error { return w.close() },

		// The decided content comes from a peer.
		func() error {
			h := second
			h.Epoch = 4
			return w.install(h, makeFrames(w.t, h.Start(), 4, 80, 91, 92), true, segments.ReasonLeftover)
		},
		func() error { return w.remove(1) },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// A power loss, or a dead process, at every single mutation, before and after it: what was answered
// is there, and nothing that nobody wrote (T1, T4, T5).
func TestCrashAtEveryOperation(t *testing.T) {
	for _, after := range []bool{false, true} {
		for k := int64(1); ; k++ {
			w := newWorld(t, smallOptions)
			if after {
				w.fs.CrashAfter(w.fs.Mutations() + k)
			} else {
				w.fs.CrashAt(w.fs.Mutations() + k)
			}
			err := script(w)
			if err == nil {
				require.Greater(t, k, int64(50))
				break
			}
			require.ErrorIs(t, err, faultfs.ErrCrashed)
			for i, disk := range crashes(w.disk, uint64(k)) {
				twin := w.fork()
				twin.reopen(disk)
				// Once more, losing all that is not durable: reopening answered for it.
				again := twin.fork()
				again.reopen(twin.disk.CrashClone(memfs.CrashOptions{}))
				if i == 0 && k%7 == 0 { // and it goes on from there
					require.NoError(t, goOn(again))
				}
			}
		}
	}
}

// goOn appends to the newest segment, or starts one.
func goOn(w *world) error {
	prev := segments.End{}
	for _, i := range w.d.Infos() {
		if i.State == StateInProgress {
			if _, err := w.openTail(i.First); err != nil {
				return err
			}
			return errors.Join(w.append(123), w.commit(), w.finalize())
		}
		full, err := w.d.Info(i.First)
		if err != nil {
			return err
		}
		prev = full.End()
	}
	return errors.Join(w.create(header(9, prev)), w.append(123), w.commit())
}

// A crash while a crash is recovered from, at every operation of OpenTail and Open.
func TestCrashWhileReopening(t *testing.T) {
	w := newWorld(t, smallOptions)
	require.NoError(t, w.create(header(1, segments.End{})))
	require.NoError(t, w.append(100, 200))
	require.NoError(t, w.commit())
	require.NoError(t, w.append(300, 400, 2000, 500, 600))
	w.fs.Inject(faultfs.Rule{Op: faultfs.OpSync, Err: faultfs.ErrCrashed})
	require.Error(t, w.commit())
	for seed := range uint64(30) {
		for i, disk := range crashes(w.disk, seed) {
			for k := int64(1); ; k++ {
				a := w.fork()
				a.boot(disk.ProcessCrashClone())
				a.fs.CrashAt(k)
				err := a.open()
				if err == nil {
					_, err = a.openTail(1)
				}
				if err == nil {
					break
				}
				require.ErrorIs(t, err, faultfs.ErrCrashed, "disk %d", i)
				for _, next := range crashes(a.disk, seed)[:3] {
					b := a.fork()
					b.reopen(next)
				}
			}
		}
	}
}

// Every single failing operation: either nothing happened, or the directory is poisoned; in both
// cases what was answered before is there.
func TestEveryOperationFails(t *testing.T) {
	for k := int64(1); ; k++ {
		w := newWorld(t, smallOptions)
		w.fs.Inject(faultfs.Rule{Op: faultfs.OpMutating, Nth: k})
		err := script(w)
		if err == nil {
			require.Greater(t, k, int64(50))
			return
		}
		require.ErrorIs(t, err, faultfs.ErrInjected)
		if w.d.Poisoned() != nil {
			require.ErrorIs(t, err, ErrPoisoned)
			before := w.fs.Mutations()
			_, err = w.d.Create(header(9, segments.End{}))
			require.ErrorIs(t, err, ErrPoisoned)
			if w.w != nil {
				require.ErrorIs(t, w.w.Append(), ErrPoisoned)
				require.ErrorIs(t, w.w.Commit(), ErrPoisoned)
				require.ErrorIs(t, w.w.MarkIdle(), ErrPoisoned)
				_, err = w.w.Finalize(segments.End{})
				require.ErrorIs(t, err, ErrPoisoned)
			}
			require.Equal(t, before, w.fs.Mutations(), "T6")
		}
		for _, disk := range crashes(w.disk, uint64(k)) {
			twin := w.fork()
			twin.reopen(disk)
		}
	}
}
