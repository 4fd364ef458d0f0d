package libqjm

import (
	"time"

	"github.com/quorumjournal/qjm/internal/rpc"
)

// directMax is how many nodes are sent to directly; the channels of others are woken.
const directMax = 8

// direct is what is to be sent at once. Each channel in it is held until it was.
type direct struct {
	n  int
	to [directMax]struct {
		ch *channel
		m  rpc.WriteRequest
	}
}

// direct takes what is next for the nodes that can be sent to without waiting, and wakes the channels of the others
// that have something to send: nobody but a channel's goroutine may wait for its node. The caller holds mu, and calls send when it does no more. For a single caller that is two
// wake-ups less for each node, and each costs about as much as the write to the socket.
func (w *Writer) direct() (d direct) {
	if w.era == nil || w.err != nil {
		w.kick()
		return d
	}
	for _, ch := range w.era.chs {
		id := ch.member.Key()
		if w.core.AtRest(id) {
			continue
		}
		if d.n == directMax || !ch.takes() || !ch.sending.try() {
			ch.wake()
			continue
		}
		m, ok := w.core.Next(id)
		if !ok {
			ch.sending.give()
			ch.wake() // it may have to relay
			continue
		}
		d.to[d.n].ch, d.to[d.n].m = ch, m
		d.n++
	}
	return d
}

// takes reports whether the stream certainly takes a message without waiting. The caller holds Writer.mu.
func (ch *channel) takes() bool {
	return ch.stream != nil && ch.w.core.UnderWay(ch.member.Key()) <= rpc.SendAheadBytes &&
		ch.beats.sent-ch.beats.answered <= rpc.BeatsAhead && ch.stream.Ready()
}

// send sends. A stream that does not take it is left to its channel's goroutine.
func (d *direct) send() {
	for i := range d.n {
		to := &d.to[i]
		if err := to.ch.stream.Send(to.m); err != nil {
			to.ch.failed = err
			to.ch.wake()
		}
		to.ch.sending.give()
	}
}

// tellFloor has the nodes told what is committed after floorDelay, unless a frame tells them before; and at once where
// the last time no frame did: a writer that has something to write now and then only goes on like that. The caller
// holds mu.
func (w *Writer) tellFloor() {
	if w.floorSet {
		return
	}
	w.floorWas = w.core.Committed().TxID
	if w.floorAlone && len(w.flying) == 0 {
		w.sendFloor()
		return
	}
	w.floorSet = true
	if w.floorDue == nil {
		w.floorDue = time.AfterFunc(floorDelay, w.floorIsDue)
	} else {
		w.floorDue.Reset(floorDelay)
	}
}

// floorIsDue has those nodes told that no frame has told of what was committed floorDelay ago. What was committed since
// waits as long: under load its frame is about to leave.
func (w *Writer) floorIsDue() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.floorSet, w.floorAlone = false, false
	if w.sendFloor() {
		w.tellFloor()
	}
}

// sendFloor reports whether what was committed after floorWas is still to be told. The caller holds mu.
func (w *Writer) sendFloor() (more bool) {
	if w.era == nil || w.err != nil {
		return false
	}
	for _, ch := range w.era.chs {
		id := ch.member.Key()
		if w.core.Untold(id, w.floorWas) {
			w.floorAlone, w.floorAt = true, time.Now()
			ch.floor.Store(true)
			ch.wake()
		} else if w.core.Idle(id) {
			more = true
		}
	}
	return more
}

// frameAfterFloor notes whether the floor that was told last could have waited for the frame that comes now. The
// caller holds mu.
func (w *Writer) frameAfterFloor() {
	if w.floorAlone && time.Since(w.floorAt) < floorDelay {
		w.floorAlone = false
	}
}
