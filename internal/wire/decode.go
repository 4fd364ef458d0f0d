package wire

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// Bounds of what one message may hold, besides those of rpc and quorum.
const (
	addrBytesMax = 1024                  // host:port; a host name has at most 253
	sourcesMax   = 2 * quorum.MaxMembers // every member of a joint config
	foundersMax  = 1024                  // nodes that found one cluster
	textBytesMax = 16 << 10              // text for people that goes out
)

// decoder keeps the first thing that is wrong with a message; after it, results mean nothing.
type decoder struct{ err error }

// done returns what was wrong. It is a method because the order of calls within a statement is fixed,
// and that of calls and variables is not.
func (d *decoder) done() error { return d.err }

// fail records an error of class rpc.ErrBadRequest.
func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", rpc.ErrBadRequest, fmt.Sprintf(format, args...))
	}
}

// check records a cause that has no class of its own, or one to be kept besides rpc.ErrBadRequest.
func (d *decoder) check(what string, cause error) {
	if cause != nil && d.err == nil {
		d.err = fmt.Errorf("%w: %s: %w", rpc.ErrBadRequest, what, cause)
	}
}

// id reads an id or digest of 16 bytes.
func (d *decoder) id(what string, b []byte) (id [16]byte) {
	if len(b) != len(id) {
		d.fail("%s has a wrong length (got %d, want %d)", what, len(b), len(id))
		return id
	}
	return [16]byte(b)
}

// idOrNone reads an id that may be left out.
func (d *decoder) idOrNone(what string, b []byte) (id [16]byte) {
	if len(b) == 0 {
		return id
	}
	return d.id(what, b)
}

func (d *decoder) count(what string, got, limit int) bool {
	if got > limit {
		d.fail("too many %s (got %d, want at most %d)", what, got, limit)
	}
	return got <= limit
}

func (d *decoder) nodeID(s string) quorum.NodeID {
	id := quorum.NodeID(s)
	d.check("node id", id.Validate())
	return id
}

func (d *decoder) nodeIDs(what string, names []string, limit int) []quorum.NodeID {
	if len(names) == 0 || !d.count(what, len(names), limit) {
		return nil
	}
	ids := make([]quorum.NodeID, len(names))
	for i, s := range names {
		ids[i] = d.nodeID(s)
	}
	return ids
}

func (d *decoder) duration(what string, nanos uint64) time.Duration {
	return time.Duration(d.int64(what, nanos))
}

func (d *decoder) int64(what string, v uint64) int64 {
	if v > math.MaxInt64 {
		d.fail("%s is too large (got %d, want at most %d)", what, v, int64(math.MaxInt64))
	}
	return int64(v & math.MaxInt64)
}

func (d *decoder) claim(p *qjmv1.Claim) fencing.Claim {
	if p == nil {
		return fencing.Claim{}
	}
	return fencing.Claim{Epoch: fencing.Epoch(p.Epoch), Writer: d.id("writer id", p.WriterId)}
}

func (d *decoder) header(p *qjmv1.Header) rpc.Header {
	if p == nil {
		d.fail("header is missing")
		return rpc.Header{}
	}
	return rpc.Header{
		Journal:       d.id("journal id", p.JournalId),
		ConfigVersion: p.ConfigVersion,
		Incarnation:   d.id("incarnation", p.Incarnation),
		Claim:         d.claim(p.Claim),
	}
}

func (d *decoder) position(p *qjmv1.Position) segments.Position {
	if p == nil {
		return segments.Position{}
	}
	return segments.Position{TxID: segments.TxID(p.Txid), Digest: d.id("digest", p.Digest)}
}

func (d *decoder) end(p *qjmv1.End) segments.End {
	if p == nil {
		return segments.End{}
	}
	return segments.End{First: segments.TxID(p.FirstTxid), Last: segments.TxID(p.LastTxid), Digest: d.id("digest", p.Digest)}
}

func (d *decoder) floor(p *qjmv1.Floor) recovery.Floor {
	if p == nil {
		return recovery.Floor{}
	}
	return recovery.Floor{Segment: segments.TxID(p.Segment), Epoch: fencing.Epoch(p.Epoch), At: d.position(p.At)}
}

func (d *decoder) member(p *qjmv1.Member) quorum.Member {
	if len(p.GetAddr()) > addrBytesMax {
		d.fail("address has a wrong length (got %d, want at most %d)", len(p.GetAddr()), addrBytesMax)
	}
	return quorum.Member{
		ID:          d.nodeID(p.GetNodeId()),
		Incarnation: d.id("incarnation", p.GetIncarnation()),
		Addr:        p.GetAddr(),
	}
}

func (d *decoder) members(what string, ps []*qjmv1.Member, limit int) []quorum.Member {
	if len(ps) == 0 || !d.count(what, len(ps), limit) {
		return nil
	}
	set := make([]quorum.Member, len(ps))
	for i, p := range ps {
		set[i] = d.member(p)
	}
	return set
}

func (d *decoder) config(p *qjmv1.Config) quorum.Config {
	if p == nil {
		return quorum.Config{}
	}
	c := quorum.Config{Version: p.Version}
	if !d.count("member sets", len(p.Sets), 2) {
		return c
	}
	for _, s := range p.Sets {
		c.Sets = append(c.Sets, d.members("members", s.GetMembers(), quorum.MaxMembers))
	}
	if d.err == nil {
		d.check("config", c.Validate())
	}
	return c
}

// text makes a string fit for the wire: proto3 strings must be valid UTF-8, or the whole message cannot
// be sent, and an error's text may quote bytes from a damaged disk.
func text(s string) string {
	if len(s) > textBytesMax {
		s = s[:textBytesMax]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
