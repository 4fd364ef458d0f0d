package runlog

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLog(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	l, err := Create(name)
	require.NoError(t, err)
	f, err := Follow(name)
	require.NoError(t, err)
	require.NoError(t, l.Started("/a b\n"))
	require.NoError(t, l.Acked(1, "/a b\n"))
	require.NoError(t, l.Started("/c"))
	_, err = l.f.WriteString("< 2 \"/c") // the process died here
	require.NoError(t, err)
	require.NoError(t, f.Read())
	require.NoError(t, f.Read())
	require.Equal(t, []string{"/a b\n", "/c"}, f.Started)
	require.Equal(t, []Ack{{1, "/a b\n"}}, f.Acked)
	_, err = l.f.WriteString("\"\n") // no, it did not
	require.NoError(t, err)
	require.NoError(t, f.Read())
	require.Equal(t, []Ack{{1, "/a b\n"}, {2, "/c"}}, f.Acked)
	_, err = l.f.WriteString("rubbish\n")
	require.NoError(t, err)
	require.ErrorContains(t, f.Read(), "rubbish")
	require.NoError(t, f.Close())
	_, err = Create(name)
	require.ErrorIs(t, err, os.ErrExist)

	none, err := Create("")
	require.NoError(t, err)
	require.NoError(t, none.Started("/a"))
}

func TestState(t *testing.T) {
	name := filepath.Join(t.TempDir(), "state")
	got, err := Load(name)
	require.NoError(t, err)
	require.Zero(t, got)
	want := State{Role: "active", Epoch: 2, FirstTx: 7}
	require.NoError(t, want.Save(name))
	got, err = Load(name)
	require.NoError(t, err)
	require.Equal(t, want, got)
}
