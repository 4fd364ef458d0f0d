// Command lock is a lock service with fencing tokens: who slept through its time is refused by the storage.
//
//	lock                          a demonstration: nodes, two replicas and a storage in one process
//	lock --endpoints A,B,C        one replica of the service
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
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

const (
	patience = 30 * time.Second
	again    = 50 * time.Millisecond
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	endpoints := flag.String("endpoints", "", "the JournalNodes, `HOST:PORT,...`; empty: a demonstration in this process")
	listen := flag.String("listen", "127.0.0.1:8090", "serve HTTP at `HOST:PORT`")
	flag.Parse()
	var err error
	if *endpoints == "" {
		err = demonstrate(ctx, os.Stdout)
	} else {
		err = serve(ctx, strings.Split(*endpoints, ","), *listen, func(m member) { fmt.Println("lock at", m.addr) })
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lock:", err)
		os.Exit(1)
	}
}

// member is one replica of the service.
type member struct {
	addr    string
	replica *libqjm.Replica
	client  *libqjm.Client // closed, it kills the replica
}

// serve runs one replica until the context ends, or the replica fails.
func serve(ctx context.Context, endpoints []string, listen string, started func(member)) error {
	starting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client, err := libqjm.Dial(starting, libqjm.Options{Endpoints: endpoints})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	if err := client.CreateJournal(starting, "lock"); err != nil && !errors.Is(err, libqjm.ErrJournalExists) {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }()
	s := &server{table: &table{Locks: map[string]lock{}}}
	addr := "http://" + l.Addr().String()
	s.replica, err = client.OpenReplica("lock", s.table, libqjm.ReplicaOptions{Addr: addr, LeaseTTL: 500 * time.Millisecond})
	if err != nil {
		return err
	}
	web := &http.Server{Handler: s.handler(), ReadHeaderTimeout: requestTimeout}
	go func() { _ = web.Serve(l) }()
	go s.expire(ctx)
	started(member{addr, s.replica, client})
	select {
	case <-ctx.Done():
	case <-s.replica.Done(): // it has failed
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return errors.Join(s.replica.Close(ending), s.replica.Err(), web.Shutdown(ending))
}

// ask sends a request to one replica after the other until one answers what is wanted; it returns the token.
func ask(ctx context.Context, addrs []string, method, what string, want int) (t Token, err error) {
	for i := 0; ctx.Err() == nil; i++ {
		r, err := http.NewRequestWithContext(ctx, method, addrs[i%len(addrs)]+"/locks/"+what, nil)
		if err != nil {
			return t, err
		}
		if resp, err := http.DefaultClient.Do(r); err == nil {
			var l struct{ Token string }
			b, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode == want && want == http.StatusNoContent {
				return t, nil
			}
			if resp.StatusCode == want && json.Unmarshal(b, &l) == nil {
				_, err = fmt.Sscanf(l.Token, "%d-%d", &t.Epoch, &t.TxID)
				return t, err
			}
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
		}
	}
	return t, ctx.Err()
}

// demonstrate has a holder sleep through its time, and the active replica killed.
func demonstrate(ctx context.Context, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	cluster, err := local.Start(ctx, local.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Stop(context.WithoutCancel(ctx))) }()
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(out, format+"\n", args...) }
	members, ended := make(chan member, 2), make(chan error, 2)
	for range 2 {
		go func() { ended <- serve(ctx, cluster.Endpoints(), "127.0.0.1:0", func(m member) { members <- m }) }()
	}
	var all []member
	for range 2 {
		select {
		case m := <-members:
			all = append(all, m)
		case err := <-ended:
			return err
		}
	}
	defer func() {
		cancel()
		err = errors.Join(err, <-ended, <-ended)
	}()
	addrs, disk := []string{all[0].addr, all[1].addr}, &storage{}

	alice, err := ask(ctx, addrs, "POST", "door?holder=alice&ttl=1s", http.StatusOK)
	if err != nil {
		return err
	}
	say("alice has the lock, with token %v; writes: %v", alice, disk.write(alice, "alice was here"))
	say("alice sleeps; her time runs out")
	bob, err := ask(ctx, addrs, "POST", "door?holder=bob&ttl=1s", http.StatusOK)
	if err != nil {
		return err
	}
	say("bob has the lock, with token %v; writes: %v", bob, disk.write(bob, "bob was here"))
	say("alice wakes up, and writes: %v", disk.write(alice, "alice again"))
	for _, m := range all {
		if m.replica.Status().Role == libqjm.RoleActive {
			say("the active replica, in epoch %d, is killed", m.replica.Status().Epoch)
			_ = m.client.Close() // nobody is told
		}
	}
	carol, err := ask(ctx, addrs, "POST", "door?holder=carol&ttl=1s", http.StatusOK)
	if err != nil {
		return err
	}
	say("carol has the lock, with token %v; writes: %v", carol, disk.write(carol, "carol was here"))
	say("bob writes: %v", disk.write(bob, "bob again"))
	_, err = ask(ctx, addrs, "DELETE", "door?token="+carol.String(), http.StatusNoContent)
	say("carol gives it back; the storage has %q", disk.data)
	return err
}
