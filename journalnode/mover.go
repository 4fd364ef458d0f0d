package journalnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/opening"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/replication"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
)

// moverPatience is how long the mover waits for a majority of each set to start the segment, once it has
// recovered: they have just answered.
const moverPatience = 10 * time.Second

// move opens a journal as an ordinary writer under the given config and closes it again: a new epoch is
// promised, the newest segment recovered and finalized, and the next one started on a majority of each set.
// That is the seal of a config which no writer goes over to by itself (M4). The nodes are told of it, as a
// writer would tell them.
//
// Whoever was writing is fenced by it. That is safe: what was acknowledged is recovered.
func (n *Node) move(ctx context.Context, j rpc.JournalSummary, minEpoch fencing.Epoch) (rpc.Seal, error) {
	life, cancel := n.context(n.opts.MoveTimeout)
	defer cancel()
	o := opening.Opening{
		Journal: j, Nodes: n.member, Log: n.log, Life: life,
		Bounds:  opening.Bounds{Request: n.opts.PeerTimeout, Accept: n.opts.MoveTimeout, Patience: n.opts.PeerTimeout},
		Start:   func(f func()) bool { n.work.Go(f); return life.Err() == nil },
		Refresh: func(context.Context) quorum.Config { return quorum.Config{} }, // the next round looks again (M9)
	}
	ctx, stop := context.WithTimeout(ctx, n.opts.MoveTimeout)
	defer stop()
	res, err := o.Win(ctx, recovery.Options{MinEpoch: minEpoch})
	if err != nil {
		return rpc.Seal{}, err
	}
	return n.startSegment(ctx, j, res)
}

// startSegment starts the segment behind what was recovered on a majority of each set, and tells those that
// started it.
func (n *Node) startSegment(ctx context.Context, j rpc.JournalSummary, res recovery.Result) (rpc.Seal, error) {
	ctx, cancel := context.WithTimeout(ctx, moverPatience)
	defer cancel()
	core := replication.New(j.Config, res.Claim, res.Prev, replication.Options{})
	type answer struct {
		key   quorum.Key
		reply rpc.WriteReply
		err   error
	}
	answers := make(chan answer, len(j.Config.Members()))
	streams := map[quorum.Key]rpc.WriteStream{}
	defer func() {
		for _, s := range streams {
			s.Close()
		}
	}()
	var errs []error
	for _, m := range j.Config.Members() {
		s, err := n.begins(ctx, core, j, m, res.Claim)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.ID, err))
			continue
		}
		streams[m.Key()] = s
		n.work.Go(func() {
			r, err := s.Recv()
			answers <- answer{m.Key(), r, err} // there is room for all
		})
	}
	for range len(streams) {
		select {
		case a := <-answers:
			if a.err == nil {
				_, a.err = core.Handle(a.key, a.reply)
			}
			if a.err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", a.key.ID, a.err))
			}
		case <-ctx.Done():
			errs = append(errs, context.Cause(ctx))
		}
		if s, version, ok := core.Sealed(); ok {
			tellSeal(core, streams)
			return rpc.Seal{Version: version, Epoch: res.Claim.Epoch, Segment: s}, nil
		}
	}
	return rpc.Seal{}, fmt.Errorf("journalnode: no majority started segment %d: %w", core.Segment(), errors.Join(errs...))
}

// begins opens a write stream to a member and sends the start of the segment.
func (n *Node) begins(ctx context.Context, core *replication.Core, j rpc.JournalSummary, m quorum.Member, claim fencing.Claim) (rpc.WriteStream, error) {
	peer, err := n.member(m)
	if err != nil {
		return nil, err
	}
	s, err := peer.Write(ctx, rpc.Header{Journal: j.ID, ConfigVersion: j.Config.Version, Incarnation: m.Incarnation, Claim: claim})
	if err != nil {
		return nil, err
	}
	core.Linked(m.Key())
	start, _ := core.Next(m.Key()) // fresh and linked: there is one
	start.Leaving = true           // no change has to wait for this one
	if err := s.Send(start); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func tellSeal(core *replication.Core, streams map[quorum.Key]rpc.WriteStream) {
	for key, s := range streams {
		if m, ok := core.Heartbeat(key); ok {
			m.Leaving = true
			_ = s.Send(m) // best effort: the mover's caller knows it anyway
			_, _ = s.Recv()
		}
	}
}

// member returns the connection to a member of a config: it may be a node that this one was not started with.
func (n *Node) member(m quorum.Member) (rpc.Node, error) {
	n.peers.learn([]quorum.Member{m})
	return n.peers.node(m.ID)
}
