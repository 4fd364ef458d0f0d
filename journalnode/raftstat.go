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

	Members []raftMember `json:"members"`
}

type raftMember struct {
	ID     string `json:"id"`
	Voter  bool   `json:"voter"`
	Errors string `json:"errors_in_a_row"` // as this node, leading, has met them
}

const raftStatSchema = "qjm.v1/raft-stat"

func (n *Node) raftStat() raftStat {
	g, err := n.control.member()
	if err != nil {
		return raftStat{Schema: raftStatSchema, Node: string(n.opts.ID), Error: err.Error(), Members: []raftMember{}}
	}
	at, _ := n.control.machine.applied()
	return statOf(string(n.opts.ID), at, g.Stats())
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
	}
	errs := map[raftgroup.ServerID]string{}
	for _, p := range s.Peers {
		errs[p.ID] = fmt.Sprint(p.Errors)
	}
	for _, m := range s.Members {
		out.Members = append(out.Members, raftMember{ID: string(m.ID), Voter: m.Voter, Errors: errs[m.ID]})
	}
	return out
}

// lines are the fields by their JSON names, in one order.
func (s raftStat) lines() [][2]string {
	out := [][2]string{
		{"node", s.Node}, {"error", s.Error}, {"state", s.State}, {"leader", s.Leader}, {"term", s.Term}, {"last_contact_millis", s.Contact},
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
	return out
}

var raftStatPage = template.Must(template.New("raft_stat").Parse(`<!DOCTYPE html>
<title>raft_stat</title>
<h1>Catalog group at this node</h1>
<table>{{range .}}<tr><td>{{index . 0}}</td><td>{{index . 1}}</td></tr>
{{end}}</table>
`))

// serveRaftStat answers in JSON or HTML where that is asked for, by Accept or by ?format=, else in text.
func (n *Node) serveRaftStat(w http.ResponseWriter, r *http.Request) {
	s := n.raftStat()
	accept := r.Header.Get("Accept")
	switch format := r.URL.Query().Get("format"); {
	case format == "json" || format == "" && strings.Contains(accept, "application/json"):
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s)
	case format == "html" || format == "" && strings.Contains(accept, "text/html"):
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = raftStatPage.Execute(w, s.lines())
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		for _, l := range s.lines() {
			_, _ = io.WriteString(w, l[0]+": "+l[1]+"\n")
		}
	}
}
