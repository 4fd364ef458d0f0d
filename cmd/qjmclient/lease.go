package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/libqjm"
)

// leaseResignWait is how long a command that was interrupted gives the resigning of its lease; it expires else.
const leaseResignWait = 5 * time.Second

// leaseJSON is a journal's lease. State is held, reserved or free.
type leaseJSON struct {
	Schema      string `json:"schema"`
	Journal     string `json:"journal"`
	State       string `json:"state"`
	Revision    string `json:"revision"` // "0": there is none
	Holder      string `json:"holder,omitempty"`
	Address     string `json:"address,omitempty"`
	ReservedFor string `json:"reserved_for,omitempty"`
	TTLMillis   int64  `json:"ttl_ms,omitempty"`
	Index       string `json:"index"` // of the catalog
}

func toLeaseJSON(journal string, l libqjm.LeaseInfo) leaseJSON {
	out := leaseJSON{
		Schema: cli.Schema("lease"), Journal: journal, State: "held", Revision: cli.U64(l.Revision), Holder: l.Holder, Address: l.Addr,
		ReservedFor: l.ReservedFor, TTLMillis: l.TTL.Milliseconds(), Index: cli.U64(l.Index),
	}
	switch {
	case l.Revision == 0:
		out.State = "free"
	case l.ReservedFor != "":
		out.State = "reserved"
	}
	return out
}

// leaseText says a lease for people.
func leaseText(l libqjm.LeaseInfo) string {
	switch {
	case l.Revision == 0:
		return "free"
	case l.ReservedFor != "":
		return fmt.Sprintf("reserved for %q, revision %d", l.ReservedFor, l.Revision)
	}
	at := ""
	if l.Addr != "" {
		at = " at " + l.Addr
	}
	return fmt.Sprintf("held by %q%s for %s after each renewal, revision %d", l.Holder, at, l.TTL, l.Revision)
}

// leaseDoneJSON is what a command on a lease came to.
type leaseDoneJSON struct {
	Schema   string `json:"schema"`
	Journal  string `json:"journal"`
	Result   string `json:"result"`
	Revision string `json:"revision"` // of the lease that the command was about
	Holder   string `json:"holder,omitempty"`
	To       string `json:"to,omitempty"`
}

func (a *app) leaseCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "lease", Short: "See and change who should write",
		Long: "A journal's lease says who should write: campaigners wait for it, and clients can be sent to its\n" +
			"holder. It stops nobody: a writer is stopped by fencing alone.",
	}
	c.AddCommand(a.leaseShowCmd(), a.leaseAcquireCmd(), a.leaseResignCmd(), a.leaseTransferCmd())
	return c
}

func (a *app) leaseShowCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "show NAME", Short: "Who has a journal's lease", Args: journalName,
		Example: "  qjmclient lease show orders\n  qjmclient lease show orders --watch -o jsonl",
	}
	var watch bool
	c.Flags().BoolVarP(&watch, "watch", "w", false, "print each other lease, too, until interrupted")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if watch {
			return a.watchLease(cmd, args[0])
		}
		return a.withClient(cmd, args[0], func(ctx context.Context, cl *libqjm.Client) error {
			l, err := cl.Lease(ctx, args[0])
			if err != nil {
				return err
			}
			return a.printLease(cmd, args[0], l)
		})
	}
	return c
}

func (a *app) printLease(cmd *cobra.Command, journal string, l libqjm.LeaseInfo) error {
	return a.print(cmd, toLeaseJSON(journal, l), func(w io.Writer) error {
		_, err := fmt.Fprintln(w, cli.Wrap(fmt.Sprintf("lease of %q: %s", journal, leaseText(l)), "  "))
		return err
	})
}

func (a *app) watchLease(cmd *cobra.Command, journal string) error {
	return a.unbounded(cmd, journal, func(ctx context.Context, cl *libqjm.Client) error {
		for l, err := range cl.WatchLease(ctx, journal) {
			if err != nil {
				return err
			}
			if err := a.printLease(cmd, journal, l); err != nil {
				if isBrokenPipe(err) {
					return nil // whoever read has enough
				}
				return err
			}
		}
		return nil
	})
}

// unbounded is withClient for what may take as long as it likes: --timeout bounds connecting.
func (a *app) unbounded(cmd *cobra.Command, journal string, do func(context.Context, *libqjm.Client) error) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
	defer cancel()
	cl, err := a.dial(ctx, cmd.ErrOrStderr(), journal)
	if err != nil {
		return err
	}
	return errors.Join(do(cmd.Context(), cl), cl.Close())
}

