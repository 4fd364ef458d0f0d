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
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/libqjm"
)

// unsafeFlags are the guards of what can lose acknowledged transactions.
type unsafeFlags struct {
	understand bool
	digest     string
	skip, drop []string
	withoutLog []string
	// despite: reset what has its majority.
	despite bool
}

func (f *unsafeFlags) options() libqjm.RecoverOptions {
	return libqjm.RecoverOptions{Skip: f.skip, WithoutLog: f.withoutLog, Drop: f.drop}
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
that does not answer is taken for lost: be sure that it is, and stays switched off. Lost nodes that
come back together, and reach nobody else, are their old majority, and would take writes.`,
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
		x.Flags().StringSliceVar(&f.withoutLog, "without-log", nil, "nodes that answer, and whose log of the catalog is past reading")
		x.Flags().StringSliceVar(&f.drop, "drop", nil, "journals of which nothing is left, to be forgotten")
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
		plan, why, err := planPast(s)
		if err != nil {
			return err
		}
		out.Group, out.Journals, out.Stopped = plan.Group, plan.Journals, strings.Join(why, "; ")
		return a.print(cmd, out, func(w io.Writer) error { return printSurvey(w, out) })
	})
}

// planPast makes a plan without whatever stops it, and says what that was.
func planPast(s libqjm.LossSurvey) (plan *libqjm.RecoveryPlan, why []string, err error) {
	var o libqjm.RecoverOptions
	for {
		plan, err = libqjm.PlanRecovery(s, o)
		stopped, ofJournal := errors.AsType[*quorumloss.StoppedError](err)
		unread, ofNode := errors.AsType[*quorumloss.UnreadError](err)
		switch {
		case ofJournal:
			o.Skip, why = append(o.Skip, stopped.Journal), append(why, fmt.Sprintf("journal %s: %v", stopped.Journal, stopped.Err))
		case ofNode:
			o.WithoutLog, why = append(o.WithoutLog, string(unread.Node)), append(why, fmt.Sprintf("node %s answers, and its log of the catalog is not known", unread.Node))
		default:
			return plan, why, err
		}
	}
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
	p.group(s.Group, quorumloss.RecoverQuorum)
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
		plan, err := libqjm.PlanRecovery(s, f.options())
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
	if plan.Kind != quorumloss.ResetPeers { // that asks one node, and takes nobody for lost
		p.line("taken for lost: %s", orNone(storages(plan.Lost)))
	}
	p.group(plan.Group, plan.Kind)
	for _, j := range plan.Journals {
		p.journal(j)
	}
	for _, j := range plan.LostWhole() {
		p.line("journal %s stays in the catalog, where nobody can use it: to have its name free, plan and apply with --drop %s", j.Name, j.Name)
	}
	switch {
	case plan.Empty():
		p.line("there is nothing to do")
	case plan.Majority != "":
		p.line("ATTENTION: %s. Nothing is lost there; this tears it apart", plan.Majority)
	case len(plan.Lost) > 0:
		p.line("be sure that %s will not come back: switch them off for good before this is carried out", storages(plan.Lost))
		p.line("they know nothing of this: where a majority of the old members runs again and reaches nobody else, a writer that reaches only them is acknowledged what nobody else will ever have")
	}
	p.line("plan digest %s", plan.Digest)
	return p.err
}

type applyJSON struct {
	Schema   string   `json:"schema"`
	Result   string   `json:"result"` // recovered, reset, or unchanged
	Digest   string   `json:"plan_digest"`
	Journals []string `json:"journals"`
	Dropped  []string `json:"dropped"`
	Left     []string `json:"left_to_do"`
}

func (a *app) applyRecovery(cmd *cobra.Command, f unsafeFlags) error {
	return a.withPatience(cmd, "", func(ctx context.Context, cl *libqjm.Client) error {
		o := f.options()
		o.Progress = func(s string) { say(cmd.ErrOrStderr(), "%s", s) }
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
		for _, j := range plan.Dropped() {
			notes = append(notes, fmt.Sprintf("make journal %q anew, if it is needed: qjmclient journal create %s", j.Name, j.Name))
		}
		switch {
		case len(plan.Lost) == 0 || plan.Empty():
		case plan.Group != nil:
			notes = append(notes, fmt.Sprintf("keep %s switched off; give each a blank disk before it is started again", storages(plan.Lost)))
		default: // they are nodes of the cluster as before
			notes = append(notes, fmt.Sprintf("start %s only where they reach the others, which tell them; what they hold of these journals counts no more, and stays on their disks", storages(plan.Lost)))
		}
		return a.printApplied(cmd, plan, notes)
	})
}

func (a *app) printApplied(cmd *cobra.Command, plan *libqjm.RecoveryPlan, notes []string) error {
	out := applyJSON{Schema: cli.Schema("recovery-apply"), Result: "recovered", Digest: plan.Digest, Journals: []string{}, Dropped: []string{}, Left: append([]string{}, notes...)}
	for _, j := range plan.Forced() {
		out.Journals = append(out.Journals, j.Name)
	}
	for _, j := range plan.Dropped() {
		out.Dropped = append(out.Dropped, j.Name)
	}
	switch {
	case plan.Empty():
		out.Result = "unchanged"
	case plan.Kind != quorumloss.RecoverQuorum:
		out.Result = "reset"
	}
	return a.print(cmd, out, func(w io.Writer) error {
		p := &printer{w: w}
		todo := "left to do: "
		if plan.Empty() {
			todo = ""
			p.line("unchanged; plan %s", out.Digest)
		} else {
			p.line("%s: %s; plan %s", out.Result, applied(plan, out), out.Digest)
		}
		for _, n := range notes {
			p.line("%s%s", todo, n)
		}
		return p.err
	})
}

// applied says what a plan was about.
func applied(plan *libqjm.RecoveryPlan, out applyJSON) string {
	var parts []string
	if plan.Group != nil {
		parts = append(parts, "the catalog's group")
	}
	if n := len(out.Journals); n > 0 {
		parts = append(parts, fmt.Sprintf("%s (%s)", cli.Plural(n, "journal"), strings.Join(out.Journals, ", ")))
	}
	if len(out.Dropped) > 0 {
		parts = append(parts, "dropped "+strings.Join(out.Dropped, ", "))
	}
	return strings.Join(parts, ", ")
}

func (a *app) resetPeersCmd() *cobra.Command {
	var f unsafeFlags
	var r libqjm.PeersReset
	var dir string
	c := &cobra.Command{
		Use: "reset-peers", Short: "Overwrite the members of one group on one node", Args: cobra.NoArgs,
		Long: `Overwrite the members of one group on one node: of the catalog, or of the journal that --group
names. It brings nothing together and tells nobody else; recover-quorum does both. Without
--plan-digest it prints the plan. With --data-dir it works on the directory of a node that does not
run, for the catalog's group only: give it in the directory of each new peer, then start them.`,
		Example: `  qjmclient unsafe reset-peers --node n1 --new-peers n1,n2
  qjmclient unsafe reset-peers --group orders --node n1 --new-peers n1
  qjmclient unsafe reset-peers --data-dir /var/lib/qjm --new-peers n1,n2`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r.DespiteMajority = f.despite
			if dir == "" {
				return a.resetPeers(cmd, f, r)
			}
			if r.Node != "" || r.Journal != "" {
				return cli.Usagef("--data-dir is of one node, and of the catalog: --node and --group do not go with it")
			}
			return a.resetOffline(cmd, f, journalnode.OfflineReset{DataDir: dir, Peers: r.Peers, DespiteMajority: f.despite})
		},
	}
	f.guards(c)
	f.despiteFlag(c)
	c.Flags().StringVar(&r.Journal, "group", "", "the journal; none: the catalog")
	c.Flags().StringVar(&r.Node, "node", "", "the node that is told")
	c.Flags().StringVar(&dir, "data-dir", "", "instead: the data directory of a node that does not run")
	c.Flags().StringSliceVar(&r.Peers, "new-peers", nil, "the group's members from now on, as this node sees it")
	return c
}

