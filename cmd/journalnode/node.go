package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/journalnode"
)

const defaultDrain = 10 * time.Second

type app struct {
	id, dataDir, listen, httpListen string
	cluster, join                   []string
	advertise                       string
	labels                          map[string]string
	logFormat, logLevel             string
	drain                           time.Duration
	reserveMiB                      int64

	subject cli.Subject
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "journalnode",
		Short: "Run one node of a quorum journal cluster",
		Long: `Run one node of a quorum journal cluster until SIGTERM or Ctrl-C, which drain it.

Every flag can be set by an environment variable: --data-dir by QJM_DATA_DIR, and so on.
HTTP serves /healthz, /readyz and /metrics. Logs go to stderr.`,
		Example: `  journalnode --id n1 --data-dir /var/lib/qjm --listen 10.0.0.1:7400 --http-listen 10.0.0.1:7500 \
    --initial-cluster n1=10.0.0.1:7400,n2=10.0.0.2:7400,n3=10.0.0.3:7400
  journalnode --id n4 --data-dir /var/lib/qjm --listen 10.0.0.4:7400 --join 10.0.0.1:7400
  journalnode dev          # three nodes in one process, to try things out`,
		Version: cli.VersionString(),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.runNode(cmd) },
	}
	f := root.Flags()
	f.StringVar(&a.id, "id", "", "name of this node, one of --initial-cluster")
	f.StringVar(&a.dataDir, "data-dir", "", "directory of this node alone")
	f.StringVar(&a.listen, "listen", "", "host:port for clients and other nodes")
	f.StringVar(&a.httpListen, "http-listen", "", "host:port for health and metrics (default: none)")
	f.StringSliceVar(&a.cluster, "initial-cluster", nil, "the founding nodes: id=host:port,id=host:port,...")
	f.StringSliceVar(&a.join, "join", nil, "nodes of a cluster to join instead: host:port,...")
	f.StringVar(&a.advertise, "advertise", "", "host:port that others reach this node by, if not --listen")
	f.StringToStringVar(&a.labels, "label", nil, "labels for the placing of journals: rack=r1,zone=a")
	f.Int64Var(&a.reserveMiB, "reserve-mib", journalnode.DefaultReserveBytes>>20, "MiB of disk kept for promises and recovery; 0: none")
	pf := root.PersistentFlags()
	pf.StringVar(&a.logFormat, "log-format", "text", "text or json")
	pf.StringVar(&a.logLevel, "log-level", "info", "debug, info, warn or error")
	pf.DurationVar(&a.drain, "drain-timeout", defaultDrain, "how long stopping may wait for connections")
	root.AddCommand(a.devCmd())
	return root
}

// options gathers everything that is wrong with the flags, not only the first.
func (a *app) options(stderr io.Writer) (journalnode.Options, error) {
	o := journalnode.Options{
		ID: quorum.NodeID(a.id), DataDir: a.dataDir, Listen: a.listen, HTTPListen: a.httpListen, Version: cli.VersionString(),
	}
	if o.ReserveBytes = a.reserveMiB << 20; a.reserveMiB == 0 {
		o.ReserveBytes = -1 // 0 would be the default
	}
	var bad []string
	problem := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }
	if a.id == "" {
		problem("--id is missing")
	} else if err := o.ID.Validate(); err != nil {
		problem("--id: %s", cli.Plain(err.Error()))
	}
	if a.dataDir == "" {
		problem("--data-dir is missing")
	}
	if a.listen == "" {
		problem("--listen is missing")
	} else if err := cli.CheckAddress(a.listen, true); err != nil {
		problem("--listen %v", err)
	}
	if a.reserveMiB < 0 || a.reserveMiB > reserveMiBMax {
		problem("--reserve-mib is %d, it must be from 0 to %d", a.reserveMiB, reserveMiBMax)
	}
	if a.httpListen != "" {
		if err := cli.CheckAddress(a.httpListen, true); err != nil {
			problem("--http-listen %v", err)
		}
	}
	if a.advertise != "" {
		if err := cli.CheckAddress(a.advertise, false); err != nil {
			problem("--advertise %v", err)
		}
	}
	o.Advertise = a.advertise
	if len(a.labels) > 0 {
		o.Labels = a.labels
	}
	bad = append(bad, a.origin(&o)...)
	log, err := a.logger(stderr)
	if err != nil {
		problem("%v", err)
	}
	o.Logger = log
	if len(bad) > 0 {
		return o, cli.Usagef("%s", strings.Join(bad, "\n  "))
	}
	return o, nil
}

