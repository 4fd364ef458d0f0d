package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/journalnode"
	"github.com/quorumjournal/qjm/journalnode/raftgroup"
)

const (
	httpOffset   = 100
	devReserve   = 1 << 20
	devHeartbeat = 500 * time.Millisecond
	foundTimeout = 30 * time.Second
	foundPoll    = 20 * time.Millisecond
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
	c.Flags().IntVar(&f.nodes, "nodes", 3, "how many nodes")
	c.Flags().IntVar(&f.basePort, "base-port", 7400, "port of the first node")
	c.Flags().StringVar(&f.dataDir, "data-dir", "", "keep the data here (default: a temporary directory)")
	return c
}

func (a *app) dev(cmd *cobra.Command, f devFlags) (err error) {
	if f.nodes < 1 || f.nodes > quorum.MaxMembers {
		return cli.Usagef("--nodes %d: want 1 to %d", f.nodes, quorum.MaxMembers)
	}
	if f.basePort < 0 || f.basePort+httpOffset+f.nodes > 1<<16 {
		return cli.Usagef("--base-port %d is out of range", f.basePort)
	}
	if !cmd.Flags().Changed("log-level") {
		a.logLevel = "warn" // the banner is what there is to read
	}
	log, err := a.logger(cmd.ErrOrStderr())
	if err != nil {
		return &cli.UsageError{Err: err}
	}
	dir, temporary := f.dataDir, f.dataDir == ""
	if temporary {
		if dir, err = os.MkdirTemp("", "qjm-dev-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	opts, err := devOptions(f, dir)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	var nodes []*journalnode.Node
	defer func() { err = errors.Join(err, a.stopAll(ctx, nodes)) }()
	for _, o := range opts {
		o.Logger, o.Version = log, cli.VersionString()
		n, err := journalnode.Start(ctx, o)
		if err != nil {
			return startError(ctx, err)
		}
		nodes = append(nodes, n)
	}
	if err := awaitFounded(ctx, nodes); err != nil {
		return startError(ctx, err)
	}
	if err := banner(cmd.OutOrStdout(), opts, dir, temporary); err != nil {
		return err
	}
	<-ctx.Done()
	_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "journalnode: stopping")
	return nil
}

func devOptions(f devFlags, dir string) ([]journalnode.Options, error) {
	addrs, https, err := devPorts(f)
	if err != nil {
		return nil, err
	}
	var peers []journalnode.Peer
	for i, addr := range addrs {
		peers = append(peers, journalnode.Peer{ID: quorum.NodeID(fmt.Sprintf("n%d", i+1)), Addr: addr})
	}
	var out []journalnode.Options
	for i, p := range peers {
		out = append(out, journalnode.Options{
			ID: p.ID, DataDir: filepath.Join(dir, string(p.ID)), Listen: p.Addr, HTTPListen: https[i], InitialCluster: peers,
			ReserveBytes: devReserve,
			// All is in one process, and somebody waits for it.
			Raft: raftgroup.Options{Heartbeat: devHeartbeat, Election: devHeartbeat, LeaderLease: devHeartbeat},
		})
	}
	return out, nil
}

func devPorts(f devFlags) (addrs, https []string, err error) {
	local := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
	if f.basePort > 0 {
		for i := range f.nodes {
			addrs = append(addrs, local(f.basePort+i))
			https = append(https, local(f.basePort+httpOffset+i))
		}
		return addrs, https, nil
	}
	for range 2 * f.nodes {
		l, err := net.Listen("tcp", local(0))
		if err != nil {
			return nil, nil, err
		}
		defer func() { _ = l.Close() }() // all are held until all are known, so they differ
		addrs = append(addrs, l.Addr().String())
	}
	return addrs[:f.nodes], addrs[f.nodes:], nil
}

// awaitFounded waits until every node serves.
func awaitFounded(ctx context.Context, nodes []*journalnode.Node) error {
	ctx, cancel := context.WithTimeout(ctx, foundTimeout)
	defer cancel()
	for {
		var errs []error
		for i, n := range nodes {
			if err := n.Ready(); err != nil {
				errs = append(errs, fmt.Errorf("n%d: %w", i+1, err))
			}
		}
		if len(errs) == 0 {
			return nil
		}
		select {
		case <-time.After(foundPoll):
		case <-ctx.Done():
			return fmt.Errorf("the cluster did not get ready: %w", errors.Join(append(errs, context.Cause(ctx))...))
		}
	}
}

// stopAll drains all nodes at once.
func (a *app) stopAll(ctx context.Context, nodes []*journalnode.Node) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.drain)
	defer cancel()
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = n.Stop(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func banner(w io.Writer, opts []journalnode.Options, dir string, temporary bool) error {
	var addrs, https []string
	for _, o := range opts {
		addrs = append(addrs, o.Listen)
		https = append(https, o.HTTPListen)
	}
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

`, cli.Plural(len(opts), "node"), data, http, export(addrs))
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
