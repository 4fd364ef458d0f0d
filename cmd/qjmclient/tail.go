package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorumjournal/qjm/internal/cli"
	"github.com/quorumjournal/qjm/libqjm"
)

type txnJSON struct {
	Schema string `json:"schema"`
	TxID   string `json:"txid"`
	Last   string `json:"last_txid,omitempty"` // of an opaque one
	Epoch  string `json:"epoch"`
	Opaque bool   `json:"opaque,omitempty"`
	Data   string `json:"data"`
}

func (a *app) tailCmd() *cobra.Command {
	var from, to uint64
	var follow, records bool
	c := &cobra.Command{
		Use: "tail NAME", Short: "Print a journal's transactions, a line each", Args: journalName,
		Long: `Print what is committed, from the first txid or --from on: the payloads, a line each, byte for
byte as they were appended. -o jsonl prints objects with txid, epoch and the payload in base64.`,
		Example: `  qjmclient journal tail orders --from 1000 --to 1010
  qjmclient journal tail orders --follow -o jsonl`,
	}
	c.Flags().Uint64Var(&from, "from", 1, "first txid")
	c.Flags().Uint64Var(&to, "to", 0, "last txid (default: as far as there is)")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "wait for more instead of ending")
	c.Flags().BoolVar(&records, "length-prefixed", false, "binary output: a length of 4 bytes, big endian, before each")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case from == 0:
			return cli.Usagef("--from is 0, txids start at 1")
		case to != 0 && to < from:
			return cli.Usagef("--to %d is less than --from %d", to, from)
		case records && a.format != cli.Table:
			return cli.Usagef("--length-prefixed and -o %s exclude each other", a.format)
		}
		opts := libqjm.ReaderOptions{From: libqjm.TxID(from), To: libqjm.TxID(to), Follow: follow}
		err := a.tail(cmd, args[0], opts, records)
		if isBrokenPipe(err) {
			return nil // whoever read has enough
		}
		return err
	}
	return c
}

func isBrokenPipe(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) || errors.Is(err, fs.ErrClosed)
}

func (a *app) tail(cmd *cobra.Command, name string, opts libqjm.ReaderOptions, records bool) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
	defer cancel()
	c, err := a.dial(ctx, cmd.ErrOrStderr(), name)
	if err != nil {
		return err
	}
	r, err := c.OpenReader(ctx, name, opts)
	if err != nil {
		return errors.Join(err, c.Close())
	}
	stop := func() {}
	if opts.Follow {
		stop = watchNodes(cmd, c, name)
	}
	err = a.copyTxns(cmd, r, opts, records)
	stop()
	return errors.Join(err, r.Close(), c.Close())
}

// watchNodes says so while no node answers, until the returned function is called.
func watchNodes(cmd *cobra.Command, c *libqjm.Client, name string) (stop func()) {
	ctx, cancel := context.WithCancel(cmd.Context())
	end := every(stallAfter, stallEvery, func() {
		ask, done := context.WithTimeout(ctx, time.Second)
		defer done()
		st, err := c.Status(ask, name)
		if err != nil || ctx.Err() != nil || len(st.Nodes) == 0 {
			return
		}
		var causes []string
		for _, n := range st.Nodes {
			if n.Err == nil {
				return
			}
			causes = append(causes, n.Node+" "+cli.Cause(n.Err))
		}
		say(cmd.ErrOrStderr(), "waiting: no node answers: %s", strings.Join(causes, ", "))
	})
	return func() { cancel(); end() }
}

// copyTxns prints what the reader returns. --timeout bounds the time without a transaction, except
// while following: a reader goes on with other nodes for as long as it takes.
func (a *app) copyTxns(cmd *cobra.Command, r *libqjm.Reader, opts libqjm.ReaderOptions, records bool) error {
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	alive := func() {}
	if !opts.Follow {
		t := time.AfterFunc(a.timeout, func() { cancel(context.DeadlineExceeded) })
		defer t.Stop()
		alive = func() { t.Reset(a.timeout) }
	}
	type item struct {
		txn libqjm.Txn
		err error
	}
	items := make(chan item, 1024)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for next := opts.From; opts.To == 0 || next <= opts.To; {
			txn, err := r.Next(ctx)
			alive()
			select {
			case items <- item{txn, err}:
			case <-ctx.Done():
				// The error of an ended context is told by whoever ended it.
				select {
				case items <- item{err: context.Cause(ctx)}:
				default:
				}
				return
			}
			if err != nil {
				return
			}
			next = txn.Last + 1
		}
		select {
		case items <- item{err: io.EOF}:
		case <-ctx.Done():
		}
	}()
	defer func() { cancel(nil); <-done }()

	out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
	p := txnPrinter{out: out, format: a.format, records: records}
	for {
		var it item
		select {
		case it = <-items:
		default: // nothing waits: show what there is
			if err := out.Flush(); err != nil {
				return err
			}
			select {
			case it = <-items:
			case <-ctx.Done():
				return errors.Join(out.Flush(), context.Cause(ctx))
			}
		}
		switch {
		case errors.Is(it.err, io.EOF):
			return out.Flush()
		case it.err != nil:
			return errors.Join(it.err, out.Flush())
		}
		if err := p.print(it.txn); err != nil {
			return err
		}
	}
}

type txnPrinter struct {
	out     *bufio.Writer
	format  cli.Format
	records bool
}

func (p txnPrinter) print(t libqjm.Txn) error {
	switch {
	case p.format != cli.Table:
		j := txnJSON{Schema: cli.Schema("txn"), TxID: cli.U64(t.ID), Epoch: cli.U64(t.Epoch), Data: base64.StdEncoding.EncodeToString(t.Data)}
		if t.Opaque {
			j.Opaque, j.Last = true, cli.U64(t.Last)
		}
		return cli.PrintJSON(p.out, j)
	case p.records:
		var head [4]byte
		binary.BigEndian.PutUint32(head[:], uint32(len(t.Data)))
		_, err := p.out.Write(head[:])
		if err == nil {
			_, err = p.out.Write(t.Data)
		}
		return err
	}
	if _, err := p.out.Write(t.Data); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return p.out.WriteByte('\n')
}
