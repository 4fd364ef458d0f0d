package libqjm

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// A transaction that is left with the writer costs nothing of its own: what is allocated is allocated for a frame.
func TestAllocs_OneTransaction(t *testing.T) {
	opts := WriterOptions{}.withDefaults()
	var in intake
	in.opts, in.next, in.epoch, in.hint = &opts, 1, 1, opts.FrameBytes
	txn := [][]byte{make([]byte, 256)}
	ctx := context.Background()
	const perFrame = 6 // batch, buffer, channels
	for _, txns := range []int{1, 1000} {
		got := testing.AllocsPerRun(100, func() {
			for range txns {
				var s seat
				if _, err := in.add(ctx, 256, &s, nil, txn); err != nil {
					t.Fatal(err)
				}
			}
			in.take(false)
		})
		require.LessOrEqual(t, got, float64(perFrame), "allocations for a frame of %d transactions", txns)
	}
}
