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
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/libqjm"
)

func (a *app) quorumCmd() *cobra.Command {
	c := &cobra.Command{Use: "quorum", Short: "See and change the members of a journal"}
	c.AddCommand(a.quorumShowCmd(), a.mutating(a.quorumChangeCmd(), ofJournal), a.quorumHistoryCmd())
	return c
}

type quorumJSON struct {
	Schema      string           `json:"schema"`
	Journal     string           `json:"journal"`
	Consistency string           `json:"consistency"`
	Version     string           `json:"config_version"`
	InForce     string           `json:"config_in_force"`
	Sets        [][]string       `json:"member_sets"`
	Change      *changeObject    `json:"change,omitempty"`
	Nodes       []quorumNodeJSON `json:"nodes"`
}

type changeObject struct {
	ID    string   `json:"id"`
	Stage string   `json:"stage"`
	Old   []string `json:"old"`
	New   []string `json:"new"`
	Note  string   `json:"note,omitempty"`
}

type quorumNodeJSON struct {
	Node        string `json:"node"`
	Incarnation string `json:"incarnation"`
	Role        string `json:"role"` // member, learner or leaving
	State       string `json:"state"`
	Promised    string `json:"promised_epoch"`
	Last        string `json:"last_txid"`

	heard bool // else the numbers are nobody's
}

func toChange(ch *libqjm.MembershipChange) *changeObject {
	if ch == nil {
		return nil
	}
	return &changeObject{ID: cli.U64(ch.ID), Stage: ch.Stage, Old: memberNames(ch.Old), New: memberNames(ch.New), Note: ch.Note}
}

func memberNames(ms []quorum.Member) []string {
	out := []string{}
	for _, m := range ms {
		out = append(out, string(m.ID))
	}
	return out
}

func (a *app) quorumShowCmd() *cobra.Command {
	var strength consistency
	c := &cobra.Command{
		Use: "show NAME", Short: "The members of a journal, and the change of them that is under way", Args: journalName,
		Example: "  qjmclient quorum show orders",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd, args[0], func(ctx context.Context, cl *libqjm.Client) error {
				v, j, err := inCatalog(ctx, cl, args[0], strength.ReadStrength)
				if err != nil {
					return err
				}
				st, err := cl.Status(ctx, args[0])
				if err != nil {
					return err
				}
				return a.printQuorum(cmd, toQuorum(v, j, st))
			})
		},
	}
	c.Flags().Var(&strength, "consistency", "what the answer rests on")
	return c
}

func toQuorum(v libqjm.Catalog, j libqjm.CatalogJournal, st libqjm.JournalStatus) quorumJSON {
	out := quorumJSON{
		Schema: cli.Schema("quorum-show"), Journal: j.Name, Consistency: v.Strength.String(), Version: cli.U64(j.Config.Version),
		InForce: cli.U64(j.InForce), Sets: [][]string{}, Change: toChange(j.Change), Nodes: []quorumNodeJSON{},
	}
	for _, s := range j.Config.Sets {
		out.Sets = append(out.Sets, memberNames(s))
	}
	all := j.Config.Members()
	if j.Change != nil {
		all = quorum.NewConfig(1, slices.Concat(all, j.Change.Old, j.Change.New)...).Members()
	}
	for _, m := range all {
		n := quorumNodeJSON{Node: string(m.ID), Incarnation: m.Incarnation.String(), Role: "member", State: "unreachable", Promised: "0", Last: "0"}
		switch ch := j.Change; {
		case ch != nil && !slices.ContainsFunc(ch.Old, m.Same) && ch.Stage == "learning":
			n.Role = "learner"
		case ch != nil && !slices.ContainsFunc(ch.New, m.Same):
			n.Role = "leaving"
		}
		for _, s := range st.Nodes {
			switch {
			case s.Node != n.Node:
			case s.Incarnation == n.Incarnation:
				n.State, n.Promised, n.Last, n.heard = s.State, cli.U64(s.Promised), cli.U64(s.Last), true
			case s.Incarnation == "":
				n.State = s.State
			default:
				n.State = "gone" // the node has another storage now
			}
		}
		out.Nodes = append(out.Nodes, n)
	}
	return out
}

