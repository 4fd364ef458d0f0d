package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/internal/quorumloss"
	"github.com/quorumjournal/qjm/libqjm"
)

// unsafeFlags are the guards of what can lose acknowledged transactions.
type unsafeFlags struct {
	understand bool
	digest     string
	skip       []string
}

func (f *unsafeFlags) guards(c *cobra.Command) {
	c.Flags().BoolVar(&f.understand, "i-understand-data-loss", false, "I have read the plan, and what may be lost by it")
	c.Flags().StringVar(&f.digest, "plan-digest", "", "digest of the plan that is to be carried out")
}

func (f *unsafeFlags) check() error {
	switch {
	case !f.understand:
		return cli.Usagef("this can lose acknowledged transactions: read the plan, then add --i-understand-data-loss")
	case f.digest == "":
		return cli.Usagef("give --plan-digest, which the plan ends with")
	}
	return nil
}

func (a *app) unsafeCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "unsafe", Short: "For when a majority is lost for good",
		Long: "For when a majority is lost for good. What is below can lose acknowledged transactions; it says\nwhich beforehand. While the missing nodes can still come back, bring them back instead.",
	}
	c.AddCommand(a.recoverQuorumCmd(), a.mutating(a.resetPeersCmd(), unguarded))
	return c
}

func (a *app) recoverQuorumCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "recover-quorum", Short: "Go on with the survivors of a lost majority: survey, plan, apply",
		Long: `Go on with the survivors of a lost majority. First survey, which shows what is left; then plan,
which says what would be done and what may be lost; then apply, with the plan's digest. Every node
that does not answer is taken for lost: be sure that it is, and stays switched off.`,
		Example: `  qjmclient unsafe recover-quorum survey
  qjmclient unsafe recover-quorum plan
  qjmclient unsafe recover-quorum apply --plan-digest D --i-understand-data-loss`,
	}
	var f unsafeFlags
	survey := &cobra.Command{
		Use: "survey", Short: "What the nodes that answer hold; changes nothing", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.survey(cmd) },
	}
	plan := &cobra.Command{
		Use: "plan", Short: "What would be done, and what may be lost; changes nothing", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.planRecovery(cmd, f, false) },
	}
	apply := &cobra.Command{
		Use: "apply", Short: "Carry out the plan of that digest, or go on with it", Args: cobra.NoArgs,
		Long: "Carry out the plan of that digest. It is made again first: if anything has changed, nothing is done.\nCut off anywhere, the same command goes on.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.dryRun {
				return a.planRecovery(cmd, f, true)
			}
			if err := f.check(); err != nil {
				return err
			}
			return a.applyRecovery(cmd, f)
		},
	}
	f.guards(apply)
	for _, x := range []*cobra.Command{plan, apply} {
		x.Flags().StringSliceVar(&f.skip, "skip", nil, "journals to leave as they are")
	}
	c.AddCommand(survey, plan, a.mutating(apply, unguarded))
	return c
}

type surveyJSON struct {
	Schema   string               `json:"schema"`
	Cluster  string               `json:"cluster"`
	Nodes    []surveyNodeJSON     `json:"nodes"`
	Group    *libqjm.GroupPlan    `json:"group"` // null: it has its majority, or no survivor knows it
	Journals []libqjm.JournalPlan `json:"journals"`
	Stopped  string               `json:"stopped"` // why no plan can be made; empty: one can
}

type surveyNodeJSON struct {
	Node        string `json:"node"`
	Incarnation string `json:"incarnation"`
	Address     string `json:"address"`
	Answers     bool   `json:"answers"`
	Error       string `json:"error"`
	Leader      string `json:"leader"` // as that node believes
	Down        string `json:"catalog_down"`
	LastIndex   string `json:"last_index"`
	LastTerm    string `json:"last_term"`
	Recovery    string `json:"recovery"` // how far the last one has come here
	PlanDigest  string `json:"plan_digest"`
}

