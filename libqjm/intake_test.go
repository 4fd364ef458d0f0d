package libqjm

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// While a frame is under way only a full batch becomes the next one: the others gather.
func TestIntake_OnlyFullBatchesFollow(t *testing.T) {
	opts := WriterOptions{FrameBytes: 1000}.withDefaults()
	var in intake
	in.opts, in.next, in.epoch = &opts, 1, 1
	add := func(n int) Future {
		f, err := in.add(t.Context(), n, nil, nil, [][]byte{make([]byte, n)})
		require.NoError(t, err)
		return f
	}
	require.Nil(t, in.take(false))
	require.False(t, add(300).full)
	require.False(t, in.has(true))
	require.Nil(t, in.take(true), "it is not full")
	require.False(t, add(300).full)
	require.True(t, add(900).full, "it did not fit: the first is full")
	require.True(t, in.has(true))
	require.Equal(t, 2, in.take(true).count)
	require.Nil(t, in.take(true))
	require.True(t, in.has(false))
	require.True(t, add(200).full)
	require.Equal(t, 1, in.take(true).count)
	require.Equal(t, 1, in.take(false).count)
	require.True(t, in.empty())
	require.EqualValues(t, 4, in.assigned())
}

// TestIntake_NobodyIsLeftBehind: a transaction that comes between the look at an empty intake and the word that the
// write path is hungry is taken by whoever says that: its caller has seen it sated, and feeds nobody.
func TestIntake_NobodyIsLeftBehind(t *testing.T) {
	for _, hungry := range []int32{forAny, forFull} {
		w := &Writer{opts: WriterOptions{QueueBytes: 1000, FrameBytes: 100}}
		w.in.opts, w.in.next, w.in.epoch = &w.opts, 1, 1
		require.False(t, w.goHungry(hungry))
		require.Equal(t, hungry, w.hungry.Load(), "it waits")

		w.hungry.Store(sated)
		require.Nil(t, w.in.take(hungry == forFull))
		_, err := w.in.add(t.Context(), 100, nil, nil, [][]byte{make([]byte, 100)}) // and looks at hungry: sated
		require.NoError(t, err)
		require.True(t, w.goHungry(hungry))
		require.Equal(t, sated, w.hungry.Load(), "nobody else comes for it")
	}
}
