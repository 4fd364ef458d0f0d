// Command kv is a replicated key-value store with an HTTP API: see README.md. Every process keeps all of it in memory; one is
// active and takes changes, the others follow, and one of them takes over when it is gone.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/quorumjournal/qjm/journalnode/local"
	"github.com/quorumjournal/qjm/libqjm"
)

const patience = 30 * time.Second // for the nodes at the start, and for those who wait at the end

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "kv:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	var o libqjm.ReplicaOptions
	endpoints := flag.String("endpoints", "", "the JournalNodes, `HOST:PORT,...`; empty: three are started in this process")
	journal := flag.String("journal", "kv", "the journal's `name`; made if it does not exist")
	flag.StringVar(&o.Name, "name", "", "this replica's `name`; empty: a random one")
	listen := flag.String("listen", "127.0.0.1:8080", "serve HTTP at `HOST:PORT`, where the other replicas redirect to")
	data := flag.String("data", "", "without --endpoints: the nodes' `directory`; empty: a temporary one")
	flag.DurationVar(&o.LeaseTTL, "lease", 500*time.Millisecond, "how long the others wait for a silent active")
	flag.Int64Var(&o.Snapshots.Txns, "snapshot-txns", 0, "a snapshot after so many `transactions`; 0: the journal's policy")
	flag.Parse()

	start, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if *endpoints == "" {
		cluster, err := local.Start(start, local.Options{Dir: *data})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, within(cluster.Stop)) }()
		*endpoints = strings.Join(cluster.Endpoints(), ",")
		fmt.Fprintln(os.Stderr, "kv: another replica: kv --listen 127.0.0.1:0 --endpoints", *endpoints)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	client, err := libqjm.Dial(start, libqjm.Options{Endpoints: strings.Split(*endpoints, ","), Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	if err := client.CreateJournal(start, *journal); err != nil && !errors.Is(err, libqjm.ErrJournalExists) {
		return err
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	o.Addr = "http://" + l.Addr().String()
	s := &server{store: newStore()}
	if s.replica, err = client.OpenReplica(*journal, s.store, o); err != nil {
		return err
	}
	fmt.Printf("kv %s at %s\n", s.replica.Status().Name, o.Addr)
	web := &http.Server{Handler: s.handler(), ReadHeaderTimeout: patience}
	go func() { _ = web.Serve(l) }()
	select {
	case <-ctx.Done():
	case <-s.replica.Done(): // it has failed, see Err
	}
	// The replica goes first: it finishes what it has taken, and gives up its place. Then whoever waits is answered.
	return errors.Join(within(s.replica.Close), s.replica.Err(), within(web.Shutdown))
}

// within gives something that stops its time.
func within(stop func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return stop(ctx)
}
