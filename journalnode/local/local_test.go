package local_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/journalnode/local"
	"github.com/quorumjournal/qjm/libqjm"
)

const patience = 30 * time.Second

func start(t *testing.T, o local.Options) (*local.Cluster, *libqjm.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := local.Start(ctx, o)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, c) })
	client, err := libqjm.Dial(ctx, libqjm.Options{Endpoints: c.Endpoints()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return c, client
}

func stop(t *testing.T, c *local.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, c.Stop(ctx))
}

func TestStart_ServesAndLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	c, client := start(t, local.Options{})
	require.Len(t, c.Endpoints(), local.DefaultNodes)
	require.NoError(t, client.CreateJournal(t.Context(), "a"))
	w, err := client.OpenWriter(t.Context(), "a", libqjm.WriterOptions{})
	require.NoError(t, err)
	_, err = w.Append(t.Context(), []byte("x"))
	require.NoError(t, err)
	require.NoError(t, w.Close(t.Context()))
	for _, addr := range c.HTTPEndpoints() {
		resp, err := http.Get("http://" + addr + "/readyz")
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.NoError(t, resp.Body.Close())
	}
	require.DirExists(t, c.Dir())
	stop(t, c)
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestStart_GoesOn: the data is kept, and the ports may be others.
func TestStart_GoesOn(t *testing.T) {
	dir := t.TempDir()
	c, client := start(t, local.Options{Dir: dir})
	require.NoError(t, client.CreateJournal(t.Context(), "a"))
	w, err := client.OpenWriter(t.Context(), "a", libqjm.WriterOptions{})
	require.NoError(t, err)
	_, err = w.Append(t.Context(), []byte("x"))
	require.NoError(t, err)
	require.NoError(t, w.Close(t.Context()))
	stop(t, c)
	require.DirExists(t, dir)

	_, client = start(t, local.Options{Dir: dir})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := client.OpenReader(ctx, "a", libqjm.ReaderOptions{From: 1})
	require.NoError(t, err)
	got, err := r.Next(ctx)
	require.NoError(t, err)
	require.Equal(t, "x", string(got.Data))
	_, err = r.Next(ctx)
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, r.Close())
	require.NoError(t, client.CreateJournal(ctx, "b"), "the catalog has a leader again")
}

// TestStart_Fails: what had started is stopped, and a temporary directory removed.
func TestStart_Fails(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	_, err = local.Start(t.Context(), local.Options{BasePort: l.Addr().(*net.TCPAddr).Port - 1})
	require.Error(t, err)
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	require.NoError(t, err)
	require.Empty(t, left)

	for name, o := range map[string]local.Options{
		"no nodes": {Nodes: -1}, "too many": {Nodes: local.NodesMax + 1}, "port": {BasePort: -1}, "last port": {BasePort: 65535 - local.HTTPOffset - 1},
	} {
		_, err := local.Start(t.Context(), o)
		require.ErrorIs(t, err, local.ErrBadOptions, name)
	}
	require.NoError(t, local.Options{BasePort: 65535 - local.HTTPOffset - 2}.Validate())
}
