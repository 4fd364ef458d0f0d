package journalnode

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/membership"
)

const (
	// askEvery is how often the live writer is asked anew whether it reaches the learners (M6), and answerFresh how
	// old the question may be that its answer counts for.
	askEvery    = 2 * time.Second
	answerFresh = 10 * time.Second
	// answerPatience is how long a writer is waited for that was asked and gives no answer at all. One that knows
	// the question takes a few seconds at most, so it is of an older version: the change goes on as if there were
	// no such condition, and joint, which gives itself up (ChangePatience), is what is left.
	answerPatience = time.Minute
)

// asking is a driver's conversation with the live writer.
type asking struct {
	change uint64
	asked  []question    // the last ones, oldest first
	writer fencing.Claim // who is waited for
	since  time.Time     // since when, in vain; zero: it has answered
}

type question struct {
	id uint64
	at time.Time
}

// ask returns the question to ask now. Numbers are a leader's own: another one's answers mean nothing to it, so
// how old an answer is follows from one clock.
func (a *asking) ask(change uint64, now time.Time) uint64 {
	if a.change != change {
		*a = asking{change: change}
	}
	if n := len(a.asked); n == 0 {
		a.asked = []question{{rand.Uint64N(1<<62) + 1, now}}
	} else if last := a.asked[n-1]; now.Sub(last.at) >= askEvery {
		a.asked = append(a.asked, question{last.id + 1, now})
	}
	for now.Sub(a.asked[0].at) > answerFresh {
		a.asked = a.asked[1:]
	}
	return a.asked[len(a.asked)-1].id
}

func (a *asking) knows(id uint64) bool {
	return len(a.asked) > 0 && id >= a.asked[0].id && id <= a.asked[len(a.asked)-1].id
}

// inVain reports whether the writer has given no answer for answerPatience.
func (a *asking) inVain(w fencing.Claim, answered bool, now time.Time) bool {
	switch {
	case answered:
		a.writer, a.since = w, time.Time{}
	case a.writer != w:
		a.writer, a.since = w, now
	}
	return !a.since.IsZero() && now.Sub(a.since) >= answerPatience
}

// askWriter has the live writer asked by each of the old members that answers, while there are learners that it
// has to reach before they become members (M6).
func (d *driver) askWriter(ctx context.Context, v *membership.View) {
	ch := v.Journal.Change
	if ch == nil || ch.Stage != catalog.StageLearning || len(ch.Learners()) == 0 || !v.Live() {
		d.asking = asking{}
		return
	}
	req := rpc.AskWriterRequest{Journal: d.id, Reach: rpc.Reach{ID: d.asking.ask(ch.StartedIndex, time.Now()), Nodes: ch.Learners()}}
	answers := map[quorum.Key]rpc.WriterAnswer{}
	var mu sync.Mutex
	_ = d.each(ctx, v.Answering(ch.Old), func(ctx context.Context, m quorum.Member, p rpc.Node) error { // who does not say is asked again
		a, err := p.AskWriter(ctx, req)
		if err == nil {
			mu.Lock()
			answers[m.Key()] = a
			mu.Unlock()
		}
		return err
	})
	for key, a := range answers {
		r := v.Reports[key]
		r.Writer = a.Writer
		if d.asking.knows(a.Reached.ID) {
			r.Question = a.Reached.ID
			for _, x := range a.Reached.Nodes {
				r.Reached = append(r.Reached, membership.Reached{Node: x.Node, Err: x.Err})
			}
		}
		v.Reports[key] = r
	}
	if w, ok := v.Writer(); ok {
		v.Unanswered = d.asking.inVain(w, v.Answered(w), time.Now())
		if v.Unanswered {
			d.log.Warn("the writer does not say whether it reaches the new members: it is of an older version; the change goes on", "epoch", w.Epoch)
		}
	}
}
