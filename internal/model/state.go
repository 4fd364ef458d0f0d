package model

import "strings"

// The sizes the state is laid out for. A Config may use fewer writers and txids, never more nodes.
const (
	nodeCount  = 3
	maxWriters = 3
	maxTxIDs   = 3
	ownMax     = 2 // segments one writer starts: its first, and one roll
)

type (
	epoch uint8
	// txid counts from 1; 0 is "none". A segment is named by its first txid, as on disk.
	txid uint8
	// value stands for a txn's bytes, and so for its digest: two copies agree at a txid where their
	// values do. A writer of epoch e writes the value e; 0 is "no such txn".
	value uint8
)

// reusedValue marks the second content a writer gives to one txid (Faults.Reuse).
const reusedValue = 8

// contents holds one value per txid; the value of txid t is at t-1.
type contents [maxTxIDs]value

// agree reports whether a and b hold the same values at first..last.
func agree(a, b *contents, first, last txid) bool {
	for t := first; t <= last; t++ {
		if a[t-1] != b[t-1] {
			return false
		}
	}
	return true
}

// part returns the values of first..last and nothing else.
func (c *contents) part(first, last txid) contents {
	var out contents
	for t := first; t <= last; t++ {
		out[t-1] = c[t-1]
	}
	return out
}

// nodeSet is a set of nodes, one bit each.
type nodeSet uint8

const allNodes nodeSet = 1<<nodeCount - 1

// majorities lists every set of nodes that is a quorum, smallest first.
var majorities = [...]nodeSet{0b011, 0b101, 0b110, 0b111}

func (n nodeSet) has(i int) bool        { return n&(1<<i) != 0 }
func (n nodeSet) with(i int) nodeSet    { return n | 1<<i }
func (n nodeSet) in(other nodeSet) bool { return n&other == n }
func (n nodeSet) isMajority() bool      { return n == 3 || n == 5 || n == 6 || n == 7 }

func (n nodeSet) String() string {
	var b strings.Builder
	for i := range nodeCount {
		if n.has(i) {
			b.WriteByte(nodeName(i))
		}
	}
	return b.String()
}

func nodeName(i int) byte { return 'A' + byte(i) }

type segState uint8

const (
	absent segState = iota
	inProgress
	finalized
)

// segment is one node's copy of one segment. An in-progress copy without txns has last = first-1.
type segment struct {
	state        segState
	epoch        epoch // writer epoch of this copy
	last, synced txid
	marked       bool // the synced mark covers last, not only what came before; kept with Faults.Rot only
	data         contents
}

// record is the durable accepted record of a segment; epoch 0: there is none.
type record struct {
	epoch epoch
	last  txid
	data  contents
}

// floor is the committed floor a node was told: (segment, epoch, txid, digest).
type floor struct {
	last, seg txid
	epoch     epoch
	data      contents
}

// cut is N2a's cut_at: seg lost its tail from this txid on, and was not yet filled again. 0: none.
type cut struct{ seg, at txid }

// node is what one storage incarnation holds on disk; nothing of it is volatile. Its segments and
// records are at first txid - 1.
type node struct {
	promised   epoch
	lastWriter epoch // only kept without Rules.R1SegmentEpoch, which forbids its use
	seg        [maxTxIDs]segment
	acc        [maxTxIDs]record
	floor      floor
	cut        cut
	unknown    bool // segments unreadable, fence whole
	wiped      bool // a new, empty incarnation
}

// newest returns the newest segment the node knows of, 0 for none.
func (n *node) newest() txid {
	for s := txid(maxTxIDs); s >= 1; s-- {
		if n.seg[s-1].state != absent || n.acc[s-1].epoch != 0 {
			return s
		}
	}
	return 0
}

type phase uint8

const (
	electing   phase = iota // collecting promises and answers
	accepting               // one choice made, Accept under way
	finalizing              // accepted by a majority, Finalize under way
	writing                 // recovery done; starting, appending, rolling
)

// answer is the reply to NewEpoch and Prepare, as of the moment the node gave it.
type answer struct {
	given bool
	node  node
}

// writer is one opening of one writer. Writer i has epoch i+1. It holds what the writer remembers;
// the messages it has sent need no place of their own, since its memory says what they were.
type writer struct {
	phase   phase
	answers [nodeCount]answer

	choice    choice
	empty     bool // the choice had no txns
	accepted  nodeSet
	recovered nodeSet // acked Finalize of the choice
	retried   bool    // used its second attempt in one epoch (without Rules.R2aOneChoice)

	own       [ownMax]txid // segments started, by first txid
	cur       uint8        // index in own of the open one
	last      txid         // last txid sent
	committed txid
	acked     [nodeCount]txid // in the open segment
	end       [ownMax]txid    // end named in Finalize, 0: not sent
	ended     [ownMax]nodeSet // acked that Finalize
	data      contents        // bytes given to each txid, in all own segments
}

// ghost is what only the checker knows.
type ghost struct {
	committed         contents       // value acknowledged, decided or shown at each txid
	end               [maxTxIDs]txid // end decided for each segment by a majority's accepts, 0: none
	wiped, rotten     bool           // the one fault of its kind was used
	lostPowerUnsynced bool
}

// state is the whole system. All of it is plain values, so = copies it and == compares it.
type state struct {
	node   [nodeCount]node
	writer [maxWriters]writer
	ghost  ghost
}

// commit records that v is the value of t for good.
func (s *state) commit(t txid, v value) *Violation {
	was := s.ghost.committed[t-1]
	if was != 0 && was != v {
		return violation(TwoValues, "txid %d was committed with value %d, now with %d", t, was, v)
	}
	s.ghost.committed[t-1] = v
	return nil
}
