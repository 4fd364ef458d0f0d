package model

import "fmt"

type verb uint8

const (
	promises verb = iota
	chooses
	retries
	acceptsAt
	acceptsInPlaceAt
	acceptedByMajority
	finalizesAt
	recoversDone
	discardsAt
	startsAt
	startsAndCrashesAt
	appendsAt
	fillsFromPeer
	takesStatusAsAck
	tellsFloor
	sends
	reuses
	endsSegment
	rolls
	pullsFinalized
	losesPower
	writesIdleMark
	rots
	turnsUnknown
	isWiped
	readerCounts
)

// action labels a transition. It is a value, formatted only for a trace: a search takes tens of
// millions of transitions and prints thirty.
type action struct {
	verb        verb
	writer      epoch
	node, peer  int8
	first, last txid
	step        int8
	quorum      nodeSet
}

// String is the form that traces show and that scripts are matched against.
func (a action) String() string {
	w, n, p := fmt.Sprintf("w%d", a.writer), string(rune(nodeName(int(a.node)))), string(rune(nodeName(int(a.peer))))
	switch a.verb {
	case promises:
		return fmt.Sprintf("%s NewEpoch+Prepare(%d) at %s", w, a.writer, n)
	case chooses:
		if a.last < a.first {
			return fmt.Sprintf("%s chooses segment %d empty (answers %s)", w, a.first, a.quorum)
		}
		return fmt.Sprintf("%s chooses segment %d ends %d (answers %s)", w, a.first, a.last, a.quorum)
	case retries:
		return w + " gives up the attempt and prepares again in the same epoch"
	case acceptsAt:
		return fmt.Sprintf("%s Accept(%d..%d) at %s", w, a.first, a.last, n)
	case acceptsInPlaceAt:
		return fmt.Sprintf("%s Accept(%d..%d) at %s, crash: content in place, record not", w, a.first, a.last, n)
	case acceptedByMajority:
		return w + " has accepts from a majority"
	case finalizesAt:
		return fmt.Sprintf("%s Finalize(%d..%d) at %s", w, a.first, a.last, n)
	case recoversDone:
		return fmt.Sprintf("%s recovery done, next segment %d", w, a.first)
	case discardsAt:
		return fmt.Sprintf("%s Discard(%d) at %s", w, a.first, n)
	case startsAt:
		return fmt.Sprintf("%s StartSegment(%d) at %s", w, a.first, n)
	case startsAndCrashesAt:
		return fmt.Sprintf("%s StartSegment(%d) at %s, crash after step %d", w, a.first, n, a.step)
	case appendsAt:
		return fmt.Sprintf("%s Append(%d) at %s", w, a.first, n)
	case fillsFromPeer:
		return fmt.Sprintf("%s txid %d at %s filled from peer %s", w, a.first, n, p)
	case takesStatusAsAck:
		return fmt.Sprintf("%s takes the status answer of %s (last %d, digest equal) as an ack", w, n, a.last)
	case tellsFloor:
		return fmt.Sprintf("%s tells %s committed=%d", w, n, a.last)
	case sends:
		return fmt.Sprintf("%s sends txid %d", w, a.first)
	case reuses:
		return fmt.Sprintf("%s gives txid %d to other bytes after a 'definite' refusal", w, a.first)
	case endsSegment:
		return fmt.Sprintf("%s decides to finalize %d..%d", w, a.first, a.last)
	case rolls:
		return fmt.Sprintf("%s rolls to segment %d", w, a.first)
	}
	return a.nodeString(n, p)
}

// nodeString is String for what happens without a writer.
func (a action) nodeString(n, p string) string {
	switch a.verb {
	case pullsFinalized:
		return fmt.Sprintf("%s pulls finalized %d from %s", n, a.first, p)
	case losesPower:
		return fmt.Sprintf("%s loses power: unsynced tail of %d gone", n, a.first)
	case writesIdleMark:
		return fmt.Sprintf("%s writes its idle mark in %d", n, a.first)
	case rots:
		return fmt.Sprintf("%s last frame of %d rots, restart", n, a.first)
	case turnsUnknown:
		return n + " segments damaged, fence fine"
	case isWiped:
		return n + " disk wiped"
	case readerCounts:
		return fmt.Sprintf("reader counts equal copies of %d on %s and %s as committed", a.first, n, p)
	}
	return fmt.Sprintf("verb %d", a.verb)
}
