package journalnode

import (
	"context"

	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/segments/store"
)

// A copy that is being fetched is a temporary on the disk, and must go when nobody finishes it. The owner
// makes it, a request fills it, the owner takes it; the request's context may end in between, and then what
// the owner did meanwhile is told to nobody. So the request leaves a task behind its own one, which the owner
// handles after it.

// begin runs f in the owner; a copy that it makes for a caller who is gone is thrown away.
func (n *Node) begin(ctx context.Context, o *owner, f func(*journal.Journal) (*store.Incoming, error)) (*store.Incoming, error) {
	var made *store.Incoming // written by the owner; read by it, or after it said that it is done
	_, err := ask(ctx, o, func(j *journal.Journal) (struct{}, error) {
		var err error
		made, err = f(j)
		return struct{}{}, err
	})
	if err != nil {
		n.later(o, func() error {
			if made == nil {
				return nil
			}
			return made.Abort()
		})
		return nil, err
	}
	return made, nil
}

// finish hands a copy over to the owner; if f is never run, it is thrown away.
func (n *Node) finish(ctx context.Context, o *owner, inc *store.Incoming, f func(*journal.Journal) error) error {
	taken := false // the owner's
	err := o.do(ctx, func(j *journal.Journal) error { taken = true; return f(j) })
	if err != nil {
		n.later(o, func() error {
			if taken {
				return nil
			}
			return inc.Abort()
		})
	}
	return err
}

// abort throws a copy away.
func (n *Node) abort(o *owner, inc *store.Incoming) { n.later(o, inc.Abort) }

// later leaves a task with the owner and does not wait until it is done. It is run when the node stops, too.
func (n *Node) later(o *owner, f func() error) {
	ctx, cancel := n.context(n.opts.PeerTimeout)
	defer cancel()
	t := task{do: func(*journal.Journal) {
		if err := f(); err != nil {
			o.log.Warn("a temporary stays until the journal is opened again", "err", err)
		}
	}}
	select {
	case o.tasks <- t:
	case <-o.stop:
	case <-ctx.Done():
	}
}
