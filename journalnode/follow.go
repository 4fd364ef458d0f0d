package journalnode

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/quorumjournal/qjm/internal/snapshot"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/journalnode/snapshots"
	"github.com/quorumjournal/qjm/segments"
)

// keeping is what the applied catalog says of how a journal's log and snapshots are kept on this node. There
// is no other way in: what is listed decides what is purged (C2).
type keeping struct {
	listed []snapshots.Snapshot // oldest first
	policy snapshot.Policy
	margin snapshots.Margin
	pins   []snapshots.Pin
	quota  uint64
}

// keptBy is the last one that was applied; never nil.
type keptBy struct{ p atomic.Pointer[keeping] }

func (k *keptBy) get() keeping { return *k.p.Load() }

// keepingOf reads a journal of the catalog. Where its policy says nothing of what is retained, the node's own
// margin holds.
func keepingOf(j catalog.Journal, margin snapshots.Margin) keeping {
	k := keeping{listed: listedOf(j), pins: pinsOf(j.Change), margin: margin, quota: j.Quota, policy: snapshot.Policy{
		Bytes: clamp(j.Policy.SnapshotBytes), Txns: clamp(j.Policy.SnapshotTxns),
		IntervalMillis: clamp(j.Policy.SnapshotIntervalMillis), Growth: int(min(j.Policy.SnapshotGrowthPercent, 1<<30)),
	}}
	if p := j.Policy; p.RetainTxns > 0 || p.RetainBytes > 0 {
		k.margin = snapshots.Margin{Txns: clamp(p.RetainTxns), Bytes: clamp(p.RetainBytes)}
	}
	return k
}

func clamp(n uint64) int64 { return int64(min(n, 1<<62)) }

// listedOf returns a journal's listed snapshots, oldest first. One that no node could hold is none.
func listedOf(j catalog.Journal) []snapshots.Snapshot {
	var out []snapshots.Snapshot
	for _, s := range j.Snapshots {
		x := snapshots.Snapshot{TxID: s.TxID, At: s.FrameLast, Size: clamp(s.Size), Checksum: s.Checksum, Epoch: s.Epoch}
		if x.Validate() == nil {
			out = append(out, x)
		}
	}
	slices.SortFunc(out, func(a, b snapshots.Snapshot) int { return cmp.Compare(a.TxID, b.TxID) })
	return out
}

// pinsOf: while learners are under way, and until the config is final, all of the log that is there is kept for
// them (C2), as far as Options.PinBytesMax goes. How far each of them is, nobody has to be asked: a change
// comes to an end.
func pinsOf(ch *catalog.Change) []snapshots.Pin {
	if ch == nil || ch.Stage >= catalog.StageFinal {
		return nil
	}
	var pins []snapshots.Pin
	for _, m := range ch.Learners() {
		pins = append(pins, snapshots.Pin{Node: string(m.ID), From: 1})
	}
	return pins
}

// followCatalog takes over what changed in the applied catalog since the last time.
func (n *Node) followCatalog() {
	if !n.awaitCopy() { // purges rest on it
		return
	}
	n.followMu.Lock()
	defer n.followMu.Unlock()
	var changed []catalog.Journal
	n.readCatalog(func(c *catalog.Catalog) { changed, n.followed = c.Changed(n.followed), c.Index() })
	for _, j := range changed {
		if o := n.opened(j.ID); o != nil {
			n.follow(o, j)
		}
	}
}

// followOne does so for a journal that was just opened.
func (n *Node) followOne(o *owner) {
	n.followMu.Lock()
	defer n.followMu.Unlock()
	if !n.copyStands() {
		n.followed = 0 // followCatalog waits for it, and takes all then
		return
	}
	var j catalog.Journal
	var ok bool
	n.readCatalog(func(c *catalog.Catalog) { j, ok = c.Journal(o.j.ID()) })
	if ok {
		n.follow(o, j)
	}
}

// follow is called with followMu held: what comes last is the newest.
func (n *Node) follow(o *owner, j catalog.Journal) {
	k := keepingOf(j, n.opts.Retain)
	o.kept.p.Store(&k)
	o.j.SetListed(k.listed)
	o.j.SetQuota(k.quota)
	n.wakeSnapshots(o.j.ID())
}

// opened returns a journal's owner if it was opened already.
func (n *Node) opened(id segments.JournalID) *owner {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.owners[id]
}

// freshMark is how old what a node knows of its log may be: what came since may not be applied yet. While leases are renewed
// something always is just coming.
const freshMark = time.Second

// catalogFresh: the group has a leader, and everything that was in this node's log a moment ago was applied and taken over. A node that
// has just been started has applied nothing yet. One whose log lags behind cannot tell: it says what it knows. Renewals
// of leases are not taken over: nothing hangs on them here.
func (n *Node) catalogFresh() bool {
	g, err := n.control.member()
	if err != nil {
		return false
	}
	st := g.Stats()
	news := n.control.machine.toFollow()
	n.followMu.Lock()
	defer n.followMu.Unlock()
	if now := time.Now(); now.Sub(n.logAt) > freshMark {
		n.logAt, n.logWas = now, st.LastLog
	}
	return st.Leader != "" && st.Applied >= n.logWas && st.MachinePending == 0 && news > 0 && n.followed >= news
}
