package segments

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScanWholeFiles(t *testing.T) {
	f := newFile(t, testHeader()).groups(3)
	end := int64(len(f.b))
	check := func(b []byte, stop Stop) Result {
		t.Helper()
		res := scanBytes(b)
		require.NoError(t, res.Err)
		require.Equal(t, stop, res.Stop)
		require.Equal(t, f.pos, res.Last)
		require.Equal(t, uint64(6), res.Frames)
		require.Equal(t, testHeader(), res.Header)
		return res
	}
	res := check(f.b, StopEnd)
	require.Equal(t, end, res.EndOffset)
	require.Equal(t, TxID(106), res.Marked.TxID)
	for _, n := range []int{1, 3, 55, 56, 64, 100, 4096, 3 * searchChunk} {
		res = check(append(bytes.Clone(f.b), make([]byte, n)...), StopPadding)
		require.Equal(t, end, res.EndOffset)
	}
	f.mark()
	require.Equal(t, f.pos, check(f.b, StopEnd).Marked)
	f.footer()
	res = check(f.b, StopFooter)
	require.NotNil(t, res.Footer)
	require.Equal(t, f.pos, res.Footer.End.Position())

	// A footer that was cut off while it was written is a footer still.
	res = check(append(f.b[:len(f.b)-TrailerSize-7], make([]byte, 300)...), StopFooter)
	require.Nil(t, res.Footer)
}

func TestScanEmptySegment(t *testing.T) {
	f := newFile(t, testHeader())
	res := f.scan()
	require.Equal(t, StopEnd, res.Stop)
	require.Equal(t, testHeader().Start(), res.Last)
	require.Equal(t, testHeader().Start(), res.Marked)
	require.Equal(t, StopPadding, f.pad(5000).scan().Stop)
}

// W1: the first frame of a segment chains from the previous segment's digest.
func TestW1_FirstFrameChainsFromThePreviousSegment(t *testing.T) {
	h := testHeader()
	f := newFile(t, h).frame("a")
	require.NoError(t, f.scan().Err)

	h.Prev.Digest[0] ^= 1 // same txids, other history
	other := append(AppendHeader(nil, h), f.b[HeaderSize:]...)
	res := scanBytes(other)
	require.Equal(t, StopGap, res.Stop)
	require.ErrorIs(t, res.Err, ErrCorrupt)
	require.ErrorIs(t, res.Err, ErrGap)
}

func TestScanGap(t *testing.T) {
	h := testHeader()
	base := newFile(t, h).groups(2)
	for name, next := range map[string]Frame{
		"txid missing":  frameOf(t, Position{base.pos.TxID + 1, base.pos.Digest}, h.Epoch, "x"),
		"txid repeated": frameOf(t, Position{base.pos.TxID - 1, base.pos.Digest}, h.Epoch, "x"),
		"other epoch":   frameOf(t, base.pos, h.Epoch+1, "x"),
		"other history": frameOf(t, Position{base.pos.TxID, Digest{1}}, h.Epoch, "x"),
	} {
		res := scanBytes(append(bytes.Clone(base.b), next.Bytes()...))
		require.Equal(t, StopGap, res.Stop, name)
		require.ErrorIs(t, res.Err, ErrGap, name)
		require.ErrorIs(t, res.Err, ErrCorrupt, name)
		require.Equal(t, base.pos, res.Last, name)
	}
}

