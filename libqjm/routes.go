package libqjm

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Route says who is active for a journal, and where clients of the service find it.
type Route struct {
	Name string // of the replica: the holder of the lease
	Addr string // in the service's own words
	// Revision names this reign: the same replica, active once more, has another.
	Revision uint64
}

// RouteTable tells clients of a service who is active for which journal. Each journal that was asked for is watched in
// the background, so that the answer is there already, and changes as soon as the catalog says so. It is a hint: who is
// asked may have been replaced a moment ago, and says so (NotActiveError). Safe for concurrent use.
type RouteTable struct {
	c      *Client
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	routes map[string]*watched
}

// watched is one journal's route.
type watched struct {
	route Route
	err   error         // why it is watched no more
	moved chan struct{} // closed, and made anew, when either has changed
}

// ErrTooManyRoutes: RoutesMax journals are watched.
var ErrTooManyRoutes = errors.New("libqjm: too many journals in a route table")

// RoutesMax bounds how many journals one table watches; each costs a request that waits at a node.
const RoutesMax = 10_000

// Routes returns an empty table of who is active for which journal: ask [RouteTable.Active]. Close it when it is not needed any more.
func (c *Client) Routes() *RouteTable {
	t := &RouteTable{c: c, routes: map[string]*watched{}}
	t.ctx, t.cancel = context.WithCancel(c.ctx)
	return t
}

// Close ends the watches.
func (t *RouteTable) Close() { t.cancel() }

// Active returns who is active for a journal, and waits for one while there is none. Errors: ErrNoJournal,
// ErrJournalDeleted, ErrClosed, ErrTooManyRoutes; context errors.
func (t *RouteTable) Active(ctx context.Context, journal string) (Route, error) {
	return t.Instead(ctx, journal, Route{})
}

// Instead returns who is active for a journal, as soon as that is another than before: who turned out not to be, or not
// to answer. Errors: those of Active.
func (t *RouteTable) Instead(ctx context.Context, journal string, before Route) (Route, error) {
	w, err := t.watch(journal)
	if err != nil {
		return Route{}, err
	}
	for {
		t.mu.Lock()
		route, err, moved := w.route, w.err, w.moved
		t.mu.Unlock()
		switch {
		case err != nil:
			return Route{}, err
		case route.Name != "" && route.Revision != before.Revision:
			return route, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return Route{}, fmt.Errorf("libqjm: who is active for %s: %w", journal, context.Cause(ctx))
		}
	}
}

// watch returns a journal's route, which it begins to watch if nobody does.
func (t *RouteTable) watch(journal string) (*watched, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w := t.routes[journal]; w != nil {
		return w, nil
	}
	switch {
	case t.ctx.Err() != nil:
		return nil, ErrClosed
	case len(t.routes) >= RoutesMax:
		return nil, fmt.Errorf("%w: %d", ErrTooManyRoutes, RoutesMax)
	}
	w := &watched{moved: make(chan struct{})}
	if !t.c.start(func() { t.follow(journal, w) }) {
		return nil, ErrClosed
	}
	t.routes[journal] = w
	return w, nil
}

// follow keeps a route up to date until the table is closed or the journal is gone; the next one to ask begins anew.
func (t *RouteTable) follow(journal string, w *watched) {
	for {
		var err error
		for l, lerr := range t.c.WatchLease(t.ctx, journal) {
			if err = lerr; err == nil {
				t.set(w, Route{Name: l.Holder, Addr: l.Addr, Revision: l.Revision}, nil)
			}
		}
		gone := errors.Is(err, ErrNoJournal) || errors.Is(err, ErrJournalDeleted)
		if t.ctx.Err() != nil {
			gone, err = true, ErrClosed
		}
		if gone {
			t.mu.Lock()
			delete(t.routes, journal)
			t.mu.Unlock()
			t.set(w, Route{}, err)
			return
		}
		if !sleep(t.ctx, replicaAgain) { // no leader: what is known stays
			continue
		}
	}
}

func (t *RouteTable) set(w *watched, r Route, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.route == r && w.err == err {
		return
	}
	w.route, w.err = r, err
	close(w.moved)
	w.moved = make(chan struct{})
}
