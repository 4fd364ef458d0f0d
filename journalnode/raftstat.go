package journalnode

import (
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/quorumjournal/qjm/journalnode/raftgroup"
)

// raftStat is the catalog's group at this node, as /raft_stat shows it. Numbers that may have 64 bits are
// strings in JSON.
type raftStat struct {
	Schema  string `json:"schema"`
	Node    string `json:"node"`
	Error   string `json:"error,omitempty"` // why the node takes no part
	State   string `json:"state"`
	Leader  string `json:"leader"`
	Term    string `json:"term"`
	Contact string `json:"last_contact_millis"` // -1: no leader was ever heard

	LastLogIndex  string `json:"last_log_index"`
	LastLogTerm   string `json:"last_log_term"`
	Committed     string `json:"committed_index"`
	Applied       string `json:"applied_index"`
	CatalogIndex  string `json:"catalog_index"`
	Pending       string `json:"fsm_pending"`
	ConfIndex     string `json:"conf_index"`
	Changing      bool   `json:"conf_changing"`
	Snapshot      string `json:"snapshot_index"`
	SnapshotTerm  string `json:"snapshot_term"`
	SnapshotBytes string `json:"snapshot_bytes"`
	SinceSnapshot string `json:"bytes_since_snapshot"`
	Snapshotting  bool   `json:"snapshotting"`
	SnapshotError string `json:"snapshot_error,omitempty"`
	StoreOldest   string `json:"store_oldest_millis"`
	Stalled       bool   `json:"stalled"`
	InFlight      int    `json:"in_flight"`
	Alarms        string `json:"install_alarms"`

	// What users of braft look for under these names.
	PeerID         string       `json:"peer_id"`
	Peers          []string     `json:"peers"` // those that vote
	Storage        [2]string    `json:"storage"`
	StateMachine   string       `json:"state_machine"`
	SnapshotStatus string       `json:"snapshot_status"`
	Replicators    []replicator `json:"replicators"` // as this node, leading, has met them

	Members []raftMember `json:"members"`

	Journals []journalStat `json:"journals"`
	Left     int           `json:"journals_left_out"` // beyond statJournalsMax
}

// replicator is what the leader knows of one other server.
type replicator struct {
	Peer       string `json:"peer"`
	Next       string `json:"next_index"`
	Match      string `json:"match_index"`
	Doing      string `json:"doing"` // idle, or installing a snapshot
	Errors     string `json:"consecutive_error_times"`
	Heartbeats string `json:"hc"`
	Appends    string `json:"ac"`
	Installs   string `json:"ic"`
}

func (r replicator) String() string {
	return fmt.Sprintf("next_index=%s match_index=%s %s consecutive_error_times=%s hc=%s ac=%s ic=%s",
		r.Next, r.Match, r.Doing, r.Errors, r.Heartbeats, r.Appends, r.Installs)
}

type raftMember struct {
	ID     string `json:"id"`
	Voter  bool   `json:"voter"`
	Errors string `json:"errors_in_a_row,omitempty"` // as this node, leading, has met them
}

const raftStatSchema = "qjm.v1/raft-stat"

func (n *Node) raftStat() raftStat {
	g, err := n.control.member()
	if err != nil {
		return raftStat{
			Schema: raftStatSchema, Node: string(n.opts.ID), Error: err.Error(), PeerID: string(n.identity().serverID()), State: "Shutdown",
			Members: []raftMember{}, Peers: []string{}, Replicators: []replicator{}, Journals: []journalStat{},
		}
	}
	at, _ := n.control.machine.applied()
	s := statOf(string(n.opts.ID), at, g.Stats())
	if out := n.isRemoved(); out != nil {
		s.Error = out.Error()
	}
	if first, err := g.FirstLog(); err == nil {
		s.Storage[0] = strconv.FormatUint(first, 10)
	}
	return s
}

