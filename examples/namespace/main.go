// Command namespace is a small metadata service that keeps its tree in a qjm journal.
//
//	namespace import  --endpoints A,B,C --root DIR    make the metadata of everything below DIR, as the active one
//	namespace standby --endpoints A,B,C --root DIR    follow; on SIGUSR1 take over, and finish the import
//	namespace ls      --endpoints A,B,C               print what the journal holds
//
// Exit status: 0 done; 1 failed; 2 usage; 8 fenced; 10 the outcome of a change is not known.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/quorumjournal/qjm/examples/namespace/runlog"
	"github.com/quorumjournal/qjm/examples/namespace/service"
	"github.com/quorumjournal/qjm/examples/namespace/tree"
	"github.com/quorumjournal/qjm/fencing"
	"github.com/quorumjournal/qjm/libqjm"
)

type options struct {
	endpoints, journal, root string
	log, state               string // files for whoever watches, see package runlog
	rate, rateFor            int
	resumeEpoch              uint64
	writerID                 string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	switch {
	case err == nil:
		return
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, "namespace:", err)
	switch {
	case libqjm.MayHaveCommitted(err):
		os.Exit(10)
	case errors.Is(err, libqjm.ErrFenced):
		os.Exit(8)
	}
	os.Exit(1)
}

func run(ctx context.Context, args []string) error {
	commands := map[string]func(context.Context, *libqjm.Client, options) error{
		"import": importTree, "standby": standby, "ls": list,
	}
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprintln(os.Stderr, "usage: namespace import|standby|ls --endpoints HOST:PORT,... [flags]")
		return flag.ErrHelp
	}
	var o options
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.StringVar(&o.endpoints, "endpoints", "127.0.0.1:7400", "the JournalNodes, `HOST:PORT,...`")
	flags.StringVar(&o.journal, "journal", "namespace", "the journal's `name`; made if it does not exist")
	flags.StringVar(&o.root, "root", ".", "the `directory` to import")
	flags.StringVar(&o.log, "log", "", "log every operation, and every acknowledgement, to this new `file`")
	flags.StringVar(&o.state, "state", "", "say in this `file` how the process stands")
	flags.IntVar(&o.rate, "rate", 0, "import so many entries a second; 0: as fast as it goes")
	flags.IntVar(&o.rateFor, "rate-for", 0, "keep to --rate for the first `N` entries only; 0: for all")
	flags.Uint64Var(&o.resumeEpoch, "resume-epoch", 0, "write under this epoch of an earlier writer, which the nodes refuse (with --writer-id)")
	flags.StringVar(&o.writerID, "writer-id", "", "the earlier writer's `id`")
	if err := flags.Parse(args[1:]); err != nil {
		return flag.ErrHelp
	}
	dialCtx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	client, err := libqjm.Dial(dialCtx, libqjm.Options{
		Endpoints: strings.Split(o.endpoints, ","),
		Logger:    slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	if err := client.CreateJournal(dialCtx, o.journal); err != nil && !errors.Is(err, libqjm.ErrJournalExists) {
		return errors.Join(err, client.Close())
	}
	return errors.Join(commands[args[0]](ctx, client, o), client.Close())
}

// importTree is an active service from the start: its tree is what the journal holds already.
func importTree(ctx context.Context, client *libqjm.Client, o options) error {
	if o.resumeEpoch != 0 {
		return resume(ctx, client, o)
	}
	source, err := readSource(ctx, o.root)
	if err != nil {
		return err
	}
	return activate(ctx, service.New(client, o.journal), source, o)
}

// standby follows until SIGUSR1 makes it the active one. It has read the source by then: whoever waits
// for a takeover should not wait for that.
func standby(ctx context.Context, client *libqjm.Client, o options) error {
	source, err := readSource(ctx, o.root)
	if err != nil {
		return err
	}
	usr1 := make(chan os.Signal, 1)
	signal.Notify(usr1, syscall.SIGUSR1)
	svc := service.New(client, o.journal)
	following, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-usr1:
			stop()
		case <-following.Done():
		}
	}()
	if err := (runlog.State{Role: "standby"}).Save(o.state); err != nil {
		return err
	}
	if err := svc.Follow(following); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return activate(ctx, svc, source, o)
}

// activate takes over, and imports what is not there yet.
func activate(ctx context.Context, svc *service.Service, source []tree.Op, o options) (err error) {
	st := runlog.State{Role: "active", Followed: uint64(svc.Applied())}
	if err := svc.TakeOver(ctx); err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), libqjm.DefaultCloseTimeout)
		defer cancel()
		err = errors.Join(err, svc.Close(closing))
	}()
	w := svc.Writer()
	st.Epoch, st.Writer, st.FirstTx = uint64(w.Epoch()), w.Claim().Writer.String(), uint64(w.FirstTxID())
	if err := st.Save(o.state); err != nil {
		return err
	}
	if st.Skipped, err = doImport(ctx, svc, source, o); err != nil {
		return err
	}
	t, applied := svc.Snapshot()
	st.Role, st.Digest = "done", fmt.Sprintf("%x", t.Digest())
	fmt.Printf("%d entries in %d transactions, %d were there before; digest %s\n", t.Len(), applied, st.Skipped, st.Digest)
	return st.Save(o.state)
}

// resume is what a writer looks like that comes back with the epoch it had, as if nothing had happened.
func resume(ctx context.Context, client *libqjm.Client, o options) error {
	id, err := fencing.ParseWriterID(o.writerID)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	w, err := client.AttachWriter(ctx, o.journal, libqjm.Claim{Epoch: libqjm.Epoch(o.resumeEpoch), Writer: id})
	if err != nil {
		return err
	}
	_, err = w.Append(ctx, []byte("from the old writer"))
	if fenced, ok := errors.AsType[*fencing.FencedError](err); ok && !libqjm.MayHaveCommitted(err) {
		st := runlog.State{Role: "refused", Epoch: uint64(fenced.Got.Epoch), Promised: uint64(fenced.Promised.Epoch), Refusal: err.Error()}
		return errors.Join(err, st.Save(o.state))
	}
	return fmt.Errorf("the old writer was not refused as it should be: %w", err)
}

// list prints the tree as the journal has it.
func list(ctx context.Context, client *libqjm.Client, o options) error {
	svc := service.New(client, o.journal)
	if err := svc.CatchUp(ctx); err != nil {
		return err
	}
	t, applied := svc.Snapshot()
	for p, e := range t.All() {
		fmt.Printf("%d %04o %10d %s %x %s\n", e.Kind, e.Mode, e.Size, time.Unix(0, e.MTime).UTC().Format(time.RFC3339), e.Hash[:4], p)
	}
	fmt.Printf("%d entries in %d transactions; digest %x\n", t.Len(), applied, t.Digest())
	return nil
}
