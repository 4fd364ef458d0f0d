package raftgroup

import (
	"context"
	"fmt"
	"sync"
)

// barriers lets concurrent callers share barriers. A caller joins one that has not begun: one that is
// under way may have passed the log before an entry that was answered for before this call.
type barriers struct {
	mu      sync.Mutex // guards what follows
	next    *barrier   // the one that has not begun
	running bool
}

type barrier struct {
	done chan struct{}
	err  error // set before done is closed
}

// wait joins the next barrier; run carries one out, and ends by itself.
func (b *barriers) wait(ctx context.Context, run func() error) error {
	b.mu.Lock()
	if b.next == nil {
		b.next = &barrier{done: make(chan struct{})}
	}
	mine := b.next
	if !b.running {
		b.running = true
		go b.loop(run)
	}
	b.mu.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case <-ctx.Done():
		return fmt.Errorf("raftgroup: barrier: %w", ctx.Err()) // it changes nothing, so nothing may have happened
	}
}

func (b *barriers) loop(run func() error) {
	for {
		b.mu.Lock()
		now := b.next
		if b.next = nil; now == nil {
			b.running = false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		now.err = run()
		close(now.done)
	}
}
