package simtest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/internal/vfs/faultfs"
	"github.com/quorumjournal/qjm/internal/vfs/memfs"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/journalnode/snapshots"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

const dir = "j"

var journalOptions = journal.Options{Store: store.Options{PreallocateBytes: 8 << 10, PreallocateBytesMax: 8 << 10}, Snapshots: snapshots.Options{BlockBytes: blockBytes}}

// simNode is a machine: a disk, and while it is up, the real journal on it.
type simNode struct {
	w          *world
	at         int
	member     quorum.Member
	disk       *memfs.FS
	fault      *faultfs.FS
	j          *journal.Journal // nil while down
	off        bool             // for good
	heard      int64            // when a writer's message came last
	none       bool             // up, without the journal: it never had it
	life       int              // counts restarts: what belongs to another life is ignored
	inbox      []journal.Item   // messages of write streams that wait for the owner
	owner      bool             // the owner is about to run
	applied    int              // of the catalog's log: what it knows to be listed
	deaf       int64            // until when it applies nothing of the catalog's log
	learnUntil int64            // it copies, though it is no member
	seen       int64            // disk operations the oracle has looked at

	incarnation quorum.Incarnation // of the disk that is in there now (N1)
	opening     bool
	full        bool
	sick        bool // an upload is poisoned, until a restart (P5)
	wiped       bool
	rotten      bool                // its disk rotted once
	latent      bool                // a copy rotted that is not in place yet
	damaged     bool                // it may lack what it had synced
	owes        []segments.Position // what it had when it was damaged
}

func newSimNode(w *world, at int, m quorum.Member) *simNode {
	n := &simNode{w: w, at: at, member: m, disk: memfs.New(), incarnation: m.Incarnation}
	if w.members.Has(m.ID, m.Incarnation) {
		n.create()
	}
	n.start()
	w.after(100+w.rng.Int64N(300), n.tick)
	return n
}

// create makes the journal on an empty disk.
func (n *simNode) create() {
	n.w.try(errors.Join(journal.Create(n.disk, dir, n.w.journal, "sim", n.w.members), n.disk.SyncDir(".")))
}

func (n *simNode) start() {
	n.fault = faultfs.New(n.disk)
	if n.none = !hasJournal(n.disk); n.none {
		n.life++
		return
	}
	n.w.open(n.disk)
	n.opening = true
	j, err := journal.Open(n.lacking(n.fault), dir, n.self(), n.w.journal, journalOptions)
	n.opening = false
	if errors.Is(err, vfs.ErrNoSpace) {
		n.w.note("n%d has no room to start", n.at+1)
		n.w.after(100, n.restart)
		return
	}
	if err != nil {
		n.w.fail(fmt.Errorf("n%d does not open: %w", n.at+1, err))
		return
	}
	n.j = j
	n.life++
	if n.w.cfg.Snapshots {
		n.applied = n.w.rng.IntN(n.applied + 1) // of the log it applies again what it knows to be decided
	}
	if a := j.State().Answer; a.Copy.CutAt != nil {
		n.w.result.TornTails++
	}
	n.inbox, n.owner, n.sick, n.learnUntil = nil, false, false, 0
}

func (n *simNode) self() journal.Self {
	return journal.Self{ID: n.member.ID, Incarnation: n.incarnation}
}

// buryIfDead notices that the machine died during the last step.
func (n *simNode) buryIfDead() {
	if (n.j != nil || n.none) && n.fault.Crashed() {
		n.die(n.w.rng.IntN(4) == 0)
	}
}

// die decides what the disk keeps: all where only the process died; where the power failed, each unsynced
// sector and each unsynced rename, creation and removal by itself, with a chance that differs from crash
// to crash (memfs: M2, M4).
func (n *simNode) die(process bool) {
	w, old := n.w, n.disk
	w.result.Crashes++
	n.j, n.inbox, n.none = nil, nil, false
	n.seen = -1
	if process {
		n.disk = old.ProcessCrashClone()
		w.note("n%d died, its page cache lives", n.at+1)
	} else {
		percent := []int{0, 100, 1 + w.rng.IntN(99), 1 + w.rng.IntN(99)}[w.rng.IntN(4)]
		n.disk = old.CrashClone(memfs.CrashOptions{UnsyncedPercent: percent, Rand: w.rng})
		w.note("n%d lost power, %d %% of the unsynced kept", n.at+1, percent)
		if lostRename(old, n.disk) {
			w.result.LostRenames++
		}
	}
	w.after(20+w.rng.Int64N(300), n.restart)
}

