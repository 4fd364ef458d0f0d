package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/libqjm"
)

// snapshotJSON names one snapshot.
type snapshotJSON struct {
	Schema   string `json:"schema,omitempty"`
	Journal  string `json:"journal,omitempty"`
	TxID     string `json:"txid"`
	Size     string `json:"size"`
	SHA256   string `json:"sha256"`
	Epoch    string `json:"epoch"`
	FrameEnd string `json:"frame_end_txid"`
	Digest   string `json:"frame_digest"`
	File     string `json:"file,omitempty"`
}

func snapshotOf(s libqjm.Snapshot) snapshotJSON {
	return snapshotJSON{
		TxID: cli.U64(s.TxID), Size: cli.U64(uint64(max(s.Size, 0))), SHA256: s.Checksum.String(), Epoch: cli.U64(s.Epoch),
		FrameEnd: cli.U64(s.At.TxID), Digest: fmt.Sprintf("%x", s.At.Digest[:]),
	}
}

type snapshotListJSON struct {
	Schema    string         `json:"schema"`
	Journal   string         `json:"journal"`
	Snapshots []snapshotJSON `json:"snapshots"`
}

func (a *app) snapshotCmd() *cobra.Command {
	c := &cobra.Command{Use: "snapshot", Short: "Save, list and restore snapshots of a program's state"}
	c.AddCommand(a.snapshotSaveCmd(), a.snapshotListCmd(), a.snapshotRestoreCmd())
	return c
}

func (a *app) snapshotSaveCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "save NAME --txid N", Short: "Save a state as the snapshot after a transaction", Args: journalName,
		Long: "Save standard input, or --file, as the state after a transaction that is committed. It returns when\n" +
			"a majority of the journal's nodes holds it and the catalog lists it: the log up to it may be purged\n" +
			"then. Cut off, it goes on where it was when it is run again. --timeout bounds it where it is given.",
		Example: "  qjmclient snapshot save orders --txid 1000 < state\n  qjmclient snapshot save orders --txid 1000 --file state",
	}
	txid, file, empty := uint64(0), "", false
	c.Flags().Uint64Var(&txid, "txid", 0, "the transaction after which this is the state")
	c.Flags().BoolVar(&empty, "allow-empty", false, "the state is nothing at all, and that is meant")
	c.Flags().StringVar(&file, "file", "", "read from this file instead of standard input")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case txid == 0 && cmd.Flags().Changed("txid"):
			return cli.Usagef("--txid is 0: transactions are numbered from 1")
		case txid == 0:
			return cli.Usagef("--txid is missing: the last transaction that is in the state")
		}
		if err := readable(file); err != nil {
			return err
		}
		name := args[0]
		return a.withLongClient(cmd, name, func(ctx context.Context, cl *libqjm.Client) error {
			if a.dryRun {
				return a.planSave(ctx, cmd, cl, name, libqjm.TxID(txid))
			}
			in, err := openState(cmd.InOrStdin(), file)
			if err != nil {
				return err
			}
			if in.size == 0 && !empty {
				err := cli.Usagef("the input is empty: saved, it would stand for all transactions up to %d; if that is meant, add --allow-empty", txid)
				return errors.Join(err, in.Close())
			}
			snap, err := a.save(ctx, cmd, cl, name, libqjm.TxID(txid), in)
			if err = errors.Join(err, in.Close()); err != nil {
				return err
			}
			return a.printSnapshot(cmd, "snapshot-save", name, "", snap, "saved and listed")
		})
	}
	return a.mutating(c, ofJournal)
}

// readable says, before anything is done, that a file which was named cannot be read: a mistake on the command line.
func readable(name string) error {
	if name == "" || name == "-" {
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return &cli.UsageError{Err: err}
	}
	defer func() { _ = f.Close() }() // it was only looked at
	if st, err := f.Stat(); err == nil && st.IsDir() {
		return cli.Usagef("%s is a directory", name)
	}
	return nil
}

