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

// TestCheckAgain: a history that was kept can be checked again, and what is wrong with it is drawn.
func TestCheckAgain(t *testing.T) {
	for _, c := range []struct {
		name string
		ops  []*Op
		want int
	}{
		{"sound", sound(), exitOK},
		{"spoiled", change(4, func(o *Op) { o.Got, o.ETag = "a1", 2 })(sound()), exitBroken},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			h, err := newHistory(filepath.Join(dir, "h"))
			require.NoError(t, err)
			for _, o := range c.ops {
				h.add(o)
			}
			require.NoError(t, h.close())
			require.Equal(t, c.want, command(t.Context(), []string{"-check", filepath.Join(dir, "h")}))
			if c.want == exitBroken {
				require.FileExists(t, filepath.Join(dir, "a.html"))
				require.FileExists(t, filepath.Join(dir, "violations.jsonl"))
			}
		})
	}
	require.Equal(t, exitUsage, command(t.Context(), []string{"-clients", "1"}))
	require.Equal(t, exitFailed, command(t.Context(), []string{"-check", filepath.Join(t.TempDir(), "none")}))
}