func (a *app) printQuorum(cmd *cobra.Command, q quorumJSON) error {
	return a.print(cmd, q, func(w io.Writer) error {
		var sets []string
		for _, s := range q.Sets {
			sets = append(sets, strings.Join(s, ", "))
		}
		head := fmt.Sprintf("journal %q, config %s, a majority of %s", q.Journal, q.Version, strings.Join(sets, " and of "))
		if q.InForce != q.Version {
			head += "; not known to be in force yet"
		}
		lines := []string{head}
		if ch := q.Change; ch != nil {
			text := fmt.Sprintf("change %s to %s: %s", ch.ID, strings.Join(ch.New, ", "), ch.Stage)
			if ch.Note != "" {
				text += "; " + ch.Note
			}
			lines = append(lines, text)
		}
		for _, l := range lines {
			if _, err := fmt.Fprintln(w, cli.Wrap(l, "  ")); err != nil {
				return err
			}
		}
		rows := [][]string{{"NODE", "ROLE", "STATE", "PROMISED", "LAST TXID", "INCARNATION"}}
		for _, n := range q.Nodes {
			if !n.heard {
				n.Promised, n.Last = "", ""
			}
			rows = append(rows, []string{n.Node, n.Role, n.State, n.Promised, n.Last, short(n.Incarnation)})
		}
		return cli.PrintTable(w, rows)
	})
}

type historyJSON struct {
	Schema  string        `json:"schema"`
	Journal string        `json:"journal"`
	Events  []eventObject `json:"events"`
}

type eventObject struct {
	Index   string `json:"catalog_index"`
	Kind    string `json:"kind"`
	Version string `json:"config_version"`
	Note    string `json:"note,omitempty"`
}

func (a *app) quorumHistoryCmd() *cobra.Command {
	return &cobra.Command{
		Use: "history NAME", Short: "The last changes of a journal's members", Args: journalName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd, args[0], func(ctx context.Context, cl *libqjm.Client) error {
				_, j, err := inCatalog(ctx, cl, args[0], libqjm.Linearizable)
				if err != nil {
					return err
				}
				out := historyJSON{Schema: cli.Schema("quorum-history"), Journal: j.Name, Events: []eventObject{}}
				for _, e := range j.History {
					out.Events = append(out.Events, eventObject{cli.U64(e.Index), e.Kind, cli.U64(e.Version), e.Note})
				}
				return a.print(cmd, out, func(w io.Writer) error {
					rows := [][]string{{"INDEX", "WHAT", "CONFIG", "WHY"}}
					for _, e := range out.Events {
						rows = append(rows, []string{e.Index, e.Kind, e.Version, e.Note})
					}
					return cli.PrintTable(w, rows)
				})
			})
		},
	}
}

type quorumChangeJSON struct {
	Schema  string   `json:"schema"`
	Journal string   `json:"journal"`
	Result  string   `json:"result"` // changed, unchanged or aborted
	Version string   `json:"config_version"`
	Members []string `json:"members"`
}

func (a *app) quorumChangeCmd() *cobra.Command {
	var to []string
	var resume, abort bool
	c := &cobra.Command{
		Use: "change NAME", Short: "Change the members of a journal, under load or idle", Args: journalName,
		Long: `Change the members of a journal, under load or idle. New members copy the journal first; then the
quorum goes over in steps that can be cut off anywhere. A live writer goes along: no append fails.

The change is carried on by the cluster, whether this command lives or not. The same again, or
--resume, waits for it; --abort gives it up, as long as it is not final. With --timeout the waiting
is bounded, not the change.`,
		Example: `  qjmclient quorum change orders --to n1,n2,n4 --dry-run
  qjmclient quorum change orders --to n1,n2,n4
  qjmclient quorum change orders --abort`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf(len(to) > 0, resume, abort); err != nil {
				return err
			}
			return a.withPatience(cmd, args[0], func(ctx context.Context, cl *libqjm.Client) error {
				switch {
				case abort:
					return a.abortChange(ctx, cmd, cl, args[0])
				case resume:
					return a.waitForChange(ctx, cmd, cl, args[0], 0)
				}
				return a.changeMembers(ctx, cmd, cl, args[0], to, libqjm.ChangeOptions{ExpectVersion: a.expect, DryRun: a.dryRun})
			})
		},
	}
	c.Flags().StringSliceVar(&to, "to", nil, "the members that it shall have")
	c.Flags().BoolVar(&resume, "resume", false, "wait for the change that is under way")
	c.Flags().BoolVar(&abort, "abort", false, "give the change that is under way up")
	return c
}

func oneOf(to, resume, abort bool) error {
	n := 0
	for _, b := range []bool{to, resume, abort} {
		if b {
			n++
		}
	}
	if n != 1 {
		return cli.Usagef("give one of --to, --resume, --abort")
	}
	return nil
}