// G4: a later version is told apart from a damaged version byte.
func TestG4_LaterVersions(t *testing.T) {
	f := newFile(t, testHeader()).groups(2)
	later := bytes.Clone(frameOf(t, f.pos, f.h.Epoch, "x").Bytes())
	later[frameOffVersion] = 2
	res := scanBytes(append(bytes.Clone(f.b), later...))
	require.Equal(t, StopTorn, res.Stop, "wrong checksum")

	putCRC := func(b []byte) {
		crc := frameChecksum(b)
		b[12], b[13], b[14], b[15] = byte(crc), byte(crc>>8), byte(crc>>16), byte(crc>>24)
	}
	putCRC(later)
	res = scanBytes(append(bytes.Clone(f.b), later...))
	require.Equal(t, StopUnsupported, res.Stop)
	require.ErrorIs(t, res.Err, ErrUnsupported)
	require.NotErrorIs(t, res.Err, ErrCorrupt)

	header := bytes.Clone(f.b)
	header[headerOffVersion] = 2
	require.ErrorIs(t, scanBytes(header).Err, ErrCorrupt)
	crc := checksumExcept(header[:HeaderSize], headerOffCRC)
	header[12], header[13], header[14], header[15] = byte(crc), byte(crc>>8), byte(crc>>16), byte(crc>>24)
	res = scanBytes(header)
	require.Equal(t, StopUnsupported, res.Stop)
	require.ErrorIs(t, res.Err, ErrUnsupported)
	require.NotErrorIs(t, res.Err, ErrCorrupt)
}

// N2a: rot anywhere at or below the highest mark that is left is damage; above it is torn. The
// oracle knows the file's records from building it.
func TestN2a_RotInEachPlace(t *testing.T) {
	f := newFile(t, testHeader()).groups(2).mark().frame("above", "the mark").frame("and", "more")
	type record struct {
		from, to int   // bytes
		before   TxID  // last txid before it
		marks    *TxID // what it says, if it is a mark
	}
	var records []record
	res := Scan(bytes.NewReader(f.b), int64(len(f.b)), ScanOptions{Each: func(r Record) error {
		rec := record{from: int(r.Offset), to: int(r.Offset + r.Size())}
		if r.Kind == RecordMark {
			id := r.Mark.Synced.TxID
			rec.before, rec.marks = id, &id
		} else {
			rec.before = r.Frame.First() - 1
		}
		records = append(records, rec)
		return nil
	}})
	require.NoError(t, res.Err)
	f.pad(1000)

	fill := func(c byte, n int) func([]byte) { return func(b []byte) { copy(b, bytes.Repeat([]byte{c}, n)) } }
	rots := map[string]func(b []byte){
		"bit": func(b []byte) { b[0] ^= 0x10 }, "one zero": fill(0, 1), "zeros": fill(0, 512), "ones": fill(0xff, 100),
	}
	for kind, rot := range rots {
		for i := range int(res.EndOffset) {
			b := bytes.Clone(f.b)
			rot(b[i:])
			lo, hi := diff(f.b, b)
			if lo < 0 {
				continue
			}
			got := scanBytes(b)
			at, highest := TxID(0), f.h.First-1
			for _, r := range records {
				hit := lo < r.to && r.from <= hi
				if hit && at == 0 {
					at = r.before
				}
				if r.marks != nil && !hit {
					highest = max(highest, *r.marks)
				}
			}
			switch {
			case lo < HeaderSize || highest > at:
				require.Equal(t, StopCorrupt, got.Stop, "%s at %d", kind, i)
				require.ErrorIs(t, got.Err, ErrCorrupt)
				require.NotErrorIs(t, got.Err, ErrUnsupported)
			case got.Stop == StopPadding: // the last write, zeroed: as if it had not come
				require.Equal(t, "zeros", kind)
				require.Equal(t, at, got.Last.TxID)
			default:
				require.Equal(t, StopTorn, got.Stop, "%s at %d: %v", kind, i, got.Err)
				require.ErrorIs(t, got.Err, ErrTorn)
				require.NotErrorIs(t, got.Err, ErrCorrupt)
				require.Equal(t, at, got.Last.TxID)
			}
		}
	}
}

// diff returns the first and last byte that differ, or -1.
func diff(a, b []byte) (lo, hi int) {
	lo, hi = -1, -1
	for i := range a {
		if a[i] != b[i] {
			if lo < 0 {
				lo = i
			}
			hi = i
		}
	}
	return lo, hi
}

