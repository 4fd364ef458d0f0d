package journalnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// repairLog is what the repair loop remembers of a journal.
type repairLog struct {
	next     time.Time // not before
	failures int
	round    uint64  // of the holdings that were looked at last
	inOrder  matched // the last comparison that found nothing
}

// comparesMax bounds how many journals are compared in one round of repair, of those that have news. After a start all
// have: each list is made of every file of a journal, here and at the peers, and there is other work then.
const comparesMax = 100

// repairLoop is anti-entropy (A0, A1): it pulls finalized segments that this node lacks, has only
// unfinished, or cannot read, and whole journals that it missed the creation or the deletion of. It
// never shortens or deletes anything because a peer does not have it.
func (n *Node) repairLoop() {
	tick := time.NewTicker(n.opts.RepairEvery)
	defer tick.Stop()
	var learned time.Time
	missed, told := map[segments.JournalID]bool{}, &holdings{}
	start := 0 // where the next round begins: what is constantly news to one must not keep the others from their turn
	for {
		select {
		case <-tick.C:
		case <-n.stopping:
			return
		}
		if time.Since(learned) >= n.opts.CompareEvery && n.admitted() == nil {
			round := told.round + 1
			missed, told = n.learnJournals(missed)
			told.round, learned = round, time.Now()
		}
		owners, left := n.allOwners(), comparesMax
		for i := range owners {
			at := (start + i) % len(owners)
			if n.repairOnce(owners[at], told, left > 0) {
				if left--; left == 0 {
					start = at + 1
				}
			}
		}
	}
}

// allOwners lists them by id. The list is shared: it is asked for several times a second, and hardly ever changes.
func (n *Node) allOwners() []*owner {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ordered == nil {
		n.ordered = slices.SortedFunc(maps.Values(n.owners), func(a, b *owner) int {
			x, y := a.j.ID(), b.j.ID()
			return bytes.Compare(x[:], y[:])
		})
	}
	return n.ordered
}

// repairOnce looks after one journal, if it is time, and reports whether it was compared with the peers. Where it may
// not be now, it is later.
func (n *Node) repairOnce(o *owner, told *holdings, mayCompare bool) bool {
	id := o.j.ID()
	log := n.tries[id] // only this loop touches it
	now := time.Now()
	incomplete, unheard := o.j.Incomplete(), mayCompare && log.round != told.round
	if !incomplete && !unheard || now.Before(log.next) {
		return false
	}
	s := o.j.Summary()
	if s.Deleted || !s.Config.Has(n.opts.ID, o.j.Self().Incarnation) && now.UnixNano() > o.learnUntil.Load() {
		return false // it has left, and keeps nothing but config and promise (M8)
	}
	var with matched
	compare := false
	if unheard {
		log.round, with = told.round, told.of(n.opts.ID, id, s.Config, o.holding())
		compare = with.news(log.inOrder)
		n.tries[id] = log
	}
	if !incomplete && !compare {
		return false
	}
	ask := n.sources(o)
	if !incomplete {
		ask = slices.DeleteFunc(ask, func(p quorum.NodeID) bool { _, in := with.peers[p]; return !in })
	}
	if len(ask) == 0 {
		return false
	}
	ctx, cancel := n.context(n.opts.ScrubEvery)
	defer cancel()
	inOrder, err := n.repair(ctx, o, ask)
	select {
	case <-n.stopping:
		return compare // what failed says nothing: this node ended it
	default:
	}
	if compare && inOrder {
		log.inOrder = with
	}
	n.tries[id] = log.after(err, now, n.opts)
	if err != nil {
		level := slog.LevelDebug
		if n.tries[id].failures == 1 { // said once, not with each try
			level = slog.LevelWarn
		}
		o.log.Log(ctx, level, "repair is not complete and will be tried again", "err", err)
	}
	return compare
}

