package wire

import (
	"context"
	"time"

	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
	"github.com/quorumjournal/qjm/segments"
)

// millis rounds down to what the wire knows; what is out of its range stays out of every bound.
func millis(d time.Duration) uint32 {
	return uint32(min(max(d, 0)/time.Millisecond, 1<<32-1))
}

func fromMillis(ms uint32) time.Duration { return time.Duration(ms) * time.Millisecond }

// ttl is checked by the catalog, too: but what it is asked costs an entry of the group's log.
func (d *decoder) ttl(ms uint32) time.Duration {
	ttl := fromMillis(ms)
	if ttl < rpc.LeaseTTLMin || ttl > rpc.LeaseTTLMax {
		d.fail("time to live (got %s, want %s to %s)", ttl, rpc.LeaseTTLMin, rpc.LeaseTTLMax)
	}
	return ttl
}

func (d *decoder) holder(what, name string) string {
	if name == "" || len(name) > rpc.LeaseNameMax {
		d.fail("%s has a wrong length (got %d, want 1 to %d)", what, len(name), rpc.LeaseNameMax)
	}
	return name
}

func leaseRefToProto(r rpc.LeaseRef) *qjmv1.LeaseRef {
	return &qjmv1.LeaseRef{JournalId: r.Journal[:], Revision: r.Revision}
}

func (d *decoder) leaseRef(p *qjmv1.LeaseRef) rpc.LeaseRef {
	return rpc.LeaseRef{Journal: d.id("journal id", p.GetJournalId()), Revision: p.GetRevision()}
}

func leaseToProto(l rpc.Lease) *qjmv1.Lease {
	return &qjmv1.Lease{
		JournalId: l.Journal[:], Index: l.Index, Revision: l.Revision, Holder: text(l.Holder), Addr: text(l.Addr), TtlMillis: millis(l.TTL),
		ReservedFor: text(l.ReservedFor),
	}
}

func leaseFromProto(p *qjmv1.Lease) (rpc.Lease, error) {
	var d decoder
	l := rpc.Lease{
		Journal: d.id("journal id", p.GetJournalId()), Index: p.GetIndex(), Revision: p.GetRevision(), Holder: p.GetHolder(), Addr: p.GetAddr(),
		TTL: fromMillis(p.GetTtlMillis()), ReservedFor: p.GetReservedFor(),
	}
	if len(l.Holder) > rpc.LeaseNameMax || len(l.ReservedFor) > rpc.LeaseNameMax || len(l.Addr) > rpc.LeaseAddrMax {
		d.fail("holder or address of a lease is too long")
	}
	return l, d.done()
}

func acquireToProto(r rpc.LeaseRequest) *qjmv1.AcquireLeaseRequest {
	return &qjmv1.AcquireLeaseRequest{
		JournalId: r.Journal[:], Holder: text(r.Holder), Addr: text(r.Addr), TtlMillis: millis(r.TTL), Nonce: r.Nonce[:],
	}
}

func acquireFromProto(p *qjmv1.AcquireLeaseRequest) (rpc.LeaseRequest, error) {
	var d decoder
	if len(p.Addr) > rpc.LeaseAddrMax {
		d.fail("holder's address is too long (got %d, want at most %d)", len(p.Addr), rpc.LeaseAddrMax)
	}
	return rpc.LeaseRequest{
		Journal: d.id("journal id", p.JournalId), Holder: d.holder("holder", p.Holder), Addr: p.Addr, TTL: d.ttl(p.TtlMillis),
		Nonce: d.id("nonce", p.Nonce),
	}, d.done()
}

func renewalToProto(r rpc.LeaseRenewal) *qjmv1.KeepLeasesRequest {
	p := &qjmv1.KeepLeasesRequest{Forwarded: r.Forwarded}
	for _, ref := range r.Leases {
		p.Leases = append(p.Leases, leaseRefToProto(ref))
	}
	return p
}

func renewalFromProto(p *qjmv1.KeepLeasesRequest) (rpc.LeaseRenewal, error) {
	var d decoder
	r := rpc.LeaseRenewal{Forwarded: p.Forwarded}
	if len(p.Leases) == 0 {
		d.fail("no lease to keep")
	}
	if !d.count("leases", len(p.Leases), rpc.KeptMax) {
		return r, d.done()
	}
	for _, ref := range p.Leases {
		r.Leases = append(r.Leases, d.leaseRef(ref))
	}
	return r, d.done()
}

func keptToProto(kept []error) []*qjmv1.KeptLease {
	var out []*qjmv1.KeptLease
	for _, err := range kept {
		k := &qjmv1.KeptLease{}
		if err != nil {
			k.Reason = "UNKNOWN"
			if cs := classify(err, 0); len(cs) > 0 {
				k.Reason = cs[0].reason
			}
		}
		out = append(out, k)
	}
	return out
}

func (d *decoder) kept(ps []*qjmv1.KeptLease) []error {
	if !d.count("leases", len(ps), rpc.KeptMax) {
		return nil
	}
	var out []error
	for _, k := range ps {
		var err error
		if reason := k.GetReason(); reason != "" {
			if err = rebuild(reason, newFacts()); err == nil {
				err = ErrMalformedReply // lost, for a reason that only newer software knows
			}
		}
		out = append(out, err)
	}
	return out
}

func transferFromProto(p *qjmv1.TransferLeaseRequest) (rpc.LeaseTransfer, error) {
	var d decoder
	return rpc.LeaseTransfer{LeaseRef: d.leaseRef(p.Lease), To: d.holder("next holder", p.To)}, d.done()
}

