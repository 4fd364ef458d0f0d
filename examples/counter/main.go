// Command counter is the smallest replicated service: a number that goes up, and is not lost.
//
//	counter                       three nodes and two replicas in one process; the active one is killed on the way
//	counter --endpoints A,B,C     one replica: each line on stdin counts one up. Start several
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/quorumjournal/qjm/journalnode/local"
	"github.com/quorumjournal/qjm/libqjm"
)

const patience = 30 * time.Second

// counter is the state: how many proposals were applied. Only its replica touches it.
type counter struct{ n uint64 }

// Apply counts what is committed; a proposer gets the number that it made.
func (c *counter) Apply(batch []libqjm.Entry) (results [][]byte, err error) {
	for range batch {
		c.n++
		results = append(results, fmt.Append(nil, c.n))
	}
	return results, nil
}

// SaveSnapshot captures the state; what it returns writes that while more is applied.
func (c *counter) SaveSnapshot() (func(io.Writer) error, error) {
	n := c.n
	return func(w io.Writer) error { _, err := fmt.Fprintln(w, n); return err }, nil
}

// LoadSnapshot replaces the state.
func (c *counter) LoadSnapshot(r io.Reader) error {
	_, err := fmt.Fscanln(r, &c.n)
	return err
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	endpoints := flag.String("endpoints", "", "the JournalNodes, `HOST:PORT,...`; empty: a demonstration in this process")
	flag.Parse()
	var err error
	if *endpoints == "" {
		err = demonstrate(ctx, os.Stdout)
	} else {
		err = serve(ctx, strings.Split(*endpoints, ","), os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "counter:", err)
		os.Exit(1)
	}
}

// open opens a replica; active is called when it becomes that.
func open(ctx context.Context, endpoints []string, active func(libqjm.Epoch)) (*libqjm.Client, *libqjm.Replica, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client, err := libqjm.Dial(ctx, libqjm.Options{Endpoints: endpoints})
	if err != nil {
		return nil, nil, err
	}
	if err := client.CreateJournal(ctx, "counter"); err != nil && !errors.Is(err, libqjm.ErrJournalExists) {
		return nil, nil, errors.Join(err, client.Close())
	}
	replica, err := client.OpenReplica("counter", &counter{}, libqjm.ReplicaOptions{
		LeaseTTL: 500 * time.Millisecond, Callbacks: libqjm.Callbacks{OnActive: active},
	})
	return client, replica, err
}

// demonstrate counts with whichever replica is active, kills it, and goes on with the other, which has the count.
func demonstrate(ctx context.Context, out io.Writer) (err error) {
	cluster, err := local.Start(ctx, local.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Stop(context.WithoutCancel(ctx))) }()
	var clients [2]*libqjm.Client
	var replicas [2]*libqjm.Replica
	active := make(chan int, len(replicas))
	for i := range replicas {
		if clients[i], replicas[i], err = open(ctx, cluster.Endpoints(), func(libqjm.Epoch) { active <- i }); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, clients[i].Close()) }()
	}
	for range replicas {
		select {
		case i := <-active:
			for range 5 {
				_, _ = fmt.Fprintf(out, "replica %d: %s\n", i+1, increment(ctx, replicas[i]))
			}
			_, _ = fmt.Fprintf(out, "replica %d is killed\n", i+1)
			_ = clients[i].Close() // all its goroutines end, and nobody is told
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// serve is one replica of a real cluster. Whatever happens to it, a number that it has printed is never made again.
func serve(ctx context.Context, endpoints []string, in io.Reader, out io.Writer) error {
	client, replica, err := open(ctx, endpoints, func(e libqjm.Epoch) { _, _ = fmt.Fprintln(os.Stderr, "active, in epoch", e) })
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for s := bufio.NewScanner(in); s.Scan(); {
			_, _ = fmt.Fprintln(out, increment(ctx, replica))
		}
	}()
	select {
	case <-ended:
	case <-replica.Done(): // it has failed
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return errors.Join(replica.Close(ctx), replica.Err(), client.Close())
}

// increment says what came of it: the number, or whether it may be counted nonetheless.
func increment(ctx context.Context, replica *libqjm.Replica) string {
	a, err := replica.Propose(ctx, libqjm.Proposal{})
	switch {
	case err == nil:
		return string(a.Result)
	case libqjm.MayHaveCommitted(err):
		return "perhaps counted: " + err.Error()
	}
	return "not counted: " + err.Error()
}
