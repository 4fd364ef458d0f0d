package systems

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/bench/load"
)

// TestSmoke: each system takes 50 transactions, and gives them back.
func TestSmoke(t *testing.T) {
	const txns, callers = 50, 5
	for _, spec := range All() {
		t.Run(spec.Name, func(t *testing.T) {
			sys, err := spec.Start(t.Context(), load.Env{Dir: t.TempDir(), Size: 40})
			require.NoError(t, err)
			defer func() { require.NoError(t, sys.Close()) }()
			if p, ok := sys.(load.Prepared); ok {
				require.NoError(t, p.Prepare(callers))
			}
			var want []string
			for i := range txns {
				want = append(want, fmt.Sprintf("transaction %d of the smoke test", i))
			}
			if spec.Mode == load.Window {
				submitAll(t, sys, want)
			} else {
				appendAll(t, sys, want, callers)
			}
			held, err := sys.Contents(t.Context())
			require.NoError(t, err)
			var got []string
			for _, txn := range held {
				got = append(got, string(txn))
			}
			require.ElementsMatch(t, want, got)
		})
	}
}

func appendAll(t *testing.T, sys load.System, txns []string, callers int) {
	t.Helper()
	errs := make([]error, len(txns))
	var work sync.WaitGroup
	for c := range callers {
		work.Go(func() {
			for i := c; i < len(txns); i += callers {
				errs[i] = sys.Append(t.Context(), []byte(txns[i]))
			}
		})
	}
	work.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

func submitAll(t *testing.T, sys load.System, txns []string) {
	t.Helper()
	w, ok := sys.(load.Windowed)
	require.True(t, ok, "a system of mode Window must take a window")
	var batch [][]byte
	for _, txn := range txns {
		batch = append(batch, []byte(txn))
	}
	first, err := w.Submit(t.Context(), batch[:len(batch)/2])
	require.NoError(t, err)
	second, err := w.Submit(t.Context(), batch[len(batch)/2:])
	require.NoError(t, err)
	require.NoError(t, first.Wait(t.Context()))
	require.NoError(t, second.Wait(t.Context()))
}
