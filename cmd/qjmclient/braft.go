package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/libqjm"
)

// Verbs that users of braft know. They take its flags, and do what our own commands do. A group is a journal,
// or the catalog where it is called that. Peers are addresses, which are looked up, or our own names.

// catalogGroup names the catalog's group where a journal could be named.
const catalogGroup = "catalog"

// braftSnapshotVerb is what braft calls snapshot: here that is the noun of the users' snapshots. braftArgs tells
// them apart by --group, which only braft's has.
const braftSnapshotVerb = "braft_snapshot"

func braftArgs(args []string) []string {
	i := slices.Index(args, "snapshot")
	isGroup := func(s string) bool { return s == "--group" || strings.HasPrefix(s, "--group=") }
	if i < 0 || !slices.ContainsFunc(args, isGroup) || i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") || i > 0 && args[i-1] == "member" {
		return args
	}
	args = slices.Clone(args)
	args[i] = braftSnapshotVerb
	return args
}

type braftFlags struct {
	group, peer, conf, newPeers string
	unsafe                      unsafeFlags
}

func (a *app) braftCmds() []*cobra.Command {
	verbs := []struct {
		use, short string
		peer, to   bool
		run        func(context.Context, *cobra.Command, *libqjm.Client, *braftFlags) error
	}{
		{"add_peer", "quorum change, with one member more", true, false, a.braftAdd},
		{"remove_peer", "quorum change without one member, or member remove", true, false, a.braftRemove},
		{"change_peers", "quorum change", false, true, a.braftChange},
		{"reset_peer", "unsafe reset-peers", true, true, a.braftReset},
		{braftSnapshotVerb, "member snapshot", true, false, a.braftSnapshot},
		{"transfer_leader", "member transfer-leader", true, false, a.braftTransfer},
	}
	var out []*cobra.Command
	for _, v := range verbs {
		f := &braftFlags{}
		c := &cobra.Command{
			Use: v.use, Short: "As " + v.short, Args: cobra.NoArgs, Hidden: true,
			Long: "For braft users: as " + v.short + ".\n" +
				"A peer is IP:PORT or IP:PORT:INDEX of a node, or its name; --conf is checked when it is given.",
			RunE: func(cmd *cobra.Command, _ []string) error {
				switch {
				case f.group == "":
					return cli.Usagef("give --group: a journal, or %s", catalogGroup)
				case v.peer && f.peer == "":
					return cli.Usagef("give --peer")
				case v.to && f.newPeers == "":
					return cli.Usagef("give --new_peers")
				}
				return a.withPatience(cmd, f.group, func(ctx context.Context, cl *libqjm.Client) error { return v.run(ctx, cmd, cl, f) })
			},
		}
		c.Flags().StringVar(&f.group, "group", "", "the journal, or "+catalogGroup)
		c.Flags().StringVar(&f.conf, "conf", "", "the members that the group has now; optional")
		if v.peer {
			c.Flags().StringVar(&f.peer, "peer", "", "the node that is meant")
		}
		if v.to {
			c.Flags().StringVar(&f.newPeers, "new_peers", "", "the members that the group shall have")
		}
		if v.use == "reset_peer" {
			f.unsafe.guards(c)
			f.unsafe.despiteFlag(c)
		}
		g := ofJournal
		if v.use == "reset_peer" { // its digest is the guard, and there may be no leader to ask
			g = unguarded
		}
		out = append(out, a.mutating(c, g))
	}
	return out
}

// peerIDs resolves peers: IP:PORT or IP:PORT:INDEX by the addresses that the catalog and the client know, or a
// node's name.
func peerIDs(v libqjm.Catalog, cl *libqjm.Client, list string) ([]string, error) {
	var out []string
	for peer := range strings.SplitSeq(list, ",") {
		peer = strings.TrimSpace(peer)
		if peer == "" {
			continue
		}
		addr := peer
		if strings.Count(peer, ":") == 2 { // ip:port:index; the index means nothing here
			addr = peer[:strings.LastIndex(peer, ":")]
		}
		id := ""
		for _, n := range v.Nodes {
			if !n.Leaving && (string(n.ID) == peer || n.Addr == addr) {
				id = string(n.ID)
			}
		}
		for _, n := range cl.Nodes() {
			if id == "" && n.Addr == addr {
				id = n.Node
			}
		}
		if id == "" {
			return nil, &cli.RefusedError{Text: fmt.Sprintf("no node of the cluster is at %s", peer), Hint: "see qjmclient member list"}
		}
		out = append(out, id)
	}
	return out, nil
}

