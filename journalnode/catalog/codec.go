package catalog

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
)

// coder walks the fields of a value in one order, to write them or to read them: what is written and
// what is read cannot drift apart. Numbers are little endian and of fixed width, so every value has one
// encoding. After the first error nothing more happens. Writing changes nothing, so a value may be written while
// others look at it.
type coder struct {
	b       []byte // written so far, or still to be read
	reading bool
	err     error
}

// fail notes what does not fit.
func (c *coder) fail(what string, got, want any) {
	if c.err == nil {
		c.err = fmt.Errorf("%s (got %v, want %v)", what, got, want)
	}
}

// take returns the next n bytes, or nil.
func (c *coder) take(n int) []byte {
	if c.err == nil && n > len(c.b) {
		c.fail("cut short", fmt.Sprintf("%d bytes", len(c.b)), n)
	}
	if c.err != nil {
		return nil
	}
	out := c.b[:n]
	c.b = c.b[n:]
	return out
}

func (c *coder) fixed(p []byte) {
	if c.reading {
		copy(p, c.take(len(p)))
	} else if c.err == nil {
		c.b = append(c.b, p...)
	}
}

func (c *coder) u8(p *uint8) {
	b := [1]byte{*p}
	c.fixed(b[:])
	if c.reading {
		*p = b[0]
	}
}

func u16[T ~uint16](c *coder, p *T) {
	var b [2]byte
	binary.LittleEndian.PutUint16(b[:], uint16(*p))
	c.fixed(b[:])
	if c.reading {
		*p = T(binary.LittleEndian.Uint16(b[:]))
	}
}

func u32[T ~uint32](c *coder, p *T) {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], uint32(*p))
	c.fixed(b[:])
	if c.reading {
		*p = T(binary.LittleEndian.Uint32(b[:]))
	}
}

func u64[T ~uint64](c *coder, p *T) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(*p))
	c.fixed(b[:])
	if c.reading {
		*p = T(binary.LittleEndian.Uint64(b[:]))
	}
}

func (c *coder) boolean(p *bool) {
	var v uint8
	if *p {
		v = 1
	}
	c.u8(&v)
	if v > 1 {
		c.fail("truth value", v, "0 or 1")
	}
	if c.reading {
		*p = v == 1
	}
}

// text is a string of at most limit bytes.
func text[S ~string](c *coder, p *S, limit int) {
	n := uint16(min(len(*p), 1<<16-1))
	u16(c, &n)
	if int(n) > limit {
		c.fail("string's length", n, fmt.Sprintf("at most %d", limit))
		return
	}
	if c.reading {
		*p = S(c.take(int(n)))
	} else if c.err == nil {
		c.b = append(c.b, *p...)
	}
}

// list is a list of at most limit elements of at least one byte each. Reading one takes memory as it
// goes, so a false count costs nothing.
func list[T any](c *coder, p *[]T, limit int, each func(*coder, *T)) {
	n := uint32(len(*p))
	u32(c, &n)
	switch {
	case int(n) > limit:
		c.fail("list's length", n, fmt.Sprintf("at most %d", limit))
		return
	case c.reading && int(n) > len(c.b):
		c.fail("list's length", n, fmt.Sprintf("at most %d, the bytes left", len(c.b)))
		return
	case c.reading:
		*p = nil
	}
	for i := 0; i < int(n) && c.err == nil; i++ {
		if c.reading {
			var v T
			each(c, &v)
			*p = append(*p, v)
		} else {
			each(c, &(*p)[i])
		}
	}
}

func optional[T any](c *coder, p **T, each func(*coder, *T)) {
	there := *p != nil
	c.boolean(&there)
	if !there || c.err != nil {
		return
	}
	if c.reading {
		*p = new(T)
	}
	each(c, *p)
}

// label is an entry of a node's labels, which are written in the order of their keys.
type label struct{ key, value string }

func codeLabels(c *coder, p *map[string]string) {
	var ls []label
	for _, k := range slices.Sorted(maps.Keys(*p)) {
		ls = append(ls, label{k, (*p)[k]})
	}
	list(c, &ls, MaxLabels, func(c *coder, l *label) {
		text(c, &l.key, MaxLabelBytes)
		text(c, &l.value, MaxLabelBytes)
	})
	if !c.reading || c.err != nil {
		return
	}
	*p = nil
	for i, l := range ls {
		if i > 0 && ls[i-1].key >= l.key {
			c.fail("labels are not sorted", l.key, "above "+ls[i-1].key)
			return
		}
		if *p == nil {
			*p = make(map[string]string, len(ls))
		}
		(*p)[l.key] = l.value
	}
}