func (n *simNode) restart() {
	if n.j == nil && !n.none && !n.off {
		n.w.note("n%d starts", n.at+1)
		n.start()
	}
}

// handle runs f against the journal, as the owner would, and delivers what it answers only if the
// machine lived through it.
func (n *simNode) handle(f func(*journal.Journal) func()) {
	if n.j == nil {
		return
	}
	answer := f(n.j)
	if n.fault.Crashed() {
		n.buryIfDead()
		return
	}
	if answer != nil {
		answer()
	}
}

// call is a unary request: serve runs on the node, then done at the caller, with its error. A request
// that is not answered in time fails. done may run more than once, as the network repeats.
func call[T any](w *world, from int, n *simNode, what string, serve func(*journal.Journal, func(T, error)), done func(T, error)) {
	answered := false
	w.send(from, n.at, func() {
		if n.none {
			w.send(n.at, from, func() { answered = true; var zero T; done(zero, rpc.ErrNoJournal) })
			return
		}
		n.handle(func(j *journal.Journal) func() {
			life := n.life
			var out func()
			async := false
			serve(j, func(v T, err error) {
				out = func() {
					if n.life != life || n.j == nil {
						return
					}
					w.note("%s at n%d for %d: %v", what, n.at+1, from, err)
					w.send(n.at, from, func() { answered = true; done(v, err) })
				}
				if async {
					out()
				}
			})
			async = true
			return out
		})
	})
	w.after(timeout, func() {
		if !answered {
			answered = true
			var zero T
			done(zero, rpc.ErrUnavailable)
		}
	})
}

// deliver queues a message of a write stream for the owner, which takes whatever has come together.
func (n *simNode) deliver(it journal.Item) {
	if n.j == nil {
		return
	}
	n.heard = n.w.now
	n.inbox = append(n.inbox, it)
	if n.owner {
		return
	}
	n.owner = true
	life := n.life
	n.w.after(n.w.rng.Int64N(5), func() {
		if n.life != life || n.j == nil {
			return
		}
		n.owner = false
		items := n.inbox
		n.inbox = nil
		n.handle(func(j *journal.Journal) func() { j.Process(items); return nil })
	})
}

// accept is the node's half of Accept: fetch from sources where needed, one after the other.
func (n *simNode) accept(j *journal.Journal, h rpc.Header, req recovery.AcceptRequest, reply func(struct{}, error)) {
	req.Claim = h.Claim
	plan, err := j.BeginAccept(h, req)
	if err != nil || !plan.Fetch {
		reply(struct{}{}, err)
		return
	}
	life := n.life
	n.fetch(req.Sources, rpc.ReadRequest{
		Journal: h.Journal, Segment: req.End.First, From: req.End.First, UpTo: req.End.Last, Durable: true, Epoch: req.Epoch,
	}, func(frames []segments.Frame, err error) {
		if n.life != life || n.j == nil {
			return
		}
		n.handle(func(j *journal.Journal) func() {
			for _, f := range frames {
				if err == nil {
					err = plan.Incoming.Append(f)
				}
			}
			if err != nil {
				_ = plan.Incoming.Abort() // a temporary
			} else {
				err = j.FinishAccept(h, req, plan.Incoming)
			}
			return func() { reply(struct{}{}, err) }
		})
	})
}

