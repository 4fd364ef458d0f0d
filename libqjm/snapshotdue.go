package libqjm

import (
	"context"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/snapshot"
	"github.com/quorumjournal/qjm/recovery"
)

// SnapshotPolicy says when a writer's program is asked for a snapshot, or a Replica saves one. Whichever condition is met
// first counts; zero switches one off; nothing is due without a new transaction. Its fields:
//
//	Bytes          int64 // of log since the last snapshot
//	Txns           int64 // since the last snapshot
//	IntervalMillis int64 // since the last snapshot
//	Growth         int   // bytes of log since the last snapshot, in percent of that snapshot's size
type SnapshotPolicy = snapshot.Policy

// SnapshotReason says which condition of a policy was met: its String is "bytes", "txns", "growth" or "interval".
type SnapshotReason = snapshot.Reason

const (
	// snapshotTick is how often a writer looks whether a snapshot is due.
	snapshotTick = time.Second
	// snapshotNewsTicks is after how many ticks it asks the nodes anew what is listed, and for the journal's policy.
	snapshotNewsTicks = 10
)

// progress is what a writer remembers of the last snapshot, or of when it last asked for one.
type progress struct {
	policy SnapshotPolicy // the journal's own
	listed TxID           // the newest snapshot that is known to be listed
	txid   TxID
	bytes  int64 // of Writer.appended; below zero: what was there before the writer came
	when   time.Time
	size   int64 // of the newest listed snapshot; 0: none is known
}

// askForSnapshots asks the program for a snapshot when the policy says so. It never takes one by itself, and
// asks again when as much has come once more.
func (w *Writer) askForSnapshots() {
	w.mu.Lock()
	w.since.when, w.since.txid = time.Now(), w.firstTxID-1 // until the nodes tell
	w.mu.Unlock()
	tick := time.NewTicker(snapshotTick)
	defer tick.Stop()
	for n := 0; ; n++ {
		if n%snapshotNewsTicks == 0 {
			w.hearOfSnapshots(n == 0)
		}
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			return
		}
		if reason, due := w.snapshotDue(); due {
			w.opts.OnSnapshotDue(reason)
		}
	}
}

// hearOfSnapshots asks the nodes for the journal's policy and for what is listed. Whoever saved that: what is due
// counts from there.
func (w *Writer) hearOfSnapshots(first bool) {
	w.mu.Lock()
	ref := w.ref
	w.mu.Unlock()
	var newest rpc.SnapshotList
	heard := false
	askMembers(w.ctx, w.c, ref.cfg.Members(), func(ctx context.Context, n rpc.Node, _ quorum.Member) (rpc.SnapshotList, error) {
		return n.Snapshots(ctx, ref.id)
	}, func(r reply[rpc.SnapshotList]) bool {
		if r.err == nil && (!heard || newestOf(r.val.Listed).TxID > newestOf(newest.Listed).TxID) {
			newest, heard = r.val, true
		}
		return false
	})
	if !heard {
		return
	}
	before := int64(0)
	if first {
		before = w.logBehind(ref, newestOf(newest.Listed).TxID)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since.policy = newest.Policy
	switch snap := newestOf(newest.Listed); {
	case first:
		w.since.listed, w.since.size, w.since.txid, w.since.bytes = snap.TxID, snap.Size, snap.TxID, -before
	case snap.TxID > w.since.listed:
		w.countFrom(snap)
	}
}

// countFrom counts what is due from a snapshot on. It may have taken a while, and the log went on meanwhile: what came
// behind it counts. How many bytes that is follows from the mean since the last count. The caller holds mu.
func (w *Writer) countFrom(snap Snapshot) {
	committed, bytes := w.core.Committed().TxID, w.in.bytes()
	if behind, since := int64(committed)-int64(snap.TxID), int64(committed)-int64(w.since.txid); behind > 0 && since > 0 {
		bytes -= int64(float64(bytes-w.since.bytes) * float64(min(behind, since)) / float64(since))
	}
	w.since.listed, w.since.size, w.since.txid = max(w.since.listed, snap.TxID), snap.Size, max(snap.TxID, w.since.txid)
	w.since.bytes, w.since.when = bytes, time.Now()
}

func newestOf(listed []Snapshot) Snapshot {
	if len(listed) == 0 {
		return Snapshot{}
	}
	return listed[len(listed)-1]
}

// logBehind returns how many bytes of finalized segments there are behind a txid, by the node that has most.
func (w *Writer) logBehind(ref journalRef, txid TxID) (most int64) {
	askMembers(w.ctx, w.c, ref.cfg.Members(), func(ctx context.Context, n rpc.Node, _ quorum.Member) ([]rpc.SegmentInfo, error) {
		return rpc.AllSegments(ctx, ref.id, n.Segments)
	}, func(r reply[[]rpc.SegmentInfo]) bool {
		sum := int64(0)
		for _, s := range r.val {
			if s.State == recovery.Finalized && s.Last.TxID > txid {
				sum += s.Bytes
			}
		}
		most = max(most, sum)
		return false
	})
	return most
}

// snapshotDue judges by the writer's own policy, or by the journal's where it has none.
func (w *Writer) snapshotDue() (SnapshotReason, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	policy := w.opts.SnapshotPolicy
	if policy == (SnapshotPolicy{}) {
		policy = w.since.policy
	}
	if policy == (SnapshotPolicy{}) {
		policy = w.opts.lastPolicy
	}
	committed := w.core.Committed().TxID
	due, reason := snapshot.Due(policy, snapshot.Progress{
		Bytes: w.in.bytes() - w.since.bytes, Txns: int64(committed) - int64(w.since.txid),
		Millis: time.Since(w.since.when).Milliseconds(), LastSize: w.since.size,
	})
	if due {
		w.since.txid, w.since.bytes, w.since.when = committed, w.in.bytes(), time.Now()
	}
	return reason, due
}

// snapshotSaved starts to count anew.
func (w *Writer) snapshotSaved(snap Snapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.countFrom(snap)
}
