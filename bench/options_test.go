package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	o, err := parse([]string{"-systems", "nats, qjm,nats", "-callers", "2048,1", "-size", "256,64"})
	require.NoError(t, err)
	require.Len(t, o.specs, 2)
	require.Equal(t, []int{1, 2048}, o.callers)
	require.Equal(t, []int{64, 256}, o.sizes)
	for _, bad := range [][]string{
		{"-systems", "zookeeper"}, {"-callers", "0"}, {"-callers", "x"}, {"-size", "1000000000"}, {"-rounds", "0"},
		{"-duration", "0s"}, {"-files-max", "0"}, {"stray"}, {"-cpuprofile", "f", "-systems", "qjm,nats"},
	} {
		_, err := parse(bad)
		require.Error(t, err, "%v", bad)
	}
}

// TestSession: the whole of it, with the one system that starts at once.
func TestSession(t *testing.T) {
	dir := t.TempDir()
	o, err := parse([]string{
		"-systems", "floor-grpc", "-callers", "1,4", "-duration", "20ms", "-warm", "1ms", "-quiet", "-rounds", "2",
		"-dir", filepath.Join(dir, "tmp"), "-latest", filepath.Join(dir, "latest.json"), "-full", filepath.Join(dir, "full.json"),
		"-docs", filepath.Join(dir, "docs"), "-cpuprofile", filepath.Join(dir, "cpu"), "-memprofile", filepath.Join(dir, "mem"), "-blockprofile", filepath.Join(dir, "block"),
	})
	require.NoError(t, err)
	s, err := newSession(o)
	require.NoError(t, err)
	require.NoError(t, s.run(t.Context()))
	require.NoError(t, s.close())

	left, err := os.ReadDir(o.dir)
	require.NoError(t, err)
	require.Empty(t, left, "a session leaves nothing behind")
	data, err := os.ReadFile(o.latest)
	require.NoError(t, err)
	var rows []map[string]any
	require.NoError(t, json.Unmarshal(data, &rows))
	require.Len(t, rows, 2)
	require.Len(t, rows[0], 7)
	for _, name := range []string{"full.json", "docs/README.md", "docs/throughput-256.svg", "cpu", "mem", "block"} {
		info, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Positive(t, info.Size(), name)
	}
}
