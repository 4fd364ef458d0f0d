// Command kv is a replicated key-value store with an HTTP API: see README.md. Every process keeps all of it in memory.
// One is active and takes changes, the others follow, and one of them takes over when it is gone.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/quorumjournal/qjm/journalnode/local"
	"github.com/quorumjournal/qjm/libqjm"
)

const (
	keyMax     = 512 // bytes
	valueMax   = 1 << 20
	sessionTTL = 10 * time.Minute
	waitMax    = 30 * time.Second // with a request, with the nodes at the start, and with requests at the end
)

// command is a change as it stands in the log, in JSON.
type command struct {
	Key      string
	Value    []byte
	Delete   bool
	IfAbsent bool   // only if the key is not there
	IfMatch  string // unless empty: only if this is what the key's ETag is
}

// item is a value, and who wrote it. It is replaced, never changed: a copy of the map is one of the state.
type item struct {
	Value []byte
	ETag  string
}

// answer is what a request comes to. Of a change it is made by Apply: whoever retries in a session gets the first one.
type answer struct {
	Status int
	ETag   string
	Value  []byte
}

// store is the state machine. What is exported is the state, and in the snapshot.
type store struct {
	mu    sync.RWMutex // those who read come at any time
	Items map[string]item
	Last  libqjm.TxID // the last change in Items
}

// get returns what a key has, and how far the state was then.
func (s *store) get(key string) (answer, libqjm.TxID) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if it, there := s.Items[key]; there {
		return answer{http.StatusOK, it.ETag, it.Value}, s.Last
	}
	return answer{Status: http.StatusNotFound}, s.Last
}

// Apply makes committed changes. What it cannot read is from a later version: an error stops this replica, and that is
// right, for one that skipped it would have another state than the rest.
func (s *store) Apply(batch []libqjm.Entry) (results [][]byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range batch {
		var c command
		if err := json.Unmarshal(e.Data, &c); err != nil {
			return nil, fmt.Errorf("txid %d: %w", e.TxID, err)
		}
		b, _ := json.Marshal(s.step(c, fmt.Sprintf(`"%d"`, e.TxID)))
		results, s.Last = append(results, b), e.TxID
	}
	return results, nil
}

// step makes one change, if its condition holds; its txid is the key's ETag from now on.
func (s *store) step(c command, etag string) answer {
	old, there := s.Items[c.Key]
	switch {
	case c.IfAbsent && there, c.IfMatch != "" && c.IfMatch != old.ETag:
		return answer{Status: http.StatusPreconditionFailed, ETag: old.ETag}
	case c.Delete && !there:
		return answer{Status: http.StatusNotFound}
	case c.Delete:
		delete(s.Items, c.Key)
		return answer{Status: http.StatusNoContent, ETag: etag}
	}
	s.Items[c.Key] = item{c.Value, etag}
	return answer{Status: http.StatusOK, ETag: etag}
}

// SaveSnapshot holds up Apply for the copy of the map only: the copy is written while more is applied.
func (s *store) SaveSnapshot() (func(io.Writer) error, error) {
	saved := &store{Items: maps.Clone(s.Items), Last: s.Last} // no lock: Apply, which changes them, is not running
	return func(w io.Writer) error { return json.NewEncoder(w).Encode(saved) }, nil
}

// LoadSnapshot replaces the state.
func (s *store) LoadSnapshot(r io.Reader) error {
	var loaded store
	if err := json.NewDecoder(r).Decode(&loaded); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Items, s.Last = loaded.Items, loaded.Last
	return nil
}

// server answers requests from one replica.
type server struct {
	replica *libqjm.Replica
	store   *store
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(s.replica.Status())
	})
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) (answer, error){
		"GET /kv/{key...}": s.get, "PUT /kv/{key...}": s.change, "DELETE /kv/{key...}": s.change, "POST /session": s.open,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			timeout, _ := time.ParseDuration(cmp.Or(r.Header.Get("Qjm-Timeout"), "5s"))
			if key := r.PathValue("key"); len(key) > keyMax || !utf8.ValidString(key) || timeout <= 0 || timeout > waitMax {
				fail(w, r, fmt.Errorf("%w: the key, or Qjm-Timeout", libqjm.ErrBadRequest))
				return
			}
			ctx, cancel := context.WithTimeout(r.Context(), timeout)
			defer cancel()
			a, err := h(w, r.WithContext(ctx))
			if err != nil {
				fail(w, r, err)
				return
			}
			if a.ETag != "" {
				w.Header().Set("ETag", a.ETag)
			}
			w.WriteHeader(a.Status)
			_, _ = w.Write(a.Value) // or the client is gone
		})
	}
	return mux
}

// get waits until this replica's state is as fresh as the read has to be, and reads it.
func (s *server) get(w http.ResponseWriter, r *http.Request) (a answer, err error) {
	within, err1 := time.ParseDuration(cmp.Or(r.FormValue("within"), "100ms"))
	after, err2 := strconv.ParseUint(cmp.Or(r.FormValue("after"), "0"), 10, 64)
	await := map[string]func(context.Context) (libqjm.TxID, error){
		"linearizable": s.replica.AwaitLinearizable,
		"lease":        s.replica.AwaitLease,
		"fresh":        func(ctx context.Context) (libqjm.TxID, error) { return s.replica.AwaitFresh(ctx, within) },
		"stale":        func(context.Context) (libqjm.TxID, error) { return s.replica.Applied(), nil },
	}[cmp.Or(r.FormValue("read"), "linearizable")]
	if err1 != nil || err2 != nil || within < 0 || await == nil {
		return a, fmt.Errorf("%w: read, within, or after", libqjm.ErrBadRequest)
	}
	if _, err := await(r.Context()); err != nil {
		return a, err
	}
	applied, err := s.replica.WaitApplied(r.Context(), libqjm.TxID(after))
	a, at := s.store.get(r.PathValue("key"))
	w.Header().Set("Qjm-Applied", fmt.Sprint(max(applied, at))) // more may have been applied since
	return a, err
}