// after says when the next try is.
func (l repairLog) after(err error, now time.Time, opts Options) repairLog {
	l.next = time.Time{}
	if err == nil {
		l.failures = 0
		return l
	}
	l.failures++
	l.next = now.Add(min(opts.RepairEvery<<min(l.failures, 6), opts.CompareEvery))
	return l
}

// finalizedCopy is a finalized segment as a peer has it.
type finalizedCopy struct {
	info    rpc.SegmentInfo
	sources []quorum.NodeID
}

// repair compares with the peers, and pulls what is missing, oldest first. It reports whether there was nothing to do,
// and nothing that nobody could tell.
func (n *Node) repair(ctx context.Context, o *owner, ask []quorum.NodeID) (inOrder bool, err error) {
	own, err := rpc.WholeList(ctx, o.j.ID(), n.Segments)
	if err != nil {
		return false, err
	}
	theirs, inOrder, err := n.peersFinalized(ctx, o, own, ask)
	for _, c := range theirs {
		if ctx.Err() != nil {
			return false, errors.Join(err, context.Cause(ctx))
		}
		if perr := n.pull(ctx, o, c); perr != nil { // the others do not rest on it
			err = errors.Join(err, fmt.Errorf("segment %d: %w", c.info.First, perr))
		}
	}
	return inOrder && err == nil, err
}

// unpurged returns what is to be compared of a list: nothing at or below a purge point, of its own or of the
// node that compares (A1). That was decided, and is covered by a snapshot.
func unpurged(page rpc.SegmentsPage, own segments.Position) []rpc.SegmentInfo {
	point := max(page.Purged.TxID, own.TxID)
	return slices.DeleteFunc(page.Segments, func(s rpc.SegmentInfo) bool { return s.Last.TxID <= point && s.First <= point })
}

// peersFinalized asks the peers for their finalized segments and compares. It reports whether all could be told, and
// agreed.
func (n *Node) peersFinalized(ctx context.Context, o *owner, own rpc.SegmentsPage, ask []quorum.NodeID) (pull []finalizedCopy, inOrder bool, err error) {
	lists := map[quorum.NodeID][]rpc.SegmentInfo{n.opts.ID: unpurged(own, own.Purged)}
	var errs []error
	cfg := o.j.Summary().Config
	for _, id := range ask {
		infos, err := n.listOf(ctx, id, o.j.ID())
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", id, err))
			continue
		}
		lists[id] = unpurged(infos, own.Purged)
	}
	found := compareFinalized(n.opts.ID, cfg, lists)
	for i := range found.diverging {
		n.metrics.divergences.Inc()
		o.log.Error("finalized copies diverge", "err", &found.diverging[i])
	}
	for i := range found.quarantine {
		q := &found.quarantine[i]
		n.metrics.divergences.Inc()
		o.log.Error("a majority finalized this segment with another end: the copy here is set aside", "segment", q.Segment, "err", q)
		errs = append(errs, o.do(ctx, func(j *journal.Journal) error { return j.Quarantine(q.Segment) }))
	}
	return found.pull, found.nothing() && readable(lists) && len(errs) == 0, errors.Join(errs...)
}

// readable: nobody has a segment that it cannot tell the end of. It may be able to later, and says nothing then.
func readable(lists map[quorum.NodeID][]rpc.SegmentInfo) bool {
	for _, list := range lists {
		if slices.ContainsFunc(list, func(s rpc.SegmentInfo) bool { return s.State == recovery.Unknown }) {
			return false
		}
	}
	return true
}

// comparison is what follows from all nodes' lists of finalized segments.
type comparison struct {
	pull       []finalizedCopy            // missing or unreadable here, oldest first
	quarantine []recovery.DivergenceError // held here with an end that a majority contradicts (R2)
	diverging  []recovery.DivergenceError // nobody may choose: seen and named (A1, A2)
}

func (c comparison) nothing() bool { return len(c.pull)+len(c.quarantine)+len(c.diverging) == 0 }

