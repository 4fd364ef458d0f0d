package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/osfs"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/journalnode/raftgroup"
	"github.com/quorumjournal/qjm/libqjm"
)

// slowFS is a disk on which each sync takes a while.
type slowFS struct {
	vfs.FS
	sync time.Duration
}

type slowFile struct {
	vfs.File
	sync time.Duration
}

func (s slowFS) Create(name string) (vfs.File, error) {
	f, err := s.FS.Create(name)
	return slowFile{f, s.sync}, err
}

func (s slowFS) OpenWrite(name string) (vfs.File, error) {
	f, err := s.FS.OpenWrite(name)
	return slowFile{f, s.sync}, err
}

func (f slowFile) Sync() error {
	<-time.After(f.sync)
	return f.File.Sync()
}

// Close needs a majority only, but a node that is merely a little slower is not cut off: it would stay
// behind, with a segment that is not finalized, until it next compares itself with its peers.
func TestCloseLeavesNoHealthyNodeBehind(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{Tune: func(i int, o *journalnode.Options) {
		o.CompareEvery = time.Hour
		if i == 2 {
			o.FS, o.QueueBytes = slowFS{osfs.New(""), 20 * time.Millisecond}, 1 // what waits, waits in the stream
			o.Raft.Stores = raftgroup.NewMemStores()
		}
	}})
	cl := c.Client()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, cl.CreateJournal(ctx, "a"))
	w, err := cl.OpenWriter(ctx, "a", libqjm.WriterOptions{})
	require.NoError(t, err)
	require.Eventually(t, func() bool { // the slow one, too, is in the segment
		for _, ch := range w.Status().Channels {
			if !ch.InSync {
				return false
			}
		}
		return true
	}, 20*time.Second, time.Millisecond)
	for range 10 {
		_, err := w.Append(ctx, []byte("txn"))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close(ctx))
	segments, err := cl.Segments(ctx, "a")
	require.NoError(t, err)
	require.Len(t, segments, 3)
	for _, s := range segments {
		require.Equal(t, "finalized", s.State, s.Node)
		require.EqualValues(t, 10, s.Last, s.Node)
		require.Equal(t, segments[0].Digest, s.Digest, s.Node)
	}
}

// A node that does not answer does not keep Close waiting for long.
func TestCloseWithoutANode(t *testing.T) {
	c := testcluster.Start(t, testcluster.Options{})
	cl := c.Client()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, cl.CreateJournal(ctx, "a"))
	w, err := cl.OpenWriter(ctx, "a", libqjm.WriterOptions{})
	require.NoError(t, err)
	c.StopNode(2)
	_, err = w.Append(ctx, []byte("txn"))
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, w.Close(ctx))
	require.Less(t, time.Since(began), 5*time.Second)
}