// change has a PUT or a DELETE committed and applied.
func (s *server) change(w http.ResponseWriter, r *http.Request) (a answer, err error) {
	var p libqjm.Proposal
	value, readErr := io.ReadAll(http.MaxBytesReader(w, r.Body, valueMax))
	if id := r.Header.Get("Qjm-Session"); id != "" {
		p.Session = new(libqjm.SessionRef)
		p.Session.ID, err = libqjm.ParseSessionID(id)
		p.Session.Seq, _ = strconv.ParseUint(r.Header.Get("Qjm-Seq"), 10, 64) // what is no number is 0, and refused
		p.Session.Awaited, _ = strconv.ParseUint(r.Header.Get("Qjm-Awaited"), 10, 64)
	}
	none := r.Header.Get("If-None-Match")
	if readErr != nil || err != nil || none != "" && none != "*" {
		return a, fmt.Errorf("%w: the value, the session, or If-None-Match", libqjm.ErrBadRequest)
	}
	p.Data, _ = json.Marshal(command{ // it has nothing that JSON has not
		Key: r.PathValue("key"), Value: value, Delete: r.Method == http.MethodDelete,
		IfAbsent: none != "", IfMatch: r.Header.Get("If-Match"),
	})
	done, err := s.replica.Propose(r.Context(), p)
	if err != nil {
		return a, err
	}
	return a, json.Unmarshal(done.Result, &a)
}

// open only names a session: the client numbers its changes itself.
func (s *server) open(w http.ResponseWriter, r *http.Request) (answer, error) {
	id := libqjm.NewSession().ID()
	err := s.replica.OpenSession(r.Context(), id, sessionTTL)
	if err == nil {
		w.Header().Set("Qjm-Session", id.String())
	}
	return answer{Status: http.StatusCreated}, err
}

// fail says what went wrong, and in Qjm-Outcome whether a change may be made nonetheless.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	code, outcome := http.StatusServiceUnavailable, "not-done"
	active, elsewhere := libqjm.RedirectTo(err)
	switch {
	case errors.Is(err, libqjm.ErrBadRequest):
		code = http.StatusBadRequest
	case elsewhere:
		code = http.StatusTemporaryRedirect
		w.Header().Set("Location", active+r.URL.RequestURI())
	case libqjm.MayHaveCommitted(err), errors.Is(err, libqjm.ErrSession), errors.Is(err, libqjm.ErrSessionForgotten):
		code, outcome = http.StatusGatewayTimeout, "unknown" // by this try, or by one before it
	default:
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Qjm-Outcome", outcome)
	http.Error(w, err.Error(), code)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	if err := run(ctx, stop); err != nil {
		fmt.Fprintln(os.Stderr, "kv:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, stop func()) error {
	o := libqjm.ReplicaOptions{Callbacks: libqjm.Callbacks{OnShutdown: func(error) { stop() }}} // it may fail by itself
	endpoints := flag.String("endpoints", "", "the JournalNodes, `HOST:PORT,...`; empty: three are started here")
	journal := flag.String("journal", "kv", "the journal's `name`; made if it does not exist")
	flag.StringVar(&o.Name, "name", "", "this replica's `name`; empty: a random one")
	listen := flag.String("listen", "127.0.0.1:8080", "serve HTTP at `HOST:PORT`")
	advertise := flag.String("advertise", "", "where clients find this replica, `HOST:PORT`, if not at --listen")
	data := flag.String("data", "", "without --endpoints: the nodes' `directory`; empty: a temporary one")
	flag.DurationVar(&o.LeaseTTL, "lease", 500*time.Millisecond, "how long the others wait for a silent active")
	flag.Int64Var(&o.Snapshots.Txns, "snapshot-txns", 0, "a snapshot after so many `transactions`; 0: when it is due")
	flag.Parse()

	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	if a := l.Addr().(*net.TCPAddr); a.IP.IsUnspecified() && *advertise == "" {
		return fmt.Errorf("clients cannot be sent to %v: say with --advertise where they find this replica", a)
	}
	o.Addr = "http://" + cmp.Or(*advertise, l.Addr().String())
	starting, cancel := context.WithTimeout(ctx, waitMax)
	defer cancel()
	if *endpoints == "" {
		cluster, err := local.Start(starting, local.Options{Dir: *data})
		if err != nil {
			return err
		}
		defer func() { _ = cluster.Stop(context.WithoutCancel(ctx)) }()
		*endpoints = strings.Join(cluster.Endpoints(), ",")
		fmt.Fprintln(os.Stderr, "kv: another replica: kv --listen 127.0.0.1:0 --endpoints", *endpoints)
	}
	client, err := libqjm.Dial(starting, libqjm.Options{Endpoints: strings.Split(*endpoints, ","), Logger: slog.Default()})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	if err := client.EnsureJournal(starting, *journal); err != nil {
		return err
	}
	s := &server{store: &store{Items: map[string]item{}}}
	if s.replica, err = client.OpenReplica(*journal, s.store, o); err != nil {
		return err
	}
	fmt.Printf("kv %s at %s\n", s.replica.Status().Name, o.Addr)
	web := &http.Server{Handler: s.handler(), ReadTimeout: waitMax}
	go func() { _ = web.Serve(l) }()
	<-ctx.Done()
	// The replica goes first: it finishes what it has taken, and gives up its place. Then whoever waits is answered.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), waitMax)
	defer cancel()
	return errors.Join(s.replica.Close(ending), s.replica.Err(), web.Shutdown(ending))
}
