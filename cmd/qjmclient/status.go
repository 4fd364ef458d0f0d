package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/recovery"
)

type statusJSON struct {
	Schema        string           `json:"schema"`
	Journal       string           `json:"journal"`
	ID            string           `json:"id"`
	ConfigVersion string           `json:"config_version"`
	Epoch         string           `json:"epoch"`
	Writer        string           `json:"writer"`
	Committed     string           `json:"committed_txid"`
	OpenSegment   string           `json:"open_segment"` // "0": none
	Newest        string           `json:"newest_segment"`
	Quorum        bool             `json:"quorum"`
	Degraded      bool             `json:"degraded"`
	Nodes         []nodeStatusJSON `json:"nodes"`
}

type nodeStatusJSON struct {
	Node         string   `json:"node"`
	State        string   `json:"state"`
	Incarnation  string   `json:"incarnation"`
	Promised     string   `json:"promised_epoch"`
	Newest       string   `json:"newest_segment"`
	SegmentState string   `json:"segment_state"`
	SegmentEpoch string   `json:"segment_epoch"`
	Last         string   `json:"last_txid"`
	Lag          string   `json:"lag_txns"`
	Digest       string   `json:"digest"`
	Committed    string   `json:"committed_txid"`
	SyncMillis   float64  `json:"sync_ms"`
	Problems     []string `json:"problems"`
	Error        string   `json:"error"`
}

func (a *app) statusCmd() *cobra.Command {
	return &cobra.Command{
		Use: "status NAME", Short: "Show how a journal stands on each node", Args: journalName,
		Long:    "Show how a journal stands on each node. Exit code 6: some node is not in sync; 5: no quorum.",
		Example: "  qjmclient journal status orders",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd, args[0], func(ctx context.Context, cl *libqjm.Client) error {
				st, err := cl.Status(ctx, args[0])
				if err != nil {
					return err
				}
				return a.printStatus(cmd, st)
			})
		},
	}
}

func (a *app) printStatus(cmd *cobra.Command, st libqjm.JournalStatus) error {
	out := statusOf(st)
	if err := a.print(cmd, out, func(w io.Writer) error { return statusTable(w, st, out) }); err != nil {
		return err
	}
	switch {
	case !st.Quorum:
		return noQuorum(st, "the journal")
	case st.Degraded():
		var bad []string
		for _, n := range st.Nodes {
			if n.State != "in-sync" {
				bad = append(bad, n.Node+" is "+n.State)
			}
		}
		say(cmd.ErrOrStderr(), "degraded: %s", strings.Join(bad, ", "))
		return cli.ErrDegraded
	}
	return nil
}

func statusOf(st libqjm.JournalStatus) statusJSON {
	out := statusJSON{
		Schema: cli.Schema("journal-status"), Journal: st.Name, ID: st.ID, ConfigVersion: cli.U64(st.Version), Epoch: cli.U64(st.Epoch),
		Writer: st.Writer, Committed: cli.U64(st.Committed), OpenSegment: cli.U64(openSegment(st)), Newest: cli.U64(st.Segment),
		Quorum: st.Quorum, Degraded: st.Degraded(), Nodes: []nodeStatusJSON{},
	}
	for _, n := range st.Nodes {
		j := nodeStatusJSON{
			Node: n.Node, State: n.State, Incarnation: n.Incarnation, Promised: cli.U64(n.Promised), Newest: cli.U64(n.Newest),
			SegmentState: n.SegState, SegmentEpoch: cli.U64(n.SegEpoch), Last: cli.U64(n.Last), Lag: cli.U64(st.Committed - min(n.Last, st.Committed)),
			Digest: n.Digest, Committed: cli.U64(n.Committed), SyncMillis: n.SyncMillis, Problems: append([]string{}, n.Problems...),
		}
		if n.Err != nil {
			j.Error = cli.Cause(n.Err)
		}
		out.Nodes = append(out.Nodes, j)
	}
	return out
}

// openSegment is the segment that a writer may be writing; 0: the newest is finalized.
func openSegment(st libqjm.JournalStatus) libqjm.TxID {
	for _, n := range st.Nodes {
		if n.Newest == st.Segment && n.SegState == recovery.Finalized.String() {
			return 0
		}
	}
	return st.Segment
}