func statOf(node string, catalogIndex uint64, s raftgroup.Stats) raftStat {
	u := func(v uint64) string { return strconv.FormatUint(v, 10) }
	i := func(v int64) string { return strconv.FormatInt(v, 10) }
	millis := func(d time.Duration) string {
		if d < 0 {
			return "-1"
		}
		return i(d.Milliseconds())
	}
	out := raftStat{
		Schema: raftStatSchema, Node: node, State: s.State, Leader: string(s.Leader), Term: u(s.Term), Contact: millis(s.LastContact),
		LastLogIndex: u(s.LastLog), LastLogTerm: u(s.LastLogTerm), Committed: u(s.Commit), Applied: u(s.Applied),
		CatalogIndex: u(catalogIndex), Pending: u(s.MachinePending), ConfIndex: u(s.ConfIndex), Changing: s.Changing,
		Snapshot: u(s.SnapshotIndex), SnapshotTerm: u(s.SnapshotTerm), SnapshotBytes: i(s.SnapshotBytes), SinceSnapshot: i(s.BytesSinceSnapshot),
		Snapshotting: s.SnapshotRunning, SnapshotError: s.SnapshotError, StoreOldest: millis(s.StoreOldest), Stalled: s.Stalled,
		InFlight: s.InFlight, Alarms: u(s.InstallAlarms), Members: []raftMember{},
		PeerID: string(s.Self), Peers: []string{}, Storage: [2]string{"", u(s.LastLog)}, StateMachine: doing(s), SnapshotStatus: "IDLE",
		Replicators: []replicator{}, Journals: []journalStat{},
	}
	if s.SnapshotRunning {
		out.SnapshotStatus = "SAVING"
	}
	for _, p := range s.Peers {
		r := replicator{
			Peer: string(p.ID), Next: u(p.Match + 1), Match: u(p.Match), Doing: "idle", Errors: u(p.Errors),
			Heartbeats: u(p.Heartbeats), Appends: u(p.Appends), Installs: u(p.Installs),
		}
		if p.Installing {
			r.Doing = "installing snapshot " + u(p.SnapshotIndex)
		}
		if s.State == "Leader" && p.Term == s.Term {
			out.Replicators = append(out.Replicators, r)
		}
	}
	errs := map[raftgroup.ServerID]string{}
	for _, p := range s.Peers {
		errs[p.ID] = fmt.Sprint(p.Errors)
	}
	for _, m := range s.Members {
		out.Members = append(out.Members, raftMember{ID: string(m.ID), Voter: m.Voter, Errors: errs[m.ID]})
		if m.Voter {
			out.Peers = append(out.Peers, string(m.ID))
		}
	}
	return out
}

// doing is what the state machine does.
func doing(s raftgroup.Stats) string {
	switch {
	case s.SnapshotRunning:
		return "Saving snapshot"
	case s.Applied < s.Commit || s.MachinePending > 0:
		return fmt.Sprintf("Applying log_index=%d", s.Applied+1)
	}
	return "Idle"
}

// lines are the fields by their JSON names, in one order.
func (s raftStat) lines() [][2]string {
	out := [][2]string{
		{"node", s.Node}, {"peer_id", s.PeerID}, {"error", s.Error}, {"state", s.State}, {"peers", strings.Join(s.Peers, " ")},
		{"storage", fmt.Sprintf("[%s, %s]", s.Storage[0], s.Storage[1])}, {"last_log_id", fmt.Sprintf("(index=%s,term=%s)", s.LastLogIndex, s.LastLogTerm)},
		{"state_machine", s.StateMachine}, {"snapshot_status", s.SnapshotStatus}, {"leader", s.Leader}, {"term", s.Term}, {"last_contact_millis", s.Contact},
		{"last_log_index", s.LastLogIndex}, {"last_log_term", s.LastLogTerm}, {"committed_index", s.Committed}, {"applied_index", s.Applied},
		{"catalog_index", s.CatalogIndex}, {"fsm_pending", s.Pending}, {"conf_index", s.ConfIndex}, {"conf_changing", fmt.Sprint(s.Changing)},
		{"snapshot_index", s.Snapshot}, {"snapshot_term", s.SnapshotTerm}, {"snapshot_bytes", s.SnapshotBytes},
		{"bytes_since_snapshot", s.SinceSnapshot}, {"snapshotting", fmt.Sprint(s.Snapshotting)}, {"snapshot_error", s.SnapshotError},
		{"store_oldest_millis", s.StoreOldest}, {"stalled", fmt.Sprint(s.Stalled)}, {"in_flight", fmt.Sprint(s.InFlight)},
		{"install_alarms", s.Alarms},
	}
	for _, m := range s.Members {
		role := "non-voter"
		if m.Voter {
			role = "voter"
		}
		out = append(out, [2]string{"member", strings.TrimSpace(m.ID + " " + role + " " + m.Errors)})
	}
	for i, r := range s.Replicators {
		out = append(out, [2]string{fmt.Sprintf("replicator_%d@%s", i, r.Peer), r.String()})
	}
	return out
}

