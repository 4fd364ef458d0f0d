package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/libqjm"
)

// resultJSON is what create and delete answer.
type resultJSON struct {
	Schema  string   `json:"schema"`
	Journal string   `json:"journal"`
	Result  string   `json:"result"`
	Missing []string `json:"missing,omitempty"` // nodes that did not answer
}

// printResult says on which nodes something was done, and on stderr which ones did not answer.
func (a *app) printResult(cmd *cobra.Command, r resultJSON, has []string, later string) error {
	err := a.print(cmd, r, func(w io.Writer) error {
		on := ""
		if len(has) > 0 {
			on = " on " + strings.Join(has, ", ")
		}
		_, err := fmt.Fprintln(w, cli.Wrap(fmt.Sprintf("journal %q %s%s", r.Journal, r.Result, on), "  "))
		return err
	})
	if len(r.Missing) > 0 {
		say(cmd.ErrOrStderr(), "%s did not answer; %s when %s back", strings.Join(r.Missing, ", "), later, isOrAre(r.Missing))
	}
	return err
}

func isOrAre(nodes []string) string {
	if len(nodes) == 1 {
		return "it is"
	}
	return "they are"
}

// whoHas sorts the members by whether they have answered that they have the journal. Who they are is known
// after create; else it is left out who never had it.
func whoHas(st libqjm.JournalStatus, members []string) (has, missing []string) {
	for _, n := range st.Nodes {
		if members == nil && n.State == "absent" || members != nil && !slices.Contains(members, n.Node) {
			continue
		}
		if n.Err != nil || n.State == "absent" || n.State == "unreachable" {
			missing = append(missing, n.Node)
		} else {
			has = append(has, n.Node)
		}
	}
	return has, missing
}

func (a *app) createCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "create NAME", Short: "Create a journal on the cluster's nodes", Args: journalName,
		Example: "  qjmclient journal create orders\n  qjmclient journal create orders --replicas 3 --spread rack",
	}
	var o libqjm.CreateOptions
	c.Flags().IntVar(&o.Replicas, "replicas", 0, "how many members (default: every node, up to 5)")
	c.Flags().StringVar(&o.Spread, "spread", "", "a label of the nodes over whose values the members are spread")
	c.Flags().Uint64Var(&o.Quota, "quota", 0, "bytes that it may take on each node; 0: no limit")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		name := args[0]
		a.subject.Does = cli.Creates
		if cmd.Flags().Changed("replicas") && o.Replicas < 1 || o.Replicas > quorum.MaxMembers {
			return cli.Usagef("--replicas %d: want 1 to %d", o.Replicas, quorum.MaxMembers)
		}
		return a.withClient(cmd, name, func(ctx context.Context, cl *libqjm.Client) error {
			a.warnOfSpread(ctx, cmd, cl, o.Spread)
			if a.dryRun {
				return a.planCreate(ctx, cmd, cl, name, o)
			}
			members, err := cl.CreateJournalWith(ctx, name, o)
			if err != nil {
				return err
			}
			var has, missing []string
			if st, err := cl.Status(ctx, name); err == nil { // it is created, whatever this says
				has, missing = whoHas(st, members)
			}
			later := "it gets the journal"
			if len(missing) > 1 {
				later = "they get the journal"
			}
			return a.printResult(cmd, resultJSON{cli.Schema("journal-create"), name, "created", missing}, has, later)
		})
	}
	return a.mutating(c, unguarded)
}

// warnOfSpread: nodes without the label count as one place, so a label that is misspelt spreads nothing.
func (a *app) warnOfSpread(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, label string) {
	if label == "" {
		return
	}
	v, err := cl.Catalog(ctx, libqjm.Stale)
	if err != nil {
		return // what comes next says so
	}
	var without []string
	for _, n := range v.Nodes {
		if _, has := n.Labels[label]; !has && !n.Leaving {
			without = append(without, string(n.ID))
		}
	}
	switch {
	case len(without) == 0:
	case len(without) == len(v.Nodes):
		say(cmd.ErrOrStderr(), "no node has a label %q: the members are not spread over anything", label)
	default:
		say(cmd.ErrOrStderr(), "%s: no label %q; all nodes without it count as one place", strings.Join(without, ", "), label)
	}
}

// settled returns the status, once a majority has answered: right after a start the first endpoint that is
// heard may be ahead of the others. It does not wait for long.
func settled(ctx context.Context, cl *libqjm.Client, name string) (libqjm.JournalStatus, error) {
	over := time.After(settleTime)
	for {
		st, err := cl.Status(ctx, name)
		if err != nil || st.Quorum {
			return st, err
		}
		select {
		case <-time.After(settlePoll):
		case <-over:
			return st, nil
		case <-ctx.Done():
			return st, nil
		}
	}
}

