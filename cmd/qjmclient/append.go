package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/libqjm"
	"github.com/quorumjournal/qjm/recovery"
)

const (
	futuresMax     = 128                    // runs of transactions under way
	stallAfter     = 2 * time.Second        // without progress: say so
	stallEvery     = 5 * time.Second        // and say it again
	watchEvery     = 250 * time.Millisecond // how often progress is looked at
	interruptGrace = 2 * time.Second        // for what is under way when interrupted
)

type appendFlags struct {
	file      string
	records   bool
	skipEmpty bool
	compress  bool
}

type appendJSON struct {
	Schema    string `json:"schema"`
	Journal   string `json:"journal"`
	First     string `json:"first"` // "0": nothing was committed
	Last      string `json:"last"`
	Epoch     string `json:"epoch"`
	Count     string `json:"count"`
	InDoubt   string `json:"in_doubt"` // transactions behind last that may be in the journal
	Finalized bool   `json:"finalized"`
	Error     string `json:"error,omitempty"`
}

func (a *app) appendCmd() *cobra.Command {
	var f appendFlags
	c := &cobra.Command{
		Use: "append NAME", Short: "Become the writer and append transactions, one a line", Args: journalName,
		Long: `Become the journal's writer, fencing whoever wrote before, append one transaction a line from
standard input or --file, finalize, and print the range of txids.

Without a quorum it waits, and says so; --timeout, if given, bounds such waits. With
--length-prefixed every transaction has its length in front, four bytes, big endian.

An input without a transaction is refused before anybody is fenced. --dry-run does not read standard
input.

Exit codes: 2 there is no line, or one is empty or too long; 8 another writer took over; 10 some
of the transactions may or may not have been committed, stderr says how many.`,
		Example: `  seq 100000 | qjmclient journal append orders
  qjmclient journal append orders --file ops.log -o json`,
	}
	c.Flags().StringVarP(&f.file, "file", "f", "", "read from this file instead of standard input")
	c.Flags().BoolVar(&f.records, "length-prefixed", false, "binary input: a length of 4 bytes, big endian, before each")
	c.Flags().BoolVar(&f.skipEmpty, "skip-empty", false, "leave empty lines out instead of refusing them")
	c.Flags().BoolVar(&f.compress, "compress", false, "store with zstd where that is smaller")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		a.subject.Does = cli.Writes
		in, closeInput, err := openInput(cmd, f)
		if err != nil {
			return err
		}
		defer closeInput()
		if a.dryRun {
			return a.withClient(cmd, args[0], func(ctx context.Context, cl *libqjm.Client) error {
				return a.planTakeover(ctx, cmd, cl, args[0], "append")
			})
		}
		ap := &appender{a: a, cmd: cmd, name: args[0], in: in}
		if cmd.Flags().Changed("timeout") {
			ap.patience = a.timeout
		}
		return ap.run(libqjm.WriterOptions{Compress: f.compress})
	}
	return a.mutating(c, ofJournal)
}

// openInput opens what is to be appended. A file is checked in full first: better nothing than a half.
func openInput(cmd *cobra.Command, f appendFlags) (*input, func(), error) {
	const most = libqjm.DefaultMaxTxnBytes
	if f.file == "" || f.file == "-" {
		if in, ok := cmd.InOrStdin().(*os.File); ok {
			if info, err := in.Stat(); err == nil && info.IsDir() {
				return nil, nil, cli.Usagef("standard input is a directory; nothing was appended")
			}
		}
		if cli.IsTerminal(cmd.InOrStdin()) {
			say(cmd.ErrOrStderr(), "reading transactions from the terminal, one a line; Ctrl-D ends")
		}
		return newInput(cmd.InOrStdin(), f.records, f.skipEmpty, most), func() {}, nil
	}
	file, err := os.Open(f.file)
	if err != nil {
		return nil, nil, &cli.UsageError{Err: err}
	}
	closeFile := func() { _ = file.Close() } // it was only read
	in := newInput(file, f.records, f.skipEmpty, most)
	info, err := file.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = cli.Usagef("is a directory")
	case info.Mode().IsRegular():
		if err = in.check(); err == nil {
			_, err = file.Seek(0, io.SeekStart)
		}
		in = newInput(file, f.records, f.skipEmpty, most)
		in.total = info.Size()
	}
	if err != nil {
		closeFile()
		if u, ok := errors.AsType[*cli.UsageError](err); ok {
			err = cli.Usagef("%s: %w; nothing was appended", f.file, u.Err)
		}
		return nil, nil, err
	}
	return in, closeFile, nil
}

