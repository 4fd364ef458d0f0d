package wire

import (
	"maps"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
)

func strengthToProto(s rpc.ReadStrength) qjmv1.ReadStrength {
	return qjmv1.ReadStrength(s) + qjmv1.ReadStrength_READ_STRENGTH_LINEARIZABLE
}

// strength of none is the strongest.
func (d *decoder) strength(s qjmv1.ReadStrength) rpc.ReadStrength {
	if s < 0 || s > qjmv1.ReadStrength_READ_STRENGTH_STALE {
		d.fail("unknown read strength %d", s)
	}
	return rpc.ReadStrength(max(s, qjmv1.ReadStrength_READ_STRENGTH_LINEARIZABLE) - qjmv1.ReadStrength_READ_STRENGTH_LINEARIZABLE)
}

func policyToProto(p rpc.JournalPolicy) *qjmv1.JournalPolicy {
	return &qjmv1.JournalPolicy{
		SnapshotBytes: p.SnapshotBytes, SnapshotTxns: p.SnapshotTxns, SnapshotIntervalMillis: p.SnapshotIntervalMillis,
		SnapshotGrowthPercent: p.SnapshotGrowthPercent, RetainTxns: p.RetainTxns, RetainBytes: p.RetainBytes,
		Replicas: uint32(p.Replicas), AutoReadmit: p.AutoReadmit,
	}
}

func (d *decoder) policy(p *qjmv1.JournalPolicy) rpc.JournalPolicy {
	if r := p.GetReplicas(); r > quorum.MaxMembers {
		d.fail("too many replicas (got %d, want at most %d)", r, quorum.MaxMembers)
	}
	return rpc.JournalPolicy{
		SnapshotBytes: p.GetSnapshotBytes(), SnapshotTxns: p.GetSnapshotTxns(), SnapshotIntervalMillis: p.GetSnapshotIntervalMillis(),
		SnapshotGrowthPercent: p.GetSnapshotGrowthPercent(), RetainTxns: p.GetRetainTxns(), RetainBytes: p.GetRetainBytes(),
		Replicas: uint8(p.GetReplicas()), AutoReadmit: p.GetAutoReadmit(),
	}
}

func catalogNodeToProto(n rpc.CatalogNode) *qjmv1.CatalogNode {
	labels := maps.Clone(n.Labels)
	for k, v := range labels {
		labels[k] = text(v)
	}
	return &qjmv1.CatalogNode{
		NodeId: text(string(n.ID)), Incarnation: n.Incarnation[:], Addr: text(n.Addr), HttpAddr: text(n.HTTPAddr), Labels: labels,
		Version: text(n.Version), Level: uint32(n.Level), Voter: n.Voter, Leaving: n.Leaving,
	}
}

func (d *decoder) catalogNode(p *qjmv1.CatalogNode) rpc.CatalogNode {
	if p == nil {
		d.fail("node is missing")
		return rpc.CatalogNode{}
	}
	if len(p.Addr) > addrBytesMax || len(p.HttpAddr) > addrBytesMax {
		d.fail("address of node %.64q is too long", p.NodeId)
	}
	if p.Level > 1<<16-1 {
		d.fail("feature level (got %d)", p.Level)
	}
	d.count("labels", len(p.Labels), rpc.LabelsMax)
	n := rpc.CatalogNode{
		ID: d.nodeID(p.NodeId), Incarnation: d.id("incarnation", p.Incarnation), Addr: p.Addr, HTTPAddr: p.HttpAddr,
		Version: p.Version, Level: uint16(p.Level), Voter: p.Voter, Leaving: p.Leaving,
	}
	if len(p.Labels) > 0 {
		n.Labels = p.Labels
	}
	return n
}

func catalogNodesToProto(ns []rpc.CatalogNode) []*qjmv1.CatalogNode {
	out := make([]*qjmv1.CatalogNode, len(ns))
	for i, n := range ns {
		out[i] = catalogNodeToProto(n)
	}
	return out
}

func (d *decoder) catalogNodes(ps []*qjmv1.CatalogNode) []rpc.CatalogNode {
	var out []rpc.CatalogNode
	if !d.count("nodes", len(ps), rpc.CatalogNodesMax) {
		return nil
	}
	for _, p := range ps {
		out = append(out, d.catalogNode(p))
	}
	return out
}

func viewToProto(v rpc.CatalogView) *qjmv1.GetCatalogResponse {
	p := &qjmv1.GetCatalogResponse{
		Strength: strengthToProto(v.Strength), Index: v.Index, ClusterId: idOrNone(v.Cluster), Leader: text(string(v.Leader)),
		AnsweredBy: text(string(v.AnsweredBy)), Nodes: catalogNodesToProto(v.Nodes),
	}
	for _, j := range v.Journals {
		p.Journals = append(p.Journals, &qjmv1.CatalogJournal{
			JournalId: j.ID[:], Name: text(j.Name), Config: configToProto(j.Config), InForce: j.InForce, Stage: text(j.Stage),
			Policy: policyToProto(j.Policy), Quota: j.Quota, Deleted: j.Deleted, Change: membershipToProto(j.Change),
			History: historyToProto(j.History),
		})
	}
	return p
}