// N2a: the highest mark counts also where it lies behind the unreadable place, far behind, and
// across the edge of a chunk that the search reads.
func TestN2a_MarkFarBehind(t *testing.T) {
	for _, distance := range []int{0, 1, 100, searchChunk - 30, searchChunk, 2*searchChunk - 64} {
		f := newFile(t, testHeader()).frame("first").frame("second")
		f.frame(strings.Repeat("x", distance+1)).frame("more").mark().frame("last")
		f.b[f.offsets[1]+60] ^= 1
		res := f.scan()
		require.Equal(t, StopCorrupt, res.Stop)
		require.Equal(t, TxID(104), res.Marked.TxID)
		require.Equal(t, TxID(101), res.Last.TxID)
		var ce *CorruptionError
		require.ErrorAs(t, res.Err, &ce)
		require.Equal(t, CorruptionError{Segment: 101, Offset: f.offsets[1], TxID: 102, Err: ce.Err}, *ce)
	}
}

// N2a: a copy of a mark elsewhere is no mark: in a payload, of another segment, epoch or journal.
func TestN2a_CopiedMarksDoNotCount(t *testing.T) {
	h := testHeader()
	mark := func(j JournalID, m Mark) string { return string(AppendMark(nil, j, m)) }
	pos := Position{TxID: 200, Digest: Digest{7}}
	off := int64(HeaderSize + FrameHeaderSize + 1) // where the payload of the only txn starts
	for name, m := range map[string]string{
		"elsewhere":     mark(h.Journal, Mark{Offset: off + 64, Segment: h.First, Epoch: h.Epoch, Synced: pos}),
		"other segment": mark(h.Journal, Mark{Offset: off, Segment: h.First + 1, Epoch: h.Epoch, Synced: pos}),
		"other epoch":   mark(h.Journal, Mark{Offset: off, Segment: h.First, Epoch: h.Epoch - 1, Synced: pos}),
		"other journal": mark(JournalID{}, Mark{Offset: off, Segment: h.First, Epoch: h.Epoch, Synced: pos}),
	} {
		f := newFile(t, h).frame(m)
		f.b[HeaderSize+20] ^= 1
		require.Equal(t, StopTorn, f.scan().Stop, name)
	}
}

// A mark that says other than the frames before it is damage, wherever it is.
func TestN2a_ContradictingMark(t *testing.T) {
	f := newFile(t, testHeader()).frame("one")
	real := f.pos
	f.pos.Digest[3] ^= 1
	f.mark()
	f.pos = real
	require.Equal(t, StopCorrupt, f.scan().Stop)
	require.ErrorIs(t, f.scan().Err, ErrCorrupt)
}

// Any tear of the last write is no damage, and loses nothing below the mark: sectors of 512 bytes
// of the last group survive or not.
func TestN2a_AnyTearIsTornOrPadding(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	before := newFile(t, testHeader()).groups(2)
	after := newFile(t, testHeader()).groups(2).mark().
		frame(strings.Repeat("long ", 500)).frame("short").frame(strings.Repeat("more ", 300))
	after.pad(8192 - len(after.b)%4096)
	old := append(bytes.Clone(before.b), make([]byte, len(after.b)-len(before.b))...)
	for range 2000 {
		b := bytes.Clone(old)
		for s := 0; s < len(b); s += 512 {
			if rng.IntN(3) > 0 {
				copy(b[s:min(s+512, len(b))], after.b[s:])
			}
		}
		res := scanBytes(b)
		require.NotErrorIs(t, res.Err, ErrCorrupt)
		require.Contains(t, []Stop{StopPadding, StopTorn}, res.Stop)
		require.GreaterOrEqual(t, res.Last.TxID, before.pos.TxID)
	}
}

