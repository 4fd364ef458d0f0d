package journalnode

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPullPause(t *testing.T) {
	require.Zero(t, pullPause(time.Second, false), "nobody is in the way")
	require.Equal(t, 3*time.Millisecond, pullPause(3*time.Millisecond, true), "half of the time")
	require.Equal(t, pullPauseMax, pullPause(time.Hour, true), "a disk that hung")
	require.Less(t, pullPauseMax, DefaultPeerTimeout, "a peer that waits is not silent")
}