func viewFromProto(p *qjmv1.GetCatalogResponse) (rpc.CatalogView, error) {
	var d decoder
	v := rpc.CatalogView{
		Strength: d.strength(p.Strength), Index: p.Index, Cluster: d.idOrNone("cluster id", p.ClusterId),
		Leader: d.nodeIDOrNone(p.Leader), AnsweredBy: d.nodeIDOrNone(p.AnsweredBy), Nodes: d.catalogNodes(p.Nodes),
	}
	if !d.count("journals", len(p.Journals), rpc.CatalogJournalsMax) {
		return v, d.done()
	}
	for _, j := range p.Journals {
		if d.err == nil {
			d.err = rpc.CheckJournalName(j.GetName())
		}
		v.Journals = append(v.Journals, rpc.CatalogJournal{
			ID: d.id("journal id", j.GetJournalId()), Name: j.GetName(), Config: d.config(j.GetConfig()), InForce: j.GetInForce(),
			Stage: j.GetStage(), Policy: d.policy(j.GetPolicy()), Quota: j.GetQuota(), Deleted: j.GetDeleted(),
			Change: d.membership(j.GetChange()), History: d.history(j.GetHistory()),
		})
	}
	return v, d.done()
}

func (d *decoder) nodeIDOrNone(s string) quorum.NodeID {
	if s == "" {
		return ""
	}
	return d.nodeID(s)
}

func resultToProto(r rpc.CommandResult) *qjmv1.ForwardCommandResponse {
	p := &qjmv1.ForwardCommandResponse{Index: r.Index, Again: r.Again, Version: r.Version, Change: r.Change, Revision: r.Revision}
	p.Kept = keptToProto(r.Kept)
	return p
}

func resultFromProto(p *qjmv1.ForwardCommandResponse) (rpc.CommandResult, error) {
	var d decoder
	r := rpc.CommandResult{Index: p.Index, Again: p.Again, Version: p.Version, Change: p.Change, Revision: p.Revision}
	r.Kept = d.kept(p.Kept)
	return r, d.done()
}

func membershipToProto(ch *rpc.MembershipChange) *qjmv1.MembershipChange {
	if ch == nil {
		return nil
	}
	return &qjmv1.MembershipChange{Id: ch.ID, Stage: text(ch.Stage), Old: membersToProto(ch.Old), New: membersToProto(ch.New), Note: text(ch.Note)}
}

func (d *decoder) membership(p *qjmv1.MembershipChange) *rpc.MembershipChange {
	if p == nil {
		return nil
	}
	return &rpc.MembershipChange{
		ID: p.Id, Stage: p.Stage, Note: p.Note,
		Old: d.members("old members", p.Old, quorum.MaxMembers), New: d.members("new members", p.New, quorum.MaxMembers),
	}
}

func historyToProto(h []rpc.MembershipEvent) []*qjmv1.MembershipEvent {
	var out []*qjmv1.MembershipEvent
	for _, e := range h[max(0, len(h)-rpc.HistoryMax):] {
		out = append(out, &qjmv1.MembershipEvent{Index: e.Index, Kind: text(e.Kind), Version: e.Version, Note: text(e.Note)})
	}
	return out
}

func (d *decoder) history(ps []*qjmv1.MembershipEvent) []rpc.MembershipEvent {
	if !d.count("past changes", len(ps), rpc.HistoryMax) {
		return nil
	}
	var out []rpc.MembershipEvent
	for _, p := range ps {
		out = append(out, rpc.MembershipEvent{Index: p.GetIndex(), Kind: p.GetKind(), Version: p.GetVersion(), Note: p.GetNote()})
	}
	return out
}

func changeToProto(r rpc.ChangeRequest) *qjmv1.ChangeMembersRequest {
	p := &qjmv1.ChangeMembersRequest{Name: r.Name, ExpectVersion: r.Expect, DryRun: r.DryRun}
	for _, k := range r.To {
		p.To = append(p.To, &qjmv1.MemberRef{NodeId: string(k.ID), Incarnation: idOrNone(k.Incarnation)})
	}
	return p
}

func changeFromProto(p *qjmv1.ChangeMembersRequest) (rpc.ChangeRequest, error) {
	d := decoder{err: rpc.CheckJournalName(p.Name)}
	r := rpc.ChangeRequest{Name: p.Name, Expect: p.ExpectVersion, DryRun: p.DryRun}
	if !d.count("new members", len(p.To), quorum.MaxMembers) {
		return r, d.done()
	}
	for _, m := range p.To {
		r.To = append(r.To, quorum.Key{ID: d.nodeID(m.GetNodeId()), Incarnation: d.idOrNone("incarnation", m.GetIncarnation())})
	}
	return r, d.done()
}

