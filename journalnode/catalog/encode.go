package catalog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// The encoded state:
//
//	offset  bytes
//	     0      4  "QJMC"
//	     4      2  format version
//	     6      2  feature level
//	     8      4  crc32c of the body
//	    12      8  length of the body
//	    20         body: cluster id, index, nodes, journals
//
// Later versions keep the places of the first five, so that old software tells them from damage.
const (
	stateMagic   = "QJMC"
	stateVersion = 1
	stateHeader  = 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendBinary appends the whole state. Equal catalogs have equal bytes, on every node.
func (c *Catalog) AppendBinary(b []byte) ([]byte, error) {
	if c.stuck > 0 {
		return b, c.unsupported(c.stuck)
	}
	start := len(b)
	b = append(b, stateMagic...)
	b = binary.LittleEndian.AppendUint16(b, stateVersion)
	b = binary.LittleEndian.AppendUint16(b, c.level)
	b = append(b, make([]byte, stateHeader-len(stateMagic)-4)...)
	w := &coder{b: b}
	c.body(w)
	if w.err != nil {
		return b[:start], fmt.Errorf("catalog: encode the state: %w", w.err)
	}
	b = w.b
	body := b[start+stateHeader:]
	binary.LittleEndian.PutUint32(b[start+8:], crc32.Checksum(body, castagnoli))
	binary.LittleEndian.PutUint64(b[start+12:], uint64(len(body)))
	return b, nil
}

// body writes the state in the order of ids, or reads it into an empty catalog.
func (c *Catalog) body(w *coder) {
	w.fixed(c.cluster[:])
	u64(w, &c.index)
	nodes, journals := c.sortedNodes(), c.sortedJournals()
	list(w, &nodes, MaxNodes*maxIncarnations, pointed(codeNode))
	list(w, &journals, MaxJournals+MaxTombstones, pointed(codeJournal))
	if !w.reading || w.err != nil {
		return
	}
	for i, n := range nodes {
		if i > 0 && compareMembers(nodes[i-1].Member(), n.Member()) >= 0 {
			w.fail("nodes are not sorted", n.ID, "above "+nodes[i-1].ID)
		}
		c.nodes[nodeKey{n.ID, n.Incarnation}] = n
	}
	for i, j := range journals {
		if i > 0 && string(journals[i-1].ID[:]) >= string(j.ID[:]) {
			w.fail("journals are not sorted", j.ID, "above "+journals[i-1].ID.String())
		}
		c.journals[j.ID] = j
		if j.Reclaimed {
			continue
		}
		if _, ok := c.byName[j.Name]; ok {
			w.fail("journal name", j.Name+" twice", "once")
		}
		c.byName[j.Name] = j.ID
	}
}

// pointed lets a list hold pointers.
func pointed[T any](each func(*coder, *T)) func(*coder, **T) {
	return func(c *coder, p **T) {
		if c.reading {
			*p = new(T)
		}
		each(c, *p)
	}
}

// Restore reads what AppendBinary wrote. A state of a format or level that this software does not know
// is ErrUnsupported; one that cannot be read, or that no commands lead to, is ErrCorrupt.
func Restore(b []byte) (*Catalog, error) {
	if len(b) < stateHeader || string(b[:4]) != stateMagic {
		return nil, fmt.Errorf("%w: header (got %d bytes, want %d that start with %q)", ErrCorrupt, len(b), stateHeader, stateMagic)
	}
	body := b[stateHeader:]
	if n := binary.LittleEndian.Uint64(b[12:]); n != uint64(len(body)) {
		return nil, fmt.Errorf("%w: length of the body (got %d, want %d)", ErrCorrupt, len(body), n)
	}
	if got, want := crc32.Checksum(body, castagnoli), binary.LittleEndian.Uint32(b[8:]); got != want {
		return nil, fmt.Errorf("%w: checksum (got %08x, want %08x)", ErrCorrupt, got, want)
	}
	if v := binary.LittleEndian.Uint16(b[4:]); v != stateVersion {
		return nil, fmt.Errorf("%w: format version (got %d, want %d)", ErrUnsupported, v, stateVersion)
	}
	c := New()
	c.level = binary.LittleEndian.Uint16(b[6:])
	if c.level > c.known {
		return nil, c.unsupported(c.level)
	}
	r := &coder{b: body, reading: true}
	c.body(r)
	if r.err == nil && len(r.b) > 0 {
		r.fail("stray bytes at the end", len(r.b), 0)
	}
	if r.err == nil {
		r.err = c.consistent()
	}
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, r.err)
	}
	for id := range c.journals {
		c.changed[id] = c.index
	}
	return c, nil
}

// kind numbers the commands on disk and on the wire. Numbers are never reused.
type kind uint8

const (
	kindInit kind = iota + 1
	kindSetLevel
	kindPutNode
	kindRemoveNode
	kindSetVoter
	kindCreateJournal
	kindDeleteJournal
	kindReclaim
	kindForget
	kindSetPolicy
	kindSetQuota
	kindListSnapshot
	kindBeginChange
	kindSetNote
	kindJoint
	kindInForce
	kindSealed
	kindFinal
	kindAbort
	kindFinish
	kindAdopt
	kindForceConfig
	kindGrant
	kindKeepAlive
	kindResign
	kindExpire
	kindTransfer
	kindDropLost
)

