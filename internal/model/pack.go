package model

import "math/bits"

// Packed form. A search keeps the states of two depths; packed, one is about 150 bytes instead of
// some 700, and the same words feed the hash. Every field fits: epochs of live writers and values
// are below 16, txids below 4, except a writer's own segments, which may be maxTxIDs+1.

const (
	nodeWords   = 3
	segmentBits = 41
)

type packer struct {
	word uint64
	used uint
}

func (p *packer) put(v uint64, width uint) {
	p.word |= v << p.used
	p.used += width
}

func (p *packer) flag(b bool) {
	if b {
		p.word |= 1 << p.used
	}
	p.used++
}

func (p *packer) contents(c *contents) {
	p.put(uint64(c[0])|uint64(c[1])<<4|uint64(c[2])<<8, 12)
}

type unpacker struct{ word uint64 }

func (u *unpacker) get(width uint) uint8 {
	v := uint8(u.word & (1<<width - 1))
	u.word >>= width
	return v
}

func (u *unpacker) flag() bool { return u.get(1) != 0 }

func (u *unpacker) contents() contents {
	return contents{value(u.get(4)), value(u.get(4)), value(u.get(4))}
}

func (n *node) pack() [nodeWords]uint64 {
	var w [nodeWords]uint64
	for k := range maxTxIDs { // segmentBits of each word are the segment and its record
		var p packer
		s, a := &n.seg[k], &n.acc[k]
		p.put(uint64(s.state)|uint64(s.epoch)<<2|uint64(s.last)<<6|uint64(s.synced)<<8, 10)
		p.contents(&s.data)
		p.flag(s.marked)
		p.put(uint64(a.epoch)|uint64(a.last)<<4, 6)
		p.contents(&a.data)
		w[k] = p.word
	}
	p, q := packer{w[0], segmentBits}, packer{w[1], segmentBits}
	p.put(uint64(n.floor.last)|uint64(n.floor.seg)<<2|uint64(n.floor.epoch)<<4, 8)
	p.contents(&n.floor.data)
	q.put(uint64(n.promised)|uint64(n.lastWriter)<<4|uint64(n.cut.seg)<<8|uint64(n.cut.at)<<10, 12)
	q.flag(n.unknown)
	q.flag(n.wiped)
	w[0], w[1] = p.word, q.word
	return w
}

func (n *node) unpack(w []uint64) {
	var u [nodeWords]unpacker
	for k := range maxTxIDs {
		u[k].word = w[k]
		s, a := &n.seg[k], &n.acc[k]
		s.state, s.epoch = segState(u[k].get(2)), epoch(u[k].get(4))
		s.last, s.synced = txid(u[k].get(2)), txid(u[k].get(2))
		s.data = u[k].contents()
		s.marked = u[k].flag()
		a.epoch, a.last = epoch(u[k].get(4)), txid(u[k].get(2))
		a.data = u[k].contents()
	}
	n.floor.last, n.floor.seg, n.floor.epoch = txid(u[0].get(2)), txid(u[0].get(2)), epoch(u[0].get(4))
	n.floor.data = u[0].contents()
	n.promised, n.lastWriter = epoch(u[1].get(4)), epoch(u[1].get(4))
	n.cut.seg, n.cut.at = txid(u[1].get(2)), txid(u[1].get(2))
	n.unknown, n.wiped = u[1].flag(), u[1].flag()
}

// pack returns what the writer remembers that names no node.
func (w *writer) pack() uint64 {
	var p packer
	ch := &w.choice
	p.put(uint64(w.phase)|uint64(ch.seg)<<2|uint64(ch.end)<<4|uint64(ch.epoch)<<6, 10)
	p.contents(&ch.data)
	p.put(uint64(w.own[0])|uint64(w.own[1])<<3|uint64(w.cur)<<6, 7)
	p.put(uint64(w.last)|uint64(w.committed)<<2|uint64(w.end[0])<<4|uint64(w.end[1])<<6, 8)
	p.contents(&w.data)
	p.flag(w.empty)
	p.flag(w.retried)
	return p.word
}

func (w *writer) unpack(word uint64) {
	u := unpacker{word}
	ch := &w.choice
	w.phase, ch.seg, ch.end, ch.epoch = phase(u.get(2)), txid(u.get(2)), txid(u.get(2)), epoch(u.get(4))
	ch.data = u.contents()
	w.own[0], w.own[1], w.cur = txid(u.get(3)), txid(u.get(3)), u.get(1)
	w.last, w.committed, w.end[0], w.end[1] = txid(u.get(2)), txid(u.get(2)), txid(u.get(2)), txid(u.get(2))
	w.data = u.contents()
	w.empty, w.retried = u.flag(), u.flag()
}