// section is one group of the page: the catalog's, or a journal.
type section struct {
	Name  string
	Lines [][2]string
}

var raftStatPage = template.Must(template.New("raft_stat").Parse(`<!DOCTYPE html>
<title>raft_stat</title>
{{range .}}<h1>{{.Name}}</h1>
<table>{{range .Lines}}<tr><td>{{index . 0}}</td><td>{{index . 1}}</td></tr>
{{end}}</table>
{{end}}`))

// serveRaftStat shows the catalog's group and each journal on this node.
func (n *Node) serveRaftStat(w http.ResponseWriter, r *http.Request) {
	s := n.raftStat()
	s.Journals, s.Left = n.journalStats(r.Context())
	all := []section{{"catalog", s.lines()}}
	for _, j := range s.Journals {
		all = append(all, section{j.Name, j.lines()})
	}
	serveStat(w, r, s, all)
}

// serveGroupStat shows one of them.
func (n *Node) serveGroupStat(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if name == "catalog" {
		s := n.raftStat()
		serveStat(w, r, s, []section{{name, s.lines()}})
		return
	}
	for _, o := range n.allOwners() {
		if o.j.Name() == name && !o.j.Summary().Deleted {
			s := n.journalStat(r.Context(), o)
			s.Schema = journalStatSchema
			serveStat(w, r, s, []section{{name, s.lines()}})
			return
		}
	}
	http.Error(w, "no such group on this node: "+name, http.StatusNotFound)
}

// statFormats are what ?format= takes.
const statFormats = "text, json, html"

// statLineMax is how wide a line of the text is; a longer one goes on, indented, where a word ends.
const statLineMax = 100

// serveStat answers in JSON or HTML where that is asked for, by Accept or by ?format=, else in text.
func serveStat(w http.ResponseWriter, r *http.Request, object any, all []section) {
	accept := r.Header.Get("Accept")
	switch format := r.URL.Query().Get("format"); {
	case format == "json" || format == "" && strings.Contains(accept, "application/json"):
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(object)
	case format == "html" || format == "" && strings.Contains(accept, "text/html"):
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = raftStatPage.Execute(w, all)
	case format == "text" || format == "":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		for _, s := range all {
			_, _ = io.WriteString(w, "["+s.Name+"]\n")
			for _, l := range s.Lines {
				_, _ = io.WriteString(w, statLine(l[0]+": "+l[1])+"\n")
			}
		}
	default:
		http.Error(w, fmt.Sprintf("format %q: want one of %s", format, statFormats), http.StatusBadRequest)
	}
}

// statLine breaks a line between words.
func statLine(line string) string {
	var b strings.Builder
	width := 0
	for i, word := range strings.Split(line, " ") {
		switch {
		case i == 0:
		case width+1+len(word) > statLineMax:
			b.WriteString("\n ")
			width = 1
			fallthrough
		default:
			b.WriteByte(' ')
			width++
		}
		b.WriteString(word)
		width += len(word)
	}
	return b.String()
}
