package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/libqjm"
)

// app is one run of the program: the flags that all commands share.
type app struct {
	endpoints []string
	format    cli.Format
	timeout   time.Duration
	verbose   bool
	dryRun    bool
	yes       bool
	expect    uint64 // the generation that is expected; 0: whichever it is

	onTerminal func(any) bool

	subject cli.Subject
}

const defaultTimeout = 30 * time.Second

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "qjmclient",
		Short: "Write, read and look after quorum journals",
		Long: `qjmclient writes, reads and looks after quorum journals.

Every flag can be set by an environment variable: --endpoints by QJM_ENDPOINTS,
--timeout by QJM_TIMEOUT, and so on. Data goes to stdout, all else to stderr.

For braft users: add_peer, remove_peer, change_peers, reset_peer, snapshot and transfer_leader are
there, with the flags that you know.`,
		Example: `  export QJM_ENDPOINTS=127.0.0.1:7400,127.0.0.1:7401,127.0.0.1:7402
  qjmclient journal create orders
  seq 1000 | qjmclient journal append orders
  qjmclient journal tail orders --from 990
  qjmclient journal status orders -o json`,
		Version: cli.VersionString(),
	}
	pf := root.PersistentFlags()
	pf.StringSliceVar(&a.endpoints, "endpoints", nil, "addresses of nodes, host:port,...; one that answers is enough")
	pf.VarP(&a.format, "output", "o", "how data is printed")
	pf.DurationVar(&a.timeout, "timeout", defaultTimeout, "bounds connecting and each command")
	pf.BoolVarP(&a.verbose, "verbose", "v", false, "log what the library does, on stderr")
	root.AddCommand(a.journalCmd(), a.snapshotCmd(), a.writerCmd(), a.leaseCmd(), a.clusterCmd(), a.memberCmd(), a.quorumCmd(), a.benchCmd(), a.debugCmd(), a.unsafeCmd())
	root.AddCommand(a.braftCmds()...)
	return root
}

func (a *app) journalCmd() *cobra.Command {
	c := &cobra.Command{Use: "journal", Short: "Create, write, read and repair journals"}
	c.AddCommand(a.createCmd(), a.listCmd(), a.describeCmd(), a.policyCmd(), a.quotaCmd(), a.statusCmd(), a.segmentsCmd(), a.deleteCmd(), a.appendCmd(), a.tailCmd(), a.recoverCmd())
	return c
}

// journalName checks that a command has one argument, and that it can be a journal's name: that need not
// wait for a cluster.
func journalName(cmd *cobra.Command, args []string) error {
	if err := cobra.ExactArgs(1)(cmd, args); err != nil {
		return err
	}
	if err := rpc.CheckJournalName(args[0]); err != nil {
		what, _ := cli.Subject{}.Explain(err)
		return errors.New(what)
	}
	return nil
}

// withClient connects, runs do within --timeout, and closes.
func (a *app) withClient(cmd *cobra.Command, journal string, do func(context.Context, *libqjm.Client) error) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
	defer cancel()
	c, err := a.dial(ctx, cmd.ErrOrStderr(), journal)
	if err != nil {
		return err
	}
	return errors.Join(do(ctx, c), c.Close())
}

// dial connects within the context, saying so while nobody answers.
func (a *app) dial(ctx context.Context, stderr io.Writer, journal string) (*libqjm.Client, error) {
	a.subject.Journal = journal
	opts, err := a.clientOptions(stderr)
	if err != nil {
		return nil, err
	}
	defer every(stallAfter, stallEvery, func() {
		say(stderr, "waiting: none of %s answers yet", strings.Join(a.endpoints, ", "))
	})()
	cl, err := libqjm.Dial(ctx, opts)
	if err != nil {
		return nil, err
	}
	a.subject.Connected = true
	if err := a.expected(ctx, cl, journal); err != nil {
		return nil, errors.Join(err, cl.Close())
	}
	return cl, nil
}

func (a *app) clientOptions(stderr io.Writer) (libqjm.Options, error) {
	a.subject.Endpoints = a.endpoints
	if len(a.endpoints) == 0 {
		return libqjm.Options{}, cli.Usagef("no endpoints given: use --endpoints host:port,... or QJM_ENDPOINTS")
	}
	for _, e := range a.endpoints {
		if err := cli.CheckAddress(e, false); err != nil {
			return libqjm.Options{}, cli.Usagef("endpoint %w", err)
		}
	}
	if a.timeout <= 0 {
		return libqjm.Options{}, cli.Usagef("--timeout is %s, want more than zero", a.timeout)
	}
	opts := libqjm.Options{Endpoints: a.endpoints}
	if a.verbose {
		opts.Logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return opts, nil
}

// print prints the object as JSON, or calls table for people.
func (a *app) print(cmd *cobra.Command, v any, table func(io.Writer) error) error {
	if a.format == cli.Table {
		return table(cmd.OutOrStdout())
	}
	return cli.PrintJSON(cmd.OutOrStdout(), v)
}

// plan prints what a command would do.
func (a *app) plan(cmd *cobra.Command, action, journal, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	return a.print(cmd, planJSON{cli.Schema("plan"), action, journal, text, true}, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, cli.Wrap("plan (nothing was changed): "+text, "  "))
		return err
	})
}

type planJSON struct {
	Schema  string `json:"schema"`
	Action  string `json:"action"`
	Journal string `json:"journal"`
	Plan    string `json:"plan"`
	DryRun  bool   `json:"dry_run"`
}

// say prints a message on stderr.
func say(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintln(w, cli.Line("qjmclient", fmt.Sprintf(format, args...), ""))
}

func nodeNames(c *libqjm.Client) string {
	var out []string
	for _, n := range c.Nodes() {
		out = append(out, n.Node)
	}
	return strings.Join(out, ", ")
}

// txids names a range of txids.
func txids(first, last libqjm.TxID) string {
	if first == last {
		return fmt.Sprintf("txid %d", first)
	}
	return fmt.Sprintf("txids %d to %d", first, last)
}

// short is the beginning of a digest or id, for tables.
func short(id string) string { return id[:min(8, len(id))] }