// withPatience is withClient for what may take long: only where --timeout was given it bounds the work.
func (a *app) withPatience(cmd *cobra.Command, journal string, do func(context.Context, *libqjm.Client) error) error {
	ctx := cmd.Context()
	dialCtx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	c, err := a.dial(dialCtx, cmd.ErrOrStderr(), journal)
	if err != nil {
		return err
	}
	if cmd.Flags().Changed("timeout") {
		ctx = dialCtx
	}
	return errors.Join(do(ctx, c), c.Close())
}

func (a *app) changeMembers(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, name string, to []string, o libqjm.ChangeOptions) error {
	stop := every(stallAfter, stallEvery, func() {
		say(cmd.ErrOrStderr(), "waiting: the catalog's leader must answer, and each of %s that is new", strings.Join(to, ", "))
	})
	ch, err := cl.ChangeMembers(ctx, name, to, o)
	stop()
	switch {
	case errors.Is(err, libqjm.ErrSameMembers):
		return a.changed(ctx, cmd, cl, name, "unchanged")
	case err != nil:
		return err
	case a.dryRun:
		return a.plan(cmd, "quorum-change", name, "change the members of journal %q from %s to %s; new ones copy it first",
			name, strings.Join(memberNames(ch.Old), ", "), strings.Join(memberNames(ch.New), ", "))
	}
	return a.waitForChange(ctx, cmd, cl, name, ch.ID)
}

// waitForChange waits for the change of that id, or for whichever is under way where id is 0. It says each stage and
// each reason to wait once, on stderr.
func (a *app) waitForChange(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, name string, id uint64) error {
	if a.dryRun {
		return a.plan(cmd, "quorum-change", name, "wait for the change of the members of journal %q that is under way", name)
	}
	var last libqjm.MembershipChange
	err := cl.WaitForChange(ctx, name, func(ch libqjm.MembershipChange) {
		text := fmt.Sprintf("%s: %s", name, ch.Stage)
		if ch.Note != "" {
			text += ": " + ch.Note
		}
		say(cmd.ErrOrStderr(), "%s", text)
		last = ch
	})
	if err != nil && ctx.Err() != nil && last.ID != 0 {
		hint := fmt.Sprintf("the cluster carries it on; wait for it: qjmclient quorum change %s --resume", name)
		say(cmd.ErrOrStderr(), "%s", hint)
	}
	if err == nil && last.ID == 0 { // it was over before it was looked at
		var j libqjm.CatalogJournal
		if _, j, err = inCatalog(ctx, cl, name, libqjm.Linearizable); err == nil {
			err = gaveUp(j, id)
		}
	}
	switch {
	case err != nil:
		return err
	case id == 0 && last.ID == 0:
		return a.changed(ctx, cmd, cl, name, "unchanged")
	}
	return a.changed(ctx, cmd, cl, name, "changed")
}

// gaveUp says if the change of that id, or the last one where id is 0, was given up.
func gaveUp(j libqjm.CatalogJournal, id uint64) error {
	i := len(j.History) - 1
	if id > 0 { // what came of it is the first thing behind it
		i = slices.IndexFunc(j.History, func(e libqjm.MembershipEvent) bool { return e.Index > id })
	}
	if i < 0 || j.History[i].Kind != "aborted" {
		return nil
	}
	return fmt.Errorf("%w: %s: %s", libqjm.ErrChangeAborted, j.Name, j.History[i].Note)
}

func (a *app) abortChange(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, name string) error {
	_, j, err := inCatalog(ctx, cl, name, libqjm.Linearizable)
	switch {
	case err != nil:
		return err
	case j.Change == nil:
		return &cli.RefusedError{Text: fmt.Sprintf("no change of the members of journal %q is under way", name)}
	case a.dryRun:
		return a.plan(cmd, "quorum-change", name, "give the change of journal %q to %s up: its members stay %s",
			name, strings.Join(memberNames(j.Change.New), ", "), strings.Join(memberNames(j.Change.Old), ", "))
	}
	if err := cl.AbortChange(ctx, name, j.Change.ID); err != nil {
		return err
	}
	return a.changed(ctx, cmd, cl, name, "aborted")
}

func (a *app) changed(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, name, result string) error {
	_, j, err := inCatalog(ctx, cl, name, libqjm.Linearizable)
	if err != nil {
		return err
	}
	out := quorumChangeJSON{
		Schema: cli.Schema("quorum-change"), Journal: name, Result: result, Version: cli.U64(j.Config.Version), Members: memberNames(j.Config.Members()),
	}
	return a.print(cmd, out, func(w io.Writer) error {
		if result == "unchanged" {
			result += ", no change is under way"
		}
		_, err := fmt.Fprintln(w, cli.Wrap(fmt.Sprintf("journal %q %s: members %s, config %s", name, result, strings.Join(out.Members, ", "), out.Version), "  "))
		return err
	})
}
