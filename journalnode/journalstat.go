package journalnode

import (
	"context"
	"strconv"
	"strings"

	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/journalnode/journal"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
)

const journalStatSchema = "qjm.v1/journal-stat"

// statJournalsMax bounds the journals on one page; each has a page of its own.
const statJournalsMax = 1000

// journalStat is one journal at this node, as /raft_stat shows it.
type journalStat struct {
	Schema        string     `json:"schema,omitempty"`
	Name          string     `json:"journal"`
	ID            string     `json:"id"`
	State         string     `json:"state"` // ok, unknown, poisoned, stalled, left or deleted
	Error         string     `json:"error,omitempty"`
	WriterEpoch   string     `json:"writer_epoch"` // of the newest segment
	Promised      string     `json:"promised_epoch"`
	PromisedTo    string     `json:"promised_to"`
	ConfigVersion string     `json:"conf_index"`
	Stage         string     `json:"stage"`
	Sets          [][]string `json:"member_sets"`
	OldPeers      []string   `json:"old_peers,omitempty"`
	NewPeers      []string   `json:"new_peers,omitempty"`
	First         string     `json:"first_txid"`
	Last          string     `json:"last_txid"`
	Committed     string     `json:"committed_txid"`
	Purged        string     `json:"purged_txid"`
	Open          string     `json:"open_segment"` // its first txid; 0: none
	Snapshot      string     `json:"last_snapshot_txid"`
	WriterHeard   string     `json:"last_msg_to_now_millis"` // -1: no writer since the node started
}

func (n *Node) journalStats(ctx context.Context) (out []journalStat, left int) {
	ctx, cancel := context.WithTimeout(ctx, n.opts.PeerTimeout)
	defer cancel()
	out = []journalStat{}
	for _, o := range n.allOwners() {
		switch {
		case o.j.Summary().Deleted:
		case len(out) == statJournalsMax:
			left++
		default:
			out = append(out, n.journalStat(ctx, o))
		}
	}
	return out, left
}

func (n *Node) journalStat(ctx context.Context, o *owner) journalStat {
	s := o.j.Summary()
	u := func(v uint64) string { return strconv.FormatUint(v, 10) }
	out := journalStat{
		Name: s.Name, ID: s.ID.String(), State: "ok", ConfigVersion: u(s.Config.Version), Stage: "none", Sets: [][]string{},
		First: "0", Last: "0", Committed: "0", Purged: "0", Open: "0", Snapshot: "0", WriterEpoch: "0", Promised: "0", WriterHeard: "-1",
	}
	for _, set := range s.Config.Sets {
		out.Sets = append(out.Sets, names(set))
	}
	if j, ok := n.journalOf(s.ID); ok && j.Change != nil {
		out.Stage, out.OldPeers, out.NewPeers = j.Change.Stage.String(), names(j.Change.Old), names(j.Change.New)
	}
	st, err := n.State(ctx, s.ID)
	if err != nil {
		out.State, out.Error = "unknown", err.Error()
		if o.stalled() {
			out.State = "stalled"
		}
		return out
	}
	out.take(st)
	if !s.Config.Has(n.opts.ID, o.j.Self().Incarnation) {
		out.State = "left"
	}
	page, err := ask(ctx, o, func(j *journal.Journal) (rpc.SegmentsPage, error) { return j.SegmentsAfter(0, 1), nil })
	if err == nil && len(page.Segments) > 0 {
		out.First = u(uint64(page.Segments[0].First))
	}
	var newest segments.TxID
	held, _ := o.j.HeldSnapshots()
	for _, h := range held {
		if h.Err == nil {
			newest = max(newest, h.Snapshot.TxID)
		}
	}
	out.Snapshot = u(uint64(newest))
	return out
}

// take takes in what the journal says of itself.
func (s *journalStat) take(st rpc.JournalState) {
	u := func(v uint64) string { return strconv.FormatUint(v, 10) }
	c := st.Answer.Copy
	s.Promised, s.WriterEpoch, s.Committed = u(uint64(st.Promised.Epoch)), u(uint64(c.Epoch)), u(uint64(st.Answer.Floor.At.TxID))
	s.Purged = u(uint64(st.Answer.Purged.TxID))
	if !st.Promised.IsZero() {
		s.PromisedTo = st.Promised.Writer.String()
	}
	if c.State == recovery.InProgress {
		s.Open = u(uint64(c.Segment))
	}
	if st.Answer.Newest > 0 {
		s.Last = u(uint64(c.Last.TxID))
	}
	if st.SinceWriter > 0 {
		s.WriterHeard = strconv.FormatInt(st.SinceWriter.Milliseconds(), 10)
	}
	switch {
	case st.Poisoned != "":
		s.State, s.Error = "poisoned", st.Poisoned
	case !st.DataKnown:
		s.State = "unknown"
		for _, d := range st.Damaged {
			s.Error = d.Text
		}
	}
}

// lines are the fields by their JSON names, in one order.
func (s journalStat) lines() [][2]string {
	var sets []string
	for _, set := range s.Sets {
		sets = append(sets, strings.Join(set, " "))
	}
	out := [][2]string{
		{"id", s.ID}, {"state", s.State}, {"error", s.Error}, {"writer_epoch", s.WriterEpoch}, {"promised_epoch", s.Promised},
		{"promised_to", s.PromisedTo}, {"conf_index", s.ConfigVersion}, {"stage", s.Stage}, {"peers", strings.Join(sets, " and ")},
	}
	if len(s.NewPeers) > 0 {
		out = append(out, [2]string{"new_peers", strings.Join(s.NewPeers, " ")}, [2]string{"old_peers", strings.Join(s.OldPeers, " ")})
	}
	return append(out, [][2]string{
		{"storage", "[" + s.First + ", " + s.Last + "]"}, {"last_committed_txid", s.Committed}, {"purged_txid", s.Purged},
		{"open_segment", s.Open}, {"last_snapshot_txid", s.Snapshot}, {"last_msg_to_now_millis", s.WriterHeard},
	}...)
}
