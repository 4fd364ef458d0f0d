package snapshots

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/segments"
)

// ends is header and trailer of a finished file.
type ends struct {
	header  header
	seed    [4]byte
	trailer trailer
}

// readEnds reads and verifies both ends of a finished file of that size. Errors are *CorruptError, or
// ErrUnsupported.
func (s *Store) readEnds(r io.ReaderAt, txid segments.TxID, size int64) (e ends, err error) {
	name := s.path(finalName(txid))
	if e.header, e.seed, err = s.readHeader(r, name); err != nil {
		return e, err
	}
	if e.header.id.TxID != txid {
		return e, &CorruptError{File: name, Err: mismatch(ErrCorrupt, "header's txid", e.header.id.TxID, txid)}
	}
	b := make([]byte, trailerSize)
	off := size - trailerSize
	if off < headerSize {
		return e, &CorruptError{File: name, Offset: size, Err: mismatch(ErrCorrupt, "file's size", size, headerSize+trailerSize)}
	}
	if err := readFull(r, b, off); err != nil {
		return e, &CorruptError{File: name, Offset: off, Err: err}
	}
	e.trailer, err = parseTrailer(b, e.header, e.seed, size)
	return e, atPlace(err, name, off)
}

func (s *Store) readHeader(r io.ReaderAt, name string) (h header, seed [4]byte, err error) {
	b := make([]byte, headerSize)
	if err := readFull(r, b, 0); err != nil {
		return h, seed, &CorruptError{File: name, Err: err}
	}
	if h, err = parseHeader(b); err == nil && h.journal != s.journal {
		err = mismatch(ErrCorrupt, "header's journal", h.journal, s.journal)
	}
	return h, headerSeed(b), atPlace(err, name, 0)
}

// atPlace wraps damage with its place. A later version is no damage.
func atPlace(err error, name string, off int64) error {
	if err == nil || errors.Is(err, ErrUnsupported) {
		return err
	}
	return &CorruptError{File: name, Offset: off, Err: err}
}

// readFull reads all of b. The end of the file before it is an error, never a short result.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || err == io.EOF:
		return io.ErrUnexpectedEOF
	}
	return err
}

// Reader reads one snapshot's content. ReadAt may be called concurrently; Read and Seek are for one caller.
// It keeps the last block it read. A snapshot that is removed meanwhile can be read to its end.
type Reader struct {
	s    *Store
	h    *held
	name string
	f    vfs.File
	src  io.ReaderAt
	ends ends
	pos  int64 // of Read

	mu     sync.Mutex // guards what follows, also while a block is read
	block  []byte     // head included
	number int64      // of the block; -1: none
	closed bool
}

// OpenReader opens a snapshot. ErrNotFound where there is none; of a damaged one, its damage.
func (s *Store) OpenReader(txid segments.TxID) (*Reader, error) { return s.openReader(txid, nil) }