const (
	settleTime = time.Second
	settlePoll = 50 * time.Millisecond
)

func (a *app) planCreate(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, name string, o libqjm.CreateOptions) error {
	o.DryRun = true
	members, err := cl.CreateJournalWith(ctx, name, o)
	if err != nil {
		return err
	}
	return a.plan(cmd, "create", name, "create journal %q on %s", name, strings.Join(members, ", "))
}

func (a *app) deleteCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "delete NAME", Short: "Delete a journal and all its data, for good", Args: journalName,
		Long: "Delete a journal and all its data, for good. A tombstone keeps a node that was away from bringing\n" +
			"it back; its name is free. Asks on a terminal, unless with --yes; elsewhere it needs --yes.",
		Example: "  qjmclient journal delete orders --dry-run\n  qjmclient journal delete orders --yes",
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		name := args[0]
		a.subject.Does = cli.Deletes
		return a.withClient(cmd, name, func(ctx context.Context, cl *libqjm.Client) error {
			st, err := settled(ctx, cl, name)
			switch {
			case err != nil:
				return err
			case !st.Quorum && !slices.ContainsFunc(st.Nodes, isDeleted): // else it is this delete that takes the quorum away
				return noQuorum(st, "the journal's state") // nothing was deleted yet
			case a.dryRun:
				return a.plan(cmd, "delete", name, "%s", deletion(st))
			}
			if err := a.confirm(cmd, name, "%s", deletion(st)); err != nil {
				return err
			}
			ctx, cancel := a.afresh(cmd, false)
			defer cancel()
			if err := cl.DeleteJournal(ctx, name); err != nil {
				return err
			}
			has, missing := whoHas(st, nil)
			return a.printResult(cmd, resultJSON{cli.Schema("journal-delete"), name, "deleted", missing}, has, "the journal is deleted there")
		})
	}
	return a.destructive(c, ofJournal)
}

func isDeleted(n libqjm.NodeStatus) bool { return n.State == "deleted" }

func deletion(st libqjm.JournalStatus) string {
	var nodes []string
	for _, n := range st.Nodes {
		nodes = append(nodes, n.Node)
	}
	return fmt.Sprintf("delete journal %q with txids up to %d on %s", st.Name, st.Committed, strings.Join(nodes, ", "))
}

type listJSON struct {
	Schema   string     `json:"schema"`
	Cluster  string     `json:"cluster"`
	Journals []infoJSON `json:"journals"`
}

type infoJSON struct {
	Schema        string   `json:"schema,omitempty"`
	Name          string   `json:"name"`
	ID            string   `json:"id"`
	Members       []string `json:"members"`
	ConfigVersion string   `json:"config_version"`
	Deleted       bool     `json:"deleted"`
	Deleting      bool     `json:"deleting,omitempty"` // a delete was cut off
}

func (a *app) listCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the journals", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withClient(cmd, "", func(ctx context.Context, cl *libqjm.Client) error {
				journals, err := cl.Journals(ctx)
				if err != nil {
					return err
				}
				return a.printList(cmd, cl.ClusterID(), journals)
			})
		},
	}
}

func (a *app) printList(cmd *cobra.Command, cluster string, journals []libqjm.JournalInfo) error {
	out := listJSON{Schema: cli.Schema("journal-list"), Cluster: cluster, Journals: []infoJSON{}}
	rows := [][]string{{"NAME", "STATE", "MEMBERS", "CONFIG", "ID"}}
	for _, j := range journals {
		i := infoJSON{Name: j.Name, ID: j.ID, Members: j.Members, ConfigVersion: cli.U64(j.Version), Deleted: j.Deleted, Deleting: j.Deleting}
		if i.Members == nil {
			i.Members = []string{}
		}
		state := "live"
		if j.Deleted {
			state = "deleted"
		}
		if j.Deleting {
			state = "deleting"
		}
		rows = append(rows, []string{j.Name, state, strings.Join(j.Members, ","), i.ConfigVersion, short(j.ID)})
		if a.format == cli.JSONL {
			i.Schema = cli.Schema("journal")
			if err := cli.PrintJSON(cmd.OutOrStdout(), i); err != nil {
				return err
			}
		}
		out.Journals = append(out.Journals, i)
	}
	switch {
	case a.format == cli.JSONL:
		return nil
	case a.format == cli.Table && len(journals) == 0:
		say(cmd.ErrOrStderr(), "there is no journal yet (create one: qjmclient journal create NAME)")
		return nil
	}
	return a.print(cmd, out, func(w io.Writer) error { return cli.PrintTable(w, rows) })
}

