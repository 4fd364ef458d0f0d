package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSmoke is a short run with real processes. It asserts what was told, and nothing of how long anything took.
func TestSmoke(t *testing.T) {
	cfg := config{duration: 20 * time.Second, seed: 1, clients: 8, keys: 8, opsPerKey: 400, rate: 300, dir: t.TempDir(), screen: &screen{w: io.Discard}}
	if testing.Short() {
		cfg.duration = 6 * time.Second
	}
	res, err := run(t.Context(), cfg)
	require.NoError(t, err)
	var out strings.Builder
	res.print(&screen{w: &out})
	if len(res.violations) > 0 || t.Failed() {
		keepAt, err := os.MkdirTemp("", "qjm-linear-")
		require.NoError(t, err)
		require.NoError(t, os.CopyFS(filepath.Join(keepAt, "run"), os.DirFS(cfg.dir)))
		require.NoError(t, res.keep(keepAt))
		t.Errorf("%s\neverything is in %s", out.String(), keepAt)
	}
	for line := range strings.SplitSeq(out.String(), "\n") {
		require.LessOrEqual(t, len(line), columns, line)
	}
	require.NotEmpty(t, res.ops)
	require.NotEmpty(t, res.faults)
}
