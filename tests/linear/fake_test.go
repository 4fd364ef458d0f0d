package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fake is the service in one process: one log, three replicas that follow it as they like, answers that get lost, and one
// thing that it does wrong.
type fake struct {
	wrong    string
	mu       sync.Mutex
	rnd      *rand.Rand
	last     uint64
	keys     map[string][]fakeVersion
	results  map[string]fakeResult // of sessions' writes
	sessions int
	applied  []uint64
	active   int
	servers  []*httptest.Server
}

type fakeVersion struct {
	txid  uint64
	there bool
	value string
}

type fakeResult struct {
	status int
	etag   uint64
}

func newFake(t *testing.T, wrong string) *fake {
	f := &fake{
		wrong: wrong, rnd: rand.New(rand.NewPCG(1, 1)), last: 1, keys: map[string][]fakeVersion{}, results: map[string]fakeResult{},
		applied: []uint64{1, 1, 1},
	}
	for i := range f.applied {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.serve(i, w, r) }))
		t.Cleanup(s.Close)
		f.servers = append(f.servers, s)
	}
	return f
}

func (f *fake) chance(percent int) bool { return f.rnd.IntN(100) < percent }

func (f *fake) at(key string, txid uint64) (v fakeVersion) {
	for _, x := range f.keys[key] {
		if x.txid <= txid {
			v = x
		}
	}
	return v
}

func (f *fake) serve(i int, w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	key := strings.TrimPrefix(r.URL.Path, "/kv/")
	lease := r.FormValue("read") == "lease"
	switch {
	case r.URL.Path == "/status":
		f.applied[i] = f.last
		_ = json.NewEncoder(w).Encode(map[string]any{"role": "standby", "applied": f.last})
	case r.Method == http.MethodGet && !(lease && i != f.active):
		f.get(i, w, r, key)
	case i != f.active && f.chance(10) && !lease:
		w.Header().Set("Qjm-Outcome", "not-done")
		w.WriteHeader(http.StatusServiceUnavailable)
	case i != f.active:
		w.Header().Set("Location", f.servers[f.active].URL+r.URL.RequestURI())
		w.WriteHeader(http.StatusTemporaryRedirect)
	case r.Method == http.MethodPost:
		f.sessions, f.last = f.sessions+1, f.last+1
		w.Header().Set("Qjm-Session", fmt.Sprintf("%032x", f.sessions))
		w.WriteHeader(http.StatusCreated)
	default:
		f.change(w, r, key, string(body))
	}
}

func (f *fake) get(i int, w http.ResponseWriter, r *http.Request, key string) {
	after, _ := strconv.ParseUint(r.FormValue("after"), 10, 64)
	switch read := r.FormValue("read"); {
	case read == f.wrong && f.chance(50): // it reads what it happens to have
	case read != "stale":
		f.applied[i] = f.last
	default:
		f.applied[i] += f.rnd.Uint64N(f.last - f.applied[i] + 1)
	}
	if f.wrong != "after" {
		f.applied[i] = max(f.applied[i], after)
	}
	at := f.applied[i]
	if f.wrong == "back" && f.chance(10) {
		f.applied[i] /= 2
		at = f.applied[i]
	}
	if f.wrong == "prefix" && f.chance(10) {
		at = max(at-min(at, 5), 1)
	}
	w.Header().Set("Qjm-Applied", fmt.Sprint(f.applied[i]))
	v := f.at(key, at)
	if !v.there {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprint(v.txid)))
	_, _ = io.WriteString(w, v.value)
}