type recoverJSON struct {
	Schema   string   `json:"schema"`
	Journal  string   `json:"journal"`
	Epoch    string   `json:"epoch"`
	Segment  string   `json:"segment"`
	LastTxID string   `json:"last_txid"`
	Digest   string   `json:"digest"`
	Source   string   `json:"source"`
	Sources  []string `json:"sources"`
	Missing  []string `json:"missing"`
	Empty    bool     `json:"empty"`
}

func (a *app) recoverCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "recover NAME", Short: "Fence the writer and finalize what it left", Args: journalName,
		Long: "Fence whoever writes, decide how the newest segment ends and finalize it, without becoming the\n" +
			"writer. `journal append` and every other writer do the same when they start.",
		Example: "  qjmclient journal recover orders -o json",
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		name := args[0]
		return a.withClient(cmd, name, func(ctx context.Context, cl *libqjm.Client) error {
			if a.dryRun {
				return a.planTakeover(ctx, cmd, cl, name, "recover")
			}
			defer a.waiting(ctx, cmd, cl, name)()
			r, err := cl.Recover(ctx, name)
			if err != nil {
				return err
			}
			return a.printRecovery(cmd, name, r)
		})
	}
	return a.mutating(c, ofJournal)
}

func (a *app) printRecovery(cmd *cobra.Command, name string, r libqjm.Recovery) error {
	out := recoverJSON{
		Schema: cli.Schema("journal-recover"), Journal: name, Epoch: cli.U64(r.Epoch), Segment: cli.U64(r.Segment), LastTxID: cli.U64(r.LastTx),
		Digest: r.Digest, Sources: append([]string{}, r.Sources...), Missing: append([]string{}, r.Missing...), Empty: r.Empty,
	}
	if len(r.Sources) > 0 {
		out.Source = r.Sources[0]
	}
	return a.print(cmd, out, func(w io.Writer) error {
		what := fmt.Sprintf("the last txid is %d, digest %s", r.LastTx, short(r.Digest))
		if r.LastTx == 0 {
			what = "it is empty"
		}
		if len(r.Sources) > 0 {
			what += ", taken from " + strings.Join(r.Sources, ", ")
		}
		if len(r.Missing) > 0 {
			what += "; not heard: " + strings.Join(r.Missing, ", ")
		}
		_, err := fmt.Fprintln(w, cli.Wrap(fmt.Sprintf("journal %q recovered in epoch %d: %s", name, r.Epoch, what), "  "))
		return err
	})
}

func (a *app) planTakeover(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, name, action string) error {
	st, err := settled(ctx, cl, name)
	switch {
	case err != nil:
		return err
	case !st.Quorum:
		return noQuorum(st, "taking an epoch")
	}
	what := fmt.Sprintf("take an epoch above %d in journal %q: its writer, if there is one, can commit nothing more", st.Epoch, name)
	switch action {
	case "append":
		what += "; then append what the input has"
	case "bench":
		what += "; then append random transactions, which stay in it"
	case "recover":
		what += "; then finalize its newest segment"
		if st.Segment > 0 {
			what += fmt.Sprintf(", which starts at txid %d; txids up to %d are known to be committed", st.Segment, st.Committed)
		}
	}
	return a.plan(cmd, action, name, "%s", what)
}

type fenceJSON struct {
	Schema  string `json:"schema"`
	Journal string `json:"journal"`
	Epoch   string `json:"epoch"`
}

func (a *app) writerCmd() *cobra.Command {
	c := &cobra.Command{Use: "writer", Short: "Act on a journal's writer"}
	fence := &cobra.Command{
		Use: "fence NAME", Short: "Fence the writer without becoming one", Args: journalName,
		Example: "  qjmclient writer fence orders",
	}
	fence.RunE = func(cmd *cobra.Command, args []string) error {
		name := args[0]
		return a.withClient(cmd, name, func(ctx context.Context, cl *libqjm.Client) error {
			if a.dryRun {
				return a.planTakeover(ctx, cmd, cl, name, "fence")
			}
			defer a.waiting(ctx, cmd, cl, name)()
			epoch, err := cl.Fence(ctx, name)
			if err != nil {
				return err
			}
			return a.print(cmd, fenceJSON{cli.Schema("writer-fence"), name, cli.U64(epoch)}, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, cli.Wrap(fmt.Sprintf("journal %q fenced: epoch %d is taken, no earlier writer can commit", name, epoch), "  "))
				return err
			})
		})
	}
	c.AddCommand(a.mutating(fence, ofJournal))
	return c
}
