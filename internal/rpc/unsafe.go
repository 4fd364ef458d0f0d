package rpc

import (
	"context"
	"errors"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// What an operator does when a majority is lost for good, and when every address has changed.

// ErrPlan: the plan of a recovery does not hold here: another one is recorded, the group has a leader, or the
// catalog tells of what the plan did not know. Nothing was changed; survey and plan anew.
var ErrPlan = errors.New("qjm: the plan does not hold")

// GroupServer is a server of the catalog's group.
type GroupServer struct {
	Key   quorum.Key
	Voter bool
}

// GroupState is how the catalog's group stands at one node, by that node's own store.
type GroupState struct {
	Cluster             ClusterID
	Node                quorum.Key
	Down                string // why it takes no part; empty: it does
	Servers             []GroupServer
	LastIndex, LastTerm uint64 // of the last entry
	CommitIndex         uint64
	Leader              quorum.NodeID // as far as it knows
	Record              RecoveryRecord
}

// RecoveryRecord is what a node wrote down of the last recovery that it took part in.
type RecoveryRecord struct {
	Generation uint64 // 0: there never was one
	Digest     string // of the plan
	Plan       []byte
	Progress   RecoveryProgress
	GivenUp    []quorum.Member // storages that this recovery and those before it gave up for lost
}

// RecoveryProgress is how far a recovery has come on a node.
type RecoveryProgress string

// The stages. What is not one of them is refused.
const (
	RecoveryRecorded RecoveryProgress = "recorded" // nothing else was done
	RecoveryForcing  RecoveryProgress = "forcing"  // the group's members are being replaced: begun, it is finished
	RecoveryForced   RecoveryProgress = "forced"   // the group's members are those of the plan
	RecoveryDone     RecoveryProgress = "done"
)

// CarryOutStep is one step of a plan. Each may be repeated.
type CarryOutStep uint8

// The steps, in their order.
const (
	StepRecord  CarryOutStep = iota + 1 // the plan is written down on every survivor, before anything else
	StepGroup                           // on every survivor: the group's members are those of the plan
	StepJournal                         // through the leader: the journal's config is that of the plan
	StepFloor                           // on every member: floors that nothing is left of are lowered (R3)
	StepRemove                          // through the leader: the lost storages leave the catalog
	StepDone                            // on every survivor
)

// CarryOutRequest asks for one step. Journal counts for StepJournal and StepFloor, Plan for StepRecord.
type CarryOutRequest struct {
	Digest  string
	Step    CarryOutStep
	Plan    []byte
	Journal segments.JournalID
}

// InspectRequest asks what a node holds of a segment, as Prepare would, without a promise.
type InspectRequest struct {
	Journal segments.JournalID
	Segment segments.TxID
	Digests []segments.TxID
}

// AddressesRequest tells where the storages of the cluster are.
type AddressesRequest struct {
	Cluster ClusterID
	Nodes   []quorum.Member
}

// UnsafeCalls are the calls that need no leader because there may be none.
type UnsafeCalls interface {
	SurveyGroup(ctx context.Context) (GroupState, error)
	InspectCopy(ctx context.Context, req InspectRequest) (recovery.Answer, error)
	// CarryOut returns what could not be done and does not stand in the way. Errors: ErrPlan.
	CarryOut(ctx context.Context, req CarryOutRequest) (note string, err error)
	// LearnAddresses returns when the node has written the addresses down. They outrank those that it was
	// started with, and those that the catalog has, until either changes.
	LearnAddresses(ctx context.Context, req AddressesRequest) error
}

// Bounds of a recovery.
const (
	PlanBytesMax   = 8 << 20
	GivenUpMax     = 1024 // storages that recoveries gave up
	PlanDigestSize = 32   // characters
)