// origin: a node founds a cluster or joins one.
func (a *app) origin(o *journalnode.Options) (bad []string) {
	if len(a.join) == 0 {
		peers, problems := parseCluster(a.cluster)
		o.InitialCluster = peers
		if a.id != "" && len(problems) == 0 && !hasPeer(peers, o.ID) {
			problems = append(problems, fmt.Sprintf("--initial-cluster does not name this node, %q", a.id))
		}
		return problems
	}
	if len(a.cluster) > 0 {
		bad = append(bad, "--initial-cluster and --join are both given: a node founds a cluster or joins one")
	}
	for _, addr := range a.join {
		if err := cli.CheckAddress(addr, false); err != nil {
			bad = append(bad, fmt.Sprintf("--join %v", err))
		}
	}
	if host, _, err := net.SplitHostPort(a.listen); a.advertise == "" && err == nil {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			bad = append(bad, "--advertise is missing: nobody reaches this node by --listen "+a.listen)
		}
	}
	o.Join = a.join
	return bad
}

// reserveMiBMax is a terabyte.
const reserveMiBMax = 1 << 20

func hasPeer(peers []journalnode.Peer, id quorum.NodeID) bool {
	for _, p := range peers {
		if p.ID == id {
			return true
		}
	}
	return false
}

func parseCluster(entries []string) (peers []journalnode.Peer, bad []string) {
	if len(entries) == 0 {
		return nil, []string{"--initial-cluster is missing, or --join to become a part of a cluster that is there"}
	}
	ids, addrs := map[string]bool{}, map[string]string{}
	for _, e := range entries {
		id, addr, ok := strings.Cut(strings.TrimSpace(e), "=")
		switch {
		case !ok || strings.Contains(addr, "/"):
			bad = append(bad, fmt.Sprintf("--initial-cluster: %q is not id=host:port", e))
			continue
		case cli.CheckAddress(addr, false) != nil:
			bad = append(bad, fmt.Sprintf("--initial-cluster: address of %s: %v", id, cli.CheckAddress(addr, false)))
			continue
		case ids[id]:
			bad = append(bad, fmt.Sprintf("--initial-cluster names %s twice", id))
		case addrs[addr] != "":
			bad = append(bad, fmt.Sprintf("--initial-cluster gives %s and %s the same address %s", addrs[addr], id, addr))
		case quorum.NodeID(id).Validate() != nil:
			bad = append(bad, "--initial-cluster: "+cli.Plain(quorum.NodeID(id).Validate().Error()))
		}
		ids[id], addrs[addr] = true, id
		peers = append(peers, journalnode.Peer{ID: quorum.NodeID(id), Addr: addr})
	}
	if len(peers) > quorum.MaxMembers {
		bad = append(bad, fmt.Sprintf("--initial-cluster has %d nodes, at most %d can be", len(peers), quorum.MaxMembers))
	}
	return peers, bad
}

func (a *app) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level %q is none of debug, info, warn, error", a.logLevel)
	}
	opts := &slog.HandlerOptions{Level: level, ReplaceAttr: readable}
	switch a.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("--log-format %q is neither text nor json", a.logFormat)
}

// readable prints ids and durations the way people read them, in JSON as well.
func readable(_ []string, a slog.Attr) slog.Attr {
	if s, ok := a.Value.Any().(fmt.Stringer); ok && a.Key != slog.TimeKey && a.Key != slog.LevelKey {
		a.Value = slog.StringValue(s.String())
	}
	return a
}

func (a *app) runNode(cmd *cobra.Command) error {
	opts, err := a.options(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	warnOfPort(opts)
	node, err := journalnode.Start(ctx, opts)
	if err != nil {
		return startError(ctx, err)
	}
	<-ctx.Done()
	opts.Logger.Info("stopping", "node", a.id, "drain_timeout", a.drain)
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.drain)
	defer cancel()
	return node.Stop(stopCtx)
}

// warnOfPort: the other nodes look for this one at its address in --initial-cluster. Another port than that
// of --listen can be meant, where something forwards it, and most often is not.
func warnOfPort(o journalnode.Options) {
	_, own, _ := net.SplitHostPort(o.Listen)
	for _, p := range o.InitialCluster {
		if _, port, _ := net.SplitHostPort(p.Addr); p.ID == o.ID && port != own {
			o.Logger.Warn("--initial-cluster gives this node another port than --listen", "node", p.ID, "initial_cluster", p.Addr, "listen", o.Listen)
		}
	}
}

// startError: a start that was interrupted is no failure.
func startError(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