func (a *app) leaseAcquireCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "acquire NAME", Short: "Hold a journal's lease until interrupted", Args: journalName,
		Long: "Get a journal's lease, say so, and keep it alive until interrupted, or for as long as --for says;\n" +
			"then resign it. Nothing is written: it keeps campaigners from taking over, for maintenance say.\n" +
			"Exit code 4 where somebody else has it, unless with --wait, or where it is lost.",
		Example: "  qjmclient lease acquire orders --holder maintenance --wait\n  qjmclient lease acquire orders --dry-run",
	}
	var o libqjm.LeaseOptions
	var wait bool
	var hold time.Duration
	c.Flags().StringVar(&o.Holder, "holder", "", "name of the holder (default: a random one)")
	c.Flags().StringVar(&o.Addr, "address", "", "what is shown as the holder's address")
	c.Flags().DurationVar(&o.TTL, "ttl", libqjm.DefaultLeaseTTL, "how long it lasts without a renewal, 300ms to 10m")
	c.Flags().BoolVar(&wait, "wait", false, "wait for it; --timeout, where it is given, bounds that")
	c.Flags().DurationVar(&hold, "for", 0, "how long it is held; 0: until interrupted")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case hold < 0:
			return cli.Usagef("--for is %s, want zero or more", hold)
		case o.TTL < libqjm.MinLeaseTTL || o.TTL > libqjm.MaxLeaseTTL:
			return cli.Usagef("--ttl is %s, want %s to %s", o.TTL, libqjm.MinLeaseTTL, libqjm.MaxLeaseTTL)
		}
		if a.dryRun {
			return a.planAcquire(cmd, args[0], o, wait)
		}
		o.NoWait = !wait
		return a.unbounded(cmd, args[0], func(ctx context.Context, cl *libqjm.Client) error {
			l, err := a.acquire(ctx, cmd, cl, args[0], o)
			if err != nil {
				return err
			}
			return a.holdLease(ctx, cmd, l, hold)
		})
	}
	return a.mutating(c, ofJournal)
}

func (a *app) planAcquire(cmd *cobra.Command, journal string, o libqjm.LeaseOptions, wait bool) error {
	return a.withClient(cmd, journal, func(ctx context.Context, cl *libqjm.Client) error {
		l, err := cl.Lease(ctx, journal)
		if err != nil {
			return err
		}
		if taken := l.Revision != 0 && (l.ReservedFor == "" || l.ReservedFor != o.Holder); taken && !wait {
			return &cli.RefusedError{Text: fmt.Sprintf("the lease of %q is %s", journal, leaseText(l)), Hint: "--wait waits for it"}
		}
		who := "a random name"
		if o.Holder != "" {
			who = fmt.Sprintf("%q", o.Holder)
		}
		return a.plan(cmd, "lease-acquire", journal, "acquire the lease of %q as %s for %s after each renewal; it is %s now", journal, who, o.TTL, leaseText(l))
	})
}

func (a *app) acquire(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, journal string, o libqjm.LeaseOptions) (*libqjm.Lease, error) {
	if o.NoWait || cmd.Flags().Changed("timeout") {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.timeout)
		defer cancel()
	}
	defer every(stallAfter, stallEvery, func() {
		ask, done := context.WithTimeout(ctx, time.Second)
		defer done()
		l, err := cl.Lease(ask, journal)
		switch {
		case err == nil:
			say(cmd.ErrOrStderr(), "waiting for the lease of %q, which is %s", journal, leaseText(l))
		case ctx.Err() != nil: // the command is over, and says why
		case errors.Is(err, libqjm.ErrNoLeader), errors.Is(err, context.DeadlineExceeded):
			say(cmd.ErrOrStderr(), "waiting for the lease of %q: the catalog has no leader", journal)
		default:
			say(cmd.ErrOrStderr(), "waiting for the lease of %q: %s", journal, cli.Cause(err))
		}
	})()
	return cl.AcquireLease(ctx, journal, o)
}

