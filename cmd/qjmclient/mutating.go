package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/libqjm"
)

// What commands that change something have in common: --dry-run, --yes and --expect-generation. A generation is
// what was seen when the change was decided on: of a journal its config version, of the cluster a number that is
// another one whenever the nodes are others.

// guard says what --expect-generation of a command is about.
type guard int

const (
	ofJournal guard = iota // the config version of the journal that is named
	ofCluster              // the nodes of the cluster
	unguarded              // there is nothing to compare with: it makes what it is about, or has no catalog to ask
)

var guardUsage = map[guard]string{
	ofJournal: "only if the journal's config (see quorum show) has this version",
	ofCluster: "only if the nodes are of this generation (see cluster status)",
}

// mutating adds the flags that all commands have which change something.
func (a *app) mutating(c *cobra.Command, g guard) *cobra.Command {
	c.Flags().BoolVar(&a.dryRun, "dry-run", false, "print the plan and change nothing")
	c.Flags().BoolVarP(&a.yes, "yes", "y", false, "do not ask")
	if usage := guardUsage[g]; usage != "" {
		c.Flags().Uint64Var(&a.expect, "expect-generation", 0, usage)
	}
	return c
}

// destructive is mutating for what cannot be taken back: it asks on a terminal, and where there is none it wants
// to be told --yes beforehand.
func (a *app) destructive(c *cobra.Command, g guard) *cobra.Command {
	run := c.RunE
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := a.mayAsk(cmd); err != nil {
			return err
		}
		return run(cmd, args)
	}
	return a.mutating(c, g)
}

// mayAsk refuses what would have to be asked where nobody can answer.
func (a *app) mayAsk(cmd *cobra.Command) error {
	if a.yes || a.dryRun || a.onTerminal(cmd.InOrStdin()) {
		return nil
	}
	return cli.Usagef("this cannot be taken back, and there is no terminal to ask on: look with --dry-run, then add --yes")
}

// confirm asks, unless with --yes. The word is what has to be typed.
func (a *app) confirm(cmd *cobra.Command, word, format string, args ...any) error {
	if a.yes {
		return nil
	}
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s\nType %s to confirm: ", cli.Wrap("About to "+fmt.Sprintf(format, args...)+".", "  "), word)
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) || strings.TrimSpace(line) != word {
		return &cli.RefusedError{Text: "not confirmed, nothing was done"}
	}
	return nil
}

// afresh is the time that is left after a question: what somebody took to answer does not count. What may take
// long is bounded only where --timeout was given.
func (a *app) afresh(cmd *cobra.Command, long bool) (context.Context, context.CancelFunc) {
	if long && !cmd.Flags().Changed("timeout") {
		return context.WithCancel(cmd.Context())
	}
	return context.WithTimeout(cmd.Context(), a.timeout)
}

// expected compares --expect-generation with what the catalog has, right before the command does anything.
func (a *app) expected(ctx context.Context, cl *libqjm.Client, journal string) error {
	if a.expect == 0 {
		return nil
	}
	what, got := "the cluster's nodes are", uint64(0)
	if journal == "" || journal == catalogGroup {
		v, err := cl.Catalog(ctx, libqjm.Linearizable)
		if err != nil {
			return err
		}
		got = v.Generation()
	} else {
		_, j, err := inCatalog(ctx, cl, journal, libqjm.Linearizable)
		if err != nil {
			return err
		}
		what, got = fmt.Sprintf("journal %q is", journal), j.Config.Version
	}
	if got != a.expect {
		return &cli.RefusedError{Text: fmt.Sprintf("%s at generation %d, not %d; nothing was done", what, got, a.expect), Hint: "look again before you change it"}
	}
	return nil
}
