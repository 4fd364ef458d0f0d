package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/quorumjournal/qjm/internal/quorum"
	"github.com/quorumjournal/qjm/internal/rpc"
	"github.com/quorumjournal/qjm/internal/vfs"
	"github.com/quorumjournal/qjm/journalnode/snapshots"
	"github.com/quorumjournal/qjm/recovery"
	"github.com/quorumjournal/qjm/segments"
	"github.com/quorumjournal/qjm/segments/store"
)

// View is what readers may be shown: every finalized segment, and of the segment in progress what is
// committed (D1) and synced (D2) here.
type View struct {
	InProgress segments.TxID // the newest segment, in progress; 0: none may be shown
	Limit      segments.TxID // its txns up to here may be shown; InProgress-1: none
	Floor      recovery.Floor
	Newest     segments.TxID
	Deleted    bool
	Purged     segments.Position  // the purge point (C5)
	Start      snapshots.Snapshot // where a reader below it starts (D5): the newest listed one
	// Structure counts how often segments came, ended or went: a segment that is finalized before anything
	// of it was shown changes nothing else here, and its readers are to be woken.
	Structure uint64
}

// publish brings the view up to date and wakes the watchers. Owner only.
func (j *Journal) publish() {
	v := View{Floor: j.floor, Newest: j.newestFirst, Deleted: j.unknown == nil && j.config.IsEmpty(), Structure: j.structure, Purged: j.purged}
	// D1: only from the copy with the floor's own writer epoch. Leftovers below the newest segment are
	// never shown.
	if t := j.tails[v.Newest]; t != nil && j.floor.Segment == v.Newest && t.w.Header().Epoch == j.floor.Epoch {
		v.InProgress, v.Limit = v.Newest, min(j.floor.At.TxID, t.w.Synced().TxID)
	}
	lacksRoom := false
	for _, err := range j.broken {
		lacksRoom = lacksRoom || errors.Is(err, vfs.ErrNoSpace)
	}
	j.viewMu.Lock()
	defer j.viewMu.Unlock()
	j.lacksRoom = lacksRoom
	v.Start = j.readersStart()
	if j.summary.ID != j.id || j.summary.Config.Version != j.config.Version {
		j.summary = j.summarize()
	}
	switch {
	case j.unusable != nil: // for good, until a restart
	case j.unknown != nil:
		j.unusable = fmt.Errorf("%w: %w", rpc.ErrUnknownNode, j.unknown)
	case j.poisoned != nil:
		j.unusable = fmt.Errorf("%w: %w", rpc.ErrPoisoned, j.poisoned)
	}
	if v == j.view {
		return
	}
	j.view = v
	if j.changed != nil {
		close(j.changed)
		j.changed = nil
	}
}

// Watch returns the view and a channel that is closed when there is a newer one. Anyone.
func (j *Journal) Watch() (View, <-chan struct{}) {
	j.viewMu.Lock()
	defer j.viewMu.Unlock()
	if j.changed == nil {
		j.changed = make(chan struct{})
	}
	return j.view, j.changed
}

// Read streams verbatim frames of one segment (rpc.Service.ReadSegment). Anyone.
func (j *Journal) Read(ctx context.Context, req rpc.ReadRequest, send func(rpc.Chunk) error) error {
	view, _ := j.Watch()
	info, err := j.store.Info(req.Segment)
	if err != nil {
		return j.purgedMeanwhile(req.Segment, err)
	}
	limit := info.Last
	switch {
	case info.State == store.StateDamaged:
		return fmt.Errorf("journal: %w", info.Err)
	case req.Durable && info.Epoch != req.Epoch:
		return fmt.Errorf("%w: the copy of segment %d has another epoch (got %d, want %d)", rpc.ErrNotFound, req.Segment, info.Epoch, req.Epoch)
	case info.State == store.StateInProgress && !req.Durable:
		if view.InProgress != req.Segment {
			return fmt.Errorf("%w: nothing of segment %d is known to be committed here", rpc.ErrNotFound, req.Segment)
		}
		limit = view.Limit
	}
	if req.UpTo != 0 {
		limit = min(limit, req.UpTo)
	}
	_, err = j.stream(ctx, req.Segment, max(req.From, req.Segment), limit, view, send)
	return err
}

