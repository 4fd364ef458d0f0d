package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBuffers(t *testing.T) {
	p := new(buffers)
	for _, length := range []int{0, 1, 1023, 1024, 1025, 70_000, 1 << 20, 1<<23 - 1, 1 << 23, 1<<23 + 1} {
		b := p.Get(length)
		require.Len(t, *b, length)
		if length <= 1<<bufferBitsMax {
			require.LessOrEqual(t, cap(*b), max(2*length, 1<<bufferBitsMin), "length %d", length)
		}
		p.Put(b) // and any of them may be returned next
		again := p.Get(length)
		require.Len(t, *again, length)
	}
	odd := make([]byte, 5000) // none of ours: a capacity that Get could not rely on
	p.Put(&odd)
	require.Len(t, *p.Get(8000), 8000)
}

// TestAllocs_Buffers: what goes round is not made again.
func TestAllocs_Buffers(t *testing.T) {
	p := new(buffers)
	p.Put(p.Get(70_000))
	require.Less(t, testing.AllocsPerRun(200, func() { p.Put(p.Get(70_000)) }), 0.5) // a collection may empty the pool
}
