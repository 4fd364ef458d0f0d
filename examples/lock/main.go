// Command lock is a lock service with fencing tokens: who slept through its time is refused by the storage. See
// README.md, and for the storage's part example_test.go.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
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
	ttlMax  = time.Hour
	nameMax = 256              // bytes of a lock's name, and of a holder's
	waitMax = 30 * time.Second // with a request, with the nodes at the start, and with requests at the end
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	endpoints := flag.String("endpoints", "", "the JournalNodes, `HOST:PORT,...`; empty: three are started here")
	listen := flag.String("listen", "127.0.0.1:8090", "serve HTTP at `HOST:PORT`, where clients find it, too")
	flag.Parse()
	if err := run(ctx, *endpoints, *listen); err != nil {
		fmt.Fprintln(os.Stderr, "lock:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, endpoints, listen string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, waitMax)
	defer cancel()
	if endpoints == "" {
		cluster, err := local.Start(starting, local.Options{})
		if err != nil {
			return err
		}
		defer func() { _ = cluster.Stop(context.WithoutCancel(ctx)) }()
		endpoints = strings.Join(cluster.Endpoints(), ",")
		fmt.Fprintln(os.Stderr, "lock: another replica: lock --listen 127.0.0.1:0 --endpoints", endpoints)
	}
	client, err := libqjm.Dial(starting, libqjm.Options{Endpoints: strings.Split(endpoints, ",")})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	s, err := open(starting, client, "http://"+l.Addr().String())
	if err != nil {
		return err
	}
	fmt.Printf("lock %s at http://%s\n", s.replica.Status().Name, l.Addr())
	web := &http.Server{Handler: s.handler(), ReadTimeout: waitMax}
	go func() { _ = web.Serve(l) }()
	select {
	case <-ctx.Done():
	case <-s.replica.Done(): // it has failed, see Err
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), waitMax)
	defer cancel()
	return errors.Join(s.replica.Close(ending), s.replica.Err(), web.Shutdown(ending))
}

// server answers requests from one replica.
type server struct {
	replica *libqjm.Replica
	table   *table
}

// open opens a replica. Users wait, so another one takes over in half a second.
func open(ctx context.Context, client *libqjm.Client, addr string) (*server, error) {
	if err := client.EnsureJournal(ctx, "lock"); err != nil {
		return nil, err
	}
	t := &table{Locks: map[string]lock{}}
	r, err := client.OpenReplica("lock", t, libqjm.ReplicaOptions{Addr: addr, Profile: libqjm.ProfileAvailability})
	return &server{r, t}, err
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	for method := range ops {
		mux.HandleFunc(method+" /locks/{name}", s.handle)
	}
	return mux
}

// propose puts the time into the command: the active's, as it is the active that proposes.
func (s *server) propose(ctx context.Context, c command) (a answer, err error) {
	c.Now = time.Now().UnixMilli()
	data, _ := json.Marshal(c)
	done, err := s.replica.Propose(ctx, libqjm.Proposal{Data: data})
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(done.Result, &a)
}

// ops are what HTTP's methods mean.
var ops = map[string]string{"POST": "acquire", "PUT": "renew", "DELETE": "release", "GET": "get"}

// handle answers a request about a lock. What a GET tells is a hint: it may be old when it arrives. Only the token is
// evidence.
func (s *server) handle(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), waitMax)
	defer cancel()
	c := command{Op: ops[r.Method], Name: r.PathValue("name"), Holder: r.FormValue("holder")}
	ttl, err := time.ParseDuration(cmp.Or(r.FormValue("ttl"), "10s"))
	c.TTL = ttl.Milliseconds()
	token := cmp.Or(r.FormValue("token"), "0-0") // that is nobody's
	_, _ = fmt.Sscanf(token, "%d-%d", &c.Token.Epoch, &c.Token.TxID)
	if err != nil || c.TTL < 1 || ttl > ttlMax || token != c.Token.String() || max(len(c.Name), len(c.Holder)) > nameMax {
		http.Error(w, "want a name, holder, ttl and token as they should be", http.StatusBadRequest)
		return
	}
	var a answer
	if c.Op != "get" {
		a, err = s.propose(ctx, c)
	} else if _, err = s.replica.AwaitLinearizable(ctx); err == nil {
		a = s.table.get(c.Name, time.Now().UnixMilli())
	}
	active, elsewhere := libqjm.RedirectTo(err)
	switch {
	case elsewhere:
		http.Redirect(w, r, active+r.URL.RequestURI(), http.StatusTemporaryRedirect)
	case libqjm.MayHaveCommitted(err): // not known: the same holder may ask again
		http.Error(w, err.Error(), http.StatusGatewayTimeout)
	case err != nil: // not done
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		w.WriteHeader(a.Status)
		_ = json.NewEncoder(w).Encode(map[string]string{"holder": a.Lock.Holder, "token": a.Lock.Token.String()})
	}
}
