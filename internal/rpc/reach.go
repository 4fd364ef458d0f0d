package rpc

import (
	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/segments"
)

// Reach asks a writer whether it reaches nodes that are to become members (M6): what the cluster's leader
// reaches is no proof. ID tells questions apart; the answer carries it.
type Reach struct {
	ID    uint64
	Nodes []quorum.Member
}

// Reached is a writer's answer.
type Reached struct {
	ID    uint64
	Nodes []ReachedNode
}

// ReachedNode is what came of one node. Err is why the writer does not reach it; empty: it does.
type ReachedNode struct {
	Node quorum.Key
	Err  string
}

// AskWriterRequest has the writer of a journal that has a stream to a node asked.
type AskWriterRequest struct {
	Journal segments.JournalID
	Reach   Reach
}

// WriterAnswer is what a node knows now. Writer is who has a stream to it; zero: nobody. Reached is the last
// answer of that writer; zero: none yet.
type WriterAnswer struct {
	Writer  fencing.Claim
	Reached Reached
}
