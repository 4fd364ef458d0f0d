package libqjm_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/testcluster"
)

// TestHeartbeat_WhileAnotherNodeIsAway: an idle writer is heard by its nodes each second, also while it tries to reach
// another one again and again: each try wakes all channels.
func TestHeartbeat_WhileAnotherNodeIsAway(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		w := b.writer()
		b.write(w, 1, 1)
		b.crash(2)
		j, err := b.Nodes[0].FindJournal(b.ctx, "j")
		require.NoError(b, err)
		pass(5 * time.Second)
		for range 300 {
			pass(100 * time.Millisecond)
			for i := range 2 {
				st, err := b.Nodes[i].State(b.ctx, j.ID)
				require.NoError(b, err)
				require.LessOrEqual(b, st.SinceWriter, 1100*time.Millisecond, "node %d", i)
			}
		}
	})
}