// A read error is neither an end nor a tear.
func TestScanReadError(t *testing.T) {
	f := newFile(t, testHeader()).groups(2).pad(3 * scanWindow)
	boom := errors.New("boom")
	for _, bad := range []int64{10, HeaderSize + 10, int64(len(f.b)) - 1} {
		res := Scan(failingReader{bytes.NewReader(f.b), bad, boom}, int64(len(f.b)), ScanOptions{})
		require.Equal(t, StopCorrupt, res.Stop)
		require.ErrorIs(t, res.Err, ErrCorrupt)
		require.ErrorIs(t, res.Err, boom)
	}
}

func TestVerifyFindsEveryFlip(t *testing.T) {
	f := newFile(t, testHeader()).groups(2).mark().footer()
	_, err := Verify(bytes.NewReader(f.b), int64(len(f.b)))
	require.NoError(t, err)
	for i := range f.b {
		b := bytes.Clone(f.b)
		b[i] ^= 0x04
		_, err := Verify(bytes.NewReader(b), int64(len(b)))
		require.ErrorIs(t, err, ErrCorrupt, "byte %d", i)
	}
	for n := range len(f.b) {
		_, err := Verify(bytes.NewReader(f.b[:n]), int64(n))
		require.ErrorIs(t, err, ErrCorrupt, "cut to %d", n)
	}
	for off := HeaderSize; off+100 < len(f.b)-FooterHeadSize-TrailerSize; off += 50 {
		b := bytes.Clone(f.b)
		clear(b[off : off+100])
		_, err := Verify(bytes.NewReader(b), int64(len(b)))
		require.ErrorIs(t, err, ErrCorrupt, "hole at %d", off)
	}
}

func TestVerifyZeroedHole(t *testing.T) {
	f := newFile(t, testHeader()).groups(2).footer()
	clear(f.b[f.offsets[1]:f.offsets[3]])
	_, err := Verify(bytes.NewReader(f.b), int64(len(f.b)))
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorIs(t, err, ErrZeroed)
}

// Big frames, and a file of many windows.
func TestScanLarge(t *testing.T) {
	f := newFile(t, testHeader())
	for i := range 40 {
		f.frame(strings.Repeat("y", 1000+i*7001))
	}
	f.frame(strings.Repeat("z", 3<<20)).frame("end").pad(100)
	res := f.scan()
	require.NoError(t, res.Err)
	require.Equal(t, f.pos, res.Last)
	require.Equal(t, f.index.Entries(), res.Index.Entries())
	require.Greater(t, len(res.Index.Entries()), 10)
}

func TestIndexIsBounded(t *testing.T) {
	var x Index
	const n = MaxIndexEntries * 5
	for i := range n {
		x.Add(IndexEntry{TxID: TxID(i + 1), Offset: HeaderSize + int64(i)*IndexSpacing})
	}
	require.LessOrEqual(t, len(x.Entries()), MaxIndexEntries)
	require.Equal(t, TxID(1), x.Entries()[0].TxID)
	_, ok := x.Find(0)
	require.False(t, ok)
	for _, id := range []TxID{1, 2, 100, n / 2, n, n + 100} {
		e, ok := x.Find(id)
		require.True(t, ok)
		require.LessOrEqual(t, e.TxID, id)
		require.Greater(t, e.TxID+16, min(id, n))
	}
}

func TestHeaderValidate(t *testing.T) {
	require.NoError(t, Header{First: 1, Epoch: 1}.Validate())
	for name, h := range map[string]Header{
		"txid 0":       {Epoch: 1},
		"epoch 0":      {First: 1},
		"no previous":  {First: 2, Epoch: 1},
		"gap":          {First: 12, Epoch: 1, Prev: End{First: 1, Last: 10}},
		"previous bad": {First: 11, Epoch: 1, Prev: End{First: 11, Last: 10}},
		"previous 0":   {First: 11, Epoch: 1, Prev: End{First: 0, Last: 10}},
		"overflow":     {First: 1<<64 - 1, Epoch: 1, Prev: End{First: 1, Last: 1<<64 - 2}},
	} {
		require.Error(t, h.Validate(), name)
	}
}
