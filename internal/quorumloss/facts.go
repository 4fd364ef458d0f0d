package quorumloss

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// Facts are what the nodes answered.
type Facts struct {
	Cluster  rpc.ClusterID
	Nodes    []NodeFacts
	Journals []JournalFacts
}

// NodeFacts is one storage that is known to belong to the cluster.
type NodeFacts struct {
	Member quorum.Member
	Err    error // it did not answer, or another storage answers at its address
	Group  rpc.GroupState
}

// JournalFacts is what is known of one journal.
type JournalFacts struct {
	ID      segments.JournalID
	Name    string
	Configs []quorum.Config // every one that anybody has installed, or has in its copy of the catalog
	Deleted bool            // some node knows it to be deleted, or being deleted
	// Deleting: a copy of the catalog has it deleted, and its name not free yet: it waits for its members.
	Deleting bool
	Copies   []CopyFacts // one of each member of the newest config
}

// CopyFacts is what one member holds.
type CopyFacts struct {
	Node     quorum.Key
	Err      error // it did not answer
	None     bool  // it answered, and never had the journal
	State    rpc.JournalState
	Answer   recovery.Answer // of the segment Newest, with digests where they were asked for
	Segments []rpc.SegmentInfo
}

// known: it answered, and can read its newest data.
func (c CopyFacts) known() bool { return c.Err == nil && (c.None || c.State.DataKnown) }

// Sort puts everything in the one order that plans are made in.
func (f *Facts) Sort() {
	slices.SortFunc(f.Nodes, func(a, b NodeFacts) int { return a.Member.Key().Compare(b.Member.Key()) })
	slices.SortFunc(f.Journals, func(a, b JournalFacts) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), bytes.Compare(a.ID[:], b.ID[:]))
	})
	for i := range f.Journals {
		slices.SortFunc(f.Journals[i].Copies, func(a, b CopyFacts) int { return a.Node.Compare(b.Node) })
	}
}

// Config returns the newest config. Two of that version that differ are a divergence (M0).
func (f *JournalFacts) Config() (quorum.Config, error) {
	var newest quorum.Config
	for _, c := range f.Configs {
		switch {
		case c.Version > newest.Version:
			newest = c
		case c.Version == newest.Version && c.Digest() != newest.Digest():
			return newest, fmt.Errorf("%w: journal %s, version %d", rpc.ErrConfigDiverges, f.Name, c.Version)
		}
	}
	return newest, nil
}

// Newest is the first txid of the newest segment that a survivor knows of; 0: none does.
func (f *JournalFacts) Newest() segments.TxID {
	var s segments.TxID
	for _, c := range f.Copies {
		if c.known() {
			s = max(s, c.State.Answer.Newest)
		}
	}
	return s
}

// Questions are the digests that the choice still needs.
func (f *JournalFacts) Questions() []recovery.Query {
	c := f.choose()
	return c.need
}

// lostFloor is a floor that the choice does not contain.
type lostFloor struct {
	node  quorum.Key
	floor recovery.Floor
}

// chosen is what R2 chooses among the survivors, floors beyond it aside.
type chosen struct {
	choice  recovery.Choice
	holders []quorum.Key // survivors that hold it
	lost    []lostFloor
	need    []recovery.Query
	err     error
}

// choose applies R2 to all survivors whose data is known, as if they were the whole journal.
func (f *JournalFacts) choose() chosen {
	s := f.Newest()
	var answers []recovery.Answer
	var members []quorum.Member
	for _, c := range f.Copies {
		if !c.known() {
			continue
		}
		a := c.Answer
		a.Node = c.Node
		if c.None {
			a.Copy = recovery.Copy{Segment: s, State: recovery.Absent}
		}
		answers = append(answers, a)
		members = append(members, quorum.Member{ID: c.Node.ID, Incarnation: c.Node.Incarnation})
	}
	out := chosen{}
	if s == 0 || len(answers) == 0 {
		for _, a := range answers {
			out.holders = append(out.holders, a.Node)
			if !a.Floor.IsZero() {
				out.lost = append(out.lost, lostFloor{a.Node, a.Floor})
			}
		}
		out.choice.Empty = true
		return out
	}
	out.lose(quorum.Config{Version: 1, Sets: [][]quorum.Member{members}}, s, answers)
	if out.err == nil && len(out.need) == 0 {
		for _, a := range answers {
			if out.holds(a) {
				out.holders = append(out.holders, a.Node)
			}
		}
	}
	return out
}

// holds tells whether an answer alone keeps the choice from being a shorter one. Of an empty segment that is
// who knows what comes before it: a majority without such a one would recover the segment before, from a copy
// of it that may be behind.
func (c *chosen) holds(a recovery.Answer) bool {
	if c.choice.Empty {
		return c.choice.Prev.IsZero() || a.Copy.Prev == c.choice.Prev
	}
	return slices.Contains(c.choice.Sources, a.Node.ID)
}

// lose chooses, and puts floors beyond the choice aside one by one: they are what is lost (Q5). Any other
// contradiction stops it (Q1).
func (c *chosen) lose(cfg quorum.Config, s segments.TxID, answers []recovery.Answer) {
	for range len(answers) + 1 {
		c.choice, c.need, c.err = recovery.Choose(cfg, s, answers)
		var fe *recovery.FloorError
		if !errors.As(c.err, &fe) || fe.Floor.Segment <= s && fe.Floor.At.TxID <= fe.Choice.Last || fe.Floor.Segment == 0 {
			return
		}
		i := slices.IndexFunc(answers, func(a recovery.Answer) bool { return a.Node.ID == fe.Node && a.Floor == fe.Floor })
		if i < 0 {
			return
		}
		c.lost = append(c.lost, lostFloor{answers[i].Node, answers[i].Floor})
		answers[i].Floor = recovery.Floor{}
	}
}