func (a *app) planSave(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, name string, txid libqjm.TxID) error {
	st, err := settled(ctx, cl, name)
	switch {
	case err != nil:
		return err
	case !st.Quorum:
		return noQuorum(st, "the journal's state")
	case txid > st.Committed:
		return fmt.Errorf("%w: txid %d was asked for, %d is the last that is known to be", libqjm.ErrNotCommitted, txid, st.Committed)
	}
	return a.plan(cmd, "snapshot-save", name, "save a snapshot of journal %q after txid %d; the log up to it may be purged then", name, txid)
}

// withLongClient is withClient for what takes as long as its data is large: --timeout bounds the connecting,
// and all of it only where it is given.
func (a *app) withLongClient(cmd *cobra.Command, journal string, do func(context.Context, *libqjm.Client) error) error {
	if cmd.Flags().Changed("timeout") {
		return a.withClient(cmd, journal, do)
	}
	dialing, cancel := context.WithTimeout(cmd.Context(), a.timeout)
	defer cancel()
	c, err := a.dial(dialing, cmd.ErrOrStderr(), journal)
	if err != nil {
		return err
	}
	return errors.Join(do(cmd.Context(), c), c.Close())
}

// state is content that can be read more than once.
type state struct {
	*os.File
	temp bool
	size int64
}

// openState opens a file, or puts standard input into one: a snapshot is read once for its checksum, and once
// for each node.
func openState(stdin io.Reader, name string) (*state, error) {
	if name != "" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		return sized(&state{File: f})
	}
	if f, ok := stdin.(*os.File); ok {
		if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
			return sized(&state{File: f})
		}
	}
	f, err := os.CreateTemp("", "qjmclient-snapshot-")
	if err != nil {
		return nil, err
	}
	s := &state{File: f, temp: true}
	if _, err := io.Copy(f, stdin); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return sized(s)
}

func sized(s *state) (*state, error) {
	st, err := s.Stat()
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.size = st.Size()
	return s, nil
}

// Close removes what was only made for this.
func (s *state) Close() error {
	err := s.File.Close()
	if s.temp {
		err = errors.Join(err, os.Remove(s.Name()))
	}
	return err
}

// measured counts how far the content was read since it was read for its checksum. Its reads come one at a time.
type measured struct {
	io.ReadSeeker
	at, high int64
	whole    bool
	show     func(done int64)
}

func (m *measured) Read(p []byte) (int, error) {
	n, err := m.ReadSeeker.Read(p)
	m.at += int64(n)
	if m.whole && m.at > m.high {
		m.high = m.at
		m.show(m.high)
	}
	m.whole = m.whole || errors.Is(err, io.EOF)
	return n, err
}

func (m *measured) Seek(off int64, whence int) (int64, error) {
	at, err := m.ReadSeeker.Seek(off, whence)
	m.at = at
	return at, err
}

func (a *app) save(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, name string, txid libqjm.TxID, in *state) (libqjm.Snapshot, error) {
	progress := cli.NewProgress(cmd.ErrOrStderr())
	defer progress.Done()
	defer every(stallAfter, stallEvery, func() {
		if missing := whoIsMissing(ctx, cl, name); missing != "" { // else it only takes long
			say(cmd.ErrOrStderr(), "waiting for a quorum of %q%s", name, missing)
		}
	})()
	return cl.SaveSnapshot(ctx, name, txid, &measured{ReadSeeker: in, show: func(done int64) {
		progress.Show(done, in.size, cli.Bytes(done)+" sent")
	}})
}

func (a *app) printSnapshot(cmd *cobra.Command, kind, journal, file string, s libqjm.Snapshot, what string) error {
	out := snapshotOf(s)
	out.Schema, out.Journal, out.File = cli.Schema(kind), journal, file
	return a.print(cmd, out, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, cli.Wrap(fmt.Sprintf("journal %q: snapshot of txid %d (%s, sha256 %s) %s",
			journal, s.TxID, cli.Bytes(s.Size), short(s.Checksum.String()), what), "  "))
		return err
	})
}

func (a *app) snapshotListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list NAME", Short: "List the snapshots of a journal, oldest first", Args: journalName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withClient(cmd, args[0], func(ctx context.Context, cl *libqjm.Client) error {
				listed, err := cl.Snapshots(ctx, args[0])
				if err != nil {
					return err
				}
				return a.printSnapshots(cmd, args[0], listed)
			})
		},
	}
}

