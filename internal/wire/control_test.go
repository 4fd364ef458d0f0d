package wire

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/catalog"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

// control is the fake's part in the catalog: it remembers what it was called with.
type control struct {
	failure error
	last    call
	result  rpc.CommandResult
	view    rpc.CatalogView
	joined  rpc.JoinReply
	changed rpc.ChangeReply
	stream  func(rpc.RaftConn) error
	lease   rpc.Lease
	kept    []error
	group   rpc.GroupState

	inspected recovery.Answer
}

func (c *control) said(method string, args ...any) { c.last = call{method, args} }

func (c *control) RaftStream(conn rpc.RaftConn) error { return c.stream(conn) }

func (c *control) ForwardCommand(_ context.Context, b []byte) (rpc.CommandResult, error) {
	c.said("ForwardCommand", b)
	return c.result, c.failure
}

func (c *control) ReadIndex(context.Context) (uint64, error) { return 1<<64 - 1, c.failure }

func (c *control) Catalog(_ context.Context, s rpc.ReadStrength) (rpc.CatalogView, error) {
	c.said("Catalog", s)
	return c.view, c.failure
}

func (c *control) FindJournal(_ context.Context, name string) (rpc.JournalSummary, error) {
	return rpc.JournalSummary{ID: segments.JournalID{3}, Name: name, Config: config}, c.failure
}

func (c *control) PlaceJournal(_ context.Context, r rpc.PlaceRequest) (quorum.Config, error) {
	c.said("PlaceJournal", r)
	return config, c.failure
}

func (c *control) DropJournal(_ context.Context, r rpc.DropRequest) (segments.JournalID, error) {
	c.said("DropJournal", r)
	return segments.JournalID{9}, c.failure
}

func (c *control) ConfigureJournal(_ context.Context, r rpc.ConfigureRequest) error {
	c.said("ConfigureJournal", r)
	return c.failure
}

func (c *control) ListSnapshot(_ context.Context, r rpc.ListRequest) error {
	c.said("ListSnapshot", r)
	return c.failure
}

func (c *control) ChangeMembers(_ context.Context, r rpc.ChangeRequest) (rpc.ChangeReply, error) {
	c.said("ChangeMembers", r)
	return c.changed, c.failure
}

func (c *control) AbortChange(_ context.Context, r rpc.AbortRequest) (uint64, error) {
	c.said("AbortChange", r)
	return 7, c.failure
}

func (c *control) Readmit(_ context.Context, r rpc.ReadmitRequest) (rpc.ReadmitReply, error) {
	c.said("Readmit", r)
	return rpc.ReadmitReply{Old: members[0], New: members[1]}, c.failure
}

func (c *control) Join(_ context.Context, r rpc.JoinRequest) (rpc.JoinReply, error) {
	c.said("Join", r)
	return c.joined, c.failure
}

func (c *control) RemoveNode(_ context.Context, r rpc.RemoveRequest) error {
	c.said("RemoveNode", r)
	return c.failure
}

func (c *control) TransferLeader(_ context.Context, r rpc.TransferRequest) (quorum.NodeID, error) {
	c.said("TransferLeader", r)
	return "n2", c.failure
}

func (c *control) AcquireLease(_ context.Context, r rpc.LeaseRequest) (rpc.LeaseGrant, error) {
	c.said("AcquireLease", r)
	return rpc.LeaseGrant{Revision: 1<<64 - 1, Again: true}, c.failure
}

func (c *control) KeepLeases(_ context.Context, r rpc.LeaseRenewal) ([]error, error) {
	c.said("KeepLeases", r)
	return c.kept, c.failure
}

func (c *control) ResignLease(_ context.Context, r rpc.LeaseRef) error {
	c.said("ResignLease", r)
	return c.failure
}

func (c *control) TransferLease(_ context.Context, r rpc.LeaseTransfer) (uint64, error) {
	c.said("TransferLease", r)
	return 1<<64 - 1, c.failure
}

func (c *control) Lease(_ context.Context, id segments.JournalID) (rpc.Lease, error) {
	c.said("Lease", id)
	return c.lease, c.failure
}

func (c *control) WatchLease(_ context.Context, r rpc.LeaseWatch) (rpc.Lease, error) {
	c.said("WatchLease", r)
	return c.lease, c.failure
}

