package replication

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// simNode stores frames and follows W0, W1, W4 and W8, no more. What is not synced is lost in a crash.
type simNode struct {
	id        quorum.Key
	finalized map[segments.TxID]segments.Position
	first     segments.TxID // of the open segment; 0: none
	prev      segments.End
	frames    []segments.Frame
	synced    int
	in        []rpc.WriteRequest
	out       []rpc.WriteReply
	up        bool // the stream
}

func (n *simNode) last() segments.Position {
	if len(n.frames) == 0 {
		return n.prev.Position()
	}
	return n.frames[len(n.frames)-1].Position()
}

func (n *simNode) syncedAt() segments.Position {
	if n.synced == 0 {
		return n.prev.Position()
	}
	return n.frames[n.synced-1].Position()
}

// handle takes one message; an error ends the stream.
func (n *simNode) handle(m rpc.WriteRequest, peers map[quorum.Key]*simNode) error {
	n.synced = max(n.synced, 0)
	switch {
	case m.Start != nil:
		s := m.Start.Next()
		if _, ok := n.finalized[s]; ok {
			return &recovery.BreachError{Rule: "W0", Segment: s, Text: "finalized here"}
		}
		if n.first != s {
			if n.first == m.Start.First && n.last() == m.Start.Position() {
				n.finalized[n.first] = n.last()
			}
			n.first, n.prev, n.frames, n.synced = s, *m.Start, nil, 0
		}
		n.synced = len(n.frames)
		n.say(rpc.Started, s, n.syncedAt())
	case m.Fill != nil:
		return n.fill(*m.Fill, peers)
	case m.Finalize != nil:
		p, ok := n.finalized[m.Finalize.First]
		if !ok && n.first == m.Finalize.First {
			p = n.last()
		}
		if p != m.Finalize.Position() {
			return &recovery.MismatchError{State: recovery.InProgress, Got: p, Want: *m.Finalize}
		}
		n.finalized[m.Finalize.First] = p
		n.synced = len(n.frames)
		n.say(rpc.Finalized, m.Finalize.First, p)
	default:
		for _, f := range m.Frames {
			if err := n.write(f); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *simNode) write(f segments.Frame) error {
	if i := int(f.Last()) - int(n.first); i < len(n.frames) {
		if i < 0 || n.frames[i].Digest() != f.Digest() {
			return &recovery.BreachError{Rule: "W4", Segment: n.first, Text: "other content"}
		}
		return nil
	}
	if f.First() != n.last().TxID+1 || f.VerifyChain(n.last().Digest) != nil {
		return rpc.ErrOutOfSync
	}
	n.frames = append(n.frames, f)
	return nil
}

func (n *simNode) fill(f rpc.Fill, peers map[quorum.Key]*simNode) error {
	for _, source := range f.Sources {
		id := key(source)
		for _, x := range peers[id].frames {
			if peers[id].first == f.Segment && x.First() == n.last().TxID+1 && x.Last() <= f.Target.TxID {
				if err := n.write(x); err != nil {
					return err
				}
			}
		}
	}
	n.sync()
	if n.last().TxID < f.Target.TxID {
		n.say(rpc.FillFailed, f.Segment, segments.Position{})
	}
	return nil
}

func (n *simNode) sync() {
	if n.first == 0 || n.synced == len(n.frames) {
		return
	}
	n.synced = len(n.frames)
	n.say(rpc.Synced, n.first, n.syncedAt())
}

func (n *simNode) say(kind rpc.ReplyKind, s segments.TxID, p segments.Position) {
	n.out = append(n.out, rpc.WriteReply{Kind: kind, Segment: s, Epoch: claim.Epoch, ConfigVersion: 3, Incarnation: n.id.Incarnation, At: p})
}

// Whatever streams break, whatever nodes crash and lose what they had not synced: what the core calls
// committed is synced with this very digest on a majority, at all times, and never goes back; segments
// follow each other by W8; when the faults end, all nodes hold all of it.
func TestW3_W8_Model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := frameAfter(segments.Position{}, claim.Epoch, 10).Size()
		w := &world{T: t, rig: newRig(t, Options{RingBytes: 3 * size, WindowBytes: 6 * size, MessageBytes: 2 * size}), nodes: map[quorum.Key]*simNode{}}
		for _, id := range w.ids() {
			w.nodes[id] = &simNode{id: id, finalized: map[segments.TxID]segments.Position{}}
		}
		for range rapid.IntRange(10, 150).Draw(t, "steps") {
			w.step(w.nodes[rapid.SampledFrom(w.ids()).Draw(t, "node")], rapid.IntRange(0, 13).Draw(t, "action"))
			w.check()
		}
		for range 60 { // no more faults
			for _, id := range w.ids() {
				for _, action := range []int{0, 3, 4, 5, 6, 6, 3, 4, 5, 6, 9} {
					w.step(w.nodes[id], action)
				}
			}
			w.check()
		}
		require.Equal(t, w.Last(), w.Committed(), "all is committed in the end: %+v", w.Status())
		for _, id := range w.ids() {
			n := w.nodes[id]
			require.Equal(t, w.Last(), n.syncedAt(), "%s has converged: %+v", id, w.Status())
			require.NoError(t, w.Status()[int(id.ID[0]-'a')].Refused)
		}
	})
}