const heardBits = 7

// heard returns what the writer knows of node i besides its answer.
func (w *writer) heard(i int) uint64 {
	var p packer
	p.flag(w.answers[i].given)
	p.put(uint64(w.acked[i]), 2)
	p.flag(w.accepted.has(i))
	p.flag(w.recovered.has(i))
	p.flag(w.ended[0].has(i))
	p.flag(w.ended[1].has(i))
	return p.word
}

func (w *writer) unpackHeard(i int, u *unpacker) {
	w.answers[i].given = u.flag()
	w.acked[i] = txid(u.get(2))
	for _, set := range []*nodeSet{&w.accepted, &w.recovered, &w.ended[0], &w.ended[1]} {
		if u.flag() {
			*set = set.with(i)
		}
	}
}

func (g *ghost) pack() uint64 {
	var p packer
	p.contents(&g.committed)
	p.put(uint64(g.end[0])|uint64(g.end[1])<<2|uint64(g.end[2])<<4, 6)
	p.flag(g.wiped)
	p.flag(g.rotten)
	p.flag(g.lostPowerUnsynced)
	return p.word
}

func (g *ghost) unpack(word uint64) {
	u := unpacker{word}
	g.committed = u.contents()
	g.end = [maxTxIDs]txid{txid(u.get(2)), txid(u.get(2)), txid(u.get(2))}
	g.wiped, g.rotten, g.lostPowerUnsynced = u.flag(), u.flag(), u.flag()
}

// appendTo appends the packed state to buf; answers take room only while a writer holds them.
func (s *state) appendTo(buf []uint64, writers int) []uint64 {
	buf = append(buf, s.ghost.pack())
	for i := range nodeCount {
		w := s.node[i].pack()
		buf = append(buf, w[:]...)
	}
	for k := range writers {
		w := &s.writer[k]
		var heard packer
		for i := range nodeCount {
			heard.put(w.heard(i), heardBits)
		}
		buf = append(buf, w.pack(), heard.word)
		for i := range nodeCount {
			if w.answers[i].given {
				a := w.answers[i].node.pack()
				buf = append(buf, a[:]...)
			}
		}
	}
	return buf
}

// readFrom sets s from the front of buf and returns the rest.
func (s *state) readFrom(buf []uint64, writers int) []uint64 {
	*s = state{}
	s.ghost.unpack(buf[0])
	buf = buf[1:]
	for i := range nodeCount {
		s.node[i].unpack(buf)
		buf = buf[nodeWords:]
	}
	for k := range writers {
		w := &s.writer[k]
		w.unpack(buf[0])
		heard := unpacker{buf[1]}
		buf = buf[2:]
		for i := range nodeCount {
			w.unpackHeard(i, &heard)
		}
		for i := range nodeCount {
			if w.answers[i].given {
				w.answers[i].node.unpack(buf)
				buf = buf[nodeWords:]
			}
		}
	}
	return buf
}

// mix folds word into h. It is fixed, not seeded: a run must repeat exactly.
func mix(h, word uint64) uint64 {
	hi, lo := bits.Mul64(h^0x9e3779b97f4a7c15, word^0xd6e8feb86659fd93)
	return hi ^ lo ^ bits.RotateLeft64(h, 23)
}

// key identifies s up to renaming nodes. Nodes are alike in every rule, so what concerns one node,
// its disk and what each writer heard from it, is hashed as one column, and the columns are taken
// in sorted order. Two states with the same 64-bit key are taken for one: at 6 million states the
// odds of one such loss are about one in a million.
func (s *state) key(writers int) uint64 {
	var col [nodeCount]uint64
	for i := range nodeCount {
		h := uint64(1)
		for _, w := range s.node[i].pack() {
			h = mix(h, w)
		}
		var heard packer
		for k := range writers {
			w := &s.writer[k]
			heard.put(w.heard(i), heardBits)
			if !w.answers[i].given {
				continue
			}
			for _, a := range w.answers[i].node.pack() {
				h = mix(h, a)
			}
		}
		col[i] = mix(h, heard.word)
	}
	if col[0] > col[1] {
		col[0], col[1] = col[1], col[0]
	}
	if col[1] > col[2] {
		col[1], col[2] = col[2], col[1]
	}
	if col[0] > col[1] {
		col[0], col[1] = col[1], col[0]
	}
	h := mix(mix(mix(s.ghost.pack(), col[0]), col[1]), col[2])
	for k := range writers {
		h = mix(h, s.writer[k].pack())
	}
	return h
}