func (c *control) RaftSnapshot(context.Context) (uint64, error) { return 7, c.failure }

var (
	catalogNode = rpc.CatalogNode{
		ID: "n1", Incarnation: quorum.Incarnation{7}, Addr: "a:1", HTTPAddr: "a:2", Labels: map[string]string{"rack": "r1"},
		Version: "v1", Level: 1<<16 - 1, Voter: true, Leaving: true,
	}
	policy = rpc.JournalPolicy{
		SnapshotBytes: 1, SnapshotTxns: 2, SnapshotIntervalMillis: 3, SnapshotGrowthPercent: 4, RetainTxns: 5, RetainBytes: 6,
		Replicas: 7, AutoReadmit: true,
	}
)

func TestEveryFieldOfControlCallsArrives(t *testing.T) {
	s := &fakeService{control: control{
		result: rpc.CommandResult{Index: 1 << 63, Again: true, Version: 2, Change: 3, Revision: 4, Kept: []error{nil, catalog.ErrStale, rpc.ErrNoJournal}},
		view: rpc.CatalogView{
			Strength: rpc.Stale, Index: 1 << 63, Cluster: rpc.ClusterID{8}, Leader: "n2", AnsweredBy: "n3",
			Nodes: []rpc.CatalogNode{catalogNode, {ID: "n2"}},
			Journals: []rpc.CatalogJournal{{
				ID: segments.JournalID{3}, Name: "a", Config: config, InForce: 9, Stage: "joint", Policy: policy, Quota: 10, Deleted: true,
				Change:  &rpc.MembershipChange{ID: 1 << 63, Stage: "joint", Old: members, New: members[:1], Note: "why"},
				History: []rpc.MembershipEvent{{Index: 1 << 63, Kind: "aborted", Version: 7, Note: "asked for"}},
			}, {Name: "b"}},
		},
		changed: rpc.ChangeReply{
			Journal: segments.JournalID{3}, Version: 1 << 63, Again: true,
			Change: rpc.MembershipChange{ID: 1 << 63, Stage: "learning", Old: members, New: members[:1], Note: "why"},
		},
		joined: rpc.JoinReply{Cluster: rpc.ClusterID{8}, Founders: members, Nodes: []rpc.CatalogNode{catalogNode}},
	}}
	n, ctx := connect(t, s), within(t)

	res, err := n.ForwardCommand(ctx, []byte("command"))
	require.NoError(t, err)
	require.Equal(t, s.result, res)
	requireSame(t, call{"ForwardCommand", []any{[]byte("command")}}, s.last)

	index, err := n.ReadIndex(ctx)
	require.NoError(t, err)
	require.EqualValues(t, uint64(1<<64-1), index)

	for _, strength := range []rpc.ReadStrength{rpc.Linearizable, rpc.LeaseRead, rpc.Stale} {
		v, err := n.Catalog(ctx, strength)
		require.NoError(t, err)
		requireSame(t, s.view, v)
		requireSame(t, call{"Catalog", []any{strength}}, s.last)
	}

	j, err := n.FindJournal(ctx, "a")
	require.NoError(t, err)
	requireSame(t, rpc.JournalSummary{ID: segments.JournalID{3}, Name: "a", Config: config}, j)

	place := rpc.PlaceRequest{ID: segments.JournalID{3}, Name: "a", Replicas: 5, Spread: "rack", Policy: policy, Quota: 9, DryRun: true}
	cfg, err := n.PlaceJournal(ctx, place)
	require.NoError(t, err)
	requireSame(t, config, cfg)
	requireSame(t, call{"PlaceJournal", []any{place}}, s.last)

	for _, drop := range []rpc.DropRequest{{Name: "a"}, {Name: "a", ID: segments.JournalID{9}}} {
		id, err := n.DropJournal(ctx, drop)
		require.NoError(t, err)
		require.Equal(t, segments.JournalID{9}, id)
		requireSame(t, call{"DropJournal", []any{drop}}, s.last)
	}

	quota := uint64(0)
	for _, r := range []rpc.ConfigureRequest{{Name: "a"}, {Name: "a", Policy: &policy}, {Name: "a", Quota: &quota}} {
		require.NoError(t, n.ConfigureJournal(ctx, r))
		requireSame(t, call{"ConfigureJournal", []any{r}}, s.last)
	}

	for _, r := range []rpc.ListRequest{
		{Journal: segments.JournalID{3}, ConfigVersion: 1<<64 - 1, Claim: header.Claim, Snapshot: snap},
		{Journal: segments.JournalID{3}, ConfigVersion: 1, Snapshot: snap},
	} {
		require.NoError(t, n.ListSnapshot(ctx, r))
		requireSame(t, call{"ListSnapshot", []any{r}}, s.last)
	}
	require.ErrorIs(t, n.ListSnapshot(ctx, rpc.ListRequest{Journal: segments.JournalID{3}}), rpc.ErrBadRequest, "no snapshot")

	change := rpc.ChangeRequest{Name: "a", To: []quorum.Key{{ID: "n1"}, {ID: "n2", Incarnation: quorum.Incarnation{2}}}, Expect: 1 << 63, DryRun: true}
	changed, err := n.ChangeMembers(ctx, change)
	require.NoError(t, err)
	requireSame(t, s.changed, changed)
	requireSame(t, call{"ChangeMembers", []any{change}}, s.last)

	version, err := n.AbortChange(ctx, rpc.AbortRequest{Name: "a", Change: 1 << 63})
	require.NoError(t, err)
	require.EqualValues(t, 7, version)
	requireSame(t, call{"AbortChange", []any{rpc.AbortRequest{Name: "a", Change: 1 << 63}}}, s.last)

	readmitted, err := n.Readmit(ctx, rpc.ReadmitRequest{Node: "n1", DryRun: true})
	require.NoError(t, err)
	requireSame(t, rpc.ReadmitReply{Old: members[0], New: members[1]}, readmitted)
	requireSame(t, call{"Readmit", []any{rpc.ReadmitRequest{Node: "n1", DryRun: true}}}, s.last)

	join := rpc.JoinRequest{Node: catalogNode, DryRun: true}
	joined, err := n.Join(ctx, join)
	require.NoError(t, err)
	requireSame(t, s.joined, joined)
	requireSame(t, call{"Join", []any{join}}, s.last)

	remove := rpc.RemoveRequest{Node: "n1", Incarnation: quorum.Incarnation{7}, DryRun: true, Forwarded: true}
	require.NoError(t, n.RemoveNode(ctx, remove))
	requireSame(t, call{"RemoveNode", []any{remove}}, s.last)

	to, err := n.TransferLeader(ctx, rpc.TransferRequest{To: "n1", Forwarded: true})
	require.NoError(t, err)
	require.Equal(t, quorum.NodeID("n2"), to)
	requireSame(t, call{"TransferLeader", []any{rpc.TransferRequest{To: "n1", Forwarded: true}}}, s.last)

	index, err = n.RaftSnapshot(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 7, index)
}

