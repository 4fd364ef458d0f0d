package segments

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var updateGolden = flag.Bool("update-golden", false, "write testdata/v1 anew; a change there is a change of the format (docs/format.md)")

// goldenFiles are files of format version 1. What is written today must be these bytes, except where
// a compressor made them; what is read must be understood for ever.
func goldenFiles(t *testing.T) map[string][]byte {
	h := testHeader()
	first := Header{Journal: testJournal, First: 1, Epoch: 1}
	txns := frameOf(t, h.Start(), h.Epoch, "one", "", "three")
	opaque, err := SealOpaque(h.Prev.Digest, h.Epoch, h.First, 1000, []byte("one blob for a thousand txids"), SealOptions{})
	require.NoError(t, err)
	finalized := newFile(t, h).groups(3).mark().footer()
	return map[string][]byte{
		"frame-txns":              txns.Bytes(),
		"frame-opaque":            opaque.Bytes(),
		"frame-zstd":              zstdFrame(t).Bytes(),
		"header-first":            AppendHeader(nil, first),
		"header":                  AppendHeader(nil, h),
		"mark":                    AppendMark(nil, h.Journal, Mark{Offset: 5000, Segment: 101, Epoch: 7, Synced: Position{105, Digest{1, 2, 3}}}),
		"inprogress.seg":          newFile(t, h).groups(3).pad(500).b,
		"torn.seg":                append(newFile(t, h).groups(3).b, "QJMF half a frame"...),
		"unfinished-finalize.seg": finalized.b,
		Name{Kind: NameFinalized, First: 101, Last: finalized.pos.TxID}.String(): finalized.b,
	}
}

func zstdFrame(t *testing.T) Frame {
	h := testHeader()
	var b Builder
	b.Reset(h.First, h.Epoch)
	for range 5 {
		require.NoError(t, b.Add([]byte(strings.Repeat("compressible ", 20))))
	}
	f, err := b.Seal(h.Prev.Digest, SealOptions{Compress: true})
	require.NoError(t, err)
	require.True(t, f.Compressed())
	return f
}

func golden(t *testing.T, name string) []byte {
	b, err := os.ReadFile(filepath.Join("testdata", "v1", name))
	require.NoError(t, err)
	return b
}

func TestGoldenIsWhatIsWritten(t *testing.T) {
	dir := filepath.Join("testdata", "v1")
	files := goldenFiles(t)
	if *updateGolden {
		require.NoError(t, os.MkdirAll(dir, 0o755))
		for name, b := range files {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
		}
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, len(files))
	for name, want := range files {
		if name != "frame-zstd" {
			require.True(t, bytes.Equal(golden(t, name), want), "%s: the format has changed", name)
		}
	}
}

func TestGoldenIsRead(t *testing.T) {
	h := testHeader()
	for _, name := range []string{"frame-txns", "frame-opaque", "frame-zstd"} {
		f, err := ParseFrame(golden(t, name))
		require.NoError(t, err, name)
		require.NoError(t, f.Verify(h.Prev.Digest), name)
		require.NoError(t, f.CheckPayload(), name)
	}
	f, err := ParseFrame(golden(t, "frame-zstd"))
	require.NoError(t, err)
	all, err := f.Txns()
	require.NoError(t, err)
	require.Len(t, all, 5)
	require.Equal(t, strings.Repeat("compressible ", 20), string(all[4].Data))

	got, err := ParseHeader(golden(t, "header"))
	require.NoError(t, err)
	require.Equal(t, h, got)
	_, err = ParseMark(golden(t, "mark"), h, 5000)
	require.NoError(t, err)

	for name, stop := range map[string]Stop{"inprogress.seg": StopPadding, "torn.seg": StopTorn, "unfinished-finalize.seg": StopFooter} {
		res := scanBytes(golden(t, name))
		require.Equal(t, stop, res.Stop, name)
		require.Equal(t, TxID(109), res.Last.TxID, name)
	}
	b := golden(t, "00000000000000000101-00000000000000000109.seg")
	foot, err := Verify(bytes.NewReader(b), int64(len(b)))
	require.NoError(t, err)
	require.Equal(t, "101..109", Range{foot.End.First, foot.End.Last}.String())
	require.Equal(t, uint64(6), foot.Frames)
}
