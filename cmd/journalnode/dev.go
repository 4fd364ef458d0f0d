package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/journalnode/local"
)

type devFlags struct {
	nodes    int
	basePort int
	dataDir  string
}

func (a *app) devCmd() *cobra.Command {
	var f devFlags
	c := &cobra.Command{
		Use: "dev", Short: "Run a whole cluster in this process, to try things out", Args: cobra.NoArgs,
		Long: `Run a whole cluster in this process until Ctrl-C. Without --data-dir its data lives in a
temporary directory that is removed at the end. Ports: --base-port and up for clients, 100 above
those for HTTP; --base-port 0 takes any that are free.`,
		Example: "  journalnode dev\n  journalnode dev --nodes 5 --base-port 9400 --data-dir ./data",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.dev(cmd, f) },
	}
	c.Flags().IntVar(&f.nodes, "nodes", local.DefaultNodes, "how many nodes")
	c.Flags().IntVar(&f.basePort, "base-port", 7400, "port of the first node")
	c.Flags().StringVar(&f.dataDir, "data-dir", "", "keep the data here (default: a temporary directory)")
	return c
}

func (a *app) dev(cmd *cobra.Command, f devFlags) (err error) {
	opts := local.Options{Nodes: f.nodes, Dir: f.dataDir, BasePort: f.basePort, Version: cli.VersionString()}
	if f.nodes < 1 || f.nodes > local.NodesMax {
		return cli.Usagef("--nodes %d: want 1 to %d", f.nodes, local.NodesMax)
	}
	if opts.Validate() != nil {
		return cli.Usagef("--base-port %d is out of range", f.basePort)
	}
	if !cmd.Flags().Changed("log-level") {
		a.logLevel = "warn" // the banner is what there is to read
	}
	if opts.Logger, err = a.logger(cmd.ErrOrStderr()); err != nil {
		return &cli.UsageError{Err: err}
	}
	ctx := cmd.Context()
	cluster, err := local.Start(ctx, opts)
	if err != nil {
		return startError(ctx, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.drain)
		defer cancel()
		err = errors.Join(err, cluster.Stop(ctx))
	}()
	if err := banner(cmd.OutOrStdout(), cluster.Endpoints(), cluster.HTTPEndpoints(), cluster.Dir(), f.dataDir == ""); err != nil {
		return err
	}
	<-ctx.Done()
	_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "journalnode: stopping")
	return nil
}

func banner(w io.Writer, addrs, https []string, dir string, temporary bool) error {
	kept := "kept at the end"
	if temporary {
		kept = "temporary, removed at the end"
	}
	data := cli.Wrap(fmt.Sprintf("  data  %s (%s)", dir, kept), bannerIndent)
	http := cli.Wrap(fmt.Sprintf("  http  %s  (/healthz /readyz /metrics /raft_stat)", strings.Join(https, " ")), bannerIndent)
	_, err := fmt.Fprintf(w, `A cluster of %s is running in this process; Ctrl-C stops it.

%s
%s

In another terminal:

%s
  qjmclient journal create demo
  seq 1000 | qjmclient journal append demo
  qjmclient journal tail demo --from 998

`, cli.Plural(len(addrs), "node"), data, http, export(addrs))
	return err
}

const bannerIndent = "        "

// export names as many endpoints as fit a line: one that answers is enough.
func export(addrs []string) string {
	line := "  export QJM_ENDPOINTS=" + addrs[0]
	for _, a := range addrs[1:] {
		if len(line)+len(a) >= cli.LineMax {
			break
		}
		line += "," + a
	}
	return line
}
