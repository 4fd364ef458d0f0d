package segments

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// seeds adds the golden files whose names match.
func seeds(f *testing.F, pattern string) {
	names, err := filepath.Glob(filepath.Join("testdata", "v1", pattern))
	if err != nil || len(names) == 0 {
		f.Fatal("no golden files for ", pattern, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// mustBeClassed checks that an error has at least one class.
func mustBeClassed(t *testing.T, err error) {
	t.Helper()
	for _, class := range []error{ErrTorn, ErrCorrupt, ErrZeroed, ErrGap, ErrUnsupported} {
		if errors.Is(err, class) {
			return
		}
	}
	t.Fatalf("error without a class: %v", err)
}

func FuzzParseFrame(f *testing.F) {
	seeds(f, "frame-*")
	f.Fuzz(func(t *testing.T, b []byte) {
		fixCRC(b)
		fr, err := ParseFrame(b)
		if err != nil {
			mustBeClassed(t, err)
			return
		}
		require.LessOrEqual(t, fr.Size(), MaxFrameSize)
		require.True(t, bytes.Equal(b[:fr.Size()], fr.Bytes()))
		if fr.VerifyChecksum() == nil { // G5: the header encodes again to the same bytes
			again := bytes.Clone(fr.Bytes())
			putFrameHeader(again, fr.Header())
			binary.LittleEndian.PutUint32(again[frameOffCRC:], fr.Header().Checksum)
			require.Equal(t, fr.Bytes(), again)
		}
		_ = fr.VerifyChain(Digest{})
		if err := fr.CheckPayload(); err != nil {
			mustBeClassed(t, err)
			return
		}
		if fr.Opaque() || fr.Compressed() {
			return
		}
		var bld Builder
		bld.Reset(fr.First(), fr.Epoch())
		require.NoError(t, fr.EachTxn(func(_ TxID, data []byte) error { return bld.Add(data) }))
		again, err := bld.Seal(Digest{}, SealOptions{})
		require.NoError(t, err)
		require.Equal(t, fr.Bytes()[FrameHeaderSize:], again.Bytes()[FrameHeaderSize:])
	})
}

// fixCRC makes a frame's checksum right, so that the fuzzer gets behind it.
func fixCRC(b []byte) {
	if h, err := ParseFrameHeader(b); err == nil && len(b) >= h.Size() {
		binary.LittleEndian.PutUint32(b[frameOffCRC:], frameChecksum(b[:h.Size()]))
	}
}

func FuzzParseHeader(f *testing.F) {
	f.Add(AppendHeader(nil, testHeader())[:headerUsed])
	f.Add(AppendHeader(nil, Header{Journal: testJournal, First: 1, Epoch: 1})[:headerUsed])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= headerUsed { // the rest of the page is zeros: the fuzzer need not carry them
			b = append(b, make([]byte, HeaderSize)...)[:HeaderSize]
			binary.LittleEndian.PutUint32(b[headerOffCRC:], checksumExcept(b, headerOffCRC))
		}
		h, err := ParseHeader(b)
		if err != nil {
			mustBeClassed(t, err)
			return
		}
		require.Equal(t, b[:HeaderSize], AppendHeader(nil, h))
	})
}

func FuzzParseMark(f *testing.F) {
	seeds(f, "mark")
	h := testHeader()
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= MarkSize {
			binary.LittleEndian.PutUint32(b[markOffCRC:], markChecksum(h.Journal, b[:MarkSize]))
		}
		m, err := ParseMark(b, h, 5000)
		if err != nil {
			mustBeClassed(t, err)
			return
		}
		require.Equal(t, b[:MarkSize], AppendMark(nil, h.Journal, m))
	})
}

func FuzzParseFooter(f *testing.F) {
	b := newFile(f, testHeader()).groups(5)
	off := int64(len(b.b))
	f.Add(AppendFooter(nil, b.footerOf()))
	f.Fuzz(func(t *testing.T, b []byte) {
		fixFooter(b)
		foot, err := ParseFooter(b, off)
		if err != nil {
			mustBeClassed(t, err)
			return
		}
		require.Equal(t, b, AppendFooter(nil, foot))
	})
}

