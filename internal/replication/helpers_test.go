package replication

import (
	"fmt"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

var a, b, c = key("a"), key("b"), key("c")

func key(id quorum.NodeID) quorum.Key { return quorum.Key{ID: id, Incarnation: incarnation(id)} }

var claim = fencing.Claim{Epoch: 5, Writer: fencing.WriterID{1}}

func incarnation(id quorum.NodeID) quorum.Incarnation { return quorum.Incarnation{id[0]} }

func threeNodes() quorum.Config {
	var ms []quorum.Member
	for _, k := range []quorum.Key{a, b, c} {
		ms = append(ms, quorum.Member{ID: k.ID, Incarnation: k.Incarnation})
	}
	return quorum.NewConfig(3, ms...)
}

// rig is a Core with a frame maker, and shorthands.
type rig struct {
	require.TestingT
	*Core
	bytes int // payload of each frame
}

func newRig(t require.TestingT, opts Options) *rig {
	return &rig{TestingT: t, Core: New(threeNodes(), claim, segments.End{}, opts), bytes: 10}
}

func frameAfter(p segments.Position, e fencing.Epoch, payload int) segments.Frame {
	f, err := segments.SealOpaque(p.Digest, e, p.TxID+1, 1, make([]byte, payload), segments.SealOptions{})
	if err != nil {
		panic(err)
	}
	return f
}

// add adds n frames and returns the last position.
func (r *rig) add(n int) segments.Position {
	for range n {
		require.NoError(r, r.Add(frameAfter(r.Last(), claim.Epoch, r.bytes)))
	}
	return r.Last()
}

func (r *rig) reply(id quorum.Key, kind rpc.ReplyKind, at segments.Position) rpc.WriteReply {
	return rpc.WriteReply{Kind: kind, Segment: r.Segment(), Epoch: claim.Epoch, ConfigVersion: r.Config().Version, Incarnation: id.Incarnation, At: at}
}

// says feeds a reply that must be taken.
func (r *rig) says(id quorum.Key, kind rpc.ReplyKind, at segments.Position) bool {
	moved, err := r.Handle(id, r.reply(id, kind, at))
	require.NoError(r, err)
	return moved
}

// start links nodes and lets them answer the start, standing where the segment begins.
func (r *rig) start(ids ...quorum.Key) {
	for _, id := range ids {
		r.Linked(id)
		m, ok := r.Next(id)
		require.True(r, ok)
		require.NotNil(r, m.Start)
		r.says(id, rpc.Started, m.Start.Position())
	}
}

// sent takes all messages there are for a node and says what they are.
func (r *rig) sent(id quorum.Key) []string {
	var out []string
	for {
		m, ok := r.Next(id)
		if !ok {
			return out
		}
		out = append(out, text(m))
	}
}

func text(m rpc.WriteRequest) string {
	switch {
	case m.Start != nil:
		return fmt.Sprintf("start %d", m.Start.Next())
	case m.Fill != nil:
		return fmt.Sprintf("fill to %d from %v", m.Fill.Target.TxID, m.Fill.Sources)
	case m.Finalize != nil:
		return fmt.Sprintf("finalize %d..%d", m.Finalize.First, m.Finalize.Last)
	case len(m.Frames) > 0:
		return fmt.Sprintf("frames %d..%d", m.Frames[0].First(), m.Frames[len(m.Frames)-1].Last())
	}
	return "heartbeat"
}

func fencedBy(e fencing.Epoch) error {
	return &fencing.FencedError{Promised: fencing.Claim{Epoch: e, Writer: fencing.WriterID{2}}, Got: claim}
}

func lostRace() error {
	return &fencing.LostRaceError{Holder: fencing.Claim{Epoch: 5, Writer: fencing.WriterID{2}}, Got: claim}
}

func breach() error { return &recovery.BreachError{Rule: "W0", Segment: 1, Text: "test"} }
