package libqjm

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
)

// reachTimeout bounds one look at nodes that are to become members. The leader's driver rests on it: a writer
// that knows the question has an answer soon.
const reachTimeout = 3 * time.Second

// asked takes a question of a node (M6). The newest one counts: whoever asked the one before asks again. The
// caller holds mu; nothing waits here, and appends go on.
func (w *Writer) asked(q rpc.Reach) {
	if w.question == nil || q.ID == w.reached.ID {
		return
	}
	select {
	case <-w.question:
	default:
	}
	w.question <- q // there is room: whoever puts one in holds mu
}

// answerQuestions looks whether the nodes can be reached that are to become members, before a majority of them
// is needed for anything. The answer goes out on every stream.
func (w *Writer) answerQuestions() {
	for {
		select {
		case q := <-w.question:
			w.mu.Lock()
			known := q.ID == w.reached.ID // another node asked the same
			w.mu.Unlock()
			if known {
				continue
			}
			answer := w.look(q)
			w.mu.Lock()
			w.reached = answer
			w.kick()
			w.mu.Unlock()
		case <-w.ctx.Done():
			return
		}
	}
}

func (w *Writer) look(q rpc.Reach) rpc.Reached {
	ctx, cancel := context.WithTimeout(w.ctx, reachTimeout)
	defer cancel()
	a := rpc.Reached{ID: q.ID, Nodes: make([]rpc.ReachedNode, len(q.Nodes))}
	var wg sync.WaitGroup
	for i, m := range q.Nodes {
		wg.Go(func() {
			a.Nodes[i].Node = m.Key()
			if err := w.c.reaches(ctx, m); err != nil {
				a.Nodes[i].Err = err.Error()
				w.c.log.Warn("a node that is to become a member is not reached", "journal", w.ref.name, "node", m.ID, "addr", m.Addr, "err", err)
			}
		})
	}
	wg.Wait()
	return a
}

// reaches: the very storage answers, where the client would look for it if it were a member.
func (c *Client) reaches(ctx context.Context, m quorum.Member) error {
	n, err := c.conn(c.addrOf(m))
	if err != nil {
		return err
	}
	info, err := n.Info(ctx)
	switch {
	case err != nil:
		return err
	case info.ID != m.ID || info.Cluster != c.cluster:
		return fmt.Errorf("%w: another node answers there (got %s of cluster %x, want %s of %x)", ErrBadRequest, info.ID, info.Cluster, m.ID, c.cluster)
	case info.Incarnation != m.Incarnation:
		return &rpc.WrongNodeError{Node: m.ID, Got: m.Incarnation, Want: info.Incarnation}
	}
	return nil
}

// addrOf is where a node would be looked for if a config had the member.
func (c *Client) addrOf(m quorum.Member) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p, ok := c.addrs[m.ID]; ok && (m.Addr == "" || p.given && p.incarnation == m.Incarnation) {
		return p.addr
	}
	return m.Addr
}