// holdLease says that the lease is held, and holds it.
func (a *app) holdLease(ctx context.Context, cmd *cobra.Command, l *libqjm.Lease, hold time.Duration) error {
	err := a.printDone(cmd, "lease-acquire", leaseDoneJSON{Journal: l.Journal(), Result: "acquired", Revision: cli.U64(l.Revision()), Holder: l.Holder()},
		"lease of %q acquired as %q, revision %d", l.Journal(), l.Holder(), l.Revision())
	var over <-chan time.Time
	if hold > 0 {
		over = time.After(hold)
	}
	if err == nil {
		select {
		case <-l.Done():
			return l.Err()
		case <-over:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(a.timeout, leaseResignWait))
	defer cancel()
	if failed := l.Resign(bounded); failed != nil {
		say(cmd.ErrOrStderr(), "the lease could not be resigned, and expires: %s", cli.Cause(failed))
	} else {
		say(cmd.ErrOrStderr(), "lease resigned")
	}
	return err
}

func (a *app) printDone(cmd *cobra.Command, kind string, out leaseDoneJSON, format string, args ...any) error {
	out.Schema = cli.Schema(kind)
	return a.print(cmd, out, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, cli.Wrap(fmt.Sprintf(format, args...), "  "))
		return err
	})
}

// current returns the lease that a command is about: the one of that revision, or the one that there is.
func current(ctx context.Context, cl *libqjm.Client, journal string, revision uint64) (libqjm.LeaseInfo, error) {
	l, err := cl.Lease(ctx, journal)
	switch {
	case err != nil:
		return l, err
	case l.Revision == 0:
		return l, &cli.RefusedError{Text: fmt.Sprintf("nobody has the lease of %q", journal)}
	case revision != 0 && l.Revision != revision:
		return l, &cli.RefusedError{Text: fmt.Sprintf("the lease of %q is %s, not revision %d", journal, leaseText(l), revision)}
	}
	return l, nil
}

const revisionUsage = "only if it is the lease of this revision"

func (a *app) leaseResignCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "resign NAME", Short: "End a journal's lease for its holder", Args: journalName,
		Long: "End a journal's lease, or a reservation, so that others get it at once. Its holder's writer goes on\n" +
			"until another one fences it.",
		Example: "  qjmclient lease resign orders --dry-run\n  qjmclient lease resign orders --revision 1234",
	}
	var revision uint64
	c.Flags().Uint64Var(&revision, "revision", 0, revisionUsage)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		name := args[0]
		return a.withClient(cmd, name, func(ctx context.Context, cl *libqjm.Client) error {
			l, err := current(ctx, cl, name, revision)
			if err != nil {
				return err
			}
			if a.dryRun {
				return a.plan(cmd, "lease-resign", name, "end the lease of %q, which is %s", name, leaseText(l))
			}
			if err := cl.ResignLease(ctx, name, l.Revision); err != nil {
				return err
			}
			return a.printDone(cmd, "lease-resign", leaseDoneJSON{Journal: name, Result: "resigned", Revision: cli.U64(l.Revision), Holder: l.Holder},
				"lease of %q ended; it was %s", name, leaseText(l))
		})
	}
	return a.mutating(c, ofJournal)
}

func (a *app) leaseTransferCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "transfer NAME --to HOLDER", Short: "End a journal's lease, and keep the next one for somebody", Args: journalName,
		Long: "End a journal's lease and reserve the next one: for as long as it lasted without a renewal, nobody\n" +
			"but that holder gets it. The present holder's writer goes on until the next one fences it.",
		Example: "  qjmclient lease transfer orders --to node-b",
	}
	var revision uint64
	var to string
	c.Flags().Uint64Var(&revision, "revision", 0, revisionUsage)
	c.Flags().StringVar(&to, "to", "", "name of the next holder")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if to == "" {
			return cli.Usagef("--to is missing: the name of the next holder")
		}
		name := args[0]
		return a.withClient(cmd, name, func(ctx context.Context, cl *libqjm.Client) error {
			l, err := current(ctx, cl, name, revision)
			switch {
			case err != nil:
				return err
			case l.ReservedFor != "" || l.Holder == to:
				return &cli.RefusedError{Text: fmt.Sprintf("the lease of %q is %s", name, leaseText(l))}
			case a.dryRun:
				return a.plan(cmd, "lease-transfer", name, "end the lease of %q, which is %s, and reserve the next one for %q", name, leaseText(l), to)
			}
			if err := cl.TransferLease(ctx, name, l.Revision, to); err != nil {
				return err
			}
			return a.printDone(cmd, "lease-transfer",
				leaseDoneJSON{Journal: name, Result: "transferred", Revision: cli.U64(l.Revision), Holder: l.Holder, To: to},
				"lease of %q reserved for %q; it was %s", name, to, leaseText(l))
		})
	}
	return a.mutating(c, ofJournal)
}
