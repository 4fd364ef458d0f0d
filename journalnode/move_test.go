package journalnode_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/libqjm"
)

// paused is a leader to whom something happens between a round's look and what it does next.
type paused struct {
	*desk
	barriers int
	then     func() error // instead of the second barrier of a round
}

func (p *paused) Barrier(context.Context) error {
	if p.barriers++; p.barriers == 2 && p.then != nil {
		return p.then()
	}
	return nil
}

// M9: a leader that was stopped between its look and its move, and leads no more, or looked too long ago, does
// not move: it would fence a writer that has come since.
func TestM9_NothingIsMovedOnAnOldView(t *testing.T) {
	for name, then := range map[string]func(d *desk) error{
		"deposed":           func(*desk) error { return rpc.ErrNoLeader },
		"stopped":           func(d *desk) error { d.wait(3 * time.Second); return nil },
		"somebody was here": func(d *desk) error { d.must(&catalog.Abort{Step: d.step(), Reason: "x"}); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, testcluster.Options{Nodes: 4}, func(b *bed) {
				d := b.newDesk("m", 0, 1, 2)
				w, err := b.Client().OpenWriter(b.ctx, "m", libqjm.WriterOptions{})
				require.NoError(b, err)
				_, err = w.Append(b.ctx, []byte("x"))
				require.NoError(b, err)
				require.NoError(b, w.Close(b.ctx))
				b.wait(time.Minute) // nobody is heard any more
				d.begin(0, 1, 3)
				p := &paused{desk: d, then: func() error { return then(d) }}
				round := b.Nodes[0].Driver(p, d.id)
				moving := func() bool {
					p.barriers = 0
					_, _ = round(b.ctx)
					return p.barriers == 2
				}
				b.Until(time.Minute, "the leader is about to move", moving)
				require.Equal(b, fencing.Epoch(1), d.promised(0), "nothing was promised")
				if name != "somebody was here" {
					p.then = nil
					b.Until(time.Minute, "it looks again", func() bool { return moving() && d.promised(0) == 2 })
				}
			})
		})
	}
}

func (d *desk) step() catalog.Step {
	j, _ := d.Journal(d.id)
	return catalog.Step{Target: d.target(), Change: j.Change.StartedIndex}
}

func (d *desk) promised(i int) fencing.Epoch {
	st, err := d.Nodes[i].State(d.ctx, d.id)
	require.NoError(d, err)
	return st.Promised.Epoch
}