func watchToProto(r rpc.LeaseWatch) *qjmv1.WatchLeaseRequest {
	return &qjmv1.WatchLeaseRequest{JournalId: r.Journal[:], Index: r.Index, Revision: r.Revision, WaitMillis: millis(r.Wait)}
}

func watchFromProto(p *qjmv1.WatchLeaseRequest) (rpc.LeaseWatch, error) {
	var d decoder
	r := rpc.LeaseWatch{Journal: d.id("journal id", p.JournalId), Index: p.Index, Revision: p.Revision, Wait: fromMillis(p.WaitMillis)}
	if r.Wait > rpc.LeaseWaitMax {
		d.fail("wait (got %s, want at most %s)", r.Wait, rpc.LeaseWaitMax)
	}
	return r, d.done()
}

// The client's side.

func (n *node) AcquireLease(ctx context.Context, req rpc.LeaseRequest) (rpc.LeaseGrant, error) {
	p, err := n.cc.AcquireLease(ctx, acquireToProto(req))
	return rpc.LeaseGrant{Revision: p.GetRevision(), Again: p.GetAgain()}, n.fail(err)
}

func (n *node) KeepLeases(ctx context.Context, req rpc.LeaseRenewal) ([]error, error) {
	p, err := n.cc.KeepLeases(ctx, renewalToProto(req))
	return reply(n, p, err, func(p *qjmv1.KeepLeasesResponse) ([]error, error) {
		var d decoder
		kept := d.kept(p.Kept)
		if len(kept) != len(req.Leases) {
			d.fail("answers to a renewal (got %d, want %d)", len(kept), len(req.Leases))
		}
		return kept, d.done()
	})
}

func (n *node) ResignLease(ctx context.Context, ref rpc.LeaseRef) error {
	_, err := n.cc.ResignLease(ctx, &qjmv1.ResignLeaseRequest{Lease: leaseRefToProto(ref)})
	return n.fail(err)
}

func (n *node) TransferLease(ctx context.Context, req rpc.LeaseTransfer) (uint64, error) {
	p, err := n.cc.TransferLease(ctx, &qjmv1.TransferLeaseRequest{Lease: leaseRefToProto(req.LeaseRef), To: text(req.To)})
	return p.GetRevision(), n.fail(err)
}

func (n *node) Lease(ctx context.Context, id segments.JournalID) (rpc.Lease, error) {
	p, err := n.cc.GetLease(ctx, &qjmv1.GetLeaseRequest{JournalId: id[:]})
	return reply(n, p, err, func(p *qjmv1.GetLeaseResponse) (rpc.Lease, error) { return leaseFromProto(p.Lease) })
}

func (n *node) WatchLease(ctx context.Context, req rpc.LeaseWatch) (rpc.Lease, error) {
	p, err := n.cc.WatchLease(ctx, watchToProto(req))
	return reply(n, p, err, func(p *qjmv1.WatchLeaseResponse) (rpc.Lease, error) { return leaseFromProto(p.Lease) })
}

// The node's side.

func (s *controlServer) AcquireLease(ctx context.Context, p *qjmv1.AcquireLeaseRequest) (*qjmv1.AcquireLeaseResponse, error) {
	return serve(ctx, p, acquireFromProto, s.svc.AcquireLease, func(g rpc.LeaseGrant) *qjmv1.AcquireLeaseResponse {
		return &qjmv1.AcquireLeaseResponse{Revision: g.Revision, Again: g.Again}
	})
}

func (s *controlServer) KeepLeases(ctx context.Context, p *qjmv1.KeepLeasesRequest) (*qjmv1.KeepLeasesResponse, error) {
	return serve(ctx, p, renewalFromProto, s.svc.KeepLeases, func(kept []error) *qjmv1.KeepLeasesResponse {
		return &qjmv1.KeepLeasesResponse{Kept: keptToProto(kept)}
	})
}

func (s *controlServer) ResignLease(ctx context.Context, p *qjmv1.ResignLeaseRequest) (*qjmv1.ResignLeaseResponse, error) {
	var d decoder
	ref := d.leaseRef(p.Lease)
	err := d.done()
	if err == nil {
		err = s.svc.ResignLease(ctx, ref)
	}
	return &qjmv1.ResignLeaseResponse{}, toStatus(err)
}

func (s *controlServer) TransferLease(ctx context.Context, p *qjmv1.TransferLeaseRequest) (*qjmv1.TransferLeaseResponse, error) {
	return serve(ctx, p, transferFromProto, s.svc.TransferLease, func(revision uint64) *qjmv1.TransferLeaseResponse {
		return &qjmv1.TransferLeaseResponse{Revision: revision}
	})
}

func (s *controlServer) GetLease(ctx context.Context, p *qjmv1.GetLeaseRequest) (*qjmv1.GetLeaseResponse, error) {
	return serve(ctx, p.JournalId, journalIDFromProto, s.svc.Lease, func(l rpc.Lease) *qjmv1.GetLeaseResponse {
		return &qjmv1.GetLeaseResponse{Lease: leaseToProto(l)}
	})
}

func (s *controlServer) WatchLease(ctx context.Context, p *qjmv1.WatchLeaseRequest) (*qjmv1.WatchLeaseResponse, error) {
	return serve(ctx, p, watchFromProto, s.svc.WatchLease, func(l rpc.Lease) *qjmv1.WatchLeaseResponse {
		return &qjmv1.WatchLeaseResponse{Lease: leaseToProto(l)}
	})
}