func (a *app) survey(cmd *cobra.Command) error {
	return a.withClient(cmd, "", func(ctx context.Context, cl *libqjm.Client) error {
		s, err := cl.Survey(ctx)
		if err != nil {
			return err
		}
		out := surveyJSON{Schema: cli.Schema("recovery-survey"), Cluster: fmt.Sprintf("%x", s.Cluster), Nodes: []surveyNodeJSON{}, Journals: []libqjm.JournalPlan{}}
		for _, n := range s.Nodes {
			x := surveyNodeJSON{
				Node: string(n.Member.ID), Incarnation: n.Member.Incarnation.String(), Address: n.Member.Addr, Answers: n.Err == nil,
				Leader: string(n.Group.Leader), Down: n.Group.Down, LastIndex: cli.U64(n.Group.LastIndex), LastTerm: cli.U64(n.Group.LastTerm),
				Recovery: string(n.Group.Record.Progress), PlanDigest: n.Group.Record.Digest,
			}
			if n.Err != nil {
				x.Error = cli.Cause(n.Err)
			}
			out.Nodes = append(out.Nodes, x)
		}
		// A survey shows everything, also where the plan would stop.
		var skip, why []string
		plan, err := libqjm.PlanRecovery(s, libqjm.RecoverOptions{})
		for stopped, ok := errors.AsType[*quorumloss.StoppedError](err); ok; stopped, ok = errors.AsType[*quorumloss.StoppedError](err) {
			skip, why = append(skip, stopped.Journal), append(why, fmt.Sprintf("journal %s: %v", stopped.Journal, stopped.Err))
			plan, err = libqjm.PlanRecovery(s, libqjm.RecoverOptions{Skip: skip})
		}
		if err != nil {
			return err
		}
		out.Group, out.Journals, out.Stopped = plan.Group, plan.Journals, strings.Join(why, "; ")
		return a.print(cmd, out, func(w io.Writer) error { return printSurvey(w, out) })
	})
}

func printSurvey(w io.Writer, s surveyJSON) error {
	p := &printer{w: w}
	p.line("cluster %s; nothing was changed", short(s.Cluster))
	rows := [][]string{{"NODE", "ANSWERS", "ADDRESS", "LAST INDEX", "TERM", "LEADER", "RECOVERY", "WHY NOT"}}
	for _, n := range s.Nodes {
		yes := "yes"
		if !n.Answers {
			yes = "NO"
		}
		rows = append(rows, []string{n.Node, yes, n.Address, n.LastIndex, n.LastTerm, n.Leader, n.Recovery, n.Error + n.Down})
	}
	p.table(rows)
	p.group(s.Group)
	for _, j := range s.Journals {
		p.journal(j)
	}
	if s.Stopped != "" {
		p.line("no plan can be made: %s", s.Stopped)
	}
	return p.err
}

// planRecovery prints the plan, deterministically: the same facts, the same text.
func (a *app) planRecovery(cmd *cobra.Command, f unsafeFlags, check bool) error {
	return a.withClient(cmd, "", func(ctx context.Context, cl *libqjm.Client) error {
		s, err := cl.Survey(ctx)
		if err != nil {
			return err
		}
		plan, err := libqjm.PlanRecovery(s, libqjm.RecoverOptions{Skip: f.skip})
		switch {
		case err != nil:
			return err
		case check && f.digest != "" && f.digest != plan.Digest:
			return fmt.Errorf("%w: things have changed since it was made (got %s, want %s)", libqjm.ErrPlan, f.digest, plan.Digest)
		}
		return a.print(cmd, plan, func(w io.Writer) error { return printPlan(w, plan) })
	})
}

func printPlan(w io.Writer, plan *libqjm.RecoveryPlan) error {
	p := &printer{w: w}
	p.line("plan (nothing was changed): %s, generation %d", plan.Kind, plan.Generation)
	p.line("survivors: %s", orNone(storages(plan.Survivors)))
	p.line("taken for lost: %s", orNone(storages(plan.Lost)))
	p.group(plan.Group)
	for _, j := range plan.Journals {
		p.journal(j)
	}
	if plan.Empty() {
		p.line("there is nothing to do")
	} else if len(plan.Lost) > 0 {
		p.line("be sure that %s will not come back: switch them off for good before this is carried out", storages(plan.Lost))
	}
	p.line("plan digest %s", plan.Digest)
	return p.err
}

