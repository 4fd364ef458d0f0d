package journalnode_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
)

// gate holds up whoever lists a directory below a journal's.
type gate struct {
	vfs.FS
	mu   sync.Mutex
	path string        // guarded by mu; empty: open
	free chan struct{} // closed when the gate is opened
}

func (g *gate) close(path string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.path = path
}

func (g *gate) List(dir string) ([]string, error) {
	g.mu.Lock()
	held, free := g.path != "" && strings.Contains(dir, g.path), g.free
	g.mu.Unlock()
	if held {
		<-free
	}
	return g.FS.List(dir)
}

// W2a: a journal is made ready at its first use, not at node start: one whose disk is slow holds up neither
// the start nor another journal; and nothing is answered from it before it is ready.
func TestW2a_AtFirstUse(t *testing.T) {
	var held *gate
	opts := testcluster.Options{FS: func(i int, disk *memfs.FS) vfs.FS {
		if i != 0 {
			return disk
		}
		if held == nil {
			held = &gate{FS: disk, free: make(chan struct{})} // a channel of the bubble
		}
		return held
	}}
	run(t, opts, func(b *bed) {
		slow, quick := b.journal("slow"), b.journal("quick")
		b.StopNode(0)
		held.close(slow.String())
		b.StartNode(0)
		_, err := b.Nodes[0].State(b.ctx, quick)
		require.NoError(b, err)
		require.ErrorContains(b, b.Nodes[0].Ready(), "not opened yet")
		answered := make(chan error, 1)
		go func() {
			_, err := b.Nodes[0].State(b.ctx, slow)
			answered <- err
		}()
		b.wait(time.Minute)
		require.Empty(b, answered, "it is not ready")
		close(held.free)
		require.NoError(b, <-answered)
		b.Until(time.Minute, "all are open", func() bool { return b.Nodes[0].Ready() == nil })
	})
}