type world struct {
	*rapid.T
	*rig
	nodes     map[quorum.Key]*simNode
	committed []segments.Position
}

func (w *world) Errorf(format string, args ...any) { w.T.Errorf(format, args...) }
func (w *world) FailNow()                          { w.T.FailNow() }

func (w *world) ids() []quorum.Key { return []quorum.Key{a, b, c} }

func (w *world) step(n *simNode, action int) {
	switch action {
	case 0: // a stream comes up
		if !n.up && w.Wants(n.id) {
			n.up = true
			w.Linked(n.id)
		}
	case 1: // and breaks, with all that is under way
		w.down(n, rpc.ErrUnavailable)
	case 2: // the node crashes
		n.frames = n.frames[:n.synced]
		w.down(n, rpc.ErrUnavailable)
	case 3, 7, 8:
		if m, ok := w.Next(n.id); ok && n.up {
			n.in = append(n.in, m)
		}
	case 4, 10:
		if len(n.in) > 0 {
			m := n.in[0]
			n.in = n.in[1:]
			if err := n.handle(m, w.nodes); err != nil {
				w.down(n, err)
			}
		}
	case 5:
		n.sync()
	case 6, 11:
		if len(n.out) > 0 {
			r := n.out[0]
			n.out = n.out[1:]
			if _, err := w.Handle(n.id, r); err != nil {
				w.Fatalf("reply %+v of %s refused: %v", r, n.id, err)
			}
		}
	case 9:
		w.roll()
	case 12, 13:
		if w.Writing() && !w.Full() {
			w.add(1)
		}
	}
	w.relay(n)
}

func (w *world) roll() {
	if end, ok := w.Finished(); ok {
		n := 0
		for _, x := range w.nodes {
			if x.finalized[end.First] == end.Position() {
				n++
			}
		}
		if n < 2 {
			w.Fatalf("W8: %v counts as finalized, on %d nodes it is", end, n)
		}
		w.OpenNext()
	} else if len(w.committed)%4 == 3 {
		w.Roll()
	}
}

func (w *world) relay(n *simNode) {
	from, to, _, ok := w.Relay(n.id)
	if !ok || !n.up || from > to.TxID {
		return
	}
	for _, x := range w.nodes {
		if x.first != w.Segment() || x.syncedAt().TxID < to.TxID {
			continue
		}
		frames := x.frames[from-x.first : to.TxID-x.first+1]
		if m, ok := w.Relayed(n.id, frames); ok {
			n.in = append(n.in, m)
			return
		}
	}
}

func (w *world) down(n *simNode, err error) {
	if n.up {
		n.up, n.in, n.out = false, nil, nil
		w.Unlinked(n.id, err)
	}
	if errors.Is(err, recovery.ErrBreach) {
		w.Fatalf("%s refuses what the core sends: %v", n.id, err)
	}
}

func (w *world) check() {
	p := w.Committed()
	if len(w.committed) > 0 && p.TxID < w.committed[len(w.committed)-1].TxID {
		w.Fatalf("W3: committed went back to %v", p)
	}
	if len(w.committed) == 0 || p != w.committed[len(w.committed)-1] {
		w.committed = append(w.committed, p)
	}
	for _, p := range w.committed[max(0, len(w.committed)-4):] {
		holders := 0
		for _, n := range w.nodes {
			if n.holds(p) {
				holders++
			}
		}
		if holders < 2 {
			w.Fatalf("W3: %v is committed and held by %d nodes", p, holders)
		}
	}
}

// holds: the position is synced here, in the open segment or at the end of a finalized one.
func (n *simNode) holds(p segments.Position) bool {
	if p.TxID == 0 || n.prev.Position() == p {
		return true
	}
	for _, f := range n.frames[:n.synced] {
		if f.Position() == p {
			return true
		}
	}
	for s, e := range n.finalized {
		if e == p || s <= p.TxID && p.TxID < e.TxID {
			return true
		}
	}
	// A later segment was started behind it: the chain names it.
	return n.first > p.TxID
}
