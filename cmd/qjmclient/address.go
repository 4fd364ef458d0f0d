package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/libqjm"
)

type addressesJSON struct {
	Schema string              `json:"schema"`
	Result string              `json:"result"`
	Nodes  []addressObjectJSON `json:"nodes"`
}

type addressObjectJSON struct {
	Node    string `json:"node"`
	Address string `json:"address"`
}

func (a *app) updateAddressCmd() *cobra.Command {
	return &cobra.Command{
		Use: "update-address ID=HOST:PORT...", Short: "Tell a cluster where its nodes are now, when all have moved", Args: cobra.MinimumNArgs(1),
		Long: `Tell a cluster where its nodes are now, when all of them have moved and find each other no more.
Start them at their new addresses first, with their old flags or new ones. Each is asked who it is;
a leader is found then, and the catalog has the new addresses. A node that moved alone needs no
such thing: it says so itself.`,
		Example: "  qjmclient member update-address n1=10.1.0.1:7400 n2=10.1.0.2:7400 n3=10.1.0.3:7400",
		RunE: func(cmd *cobra.Command, args []string) error {
			addrs := map[string]string{}
			for _, arg := range args {
				id, addr, err := nodeAt(arg, true)
				if err != nil {
					return err
				}
				if _, twice := addrs[id]; twice {
					return cli.Usagef("node %s is given twice", id)
				}
				addrs[id] = addr
				if !slices.Contains(a.endpoints, addr) {
					a.endpoints = append(a.endpoints, addr)
				}
			}
			return a.withClient(cmd, "", func(ctx context.Context, cl *libqjm.Client) error { return a.updateAddresses(ctx, cmd, cl, addrs) })
		},
	}
}

func (a *app) updateAddresses(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, addrs map[string]string) error {
	if err := cl.UpdateAddresses(ctx, addrs, a.dryRun); err != nil {
		return err
	}
	out := addressesJSON{Schema: cli.Schema("member-update-address"), Result: "updated", Nodes: []addressObjectJSON{}}
	var text []string
	for _, id := range slices.Sorted(maps.Keys(addrs)) {
		out.Nodes = append(out.Nodes, addressObjectJSON{id, addrs[id]})
		text = append(text, id+" at "+addrs[id])
	}
	if a.dryRun {
		return a.plan(cmd, "member-update-address", "", "tell the cluster: %s; each answers there as itself", strings.Join(text, ", "))
	}
	return a.print(cmd, out, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, cli.Wrap("the catalog has the addresses: "+strings.Join(text, ", "), "  "))
		return err
	})
}
