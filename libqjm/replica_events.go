package libqjm

import (
	"log/slog"
	"sync"
)

// eventsMax bounds how many callbacks wait. A program that is that far behind what happens to it has hung: it is told
// no more, but for the end.
const eventsMax = 1024

// events calls callbacks in order, in a goroutine of its own.
type events struct {
	log  *slog.Logger
	fail func(error)   // stops the replica
	news chan struct{} // one place

	mu    sync.Mutex
	calls []func()
	over  bool
}

func newEvents(log *slog.Logger, fail func(error)) *events {
	return &events{log: log, fail: fail, news: make(chan struct{}, 1)}
}

// tell queues a call.
func (e *events) tell(call func()) { e.add(call, false) }

// end queues the last call.
func (e *events) end(call func()) { e.add(call, true) }

func (e *events) add(call func(), last bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.over:
		return
	case len(e.calls) >= eventsMax && !last:
		e.log.Error("a callback of a replica does not return: what happens is not told any more")
		return
	}
	e.calls, e.over = append(e.calls, call), last
	select {
	case e.news <- struct{}{}:
	default:
	}
}

func (e *events) run() {
	for range e.news {
		for {
			e.mu.Lock()
			if len(e.calls) == 0 {
				over := e.over
				e.mu.Unlock()
				if over {
					return
				}
				break
			}
			call := e.calls[0]
			e.calls = e.calls[1:]
			e.mu.Unlock()
			if _, err := guard("a callback", func() (struct{}, error) { call(); return struct{}{}, nil }); err != nil {
				e.log.Error("replica", "err", err)
				e.fail(err)
			}
		}
	}
}
