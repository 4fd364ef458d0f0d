package journal

import "github.com/quorumjournal/qjm/internal/rpc"

// SetQuota bounds the log of the journal on this node, in bytes; 0: no bound. It comes from the applied
// catalog. Anyone.
func (j *Journal) SetQuota(bytes uint64) { j.quota.Store(bytes) }

// logBytes is what the quota counts: all segments that are here, of finalized ones the files, of the open one
// what was written to it without the room that was made ahead. Snapshots, uploads, temporaries and what was put
// aside do not count: a snapshot is what makes room.
func (j *Journal) logBytes() uint64 {
	n := j.closedBytes
	for _, t := range j.tails {
		n += t.w.Bytes()
	}
	return uint64(max(n, 0))
}

// withinQuota refuses new transactions while the log has its quota. The frame that reaches it is taken whole.
// All else goes on: promises, records, new segments, recovery, repair, frames that are committed already.
func (j *Journal) withinQuota() error {
	quota := j.quota.Load()
	if quota == 0 {
		return nil
	}
	if used := j.logBytes(); used >= quota {
		return &rpc.QuotaError{Used: used, Quota: quota}
	}
	return nil
}

// OverQuota reports whether new transactions are refused. Owner only.
func (j *Journal) OverQuota() bool { return j.withinQuota() != nil }
