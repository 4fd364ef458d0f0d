package journalnode

import (
	"context"
	"fmt"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments/store"
)

// Bounds of a pull of finalized segments (A1) while there is a writer. Each piece is written by itself, and all that
// was pulled is synced after so many bytes: nothing that an append has to wait for is large.
const (
	pullPiece    = 256 << 10
	pullSync     = 4 << 20
	pullPauseMax = 500 * time.Millisecond // well below Options.PeerTimeout
	// pullShare: one part of so many of the time is taken. It has to be faster than a writer still.
	pullShare = 2
	// pullLook is how long it holds what was found out about writers.
	pullLook = time.Second
)

// pace holds the pulls of a journal back while a writer is alive that they could get in the way of: one of whatever
// journal of this node, or one of this journal at the node that is read from. What is missing here was acknowledged
// without this node, so nobody waits for it, while each append waits for a majority's disks and processors.
// After each piece, and each segment, it then waits as long as that took: at most half of one processor and of one disk
// is taken. With no writer alive there is nobody to wait for.
type pace struct {
	n      *Node
	o      *owner
	source quorum.NodeID
	live   bool
	looked time.Time // when live was found out
	began  time.Time // the piece under way
	bytes  int
}

func (n *Node) newPace(o *owner) *pace { return &pace{n: n, o: o} }

// begin is called before a segment is read from a node.
func (p *pace) begin(source quorum.NodeID) { p.source, p.began = source, time.Now() }

// step is called with each frame that was appended to the copy.
func (p *pace) step(ctx context.Context, inc *store.Incoming, bytes int) error {
	if p.bytes += bytes; p.bytes < pullPiece {
		return nil
	}
	if p.look(ctx) {
		if err := inc.Trickle(pullSync); err != nil {
			return err
		}
	}
	return p.rest(ctx)
}

// rest ends a piece. It returns early where the context ends, and does when the node stops.
func (p *pace) rest(ctx context.Context) error {
	pause := pullPause(time.Since(p.began), p.look(ctx))
	if pause > 0 {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("journalnode: %w", context.Cause(ctx))
		}
	}
	p.bytes, p.began = 0, time.Now()
	return nil
}

// pullPause is how long a pull waits behind a piece that took so long.
func pullPause(took time.Duration, writer bool) time.Duration {
	if !writer {
		return 0
	}
	return min((pullShare-1)*took, pullPauseMax)
}

// look finds out now and then whether there is a writer.
func (p *pace) look(ctx context.Context) bool {
	if now := time.Now(); p.looked.IsZero() || now.Sub(p.looked) >= pullLook {
		p.live = p.n.hearsWriter(now) || p.n.writerAt(ctx, p.o, p.source)
		p.looked = time.Now()
	}
	return p.live
}

// hearsWriter: a writer of some journal was heard here lately, and has not left.
func (n *Node) hearsWriter(now time.Time) bool {
	for _, o := range n.allOwners() {
		if at := o.writerAt.Load(); at != 0 && now.Sub(time.Unix(0, at)) <= n.opts.WriterGoneAfter {
			return true
		}
	}
	return false
}

// writerAt: a peer has heard of a writer of the journal lately. One that does not answer has not.
func (n *Node) writerAt(ctx context.Context, o *owner, id quorum.NodeID) bool {
	peer, err := n.peers.node(id)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, n.opts.PeerTimeout)
	defer cancel()
	st, err := peer.State(ctx, o.j.ID())
	return err == nil && st.SinceWriter > 0 && st.SinceWriter <= n.opts.WriterGoneAfter
}
