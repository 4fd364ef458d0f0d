package wire

import (
	"errors"
	"strconv"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// shape carries one struct type of a class.
type shape struct {
	name string
	put  func(f *facts, err, class error) bool // stores the facts if err holds such a struct
	take func(f *facts, class error) error     // rebuilds it; f.err tells whether that worked
}

// shapeOf makes a shape from a pair of functions for *T.
func shapeOf[T error](name string, put func(*facts, T), take func(*facts, error) T) shape {
	return shape{
		name: name,
		put: func(f *facts, err, class error) bool {
			e, ok := find[T](err, class)
			if ok {
				put(f, e)
			}
			return ok
		},
		take: func(f *facts, class error) error { return take(f, class) },
	}
}

// find is errors.AsType for a T that is of the class: segments.MismatchError is of several.
func find[T error](err, class error) (T, bool) {
	if e, ok := err.(T); ok && errors.Is(e, class) {
		return e, true
	}
	switch u := err.(type) {
	case interface{ Unwrap() error }:
		if next := u.Unwrap(); next != nil {
			return find[T](next, class)
		}
	case interface{ Unwrap() []error }:
		for _, next := range u.Unwrap() {
			if e, ok := find[T](next, class); ok {
				return e, true
			}
		}
	}
	var none T
	return none, false
}

var fencedShape = shapeOf("fenced",
	func(f *facts, e *fencing.FencedError) { f.setClaim("promised", e.Promised); f.setClaim("got", e.Got) },
	func(f *facts, _ error) *fencing.FencedError {
		return &fencing.FencedError{Promised: f.claim("promised"), Got: f.claim("got")}
	})

var lostRaceShape = shapeOf("lost_race",
	func(f *facts, e *fencing.LostRaceError) { f.setClaim("holder", e.Holder); f.setClaim("got", e.Got) },
	func(f *facts, _ error) *fencing.LostRaceError {
		return &fencing.LostRaceError{Holder: f.claim("holder"), Got: f.claim("got")}
	})

var notPromisedShape = shapeOf("not_promised",
	func(f *facts, e *fencing.NotPromisedError) {
		f.setClaim("promised", e.Promised)
		f.setClaim("got", e.Got)
	},
	func(f *facts, _ error) *fencing.NotPromisedError {
		return &fencing.NotPromisedError{Promised: f.claim("promised"), Got: f.claim("got")}
	})

var wrongNodeShape = shapeOf("wrong_node",
	func(f *facts, e *rpc.WrongNodeError) {
		f.set("node_id", string(e.Node))
		f.setID("got_incarnation", e.Got)
		f.setID("want_incarnation", e.Want)
	},
	func(f *facts, _ error) *rpc.WrongNodeError {
		return &rpc.WrongNodeError{Node: f.nodeID("node_id"), Got: f.id("got_incarnation"), Want: f.id("want_incarnation")}
	})

var configShape = shapeOf("config",
	func(f *facts, e *rpc.ConfigError) {
		f.setID("journal_id", e.Journal)
		f.setUint("got_version", e.Got)
		f.setUint("want_version", e.Want)
	},
	func(f *facts, _ error) *rpc.ConfigError {
		return &rpc.ConfigError{Journal: f.id("journal_id"), Got: f.uint("got_version"), Want: f.uint("want_version")}
	})

var divergenceShape = shapeOf("divergence",
	func(f *facts, e *recovery.DivergenceError) {
		f.setUint("segment", uint64(e.Segment))
		f.set("what", e.What)
		for i := range min(len(e.Nodes), len(e.Ends)) {
			s := f.sub(strconv.Itoa(i))
			s.set("node_id", string(e.Nodes[i]))
			s.setPosition("end", e.Ends[i])
		}
	},
	func(f *facts, _ error) *recovery.DivergenceError {
		e := &recovery.DivergenceError{Segment: f.txid("segment"), What: f.get("what")}
		for i := 0; f.sub(strconv.Itoa(i)).has("node_id"); i++ {
			s := f.sub(strconv.Itoa(i))
			e.Nodes = append(e.Nodes, s.nodeID("node_id"))
			e.Ends = append(e.Ends, s.position("end"))
			if s.err != nil {
				f.fail(s.err)
			}
		}
		return e
	})

var floorShape = shapeOf("floor",
	func(f *facts, e *recovery.FloorError) {
		f.set("node_id", string(e.Node))
		f.setFloor("floor", e.Floor)
		f.setEnd("choice", e.Choice)
	},
	func(f *facts, _ error) *recovery.FloorError {
		return &recovery.FloorError{Node: f.nodeID("node_id"), Floor: f.floor("floor"), Choice: f.end("choice")}
	})

var breachShape = shapeOf("breach",
	func(f *facts, e *recovery.BreachError) {
		f.set("rule", e.Rule)
		f.setUint("segment", uint64(e.Segment))
		f.set("what", e.Text)
	},
	func(f *facts, _ error) *recovery.BreachError {
		return &recovery.BreachError{Rule: f.get("rule"), Segment: f.txid("segment"), Text: f.get("what")}
	})

var copyMismatchShape = shapeOf("copy_mismatch",
	func(f *facts, e *recovery.MismatchError) {
		f.setUint("state", uint64(e.State))
		f.setPosition("got", e.Got)
		f.setEnd("want", e.Want)
	},
	func(f *facts, _ error) *recovery.MismatchError {
		return &recovery.MismatchError{State: recovery.CopyState(f.uint("state")), Got: f.position("got"), Want: f.end("want")}
	})

var noQuorumShape = shapeOf("no_quorum",
	func(f *facts, e *recovery.NoQuorumError) { f.set("step", e.Step); putCauses(f, e.Causes) },
	func(f *facts, _ error) *recovery.NoQuorumError {
		return &recovery.NoQuorumError{Step: f.get("step"), Causes: takeCauses(f)}
	})

var supersededShape = shapeOf("superseded",
	func(f *facts, e *recovery.SupersededError) {
		f.setUint("epoch", uint64(e.Epoch))
		f.setUint("promised_epoch", uint64(e.Promised))
		putCauses(f, e.Causes)
	},
	func(f *facts, _ error) *recovery.SupersededError {
		return &recovery.SupersededError{Epoch: f.epoch("epoch"), Promised: f.epoch("promised_epoch"), Causes: takeCauses(f)}
	})

func putCauses(f *facts, causes []recovery.NodeCause) {
	for i, c := range causes {
		s := f.sub(strconv.Itoa(i))
		s.set("node_id", string(c.Node))
		s.setError("err", c.Err)
	}
}

func takeCauses(f *facts) []recovery.NodeCause {
	var causes []recovery.NodeCause
	for i := 0; f.sub(strconv.Itoa(i)).has("node_id"); i++ {
		s := f.sub(strconv.Itoa(i))
		causes = append(causes, recovery.NodeCause{Node: s.nodeID("node_id"), Err: s.error("err")})
	}
	return causes
}

var corruptionShape = shapeOf("corruption",
	func(f *facts, e *segments.CorruptionError) {
		f.setUint("segment", uint64(e.Segment))
		f.setInt("offset", e.Offset)
		f.setUint("txid", uint64(e.TxID))
		f.setError("err", e.Err)
	},
	func(f *facts, _ error) *segments.CorruptionError {
		return &segments.CorruptionError{
			Segment: f.txid("segment"), Offset: f.int("offset"), TxID: f.txid("txid"), Err: f.error("err"),
		}
	})

var tornShape = shapeOf("torn",
	func(f *facts, e *segments.TornError) {
		f.setUint("segment", uint64(e.Segment))
		f.setInt("offset", e.Offset)
		f.setPosition("after", e.After)
		f.setError("cause", e.Cause)
	},
	func(f *facts, _ error) *segments.TornError {
		return &segments.TornError{
			Segment: f.txid("segment"), Offset: f.int("offset"), After: f.position("after"), Cause: f.error("cause"),
		}
	})

var gapShape = shapeOf("gap",
	func(f *facts, e *segments.GapError) {
		f.setUint("got_txid", uint64(e.Got))
		f.setUint("want_txid", uint64(e.Want))
	},
	func(f *facts, _ error) *segments.GapError {
		return &segments.GapError{Got: f.txid("got_txid"), Want: f.txid("want_txid")}
	})

// fieldShape carries segments.MismatchError. Got and Want arrive as the strings they print as.
var fieldShape = shapeOf("field",
	func(f *facts, e *segments.MismatchError) {
		f.set("what", e.What)
		f.set("got", printed(e.Got))
		f.set("want", printed(e.Want))
	},
	func(f *facts, class error) *segments.MismatchError {
		return &segments.MismatchError{What: f.get("what"), Got: f.get("got"), Want: f.get("want"), Class: class}
	})

var purgedShape = shapeOf("purged",
	func(f *facts, e *rpc.PurgedError) {
		f.setPosition("purged_to", e.PurgedTo)
		f.setSnapshot("snapshot", e.Snapshot)
	},
	func(f *facts, _ error) *rpc.PurgedError {
		return &rpc.PurgedError{PurgedTo: f.position("purged_to"), Snapshot: f.snapshot("snapshot")}
	})

var quotaShape = shapeOf("quota",
	func(f *facts, e *rpc.QuotaError) {
		f.setUint("used", e.Used)
		f.setUint("quota", e.Quota)
	},
	func(f *facts, _ error) *rpc.QuotaError {
		return &rpc.QuotaError{Used: f.uint("used"), Quota: f.uint("quota")}
	})

var snapshotExistsShape = shapeOf("snapshot_exists",
	func(f *facts, e *rpc.SnapshotExistsError) { f.setSnapshot("have", e.Have) },
	func(f *facts, _ error) *rpc.SnapshotExistsError {
		return &rpc.SnapshotExistsError{Have: f.snapshot("have")}
	})
