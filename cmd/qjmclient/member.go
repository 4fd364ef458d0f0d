package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/libqjm"
)

func (a *app) memberAddCmd() *cobra.Command {
	return &cobra.Command{
		Use: "add ID=HOST:PORT", Short: "Wait until a new node takes part in the cluster", Args: cobra.ExactArgs(1),
		Long: `Wait until a new node takes part in the cluster. Start it first, with --join and the address of any
node; it asks to be let in by itself. This checks that it is the one that is meant, and says when it
votes. Journals get it as a member by quorum change or member replace.`,
		Example: "  journalnode --id n4 --data-dir /var/lib/qjm --listen 10.0.0.4:7400 --join 10.0.0.1:7400 &\n  qjmclient member add n4=10.0.0.4:7400",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, addr, err := nodeAt(args[0], true)
			if err != nil {
				return err
			}
			return a.withPatience(cmd, "", func(ctx context.Context, cl *libqjm.Client) error { return a.addMember(ctx, cmd, cl, id, addr) })
		},
	}
}

// nodeAt reads ID=HOST:PORT; where the address is not needed, ID alone will do.
func nodeAt(s string, needAddr bool) (id, addr string, err error) {
	id, addr, ok := strings.Cut(s, "=")
	switch {
	case !ok && needAddr:
		return "", "", cli.Usagef("%q is not ID=HOST:PORT", s)
	case id == "":
		return "", "", cli.Usagef("%q names no node", s)
	case ok:
		if err := cli.CheckAddress(addr, false); err != nil {
			return "", "", cli.Usagef("address of %s: %w", id, err)
		}
	}
	return id, addr, nil
}

// intoCluster waits until a node is in the cluster, and says on stderr what it waits for.
func (a *app) intoCluster(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, id, addr string) error {
	err := cl.AddMember(ctx, id, addr, a.dryRun, func(p libqjm.AddProgress) {
		switch {
		case p.Votes:
		case p.Asked:
			say(cmd.ErrOrStderr(), "node %s is registered, and catches up with the catalog", id)
		default:
			say(cmd.ErrOrStderr(), "node %s answers, and has not asked to join yet: was it started with --join?", id)
		}
	})
	if errors.Is(err, libqjm.ErrUnavailable) && ctx.Err() == nil {
		return &cli.RefusedError{
			Text: fmt.Sprintf("node %s does not answer at %s (%s)", id, addr, cli.Cause(err)),
			Hint: fmt.Sprintf("start it: journalnode --id %s --data-dir DIR --listen %s --join %s", id, addr, a.endpoints[0]),
		}
	}
	return err
}

func (a *app) addMember(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, id, addr string) error {
	err := a.intoCluster(ctx, cmd, cl, id, addr)
	switch {
	case err != nil:
		return err
	case a.dryRun:
		return a.plan(cmd, "member-add", "", "node %s at %s can be part of the cluster; wait until it is", id, addr)
	}
	return a.printMember(cmd, "member-add", memberJSON{Node: id, Result: "added"}, "node %s takes part in the cluster", id)
}

type replaceJSON struct {
	Schema   string   `json:"schema"`
	Old      string   `json:"old"`
	New      string   `json:"new"`
	Result   string   `json:"result"` // replaced
	Journals []string `json:"journals"`
}

func (a *app) memberReplaceCmd() *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use: "replace OLD NEW[=HOST:PORT]", Short: "Move all journals from one node to another, then take the old one out", Args: cobra.ExactArgs(2),
		Long: `Move all journals from one node to another, then take the old one out of the cluster. Writers go
along; no append fails. With an address it first waits until the new node is in the cluster.

Where OLD and NEW are one node, its disk was wiped or replaced: start it again with its old flags,
and the storage that it has now takes the place of the lost one.

It can be cut off anywhere; the same command again goes on. With --timeout it gives up waiting then.
It asks on a terminal, unless with --yes; where there is none, --yes is needed.`,
		Example: `  qjmclient member replace n3 n4=10.0.0.4:7400
  qjmclient member replace n3 n3`,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, addr, err := nodeAt(args[1], false)
			if err != nil {
				return err
			}
			return a.withPatience(cmd, "", func(ctx context.Context, cl *libqjm.Client) error {
				if addr != "" && id != args[0] {
					if err := a.intoCluster(ctx, cmd, cl, id, addr); err != nil {
						return err
					}
				}
				return a.replaceAsked(ctx, cmd, cl, args[0], id, keep)
			})
		},
	}
	c.Flags().BoolVar(&keep, "keep", false, "leave the old node in the cluster, without journals")
	return c
}

// replaceAsked prints the plan, or asks whether it is meant, and then carries it out.
func (a *app) replaceAsked(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, old, fresh string, keep bool) error {
	if a.yes && !a.dryRun {
		return a.replaceMember(ctx, cmd, cl, old, fresh, keep)
	}
	names, err := cl.ReplaceMember(ctx, old, fresh, libqjm.ReplaceOptions{Keep: keep, DryRun: true})
	if err != nil {
		return err
	}
	plan := replacing(names, old, fresh, keep)
	if a.dryRun {
		return a.plan(cmd, "member-replace", "", "%s", plan)
	}
	if err := a.confirm(cmd, old, "%s", plan); err != nil {
		return err
	}
	ctx, cancel := a.afresh(cmd, true)
	defer cancel()
	return a.replaceMember(ctx, cmd, cl, old, fresh, keep)
}

func replacing(names []string, old, fresh string, keep bool) string {
	list := "no journal"
	if len(names) > 0 {
		list = cli.Plural(len(names), "journal") + " (" + strings.Join(names, ", ") + ")"
	}
	text := fmt.Sprintf("move %s from %s to %s", list, old, fresh)
	if old == fresh {
		text = fmt.Sprintf("put the storage that %s has now in the place of the lost one, in %s", old, list)
	}
	if keep {
		return text
	}
	return text + fmt.Sprintf(", then take %s out of the cluster", oldOne(old, fresh))
}

// oldOne is what leaves the cluster.
func oldOne(old, fresh string) string {
	if old == fresh {
		return "the lost one"
	}
	return old
}

func (a *app) replaceMember(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, old, fresh string, keep bool) error {
	bar := cli.NewProgress(cmd.ErrOrStderr())
	defer bar.Done()
	said := ""
	names, err := cl.ReplaceMember(ctx, old, fresh, libqjm.ReplaceOptions{Keep: keep, Progress: func(p libqjm.ReplaceProgress) {
		bar.Show(int64(p.Done), int64(p.Journals), fmt.Sprintf("%d of %s moved", p.Done, cli.Plural(p.Journals, "journal")))
		if text := p.Waiting; text != "" && text != said && !bar.Enabled() {
			said = text
			say(cmd.ErrOrStderr(), "%s: %s", p.UnderWay[0], text)
		}
	}})
	bar.Done()
	if err != nil && ctx.Err() != nil {
		say(cmd.ErrOrStderr(), "what was begun is carried on by the cluster; the same command again goes on with the rest")
	}
	if err != nil {
		return err
	}
	if names == nil {
		names = []string{}
	}
	out := replaceJSON{cli.Schema("member-replace"), old, fresh, "replaced", names}
	return a.print(cmd, out, func(w io.Writer) error {
		text := fmt.Sprintf("%s moved from %s to %s", cli.Plural(len(names), "journal"), old, fresh)
		if old == fresh {
			text = fmt.Sprintf("%s moved to the storage that %s has now", cli.Plural(len(names), "journal"), old)
		}
		_, err := fmt.Fprintln(w, cli.Wrap(text, "  "))
		return err
	})
}
