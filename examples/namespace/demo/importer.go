package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quorumjournal/qjm/examples/namespace/tree"
)

const (
	workers     = 512 // requests under way at once
	statusEvery = 2 * time.Millisecond
)

// importer is a client of the service: it makes entries, a request each, and goes on with whoever is active next. It
// remembers exactly what it was told, for the checks.
type importer struct {
	web      *http.Client
	replicas []string // HOST:PORT

	finding sync.Mutex // one looks for the active, the others wait for it

	mu      sync.Mutex
	now     reign           // guarded by mu, like all below
	started map[string]bool // paths that were asked for
	acked   []ack
	doubt   []string // paths that were asked for, and nothing was heard
	found   []ack    // those of them that were there in the next reign
}

// reign of one active.
type reign struct {
	addr  string
	epoch uint64
}

// ack is what the service answered.
type ack struct {
	txid, epoch uint64 // epoch of the reign in which it was asked
	path        string
}

func newImporter(replicas []string) *importer {
	return &importer{
		web:      &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers}, CheckRedirect: stay},
		replicas: replicas, started: map[string]bool{},
	}
}

// stay: who is active is asked, and not guessed from redirects.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// run makes all entries: each after its directory, many at once, the first n of them no faster than rate a second.
func (im *importer) run(ctx context.Context, entries []tree.Op, rate, n int) error {
	// By depth: then hardly any entry waits for its directory.
	depth := func(op tree.Op) int { return strings.Count(op.Path, "/") }
	entries = slices.SortedStableFunc(slices.Values(entries), func(a, b tree.Op) int { return cmp.Compare(depth(a), depth(b)) })
	dirs := map[string]chan struct{}{}
	for _, op := range entries {
		if op.Kind == "mkdir" {
			dirs[op.Path] = make(chan struct{})
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	queue := make(chan tree.Op)
	group.Go(func() error {
		defer close(queue)
		began := time.Now()
		for i, op := range entries {
			turn := time.After(0)
			if i < n {
				turn = time.After(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate))))
			}
			select {
			case <-turn:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			select {
			case queue <- op:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	for range workers {
		group.Go(func() error {
			for op := range queue {
				if parent := dirs[path.Dir(op.Path)]; parent != nil { // it is on its way: it came before
					select {
					case <-parent:
					case <-ctx.Done():
						return context.Cause(ctx)
					}
				}
				if err := im.make(ctx, op); err != nil {
					return err
				}
				if made := dirs[op.Path]; made != nil {
					close(made)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// How a request ended.
var (
	errNotMade = errors.New("not made") // for certain
	errInDoubt = errors.New("in doubt")
)

// make makes one entry, once. A request of which nothing was heard may have been carried out, and may still be, until
// another is active: that one knows. So it is asked, and only what is not there is asked for again.
func (im *importer) make(ctx context.Context, op tree.Op) error {
	for doubt := false; ; {
		in := im.reign()
		var err error
		if doubt {
			var there bool
			if there, err = im.there(ctx, in, op); there {
				return nil
			}
		}
		if err == nil {
			doubt = false
			err = im.post(ctx, in, op)
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errInDoubt):
			doubt = true
		case !errors.Is(err, errNotMade):
			return fmt.Errorf("%s: %w", op.Path, err)
		}
		if err := im.next(ctx, in); err != nil {
			return fmt.Errorf("%s: %w", op.Path, err)
		}
	}
}

func (im *importer) reign() reign {
	im.mu.Lock()
	defer im.mu.Unlock()
	return im.now
}

// post asks for an entry. Errors: errNotMade, errInDoubt, and others.
func (im *importer) post(ctx context.Context, in reign, op tree.Op) error {
	im.mu.Lock()
	im.started[op.Path] = true
	im.mu.Unlock()
	code, body, err := im.ask(ctx, http.MethodPost, in.addr, "/"+op.Kind, url.Values{"path": {op.Path}, "meta": {op.Meta}})
	var txid uint64
	switch {
	case err != nil && notSent(err), code == http.StatusTemporaryRedirect, code == http.StatusServiceUnavailable:
		return fmt.Errorf("%w: %d %s %v", errNotMade, code, body, err)
	case err != nil, code == http.StatusGatewayTimeout:
		im.mu.Lock()
		defer im.mu.Unlock()
		im.doubt = append(im.doubt, op.Path)
		return fmt.Errorf("%w: %d %s %v", errInDoubt, code, body, err)
	case code != http.StatusOK:
		return fmt.Errorf("%s refused: %d %s", op.Kind, code, body)
	}
	if _, err := fmt.Sscan(string(body), &txid); err != nil {
		return err
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	im.acked = append(im.acked, ack{txid, in.epoch, op.Path})
	return nil
}

// notSent: no connection came about.
func notSent(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "dial"
}

// there reports whether an entry is there as it should be. The error is errInDoubt when it was not to be learned.
func (im *importer) there(ctx context.Context, in reign, op tree.Op) (bool, error) {
	code, body, err := im.ask(ctx, http.MethodGet, in.addr, "/stat", url.Values{"path": {op.Path}})
	var n tree.Node
	switch {
	case err != nil || code == http.StatusServiceUnavailable:
		return false, fmt.Errorf("%w: %d %s %v", errInDoubt, code, body, err)
	case code == http.StatusNotFound:
		return false, nil
	case code != http.StatusOK:
		return false, fmt.Errorf("stat: %d %s", code, body)
	}
	if err := json.Unmarshal(body, &n); err != nil {
		return false, err
	}
	if n.Meta != op.Meta || n.Dir != (op.Kind == "mkdir") {
		return false, fmt.Errorf("it is there and differs: %s", body)
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	im.found = append(im.found, ack{uint64(n.TxID), in.epoch, op.Path})
	return true, nil
}

// next waits until somebody is active in a later epoch.
func (im *importer) next(ctx context.Context, before reign) error {
	im.finding.Lock()
	defer im.finding.Unlock()
	for im.reign().epoch <= before.epoch {
		for _, addr := range im.replicas {
			st, err := im.status(ctx, addr)
			if err == nil && st.role == "active" && st.epoch > before.epoch {
				im.mu.Lock()
				im.now = reign{addr, st.epoch}
				im.mu.Unlock()
			}
		}
		select {
		case <-time.After(statusEvery):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// status of a replica.
type status struct {
	role    string
	epoch   uint64
	txid    uint64 // how far its tree is
	applied uint64 // transactions that it applied itself: the rest was in a snapshot
}

func (im *importer) status(ctx context.Context, addr string) (st status, err error) {
	_, body, err := im.ask(ctx, http.MethodGet, addr, "/status", nil)
	if err == nil {
		_, err = fmt.Sscanf(string(body), "%s epoch %d txid %d applied %d", &st.role, &st.epoch, &st.txid, &st.applied)
	}
	return st, err
}

func (im *importer) ask(ctx context.Context, method, addr, p string, q url.Values) (code int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+p+"?"+q.Encode(), nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := im.web.Do(req)
	if err != nil {
		return 0, nil, err
	}
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, errors.Join(err, resp.Body.Close())
}

// list returns the whole tree of a replica.
func (im *importer) list(ctx context.Context, addr string) (*tree.Node, error) {
	code, body, err := im.ask(ctx, http.MethodGet, addr, "/ls", url.Values{"path": {"/"}})
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("ls: %d %s", code, body)
	}
	root := &tree.Node{}
	if err == nil {
		err = json.Unmarshal(body, root)
	}
	return root, err
}

// ackedIn counts what was acknowledged in an epoch.
func (im *importer) ackedIn(epoch uint64) (n int) {
	im.mu.Lock()
	defer im.mu.Unlock()
	for _, a := range im.acked {
		if a.epoch == epoch {
			n++
		}
	}
	return n
}

// progress counts the entries that are there, and the requests under way.
func (im *importer) progress() (there, underWay int) {
	im.mu.Lock()
	defer im.mu.Unlock()
	there = len(im.acked) + len(im.found)
	return there, len(im.started) - there
}