func changeReplyToProto(r rpc.ChangeReply) *qjmv1.ChangeMembersResponse {
	return &qjmv1.ChangeMembersResponse{JournalId: r.Journal[:], Change: membershipToProto(&r.Change), Version: r.Version, Again: r.Again}
}

func changeReplyFromProto(p *qjmv1.ChangeMembersResponse) (rpc.ChangeReply, error) {
	var d decoder
	r := rpc.ChangeReply{Journal: d.id("journal id", p.JournalId), Version: p.Version, Again: p.Again}
	if ch := d.membership(p.Change); ch != nil {
		r.Change = *ch
	} else {
		d.fail("the change is missing")
	}
	return r, d.done()
}

func placeToProto(r rpc.PlaceRequest) *qjmv1.PlaceJournalRequest {
	return &qjmv1.PlaceJournalRequest{
		JournalId: r.ID[:], Name: r.Name, Replicas: uint32(max(r.Replicas, 0)), Spread: r.Spread, Policy: policyToProto(r.Policy),
		Quota: r.Quota, DryRun: r.DryRun,
	}
}

func placeFromProto(p *qjmv1.PlaceJournalRequest) (rpc.PlaceRequest, error) {
	var d decoder
	if p.Replicas > quorum.MaxMembers {
		d.fail("too many replicas (got %d, want at most %d)", p.Replicas, quorum.MaxMembers)
	}
	if d.err == nil {
		d.err = rpc.CheckJournalName(p.Name)
	}
	return rpc.PlaceRequest{
		ID: d.id("journal id", p.JournalId), Name: p.Name, Replicas: int(p.Replicas), Spread: p.Spread, Policy: d.policy(p.Policy),
		Quota: p.Quota, DryRun: p.DryRun,
	}, d.done()
}

func dropFromProto(p *qjmv1.DropJournalRequest) (rpc.DropRequest, error) {
	d := decoder{err: rpc.CheckJournalName(p.Name)}
	return rpc.DropRequest{Name: p.Name, ID: d.idOrNone("journal id", p.JournalId)}, d.done()
}

func configureToProto(r rpc.ConfigureRequest) *qjmv1.ConfigureJournalRequest {
	p := &qjmv1.ConfigureJournalRequest{Name: r.Name}
	if r.Policy != nil {
		p.Policy = policyToProto(*r.Policy)
	}
	if r.Quota != nil {
		p.Quota, p.SetQuota = *r.Quota, true
	}
	return p
}

func configureFromProto(p *qjmv1.ConfigureJournalRequest) (rpc.ConfigureRequest, error) {
	d := decoder{err: rpc.CheckJournalName(p.Name)}
	r := rpc.ConfigureRequest{Name: p.Name}
	if p.Policy != nil {
		policy := d.policy(p.Policy)
		r.Policy = &policy
	}
	if p.SetQuota {
		r.Quota = &p.Quota
	}
	return r, d.done()
}

func listToProto(r rpc.ListRequest) *qjmv1.ListSnapshotRequest {
	return &qjmv1.ListSnapshotRequest{
		JournalId: r.Journal[:], ConfigVersion: r.ConfigVersion, Snapshot: snapshotToProto(r.Snapshot), Claim: claimToProto(r.Claim),
	}
}

func listFromProto(p *qjmv1.ListSnapshotRequest) (rpc.ListRequest, error) {
	var d decoder
	return rpc.ListRequest{
		Journal: d.id("journal id", p.JournalId), ConfigVersion: p.ConfigVersion, Snapshot: d.snapshot(p.Snapshot), Claim: d.claim(p.Claim),
	}, d.done()
}

func foundToProto(s rpc.JournalSummary) *qjmv1.FindJournalResponse {
	return &qjmv1.FindJournalResponse{JournalId: s.ID[:], Config: configToProto(s.Config)}
}

func joinReplyToProto(r rpc.JoinReply) *qjmv1.JoinClusterResponse {
	return &qjmv1.JoinClusterResponse{ClusterId: idOrNone(r.Cluster), Founders: membersToProto(r.Founders), Nodes: catalogNodesToProto(r.Nodes)}
}

func joinReplyFromProto(p *qjmv1.JoinClusterResponse) (rpc.JoinReply, error) {
	var d decoder
	return rpc.JoinReply{
		Cluster: d.id("cluster id", p.ClusterId), Founders: d.members("founders", p.Founders, foundersMax), Nodes: d.catalogNodes(p.Nodes),
	}, d.done()
}
