package libqjm

import (
	"context"
	"sync"
)

// crowd is for callers that wait for one batch under one context, as handlers of a server do that pass on its own: to
// wait for two channels at once is dear where thousands share one of them. The first caller waits for both; the others
// for one that is closed with whichever comes first.
type crowd struct {
	under <-chan struct{} // the end of the first caller's context; guarded by intake.mu, like all but once
	any   chan struct{}   // closed when the batch is finished or under is closed; nil while there is one caller
	left  bool            // the first caller waits no more
	once  sync.Once       // closes any
}

// seat is a caller's in a crowd. The zero value is outside of it.
type seat struct {
	first bool
	any   <-chan struct{}
}

// join finds a seat for a caller whose context ends with the channel. The caller holds intake.mu, and waits after it.
func (c *crowd) join(end <-chan struct{}) seat {
	switch {
	case end == nil || c.left:
		return seat{}
	case c.under == nil:
		c.under = end
		return seat{first: true}
	case c.under != end:
		return seat{}
	case c.any == nil:
		c.any = make(chan struct{})
	}
	return seat{any: c.any}
}

// awaitWith waits until the batch is finished or the context has ended.
func (in *intake) awaitWith(ctx context.Context, b *batch, p seat) {
	if p.any != nil {
		<-p.any
		return
	}
	select {
	case <-b.done:
		return
	case <-ctx.Done():
	}
	if !p.first {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	b.crowd.left = true
	if b.crowd.any != nil {
		b.crowd.once.Do(func() { close(b.crowd.any) })
	}
}