// appender is one run of append.
type appender struct {
	a        *app
	cmd      *cobra.Command
	name     string
	in       *input
	patience time.Duration // how long a wait for a quorum may be; 0: for ever

	w        *libqjm.Writer
	progress *cli.Progress
	futures  chan libqjm.Future

	mu     sync.Mutex
	failed error       // the first failure of an append; guarded by mu
	handed libqjm.TxID // the highest txid that failed and may be committed; guarded by mu
}

func (ap *appender) run(opts libqjm.WriterOptions) error {
	ctx, cancel := context.WithCancelCause(ap.cmd.Context())
	defer cancel(nil)
	c, err := ap.connect(ctx)
	if err != nil {
		return ap.notOpened(err)
	}
	// Opening fences whoever writes: only somebody who has something to write should do that.
	runs := make(chan txns, 4)
	go ap.in.runs(ctx, runs) // a read that waits ends with the process
	first, err := firstRun(ctx, runs)
	if err != nil {
		return errors.Join(ap.nothing(err), c.Close())
	}
	if err := ap.open(ctx, c, opts); err != nil {
		return errors.Join(ap.notOpened(err), c.Close())
	}
	ap.progress = cli.NewProgress(ap.cmd.ErrOrStderr())
	ap.futures = make(chan libqjm.Future, futuresMax)
	var collected, watched sync.WaitGroup
	collected.Go(ap.collect)
	watchCtx, endWatch := context.WithCancel(ctx)
	watched.Go(func() { ap.watch(watchCtx, cancel) })

	inputErr := ap.pump(ctx, first, runs)
	closeCtx, closed := graceful(ctx)
	closeErr := ap.w.Close(closeCtx)
	closed()
	endWatch()
	watched.Wait()
	close(ap.futures)
	collected.Wait()
	ap.progress.Done()
	return errors.Join(ap.conclude(ctx, inputErr, closeErr), c.Close())
}

// firstRun waits for the first transactions, and fails where the input has none.
func firstRun(ctx context.Context, runs <-chan txns) (txns, error) {
	select {
	case run := <-runs:
		switch {
		case len(run.list) > 0:
			return run, nil
		case errors.Is(run.err, io.EOF):
			return run, errNoTxns
		}
		return run, run.err
	case <-ctx.Done():
		return txns{}, context.Cause(ctx)
	}
}

// graceful returns a context that ends with ctx, except that an interruption leaves it a moment.
func graceful(ctx context.Context) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		cause := context.Cause(ctx)
		if !errors.Is(cause, cli.ErrInterrupted) && !errors.Is(cause, context.Canceled) {
			cancel(cause)
			return
		}
		time.AfterFunc(interruptGrace, func() { cancel(cause) })
	})
	return out, func() { stop(); cancel(nil) }
}

// patient bounds one wait for nodes by --timeout, where that was given.
func (ap *appender) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	if ap.patience > 0 {
		return context.WithTimeout(ctx, ap.patience)
	}
	return context.WithCancel(ctx)
}

// connect dials, and looks whether the journal is there before any input is read. Only a definite no
// counts: the writer waits for a quorum later.
func (ap *appender) connect(ctx context.Context) (*libqjm.Client, error) {
	ctx, cancel := ap.patient(ctx)
	defer cancel()
	c, err := ap.a.dial(ctx, ap.cmd.ErrOrStderr(), ap.name)
	if err != nil {
		return nil, err
	}
	r, err := c.OpenReader(ctx, ap.name, libqjm.ReaderOptions{Follow: true})
	switch {
	case errors.Is(err, libqjm.ErrNoJournal) || errors.Is(err, libqjm.ErrJournalDeleted):
		return nil, errors.Join(err, c.Close())
	case err != nil:
		return c, nil
	}
	return c, r.Close()
}

// open opens the writer, saying so while it has to wait.
func (ap *appender) open(ctx context.Context, c *libqjm.Client, opts libqjm.WriterOptions) (err error) {
	ctx, cancel := ap.patient(ctx)
	defer cancel()
	defer ap.a.waiting(ctx, ap.cmd, c, ap.name)()
	ap.w, err = c.OpenWriter(ctx, ap.name, opts)
	return err
}

