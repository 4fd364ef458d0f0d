package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/libqjm"
)

type describeJSON struct {
	Schema        string       `json:"schema"`
	Journal       string       `json:"journal"`
	ID            string       `json:"id"`
	Consistency   string       `json:"consistency"`
	ConfigVersion string       `json:"config_version"`
	InForce       string       `json:"config_in_force"`
	Sets          [][]string   `json:"member_sets"`
	Change        string       `json:"change,omitempty"` // stage of the one under way
	Deleted       bool         `json:"deleted"`
	Quota         string       `json:"quota_bytes"`
	Policy        policyObject `json:"policy"`
}

type policyObject struct {
	SnapshotBytes          string `json:"snapshot_bytes"`
	SnapshotTxns           string `json:"snapshot_txns"`
	SnapshotIntervalMillis string `json:"snapshot_interval_millis"`
	SnapshotGrowthPercent  uint32 `json:"snapshot_growth_percent"`
	RetainTxns             string `json:"retain_txns"`
	RetainBytes            string `json:"retain_bytes"`
	Replicas               uint8  `json:"replicas"`
	AutoReadmit            bool   `json:"auto_readmit"`
}

func (a *app) describeCmd() *cobra.Command {
	var strength consistency
	c := &cobra.Command{
		Use: "describe NAME", Short: "What the catalog knows of a journal", Args: journalName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd, args[0], func(ctx context.Context, cl *libqjm.Client) error {
				v, j, err := inCatalog(ctx, cl, args[0], strength.ReadStrength)
				if err != nil {
					return err
				}
				return a.printDescription(cmd, v, j)
			})
		},
	}
	c.Flags().Var(&strength, "consistency", "what the answer rests on")
	return c
}

func inCatalog(ctx context.Context, cl *libqjm.Client, name string, s libqjm.ReadStrength) (libqjm.Catalog, libqjm.CatalogJournal, error) {
	v, err := cl.Catalog(ctx, s)
	if err != nil {
		return v, libqjm.CatalogJournal{}, err
	}
	for _, j := range v.Journals {
		if j.Name == name {
			return v, j, nil
		}
	}
	return v, libqjm.CatalogJournal{}, fmt.Errorf("%w: %s", libqjm.ErrNoJournal, name)
}

func (a *app) printDescription(cmd *cobra.Command, v libqjm.Catalog, j libqjm.CatalogJournal) error {
	p := j.Policy
	out := describeJSON{
		Schema: cli.Schema("journal-describe"), Journal: j.Name, ID: j.ID.String(), Consistency: v.Strength.String(),
		ConfigVersion: cli.U64(j.Config.Version), InForce: cli.U64(j.InForce), Sets: [][]string{}, Change: j.Stage, Deleted: j.Deleted,
		Quota:  cli.U64(j.Quota),
		Policy: toPolicy(p),
	}
	for _, set := range j.Config.Sets {
		ids := []string{}
		for _, m := range set {
			ids = append(ids, string(m.ID))
		}
		out.Sets = append(out.Sets, ids)
	}
	return a.print(cmd, out, func(w io.Writer) error {
		rows := [][]string{{"FIELD", "VALUE"}, {"journal", j.Name}, {"id", j.ID.String()}, {"config", out.ConfigVersion + ", in force " + out.InForce}}
		for _, ids := range out.Sets {
			rows = append(rows, []string{"members", strings.Join(ids, ",")})
		}
		if j.Stage != "" {
			rows = append(rows, []string{"change", j.Stage})
		}
		rows = append(rows, []string{"deleted", fmt.Sprint(j.Deleted)}, []string{"quota", quotaText(j.Quota)},
			[]string{"snapshots", due(p)}, []string{"kept", kept(p)}, []string{"auto-readmit", fmt.Sprint(p.AutoReadmit)},
			[]string{"read", out.Consistency + " by " + string(v.AnsweredBy)})
		return cli.PrintTable(w, rows)
	})
}

func toPolicy(p libqjm.Policy) policyObject {
	return policyObject{
		cli.U64(p.SnapshotBytes), cli.U64(p.SnapshotTxns), cli.U64(p.SnapshotIntervalMillis), p.SnapshotGrowthPercent,
		cli.U64(p.RetainTxns), cli.U64(p.RetainBytes), p.Replicas, p.AutoReadmit,
	}
}

type policyJSON struct {
	Schema  string       `json:"schema"`
	Journal string       `json:"journal"`
	Result  string       `json:"result"` // policy set, or unchanged
	Policy  policyObject `json:"policy"` // as it is now
}

// printPolicy says what was done, or where nothing was, what the policy is.
func (a *app) printPolicy(cmd *cobra.Command, journal, result string, p libqjm.Policy) error {
	return a.print(cmd, policyJSON{cli.Schema("journal-policy"), journal, result, toPolicy(p)}, func(w io.Writer) error {
		if result != "unchanged" {
			_, err := fmt.Fprintln(w, cli.Wrap(fmt.Sprintf("journal %q %s", journal, result), "  "))
			return err
		}
		return cli.PrintTable(w, [][]string{{"FIELD", "VALUE"}, {"snapshots", due(p)}, {"kept", kept(p)}, {"auto-readmit", fmt.Sprint(p.AutoReadmit)}})
	})
}

