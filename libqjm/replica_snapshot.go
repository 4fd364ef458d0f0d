package libqjm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/google/uuid"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/osfs"
)

// savingSnapshot is the snapshot under way, at most one.
type savingSnapshot struct {
	work sync.WaitGroup
	mu   sync.Mutex
	busy bool
}

func (s *savingSnapshot) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy {
		return false
	}
	s.busy = true
	return true
}

func (s *savingSnapshot) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
}

func (s *savingSnapshot) wait() { s.work.Wait() }

// saveSnapshot captures the state, and has it written and sent beside what goes on. The error is the state machine's.
func (r *Replica) saveSnapshot(ctx context.Context, w *Writer, why SnapshotReason, saving *savingSnapshot) error {
	if r.m.applied == 0 || !saving.begin() {
		return nil
	}
	txid := r.m.applied
	write, err := r.m.save()
	if err != nil {
		saving.end()
		return err
	}
	saving.work.Go(func() {
		defer saving.end()
		err := r.sendSnapshot(ctx, w, txid, write)
		switch {
		case errors.Is(err, ErrStateMachine):
			r.cancel(err)
		case err == nil:
			r.change(func() { r.snap = max(r.snap, txid) })
			r.c.log.Info("replica has saved a snapshot", "journal", r.name, "replica", r.opts.Name, "txid", txid, "reason", why)
		case ctx.Err() == nil && !errors.Is(err, ErrSnapshotOld):
			r.trouble(err) // the writer asks again when as much has come once more
		}
	})
	return nil
}

// sendSnapshot writes the state to where it can be read several times from, and sends it.
func (r *Replica) sendSnapshot(ctx context.Context, w *Writer, txid TxID, write func(io.Writer) error) (err error) {
	if r.opts.SpoolDir == "" {
		var b bytes.Buffer
		if err := write(whileWanted{ctx, &b}); err != nil {
			return err
		}
		_, err := w.SaveSnapshot(ctx, txid, bytes.NewReader(b.Bytes()))
		return err
	}
	disk := osfs.New(r.opts.SpoolDir)
	name := "qjm-" + uuid.NewString() + ".spool"
	f, err := disk.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := disk.Remove(name); err != nil { // at once, so that a process that is killed leaves nothing
		return err
	}
	out := &spool{f: f}
	if err := write(whileWanted{ctx, out}); err != nil {
		return err
	}
	_, err = w.SaveSnapshot(ctx, txid, io.NewSectionReader(f, 0, out.at))
	return err
}

// whileWanted takes what is written until the context ends: user code that writes for long holds up nobody who does not want it
// any more.
type whileWanted struct {
	ctx context.Context
	w   io.Writer
}

func (w whileWanted) Write(p []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	return w.w.Write(p)
}

// spool writes a file from its start on.
type spool struct {
	f  vfs.File
	at int64
}

func (s *spool) Write(p []byte) (int, error) {
	n, err := s.f.WriteAt(p, s.at)
	s.at += int64(n)
	return n, err
}