var (
	leaseRef     = rpc.LeaseRef{Journal: segments.JournalID{3}, Revision: 1<<64 - 1}
	leaseRequest = rpc.LeaseRequest{Journal: segments.JournalID{3}, Holder: "w1", Addr: "a:1", TTL: 300 * time.Millisecond, Nonce: [16]byte{7}}
	lease        = rpc.Lease{
		Journal: segments.JournalID{3}, Index: 1 << 63, Revision: 1<<64 - 1, Holder: "w1", Addr: "a:1", TTL: rpc.LeaseTTLMax, ReservedFor: "w2",
	}
)

func TestEveryFieldOfLeaseCallsArrives(t *testing.T) {
	s := &fakeService{control: control{lease: lease, kept: []error{nil, catalog.ErrStale, rpc.ErrNoJournal}}}
	n, ctx := connect(t, s), within(t)

	g, err := n.AcquireLease(ctx, leaseRequest)
	require.NoError(t, err)
	require.Equal(t, rpc.LeaseGrant{Revision: 1<<64 - 1, Again: true}, g)
	requireSame(t, call{"AcquireLease", []any{leaseRequest}}, s.last)

	renewal := rpc.LeaseRenewal{Leases: []rpc.LeaseRef{leaseRef, {Journal: segments.JournalID{4}}, leaseRef}, Forwarded: true}
	kept, err := n.KeepLeases(ctx, renewal)
	require.NoError(t, err)
	require.Equal(t, s.kept, kept)
	requireSame(t, call{"KeepLeases", []any{renewal}}, s.last)
	_, err = n.KeepLeases(ctx, rpc.LeaseRenewal{Leases: renewal.Leases[:1]})
	require.ErrorIs(t, err, ErrMalformedReply, "an answer too many is not believed")

	require.NoError(t, n.ResignLease(ctx, leaseRef))
	requireSame(t, call{"ResignLease", []any{leaseRef}}, s.last)
	transfer := rpc.LeaseTransfer{LeaseRef: leaseRef, To: "w2"}
	revision, err := n.TransferLease(ctx, transfer)
	require.NoError(t, err)
	require.EqualValues(t, uint64(1<<64-1), revision)
	requireSame(t, call{"TransferLease", []any{transfer}}, s.last)

	l, err := n.Lease(ctx, header.Journal)
	require.NoError(t, err)
	require.Equal(t, lease, l)
	requireSame(t, call{"Lease", []any{header.Journal}}, s.last)
	watch := rpc.LeaseWatch{Journal: header.Journal, Index: 1 << 63, Revision: 5, Wait: rpc.LeaseWaitMax}
	l, err = n.WatchLease(ctx, watch)
	require.NoError(t, err)
	require.Equal(t, lease, l)
	requireSame(t, call{"WatchLease", []any{watch}}, s.last)
}