func (f *fake) change(w http.ResponseWriter, r *http.Request, key, value string) {
	if f.chance(3) {
		f.active = f.rnd.IntN(len(f.applied))
		f.applied[f.active] = f.last
	}
	made := true
	if f.chance(5) {
		if f.wrong == "refused" {
			f.apply(r, key, value)
		}
		w.Header().Set("Qjm-Outcome", "not-done")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	lost := f.chance(10)
	if lost && f.chance(30) {
		made = false
	}
	var res fakeResult
	if made && (f.wrong != "lost" || lost || !f.chance(2)) {
		res = f.apply(r, key, value)
	} else {
		f.last++
		res = fakeResult{http.StatusOK, f.last}
	}
	if lost {
		if f.chance(30) {
			w.Header().Set("Qjm-Outcome", "unknown")
			w.WriteHeader(http.StatusGatewayTimeout)
			return
		}
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = c.Close()
		}
		return
	}
	if r.Method == http.MethodDelete && res.status == http.StatusOK {
		res.status = http.StatusNoContent
	}
	if res.etag != 0 {
		w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprint(res.etag)))
	}
	w.WriteHeader(res.status)
}

func (f *fake) apply(r *http.Request, key, value string) (res fakeResult) {
	name := r.Header.Get("Qjm-Session") + "/" + r.Header.Get("Qjm-Seq")
	if old, ok := f.results[name]; ok && name != "/" && f.wrong != "twice" {
		return old
	}
	if f.wrong != "same txid" || f.chance(95) {
		f.last++
	}
	defer func() { f.results[name], f.applied[f.active] = res, f.last }()
	old := f.at(key, f.last)
	match, _ := strconv.ParseUint(strings.Trim(r.Header.Get("If-Match"), `"`), 10, 64)
	switch {
	case f.wrong == "condition" && f.chance(20):
	case match != 0 && (!old.there || old.txid != match), r.Header.Get("If-None-Match") != "" && old.there:
		if !old.there {
			old.txid = 0
		}
		return fakeResult{http.StatusPreconditionFailed, old.txid}
	}
	if r.Method == http.MethodDelete {
		if !old.there {
			return fakeResult{http.StatusNotFound, 0}
		}
		f.keys[key] = append(f.keys[key], fakeVersion{txid: f.last})
		return fakeResult{http.StatusNoContent, f.last}
	}
	f.keys[key] = append(f.keys[key], fakeVersion{f.last, true, value})
	return fakeResult{http.StatusOK, f.last}
}

// against has clients work on the fake, and checks what they were told.
func against(t *testing.T, wrong string) []Violation {
	f := newFake(t, wrong)
	h, err := newHistory("")
	require.NoError(t, err)
	c := &cluster{net: newNetwork(), direct: http.DefaultClient}
	for i, s := range f.servers {
		c.service = append(c.service, replica{fmt.Sprintf("r%d", i+1), strings.TrimPrefix(s.URL, "http://"), func() int { return 1 }})
	}
	r := &running{cluster: c, h: h, load: &load{h: h, keys: newKeyring(4, 150), retryFor: time.Minute}}
	const clients, each = 4, 600
	var working sync.WaitGroup
	for i := range clients {
		c := newClient(r.load, i, clients+1, newTransport(c.net, "clients", c.service), 1)
		working.Go(func() {
			defer c.t.close()
			for range each {
				c.one(t.Context())
			}
		})
	}
	working.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	last := newClient(r.load, clients, clients+1, newTransport(c.net, "clients", c.service), 1)
	defer last.t.close()
	r.finish(ctx, last)
	return append(r.odd, checkAll(h.snapshot())...)
}

func TestSoundServicePasses(t *testing.T) {
	require.Empty(t, against(t, ""))
}

// TestUnsoundServiceIsFound: each thing that a service can do wrong is seen by a check that is meant for it.
func TestUnsoundServiceIsFound(t *testing.T) {
	for wrong, rule := range map[string]string{
		"linearizable": "H1", "fresh": "H4", "condition": "H1", "same txid": "H2", "twice": "H2", "prefix": "H3", "back": "H3",
		"after": "H5", "lost": "H1", "refused": "H7",
	} {
		t.Run(wrong, func(t *testing.T) {
			rules := map[string]bool{}
			for _, v := range against(t, wrong) {
				rules[v.Rule] = true
			}
			require.True(t, rules[rule], "only these rules are broken: %v", rules)
		})
	}
}