// stream sends the frames of segment s that end at or before limit, from the one that holds from, and
// returns the last txid sent.
func (j *Journal) stream(ctx context.Context, s, from, limit segments.TxID, view View, send func(rpc.Chunk) error) (segments.TxID, error) {
	sent := from - 1
	if from > limit {
		return sent, nil
	}
	if err := j.checkFloor(s, limit, view); err != nil {
		return sent, err
	}
	r, err := j.store.Reader(s, from)
	if err != nil {
		return sent, j.purgedMeanwhile(from, err)
	}
	defer func() { _ = r.Close() }()
	chunk := rpc.Chunk{Segment: s, Committed: max(view.Limit, view.Floor.At.TxID)}
	flush := func() error {
		if len(chunk.Frames) == 0 {
			return nil
		}
		err := send(chunk)
		chunk.Frames = nil
		return err
	}
	for ctx.Err() == nil {
		f, err := r.Next()
		if errors.Is(err, io.EOF) || err == nil && f.Last() > limit {
			return sent, flush()
		}
		if err != nil {
			return sent, errors.Join(flush(), fmt.Errorf("journal: %w", err))
		}
		if len(chunk.Frames) == 0 {
			chunk.Prev = r.Before()
		}
		chunk.Frames = append(chunk.Frames, f.Bytes()...)
		sent = f.Last()
		if len(chunk.Frames) >= rpc.ChunkBytes {
			if err := flush(); err != nil {
				return sent, err
			}
		}
	}
	return sent, context.Cause(ctx)
}

// purgedMeanwhile: a segment that was there a moment ago may have been purged, which is not absence (C5, D5).
func (j *Journal) purgedMeanwhile(from segments.TxID, err error) error {
	if view, _ := j.Watch(); errors.Is(err, segments.ErrNotFound) && from <= view.Purged.TxID {
		return &rpc.PurgedError{PurgedTo: view.Purged, Snapshot: view.Start}
	}
	return fmt.Errorf("journal: %w", err)
}

// checkFloor is D1's digest check: once this copy holds the floor's txid, it must hold the floor's
// digest there.
func (j *Journal) checkFloor(s, limit segments.TxID, view View) error {
	if view.InProgress != s || view.Floor.At.TxID > limit {
		return nil
	}
	d, found, err := j.store.DigestAt(s, view.Floor.At.TxID)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if !found || d != view.Floor.At.Digest {
		return &recovery.DivergenceError{Segment: s, What: "the copy does not hold the committed floor",
			Nodes: []quorum.NodeID{j.self.ID}, Ends: []segments.Position{{TxID: view.Floor.At.TxID, Digest: d}}}
	}
	return nil
}

// Tail streams committed frames from the one that holds req.From on, across segments, and with Follow
// as they are committed (rpc.Service.Tail). Anyone.
func (j *Journal) Tail(ctx context.Context, req rpc.TailRequest, send func(rpc.Chunk) error) error {
	from := max(req.From, 1)
	for ctx.Err() == nil {
		view, changed := j.Watch()
		if view.Deleted {
			return rpc.ErrJournalDeleted
		}
		next, err := j.tailOnce(ctx, from, req.FinalizedOnly, view, send)
		if err != nil {
			return err
		}
		if next > from {
			from = next
			continue
		}
		if !req.Follow {
			return j.atEnd(from, req, view)
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

// tailOnce sends what there is of the segment that holds from, and returns where to go on.
func (j *Journal) tailOnce(ctx context.Context, from segments.TxID, finalizedOnly bool, view View, send func(rpc.Chunk) error) (segments.TxID, error) {
	newest, _ := j.store.Newest() // before: a segment may come and end meanwhile
	in, limit, found := j.shown(from, view)
	if !found {
		if now, _ := j.Watch(); from <= now.Purged.TxID {
			return from, &rpc.PurgedError{PurgedTo: now.Purged, Snapshot: now.Start}
		}
		if max(newest.First, view.Newest) > from {
			return from, fmt.Errorf("%w: txid %d lies in a segment that is not here", rpc.ErrNotFound, from)
		}
		return from, nil
	}
	switch {
	case in.State == store.StateDamaged:
		return from, fmt.Errorf("journal: %w", in.Err)
	case in.State == store.StateInProgress && finalizedOnly:
		return from, nil
	}
	last, err := j.stream(ctx, in.First, from, limit, view, send)
	return last + 1, err
}

// atEnd tells a reader that does not follow whether it is simply up to date.
func (j *Journal) atEnd(from segments.TxID, req rpc.TailRequest, view View) error {
	if from > req.From {
		return nil // it got something
	}
	end := view.Purged.TxID
	if in, found := j.store.FinalizedUpTo(math.MaxUint64); found {
		end = max(end, in.Last)
	}
	if !req.FinalizedOnly && view.InProgress != 0 {
		end = max(end, view.Limit)
	}
	if from > end+1 {
		return fmt.Errorf("%w: txid %d was asked for, the last one is %d", rpc.ErrPastEnd, from, end)
	}
	return nil
}