// What no node would take does not reach one.
func TestBadLeaseRequestsAreRefused(t *testing.T) {
	s := &fakeService{}
	n, ctx := connect(t, s), within(t)
	bad := func(f func(*rpc.LeaseRequest)) {
		t.Helper()
		r := leaseRequest
		f(&r)
		_, err := n.AcquireLease(ctx, r)
		require.ErrorIs(t, err, rpc.ErrBadRequest)
	}
	bad(func(r *rpc.LeaseRequest) { r.TTL = rpc.LeaseTTLMin - time.Millisecond })
	bad(func(r *rpc.LeaseRequest) { r.TTL = rpc.LeaseTTLMax + time.Millisecond })
	bad(func(r *rpc.LeaseRequest) { r.TTL = -time.Hour })
	bad(func(r *rpc.LeaseRequest) { r.TTL = 1<<63 - 1 })
	bad(func(r *rpc.LeaseRequest) { r.Holder = "" })
	bad(func(r *rpc.LeaseRequest) { r.Holder = strings.Repeat("h", rpc.LeaseNameMax+1) })
	bad(func(r *rpc.LeaseRequest) { r.Addr = strings.Repeat("a", rpc.LeaseAddrMax+1) })
	_, err := n.TransferLease(ctx, rpc.LeaseTransfer{LeaseRef: leaseRef})
	require.ErrorIs(t, err, rpc.ErrBadRequest)
	_, err = n.WatchLease(ctx, rpc.LeaseWatch{Wait: rpc.LeaseWaitMax + time.Millisecond})
	require.ErrorIs(t, err, rpc.ErrBadRequest)
	for _, count := range []int{0, rpc.KeptMax + 1} {
		_, err = n.KeepLeases(ctx, rpc.LeaseRenewal{Leases: make([]rpc.LeaseRef, count)})
		require.ErrorIs(t, err, rpc.ErrBadRequest)
	}
	require.Empty(t, s.last.Method)
}

