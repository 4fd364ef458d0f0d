package libqjm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/snapshot"
)

// SnapshotReader reads a snapshot from whichever node has it, and goes on with another one where one fails.
// Nodes verify each block that they read; what is read in order, from start to end, is compared with the
// snapshot's checksum, too, before io.EOF. ReadAt may be called concurrently; Read and Seek are for one
// goroutine. It keeps one piece in memory.
type SnapshotReader struct {
	c      *Client
	ref    journalRef
	snap   Snapshot
	ctx    context.Context
	cancel context.CancelFunc
	nodes  []quorum.Member
	pos    int64
	sum    hash.Hash // of what was read in order
	hashed int64

	mu    sync.Mutex // guards what follows, also while a piece is read
	at    int        // the node at hand
	piece []byte
	start int64 // of piece in the content
}

// OpenSnapshot opens a listed snapshot. The context bounds all reading. Errors: ErrNoSnapshot where none of
// that txid is listed; ErrUnavailable.
func (c *Client) OpenSnapshot(ctx context.Context, name string, txid TxID) (*SnapshotReader, error) {
	ref, err := c.waitForJournal(ctx, name)
	if err != nil {
		return nil, err
	}
	listed, err := c.listed(ctx, ref)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(listed, func(s Snapshot) bool { return s.TxID == txid })
	if i < 0 {
		return nil, fmt.Errorf("%w: of txid %d in journal %s", ErrNoSnapshot, txid, name)
	}
	r := &SnapshotReader{c: c, ref: ref, snap: listed[i], nodes: ref.cfg.Members(), sum: sha256.New()}
	r.ctx, r.cancel = context.WithCancel(ctx)
	return r, nil
}

// Snapshot names what is read.
func (r *SnapshotReader) Snapshot() Snapshot { return r.snap }

// Size returns the size of the content.
func (r *SnapshotReader) Size() int64 { return r.snap.Size }

// Close ends the reader.
func (r *SnapshotReader) Close() error {
	r.cancel()
	return nil
}

// ReadAt implements io.ReaderAt.
func (r *SnapshotReader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("%w: offset (got %d)", ErrBadRequest, off)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n < len(p) {
		if off >= r.snap.Size {
			return n, io.EOF
		}
		if off < r.start || off >= r.start+int64(len(r.piece)) {
			if err := r.load(off); err != nil {
				return n, err
			}
		}
		k := copy(p[n:], r.piece[off-r.start:])
		n, off = n+k, off+int64(k)
	}
	return n, nil
}

// load gets the piece at an offset, from the node at hand or from the next one.
func (r *SnapshotReader) load(off int64) error {
	r.piece = nil
	gone := map[quorum.NodeID]bool{} // it says that it has no such content
	for wait := snapshotRetryMin; ; wait = min(2*wait, snapshotRetryMax) {
		var errs []error
		for range r.nodes {
			m := r.nodes[r.at]
			b, err := r.ask(m, off)
			if err == nil {
				r.piece, r.start = b, off
				return nil
			}
			if r.ctx.Err() != nil {
				return fmt.Errorf("libqjm: reading snapshot %d: %w", r.snap.TxID, context.Cause(r.ctx))
			}
			if r.c.ctx.Err() != nil {
				return ErrClosed
			}
			gone[m.ID] = errors.Is(err, ErrNoSnapshot) || errors.Is(err, ErrSnapshotDamaged)
			errs = append(errs, fmt.Errorf("%s: %w", m.ID, err))
			r.at = (r.at + 1) % len(r.nodes)
		}
		if !slices.ContainsFunc(r.nodes, func(m quorum.Member) bool { return !gone[m.ID] }) {
			return fmt.Errorf("libqjm: reading snapshot %d: %w", r.snap.TxID, errors.Join(errs...))
		}
		select {
		case <-time.After(wait):
		case <-r.c.ctx.Done():
			return ErrClosed
		case <-r.ctx.Done():
			return fmt.Errorf("libqjm: reading snapshot %d: %w", r.snap.TxID, errors.Join(context.Cause(r.ctx), errors.Join(errs...)))
		}
	}
}

func (r *SnapshotReader) ask(m quorum.Member, off int64) ([]byte, error) {
	n, err := r.c.node(m)
	if err != nil {
		return nil, err
	}
	want := int(min(rpc.SnapshotChunkMax, r.snap.Size-off))
	c, err := bounded(r.ctx, r.c.opts.RequestTimeout, func(ctx context.Context) (rpc.SnapshotChunk, error) {
		return n.ReadSnapshot(ctx, rpc.SnapshotRead{Journal: r.ref.id, Snapshot: r.snap, Offset: off, Length: want})
	})
	switch got := crc32.Checksum(c.Bytes, castagnoli); {
	case err != nil:
		return nil, err
	case got != c.CRC || len(c.Bytes) != want:
		return nil, fmt.Errorf("%w: %d bytes, crc %08x (want %d, %08x)", rpc.ErrSnapshotChunk, len(c.Bytes), got, want, c.CRC)
	}
	return c.Bytes, nil
}

// Read implements io.Reader.
func (r *SnapshotReader) Read(p []byte) (int, error) {
	if r.pos >= r.snap.Size {
		return 0, r.end()
	}
	n, err := r.ReadAt(p[:min(int64(len(p)), r.snap.Size-r.pos)], r.pos)
	if r.pos == r.hashed {
		_, _ = r.sum.Write(p[:n]) // never fails
		r.hashed += int64(n)
	}
	r.pos += int64(n)
	return n, err
}

// end is io.EOF, if what was read in order is what was saved.
func (r *SnapshotReader) end() error {
	if r.hashed < r.snap.Size {
		return io.EOF // it was not
	}
	if got := snapshot.Checksum(r.sum.Sum(nil)); got != r.snap.Checksum {
		return fmt.Errorf("%w: sha256 of snapshot %d (got %s, want %s)", ErrSnapshotDamaged, r.snap.TxID, got, r.snap.Checksum)
	}
	return io.EOF
}

// Seek implements io.Seeker.
func (r *SnapshotReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.snap.Size
	default:
		return r.pos, fmt.Errorf("%w: whence (got %d)", ErrBadRequest, whence)
	}
	if offset < 0 {
		return r.pos, fmt.Errorf("%w: offset (got %d)", ErrBadRequest, offset)
	}
	r.pos = offset
	return offset, nil
}