// braftGroup reads the group's members, and checks --conf against them.
func (a *app) braftGroup(ctx context.Context, cl *libqjm.Client, f *braftFlags) (libqjm.Catalog, []string, error) {
	v, err := cl.Catalog(ctx, libqjm.Linearizable)
	if err != nil {
		return v, nil, err
	}
	var has []string
	if f.group == catalogGroup {
		for _, n := range v.Nodes {
			if n.Voter && !n.Leaving {
				has = append(has, string(n.ID))
			}
		}
	} else {
		i := slices.IndexFunc(v.Journals, func(j libqjm.CatalogJournal) bool { return j.Name == f.group })
		if i < 0 {
			return v, nil, fmt.Errorf("%w: %s", libqjm.ErrNoJournal, f.group)
		}
		has = memberNames(v.Journals[i].Config.Members())
	}
	slices.Sort(has)
	if f.conf == "" {
		return v, has, nil
	}
	want, err := peerIDs(v, cl, f.conf)
	if err != nil {
		return v, nil, err
	}
	slices.Sort(want)
	if !slices.Equal(want, has) {
		return v, nil, &cli.RefusedError{
			Text: fmt.Sprintf("--conf is not what group %s has (got %s, have %s)", f.group, strings.Join(want, ", "), strings.Join(has, ", ")),
			Hint: "leave --conf out, or name the members that it has",
		}
	}
	return v, has, nil
}

func (a *app) braftOne(ctx context.Context, cl *libqjm.Client, f *braftFlags) (has []string, peer string, err error) {
	v, has, err := a.braftGroup(ctx, cl, f)
	if err != nil {
		return nil, "", err
	}
	ids, err := peerIDs(v, cl, f.peer)
	if err == nil && len(ids) != 1 {
		err = cli.Usagef("--peer is one node")
	}
	if err != nil {
		return nil, "", err
	}
	return has, ids[0], nil
}

func (a *app) braftAdd(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, f *braftFlags) error {
	if f.group == catalogGroup {
		return &cli.RefusedError{Text: "nodes come into the catalog's group by themselves", Hint: "start the node with --join"}
	}
	has, peer, err := a.braftOne(ctx, cl, f)
	switch {
	case err != nil:
		return err
	case slices.Contains(has, peer):
		return a.changed(ctx, cmd, cl, f.group, "unchanged")
	}
	return a.changeMembers(ctx, cmd, cl, f.group, append(has, peer), libqjm.ChangeOptions{ExpectVersion: a.expect, DryRun: a.dryRun})
}

func (a *app) braftRemove(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, f *braftFlags) error {
	has, peer, err := a.braftOne(ctx, cl, f)
	switch {
	case err != nil:
		return err
	case !slices.Contains(has, peer):
		return &cli.RefusedError{Text: fmt.Sprintf("node %s is no member of group %s", peer, f.group)}
	case f.group == catalogGroup:
		if err := a.mayAsk(cmd); err != nil {
			return err
		}
		return a.removeMember(cmd, peer)
	}
	return a.changeMembers(ctx, cmd, cl, f.group, slices.DeleteFunc(has, func(id string) bool { return id == peer }), libqjm.ChangeOptions{ExpectVersion: a.expect, DryRun: a.dryRun})
}

func (a *app) braftChange(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, f *braftFlags) error {
	if f.group == catalogGroup {
		return &cli.RefusedError{Text: "the catalog's group has every node of the cluster", Hint: "use --join, member remove, member replace"}
	}
	v, _, err := a.braftGroup(ctx, cl, f)
	if err != nil {
		return err
	}
	to, err := peerIDs(v, cl, f.newPeers)
	if err != nil {
		return err
	}
	return a.changeMembers(ctx, cmd, cl, f.group, to, libqjm.ChangeOptions{ExpectVersion: a.expect, DryRun: a.dryRun})
}

// braftReset has no leader to ask: the names come from whoever answers.
func (a *app) braftReset(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, f *braftFlags) error {
	v, err := cl.Catalog(ctx, libqjm.Stale)
	if err != nil {
		return err
	}
	peer, err := peerIDs(v, cl, f.peer)
	if err != nil {
		return err
	}
	to, err := peerIDs(v, cl, f.newPeers)
	if err != nil {
		return err
	}
	journal := f.group
	if journal == catalogGroup {
		journal = ""
	}
	return a.resetPeers(cmd, f.unsafe, libqjm.PeersReset{
		Journal: journal, Node: strings.Join(peer, ","), Peers: to, DespiteMajority: f.unsafe.despite,
	})
}

func (a *app) braftSnapshot(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, f *braftFlags) error {
	if f.group != catalogGroup {
		return &cli.RefusedError{Text: "snapshots of a journal are made by its user", Hint: "libqjm's SaveSnapshot; --group " + catalogGroup + " for the catalog's own"}
	}
	_, peer, err := a.braftOne(ctx, cl, f)
	if err != nil {
		return err
	}
	return a.raftSnapshot(cmd, peer)
}

func (a *app) braftTransfer(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, f *braftFlags) error {
	if f.group != catalogGroup {
		return &cli.RefusedError{Text: "a journal has no leader among its nodes: its writer is who opened it last", Hint: "--group " + catalogGroup + " for the catalog's leader"}
	}
	_, peer, err := a.braftOne(ctx, cl, f)
	if err != nil {
		return err
	}
	return a.transferLeader(cmd, peer)
}