// commands holds, by kind, the level that a command needs and how to make an empty one.
var commands = map[kind]struct {
	level uint16
	make  func() Command
}{
	kindInit:          {1, func() Command { return new(Init) }},
	kindSetLevel:      {1, func() Command { return new(SetLevel) }},
	kindPutNode:       {1, func() Command { return new(PutNode) }},
	kindRemoveNode:    {1, func() Command { return new(RemoveNode) }},
	kindSetVoter:      {1, func() Command { return new(SetVoter) }},
	kindCreateJournal: {1, func() Command { return new(CreateJournal) }},
	kindDeleteJournal: {1, func() Command { return new(DeleteJournal) }},
	kindReclaim:       {1, func() Command { return new(Reclaim) }},
	kindForget:        {1, func() Command { return new(Forget) }},
	kindSetPolicy:     {1, func() Command { return new(SetPolicy) }},
	kindSetQuota:      {1, func() Command { return new(SetQuota) }},
	kindListSnapshot:  {1, func() Command { return new(ListSnapshot) }},
	kindBeginChange:   {1, func() Command { return new(BeginChange) }},
	kindSetNote:       {1, func() Command { return new(SetNote) }},
	kindJoint:         {1, func() Command { return new(Joint) }},
	kindInForce:       {1, func() Command { return new(InForce) }},
	kindSealed:        {1, func() Command { return new(Sealed) }},
	kindFinal:         {1, func() Command { return new(Final) }},
	kindAbort:         {1, func() Command { return new(Abort) }},
	kindFinish:        {1, func() Command { return new(Finish) }},
	kindAdopt:         {1, func() Command { return new(Adopt) }},
	kindForceConfig:   {1, func() Command { return new(ForceConfig) }},
	kindGrant:         {1, func() Command { return new(Grant) }},
	kindKeepAlive:     {1, func() Command { return new(KeepAlive) }},
	kindResign:        {1, func() Command { return new(Resign) }},
	kindExpire:        {1, func() Command { return new(Expire) }},
	kindTransfer:      {1, func() Command { return new(Transfer) }},
	kindDropLost:      {1, func() Command { return new(DropLost) }},
}

// An encoded command: format version (1 byte), level it needs (2 bytes), kind (1 byte), fields.
const (
	commandVersion = 1
	commandHeader  = 4
)

// Future is a command of a level that this software does not know. All it can do is be refused, as
// software that knows it does while the catalog has not reached its level.
type Future struct {
	Level uint16
	Bytes []byte
}

func (m *Future) kind() kind   { return 0 }
func (m *Future) code(*coder)  {}
func (m *Future) check() error { return nil }

func (m *Future) apply(c *Catalog, _ uint64) (Result, error) {
	return Result{}, refuse(ErrLevel, "command", m.Level, fmt.Sprintf("at most %d", c.level))
}

func levelOf(cmd Command) uint16 {
	if f, ok := cmd.(*Future); ok {
		return f.Level
	}
	return commands[cmd.kind()].level
}

// EncodeCommand returns a command's bytes. What is over a bound is refused here, before it is proposed.
func EncodeCommand(cmd Command) ([]byte, error) {
	if err := cmd.check(); err != nil {
		return nil, err
	}
	return encode(cmd)
}

func encode(cmd Command) ([]byte, error) {
	if f, ok := cmd.(*Future); ok {
		return f.Bytes, nil
	}
	b := []byte{commandVersion}
	b = binary.LittleEndian.AppendUint16(b, levelOf(cmd))
	w := &coder{b: append(b, byte(cmd.kind()))}
	cmd.code(w)
	if w.err != nil {
		return nil, &Refusal{Class: ErrLimit, What: "encode", Cause: w.err}
	}
	if len(w.b) > MaxCommandBytes {
		return nil, refuse(ErrLimit, "bytes of a command", len(w.b), MaxCommandBytes)
	}
	return w.b, nil
}

// DecodeCommand reads what EncodeCommand wrote. A command of a level that this software does not know
// comes back as a *Future. Apply looks at what the values mean.
func DecodeCommand(b []byte) (Command, error) {
	if len(b) < commandHeader || len(b) > MaxCommandBytes {
		return nil, refuse(ErrBadCommand, "bytes", len(b), fmt.Sprintf("%d to %d", commandHeader, MaxCommandBytes))
	}
	level := binary.LittleEndian.Uint16(b[1:])
	if level > LevelMax { // whatever its format is
		return &Future{Level: level, Bytes: append([]byte(nil), b...)}, nil
	}
	if b[0] != commandVersion {
		return nil, refuse(ErrBadCommand, "format version", b[0], commandVersion)
	}
	known, ok := commands[kind(b[3])]
	if !ok || known.level != level {
		return nil, refuse(ErrBadCommand, "kind and level", fmt.Sprintf("%d and %d", b[3], level), "known ones")
	}
	cmd := known.make()
	r := &coder{b: b[commandHeader:], reading: true}
	cmd.code(r)
	if r.err == nil && len(r.b) > 0 {
		r.fail("stray bytes at the end", len(r.b), 0)
	}
	if r.err != nil {
		return nil, &Refusal{Class: ErrBadCommand, What: fmt.Sprintf("kind %d", b[3]), Cause: r.err}
	}
	return cmd, nil
}