func statusTable(w io.Writer, st libqjm.JournalStatus, out statusJSON) error {
	open := "-"
	if s := openSegment(st); s > 0 {
		open = cli.U64(s) + "-"
	}
	q := "yes"
	if !st.Quorum {
		q = "NO"
	}
	head := fmt.Sprintf("JOURNAL %s   EPOCH %s   WRITER %s   COMMITTED TXID %s   OPEN SEGMENT %s   QUORUM %s",
		st.Name, out.Epoch, cmp.Or(short(st.Writer), "-"), out.Committed, open, q)
	if len(head) > cli.LineMax {
		head = cli.Wrap(strings.ReplaceAll(head, "   ", "\n"), "  ")
	}
	if _, err := fmt.Fprintln(w, head); err != nil {
		return err
	}
	rows := [][]string{{"NODE", "STATE", "INCARNATION", "PROMISED", "LAST TXID", "LAG TXNS", "SYNC", "LAST ERROR"}}
	var problems []string
	for i, n := range out.Nodes {
		if n.Error != "" {
			rows = append(rows, []string{n.Node, n.State, "", "", "", "", "", n.Error})
			continue
		}
		rows = append(rows, []string{
			n.Node, n.State, short(n.Incarnation), n.Promised, n.Last, n.Lag, syncTime(n.SyncMillis), "",
		})
		for _, p := range st.Nodes[i].Problems {
			problems = append(problems, cli.Wrap("  "+n.Node+": "+p, "    "))
		}
	}
	for _, r := range rows[1:] {
		if e := r[len(r)-1]; len(e) > room(rows) {
			problems = append(problems, cli.Wrap("  "+r[0]+": "+e, "    "))
			r[len(r)-1] = "see below"
		}
	}
	if err := cli.PrintTable(w, rows); err != nil {
		return err
	}
	if len(problems) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "PROBLEMS\n%s\n", strings.Join(problems, "\n"))
	return err
}

// syncTime is how long a node's disk takes; 0: it was not measured.
func syncTime(millis float64) string {
	if millis == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f ms", millis)
}

// room is how wide the last column can be.
func room(rows [][]string) int {
	left := cli.LineMax
	for col := range len(rows[0]) - 1 {
		wide := 1
		for _, r := range rows {
			wide = max(wide, len(r[col]))
		}
		left -= wide + 2
	}
	return left
}

// noQuorum makes the error out of a status that lacks one.
func noQuorum(st libqjm.JournalStatus, step string) error {
	nq := &recovery.NoQuorumError{Step: step}
	for _, n := range st.Nodes {
		switch {
		case n.Err != nil:
			nq.Causes = append(nq.Causes, recovery.NodeCause{Node: quorum.NodeID(n.Node), Err: n.Err})
		case n.State == "unknown" || n.State == "absent":
			nq.Causes = append(nq.Causes, recovery.NodeCause{Node: quorum.NodeID(n.Node), Err: fmt.Errorf("is %s", n.State)})
		}
	}
	return nq
}

type segmentsJSON struct {
	Schema   string        `json:"schema"`
	Journal  string        `json:"journal"`
	Nodes    []string      `json:"nodes"`
	Segments []segmentJSON `json:"segments"`
	Diverges bool          `json:"diverges"`
}

type segmentJSON struct {
	Schema   string            `json:"schema,omitempty"`
	First    string            `json:"first"`
	Last     string            `json:"last"`
	Diverges bool              `json:"diverges"`
	Copies   []segmentCopyJSON `json:"copies"`
}

type segmentCopyJSON struct {
	Node    string `json:"node"`
	State   string `json:"state"` // finalized, in-progress, unknown (damaged), absent, no-answer
	Last    string `json:"last"`
	Epoch   string `json:"epoch"`
	Digest  string `json:"digest"`
	Bytes   string `json:"bytes"`
	Problem string `json:"problem"`
}

func (a *app) segmentsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "segments NAME", Short: "Show every segment on every node, side by side", Args: journalName,
		Long: "Show every segment on every node, side by side: state, last txid and digest. Copies that cannot\n" +
			"both be right are marked with \"!\"; then, and where a copy is damaged, the exit code is 7. Else\n" +
			"it is 6 where a node did not answer.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd, args[0], func(ctx context.Context, cl *libqjm.Client) error {
				st, err := cl.Status(ctx, args[0])
				if err != nil {
					return err
				}
				infos, err := cl.Segments(ctx, args[0])
				if err != nil {
					return err
				}
				err = a.printSegments(cmd, matrix(st, infos))
				for _, n := range st.Nodes {
					if n.Err == nil || n.State == "absent" {
						continue
					}
					say(cmd.ErrOrStderr(), "%s did not answer: %s", n.Node, cli.Cause(n.Err))
					if err == nil {
						err = cli.ErrDegraded
					}
				}
				return err
			})
		},
	}
}

