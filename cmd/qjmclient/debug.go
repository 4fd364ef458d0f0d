package main

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/internal/inspect"
	"github.com/quorumjournal/qjm/internal/vfs/osfs"
	"github.com/quorumjournal/qjm/segments"
)

func (a *app) debugCmd() *cobra.Command {
	c := &cobra.Command{Use: "debug", Short: "Look at what is on a disk, offline and without changing it"}
	c.AddCommand(a.dumpCmd(), a.verifyCmd())
	return c
}

type rowJSON struct {
	Schema     string `json:"schema"`
	Journal    string `json:"journal,omitempty"`
	Segment    string `json:"segment"`
	TxID       string `json:"txid"`
	Epoch      string `json:"epoch"`
	FrameFirst string `json:"frame_first"`
	FrameLast  string `json:"frame_last"`
	Digest     string `json:"digest"`
	Opaque     bool   `json:"opaque,omitempty"`
	Data       string `json:"data"`
}

func (a *app) dumpCmd() *cobra.Command {
	var after, before uint64
	c := &cobra.Command{
		Use: "dump-log FILE|DIR", Short: "Print the transactions of segment files, as JSON lines", Args: cobra.ExactArgs(1),
		Long: `Print every transaction of a segment file, a segments directory, a journal's directory or a
node's data directory, as JSON lines, committed or not. It only reads, takes no lock, and works on
a directory that a node is writing to. stderr says where each file ended and why; exit code 7:
something is damaged.`,
		Example: "  qjmclient debug dump-log /var/lib/qjm --after 1000 --before 1010",
	}
	c.Flags().Uint64Var(&after, "after", 0, "only txids above this one")
	c.Flags().Uint64Var(&before, "before", 0, "only txids below this one (default: all)")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if before != 0 && before <= after {
			return cli.Usagef("nothing is above --after %d and below --before %d", after, before)
		}
		t, err := openTree(args[0])
		if err != nil {
			return err
		}
		out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
		damaged := false
		err = inspect.Dump(t, inspect.DumpOptions{
			After: segments.TxID(after), Before: segments.TxID(before),
			Each: func(r inspect.Row) error {
				return cli.PrintJSON(out, rowJSON{
					cli.Schema("log-txn"), r.Journal, cli.U64(r.Segment), cli.U64(r.TxID), cli.U64(r.Epoch), cli.U64(r.Frame.First),
					cli.U64(r.Frame.Last), r.Digest.String(), r.Opaque, base64.StdEncoding.EncodeToString(r.Data),
				})
			},
			Note: func(text string, bad bool) {
				damaged = damaged || bad
				say(cmd.ErrOrStderr(), "%s", cli.Plain(text))
			},
		})
		if err = errors.Join(err, out.Flush()); isBrokenPipe(err) {
			return nil
		}
		if err == nil && damaged {
			return cli.ErrFound
		}
		return err
	}
	return c
}

func openTree(path string) (*inspect.Tree, error) {
	t, err := inspect.Open(osfs.New(""), path)
	if errors.Is(err, inspect.ErrForeign) || errors.Is(err, fs.ErrNotExist) {
		return nil, &cli.UsageError{Err: err}
	}
	return t, err
}

type verifyJSON struct {
	Schema    string        `json:"schema"`
	Paths     []string      `json:"paths"`
	Journals  string        `json:"journals"`
	Segments  string        `json:"segments"`
	Txns      string        `json:"txns"`
	Bytes     string        `json:"bytes"`
	Corrupt   string        `json:"corrupt"`
	Torn      string        `json:"torn"`
	Divergent string        `json:"divergent"`
	OK        bool          `json:"ok"`
	Findings  []findingJSON `json:"findings"`
}

type findingJSON struct {
	Schema  string `json:"schema,omitempty"`
	Kind    string `json:"kind"`
	Node    string `json:"node"`
	Journal string `json:"journal"`
	File    string `json:"file"`
	Offset  string `json:"offset,omitempty"`
	TxID    string `json:"txid,omitempty"`
	What    string `json:"what"`
}