func (s *Store) openReader(txid segments.TxID, wrap func(io.ReaderAt) io.ReaderAt) (*Reader, error) {
	s.mu.Lock()
	if s.retired {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	h := s.held[txid]
	if h == nil {
		s.mu.Unlock()
		return nil, notFound(txid)
	}
	want, err := h.info.Snapshot, h.info.Err
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	h.info.Readers++
	s.mu.Unlock()
	r := &Reader{s: s, h: h, name: s.path(finalName(txid)), number: -1}
	if err := r.open(want, wrap); err != nil {
		s.noteDamage(h, err)
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Reader) open(want Snapshot, wrap func(io.ReaderAt) io.ReaderAt) (err error) {
	if r.f, err = r.s.fs.Open(r.name); err != nil {
		return fmt.Errorf("snapshots: open snapshot %d: %w", want.TxID, err)
	}
	r.src = r.f
	if wrap != nil {
		r.src = wrap(r.f)
	}
	size, err := r.f.Size()
	if err != nil {
		return fmt.Errorf("snapshots: open snapshot %d: %w", want.TxID, err)
	}
	if r.ends, err = r.s.readEnds(r.src, want.TxID, size); err != nil {
		return err
	}
	if got := r.Snapshot(); got != want {
		return &CorruptError{File: r.name, Err: mismatch(ErrCorrupt, "snapshot", got, want)}
	}
	return nil
}

// Snapshot returns what is read.
func (r *Reader) Snapshot() Snapshot { return r.ends.header.snapshot(r.ends.trailer) }

// Size returns the size of the content.
func (r *Reader) Size() int64 { return r.ends.trailer.size }

// ReadAt reads content from an offset in it, each block verified (P3). Errors: *CorruptError, io.EOF.
func (r *Reader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("%w: offset (got %d)", ErrInvalid, off)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, ErrClosed
	}
	for n < len(p) {
		if off >= r.Size() {
			return n, io.EOF
		}
		number := off / int64(r.ends.header.blockBytes)
		if err := r.load(number); err != nil {
			r.s.noteDamage(r.h, err)
			return n, err
		}
		k := copy(p[n:], r.block[blockHeadSize+off-number*int64(r.ends.header.blockBytes):])
		n, off = n+k, off+int64(k)
	}
	return n, nil
}

// load reads a block, unless it is the one that is there.
func (r *Reader) load(number int64) error {
	if r.number == number {
		return nil
	}
	h := r.ends.header
	n := min(int64(h.blockBytes), r.Size()-number*int64(h.blockBytes))
	if r.block == nil {
		r.block = make([]byte, blockHeadSize+n, blockHeadSize+max(n, min(int64(h.blockBytes), r.Size())))
	}
	r.number, r.block = -1, r.block[:blockHeadSize+n]
	off := h.blockOffset(number)
	err := readFull(r.src, r.block, off)
	if err == nil {
		err = checkBlock(r.block, number, r.ends.seed)
	}
	if err != nil {
		return &CorruptError{File: r.name, Offset: off, Err: err}
	}
	r.number = number
	return nil
}

// Read reads on from where Read or Seek left off.
func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.ReadAt(p, r.pos)
	r.pos += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// Seek sets where Read goes on, in the content.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.Size()
	default:
		return r.pos, fmt.Errorf("%w: whence (got %d)", ErrInvalid, whence)
	}
	if offset < 0 {
		return r.pos, fmt.Errorf("%w: offset (got %d)", ErrInvalid, offset)
	}
	r.pos = offset
	return offset, nil
}

// Close closes the reader.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	r.s.mu.Lock()
	r.h.info.Readers--
	r.s.mu.Unlock()
	if r.f == nil {
		return nil
	}
	return r.f.Close()
}

// Verify reads a snapshot in full and compares it with its checksum. Damage is returned, and makes the
// snapshot unknown. wrap, if not nil, may slow reading down, and break it off with ErrClosed: that says nothing
// about the snapshot.
func (s *Store) Verify(txid segments.TxID, wrap func(io.ReaderAt) io.ReaderAt) error {
	err := s.verify(txid, wrap)
	if errors.Is(err, ErrClosed) {
		return ErrClosed
	}
	return err
}

func (s *Store) verify(txid segments.TxID, wrap func(io.ReaderAt) io.ReaderAt) error {
	r, err := s.openReader(txid, wrap)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	sum := sha256.New()
	for number := range r.ends.trailer.blocks {
		if err := r.hashBlock(number, sum); err != nil {
			s.noteDamage(r.h, err)
			return err
		}
	}
	if got := Checksum(sum.Sum(nil)); got != r.ends.trailer.checksum {
		err := &CorruptError{File: r.name, Offset: r.ends.trailer.offset, Err: mismatch(ErrChecksum, "content's sha256", got, r.ends.trailer.checksum)}
		s.noteDamage(r.h, err)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.h.info.Verified = r.h.info.Err == nil
	return r.h.info.Err
}

func (r *Reader) hashBlock(number int64, sum io.Writer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.load(number); err != nil {
		return err
	}
	_, err := sum.Write(r.block[blockHeadSize:])
	return err
}
