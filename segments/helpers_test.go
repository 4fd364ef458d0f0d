package segments

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
)

var testJournal = JournalID{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf}

// testHeader is the header of a segment that follows another.
func testHeader() Header {
	return Header{
		Journal: testJournal, First: 101, Epoch: 7,
		Prev: End{First: 1, Last: 100, Digest: Digest{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}},
	}
}

// frameOf seals a frame with the given transactions.
func frameOf(t testing.TB, prev Position, epoch fencing.Epoch, txns ...string) Frame {
	t.Helper()
	var b Builder
	b.Reset(prev.TxID+1, epoch)
	for _, txn := range txns {
		require.NoError(t, b.Add([]byte(txn)))
	}
	f, err := b.Seal(prev.Digest, SealOptions{})
	require.NoError(t, err)
	return f
}

// file builds a segment file in memory, as a writer would.
type file struct {
	t       testing.TB
	h       Header
	b       []byte
	pos     Position
	frames  uint64
	index   Index
	offsets []int64 // of the frames
}

func newFile(t testing.TB, h Header) *file {
	return &file{t: t, h: h, b: AppendHeader(nil, h), pos: h.Start()}
}

func (f *file) frame(txns ...string) *file {
	fr := frameOf(f.t, f.pos, f.h.Epoch, txns...)
	f.index.Add(IndexEntry{TxID: fr.First(), Offset: int64(len(f.b)), Prev: f.pos.Digest})
	f.offsets = append(f.offsets, int64(len(f.b)))
	f.b = append(f.b, fr.Bytes()...)
	f.pos = fr.Position()
	f.frames++
	return f
}

func (f *file) mark() *file {
	f.b = AppendMark(f.b, f.h.Journal, Mark{Offset: int64(len(f.b)), Segment: f.h.First, Epoch: f.h.Epoch, Synced: f.pos})
	return f
}

func (f *file) pad(n int) *file {
	f.b = append(f.b, make([]byte, n)...)
	return f
}

func (f *file) footer() *file {
	f.b = AppendFooter(f.b, f.footerOf())
	return f
}

func (f *file) footerOf() Footer {
	return Footer{
		Header: f.h, End: End{First: f.h.First, Last: f.pos.TxID, Digest: f.pos.Digest},
		Frames: f.frames, Offset: int64(len(f.b)), Index: f.index.Entries(),
	}
}

func (f *file) scan() Result { return scanBytes(f.b) }

func scanBytes(b []byte) Result {
	return Scan(bytes.NewReader(b), int64(len(b)), ScanOptions{})
}

// groups builds n groups of two frames, each group with a mark in front as the store writes them.
func (f *file) groups(n int) *file {
	for i := range n {
		if i > 0 {
			f.mark()
		}
		f.frame(fmt.Sprintf("group %d, one", i), "two").frame("three")
	}
	return f
}

// failingReader fails reads that touch bad.
type failingReader struct {
	r   io.ReaderAt
	bad int64
	err error
}

func (r failingReader) ReadAt(p []byte, off int64) (int, error) {
	if off <= r.bad && r.bad < off+int64(len(p)) {
		return 0, r.err
	}
	return r.r.ReadAt(p, off)
}