func TestErrorsOfControlCallsAreTyped(t *testing.T) {
	want := &catalog.InUseError{Node: members[0], Journals: []string{"a"}}
	n, ctx := connect(t, &fakeService{control: control{failure: want}}), within(t)
	errs := map[string]error{
		"ConfigureJournal": n.ConfigureJournal(ctx, rpc.ConfigureRequest{Name: "a"}),
		"ListSnapshot":     n.ListSnapshot(ctx, rpc.ListRequest{Journal: segments.JournalID{3}, Snapshot: snap}),
		"RemoveNode":       n.RemoveNode(ctx, rpc.RemoveRequest{Node: "n1"}),
	}
	_, errs["ForwardCommand"] = n.ForwardCommand(ctx, nil)
	_, errs["ReadIndex"] = n.ReadIndex(ctx)
	_, errs["Catalog"] = n.Catalog(ctx, rpc.Stale)
	_, errs["FindJournal"] = n.FindJournal(ctx, "a")
	_, errs["PlaceJournal"] = n.PlaceJournal(ctx, rpc.PlaceRequest{Name: "a"})
	_, errs["DropJournal"] = n.DropJournal(ctx, rpc.DropRequest{Name: "a"})
	_, errs["ChangeMembers"] = n.ChangeMembers(ctx, rpc.ChangeRequest{Name: "a"})
	_, errs["AbortChange"] = n.AbortChange(ctx, rpc.AbortRequest{Name: "a"})
	_, errs["Readmit"] = n.Readmit(ctx, rpc.ReadmitRequest{Node: "n1"})
	_, errs["Join"] = n.Join(ctx, rpc.JoinRequest{Node: catalogNode})
	_, errs["TransferLeader"] = n.TransferLeader(ctx, rpc.TransferRequest{})
	_, errs["RaftSnapshot"] = n.RaftSnapshot(ctx)
	_, errs["AcquireLease"] = n.AcquireLease(ctx, leaseRequest)
	_, errs["KeepLeases"] = n.KeepLeases(ctx, rpc.LeaseRenewal{Leases: []rpc.LeaseRef{leaseRef}})
	errs["ResignLease"] = n.ResignLease(ctx, leaseRef)
	_, errs["TransferLease"] = n.TransferLease(ctx, rpc.LeaseTransfer{LeaseRef: leaseRef, To: "w2"})
	_, errs["Lease"] = n.Lease(ctx, header.Journal)
	_, errs["WatchLease"] = n.WatchLease(ctx, rpc.LeaseWatch{})
	for name, err := range errs {
		var got *catalog.InUseError
		require.ErrorAs(t, err, &got, name)
		require.Equal(t, want, got, name)
	}
}

func TestOverlongCommandIsRefused(t *testing.T) {
	s := &fakeService{}
	n, ctx := connect(t, s), within(t)
	_, err := n.ForwardCommand(ctx, make([]byte, rpc.CommandBytesMax+1))
	require.ErrorIs(t, err, rpc.ErrBadRequest)
	require.Empty(t, s.last.Method)
}

// A raft stream carries bytes both ways, more than one piece of them; either side ends it for both.
func TestRaftStream(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 3*rpc.RaftMessageBytes/16)
	ended := make(chan error, 1)
	s := &fakeService{control: control{stream: func(c rpc.RaftConn) error {
		go func() {
			b := make([]byte, len(big))
			if _, err := io.ReadFull(c, b); err == nil {
				_, _ = c.Write(b)
			}
			_, err := c.Read(b)
			ended <- err
		}()
		return nil
	}}}
	n, ctx := connect(t, s), within(t)
	open, cancel := context.WithCancel(ctx)
	c, err := n.RaftStream(open)
	require.NoError(t, err)
	cancel() // it bounds the opening only
	_, err = c.Write(big)
	require.NoError(t, err)
	got := make([]byte, len(big))
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, big, got)
	require.NoError(t, c.SetReadDeadline(time.Unix(1, 0)))
	_, err = c.Read(got)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, c.Close())
	require.Error(t, <-ended)
}

// One that is refused ends at once.
func TestRaftStream_Refused(t *testing.T) {
	n, ctx := connect(t, &fakeService{control: control{stream: func(rpc.RaftConn) error { return rpc.ErrNotFounded }}}), within(t)
	c, err := n.RaftStream(ctx)
	require.NoError(t, err)
	_, err = c.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, c.Close())
}

// A writer whose peer does not read is held back, and its deadline holds.
func TestRaftStream_Deadline(t *testing.T) {
	s := &fakeService{control: control{stream: func(rpc.RaftConn) error { return nil }}}
	n, ctx := connect(t, s), within(t)
	c, err := n.RaftStream(ctx)
	require.NoError(t, err)
	require.NoError(t, c.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
	for err == nil {
		_, err = c.Write(make([]byte, rpc.RaftMessageBytes))
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, c.Close())
}
