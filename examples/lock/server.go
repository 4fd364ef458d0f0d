package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/quorumjournal/qjm/libqjm"
)

const (
	requestTimeout = 5 * time.Second
	expireEvery    = 50 * time.Millisecond
	ttlMax         = time.Hour
	nameMax        = 256 // bytes of a lock's name, and of a holder's
)

// server answers requests from one replica.
type server struct {
	replica *libqjm.Replica
	table   *table
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	for method, op := range map[string]string{"POST": "acquire", "PUT": "renew", "DELETE": "release"} {
		mux.HandleFunc(method+" /locks/{name}", func(w http.ResponseWriter, r *http.Request) { s.change(w, r, op) })
	}
	mux.HandleFunc("GET /locks/{name}", s.get)
	return mux
}

func (s *server) change(w http.ResponseWriter, r *http.Request, op string) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	c := command{Op: op, Name: r.PathValue("name"), Holder: r.FormValue("holder")}
	ttl, err := time.ParseDuration(cmp.Or(r.FormValue("ttl"), "10s"))
	_, tokenErr := fmt.Sscanf(r.FormValue("token"), "%d-%d", &c.Token.Epoch, &c.Token.TxID)
	if op == "acquire" {
		tokenErr = nil
	}
	if err = errors.Join(err, tokenErr); err != nil || ttl < time.Millisecond || ttl > ttlMax || len(c.Name) > nameMax || len(c.Holder) > nameMax {
		http.Error(w, "want holder, ttl and token as they should be", http.StatusBadRequest)
		return
	}
	c.TTL = ttl.Milliseconds()
	res, err := s.propose(ctx, c)
	if err != nil {
		fail(w, r, err)
		return
	}
	w.WriteHeader(res.Status)
	answer(w, res.Lock)
}

// get tells who has a lock. It is a hint: the answer may be old when it arrives. Only the token is evidence.
func (s *server) get(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	if _, err := s.replica.AwaitLinearizable(ctx); err != nil {
		fail(w, r, err)
		return
	}
	l, held := s.table.holder(r.PathValue("name"))
	if !held {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	answer(w, l)
}

func answer(w http.ResponseWriter, l lock) {
	_ = json.NewEncoder(w).Encode(map[string]string{"holder": l.Holder, "token": l.Token.String()}) // or the client is gone
}

// propose puts the time into the command: the active's, as it is the active that proposes.
func (s *server) propose(ctx context.Context, c command) (res reply, err error) {
	c.Now = time.Now().UnixMilli()
	data, _ := json.Marshal(c)
	a, err := s.replica.Propose(ctx, libqjm.Proposal{Data: data})
	if err != nil {
		return reply{}, err
	}
	return res, json.Unmarshal(a.Result, &res)
}

// expire has the active propose the end of locks whose time is over.
func (s *server) expire(ctx context.Context) {
	for tick := time.NewTicker(expireEvery); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return
		}
		if s.replica.Status().Role == libqjm.RoleActive && s.table.due(time.Now().UnixMilli()) {
			_, _ = s.propose(ctx, command{Op: "expire"}) // else the next tick, or the next active, does it
		}
	}
}

func fail(w http.ResponseWriter, r *http.Request, err error) {
	code := http.StatusServiceUnavailable // not done
	notActive, _ := errors.AsType[*libqjm.NotActiveError](err)
	switch {
	case notActive != nil && notActive.Addr != "":
		w.Header().Set("Location", notActive.Addr+r.URL.RequestURI())
		code = http.StatusTemporaryRedirect
	case libqjm.MayHaveCommitted(err):
		code = http.StatusGatewayTimeout // not known: the same holder may ask again
	}
	http.Error(w, err.Error(), code)
}

// storage is what a lock protects, and what makes the lock safe: a holder that has slept through its time does not know
// that it is none any more, but the storage has seen the next one's token.
type storage struct {
	mu     sync.Mutex
	newest Token
	data   string
}

// errOldToken: somebody else has got the lock since.
var errOldToken = errors.New("storage: the token is old")

func (s *storage) write(t Token, data string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.Less(s.newest) {
		return fmt.Errorf("%w (got %v, have seen %v)", errOldToken, t, s.newest)
	}
	s.newest, s.data = t, data
	return nil
}
