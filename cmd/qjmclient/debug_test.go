package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// dirs are the data directories of three nodes with two finalized segments and one in progress.
func dirs(t *testing.T) []string {
	t.Helper()
	cluster := testcluster.Start(t, testcluster.Options{})
	c := clientOf(t, cluster)
	c.ok("journal", "create", "a")
	for range 2 {
		require.Equal(t, 0, c.do(strings.NewReader("one\ntwo\nthree\n"), "journal", "append", "a").code)
	}
	cl := cluster.Client()
	w, err := cl.OpenWriter(t.Context(), "a", libqjm.WriterOptions{})
	require.NoError(t, err)
	_, err = w.Append(t.Context(), []byte("seven"))
	require.NoError(t, err)
	_, err = w.Append(t.Context(), []byte("eight"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { // all three hold everything
		for _, ch := range w.Status().Channels {
			if ch.Acked != 8 {
				return false
			}
		}
		infos, err := cl.Segments(t.Context(), "a")
		return err == nil && len(infos) == 9 && !slices.ContainsFunc(infos, func(s libqjm.SegmentInfo) bool {
			return s.First < 7 && s.State != "finalized"
		})
	}, 20*time.Second, 10*time.Millisecond)
	var out []string
	for i := range 3 {
		cluster.StopNode(i)
		out = append(out, cluster.Dir(i))
	}
	return out
}

// snapshot returns all names, sizes and times below a directory.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := d.Info()
		require.NoError(t, err)
		b.WriteString(p + " " + info.ModTime().String() + " " + info.Mode().String() + "\n")
		return nil
	}))
	return b.String()
}

func segmentFile(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "journals", "*", "segments", pattern))
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}

func flip(t *testing.T, file string, offset int) {
	t.Helper()
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	b[offset] ^= 0x40
	require.NoError(t, os.WriteFile(file, b, 0o600))
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), filepath.Base(from))
	require.NoError(t, os.CopyFS(to, os.DirFS(from)))
	return to
}

func verify(t *testing.T, args ...string) (result, verifyJSON) {
	t.Helper()
	r := client{t: t}.do(nil, append([]string{"debug", "verify-dir", "-o", "json"}, args...)...)
	var out verifyJSON
	require.NoError(t, json.Unmarshal([]byte(r.out), &out), "%s %s", r.out, r.err)
	return r, out
}

func bad(v verifyJSON) []findingJSON {
	var out []findingJSON
	for _, f := range v.Findings {
		if f.Kind != "info" {
			out = append(out, f)
		}
	}
	return out
}

func TestVerifyDir(t *testing.T) {
	nodes := dirs(t)
	before := snapshot(t, nodes[0])
	r, v := verify(t, nodes...)
	require.Equal(t, 0, r.code, r.out)
	require.True(t, v.OK)
	require.Equal(t, "qjm.v1/verify", v.Schema)
	require.Equal(t, "3", v.Journals)
	require.Equal(t, before, snapshot(t, nodes[0]), "O1: it only reads")
	r = client{t: t}.do(nil, "debug", "verify-dir", nodes[0])
	require.Equal(t, 0, r.code)
	require.Contains(t, r.out, "everything is good")

	finalized := "*1-*3.seg"
	t.Run("a byte of a finalized segment", func(t *testing.T) {
		d := copyDir(t, nodes[0])
		file := segmentFile(t, d, finalized)
		flip(t, file, 4096+58)
		r, v := verify(t, d)
		require.Equal(t, 7, r.code)
		require.Equal(t, "1", v.Corrupt)
		require.Equal(t, findingJSON{
			Kind: "corrupt", Node: "n1", Journal: "a", File: file, Offset: "4096", TxID: "1", What: bad(v)[0].What,
		}, bad(v)[0])
		r = client{t: t}.do(nil, "debug", "verify-dir", d)
		require.Equal(t, 7, r.code)
		require.Contains(t, r.out, file)
		require.Contains(t, r.out, "offset 4096")
		require.Contains(t, r.out, "1 corrupt, 0 torn, 0 divergent")
	})
	t.Run("every byte of a finalized segment", func(t *testing.T) {
		d := copyDir(t, nodes[0])
		file := segmentFile(t, d, finalized)
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		for off := 0; off < len(b); off += 7 {
			flip(t, file, off)
			r := client{t: t}.do(nil, "debug", "verify-dir", file)
			require.Equal(t, 7, r.code, "offset %d: %s%s", off, r.out, r.err)
			require.NoError(t, os.WriteFile(file, b, 0o600))
		}
	})
	t.Run("torn tail", func(t *testing.T) {
		d := copyDir(t, nodes[0])
		file := segmentFile(t, d, "*.inprogress")
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		// A frame of which only the beginning reached the disk, behind everything that was synced.
		end := strings.LastIndex(string(data), "QJMF")
		first := strings.Index(string(data), "QJMF")
		require.Positive(t, first)
		mark := strings.LastIndex(string(data), "QJMM")
		end = max(end, mark) + 64
		require.NoError(t, os.WriteFile(file, append(data[:end:end], data[first:first+20]...), 0o600))
		r, v := verify(t, d)
		require.Equal(t, 7, r.code, r.out)
		require.Equal(t, "torn", bad(v)[0].Kind)
		require.NotEmpty(t, bad(v)[0].Offset)
	})
	t.Run("divergent", func(t *testing.T) {
		d := copyDir(t, nodes[1])
		other := dirs(t)[0] // another cluster: other epochs and ids; the same journal it is not
		r, v := verify(t, nodes[0], d, other)
		require.Equal(t, 0, r.code, "%v", v)

		wrong := segmentFile(t, other, finalized)
		right := segmentFile(t, d, finalized)
		b, err := os.ReadFile(wrong)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(right, b, 0o600))
		r, v = verify(t, nodes[0], d, nodes[2])
		require.Equal(t, 7, r.code)
		require.Contains(t, bad(v)[0].What, "belongs to another journal")
	})
	t.Run("small files", func(t *testing.T) {
		d := copyDir(t, nodes[0])
		flip(t, filepath.Join(d, "identity"), 30)
		flip(t, filepath.Join(d, "manifest"), 30)
		j := filepath.Dir(filepath.Dir(segmentFile(t, d, finalized)))
		flip(t, filepath.Join(j, "fence"), 30)
		require.NoError(t, os.Remove(filepath.Join(j, "config")))
		require.NoError(t, os.WriteFile(filepath.Join(j, "accepted-00000000000000000009"), []byte("nonsense"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(j, "segments", "stray"), nil, 0o600))
		r, v := verify(t, d)
		require.Equal(t, 7, r.code)
		var files []string
		for _, f := range bad(v) {
			files = append(files, filepath.Base(f.File))
		}
		require.ElementsMatch(t, []string{"identity", "manifest", "fence", "config", "accepted-00000000000000000009"}, files)
		require.Contains(t, r.out, "stray")
	})
	t.Run("a journal is missing", func(t *testing.T) {
		d := copyDir(t, nodes[0])
		require.NoError(t, os.RemoveAll(filepath.Dir(filepath.Dir(segmentFile(t, d, finalized)))))
		r, v := verify(t, d)
		require.Equal(t, 7, r.code)
		require.Contains(t, bad(v)[0].What, "the manifest lists this journal")
	})
	t.Run("a segment is missing", func(t *testing.T) {
		d := copyDir(t, nodes[0])
		require.NoError(t, os.Remove(segmentFile(t, d, "*4-*6.seg")))
		r, v := verify(t, d)
		require.Equal(t, 0, r.code, "%v: a hole is repaired from peers", bad(v))
		require.Contains(t, r.out, "txids 4 to 6 are not here")
	})
}

