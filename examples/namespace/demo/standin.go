package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/journalnode"
)

// standIn is a JournalNode inside this program, for --journalnode self: it takes the flags of
// cmd/journalnode that the demo uses.
func standIn(args []string) int {
	o := journalnode.Options{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	flags := flag.NewFlagSet("node", flag.ExitOnError)
	flags.StringVar((*string)(&o.ID), "id", "", "")
	flags.StringVar(&o.DataDir, "data-dir", "", "")
	flags.StringVar(&o.Listen, "listen", "", "")
	flags.StringVar(&o.HTTPListen, "http-listen", "", "")
	flags.Func("initial-cluster", "", func(s string) error {
		for peer := range strings.SplitSeq(s, ",") {
			id, addr, _ := strings.Cut(peer, "=")
			o.InitialCluster = append(o.InitialCluster, journalnode.Peer{ID: quorum.NodeID(id), Addr: addr})
		}
		return nil
	})
	_ = flags.Parse(args)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	n, err := journalnode.Start(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	<-ctx.Done()
	drain, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := n.Stop(drain); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