type applyJSON struct {
	Schema   string   `json:"schema"`
	Result   string   `json:"result"` // recovered, or unchanged
	Digest   string   `json:"plan_digest"`
	Journals []string `json:"journals"`
	Left     []string `json:"left_to_do"`
}

func (a *app) applyRecovery(cmd *cobra.Command, f unsafeFlags) error {
	return a.withPatience(cmd, "", func(ctx context.Context, cl *libqjm.Client) error {
		o := libqjm.RecoverOptions{Skip: f.skip, Progress: func(s string) { say(cmd.ErrOrStderr(), "%s", s) }}
		plan, notes, err := cl.RecoverQuorum(ctx, f.digest, o)
		if err != nil {
			if plan != nil {
				say(cmd.ErrOrStderr(), "it was cut off; the same command goes on where it was")
			}
			return err
		}
		for _, j := range plan.Forced() {
			if len(j.Later) > 0 {
				notes = append(notes, fmt.Sprintf("add %s to journal %q: qjmclient quorum change %s --to %s", storages(j.Later), j.Name, j.Name,
					strings.ReplaceAll(storages(slices.Concat(j.Members, j.Later)), ", ", ",")))
			}
		}
		return a.printApplied(cmd, plan, notes)
	})
}

func (a *app) printApplied(cmd *cobra.Command, plan *libqjm.RecoveryPlan, notes []string) error {
	out := applyJSON{Schema: cli.Schema("recovery-apply"), Result: "recovered", Digest: plan.Digest, Journals: []string{}, Left: append([]string{}, notes...)}
	for _, j := range plan.Forced() {
		out.Journals = append(out.Journals, j.Name)
	}
	if plan.Empty() {
		out.Result = "unchanged"
	}
	return a.print(cmd, out, func(w io.Writer) error {
		p := &printer{w: w}
		p.line("%s: %s; plan %s", out.Result, cli.Plural(len(out.Journals), "journal"), out.Digest)
		for _, n := range notes {
			p.line("left to do: %s", n)
		}
		return p.err
	})
}

func (a *app) resetPeersCmd() *cobra.Command {
	var f unsafeFlags
	var group, node string
	var peers []string
	c := &cobra.Command{
		Use: "reset-peers", Short: "Overwrite the members of one group on one node", Args: cobra.NoArgs,
		Long: `Overwrite the members of one group on one node: of the catalog, or of the journal that --group
names. It compares nothing and tells nobody else; recover-quorum does both. Without --plan-digest it
prints the plan.`,
		Example: "  qjmclient unsafe reset-peers --node n1 --new-peers n1,n2\n  qjmclient unsafe reset-peers --group orders --node n1 --new-peers n1",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.resetPeers(cmd, f, group, node, peers)
		},
	}
	f.guards(c)
	c.Flags().StringVar(&group, "group", "", "the journal; none: the catalog")
	c.Flags().StringVar(&node, "node", "", "the node that is told")
	c.Flags().StringSliceVar(&peers, "new-peers", nil, "the group's members from now on, as this node sees it")
	return c
}

func (a *app) resetPeers(cmd *cobra.Command, f unsafeFlags, journal, node string, peers []string) error {
	if node == "" || len(peers) == 0 {
		return cli.Usagef("give --node and --new-peers")
	}
	if !a.dryRun && f.digest != "" {
		if err := f.check(); err != nil {
			return err
		}
	}
	return a.withPatience(cmd, journal, func(ctx context.Context, cl *libqjm.Client) error {
		if a.dryRun || f.digest == "" {
			s, err := cl.Survey(ctx)
			if err != nil {
				return err
			}
			plan, err := cl.ResetPeers(s, journal, node, peers)
			if err != nil {
				return err
			}
			return a.print(cmd, plan, func(w io.Writer) error { return printPlan(w, plan) })
		}
		o := libqjm.RecoverOptions{Progress: func(s string) { say(cmd.ErrOrStderr(), "%s", s) }}
		plan, err := cl.CarryOutReset(ctx, journal, node, peers, f.digest, o)
		if err != nil {
			return err
		}
		return a.printApplied(cmd, plan, nil)
	})
}
