// Command namespace keeps directories and files, and stays up: of several such processes one is active, the others follow,
// and one of them becomes active by itself when the active is gone. Without endpoints it starts three JournalNodes itself.
// Exit status: 0 it was stopped; 1 it failed; 2 usage.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/quorumjournal/qjm/examples/namespace/tree"
	"github.com/quorumjournal/qjm/journalnode/local"
	"github.com/quorumjournal/qjm/libqjm"
)

func main() {
	var o libqjm.ReplicaOptions
	endpoints := flag.String("endpoints", "", "the JournalNodes, `HOST:PORT,...`; none: three are started in this process")
	flag.StringVar(&o.Addr, "listen", "127.0.0.1:8080", "serve HTTP at `HOST:PORT`, where the others find this one")
	flag.DurationVar(&o.LeaseTTL, "lease", time.Second, "how long the others wait for an active that is silent")
	flag.Int64Var(&o.Snapshots.Txns, "snapshot-txns", 10_000, "save a snapshot after so many transactions")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *endpoints, o); err != nil {
		log.Fatal("namespace: ", err)
	}
}

func run(ctx context.Context, endpoints string, o libqjm.ReplicaOptions) error {
	if endpoints == "" {
		cluster, err := local.Start(ctx, local.Options{})
		if err != nil {
			return err
		}
		defer cluster.Stop(context.WithoutCancel(ctx))
		endpoints = strings.Join(cluster.Endpoints(), ",")
	}
	client, err := libqjm.Dial(ctx, libqjm.Options{Endpoints: strings.Split(endpoints, ","), Logger: slog.Default()})
	if err != nil {
		return err
	}
	defer client.Close()
	if err := client.CreateJournal(ctx, "namespace"); err != nil && !errors.Is(err, libqjm.ErrJournalExists) {
		return err
	}
	s := &server{tree: tree.New()}
	if s.replica, err = client.OpenReplica("namespace", s.tree, o); err != nil {
		return err
	}
	fmt.Printf("curl -LX POST 'http://%s/mkdir?path=/a'; curl 'http://%[1]s/ls?path=/'  # nodes: %[2]s\n", o.Addr, endpoints)
	web, failed := &http.Server{Addr: o.Addr, Handler: s.handler()}, make(chan error, 1)
	go func() { failed <- web.ListenAndServe() }()
	select {
	case <-ctx.Done():
	case <-s.replica.Done(): // it has failed, and Err says why; the others go on
	case err = <-failed:
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, s.replica.Err(), web.Shutdown(ctx), s.replica.Close(ctx)) // Close makes way for another at once
}

type server struct {
	replica *libqjm.Replica
	tree    *tree.Tree
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{op}", s.change)
	mux.HandleFunc("GET /stat", s.read)
	mux.HandleFunc("GET /ls", s.read)
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		st := s.replica.Status()
		fmt.Fprintf(w, "%s epoch %d txid %d applied %d\n", st.Role, st.Epoch, st.Applied, s.tree.Applied.Load())
	})
	return mux
}

// change is mkdir, create, delete and rename. It answers with the txid, or says why not.
func (s *server) change(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	data, err := tree.Op{Kind: r.PathValue("op"), Path: q.Get("path"), To: q.Get("to"), Meta: q.Get("meta")}.Encode()
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	done, err := s.replica.Propose(r.Context(), libqjm.Proposal{Data: data})
	standby, _ := errors.AsType[*libqjm.NotActiveError](err)
	switch {
	case standby != nil && standby.Addr != "":
		http.Redirect(w, r, "http://"+standby.Addr+r.URL.RequestURI(), http.StatusTemporaryRedirect)
	case libqjm.MayHaveCommitted(err): // who is active next knows: look there before you try again
		http.Error(w, "in doubt: "+err.Error(), http.StatusGatewayTimeout)
	case err != nil:
		http.Error(w, "not made: "+err.Error(), http.StatusServiceUnavailable)
	case len(done.Result) > 0:
		http.Error(w, string(done.Result), http.StatusConflict)
	default:
		fmt.Fprintln(w, done.TxID)
	}
}

// read is stat and ls, which shows all that is below. Any replica answers, once it has all that anybody was told of before.
func (s *server) read(w http.ResponseWriter, r *http.Request) {
	_, err := s.replica.AwaitLinearizable(r.Context())
	n := s.tree.Find(r.URL.Query().Get("path"))
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	case n == nil:
		http.Error(w, "not found", http.StatusNotFound)
	default:
		show := *n
		if r.URL.Path == "/stat" {
			show.Children = nil
		}
		_ = json.NewEncoder(w).Encode(show)
	}
}