// fetch reads frames from the first source that serves them.
func (n *simNode) fetch(sources []quorum.NodeID, req rpc.ReadRequest, done func([]segments.Frame, error)) {
	if len(sources) == 0 {
		done(nil, rpc.ErrNoSource)
		return
	}
	src := n.w.node(sources[0])
	if src == n {
		n.fetch(sources[1:], req, done)
		return
	}
	over := false
	call(n.w, n.at, src, "read", func(j *journal.Journal, reply func([]byte, error)) {
		var b []byte
		err := j.Read(context.Background(), req, func(c rpc.Chunk) error { b = append(b, c.Frames...); return nil })
		reply(b, err)
	}, func(b []byte, err error) {
		if over {
			return
		}
		over = true
		frames, perr := segments.ParseFrames(b)
		if err = errors.Join(err, perr); err != nil || len(frames) == 0 {
			n.fetch(sources[1:], req, done)
			return
		}
		done(frames, nil)
	})
}

// tick is the node's background: marks and floors when quiet, scrub and anti-entropy.
func (n *simNode) tick() {
	w := n.w
	defer w.after(100+w.rng.Int64N(200), n.tick)
	if n.j == nil || n.poisonedRestart() || n.wiped && w.cfg.Broken != RuleN1 {
		return
	}
	n.handle(func(j *journal.Journal) func() {
		if err := j.Quiet(); err != nil && !n.fault.Crashed() && !errors.Is(err, rpc.ErrPoisoned) {
			w.fail(err)
		}
		n.scrub()
		return nil
	})
	if n.j == nil {
		return
	}
	if n.keepsData() {
		sources := n.sources()
		if peer := sources[w.rng.IntN(len(sources))]; peer != n {
			n.repairFrom(peer)
		}
	}
	n.keepSnapshots()
}

// keepsData: it is a member, or a learner under way (M8).
func (n *simNode) keepsData() bool {
	return !n.w.cfg.Changes || n.j.Config().Has(n.member.ID, n.incarnation) || n.w.now <= n.learnUntil
}

// sources are the members of the config that is installed here.
func (n *simNode) sources() []*simNode {
	if !n.w.cfg.Changes {
		return n.w.nodes
	}
	var all []*simNode
	for _, x := range n.w.nodes {
		if slices.ContainsFunc(n.j.Config().Members(), func(m quorum.Member) bool { return m.ID == x.member.ID }) {
			all = append(all, x)
		}
	}
	return all
}

// repairFrom pulls one finalized segment that this node lacks, or cannot read (A1, A2).
func (n *simNode) repairFrom(peer *simNode) {
	life := n.life
	call(n.w, n.at, peer, "list", func(j *journal.Journal, reply func(rpc.SegmentsPage, error)) {
		reply(j.SegmentsAfter(0, 0), nil)
	}, func(theirs rpc.SegmentsPage, err error) {
		if err != nil || n.life != life || n.j == nil {
			return
		}
		have := map[segments.TxID]bool{}
		for _, s := range n.j.Segments() {
			have[s.First] = s.State == recovery.Finalized
		}
		point := max(theirs.Purged.TxID, n.j.Purged().TxID) // A1: nothing at or below it
		for _, s := range theirs.Segments {
			if s.Last.TxID <= point && s.First <= point {
				continue
			}
			if s.State == recovery.Finalized && !have[s.First] {
				n.pull(peer, s, life)
				return
			}
		}
	})
}

func (n *simNode) pull(peer *simNode, s rpc.SegmentInfo, life int) {
	end := segments.End{First: s.First, Last: s.Last.TxID, Digest: s.Last.Digest}
	n.fetch([]quorum.NodeID{peer.member.ID}, rpc.ReadRequest{Journal: n.w.journal, Segment: s.First, From: s.First, UpTo: end.Last},
		func(frames []segments.Frame, err error) {
			if err != nil || n.life != life || n.j == nil {
				return
			}
			n.handle(func(j *journal.Journal) func() {
				inc, err := j.NewIncoming(s.Prev, s.Epoch)
				for _, f := range frames {
					if err == nil {
						err = inc.Append(f)
					}
				}
				if err == nil {
					err = j.InstallFinalized(inc, end)
				}
				n.w.note("n%d pulls %s from n%d: %v", n.at+1, end, peer.at+1, err)
				return nil
			})
		})
}

func (w *world) node(id quorum.NodeID) *simNode {
	for _, n := range w.nodes {
		if n.member.ID == id {
			return n
		}
	}
	panic("simtest: no node " + id) // a bug of the simulation itself
}
