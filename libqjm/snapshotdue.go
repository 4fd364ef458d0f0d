package libqjm

import (
	"time"

	"github.com/quorumjournal/qjm/internal/snapshot"
)

// SnapshotPolicy says when a writer's program is asked for a snapshot.
type SnapshotPolicy = snapshot.Policy

// SnapshotReason says which condition of a policy was met.
type SnapshotReason = snapshot.Reason

// snapshotTick is how often a writer looks whether a snapshot is due.
const snapshotTick = time.Second

// progress is what a writer remembers of the last snapshot, or of when it last asked for one.
type progress struct {
	txid  TxID
	bytes int64
	when  time.Time
	size  int64 // of the last snapshot that was saved; 0: none is known
}

// askForSnapshots asks the program for a snapshot when the policy says so. It never takes one by itself, and
// asks again when as much has come once more.
func (w *Writer) askForSnapshots() {
	w.mu.Lock()
	w.since.when, w.since.txid = time.Now(), w.firstTxID-1
	w.mu.Unlock()
	tick := time.NewTicker(snapshotTick)
	defer tick.Stop()
	for {
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

func (w *Writer) snapshotDue() (SnapshotReason, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	committed := w.core.Committed().TxID
	due, reason := snapshot.Due(w.opts.SnapshotPolicy, snapshot.Progress{
		Bytes: w.appended - w.since.bytes, Txns: int64(committed) - int64(w.since.txid),
		Millis: time.Since(w.since.when).Milliseconds(), LastSize: w.since.size,
	})
	if due {
		w.since = progress{txid: committed, bytes: w.appended, when: time.Now(), size: w.since.size}
	}
	return reason, due
}

// snapshotSaved starts to count anew.
func (w *Writer) snapshotSaved(snap Snapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = progress{txid: max(snap.TxID, w.since.txid), bytes: w.appended, when: time.Now(), size: snap.Size}
}