func (a *app) verifyCmd() *cobra.Command {
	return &cobra.Command{
		Use: "verify-dir DIR...", Short: "Verify every byte of data directories, and compare them", Args: cobra.MinimumNArgs(1),
		Long: `Read everything in full: frames, marks, footers, the chain from segment to segment, and the small
files. Name whatever is torn, corrupt or divergent; then the exit code is 7. Given the directories
of several nodes it compares their finalized segments. It only reads and takes no lock. On a node
that was killed, a torn tail is ordinary: the node cuts it when it starts.`,
		Example: "  qjmclient debug verify-dir /var/lib/qjm\n  qjmclient debug verify-dir n1 n2 n3 -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			var trees []*inspect.Tree
			total := int64(0)
			for _, p := range args {
				t, err := openTree(p)
				if err != nil {
					return err
				}
				trees = append(trees, t)
				total += t.Bytes()
			}
			progress := cli.NewProgress(cmd.ErrOrStderr())
			done := int64(0)
			r := inspect.Verify(trees, func(n int64) {
				done += n
				progress.Show(done, total, cli.Bytes(done))
			})
			progress.Done()
			return a.printReport(cmd, args, r)
		},
	}
}

func (a *app) printReport(cmd *cobra.Command, paths []string, r *inspect.Report) error {
	out := verifyJSON{
		Schema: cli.Schema("verify"), Paths: paths, Journals: cli.U64(uint64(r.Journals)), Segments: cli.U64(uint64(r.Segments)),
		Txns: cli.U64(r.Txns), Bytes: cli.U64(uint64(r.Bytes)), Corrupt: cli.U64(uint64(r.Count(inspect.Corrupt))),
		Torn: cli.U64(uint64(r.Count(inspect.Torn))), Divergent: cli.U64(uint64(r.Count(inspect.Divergent))), OK: !r.Bad(),
		Findings: []findingJSON{},
	}
	for _, f := range r.Findings {
		j := findingJSON{Kind: string(f.Kind), Node: f.Node, Journal: f.Journal, File: f.File, What: cli.Plain(f.What)}
		if f.Offset >= 0 {
			j.Offset = cli.U64(uint64(f.Offset))
		}
		if f.TxID > 0 {
			j.TxID = cli.U64(f.TxID)
		}
		if a.format == cli.JSONL {
			j.Schema = cli.Schema("verify-finding")
			if err := cli.PrintJSON(cmd.OutOrStdout(), j); err != nil {
				return err
			}
		}
		out.Findings = append(out.Findings, j)
	}
	if a.format == cli.JSONL {
		out.Findings = nil
		out.Schema = cli.Schema("verify-summary")
	}
	if err := a.print(cmd, out, func(w io.Writer) error { return reportTable(w, out, r) }); err != nil {
		return err
	}
	if r.Bad() {
		return cli.ErrFound
	}
	return nil
}

// reportTable prints findings as blocks: paths are too long for columns.
func reportTable(w io.Writer, out verifyJSON, r *inspect.Report) error {
	var b strings.Builder
	for _, f := range out.Findings {
		where := []string{"node " + f.Node}
		if f.Journal != "" {
			where = append(where, "journal "+f.Journal)
		}
		if f.Offset != "" {
			where = append(where, "offset "+f.Offset)
		}
		if f.TxID != "" {
			where = append(where, "txid "+f.TxID)
		}
		what := cli.Wrap("  "+f.What, "  ")
		head := cli.Wrap(strings.ToUpper(f.Kind)+"  "+strings.Join(where, ", "), "  ")
		fmt.Fprintf(&b, "%s\n  %s\n%s\n", head, f.File, what)
	}
	verdict := "everything is good"
	if r.Bad() {
		verdict = fmt.Sprintf("%s corrupt, %s torn, %s divergent", out.Corrupt, out.Torn, out.Divergent)
	}
	fmt.Fprintf(&b, "%s: %s, %s, %s, %s: %s\n", cli.Plural(len(out.Paths), "path"), cli.Plural(r.Journals, "journal"),
		cli.Plural(r.Segments, "segment"), cli.Plural(r.Txns, "transaction"), cli.Bytes(r.Bytes), verdict)
	_, err := io.WriteString(w, b.String())
	return err
}
