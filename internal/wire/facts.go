package wire

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/snapshot"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// facts are the metadata of one error: flat, text only, as ErrorInfo wants it. Fields of a value are
// joined to its key with '_', values within values with '-'. After the first unreadable key of a
// reader, results mean nothing and err says so.
type facts struct {
	m      map[string]string
	prefix string
	depth  int // of errors within errors
	err    error
}

func newFacts() *facts { return &facts{m: map[string]string{}} }

// sub returns the facts of a value within this one.
func (f *facts) sub(key string) *facts {
	return &facts{m: f.m, prefix: f.prefix + key + "-", depth: f.depth}
}

func (f *facts) has(key string) bool {
	_, ok := f.m[f.prefix+key]
	return ok
}

func (f *facts) set(key, value string) { f.m[f.prefix+key] = text(value) }

func (f *facts) get(key string) string {
	s, ok := f.m[f.prefix+key]
	if !ok {
		f.fail(fmt.Errorf("wire: error lacks %q", f.prefix+key))
	}
	return s
}

func (f *facts) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

func (f *facts) setUint(key string, v uint64) { f.set(key, strconv.FormatUint(v, 10)) }

func (f *facts) uint(key string) uint64 {
	v, err := strconv.ParseUint(f.get(key), 10, 64)
	if err != nil {
		f.fail(err)
	}
	return v
}

func (f *facts) setInt(key string, v int64) { f.set(key, strconv.FormatInt(v, 10)) }

func (f *facts) int(key string) int64 {
	v, err := strconv.ParseInt(f.get(key), 10, 64)
	if err != nil {
		f.fail(err)
	}
	return v
}

func (f *facts) setID(key string, id [16]byte) { f.set(key, hex.EncodeToString(id[:])) }

func (f *facts) id(key string) (id [16]byte) {
	b, err := hex.DecodeString(f.get(key))
	if err == nil && len(b) != len(id) {
		err = fmt.Errorf("wire: %q has a wrong length (got %d, want %d)", f.prefix+key, len(b), len(id))
	}
	if err != nil {
		f.fail(err)
		return id
	}
	return [16]byte(b)
}

func (f *facts) txid(key string) segments.TxID   { return segments.TxID(f.uint(key)) }
func (f *facts) epoch(key string) fencing.Epoch  { return fencing.Epoch(f.uint(key)) }
func (f *facts) nodeID(key string) quorum.NodeID { return quorum.NodeID(f.get(key)) }

func (f *facts) setClaim(key string, c fencing.Claim) {
	f.setUint(key+"_epoch", uint64(c.Epoch))
	f.setID(key+"_writer_id", c.Writer)
}

func (f *facts) claim(key string) fencing.Claim {
	return fencing.Claim{Epoch: f.epoch(key + "_epoch"), Writer: f.id(key + "_writer_id")}
}

func (f *facts) setPosition(key string, p segments.Position) {
	f.setUint(key+"_txid", uint64(p.TxID))
	f.setID(key+"_digest", p.Digest)
}

func (f *facts) position(key string) segments.Position {
	return segments.Position{TxID: f.txid(key + "_txid"), Digest: f.id(key + "_digest")}
}

func (f *facts) setEnd(key string, e segments.End) {
	f.setUint(key+"_first_txid", uint64(e.First))
	f.setUint(key+"_last_txid", uint64(e.Last))
	f.setID(key+"_digest", e.Digest)
}

func (f *facts) end(key string) segments.End {
	return segments.End{First: f.txid(key + "_first_txid"), Last: f.txid(key + "_last_txid"), Digest: f.id(key + "_digest")}
}

func (f *facts) setFloor(key string, v recovery.Floor) {
	f.setUint(key+"_segment", uint64(v.Segment))
	f.setUint(key+"_epoch", uint64(v.Epoch))
	f.setPosition(key, v.At)
}

func (f *facts) floor(key string) recovery.Floor {
	return recovery.Floor{Segment: f.txid(key + "_segment"), Epoch: f.epoch(key + "_epoch"), At: f.position(key)}
}

func (f *facts) setSnapshot(key string, v snapshot.Snapshot) {
	f.setUint(key+"_txid", uint64(v.TxID))
	f.setPosition(key+"_at", v.At)
	f.setInt(key+"_size", v.Size)
	f.set(key+"_checksum", v.Checksum.String())
	f.setUint(key+"_epoch", uint64(v.Epoch))
}

func (f *facts) snapshot(key string) snapshot.Snapshot {
	v := snapshot.Snapshot{TxID: f.txid(key + "_txid"), At: f.position(key + "_at"), Size: f.int(key + "_size"), Epoch: f.epoch(key + "_epoch")}
	b, err := hex.DecodeString(f.get(key + "_checksum"))
	if err == nil && len(b) != len(v.Checksum) {
		err = fmt.Errorf("wire: %q has a wrong length (got %d, want %d)", key+"_checksum", len(b), len(v.Checksum))
	}
	if err != nil {
		f.fail(err)
		return v
	}
	v.Checksum = snapshot.Checksum(b)
	return v
}

// errorsWithinMax bounds how deep errors are looked into; deeper ones go over as text.
const errorsWithinMax = 4

// setError stores an error within this one.
func (f *facts) setError(key string, err error) {
	if err == nil {
		return
	}
	s := f.sub(key)
	s.depth++
	s.set("text", err.Error())
	if s.depth > errorsWithinMax {
		return
	}
	for i, c := range classify(err, s.depth) {
		r := s.sub(strconv.Itoa(i))
		r.set("reason", c.reason)
		for k, v := range c.facts {
			r.set(k, v)
		}
	}
}

// error reads what setError stored; nil where it stored nothing.
func (f *facts) error(key string) error {
	s := f.sub(key)
	if !s.has("text") {
		return nil
	}
	s.depth++
	var classes []error
	for i := 0; s.depth <= errorsWithinMax && s.sub(strconv.Itoa(i)).has("reason"); i++ {
		r := s.sub(strconv.Itoa(i))
		r.depth = s.depth
		if err := rebuild(r.get("reason"), r); err != nil {
			classes = append(classes, err)
		}
	}
	return assemble(s.get("text"), classes)
}
