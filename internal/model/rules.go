package model

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Rules holds one switch per modelled rule of the protocol: true is the strong form, the one qjm
// obeys; false is the weaker form an implementation might drift into. A field's name begins with
// the rule's number. S-numbers are the findings of docs/model.md.
type Rules struct {
	// N1Incarnation: a wiped disk is a new incarnation and counts in no quorum. Else it answers "nothing".
	N1Incarnation bool
	// N2aSyncedMark: a tail lost at or below the node's own synced mark is damage, not a torn write. The mark
	// lies one append behind the tail until the idle one is written.
	N2aSyncedMark bool
	// N2aCutAtWaits: an answer that admits a cut tail counts only beside data answers from all nodes. Else it
	// is an answer like any other; that is also what a coordinator falls back on when its wait runs out.
	N2aCutAtWaits bool
	// F2DataAnswers: promises and data answers are counted apart. Else a node with unreadable segments
	// helps to form the majority that says "nothing" (S6).
	F2DataAnswers bool
	// W0Idempotent: StartSegment touches nothing where the copy is of its own epoch already. Else a
	// duplicate begins the segment again (S1).
	W0Idempotent bool
	// W0RemovesRecord: StartSegment removes an older accepted record. Else the record hides the new contents.
	W0RemovesRecord bool
	// W1EpochIsPromise: a frame is appended only while the node's promise is the frame's epoch.
	W1EpochIsPromise bool
	// W2SyncBeforeAck: an ack leaves after the sync. Else the synced mark stays behind.
	W2SyncBeforeAck bool
	// W3AckEpoch: a position told at rejoin is an ack only under promise and segment epoch of the writer.
	// Else equal contents are enough (S8).
	W3AckEpoch bool
	// W3FloorDigest: the floor is (segment, epoch, txid, digest). Else it is a bare txid (S3).
	W3FloorDigest bool
	// W5FrameEpoch: a gap is filled from a peer only with frames of the segment's own epoch (S11).
	W5FrameEpoch bool
	// W8FinalizeCommitted: Finalize waits until all it covers is committed (S5a).
	W8FinalizeCommitted bool
	// W8FinalizeMajority: the next segment starts after a majority acked Finalize (S5b).
	W8FinalizeMajority bool
	// R1SegmentEpoch: Prepare answers the writer epoch of the copy. Else the node's last writer epoch stands in.
	R1SegmentEpoch bool
	// R2Digests: copies of equal ballot are compared by digest. Else the longer wins unseen, as in QJM.
	R2Digests bool
	// R2aOneChoice: one choice per epoch. Else a writer prepares and chooses once more in its epoch (S4).
	R2aOneChoice bool
	// R3Floors: a choice below a floor that an answer knows of stops the recovery.
	R3Floors bool
	// R4AcceptedRecord: Accept leaves a durable record of its epoch.
	R4AcceptedRecord bool
	// R6SafeDiscard: a discard removes only copies without txns and of a lower epoch (S2).
	R6SafeDiscard bool
}

// Strong returns all rules in their strong form.
func Strong() Rules {
	var r Rules
	v := reflect.ValueOf(&r).Elem()
	for i := range v.NumField() {
		v.Field(i).SetBool(true)
	}
	return r
}

// Drop weakens the rules named by their fields.
func (r *Rules) Drop(names ...string) error { return setAll(r, false, "rule", names) }

// Faults holds what may befall the nodes and what a careless implementation might do, beyond lost,
// late, repeated and reordered messages and crashes, which are always in. Each disk fault happens
// at most once in a run; Rot and Unknown share one.
type Faults struct {
	// Wipe: a disk comes back empty.
	Wipe bool
	// Rot: the last frame of an in-progress copy rots; restart takes it for a torn tail, if it may.
	Rot bool
	// Unknown: a node's segments become unreadable, its fence stays whole.
	Unknown bool
	// Reuse: a writer withdraws a txid that one node may hold and gives it to other bytes (against W6, S12).
	Reuse bool
	// InPlace: a node crashes in Accept having put the content in place before the record (against R4's order).
	InPlace bool
}

// Add switches on the faults named by their fields.
func (f *Faults) Add(names ...string) error { return setAll(f, true, "fault", names) }

// Reader says how a reader infers commitment from copies on two nodes (rule D4, S9).
type Reader uint8

// Readers.
const (
	ReaderNone   Reader = iota // none does
	ReaderCount                // equal copies are enough
	ReaderBallot               // equal copies at equal ballot, the rule
)

// ParseReader reads "", "count" or "ballot".
func ParseReader(s string) (Reader, error) {
	switch s {
	case "":
		return ReaderNone, nil
	case "count":
		return ReaderCount, nil
	case "ballot":
		return ReaderBallot, nil
	}
	return ReaderNone, fmt.Errorf("model: unknown reader %q (want count or ballot)", s)
}

// Checks turns checks off, to see what a broken rule does beyond the first thing that is noticed.
type Checks struct {
	D1    bool // what nodes show their readers
	Probe bool // a fresh writer's recovery after each state
}

// Skip leaves out the checks named by their fields.
func (c *Checks) Skip(names ...string) error { return setAll(c, true, "check", names) }

// Config is one system to explore. Writers and TxIDs have no default; the zero Rules are all weak,
// so begin with Strong.
type Config struct {
	Writers int // 1 to 3; writer i has epoch i and opens at most once
	TxIDs   int // 1 to 3
	Rules   Rules
	Faults  Faults
	Reader  Reader
	Skipped Checks
}

// Validate reports what the state has no room for.
func (c *Config) Validate() error {
	var errs []error
	if c.Writers < 1 || c.Writers > maxWriters {
		errs = append(errs, fmt.Errorf("model: writers (got %d, want 1 to %d)", c.Writers, maxWriters))
	}
	if c.TxIDs < 1 || c.TxIDs > maxTxIDs {
		errs = append(errs, fmt.Errorf("model: txids (got %d, want 1 to %d)", c.TxIDs, maxTxIDs))
	}
	if c.Reader > ReaderBallot {
		errs = append(errs, fmt.Errorf("model: unknown reader %d", c.Reader))
	}
	return errors.Join(errs...)
}

// setAll sets the named bool fields of the struct that p points to. Names on the command line are
// the fields' names, so neither needs a table that could fall behind.
func setAll(p any, to bool, what string, names []string) error {
	v := reflect.ValueOf(p).Elem()
	for _, name := range names {
		f := v.FieldByName(name)
		if !f.IsValid() {
			return fmt.Errorf("model: unknown %s %q (have %s)", what, name, strings.Join(fieldNames(v.Type()), ", "))
		}
		f.SetBool(to)
	}
	return nil
}

func fieldNames(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		out = append(out, t.Field(i).Name)
	}
	return out
}
