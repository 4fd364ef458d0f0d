package wire

import (
	"time"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// Zero values that mean "none" become no message, as the .proto files say.

func claimToProto(c fencing.Claim) *qjmv1.Claim {
	if c.IsZero() {
		return nil
	}
	return &qjmv1.Claim{Epoch: uint64(c.Epoch), WriterId: c.Writer[:]}
}

func headerToProto(h rpc.Header) *qjmv1.Header {
	return &qjmv1.Header{
		JournalId:     h.Journal[:],
		ConfigVersion: h.ConfigVersion,
		Incarnation:   h.Incarnation[:],
		Claim:         claimToProto(h.Claim),
	}
}

func positionToProto(p segments.Position) *qjmv1.Position {
	if p == (segments.Position{}) {
		return nil
	}
	return &qjmv1.Position{Txid: uint64(p.TxID), Digest: p.Digest[:]}
}

func endToProto(e segments.End) *qjmv1.End {
	if e.IsZero() {
		return nil
	}
	return &qjmv1.End{FirstTxid: uint64(e.First), LastTxid: uint64(e.Last), Digest: e.Digest[:]}
}

func floorToProto(f recovery.Floor) *qjmv1.Floor {
	if f.IsZero() {
		return nil
	}
	return &qjmv1.Floor{Segment: uint64(f.Segment), Epoch: uint64(f.Epoch), At: positionToProto(f.At)}
}

func membersToProto(set []quorum.Member) []*qjmv1.Member {
	ps := make([]*qjmv1.Member, len(set))
	for i, m := range set {
		ps[i] = memberToProto(m)
	}
	return ps
}

func memberToProto(m quorum.Member) *qjmv1.Member {
	return &qjmv1.Member{NodeId: text(string(m.ID)), Incarnation: m.Incarnation[:], Addr: text(m.Addr)}
}

func configToProto(c quorum.Config) *qjmv1.Config {
	if c.IsZero() {
		return nil
	}
	p := &qjmv1.Config{Version: c.Version}
	for _, set := range c.Sets {
		p.Sets = append(p.Sets, &qjmv1.MemberSet{Members: membersToProto(set)})
	}
	return p
}

func nodeIDsToProto(ids []quorum.NodeID) []string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = text(string(id))
	}
	return names
}

// nanos encodes a duration; one below zero can only come from a clock that was set back.
func nanos(d time.Duration) uint64 { return uint64(max(d, 0)) }

// idOrNone leaves a zero id out.
func idOrNone(id [16]byte) []byte {
	if id == [16]byte{} {
		return nil
	}
	return id[:]
}