// due and kept say a policy for people.
func due(p libqjm.Policy) string {
	var out []string
	if p.SnapshotBytes > 0 {
		out = append(out, fmt.Sprintf("after %d bytes", p.SnapshotBytes))
	}
	if p.SnapshotTxns > 0 {
		out = append(out, fmt.Sprintf("after %d txns", p.SnapshotTxns))
	}
	if p.SnapshotIntervalMillis > 0 {
		out = append(out, "after "+(time.Duration(p.SnapshotIntervalMillis)*time.Millisecond).String())
	}
	if p.SnapshotGrowthPercent > 0 {
		out = append(out, fmt.Sprintf("at %d%% of the last one", p.SnapshotGrowthPercent))
	}
	if len(out) == 0 {
		return "never due"
	}
	return "due " + strings.Join(out, ", ")
}

func kept(p libqjm.Policy) string {
	var out []string
	if p.RetainTxns > 0 {
		out = append(out, fmt.Sprintf("%d txns", p.RetainTxns))
	}
	if p.RetainBytes > 0 {
		out = append(out, fmt.Sprintf("%d bytes", p.RetainBytes))
	}
	if len(out) == 0 {
		return "what the nodes are set to"
	}
	return strings.Join(out, ", ") + " before the newest"
}

func quotaText(n uint64) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprintf("%d bytes on each node", n)
}

// policyFlags change what they name and leave the rest.
type policyFlags struct {
	bytes, txns, retainTxns, retainBytes uint64
	interval                             time.Duration
	growth                               uint32
	readmit                              bool
}

var policyFlagNames = []string{"snapshot-bytes", "snapshot-txns", "snapshot-interval", "snapshot-growth", "retain-txns", "retain-bytes", "auto-readmit"}

func (a *app) policyCmd() *cobra.Command {
	var f policyFlags
	c := &cobra.Command{
		Use: "policy NAME", Short: "See or set when snapshots of a journal are due and what is kept", Args: journalName,
		Long:    "Set when snapshots of a journal are due and what is kept. What is not given stays as it is;\nzero switches a line off. Where nothing is given, it shows what is set.",
		Example: "  qjmclient journal policy orders --snapshot-bytes 268435456 --retain-txns 100000",
	}
	c.Flags().Uint64Var(&f.bytes, "snapshot-bytes", 0, "a snapshot is due after so many bytes")
	c.Flags().Uint64Var(&f.txns, "snapshot-txns", 0, "after so many transactions")
	c.Flags().DurationVar(&f.interval, "snapshot-interval", 0, "after so long")
	c.Flags().Uint32Var(&f.growth, "snapshot-growth", 0, "when the log is so many percent of the last snapshot")
	c.Flags().Uint64Var(&f.retainTxns, "retain-txns", 0, "transactions kept before the newest snapshot")
	c.Flags().Uint64Var(&f.retainBytes, "retain-bytes", 0, "bytes kept before it")
	c.Flags().BoolVar(&f.readmit, "auto-readmit", false, "a wiped member is replaced without being asked for")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return a.withClient(cmd, args[0], func(ctx context.Context, cl *libqjm.Client) error {
			_, j, err := inCatalog(ctx, cl, args[0], libqjm.Linearizable)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(policyFlagNames, cmd.Flags().Changed) {
				return a.printPolicy(cmd, j.Name, "unchanged", j.Policy)
			}
			p := f.onto(j.Policy, cmd.Flags().Changed)
			if a.dryRun {
				return a.plan(cmd, "policy", j.Name, "set the policy of journal %q: snapshots %s; kept %s; auto-readmit %t", j.Name, due(p), kept(p), p.AutoReadmit)
			}
			if err := cl.SetPolicy(ctx, j.Name, p); err != nil {
				return err
			}
			return a.printPolicy(cmd, j.Name, "policy set", p)
		})
	}
	return a.mutating(c, ofJournal)
}

func (f policyFlags) onto(p libqjm.Policy, given func(string) bool) libqjm.Policy {
	set := func(flag string, to *uint64, v uint64) {
		if given(flag) {
			*to = v
		}
	}
	set("snapshot-bytes", &p.SnapshotBytes, f.bytes)
	set("snapshot-txns", &p.SnapshotTxns, f.txns)
	set("snapshot-interval", &p.SnapshotIntervalMillis, uint64(max(f.interval, 0).Milliseconds()))
	set("retain-txns", &p.RetainTxns, f.retainTxns)
	set("retain-bytes", &p.RetainBytes, f.retainBytes)
	if given("snapshot-growth") {
		p.SnapshotGrowthPercent = f.growth
	}
	if given("auto-readmit") {
		p.AutoReadmit = f.readmit
	}
	return p
}

func (a *app) quotaCmd() *cobra.Command {
	var quota uint64
	c := &cobra.Command{
		Use: "quota NAME --bytes N", Short: "Set how many bytes a journal may take on each node", Args: journalName,
		Example: "  qjmclient journal quota orders --bytes 10737418240\n  qjmclient journal quota orders --bytes 0   # no limit",
	}
	c.Flags().Uint64Var(&quota, "bytes", 0, "bytes per node; 0: no limit")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if !cmd.Flags().Changed("bytes") {
			return cli.Usagef("--bytes is missing; 0: no limit")
		}
		return a.withClient(cmd, args[0], func(ctx context.Context, cl *libqjm.Client) error {
			if a.dryRun {
				return a.plan(cmd, "quota", args[0], "set the quota of journal %q to %d bytes per node", args[0], quota)
			}
			if err := cl.SetQuota(ctx, args[0], quota); err != nil {
				return err
			}
			return a.printResult(cmd, resultJSON{Schema: cli.Schema("journal-quota"), Journal: args[0], Result: "quota set"}, nil, "")
		})
	}
	return a.mutating(c, ofJournal)
}