// fixFooter makes the checksums of a footer right.
func fixFooter(b []byte) {
	if len(b) < FooterHeadSize+TrailerSize {
		return
	}
	sum := func(b []byte) uint32 { return checksumExcept(append(bytes.Clone(b), 0, 0, 0, 0), len(b)) }
	t := b[len(b)-TrailerSize:]
	binary.LittleEndian.PutUint32(t[trailerOffCRC:], sum(t[:trailerOffCRC]))
	binary.LittleEndian.PutUint32(b[footerOffIndexCRC:], sum(b[FooterHeadSize:len(b)-TrailerSize]))
	binary.LittleEndian.PutUint32(b[footerOffCRC:], sum(b[:footerOffCRC]))
}

// FuzzScan scans any file: no panic, a result that agrees with itself, and scanning the good part
// alone gives the good part (G3: nothing in front of it depends on what is behind).
func FuzzScan(f *testing.F) {
	for _, name := range []string{"inprogress.seg", "torn.seg", "unfinished-finalize.seg"} {
		b, err := os.ReadFile(filepath.Join("testdata", "v1", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[HeaderSize:], false)
		f.Add(b[HeaderSize:], true)
	}
	header := AppendHeader(nil, testHeader())
	f.Fuzz(func(t *testing.T, body []byte, fix bool) {
		b := append(bytes.Clone(header), body...)
		if fix {
			fixRecords(b)
		}
		n := uint64(0)
		res := Scan(bytes.NewReader(b), int64(len(b)), ScanOptions{Each: func(r Record) error {
			if r.Kind == RecordFrame {
				n++
			}
			return nil
		}})
		require.Equal(t, n, res.Frames)
		switch res.Stop {
		case StopEnd, StopPadding, StopFooter:
			require.NoError(t, res.Err)
		case StopTorn:
			require.ErrorIs(t, res.Err, ErrTorn)
			require.NotErrorIs(t, res.Err, ErrCorrupt)
			require.LessOrEqual(t, res.Marked.TxID, res.Last.TxID)
		case StopCorrupt, StopGap:
			require.ErrorIs(t, res.Err, ErrCorrupt)
		case StopUnsupported:
			require.ErrorIs(t, res.Err, ErrUnsupported)
		default:
			t.Fatal(res.Stop)
		}
		if res.EndOffset > 0 {
			again := scanBytes(b[:res.EndOffset])
			require.Equal(t, StopEnd, again.Stop)
			require.Equal(t, res.Last, again.Last)
			require.Equal(t, res.Frames, again.Frames)
		}
		if _, err := Verify(bytes.NewReader(b), int64(len(b))); err == nil {
			require.Equal(t, StopFooter, res.Stop)
		}
	})
}

// fixRecords makes the checksums of the records right, as far as they follow one another.
func fixRecords(b []byte) {
	for off := HeaderSize; off < len(b); {
		rest := b[off:]
		h, err := ParseFrameHeader(rest)
		switch {
		case err == nil && len(rest) >= h.Size():
			fixCRC(rest)
			off += h.Size()
		case bytes.HasPrefix(rest, []byte(markMagic)) && len(rest) >= MarkSize:
			binary.LittleEndian.PutUint32(rest[markOffCRC:], markChecksum(testJournal, rest[:MarkSize]))
			off += MarkSize
		default:
			fixFooter(rest)
			return
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{
		"00000000000000000001-00000000000000000400.seg", "00000000000000000401.inprogress",
		"00000000000000000401.inprogress.torn-2", "00000000000000000401.inprogress.install-replaced",
		"incoming-00000000000000000401-peer2.tmp",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, ok := ParseName(s); ok {
			require.Equal(t, s, n.String())
			require.NotZero(t, n.First)
		}
	})
}