// matrix sorts what the nodes hold into one row per segment.
func matrix(st libqjm.JournalStatus, infos []libqjm.SegmentInfo) segmentsJSON {
	out := segmentsJSON{Schema: cli.Schema("journal-segments"), Journal: st.Name, Nodes: []string{}, Segments: []segmentJSON{}}
	for _, n := range st.Nodes {
		out.Nodes = append(out.Nodes, n.Node)
	}
	by := map[libqjm.TxID]map[string]libqjm.SegmentInfo{}
	for _, s := range infos {
		if by[s.First] == nil {
			by[s.First] = map[string]libqjm.SegmentInfo{}
		}
		by[s.First][s.Node] = s
	}
	var firsts []libqjm.TxID
	for f := range by {
		firsts = append(firsts, f)
	}
	slices.Sort(firsts)
	for _, f := range firsts {
		row := segmentJSON{First: cli.U64(f), Diverges: diverges(by[f])}
		last := libqjm.TxID(0)
		for _, n := range st.Nodes {
			c := segmentCopyJSON{Node: n.Node, State: "absent", Last: "0", Epoch: "0", Bytes: "0"}
			if s, ok := by[f][n.Node]; ok {
				last = max(last, s.Last)
				c = segmentCopyJSON{n.Node, s.State, cli.U64(s.Last), cli.U64(s.Epoch), s.Digest, cli.U64(uint64(s.Bytes)), s.Problem}
			} else if n.Err != nil {
				c.State = "no-answer"
			}
			row.Copies = append(row.Copies, c)
		}
		row.Last = cli.U64(last)
		out.Diverges = out.Diverges || row.Diverges
		out.Segments = append(out.Segments, row)
	}
	return out
}

// diverges: finalized copies must be equal, and so must copies of one epoch that end at one txid.
func diverges(copies map[string]libqjm.SegmentInfo) bool {
	for _, a := range copies {
		for _, b := range copies {
			finalized := a.State == "finalized" && b.State == "finalized"
			alike := a.State == b.State && a.Epoch == b.Epoch && a.Last == b.Last
			if finalized && (a.Last != b.Last || a.Digest != b.Digest) || alike && a.State == "in-progress" && a.Digest != b.Digest {
				return true
			}
		}
	}
	return false
}

func (a *app) printSegments(cmd *cobra.Command, m segmentsJSON) error {
	rows := [][]string{append([]string{"FIRST", "EPOCH"}, m.Nodes...)}
	var notes []string
	bad := m.Diverges
	for _, s := range m.Segments {
		row := []string{s.First, ""}
		if s.Diverges {
			row[0] = "! " + s.First
			notes = append(notes, fmt.Sprintf("segment %s DIVERGES: copies that cannot both be right", s.First))
		}
		for _, c := range s.Copies {
			if c.Epoch != "0" {
				row[1] = c.Epoch
			}
			row = append(row, cell(c))
			if c.Problem != "" || c.State == "unknown" {
				bad = true
				notes = append(notes, fmt.Sprintf("segment %s on %s is damaged: %s", s.First, c.Node, c.Problem))
			}
		}
		rows = append(rows, row)
		if a.format == cli.JSONL {
			s.Schema = cli.Schema("segment")
			if err := cli.PrintJSON(cmd.OutOrStdout(), s); err != nil {
				return err
			}
		}
	}
	if a.format != cli.JSONL {
		if err := a.print(cmd, m, func(w io.Writer) error { return cli.PrintTable(w, rows) }); err != nil {
			return err
		}
	}
	for _, n := range notes {
		say(cmd.ErrOrStderr(), "%s", n)
	}
	if bad {
		return cli.ErrFound
	}
	return nil
}

// cell is a copy in the table: state, last txid, digest.
func cell(c segmentCopyJSON) string {
	switch c.State {
	case "finalized":
		return "final " + c.Last + "/" + short(c.Digest)
	case "in-progress":
		return "open " + c.Last + "/" + short(c.Digest)
	case "unknown":
		return "DAMAGED"
	case "no-answer":
		return "?"
	}
	return "-"
}