func TestDumpLog(t *testing.T) {
	d := dirs(t)[0]
	before := snapshot(t, d)
	c := client{t: t}
	rows := func(args ...string) (result, []rowJSON) {
		r := c.do(nil, append([]string{"debug", "dump-log"}, args...)...)
		var out []rowJSON
		for line := range strings.Lines(r.out) {
			var row rowJSON
			require.NoError(t, json.Unmarshal([]byte(line), &row))
			require.Equal(t, "qjm.v1/log-txn", row.Schema)
			out = append(out, row)
		}
		return r, out
	}
	ids := func(rows []rowJSON) (out []string) {
		for _, r := range rows {
			out = append(out, r.TxID)
		}
		return out
	}
	all := []string{"1", "2", "3", "4", "5", "6", "7", "8"}
	r, got := rows(d)
	require.Equal(t, 0, r.code, r.err)
	require.Equal(t, all, ids(got))
	require.Equal(t, rowJSON{
		Schema: "qjm.v1/log-txn", Journal: "a", Segment: "4", TxID: "5", Epoch: "2", FrameFirst: "4", FrameLast: "6", Digest: got[4].Digest, Data: "dHdv",
	}, got[4])
	require.Contains(t, r.err, "txids 1 to 3, finalized")
	require.Contains(t, r.err, "txids 7 to 8, then padding from offset")
	require.Equal(t, before, snapshot(t, d), "O1: it only reads")

	segs := filepath.Dir(segmentFile(t, d, "*1-*3.seg"))
	for _, p := range []string{filepath.Dir(segs), segs} {
		_, got = rows(p)
		require.Equal(t, all, ids(got))
	}
	_, got = rows(segmentFile(t, d, "*.inprogress"))
	require.Equal(t, []string{"7", "8"}, ids(got))
	_, got = rows(segmentFile(t, d, "*4-*6.seg"), "--after", "4")
	require.Equal(t, []string{"5", "6"}, ids(got))
	_, got = rows(d, "--after", "2", "--before", "8")
	require.Equal(t, []string{"3", "4", "5", "6", "7"}, ids(got))

	cp := copyDir(t, d)
	flip(t, segmentFile(t, cp, "*4-*6.seg"), 4096+58)
	r, got = rows(cp)
	require.Equal(t, 7, r.code)
	require.Equal(t, []string{"1", "2", "3", "7", "8"}, ids(got), "it goes on behind what it cannot read")
	require.Contains(t, strings.ReplaceAll(r.err, "\n ", ""), "then damage (corrupt) at offset 4096: frame checksum")

	r, _ = rows(t.TempDir())
	require.Equal(t, 2, r.code)
	r, _ = rows(filepath.Join(d, "none"))
	require.Equal(t, 2, r.code)
	require.Contains(t, r.err, "no such file")
}
