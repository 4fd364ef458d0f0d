package snapshot

import (
	"fmt"
	"math/bits"
)

// Policy says when a writer should be asked for a snapshot. It asks; nobody takes a snapshot behind the
// writer's back. Zero switches a condition off; the first that is met counts.
type Policy struct {
	Bytes          int64 // log bytes since the last snapshot
	Txns           int64 // transactions since the last snapshot
	IntervalMillis int64 // time since the last snapshot, if there is anything new
	Growth         int   // log bytes since the last snapshot in percent of that snapshot's size
}

// Validate checks the policy. The errors are ErrInvalid.
func (p Policy) Validate() error {
	if p.Bytes < 0 || p.Txns < 0 || p.IntervalMillis < 0 || p.Growth < 0 {
		return fmt.Errorf("%w: policy (got %+v, want nothing negative)", ErrInvalid, p)
	}
	return nil
}

// Progress is what came since the last listed snapshot, or since the journal's start. The caller has the
// clock.
type Progress struct {
	Bytes    int64 // log bytes
	Txns     int64
	Millis   int64
	LastSize int64 // of the last snapshot; 0: there is none
}

// Reason says which condition of a policy was met.
type Reason uint8

// The reasons, in the order in which they are looked at.
const (
	ReasonNone Reason = iota
	ReasonBytes
	ReasonTxns
	ReasonGrowth
	ReasonInterval
)

// String returns the reason in one word.
func (r Reason) String() string {
	switch r {
	case ReasonNone:
		return "none"
	case ReasonBytes:
		return "bytes"
	case ReasonTxns:
		return "txns"
	case ReasonGrowth:
		return "growth"
	case ReasonInterval:
		return "interval"
	}
	return "invalid"
}

// Due reports whether the writer should be asked for a snapshot, and why. Without a new transaction
// nothing is due. Growth means nothing before the first snapshot.
func Due(p Policy, since Progress) (bool, Reason) {
	switch {
	case since.Txns <= 0:
		return false, ReasonNone
	case p.Bytes > 0 && since.Bytes >= p.Bytes:
		return true, ReasonBytes
	case p.Txns > 0 && since.Txns >= p.Txns:
		return true, ReasonTxns
	case p.Growth > 0 && since.LastSize > 0 && grown(since, uint64(p.Growth)):
		return true, ReasonGrowth
	case p.IntervalMillis > 0 && since.Millis >= p.IntervalMillis:
		return true, ReasonInterval
	}
	return false, ReasonNone
}

// grown compares without overflow: bytes * 100 >= last size * percent.
func grown(since Progress, percent uint64) bool {
	if since.Bytes <= 0 {
		return false
	}
	gotHi, gotLo := bits.Mul64(uint64(since.Bytes), 100)
	wantHi, wantLo := bits.Mul64(uint64(since.LastSize), percent)
	return gotHi > wantHi || gotHi == wantHi && gotLo >= wantLo
}
