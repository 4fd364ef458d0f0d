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
	"github.com/quorumjournal/qjm/libqjm"
)

// consistency is the flag that says what a read of the catalog rests on.
type consistency struct{ libqjm.ReadStrength }

func (c *consistency) Set(s string) error {
	for _, r := range []libqjm.ReadStrength{libqjm.Linearizable, libqjm.LeaseRead, libqjm.Stale} {
		if r.String() == s {
			c.ReadStrength = r
			return nil
		}
	}
	return fmt.Errorf("%q is none of linearizable, lease, stale", s)
}

// Type implements pflag.Value.
func (*consistency) Type() string { return "linearizable|lease|stale" }

type clusterJSON struct {
	Schema      string     `json:"schema"`
	Cluster     string     `json:"cluster"`
	Consistency string     `json:"consistency"`
	Index       string     `json:"index"`
	Generation  string     `json:"generation"` // what --expect-generation compares
	Leader      string     `json:"leader"`
	AnsweredBy  string     `json:"answered_by"`
	Journals    int        `json:"journals"`
	Nodes       []nodeJSON `json:"nodes"`
	// Outsiders still run, and are no part of the cluster any more.
	Outsiders []outsiderJSON `json:"outsiders,omitempty"`
}

type outsiderJSON struct {
	Node        string `json:"node"`
	Incarnation string `json:"incarnation"`
	Address     string `json:"address"`
	Says        string `json:"says,omitempty"` // empty: it has not found out yet
}

type nodeJSON struct {
	Node        string            `json:"node"`
	Incarnation string            `json:"incarnation"`
	Address     string            `json:"address"`
	HTTPAddress string            `json:"http_address,omitempty"`
	Role        string            `json:"role"` // leader, voter, non-voter or leaving
	Labels      map[string]string `json:"labels,omitempty"`
	Version     string            `json:"version,omitempty"`
}

func toClusterJSON(kind string, v libqjm.Catalog) clusterJSON {
	out := clusterJSON{
		Schema: cli.Schema(kind), Cluster: fmt.Sprintf("%x", v.Cluster), Consistency: v.Strength.String(), Index: cli.U64(v.Index),
		Generation: cli.U64(v.Generation()),
		Leader:     string(v.Leader), AnsweredBy: string(v.AnsweredBy), Journals: len(v.Journals), Nodes: []nodeJSON{},
	}
	for _, n := range v.Nodes {
		out.Nodes = append(out.Nodes, nodeJSON{
			Node: string(n.ID), Incarnation: n.Incarnation.String(), Address: n.Addr, HTTPAddress: n.HTTPAddr, Role: role(v, n),
			Labels: n.Labels, Version: n.Version,
		})
	}
	return out
}

func role(v libqjm.Catalog, n libqjm.CatalogNode) string {
	switch {
	case n.Leaving:
		return "leaving"
	case n.ID == v.Leader:
		return "leader"
	case n.Voter:
		return "voter"
	}
	return "non-voter"
}

func (a *app) clusterCmd() *cobra.Command {
	c := &cobra.Command{Use: "cluster", Short: "See how the cluster stands"}
	var strength consistency
	status := &cobra.Command{
		Use: "status", Short: "The catalog's leader, the nodes, and how many journals", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.printCluster(cmd, "cluster-status", strength.ReadStrength)
		},
	}
	status.Flags().Var(&strength, "consistency", "what the answer rests on")
	c.AddCommand(status)
	return c
}

func (a *app) printCluster(cmd *cobra.Command, kind string, strength libqjm.ReadStrength) error {
	return a.withClient(cmd, "", func(ctx context.Context, cl *libqjm.Client) error {
		v, err := cl.Catalog(ctx, strength)
		if err != nil {
			return err
		}
		out := toClusterJSON(kind, v)
		for _, o := range cl.Outsiders(ctx, v) {
			out.Outsiders = append(out.Outsiders, outsiderJSON{o.Node, o.Incarnation, o.Addr, cli.Plain(o.Why)})
		}
		return a.print(cmd, out, func(w io.Writer) error {
			leader := out.Leader
			if leader == "" {
				leader = "none"
			}
			_, err := fmt.Fprintln(w, cli.Wrap(fmt.Sprintf("cluster %s, leader %s, %s; generation %s; a %s read by %s, catalog index %s",
				short(out.Cluster), leader, cli.Plural(out.Journals, "journal"), out.Generation, out.Consistency, out.AnsweredBy, out.Index), "  "))
			if err != nil {
				return err
			}
			rows := [][]string{{"NODE", "ROLE", "ADDRESS", "LABELS", "INCARNATION"}}
			for _, n := range out.Nodes {
				rows = append(rows, []string{n.Node, n.Role, n.Address, labels(n.Labels), short(n.Incarnation)})
			}
			err = cli.PrintTable(w, rows)
			for _, o := range out.Outsiders {
				_, failed := fmt.Fprintln(w, cli.Wrap(fmt.Sprintf("node %s (incarnation %s) runs at %s, and is no part of the cluster any more: switch it off",
					o.Node, short(o.Incarnation), o.Address), "  "))
				err = errors.Join(err, failed)
			}
			return err
		})
	})
}