// notOpened tells why there is no writer.
func (ap *appender) notOpened(err error) error {
	if _, ok := errors.AsType[*cli.UsageError](err); ok {
		return err
	}
	return ap.nothing(err)
}

// nothing says that nothing was appended, and why.
func (ap *appender) nothing(err error) error {
	if ap.cmd.Context().Err() != nil {
		err = cli.ErrInterrupted
	}
	what, hint := ap.a.subject.Explain(err)
	_, _ = fmt.Fprintln(ap.cmd.ErrOrStderr(), cli.Line("qjmclient", what, hint)+"\n  nothing was appended")
	err = &cli.Silent{Err: err}
	if ap.a.format == cli.Table {
		return err
	}
	return errors.Join(err, cli.PrintJSON(ap.cmd.OutOrStdout(), appendJSON{
		Schema: cli.Schema("journal-append"), Journal: ap.name, First: "0", Last: "0", Epoch: "0", Count: "0", InDoubt: "0", Error: what,
	}))
}

// waiting says who is missing while an epoch cannot be had, until the returned function is called.
func (a *app) waiting(ctx context.Context, cmd *cobra.Command, c *libqjm.Client, name string) (stop func()) {
	return every(stallAfter, stallEvery, func() {
		say(cmd.ErrOrStderr(), "waiting for a quorum of %q%s", name, whoIsMissing(ctx, c, name))
	})
}

// every calls f after a first wait and then again and again, until the returned function is called.
func every(first, then time.Duration, f func()) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for wait := first; ; wait = then {
			select {
			case <-time.After(wait):
				f()
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

func whoIsMissing(ctx context.Context, c *libqjm.Client, name string) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	st, err := c.Status(ctx, name)
	if err != nil {
		return ""
	}
	var out []string
	for _, n := range st.Nodes {
		if n.Err != nil {
			out = append(out, n.Node+" "+cli.Cause(n.Err))
		}
	}
	if len(out) == 0 {
		return ""
	}
	return ": " + strings.Join(out, ", ")
}

// pump hands the first run and those that follow to the writer until the input ends, the context does, or
// an append fails. It returns what is wrong with the input, if that was it.
func (ap *appender) pump(ctx context.Context, run txns, runs <-chan txns) error {
	for {
		if len(run.list) > 0 {
			f, err := ap.w.AppendBatchAsync(ctx, run.list)
			if err != nil {
				ap.fail(err)
				return nil
			}
			select {
			case ap.futures <- f:
			case <-ctx.Done():
				// It is under way and nobody collects it: the writer's own word is taken instead.
				ap.fail(&libqjm.AppendError{Handed: true, Last: ap.w.Status().Assigned, Err: context.Cause(ctx)})
				return nil
			}
			committed := uint64(ap.w.Committed() + 1 - ap.w.FirstTxID())
			ap.progress.Show(run.bytes, ap.in.total, fmt.Sprintf("%s committed, %s", cli.Count(committed), ap.progress.Rate(int64(committed))))
		}
		switch {
		case errors.Is(run.err, io.EOF):
			return nil
		case run.err != nil:
			return run.err
		}
		select {
		case run = <-runs:
		case <-ctx.Done():
			return nil
		}
	}
}

// collect waits for the outcome of every append. The writer's end resolves all of them.
func (ap *appender) collect() {
	for f := range ap.futures {
		if _, err := f.Wait(context.Background()); err != nil {
			ap.fail(err)
		}
	}
}

func (ap *appender) fail(err error) {
	ap.mu.Lock()
	defer ap.mu.Unlock()
	if ap.failed == nil {
		ap.failed = err
	}
	if e, ok := errors.AsType[*libqjm.AppendError](err); ok && e.Handed {
		ap.handed = max(ap.handed, e.Last)
	}
}

// watch says so while nothing is committed for want of a quorum, and ends the run when the writer was
// fenced, or patience is over.
func (ap *appender) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	last, moved, said := ap.w.Committed(), time.Now(), time.Time{}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := ap.w.Err(); err != nil && !errors.Is(err, libqjm.ErrClosed) {
			cancel(err)
			return
		}
		st := ap.w.Status()
		switch waited := time.Since(moved); {
		case st.Committed != last || st.Assigned == st.Committed && inSync(st) > len(st.Channels)/2:
			if !said.IsZero() {
				ap.progress.Done()
				say(ap.cmd.ErrOrStderr(), "there is a quorum again, going on")
			}
			last, moved, said = st.Committed, time.Now(), time.Time{}
		case ap.patience > 0 && waited > ap.patience:
			cancel(outOfPatience(st))
			return
		case waited > stallAfter && time.Since(said) > stallEvery:
			said = time.Now()
			ap.progress.Done()
			say(ap.cmd.ErrOrStderr(), "no quorum, waiting for nodes%s", outOfSync(st))
		}
	}
}

