package journalnode_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// recordFS counts the syncs of segments.
type recordFS struct {
	vfs.FS
	disk *memfs.FS

	mu    sync.Mutex
	syncs int
}

func (r *recordFS) OpenWrite(name string) (vfs.File, error) {
	f, err := r.FS.OpenWrite(name)
	if err != nil || !strings.Contains(name, "/segments/") {
		return f, err
	}
	return recordFile{f, r}, nil
}

func (r *recordFS) synced() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.syncs
}

type recordFile struct {
	vfs.File
	r *recordFS
}

func (f recordFile) Sync() error {
	err := f.File.Sync()
	f.r.mu.Lock()
	f.r.syncs++
	f.r.mu.Unlock()
	return err
}

// ackStream is the node's end of a write stream. It looks at the disk at the moment when an ack leaves.
type ackStream struct {
	ctx   context.Context
	in    chan rpc.WriteRequest
	ready chan struct{} // closed when the segment was started
	look  func(rpc.WriteReply)
}

func (s *ackStream) Context() context.Context { return s.ctx }

func (s *ackStream) Recv() (rpc.WriteRequest, error) {
	select {
	case m := <-s.in:
		return m, nil
	case <-s.ctx.Done():
		return rpc.WriteRequest{}, context.Cause(s.ctx)
	}
}

func (s *ackStream) Send(r rpc.WriteReply) error {
	if r.Kind == rpc.Started {
		close(s.ready)
	}
	s.look(r)
	return nil
}

// onDisk looks for a position in the first segment.
func onDisk(disk vfs.FS, dir string, id segments.JournalID, at segments.Position) error {
	d, err := store.Open(disk, dir, id, store.Options{})
	if err != nil {
		return err
	}
	w, _, err := d.OpenTail(1)
	if err != nil {
		return err
	}
	digest, found, err := w.DigestAt(at.TxID)
	if err == nil && (!found || digest != at.Digest) {
		err = errors.New("it is not on the disk")
	}
	return err
}

// W2: no ack leaves before what it speaks for is synced: were the machine to die at that moment, with all that was not
// synced, the frames would be there; and between two acks there was a sync. Some messages are handled where they
// arrive, others wait behind somebody who asks the node's owner something at the same time.
func TestW2_NoAckLeavesBeforeItsSync(t *testing.T) {
	const count = 200
	var recs []*recordFS
	run(t, testcluster.Options{FS: func(_ int, disk *memfs.FS) vfs.FS {
		r := &recordFS{FS: disk, disk: disk}
		recs = append(recs, r)
		return r
	}}, func(b *bed) {
		id := b.journal("j")
		h := b.header(0, id, 1, writerID())
		rec, dir := recs[0], b.JournalDir(0)+"/segments"
		var acked []segments.TxID
		heard := make(chan segments.TxID, count) // txids that were acknowledged
		var early []string
		syncs := 0
		ctx, cancel := context.WithCancel(b.ctx)
		defer cancel()
		s := &ackStream{ctx: ctx, in: make(chan rpc.WriteRequest, 4), ready: make(chan struct{})}
		s.look = func(r rpc.WriteReply) {
			if r.Kind != rpc.Synced || len(acked) > 0 && r.At.TxID == acked[len(acked)-1] {
				return
			}
			now := rec.synced()
			if now <= syncs {
				early = append(early, fmt.Sprintf("ack of %s: no sync since the last one", r.At))
			}
			if err := onDisk(rec.disk.CrashClone(memfs.CrashOptions{}), dir, id, r.At); err != nil {
				early = append(early, fmt.Sprintf("ack of %s: %v", r.At, err))
			}
			syncs, acked = now, append(acked, r.At.TxID)
			heard <- r.At.TxID
		}
		var served sync.WaitGroup
		served.Go(func() { _ = b.Nodes[0].Write(h, s) })
		s.in <- rpc.WriteRequest{Start: &segments.End{}}
		<-s.ready
		served.Go(func() {
			n := b.node(0)
			for ctx.Err() == nil {
				_, _ = n.State(ctx, id)
			}
		})
		var texts []string
		for i := range count {
			texts = append(texts, fmt.Sprint("txn ", i, strings.Repeat("x", i*20)))
		}
		at := segments.TxID(0)
		for i, f := range frames(t, segments.Position{}, fencing.Epoch(1), texts...) {
			s.in <- rpc.WriteRequest{Frames: []segments.Frame{f}}
			for at+segments.TxID(i%4) < f.Last() { // up to three more than are acknowledged are under way
				at = <-heard
			}
		}
		for at < count {
			at = <-heard
		}
		cancel()
		served.Wait()
		require.Empty(t, early)
		require.True(t, slices.IsSorted(acked))
		require.Greater(t, len(acked), count/4)
	})
}
