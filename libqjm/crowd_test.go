package libqjm

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// Many callers under one context: all go when the batch is finished, and all go when the context ends, whoever of
// them noticed; callers under others are not held up, and those who come after the end do not stay.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := WriterOptions{}.withDefaults()
		shared, end := context.WithCancel(t.Context())
		own, endOwn := context.WithCancel(t.Context())
		var in intake
		in.opts, in.next, in.epoch = &opts, 1, 1
		var mu sync.Mutex
		var gone []string
		var all sync.WaitGroup
		wait := func(ctx context.Context, who string) {
			var s seat
			f, err := in.add(ctx, 1, &s, nil, [][]byte{{1}})
			require.NoError(t, err)
			all.Go(func() {
				in.awaitWith(ctx, f.b, s)
				mu.Lock()
				gone = append(gone, who)
				mu.Unlock()
			})
		}
		wait(shared, "shared")
		wait(shared, "shared")
		wait(own, "own")
		wait(context.Background(), "nobody's")
		wait(shared, "shared")
		synctest.Wait()
		require.Empty(t, gone)
		end()
		synctest.Wait()
		require.Equal(t, []string{"shared", "shared", "shared"}, gone)
		wait(shared, "late")
		wait(shared, "late")
		synctest.Wait()
		require.Len(t, gone, 5, "the context has ended")
		endOwn()
		synctest.Wait()
		require.Equal(t, "own", gone[5])
		in.take(false).finish()
		all.Wait()
		require.Len(t, gone, 7)

		again, cancel := context.WithCancel(t.Context())
		defer cancel()
		for range 3 {
			wait(again, "again")
		}
		synctest.Wait()
		for _, b := range in.takeAll(errors.New("over")) {
			b.finish()
		}
		all.Wait()
		require.Len(t, gone, 10)
	})
}