func labels(m map[string]string) string {
	var out []string
	for k, v := range m {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

type memberJSON struct {
	Schema string `json:"schema"`
	Node   string `json:"node"`
	Result string `json:"result"`
	Index  string `json:"index,omitempty"` // of the raft snapshot
}

func (a *app) memberCmd() *cobra.Command {
	c := &cobra.Command{Use: "member", Short: "The nodes of the cluster, and who leads its catalog"}
	var strength consistency
	list := &cobra.Command{
		Use: "list", Short: "List the nodes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.printCluster(cmd, "member-list", strength.ReadStrength)
		},
	}
	list.Flags().Var(&strength, "consistency", "what the answer rests on")
	remove := &cobra.Command{
		Use: "remove ID", Short: "Take a node out of the cluster", Args: cobra.ExactArgs(1),
		Long: "Take a node out of the cluster. It is refused while a journal has the node among its members.\n" +
			"Switch the node off afterwards; its directory cannot be used again. It asks on a terminal, unless\n" +
			"with --yes; where there is none, --yes is needed.",
		Example: "  qjmclient member remove n3 --dry-run\n  qjmclient member remove n3 --yes",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.removeMember(cmd, args[0]) },
	}
	transfer := &cobra.Command{
		Use: "transfer-leader [ID]", Short: "Hand the leadership of the catalog over", Args: cobra.MaximumNArgs(1),
		Long: "Hand the leadership of the catalog over, to the node that is named or to any other voter.\nWriters and readers do not notice.",
		RunE: func(cmd *cobra.Command, args []string) error { return a.transferLeader(cmd, strings.Join(args, "")) },
	}
	snapshot := &cobra.Command{
		Use: "snapshot ID", Short: "Make a node compact its log of the catalog", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.raftSnapshot(cmd, args[0]) },
	}
	c.AddCommand(list, a.mutating(a.memberAddCmd(), ofCluster), a.destructive(remove, ofCluster), a.destructive(a.memberReplaceCmd(), ofCluster),
		a.mutating(transfer, ofCluster), a.mutating(snapshot, ofCluster), a.mutating(a.updateAddressCmd(), unguarded))
	return c
}

func (a *app) printMember(cmd *cobra.Command, kind string, m memberJSON, format string, args ...any) error {
	m.Schema = cli.Schema(kind)
	return a.print(cmd, m, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, cli.Wrap(fmt.Sprintf(format, args...), "  "))
		return err
	})
}

func (a *app) removeMember(cmd *cobra.Command, id string) error {
	return a.withClient(cmd, "", func(ctx context.Context, cl *libqjm.Client) error {
		const what = "take node %s out of the cluster; no journal needs it"
		if a.dryRun || !a.yes {
			if err := cl.RemoveNode(ctx, id, true); err != nil {
				return err
			}
		}
		if a.dryRun {
			return a.plan(cmd, "member-remove", "", what, id)
		}
		if err := a.confirm(cmd, id, what, id); err != nil {
			return err
		}
		ctx, cancel := a.afresh(cmd, false)
		defer cancel()
		if err := cl.RemoveNode(ctx, id, false); err != nil {
			return err
		}
		return a.printMember(cmd, "member-remove", memberJSON{Node: id, Result: "removed"}, "node %s is no part of the cluster any more; switch it off", id)
	})
}

func (a *app) transferLeader(cmd *cobra.Command, id string) error {
	return a.withClient(cmd, "", func(ctx context.Context, cl *libqjm.Client) error {
		if a.dryRun {
			to := id
			if to == "" {
				to = "any other voter"
			}
			return a.plan(cmd, "member-transfer-leader", "", "hand the leadership of the catalog over to %s", to)
		}
		to, err := cl.TransferLeader(ctx, id)
		if err != nil {
			return err
		}
		return a.printMember(cmd, "member-transfer-leader", memberJSON{Node: to, Result: "leads"}, "node %s leads the catalog now", to)
	})
}

func (a *app) raftSnapshot(cmd *cobra.Command, id string) error {
	return a.withClient(cmd, "", func(ctx context.Context, cl *libqjm.Client) error {
		if a.dryRun {
			return a.plan(cmd, "member-snapshot", "", "make node %s take a raft snapshot of the catalog", id)
		}
		index, err := cl.RaftSnapshot(ctx, id)
		if err != nil {
			return err
		}
		return a.printMember(cmd, "member-snapshot", memberJSON{Node: id, Result: "taken", Index: cli.U64(index)},
			"node %s has a raft snapshot of the catalog up to index %d", id, index)
	})
}
