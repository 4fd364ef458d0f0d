package store

// smallPiece is what is copied rather than written as a piece of its own: that costs less than one more
// piece does in the system call.
const smallPiece = 2 << 10

// ownBytesMax is the largest buffer that is kept for the next group.
const ownBytesMax = 256 << 10

// gathered collects bytes that go to one place in the file, in order, without joining them: large pieces
// stay where they are, small ones are copied together. The zero value holds nothing.
type gathered struct {
	pieces [][]byte
	own    []byte // the copies of the last piece, if tail; else empty, and its capacity what is free
	base   []byte // own's whole room, for the next group
	tail   bool   // the last piece is own's, and may grow
	n      int64  // bytes of all pieces
}

// add takes b, which must be left alone until reset.
func (g *gathered) add(b []byte) {
	if len(b) <= smallPiece {
		g.put(func(own []byte) []byte { return append(own, b...) })
		return
	}
	g.pieces, g.tail = append(g.pieces, b), false
	g.n += int64(len(b))
}

// put takes what f appends to a buffer of gathered's own.
func (g *gathered) put(f func([]byte) []byte) {
	if !g.tail {
		// What is in own belongs to an earlier piece: go on behind it.
		g.own = g.own[len(g.own):]
		g.pieces, g.tail = append(g.pieces, nil), true
	}
	before, room := len(g.own), cap(g.own)
	g.own = f(g.own)
	if cap(g.own) != room && cap(g.own) <= ownBytesMax {
		g.base = g.own // it had to move: the larger room is the one to keep
	}
	g.n += int64(len(g.own) - before)
	g.pieces[len(g.pieces)-1] = g.own
}

// piecesKept bounds how many pieces' room is kept.
const piecesKept = 64

// reset forgets everything.
func (g *gathered) reset() {
	clear(g.pieces)
	if cap(g.pieces) > piecesKept {
		g.pieces = nil
	}
	g.pieces, g.own, g.tail, g.n = g.pieces[:0], g.base[:0], false, 0
}
