package libqjm

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The client is closed just when a writer has won its epoch, and has no channels yet.
func TestClose_ClientBeforeTheWriterHasChannels(t *testing.T) {
	w := &Writer{}
	done := w.Done()
	w.mu.Lock()
	require.NotPanics(t, func() { w.end(ErrClosed) })
	w.mu.Unlock()
	require.ErrorIs(t, w.Err(), ErrClosed)
	<-done
	<-w.Done()
}