func (f *unsafeFlags) despiteFlag(c *cobra.Command) {
	c.Flags().BoolVar(&f.despite, "despite-majority", false, "the group has its majority, and I want it torn apart")
}

// planOnly: without a digest there is nothing to carry out; with one the guards must be given.
func (a *app) planOnly(f unsafeFlags) (bool, error) {
	if a.dryRun || f.digest == "" {
		return true, nil
	}
	return false, f.check()
}

func (a *app) resetPeers(cmd *cobra.Command, f unsafeFlags, r libqjm.PeersReset) error {
	if r.Node == "" || len(r.Peers) == 0 {
		return cli.Usagef("give --node and --new-peers")
	}
	only, err := a.planOnly(f)
	if err != nil {
		return err
	}
	return a.withPatience(cmd, r.Journal, func(ctx context.Context, cl *libqjm.Client) error {
		if only {
			s, err := cl.Survey(ctx)
			if err != nil {
				return err
			}
			plan, err := libqjm.PlanReset(s, r)
			if err != nil {
				return torn(err)
			}
			return a.print(cmd, plan, func(w io.Writer) error { return printPlan(w, plan) })
		}
		o := libqjm.RecoverOptions{Progress: func(s string) { say(cmd.ErrOrStderr(), "%s", s) }}
		plan, err := cl.ResetPeers(ctx, r, f.digest, o)
		if err != nil {
			return torn(err)
		}
		return a.printApplied(cmd, plan, nil)
	})
}

// torn says what to do instead, and how to do it all the same.
func torn(err error) error {
	switch {
	case errors.Is(err, quorumloss.ErrNoNode):
		return &cli.RefusedError{Text: cli.Plain(err.Error()), Hint: "name the nodes that the plan of recover-quorum names"}
	case !errors.Is(err, libqjm.ErrHasMajority):
		return err
	}
	return &cli.RefusedError{
		Text: cli.Plain(err.Error()),
		Hint: "members are changed by quorum change, member replace and member remove; to tear it apart all the same, add --despite-majority",
	}
}

// resetOffline asks nobody: it has the directory only.
func (a *app) resetOffline(cmd *cobra.Command, f unsafeFlags, r journalnode.OfflineReset) error {
	if len(r.Peers) == 0 {
		return cli.Usagef("give --new-peers")
	}
	only, err := a.planOnly(f)
	if err != nil {
		return err
	}
	if only {
		plan, err := journalnode.PlanOfflineReset(r)
		if err != nil {
			return torn(err)
		}
		return a.print(cmd, plan, func(w io.Writer) error { return printPlan(w, plan) })
	}
	plan, err := journalnode.ResetPeersOffline(r, f.digest)
	if err != nil {
		return torn(err)
	}
	first := "start it"
	if others := slices.DeleteFunc(slices.Clone(plan.Group.Voters), func(s libqjm.PlanStorage) bool { return slices.Contains(plan.Survivors, s) }); len(others) > 0 {
		first = fmt.Sprintf("the same in the directory of each of %s, then start all", storages(others))
	}
	return a.printApplied(cmd, plan, []string{
		first,
		"when they have a leader: qjmclient unsafe recover-quorum plan, for the journals",
		fmt.Sprintf("keep %s switched off; take each out with qjmclient member remove, and give it a blank disk before it is started again", orNone(storages(plan.Group.GiveUp))),
	})
}
