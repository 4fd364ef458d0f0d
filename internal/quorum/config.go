package quorum

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
)

// Bounds of a config, checked before memory is taken for one.
const (
	MaxMembers = 31 // per set; more would only slow every write
	MaxIDBytes = 64
)

// NodeID is the operator's name of a node: 1 to MaxIDBytes of letters, digits, '-', '_' and '.'.
type NodeID string

// Validate checks the id's form.
func (id NodeID) Validate() error {
	if len(id) == 0 || len(id) > MaxIDBytes {
		return fmt.Errorf("quorum: node id %q has a wrong length (got %d, want 1 to %d)", string(id), len(id), MaxIDBytes)
	}
	for _, r := range []byte(id) {
		ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.'
		if !ok {
			return fmt.Errorf("quorum: node id %q holds %q (want letters, digits, '-', '_' or '.')", string(id), r)
		}
	}
	return nil
}

// Incarnation names one data directory: a UUID made with it (rule N1).
type Incarnation [16]byte

// IsZero reports whether the incarnation is unset.
func (i Incarnation) IsZero() bool { return i == Incarnation{} }

// String returns the incarnation in hexadecimal.
func (i Incarnation) String() string { return hex.EncodeToString(i[:]) }

// ParseIncarnation reads what String wrote.
func ParseIncarnation(s string) (Incarnation, error) {
	var i Incarnation
	if len(s) != 2*len(i) {
		return i, fmt.Errorf("quorum: incarnation %q is no 32 hexadecimal digits", s)
	}
	if _, err := hex.Decode(i[:], []byte(s)); err != nil {
		return Incarnation{}, fmt.Errorf("quorum: incarnation %q: %w", s, err)
	}
	return i, nil
}

// Member is one place in a member set. Addr says where the node was last known to listen; it is no
// part of its identity, and configs that differ in addresses only are equal.
type Member struct {
	ID          NodeID
	Incarnation Incarnation
	Addr        string
}

// Key is a member's identity: a node and its storage (N1). A node whose disk was replaced is another
// member, and both may be in a joint config.
type Key struct {
	ID          NodeID
	Incarnation Incarnation
}

// String returns "id/incarnation".
func (k Key) String() string { return string(k.ID) + "/" + k.Incarnation.String() }

// Compare orders keys by id, then by incarnation.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.ID, o.ID), bytes.Compare(k.Incarnation[:], o.Incarnation[:]))
}

// Key returns the member's identity.
func (m Member) Key() Key { return Key{m.ID, m.Incarnation} }

// Same reports whether both are the same node with the same storage.
func (m Member) Same(o Member) bool { return m.Key() == o.Key() }

// Config is a journal's numbered member set, or two of them while it changes. Sets are sorted by id.
type Config struct {
	Version uint64
	Sets    [][]Member
}

