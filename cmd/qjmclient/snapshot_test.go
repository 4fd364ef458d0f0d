package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/libqjm"
)

// TestSnapshotCommands walks through the life of snapshots and pins what each command prints, and its exit code.
func TestSnapshotCommands(t *testing.T) {
	c := clientOf(t, testcluster.Start(t, testcluster.Options{}))
	c.ok("journal", "create", "a")
	require.Equal(t, 0, c.do(strings.NewReader("x\ny\nz\n"), "journal", "append", "a").code)
	dir := t.TempDir()
	file, got := filepath.Join(dir, "state"), filepath.Join(dir, "got")
	content := bytes.Repeat([]byte("state "), 100_000)
	require.NoError(t, os.WriteFile(file, content, 0o600))
	const one = `"txid":"2","size":"5","sha256":"a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e","epoch":"1","frame_end_txid":"E","frame_digest":"HEX"`
	for _, step := range []struct {
		stdin, args string
		code        int
		want        string
	}{
		{"", "snapshot list a -o json", 0, `{"schema":"qjm.v1/snapshot-list","journal":"a","snapshots":[]}`},
		{"", "snapshot list a", 0, ""},
		{"", "snapshot restore a", 4, ""},
		{"first", "snapshot save a", 2, ""},
		{"", "snapshot save a --txid 1", 2, ""},
		{"first", "snapshot save a --txid 9", 4, ""},
		{"", "snapshot save a --txid 9 --dry-run", 4, ""},
		{"", "snapshot save a --txid 2 --dry-run -o json", 0, `{"schema":"qjm.v1/plan","action":"snapshot-save","journal":"a","plan":"save a snapshot of journal \"a\" after txid 2; the log up to it may be purged then","dry_run":true}`},
		{"first", "snapshot save a --txid 2 -o json", 0, `{"schema":"qjm.v1/snapshot-save","journal":"a",` + one + `}`},
		{"first", "snapshot save a --txid 2 -o json", 0, `{"schema":"qjm.v1/snapshot-save","journal":"a",` + one + `}`},
		{"other", "snapshot save a --txid 2", 4, ""},
		{"first", "snapshot save a --txid 1", 4, ""},
		{"", "snapshot save a --txid 3 --file " + file, 0, `journal "a": snapshot of txid 3 (585.9 KiB, sha256 SHA) saved and listed`},
		{"", "snapshot list a -o jsonl --timeout 20s", 0, `{"schema":"qjm.v1/snapshot","journal":"a",` + one + `}
{"schema":"qjm.v1/snapshot","journal":"a","txid":"3","size":"600000","sha256":"SHA","epoch":"1","frame_end_txid":"E","frame_digest":"HEX"}`},
		{"", "snapshot restore a --txid 2", 0, "first"},
		{"", "snapshot restore a --txid 1", 4, ""},
		{"", "snapshot restore a -o json", 2, ""},
		{"", "snapshot restore a --file " + got + " -o json", 0, `{"schema":"qjm.v1/snapshot-restore","journal":"a","txid":"3","size":"600000","sha256":"SHA","epoch":"1","frame_end_txid":"E","frame_digest":"HEX","file":"FILE"}`},
		{"", "snapshot restore a --file " + got, 4, ""},
		{"", "snapshot save a --txid 3 --allow-empty", 4, ""}, // another content is there
		{"", "snapshot list nope", 4, ""},
		{"", "snapshot save a --txid 3 --file " + file + ".missing", 2, ""},
	} {
		r := c.do(strings.NewReader(step.stdin), strings.Fields(step.args)...)
		require.Equal(t, step.code, r.code, "%s: %s", step.args, r.err)
		out := strings.TrimSuffix(normal(r.out), "\n")
		out = strings.ReplaceAll(out, got, "FILE")
		out = regexp.MustCompile(`"frame_end_txid":"[23]"`).ReplaceAllString(out, `"frame_end_txid":"E"`)
		if sum := "a7937b64"; !strings.Contains(step.want, sum) || strings.Contains(step.want, "SHA") {
			out = regexp.MustCompile(`(sha256 )[0-9a-f]{8}`).ReplaceAllString(out, "${1}SHA")
			out = regexp.MustCompile(`("size":"600000","sha256":")[0-9a-f]{64}`).ReplaceAllString(out, "${1}SHA")
		}
		require.Equal(t, step.want, out, step.args)
		laidOut(t, r.err)
		if step.code != 0 {
			require.True(t, strings.HasPrefix(r.err, "qjmclient: "), r.err)
		}
	}
	b, err := os.ReadFile(got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(content, b))
	table := c.ok("snapshot", "list", "a")
	require.Regexp(t, `(?m)^TXID +SIZE +EPOCH +FRAME END +SHA256$`, table)
	fits(t, table)
}

// A restore that is cut off, or whose checksum is wrong, leaves no file that could pass for the snapshot.
func TestSnapshotRestore_LeavesNoHalf(t *testing.T) {
	a := &app{}
	file := filepath.Join(t.TempDir(), "f")
	r := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(libqjm.ErrSnapshotDamaged))
	require.ErrorIs(t, a.copyToFile(a.root(), file, r, 8), libqjm.ErrSnapshotDamaged)
	_, err := os.Stat(file)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, a.copyToFile(a.root(), file, strings.NewReader("whole"), 5))
	require.Error(t, a.copyToFile(a.root(), file, strings.NewReader("again"), 5))
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "whole", string(b))
}
