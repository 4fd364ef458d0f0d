package libqjm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/quorumjournal/qjm/internal/session"
)

// What a transaction of a replica is: its first byte. A journal that a Replica writes holds no others.
const (
	entryPlain   byte = 1 // data
	entryInOrder byte = 2 // stamp, session, number, awaited, data: applied once
	entryOpen    byte = 3 // stamp, session, time to live: opens a session
	entryClose   byte = 4 // stamp, session: ends it
	entryDigests byte = 5 // first txid, digests of the states after it and those behind it
)

// entryHeadMax bounds what is in front of the data.
const entryHeadMax = 1 + 3*binary.MaxVarintLen64 + len(session.ID{})

// digestSize is the length of one state's digest in the log.
const digestSize = 8

// ErrNotOurs: a transaction of the journal is none that a Replica wrote. Use a journal of its own for each replicated
// state machine.
var ErrNotOurs = errors.New("libqjm: transaction was not written by a Replica")

// logEntry is a transaction of a replica, decoded. Its slices are parts of the transaction's.
type logEntry struct {
	kind    byte
	stamp   session.Millis
	session session.ID
	seq     uint64
	awaited uint64
	ttl     session.Millis
	first   TxID // of digests
	data    []byte
}

// append encodes the entry.
func (e logEntry) append(b []byte) []byte {
	b = append(b, e.kind)
	switch e.kind {
	case entryInOrder:
		b = binary.AppendVarint(b, int64(e.stamp))
		b = append(b, e.session[:]...)
		b = binary.AppendUvarint(b, e.seq)
		b = binary.AppendUvarint(b, e.awaited)
	case entryOpen:
		b = binary.AppendVarint(b, int64(e.stamp))
		b = append(b, e.session[:]...)
		b = binary.AppendVarint(b, int64(e.ttl))
	case entryClose:
		b = binary.AppendVarint(b, int64(e.stamp))
		b = append(b, e.session[:]...)
	case entryDigests:
		b = binary.AppendUvarint(b, uint64(e.first))
	}
	return append(b, e.data...)
}

// parseEntry decodes a transaction. The error is of class ErrNotOurs.
func parseEntry(b []byte) (e logEntry, err error) {
	if len(b) == 0 {
		return e, fmt.Errorf("%w: it is empty", ErrNotOurs)
	}
	d := entryDecoder{b: b[1:]}
	e.kind = b[0]
	switch e.kind {
	case entryPlain:
	case entryInOrder:
		e.stamp, e.session, e.seq, e.awaited = session.Millis(d.varint()), d.id(), d.uvarint(), d.uvarint()
	case entryOpen:
		e.stamp, e.session, e.ttl = session.Millis(d.varint()), d.id(), session.Millis(d.varint())
	case entryClose:
		e.stamp, e.session = session.Millis(d.varint()), d.id()
	case entryDigests:
		e.first = TxID(d.uvarint())
		d.bad = d.bad || len(d.b)%digestSize != 0
	default:
		return e, fmt.Errorf("%w: kind %d", ErrNotOurs, e.kind)
	}
	if d.bad {
		return logEntry{}, fmt.Errorf("%w: kind %d, cut off", ErrNotOurs, e.kind)
	}
	e.data = d.b
	return e, nil
}

// entryDecoder remembers that something was wrong.
type entryDecoder struct {
	b   []byte
	bad bool
}

func (d *entryDecoder) varint() int64 {
	v, n := binary.Varint(d.b)
	return step(d, v, n)
}

func (d *entryDecoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	return step(d, v, n)
}

func step[T int64 | uint64](d *entryDecoder, v T, n int) T {
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *entryDecoder) id() (id session.ID) {
	if len(d.b) < len(id) {
		d.bad, d.b = true, nil
		return id
	}
	copy(id[:], d.b)
	d.b = d.b[len(id):]
	return id
}
