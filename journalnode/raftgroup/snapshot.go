package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// SnapshotNow takes a raft snapshot; nil where there is nothing in the log yet. It works on every server.
func (g *Group) SnapshotNow(ctx context.Context) error {
	select {
	case g.snaps.token <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("raftgroup: snapshot: %w", ctx.Err())
	case <-g.closing:
		return ErrClosed
	}
	_, err := g.await(ctx, "snapshot", g.snaps.token, func() (any, error) { return nil, g.takeSnapshot() })
	return err
}

func (g *Group) takeSnapshot() error {
	g.snaps.running.Store(true)
	defer g.snaps.running.Store(false)
	err := g.raft.Snapshot().Error()
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		err = nil
	} else if err == nil {
		g.machine.snapshotDone()
	}
	now := time.Now()
	g.snaps.mu.Lock()
	defer g.snaps.mu.Unlock()
	if g.snaps.err = err; err != nil {
		g.snaps.next = now.Add(snapshotRetry)
		return err
	}
	g.snaps.at = now
	return nil
}

// snapshotLoop takes raft snapshots when the policy says so.
func (g *Group) snapshotLoop() {
	tick := time.NewTicker(snapshotCheck)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-g.closing:
			return
		}
		why := g.snapshotDue(time.Now())
		if why == "" {
			continue
		}
		err := g.SnapshotNow(context.Background())
		if err != nil && !errors.Is(err, ErrClosed) {
			g.o.Logger.Warn("raft snapshot failed", "because", why, "err", err)
		} else if err == nil {
			g.o.Logger.Info("raft snapshot", "because", why, "index", g.Stats().SnapshotIndex)
		}
	}
}

func (g *Group) snapshotDue(now time.Time) string {
	g.snaps.mu.Lock()
	at, next := g.snaps.at, g.snaps.next
	g.snaps.mu.Unlock()
	if now.Before(next) {
		return ""
	}
	st := g.Stats()
	_, bytes, size, _ := g.machine.counters()
	if st.SnapshotIndex == 0 {
		size = 0
	}
	return g.o.Snapshots.due(since{Elapsed: now.Sub(at), Entries: st.Applied - min(st.Applied, st.SnapshotIndex), Bytes: bytes, LastSize: size})
}
