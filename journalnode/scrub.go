package journalnode

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/segments"
)

// scrubFileTime is how long the scrub takes for a segment at least, whatever Options.ScrubRate says: of a small one the
// opening costs more than the reading, and there may be very many.
const scrubFileTime = 30 * time.Millisecond

// scrubLog is what the scrub remembers of a journal, and why nothing has to be looked at before next: no segment came
// or went since.
type scrubLog struct {
	changes uint64
	next    time.Time
	done    []scrubbed // by first
}

type scrubbed struct {
	first segments.TxID
	at    int64 // unix nanoseconds
}

// since returns when a segment was read last; false: never.
func (l scrubLog) since(s segments.TxID) (time.Time, bool) {
	i, found := slices.BinarySearchFunc(l.done, s, func(d scrubbed, s segments.TxID) int { return cmp.Compare(d.first, s) })
	if !found {
		return time.Time{}, false
	}
	return time.Unix(0, l.done[i].at), true
}

// scrubLoop reads finalized segments in full, slowly, and reports what has rotted; repair then replaces
// it (A2).
func (n *Node) scrubLoop() {
	logs := map[segments.JournalID]scrubLog{}
	for {
		select {
		case <-time.After(min(n.opts.ScrubEvery, time.Minute)):
		case <-n.stopping:
			return
		}
		for _, o := range n.allOwners() {
			logs[o.j.ID()] = n.scrubJournal(o, logs[o.j.ID()])
		}
	}
}

// scrubJournal reads the segments of a journal that were not read for long.
func (n *Node) scrubJournal(o *owner, log scrubLog) scrubLog {
	now := time.Now()
	changes := o.j.Changes() // before the list: what comes meanwhile is seen the next time
	if changes == log.changes && now.Before(log.next) {
		return log
	}
	next := scrubLog{changes: changes, next: now.Add(n.opts.ScrubEvery)}
	for _, s := range o.j.FinalizedFirsts() {
		at, read := log.since(s)
		if !read || time.Since(at) >= n.opts.ScrubEvery {
			n.scrub(o, s)
			at = time.Now()
		}
		next.done = append(next.done, scrubbed{s, at.UnixNano()})
		if due := at.Add(n.opts.ScrubEvery); due.Before(next.next) {
			next.next = due
		}
	}
	return next
}

func (n *Node) scrub(o *owner, s segments.TxID) {
	slow := &slowReader{rate: n.opts.ScrubRate, stop: n.stopping}
	err := o.j.Verify(s, func(r io.ReaderAt) io.ReaderAt { slow.r = r; return slow })
	slow.wait(max(slow.owed, scrubFileTime-slow.waited))
	select {
	case <-n.stopping:
		return
	default:
	}
	if errors.Is(err, segments.ErrNotFound) {
		return // purged meanwhile
	}
	n.metrics.scrubbed.Inc()
	if err != nil {
		n.metrics.damages.Inc()
		o.log.Error("segment is damaged; it is unknown here until it is pulled from a peer", "segment", s, "err", err)
	}
}

// slowStep is for how long a slowReader reads before it waits: a wait costs more than a small read.
const slowStep = 16 * time.Millisecond

// slowReader reads at most rate bytes a second.
type slowReader struct {
	r      io.ReaderAt
	rate   int64
	stop   <-chan struct{}
	owed   time.Duration // for what was read and not waited for yet
	waited time.Duration
}

func (s *slowReader) ReadAt(b []byte, off int64) (int, error) {
	s.owed += time.Duration(int64(len(b)) * int64(time.Second) / s.rate)
	if s.owed >= slowStep && !s.wait(s.owed) {
		return 0, rpc.ErrClosed
	}
	return s.r.ReadAt(b, off)
}

// wait reports whether to go on.
func (s *slowReader) wait(d time.Duration) bool {
	s.owed, s.waited = 0, s.waited+d
	select {
	case <-time.After(d):
		return true
	case <-s.stop:
		return false
	}
}