// NewConfig returns a config of one set, sorted.
func NewConfig(version uint64, members ...Member) Config {
	set := slices.Clone(members)
	slices.SortFunc(set, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return Config{Version: version, Sets: [][]Member{set}}
}

// IsZero reports whether the config is unset.
func (c Config) IsZero() bool { return c.Version == 0 && len(c.Sets) == 0 }

// IsEmpty reports whether the config has no members: a deleted journal's last config (rule M8).
func (c Config) IsEmpty() bool { return c.Version > 0 && len(c.Sets) == 0 }

// Validate checks version, number of sets, member ids, order and duplicates. The empty config of a
// deleted journal is valid.
func (c Config) Validate() error {
	if c.Version == 0 {
		return fmt.Errorf("quorum: config has no version")
	}
	if len(c.Sets) > 2 {
		return fmt.Errorf("quorum: config %d has too many member sets (got %d, want at most 2)", c.Version, len(c.Sets))
	}
	for _, set := range c.Sets {
		if len(set) == 0 || len(set) > MaxMembers {
			return fmt.Errorf("quorum: config %d has a member set of a wrong size (got %d, want 1 to %d)", c.Version, len(set), MaxMembers)
		}
		for i, m := range set {
			if err := m.ID.Validate(); err != nil {
				return err
			}
			if m.Incarnation.IsZero() {
				return fmt.Errorf("quorum: config %d: member %s has no incarnation", c.Version, m.ID)
			}
			if i > 0 && set[i-1].ID >= m.ID {
				return fmt.Errorf("quorum: config %d: members not sorted or not unique (%s before %s)", c.Version, set[i-1].ID, m.ID)
			}
		}
	}
	return nil
}

// Members returns every member of any set once, sorted by id and incarnation.
func (c Config) Members() []Member {
	var all []Member
	for _, set := range c.Sets {
		for _, m := range set {
			if !slices.ContainsFunc(all, m.Same) {
				all = append(all, m)
			}
		}
	}
	slices.SortFunc(all, func(a, b Member) int { return a.Key().Compare(b.Key()) })
	return all
}

// Find returns the member with that identity.
func (c Config) Find(k Key) (Member, bool) {
	for _, set := range c.Sets {
		for _, m := range set {
			if m.Key() == k {
				return m, true
			}
		}
	}
	return Member{}, false
}

// Member returns the member with that id, from the last set that has it.
func (c Config) Member(id NodeID) (Member, bool) {
	for i := len(c.Sets) - 1; i >= 0; i-- {
		for _, m := range c.Sets[i] {
			if m.ID == id {
				return m, true
			}
		}
	}
	return Member{}, false
}

// Has reports whether (id, incarnation) is a member of any set.
func (c Config) Has(id NodeID, inc Incarnation) bool {
	for _, set := range c.Sets {
		if slices.ContainsFunc(set, Member{ID: id, Incarnation: inc}.Same) {
			return true
		}
	}
	return false
}

// Digest covers version and sets by (id, incarnation), not addresses. Two configs of one version with
// different digests are a divergence (rule M0).
func (c Config) Digest() [32]byte {
	h := sha256.New()
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], c.Version)
	h.Write(b[:])
	for _, set := range c.Sets {
		binary.LittleEndian.PutUint64(b[:], uint64(len(set)))
		h.Write(b[:])
		for _, m := range set {
			binary.LittleEndian.PutUint64(b[:], uint64(len(m.ID)))
			h.Write(b[:])
			h.Write([]byte(m.ID))
			h.Write(m.Incarnation[:])
		}
	}
	return [32]byte(h.Sum(nil))
}

// AppendBinary appends the durable form, addresses included.
func (c Config) AppendBinary(b []byte) ([]byte, error) {
	b = binary.LittleEndian.AppendUint64(b, c.Version)
	b = append(b, byte(len(c.Sets)))
	for _, set := range c.Sets {
		b = append(b, byte(len(set)))
		for _, m := range set {
			b = append(b, byte(len(m.ID)))
			b = append(b, m.ID...)
			b = append(b, m.Incarnation[:]...)
			b = binary.LittleEndian.AppendUint16(b, uint16(len(m.Addr)))
			b = append(b, m.Addr...)
		}
	}
	return b, nil
}

// ParseConfig reads what AppendBinary wrote and validates it.
func ParseConfig(b []byte) (Config, error) {
	r := reader{b: b}
	c := Config{Version: r.uint64()}
	sets := int(r.byte())
	for s := 0; s < sets && r.err == nil; s++ {
		var set []Member
		for n := int(r.byte()); n > 0 && r.err == nil; n-- {
			m := Member{ID: NodeID(r.take(int(r.byte())))}
			copy(m.Incarnation[:], r.take(len(m.Incarnation)))
			m.Addr = string(r.take(int(r.uint16())))
			set = append(set, m)
		}
		c.Sets = append(c.Sets, set)
	}
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("quorum: config is followed by %d stray bytes", len(r.b))
	}
	if r.err != nil {
		return Config{}, r.err
	}
	return c, c.Validate()
}

// reader takes bytes off the front of a slice; after the first shortage everything is zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err == nil && len(r.b) < n {
		r.err = fmt.Errorf("quorum: config is cut short (got %d bytes more, want %d)", len(r.b), n)
	}
	if r.err != nil {
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}
