package wire

import (
	"strconv"
	"strings"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/journalnode/catalog"
)

// refusalShape carries catalog.Refusal of any class.
var refusalShape = shapeOf("refusal",
	func(f *facts, e *catalog.Refusal) {
		f.set("what", e.What)
		f.set("got", e.Got)
		f.set("want", e.Want)
		f.setError("cause", e.Cause)
	},
	func(f *facts, class error) *catalog.Refusal {
		return &catalog.Refusal{Class: class, What: f.get("what"), Got: f.get("got"), Want: f.get("want"), Cause: f.error("cause")}
	})

var conflictShape = shapeOf("conflict",
	func(f *facts, e *catalog.ConflictError) {
		f.setID("journal_id", e.Journal)
		f.set("of", e.Of)
		f.setUint("got", e.Got)
		f.setUint("want", e.Want)
	},
	func(f *facts, _ error) *catalog.ConflictError {
		return &catalog.ConflictError{Journal: f.id("journal_id"), Of: f.get("of"), Got: f.uint("got"), Want: f.uint("want")}
	})

var underWayShape = shapeOf("under_way",
	func(f *facts, e *catalog.ChangeUnderWayError) {
		f.setID("journal_id", e.Journal)
		f.set("name", e.Name)
		f.setUint("stage", uint64(e.Stage))
		f.setUint("change", e.Change)
		for i, m := range e.To {
			s := f.sub(strconv.Itoa(i))
			s.set("node_id", string(m.ID))
			s.setID("incarnation", m.Incarnation)
			s.set("addr", m.Addr)
		}
	},
	func(f *facts, _ error) *catalog.ChangeUnderWayError {
		e := &catalog.ChangeUnderWayError{
			Journal: f.id("journal_id"), Name: f.get("name"), Stage: catalog.Stage(f.uint("stage")), Change: f.uint("change"),
		}
		for i := 0; i < quorum.MaxMembers && f.sub(strconv.Itoa(i)).has("node_id"); i++ {
			s := f.sub(strconv.Itoa(i))
			e.To = append(e.To, quorum.Member{ID: s.nodeID("node_id"), Incarnation: s.id("incarnation"), Addr: s.get("addr")})
			if s.err != nil {
				f.fail(s.err)
			}
		}
		return e
	})

var inUseShape = shapeOf("in_use",
	func(f *facts, e *catalog.InUseError) {
		f.set("node_id", string(e.Node.ID))
		f.setID("incarnation", e.Node.Incarnation)
		f.set("addr", e.Node.Addr)
		f.set("journals", strings.Join(e.Journals, ","))
		f.setInt("more", int64(e.More))
	},
	func(f *facts, _ error) *catalog.InUseError {
		e := &catalog.InUseError{
			Node: quorum.Member{ID: f.nodeID("node_id"), Incarnation: f.id("incarnation"), Addr: f.get("addr")}, More: int(f.int("more")),
		}
		if js := f.get("journals"); js != "" {
			e.Journals = strings.Split(js, ",")
		}
		return e
	})

var heldShape = shapeOf("held",
	func(f *facts, e *catalog.HeldError) {
		f.setID("journal_id", e.Journal)
		f.set("holder", e.Holder)
		f.set("addr", e.Addr)
		f.set("reserved", strconv.FormatBool(e.Reserved))
		f.setUint("revision", e.Revision)
	},
	func(f *facts, _ error) *catalog.HeldError {
		return &catalog.HeldError{
			Journal: f.id("journal_id"), Holder: f.get("holder"), Addr: f.get("addr"), Reserved: f.get("reserved") == "true",
			Revision: f.uint("revision"),
		}
	})
