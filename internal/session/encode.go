package session

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// version of the encoding; it is the first byte.
const version = 1

// ErrCorrupt is what Decode says of bytes that no table makes.
var ErrCorrupt = fmt.Errorf("session: not a table of sessions")

// Append appends the table's encoding: equal tables give equal bytes (S2).
//
//	table   = version stamp(varint) now(uvarint) count(uvarint) session*
//	session = id(16) ttl(uvarint) end(uvarint) awaited(uvarint) count(uvarint) kept*
//	kept    = number - awaited (uvarint) length + 1 (uvarint; 0: dropped) result
func (t *Table) Append(b []byte) []byte {
	b = append(b, version)
	b = binary.AppendVarint(b, int64(t.stamp))
	b = binary.AppendUvarint(b, uint64(t.now))
	b = binary.AppendUvarint(b, uint64(len(t.open)))
	sorted := slices.Clone(t.due)
	slices.SortFunc(sorted, func(a, b *state) int { return slices.Compare(a.id[:], b.id[:]) })
	for _, s := range sorted {
		b = append(b, s.id[:]...)
		b = binary.AppendUvarint(b, uint64(s.ttl))
		b = binary.AppendUvarint(b, uint64(s.end))
		b = binary.AppendUvarint(b, s.awaited)
		b = binary.AppendUvarint(b, uint64(len(s.applied)))
		for _, k := range s.applied {
			b = binary.AppendUvarint(b, k.seq-s.awaited)
			if k.dropped {
				b = append(b, 0)
				continue
			}
			b = binary.AppendUvarint(b, uint64(len(k.result))+1)
			b = append(b, k.result...)
		}
	}
	return b
}

// Decode returns the table that Append encoded. Results are copied. Limits bound what is taken for it; a table that was
// made under larger ones is ErrCorrupt. Nothing may follow it.
func Decode(b []byte, l Limits) (*Table, error) {
	d := &decoder{b: b}
	if v := d.byte(); d.err == nil && v != version {
		return nil, fmt.Errorf("%w: version (got %d, want %d)", ErrCorrupt, v, version)
	}
	t := New(l)
	t.stamp = Millis(d.varint())
	t.now = d.millis()
	for range d.count(t.limits.Sessions, "sessions") {
		d.session(t)
	}
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes too many", len(d.b))
	}
	if d.err != nil {
		return nil, d.err
	}
	return t, nil
}

// decoder remembers the first thing that was wrong; after it everything reads as zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	d.b = nil
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail("it ends early (%d bytes wanted, %d left)", n, len(d.b))
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) byte() byte {
	if b := d.take(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("bad number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("bad number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) millis() Millis {
	v := d.uvarint()
	if v > 1<<62 {
		d.fail("time (got %d)", v)
		return 0
	}
	return Millis(v)
}

func (d *decoder) count(most int, what string) int {
	n := d.uvarint()
	if n > uint64(most) {
		d.fail("%s (got %d, want at most %d)", what, n, most)
		return 0
	}
	return int(n)
}

func (d *decoder) session(t *Table) {
	var id ID
	copy(id[:], d.take(uint64(len(id))))
	ttl, end, awaited := d.millis(), d.millis(), d.uvarint()
	if d.err != nil {
		return
	}
	if t.open[id] != nil || ttl < MinTTL || ttl > MaxTTL || end <= t.now || end > t.now+ttl || awaited == 0 {
		d.fail("session %v", id)
		return
	}
	if err := t.Open(id, ttl); err != nil {
		d.fail("session %v: %v", id, err)
		return
	}
	s := t.open[id]
	s.end, s.awaited = end, awaited
	t.fix(s)
	last := uint64(0)
	for i := range d.count(int(t.limits.Window), "results") {
		k := kept{seq: awaited + d.uvarint()}
		length := d.uvarint()
		if k.dropped = length == 0; !k.dropped {
			k.result = slices.Clone(d.take(length - 1))
		}
		s.bytes += len(k.result)
		if d.err == nil && (k.seq < awaited || k.seq-awaited >= t.limits.Window || i > 0 && k.seq <= last || s.bytes > t.limits.ResultBytes) {
			d.fail("session %v: result of proposal %d", id, k.seq)
		}
		last = k.seq
		s.applied = append(s.applied, k)
	}
}