// outOfPatience is the error of a wait that was too long, with the reasons of that moment.
func outOfPatience(st libqjm.WriterStatus) error {
	nq := &recovery.NoQuorumError{Step: "appending"}
	for _, c := range st.Channels {
		if !c.InSync {
			err := c.LastErr
			if err == nil {
				err = errors.New("is not in sync")
			}
			nq.Causes = append(nq.Causes, recovery.NodeCause{Node: quorum.NodeID(c.Node), Err: err})
		}
	}
	return nq
}

func inSync(st libqjm.WriterStatus) int {
	n := 0
	for _, c := range st.Channels {
		if c.InSync {
			n++
		}
	}
	return n
}

func outOfSync(st libqjm.WriterStatus) string {
	var out []string
	for _, c := range st.Channels {
		switch {
		case c.InSync:
		case c.LastErr != nil:
			out = append(out, c.Node+" "+cli.Cause(c.LastErr))
		default:
			out = append(out, c.Node+" is not in sync")
		}
	}
	if len(out) == 0 {
		return ""
	}
	return ": " + strings.Join(out, ", ")
}

// conclude says what is committed, what may be, and why it ended.
func (ap *appender) conclude(ctx context.Context, inputErr, closeErr error) error {
	first, committed := ap.w.FirstTxID(), ap.w.Committed()
	out := appendJSON{
		Schema: cli.Schema("journal-append"), Journal: ap.name, First: "0", Last: "0", Epoch: cli.U64(ap.w.Epoch()),
		Count: "0", InDoubt: "0", Finalized: closeErr == nil,
	}
	count, doubt := committed+1-first, ap.handed-min(ap.handed, committed)
	if count > 0 {
		out.First, out.Last, out.Count = cli.U64(first), cli.U64(committed), cli.U64(count)
	}
	out.InDoubt = cli.U64(doubt)

	err := ap.cause(ctx, inputErr, closeErr)
	if err != nil {
		what, hint := ap.a.subject.Explain(err)
		out.Error = what
		_, _ = fmt.Fprintln(ap.cmd.ErrOrStderr(), cli.Line("qjmclient", what, hint))
		_, _ = fmt.Fprintln(ap.cmd.ErrOrStderr(), cli.Wrap("  "+outcome(first, committed, count, doubt), "  "))
		if doubt > 0 && cli.ExitCode(err) != cli.ExitFenced && cli.ExitCode(err) != cli.ExitInterrupted {
			err = &libqjm.AppendError{Handed: true, First: committed + 1, Last: ap.handed, Err: err}
		}
		err = &cli.Silent{Err: err}
		if ap.a.format == cli.Table {
			return err
		}
	}
	return errors.Join(err, ap.a.print(ap.cmd, out, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "appended %s, %s, epoch %s\n", cli.Plural(count, "transaction"), txids(first, committed), out.Epoch)
		return err
	}))
}

// cause is why the run ended before all was appended and finalized; nil: it did not.
func (ap *appender) cause(ctx context.Context, inputErr, closeErr error) error {
	werr := ap.w.Err()
	switch {
	case ap.cmd.Context().Err() != nil:
		return cli.ErrInterrupted
	case errors.Is(werr, libqjm.ErrFenced) || errors.Is(werr, libqjm.ErrLostRace):
		return werr
	case inputErr != nil:
		return inputErr
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case closeErr != nil:
		return closeErr
	}
	e, ok := errors.AsType[*libqjm.AppendError](ap.failed)
	if ok {
		return e.Err
	}
	return ap.failed
}

func outcome(first, committed, count, doubt libqjm.TxID) string {
	var text string
	if count == 0 {
		text = "no transaction was committed"
	} else {
		text = fmt.Sprintf("%s committed, %s", cli.Plural(count, "transaction"), txids(first, committed))
	}
	if doubt == 0 {
		return text + "; nothing else can be in the journal"
	}
	return text + fmt.Sprintf("; up to %s more, %s, may be in the journal", cli.Count(doubt), txids(committed+1, committed+doubt))
}
