package rpc

import (
	"context"
	"errors"
	"time"

	"github.com/quorumjournal/qjm/segments"
)

// ErrTooManyWatches: as many requests watch leases on this node as may. Another node may have room.
var ErrTooManyWatches = errors.New("qjm: too many watches on this node")

// Bounds of leases.
const (
	LeaseTTLMin   = 300 * time.Millisecond
	LeaseTTLMax   = 10 * time.Minute
	LeaseNameMax  = 128              // bytes in a holder's name
	LeaseAddrMax  = 261              // bytes in a holder's address
	LeaseWaitMax  = 10 * time.Second // how long a watch may be left unanswered
	LeaseWatchMax = 4096             // watches on one node at a time
)

// Lease is a journal's writer lease as of one index of the catalog. It says who should write, and stops
// nobody (L1): epochs decide who can.
type Lease struct {
	Journal  segments.JournalID
	Index    uint64 // the catalog's
	Revision uint64 // names this lease or reservation, and no other one ever; 0: there is none
	Holder   string // empty: nobody holds it
	Addr     string // where the holder is reached, in its own words
	TTL      time.Duration
	// ReservedFor is who alone may take it, after a transfer. Nobody holds it then.
	ReservedFor string
}

// LeaseRequest asks for a journal's lease. The same Nonce again is answered again: it tells a request that is
// repeated from another process of the same name.
type LeaseRequest struct {
	Journal      segments.JournalID
	Holder, Addr string
	TTL          time.Duration
	Nonce        [16]byte
}

// LeaseGrant is the answer. With Again the lease was granted to an earlier request of the same nonce, and
// its time has been running since then.
type LeaseGrant struct {
	Revision uint64
	Again    bool
}

// LeaseRef names a lease by its revision: what comes late never touches a later one.
type LeaseRef struct {
	Journal  segments.JournalID
	Revision uint64
}

// LeaseRenewal renews many leases. One that was Forwarded by a node only the leader may answer.
type LeaseRenewal struct {
	Leases    []LeaseRef // up to KeptMax
	Forwarded bool
}

// LeaseTransfer ends a lease and reserves the next one for To.
type LeaseTransfer struct {
	LeaseRef
	To string
}

// LeaseWatch asks for a lease that is not the one of Revision any more, as of Index or later. It is answered
// after Wait in any case.
type LeaseWatch struct {
	Journal  segments.JournalID
	Index    uint64
	Revision uint64
	Wait     time.Duration // up to LeaseWaitMax; 0: at once
}

// LeaseCalls are the calls on writer leases. A lease is the catalog's: without its leader, no lease is
// granted, renewed, ended or expires.
type LeaseCalls interface {
	// AcquireLease grants the journal's lease, or says who has it.
	AcquireLease(ctx context.Context, req LeaseRequest) (LeaseGrant, error)
	// KeepLeases renews leases. It returns an error for each, nil where it was kept: its time begins anew,
	// for the holder at the moment when it sent the request (L2).
	KeepLeases(ctx context.Context, req LeaseRenewal) ([]error, error)
	ResignLease(ctx context.Context, ref LeaseRef) error
	// TransferLease returns the reservation's revision.
	TransferLease(ctx context.Context, req LeaseTransfer) (uint64, error)
	// Lease reads a lease linearizably.
	Lease(ctx context.Context, id segments.JournalID) (Lease, error)
	// WatchLease answers from the node's own copy of the catalog, and needs no leader.
	WatchLease(ctx context.Context, req LeaseWatch) (Lease, error)
}
