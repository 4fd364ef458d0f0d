package wire

import (
	"unicode/utf8"

	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/internal/rpc"
	qjmv1 "github.com/quorumjournal/qjm/proto/qjm/v1"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

func infoToProto(n rpc.NodeInfo) *qjmv1.GetInfoResponse {
	return &qjmv1.GetInfoResponse{
		NodeId:      text(string(n.ID)),
		Incarnation: n.Incarnation[:],
		ClusterId:   idOrNone(n.Cluster),
		Phase:       qjmv1.Phase(n.Phase) + qjmv1.Phase_PHASE_BLANK,
		Founders:    membersToProto(n.Founders),
		Version:     text(n.Version),
		Full:        n.Full,
	}
}

func infoFromProto(p *qjmv1.GetInfoResponse) (rpc.NodeInfo, error) {
	var d decoder
	if p.Phase < qjmv1.Phase_PHASE_BLANK || p.Phase > qjmv1.Phase_PHASE_FOUNDED {
		d.fail("unknown phase %d", p.Phase)
	}
	return rpc.NodeInfo{
		ID:          d.nodeID(p.NodeId),
		Incarnation: d.id("incarnation", p.Incarnation),
		Cluster:     d.idOrNone("cluster id", p.ClusterId),
		Phase:       rpc.Phase(p.Phase - qjmv1.Phase_PHASE_BLANK),
		Founders:    d.members("founders", p.Founders, foundersMax),
		Version:     p.Version,
		Full:        p.Full,
	}, d.done()
}

func journalToProto(j rpc.JournalSummary) *qjmv1.Journal {
	return &qjmv1.Journal{
		JournalId: j.ID[:],
		Name:      text(j.Name),
		Config:    configToProto(j.Config),
		Deleted:   j.Deleted,
		Learner:   j.Learner,
		Holding:   idOrNone(j.Holding),
	}
}

// journal reads a summary. A node that cannot read a journal's files has no name to tell.
func (d *decoder) journal(p *qjmv1.Journal) rpc.JournalSummary {
	if p == nil {
		d.fail("journal is missing")
		return rpc.JournalSummary{}
	}
	if p.Name != "" && d.err == nil {
		d.err = rpc.CheckJournalName(p.Name)
	}
	return rpc.JournalSummary{
		ID:      d.id("journal id", p.JournalId),
		Name:    p.Name,
		Config:  d.config(p.Config),
		Deleted: p.Deleted, Learner: p.Learner,
		Holding: d.idOrNone("holding", p.Holding),
	}
}

func journalsToProto(js []rpc.JournalSummary) *qjmv1.ListJournalsResponse {
	p := &qjmv1.ListJournalsResponse{Journals: make([]*qjmv1.Journal, len(js))}
	for i, j := range js {
		p.Journals[i] = journalToProto(j)
	}
	return p
}

func journalsFromProto(p *qjmv1.ListJournalsResponse) ([]rpc.JournalSummary, error) {
	var d decoder
	var js []rpc.JournalSummary
	for _, j := range p.Journals {
		js = append(js, d.journal(j))
	}
	return js, d.done()
}

func installFromProto(p *qjmv1.InstallConfigRequest) (rpc.JournalSummary, error) {
	return configuredFromProto(p.Journal)
}

func leaveFromProto(p *qjmv1.LeaveJournalRequest) (rpc.JournalSummary, error) {
	return configuredFromProto(p.Journal)
}

// configuredFromProto reads a journal that has to come with its name and config.
func configuredFromProto(p *qjmv1.Journal) (rpc.JournalSummary, error) {
	var d decoder
	j := d.journal(p)
	if d.err == nil {
		d.err = rpc.CheckJournalName(j.Name)
	}
	if j.Config.IsZero() {
		d.fail("config is missing")
	}
	return j, d.done()
}

// journalIDFromProto reads the id of a request that carries nothing else.
func journalIDFromProto(b []byte) (segments.JournalID, error) {
	var d decoder
	return d.id("journal id", b), d.done()
}

func stateToProto(s rpc.JournalState) *qjmv1.GetStateResponse {
	p := &qjmv1.GetStateResponse{
		NodeId:         text(string(s.Node)),
		Incarnation:    s.Incarnation[:],
		Journal:        journalToProto(s.Summary),
		Promised:       claimToProto(s.Promised),
		DataKnown:      s.DataKnown,
		Member:         s.Member,
		Answer:         answerToProto(s.Answer),
		WrittenTxid:    uint64(s.Written),
		LastSyncNanos:  nanos(s.LastSync),
		SinceSyncNanos: nanos(s.SinceSync),
		Poisoned:       text(s.Poisoned),
		Seal:           sealToProto(s.Seal),

		SinceWriterNanos: nanos(s.SinceWriter),
		UpNanos:          nanos(s.Up),
	}
	for _, x := range s.Damaged {
		p.Damaged = append(p.Damaged, &qjmv1.Damage{Segment: uint64(x.Segment), Text: text(x.Text)})
	}
	return p
}

func stateFromProto(p *qjmv1.GetStateResponse) (rpc.JournalState, error) {
	var d decoder
	s := rpc.JournalState{
		Node:        d.nodeID(p.NodeId),
		Incarnation: d.id("incarnation", p.Incarnation),
		Summary:     d.journal(p.Journal),
		Promised:    d.claim(p.Promised),
		DataKnown:   p.DataKnown,
		Member:      p.Member,
		Written:     segments.TxID(p.WrittenTxid),
		LastSync:    d.duration("last sync", p.LastSyncNanos),
		SinceSync:   d.duration("time since the last sync", p.SinceSyncNanos),
		Poisoned:    p.Poisoned,
		SinceWriter: d.duration("time since the writer was heard", p.SinceWriterNanos),
		Up:          d.duration("time up", p.UpNanos),
		Seal:        sealFromProto(p.Seal),
	}
	// A node that has no data answer may leave it blank; one that has must say whose it is.
	if p.DataKnown || p.GetAnswer().GetNodeId() != "" {
		s.Answer = d.answer(p.Answer)
	} else {
		s.Answer = d.answerOf(p.Answer)
	}
	for _, x := range p.Damaged {
		s.Damaged = append(s.Damaged, rpc.Damage{Segment: segments.TxID(x.GetSegment()), Text: x.GetText()})
	}
	return s, d.done()
}

func segmentsRequestToProto(r rpc.SegmentsRequest) *qjmv1.ListSegmentsRequest {
	return &qjmv1.ListSegmentsRequest{
		JournalId: r.Journal[:], After: uint64(r.After), Limit: uint32(min(max(r.Limit, 0), rpc.SegmentsPageMax)),
	}
}

func segmentsRequestFromProto(p *qjmv1.ListSegmentsRequest) (rpc.SegmentsRequest, error) {
	var d decoder
	return rpc.SegmentsRequest{
		Journal: d.id("journal id", p.JournalId), After: segments.TxID(p.After),
		Limit: int(min(p.Limit, rpc.SegmentsPageMax)),
	}, d.done()
}

func segmentsToProto(page rpc.SegmentsPage) *qjmv1.ListSegmentsResponse {
	p := &qjmv1.ListSegmentsResponse{Segments: make([]*qjmv1.Segment, len(page.Segments)), More: page.More, Purged: positionToProto(page.Purged)}
	for i, s := range page.Segments {
		p.Segments[i] = &qjmv1.Segment{
			FirstTxid: uint64(s.First),
			State:     copyStateToProto(s.State),
			Last:      positionToProto(s.Last),
			Epoch:     uint64(s.Epoch),
			Prev:      endToProto(s.Prev),
			Bytes:     uint64(max(s.Bytes, 0)),
			Problem:   problem(s.Problem),
		}
	}
	return p
}

func segmentsFromProto(p *qjmv1.ListSegmentsResponse) (rpc.SegmentsPage, error) {
	var d decoder
	page := rpc.SegmentsPage{More: p.More, Purged: d.position(p.Purged)}
	if !d.count("segments in a page", len(p.Segments), rpc.SegmentsPageMax) {
		return page, d.done()
	}
	for _, s := range p.Segments {
		page.Segments = append(page.Segments, rpc.SegmentInfo{
			First:   segments.TxID(s.GetFirstTxid()),
			State:   d.copyState(s.GetState()),
			Last:    d.position(s.GetLast()),
			Epoch:   fencing.Epoch(s.GetEpoch()),
			Prev:    d.end(s.GetPrev()),
			Bytes:   d.int64("size of a segment", s.GetBytes()),
			Problem: problem(s.GetProblem()),
		})
	}
	return page, d.done()
}

// problem cuts a text for people to what a full page has room for, between two characters.
func problem(s string) string {
	s = text(s)
	n := min(len(s), rpc.ProblemBytesMax)
	for n > 0 && n < len(s) && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func copyStateToProto(s recovery.CopyState) qjmv1.CopyState {
	return qjmv1.CopyState(s) + qjmv1.CopyState_COPY_STATE_ABSENT
}

func (d *decoder) copyState(s qjmv1.CopyState) recovery.CopyState {
	if s < qjmv1.CopyState_COPY_STATE_ABSENT || s > qjmv1.CopyState_COPY_STATE_PURGED {
		d.fail("unknown copy state %d", s)
		return recovery.Unknown
	}
	return recovery.CopyState(s - qjmv1.CopyState_COPY_STATE_ABSENT)
}
