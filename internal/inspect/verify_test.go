package inspect

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/segments"
)

// writeSegment puts a finalized segment with the given transactions on a disk.
func writeSegment(t *testing.T, disk *memfs.FS, dir string, prev segments.End, txns ...string) segments.End {
	t.Helper()
	h := segments.Header{Journal: segments.JournalID{1}, First: prev.Next(), Epoch: 3, Prev: prev}
	b := segments.AppendHeader(nil, h)
	var builder segments.Builder
	builder.Reset(h.First, h.Epoch)
	for _, txn := range txns {
		require.NoError(t, builder.Add([]byte(txn)))
	}
	f, err := builder.Seal(prev.Digest, segments.SealOptions{})
	require.NoError(t, err)
	end := segments.End{First: h.First, Last: f.Last(), Digest: f.Digest()}
	footer := segments.Footer{
		Header: h, End: end, Frames: 1, Offset: int64(len(b) + f.Size()),
		Index: []segments.IndexEntry{{TxID: h.First, Offset: int64(len(b)), Prev: prev.Digest}},
	}
	b = segments.AppendFooter(append(b, f.Bytes()...), footer)
	require.NoError(t, disk.MkdirAll(dir))
	file, err := disk.Create(dir + "/" + segments.Name{Kind: segments.NameFinalized, First: end.First, Last: end.Last}.String())
	require.NoError(t, err)
	_, err = file.WriteAt(b, 0)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	return end
}

func verifyDirs(t *testing.T, disk *memfs.FS, dirs ...string) *Report {
	t.Helper()
	var trees []*Tree
	for _, d := range dirs {
		tree, err := Open(disk, d)
		require.NoError(t, err)
		trees = append(trees, tree)
	}
	return Verify(trees, nil)
}

// TestDivergent: of three copies the odd one is named, of two both are.
func TestDivergent(t *testing.T) {
	disk := memfs.New()
	writeSegment(t, disk, "n1", segments.End{}, "a", "b")
	writeSegment(t, disk, "n2", segments.End{}, "a", "b")
	writeSegment(t, disk, "n3", segments.End{}, "a", "X")
	require.False(t, verifyDirs(t, disk, "n1", "n2").Bad())
	r := verifyDirs(t, disk, "n1", "n2", "n3")
	require.Equal(t, 1, r.Count(Divergent))
	require.Len(t, r.Findings, 1)
	require.Equal(t, "n3", r.Findings[0].Node)
	require.Contains(t, r.Findings[0].What, "n1 has 1..2/")
	require.Equal(t, 2, verifyDirs(t, disk, "n1", "n3").Count(Divergent))
}

// TestChain: a segment must continue the one before it.
func TestChain(t *testing.T) {
	disk := memfs.New()
	end := writeSegment(t, disk, "good", segments.End{}, "a")
	writeSegment(t, disk, "good", end, "b")
	require.Empty(t, verifyDirs(t, disk, "good").Findings)

	writeSegment(t, disk, "broken", segments.End{}, "a")
	other := end
	other.Digest[0] ^= 1
	writeSegment(t, disk, "broken", other, "b")
	r := verifyDirs(t, disk, "broken")
	require.Equal(t, 1, r.Count(Divergent))
	require.Contains(t, r.Findings[0].What, "does not continue the segment before it")

	writeSegment(t, disk, "hole", segments.End{}, "a")
	writeSegment(t, disk, "hole", segments.End{First: 2, Last: 5, Digest: segments.Digest{9}}, "b")
	r = verifyDirs(t, disk, "hole")
	require.False(t, r.Bad())
	require.Contains(t, r.Findings[0].What, "txids 2 to 5 are not here")

	_, err := Open(disk, "nowhere")
	require.Error(t, err)
	require.NoError(t, disk.MkdirAll("foreign"))
	_, err = Open(disk, "foreign")
	require.ErrorIs(t, err, ErrForeign)
}

// TestVerifyLive: a file that changes between two looks is not called damaged, one that stands still is.
func TestVerifyLive(t *testing.T) {
	disk := memfs.New()
	end := writeSegment(t, disk, "n1", segments.End{}, "a", "b")
	final := "n1/" + segments.Name{Kind: segments.NameFinalized, First: end.First, Last: end.Last}.String()
	open := "n1/" + segments.Name{Kind: segments.NameInProgress, First: end.First}.String()
	info, err := disk.Stat(final)
	require.NoError(t, err)
	require.NoError(t, disk.Rename(final, open))
	file, err := disk.OpenWrite(open)
	require.NoError(t, err)
	tail := make([]byte, 64)
	_, err = file.ReadAt(tail, segments.HeaderSize)
	require.NoError(t, err)
	_, err = file.WriteAt([]byte("garbage!"), segments.HeaderSize)
	require.NoError(t, err)
	require.True(t, verifyDirs(t, disk, "n1").Bad())

	tree, err := Open(disk, "n1")
	require.NoError(t, err)
	looks := 0
	r := Verify([]*Tree{tree}, func(int64) {
		if looks++; looks == 2 { // the node goes on while the first look is under way
			_, _ = file.WriteAt(tail, segments.HeaderSize)
			require.NoError(t, file.Truncate(info.Size()))
			require.NoError(t, disk.Rename(open, final))
		}
	})
	require.GreaterOrEqual(t, looks, 2)
	require.False(t, r.Bad(), "%+v", r.Findings)
}
