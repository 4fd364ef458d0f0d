package journalnode_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/testcluster"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/segments"
)

// stream opens a write stream to a node, starts the first segment, and lets beat decide what each heartbeat says.
func (b *bed) stream(i int, id segments.JournalID, h rpc.Header, beat func() rpc.WriteRequest) (asked chan rpc.Reach) {
	b.Helper()
	_, err := b.node(i).NewEpoch(b.ctx, h)
	require.NoError(b, err)
	s, err := b.node(i).Write(b.ctx, h)
	require.NoError(b, err)
	b.Cleanup(s.Close)
	first := beat()
	first.Start = &segments.End{}
	require.NoError(b, s.Send(first))
	asked = make(chan rpc.Reach, 100)
	go func() {
		for {
			r, err := s.Recv()
			if err != nil {
				return
			}
			if r.Reach != nil {
				asked <- *r.Reach
			}
		}
	}()
	ctx, cancel := context.WithCancel(b.ctx)
	b.Cleanup(cancel)
	go func() {
		for ctx.Err() == nil && s.Send(beat()) == nil {
			pass(time.Second)
		}
	}()
	return asked
}

// M6: a writer of an older version does not know the question. It is waited for, for a minute, and the change
// goes on then.
func TestM6_WriterThatNeverAnswers(t *testing.T) {
	run(t, testcluster.Options{Nodes: 4}, func(b *bed) {
		d := b.newDesk("m", 0, 1, 2)
		w := writerID()
		for i := range 3 {
			b.stream(i, d.id, b.header(i, d.id, 1, w), func() rpc.WriteRequest { return rpc.WriteRequest{} })
		}
		d.begin(0, 1, 3)
		began := time.Now()
		d.until("joint", 0, func(j catalog.Journal) bool { return j.Change.Stage == catalog.StageJoint })
		require.GreaterOrEqual(b, time.Since(began), time.Minute)
	})
}

// M6: the question goes to the writer that holds the promise, on each stream once; an answer counts as long as its
// writer does. Who is about to leave is not asked.
func TestM6_AskWriter(t *testing.T) {
	run(t, testcluster.Options{}, func(b *bed) {
		id := b.journal("j")
		ask := func(q uint64) rpc.WriterAnswer {
			a, err := b.node(0).AskWriter(b.ctx, rpc.AskWriterRequest{Journal: id, Reach: rpc.Reach{ID: q, Nodes: b.membersOf(1)}})
			require.NoError(b, err)
			return a
		}
		_, err := b.node(0).AskWriter(b.ctx, rpc.AskWriterRequest{Journal: id})
		require.ErrorIs(b, err, rpc.ErrBadRequest)
		require.Zero(b, ask(1), "nobody writes")

		h := b.header(0, id, 1, writerID())
		said := make(chan rpc.Reached, 1)
		asked := b.stream(0, id, h, func() (m rpc.WriteRequest) {
			select {
			case r := <-said:
				m.Reached = &r
			default:
			}
			return m
		})
		b.wait(time.Second)
		require.Equal(b, rpc.WriterAnswer{Writer: h.Claim}, ask(2))
		ask(2)
		b.wait(time.Second)
		require.Len(b, asked, 1)
		q := <-asked
		require.Equal(b, rpc.Reach{ID: 2, Nodes: b.membersOf(1)}, q)
		answer := rpc.Reached{ID: 2, Nodes: []rpc.ReachedNode{{Node: q.Nodes[0].Key(), Err: "refused"}}}
		said <- answer
		b.wait(2 * time.Second)
		require.Equal(b, rpc.WriterAnswer{Writer: h.Claim, Reached: answer}, ask(3))

		next := b.header(0, id, 2, writerID())
		leaving := b.stream(0, id, next, func() rpc.WriteRequest { return rpc.WriteRequest{Leaving: true} })
		b.wait(time.Second)
		require.Zero(b, ask(4), "the writer before holds no promise any more, and the next one leaves")
		require.Empty(b, leaving)
		st, err := b.node(0).State(b.ctx, id)
		require.NoError(b, err)
		require.Zero(b, st.SinceWriter, "nobody has to be waited for")
	})
}
