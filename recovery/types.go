package recovery

import (
	"fmt"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

// CopyState says what a node holds of a segment.
type CopyState uint8

const (
	// Absent: the node is sure that it has nothing of the segment.
	Absent CopyState = iota
	// InProgress: a copy that frames can still be appended to, or that recovery may replace.
	InProgress
	// Finalized: the decided content; never changed again (R5).
	Finalized
	// Unknown: the copy, or the accepted record, cannot be read in full (N2). It is no data answer.
	Unknown
	// Purged: the segment begins at or below the node's purge point, and is not held. What it held up to that
	// point was decided, and is covered by a snapshot here: that is not Absent (C5). It is a data answer
	// without a copy, and its purge point is a position that no choice may lack, see Answer.Purged.
	Purged
)

// String returns the word used in tables, logs and JSON.
func (s CopyState) String() string {
	switch s {
	case Absent:
		return "absent"
	case InProgress:
		return "in-progress"
	case Finalized:
		return "finalized"
	case Unknown:
		return "unknown"
	case Purged:
		return "purged"
	}
	return fmt.Sprintf("CopyState(%d)", uint8(s))
}

// Accepted is the durable record of an accepted recovery: in Epoch this node agreed that the segment
// ends at End. The zero value stands for "none".
type Accepted struct {
	Epoch fencing.Epoch
	End   segments.End
}

// IsZero reports whether there is no record.
func (a Accepted) IsZero() bool { return a == Accepted{} }

// Floor is a position known to be committed: At lies in segment Segment, written in Epoch. It never
// goes back, and it may lag behind what is committed (W3). The zero Floor knows nothing.
type Floor struct {
	Segment segments.TxID
	Epoch   fencing.Epoch
	At      segments.Position
}

// IsZero reports whether nothing is known to be committed.
func (f Floor) IsZero() bool { return f == Floor{} }

// String returns "txid/digest in segment@epoch", or what it is where it names no segment.
func (f Floor) String() string {
	if f.Segment == 0 {
		return "purge point " + f.At.String()
	}
	return fmt.Sprintf("%s in segment %d@%d", f.At, f.Segment, f.Epoch)
}

// DigestReply answers one question of the form "which digest has your copy at the frame end Txid?".
type DigestReply struct {
	At    segments.Position // Digest is zero where Found is false
	Found bool              // false: no frame of the copy ends there
}

// Copy is what a node holds of one segment: the answer to Prepare (R1), and what the node's own
// decisions start from. Last is the last durable position; a copy without transactions has Last.TxID
// = Segment-1.
type Copy struct {
	Segment segments.TxID
	State   CopyState
	Epoch   fencing.Epoch // writer epoch of this very copy (R1), not of the node
	// Prev is the segment before, as the copy's header names it; of an Absent copy, as the node holds it
	// finalized. Zero: there is none, or the node does not know.
	Prev     segments.End
	Last     segments.Position
	Accepted Accepted
	// CutAt is set while a torn tail of this copy was cut at open and not filled since (N2a).
	CutAt *segments.Position
}

// HasTxns reports whether the copy holds a transaction; one that does not counts as none (R2).
func (c Copy) HasTxns() bool {
	return (c.State == InProgress || c.State == Finalized) && c.Last.TxID >= c.Segment
}

// Ballot is the copy's rank: the higher of the epoch that accepted it and the epoch that wrote it.
func (c Copy) Ballot() fencing.Epoch { return max(c.Accepted.Epoch, c.Epoch) }

// Answer is one node's reply to Prepare.
type Answer struct {
	Node   quorum.Key
	Copy   Copy
	Floor  Floor
	Newest segments.TxID // first txid of the node's newest segment now; 0 = none
	// Purged is the node's purge point (C5): everything up to it is committed, and may be gone from its log.
	// Zero: nothing was purged.
	Purged  segments.Position
	Digests []DigestReply // to the questions asked, in any order
}

// digestAt looks a position up in what the answer tells.
func (a Answer) digestAt(t segments.TxID) (d segments.Digest, found, known bool) {
	if a.Copy.State == InProgress || a.Copy.State == Finalized {
		if t == a.Copy.Last.TxID {
			return a.Copy.Last.Digest, true, true
		}
		if t == a.Copy.Segment-1 {
			return a.Copy.Prev.Digest, true, true
		}
	}
	for _, r := range a.Digests {
		if r.At.TxID == t {
			return r.At.Digest, r.Found, true
		}
	}
	return segments.Digest{}, false, false
}