func codeNode(c *coder, n *Node) {
	text(c, &n.ID, quorum.MaxIDBytes)
	c.fixed(n.Incarnation[:])
	text(c, &n.Addr, MaxAddrBytes)
	text(c, &n.HTTPAddr, MaxAddrBytes)
	codeLabels(c, &n.Labels)
	text(c, &n.Version, MaxTextBytes)
	u16(c, &n.Level)
	c.boolean(&n.Voter)
	c.boolean(&n.Leaving)
}

func codeMember(c *coder, m *quorum.Member) {
	text(c, &m.ID, quorum.MaxIDBytes)
	c.fixed(m.Incarnation[:])
	text(c, &m.Addr, MaxAddrBytes)
}

func codeMembers(c *coder, p *[]quorum.Member) { list(c, p, quorum.MaxMembers, codeMember) }

func codeConfig(c *coder, cfg *quorum.Config) {
	u64(c, &cfg.Version)
	list(c, &cfg.Sets, maxSets, codeMembers)
}

func codePolicy(c *coder, p *Policy) {
	u64(c, &p.SnapshotBytes)
	u64(c, &p.SnapshotTxns)
	u64(c, &p.SnapshotIntervalMillis)
	u32(c, &p.SnapshotGrowthPercent)
	u64(c, &p.RetainTxns)
	u64(c, &p.RetainBytes)
	c.u8(&p.Replicas)
	c.boolean(&p.AutoReadmit)
}

func codeSeal(c *coder, s *Seal) {
	u64(c, &s.Epoch)
	u64(c, &s.Segment)
}

func codeChange(c *coder, ch *Change) {
	c.u8((*uint8)(&ch.Stage))
	codeMembers(c, &ch.Old)
	codeMembers(c, &ch.New)
	u64(c, &ch.BaseVersion)
	codeSeal(c, &ch.Seal)
	u64(c, &ch.StartedIndex)
	text(c, &ch.Note, MaxTextBytes)
}

func codeFormer(c *coder, f *Former) {
	codeMember(c, &f.Member)
	u64(c, &f.Version)
}

// codeImage is what names a snapshot; the rest is known when it is listed.
func codeImage(c *coder, s *Snapshot) {
	u64(c, &s.TxID)
	u64(c, &s.FrameLast.TxID)
	c.fixed(s.FrameLast.Digest[:])
	u64(c, &s.Size)
	c.fixed(s.Checksum[:])
	u64(c, &s.Epoch)
}

func codeSnapshot(c *coder, s *Snapshot) {
	codeImage(c, s)
	u64(c, &s.ConfigVersion)
	list(c, &s.Holders, maxHolders, codeMember)
	u64(c, &s.Index)
}

func codeLease(c *coder, l *Lease) {
	u64(c, &l.Revision)
	u64(c, &l.Renewed)
	text(c, &l.Holder, MaxHolderBytes)
	text(c, &l.Addr, MaxAddrBytes)
	u32(c, &l.TTLMillis)
	c.fixed(l.Nonce[:])
	text(c, &l.ReservedFor, MaxHolderBytes)
}

func codeHistory(c *coder, h *HistoryEntry) {
	u64(c, &h.Index)
	c.u8((*uint8)(&h.Kind))
	u64(c, &h.Version)
	text(c, &h.Note, MaxTextBytes)
}

func codeJournal(c *coder, j *Journal) {
	c.fixed(j.ID[:])
	text(c, &j.Name, MaxNameBytes)
	codeConfig(c, &j.Config)
	u64(c, &j.InForce)
	optional(c, &j.Change, codeChange)
	list(c, &j.Former, MaxFormer, codeFormer)
	codePolicy(c, &j.Policy)
	u64(c, &j.Quota)
	c.boolean(&j.Deleted)
	c.boolean(&j.Reclaimed)
	list(c, &j.Snapshots, MaxSnapshots, codeSnapshot)
	optional(c, &j.Lease, codeLease)
	list(c, &j.History, MaxHistory, codeHistory)
}