// compareFinalized is anti-entropy's decision as a pure function. A segment that all agree on is pulled
// where it is missing. Where ends differ, one that a majority of the members holds is the decided one: a
// minority copy is quarantined, here, by its own node. Without such a majority nothing is touched.
func compareFinalized(self quorum.NodeID, cfg quorum.Config, lists map[quorum.NodeID][]rpc.SegmentInfo) comparison {
	type copies map[segments.Position]*finalizedCopy
	bySegment := map[segments.TxID]copies{}
	for _, id := range slices.Sorted(maps.Keys(lists)) {
		for _, s := range lists[id] {
			if s.State != recovery.Finalized {
				continue
			}
			if bySegment[s.First] == nil {
				bySegment[s.First] = copies{}
			}
			if bySegment[s.First][s.Last] == nil {
				bySegment[s.First][s.Last] = &finalizedCopy{info: s}
			}
			c := bySegment[s.First][s.Last]
			c.sources = append(c.sources, id)
		}
	}
	var out comparison
	for _, s := range slices.Sorted(maps.Keys(bySegment)) {
		var decided *finalizedCopy
		mine := false
		diverging := recovery.DivergenceError{Segment: s, What: "finalized copies differ"}
		for _, c := range bySegment[s] {
			mine = mine || slices.Contains(c.sources, self)
			if len(bySegment[s]) == 1 || cfg.Majority(func(m quorum.Member) bool { return slices.Contains(c.sources, m.ID) }) {
				decided = c
			}
			for _, id := range c.sources {
				diverging.Nodes, diverging.Ends = append(diverging.Nodes, id), append(diverging.Ends, c.info.Last)
			}
		}
		switch {
		case decided == nil:
			out.diverging = append(out.diverging, diverging)
		case !mine:
			out.pull = append(out.pull, *decided)
		case !slices.Contains(decided.sources, self):
			out.quarantine = append(out.quarantine, diverging)
		}
	}
	return out
}

func (n *Node) listOf(ctx context.Context, id quorum.NodeID, j segments.JournalID) (rpc.SegmentsPage, error) {
	peer, err := n.peers.node(id)
	if err != nil {
		return rpc.SegmentsPage{}, err
	}
	return rpc.WholeList(ctx, j, func(ctx context.Context, req rpc.SegmentsRequest) (rpc.SegmentsPage, error) {
		ctx, cancel := context.WithTimeout(ctx, n.opts.PeerTimeout) // of each page
		defer cancel()
		return peer.Segments(ctx, req)
	})
}

// pull copies one finalized segment, verified frame by frame, and puts it in place.
func (n *Node) pull(ctx context.Context, o *owner, c finalizedCopy) error {
	end := segments.End{First: c.info.First, Last: c.info.Last.TxID, Digest: c.info.Last.Digest}
	inc, err := n.begin(ctx, o, func(j *journal.Journal) (*store.Incoming, error) {
		return j.NewIncoming(c.info.Prev, c.info.Epoch)
	})
	if err != nil {
		return err
	}
	errs := []error{rpc.ErrNoSource}
	for _, src := range c.sources {
		if inc.Position() == end.Position() {
			break
		}
		err := n.readFrom(ctx, src, rpc.ReadRequest{
			Journal: o.j.ID(), Segment: end.First, From: inc.Position().TxID + 1, UpTo: end.Last,
		}, func(frames []segments.Frame) error {
			for _, f := range frames {
				if f.Last() <= inc.Position().TxID {
					continue
				}
				if err := inc.Append(f); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", src, err))
		}
	}
	if inc.Position() != end.Position() {
		n.abort(o, inc)
		return errors.Join(errs...)
	}
	if err := n.finish(ctx, o, inc, func(j *journal.Journal) error { return j.InstallFinalized(inc, end) }); err != nil {
		return err
	}
	n.metrics.repaired.Inc()
	o.log.Info("segment pulled from a peer", "segment", end, "sources", c.sources)
	return nil
}
