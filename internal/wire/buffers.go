package wire

import (
	"math/bits"
	"sync"

	"google.golang.org/grpc/mem"
)

// buffers is where messages with frames are joined. Unlike gRPC's own pool its sizes are all powers of two, so that
// little is taken for a message that is little above one of theirs, and it does not clear what is overwritten
// in full a moment later.
type buffers struct {
	tiers [bufferBitsMax + 1]sync.Pool // of *[]byte with the capacity 1<<i
}

// Smaller buffers than 1<<bufferBitsMin are not worth keeping, larger ones than 1<<bufferBitsMax too much.
const (
	bufferBitsMin = 10
	bufferBitsMax = 23
)

var messageBuffers mem.BufferPool = new(buffers)

// Get returns a buffer of the length. What it holds is anything.
func (p *buffers) Get(length int) *[]byte {
	tier := max(bits.Len(uint(max(length, 1)-1)), bufferBitsMin)
	if tier > bufferBitsMax {
		b := make([]byte, length)
		return &b
	}
	b, ok := p.tiers[tier].Get().(*[]byte)
	if !ok {
		made := make([]byte, 1<<tier)
		b = &made
	}
	*b = (*b)[:length]
	return b
}

// Put takes back what Get returned; nobody uses it any more.
func (p *buffers) Put(b *[]byte) {
	tier := bits.Len(uint(cap(*b))) - 1
	if tier < bufferBitsMin || tier > bufferBitsMax || cap(*b) != 1<<tier {
		return
	}
	p.tiers[tier].Put(b)
}
