package journal

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

var errClose = errors.New("close fails")

// badClose is a disk on which closing a file that was written fails, after it closed it.
type badClose struct{ vfs.FS }

func (b badClose) OpenWrite(name string) (vfs.File, error) {
	f, err := b.FS.OpenWrite(name)
	return badCloseFile{f}, err
}

type badCloseFile struct{ vfs.File }

func (f badCloseFile) Close() error { return errors.Join(f.File.Close(), errClose) }

// R7: a segment is finalized once its footer and its name are durable; a close that fails afterwards says
// nothing about it, and must not leave a copy behind that is in progress for ever.
func TestR7_FinalizeWhereTheCloseFails(t *testing.T) {
	c := newCluster(t)
	w := c.mustRecover()
	m := c.nodes[nodeA]
	j, err := Open(badClose{m.disk}, dir, Self{nodeA, incarnation(nodeA)}, journalID, small)
	require.NoError(t, err)
	m.Journal = j
	w.mustStart(c.ids()...)
	at := w.write("one", c.ids()...)
	end := segments.End{First: 1, Last: at.TxID, Digest: at.Digest}
	require.NoError(t, m.Finalize(c.header(nodeA, w.claim), end))
	require.Empty(t, m.tails)
	require.Equal(t, recovery.Finalized, m.copyOf(1).State)
	require.NoError(t, m.Finalize(c.header(nodeA, w.claim), end), "the same again")
	require.Equal(t, recovery.Finalized, c.restart(nodeA, 0).copyOf(1).State)
}
