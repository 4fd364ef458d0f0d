package journalnode

import (
	"sync/atomic"
	"time"
)

// spare lets the owners of a node write what nobody waits for, floors (W3) and idle marks (N2a), in the time that the
// disk has to spare: one owner at a time, in the order in which they came, and while there are appends, to whatever
// journal, for a spareShare of the time at most. Each such write is up to four syncs: with many journals, each of
// which gets an append now and then, they would be more than those of the appends. When the appends end, what waits is
// written back to back; a clean stop writes all, without asking.
//
// Both are best effort, so they may be late. Floors are served from memory: to readers, to recoveries, for snapshots
// (journal.Journal's floor). The file is read when the journal is opened, and then stands for what was known at the end
// of the last process: one that is late means that a follower without a writer sees less until somebody recovers, and
// that R3 is a weaker net, as after a power failure under load. An idle mark that is late means that a rotten tail
// passes for a torn one for longer.
type spare struct {
	turn     chan struct{} // one place: full while somebody writes, and in the pause after it
	appended atomic.Int64  // unix nanoseconds when frames were handled last, of any journal
	quiet    time.Duration // without appends for so long, all of the disk is to spare
}

// One part in spareShare of the time goes to what nobody waits for, with a bound for how long the others then wait: one
// write that hung must not keep them for minutes.
const (
	spareShare    = 20
	sparePauseMax = 5 * time.Second
)

func newSpare(quiet time.Duration) *spare { return &spare{turn: make(chan struct{}, 1), quiet: quiet} }

// try takes the turn if it is free. Whoever waits sends to turn.
func (s *spare) try() bool {
	select {
	case s.turn <- struct{}{}:
		return true
	default:
		return false
	}
}

// give returns the turn, when the pause for a write that took so long is over.
func (s *spare) give(took time.Duration) {
	pause := sparePause(took, time.Since(time.Unix(0, s.appended.Load())) < s.quiet)
	if pause == 0 {
		<-s.turn
		return
	}
	time.AfterFunc(pause, func() { <-s.turn })
}

// sparePause is how long nobody writes after a write that took so long, with appends under way or without.
func sparePause(took time.Duration, appends bool) time.Duration {
	if !appends {
		return 0
	}
	return min((spareShare-1)*took, sparePauseMax)
}