func (a *app) printSnapshots(cmd *cobra.Command, journal string, listed []libqjm.Snapshot) error {
	out := snapshotListJSON{cli.Schema("snapshot-list"), journal, []snapshotJSON{}}
	rows := [][]string{{"TXID", "SIZE", "EPOCH", "FRAME END", "SHA256"}}
	for _, s := range listed {
		x := snapshotOf(s)
		rows = append(rows, []string{x.TxID, cli.Bytes(s.Size), x.Epoch, x.FrameEnd, short(x.SHA256)})
		if a.format == cli.JSONL {
			line := x
			line.Schema, line.Journal = cli.Schema("snapshot"), journal
			if err := cli.PrintJSON(cmd.OutOrStdout(), line); err != nil {
				return err
			}
		}
		out.Snapshots = append(out.Snapshots, x)
	}
	switch {
	case a.format == cli.JSONL:
		return nil
	case a.format == cli.Table && len(listed) == 0:
		say(cmd.ErrOrStderr(), "journal %q has no listed snapshot", journal)
		return nil
	}
	return a.print(cmd, out, func(w io.Writer) error { return cli.PrintTable(w, rows) })
}

func (a *app) snapshotRestoreCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "restore NAME", Short: "Write a snapshot's content out, compared with its checksum", Args: journalName,
		Long: "Write the newest listed snapshot, or the one of --txid, to standard output, or to --file, which must\n" +
			"not be there yet. The state goes on with the transaction behind it. The checksum is known at the\n" +
			"end: what was written is the snapshot only if the exit code is 0. It changes nothing in the cluster.",
		Example: "  qjmclient snapshot restore orders --file state\n  qjmclient snapshot restore orders --txid 1000 > state",
	}
	txid, file := uint64(0), ""
	c.Flags().Uint64Var(&txid, "txid", 0, "which one (default: the newest)")
	c.Flags().StringVar(&file, "file", "", "write to this new file instead of standard output")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if a.format != cli.Table && file == "" {
			return cli.Usagef("-o %s needs --file: standard output is the content", a.format.String())
		}
		return a.withLongClient(cmd, args[0], func(ctx context.Context, cl *libqjm.Client) error {
			snap, err := a.restore(ctx, cmd, cl, args[0], libqjm.TxID(txid), file)
			if err != nil {
				return err
			}
			if file == "" {
				say(cmd.ErrOrStderr(), "snapshot of txid %d, %s; the journal goes on with --from %d", snap.TxID, cli.Bytes(snap.Size), snap.TxID+1)
				return nil
			}
			return a.printSnapshot(cmd, "snapshot-restore", args[0], file, snap, "written to "+file)
		})
	}
	return c
}

func (a *app) restore(ctx context.Context, cmd *cobra.Command, cl *libqjm.Client, name string, txid libqjm.TxID, file string) (snap libqjm.Snapshot, err error) {
	if txid == 0 {
		if snap, err = cl.LatestSnapshot(ctx, name); err != nil {
			return snap, err
		}
		txid = snap.TxID
	}
	r, err := cl.OpenSnapshot(ctx, name, txid)
	if err != nil {
		return snap, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if file != "" {
		return r.Snapshot(), a.copyToFile(cmd, file, r, r.Size())
	}
	return r.Snapshot(), a.copyOut(cmd, cmd.OutOrStdout(), r, r.Size())
}

// copyToFile leaves no file that is not the snapshot.
func (a *app) copyToFile(cmd *cobra.Command, file string, r io.Reader, size int64) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return &cli.UsageError{Err: err}
	case errors.Is(err, fs.ErrExist):
		return &cli.RefusedError{Text: "there is a file " + file + " already", Hint: "name a new one"}
	}
	if err != nil {
		return err
	}
	if err = a.copyOut(cmd, f, r, size); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		err = errors.Join(err, os.Remove(file))
	}
	return err
}

func (a *app) copyOut(cmd *cobra.Command, out io.Writer, r io.Reader, size int64) error {
	progress := cli.NewProgress(cmd.ErrOrStderr())
	defer progress.Done()
	done := int64(0)
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		if _, werr := out.Write(buf[:n]); werr != nil {
			return werr
		}
		done += int64(n)
		progress.Show(done, size, cli.Bytes(done))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
